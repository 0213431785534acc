"""gan-1d against scipy's integrals and distance and torch's loss, and the phases in which one player rests."""

import math
from typing import Any

import pytest
import scipy.integrate
import scipy.stats
import torch
from torch.nn import functional as F

from demos.contract import Cell, Result
from demos.gans.gan_1d import (
    GRID,
    Generator,
    Params,
    best_discriminator,
    cross_entropy,
    data_density,
    draw_data,
    draw_noise,
    estimate_density,
    jensen_shannon,
    run,
    value,
    wasserstein,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, rng


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def metrics(outcome: Result) -> dict[str, float]:
    return {metric.name: metric.value for metric in outcome.metrics}


def p_at(x: float) -> float:
    return float(scipy.stats.norm.pdf(x, 0, 0.5) + scipy.stats.norm.pdf(x, 2, 0.5)) / 2


def q_at(x: float) -> float:
    return float(scipy.stats.norm.pdf(x, -2, 1))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "gan-1d")


def test_the_divergence_and_the_best_discriminator_are_scipys_integrals() -> None:
    def integrand(x: float) -> float:
        p, q = p_at(x), q_at(x)
        return (p * math.log(2 * p / (p + q)) + q * math.log(2 * q / (p + q))) / 2

    quad: Any = scipy.integrate.quad
    exact = float(quad(integrand, -8, 8, limit=200)[0])
    q = torch.tensor([q_at(x.item()) for x in GRID], dtype=torch.float64)
    assert jensen_shannon(data_density(GRID.double()), q) == pytest.approx(exact, abs=1e-6)
    samples = Generator(4, rng())(draw_noise(200_000, Params.model_validate({}), rng(1))).detach()[:, 0]
    estimate = estimate_density(samples)
    assert (estimate - q).abs().max().item() < 0.012  # what 200,000 draws and the smoothing leave
    assert jensen_shannon(data_density(GRID), estimate) == pytest.approx(exact, abs=0.003)
    star = best_discriminator(data_density(GRID), estimate)
    assert star[320].item() == pytest.approx(p_at(0) / (p_at(0) + q_at(0)), abs=0.01)


def test_losses_are_torchs_cross_entropy_and_the_distance_is_scipys() -> None:
    real, fake = torch.randn(2, 500, 1, generator=rng(), dtype=torch.float64)
    bce = F.binary_cross_entropy_with_logits
    loss = bce(real, torch.ones_like(real)) + bce(fake, torch.zeros_like(fake))
    torch.testing.assert_close(-value(real, fake), loss, rtol=0, atol=1e-12)
    label = (fake > 0).double()
    torch.testing.assert_close(cross_entropy(real.sigmoid(), label), bce(real, label), rtol=0, atol=1e-12)
    x, y = draw_data(500, rng(1))[:, 0], torch.randn(500, generator=rng(2))
    theirs = float(scipy.stats.wasserstein_distance(x.numpy(), y.numpy()))
    assert wasserstein(x, y) == pytest.approx(theirs, rel=1e-5)


@pytest.mark.parametrize("noise", ["gaussian", "uniform"])
def test_noise_has_mean_0_and_variance_1_and_its_own_law(noise: str) -> None:
    z = draw_noise(50_000, Params.model_validate({"noise": noise, "z_dim": 1}), rng())[:, 0]
    law: Any = scipy.stats.norm() if noise == "gaussian" else scipy.stats.uniform(-math.sqrt(3), 2 * math.sqrt(3))
    assert float(scipy.stats.kstest(z.numpy(), law.cdf).pvalue) > 0.001


def test_data_has_the_density_that_is_claimed() -> None:
    assert (estimate_density(draw_data(200_000, rng())[:, 0]) - data_density(GRID)).abs().max().item() < 0.015


def test_with_the_discriminator_alone_the_generator_stays() -> None:
    outcome = result(rounds=100, **Params.presets["discriminator alone"].values)
    assert failed(outcome)[0] == "Training ends near the data"
    by_name = metrics(outcome)
    assert by_name["Wasserstein-1 distance at the end"] == by_name["Wasserstein-1 distance at the start"]
    assert by_name["V(D, G)"] == pytest.approx(by_name["2 JS - log 4"], abs=0.03)


def test_with_the_generator_alone_the_discriminator_stays_and_is_fooled() -> None:
    outcome = result(rounds=300, **Params.presets["generator alone"].values)
    assert "And D cannot tell" in failed(outcome)
    assert metrics(outcome)["V(D, G)"] < -1.4  # worse than guessing: it never learns what the samples have become
