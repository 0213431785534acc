"""blurry-futures against numpy's median and mean, and what noise and the weight of L1 change."""

import numpy as np
import pytest
import torch

from demos.contract import Cell, Result
from demos.gans.blurry_futures import (
    DRAWS,
    LEAKY,
    Params,
    best_constant,
    brightness,
    commitment,
    discriminator_loss,
    fall,
    generator_loss,
    rarer_side,
    run,
)
from demos.shared.perceptron import perceptron
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng

BOTH_DRAWN, CHOICE_LOST = "It draws both futures of a past", "But L1 costs the choice"


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "blurry-futures")


def test_without_noise_one_past_has_one_future() -> None:
    outcome = result(steps=480, **Params.presets["no noise"].values)
    assert BOTH_DRAWN in failed(outcome)
    assert metric(outcome, "rarer side of gan") == 0
    assert metric(outcome, "commitment of gan") > 0.75  # sharp all the same


def test_a_light_l1_leaves_the_choice() -> None:
    outcome = result(steps=480, **Params.presets["light L1"].values)
    assert CHOICE_LOST in failed(outcome)
    assert metric(outcome, "commitment") == metric(outcome, "commitment of l1+gan")


def test_with_unequal_odds_l1_draws_the_likelier_ball_alone() -> None:
    outcome = result(steps=320, **Params.presets["unequal odds"].values)
    assert metric(outcome, "commitment") > 0.95
    assert metric(outcome, "commitment of l2") < 0.7


@pytest.mark.parametrize("skew", [1.0, 3.0])
def test_the_best_constants_are_numpys_median_and_mean(skew: float) -> None:
    pixels = torch.rand(501, generator=rng()) ** skew
    assert best_constant(pixels, "l1") == pytest.approx(np.median(pixels.numpy()), abs=0.02)
    assert best_constant(pixels, "l2") == pytest.approx(np.mean(pixels.numpy()), abs=0.02)


def test_the_two_futures_mirror_each_other_and_share_the_peg() -> None:
    past, left, right = (x.view(2, -1, 10, 10) for x in fall(torch.tensor([3, 6])))
    assert past.shape == (2, 2, 10, 10)
    total = 0.5 + 7  # the peg, and the ball's nine pixels
    for frames in (past, left, right):
        torch.testing.assert_close(frames.sum(dim=(2, 3)), torch.full(frames.shape[:2], total))
    assert torch.equal(left[0, 0, :, :6].flip(1), right[0, 0, :, 1:7])  # mirrored at the peg in column 3
    assert left[0, 0, 6, 3] == right[0, 0, 6, 3] == 0.5


def test_brightness_is_one_for_a_whole_ball_and_a_half_for_half_of_it() -> None:
    _, left, right = fall(torch.tensor([4]))
    seen = brightness(torch.cat([left, right, (left + right) / 2]), left, right)
    torch.testing.assert_close(seen, torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]]))
    assert commitment(seen[:2]) == 1
    assert commitment(seen[2:]) == 0.5


def test_the_rarer_side_is_counted_past_by_past() -> None:
    left_ball, right_ball = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    always_left, always_right = left_ball.expand(DRAWS, 2), right_ball.expand(DRAWS, 2)
    assert rarer_side(torch.cat([always_left, always_right])) == 0  # decided by the past, not by the noise
    mixed = torch.cat([left_ball.expand(DRAWS - 25, 2), right_ball.expand(25, 2)])
    assert rarer_side(mixed) == 25 / DRAWS


def test_losses_are_torchs_cross_entropies() -> None:
    judge = perceptron([4, 16, 1], LEAKY, rng())
    past, real, fake = (torch.rand(6, size, generator=rng(size)) for size in (2, 2, 2))
    fake = fake.flip(0)
    on_real, on_fake = (judge(torch.cat([past, future], dim=1)) for future in (real, fake))
    cross_entropy = torch.nn.BCEWithLogitsLoss()
    J = torch.func.vmap(torch.func.jacrev(judge))(torch.cat([past, real], dim=1))[:, 0, 2:]  # (6, 2)
    expected = cross_entropy(on_real, torch.ones(6, 1)) + cross_entropy(on_fake, torch.zeros(6, 1))
    torch.testing.assert_close(
        discriminator_loss(judge, past, real, fake), expected + 0.05 * J.square().sum(dim=1).mean()
    )
    adversarial, l1 = cross_entropy(on_fake, torch.ones(6, 1)), torch.nn.L1Loss()(fake, real)
    torch.testing.assert_close(generator_loss("gan", judge, 7.0, past, real, fake), adversarial)
    torch.testing.assert_close(generator_loss("l1+gan", judge, 7.0, past, real, fake), adversarial + 7 * l1)
    torch.testing.assert_close(generator_loss("l1", None, 7.0, past, real, fake), l1)
    torch.testing.assert_close(generator_loss("l2", None, 7.0, past, real, fake), torch.nn.MSELoss()(fake, real))
