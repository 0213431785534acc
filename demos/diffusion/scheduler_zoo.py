"""Samplers at equal cost: DDPM, DDIM, PNDM

Question: With the same noise prediction, how many passes does each scheduler need?
Source: DDPM: Ho, Jain, Abbeel 2020, arXiv:2006.11239, eq. (7); DDIM: Song, Meng, Ermon 2020, arXiv:2010.02502,
  eq. (12), (16); PNDM: Liu, Ren, Lin, Zhao 2022, arXiv:2202.09778, §3.2 and §3.3, in the form that Stable Diffusion
  uses: linear multi-step, its first step by the improved Euler method.
Watch: the path error, how far a sampler ends from where the exact flow takes the same noise. The network here is
  exact, the score of eight Gaussians, so all of it is the sampler's.
"""

import itertools
import time
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from demos.contract import Claim, DemoParams, Lines, Metric, Preset, Result, Scatter, Table, Tick, no_tick
from demos.shared.plane import MODES, STD, draw_ring, sliced_distance

T, POINTS, PASSES = 1000, 2_000, [5, 10, 20, 50, 100]
NAMES = ["ddpm", "ddim", "pndm"]
WEIGHTS = {1: [1.0], 2: [3 / 2, -1 / 2], 3: [23 / 12, -16 / 12, 5 / 12], 4: [55 / 24, -59 / 24, 37 / 24, -9 / 24]}
BETAS = torch.linspace(1e-4, 0.02, T, dtype=torch.float64)
ALPHA_BAR = torch.cat([torch.ones(1, dtype=torch.float64), torch.cumprod(1 - BETAS, dim=0)])  # (T + 1,), ᾱ_0 = 1


class Params(DemoParams):
    scheduler: Literal["ddpm", "ddim", "pndm", "all"] = Field("all", description="Scheduler whose paths are shown")
    passes: int = Field(20, ge=2, le=1000, description="Network passes, one a step; PNDM takes one more")
    eta: float = Field(0.0, ge=0.0, le=1.0, description="Randomness of DDIM: 0 none, 1 that of DDPM")
    seed: int = Field(0, ge=0, le=9999, description="Seed of start, noise and data")

    presets: ClassVar[Mapping[str, Preset]] = {
        "random ddim": Preset("With η = 1 DDIM is DDPM: no path is repeated or followed", {"eta": 1.0}),
        "two passes": Preset("Two strides from noise to data: too few for any of them", {"passes": 2}),
        "a thousand passes": Preset("Every trained step: what the other 980 were worth", {"passes": 1000}),
    }


def exact_noise(x: Tensor, t: int) -> Tensor:
    """E[ε | x_t] = −√(1 − ᾱ_t) ∇ log q(x_t): what a perfect network predicts for the ring. x (N, 2) -> (N, 2)."""
    a = ALPHA_BAR[t]
    variance = a * STD**2 + 1 - a  # of each mode of x_t
    gap = x[:, None] - a.sqrt() * MODES.double()  # (N, 8, 2)
    share = (-gap.square().sum(-1) / (2 * variance)).softmax(dim=1)  # (N, 8), p(mode | x_t)
    return (1 - a).sqrt() / variance * (share[..., None] * gap).sum(dim=1)


def ddpm_step(x: Tensor, eps: Tensor, t: int, s: int, z: Tensor) -> Tensor:
    """Draw x_s from q(x_s | x_t, x_0), eq. (7), with the x_0 that ε means; s < t, not only t − 1."""
    a, b = ALPHA_BAR[t], ALPHA_BAR[s]
    alpha = a / b  # of the whole stride from s to t
    x0 = (x - (1 - a).sqrt() * eps) / a.sqrt()
    mean = b.sqrt() * (1 - alpha) / (1 - a) * x0 + alpha.sqrt() * (1 - b) / (1 - a) * x
    return mean + ((1 - b) / (1 - a) * (1 - alpha)).sqrt() * z


def ddim_step(x: Tensor, eps: Tensor, t: int, s: int, z: Tensor, eta: float) -> Tensor:
    """Eq. (12): point at x_0, then back towards ε; η of eq. (16) replaces a part of ε by fresh noise z."""
    a, b = ALPHA_BAR[t], ALPHA_BAR[s]
    sigma = eta * ((1 - b) / (1 - a)).sqrt() * (1 - a / b).sqrt()  # eq. (16)
    x0 = (x - (1 - a).sqrt() * eps) / a.sqrt()
    return b.sqrt() * x0 + (1 - b - sigma**2).sqrt() * eps + sigma * z


