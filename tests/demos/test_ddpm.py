"""The shared diffusion recipe against diffusers and closed forms."""

import itertools
from typing import Any

import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from torch import nn

from demos.shared.ddpm import EMA, T, jump, make_schedule, noise_of, step_back, train, velocity, visits
from tests.demos.outcomes import rng

SCHEDULE: dict[str, Any] = {"num_train_timesteps": T, "beta_start": 0.1 / T, "beta_end": 20 / T, "clip_sample": True}


def test_the_schedule_is_hos_at_a_thousand_levels_and_about_the_same_at_others() -> None:
    theirs = DDPMScheduler(num_train_timesteps=1000)  # diffusers' defaults are Ho's
    torch.testing.assert_close(make_schedule(1000)[1:], theirs.alphas_cumprod, rtol=1e-4, atol=0)
    torch.testing.assert_close(make_schedule(T)[1:], DDPMScheduler(**SCHEDULE).alphas_cumprod, rtol=1e-4, atol=0)
    assert make_schedule(T)[0] == 1
    assert make_schedule(T)[-1] < 1e-4
    assert make_schedule(T)[T // 2].item() == pytest.approx(make_schedule(1000)[500].item(), abs=0.01)


def test_the_jump_is_diffusers_add_noise() -> None:
    x0, eps = torch.rand(5, 1, 8, 8, generator=rng()), torch.randn(5, 1, 8, 8, generator=rng(1))
    t = torch.tensor([1, 2, 50, 150, T])
    theirs: Any = DDPMScheduler(**SCHEDULE)
    torch.testing.assert_close(jump(x0, eps, make_schedule()[t]), theirs.add_noise(x0, eps, t - 1), rtol=0, atol=1e-5)
    assert torch.equal(jump(x0[:, 0, 0], eps[:, 0, 0], torch.tensor(1.0)), x0[:, 0, 0])  # of any shape; ᾱ = 1: no noise


def test_the_velocity_is_diffusers_and_gives_the_noise_back() -> None:
    x0, eps = torch.rand(5, 1, 8, 8, generator=rng()), torch.randn(5, 1, 8, 8, generator=rng(1))
    t = torch.tensor([1, 2, 50, 150, T])
    a = make_schedule()[t]
    theirs: Any = DDPMScheduler(**SCHEDULE)
    v = theirs.get_velocity(x0, eps, t - 1)
    torch.testing.assert_close(velocity(x0, eps, a), v, rtol=0, atol=1e-5)
    torch.testing.assert_close(noise_of(jump(x0, eps, a), v, a), eps, rtol=0, atol=1e-5)


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("passes", [T, 20])
def test_every_step_is_diffusers(passes: int, eta: float) -> None:
    alpha_bar = make_schedule()
    theirs: Any = DDIMScheduler(**SCHEDULE, timestep_spacing="trailing")
    theirs.set_timesteps(passes)
    x = torch.randn(4, 1, 8, 8, generator=rng())
    for number, (t, s) in enumerate(visits(T, passes)):
        assert t == theirs.timesteps[number] + 1  # they count from 0
        eps, noise = (torch.randn(x.shape, generator=rng(2 * number + n)) for n in (0, 1))
        ours = step_back(x, eps, alpha_bar[t], alpha_bar[s], noise if eta else None)
        stepped = theirs.step(eps, t - 1, x, eta=eta, use_clipped_model_output=True, variance_noise=noise)
        torch.testing.assert_close(ours, stepped.prev_sample, rtol=0, atol=2e-5)
        x = ours
    assert x.abs().max() <= 1.00001


@pytest.mark.parametrize(("start", "passes"), [(T, 7), (30, 30), (3, 50), (100, 1)])
def test_visits_go_down_to_zero_without_a_gap(start: int, passes: int) -> None:
    pairs = visits(start, passes)
    assert pairs[0][0] == start
    assert pairs[-1][1] == 0
    assert len(pairs) == min(start, passes)
    assert all(t > s for t, s in pairs)
    assert all(one[1] == two[0] for one, two in itertools.pairwise(pairs))


def test_training_descends_and_ends_with_the_averaged_weights() -> None:
    net = nn.Linear(4, 1)
    nn.init.normal_(net.weight, generator=rng())
    seen = [net.weight.detach().clone()]  # the start, then as each step finds it
    x = torch.randn(256, 4, generator=rng(1))

    def draw_loss() -> torch.Tensor:
        seen.append(net.weight.detach().clone())
        return (net(x) - x.sum(dim=1, keepdim=True)).square().mean()

    def note(fraction: float, message: str, **live: float) -> None:
        assert message.startswith("training step")
        assert live["loss"] > 0
        if fraction == 1:
            seen.append(net.weight.detach().clone())  # what the last step left

    losses = train(net, draw_loss, 300, note)
    assert losses[-1] < 0.5 * losses[0]
    mean = seen[0]
    for weight in seen[2:]:
        mean = EMA * mean + (1 - EMA) * weight
    torch.testing.assert_close(net.weight.detach(), mean, rtol=0, atol=1e-5)
    assert (net.weight - seen[-1]).abs().max() > 1e-3
