"""Wasserstein critic with gradient penalty

Question: What does a critic that is forced to slope one measure, and does it cover the modes?
Source: Arjovsky, Chintala, Bottou 2017, arXiv:1701.07875, eq. (2) and algorithm 1 (clipping); Gulrajani et al. 2017,
  arXiv:1704.00028, eq. (3); spectral normalisation: Miyato et al. 2018, arXiv:1802.05957, algorithm 1.
Watch: with slope one the critic's gap is a distance, in the data's own units, and falls as the samples arrive. A weak
  penalty or clipped weights let it grow: the gap loses its unit. Without any bound the critic explodes. The samples
  are no better than those of a plain GAN, which keeps its modes here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from demos.contract import Claim, DemoParams, Heatmap, Lines, Metric, Preset, Result, Scatter, Table, Tick, no_tick
from demos.shared.perceptron import perceptron
from demos.shared.plane import MODES, STD, draw_ring, sliced_distance

NOISE, WIDTH, BATCH, CLIP = 2, 64, 256, 0.1
LR, LR_G = 2e-3, 5e-4  # a generator as fast as the critic runs away from it
LOOKS, MATCHED, EVALUATED = 10, 200, 2_000  # looks at the training; points of the exact distance; samples at the end
SHIFT, SHIFT_STEPS = 0.5, 300  # the check on two Gaussians whose exact distance is their shift


class Params(DemoParams):
    penalty: float = Field(10.0, ge=0.0, le=20.0, description="Weight λ of the gradient penalty")
    critic_steps: int = Field(5, ge=1, le=10, description="Critic steps per generator step")
    updates: int = Field(400, ge=100, le=2000, description="Generator updates")
    constraint: Literal["penalty", "clip", "spectral"] = Field("penalty", description="How the slope is bounded")
    seed: int = Field(0, ge=0, le=9999, description="Seed of data, weights and sampling")

    presets: ClassVar[Mapping[str, Preset]] = {
        "weak penalty": Preset("λ = 1: the slope passes one, and the gap is too large by as much", {"penalty": 1.0}),
        "no bound": Preset("λ = 0: the slope grows without end, the gap measures nothing", {"penalty": 0.0}),
        "clipped weights": Preset("A bound on weights, not on the slope: the gap has no unit", {"constraint": "clip"}),
        "spectral norm": Preset("Slope at most one in each layer, without a penalty", {"constraint": "spectral"}),
    }


class Critic(nn.Module):
    """f: points (B, 2) -> one number each (B,), no sigmoid; with spectral normalisation if asked for."""

    def __init__(self, spectral: bool, rng: torch.Generator) -> None:
        super().__init__()
        self.layers = perceptron([2, WIDTH, WIDTH, WIDTH, 1], nn.ReLU, rng)
        self.spectral = spectral
        self.u = {layer: torch.randn(layer.out_features, generator=rng) for layer in linears(self.layers)}

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            if self.spectral and isinstance(layer, nn.Linear):
                x = nn.functional.linear(x, layer.weight / self.largest_singular_value(layer), layer.bias)
            else:
                x = layer(x)
        return x[:, 0]

    def largest_singular_value(self, layer: nn.Linear) -> Tensor:
        """σ(W) ≈ uᵀ W v by one more step of power iteration; u is kept from call to call."""
        with torch.no_grad():
            v = nn.functional.normalize(layer.weight.T @ self.u[layer], dim=0)
            self.u[layer] = nn.functional.normalize(layer.weight @ v, dim=0)
        return self.u[layer] @ layer.weight @ v


def linears(net: nn.Module) -> list[nn.Linear]:
    return [layer for layer in net.modules() if isinstance(layer, nn.Linear)]


def slopes(f: nn.Module, x: Tensor) -> Tensor:
    """‖∇f‖ at each point (B, 2), (B,); can itself be differentiated, as the penalty needs."""
    x = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(f(x).sum(), x, create_graph=True)
    return (gradient.square().sum(dim=1) + 1e-12).sqrt()  # a root at 0 has no finite slope


def between(real: Tensor, fake: Tensor, rng: torch.Generator) -> Tensor:
    """A random point on the line of each pair, x̂ = ε x + (1 - ε) x̃."""
    return torch.lerp(fake, real, torch.rand(len(real), 1, generator=rng))


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Take one step down the gradient of the loss."""
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()


def adam(net: nn.Module, lr: float = LR) -> torch.optim.Optimizer:
    return torch.optim.Adam(net.parameters(), lr=lr, betas=(0.5, 0.9), fused=True)


