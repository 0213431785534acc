"""Telling the network what time it is

Question: How does a single number t steer a whole network?
Source: Vaswani et al. 2017, arXiv:1706.03762, §3.5; Tancik et al. 2020, arXiv:2006.10739, eq. (5); Ho et al. 2020,
  arXiv:2006.11239, Appendix B; adaptive group normalisation: Dhariwal, Nichol 2021, arXiv:2105.05233, §3, eq. (3).
Watch: the rows of the table wave fast or slowly, near times look alike, far ones do not. Without t the network must
  guess the noise level from a point, and the loss rises by half; how t is written matters little on data this small.
"""

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from demos.contract import Claim, DemoParams, Figure, Heatmap, Lines, Metric, Preset, Result, Tick, no_tick
from demos.shared.plane import MODES, STD, draw_ring

T, WIDTH, GROUPS, BATCH, POINTS = 1000, 64, 8, 256, 2_000
KINDS = ["sinusoidal", "fourier", "raw", "none"]
BETAS = torch.linspace(1e-4, 0.02, T, dtype=torch.float64)
ALPHA_BAR = torch.cat([torch.ones(1), torch.cumprod(1 - BETAS, dim=0).float()])  # (T + 1,), ᾱ_0 = 1


class Params(DemoParams):
    embedding: Literal["sinusoidal", "fourier", "raw", "none"] = Field("sinusoidal", description="Embedding of t")
    injection: Literal["add", "adagn"] = Field("adagn", description="How it enters the blocks")
    dim: int = Field(32, ge=4, le=256, description="Numbers in the embedding (made even)")
    scale: float = Field(16.0, ge=1.0, le=64.0, description="Standard deviation of the random Fourier frequencies")
    steps: int = Field(500, ge=100, le=2000, description="Training steps of each network")
    seed: int = Field(0, ge=0, le=9999, description="Seed of data, weights and frequencies")

    presets: ClassVar[Mapping[str, Preset]] = {
        "no time": Preset("One network for all noise levels, told none: the loss rises", {"embedding": "none"}),
        "raw number": Preset("t itself, one number: to the cosine all times are the same", {"embedding": "raw"}),
        "fast": Preset("Frequencies so high that near times look unrelated", {"embedding": "fourier", "scale": 64.0}),
        "added": Preset("Shift only, as in DDPM, in place of scale and shift", {"injection": "add"}),
    }


