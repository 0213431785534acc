"""Training curves: GAN and diffusion over five seeds

Question: Is diffusion training really calmer than GAN training?
Source: Goodfellow et al. 2014, arXiv:1406.2661, eq. (1) and §3; Ho et al. 2020, arXiv:2006.11239, eq. (14); compared as
  in Dhariwal, Nichol 2021, arXiv:2105.05233; samples: Song, Meng, Ermon 2020, arXiv:2010.02502, eq. (12).
Watch: the distance of samples to the data, one curve per seed. Those of diffusion fall together and stay down; those
  of the GAN wander, and its loss says nothing about it. Raise the learning rate tenfold and see which breaks.
"""

import itertools
import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from demos.contract import Claim, DemoParams, Lines, Metric, Preset, Result, Scatter, Table, Tick, no_tick
from demos.shared.plane import sliced_distance

SPACING, STD, WIDTH, BATCH, NOISE = 0.7, 0.07, 64, 256, 2
LINE = SPACING * torch.arange(-2, 3)
CENTRES = torch.cartesian_prod(LINE, LINE)  # (25, 2): the data are as many Gaussians, variance about 1 in all
T, PASSES, POINTS, LOOKS, DECAY = 100, 25, 1_000, 20, 0.98  # LOOKS at the samples; DECAY of the averaged weights
BETAS = torch.linspace(0.1 / T, 10 / T, T, dtype=torch.float64)
ALPHA_BAR = torch.cat([torch.ones(1), torch.cumprod(1 - BETAS, dim=0).float()])  # (T + 1,), ᾱ_0 = 1


class Params(DemoParams):
    seeds: int = Field(5, ge=2, le=8, description="Runs of each, trained side by side")
    steps: int = Field(600, ge=200, le=2000, description="Training steps, each on 256 points")
    lr: float = Field(0.002, ge=0.0002, le=0.02, description="Learning rate of all networks")
    seed: int = Field(0, ge=0, le=9999, description="Seed of data, weights and sampling")

    presets: ClassVar[Mapping[str, Preset]] = {
        "high rate": Preset("Ten times the learning rate: which of the two is hurt more?", {"lr": 0.02}),
        "low rate": Preset("A tenth of it: calm, and hardly trained", {"lr": 0.0002}),
        "longer": Preset("Three times the steps: the GAN still wanders", {"steps": 1800}),
    }


class Perceptrons(nn.Module):
    """S perceptrons of equal shape side by side, which share nothing: a run for every seed in one matrix product."""

    def __init__(self, seeds: int, inputs: int, outputs: int, rng: torch.Generator) -> None:
        super().__init__()
        sizes = list(itertools.pairwise([inputs, WIDTH, WIDTH, WIDTH, outputs]))
        # U(±1 / √inputs), torch's usual start, drawn from a generator of our own
        self.weights = nn.ParameterList((2 * torch.rand(seeds, n, m, generator=rng) - 1) * n**-0.5 for n, m in sizes)
        self.biases = nn.ParameterList((2 * torch.rand(seeds, 1, m, generator=rng) - 1) * n**-0.5 for n, m in sizes)

    def forward(self, x: Tensor) -> Tensor:
        """x (S, B, inputs) -> (S, B, outputs)."""
        layers = list(zip(self.weights, self.biases, strict=True))
        for weight, bias in layers[:-1]:
            x = nn.functional.silu(torch.baddbmm(bias, x, weight))
        return torch.baddbmm(layers[-1][1], x, layers[-1][0])


def waves(x: Tensor) -> Tensor:
    """Points (S, B, 2) with their sines and cosines, the finest as fine as the grid: (S, B, 14), for both networks."""
    return torch.cat([x, *(f(k * x) for k in (1, 3, 2 * math.pi / SPACING) for f in (torch.sin, torch.cos))], dim=2)


def draw(shape: tuple[int, int], rng: torch.Generator) -> Tensor:
    """Points of the 25 Gaussians: (*shape, 2)."""
    return CENTRES[torch.randint(25, shape, generator=rng)] + STD * torch.randn(*shape, 2, generator=rng)


