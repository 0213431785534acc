"""One-dimensional GAN and its optimal discriminator

Question: What does the discriminator converge to, and what does the generator see of it?
Source: Goodfellow et al. 2014, arXiv:1406.2661, eq. (1), algorithm 1, proposition 1 and theorem 1.
Watch: D(x) against the dotted D* = p / (p + q). Trained alone, D reaches it; when both train, the generator's density
  moves onto the data and D flattens to one half. Freeze D instead, and the generator runs to where D is highest.
"""

import math
from collections.abc import Callable, Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, softplus

from demos.contract import Claim, DemoParams, Heatmap, Lines, Metric, Preset, Result, Scatter, Table, Tick, no_tick
from demos.shared.perceptron import perceptron

CENTRES, SPREADS = (0.0, 2.0), (0.5, 0.5)  # the data: two bells, half of it each
START = -2.0  # the untrained generator draws from N(START, 1)
WIDTH, BATCH, DRAWN, AHEAD, LOOKS = 32, 256, 50_000, 1_200, 20
GRID = torch.linspace(-8, 8, 641)  # (641,)
STEP = 16 / 640


class Params(DemoParams):
    phase: Literal["discriminator", "generator", "both"] = Field(
        "both", description="Train D against a fixed G, G against a fixed D, or alternate"
    )
    d_steps: int = Field(1, ge=1, le=20, description="Discriminator steps per generator step")
    rounds: int = Field(800, ge=100, le=3000, description="Alternating rounds")
    noise: Literal["gaussian", "uniform"] = Field("gaussian", description="Law of the noise vector")
    z_dim: int = Field(4, ge=1, le=32, description="Size of the noise vector")
    seed: int = Field(0, ge=0, le=9999, description="Random seed of data, weights and sampling")

    presets: ClassVar[Mapping[str, Preset]] = {
        "discriminator alone": Preset("D against a generator that stands still: it reaches D*, and nothing moves",
                                      {"phase": "discriminator"}),
        "generator alone": Preset("D stands still: all samples run to where it is most sure, and miss the data",
                                  {"phase": "generator"}),
        "one noise number": Preset("Data on a line needs no more: the map z to x is a warp", {"z_dim": 1}),
        "five discriminator steps": Preset("D stays nearer to D* in every round", {"d_steps": 5}),
    }  # fmt: skip


class Generator(nn.Module):
    """z (n, d) -> x (n, 1): a shifted sum of z plus a perceptron that starts at 0, so that q is known at first."""

    def __init__(self, d: int, rng: torch.Generator) -> None:
        super().__init__()
        self.warp = perceptron([d, WIDTH, WIDTH, 1], nn.Tanh, rng)
        for weight in self.warp[-1].parameters():
            nn.init.zeros_(weight)

    def forward(self, z: Tensor) -> Tensor:
        return START + z.sum(dim=1, keepdim=True) / math.sqrt(z.shape[1]) + self.warp(z)


def draw_noise(n: int, params: Params, rng: torch.Generator) -> Tensor:
    """z (n, d), independent numbers of mean 0 and variance 1."""
    if params.noise == "gaussian":
        return torch.randn(n, params.z_dim, generator=rng)
    return math.sqrt(12) * (torch.rand(n, params.z_dim, generator=rng) - 0.5)


def draw_data(n: int, rng: torch.Generator) -> Tensor:
    """Real numbers, (n, 1)."""
    which = torch.randint(2, (n, 1), generator=rng)
    return torch.tensor(CENTRES)[which] + torch.tensor(SPREADS)[which] * torch.randn(n, 1, generator=rng)


def data_density(x: Tensor) -> Tensor:
    """p at points x (n,)."""
    c, s = torch.tensor(CENTRES)[:, None], torch.tensor(SPREADS)[:, None]  # (2, 1)
    return (torch.exp(-((x - c) ** 2) / (2 * s**2)) / (s * math.sqrt(2 * math.pi))).mean(dim=0)


def estimate_density(samples: Tensor) -> Tensor:
    """q on GRID (641,) from samples (n,): a histogram of bins around the grid points, smoothed over 0.075."""
    edges = torch.linspace(-8 - STEP / 2, 8 + STEP / 2, 642)
    counts = torch.histogram(samples.clamp(-8, 8), edges).hist / (len(samples) * STEP)  # (641,)
    taps = torch.exp(-(torch.arange(-12, 13) ** 2) / (2 * 3.0**2))
    return nn.functional.conv1d(counts[None, None], (taps / taps.sum())[None, None], padding=12)[0, 0]


def best_discriminator(p: Tensor, q: Tensor) -> Tensor:
    """D* = p / (p + q), proposition 1; one half where there is neither."""
    return (p + 1e-12) / (p + q + 2e-12)


def jensen_shannon(p: Tensor, q: Tensor) -> float:
    """JS of two densities on GRID, in nats: 0 when they are equal, log 2 when nothing is shared."""
    m = (p + q) / 2
    kl = [torch.xlogy(a, a / m.clamp(min=1e-30)).sum().item() * STEP for a in (p, q)]
    return sum(kl) / 2


