"""Why a mapping network: a latent space that may bend

Question: Can a mapping network undo the warping that a fixed Gaussian latent forces on the generator?
Source: Karras, Laine, Aila 2018, arXiv:1812.04948, §4 with fig. 6, §4.1 (path length), table 4; slerp: Shoemake 1985.
Watch: two factors, and no data where both are high. Over Z the grid must bend around that corner, over W it is
  straight. W is straighter than the Z of a network without mapping, and the Z before a mapping network is the worst of
  the three, as in the paper's table 4. Remove the mapping network and the gain is gone.
"""

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from demos.contract import Claim, DemoParams, Lines, Metric, Preset, Result, Scatter, Table, Tick, no_tick

CUT = -0.4  # no data where both factors, each in [-1, 1], lie above it
MAPPING, SYNTHESIS, BATCH = 32, 16, 256  # hidden units of the two networks; samples in a step
CODES, PATHS = 4_000, 2_000  # codes for R² and the corner, pairs of codes for the path length

Path = Callable[[Tensor], Tensor]  # points (N, 2) on N paths at times t (N, 1)


class Params(DemoParams):
    mapping_layers: int = Field(8, ge=0, le=8, description="Depth of the mapping network; 0 removes it, so that w is z")
    path: Literal["full", "end"] = Field("full", description="Path length at times anywhere on the path, or at its end")
    interpolation: Literal["slerp", "lerp"] = Field("slerp", description="Interpolation in Z (in W always lerp)")
    epsilon: float = Field(0.001, ge=0.0001, le=0.1, description="Step of the path length")
    steps: int = Field(600, ge=100, le=2000, description="Training steps")
    seed: int = Field(0, ge=0, le=9999, description="Seed of data, weights and sampling")

    presets: ClassVar[Mapping[str, Preset]] = {
        "no mapping network": Preset("W is Z: it cannot be straighter than itself", {"mapping_layers": 0}),
        "one linear layer": Preset("A linear map turns and stretches Z and straightens nothing", {"mapping_layers": 1}),
        "ends only": Preset(
            "W is not charged for the middle of paths, which may cross the corner that no code reaches", {"path": "end"}
        ),
    }


def draw_factors(n: int, rng: torch.Generator) -> Tensor:
    """Two factors, uniform on the square but for the missing corner, (n, 2)."""
    x = 2 * torch.rand(3 * n, 2, generator=rng) - 1  # about half of the square is corner
    return x[(x < CUT).any(dim=1)][:n]


def mapping_network(layers: int, rng: torch.Generator) -> nn.Module:
    """f: z (N, 2) -> w (N, 2), fully connected layers with LeakyReLU between them."""
    sizes = [2] + [MAPPING] * (layers - 1) + [2] * (layers > 0)
    parts: list[nn.Module] = []
    for n, m in itertools.pairwise(sizes):
        layer = nn.Linear(n, m)
        nn.init.kaiming_normal_(layer.weight, a=0.2, generator=rng)
        nn.init.zeros_(layer.bias)
        parts += [layer, nn.LeakyReLU(0.2)]
    return nn.Sequential(*parts[:-1])


class Synthesis(nn.Module):
    """g: code (N, 2) -> factors (N, 2). It starts straight and bends only if it must: as the paper puts it, a straight
    latent space makes synthesis easier, and that is the only pressure on w."""

    def __init__(self, rng: torch.Generator) -> None:
        super().__init__()
        self.straight, self.hidden, self.bend = nn.Linear(2, 2), nn.Linear(2, SYNTHESIS), nn.Linear(SYNTHESIS, 2)
        nn.init.normal_(self.hidden.weight, generator=rng)
        nn.init.eye_(self.straight.weight)
        for weight in (self.straight.bias, self.hidden.bias, self.bend.weight, self.bend.bias):
            nn.init.zeros_(weight)

    def forward(self, code: Tensor) -> Tensor:
        return self.straight(code) + self.bend(self.hidden(code).tanh())


