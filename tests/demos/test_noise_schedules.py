"""noise-schedules against diffusers, autograd and least squares, and its failures where the ends differ."""

from typing import Any

import numpy as np
import pytest
import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

from demos.contract import Cell, Images, Lines, Result
from demos.diffusion.noise_schedules import (
    Gamma,
    Params,
    cosine_betas,
    gamma_of,
    linear_betas,
    noise_error,
    run,
    table_at,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, rng


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "noise-schedules")


@pytest.mark.parametrize("steps", [50, 200, 1000])
def test_both_tables_are_those_of_diffusers(steps: int) -> None:
    scale = 1000 / steps  # ours ends in the same noise for every T; diffusers has the paper's for T = 1000
    linear: Any = DDPMScheduler(num_train_timesteps=steps, beta_start=1e-4 * scale, beta_end=0.02 * scale)
    cosine: Any = DDPMScheduler(num_train_timesteps=steps, beta_schedule="squaredcos_cap_v2")
    torch.testing.assert_close(linear_betas(steps).float(), linear.betas, rtol=0, atol=1e-7)
    torch.testing.assert_close(cosine_betas(steps).float(), cosine.betas, rtol=0, atol=1e-7)
    alpha_bar = torch.sigmoid(-gamma_of(linear_betas(steps)))
    torch.testing.assert_close(alpha_bar.float(), linear.alphas_cumprod, rtol=0, atol=5e-6)


def test_the_network_keeps_its_ends_rises_and_knows_its_slope() -> None:
    gamma = Gamma(-9.0, 10.0, rng()).double()
    with torch.no_grad():
        for weight in gamma.parameters():
            weight += torch.randn(weight.shape, generator=rng(1))  # any weights, not those of the start
    t = torch.linspace(0, 1, 101, dtype=torch.float64, requires_grad=True)
    value, slope = gamma(t)
    (expected,) = torch.autograd.grad(value.sum(), t)
    torch.testing.assert_close(slope, expected, rtol=1e-9, atol=0)
    assert slope.min() > 0
    assert value[0].item() == pytest.approx(-9)
    assert value[-1].item() == pytest.approx(10)


@pytest.mark.parametrize("gamma", [-3.0, 0.0, 4.0])
def test_no_other_linear_denoiser_beats_the_wiener_filter(gamma: float) -> None:
    spectrum = torch.tensor([4.0, 1.0, 0.2], dtype=torch.float64)
    x = spectrum.sqrt() * torch.randn(50_000, 3, generator=rng(), dtype=torch.float64)
    eps = torch.randn(x.shape, generator=rng(1), dtype=torch.float64)
    g = torch.tensor(gamma, dtype=torch.float64)
    z = torch.sigmoid(-g).sqrt() * x + torch.sigmoid(g).sqrt() * eps
    fitted = z @ torch.tensor(np.linalg.lstsq(z.numpy(), eps.numpy())[0])  # least squares knows nothing of λ, α or σ
    best = (eps - fitted).square().sum(1).mean().item()
    ours = noise_error(g.expand(len(x)), x, eps, spectrum).mean().item()
    assert best <= ours <= best * 1.0005


def test_the_table_is_read_with_straight_lines() -> None:
    table = torch.tensor([0.0, 1.0, 3.0])
    value, slope = table_at(table, torch.tensor([0.0, 0.25, 0.75]))
    assert value.numpy().tolist() == [0.0, 0.5, 2.0]
    assert slope.numpy().tolist() == [2.0, 2.0, 4.0]


def test_with_ends_of_their_own_the_schedules_have_different_bounds() -> None:
    assert failed(result(**Params.presets["own ends"].values)) == [
        "With equal SNR at both ends the bound is the same for all schedules",
        "It is the information that the noise takes away, in closed form",
    ]


def test_a_schedule_hardly_trained_is_not_the_best_yet_but_has_the_same_bound() -> None:
    assert failed(result(**Params.presets["hardly trained"].values))[-1:] == ["It comes near the best of all schedules"]


def test_figures_show_the_schedule_asked_for_and_numbers_do_not_depend_on_it() -> None:
    one, every = (result(schedule=name, timesteps=100, steps=50) for name in ("cosine", "all"))
    assert one.metrics == every.metrics
    signal, strip = one.figures[0], every.figures[2]
    assert isinstance(signal, Lines)
    assert list(signal.series) == ["cosine"]
    assert isinstance(strip, Images)
    assert torch.tensor(strip.pixels).shape == (3, 11, 8, 8)