def transfer(x: Tensor, eps: Tensor, t: int, s: int) -> Tensor:
    """φ(x, ε, t, s), PNDM's transfer part: DDIM's step at η = 0, written so that nothing cancels."""
    a, b = ALPHA_BAR[t], ALPHA_BAR[s]
    return (b / a).sqrt() * x - (b - a) / (a * (1 - b).sqrt() + (a * (1 - a) * b).sqrt()) * eps


def multistep(history: Sequence[Tensor]) -> Tensor:
    """The gradient part: the last one to four predictions, latest first, combined as Adams and Bashforth do."""
    return sum((w * e for w, e in zip(WEIGHTS[len(history)], history, strict=True)), torch.zeros_like(history[0]))


def times(steps: int) -> list[int]:
    """steps + 1 times from T to 0, as evenly as whole numbers allow."""
    return [round(T - T * n / steps) for n in range(steps + 1)]


def sample(name: str, steps: int, x: Tensor, eta: float, dice: torch.Generator) -> list[Tensor]:
    """Take x_T (N, 2) to x_0 and return all steps + 1 clouds on the way."""
    path, history = [x], list[Tensor]()
    visited = times(steps)
    for t, s in itertools.pairwise(visited):
        eps = exact_noise(x, t)  # one pass
        if name == "pndm":
            history = [eps, *history[:3]]
            ahead = transfer(x, multistep(history), t, s)
            if t == T and s > 0:  # the second pass of the first step: the mean of the slopes at both of its ends
                ahead = transfer(x, (eps + exact_noise(ahead, s)) / 2, t, s)
            x = ahead
        else:
            z = torch.randn(x.shape, generator=dice, dtype=x.dtype)
            x = ddpm_step(x, eps, t, s, z) if name == "ddpm" else ddim_step(x, eps, t, s, z, eta)
        path.append(x)
    return path


def step_gaps(dice: torch.Generator) -> tuple[float, float]:
    """Largest difference of DDIM at η = 1 to DDPM, and of PNDM's transfer to DDIM at η = 0, on random inputs."""
    of_ddpm, of_pndm = 0.0, 0.0
    for t, s in ((1000, 999), (1000, 950), (500, 480), (20, 10), (2, 1), (20, 0)):
        x, eps, z = torch.randn(3, 50, 2, generator=dice, dtype=torch.float64)
        of_ddpm = max(of_ddpm, (ddim_step(x, eps, t, s, z, 1.0) - ddpm_step(x, eps, t, s, z)).abs().max().item())
        of_pndm = max(of_pndm, (transfer(x, eps, t, s) - ddim_step(x, eps, t, s, z, 0.0)).abs().max().item())
    return of_ddpm, of_pndm


