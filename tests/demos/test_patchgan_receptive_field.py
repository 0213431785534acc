"""patchgan-receptive-field against torch's own counts and shapes, and the normalisation that ends independence."""

import pytest
import torch

from demos.contract import Cell, Heatmap, Result
from demos.gans.patchgan_receptive_field import (
    Params,
    PatchGAN,
    draw_pair,
    field,
    field_sizes,
    parameters,
    run,
    side_of,
    touched,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, rng

SIZES = ["1", "16", "70", "286"]


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "patchgan-receptive-field")


@pytest.mark.parametrize(("patch", "size"), [("1", 384), ("16", 97), ("70", 96), ("286", 96), ("286", 320)])
def test_every_claim_holds_for_every_size(patch: str, size: int) -> None:
    outcome = result(patch=patch, image_size=size, seed=3)
    assert failed(outcome) == []
    for figure in outcome.figures:
        assert not isinstance(figure, Heatmap) or 1 <= len(figure.values) <= 64


@pytest.mark.parametrize(
    ("patch", "count", "verdicts"),
    [("1", 8_897, 256), ("16", 139_457, 126), ("70", 2_767_809, 30), ("286", 11_157_441, 6)],
)
def test_parameters_and_verdicts_are_those_of_the_torch_module(patch: str, count: int, verdicts: int) -> None:
    assert parameters(patch) == count
    small = PatchGAN(patch, 8, "none", rng())
    assert sum(weight.numel() for weight in small.parameters()) == parameters(patch, 8)
    with torch.no_grad():
        assert small(torch.zeros(1, 6, 256, 256)).shape == (1, 1, verdicts, verdicts)
    assert field_sizes(patch, 256)[-1][3:] == (verdicts, int(patch))
    assert field(patch)[0] == int(patch)


@pytest.mark.parametrize("patch", SIZES)
def test_the_field_lies_where_the_offset_says(patch: str) -> None:
    D = PatchGAN(patch, 4, "none", rng())
    seen = touched(D, draw_pair(320, rng(1)))
    R, J, P = field(patch)
    middle = (field_sizes(patch, 320)[-1][3] - 1) // 2
    assert seen.any(dim=0).nonzero().flatten()[[0, -1]].numpy().tolist() == [J * middle - P, J * middle - P + R - 1]


def test_only_a_filled_square_has_a_side() -> None:
    seen = torch.zeros(9, 9, dtype=torch.bool)
    seen[2:6, 3:7] = True
    assert side_of(seen) == 4
    seen[3, 4] = False
    assert side_of(seen) == 0
    seen[2:6, 3:8] = True
    assert side_of(seen) == 0


def test_instance_normalisation_lets_every_verdict_hear_of_every_pixel() -> None:
    outcome = result(**Params.presets["normalised"].values)
    assert failed(outcome) == [
        "Pixels outside the patch do not change the verdict",
        "Damage in one corner leaves verdicts that do not see it alone",
        "The 16x16 PatchGAN rates equal patches alike wherever they lie",
    ]
    by_name = {metric.name: metric.value for metric in outcome.metrics}
    assert by_name["verdicts that the damage moves"] == by_name["verdicts"]
