"""dcgan-digits against scipy's matrix root, and what each broken guideline costs."""

from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import nn

from demos.contract import Cell, Images, Result
from demos.gans.dcgan_digits import Params, discriminator, draw_weights, frechet, generator, layer_rows, nearest, run
from demos.shared.digits import load_digits
from demos.shared.judge import train_judge
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng

RANGE = "Pixels keep their range"


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    outcome = result()
    assert_claims_hold_as_listed(outcome, "dcgan-digits")
    assert metric(outcome, "frechet") < 0.35
    assert outcome.figures[0].title.startswith("Samples over training")


def test_without_batch_norm_nothing_is_learned() -> None:
    outcome = result(steps=400, **Params.presets["no batch norm"].values)
    assert failed(outcome) == [
        "All ten digits are drawn",
        "The judge is nearly as sure of samples as of real digits",
        "Samples are far nearer to real digits than noise is",
    ]


def test_a_linear_output_leaves_the_range() -> None:
    assert RANGE in failed(result(steps=100, **Params.presets["linear output"].values))


def test_the_gallery_leads_where_it_is_asked_for_and_its_answers_are_true() -> None:
    outcome = result(steps=100, view="gallery")
    gallery = outcome.figures[0]
    assert isinstance(gallery, Images)
    known = {tuple(image.flatten().numpy().tolist()) for image in load_digits()[0]}
    for row, (_, columns) in zip(gallery.pixels, outcome.tables[2].rows, strict=True):
        real = [str(n) for n, tile in enumerate(row, 1) if tuple(np.array(tile).flatten().tolist()) in known]
        assert real == str(columns).split()


@pytest.mark.parametrize("n", [40, 400])
def test_the_frechet_distance_is_that_of_scipys_root(n: int) -> None:
    x, y = torch.randn(n, 8, generator=rng()), 2 * torch.randn(300, 8, generator=rng(1)) + 1
    a, b = x.double().numpy(), y.double().numpy()
    root: Any = scipy.linalg.sqrtm(np.cov(a.T) @ np.cov(b.T))
    reference = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(np.cov(a.T) + np.cov(b.T) - 2 * root.real)
    assert frechet(x, y) == pytest.approx(float(reference), rel=1e-3)
    assert frechet(x, x) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("downsample", ["stride", "pool"])
def test_the_networks_have_the_shapes_that_are_said(downsample: str) -> None:
    params = Params.model_validate({"downsample": downsample})
    G, D = generator(params), discriminator(params)
    rows = layer_rows("G", G, torch.zeros(2, 32, 1, 1)) + layer_rows("D", D, torch.zeros(2, 1, 8, 8))
    shapes = [row[2] for row in rows if str(row[1]).startswith("Conv") or row[1] == "MaxPool2d"]
    pooled = ["32x8x8", "32x4x4", "64x4x4", "64x2x2"] if downsample == "pool" else ["32x4x4", "64x2x2"]
    assert shapes == ["64x2x2", "32x4x4", "1x8x8", *pooled, "1x1x1"]
    assert sum(int(row[3]) for row in rows) == sum(w.numel() for net in (G, D) for w in net.parameters())
    assert not any(isinstance(part, nn.Linear) for net in (G, D) for part in net)


def test_weights_start_as_in_the_paper() -> None:
    G = generator(Params.model_validate({}))
    draw_weights(G, rng())
    conv, norm = G[0], G[1]
    assert isinstance(conv, nn.ConvTranspose2d)
    assert isinstance(norm, nn.BatchNorm2d)
    assert conv.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert norm.weight.mean().item() == pytest.approx(1, abs=0.02)
    assert norm.bias.count_nonzero() == 0


def test_the_nearest_real_digit_of_a_real_digit_is_itself() -> None:
    digits, _ = load_digits()
    assert torch.equal(nearest(digits[5:9], digits), digits[5:9])


def test_the_judge_reads_digits_it_has_not_seen() -> None:
    judge = train_judge(0)
    assert judge.accuracy > 0.93
    assert not any(weight.requires_grad for weight in judge.parameters())
    assert torch.equal(judge(load_digits()[0]), train_judge(0)(load_digits()[0]))
