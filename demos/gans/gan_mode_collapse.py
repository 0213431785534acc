"""Mode collapse on eight Gaussians.

Question: When does a generator drop modes, and what brings them back?
Source: Goodfellow et al. 2014, arXiv:1406.2661, eq. (1) and §3; the ring: Metz et al. 2016, arXiv:1611.02163;
    packing: Lin et al. 2017 (PacGAN), arXiv:1712.04086.
Watch: All samples sit on one mode and hop to the next. With one generator step, or with packing, all eight are held.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from demos.contract import Claim, DemoParams, Heatmap, Lines, Metric, Preset, Result, Scatter, Tick, no_tick
from demos.shared.perceptron import perceptron
from demos.shared.plane import sliced_distance

RADIUS, STD, NOISE, WIDTH, BATCH = 2.0, 0.1, 2, 128, 256
EVERY, EVALUATED = 5, 2_000  # updates between two looks at the generator, samples for each look
ANGLES = torch.arange(8) * math.pi / 4
MODES = RADIUS * torch.stack([ANGLES.cos(), ANGLES.sin()], dim=1)  # (8, 2)


class Params(DemoParams):
    g_steps: int = Field(5, ge=1, le=10, description="Generator steps per discriminator step")
    pack: int = Field(1, ge=1, le=8, description="Samples judged together")
    updates: int = Field(600, ge=100, le=3000, description="Discriminator updates")
    lr_ratio: float = Field(1.0, ge=0.05, le=4.0, description="Discriminator over generator learning rate")
    seed: int = Field(0, ge=0, le=9999, description="Seed of data, weights and sampling")

    presets: ClassVar[Mapping[str, Preset]] = {
        "one generator step": Preset("The discriminator keeps up: no collapse, so those claims fail", {"g_steps": 1}),
        "packed": Preset("Four samples judged together: equal samples give themselves away", {"pack": 4}),
        "slow discriminator": Preset("One generator step and still collapse", {"g_steps": 1, "lr_ratio": 0.1}),
    }


@dataclass(frozen=True, slots=True)
class Look:
    """The generator after some updates: share of its samples near each mode (8,), and the samples (N, 2)."""

    update: int
    shares: Tensor
    samples: Tensor

    @property
    def modes(self) -> int:
        """Modes that hold at least 1 % of the samples."""
        return int((self.shares >= 0.01).sum())

    @property
    def near(self) -> float:
        """Share of samples within four standard deviations of a mode."""
        return self.shares.sum().item()


def draw_data(n: int, rng: torch.Generator) -> Tensor:
    """Points of the ring, (n, 2)."""
    return MODES[torch.randint(8, (n,), generator=rng)] + STD * torch.randn(n, 2, generator=rng)


def mode_shares(samples: Tensor) -> Tensor:
    """Share of samples (N, 2) within four standard deviations of each mode, (8,)."""
    distance, mode = torch.cdist(samples, MODES).min(dim=1)  # (N,), (N,)
    return mode[distance < 4 * STD].bincount(minlength=8) / len(samples)


def entropy(shares: Tensor) -> float:
    """Entropy of the mode histogram in nats: log 8 when all modes are held alike, 0 when one holds all or none does."""
    p = shares / shares.sum().clamp(min=1e-12)  # (8,)
    return torch.xlogy(p, p).sum().abs().item()  # every p log p is at most 0


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Take one step down the gradient of the loss."""
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()


