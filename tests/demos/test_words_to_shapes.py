"""The shared denoiser against diffusers: its attention, its loss, its guided sampler, and what it needs to draw."""

from typing import Any

import pytest
import torch
from diffusers.models.attention_processor import Attention
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import nn

from demos.contract import no_tick
from demos.shared.ddpm import T
from demos.shared.shapes import CAPTIONS, LABELS
from demos.shared.words_to_shapes import (
    ALPHA_BAR,
    DROPPED,
    LENGTH,
    CrossAttention,
    D,
    WordUNet,
    drop,
    noise_loss,
    sample,
    tokenize,
    train_words,
)
from tests.demos.outcomes import rng


def library_scheduler(**settings: Any) -> Any:
    scheduler: Any = DDIMScheduler(num_train_timesteps=T, clip_sample=True, **settings)
    scheduler.alphas_cumprod = ALPHA_BAR[1:]  # the library counts from 0
    return scheduler


@pytest.mark.parametrize("heads", [1, 4])
def test_the_attention_is_that_of_diffusers(heads: int) -> None:
    ours = CrossAttention(32, heads)
    theirs: Any = Attention(32, cross_attention_dim=D, heads=heads, dim_head=32 // heads)
    for name, weight in ours.named_parameters():
        nn.init.normal_(weight, std=0.3, generator=rng(len(name)))
    weights = ours.state_dict()
    names = {"to_out.weight": "to_out.0.weight", "to_out.bias": "to_out.0.bias"}
    theirs.load_state_dict({names.get(key, key): of for key, of in weights.items() if not key.startswith("norm")})
    x, words = torch.randn(3, 32, 4, 4, generator=rng()), torch.randn(3, LENGTH, D, generator=rng(1))
    expected = x + theirs(ours.norm(x).flatten(2).mT, encoder_hidden_states=words).mT.view(x.shape)
    torch.testing.assert_close(ours(x, words), expected, rtol=1e-5, atol=1e-5)


def test_the_loss_is_the_error_of_the_noise_that_the_library_adds() -> None:
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    model = WordUNet(3, 8, rng())
    model.register_forward_pre_hook(lambda _, given: seen.append((given[0], given[1])))
    x = torch.randn(16, 3, 8, 8, generator=rng(1)).clamp(-1, 1)
    loss = noise_loss(model, x, model.read(tokenize(["red disc left"] * 16)), rng(2))
    dice = rng(2)
    t, eps = torch.randint(1, T + 1, (16,), generator=dice), torch.randn(x.shape, generator=dice)
    x_t, share = seen[0]
    torch.testing.assert_close(x_t, library_scheduler().add_noise(x, eps, t - 1), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(share, t / T)
    v = library_scheduler().get_velocity(x, eps, t - 1)  # an untrained model predicts v = 0
    torch.testing.assert_close(loss, v.square().mean(), rtol=1e-3, atol=1e-4)


def test_the_sampler_is_that_of_diffusers_with_guidance() -> None:
    model = WordUNet(3, 8, rng())
    nn.init.normal_(model.last.weight, std=0.1, generator=rng(1))
    x, words = torch.randn(4, 3, 8, 8, generator=rng(2)), model.read(tokenize(CAPTIONS[:4])).detach()
    empty = model.read(tokenize([""] * 4))
    scheduler = library_scheduler(timestep_spacing="trailing", set_alpha_to_one=True)
    scheduler.set_timesteps(10)
    expected = x
    with torch.no_grad():
        for t in scheduler.timesteps.numpy().tolist():
            time = torch.full((4,), (t + 1) / T)
            eps_0, eps_c = model(expected, time, empty), model(expected, time, words)
            eps = eps_0 + 3.0 * (eps_c - eps_0)
            expected = scheduler.step(eps, t, expected, use_clipped_model_output=True).prev_sample
    torch.testing.assert_close(sample(model, words, x, scale=3.0, passes=10), expected, rtol=1e-4, atol=1e-4)


def test_captions_become_numbers_and_some_are_emptied() -> None:
    ids = tokenize(["red disc left", "sks", ""])
    assert ids.shape == (3, LENGTH)
    assert (ids[2] == 0).all()
    assert ids[0, 3] == 0
    assert len(set(ids[0].numpy().tolist())) == 4
    with pytest.raises(ValueError, match="purple"):
        tokenize(["purple disc"])
    emptied = (drop(tokenize(["red disc left"] * 4_000), rng()) == 0).all(dim=1).float().mean()
    assert emptied == pytest.approx(DROPPED, abs=0.02)


def test_training_lowers_the_loss_and_repeats() -> None:
    (model, losses), (again, _) = (train_words(60, rng(), no_tick) for _ in range(2))
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])
    weights = zip(model.parameters(), again.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in weights)
    assert len(LABELS) == len(CAPTIONS)