def descend(networks: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Take one step of all S runs; loss (S,). Each run's gradient is clipped to norm 1 by itself."""
    optimizer.zero_grad()
    torch.autograd.backward(loss.sum())
    gradients = [weight.grad for weight in networks.parameters() if weight.grad is not None]
    norm = torch.stack([g.square().sum(dim=(1, 2)) for g in gradients]).sum(dim=0).sqrt()  # (S,)
    for gradient in gradients:
        gradient *= (1 / norm.clamp(min=1))[:, None, None]
    optimizer.step()


@torch.no_grad()
def follow(average: nn.Module, network: nn.Module) -> None:
    """Move the averaged weights, which samples are drawn with, towards those just trained."""
    for mean, weight in zip(average.parameters(), network.parameters(), strict=True):
        mean.lerp_(weight, 1 - DECAY)


class GAN:
    """A generator and a discriminator for each seed."""

    def __init__(self, params: Params, rng: torch.Generator) -> None:
        self.G, self.average, self.D = (
            Perceptrons(params.seeds, n, m, rng) for n, m in ((NOISE, 2), (NOISE, 2), (14, 1))
        )
        self.average.load_state_dict(self.G.state_dict())
        self.adam_g, self.adam_d = (torch.optim.Adam(net.parameters(), params.lr, (0.5, 0.999), fused=True)
                                    for net in (self.G, self.D))  # fmt: skip

    def train(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """One step of both players on data (S, B, 2); the generator's loss, (S,)."""
        fake = self.G(torch.randn(*x.shape[:2], NOISE, generator=rng))
        real_logit, fake_logit = self.D(waves(x)), self.D(waves(fake.detach()))  # (S, B, 1)
        of_d = nn.functional.softplus(-real_logit) + nn.functional.softplus(fake_logit)  # −eq. (1)
        descend(self.D, self.adam_d, of_d.mean(dim=(1, 2)))
        of_g = nn.functional.softplus(-self.D(waves(fake))).mean(dim=(1, 2))  # −log D(G(z)), §3
        descend(self.G, self.adam_g, of_g)
        follow(self.average, self.G)
        return of_g.detach()

    @torch.no_grad()
    def sample(self, seeds: int, rng: torch.Generator) -> Tensor:
        """(S, POINTS, 2), one pass."""
        return self.average(torch.randn(seeds, POINTS, NOISE, generator=rng))


class Diffusion:
    """A noise network for each seed."""

    def __init__(self, params: Params, rng: torch.Generator) -> None:
        self.eps, self.average = (Perceptrons(params.seeds, 14 + 8, 2, rng) for _ in range(2))
        self.average.load_state_dict(self.eps.state_dict())
        self.adam = torch.optim.Adam(self.eps.parameters(), params.lr, fused=True)

    @staticmethod
    def inputs(x: Tensor, t: Tensor) -> Tensor:
        """x (S, B, 2) and t (S, B, 1) -> (S, B, 22)."""
        of_t = [f(math.pi * k * t / T) for k in (0.5, 1, 2, 4) for f in (torch.sin, torch.cos)]
        return torch.cat([waves(x), *of_t], dim=2)

    def train(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """One step on data (S, B, 2); the loss, eq. (14), (S,)."""
        t, noise = torch.randint(1, T + 1, (*x.shape[:2], 1), generator=rng), torch.randn(x.shape, generator=rng)
        x_t = ALPHA_BAR[t].sqrt() * x + (1 - ALPHA_BAR[t]).sqrt() * noise
        loss = (self.eps(self.inputs(x_t, t)) - noise).square().mean(dim=(1, 2))
        descend(self.eps, self.adam, loss)
        follow(self.average, self.eps)
        return loss.detach()

    @torch.no_grad()
    def sample(self, seeds: int, rng: torch.Generator) -> Tensor:
        """(S, POINTS, 2) by DDIM without noise, PASSES passes."""
        x = torch.randn(seeds, POINTS, 2, generator=rng)
        for t, s in itertools.pairwise(range(T, -1, -(T // PASSES))):
            a, b = ALPHA_BAR[t], ALPHA_BAR[s]
            eps = self.average(self.inputs(x, torch.full((*x.shape[:2], 1), t)))
            x = b.sqrt() * (x - (1 - a).sqrt() * eps) / a.sqrt() + (1 - b).sqrt() * eps
        return x


def modes(x: Tensor) -> int:
    """Modes that hold at least a tenth of their due of x (N, 2) within four deviations."""
    distance, nearest = torch.cdist(x, CENTRES).min(dim=1)
    return int((nearest[distance < 4 * STD].bincount(minlength=25) >= 0.1 * len(x) / 25).sum())


def largest_jump(losses: Tensor) -> float:
    """Largest change of a loss curve (LOOKS, S) from look to look in the second half, over its mean there."""
    late = losses[len(losses) // 2 :]
    return ((late[1:] - late[:-1]).abs() / late.mean(dim=0)).max().item()


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng, dice = (torch.Generator().manual_seed(2 * params.seed + odd) for odd in (0, 1))  # training; evaluation
    data = draw((1, POINTS), dice)[0]
    models: dict[str, GAN | Diffusion] = {"gan": GAN(params, rng), "diffusion": Diffusion(params, rng)}
    every = params.steps // LOOKS
    at = [every * look for look in range(1, LOOKS + 1)]
    distances, losses, clouds = dict[str, Tensor](), dict[str, Tensor](), dict[str, Tensor]()
    for name, model in models.items():
        seen, looks = list[list[float]](), list[Tensor]()
        clouds[name] = torch.zeros(0)
        for step in at:
            recent = [model.train(draw((params.seeds, BATCH), rng), rng) for _ in range(every)]
            looks.append(torch.stack(recent).mean(dim=0))
            clouds[name] = model.sample(params.seeds, dice)
            seen.append([sliced_distance(cloud, data) for cloud in clouds[name]])
            done = (step / params.steps + len(distances)) / 2
            tick(done, f"{name}, step {step}", **{f"distance, {name}": sum(seen[-1]) / params.seeds})
        distances[name], losses[name] = torch.tensor(seen), torch.stack(looks)  # (LOOKS, S) each

    covered = {name: [modes(cloud) for cloud in cloud_of] for name, cloud_of in clouds.items()}
    end = {name: d[-1] for name, d in distances.items()}  # (S,)
    late = {name: d[LOOKS // 2 :] for name, d in distances.items()}
    apart = {name: d.std(dim=1).mean().item() for name, d in late.items()}  # between seeds
    back = {name: (d[1:] - d[:-1]).clamp(min=0).mean().item() for name, d in late.items()}  # got worse, per look
    jump = {name: largest_jump(curve) for name, curve in losses.items()}
    return Result(
        metrics=[
            *(Metric(f"sliced distance at the end, {name}", end[name].mean().item()) for name in models),
            *(Metric(f"its spread over seeds, {name}", end[name].std().item()) for name in models),
            *(Metric(f"fewest modes covered, {name}", min(covered[name])) for name in models),
            Metric("distance of data to data", sliced_distance(draw((1, POINTS), dice)[0], data)),
        ],
        figures=[
            *(Lines(f"Distance of samples to the data: {name}", "training step", "sliced Wasserstein", at,
                    {f"seed {s + 1}": distances[name][:, s].numpy().tolist() for s in range(params.seeds)})
              for name in models),
            *(Lines(f"Loss: {name}", "training step", "loss", at,
                    {f"seed {s + 1}": losses[name][:, s].numpy().tolist() for s in range(params.seeds)})
              for name in models),
            Scatter("Samples of the first seed", "x", "y",
                    {"data": data[:400].numpy().tolist(),
                     **{name: cloud[0][:400].numpy().tolist() for name, cloud in clouds.items()}}),
        ],
        tables=[
            Table("All runs at the end", ["model", "seed", "sliced distance", "modes of 25"], [
                [name, s + 1, end[name][s].item(), covered[name][s]] for name in models for s in range(params.seeds)
            ]),
        ],
        claims=[
            Claim("Runs of diffusion differ less: spread over seeds, late in training, over the GAN's",
                  apart["diffusion"] / apart["gan"], "<=", 0.5),
            Claim("Its samples get worse less often: mean setback per look over the GAN's",
                  back["diffusion"] / back["gan"], "<=", 0.9),
            Claim("Every run of diffusion covers the data: fewest modes of 25", min(covered["diffusion"]), ">=", 24),
            Claim("Its loss jumps less: largest jump over that of the GAN's generator",
                  jump["diffusion"] / jump["gan"], "<=", 0.5),
        ],
    )  # fmt: skip
