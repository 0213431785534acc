"""Generation settings in a world with known answers

Question: What do steps, guidance scale, negative prompt and seed change when the exact noise prediction is known?
Source: Ho, Salimans 2022, arXiv:2207.12598, eq. (6), in Stable Diffusion's count of the scale (s = 1 + w); two
  conditions: Liu et al. 2022, arXiv:2206.01714, eq. (11); sampler: Song, Meng, Ermon 2020, arXiv:2010.02502, eq. (12).
Watch: twelve concepts on a map, and where the samples of a prompt fall. The network is exact, so that whatever a
  setting changes is the setting's own doing. At scale 1 a negative prompt drops out of the formula.
"""

import itertools
import math
import re
from collections.abc import Mapping
from typing import ClassVar

import torch
from pydantic import Field, field_validator
from torch import Tensor
from torch.distributions import Normal

from demos.contract import Claim, DemoParams, Lines, Metric, Preset, Result, Scatter, Table, Tick, no_tick
from demos.shared.plane import sliced_distance

COLOURS, PLACES, SHAPES = ["red", "green", "blue"], ["left", "right"], ["disc", "ring"]
CONCEPTS = [frozenset(words) for words in itertools.product(COLOURS, PLACES, SHAPES)]  # twelve, three words each
CENTRES = torch.tensor(  # (12, 2): a row of the map for each colour, left and right halves, in each disc beside ring
    [[x, y] for y in (1.0, 0.0, -1.0) for x in (-1.5, -0.5, 0.5, 1.5)], dtype=torch.float64
)
STD = 0.35  # of each concept, so that neighbours overlap: a prompt's own pictures are not all told right
T = 1000
BETAS = torch.linspace(1e-4, 0.02, T, dtype=torch.float64)
ALPHA_BAR = torch.cat([torch.ones(1, dtype=torch.float64), torch.cumprod(1 - BETAS, dim=0)])  # (T + 1,), ᾱ_0 = 1
POINTS, SCALES, STEPS = 2_000, [0.0, 1.0, 2.0, 3.0, 5.0, 7.0, 10.0, 15.0], [5, 10, 20, 50, 100, 200]  # of the sweeps
UNSAID = {"a", "an", "the", "on", "in", "and"}  # words that say nothing in this world


def words_of(prompt: str) -> frozenset[str]:
    """The words of a prompt that mean something here."""
    return frozenset(re.findall(r"\w+", prompt.lower())) - UNSAID


def meant(words: frozenset[str]) -> Tensor:
    """Which concepts have all of these words, (12,) bool; no words mean all of them."""
    return torch.tensor([words <= concept for concept in CONCEPTS])


class Params(DemoParams):
    prompt: str = Field("red disc", max_length=100, description="Prompt: a colour, shape or place of the map, or more")
    negative: str = Field("", max_length=100, description="Negative prompt")
    second: str = Field("", max_length=100, description="Second condition combined with the first")
    guidance: float = Field(3.0, ge=0.0, le=15.0, description="Scale s: 0 ignores the prompt, 1 is no guidance")
    steps: int = Field(50, ge=2, le=200, description="Sampling steps")
    batch: int = Field(256, ge=16, le=2000, description="Images")
    seed: int = Field(0, ge=0, le=9999, description="Seed of the starting noise")

    presets: ClassVar[Mapping[str, Preset]] = {
        "scale 1": Preset(
            "ε_n + 1 · (ε_c − ε_n) = ε_c: the negative prompt has no effect",
            {"guidance": 1.0, "prompt": "red", "negative": "disc"},
        ),
        "negative": Preset("Name what you do not want", {"prompt": "red", "negative": "disc"}),
        "two conditions": Preset("Each adds its own difference", {"prompt": "red disc", "second": "left"}),
        "burnt": Preset("All obey, and most are like nothing on the map", {"guidance": 15.0}),
        "two steps": Preset("Too few: samples stop short of the concepts", {"steps": 2}),
    }

    @field_validator("prompt", "negative", "second")
    @classmethod
    def _is_in_the_world(cls, prompt: str) -> str:
        words = words_of(prompt)
        if unknown := words - frozenset[str]().union(*CONCEPTS):
            raise ValueError(
                f"no {', '.join(sorted(unknown))} on the map; it has {', '.join(COLOURS + SHAPES + PLACES)}"
            )
        if not meant(words).any():
            raise ValueError(f"nothing on the map is all of {', '.join(sorted(words))}")
        return prompt


def exact_noise(x: Tensor, t: int, words: frozenset[str]) -> Tensor:
    """E[ε | x_t, words] = −√(1 − ᾱ_t) ∇ log q(x_t | words): what a perfect network predicts. x (N, 2) -> (N, 2)."""
    a = ALPHA_BAR[t]
    variance = a * STD**2 + 1 - a  # of each concept in x_t
    gap = x[:, None] - a.sqrt() * CENTRES[meant(words)]  # (N, K, 2), K concepts that the words mean
    share = (-gap.square().sum(-1) / (2 * variance)).softmax(dim=1)  # (N, K), p(concept | x_t, words)
    return (1 - a).sqrt() / variance * (share[..., None] * gap).sum(dim=1)