class Trainer:
    """A critic, its optimizer and the bound on its slope."""

    def __init__(self, params: Params, rng: torch.Generator) -> None:
        self.params, self.rng = params, rng
        self.f = Critic(params.constraint == "spectral", rng)
        self.optimizer = adam(self.f)

    def step(self, real: Tensor, fake: Tensor) -> float:
        """One critic step; the mean slope between data (B, 2) and samples (B, 2) before it."""
        slope = slopes(self.f, between(real, fake, self.rng))
        loss = self.f(fake).mean() - self.f(real).mean()  # minus the gap
        if self.params.constraint == "penalty":
            loss = loss + self.params.penalty * (slope - 1).square().mean()  # eq. (3)
        descend(self.optimizer, loss)
        if self.params.constraint == "clip":
            with torch.no_grad():
                for weight in self.f.parameters():
                    weight.clamp_(-CLIP, CLIP)
        return slope.mean().item()


def transport_cost(x: Tensor, y: Tensor) -> float:
    """Exact Wasserstein-1 of two clouds (n, 2): mean distance of the cheapest pairing (the Hungarian method).

    Rows are added one by one; each time the shortest path, in costs reduced by the prices, frees a column for it.
    """
    cost: NDArray[np.float64] = torch.cdist(x.double(), y.double()).numpy()  # (n, n)
    n = len(cost)
    u, v = np.zeros(n), np.zeros(n + 1)  # prices of rows and columns; column n is where a new row starts
    row_of = np.full(n + 1, -1)
    for row in range(n):
        row_of[n], column = row, n
        shortest, before, done = np.full(n, np.inf), np.full(n, n), np.zeros(n + 1, dtype=bool)
        while row_of[column] >= 0:
            done[column] = True
            i = row_of[column]
            reduced = cost[i] - u[i] - v[:n]
            better = ~done[:n] & (reduced < shortest)
            shortest[better], before[better] = reduced[better], column
            nearest = int(np.where(done[:n], np.inf, shortest).argmin())
            delta = shortest[nearest]
            u[row_of[done]] += delta
            v[done] -= delta
            shortest[~done[:n]] -= delta
            column = nearest
        while column < n:  # hand columns along the path, back to the new row
            row_of[column] = row_of[before[column]]
            column = before[column]
    return float(cost[row_of[:n], np.arange(n)].mean())


@dataclass(frozen=True, slots=True)
class Look:
    """The game after some generator updates: critic's gap, exact distance of samples, mean slope between."""

    update: int
    gap: float
    exact: float
    slope: float