def sinusoidal(t: Tensor, dim: int) -> Tensor:
    """sin(ω_k t), then cos(ω_k t), ω_k falling from 1 to nearly 1/10,000 in a geometric series: (B,) -> (B, dim)."""
    omega = torch.exp(-math.log(10_000) * torch.arange(dim // 2, dtype=torch.float64) / (dim // 2))  # (dim / 2,)
    angle = t.double()[:, None] * omega  # in float64: at t = 1000 float32 would lose a digit
    return torch.cat([angle.sin(), angle.cos()], dim=1).float()


def fourier(t: Tensor, frequencies: Tensor) -> Tensor:
    """sin(2π b t / T), cos(2π b t / T) for random frequencies b (dim / 2,), drawn once: (B,) -> (B, dim)."""
    angle = 2 * math.pi * (t.double() / T)[:, None] * frequencies.double()
    return torch.cat([angle.sin(), angle.cos()], dim=1).float()


def group_norm(h: Tensor) -> Tensor:
    """Each group of channels to mean 0 and variance 1: (B, C) -> (B, C)."""
    groups = h.view(len(h), GROUPS, -1)  # (B, G, C / G)
    centred = groups - groups.mean(dim=2, keepdim=True)
    return (centred / (centred.square().mean(dim=2, keepdim=True) + 1e-5).sqrt()).view_as(h)


class Block(nn.Module):
    """A residual block that reads the time vector: h + W₂ SiLU(norm(W₁ h) and t)."""

    def __init__(self, injection: str) -> None:
        super().__init__()
        self.injection = injection
        self.first, self.second = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.time = nn.Linear(WIDTH, 2 * WIDTH if injection == "adagn" else WIDTH)

    def modulate(self, h: Tensor, vector: Tensor) -> Tensor:
        """Let t act on channels (B, C): AdaGN(h, t) = (1 + t_s) GroupNorm(h) + t_b, or GroupNorm(h + t_b)."""
        if self.injection == "adagn":
            scale, shift = self.time(vector).chunk(2, dim=1)  # (B, C) each
            return (1 + scale) * group_norm(h) + shift
        return group_norm(h + self.time(vector))

    def forward(self, h: Tensor, vector: Tensor) -> Tensor:
        return h + self.second(nn.functional.silu(self.modulate(self.first(h), vector)))


class Denoiser(nn.Module):
    """ε_θ(x_t, t) of points in the plane; the time goes through two linear layers into each of three blocks."""

    def __init__(self, kind: str, params: Params, rng: torch.Generator) -> None:
        super().__init__()
        self.kind, self.dim = kind, params.dim // 2 * 2
        self.frequencies = nn.Buffer(params.scale * torch.randn(self.dim // 2, generator=rng))
        self.mlp = nn.Sequential(nn.Linear(1 if kind == "raw" else self.dim, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH))
        self.enter, self.leave = nn.Linear(14, WIDTH), nn.Linear(WIDTH, 2)
        self.blocks = [Block(params.injection) for _ in range(3)]
        self.body = nn.ModuleList(self.blocks)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):  # torch's usual range, from a generator of our own
                bound = layer.in_features**-0.5
                nn.init.uniform_(layer.weight, -bound, bound, generator=rng)
                nn.init.uniform_(layer.bias, -bound, bound, generator=rng)

    def embed(self, t: Tensor) -> Tensor:
        """Times (B,) -> (B, dim); one number for "raw"; zeros for "none"."""
        if self.kind == "raw":
            return t[:, None] / T
        if self.kind == "none":
            return torch.zeros(len(t), self.dim)
        return sinusoidal(t, self.dim) if self.kind == "sinusoidal" else fourier(t, self.frequencies)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """x (B, 2), t (B,) -> predicted noise (B, 2)."""
        vector = nn.functional.silu(self.mlp(self.embed(t)))  # (B, C), read by every block
        waves = [f(k * x) for k in (1, 2, 4) for f in (torch.sin, torch.cos)]
        h = self.enter(torch.cat([x, *waves], dim=1))  # (B, 14) -> (B, C)
        for block in self.blocks:
            h = block(h, vector)
        return self.leave(h)


def noised(x0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
    """x_t = √ᾱ_t x_0 + √(1 − ᾱ_t) ε; (B, 2)."""
    a = ALPHA_BAR[t][:, None]
    return a.sqrt() * x0 + (1 - a).sqrt() * eps


def best_noise(x: Tensor, t: Tensor) -> Tensor:
    """E[ε | x_t, t], known exactly for the ring: the loss that no network can beat; (B, 2)."""
    a = ALPHA_BAR[t][:, None]
    variance = a * STD**2 + 1 - a  # (B, 1)
    gap = x[:, None] - a.sqrt()[..., None] * MODES  # (B, 8, 2)
    share = (-gap.square().sum(-1) / (2 * variance)).softmax(dim=1)  # (B, 8)
    return (1 - a).sqrt() / variance * (share[..., None] * gap).sum(dim=1)


def descend(network: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Take one step down the gradient, clipped to norm 1."""
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()


def train(kind: str, params: Params, tick: Tick) -> Denoiser:
    """Fit one denoiser; all see the same batches."""
    rng = torch.Generator().manual_seed(2 * params.seed)
    network, draws = Denoiser(kind, params, rng), torch.Generator().manual_seed(2 * params.seed)
    adam = torch.optim.Adam(network.parameters(), fused=True)
    rate = torch.optim.lr_scheduler.OneCycleLR(adam, max_lr=4e-3, total_steps=params.steps)
    for step in range(params.steps):
        x0, t = draw_ring(BATCH, draws), torch.randint(1, T + 1, (BATCH,), generator=draws)
        eps = torch.randn(BATCH, 2, generator=draws)
        loss = (network(noised(x0, t, eps), t) - eps).square().mean()
        descend(network, adam, loss)
        rate.step()
        if step % 25 == 0:
            done = (KINDS.index(kind) + step / params.steps) / len(KINDS)
            tick(0.9 * done, f"embedding {kind}, step {step}", **{f"loss, {kind}": loss.item()})
    return network


def run(params: Params, tick: Tick = no_tick) -> Result:
    networks = {kind: train(kind, params, tick) for kind in KINDS}
    dice = torch.Generator().manual_seed(2 * params.seed + 1)
    x0, eps = draw_ring(POINTS, dice), torch.randn(POINTS, 2, generator=dice)
    levels = list(range(25, T + 1, 25))
    by_t: dict[str, list[float]] = {name: [] for name in (*KINDS, "best possible")}
    for level in levels:
        t = torch.full((POINTS,), level)
        x = noised(x0, t, eps)
        with torch.no_grad():
            for kind, network in networks.items():
                by_t[kind].append((network(x, t) - eps).square().mean().item())
        by_t["best possible"].append((best_noise(x, t) - eps).square().mean().item())
    loss = {name: sum(errors) / len(errors) for name, errors in by_t.items()}

    chosen, times = networks[params.embedding], torch.arange(1, T + 1)
    with torch.no_grad():
        table = chosen.embed(times)  # (T, dim)
        vector = nn.functional.silu(chosen.mlp(table))  # (T, C)
        block, h = chosen.blocks[0], torch.randn(T, WIDTH, generator=dice)
        acts = block.time(vector)  # (T, 2C): scale and shift, or (T, C): shift
        scale = 1 + acts[:, :WIDTH] if params.injection == "adagn" else torch.ones(T, WIDTH)
        before, after = (0, acts[:, WIDTH:]) if params.injection == "adagn" else (acts, 0)
        reference = scale * nn.functional.group_norm(h + before, GROUPS) + after
        off_norm = (block.modulate(h, vector) - reference).abs().max().item()
    rows = nn.functional.normalize(table.double(), dim=1)
    similarity = rows @ rows.T  # (T, T), cosine of every two times
    along = [similarity.diagonal(k) for k in range(T)]
    uneven = max((d.max() - d.min()).item() for d in along)
    fall = torch.stack([d.mean() for d in along])  # (T,), by difference
    near = torch.corrcoef(torch.stack([torch.arange(11.0).double(), fall[:11]]))[0, 1].item()

    pick = list(range(0, T, 40))  # times in the heatmaps
    names = [str(t + 1) for t in pick]
    figures: list[Figure] = [
        Heatmap(f"Embedding of every 40th t: {params.embedding}", "t", "number", table[pick].T.numpy().tolist(),
                [str(n) for n in range(table.shape[1])], names),
        Heatmap("Cosine similarity of two times", "t", "t", similarity[pick][:, pick].numpy().tolist(), names, names),
        Lines("Similarity over the difference of times", "difference", "cosine", list(range(0, 400, 2)),
              {params.embedding: fall[:400:2].numpy().tolist()}),
        Lines("Denoising error at each noise level", "t", "mean square per coordinate", levels, by_t),
        Lines("What t multiplies eight channels of the first block with", "t", "scale", [t + 1 for t in pick],
              {f"channel {c}": scale[pick, c].numpy().tolist() for c in range(0, WIDTH, 8)}),
    ]  # fmt: skip
    mine = loss[params.embedding]
    return Result(
        metrics=[
            Metric("loss", mine),
            *(Metric(f"loss, {name}", value) for name, value in loss.items()),
            Metric("largest change of a channel's scale over t", (scale.amax(0) - scale.amin(0)).max().item()),
        ],
        figures=figures,
        claims=[
            Claim("Similarity depends on the difference of times alone: unevenness along it", uneven, "<=", 1e-5),
            Claim("It falls over the next ten times: correlation with the difference", near, "<=", -0.8),
            Claim("Times five apart are still alike: cosine", fall[5].item(), ">=", 0.55),
            Claim("Without time the loss is clearly higher: its loss over this run's", loss["none"] / mine, ">=", 1.3),
            Claim("With time it nears the least possible: loss over that", mine / loss["best possible"], "<=", 1.15),
            Claim("t acts through torch's group norm, scaled and shifted: largest difference", off_norm, "<=", 1e-5),
        ],
    )  # fmt: skip
