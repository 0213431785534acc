"""unclip-prior against diffusers' DDIM, transformers' CLIP loss and torch's mixture, and a prior without captions."""

import math
from typing import Any

import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from pydantic import ValidationError
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal
from transformers.models.clip import modeling_clip

from demos.contract import Cell, Result, no_tick
from demos.diffusion.unclip_prior import (
    ALPHA_BAR,
    BLUR,
    CLIP,
    NAMES,
    SURE,
    D,
    Params,
    Prior,
    contrastive_loss,
    decode,
    nearest,
    run,
    sample_prior,
    train_prior,
)
from demos.shared.ddpm import T
from demos.shared.shapes import draw_shapes
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def unit(n: int, seed: int = 0) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(n, D, generator=rng(seed)), dim=1)


def test_every_claim_holds_at_the_defaults() -> None:
    outcome = result()
    assert_claims_hold_as_listed(outcome, "unclip-prior")
    assert metric(outcome, "variety of your route") < metric(outcome, "variety of real pictures")


def test_at_scale_zero_the_prior_does_not_hear_the_caption() -> None:
    outcome = result(guidance=0.0, steps=200)
    assert "Pictures from the prior obey the words" in failed(outcome)
    assert metric(outcome, "obeyed") < 0.3


def test_the_prior_samples_as_diffusers_does_when_the_sample_is_predicted() -> None:
    prior = Prior(rng())
    text, z = unit(5), torch.randn(5, D, generator=rng(1))
    scheduler: Any = DDIMScheduler(
        num_train_timesteps=T, prediction_type="sample", clip_sample=False, timestep_spacing="trailing"
    )
    scheduler.alphas_cumprod = ALPHA_BAR[1:]  # the library counts from 0
    scheduler.set_timesteps(25)
    expected = z
    with torch.no_grad():
        for t in scheduler.timesteps.numpy().tolist():
            time = torch.full((5,), (t + 1) / T)
            free, told = prior(expected, time, torch.zeros_like(text)), prior(expected, time, text)
            expected = scheduler.step(free + 3.0 * (told - free), t, expected).prev_sample
    sampled = sample_prior(prior, text, z, 3.0)
    torch.testing.assert_close(sampled, torch.nn.functional.normalize(expected, dim=1), rtol=1e-4, atol=1e-4)


def test_the_contrastive_loss_is_that_of_transformers() -> None:
    images, texts = unit(12), unit(12, seed=1)
    expected = modeling_clip.image_text_contrastive_loss(9.0 * texts @ images.T)
    torch.testing.assert_close(contrastive_loss(images, texts, torch.tensor(9.0)), expected, rtol=0, atol=1e-5)


def test_the_prior_learns_which_embeddings_a_caption_may_have() -> None:
    texts = unit(2)[torch.arange(400) % 2]
    images = torch.nn.functional.normalize(-texts + 0.1 * torch.randn(400, D, generator=rng(1)), dim=1)
    prior, losses = train_prior(images, texts, 150, rng(2), no_tick)
    assert losses[-1] < 0.5 * losses[0]
    sampled = sample_prior(prior, texts[:50], torch.randn(50, D, generator=rng(3)), 1.0)
    assert (sampled * images[:50]).sum(dim=1).mean() > 0.8
    assert (sampled * texts[:50]).sum(dim=1).mean() < -0.8


def test_the_decoders_first_step_follows_the_score_that_torch_has_of_the_mixture() -> None:
    kept, _ = draw_shapes(40, rng(), 8)
    embedded, e, x = unit(40), unit(3, seed=1), torch.randn(3, 3, 8, 8, generator=rng(2))
    a = ALPHA_BAR[T]
    scores = list[torch.Tensor]()
    for of, each in zip(e, x, strict=True):
        part = Independent(Normal(a.sqrt() * kept.flatten(1), (a * BLUR**2 + 1 - a).sqrt()), 1)
        law: Any = MixtureSameFamily(Categorical(logits=SURE * embedded @ of), part)
        leaf = each.flatten().clone().requires_grad_()
        scores.append(torch.autograd.grad(law.log_prob(leaf), leaf)[0])
    eps = -(1 - a).sqrt() * torch.stack(scores).view(x.shape)
    expected = ((x - (1 - a).sqrt() * eps) / a.sqrt()).clamp(-1, 1)  # one pass goes straight to x_0
    torch.testing.assert_close(decode(e, kept, embedded, x, passes=1), expected, rtol=0, atol=2e-2)


def test_a_kept_picture_comes_back_from_its_own_embedding() -> None:
    kept, _ = draw_shapes(40, rng(), 8)
    embedded = unit(40)
    made = decode(embedded[:5], kept, embedded, torch.randn(5, 3, 8, 8, generator=rng(1)))
    assert (made - kept[:5]).abs().mean() < 0.1


def test_embeddings_have_length_one_and_captions_are_sums_of_two_words() -> None:
    clip = CLIP(rng())
    x, _ = draw_shapes(10, rng(1), 8)
    torch.testing.assert_close(clip.encode_images(x).square().sum(dim=1), torch.ones(10))
    raw = clip.colour.weight[1] + clip.shape.weight[2]
    torch.testing.assert_close(
        clip.encode_texts(torch.tensor([NAMES.index("green cross")]))[0], raw / raw.square().sum().sqrt()
    )
    assert nearest(torch.zeros(1, 2), torch.tensor([[3.0, 4.0], [6.0, 8.0]])).item() == pytest.approx(5)
    assert math.isclose(clip.log_scale.exp().item(), 1 / 0.07, rel_tol=1e-5)


def test_only_captions_of_this_world_are_taken() -> None:
    with pytest.raises(ValidationError, match="one of red disc"):
        Params.model_validate({"prompt": "disc red"})