def train(params: Params, tick: Tick) -> list[Look]:
    """Train one GAN and look at its generator every few updates."""
    rng, dice = (torch.Generator().manual_seed(2 * params.seed + odd) for odd in (0, 1))  # training; evaluation
    G, D = (
        perceptron([inputs, WIDTH, WIDTH, WIDTH, outputs], nn.ReLU, rng)
        for inputs, outputs in ((NOISE, 2), (2 * params.pack, 1))
    )
    adam_g = torch.optim.Adam(G.parameters(), lr=1e-3, betas=(0.5, 0.999), fused=True)
    adam_d = torch.optim.Adam(D.parameters(), lr=1e-3 * params.lr_ratio, betas=(0.5, 0.999), fused=True)
    groups = BATCH // params.pack

    def generate() -> Tensor:
        return G(torch.randn(groups * params.pack, NOISE, generator=rng))  # (B, 2)

    def judge(x: Tensor) -> Tensor:
        return D(x.view(groups, 2 * params.pack))  # logits (B / pack, 1): `pack` samples side by side are one input

    looks: list[Look] = []
    for update in range(1, params.updates + 1):
        real, fake = judge(draw_data(groups * params.pack, rng)), judge(generate().detach())
        descend(adam_d, nn.functional.softplus(-real).mean() + nn.functional.softplus(fake).mean())  # -eq. (1)
        for _ in range(params.g_steps):
            descend(adam_g, nn.functional.softplus(-judge(generate())).mean())  # -log D(G(z)), §3: it does not saturate
        if update % EVERY == 0:
            with torch.no_grad():
                samples = G(torch.randn(EVALUATED, NOISE, generator=dice))  # (N, 2)
            looks.append(Look(update, mode_shares(samples), samples))
            tick(update / params.updates, f"update {update}", modes=looks[-1].modes, near=looks[-1].near)
    return looks


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def run(params: Params, tick: Tick = no_tick) -> Result:
    healthy = params.model_copy(update={"g_steps": 1, "pack": 1, "lr_ratio": 1.0})
    cost = 1.0 if healthy == params else params.g_steps / (params.g_steps + 1)  # the first training's share of the work

    def part(start: float, share: float, name: str) -> Tick:
        def report(fraction: float, message: str, **live: float) -> None:
            tick(start + share * fraction, f"{name}: {message}", **live)

        return report

    looks = train(params, part(0.0, cost, "chosen setting"))
    control = looks if healthy == params else train(healthy, part(cost, 1 - cost, "control"))
    late, late_control = looks[-len(looks) // 3 :], control[-len(control) // 3 :]  # last third of training
    modes, modes_control = (mean([look.modes for look in some]) for some in (late, late_control))
    best = max((look.near for look in late if look.modes <= 2), default=0.0)
    near_control = mean([look.near for look in late_control])
    end = looks[-1]
    data = draw_data(EVALUATED, torch.Generator().manual_seed(2 * params.seed + 1))  # (N, 2)
    shown = {f"update {look.update}": look.samples for look in looks[len(looks) // 5 - 1 :: len(looks) // 5]}
    at = [look.update for look in looks]
    return Result(
        metrics=[
            Metric("modes at the end", end.modes),
            Metric("near-mode share at the end", end.near),
            Metric("entropy of the mode histogram", entropy(end.shares), "nats"),
            Metric("sliced distance to the data", sliced_distance(end.samples, data)),
            Metric("sliced distance of the control", sliced_distance(control[-1].samples, data)),
        ],
        claims=[
            Claim("The generator collapses: modes held, mean of the last third of training", modes, "<=", 2),
            Claim("It looks good all the same: best share near a mode while it holds at most two", best, ">=", 0.8),
            Claim("One generator step instead: modes held, mean of the last third", modes_control, ">=", 7),
            Claim("One generator step instead: share near a mode", near_control, ">=", 0.5),
        ],
        figures=[
            Scatter(
                "Samples over training", x="x", y="y",
                series={name: cloud[:300].numpy().tolist() for name, cloud in {"data": data, **shown}.items()},
            ),
            Heatmap(
                "Share of samples on each mode over training", x="update", y="mode",
                values=torch.stack([look.shares for look in looks], dim=1).numpy().tolist(),
                row_labels=[f"{round(math.degrees(angle))}°" for angle in ANGLES.numpy()],
                column_labels=[str(update) for update in at],
            ),
            Lines(
                "Modes held", x="update", y="modes", at=at,
                series={"chosen setting": [a.modes for a in looks], "one generator step": [b.modes for b in control]},
            ),
            Lines(
                "Samples near a mode", x="update", y="share", at=at,
                series={"chosen setting": [a.near for a in looks], "one generator step": [b.near for b in control]},
            ),
            Scatter(
                "Samples of the control at the end", x="x", y="y",
                series={"data": data[:300].numpy().tolist(), "samples": control[-1].samples[:300].numpy().tolist()},
            ),
        ],
    )  # fmt: skip