def log_density(x: Tensor, t: int, words: frozenset[str]) -> Tensor:
    """log q(x_t | words) by torch.distributions, which knows nothing of the formula above. x (N, 2) -> (N,)."""
    a, centres = ALPHA_BAR[t], CENTRES[meant(words)]  # (), (K, 2)
    parts = Normal(a.sqrt() * centres, (a * STD**2 + 1 - a).sqrt()).log_prob(x[:, None]).sum(dim=-1)  # (N, K)
    return parts.logsumexp(dim=1) - math.log(len(centres))


def guided_noise(x: Tensor, t: int, prompts: list[str], negative: str, s: float) -> Tensor:
    """ε_n + s Σ_i (ε_i − ε_n): one prompt is eq. (6) of Ho and Salimans, two are eq. (11) of Liu et al.

    ε_n is the prediction for the negative prompt, which is empty where none is given.
    """
    eps_n = exact_noise(x, t, words_of(negative))
    return eps_n + s * sum((exact_noise(x, t, words_of(c)) - eps_n for c in prompts), torch.zeros_like(x))


def sample(x: Tensor, prompts: list[str], negative: str, s: float, steps: int) -> Tensor:
    """Take x_T (N, 2) to x_0 by DDIM with η = 0, in strides of T / steps."""
    for n in range(steps):
        t, before = round(T - T * n / steps), round(T - T * (n + 1) / steps)
        a, b = ALPHA_BAR[t], ALPHA_BAR[before]
        eps = guided_noise(x, t, prompts, negative, s)
        x0 = (x - (1 - a).sqrt() * eps) / a.sqrt()
        x = b.sqrt() * x0 + (1 - b).sqrt() * eps  # eq. (12)
    return x


def draw_noise(n: int, seed: int) -> Tensor:
    """x_T of a seed, (n, 2)."""
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def draw_law(words: frozenset[str], n: int, rng: torch.Generator) -> Tensor:
    """Pictures of these words as the world has them, (n, 2)."""
    centres = CENTRES[meant(words)]
    chosen = torch.randint(len(centres), (n,), generator=rng)
    return centres[chosen] + STD * torch.randn(n, 2, generator=rng, dtype=torch.float64)


def nearest(x: Tensor) -> tuple[Tensor, Tensor]:
    """Distance to the nearest concept's centre and its number, (N,) each; the nearest is the most probable one."""
    distance, concept = torch.cdist(x, CENTRES).min(dim=1)
    return distance, concept


def share_in(x: Tensor, words: frozenset[str]) -> float:
    """Share of samples that are most probably a picture of these words."""
    return meant(words)[nearest(x)[1]].double().mean().item()


def spread(x: Tensor) -> float:
    """Root mean square distance of a sample from the mean of those of its own concept."""
    of = torch.nn.functional.one_hot(nearest(x)[1], len(CENTRES)).double()  # (N, 12)
    means = (of.T @ x) / of.sum(dim=0).clamp(min=1)[:, None]  # (12, 2)
    return (x - of @ means).square().sum(dim=1).mean().sqrt().item()


def off_map(x: Tensor) -> float:
    """Share of samples more than three deviations from every concept (1 % of real pictures)."""
    return (nearest(x)[0] > 3 * STD).double().mean().item()


def noise_gap(words: frozenset[str], x: Tensor) -> float:
    """Largest difference of the noise prediction to the gradient that autograd takes of the exact law."""
    gaps = list[float]()
    for t in (1, 100, 500, 1000):
        x_t = (ALPHA_BAR[t].sqrt() * x).requires_grad_()
        (score,) = torch.autograd.grad(log_density(x_t, t, words).sum(), x_t)
        gaps.append((exact_noise(x_t.detach(), t, words) + (1 - ALPHA_BAR[t]).sqrt() * score).abs().max().item())
    return max(gaps)


