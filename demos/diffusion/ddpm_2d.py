"""A complete DDPM in the plane

Question: Can you watch every part of a diffusion model, from training step to sampling path?
Source: Ho, Jain, Abbeel 2020, arXiv:2006.11239, eq. (4), (7), (14), Algorithms 1 and 2; Song, Meng, Ermon 2020,
  arXiv:2010.02502, eq. (12); features of x: Tancik et al. 2020, arXiv:2006.10739.
Watch: a round cloud contracts onto the data while each point follows the arrows −ε̂. The data are Gaussians, so the
  best possible noise prediction is known and the network is measured against it. Train at one t only: it all fails.
"""

import itertools
import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from demos.contract import Claim, DemoParams, Figure, Lines, Metric, Preset, Result, Scatter, Table, Tick, no_tick
from demos.shared.perceptron import perceptron
from demos.shared.plane import MODES, STD, sliced_distance

WIDTH, BATCH, POINTS, LEVELS = 128, 256, 2_000, 20  # POINTS are sampled; the loss is read at LEVELS times


class Params(DemoParams):
    steps: int = Field(1500, ge=100, le=5000, description="Training steps")
    timesteps: int = Field(100, ge=10, le=500, description="Number of noise levels T")
    sampler: Literal["ddpm", "ddim"] = Field("ddpm", description="Sampler: with fresh noise in each step, or without")
    sampling_steps: int = Field(100, ge=2, le=500, description="Network passes (T when it is larger)")
    t_sampling: Literal["uniform", "fixed"] = Field("uniform", description="Train at random t, or at T/2 only")
    data: Literal["ring", "moons", "swissroll"] = Field("ring", description="Data")
    seed: int = Field(0, ge=0, le=9999, description="Seed of data, weights and sampling")

    presets: ClassVar[Mapping[str, Preset]] = {
        "one noise level": Preset("Trained at T/2 only, the network is lost at all other t", {"t_sampling": "fixed"}),
        "hardly trained": Preset("After 100 steps points find the ring, but not its modes", {"steps": 100}),
        "ten passes": Preset("DDIM leaps over ten levels at a time", {"sampler": "ddim", "sampling_steps": 10}),
        "swiss roll": Preset("Data on a curve instead of eight points", {"data": "swissroll"}),
    }


def centres(name: str) -> Tensor:
    """Points (K, 2) of which each carries a Gaussian of deviation STD: the data are their mixture."""
    if name == "ring":
        return MODES  # (8, 2)
    u = (torch.arange(200) + 0.5) / 200
    if name == "moons":
        angle = 2 * math.pi * u
        upper = torch.stack([angle.cos() - 0.5, angle.sin() - 0.25], dim=1)
        lower = torch.stack([0.5 - (angle - math.pi).cos(), 0.25 - (angle - math.pi).sin()], dim=1)
        return torch.where(u[:, None] < 0.5, upper, lower) * 1.2
    angle = 1.5 * math.pi * (1 + 2 * u.sqrt())  # the square root spreads the points evenly along the roll
    return torch.stack([angle * angle.cos(), angle * angle.sin()], dim=1) / 8


def make_schedule(T: int) -> Tensor:
    """ᾱ_0 … ᾱ_T, ᾱ_0 = 1, for β rising in a line from 0.1 / T to 10 / T; (T + 1,)."""
    betas = torch.linspace(0.1 / T, 10 / T, T, dtype=torch.float64).clamp(max=0.999)
    return torch.cat([torch.ones(1), torch.cumprod(1 - betas, dim=0).float()])


class Network(nn.Module):
    """ε_θ(x_t, t): a perceptron of sines and cosines of x and t."""

    def __init__(self, rng: torch.Generator) -> None:
        super().__init__()
        self.layers = perceptron([22, WIDTH, WIDTH, WIDTH, 2], nn.SiLU, rng)

    def forward(self, x: Tensor, share: Tensor) -> Tensor:
        """x (B, 2) and share = t / T (B,) -> predicted noise (B, 2)."""
        of_x = [f(k * x) for k in (1, 2, 4) for f in (torch.sin, torch.cos)]  # 6 of (B, 2)
        of_t = torch.stack([f(math.pi * k * share) for k in (0.5, 1, 2, 4) for f in (torch.sin, torch.cos)], dim=1)
        return self.layers(torch.cat([x, *of_x, of_t], dim=1))  # (B, 2 + 12 + 8) -> (B, 2)


def draw(data: Tensor, n: int, rng: torch.Generator) -> Tensor:
    """Points of the mixture around data (K, 2): (n, 2)."""
    return data[torch.randint(len(data), (n,), generator=rng)] + STD * torch.randn(n, 2, generator=rng)


def jump(x0: Tensor, eps: Tensor, alpha_bar_t: Tensor) -> Tensor:
    """x_t = √ᾱ_t x_0 + √(1 − ᾱ_t) ε, eq. (4); x0 and eps (B, 2), alpha_bar_t (B,)."""
    return alpha_bar_t.sqrt()[:, None] * x0 + (1 - alpha_bar_t).sqrt()[:, None] * eps


