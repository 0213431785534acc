"""posterior-and-parameterizations against diffusers, and its failures where a prediction or an index is wrong."""

from typing import Any

import pytest
import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

from demos.contract import Cell, Lines, Result
from demos.diffusion.posterior_and_parameterizations import (
    CENTRE,
    KINDS,
    SPREAD,
    Params,
    bayes_on_grid,
    best_noise,
    draw,
    from_x0,
    mean_back,
    run,
    steps_at,
    to_x0,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, rng


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "posterior-and-parameterizations")


@pytest.mark.parametrize("t", [2, 40, 100])
@pytest.mark.parametrize(("kind", "named"), [("noise", "epsilon"), ("x0", "sample"), ("v", "v_prediction")])
def test_the_step_back_is_that_of_diffusers(kind: str, named: Any, t: int) -> None:
    scheduler: Any = DDPMScheduler(
        num_train_timesteps=100, beta_start=1e-3, beta_end=0.2, prediction_type=named, clip_sample=False
    )
    alpha_bar = steps_at(torch.arange(1, 101), 100).alpha_bar
    torch.testing.assert_close(scheduler.alphas_cumprod.double(), alpha_bar, rtol=1e-5, atol=0)
    scheduler.alphas_cumprod = alpha_bar  # theirs is a product of float32
    x_t, value = torch.randn(2, 50, 1, generator=rng(), dtype=torch.float64)
    s = steps_at(torch.tensor(t), 100)
    theirs: Any = scheduler.step(value, t - 1, x_t, generator=rng(1))
    z = torch.randn(50, 1, generator=rng(1), dtype=torch.float64)
    meant = to_x0(kind, value, x_t, s)
    torch.testing.assert_close(meant, theirs.pred_original_sample, rtol=1e-4, atol=1e-5)
    ours = mean_back(kind, value, x_t, s) + s.beta_tilde.sqrt() * z
    torch.testing.assert_close(ours, theirs.prev_sample, rtol=1e-5, atol=1e-5)


def test_from_the_true_x0_every_name_is_what_the_papers_define() -> None:
    x0, eps = draw(100, rng())
    s = steps_at(torch.randint(1, 101, (100,), generator=rng(1)), 100)
    x_t = s.alpha_bar.sqrt() * x0 + s.sigma * eps
    torch.testing.assert_close(from_x0("noise", x0, x_t, s), eps)
    torch.testing.assert_close(from_x0("v", x0, x_t, s), s.alpha_bar.sqrt() * eps - s.sigma * x0)
    torch.testing.assert_close(from_x0("score", x0, x_t, s), -(x_t - s.alpha_bar.sqrt() * x0) / (1 - s.alpha_bar))
    mean = from_x0("mean", x0, x_t, s)
    for kind in KINDS:
        torch.testing.assert_close(mean_back(kind, from_x0(kind, x0, x_t, s), x_t, s), mean)


def test_the_first_step_back_ends_on_x0() -> None:
    s = steps_at(torch.tensor(1), 100)
    assert s.beta_tilde.item() == 0
    assert from_x0("mean", torch.tensor(0.3), torch.tensor(2.0), s).item() == pytest.approx(0.3)


def test_the_exact_noise_is_the_mean_noise_of_the_draws_that_end_near_a_point() -> None:
    s = steps_at(torch.tensor(40), 100)
    x0, eps = draw(2_000_000, rng())
    x_t = s.alpha_bar.sqrt() * x0 + s.sigma * eps
    for point in (-0.5, 0.2, 1.1):
        near = (x_t - point).abs() < 0.01
        expected = eps[near].mean().item()
        assert best_noise(torch.tensor(point, dtype=torch.float64), s).item() == pytest.approx(expected, abs=0.03)


def test_data_are_the_two_gaussians_that_the_exact_noise_supposes() -> None:
    x0, eps = draw(100_000, rng())
    assert x0.mean().item() == pytest.approx(0, abs=0.02)
    assert x0.abs().mean().item() == pytest.approx(CENTRE, abs=0.01)
    assert x0.var().item() == pytest.approx(CENTRE**2 + SPREAD**2, rel=0.01)
    assert torch.corrcoef(torch.stack([x0, eps]))[0, 1].abs() < 0.02


def test_the_posterior_is_narrower_than_prior_and_likelihood() -> None:
    grid = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    curves = bayes_on_grid(grid, 0.8, 0.5, steps_at(torch.tensor(40), 100))
    peaks = [curve.max().item() for curve in curves]
    assert peaks[2] > max(peaks[:2])
    assert all(torch.trapezoid(curve, grid).item() == pytest.approx(1) for curve in curves)


def test_an_index_off_by_one_breaks_bayes_rule_and_parts_the_names() -> None:
    assert failed(result(steps=100, **Params.presets["off by one"].values))[:2] == [
        "The formula of the posterior is Bayes' rule on a grid",
        "All names of one prediction give the same x_{t−1}",
    ]


@pytest.mark.parametrize("preset", ["score", "x0"])
def test_as_a_plain_target_neither_score_nor_x0_learns_the_noise(preset: str) -> None:
    outcome = result(**Params.presets[preset].values)
    assert failed(outcome) == ["The network comes near E[ε | x_t], known exactly here"]
    errors = outcome.figures[1]
    assert isinstance(errors, Lines)
    assert next(iter(errors.series)) == preset  # what was asked for leads
