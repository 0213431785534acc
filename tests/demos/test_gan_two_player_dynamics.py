"""gan-two-player-dynamics against torch's eigenvalues, Monte Carlo and linear algebra, and what unsettles R1."""

import math

import pytest
import torch

from demos.contract import Cell, Result, Scatter
from demos.gans.gan_two_player_dynamics import (
    REGULARIZERS,
    UPDATES,
    Game,
    Params,
    distances,
    eigenvalues,
    losses,
    radius,
    run,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, failed


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    outcome = result()
    assert_claims_hold_as_listed(outcome, "gan-two-player-dynamics")
    path = outcome.figures[0]
    assert isinstance(path, Scatter)
    assert math.hypot(*next(iter(path.series.values()))[0]) == pytest.approx(1)
    by_name = {metric.name: metric.value for metric in outcome.metrics}
    assert by_name["spectral_radius"] == pytest.approx(1, abs=1e-12)
    assert 0.3 < by_name["distance"] < 0.9  # no eigenvalue inside the circle, and yet it crawls inwards


@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize("regularizer", REGULARIZERS)
@pytest.mark.parametrize("loss", ["bilinear", "non-saturating"])
def test_the_jacobian_is_a_finite_difference_and_its_eigenvalues_are_torchs(
    loss: str, regularizer: str, update: str
) -> None:
    game, h = Game(loss, regularizer, 0.7, 0.2), 1e-5
    jacobian = game.linearised(update)
    basis = h * torch.eye(2, dtype=torch.float64)
    numeric = (game.round(update, basis) - game.round(update, -basis)).detach() / (2 * h)
    torch.testing.assert_close(jacobian, numeric, rtol=0, atol=1e-8)
    torch.testing.assert_close(jacobian, game.closed_form(update), rtol=0, atol=1e-12)
    theirs = sorted((complex(e) for e in torch.linalg.eigvals(jacobian).numpy()), key=lambda e: (e.real, e.imag))  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType, reportUnknownArgumentType]
    ours = sorted(eigenvalues(jacobian), key=lambda e: (e.real, e.imag))
    assert ours == pytest.approx(theirs, abs=1e-7)


def test_alternating_play_moves_the_generator_first_and_the_discriminator_answers() -> None:
    x = torch.tensor([[1.0], [2.0]], dtype=torch.float64)
    after = Game("bilinear", "none", 0.0, 0.1).round("alternating", x).flatten()
    assert after.detach().numpy().tolist() == pytest.approx([1 - 0.1 * 2, 2 + 0.1 * 0.8])


def test_the_quadrature_is_the_expectation_over_noise() -> None:
    theta, psi = torch.tensor([0.7], dtype=torch.float64), torch.tensor([1.3], dtype=torch.float64)
    g_loss, d_loss = losses("non-saturating", "instance-noise", 0.0, theta, psi)
    noise = torch.randn(400_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    bce = torch.nn.functional.binary_cross_entropy_with_logits
    fake, real, one = psi * (theta + noise), psi * noise, torch.ones_like(noise)
    assert g_loss.item() == pytest.approx(bce(-fake, one).item(), abs=0.005)  # high on fakes: the generator wants low
    assert d_loss.item() == pytest.approx((bce(fake, one) + bce(real, 0 * one)).item(), abs=0.005)


def test_r1_is_half_gamma_times_the_squared_slope() -> None:
    theta, psi = torch.tensor([0.7, 0.1], dtype=torch.float64), torch.tensor([1.3, -2.0], dtype=torch.float64)
    plain, penalised = (losses("non-saturating", name, 4.0, theta, psi) for name in ("none", "r1"))
    torch.testing.assert_close(penalised[1] - plain[1], 2 * psi.square())
    torch.testing.assert_close(penalised[0], plain[0])


def test_clipping_keeps_the_critic_in_its_bounds_and_does_not_settle() -> None:
    start = torch.tensor([[0.0], [3.0]], dtype=torch.float64)
    path = Game("wgan", "none", 0.0, 0.1).play("simultaneous", start, 400)
    assert path[1:, 1].abs().max() <= 1
    assert distances(path)[-200:].min() > 0.5


def test_r1_without_weight_settles_nothing() -> None:
    assert failed(result(iterations=200, **Params.presets["R1 without weight"].values)) == [
        "Extragradient closes in on the equilibrium there",  # it needs more than 200 updates
        "With R1 the non-saturating Dirac-GAN settles",
    ]


def test_r1_with_long_steps_throws_the_players_out() -> None:
    values = Params.presets["steps too long"].values
    game = Game("non-saturating", "r1", float(values["gamma"]), float(values["lr"]))
    assert all(radius(game.linearised(update)) > 1 for update in UPDATES)
    outcome = result(iterations=100, **values)
    assert failed(outcome) == ["With R1 the non-saturating Dirac-GAN settles"]
    assert all(math.isfinite(metric.value) for metric in outcome.metrics)
