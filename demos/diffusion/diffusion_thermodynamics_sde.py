"""Relaxation and its reversal: SDE and probability flow

Question: Why can noise be undone at all, and what do the random and the deterministic way back share?
Source: Sohl-Dickstein et al. 2015, arXiv:1503.03585, §2.2; Song et al. 2020, arXiv:2011.13456, eq. (6), (11), (13)
  and (39).
Watch: two peaks relax into one bell and come back, on jagged paths or on smooth ones, with the same density at every
  time. Only the score brings them back: leave it out (drop_score) and the reversed drift blows the cloud apart.
"""

import itertools
import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from demos.contract import Claim, DemoParams, Figure, Heatmap, Lines, Metric, Preset, Result, Table, Tick, no_tick

SHARE, CENTRE, STD = torch.tensor([0.3, 0.7]), torch.tensor([-1.5, 1.5]), 0.25  # the data: two unequal peaks
POINTS, TESTED = 20_000, 500  # particles that go back; data points whose likelihood the ODE computes
GRID = torch.linspace(-6, 6, 2401)  # integrals are sums over it
STEPS = [10, 20, 50, 100, 200, 500, 1000]


class Params(DemoParams):
    solver: Literal["sde", "ode", "both"] = Field("both", description="Way back that the figures show")
    steps: int = Field(200, ge=10, le=1000, description="Steps of the solver from t = 1 to 0")
    beta: float = Field(8.0, ge=1.0, le=20.0, description="Speed β of the relaxation, which lasts from t = 0 to 1")
    drop_score: float = Field(0.0, ge=0.0, le=1.0, description="Share of the score that is left out on the way back")
    seed: int = Field(0, ge=0, le=9999, description="Seed of data, start and noise")

    presets: ClassVar[Mapping[str, Preset]] = {
        "no score": Preset("The reversed drift alone: the cloud flies apart on either way", {"drop_score": 1.0}),
        "half the score": Preset("Half of it is too weak: both clouds grow and miss the data", {"drop_score": 0.5}),
        "ten steps": Preset("A long step back is not Gaussian, and both solvers miss", {"steps": 10}),
        "stopped early": Preset("At β = 1 the data have not relaxed, so N(0, 1) is the wrong start", {"beta": 1.0}),
    }


def alpha(t: Tensor | float, beta: float) -> Tensor:
    """What is left of x_0 in the mean of x_t, e^(−βt/2), for dx = −½βx dt + √β dw, eq. (11) with constant β."""
    return torch.exp(-0.5 * beta * torch.as_tensor(t))


def log_p(x: Tensor, t: Tensor | float, beta: float) -> Tensor:
    """Exact log-density of x_t, a mixture of N(α c_k, α² s² + 1 − α²); any shape of x."""
    a = alpha(t, beta)
    variance = a**2 * STD**2 + 1 - a**2
    exponent = -((x[..., None] - a * CENTRE) ** 2) / (2 * variance) - 0.5 * torch.log(2 * math.pi * variance)
    return torch.logsumexp(SHARE.log() + exponent, dim=-1)


def score(x: Tensor, t: Tensor | float, beta: float) -> Tensor:
    """∇ log p_t(x), exact: what a perfect network would have learned; shape of x."""
    a = alpha(t, beta)
    variance = a**2 * STD**2 + 1 - a**2
    gap = a * CENTRE - x[..., None]  # (…, 2), towards each peak
    peak = (SHARE.log() - gap**2 / (2 * variance)).softmax(dim=-1)  # (…, 2), p(peak | x)
    return (peak * gap).sum(dim=-1) / variance


def flow(x: Tensor, t: float, beta: float, kept: float = 1.0) -> Tensor:
    """dx/dt of the probability-flow ODE, eq. (13): f − ½ g² ∇ log p_t with f = −½βx and g² = β."""
    return -0.5 * beta * x - 0.5 * beta * kept * score(x, t, beta)


def back_by_sde(x: Tensor, times: list[float], beta: float, kept: float, rng: torch.Generator) -> Tensor:
    """Euler–Maruyama on eq. (6), dx = (f − g² ∇ log p_t) dt + g dw̄, down from times[0]: x (N,) -> (len(times), N)."""
    path = [x]
    for t, s in itertools.pairwise(times):
        drift = -0.5 * beta * x - beta * kept * score(x, t, beta)
        x = x + (s - t) * drift + math.sqrt(beta * (t - s)) * torch.randn(x.shape, generator=rng)
        path.append(x)
    return torch.stack(path)


