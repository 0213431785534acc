"""fill-and-extend against diffusers' RePaintScheduler and torch's mixture of Gaussians, and pixels not put back."""

from typing import Any

import pytest
import torch
from diffusers.schedulers.scheduling_repaint import RePaintScheduler
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from demos.contract import Cell, Images, Result
from demos.shared.ddpm import jump
from demos.shared.digits import load_digits
from demos.stable_diffusion.fill_and_extend import (
    ALPHA_BAR,
    BLUR,
    Params,
    T,
    given,
    log_density,
    predict_noise,
    read,
    repaint,
    run,
    seam,
    step,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def digits(n: int) -> torch.Tensor:
    return 2 * load_digits()[0][:n] - 1


def test_every_claim_holds_at_the_defaults() -> None:
    outcome = result()
    assert_claims_hold_as_listed(outcome, "fill-and-extend")
    fills = outcome.figures[0]
    assert isinstance(fills, Images)
    assert list(fills.row_labels) == ["given", "fill 1", "fill 2", "fill 3", "fill 4", "truth", "any digit"]


def test_the_prediction_is_the_score_that_torch_has_of_the_blurred_digits() -> None:
    known, x = digits(30), torch.randn(5, 1, 8, 8, generator=rng()).requires_grad_()
    for t in (1, 40, T):
        a = ALPHA_BAR[t]
        each = Independent(Normal(a.sqrt() * known.flatten(1), (a * BLUR**2 + 1 - a).sqrt()), 1)
        law: Any = MixtureSameFamily(Categorical(torch.ones(30)), each)
        (score,) = torch.autograd.grad(law.log_prob(x.flatten(1)).sum(), x)
        expected = -(1 - a).sqrt() * score
        torch.testing.assert_close(predict_noise(x.detach(), t, known), expected, rtol=1e-3, atol=1e-3)


def test_one_step_is_that_of_diffusers() -> None:
    known, m = digits(50), given("centre")
    x0 = known[:3]
    scheduler: Any = RePaintScheduler(num_train_timesteps=T, eta=1.0, clip_sample=True)
    scheduler.alphas_cumprod, scheduler.final_alpha_cumprod = ALPHA_BAR[1:], torch.ones(())
    scheduler.set_timesteps(T)
    for t in (T, 60, 2):
        x, a = torch.randn(x0.shape, generator=rng(t)), ALPHA_BAR[t]
        clipped = ((x - (1 - a).sqrt() * predict_noise(x, t, known)) / a.sqrt()).clamp(-1, 1)
        eps = (x - a.sqrt() * clipped) / (1 - a).sqrt()  # ours makes ε agree with the clipped x_0
        theirs = scheduler.step(eps, t - 1, x, x0, m, generator=rng(7)).prev_sample
        ours = step(x, x0, m, t, known, torch.randn(x0.shape, generator=rng(7)))
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_going_forward_again_is_the_undo_of_diffusers() -> None:
    scheduler: Any = RePaintScheduler(num_train_timesteps=T, eta=1.0)
    scheduler.betas = 1 - ALPHA_BAR[1:] / ALPHA_BAR[:-1]
    scheduler.set_timesteps(T)
    x = torch.randn(3, 1, 8, 8, generator=rng())
    theirs = scheduler.undo_step(x, 49, generator=rng(1))
    ours = jump(x, torch.randn(x.shape, generator=rng(1)), ALPHA_BAR[50] / ALPHA_BAR[49])
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_without_putting_back_the_given_pixels_are_not_heard() -> None:
    outcome = result(put_back=False, resample=1)
    missed = set(failed(outcome))
    assert {"More often than any digit pasted into the hole", "They are nearer to what was hidden"} <= missed
    assert metric(outcome, "kept") <= 1e-6  # they are pasted over at the end


def test_image_to_image_stays_near_the_old_content() -> None:
    errors = list[float]()
    m, known = given("half"), digits(200)
    x0 = digits(1500)[1450:1480]
    for start in (0.1, 1.0):
        x, path = repaint(x0, m, known, 1, start, put_back=True, rng=rng())
        errors.append((x - x0).square().mean().item())
        assert len(path) == 1 + round(start * T)
    assert errors[0] < 0.7 * errors[1]


@pytest.mark.parametrize(("mask", "hidden"), [("centre", 16), ("half", 32), ("border", 48)])
def test_masks_hide_a_hole_a_half_or_the_frame(mask: str, hidden: int) -> None:
    assert (1 - given(mask)).sum() == hidden
    x0 = digits(4)
    x, _ = repaint(x0, given(mask), digits(50), 1, 1.0, put_back=True, rng=rng())
    assert torch.equal(x * given(mask), x0 * given(mask))


def test_the_seam_is_the_jump_between_given_and_drawn_neighbours() -> None:
    m = given("half")
    x = torch.zeros(2, 1, 8, 8)
    x[..., 4:] = 0.5
    assert seam(x, m) == pytest.approx(0.5)
    assert seam(torch.rand(1, 1, 8, 1, generator=rng()).expand(1, 1, 8, 8), m) == 0
    hole = torch.zeros(1, 1, 8, 8)
    hole[..., 2:6, 2:6] = 2.0
    assert seam(hole, given("centre")) == pytest.approx(2.0)


def test_reading_and_density_prefer_what_is_known() -> None:
    images, labels = load_digits()
    known = 2 * images[:100] - 1
    assert torch.equal(read(known, known, labels[:100]), labels[:100])
    assert log_density(known, known) > log_density(-known, known) + 1
