"""latent-interpolation: slerp against a rotation by the matrix exponential, and two ways to lose the digit half-way."""

import importlib
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from demos.contract import Cell, Images, Lines, Result
from demos.shared.digits import load_digits
from demos.vaes.latent_interpolation import (
    FINE,
    LATENT,
    SIGMA,
    Coder,
    Params,
    autoencoder_loss,
    judge,
    lerp,
    pairs_of_digits,
    run,
    slerp,
    vae_loss,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, rng

linalg: Any = importlib.import_module("scipy.linalg")


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    outcome = result()
    assert_claims_hold_as_listed(outcome, "latent-interpolation")
    paths = outcome.figures[0]
    assert isinstance(paths, Images)
    assert torch.tensor(paths.pixels).shape == (10, 9, 8, 8)


def unit(a: Tensor) -> Tensor:
    return torch.nn.functional.normalize(a, dim=1)


def test_slerp_is_the_rotation_from_one_end_to_the_other() -> None:
    """exp(tθK) with K = v aᵀ − a vᵀ turns a towards b in their plane; v is b's part across a, of unit length."""
    a, b = (unit(torch.randn(5, 8, generator=rng(seed), dtype=torch.float64)) for seed in (0, 1))
    t = torch.linspace(0, 1, 7, dtype=torch.float64)
    path = slerp(a, b, t)
    for p, q, points in zip(a, b, path, strict=True):
        theta = (p @ q).acos()
        v = unit((q - (p @ q) * p)[None])[0]
        plane = torch.outer(v, p) - torch.outer(p, v)
        for at, point in zip(t, points, strict=True):
            turned = torch.tensor(linalg.expm((at * theta * plane).numpy())) @ p
            torch.testing.assert_close(point, turned, rtol=0, atol=1e-6)


def test_both_paths_join_the_ends_and_part_half_way() -> None:
    a, b = torch.randn(2, 50, 8, generator=rng())
    t = torch.linspace(0, 1, 3)
    for path in (lerp, slerp):
        points = path(a, b, t)
        torch.testing.assert_close(points[:, 0], a, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(points[:, 2], b, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(lerp(a, b, t)[:, 1], (a + b) / 2)
    across = torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 3.0]])
    torch.testing.assert_close(slerp(*across, t)[0, 1], torch.full((2,), 3 / 2**0.5))


def test_the_vae_loss_is_that_of_torch_distributions_and_the_autoencoder_has_no_kl() -> None:
    model, x = Coder(rng()), torch.rand(16, 64, generator=rng(1))
    with torch.no_grad():
        mu, logvar = model.encode(x)
        q = Normal(mu, (0.5 * logvar).exp())
        z = mu + q.stddev * torch.randn(mu.shape, generator=rng(2))
        p = Normal(model.decode(z), SIGMA)
        nll = (p.log_prob(p.mean) - p.log_prob(x)).sum(dim=1)
        expected = (nll + kl_divergence(q, Normal(0.0, 1.0)).sum(dim=1)).mean()
        torch.testing.assert_close(vae_loss(model, x, rng(2)), expected, rtol=1e-5, atol=0)
        squares = (x - model.decode(mu)).square().sum(dim=1).mean() / (2 * SIGMA**2)
        torch.testing.assert_close(autoencoder_loss(model, x), squares)


def test_the_judge_knows_real_digits_and_doubts_noise() -> None:
    images, labels = load_digits()
    real, y = images[:1_400].flatten(1), labels[:1_400]
    distance, agreement = judge(images[1_400:].flatten(1), real, y)
    far, doubt = judge(torch.rand(400, 64, generator=rng()), real, y)
    assert agreement.mean() > 0.85
    assert doubt.mean() < agreement.mean() - 0.15
    assert distance.median() < far.median() / 2
    itself, _ = judge(real[:5], real, y)
    assert itself.max() < 1e-2


def test_pairs_join_different_classes() -> None:
    labels = load_digits()[1]
    first, second = pairs_of_digits(labels, rng())
    assert len(first) == len(second) == 200
    assert (labels[first] != labels[second]).all()


def test_the_cross_fade_shows_both_digits_half_way() -> None:
    outcome = result(train_steps=100, **Params.presets["cross-fade"].values)
    missed = [claim for claim in outcome.claims if claim.statement.startswith("Midpoints")]
    assert [claim.measured for claim in missed] == [1.0]
    change = outcome.figures[2]
    assert isinstance(change, Lines)
    steps = change.series["this run's path"]
    assert len(steps) == FINE - 1
    assert max(steps) == pytest.approx(min(steps), rel=1e-4)


def test_without_kl_and_noise_half_way_between_two_digits_is_neither() -> None:
    outcome = result(**Params.presets["autoencoder"].values)
    assert failed(outcome) == ["Their ten nearest real digits agree more on a class"]


def test_method_and_model_choose_the_path_and_leave_both_models_as_they_are() -> None:
    line, circle, plain = (
        result(train_steps=100, **extra) for extra in ({}, {"method": "slerp"}, {"model": "autoencoder"})
    )
    assert line.tables == circle.tables == plain.tables
    assert line.figures[0] != circle.figures[0] != plain.figures[0]
    assert LATENT == 8
