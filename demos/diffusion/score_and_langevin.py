"""Denoising is the score

Question: Why does a denoiser know which way the data lies, and can you sample by following it?
Source: Vincent 2011, "A connection between score matching and denoising autoencoders"; Song, Ermon 2019,
  arXiv:1907.05600, eq. (5), (6), Algorithm 1 and §3.2.2.
Watch: the arrows at every noise level point to where the data lie. Following them at the last level alone gives sharp
  samples but wrong shares of the peaks, as nothing flows between them; from much noise to little, both come right.
"""

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from demos.contract import Claim, DemoParams, Figure, Lines, Metric, Preset, Result, Scatter, Table, Tick, no_tick
from demos.shared.perceptron import perceptron

WIDTH, BATCH, POINTS = 96, 512, 2_000
SIGMA_MIN = 0.1  # the last noise level
STEP = 0.2  # Langevin's step α over σ², the same at every level, as in the paper's §4.3 and its experiments


class Params(DemoParams):
    levels: int = Field(10, ge=1, le=20, description="Noise levels from σ_max down to 0.1; with one it is 0.1")
    sigma_max: float = Field(2.0, ge=0.5, le=5.0, description="Largest noise σ_max")
    langevin_steps: int = Field(40, ge=5, le=200, description="Langevin steps per level")
    steps: int = Field(1200, ge=200, le=4000, description="Training steps")
    data: Literal["mixture", "moons"] = Field("mixture", description="Two peaks, or two moons; 80 % and 20 % of data")
    seed: int = Field(0, ge=0, le=9999, description="Seed of data, weights and sampling")

    presets: ClassVar[Mapping[str, Preset]] = {
        "one level": Preset("No annealing: the chain knows no way from one peak to the other", {"levels": 1}),
        "little noise": Preset("At σ_max = 0.5 the peaks do not merge, so their shares stay wrong", {"sigma_max": 0.5}),
        "hasty": Preset("Five steps a level: the cloud has not settled when the noise falls", {"langevin_steps": 5}),
        "moons": Preset("Two moons, of which one holds four fifths of the data", {"data": "moons"}),
    }


def centres(name: str) -> tuple[Tensor, Tensor, float]:
    """The data as a mixture of Gaussians: centres (K, 2), shares (K,), deviation. The first half is the larger part."""
    if name == "mixture":
        return torch.tensor([[1.5, 1.0], [-1.5, -1.0]]), torch.tensor([0.8, 0.2]), 0.3
    angle = math.pi * (torch.arange(50) + 0.5) / 50
    arc = torch.stack([angle.cos(), angle.sin()], dim=1)  # (50, 2)
    moons = 1.4 * torch.cat([arc - torch.tensor([0.5, 0.0]), torch.tensor([0.5, 0.0]) - arc])
    return moons, torch.cat([torch.full((50,), 0.8 / 50), torch.full((50,), 0.2 / 50)]), 0.15


