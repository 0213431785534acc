"""Inpainting and outpainting without retraining

Question: How can a model that only draws whole images fill a hole or extend a border?
Source: Lugmayr et al. 2022 (RePaint), arXiv:2201.09865, eq. (8) and algorithm 1; start from a noised picture: Meng et
  al. 2021 (SDEdit), arXiv:2108.01073; the model's step: Ho et al. 2020, arXiv:2006.11239, eq. (7).
Watch: known pixels are noised and put back at every step, so that the model completes what it is given. Without
  repeats the two halves of a picture hardly hear of each other; going back and forth lets them agree. The model is the
  exact denoiser of 1,400 blurred digits, so whatever is wrong with a fill is the method's doing. The digits to fill
  are not among them.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from demos.contract import Claim, DemoParams, Images, Lines, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.ddpm import jump, make_schedule, step_back
from demos.shared.digits import load_digits

T, BLUR, KNOWN, FILLS, TRIED = 100, 0.25, 1400, 4, 60  # steps; deviation around each digit; FILLS of TRIED pictures
ALPHA_BAR = make_schedule(T)  # (T + 1,), ᾱ_0 = 1
REPEATS = [1, 2, 3, 5]


class Params(DemoParams):
    mask: Literal["centre", "half", "border"] = Field("centre", description="Hidden: a hole, one half, or the frame")
    resample: int = Field(3, ge=1, le=10, description="Repeats of each step")
    start: float = Field(1.0, ge=0.1, le=1.0, description="Start time; below 1 the old content guides, image to image")
    digits: int = Field(KNOWN, ge=20, le=KNOWN, description="Digits that the model knows")
    put_back: bool = Field(True, description="Put the given pixels back at every step, not only at the end")
    seed: int = Field(0, ge=0, le=9999, description="Seed of the pictures and the noise")

    presets: ClassVar[Mapping[str, Preset]] = {
        "outpainting": Preset("Four by four pixels are given, the frame is drawn", {"mask": "border"}),
        "image to image": Preset("Half way back with the old content under the mask", {"start": 0.5, "mask": "half"}),
        "no repeats": Preset("Each step once: fills fit worse", {"resample": 1}),
        "not put back": Preset("Given pixels are pasted over at the end: any digit in a frame", {"put_back": False}),
    }


def given(mask: str) -> Tensor:
    """1 where a pixel is given, 0 where it is to be drawn: (1, 8, 8)."""
    m = torch.zeros(1, 8, 8) if mask == "border" else torch.ones(1, 8, 8)
    m[:, 2:6, 2:6] = 1 - m[:, 2:6, 2:6]  # the middle, of the other kind
    if mask == "half":
        m = torch.ones(1, 8, 8)
        m[:, :, 4:] = 0
    return m


def predict_noise(x: Tensor, t: int, known: Tensor) -> Tensor:
    """E[ε | x_t] when data are digits (K, 1, 8, 8), each blurred by N(0, BLUR²): x (N, 1, 8, 8) -> the same shape.

    This is what a network trained on them for ever would predict.
    """
    a = ALPHA_BAR[t]
    variance = a * BLUR**2 + 1 - a  # of each noised digit
    centres = a.sqrt() * known.flatten(1)  # (K, 64)
    share = (-torch.cdist(x.flatten(1), centres).square() / (2 * variance)).softmax(dim=1)  # (N, K), p(digit | x_t)
    return (1 - a).sqrt() / variance * (x - (share @ centres).view(x.shape))


def step(x: Tensor, x0: Tensor, m: Tensor, t: int, known: Tensor, noise: Tensor) -> Tensor:
    """Eq. (8): from x_t to x_{t-1}, the model's step where pixels are drawn, noised x0 where they are given."""
    a, b = ALPHA_BAR[t], ALPHA_BAR[t - 1]
    drawn = step_back(x, predict_noise(x, t, known), a, b, noise)  # (8b)
    return m * jump(x0, noise, b) + (1 - m) * drawn  # (8a), (8c); one noise serves both, at different pixels


def repaint(
    x0: Tensor, m: Tensor, known: Tensor, repeats: int, start: float, put_back: bool, rng: torch.Generator
) -> tuple[Tensor, list[Tensor]]:
    """Algorithm 1: pictures x0 (N, 1, 8, 8), m (1, 8, 8) is 1 where they are given -> filled, and the way there.

    At start 1 nothing of the hidden part is used; below, x0 with noise is where it starts.
    """
    first = round(start * T)
    noise = torch.randn(x0.shape, generator=rng)
    x = noise if first == T else jump(x0, noise, ALPHA_BAR[first])
    path = [x]
    for t in range(first, 0, -1):
        for u in range(repeats):
            noise = torch.randn(x0.shape, generator=rng)
            x = step(x, x0, m if put_back or t == 1 else torch.zeros_like(m), t, known, noise)
            if u < repeats - 1 and t > 1:  # one step forward again, 1 − β_t = ᾱ_t / ᾱ_{t-1}
                x = jump(x, torch.randn(x0.shape, generator=rng), ALPHA_BAR[t] / ALPHA_BAR[t - 1])
        path.append(x)
    return x, path


def read(x: Tensor, images: Tensor, labels: Tensor) -> Tensor:
    """The class of the nearest of these digits, (N,)."""
    return labels[torch.cdist(x.flatten(1), images.flatten(1)).argmin(dim=1)]


