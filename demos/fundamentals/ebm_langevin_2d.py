"""Energy-based model with Langevin sampling.

Question: How do you train a density that you can only evaluate up to a constant?
Source: Du, Mordatch 2019, arXiv:1903.08689, eq. (1), §3.2 to 3.4 and algorithm 1; contrastive divergence: Hinton 2002.
Watch: The energy sinks under the data and rises where the chains went astray. Langevin paths roll down and then keep
    moving: without the noise they stop at the bottom, and what they leave is no sample of the density.
"""

import math
from collections.abc import Callable, Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from demos.contract import Claim, DemoParams, Heatmap, Lines, Metric, Preset, Result, Scatter, Tick, no_tick
from demos.shared.clouds import draw_cloud
from demos.shared.plane import sliced_distance

WIDTH, BATCH, BUFFER, RESTART = 64, 256, 4_096, 0.05  # chains kept, and the share of a batch that starts anew (§3.3)
ALPHA = 0.01  # weight of the squared energies, which keeps their level near 0 (§3.4)
EDGE, CELLS = 3.0, 150  # chains start in [-EDGE, EDGE]²; Z is summed over CELLS² squares of [-4, 4]²
TESTED, SAMPLING = 2_000, 400  # points for the evaluation, Langevin steps of its chains
MEAN, DEVIATION = torch.tensor([1.0, -0.5]), torch.tensor([0.4, 0.25])  # of the Gaussian that checks the sampler
Energy = Callable[[Tensor], Tensor]


class Params(DemoParams):
    langevin_steps: int = Field(20, ge=5, le=200, description="Langevin steps per training update")
    step_size: float = Field(0.01, ge=0.001, le=0.2, description="Langevin step size, the variance of its noise")
    steps: int = Field(500, ge=100, le=2000, description="Training updates")
    data: Literal["moons", "rings", "gaussians"] = Field("rings", description="Target distribution")
    noise: bool = Field(True, description="Add the noise of Langevin dynamics; without it they are gradient descent")
    persistent: bool = Field(True, description="Start chains where earlier ones ended, not from noise each time")
    seed: int = Field(0, ge=0, le=9999, description="Seed of data, weights and sampling")

    presets: ClassVar[Mapping[str, Preset]] = {
        "no noise": Preset("Gradient descent: chains stop at the bottom of the energy", {"noise": False}),
        "no replay": Preset(
            "Chains too short to arrive: the energy is fitted to where they get, and is no density",
            {"persistent": False},
        ),
        "long strides": Preset("Noise wider than the rings: no energy can hold the chain to them", {"step_size": 0.2}),
        "moons": Preset("The same on two moons", {"data": "moons"}),
    }


class EnergyNet(nn.Module):
    """The energy E: (N, 2) -> (N,), any real number. Smooth, since its slope is what moves the chains."""

    def __init__(self, rng: torch.Generator) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(14, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH), nn.SiLU(), nn.Linear(WIDTH, 1)
        )  # fmt: skip
        for weight in self.parameters():
            nn.init.zeros_(weight) if weight.dim() == 1 else nn.init.xavier_uniform_(weight, generator=rng)

    def forward(self, x: Tensor) -> Tensor:
        waves = torch.cat([x, 2 * x, 4 * x], dim=1)  # (N, 6): of x alone a small network would learn one wide hollow
        return self.net(torch.cat([x, waves.sin(), waves.cos()], dim=1))[:, 0]


