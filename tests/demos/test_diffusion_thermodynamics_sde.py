"""diffusion-thermodynamics-sde against torch.distributions and scipy, and its ways back that fail."""

from typing import Any

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, Normal

from demos.contract import Cell, Lines, Result
from demos.diffusion.diffusion_thermodynamics_sde import (
    CENTRE,
    GRID,
    SHARE,
    STD,
    Params,
    along_ode,
    alpha,
    distance_to_law,
    flow,
    log_p,
    non_gaussian,
    run,
    score,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng

RETURN = [
    "The reverse SDE returns the mixture",
    "So does the ODE",
    "Both pass the same densities",
    "The ODE gives the exact log-density",
]


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def mixture(t: float, beta: float) -> Any:
    a = float(np.exp(-0.5 * beta * t))
    deviation = (a * a * STD**2 + 1 - a * a) ** 0.5
    return MixtureSameFamily(Categorical(SHARE.double()), Normal(a * CENTRE.double(), deviation * torch.ones(2)))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "diffusion-thermodynamics-sde")


@pytest.mark.parametrize("t", [0.0, 0.1, 0.7])
def test_density_and_score_are_those_of_torchs_mixture(t: float) -> None:
    leaf = torch.linspace(-3, 3, 101, dtype=torch.float64).requires_grad_()
    log_prob: Tensor = mixture(t, 8.0).log_prob(leaf)
    (slope,) = torch.autograd.grad(log_prob.sum(), leaf)
    x = leaf.detach()
    torch.testing.assert_close(log_p(x, t, 8.0), log_prob.detach(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(score(x, t, 8.0), slope, rtol=1e-4, atol=1e-4)


def test_the_flow_ends_where_scipy_ends() -> None:
    noise = np.linspace(-2.5, 2.5, 11)

    def slope(t: float, x: Any) -> Any:
        return flow(torch.tensor(x), t, 8.0).numpy()

    exact: Any = scipy.integrate.solve_ivp(slope, (1.0, 0.0), noise, rtol=1e-8, atol=1e-10)
    times = [(1 - n / 500) ** 2 for n in range(501)]
    ours = along_ode(torch.tensor(noise), times, 8.0)[-1]
    torch.testing.assert_close(ours, torch.tensor(exact.y[:, -1]), rtol=0, atol=1e-3)


def test_the_drift_and_noise_of_the_relaxation_make_its_density() -> None:
    x = CENTRE[torch.multinomial(SHARE, 20_000, replacement=True, generator=rng())]
    x = x + STD * torch.randn(20_000, generator=rng(1))
    dice = rng(2)
    for _ in range(200):  # Euler–Maruyama forward in time, to t = 0.2
        x = x - 0.5 * 8 * x * 0.001 + (8 * 0.001) ** 0.5 * torch.randn(20_000, generator=dice)
    assert distance_to_law(x, 0.2, 8.0) < 0.03
    assert distance_to_law(x, 0.1, 8.0) > 0.1
    assert alpha(0.2, 8.0).item() == pytest.approx(np.exp(-0.8))


def test_the_distance_is_scipys() -> None:
    x, y = 2 * torch.rand(500, generator=rng()) - 1, GRID
    ours = distance_to_law(x, 0.3, 8.0)
    law = log_p(y.double(), 0.3, 8.0).exp()
    assert ours == pytest.approx(scipy.stats.wasserstein_distance(x, y, v_weights=law), abs=0.005)
    far = distance_to_law(x + 50, 0.3, 8.0)
    assert far == pytest.approx(scipy.stats.wasserstein_distance(x + 50, y, v_weights=law), abs=0.005)


def test_a_step_back_gets_gaussian_in_proportion_to_its_length() -> None:
    fine, finer = non_gaussian(200, 8.0), non_gaussian(400, 8.0)
    assert fine / finer == pytest.approx(2, rel=0.1)


@pytest.mark.parametrize("name", ["no score", "half the score", "ten steps"])
def test_a_broken_way_back_misses_the_data(name: str) -> None:
    broken = failed(result(**Params.presets[name].values))
    assert set(RETURN) <= set(broken)
    assert "KL to N(0, 1) falls at every step of the relaxation" not in broken
    assert ("The ODE is a map, there and back" in broken) == (name == "ten steps")


def test_a_relaxation_stopped_early_starts_the_way_back_from_the_wrong_law() -> None:
    outcome = result(**Params.presets["stopped early"].values)
    assert failed(outcome) == [
        "At t = 1 nothing of the data is left",
        *RETURN,
        "The SDE forgets its start",
        "A long one is not",
    ]
    assert metric(outcome, "KL to equilibrium at t = 1") > 0.05


@pytest.mark.parametrize(("solver", "paths"), [("sde", 1), ("ode", 1), ("both", 2)])
def test_the_solver_chooses_what_is_drawn_and_all_is_measured(solver: str, paths: int) -> None:
    outcome = result(solver=solver, steps=20)
    drawn = [figure for figure in outcome.figures if isinstance(figure, Lines) and "paths" in figure.title]
    assert len(drawn) == paths
    assert metric(outcome, "likelihood_error") > 0
    assert outcome == result(solver=solver, steps=20)
