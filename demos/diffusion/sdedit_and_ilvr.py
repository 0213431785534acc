"""Steering an unconditional model: SDEdit and ILVR

Question: How can a model that was trained without conditions follow a rough guide?
Source: SDEdit: Meng et al. 2021, arXiv:2108.01073, §3 and Algorithm 1; ILVR: Choi et al. 2021, arXiv:2108.02938,
  Algorithm 1; cosine schedule: Nichol, Dhariwal 2021, arXiv:2102.09672, eq. (17).
Watch: strokes like those of a pocket calculator turn into handwriting. A later start t0 is nearer to real digits and
  farther from the guide. ILVR puts the guide's low frequencies back in each step; stop that early and they drift.
"""

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import avg_pool2d

from demos.contract import Claim, DemoParams, Images, Lines, Metric, Preset, Result, Scatter, Tick, no_tick
from demos.shared.ddpm import T, jump, step_back, train, visits
from demos.shared.digits import load_digits
from demos.shared.unet import UNet

WIDTH, BATCH, GUIDES, PASSES = 16, 128, 100, 50  # PASSES from T down to 0, fewer from t0
STARTS, FACTORS = (0.2, 0.35, 0.5, 0.65, 0.8, 1.0), (1, 2, 4, 8)
SEGMENTS = ("abcdef", "bc", "abged", "abgcd", "fgbc", "afgcd", "afgedc", "abc", "abcdefg", "abcdfg")  # lit for 0 to 9
ROWS_COLUMNS = {  # of each segment on 8x8 pixels
    "a": (slice(0, 1), slice(2, 6)), "g": (slice(3, 4), slice(2, 6)), "d": (slice(7, 8), slice(2, 6)),
    "f": (slice(0, 4), slice(2, 3)), "b": (slice(0, 4), slice(5, 6)),
    "e": (slice(3, 8), slice(2, 3)), "c": (slice(3, 8), slice(5, 6)),
}  # fmt: skip


class Params(DemoParams):
    method: Literal["sdedit", "ilvr"] = Field("sdedit", description="How the guide steers; the other is run too")
    t0: float = Field(0.5, ge=0.05, le=1.0, description="SDEdit: where it starts, as a share of T")
    factor: int = Field(2, ge=1, le=8, description="ILVR: size of the blocks whose means are those of the guide")
    until: float = Field(0.0, ge=0.0, le=0.95, description="ILVR: the last time of replacement, as a share of T")
    guide: Literal["strokes", "digit", "blur"] = Field(
        "strokes", description="Guide: strokes, a real or a blurred digit"
    )
    steps: int = Field(350, ge=200, le=2000, description="Training steps of the model")
    seed: int = Field(0, ge=0, le=9999, description="Seed of data, weights and sampling")

    presets: ClassVar[Mapping[str, Preset]] = {
        "stop early": Preset("ILVR that lets go at T / 2: the low frequencies drift", {"method": "ilvr", "until": 0.5}),
        "nothing to mend": Preset("A real digit as guide: a later start makes it no more real", {"guide": "digit"}),
        "deblur": Preset(
            "A blurred digit and block means of 2x2: ILVR adds strokes", {"guide": "blur", "method": "ilvr"}
        ),
        "loose": Preset("Means of 4x4 blocks leave the model much to decide", {"method": "ilvr", "factor": 4}),
    }


def make_schedule() -> Tensor:
    """ᾱ_0 … ᾱ_T of the cosine schedule, (T + 1,): at T / 2 half of the variance is still the guide's."""
    f = (torch.linspace(0.008, 1.008, T + 1) / 1.008 * math.pi / 2).cos().square()
    return (f / f[0]).clamp(min=1e-4)


def draw_strokes(numbers: Tensor) -> Tensor:
    """Seven-segment digits for numbers (N,): (N, 1, 8, 8), ink 1 on -1."""
    glyphs = torch.full((10, 1, 8, 8), -1.0)
    for number, lit in enumerate(SEGMENTS):
        for segment in lit:
            rows, columns = ROWS_COLUMNS[segment]
            glyphs[number, 0, rows, columns] = 1
    return glyphs[numbers]


