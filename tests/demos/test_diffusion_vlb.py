"""diffusion-vlb against torch.distributions and scipy, and what too little noise leaves in the last latent."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from torch.distributions import Normal, kl_divergence

from demos.contract import Bars, Cell, Result
from demos.diffusion.diffusion_vlb import (
    SPECTRUM,
    Params,
    draw_data,
    exact_gap,
    exact_terms,
    joint_gap,
    make_schedule,
    mean_back,
    prior_term,
    run,
    step_term,
    weight,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, rng


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "diffusion-vlb")


@pytest.mark.parametrize("t", [1, 2, 50, 100])
def test_every_term_is_that_of_torch(t: int) -> None:
    betas, alpha_bar = make_schedule(100, 1.0)
    x0, x_t, eps_hat = torch.randn(3, 20, 2, generator=rng(), dtype=torch.float64)
    p = Normal(mean_back(x_t, eps_hat, t, betas, alpha_bar), betas[t].sqrt())
    if t == 1:
        expected = -p.log_prob(x0).sum(1)
    else:  # Bayes' rule for two Gaussians: precisions add, means are weighed by them
        to_past, to_now = 1 / (1 - alpha_bar[t - 1]), (1 - betas[t]) / betas[t]
        mean = (to_past * alpha_bar[t - 1].sqrt() * x0 + to_now * x_t / (1 - betas[t]).sqrt()) / (to_past + to_now)
        expected = kl_divergence(Normal(mean, (to_past + to_now) ** -0.5), p).sum(1)
    torch.testing.assert_close(step_term(x0, x_t, eps_hat, t, betas, alpha_bar), expected, rtol=1e-7, atol=1e-9)
    if t > 1:  # eq. (12): what changes with the prediction is the weighed squared error of the noise
        eps = (x_t - alpha_bar[t].sqrt() * x0) / (1 - alpha_bar[t]).sqrt()
        best = step_term(x0, x_t, eps, t, betas, alpha_bar)
        error = weight(torch.tensor(t), betas, alpha_bar) * (eps - eps_hat).square().sum(1)
        torch.testing.assert_close(expected - best, error, rtol=1e-6, atol=1e-9)


def test_the_prior_term_is_that_of_torch() -> None:
    _, alpha_bar = make_schedule(20, 0.3)
    x0, _ = draw_data("moons", 30, rng())
    q = Normal(alpha_bar[-1].sqrt() * x0, (1 - alpha_bar[-1]).sqrt())
    torch.testing.assert_close(prior_term(x0, alpha_bar), kl_divergence(q, Normal(0.0, 1.0)).sum(1))


@pytest.mark.parametrize("T", [5, 60, 300])
@pytest.mark.parametrize("variance", [0.2, 1.0, 1.4])
def test_terms_and_joint_laws_agree_for_any_number_of_layers(T: int, variance: float) -> None:
    schedule = make_schedule(T, 1.0)
    entropy = 0.5 * math.log(2 * math.pi * math.e * variance)
    assert exact_terms(variance, *schedule).sum().item() - entropy == pytest.approx(
        joint_gap(variance, *schedule), rel=1e-5, abs=1e-9
    )


def test_the_exact_gap_goes_as_one_over_the_number_of_layers() -> None:
    gaps = [exact_gap(T, 1.0) for T in (100, 200, 400, 800)]
    assert all(1.7 < wide / narrow < 2.3 for wide, narrow in itertools.pairwise(gaps))


def test_densities_are_those_of_the_draws() -> None:
    x, log_density = draw_data("gaussian", 100_000, rng())
    fitted = multivariate_normal(np.zeros(2), torch.cov(x.T).numpy())  # knows neither the spectrum nor the angle
    assert log_density[:50].numpy().tolist() == pytest.approx(fitted.logpdf(x[:50].numpy()).tolist(), abs=0.15)
    assert np.linalg.eigvalsh(torch.cov(x.T).numpy()).tolist() == pytest.approx(sorted(SPECTRUM), rel=0.02)
    y, dense = draw_data("moons", 100_000, rng(1))
    assert y.square().mean().item() == pytest.approx(1.0, abs=0.3)
    inside = (y[:, None] - y[:20]).square().sum(2) < 0.03**2  # counted in small discs around twenty draws
    counted = inside.double().mean(0) / (math.pi * 0.03**2)
    assert (counted / dense[:20].exp()).mean().item() == pytest.approx(1, abs=0.1)


def test_with_too_little_noise_the_last_latent_still_knows_the_data() -> None:
    outcome = result(steps=100, **Params.presets["too little noise"].values)
    assert "The last latent carries nothing" in failed(outcome)


def test_the_bars_add_up_to_the_bound_and_more_layers_than_bars_are_grouped() -> None:
    for T in (5, 250):
        outcome = result(timesteps=T, steps=100)
        bars = outcome.figures[0]
        assert isinstance(bars, Bars)
        assert len(bars.labels) == min(T, 100) + 1
        bits = outcome.metrics[0].value
        assert sum(bars.series["term"]) / (2 * math.log(2)) == pytest.approx(bits)
