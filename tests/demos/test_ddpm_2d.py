"""ddpm-2d against diffusers and autograd, and what training at one noise level or hardly at all leaves out."""

from typing import Any

import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from demos.contract import Cell, Result, Scatter
from demos.diffusion.ddpm_2d import (
    STD,
    Network,
    Params,
    best_noise,
    centres,
    draw,
    jump,
    make_schedule,
    run,
    sample,
    shares,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, rng


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "ddpm-2d")


@pytest.mark.parametrize("passes", [100, 20, 10])
@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
def test_every_cloud_on_the_way_is_that_of_diffusers(sampler: str, passes: int) -> None:
    network, alpha_bar = Network(rng()), make_schedule(100)
    _, clouds, _ = sample(network, alpha_bar, sampler, passes, rng(1))
    kind: Any = DDPMScheduler if sampler == "ddpm" else DDIMScheduler
    theirs = kind(
        num_train_timesteps=100, beta_start=1e-3, beta_end=0.1, clip_sample=False, timestep_spacing="trailing"
    )
    torch.testing.assert_close(theirs.alphas_cumprod, alpha_bar[1:], rtol=1e-5, atol=0)
    theirs.set_timesteps(passes)
    dice = rng(1)
    torch.randn(clouds[0].shape, generator=dice)  # the start
    ends: list[torch.Tensor] = []
    for t, x in zip(theirs.timesteps.numpy().tolist(), clouds, strict=False):
        with torch.no_grad():
            eps = network(x, torch.full((len(x),), (t + 1) / 100))
        stepped: Any = theirs.step(eps, t, x, generator=dice)
        ends.append(stepped.prev_sample)
    # float32, and without training points run off to about 70: compared relative to that
    torch.testing.assert_close(torch.stack(ends), torch.stack(clouds[1:]), rtol=3e-6, atol=1e-5)


@pytest.mark.parametrize("name", ["ring", "moons", "swissroll"])
def test_the_best_noise_is_the_gradient_of_the_noisy_density(name: str) -> None:
    data, a = centres(name), torch.tensor(0.6)
    x = torch.randn(50, 2, generator=rng()).requires_grad_()
    modes = Independent(Normal(a.sqrt() * data, (a * STD**2 + 1 - a).sqrt().expand(len(data), 2)), 1)
    density: Any = MixtureSameFamily(Categorical(torch.ones(len(data))), modes)
    (score,) = torch.autograd.grad(density.log_prob(x).sum(), x)
    torch.testing.assert_close(best_noise(x.detach(), a.expand(50), data), -(1 - a).sqrt() * score, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["ring", "moons", "swissroll"])
def test_data_have_about_unit_size_and_count_as_near_their_centres(name: str) -> None:
    x = draw(centres(name), 20_000, rng())
    assert 0.6 < x.square().mean().sqrt() < 1.3
    eighths = shares(x, centres(name))
    assert eighths.sum() > 0.98  # P(|N(0, I)| < 3) = 0.989 and more where centres are close
    torch.testing.assert_close(eighths, torch.full((8,), 1 / 8), rtol=0, atol=0.02)


def test_the_jump_has_the_variance_of_the_formula() -> None:
    x0, eps = torch.zeros(50_000, 2), torch.randn(50_000, 2, generator=rng())
    x = jump(x0 + 1, eps, torch.tensor(0.3).expand(50_000))
    assert x.mean().item() == pytest.approx(0.3**0.5, abs=0.01)
    assert x.var().item() == pytest.approx(0.7, rel=0.02)


def test_training_at_one_noise_level_fails_and_says_so() -> None:
    broken = failed(result(steps=600, **Params.presets["one noise level"].values))
    assert broken == [
        "All eight modes are hit",
        "Most samples lie within three deviations of a mode",
        "The loss is far below that of predicting zero, which is 1",
        "The network comes near E[ε | x_t], known exactly here",
    ]


def test_the_same_seed_repeats_the_run_and_a_hardly_trained_network_misses_the_modes() -> None:
    first, again, other = (result(steps=100, seed=seed, timesteps=50) for seed in (0, 0, 1))
    assert first == again
    assert first != other
    assert "Most samples lie within three deviations of a mode" in failed(first)
    clouds, walkers = first.figures[0], first.figures[1]
    assert isinstance(clouds, Scatter)
    assert isinstance(walkers, Scatter)
    assert list(clouds.series) == ["t = 50", "t = 40", "t = 30", "t = 20", "t = 10", "t = 0"]
    assert len(walkers.series["point 1"]) == 51  # every frame of every point