def best_noise(x: Tensor, alpha_bar_t: Tensor, data: Tensor) -> Tensor:
    """E[ε | x_t], which no network can beat, for x (B, 2) at alpha_bar_t (B,) of the mixture around data (K, 2)."""
    variance = (alpha_bar_t * STD**2 + 1 - alpha_bar_t)[:, None]  # (B, 1), of each Gaussian once noised
    gap = x[:, None] - alpha_bar_t.sqrt()[:, None, None] * data  # (B, K, 2)
    share = (-gap.square().sum(-1) / (2 * variance)).softmax(dim=1)  # (B, K), p(centre | x_t)
    return (1 - alpha_bar_t).sqrt()[:, None] / variance * (share[..., None] * gap).sum(dim=1)


def step_back(x: Tensor, eps: Tensor, a: Tensor, b: Tensor, sampler: str) -> tuple[Tensor, Tensor]:
    """Mean of the next, less noisy x (N, 2) and deviation of the noise to add; ᾱ goes from a up to b."""
    x0 = (x - (1 - a).sqrt() * eps) / a.sqrt()
    if sampler == "ddim":
        return b.sqrt() * x0 + (1 - b).sqrt() * eps, torch.zeros(())  # DDIM eq. (12) with σ = 0
    alpha = a / b  # of the stride; 1 − β_t when it is one step
    mean = b.sqrt() * (1 - alpha) / (1 - a) * x0 + alpha.sqrt() * (1 - b) / (1 - a) * x  # eq. (7)
    return mean, ((1 - b) / (1 - a) * (1 - alpha)).sqrt()


@torch.no_grad()
def sample(
    network: Network, alpha_bar: Tensor, sampler: str, passes: int, dice: torch.Generator
) -> tuple[list[int], list[Tensor], list[tuple[float, float]]]:
    """Algorithm 2: times visited from T to 0, the cloud (POINTS, 2) at each, and of each step two numbers.

    These are the root mean square of the mean per coordinate, and the deviation of the noise added to it.
    """
    T = len(alpha_bar) - 1
    times = [round(T - T * n / passes) for n in range(passes + 1)]
    x = torch.randn(POINTS, 2, generator=dice)
    clouds, moves = [x], list[tuple[float, float]]()
    for t, s in itertools.pairwise(times):
        eps = network(x, torch.full((POINTS,), t / T))
        mean, deviation = step_back(x, eps, alpha_bar[t], alpha_bar[s], sampler)
        x = mean + deviation * torch.randn(x.shape, generator=dice)
        clouds.append(x)
        moves.append((mean.square().mean().sqrt().item(), deviation.item()))
    return times, clouds, moves