class Data:
    """The mixture with what is known of it exactly."""

    def __init__(self, name: str) -> None:
        self.centres, self.shares, self.deviation = centres(name)

    def draw(self, n: int, rng: torch.Generator) -> Tensor:
        """Points (n, 2)."""
        chosen = torch.multinomial(self.shares, n, replacement=True, generator=rng)
        return self.centres[chosen] + self.deviation * torch.randn(n, 2, generator=rng)

    def log_p(self, x: Tensor, sigma: float) -> Tensor:
        """Log-density of x̃ = x + σz at points (N, 2), up to a constant: (N,)."""
        variance = self.deviation**2 + sigma**2
        square = (x[:, None] - self.centres.to(x)).square().sum(-1)  # (N, K)
        return torch.logsumexp(self.shares.to(x).log() - square / (2 * variance), dim=1)

    def score(self, x: Tensor, sigma: float) -> Tensor:
        """∇ log p_σ(x) by autograd: (N, 2)."""
        leaf = x.detach().requires_grad_()
        return torch.autograd.grad(self.log_p(leaf, sigma).sum(), leaf)[0]

    def denoised(self, x: Tensor, sigma: float) -> Tensor:
        """E[x | x̃], the best denoiser, by Bayes: the mean of each Gaussian's own denoisers; (N, 2) -> (N, 2)."""
        variance = self.deviation**2 + sigma**2
        gap = x[:, None] - self.centres.to(x)  # (N, K, 2)
        posterior = (self.shares.to(x).log() - gap.square().sum(-1) / (2 * variance)).softmax(dim=1)  # (N, K)
        kept = self.deviation**2 / variance  # of the way from centre to x̃
        return (posterior[..., None] * (self.centres.to(x) + kept * gap)).sum(dim=1)

    def larger_part(self, x: Tensor) -> float:
        """Share of x (N, 2) whose nearest centre belongs to the larger part, which holds 0.8 of the data."""
        return (torch.cdist(x, self.centres).argmin(dim=1) < len(self.centres) // 2).float().mean().item()


class NoiseNetwork(nn.Module):
    """ε_θ(x̃, σ): what noise, in units of σ, is in x̃. Denoiser x̃ − σ ε_θ and score −ε_θ / σ are the same network."""

    def __init__(self, rng: torch.Generator) -> None:
        super().__init__()
        self.layers = perceptron([12, WIDTH, WIDTH, WIDTH, 2], nn.SiLU, rng)

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """x (B, 2), sigma (B,) -> (B, 2)."""
        scaled = x / (1.5**2 + sigma[:, None] ** 2).sqrt()  # size near 1 at every level
        level = sigma[:, None].log()
        waves = [f(k * scaled) for k in (2, 4) for f in (torch.sin, torch.cos)]
        return self.layers(torch.cat([scaled, *waves, level, level.sin()], dim=1))  # (B, 12) -> (B, 2)


def descend(network: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Take one step down the gradient, clipped to norm 1."""
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()


@torch.no_grad()
def anneal(network: NoiseNetwork, sigmas: Tensor, steps: int, x: Tensor, dice: torch.Generator) -> list[Tensor]:
    """Algorithm 1: Langevin steps at each noise level in turn, x ← x + α/2 · score + √α z; the cloud after each."""
    clouds = [x]
    for sigma in sigmas:
        step = STEP * sigma**2
        for _ in range(steps):
            score = -network(x, sigma.expand(len(x))) / sigma
            x = x + step / 2 * score + step.sqrt() * torch.randn(x.shape, generator=dice)
        clouds.append(x)
    return clouds


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng, dice = (torch.Generator().manual_seed(2 * params.seed + odd) for odd in (0, 1))  # training; evaluation
    data, network = Data(params.data), NoiseNetwork(rng)
    sigmas = torch.logspace(math.log10(SIGMA_MIN), math.log10(params.sigma_max), params.levels).flip(0)  # (L,)
    adam = torch.optim.Adam(network.parameters(), fused=True)
    rate = torch.optim.lr_scheduler.OneCycleLR(adam, max_lr=5e-3, total_steps=params.steps)
    at, losses, recent = list[int](), list[float](), list[float]()
    for step in range(1, params.steps + 1):
        x, z = data.draw(BATCH, rng), torch.randn(BATCH, 2, generator=rng)
        sigma = sigmas[torch.randint(len(sigmas), (BATCH,), generator=rng)]
        guess = network(x + sigma[:, None] * z, sigma)
        loss = (guess - z).square().mean()  # eq. (5), weighted by σ² as in eq. (6): the score of the noising is −z / σ
        descend(network, adam, loss)
        rate.step()
        recent.append(loss.item())
        if step % 25 == 0:
            at.append(step)
            losses.append(sum(recent) / len(recent))
            recent.clear()
            tick(0.7 * step / params.steps, f"training step {step}", loss=losses[-1])

    fresh, z = data.draw(POINTS, dice), torch.randn(POINTS, 2, generator=dice)
    rows, errors, tweedie = list[list[float]](), list[float](), 0.0
    for sigma in sigmas.numpy().tolist():
        noisy = fresh + sigma * z  # (N, 2)
        with torch.no_grad():
            guess = network(noisy, torch.full((POINTS,), sigma))  # (N, 2)
        exact = data.score(noisy, sigma)
        errors.append((((-guess / sigma - exact).square().sum() / exact.square().sum()).sqrt()).item())
        double = noisy.double()
        by_tweedie = (data.denoised(double, sigma) - double) / sigma**2
        truth = data.score(double, sigma)
        tweedie = max(tweedie, ((by_tweedie - truth).square().sum() / truth.square().sum()).sqrt().item())
        left = (noisy - sigma * guess - fresh).square().mean().item()
        best = (data.denoised(noisy, sigma) - fresh).square().mean().item()
        rows.append([sigma, guess.square().mean().sqrt().item(), (guess / sigma).square().mean().sqrt().item(),
                     errors[-1], sigma**2, left, best])  # fmt: skip
    score_error = sum(errors) / len(errors)
    tick(0.75, "compared with the exact score", **{"score error": score_error})

    start = params.sigma_max * torch.randn(POINTS, 2, generator=dice)
    clouds = anneal(network, sigmas, params.langevin_steps, start, dice)
    tick(0.9, "annealed")
    last = SIGMA_MIN * torch.ones(1)
    single = anneal(network, last, params.langevin_steps * params.levels, start, dice)[-1]  # as many steps
    share, share_single = data.larger_part(clouds[-1]), data.larger_part(single)
    off, off_single = abs(share - 0.8), abs(share_single - 0.8)

    grid = torch.cartesian_prod(*[torch.linspace(-3, 3, 11)] * 2)  # (121, 2)
    fields = list[Figure]()
    for sigma in sorted({sigmas[0].item(), sigmas[len(sigmas) // 2].item(), sigmas[-1].item()}, reverse=True):
        with torch.no_grad():
            learned = -network(grid, torch.full((len(grid),), sigma))
        arrows = {"learned": learned, "exact": sigma * data.score(grid, sigma)}
        fields.append(
            Scatter(f"Where −ε = σ · score moves a grid of points, drawn at a fifth, σ = {sigma:.2f}", "x", "y",
                    {"grid": grid.numpy().tolist(),
                     **{name: (grid + 0.2 * arrow).numpy().tolist() for name, arrow in arrows.items()}})
        )  # fmt: skip
    kept = sorted({round(len(sigmas) * part / 4) for part in range(5)})
    names = ["start", *(f"after σ = {sigma:.2f}" for sigma in sigmas.numpy())]
    return Result(
        metrics=[
            Metric("score_error", score_error),
            Metric("mode_weights", off),
            Metric("mode_weights, one level", off_single),
            Metric("share of the larger part", share),
            Metric("share of the larger part, one level", share_single),
        ],
        figures=[
            *fields,
            Scatter("The cloud over noise levels", "x", "y",
                    {names[n]: clouds[n][:400].numpy().tolist() for n in kept}),
            Scatter("Samples and data", "x", "y", {
                "data": fresh[:400].numpy().tolist(), "annealed": clouds[-1][:400].numpy().tolist(),
                "at the last level alone": single[:400].numpy().tolist(),
            }),
            Lines("Denoising loss", "training step", "mean square per coordinate", at, {"loss": losses}),
        ],
        tables=[
            Table("One network read as noise prediction, score and denoiser, at each level",
                  ["σ", "size of ε", "size of the score ε / σ", "relative error of the score",
                   "noise before (σ²)", "noise left", "least possible"], rows),
        ],
        claims=[
            Claim("Tweedie: (best denoiser − input) / σ² is the score: relative error", tweedie, "<=", 1e-4),
            Claim("The network's score is near the exact one: relative error, mean of levels", score_error, "<=", 0.15),
            Claim("Annealing finds how much data each part holds: error of the share", off, "<=", 0.07),
            Claim("One level does not, with as many steps: error of the share", off_single, ">=", 0.12),
        ],
    )  # fmt: skip