def run(params: Params, tick: Tick = no_tick) -> Result:
    p, s = params.prompt, params.guidance
    words = words_of(p)
    asked = words | words_of(params.second)
    prompts = [p, params.second] if params.second else [p]
    made = sample(draw_noise(params.batch, params.seed), prompts, params.negative, s, params.steps)
    again = sample(draw_noise(params.batch, params.seed), prompts, params.negative, s, params.steps)
    other = sample(draw_noise(params.batch, params.seed + 1), prompts, params.negative, s, params.steps)
    tick(0.1, "your settings", obeyed=share_in(made, asked))

    dice = torch.Generator().manual_seed(params.seed + 10_000)  # evaluation
    start = draw_noise(POINTS, params.seed)  # the same noise for every setting below
    real, real_again = (draw_law(words, POINTS, dice) for _ in range(2))
    scaled = {scale: sample(start, [p], "", scale, 50) for scale in SCALES}
    law = sliced_distance(sample(start, [p], "", 1.0, 200), real) / sliced_distance(real_again, real)
    tick(0.4, "scales")
    fine = sample(start, prompts, params.negative, s, T)
    error = {
        n: (sample(start, prompts, params.negative, s, n) - fine).square().sum(1).sqrt().mean().item() for n in STEPS
    }
    tick(0.8, "steps", error=error[50])
    wanted, unwanted = (p, params.negative) if params.negative else ("red", "disc")
    plain, avoiding = (sample(start, [wanted], negative, s, 50) for negative in ("", unwanted))
    shares = [share_in(cloud, words_of(unwanted)) for cloud in (avoiding, plain)]
    one, two = (p, params.second) if params.second else ("red", "left")
    both = sample(start, [one, two], "", s, 50)
    tick(1.0, "negative prompt and second condition")

    levels = [scaled[scale] for scale in (1.0, 3.0, 7.0)]
    obeyed, spreads = [share_in(x, words) for x in levels], [spread(x) for x in levels]
    colour_shape = sorted({" ".join(sorted(concept - set(PLACES), reverse=True)) for concept in CONCEPTS})
    return Result(
        metrics=[
            Metric("obeyed", share_in(made, asked), "share"),
            *([Metric("avoided", 1 - share_in(made, words_of(params.negative)), "share")] if params.negative else []),
            Metric("spread", spread(made)),
            Metric("off the map", off_map(made), "share"),
            Metric("unwanted without the negative prompt", shares[1], "share"),
            Metric("unwanted with it", shares[0], "share"),
        ],
        claims=[
            Claim("Same seed, same samples: largest difference", (made - again).abs().max().item(), "==", 0),
            Claim("Other seed, other samples: mean distance", (made - other).square().sum(1).sqrt().mean().item(),
                  ">=", 0.1),
            Claim("The noise prediction is what autograd has of the law: largest difference",
                  noise_gap(words, start[:50]), "<=", 1e-9),
            Claim("At scale 1 samples follow the prompt's law: distance over that of two exact draws", law, "<=", 2),
            Claim("Obedience rises with the scale, 1 to 3: rise", obeyed[1] - obeyed[0], ">=", 0.02),
            Claim("It does not fall again from 3 to 7: change", obeyed[2] - obeyed[1], ">=", 0),
            Claim("Spread falls with the scale: at 7 over at 1", spreads[2] / spreads[0], "<=", 0.93),
            Claim("A negative prompt lowers the share of what it names: with over without",
                  shares[0] / max(shares[1], 1 / POINTS), "<=", 0.5),
            Claim("More steps end nearer to the exact flow: error of 50 over that of 10", error[50] / error[10],
                  "<=", 0.5),
            Claim("Returns fall: what 50 to 100 steps gain over what 10 to 50 gain",
                  (error[50] - error[100]) / (error[10] - error[50]), "<=", 0.3),
            Claim("Two conditions added are both obeyed: share", share_in(both, words_of(one) | words_of(two)),
                  ">=", 0.85),
        ],
        figures=[
            Scatter(
                f'Samples of "{p}" over the map of all concepts', "x (left, right)", "y",
                {
                    **{name: draw_law(words_of(name), 60, dice).numpy().tolist() for name in colour_shape},
                    "samples": made[:300].numpy().tolist(),
                },
            ),
            Lines(
                f'Guidance scale for "{p}"', "scale s", "share; spread", SCALES,
                {
                    "obeyed": [share_in(scaled[scale], words) for scale in SCALES],
                    "spread": [spread(scaled[scale]) for scale in SCALES],
                    "off the map": [off_map(scaled[scale]) for scale in SCALES],
                },
            ),
            Lines("Steps: distance to where a thousand steps end", "steps", "distance", STEPS,
                  {"your settings": [error[n] for n in STEPS]}, log="xy"),
            Scatter(
                f'"{wanted}" with and without the negative prompt "{unwanted}"', "x", "y",
                {"without": plain[:200].numpy().tolist(), "with": avoiding[:200].numpy().tolist()},
            ),
        ],
        tables=[
            Table(
                "Where the samples fell", ["concept", "asked for", "share", "in the prompt's law"],
                [
                    [" ".join(w for w in (*COLOURS, *SHAPES, *PLACES) if w in concept), asked <= concept,
                     (nearest(made)[1] == n).double().mean().item(), (nearest(real)[1] == n).double().mean().item()]
                    for n, concept in enumerate(CONCEPTS)
                ],
            )
        ],
    )  # fmt: skip
