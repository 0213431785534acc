"""train-vs-eval-mode against torch's norms and dropout, and training mode left on."""

from typing import Any

import pytest
import torch
from torch import nn

from demos.contract import Cell, Result
from demos.transformers.train_vs_eval_mode import CHANNELS, MOMENTUM, Generator, Params, dropout, run, standardise
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng

REPEATS, ALONE = "The chosen setting repeats itself", "In it an image does not depend on its batch mates"


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "train-vs-eval-mode")


def test_training_mode_left_on_draws_and_mixes() -> None:
    assert failed(result(**Params.presets["training mode left on"].values)) == [REPEATS, ALONE]


def test_dropout_left_on_draws() -> None:
    assert failed(result(**Params.presets["dropout left on"].values)) == [REPEATS]


def test_stored_statistics_keep_images_apart() -> None:
    assert failed(result(**Params.presets["batch norm, eval"].values)) == []


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_the_network_with_batch_norm_is_torchs(mode: str) -> None:
    ours = Generator("batch", 0.0, rng())
    norm: Any = nn.BatchNorm2d(CHANNELS, affine=False, momentum=MOMENTUM)
    theirs = nn.Sequential(ours.first, norm, nn.ReLU(), ours.last)
    images, new = torch.rand(64, 1, 8, 8, generator=rng(1)), torch.rand(5, 1, 8, 8, generator=rng(2))
    ours.learn_statistics(images)
    for batch in torch.split(images, 32):
        theirs(batch)
    torch.testing.assert_close(ours.mean, norm.running_mean, rtol=0, atol=1e-6)
    torch.testing.assert_close(ours.var, norm.running_var, rtol=0, atol=1e-6)
    theirs.train(mode == "train")
    expected = theirs(new)
    output = ours(new, Params.model_validate({"mode": mode}).mode, rng())
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-5)


def test_instance_and_layer_norm_are_torchs() -> None:
    x = torch.randn(3, 4, 5, 5, generator=rng())
    torch.testing.assert_close(standardise(x, (2, 3)), nn.InstanceNorm2d(4)(x), rtol=0, atol=1e-6)
    expected = nn.functional.layer_norm(x, x.shape[1:])
    torch.testing.assert_close(standardise(x, (1, 2, 3)), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("p", [0.0, 0.3, 0.9])
def test_dropout_zeroes_a_share_and_keeps_the_mean(p: float) -> None:
    dropped = dropout(torch.ones(100_000), p, rng())
    assert (dropped == 0).float().mean().item() == pytest.approx(p, abs=0.01)
    assert dropped.mean().item() == pytest.approx(1, abs=0.02)
    assert dropped.max().item() == pytest.approx(1 / (1 - p))


def test_more_dropout_spreads_the_output_more() -> None:
    few, many = (metric(result(p=p), "spread of the output with dropout on") for p in (0.1, 0.8))
    assert few < 0.5 * many
