"""ebm-langevin-2d against the exact law of its chain and scikit-learn, and what is left without noise or replay."""

import importlib
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from demos.contract import Cell, Heatmap, Result, Scatter
from demos.fundamentals.ebm_langevin_2d import (
    EDGE,
    EnergyNet,
    Params,
    auc,
    gaussian_error,
    langevin,
    run,
    uniform,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, rng

metrics: Any = importlib.import_module("sklearn.metrics")  # untyped


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def bowl(x: Tensor) -> Tensor:
    """The energy of N(0, 0.25)."""
    return 2 * x.square().sum(dim=1)


def test_every_claim_holds_at_the_defaults() -> None:
    outcome = result()
    assert_claims_hold_as_listed(outcome, "ebm-langevin-2d")
    chains = outcome.figures[2]
    assert isinstance(chains, Scatter)
    assert [len(path) for path in chains.series.values()] == [401] * 8
    density = outcome.figures[1]
    assert isinstance(density, Heatmap)
    assert torch.tensor(density.values).sum().item() * 0.1**2 == pytest.approx(1, abs=0.05)  # 60 squares of 0.1 a side


@pytest.mark.parametrize("step_size", [0.02, 0.2])
def test_the_chain_has_the_exact_law_of_its_recursion(step_size: float) -> None:
    # x' = (1 - λ / 2v) x + √λ ω keeps the variance v / (1 - λ / 4v), and moves a mean m to (1 - λ / 2v)^k m
    v, x = 0.25, torch.full((20_000, 2), 2.0)
    for k in range(1, 301):
        x = langevin(bowl, x, step_size, True, rng(k))
        if k == 3:
            moved = 2 * (1 - step_size / (2 * v)) ** 3
            torch.testing.assert_close(x.mean(dim=0), torch.full((2,), moved), rtol=0, atol=0.03)
    torch.testing.assert_close(x.var(dim=0), torch.full((2,), v / (1 - step_size / (4 * v))), rtol=0.04, atol=0)
    torch.testing.assert_close(x.mean(dim=0), torch.zeros(2), rtol=0, atol=0.02)


def test_without_noise_a_step_goes_straight_down() -> None:
    x = torch.tensor([[1.0, -2.0]])
    torch.testing.assert_close(langevin(bowl, x, 0.1, False, rng()), x - 0.05 * 4 * x)
    assert gaussian_error(Params.model_validate({"noise": False}), rng()) > 0.9  # all chains at one point


def test_the_area_under_the_curve_is_scikit_learns() -> None:
    low, high = torch.randn(300, generator=rng()), torch.randn(200, generator=rng(1)) + 0.8
    truth = [1] * 300 + [0] * 200
    reference = float(metrics.roc_auc_score(truth, (-torch.cat([low, high])).numpy()))
    assert auc(low, high) == pytest.approx(reference, abs=1e-6)


def test_starting_noise_fills_the_square() -> None:
    x = uniform(20_000, rng())
    assert x.abs().max() <= EDGE
    torch.testing.assert_close(x.std(dim=0), torch.full((2,), 2 * EDGE / math.sqrt(12)), rtol=0.02, atol=0)


def test_the_energy_depends_on_the_generator_alone() -> None:
    x = uniform(5, rng())
    assert torch.equal(EnergyNet(rng(3))(x), EnergyNet(rng(3))(x))
    assert not torch.equal(EnergyNet(rng(3))(x), EnergyNet(rng(4))(x))


def test_without_noise_neither_sampler_nor_density_is_right() -> None:
    broken = failed(result(steps=200, **Params.presets["no noise"].values))
    assert "On a Gaussian's energy the chain finds mean and deviation" in broken
    assert "exp(-E) / Z beats one Gaussian" in broken


def test_without_replay_the_energy_is_no_density() -> None:
    broken = failed(result(**Params.presets["no replay"].values))
    assert "exp(-E) / Z beats one Gaussian" in broken
