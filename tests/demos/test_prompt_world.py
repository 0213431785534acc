"""prompt-world against torch.distributions and diffusers' DDIM, and what scales of 0, 1 and 15 do."""

from typing import Any

import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from pydantic import ValidationError
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from demos.contract import Cell, Result
from demos.stable_diffusion.prompt_world import (
    ALPHA_BAR,
    CENTRES,
    CONCEPTS,
    STD,
    Params,
    draw_noise,
    exact_noise,
    guided_noise,
    meant,
    off_map,
    run,
    sample,
    share_in,
    words_of,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, failed


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "prompt-world")


@pytest.mark.parametrize("prompt", ["", "red", "left ring", "a blue disc on the right"])
@pytest.mark.parametrize("t", [1, 300, 1000])
def test_the_noise_prediction_is_the_score_that_torch_has_of_the_mixture(prompt: str, t: int) -> None:
    a = ALPHA_BAR[t]
    centres = torch.stack([CENTRES[n] for n, concept in enumerate(CONCEPTS) if words_of(prompt) <= concept])
    parts = MultivariateNormal(a.sqrt() * centres, (a * STD**2 + 1 - a) * torch.eye(2, dtype=torch.float64))
    law: Any = MixtureSameFamily(Categorical(torch.ones(len(centres), dtype=torch.float64)), parts)
    x = draw_noise(50, 3).requires_grad_()
    (score,) = torch.autograd.grad(law.log_prob(x).sum(), x)
    expected = -(1 - a).sqrt() * score
    torch.testing.assert_close(exact_noise(x.detach(), t, words_of(prompt)), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("steps", [5, 50])
def test_the_sampler_with_guidance_and_a_negative_prompt_is_that_of_diffusers(steps: int) -> None:
    scheduler: Any = DDIMScheduler(
        beta_start=1e-4, beta_end=0.02, timestep_spacing="trailing", clip_sample=False, set_alpha_to_one=True
    )
    scheduler.alphas_cumprod = ALPHA_BAR[1:]  # float64, so that only the updates are compared
    scheduler.set_timesteps(steps)
    x = draw_noise(20, 0)
    for t in scheduler.timesteps.numpy().tolist():
        uncond, cond = (exact_noise(x, t + 1, words_of(words)) for words in ("disc", "red"))  # as its pipeline does
        x = scheduler.step(uncond + 7.5 * (cond - uncond), t, x).prev_sample
    torch.testing.assert_close(sample(draw_noise(20, 0), ["red"], "disc", 7.5, steps), x, rtol=0, atol=1e-9)


def test_the_scale_counts_from_one_and_at_one_the_negative_prompt_drops_out() -> None:
    x = draw_noise(20, 1)
    e_c, e_u = exact_noise(x, 400, words_of("red")), exact_noise(x, 400, frozenset())
    w = 2.0  # as Ho and Salimans count
    torch.testing.assert_close(guided_noise(x, 400, ["red"], "", w + 1), (1 + w) * e_c - w * e_u, rtol=0, atol=1e-12)
    torch.testing.assert_close(guided_noise(x, 400, ["red"], "disc", 1.0), e_c, rtol=0, atol=1e-12)
    torch.testing.assert_close(guided_noise(x, 400, ["red"], "", 0.0), e_u, rtol=0, atol=1e-12)
    twice = guided_noise(x, 400, ["red", "red"], "", 1.0)  # one condition said twice is a scale of 2
    torch.testing.assert_close(twice, guided_noise(x, 400, ["red"], "", 2.0), rtol=0, atol=1e-12)


def test_a_negative_prompt_removes_its_concept_but_not_at_scale_one() -> None:
    shares = [share_in(sample(draw_noise(500, 2), ["red"], "disc", s, 20), words_of("disc")) for s in (1.0, 3.0)]
    assert 0.4 < shares[0] < 0.6
    assert shares[1] < 0.2
    assert failed(result(**Params.presets["scale 1"].values)) == ["A negative prompt lowers the share of what it names"]


def test_too_much_guidance_obeys_and_leaves_the_map() -> None:
    tame, burnt = (sample(draw_noise(500, 2), ["red disc"], "", s, 50) for s in (1.0, 15.0))
    assert share_in(burnt, words_of("red disc")) > 0.95
    assert off_map(burnt) > off_map(tame) + 0.1


def test_every_concept_has_a_place_and_words_that_mean_nothing_here_are_refused() -> None:
    assert len(set(CONCEPTS)) == len(CENTRES) == meant(frozenset()).sum() == 12
    assert meant(words_of("A red disc, on the left")).sum() == 1
    with pytest.raises(ValidationError, match="no square on the map"):
        Params.model_validate({"prompt": "red square"})
    with pytest.raises(ValidationError, match="nothing on the map is all of left, right"):
        Params.model_validate({"negative": "left right"})
