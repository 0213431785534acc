"""sdedit-and-ilvr against diffusers, torch's resizing and its Gaussians, and what letting go of the guide breaks."""

from typing import Any

import pytest
import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from torch.distributions import MultivariateNormal

from demos.contract import Cell, Images, Result
from demos.diffusion.sdedit_and_ilvr import (
    Params,
    draw_strokes,
    ilvr,
    low_pass,
    make_schedule,
    run,
    sdedit,
    tell_apart,
)
from demos.shared.ddpm import T, jump
from demos.shared.digits import load_digits
from demos.shared.unet import UNet
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "sdedit-and-ilvr")


def test_the_schedule_and_the_jump_are_diffusers() -> None:
    theirs: Any = DDPMScheduler(T, beta_schedule="squaredcos_cap_v2")
    torch.testing.assert_close(make_schedule()[1:-1], theirs.alphas_cumprod[:-1], rtol=0, atol=1e-4)
    x, eps, t = draw_strokes(torch.arange(4)), torch.randn(4, 1, 8, 8, generator=rng()), torch.tensor([1, 40, 100, 160])
    noised = jump(x, eps, make_schedule()[t])
    torch.testing.assert_close(noised, theirs.add_noise(x, eps, t - 1), rtol=0, atol=1e-3)


@pytest.mark.parametrize("factor", [1, 2, 4, 8])
def test_the_low_pass_is_torchs_area_resize_there_and_back(factor: int) -> None:
    x = torch.randn(3, 1, 8, 8, generator=rng())
    small = torch.nn.functional.interpolate(x, size=8 // factor, mode="area")
    torch.testing.assert_close(low_pass(x, factor), torch.nn.functional.interpolate(small, size=8), rtol=0, atol=1e-6)


@pytest.mark.parametrize("factor", range(1, 9))
def test_the_low_pass_is_a_projection_for_every_factor(factor: int) -> None:
    x = torch.randn(3, 1, 8, 8, generator=rng())
    once = low_pass(x, factor)
    torch.testing.assert_close(low_pass(once, factor), once, rtol=0, atol=1e-6)
    torch.testing.assert_close(low_pass(x - once, factor), torch.zeros_like(x), rtol=0, atol=1e-6)


def test_ilvr_with_the_finest_blocks_returns_the_guide_and_others_its_means() -> None:
    net, guide = UNet(1, 1, rng(), width=8), draw_strokes(torch.arange(10))
    torch.testing.assert_close(ilvr(net, guide, 1, 0.0, make_schedule(), rng(1)), guide, rtol=0, atol=1e-6)
    made = ilvr(net, guide, 3, 0.0, make_schedule(), rng(1))
    torch.testing.assert_close(low_pass(made, 3), low_pass(guide, 3), rtol=0, atol=1e-6)
    assert (made - guide).abs().max() > 0.1


def test_sdedit_starts_at_the_noised_guide() -> None:
    net, guide = UNet(1, 1, rng(), width=8), draw_strokes(torch.arange(10))
    near, far = (sdedit(net, guide, t0, make_schedule(), rng(1)) for t0 in (0.05, 1.0))
    assert (near - guide).square().mean().sqrt() < 0.2
    assert (far - guide).square().mean().sqrt() > 0.5
    other = sdedit(net, -guide, 1.0, make_schedule(), rng(1))  # at the end of the schedule the guide is forgotten
    assert (far - other).abs().mean() < 0.1


def test_the_classifier_compares_two_of_torchs_gaussians() -> None:
    digits = 2 * load_digits()[0][:600] - 1
    data, guides = (
        x + 0.8 * torch.randn(x.shape, generator=rng(n)) for n, x in ((0, digits), (1, low_pass(digits, 2)))
    )
    test = torch.cat([data[300:], guides[300:]]).flatten(1)
    fitted: list[Any] = [
        MultivariateNormal(x[:300].flatten(1).mean(dim=0), x[:300].flatten(1).T.cov() + 1e-3 * torch.eye(64))
        for x in (data, guides)
    ]
    says_guide: torch.Tensor = fitted[1].log_prob(test) > fitted[0].log_prob(test)
    truth = torch.arange(600) >= 300
    assert tell_apart(data, guides) == pytest.approx((says_guide == truth).float().mean().item(), abs=0.004)


def test_the_digits_of_a_calculator() -> None:
    eight, one, seven = draw_strokes(torch.tensor([8, 1, 7])) > 0
    assert (one <= seven).all()
    assert (seven <= eight).all()
    assert int(one.sum()) == 8  # two vertical strokes, one below the other


def test_ilvr_that_lets_go_early_loses_the_low_frequencies() -> None:
    outcome = result(steps=200, **Params.presets["stop early"].values)
    assert "ILVR keeps the low frequencies of the guide" in failed(outcome)
    assert metric(outcome, "low_frequency_error") > 0.1
    edits = outcome.figures[0]
    assert isinstance(edits, Images)
    assert list(edits.column_labels) == ["guide", "1x1", "2x2", "4x4", "8x8"]
