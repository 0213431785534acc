"""fp8-training against rounding worked out in whole numbers, and one scale for a whole tensor."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from demos.contract import Cell, Lines, Result
from demos.deepseek.fp8_training import FORMATS, Fp8Product, Params, quantize, rounded, run, tiles
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng

BITS = {"e4m3": (3, -6, 448.0), "e5m2": (2, -14, 57_344.0)}  # of the mantissa, least exponent, largest number


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def nearest(value: float, kind: str) -> float:
    """The FP8 number nearest to a value within the format's range, ties to even, without torch's types."""
    mantissa, least, largest = BITS[kind]
    if value == 0:
        return 0.0
    exponent = max(math.floor(math.log2(abs(value))), least)
    step = 2.0 ** (exponent - mantissa)
    return math.copysign(min(round(abs(value) / step) * step, largest), value)  # round() takes ties to even


def test_every_claim_holds_at_the_defaults() -> None:
    outcome = result()
    assert_claims_hold_as_listed(outcome, "fp8-training")
    assert metric(outcome, "loss in FP32, mean of the last 20 steps") < 2.2  # it learns: uniform would be 4.7 nats
    sharing = outcome.figures[1]
    assert isinstance(sharing, Lines)
    errors = sharing.series["e4m3"]
    assert list(errors) == sorted(errors)  # the longer the tile, the more values share it with an outlier


def test_one_scale_beside_outliers_spoils_training() -> None:
    outcome = result(**Params.presets["one-scale"].values)
    assert failed(outcome) == ["Training in FP8 reaches the loss of FP32"]
    assert metric(outcome, "relative difference of the losses") > 0.02


@pytest.mark.parametrize("kind", ["e4m3", "e5m2"])
def test_torchs_cast_is_the_nearest_number(kind: str) -> None:
    codes = torch.arange(256, dtype=torch.uint8).view(FORMATS[kind]).float()
    exact = codes[codes.isfinite()].numpy().tolist()
    assert [nearest(value, kind) for value in exact] == exact  # every code is a number of the format
    values = torch.randn(20_000, generator=rng()) * 2 ** (12 * torch.rand(20_000, generator=rng(1)) - 8)
    ours = [nearest(value, kind) for value in values.numpy().tolist()]
    assert values.to(FORMATS[kind]).float().numpy().tolist() == ours


@pytest.mark.parametrize("tile", [(1, 4), (4, 4), (0, 0), (3, 5)])
def test_each_tiles_largest_value_becomes_the_formats_largest(tile: tuple[int, int]) -> None:
    x = torch.randn(8, 10, generator=rng()) * 10 ** torch.randn(8, 10, generator=rng(1))
    values, scales = quantize(x, tile, "e4m3")
    high, wide = tile[0] or 8, tile[1] or 10
    assert scales.shape == (-(-8 // high), -(-10 // wide))
    for row in range(scales.shape[0]):
        for column in range(scales.shape[1]):
            part = (slice(row * high, (row + 1) * high), slice(column * wide, (column + 1) * wide))
            assert values.float()[part].abs().max() == 448
            torch.testing.assert_close(scales[row, column], x[part].abs().max() / 448)
    ours = rounded(x, tile, "e4m3")
    assert ((ours - x).abs() <= x.abs() / 16 + ours.abs().max() / 448 * 2**-10).all()


def test_all_three_products_of_training_are_rounded() -> None:
    params = Params.model_validate({"tile": 8})
    x, w, g = (torch.randn(*shape, generator=rng(shape[0])) for shape in ((12, 16), (5, 16), (13, 5)))
    leaves: list[Any] = [x.clone().requires_grad_(), w.clone().requires_grad_()]
    output: Any = Fp8Product.apply(*leaves, params)
    row, block = tiles("tile", 8)

    def q(x: Tensor, tile: tuple[int, int]) -> Tensor:
        return rounded(x, tile, "e4m3")

    torch.testing.assert_close(output, q(x, row) @ q(w, block).T)
    grad_x, grad_w = torch.autograd.grad(output, leaves, g[:12])
    torch.testing.assert_close(grad_x, q(g[:12], row) @ q(w, block))
    torch.testing.assert_close(grad_w, q(g[:12].T, row) @ q(x.T, row).T)


def test_bytes_are_one_a_value_and_four_a_scale() -> None:
    table = {row[0]: row[2] for row in result(steps=50, tile=128).tables[0].rows}
    assert table["activations"] == 1 + 4 / 128
    assert table["weights in the products"] == 1 + 4 / 128**2


def test_a_wider_exponent_needs_no_tiles_yet() -> None:
    outcome = result(**Params.presets["e5m2"].values, steps=50)
    assert [name for name in failed(outcome) if not name.startswith("Training")] == ["At 10⁵ tiles keep the other rows"]