def sliced_loss(x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
    """Squared 2-Wasserstein distance of clouds (N, 2) along 32 directions: a critic that needs no training."""
    angle = (torch.arange(32) + torch.rand(1, generator=rng)) * math.pi / 32  # (32,)
    directions = torch.stack([angle.cos(), angle.sin()])  # (2, 32)
    return ((x @ directions).sort(dim=0).values - (y @ directions).sort(dim=0).values).square().mean()


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Take one step down the gradient of the loss."""
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()


def train(layers: int, steps: int, seed: int, tick: Tick) -> tuple[nn.Module, Synthesis]:
    """f and g, in double precision, after they learned to make the factors from z ~ N(0, I)."""
    rng = torch.Generator().manual_seed(2 * seed)
    f, g = mapping_network(layers, rng), Synthesis(rng)
    adam = torch.optim.Adam([*f.parameters(), *g.parameters()], betas=(0.5, 0.99), fused=True)
    fastest = 3e-3 if layers > 1 else 1e-2  # a shallow network takes larger steps, and needs them to learn the corner
    rate = torch.optim.lr_scheduler.OneCycleLR(adam, max_lr=fastest, total_steps=steps)
    for step in range(1, steps + 1):
        fake = g(f(torch.randn(BATCH, 2, generator=rng)))
        loss = sliced_loss(fake, draw_factors(BATCH, rng), rng)
        descend(adam, loss)
        rate.step()
        if step % 50 == 0:
            tick(step / steps, f"{layers} mapping layers, step {step}", loss=loss.item())
    return f.double(), g.double()


def norm(x: Tensor) -> Tensor:
    """Lengths of the last dimension, which stays as 1."""
    return x.square().sum(dim=-1, keepdim=True).sqrt()


def slerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """From a to b (N, d) along the great circle at times t (N, 1); where lengths differ they change evenly."""
    u, v = a / norm(a), b / norm(b)
    angle = (u * v).sum(dim=1, keepdim=True).clamp(-1, 1).arccos()  # (N, 1)
    direction = (((1 - t) * angle).sin() * u + (t * angle).sin() * v) / angle.sin()
    return torch.lerp(norm(a), norm(b), t) * direction


def path_length(path: Path, t: Tensor, epsilon: float) -> float:
    """Perceptual path length, E ‖x(t) - x(t + ε)‖² / ε², eq. (2), with the factors themselves as features."""
    return ((path(t) - path(t + epsilon)) / epsilon).square().sum(dim=1).mean().item()


def linear_fit(codes: Tensor, factors: Tensor) -> tuple[Tensor, Tensor]:
    """Least squares factors ≈ codes A + b: A (2, 2), and R² of each factor (2,)."""
    inputs = torch.cat([codes, torch.ones_like(codes[:, :1])], dim=1)  # (N, 3)
    solution = inputs.pinverse() @ factors  # (3, 2)
    return solution[:2], 1 - (factors - inputs @ solution).var(dim=0) / factors.var(dim=0)


@dataclass(frozen=True, slots=True)
class Latent:
    """One latent space: codes (N, 2), the map that makes factors of them, and paths between codes, by name."""

    codes: Tensor
    make: Callable[[Tensor], Tensor]
    paths: Mapping[str, Path]

    @property
    def r2(self) -> Tensor:
        """R² of each factor, read linearly from the codes, (2,)."""
        return linear_fit(self.codes, self.make(self.codes))[1]


def latent(codes: Tensor, make: Callable[[Tensor], Tensor]) -> Latent:
    a, b = codes[:PATHS], codes[PATHS:]
    return Latent(
        codes, make, {"lerp": lambda t: make(torch.lerp(a, b, t)), "slerp": lambda t: make(slerp(a, b, t))}
    )  # fmt: skip


def grid(codes: Tensor) -> Tensor:
    """Points on the lines of a grid over the codes (N, 2), without those where no code falls: (M, 2), M <= 434."""
    low, high = codes.quantile(0.01, dim=0), codes.quantile(0.99, dim=0)  # (2,) each
    fine, coarse = (torch.linspace(0, 1, n, dtype=codes.dtype) for n in (31, 7))
    unit = torch.cat([torch.cartesian_prod(coarse, fine), torch.cartesian_prod(fine, coarse)])  # (434, 2)
    near = torch.cdist(unit, (codes - low) / (high - low)).min(dim=1).values < 0.05
    return (low + unit * (high - low))[near]


def run(params: Params, tick: Tick = no_tick) -> Result:
    def part(start: float, share: float) -> Tick:
        def report(fraction: float, message: str, **live: float) -> None:
            tick(start + share * fraction, message, **live)

        return report

    f, g = train(params.mapping_layers, params.steps, params.seed, part(0.0, 0.6))
    _, plain = train(0, params.steps, params.seed, part(0.6, 0.4))  # the control: g must do all the bending
    dice = torch.Generator().manual_seed(2 * params.seed + 1)
    z = torch.randn(CODES, 2, generator=dice, dtype=torch.float64)
    t = torch.rand(PATHS, 1, generator=dice, dtype=torch.float64) * (1.0 if params.path == "full" else 0.0)
    with torch.no_grad():
        spaces = {"Z": latent(z, lambda z: g(f(z))), "W": latent(f(z), g), "Z, no mapping": latent(z, plain)}
        used = {"Z": params.interpolation, "W": "lerp", "Z, no mapping": params.interpolation}
        lengths = {
            name: {way: path_length(path, t, params.epsilon) for way, path in space.paths.items()}
            for name, space in spaces.items()
        }
        r2 = {name: space.r2 for name, space in spaces.items()}
        mean_r2 = {name: both.mean().item() for name, both in r2.items()}
        x = g(f(z))
        corner = (x > CUT).all(dim=1).double().mean().item()
        times = torch.linspace(0, 1, 21, dtype=torch.float64)
        speeds = {
            name: [path_length(spaces[name].paths[way], time.expand(PATHS, 1), params.epsilon) for time in times]
            for name, way in used.items()
        }
        away = torch.linspace(-0.6, 0.6, 25, dtype=torch.float64)  # how far factor 1 is asked to move
        moved: dict[str, list[float]] = {}
        for name, space in spaces.items():
            A, _ = linear_fit(space.codes, space.make(space.codes))
            direction = A.inverse()[0]  # direction A = (1, 0)
            there = space.make(space.codes.mean(dim=0) + away[:, None] * direction)  # (25, 2)
            moved |= {f"factor {n + 1}, {name}": (there - there[12])[:, n].numpy().tolist() for n in (0, 1)}
        grids = {name: spaces[name].make(grid(spaces[name].codes)) for name in ("Z", "W")}
        ends = torch.randn(2, 100, 512, generator=dice, dtype=torch.float64)
        a, b = ends / norm(ends)  # (100, 512) each
        walk = torch.stack([slerp(a, b, torch.full((100, 1), time.item()).double()) for time in times])
        norm_error = (norm(walk) - 1).abs().max().item()
        hops = norm(walk[1:] - walk[:-1])  # (20, 100, 1)
        spread = ((hops.max(dim=0).values - hops.min(dim=0).values) / hops.mean(dim=0)).max().item()
    shortest = {name: min(both.values()) for name, both in lengths.items()}  # Z by its better interpolation
    shorter = lengths["W"]["lerp"] / shortest["Z"]
    shorter_than_plain = lengths["W"]["lerp"] / shortest["Z, no mapping"]
    data = draw_factors(300, dice).numpy().tolist()
    return Result(
        metrics=[
            Metric("ppl", lengths["W"]["lerp"], "in W"),
            Metric("ppl in Z", lengths["Z"][params.interpolation]),
            Metric("ppl in Z without mapping network", lengths["Z, no mapping"][params.interpolation]),
            Metric("linear_fit", mean_r2["W"], "R² in W"),
            Metric("linear_fit in Z", mean_r2["Z"], "R²"),
            Metric("linear_fit in Z without mapping network", mean_r2["Z, no mapping"], "R²"),
        ],
        claims=[
            Claim("Factors are more linear in W than in Z: mean R², difference", mean_r2["W"] - mean_r2["Z"],
                  ">=", 0.05),
            Claim("And more than in the Z of a network without mapping: mean R², difference",
                  mean_r2["W"] - mean_r2["Z, no mapping"], ">=", 0.05),
            Claim("Paths are shorter in W than in Z, by lerp or slerp: path length, ratio", shorter, "<=", 0.9),
            Claim("And shorter than in the Z of a network without mapping: path length, ratio",
                  shorter_than_plain, "<=", 0.9),
            Claim("The missing corner stays empty: share of samples there", corner, "<=", 0.08),
            Claim("Slerp stays on the unit sphere: largest error of the length", norm_error, "<=", 1e-5),
            Claim("Slerp keeps its speed: largest relative spread of equal time steps", spread, "<=", 1e-4),
        ],
        figures=[
            *(Scatter(f"A grid of {name.lower()} carried to the factors", x="factor 1", y="factor 2",
                      series={"data": data, f"grid of {name.lower()}": points.numpy().tolist()})
              for name, points in grids.items()),
            Scatter("The same codes as z and as w", x="first coordinate", y="second coordinate",
                    series={name.lower(): spaces[name].codes[:500].numpy().tolist() for name in ("Z", "W")}),
            Lines("Squared speed of the factors along a path", x="t", y="mean over paths", at=times.numpy().tolist(),
                  series={f"{name}, {used[name]}": speed for name, speed in speeds.items()}, log="y"),
            Lines("One straight direction, fitted to move factor 1 alone", x="asked of factor 1", y="change",
                  at=away.numpy().tolist(), series=moved),
        ],
        tables=[
            Table("Three latent spaces",
                  ["latent", "R² of factor 1", "R² of factor 2", "path length, slerp", "path length, lerp"],
                  [[name, r2[name][0].item(), r2[name][1].item(), lengths[name]["slerp"], lengths[name]["lerp"]]
                   for name in spaces]),
        ],
    )  # fmt: skip
