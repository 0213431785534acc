"""wgan-gp against scipy, POT and torch's spectral normalisation, and what each weaker bound costs."""

import importlib
from typing import Any

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from scipy.stats import wasserstein_distance
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from demos.contract import Cell, Result
from demos.gans.wgan_gp import CLIP, Critic, Params, Trainer, between, linears, mode_shares, run, slopes, transport_cost
from demos.shared.plane import MODES, draw_ring
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng

SLOPE = "The critic's slope between data and samples is near one"
GAP = "The critic's gap is the Wasserstein distance, on two Gaussians"

pot: Any = importlib.import_module("ot")  # its types know less than it has


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    outcome = result()
    assert_claims_hold_as_listed(outcome, "wgan-gp")
    assert 0.8 <= metric(outcome, "gradient_norm") <= 1.2


@pytest.mark.parametrize("preset", ["weak penalty", "no bound", "clipped weights"])
def test_without_slope_one_the_gap_is_no_distance(preset: str) -> None:
    assert GAP in failed(result(updates=100, critic_steps=2, **Params.presets[preset].values))


def test_without_a_bound_the_slope_grows() -> None:
    outcome = result(updates=100, critic_steps=2, penalty=0.0)
    assert SLOPE in failed(outcome)
    assert metric(outcome, "gradient_norm") > 2


@pytest.mark.parametrize("n", [1, 2, 30, 200])
def test_the_transport_cost_is_scipys_and_pots(n: int) -> None:
    x, y = draw_ring(n, rng()), torch.randn(n, 2, generator=rng(1))
    cost = torch.cdist(x.double(), y.double()).numpy()
    rows, columns = linear_sum_assignment(cost)
    assert transport_cost(x, y) == pytest.approx(cost[rows, columns].mean(), rel=1e-9)
    weights = torch.full((n,), 1 / n).double().numpy()
    assert transport_cost(x, y) == pytest.approx(pot.emd2(weights, weights, cost), rel=1e-6)


def test_on_a_line_the_transport_cost_is_scipys_in_one_dimension() -> None:
    a, b = torch.randn(2, 100, generator=rng())
    x, y = (torch.stack([line, torch.zeros(100)], dim=1) for line in (a, b + 1))
    assert transport_cost(x, y) == pytest.approx(float(wasserstein_distance(a.numpy(), (b + 1).numpy())), rel=1e-5)


def test_slopes_are_the_norms_of_the_gradient() -> None:
    line = nn.Linear(2, 1)
    with torch.no_grad():
        line.weight.copy_(torch.tensor([[3.0, 4.0]]))
    torch.testing.assert_close(slopes(line, torch.randn(7, 2, generator=rng())), torch.full((7,), 5.0))


def test_the_penalty_can_be_differentiated() -> None:
    f = Critic(False, rng())
    torch.autograd.backward((slopes(f, draw_ring(20, rng(1))) - 1).square().mean())
    assert all(layer.weight.grad is not None and layer.weight.grad.abs().sum() > 0 for layer in linears(f))


def test_points_between_lie_on_the_lines_of_the_pairs() -> None:
    real, fake = torch.zeros(1000, 2), torch.tensor([[2.0, 4.0]]).expand(1000, 2)
    points = between(real, fake, rng())
    torch.testing.assert_close(points[:, 1], 2 * points[:, 0])
    assert points[:, 0].mean().item() == pytest.approx(1, abs=0.06)
    assert (points[:, 0].min() < 0.05) & (points[:, 0].max() > 1.95)


@torch.no_grad()
def test_spectral_normalisation_is_torchs() -> None:
    f, x = Critic(True, rng()), torch.randn(10, 2, generator=rng(1))
    for _ in range(100):  # power iteration settles
        f(x)
    ours = f(x)
    for layer in linears(f):
        sigma = f.largest_singular_value(layer).item()
        assert sigma == pytest.approx(layer.weight.svd().S[0].item(), rel=0.02)
    reference = [
        spectral_norm(part, n_power_iterations=100) if isinstance(part, nn.Linear) else part for part in f.layers
    ]
    torch.testing.assert_close(nn.Sequential(*reference)(x)[:, 0], ours, rtol=1e-2, atol=1e-3)
    assert slopes_at_most_one(f)


def slopes_at_most_one(f: Critic) -> bool:
    with torch.enable_grad():
        return bool((slopes(f, torch.randn(200, 2, generator=rng(2))) <= 1.01).all())


def test_clipping_keeps_every_weight_in_its_box() -> None:
    trainer = Trainer(Params.model_validate({"constraint": "clip"}), rng())
    trainer.step(draw_ring(50, rng(1)), torch.zeros(50, 2))
    assert max(weight.abs().max().item() for weight in trainer.f.parameters()) <= CLIP + 1e-6


def test_shares_count_samples_near_each_mode() -> None:
    planted = torch.cat([MODES[[1, 1, 4]], torch.zeros(1, 2)])
    assert mode_shares(planted).numpy().tolist() == [0, 0.5, 0, 0, 0.25, 0, 0, 0]
