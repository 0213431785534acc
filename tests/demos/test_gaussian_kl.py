"""gaussian-kl against torch.distributions, and its failures where the mechanism is broken."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from demos.vaes.gaussian_kl import Params, fit, gradients, kl_diagonal, kl_full, log_two_modes, run
from tests.demos.outcomes import assert_claims_hold_as_listed, rng


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(run(Params.model_validate({})), "gaussian-kl")


def test_the_score_function_preset_fails_the_claim_on_noise_and_no_other() -> None:
    broken = run(Params.model_validate(Params.presets["score-function"].values))
    failed = [claim for claim in broken.claims if not claim.holds]
    assert [claim.statement.split(":")[0] for claim in failed] == [
        "The score function's gradients are noisier than this run's"
    ]
    assert failed[0].measured == 1.0


@pytest.mark.parametrize("seed", range(5))
def test_the_closed_forms_equal_torch_distributions(seed: int) -> None:
    mu1, log1, mu2, log2 = (torch.randn(50, 7, generator=rng(seed), dtype=torch.float64) for _ in range(4))
    expected = kl_divergence(Normal(mu1, log1.exp()), Normal(mu2, log2.exp())).sum(-1)
    torch.testing.assert_close(kl_diagonal(mu1, log1.exp(), mu2, log2.exp()), expected, rtol=0, atol=1e-5)
    a, b = (torch.randn(7, 7, generator=rng(seed + 10 * n), dtype=torch.float64) for n in (1, 2))
    cov1, cov2 = a @ a.T + torch.eye(7), b @ b.T + torch.eye(7)
    expected = kl_divergence(MultivariateNormal(mu1[0], cov1), MultivariateNormal(mu2[0], cov2))
    torch.testing.assert_close(kl_full(mu1[0], cov1, mu2[0], cov2), expected, rtol=0, atol=1e-5)


def test_forward_kl_finds_the_moments_of_the_target_and_reverse_kl_one_mode_of_it() -> None:
    mean, width = fit("forward", "reparam", rng())
    assert mean == pytest.approx(0, abs=0.3)
    assert width == pytest.approx(math.sqrt(2**2 + 0.5**2), rel=0.05)
    mean, width = fit("reverse", "reparam", rng())
    assert abs(mean) == pytest.approx(2, abs=0.1)
    assert width == pytest.approx(0.5, rel=0.1)


def test_the_target_of_the_fits_is_a_density() -> None:
    x = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    assert torch.trapezoid(log_two_modes(x[:, None]).exp(), x).item() == pytest.approx(1, abs=1e-9)


def test_the_reparameterised_gradient_in_one_sample_is_the_sample_itself() -> None:
    """KL(q ‖ N(0, I)): log q does not move with mu along the path, and −log p has gradient z."""
    mu, std = torch.tensor([0.5, -1.0]), torch.tensor([0.2, 3.0])
    noise = torch.randn(100, 2, generator=rng())
    torch.testing.assert_close(gradients(mu, std, noise, "reparam"), mu + std * noise)