def low_pass(x: Tensor, factor: int) -> Tensor:
    """φ: each pixel becomes the mean of its block of factor x factor pixels; (N, 1, 8, 8). φ(φ(x)) = φ(x)."""
    means = avg_pool2d(x, factor, ceil_mode=True)  # blocks at the border may be smaller
    return means.repeat_interleave(factor, dim=2).repeat_interleave(factor, dim=3)[:, :, :8, :8]


@torch.no_grad()
def sdedit(network: UNet, guide: Tensor, t0: float, alpha_bar: Tensor, dice: torch.Generator) -> Tensor:
    """Noise the guide (N, 1, 8, 8) up to time t0, then denoise from there."""
    start = max(1, round(t0 * T))
    x = jump(guide, torch.randn(guide.shape, generator=dice), alpha_bar[start])  # as if it were a noised digit
    for t, s in visits(start, max(1, round(t0 * PASSES))):
        eps = network(x, torch.full((len(x),), t / T))
        x = step_back(x, eps, alpha_bar[t], alpha_bar[s], torch.randn(x.shape, generator=dice))
    return x


@torch.no_grad()
def ilvr(network: UNet, guide: Tensor, factor: int, until: float, alpha_bar: Tensor, dice: torch.Generator) -> Tensor:
    """Denoise from noise; after each step swap the low frequencies for those of the guide, noised alike."""
    x = torch.randn(guide.shape, generator=dice)
    for t, s in visits(T, PASSES):
        eps = network(x, torch.full((len(x),), t / T))
        x = step_back(x, eps, alpha_bar[t], alpha_bar[s], torch.randn(x.shape, generator=dice))  # x'
        if s >= until * T:
            y = jump(guide, torch.randn(guide.shape, generator=dice), alpha_bar[s])  # the guide at the same noise
            x = x - low_pass(x, factor) + low_pass(y, factor)  # φ(y) + (I − φ)(x')
    return x


def tell_apart(data: Tensor, guides: Tensor) -> float:
    """Accuracy of a Gaussian classifier between data and guides, (N, 1, 8, 8) each, fitted on their first halves."""
    half, logs = len(data) // 2, list[Tensor]()
    test = torch.cat([data[half:], guides[half:]]).flatten(1)  # (N, 64)
    for known in (data[:half].flatten(1), guides[:half].flatten(1)):
        U, values, _ = (known.T.cov() + 1e-3 * torch.eye(64)).svd()
        white = (test - known.mean(dim=0)) @ U / values.sqrt()  # (N, 64)
        logs.append(-0.5 * white.square().sum(dim=1) - 0.5 * values.log().sum())  # log N(x; mean, covariance)
    right = torch.cat([logs[0][:half] > logs[1][:half], logs[1][half:] > logs[0][half:]])
    return right.float().mean().item()


def rms(x: Tensor) -> float:
    return x.square().mean().sqrt().item()


