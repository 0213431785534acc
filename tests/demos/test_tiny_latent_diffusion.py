"""tiny-latent-diffusion against diffusers' sampler, and what a bad autoencoder and unknown words lead to."""

from typing import Any

import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from pydantic import ValidationError
from torch import nn

from demos.contract import Cell, Images, Lines, Result, no_tick
from demos.shared.ddpm import T
from demos.shared.shapes import draw_shapes
from demos.shared.words_to_shapes import ALPHA_BAR, WordUNet, tokenize
from demos.stable_diffusion.tiny_latent_diffusion import Params, run, sample, train_autoencoder, train_unet
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    outcome = result()
    assert_claims_hold_as_listed(outcome, "tiny-latent-diffusion")
    assert metric(outcome, "obeyed") == metric(outcome, "obeyed at scale 3")
    assert metric(outcome, "values denoised") == 64


def test_a_bad_autoencoder_spoils_what_comes_after_it() -> None:
    missed = failed(result(vae_steps=60, steps=50, sampling_steps=5))
    assert {"Shapes survive the autoencoder", "The decoder returns the picture"} <= set(missed)


def test_the_sampler_is_that_of_diffusers_with_a_negative_prompt() -> None:
    unet = WordUNet(4, 4, rng(), width=16)
    nn.init.normal_(unet.last.weight, std=0.1, generator=rng(1))
    z = torch.randn(2, 4, 4, 4, generator=rng(2))
    scheduler: Any = DDIMScheduler(num_train_timesteps=T, clip_sample=False, timestep_spacing="trailing")
    scheduler.alphas_cumprod = ALPHA_BAR[1:]  # the library counts from 0
    scheduler.set_timesteps(10)
    expected = z
    words, negative = unet.read(tokenize(["red disc left"] * 2)), unet.read(tokenize(["ring"] * 2))
    with torch.no_grad():
        for t in scheduler.timesteps.numpy().tolist():
            time = torch.full((2,), (t + 1) / T)
            eps_n, eps_c = unet(expected, time, negative), unet(expected, time, words)
            expected = scheduler.step(eps_n + 3.0 * (eps_c - eps_n), t, expected).prev_sample
    path = sample(unet, ["red disc left"] * 2, "ring", 3.0, z, 10)
    assert len(path) == 10
    torch.testing.assert_close(path[-1][0], expected, rtol=1e-4, atol=1e-4)


def test_latents_are_a_twelfth_of_the_pixels_and_have_deviation_one() -> None:
    vae, losses = train_autoencoder(60, rng(), no_tick)
    assert len(losses) == 60
    assert losses[-1] < losses[0]
    z, kl = vae.encode(draw_shapes(400, rng(1))[0], rng(2))
    assert z.shape == (400, 4, 4, 4)
    assert z.std() == pytest.approx(1, abs=0.05)
    assert kl.min() >= 0
    assert not any(weight.requires_grad for weight in vae.parameters())
    assert vae.decode(z).shape == (400, 3, 16, 16)


def test_the_second_stage_leaves_the_first_as_it_is() -> None:
    vae, _ = train_autoencoder(20, rng(), no_tick)
    before = [weight.clone() for weight in vae.parameters()]
    train_unet(vae, 20, 0.1, rng(1), no_tick)
    assert all(torch.equal(a, b) for a, b in zip(before, vae.parameters(), strict=True))


def test_the_view_leads_and_pixels_can_be_diffused_too() -> None:
    short = {"vae_steps": 20, "steps": 50, "sampling_steps": 2}
    first = result(**short, view="training").figures[0]
    assert isinstance(first, Lines)
    assert first.title == "First the autoencoder"
    outcome = result(**short, view="process", space="pixel")
    channels = outcome.figures[0]
    assert isinstance(channels, Images)
    assert (len(channels.pixels), len(channels.pixels[0][0])) == (3, 16)
    assert metric(outcome, "values denoised") == 768


def test_only_words_of_this_world_are_taken() -> None:
    with pytest.raises(ValidationError, match="no purple in this world"):
        Params.model_validate({"prompt": "purple disc"})
    with pytest.raises(ValidationError, match="at most 4 words"):
        Params.model_validate({"negative": "red disc left left left"})
