"""From data to noise in one jump

Question: Does jumping straight to step t give the same law as adding noise t times?
Source: Ho, Jain, Abbeel 2020, arXiv:2006.11239, eq. (2) and (4); cosine schedule: Nichol, Dhariwal 2021,
  arXiv:2102.09672, eq. (17); Kolmogorov–Smirnov test: Kolmogorov 1933.
Watch: the chain's mean factor and deviation on top of √ᾱ and √(1 − ᾱ) at every step. Leave out the shrinking by
  √(1 − β) and the noise piles up on the data instead of replacing it.
"""

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from sklearn.datasets import make_moons
from torch import Tensor

from demos.contract import (
    Claim,
    DemoParams,
    Figure,
    Images,
    Lines,
    Metric,
    Preset,
    Result,
    Scatter,
    Table,
    Tick,
    no_tick,
)
from demos.shared.digits import load_digits

WIDTH = 64  # coordinates in a row: the pixels of a digit, the coordinates of 32 points, or 64 copies of one point


class Params(DemoParams):
    timesteps: int = Field(200, ge=10, le=1000, description="Number of steps T")
    schedule: Literal["linear", "cosine"] = Field("linear", description="Noise schedule")
    t: int = Field(60, ge=1, le=1000, description="Step inspected (T when it is larger)")
    data: Literal["digits", "moons", "point"] = Field("digits", description="What is noised")
    chains: int = Field(20_000, ge=1000, le=100_000, description="Chains, one for each coordinate, for the statistics")
    shrink: bool = Field(True, description="Scale x by √(1 − β) in each step of the chain, as the paper does")
    seed: int = Field(0, ge=0, le=9999, description="Seed of the data drawn and of all noise")

    presets: ClassVar[Mapping[str, Preset]] = {
        "no-shrink": Preset("Noise alone piles up: variance grows and the data never goes away", {"shrink": False}),
        "coarse": Preset("Ten steps reach the same noise in large strides", {"timesteps": 10, "t": 3}),
        "cosine": Preset("The cosine schedule keeps the data longer", {"schedule": "cosine"}),
    }


def linear_betas(T: int) -> Tensor:
    """β_1 … β_T, float64: the paper's 1e-4 to 0.02 at T = 1000, scaled so that any T ends in the same noise."""
    return (torch.linspace(1e-4, 0.02, T, dtype=torch.float64) * 1000 / T).clamp(max=0.999)  # (T,)


def cosine_alpha_bar(T: int) -> Tensor:
    """ᾱ_0 … ᾱ_T of the cosine schedule, float64."""
    t = torch.arange(T + 1, dtype=torch.float64) / T  # (T + 1,)
    f = torch.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2
    return f / f[0]


def make_schedule(name: str, T: int) -> tuple[Tensor, Tensor]:
    """β_1 … β_T, and ᾱ_1 … ᾱ_T not as a running product but as the schedule states it; (T,) each."""
    if name == "cosine":
        alpha_bar = cosine_alpha_bar(T)
        return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=0.999), alpha_bar[1:]  # clipped as in the paper
    betas = linear_betas(T)
    return betas, torch.exp(torch.log1p(-betas).cumsum(0))


def step(x: Tensor, beta: Tensor, rng: torch.Generator, shrink: bool = True) -> Tensor:
    """Draw x_t from q(x_t | x_{t−1}) = N(√(1 − β_t) x_{t−1}, β_t I), eq. (2). x (N, D) -> (N, D)."""
    return (math.sqrt(1 - beta) if shrink else 1.0) * x + math.sqrt(beta) * torch.randn(x.shape, generator=rng)


def jump(x0: Tensor, alpha_bar_t: Tensor, noise: Tensor) -> Tensor:
    """x_t as q(x_t | x_0) = N(√ᾱ_t x_0, (1 − ᾱ_t) I) gives it, eq. (4). x0, noise (N, D) -> (N, D)."""
    return math.sqrt(alpha_bar_t) * x0 + math.sqrt(1 - alpha_bar_t) * noise