def along_ode(x: Tensor, times: list[float], beta: float, kept: float = 1.0) -> Tensor:
    """Heun's method on eq. (13), in either direction: x (N,) at times[0] -> (len(times), N)."""
    path = [x]
    for t, s in itertools.pairwise(times):
        slope = flow(x, t, beta, kept)
        x = x + (s - t) / 2 * (slope + flow(x + (s - t) * slope, s, beta, kept))
        path.append(x)
    return torch.stack(path)


def log_likelihood(x: Tensor, times: list[float], beta: float, kept: float) -> Tensor:
    """log p_0(x) = log p_1(x(1)) + ∫ ∂(dx/dt)/∂x dt along the ODE up to t = 1, eq. (39); x (N,) -> (N,) in nats."""

    def rates(x: Tensor, t: float) -> tuple[Tensor, Tensor]:
        leaf = x.detach().requires_grad_()
        slope = flow(leaf, t, beta, kept)
        (divergence,) = torch.autograd.grad(slope.sum(), leaf)
        return slope.detach(), divergence

    total = torch.zeros_like(x)
    for t, s in itertools.pairwise(times):
        slope, here = rates(x, t)
        ahead, there = rates(x + (s - t) * slope, s)
        x, total = x + (s - t) / 2 * (slope + ahead), total + (s - t) / 2 * (here + there)
    return total - 0.5 * x**2 - 0.5 * math.log(2 * math.pi)


def distance_to_law(x: Tensor, t: float, beta: float) -> float:
    """Wasserstein-1 distance of a cloud (N,) to p_t: the area between the two distribution functions."""
    law = torch.cumulative_trapezoid(log_p(GRID, t, beta).exp(), GRID)  # (G − 1,)
    outside = (x.abs() - GRID[-1]).clamp(min=0).mean()  # what lies beyond the grid has at least that far to go
    cloud = torch.searchsorted(x.sort().values, GRID[1:], right=True) / len(x)
    return (torch.trapezoid((cloud - law).abs(), GRID[1:]) + outside).item()