def descend(network: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Take one step down the gradient, clipped to norm 1."""
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()


def shares(x: Tensor, data: Tensor) -> Tensor:
    """Share of x (N, 2) within three deviations of the data's centres, for each eighth of them: (8,)."""
    distance, nearest = torch.cdist(x, data).min(dim=1)  # (N,), (N,)
    return (nearest[distance < 3 * STD] * 8 // len(data)).bincount(minlength=8) / len(x)


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng, dice = (torch.Generator().manual_seed(2 * params.seed + odd) for odd in (0, 1))  # training; evaluation
    T, data = params.timesteps, centres(params.data)
    alpha_bar = make_schedule(T)
    network = Network(rng)
    adam = torch.optim.Adam(network.parameters(), fused=True)
    rate = torch.optim.lr_scheduler.OneCycleLR(adam, max_lr=4e-3, total_steps=params.steps)
    at, losses, recent = list[int](), list[float](), list[float]()
    for step in range(1, params.steps + 1):  # Algorithm 1
        x0 = draw(data, BATCH, rng)
        t = torch.randint(1, T + 1, (BATCH,), generator=rng)
        if params.t_sampling == "fixed":
            t = torch.full((BATCH,), T // 2)
        eps = torch.randn(BATCH, 2, generator=rng)
        loss = (eps - network(jump(x0, eps, alpha_bar[t]), t / T)).square().mean()  # eq. (14), per coordinate
        descend(network, adam, loss)
        rate.step()
        recent.append(loss.item())
        if step % 25 == 0:
            at.append(step)
            losses.append(sum(recent) / len(recent))
            recent.clear()
            tick(0.8 * step / params.steps, f"training step {step}", loss=losses[-1])

    passes = min(params.sampling_steps, T)
    times, clouds, moves = sample(network, alpha_bar, params.sampler, passes, dice)
    tick(0.9, f"sampled with {params.sampler}")
    ddim = {n: sample(network, alpha_bar, "ddim", n, torch.Generator().manual_seed(params.seed))[1][-1]
            for n in (10, min(100, T))}  # fmt: skip
    fresh = draw(data, POINTS, dice)
    distance = {n: sliced_distance(cloud, fresh) for n, cloud in ddim.items()}
    share = shares(clouds[-1], data)  # (8,)

    levels = sorted({max(1, round(T * part / LEVELS)) for part in range(LEVELS + 1)})
    by_t = list[list[float]]()
    noise = torch.randn(POINTS, 2, generator=dice)
    with torch.no_grad():
        for level in levels:
            now = alpha_bar[level].expand(POINTS)
            x = jump(fresh, noise, now)
            guess, best = network(x, torch.full((POINTS,), level / T)), best_noise(x, now, data)
            by_t.append([error.square().mean().item() for error in (noise - guess, noise - best, guess - best)])
    of_network, of_best, excess = ([row[column] for row in by_t] for column in range(3))

    # One training step of the trained network, with all numbers
    x0, eps = draw(data, BATCH, dice), torch.randn(BATCH, 2, generator=dice)
    t = torch.randint(1, T + 1, (BATCH,), generator=dice)
    x_t = jump(x0, eps, alpha_bar[t])
    guess = network(x_t, t / T)
    gradients = torch.autograd.grad((eps - guess).square().mean(), list(network.parameters()))
    guess = guess.detach()
    rows = [
        [int(t[n]), *(f"({v[n, 0].item():.2f}, {v[n, 1].item():.2f})" for v in (x0, eps, x_t, guess)),
         (eps[n] - guess[n]).square().mean().item()] for n in range(8)
    ]  # fmt: skip
    norms = [
        [name, "x".join(str(size) for size in weight.shape), gradient.square().sum().sqrt().item()]
        for (name, weight), gradient in zip(network.named_parameters(), gradients, strict=True)
    ]
    side = torch.linspace(-2.2, 2.2, 12)
    grid = torch.cartesian_prod(side, side)  # (144, 2)
    arrows = list[Figure]()
    for level in sorted({max(1, T // 10), T // 2, T}):
        with torch.no_grad():
            arrow = -network(grid, torch.full((len(grid),), level / T))
        trail = torch.cat([grid + 0.06 * k * arrow for k in (1, 2, 3)])
        arrows.append(
            Scatter(f"The arrows −ε̂ at t = {level}, three dots each", "x", "y",
                    {"tail": grid.numpy().tolist(), "arrow": trail.numpy().tolist()})
        )  # fmt: skip
    kept = sorted({round(passes * part / 5) for part in range(6)})
    walkers = torch.stack(clouds)[:, :8]  # (passes + 1, 8, 2)
    looked = sorted({round((passes - 1) * part / 11) for part in range(12)})
    return Result(
        metrics=[
            Metric("sliced_wasserstein", sliced_distance(clouds[-1], fresh)),
            Metric("distance of data to data", sliced_distance(draw(data, POINTS, dice), fresh)),
            Metric("near_mode_share", share.sum().item()),
            Metric("smallest mode share", share.min().item()),
            Metric("loss", sum(of_network) / len(of_network)),
            Metric("least possible loss", sum(of_best) / len(of_best)),
            Metric("sliced distance, DDIM 10", distance[10]),
            Metric("sliced distance, DDIM 100", distance[min(100, T)]),
        ],
        figures=[
            Scatter("From noise to data", "x", "y",
                    {f"t = {times[n]}": clouds[n][:300].numpy().tolist() for n in kept}),
            Scatter("Eight points on their way", "x", "y",
                    {f"point {n + 1}": walkers[:: max(1, passes // 100), n].numpy().tolist() for n in range(8)}),
            *arrows,
            Lines("Loss over training", "training step", "mean square per coordinate", at, {"loss": losses}),
            Lines("Loss at each noise level", "t", "mean square per coordinate", levels,
                  {"network": of_network, "best possible": of_best, "predicting zero": [1.0] * len(levels)}),
            Scatter("Noise of one batch", "first coordinate", "second coordinate",
                    {"true": eps[:100].numpy().tolist(), "predicted": guess[:100].numpy().tolist()}),
        ],
        tables=[
            Table("One training step: eight of its points", ["t", "x_0", "ε", "x_t", "ε̂", "squared error"], rows),
            Table("Gradient of that step, layer by layer", ["weights", "shape", "norm"], norms),
            Table("The sampling loop", ["t", "next t", "size of the mean", "deviation of the noise added"], [
                [times[n], times[n + 1], *moves[n]]
                for n in looked
            ]),
        ],
        claims=[
            Claim("All eight modes are hit: smallest share of the samples", share.min().item(), ">=", 0.07),
            Claim("Most samples lie within three deviations of a mode: share", share.sum().item(), ">=", 0.8),
            Claim(
                "Ten DDIM passes come near to what a hundred reach: sliced distance over sliced distance",
                distance[10] / distance[min(100, T)], "<=", 1.5,
            ),
            Claim(
                "The loss is far below that of predicting zero, which is 1",
                sum(of_network) / len(of_network), "<=", 0.34,
            ),
            Claim(
                "The network comes near E[ε | x_t], known exactly here: mean square off",
                sum(excess) / len(excess), "<=", 0.03,
            ),
        ],
    )  # fmt: skip