def langevin(E: Energy, x: Tensor, step_size: float, noise: bool, rng: torch.Generator) -> Tensor:
    """x_k = x_{k-1} - λ/2 ∇E(x_{k-1}) + ω, ω ~ N(0, λ), eq. (1): one step of all chains (N, 2)."""
    x = x.detach().requires_grad_()
    (slope,) = torch.autograd.grad(E(x).sum(), x)
    omega = torch.randn(x.shape, generator=rng) if noise else torch.zeros_like(x)
    return x.detach() - step_size / 2 * slope + math.sqrt(step_size) * omega


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Take one step down the gradient of the loss."""
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()


def uniform(n: int, rng: torch.Generator) -> Tensor:
    """Points all over the square, (n, 2): the noise that chains start from."""
    return EDGE * (2 * torch.rand(n, 2, generator=rng) - 1)


def squares(cells: int, edge: float) -> Tensor:
    """Centres of cells² squares over [-edge, edge]², the top row first: (cells², 2)."""
    at = (torch.arange(cells) + 0.5) * 2 * edge / cells - edge  # (cells,)
    return torch.cartesian_prod(at.flip(0), at).flip(1)


def auc(low: Tensor, high: Tensor) -> float:
    """Chance that a number of `low` lies below one of `high`: the area under the ROC curve."""
    return torch.searchsorted(high.sort().values, low).sub(len(high)).neg().double().mean().item() / len(high)


def gaussian_error(params: Params, rng: torch.Generator) -> float:
    """How far 500 steps on a Gaussian's energy are from its mean and deviations: the largest error, in deviations."""

    def energy(x: Tensor) -> Tensor:
        return 0.5 * ((x - MEAN) / DEVIATION).square().sum(dim=1)

    x = uniform(20_000, rng)
    for _ in range(500):
        x = langevin(energy, x, params.step_size, params.noise, rng)
    mean, deviation = (x.mean(dim=0) - MEAN) / DEVIATION, x.std(dim=0) / DEVIATION - 1
    return torch.cat([mean, deviation]).abs().max().item()


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng, dice = (torch.Generator().manual_seed(2 * params.seed + odd) for odd in (0, 1))  # training; evaluation
    E = EnergyNet(rng)
    adam = torch.optim.Adam(E.parameters(), fused=True)
    rate = torch.optim.lr_scheduler.OneCycleLR(adam, max_lr=3e-3, total_steps=params.steps)
    buffer = uniform(BUFFER, rng)
    at = list[int]()
    energies: dict[str, list[float]] = {"data": [], "chains": []}
    for step in range(1, params.steps + 1):
        chosen = torch.randperm(BUFFER, generator=rng)[:BATCH]
        anew = torch.rand(BATCH, 1, generator=rng) < (RESTART if params.persistent else 1.0)
        x_minus = torch.where(anew, uniform(BATCH, rng), buffer[chosen])  # (B, 2)
        for _ in range(params.langevin_steps):
            x_minus = langevin(E, x_minus, params.step_size, params.noise, rng)
        buffer[chosen] = x_minus
        low, high = E(draw_cloud(params.data, BATCH, rng)), E(x_minus)  # (B,) each: E(x⁺), E(x⁻)
        loss = (low - high).mean() + ALPHA * (low.square() + high.square()).mean()  # ∇ of -log p without its Z
        descend(adam, loss)
        rate.step()
        if step % 10 == 0:
            at.append(step)
            energies["data"].append(low.mean().item())
            energies["chains"].append(high.mean().item())
            tick(0.9 * step / params.steps, f"update {step}", data=low.mean().item(), chains=high.mean().item())

    x, start = draw_cloud(params.data, TESTED, dice), uniform(TESTED, dice)  # (N, 2) each
    samples, path = start, [start[:8]]
    for _ in range(SAMPLING):
        samples = langevin(E, samples, params.step_size, params.noise, dice)
        path.append(samples[:8])
    with torch.no_grad():
        E_data, E_start, E_samples = E(x), E(start), E(samples)  # (N,) each
        area = (8 / CELLS) ** 2
        log_Z = (-E(squares(CELLS, 4.0))).logsumexp(dim=0).item() + math.log(area)  # possible in the plane alone
        surface = E(squares(60, EDGE)).view(60, 60)
    nll = E_data.mean().item() + log_Z
    nll_gaussian = 0.5 * torch.logdet(2 * math.pi * math.e * x.T.cov()).item()  # of the Gaussian fitted to x
    gain = nll_gaussian - nll
    distance, distance_start = sliced_distance(samples, x), sliced_distance(start, x)
    nearer = distance / distance_start
    error = gaussian_error(params, dice)
    walks = torch.stack(path, dim=1)  # (8, SAMPLING + 1, 2)
    return Result(
        metrics=[
            Metric("energy_gap", (E_start.mean() - E_data.mean()).item(), "nats"),
            Metric("nll, Z summed on a grid", nll, "nats"),
            Metric("nll of one Gaussian", nll_gaussian, "nats"),
            Metric("sliced distance of samples and data", distance),
            Metric("sliced distance of starting noise and data", distance_start),
        ],
        claims=[
            Claim("Data has lower energy than uniform points: area under the curve", auc(E_data, E_start), ">=", 0.85),
            Claim("On a Gaussian's energy the chain finds mean and deviation: largest error", error, "<=", 0.05),
            Claim("Samples are nearer to the data than their starting noise: ratio", nearer, "<=", 0.4),
            Claim(
                "The gradient has vanished: samples have the mean energy of the data: difference in nats",
                abs(E_samples.mean().item() - E_data.mean().item()), "<=", 0.3,
            ),
            Claim("exp(-E) / Z beats one Gaussian: its nll minus ours, Z summed on a grid", gain, ">=", 0.3),
        ],
        figures=[
            Heatmap(
                "Energy over [-3, 3]², cut off 8 nats above that of the data", x="x", y="y",
                values=surface.clamp(max=E_data.mean().item() + 8).numpy().tolist(),
            ),
            Heatmap(
                "The density exp(-E) / Z over [-3, 3]²", x="x", y="y",
                values=(-surface - log_Z).exp().numpy().tolist(),
            ),
            Scatter(
                "Eight Langevin chains, each from its first step on", x="x", y="y",
                series={f"chain {n}": walk.numpy().tolist() for n, walk in enumerate(walks, start=1)},
            ),
            Scatter(
                "Starting noise, samples and data", x="x", y="y",
                series={
                    name: cloud[:400].numpy().tolist()
                    for name, cloud in {"noise": start, "data": x, "samples": samples}.items()
                },
            ),
            Lines("Mean energy of data and chains", x="training update", y="energy in nats", at=at, series=energies),
        ],
    )  # fmt: skip
