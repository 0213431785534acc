"""elbo-gap against MultivariateNormal, scikit-learn's PCA and numerical integration, and its gap where q is bad."""

import importlib
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from demos.contract import Cell, Lines
from demos.shared.digits import load_digits
from demos.vaes.elbo_gap import (
    LinearVAE,
    Params,
    best_log_likelihood,
    elbo,
    importance_bound,
    log_weights,
    run,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, rng

decomposition: Any = importlib.import_module("sklearn.decomposition")  # untyped
F64 = torch.float64


def untrained(d: int, encoder: str = "learned") -> tuple[LinearVAE, Tensor]:
    """A model with sizeable random weights, and 20 digits (20, 64)."""
    vae = LinearVAE(d, encoder, rng())
    with torch.no_grad():
        vae.W.mul_(5)
        vae.log_sigma.fill_(-0.7)
        vae.b.copy_(torch.rand(64, generator=rng(1), dtype=F64))
        vae.log_s.copy_(0.3 * torch.randn(d, generator=rng(2), dtype=F64) - 0.5)
    return vae.requires_grad_(False), load_digits()[0][:20].flatten(1).to(F64)


def test_every_claim_holds_at_the_defaults() -> None:
    outcome = run(Params.model_validate({}))
    assert_claims_hold_as_listed(outcome, "elbo-gap")
    bounds = outcome.figures[0]
    assert isinstance(bounds, Lines)
    assert list(bounds.series) == ["log p(x)", "ELBO", "bound of 64 samples", "maximum likelihood"]


@pytest.mark.parametrize("d", [1, 3, 8])
def test_the_exact_log_likelihood_is_that_of_multivariate_normal(d: int) -> None:
    vae, x = untrained(d)
    covariance = vae.W @ vae.W.T + (2 * vae.log_sigma).exp() * torch.eye(64, dtype=F64)
    law = MultivariateNormal(vae.b, covariance)
    torch.testing.assert_close(vae.log_p(x), law.log_prob(x), rtol=1e-10, atol=0)  # pyright: ignore[reportUnknownMemberType]


def test_integrating_the_joint_over_z_gives_p_of_x_and_its_moments_the_posterior() -> None:
    vae, x = untrained(1)
    z = torch.linspace(-8, 8, 4_001, dtype=F64)
    joint = vae.log_joint(x, z[:, None, None].expand(-1, len(x), 1))  # (4001, 20)
    weight = (joint - vae.log_p(x)).exp()
    torch.testing.assert_close(torch.trapezoid(weight, z, dim=0), torch.ones(20, dtype=F64), rtol=0, atol=1e-9)
    mean, root = vae.posterior(x)
    torch.testing.assert_close(torch.trapezoid(z[:, None] * weight, z, dim=0), mean[:, 0], rtol=0, atol=1e-9)
    spread = torch.trapezoid((z[:, None] - mean[:, 0]) ** 2 * weight, z, dim=0)
    torch.testing.assert_close(spread, root.square().expand(20, 1)[:, 0], rtol=0, atol=1e-9)


def test_the_best_log_likelihood_is_that_of_scikit_learns_pca() -> None:
    x = load_digits()[0].flatten(1).to(F64)
    for d in (1, 3, 8):
        ours, theirs = best_log_likelihood(x, d), float(decomposition.PCA(d).fit(x.numpy()).score(x.numpy()))
        assert 0 <= ours - theirs < 0.05  # theirs divides the covariance by N - 1, so that it lies a little lower


def test_a_posterior_twice_too_wide_costs_what_the_formula_says() -> None:
    for d in (1, 3, 8):
        vae, x = untrained(d)
        mean, root = vae.posterior(x)
        gap = vae.log_p(x) - elbo(vae, x, mean, 2 * root)
        torch.testing.assert_close(gap, torch.full_like(gap, d * (3 - math.log(4)) / 2), rtol=1e-9, atol=0)


@pytest.mark.parametrize("encoder", ["learned", "crippled"])
def test_one_sample_averages_to_the_elbo_and_more_samples_to_more(encoder: str) -> None:
    vae, x = untrained(2, encoder)
    mu, L = vae.encode(x)
    if encoder == "crippled":
        assert torch.equal(L, torch.eye(2, dtype=F64))
    log_w = log_weights(vae, x, mu, L, 40_000, rng())  # (40000, 20)
    error = log_w.std(dim=0) / math.sqrt(len(log_w))
    assert ((log_w.mean(dim=0) - elbo(vae, x, mu, L)) / error).abs().max() < 5
    means = [importance_bound(log_w.view(-1, k, 20).transpose(0, 1)).mean().item() for k in (1, 2, 8, 64)]
    assert means == sorted(means)
    assert means[-1] < vae.log_p(x).mean().item()


def test_with_the_exact_posterior_every_sample_gives_log_p_itself() -> None:
    vae, x = untrained(3, "exact")
    log_w = log_weights(vae, x, *vae.encode(x), 7, rng())
    torch.testing.assert_close(log_w, vae.log_p(x).expand(7, 20), rtol=1e-10, atol=0)


def test_an_encoder_that_may_not_be_precise_keeps_its_gap_and_spoils_the_model() -> None:
    values: dict[str, Cell] = dict(Params.presets["crippled"].values)
    assert failed(run(Params.model_validate(values))) == [
        "This run's encoder closes the gap",
        "The model reaches the maximum likelihood of probabilistic PCA",
    ]
