"""diffusion-super-resolution against torchmetrics and diffusers, and what hiding the small image breaks."""

import math
from typing import Any

import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torchmetrics.image import PeakSignalNoiseRatio

from demos.contract import Cell, Images, Result
from demos.diffusion.diffusion_super_resolution import Base, Params, enlarge, gradient_energy, psnr, run, sample, shrink
from demos.shared.ddpm import T, make_schedule
from demos.shared.digits import load_digits
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, rng


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "diffusion-super-resolution")


@torch.no_grad()
def test_sampling_is_diffusers_ddim_of_velocities() -> None:
    theirs: Any = DDIMScheduler(
        T, beta_start=0.1 / T, beta_end=20 / T, timestep_spacing="trailing", prediction_type="v_prediction"
    )
    theirs.set_timesteps(20)
    x = torch.randn(3, 1, 4, 4, generator=rng())

    def predict_v(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return (3 * x + t.view(-1, 1, 1, 1)).sin()

    ours, times, guesses = sample(predict_v, x, 20, make_schedule())
    for number, t in enumerate(theirs.timesteps):
        assert times[number] == t + 1
        step = theirs.step(predict_v(x, torch.full((3,), (t + 1) / T)), t, x, use_clipped_model_output=True)
        torch.testing.assert_close(guesses[number], step.pred_original_sample, rtol=0, atol=1e-4)
        x = step.prev_sample
    torch.testing.assert_close(ours, x, rtol=0, atol=1e-4)


def test_psnr_is_that_of_torchmetrics() -> None:
    truth = 2 * load_digits()[0][:50] - 1
    x = truth + 0.2 * torch.randn(truth.shape, generator=rng())
    theirs: Any = PeakSignalNoiseRatio(data_range=2.0)
    assert psnr(x, truth) == pytest.approx(theirs(x, truth).item(), abs=1e-4)
    assert psnr(truth + 0.2, truth) == pytest.approx(20, abs=1e-3)  # error .1 of the range


def test_shrinking_keeps_means_and_enlarging_blurs() -> None:
    digits = 2 * load_digits()[0][:200] - 1
    torch.testing.assert_close(shrink(digits).mean(dim=(2, 3)), digits.mean(dim=(2, 3)), rtol=0, atol=1e-5)
    flat = torch.full((1, 1, 4, 4), 0.3)
    torch.testing.assert_close(enlarge(flat), torch.full((1, 1, 8, 8), 0.3), rtol=0, atol=1e-6)
    assert gradient_energy(enlarge(shrink(digits))) < 0.8 * gradient_energy(digits)
    steps = torch.arange(8.0).view(1, 1, 1, 8).expand(1, 1, 8, 8)
    assert gradient_energy(steps) == 1


@torch.no_grad()
def test_the_base_stage_hears_the_label() -> None:
    base = Base(rng())
    for weight in base.unet.parameters():
        torch.nn.init.normal_(weight, std=0.1, generator=rng(weight.numel()))
    x, t = torch.randn(1, 1, 4, 4, generator=rng()), torch.tensor([0.5])
    outs = torch.cat([base(x, t, torch.tensor([label])) for label in range(11)])
    assert torch.pdist(outs.flatten(1)).min() > 1e-3


def test_a_refiner_that_does_not_see_the_small_image_draws_another() -> None:
    outcome = result(steps=100, sampling_steps=15, **Params.presets["blind"].values)
    assert "Shrinking the output gives the input back" in failed(outcome)
    assert "Outputs differ where the small image is silent" not in failed(outcome)


def test_the_cascade_refines_what_it_drew() -> None:
    outcome = result(steps=100, sampling_steps=15, **Params.presets["sevens"].values)
    assert "Shrinking the output gives the input back" not in failed(outcome)
    rows = outcome.figures[0]
    assert isinstance(rows, Images)
    assert list(rows.column_labels)[-2:] == ["output", "bicubic"]  # a drawn small image has no truth
    assert not [m for m in outcome.metrics if m.name.startswith("psnr")]
    assert all(math.isfinite(m.value) for m in outcome.metrics)