def draw_data(name: str, rows: int, rng: torch.Generator) -> Tensor:
    """Rows of coordinates about as large as 1: (rows, WIDTH)."""
    if name == "digits":
        images, _ = load_digits()  # (1797, 1, 8, 8)
        chosen = torch.randint(len(images), (rows,), generator=rng)
        return 2 * images[chosen].view(rows, WIDTH) - 1
    if name == "moons":
        points, _ = make_moons(rows * WIDTH // 2, noise=0.05, random_state=int(torch.randint(2**31, (), generator=rng)))
        return torch.tensor(points, dtype=torch.float32).sub(torch.tensor([0.5, 0.25])).view(rows, WIDTH)
    return torch.ones(rows, WIDTH)


def moments(x: Tensor, x0: Tensor, alpha_bar_t: Tensor) -> float:
    """How far x_t is from N(√ᾱ_t x_0, 1 − ᾱ_t) in mean and variance: the larger distance in standard errors."""
    rest = ((x - math.sqrt(alpha_bar_t) * x0) / math.sqrt(1 - alpha_bar_t)).double().flatten()  # N(0, 1) if so
    mean, variance = rest.mean() * math.sqrt(len(rest)), (rest.var() - 1) * math.sqrt(len(rest) / 2)
    return max(mean.abs().item(), variance.abs().item())


def partial_correlation(a: Tensor, b: Tensor, c: Tensor) -> float:
    """Correlation of a and c once b, which lies between them, is known."""
    r = torch.corrcoef(torch.stack([x.double().flatten() for x in (a, b, c)]))  # (3, 3)
    ab, ac, bc = r[0, 1].item(), r[0, 2].item(), r[1, 2].item()
    return (ac - ab * bc) / math.sqrt((1 - ab**2) * (1 - bc**2))


def ks_p_value(x: Tensor) -> Tensor:
    """Kolmogorov–Smirnov test of each column of x (n, D) against N(0, 1), asymptotic p-values (D,)."""
    n = len(x)
    cdf = (1 + torch.erf(x.double().sort(dim=0).values / math.sqrt(2))) / 2  # (n, D)
    rank = torch.arange(n + 1, dtype=torch.float64)[:, None] / n  # (n + 1, 1)
    distance = torch.maximum((rank[1:] - cdf).max(0).values, (cdf - rank[:-1]).max(0).values)  # (D,)
    k = torch.arange(1, 101, dtype=torch.float64)[:, None]
    return (2 * ((-1) ** (k - 1) * torch.exp(-2 * n * (k * distance) ** 2)).sum(0)).clamp(0, 1)


def histogram(x: Tensor, edges: Tensor) -> list[float]:
    """Density of all values of x in the bins between edges (B + 1,) -> B numbers."""
    counts = torch.histogram(x.flatten(), edges).hist  # (B,)
    return (counts / (x.numel() * (edges[1] - edges[0]))).numpy().tolist()


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng = torch.Generator().manual_seed(params.seed)
    T, t = params.timesteps, min(params.t, params.timesteps)
    betas, stated = make_schedule(params.schedule, T)  # (T,), β_t is betas[t - 1]
    alpha_bar = torch.cumprod(1 - betas, dim=0)  # (T,), eq. (4)
    x0 = draw_data(params.data, max(2, round(params.chains / WIDTH)), rng)  # (N, 64)

    shown = sorted({0, T, *(round(T * share / 11) for share in range(12))})  # twelve steps from clean to noise
    lag = max(3, t)  # the first step with two noisy ones before it
    path = {0: x0}  # the steps that are looked at again
    share, spread = list[float](), list[float]()
    x = x0
    for now in range(1, T + 1):
        x = step(x, betas[now - 1], rng, params.shrink)  # (N, 64)
        share.append(((x * x0).sum() / (x0 * x0).sum()).item())  # regression through 0: how much of x_0 is in x_t
        spread.append((x - share[-1] * x0).std().item())
        if now in (*shown, t, lag - 2, lag - 1, lag):
            path[now] = x
        tick(now / T, f"step {now}", **{"mean factor": share[-1], "deviation": spread[-1]})

    jumped = jump(x0, alpha_bar[t - 1], torch.randn(x0.shape, generator=rng))  # (N, 64)
    factor, deviation = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()  # (T,), what eq. (4) says
    chain_off, jump_off = moments(path[t], x0, alpha_bar[t - 1]), moments(jumped, x0, alpha_bar[t - 1])
    memory = abs(partial_correlation(path[lag - 2], path[lag - 1], path[lag])) * math.sqrt(x0.numel())
    product_gap = (alpha_bar - stated).abs().max().item()
    normal = (ks_p_value(path[T]) >= 0.01).double().mean().item()

    figures = list[Figure]()
    if params.data == "digits":
        pictures = [((path[n][0].view(8, 8) + 1) / 2).clamp(0, 1).numpy().tolist() for n in shown]
        figures.append(Images("A digit on its way to noise", [pictures], (), [f"t = {n}" for n in shown]))
    if params.data == "moons":
        clouds = {f"t = {n}": path[n].reshape(-1, 2)[:300].numpy().tolist() for n in sorted({0, t, T})}
        figures.append(Scatter("Two moons on their way to noise", "x", "y", clouds))
    edges = torch.linspace(-4, 4, 65)  # (65,)
    centres = (edges[1:] + edges[:-1]) / 2  # (64,)
    histograms = {"chain": histogram(path[t], edges), "jump": histogram(jumped, edges)}
    steps = list(range(1, T + 1))
    curves = {
        "mean factor, chain": share,
        "√ᾱ": factor.numpy().tolist(),
        "deviation, chain": spread,
        "√(1 − ᾱ)": deviation.numpy().tolist(),
    }
    rows = sorted({1, T // 4, T // 2, 3 * T // 4, T, t})
    return Result(
        metrics=[
            Metric("ᾱ at your step", alpha_bar[t - 1].item()),
            Metric("ᾱ at the last step", alpha_bar[-1].item()),
            Metric("coordinates at T that pass the normal test", normal, "share"),
        ],
        figures=[
            *figures,
            Lines("Chain against formula", "t", "of x_0; of the noise", steps, curves),
            Lines(f"Chain and jump at t = {t}", "x_t", "density", centres.numpy().tolist(), histograms),
        ],
        tables=[
            Table(
                "The kernel q(x_t | x_0)",
                ["t", "β", "α = 1 − β", "ᾱ", "mean factor √ᾱ", "deviation √(1 − ᾱ)"],
                [[n, *(v[n - 1].item() for v in (betas, 1 - betas, alpha_bar, factor, deviation))] for n in rows],
            )
        ],
        claims=[
            Claim(
                "The chain has the mean and variance of the formula: distance in standard errors", chain_off, "<=", 4.0
            ),
            Claim("So has the jump: distance in standard errors", jump_off, "<=", 4.0),
            Claim("Given x_{t−1}, x_{t−2} adds nothing: partial correlation in standard errors", memory, "<=", 4.0),
            Claim("ᾱ is the running product of 1 − β: largest difference", product_gap, "<=", 1e-6),
            Claim("Nothing of the data is left at T: ᾱ", alpha_bar[-1].item(), "<=", 0.02),
            Claim("At T the chain is standard normal: share of coordinates with p ≥ 0.01", normal, ">=", 0.9),
        ],
    )