def picture(image: Tensor) -> list[list[float]]:
    """Pixels of one image (1, 8, 8) in [-1, 1] as rows of grey values in [0, 1]."""
    return ((image[0] + 1) / 2).clamp(0, 1).numpy().tolist()


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng, dice = (torch.Generator().manual_seed(2 * params.seed + odd) for odd in (0, 1))  # training; evaluation
    digits = 2 * load_digits()[0] - 1  # (1797, 1, 8, 8) in [-1, 1]
    alpha_bar, network = make_schedule(), UNet(1, 1, rng, WIDTH)

    def draw_loss() -> Tensor:
        x0 = digits[torch.randint(len(digits), (BATCH,), generator=rng)]  # no label, no guide: unconditional
        t = torch.randint(1, T + 1, (BATCH,), generator=rng)
        eps = torch.randn(x0.shape, generator=rng)
        return (eps - network(jump(x0, eps, alpha_bar[t]), t / T)).square().mean()

    train(network, draw_loss, params.steps, tick, part=(0.0, 0.7))

    def guides(n: int) -> Tensor:
        if params.guide == "strokes":
            return draw_strokes(torch.randint(10, (n,), generator=dice))
        real = digits[torch.randperm(len(digits), generator=dice)[:n]]
        return real if params.guide == "digit" else low_pass(real, 2)

    guide = guides(GUIDES)  # (GUIDES, 1, 8, 8)
    starts, factors = sorted({*STARTS, params.t0}), sorted({*FACTORS, params.factor})
    by_t0, by_factor = dict[float, Tensor](), dict[int, Tensor]()
    for t0 in starts:
        by_t0[t0] = sdedit(network, guide, t0, alpha_bar, dice)
        tick(0.8, f"SDEdit from t0 = {t0}")
    for factor in factors:
        by_factor[factor] = ilvr(network, guide, factor, params.until, alpha_bar, dice)
        tick(0.9, f"ILVR with blocks of {factor}")

    many, data = guides(1790), digits[torch.randperm(len(digits), generator=dice)[:1790]]
    accuracy = list[float]()
    for t0 in starts:
        at = alpha_bar[max(1, round(t0 * T))]
        noised = [jump(x, torch.randn(x.shape, generator=dice), at) for x in (data, many)]
        accuracy.append(tell_apart(noised[0], noised[1]))
    told = dict(zip(starts, accuracy, strict=True))

    def unreal(x: Tensor) -> float:
        """Mean distance to the nearest real digit other than x itself, per pixel."""
        distance = torch.cdist(x.flatten(1), digits.flatten(1))  # (N, 1797)
        return distance.masked_fill(distance < 1e-2, torch.inf).min(dim=1).values.mean().item() / 8

    def point(x: Tensor) -> tuple[float, float]:
        return rms(x - guide), unreal(x)

    trade = {
        "SDEdit, one point for each t0": [point(x) for x in by_t0.values()],
        "ILVR, one for each factor": [point(x) for x in by_factor.values()],
        "the guides themselves": [point(guide)],
    }
    chosen = by_t0[params.t0] if params.method == "sdedit" else by_factor[params.factor]
    steered = by_factor[params.factor]
    ilvr_gap = (low_pass(steered, params.factor) - low_pass(guide, params.factor)).abs().max().item()
    gap = (low_pass(chosen, params.factor) - low_pass(guide, params.factor)).abs().max().item()
    edits = {
        "sdedit": Images(
            "SDEdit: the guide, and results by start time",
            [[picture(x[n]) for x in (guide, *by_t0.values())] for n in range(6)],
            column_labels=["guide", *(f"t0 = {t0}" for t0 in starts)],
        ),
        "ilvr": Images(
            "ILVR: the guide, and results by size of the blocks",
            [[picture(x[n]) for x in (guide, *by_factor.values())] for n in range(6)],
            column_labels=["guide", *(f"{factor}x{factor}" for factor in factors)],
        ),
    }
    return Result(
        metrics=[
            Metric("low_frequency_error", gap),
            Metric("distance to the guide", rms(chosen - guide), "per pixel"),
            Metric("distance to the nearest real digit", unreal(chosen), "per pixel"),
            Metric("same of the guide", unreal(guide), "per pixel"),
            Metric("accuracy of telling guide and data apart at your t0", told[params.t0]),
        ],
        figures=[
            edits[params.method],
            edits["ilvr" if params.method == "sdedit" else "sdedit"],
            Scatter("Faithful or real", "distance to the guide", "distance to the nearest real digit", trade),
            Lines("Telling noised guides from noised digits", "start time t0", "accuracy", starts,
                  {"Gaussian classifier": accuracy, "guessing": [0.5] * len(starts)}),
        ],
        claims=[
            Claim("SDEdit, a later start is farther from the guide: distance from t0 = 0.2 over that from 0.8",
                  rms(by_t0[0.2] - guide) / rms(by_t0[0.8] - guide), "<=", 0.7),
            Claim("SDEdit, a later start is nearer to real digits: distance from t0 = 0.8 over that from 0.2",
                  unreal(by_t0[0.8]) / unreal(by_t0[0.2]), "<=", 0.92),
            Claim("ILVR keeps the low frequencies of the guide: largest difference", ilvr_gap, "<=", 1e-5),
            Claim("ILVR comes nearer to real digits than its guide is: distance over distance",
                  unreal(steered) / unreal(guide), "<=", 0.85),
            Claim("With little noise guides are told from digits: accuracy at 0.2", told[0.2], ">=", 0.8),
            Claim("Much noise makes them alike: accuracy at 0.8", told[0.8], "<=", 0.75),
        ],
    )  # fmt: skip