def seam(x: Tensor, m: Tensor) -> float:
    """Mean absolute jump between neighbours of which one is given and one drawn."""
    jumps = list[Tensor]()
    for dim in (-1, -2):
        across = m.narrow(dim, 1, 7) != m.narrow(dim, 0, 7)
        jumps.append((x.narrow(dim, 1, 7) - x.narrow(dim, 0, 7)).abs()[across.expand(len(x), *across.shape)])
    return torch.cat(jumps).mean().item()


def log_density(x: Tensor, known: Tensor) -> float:
    """Mean log of the model's own density of x, in nats a pixel, up to a constant: does the whole fit together?"""
    return (-torch.cdist(x.flatten(1), known.flatten(1)).square() / (2 * BLUR**2)).logsumexp(dim=1).mean().item() / 64


def run(params: Params, tick: Tick = no_tick) -> Result:
    images, labels = load_digits()
    images = 2 * images - 1
    known = images[: params.digits]
    rng = torch.Generator().manual_seed(params.seed)
    chosen = KNOWN + torch.randperm(len(images) - KNOWN, generator=rng)[:TRIED]
    x0, truth = images[chosen].repeat_interleave(FILLS, dim=0), labels[chosen].repeat_interleave(FILLS)
    m = given(params.mask)

    by_repeats, way = dict[int, Tensor](), list[Tensor]()
    for done, repeats in enumerate(sorted({*REPEATS, params.resample}), start=1):
        dice = torch.Generator().manual_seed(params.seed + 1)
        by_repeats[repeats], path = repaint(x0, m, known, repeats, params.start, params.put_back, dice)
        if repeats == params.resample:
            way = path
        tick(done / 5, f"{repeats} repeats", seam=seam(by_repeats[repeats], m))
    filled = by_repeats[params.resample]
    blind, _ = repaint(x0, torch.zeros_like(m), known, 1, 1.0, True, torch.Generator().manual_seed(params.seed + 1))
    pasted = m * x0 + (1 - m) * blind  # any digit, with the given pixels pasted over

    def told(x: Tensor) -> float:
        """Share that reads as the digit that the given pixels are of."""
        return (read(x, images[:KNOWN], labels[:KNOWN]) == truth).double().mean().item()

    kept = ((filled - x0) * m).abs().max().item()
    hidden = (1 - m).expand_as(x0) == 1
    error = {k: (x - x0)[hidden].square().mean().sqrt().item() for k, x in (("filled", filled), ("pasted", pasted))}
    fills = filled.view(TRIED, FILLS, 64)
    variety = fills.std(dim=1)[:, (1 - m).flatten() == 1].mean().item()
    every = {"real picture": x0, "any digit pasted": pasted} | {f"{n} repeats": x for n, x in by_repeats.items()}
    seams, fits = {k: seam(x, m) for k, x in every.items()}, {k: log_density(x, known) for k, x in every.items()}
    shown = [n * FILLS for n in range(8)]
    hole = torch.where(m == 1, x0, torch.zeros(()))  # grey where nothing is given
    rows = [hole[shown], *(filled[[n + k for n in shown]] for k in range(FILLS)), x0[shown], pasted[shown]]
    stops = range(0, len(way), max(1, len(way) // 8))
    return Result(
        metrics=[
            Metric("kept", kept, "largest change of a given pixel"),
            Metric("recognised", told(filled), "share of fills that read as the digit of the given part"),
            Metric("recognised, any digit pasted", told(pasted), "share"),
            Metric("seam", seams[f"{params.resample} repeats"], "mean jump across the border"),
            Metric("seam of real pictures", seams["real picture"], "mean jump at the same place"),
            Metric("variety of the four fills", variety, "deviation of a pixel"),
        ],
        claims=[
            Claim("Given pixels return unchanged: largest difference", kept, "<=", 1e-6),
            Claim("Fills read as the digit of the given part: share", told(filled), ">=", 0.5),
            Claim("More often than any digit pasted into the hole: gain", told(filled) - told(pasted), ">=", 0.15),
            Claim("They are nearer to what was hidden: error over that of any digit", error["filled"] / error["pasted"],
                  "<=", 0.87),
            Claim("Repeats make the seam smaller: jump with 5 over jump with 1",
                  seams["5 repeats"] / seams["1 repeats"], "<=", 0.99),
            Claim("Repeats make the whole more likely: log density gained from 1 to 5, nats a pixel",
                  fits["5 repeats"] - fits["1 repeats"], ">=", 0.12),
            Claim("And more often read right: share gained from 1 to 5", told(by_repeats[5]) - told(by_repeats[1]),
                  ">=", 0.05),
        ],
        figures=[
            Images("Given, four fills, what was hidden, any digit with the given pixels pasted over",
                   [((of[:, 0].clamp(-1, 1) + 1) / 2).numpy().tolist() for of in rows],
                   ["given", *(f"fill {k + 1}" for k in range(FILLS)), "truth", "any digit"]),
            Lines("Seam over repeats of each step", "repeats", "mean jump across the border", REPEATS,
                  {"filled": [seams[f"{n} repeats"] for n in REPEATS],
                   "real pictures": [seams["real picture"]] * len(REPEATS),
                   "any digit pasted": [seams["any digit pasted"]] * len(REPEATS)}),
            Images("The first picture on its way", [((torch.stack([way[n][0, 0] for n in stops]).clamp(-1, 1) + 1) / 2)
                   .numpy().tolist()], [], [f"step {n}" for n in stops]),
        ],
        tables=[
            Table("How well fills fit", ["picture", "seam", "log density, nats a pixel", "reads as the digit"],
                  [[name, seams[name], fits[name], told(x)] for name, x in every.items()]),
        ],
    )  # fmt: skip