def train_wgan(params: Params, tick: Tick) -> tuple[Critic, nn.Module, list[Look]]:
    """Critic and generator after training, and the looks on the way."""
    rng, dice = (torch.Generator().manual_seed(2 * params.seed + odd) for odd in (0, 1))  # training; evaluation
    critic, G = Trainer(params, rng), perceptron([NOISE, WIDTH, WIDTH, WIDTH, 2], nn.ReLU, rng)
    adam_g = adam(G, LR_G)
    looks, recent = list[Look](), list[float]()
    for update in range(1, params.updates + 1):
        for _ in range(params.critic_steps):
            with torch.no_grad():
                fake = G(torch.randn(BATCH, NOISE, generator=rng))
            recent.append(critic.step(draw_ring(BATCH, rng), fake))
        descend(adam_g, -critic.f(G(torch.randn(BATCH, NOISE, generator=rng))).mean())
        if update % (params.updates // LOOKS) == 0:
            with torch.no_grad():
                x, y = draw_ring(EVALUATED, dice), G(torch.randn(EVALUATED, NOISE, generator=dice))
                gap = (critic.f(x).mean() - critic.f(y).mean()).item()
            exact = transport_cost(x[:MATCHED], y[:MATCHED])
            looks.append(Look(update, gap, exact, sum(recent) / len(recent)))
            recent.clear()
            tick(update / params.updates, f"WGAN, update {update}", gap=gap, exact=exact, slope=looks[-1].slope)
    return critic.f, G, looks


def train_gan(params: Params, tick: Tick) -> nn.Module:
    """The generator of a plain GAN: same networks and updates, non-saturating loss, one D step per G step."""
    rng = torch.Generator().manual_seed(2 * params.seed)
    D, G = Critic(False, rng), perceptron([NOISE, WIDTH, WIDTH, WIDTH, 2], nn.ReLU, rng)
    adam_d, adam_g = adam(D), adam(G)
    for update in range(1, params.updates + 1):
        fake = G(torch.randn(BATCH, NOISE, generator=rng))
        real_loss = nn.functional.softplus(-D(draw_ring(BATCH, rng))).mean()
        descend(adam_d, real_loss + nn.functional.softplus(D(fake.detach())).mean())
        descend(adam_g, nn.functional.softplus(-D(fake)).mean())
        if update % 50 == 0:
            tick(update / params.updates, f"GAN, update {update}")
    return G


def measure_shift(params: Params) -> float:
    """The trained critic's gap between N(0, STD²) and the same law moved by SHIFT; Wasserstein-1 is SHIFT."""
    rng = torch.Generator().manual_seed(2 * params.seed)
    critic = Trainer(params, rng)

    def draw(n: int, at: float) -> Tensor:
        return STD * torch.randn(n, 2, generator=rng) + torch.tensor([at, 0.0])

    for _ in range(SHIFT_STEPS):
        critic.step(draw(BATCH, 0.0), draw(BATCH, SHIFT))
    with torch.no_grad():
        return (critic.f(draw(EVALUATED, 0.0)).mean() - critic.f(draw(EVALUATED, SHIFT)).mean()).item()


def mode_shares(samples: Tensor) -> Tensor:
    """Share of samples (N, 2) within four deviations of each mode, (8,)."""
    distance, mode = torch.cdist(samples, MODES).min(dim=1)
    return mode[distance < 4 * STD].bincount(minlength=8) / len(samples)


def run(params: Params, tick: Tick = no_tick) -> Result:
    def part(start: float, share: float) -> Tick:
        def report(fraction: float, message: str, **live: float) -> None:
            tick(start + share * fraction, message, **live)

        return report

    f, G, looks = train_wgan(params, part(0.0, 0.8))
    gan = train_gan(params, part(0.8, 0.1))
    shift = measure_shift(params)
    dice = torch.Generator().manual_seed(2 * params.seed + 1)
    data = draw_ring(EVALUATED, dice)
    z = torch.randn(EVALUATED, NOISE, generator=dice)
    with torch.no_grad():
        clouds = {"WGAN": G(z), "GAN": gan(z)}
        at = torch.linspace(-2.4, 2.4, 40)
        surface = f(torch.cartesian_prod(at.flip(0), at).flip(1)).view(40, 40)
    points = between(data[:300], clouds["WGAN"][:300], dice)
    norms = slopes(f, points).detach()  # (300,)
    shares = {name: mode_shares(cloud) for name, cloud in clouds.items()}
    distance = {name: sliced_distance(cloud, data) for name, cloud in clouds.items()}
    modes = {name: int((share >= 0.01).sum()) for name, share in shares.items()}
    floor = transport_cost(data[:MATCHED], data[MATCHED : 2 * MATCHED])
    slope = looks[-1].slope
    spread = {name: (share.std() / share.mean()).item() for name, share in shares.items()}
    return Result(
        metrics=[
            Metric("gradient_norm", slope),
            Metric("sliced distance of the WGAN", distance["WGAN"]),
            Metric("sliced distance of the GAN", distance["GAN"]),
            Metric("gap over the exact distance, two Gaussians", shift / SHIFT),
        ],
        claims=[
            Claim("The critic's slope between data and samples is near one: mean, not below", slope, ">=", 0.8),
            Claim("The critic's slope between data and samples is near one: mean, not above", slope, "<=", 1.2),
            Claim("All modes are covered: modes with 1 % of the samples", modes["WGAN"], "==", 8),
            Claim("The samples are near the data: sliced distance", distance["WGAN"], "<=", 0.25),
            Claim("The critic's gap is the Wasserstein distance, on two Gaussians: relative error",
                  abs(shift - SHIFT) / SHIFT, "<=", 0.1),
        ],
        figures=[
            Lines("The critic's gap and the exact Wasserstein-1 distance", x="generator update", y="distance",
                  at=[look.update for look in looks],
                  series={"critic's gap": [look.gap for look in looks],
                          f"exact, {MATCHED} points": [look.exact for look in looks],
                          "exact, data and data": [floor] * len(looks)}),
            Scatter("Samples", x="x", y="y",
                    series={"data": data[:300].numpy().tolist(),
                            **{name: cloud[:300].numpy().tolist() for name, cloud in clouds.items()}}),
            Heatmap("The critic over [-2.4, 2.4]²", x="x", y="y", values=surface.numpy().tolist()),
            Scatter("Slope of the critic at points between data and samples", x="distance from the centre", y="‖∇f‖",
                    series={"between": torch.stack([points.square().sum(dim=1).sqrt(), norms], 1).numpy().tolist()}),
            Lines("Mean slope between data and samples", x="generator update", y="mean of ‖∇f‖",
                  at=[look.update for look in looks], series={"slope": [look.slope for look in looks]}),
        ],
        tables=[
            Table("WGAN and GAN", ["", "modes", "share near a mode", "unevenness of the modes", "sliced distance"],
                  [[name, modes[name], shares[name].sum().item(), spread[name], distance[name]] for name in clouds]),
        ],
    )  # fmt: skip
