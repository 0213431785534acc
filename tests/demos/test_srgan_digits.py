"""srgan-digits against torch's own pixel shuffle and torchmetrics."""

from typing import Any

import pytest
import torch
from torch.nn import functional as F
from torchmetrics.image import PeakSignalNoiseRatio

from demos.contract import Cell, Images, Result
from demos.gans.srgan_digits import Generator, Params, draw_weights, gradient_energy, load, pixel_shuffle, psnr, run
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng

SHARPER, FURTHER = "This run's network is sharper", "And further from the truth in pixels"


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    outcome = result()
    assert_claims_hold_as_listed(outcome, "srgan-digits")
    pictures = outcome.figures[0]
    assert isinstance(pictures, Images)
    assert list(pictures.row_labels) == ["small", "bicubic", "pixel error", "this run (both)", "truth"]


def test_pixel_error_alone_is_soft() -> None:
    outcome = result(steps=150, **Params.presets["pixel error"].values)
    assert {SHARPER, FURTHER} <= set(failed(outcome))
    assert metric(outcome, "psnr") == metric(outcome, "psnr of the pixel error's network")


def test_shapes_are_enlarged_too() -> None:
    outcome = result(steps=100, loss="mse", data="shapes")
    assert metric(outcome, "psnr") > metric(outcome, "psnr of bicubic")


@pytest.mark.parametrize("r", [1, 2, 3])
def test_pixel_shuffle_is_torchs(r: int) -> None:
    x = torch.randn(2, 4 * r * r, 3, 5, generator=rng())
    assert torch.equal(pixel_shuffle(x, r), F.pixel_shuffle(x, r))


def test_psnr_is_that_of_torchmetrics() -> None:
    x, truth = torch.rand(2, 5, 1, 8, 8, generator=rng())
    reference: Any = PeakSignalNoiseRatio(data_range=1.0)
    assert psnr(x, truth) == pytest.approx(float(reference(x, truth)), abs=1e-4)


def test_gradient_energy_of_stripes_and_of_a_flat_picture() -> None:
    stripes = torch.tensor([0.0, 1.0]).repeat(4).expand(1, 1, 8, 8)
    assert gradient_energy(stripes) == 1
    assert gradient_energy(torch.full((1, 1, 8, 8), 0.7)) == 0


@pytest.mark.parametrize("upsampler", ["pixelshuffle", "transposed", "nearest"])
@torch.no_grad()
def test_every_upsampler_doubles_the_side(upsampler: str) -> None:
    G = draw_weights(Generator(upsampler), rng())
    assert G(torch.rand(2, 1, 4, 4, generator=rng(1))).shape == (2, 1, 8, 8)
    assert G(torch.rand(2, 1, 8, 8, generator=rng(1))).shape == (2, 1, 16, 16)


def test_pictures_are_grey_and_in_range() -> None:
    for data, side in (("digits", 8), ("shapes", 16)):
        x = load(data, rng())
        assert x.shape == (1797, 1, side, side)
        assert (x.min(), x.max()) == (0, 1)
