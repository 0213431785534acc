"""scheduler-zoo against diffusers step by step, autograd and POT, and what randomness breaks."""

from typing import Any

import ot
import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.schedulers.scheduling_pndm import PNDMScheduler
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from demos.contract import Cell, Lines, Result, Scatter
from demos.diffusion.scheduler_zoo import (
    ALPHA_BAR,
    WEIGHTS,
    Params,
    ddim_step,
    exact_noise,
    multistep,
    run,
    sample,
    times,
)
from demos.shared.plane import MODES, STD, draw_ring, sliced_distance
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, rng


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def start(n: int = 40) -> torch.Tensor:
    return torch.randn(n, 2, generator=rng(7), dtype=torch.float64)


def library(kind: Any, steps: int, **settings: Any) -> Any:
    scheduler = kind(beta_start=1e-4, beta_end=0.02, timestep_spacing="trailing", **settings)
    scheduler.alphas_cumprod = ALPHA_BAR[1:]  # float64, so that only the updates are compared
    scheduler.set_timesteps(steps)
    return scheduler


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "scheduler-zoo")


@pytest.mark.parametrize("steps", [4, 20, 100])
@pytest.mark.parametrize(("name", "eta"), [("ddpm", 0.0), ("ddim", 0.0), ("ddim", 0.6), ("pndm", 0.0)])
def test_every_cloud_on_the_way_is_that_of_diffusers(name: str, eta: float, steps: int) -> None:
    ours = sample(name, steps, start(), eta, rng(1))
    dice, x = rng(1), start()
    if name == "pndm":
        scheduler = library(PNDMScheduler, steps, skip_prk_steps=True, set_alpha_to_one=True)
    else:
        scheduler = library(DDPMScheduler if name == "ddpm" else DDIMScheduler, steps, clip_sample=False)
    clouds: list[torch.Tensor] = []
    for t in scheduler.timesteps.numpy().tolist():
        eps = exact_noise(x, t + 1)  # theirs counts steps from 0
        more = {"ddpm": {"generator": dice}, "ddim": {"eta": eta, "generator": dice}, "pndm": {}}[name]
        x = scheduler.step(eps, t, x, **more).prev_sample
        clouds.append(x)
    if name == "pndm":
        del clouds[0]  # after the first of the two passes of the first step
    torch.testing.assert_close(torch.stack(clouds), torch.stack(ours[1:]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("t", [1, 50, 400, 1000])
def test_the_exact_noise_is_the_gradient_of_the_density(t: int) -> None:
    a, x = ALPHA_BAR[t], start().requires_grad_()
    deviation = (a * STD**2 + 1 - a).sqrt().expand(8, 2)
    modes = Independent(Normal(a.sqrt() * MODES.double(), deviation), 1)
    density: Any = MixtureSameFamily(Categorical(torch.ones(8, dtype=torch.float64)), modes)
    (score,) = torch.autograd.grad(density.log_prob(x).sum(), x)
    torch.testing.assert_close(exact_noise(x.detach(), t), -(1 - a).sqrt() * score, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_the_multistep_weights_are_exact_for_polynomials_of_their_order(order: int) -> None:
    for power in range(order):  # the mean of u^power over the step ahead, from its values at u = 0, −1, −2 …
        history = [torch.tensor(float(-n) ** power if power else 1.0) for n in range(order)]
        assert multistep(history).item() == pytest.approx(1 / (power + 1), abs=1e-6)
    assert len(WEIGHTS[order]) == order


def test_times_fall_from_the_noise_to_the_data() -> None:
    for steps in (2, 7, 50, 1000):
        visited = times(steps)
        assert (visited[0], visited[-1], len(visited)) == (1000, 0, steps + 1)
        assert visited == sorted(set(visited), reverse=True)


def test_a_step_to_time_zero_ends_on_the_predicted_data() -> None:
    x0, eps = torch.randn(2, 30, 2, generator=rng(), dtype=torch.float64)
    x = ALPHA_BAR[300].sqrt() * x0 + (1 - ALPHA_BAR[300]).sqrt() * eps
    torch.testing.assert_close(ddim_step(x, eps, 300, 0, eps, 0.0), x0)


def test_with_its_randomness_back_ddim_neither_repeats_nor_follows_the_path() -> None:
    broken = failed(result(**Params.presets["random ddim"].values))
    assert broken[:2] == [
        "DDIM repeats exactly",
        "DDIM is of first order, its path error about halves from 50 to 100 passes",
    ]


def test_the_scheduler_asked_for_is_shown_and_has_its_table() -> None:
    outcome = result(scheduler="pndm", passes=4)
    distances, paths = outcome.figures[0], outcome.figures[2]
    assert isinstance(distances, Lines)
    assert list(distances.series) == ["pndm", "data"]
    assert isinstance(paths, Scatter)
    assert list(paths.series) == ["start", "pndm", "end"]
    assert [row[-1] for row in outcome.tables[0].rows] == [
        "mean of both ends", "1.5 -0.5", "1.92 -1.33 0.417", "2.29 -2.46 1.54 -0.375",
    ]  # fmt: skip


def test_the_sliced_distance_is_that_of_pot() -> None:
    x, y = draw_ring(500, rng()), 0.5 + draw_ring(500, rng(1))
    reference = ot.sliced_wasserstein_distance(x.numpy(), y.numpy(), n_projections=2_000, p=2, seed=0)
    assert sliced_distance(x, y) == pytest.approx(reference, rel=0.05)