def value(real: Tensor, fake: Tensor) -> Tensor:
    """V(D, G), eq. (1), from the logits of D on real and generated numbers."""
    return logsigmoid(real).mean() + logsigmoid(-fake).mean()  # 1 - sigmoid(l) = sigmoid(-l)


def cross_entropy(D: Tensor, y: Tensor) -> Tensor:
    """Mean binary cross-entropy of probabilities D for labels y."""
    return -(y * D.log() + (1 - y) * (1 - D).log()).mean()


def wasserstein(a: Tensor, b: Tensor) -> float:
    """Wasserstein-1 distance of two samples of one size (n,): on a line the best transport pairs the sorted numbers."""
    return (a.sort().values - b.sort().values).abs().mean().item()


def judge(D: nn.Module) -> Tensor:
    """D(x) on GRID, (641,)."""
    with torch.no_grad():
        return D(GRID[:, None]).sigmoid()[:, 0]


def d_error(probability: Tensor, p: Tensor, q: Tensor) -> float:
    """Largest |D - D*| on GRID where p and q together are at least a tenth."""
    return (probability - best_discriminator(p, q)).abs()[p + q >= 0.1].max().item()


def value_by_drawing(star: Tensor, real: Tensor, fake: Tensor) -> float:
    """V(D*, G) as a mean over real and generated numbers (n,), of D* given on GRID (641,)."""
    on_real, on_fake = (star[((x + 8) / STEP).round().long().clamp(0, 640)] for x in (real, fake))  # (n,) each
    return (on_real.log().mean() + (1 - on_fake).clamp(min=1e-12).log().mean()).item()