def non_gaussian(steps: int, beta: float) -> float:
    """Total variation between the true step back p(x_s | x_t) and Euler–Maruyama's Gaussian, averaged over x_t.

    The step begins in the middle, where p_t is about to split. By Bayes p(x_s | x_t) ∝ p_s(x_s) q(x_t | x_s).
    """
    t = math.log(4) / beta  # where α = ½
    h = min(1 / steps, t)
    a = alpha(h, beta)  # of the step itself
    x_t = GRID[::60]  # (M,)
    truth = log_p(GRID, t - h, beta) - (x_t[:, None] - a * GRID) ** 2 / (2 * (1 - a**2))  # (M, G), up to a constant
    mean = x_t + h * (0.5 * beta * x_t + beta * score(x_t, t, beta))
    guess = -((GRID - mean[:, None]) ** 2) / (2 * beta * h)  # (M, G)
    gap = 0.5 * (truth.softmax(dim=1) - guess.softmax(dim=1)).abs().sum(dim=1)  # (M,)
    return (gap * log_p(x_t, t, beta).softmax(dim=0)).sum().item()


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng = torch.Generator().manual_seed(params.seed)
    beta, steps, kept = params.beta, params.steps, 1 - params.drop_score
    times = [n / 100 for n in range(101)]
    densities = torch.stack([log_p(GRID, t, beta).exp() for t in times])  # (101, G)
    rest = torch.exp(-0.5 * GRID**2) / math.sqrt(2 * math.pi)
    kl = [torch.trapezoid(p * (log_p(GRID, t, beta) - rest.log()), GRID).item()
          for p, t in zip(densities, times, strict=True)]  # fmt: skip
    rises = sum(after > before + 1e-6 for before, after in itertools.pairwise(kl))  # 1e-6: rounding
    tick(0.1, "relaxed", **{"KL to equilibrium": kl[-1]})

    start = torch.randn(POINTS, generator=rng)  # equilibrium, the same for both ways
    back = [(1 - n / steps) ** 2 for n in range(steps + 1)]  # shorter steps near the data, where the score is steep
    sde, ode = back_by_sde(start, back, beta, kept, rng), along_ode(start, back, beta, kept)  # (steps + 1, N)
    bare = back_by_sde(start, back, beta, 0.0, rng)[-1]
    looked = sorted({round(steps * n / 20) for n in range(21)})
    apart = {name: [distance_to_law(path[n], back[n], beta) for n in looked] for name, path in
             (("sde", sde), ("ode", ode))}  # fmt: skip
    tick(0.6, "went back", sde=apart["sde"][-1], ode=apart["ode"][-1])

    peak = torch.multinomial(SHARE, TESTED, replacement=True, generator=rng)
    data = CENTRE[peak] + STD * torch.randn(TESTED, generator=rng)  # (TESTED,)
    likelihood_error = (log_likelihood(data, back[::-1], beta, kept) - log_p(data, 0.0, beta)).abs().mean().item()
    there = along_ode(data, back[::-1], beta, kept)[-1]  # data to noise …
    undone = (along_ode(there, back, beta, kept)[-1] - data).abs().mean().item()  # … and back
    memory = {name: torch.corrcoef(torch.stack([start, end]))[0, 1].item() for name, end in
              (("sde", sde[-1]), ("ode", ode[-1]))}  # fmt: skip
    gaps = [non_gaussian(n, beta) for n in STEPS]
    tick(0.9, "likelihood", **{"likelihood error": likelihood_error})

    shown = {name: path for name, path in (("sde", sde), ("ode", ode)) if params.solver in (name, "both")}
    columns = [f"{back[n]:.2f}" for n in looked]
    cells = torch.linspace(2.9, -2.9, 30)  # middles of cells 0.2 high
    rows = [f"{x:.1f}" for x in cells.numpy()]
    forward = torch.stack([log_p(cells, back[n], beta).exp() for n in looked[::-1]], dim=1)  # (30, 21)
    heat: list[Figure] = [
        Heatmap("Forward: density of x over time", "t", "x", forward.numpy().tolist(), rows, columns[::-1])
    ]
    for name, path in shown.items():
        density = torch.stack([torch.histc(path[n], 30, -3, 3).flip(0) / (0.2 * POINTS) for n in looked], dim=1)
        title = f"Back by the {name.upper()}: density of the particles"
        heat.append(Heatmap(title, "t", "x", density.numpy().tolist(), rows, columns))
    walkers = torch.tensor([start.sub(z).abs().argmin().item() for z in (-1.2, -0.4, 0.0, 0.4, 1.2)])
    every = max(1, steps // 100)
    return Result(
        metrics=[
            Metric("likelihood_error", likelihood_error, "nats"),
            Metric("Wasserstein-1, sde", apart["sde"][-1]),
            Metric("Wasserstein-1, ode", apart["ode"][-1]),
            Metric("KL to equilibrium at t = 1", kl[-1], "nats"),
            Metric("correlation of start and end, sde", memory["sde"]),
            Metric("correlation of start and end, ode", memory["ode"]),
        ],
        figures=[
            *heat,
            Lines("KL(p_t ‖ N(0, 1)): the free energy that relaxation loses", "t", "nats", times, {"KL": kl}),
            *(Lines(f"Five paths back by the {name.upper()}, from the same noise", "t", "x", back[::every],
                    {f"particle {n}": path[::every, w].numpy().tolist() for n, w in enumerate(walkers, start=1)})
              for name, path in shown.items()),
            Lines("Distance of the particles to p_t on the way back", "t", "Wasserstein-1", [back[n] for n in looked],
                  {name: apart[name] for name in shown}),
        ],
        tables=[
            Table("How far the true step back is from a Gaussian step along the score",
                  ["steps", "total variation"], [[n, gap] for n, gap in zip(STEPS, gaps, strict=True)]),
        ],
        claims=[
            Claim("KL to N(0, 1) falls at every step of the relaxation: rises", rises, "==", 0),
            Claim("At t = 1 nothing of the data is left: KL in nats", kl[-1], "<=", 0.01),
            Claim("The reverse SDE returns the mixture: Wasserstein-1 to it", apart["sde"][-1], "<=", 0.05),
            Claim("So does the ODE: Wasserstein-1 to it", apart["ode"][-1], "<=", 0.05),
            Claim(
                "Both pass the same densities: largest Wasserstein-1 to p_t at 21 times",
                max(apart["sde"] + apart["ode"]), "<=", 0.05,
            ),
            Claim("The ODE gives the exact log-density: mean error in nats", likelihood_error, "<=", 0.03),
            Claim("The ODE is a map, there and back: mean error of returned data", undone, "<=", 0.01),
            Claim("The SDE forgets its start: correlation of start and end", memory["sde"], "<=", 0.2),
            Claim("The ODE does not: correlation", memory["ode"], ">=", 0.6),
            Claim("Without the score the reversed drift does not return: Wasserstein-1",
                  distance_to_law(bare, 0.0, beta), ">=", 0.5),
            Claim("A small step back is nearly Gaussian: total variation at 1,000 steps", gaps[-1], "<=", 0.05),
            Claim("A long one is not: total variation at 10 steps", gaps[0], ">=", 0.1),
        ],
    )  # fmt: skip