def weights_used(name: str, n: int) -> str:
    """Which predictions PNDM combines in its step n (from 0), latest first."""
    if name != "pndm":
        return "1"
    return "mean of both ends" if n == 0 else " ".join(f"{w:.3g}" for w in WEIGHTS[min(n + 1, 4)])


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng, dice = (torch.Generator().manual_seed(2 * params.seed + odd) for odd in (0, 1))  # start and data; noise
    start = torch.randn(POINTS, 2, generator=rng, dtype=torch.float64)  # x_T, the same for all
    data, other = draw_ring(POINTS, rng).double(), draw_ring(POINTS, rng).double()
    floor = sliced_distance(data, other)
    exact = sample("pndm", T, start, 0.0, dice)[-1]  # a thousand steps of fourth order
    tick(0.3, "reference: PNDM with a thousand steps")

    def path_error(ends: Tensor) -> float:
        return (ends - exact).square().sum(dim=1).sqrt().mean().item()

    meeting = path_error(sample("ddim", T, start, 0.0, dice)[-1])
    tick(0.5, "DDIM with a thousand steps", **{"path error": meeting})

    counts = sorted({*PASSES, params.passes})
    distance, error = {name: dict[int, float]() for name in NAMES}, {name: dict[int, float]() for name in NAMES}
    took, paths = dict[str, float](), dict[str, list[Tensor]]()
    for name in NAMES:
        for steps in counts:
            began = time.perf_counter()
            path = sample(name, steps, start, params.eta, dice)
            if steps == params.passes:
                took[name] = 1000 * (time.perf_counter() - began) / POINTS
                paths[name] = [cloud[:12] for cloud in path]
            distance[name][steps], error[name][steps] = sliced_distance(path[-1], data), path_error(path[-1])
        tick(0.5 + 0.15 * (NAMES.index(name) + 1), name, distance=distance[name][params.passes])
    first, again = (sample("ddim", 20, start, params.eta, dice)[-1] for _ in range(2))
    of_ddpm, of_pndm = step_gaps(dice)

    shown = NAMES if params.scheduler == "all" else [params.scheduler]
    lead = "ddim" if params.scheduler == "all" else params.scheduler
    visited = times(params.passes)
    rows = list[list[str | int | float]]()
    for n in sorted({round(part * (params.passes - 1) / 19) for part in range(20)}):
        t, s = visited[n], visited[n + 1]
        a, b = ALPHA_BAR[t].item(), ALPHA_BAR[s].item()
        of_x = (b / a) ** 0.5
        rows.append([t, s, a, b, of_x, (1 - b) ** 0.5 - of_x * (1 - a) ** 0.5,
                     ((1 - b) / (1 - a) * (1 - a / b)) ** 0.5, weights_used(lead, n)])  # fmt: skip
    return Result(
        metrics=[
            Metric("sliced_wasserstein", distance[lead][params.passes]),
            Metric("distance of data to data", floor),
            Metric("path_error", error[lead][params.passes]),
            Metric("milliseconds", took[lead], "ms/sample"),
            *(Metric(f"milliseconds, {name}", took[name], "ms/sample") for name in NAMES),
        ],
        figures=[
            Lines("Distance to the data (sliced Wasserstein)", "passes", "distance", counts,
                  {**{name: [distance[name][n] for n in counts] for name in shown}, "data": [floor] * len(counts)},
                  log="x"),
            Lines("Path error: distance to where the exact flow ends", "passes", "distance", counts,
                  {name: [error[name][n] for n in counts] for name in shown if name != "ddpm"} or
                  {"ddpm": [error["ddpm"][n] for n in counts]}, log="xy"),
            Scatter(f"Twelve paths of {params.passes} steps from the same noise", "x", "y", {
                "start": start[:12].numpy().tolist(),
                **{name: torch.cat(paths[name][1:][:: max(1, params.passes // 50)]).numpy().tolist() for name in shown},
                "end": torch.cat([paths[name][-1] for name in shown]).numpy().tolist(),
            }),
        ],
        tables=[
            Table(f"Times visited and what one step of {lead} is made of",
                  ["t", "next t", "ᾱ_t", "ᾱ next", "weight of x", "weight of ε (η = 0)", "deviation at η = 1 (DDPM)",
                   "weights of the predictions, latest first"], rows),
        ],
        claims=[
            Claim("DDIM at η = 1 takes the step of DDPM: largest difference", of_ddpm, "<=", 1e-9),
            Claim("PNDM's transfer is the step of DDIM at η = 0: largest difference", of_pndm, "<=", 1e-9),
            Claim("DDIM repeats exactly: largest difference of two runs", (first - again).abs().max().item(), "==", 0),
            Claim("DDIM and PNDM with a thousand steps end at the same points: mean distance", meeting, "<=", 0.005),
            Claim(
                "Twenty DDIM passes are about as near to the data as a hundred: distance over distance",
                distance["ddim"][20] / distance["ddim"][100], "<=", 1.2,
            ),
            Claim(
                "DDIM is of first order, its path error about halves from 50 to 100 passes: ratio",
                error["ddim"][50] / error["ddim"][100], ">=", 1.5,
            ),
            Claim("It does no more than that: ratio", error["ddim"][50] / error["ddim"][100], "<=", 3.0),
            Claim(
                "PNDM is of higher order, its path error falls faster: ratio",
                error["pndm"][50] / error["pndm"][100], ">=", 3.0,
            ),
            Claim(
                "At 50 steps PNDM is ahead: its path error over that of DDIM",
                error["pndm"][50] / error["ddim"][50], "<=", 0.75,
            ),
        ],
    )  # fmt: skip