def pairs(x: Tensor, y: Tensor) -> list[tuple[float, float]]:
    """Two lists of numbers (n,) as points."""
    return [(a.item(), b.item()) for a, b in zip(x, y, strict=True)]


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Take one step down the gradient of the loss."""
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()


def train_discriminator(G: nn.Module, params: Params, rng: torch.Generator, tick: Tick) -> nn.Module:
    """D trained to its optimum against a generator that stands still."""
    D = perceptron([1, WIDTH, WIDTH, 1], nn.Tanh, rng)
    adam = torch.optim.Adam(D.parameters(), lr=1e-2, fused=True)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(adam, AHEAD)
    for step in range(1, AHEAD + 1):
        with torch.no_grad():
            fake = G(draw_noise(4 * BATCH, params, rng))
        loss = -value(D(draw_data(4 * BATCH, rng)), D(fake))
        descend(adam, loss)
        rate.step()
        if step % 100 == 0:
            tick(step / AHEAD, f"D alone, step {step}", loss=loss.item())
    return D


def train(
    G: nn.Module, D: nn.Module, params: Params, rng: torch.Generator, look: Callable[[int, float, float], None]
) -> None:
    """Algorithm 1 with Adam: d_steps of D, then one of G by -log D(G(z)), as §3 advises; a fixed player sits out."""
    adam_g = torch.optim.Adam(G.parameters(), lr=2e-3, betas=(0.5, 0.999), fused=True)
    adam_d = torch.optim.Adam(D.parameters(), lr=4e-3, betas=(0.5, 0.999), fused=True)
    for number in range(1, params.rounds + 1):
        decay = min(1.0, 2 * (1 - number / (params.rounds + 1)))  # over the second half, so that the circling dies down
        adam_g.param_groups[0]["lr"], adam_d.param_groups[0]["lr"] = 2e-3 * decay, 4e-3 * decay
        d_loss = torch.zeros(())
        for _ in range(params.d_steps):
            fake = G(draw_noise(BATCH, params, rng)).detach()
            d_loss = -value(D(draw_data(BATCH, rng)), D(fake))
            if params.phase != "generator":
                descend(adam_d, d_loss)
        g_loss = softplus(-D(G(draw_noise(BATCH, params, rng)))).mean()
        if params.phase != "discriminator":
            descend(adam_g, g_loss)
        look(number, d_loss.item(), g_loss.item())


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng, dice = (torch.Generator().manual_seed(2 * params.seed + odd) for odd in (0, 1))  # training; evaluation
    p, z, real = data_density(GRID), draw_noise(DRAWN, params, dice), draw_data(DRAWN, dice)
    G = Generator(params.z_dim, rng)
    with torch.no_grad():
        start = G(z)  # (N, 1)
    q_start = estimate_density(start[:, 0])

    def part(fraction: float, message: str, **live: float) -> None:
        tick(0.4 * fraction, message, **live)

    alone = train_discriminator(G, params, rng, part)
    judgement_alone = judge(alone)
    star_start = best_discriminator(p, q_start)  # (641,)
    error_alone = ((judgement_alone - star_start).abs() * (p + q_start) / 2).sum().item() * STEP
    v_star = value_by_drawing(star_start, draw_data(DRAWN, dice)[:, 0], start[:, 0])
    v_gap = abs(v_star - (2 * jensen_shannon(p, q_start) - math.log(4)))

    D = perceptron([1, WIDTH, WIDTH, 1], nn.Tanh, rng) if params.phase == "both" else alone
    at, rows, recent = list[int](), list[tuple[float, ...]](), list[tuple[float, float]]()
    clouds, judgements, errors = [q_start], [judge(D)], list[float]()
    every = max(1, params.rounds // LOOKS)

    def look(number: int, d_loss: float, g_loss: float) -> None:
        recent.append((d_loss, g_loss))
        if number % every:
            return
        with torch.no_grad():
            clouds.append(estimate_density(G(z)[:, 0]))
        judgements.append(judge(D))
        errors.append(d_error(judgements[-1], p, clouds[-1]))
        d_mean, g_mean = (sum(pair[side] for pair in recent) / len(recent) for side in (0, 1))
        recent.clear()
        at.append(number)
        rows.append((d_mean, g_mean, -d_mean, 2 * jensen_shannon(p, clouds[-1]) - math.log(4)))
        tick(0.4 + 0.6 * number / params.rounds, f"round {number}", **{"D loss": d_mean, "G loss": g_mean})

    train(G, D, params, rng, look)

    with torch.no_grad():
        fake = G(z)  # (N, 1)
        on_real, on_fake = D(real).double(), D(fake).double()  # (N, 1) each
    q, probability = estimate_density(fake[:, 0]), judge(D)  # (641,) each
    js, v = jensen_shannon(p, q), value(on_real, on_fake).item()
    label = torch.cat([torch.ones_like(on_real), torch.zeros_like(on_fake)])
    bce_gap = abs(2 * cross_entropy(torch.cat([on_real, on_fake]).sigmoid(), label).item() + v)
    w_start, w_end = wasserstein(start[:, 0], real[:, 0]), wasserstein(fake[:, 0], real[:, 0])
    mean_d = on_real.sigmoid().mean().item()

    shown = slice(160, 521, 4)  # x from -4 to 5
    names = ["D loss", "G loss", "V(D, G)", "2 JS - log 4"]
    along = z.sum(dim=1) / math.sqrt(params.z_dim)  # (N,)
    x_at = GRID[shown].numpy().tolist()
    return Result(
        metrics=[
            Metric("d_error", d_error(probability, p, q), "largest |D - D*| where there is data"),
            Metric("d_error over the rounds", sum(errors) / len(errors), "mean of the looks"),
            Metric("js", js, "nats"),
            Metric("V(D, G)", v, "nats"),
            Metric("2 JS - log 4", 2 * js - math.log(4), "nats"),
            Metric("Wasserstein-1 distance at the start", w_start),
            Metric("Wasserstein-1 distance at the end", w_end),
            Metric("mean D on data", mean_d),
        ],
        figures=[
            Lines("Densities and discriminator at the end", x="x", y="density; probability", at=x_at, series={
                "data p": p[shown].numpy().tolist(), "generator q": q[shown].numpy().tolist(),
                "generator at the start": q_start[shown].numpy().tolist(),
                "D": probability[shown].numpy().tolist(),
                "D* = p / (p + q)": best_discriminator(p, q)[shown].numpy().tolist(),
            }),
            Lines("Losses and the value of the game", x="round", y="nats", at=at,
                  series={name: [row[column] for row in rows] for column, name in enumerate(names)}),
            Lines("D alone against the generator of the start", x="x", y="probability", at=x_at, series={
                "D": judgement_alone[shown].numpy().tolist(), "D* = p / (p + q)": star_start[shown].numpy().tolist()}),
            Heatmap("Generator density over the rounds", x="x", y="round",
                    values=[cloud[shown].numpy().tolist() for cloud in clouds],
                    row_labels=["0", *map(str, at)], column_labels=[f"{x:.1f}" for x in x_at]),
            Heatmap("D(x) over the rounds", x="x", y="round",
                    values=[judgement[shown].numpy().tolist() for judgement in judgements],
                    row_labels=["0", *map(str, at)], column_labels=[f"{x:.1f}" for x in x_at]),
            Scatter("The generator as a map", x="sum of z / √d", y="x", series={
                "at the start": pairs(along[:400], start[:400, 0]), "at the end": pairs(along[:400], fake[:400, 0])}),
        ],
        tables=[
            Table("Which numbers each loss moves", ["network", "inputs", "parameters", "trained in this phase"],
                  [["generator", params.z_dim, sum(w.numel() for w in G.parameters()), params.phase != "discriminator"],
                   ["discriminator", 1, sum(w.numel() for w in D.parameters()), params.phase != "generator"]]),
        ],
        claims=[
            Claim("Against a fixed generator D reaches p / (p + q): mean |D - D*| over data and samples", error_alone,
                  "<=", 0.03),
            Claim("V(D*, G), drawn, is 2 JS - log 4, integrated: difference", v_gap, "<=", 0.02),
            Claim("Twice the mean binary cross-entropy of D is -V: difference", bce_gap, "<=", 1e-6),
            Claim("Training ends near the data: Wasserstein-1 over that of the start", w_end / w_start, "<=", 0.25),
            Claim("And D cannot tell: mean D on data, at least", mean_d, ">=", 0.4),
            Claim("And D cannot tell: mean D on data, at most", mean_d, "<=", 0.6),
        ],
    )  # fmt: skip
