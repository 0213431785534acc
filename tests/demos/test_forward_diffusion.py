"""forward-diffusion against diffusers and scipy, and its failures where the mechanism is broken."""

from typing import Any

import pytest
import scipy.stats
import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

from demos.contract import Cell, Result
from demos.diffusion.forward_diffusion import (
    Params,
    draw_data,
    jump,
    ks_p_value,
    linear_betas,
    make_schedule,
    partial_correlation,
    run,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, rng


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "forward-diffusion")


@pytest.mark.parametrize(
    "params", [{"data": "moons"}, {"data": "point", "t": 1}, {"timesteps": 1000, "t": 1000}, {"schedule": "cosine"}]
)
def test_every_claim_holds_for_other_data_and_schedules(params: dict[str, Cell]) -> None:
    assert failed(result(**params)) == []


def test_without_shrinking_the_chain_is_neither_the_jump_nor_noise_in_the_end() -> None:
    assert failed(result(shrink=False)) == [
        "The chain has the mean and variance of the formula",
        "At T the chain is standard normal",
    ]


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("steps", [10, 200, 1000])
def test_the_jump_equals_diffusers_add_noise(schedule: str, steps: int) -> None:
    betas, _ = make_schedule(schedule, steps)
    alpha_bar = torch.cumprod(1 - betas, dim=0)
    settings: dict[str, Any] = {"trained_betas": betas.numpy()}
    if schedule == "cosine":
        settings = {"beta_schedule": "squaredcos_cap_v2"}
    elif steps == 1000:
        settings = {"beta_start": 1e-4, "beta_end": 0.02}  # the paper's, for which ours must need no scaling
    scheduler: Any = DDPMScheduler(num_train_timesteps=steps, **settings)
    x0, noise = torch.rand(1, 64, generator=rng()), torch.randn(1, 64, generator=rng(1))
    theirs: torch.Tensor = scheduler.alphas_cumprod
    torch.testing.assert_close(alpha_bar.float(), theirs, rtol=0, atol=5e-6)  # a product of float32 there
    for t in (1, steps // 2, steps):
        expected = scheduler.add_noise(x0, noise, torch.tensor([t - 1]))
        torch.testing.assert_close(jump(x0, theirs[t - 1], noise), expected, rtol=0, atol=1e-6)


def test_any_number_of_steps_ends_in_the_same_noise() -> None:
    ends = [torch.cumprod(1 - linear_betas(steps), 0)[-1].item() for steps in (100, 200, 1000)]
    assert max(ends) < 1e-4


def test_the_normality_test_equals_scipys() -> None:
    x = torch.randn(400, 12, generator=rng()) + torch.linspace(0, 0.2, 12)
    x = torch.cat([x, torch.rand(400, 1, generator=rng(1))], dim=1)
    expected = [float(scipy.stats.kstest(column.numpy(), "norm", method="asymp").pvalue) for column in x.double().T]
    assert ks_p_value(x).numpy().tolist() == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_the_partial_correlation_sees_a_memory_of_two_steps() -> None:
    a, first, second = torch.randn(3, 20_000, generator=rng())
    b = 0.9 * a + 0.4 * first
    assert abs(partial_correlation(a, b, 0.9 * b + 0.4 * second)) < 0.03
    assert partial_correlation(a, b, 0.5 * b + 0.5 * a + 0.4 * second) > 0.3


@pytest.mark.parametrize("name", ["digits", "moons", "point"])
def test_data_is_about_as_large_as_one_and_follows_the_seed(name: str) -> None:
    x0 = draw_data(name, 300, rng())
    assert x0.shape == (300, 64)
    assert 0.4 < x0.square().mean().sqrt() < 1.1
    assert torch.equal(x0, draw_data(name, 300, rng()))
