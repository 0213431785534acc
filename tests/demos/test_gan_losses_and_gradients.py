"""gan-losses-and-gradients against torch's own losses and autograd, and the losses that fall silent."""

import pytest
import torch
from torch.nn import functional as F

from demos.contract import Cell, Lines, Result
from demos.gans.gan_losses_and_gradients import (
    Params,
    critic_in_the_plane,
    d_loss,
    g_loss,
    generator_gradient,
    run,
    slope,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, rng


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    outcome = result()
    assert_claims_hold_as_listed(outcome, "gan-losses-and-gradients")
    lines = outcome.figures[2]
    assert isinstance(lines, Lines)
    assert (lines.at[0], lines.at[-1]) == (0, 300)
    assert len(lines.series) == 5


def test_losses_are_those_of_torch() -> None:
    real, fake = 4 * torch.randn(2, 50, 1, generator=rng(), dtype=torch.float64)
    one, zero = torch.ones_like(real), torch.zeros_like(real)
    bce, mse = F.binary_cross_entropy_with_logits, F.mse_loss

    def same(ours: torch.Tensor, theirs: torch.Tensor) -> None:
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)

    for name in ("minimax", "non-saturating"):
        same(d_loss(name, real, fake), bce(real, one) + bce(fake, zero))
    same(g_loss("minimax", fake), -bce(fake, zero))
    same(g_loss("non-saturating", fake), bce(fake, one))
    same(d_loss("lsgan", real, fake), (mse(real, one) + mse(fake, zero)) / 2)
    same(g_loss("lsgan", fake), mse(fake, one) / 2)
    hinge = F.hinge_embedding_loss  # max(0, 1 - x) where the target is -1
    same(d_loss("hinge", real, fake), hinge(real, -one) + hinge(-fake, -one))
    same(d_loss("wgan", real, fake), F.l1_loss(fake + 100, zero) - (real + 100).mean())


def test_both_logistic_losses_push_alike_at_one_half_and_add_to_one_everywhere() -> None:
    logit = torch.linspace(-9, 9, 37, dtype=torch.float64)
    minimax, other = slope("minimax", logit), slope("non-saturating", logit)
    torch.testing.assert_close(minimax + other, -torch.ones_like(logit), rtol=0, atol=1e-12)
    assert minimax[18].item() == pytest.approx(-0.5)
    torch.testing.assert_close(other, -torch.sigmoid(-logit), rtol=0, atol=1e-12)


@pytest.mark.parametrize("loss", ["minimax", "non-saturating", "lsgan", "hinge", "wgan"])
def test_the_generator_gradient_is_a_finite_difference(loss: str) -> None:
    D, z = critic_in_the_plane(rng()).double(), torch.randn(200, 2, generator=rng(1), dtype=torch.float64)
    h = 1e-5
    values = [g_loss(loss, D(torch.tensor([2.0 + d, 0.0], dtype=torch.float64) + 0.5 * z)).item() for d in (-h, h)]
    gradient = generator_gradient(loss, D, 2.0, z)[0].item()
    assert gradient == pytest.approx((values[1] - values[0]) / (2 * h), rel=1e-3)  # theta is float32
    assert abs(gradient) > 1e-4


@pytest.mark.parametrize("preset", ["minimax", "least squares"])
def test_losses_that_fall_silent_before_a_winning_discriminator(preset: str) -> None:
    assert failed(result(d_steps=100, **Params.presets[preset].values)) == [
        "The chosen loss still pushes towards the data once D is ahead"
    ]


def test_an_untrained_discriminator_neither_wins_nor_has_a_slope() -> None:
    names = failed(result(**Params.presets["no head start"].values))
    assert "D trained ahead" in names
    assert "Its slope is 1 + gap / 2λ, where penalty and gain balance" in names


def test_where_real_and_fake_overlap_the_minimax_loss_is_not_silent() -> None:
    assert failed(result(gap=0.5, d_steps=100)) == ["D trained ahead"]
