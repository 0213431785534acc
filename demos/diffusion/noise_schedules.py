"""Linear, cosine and learned schedules

Question: Where does each schedule spend its steps, measured in signal-to-noise ratio?
Source: linear: Ho, Jain, Abbeel 2020, arXiv:2006.11239, §4; cosine: Nichol, Dhariwal 2021, arXiv:2102.09672, eq. (17);
  learned: Kingma et al. 2021 (VDM), arXiv:2107.00630, eq. (11), (17) to (19), appendices E and H; the bound as
  information: Guo, Shamai, Verdú 2005, arXiv:cs/0412108, eq. (1).
Watch: the loss over time. Every schedule has the same area under it, the bound; linear and cosine pile it up at one
  end, the learned one levels it, so that an estimate from random times varies less.
"""

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import softplus

from demos.contract import Claim, DemoParams, Figure, Images, Lines, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.digits import load_digits

HIDDEN, BATCH, DRAWS, SLICES = 64, 256, 65_536, 64  # DRAWS estimate the bound; SLICES of time in the figure
NAMES = ["linear", "cosine", "learned"]


class Params(DemoParams):
    schedule: Literal["linear", "cosine", "learned", "all"] = Field("all", description="Which schedule figures show")
    timesteps: int = Field(1000, ge=10, le=1000, description="Number of steps T of the tables")
    steps: int = Field(400, ge=50, le=2000, description="Training steps of the learned schedule")
    equal_ends: bool = Field(True, description="Give all schedules linear's SNR at both ends before comparing bounds")
    seed: int = Field(0, ge=0, le=9999, description="Seed of times, noise and the network's weights")

    presets: ClassVar[Mapping[str, Preset]] = {
        "own ends": Preset("Each schedule with its own first and last SNR: bounds differ", {"equal_ends": False}),
        "coarse": Preset("Ten steps: the same curves in large strides", {"timesteps": 10}),
        "hardly trained": Preset("The learned schedule still near a straight line in log SNR", {"steps": 50}),
    }


def linear_betas(T: int) -> Tensor:
    """β_1 … β_T, float64: 1e-4 to 0.02 at T = 1000, scaled so that any T ends in about the same noise; (T,)."""
    return (torch.linspace(1e-4, 0.02, T, dtype=torch.float64) * 1000 / T).clamp(max=0.999)


def cosine_betas(T: int) -> Tensor:
    """β_1 … β_T, float64, clipped at 0.999 so that the last step is no division by zero; (T,)."""
    t = torch.arange(T + 1, dtype=torch.float64) / T
    f = torch.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2  # (T + 1,), ᾱ_t = f(t) / f(0)
    return (1 - f[1:] / f[:-1]).clamp(max=0.999)


def gamma_of(betas: Tensor) -> Tensor:
    """γ_t = −log SNR(t) = log (1 − ᾱ_t) / ᾱ_t for each step, (T,)."""
    log_alpha_bar = torch.log1p(-betas).cumsum(0)
    return torch.log(-torch.expm1(log_alpha_bar)) - log_alpha_bar


class Gamma(nn.Module):
    """VDM appendix H: γ(t) = l1(t) + l3(σ(l2(l1(t)))) with positive weights, so that it rises from γ_0 to γ_1."""

    def __init__(self, gamma_0: float, gamma_1: float, rng: torch.Generator) -> None:
        super().__init__()
        self.gamma_0, self.gamma_1 = gamma_0, gamma_1
        self.w1, self.b1 = nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.tensor(0.0))
        self.w2 = nn.Parameter(torch.full((HIDDEN,), 10.0))  # steep units, each bending γ at its own time …
        self.b2 = nn.Parameter(-10.0 * torch.rand(HIDDEN, generator=rng) * softplus(torch.tensor(1.0)))
        self.w3 = nn.Parameter(torch.full((HIDDEN,), -6.0))  # … and hardly at first: e^-6

    def raw(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Value and slope before the ends are fixed; t (B,) -> (B,), (B,)."""
        w1, w2, w3 = softplus(self.w1), softplus(self.w2), softplus(self.w3)
        l1 = w1 * t + self.b1  # (B,)
        s = torch.sigmoid(l1[:, None] * w2 + self.b2)  # (B, H)
        return l1 + s @ w3, w1 * (1 + (s * (1 - s) * w2) @ w3)

    def forward(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """γ(t) and γ'(t) for t (B,) in [0, 1], with γ(0) = γ_0 and γ(1) = γ_1 exactly."""
        value, slope = self.raw(t)
        ends, _ = self.raw(torch.tensor([0.0, 1.0], dtype=t.dtype))
        scale = (self.gamma_1 - self.gamma_0) / (ends[1] - ends[0])
        return self.gamma_0 + (value - ends[0]) * scale, slope * scale


def noise_error(gamma: Tensor, x: Tensor, eps: Tensor, spectrum: Tensor) -> Tensor:
    """‖ε − ε̂(z_t, t)‖² (B,) for z_t = α x + σ ε, α² = sigmoid(−γ), σ² = sigmoid(γ), eq. (2) and (13).

    ε̂ is the best linear denoiser (Wiener's): along the principal axis of variance λ it is σ z / (α² λ + σ²). gamma is
    (B,), x and eps are (B, D) in principal axes, spectrum (D,) holds the λ.
    """
    alpha, sigma = torch.sigmoid(-gamma).sqrt()[:, None], torch.sigmoid(gamma).sqrt()[:, None]  # (B, 1)
    z = alpha * x + sigma * eps  # (B, D)
    return (eps - sigma * z / (alpha**2 * spectrum + sigma**2)).square().sum(dim=1)


def table_at(gammas: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """γ(t) and γ'(t) for t (B,) in [0, 1) from a table (T,), straight lines between its entries."""
    place = t * (len(gammas) - 1)
    n = place.long()
    rise = gammas[n + 1] - gammas[n]
    return gammas[n] + (place - n) * rise, rise * (len(gammas) - 1)


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Take one step down the gradient of the loss."""
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()


def learn(gamma: Gamma, x: Tensor, spectrum: Tensor, steps: int, rng: torch.Generator, tick: Tick) -> list[float]:
    """Lower the variance of the bound's estimate, appendix E: its mean is the same for all γ, so lower E[loss²]."""
    adam = torch.optim.Adam(gamma.parameters(), lr=0.05, betas=(0.9, 0.99), fused=True)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    squares = list[float]()
    for step in range(1, steps + 1):
        t = (torch.arange(BATCH) / BATCH + torch.rand((), generator=rng)) % 1  # evenly spread times, appendix I
        batch = x[torch.randint(len(x), (BATCH,), generator=rng)]
        value, slope = gamma(t)
        eps = torch.randn(batch.shape, generator=rng)
        loss = slope / 2 * noise_error(value, batch, eps, spectrum)  # (B,), eq. (17): its mean over t is the bound
        square = loss.square().mean()
        descend(adam, square)
        rate.step()
        squares.append(square.item())
        if step % 20 == 0:
            tick(0.9 * step / steps, f"step {step}", **{"mean square of the loss": square.item()})
    return squares


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng, dice = (torch.Generator().manual_seed(2 * params.seed + odd) for odd in (0, 1))  # training; evaluation
    T = params.timesteps
    images, _ = load_digits()
    pixels = 2 * images.flatten(1) - 1  # (N, 64)
    centred = (pixels - pixels.mean(0)).double()
    spectrum, axes = map(torch.tensor, np.linalg.eigh((centred.T @ centred / len(centred)).numpy()))  # (64,), (64, 64)
    spectrum, x = spectrum.clamp(min=0), centred @ axes  # (64,), (N, 64); border pixels never change: λ = 0

    tables = {"linear": gamma_of(linear_betas(T)), "cosine": gamma_of(cosine_betas(T))}  # γ_1 … γ_T, (T,) each
    gamma = Gamma(tables["linear"][0].item(), tables["linear"][-1].item(), rng)
    squares = learn(gamma, x.float(), spectrum.float(), params.steps, rng, tick)
    with torch.no_grad():
        tables["learned"] = gamma.double()(torch.linspace(0, 1, T, dtype=torch.float64))[0]

    bounds, variances, by_time = dict[str, float](), dict[str, float](), dict[str, list[float]]()
    lowest, highest = tables["linear"][0].item(), tables["linear"][-1].item()
    for name, table in tables.items():
        share = (table - table[0]) / (table[-1] - table[0])
        fitted = lowest + (highest - lowest) * share if params.equal_ends else table  # VDM appendix H: same ends
        t = (torch.arange(DRAWS) + torch.rand(DRAWS, generator=dice, dtype=torch.float64)) / DRAWS
        value, slope = table_at(fitted, t)
        rows = x[torch.randint(len(x), (DRAWS,), generator=dice)]
        noise = torch.randn(rows.shape, generator=dice, dtype=torch.float64)
        losses = slope / 2 * noise_error(value, rows, noise, spectrum)  # (DRAWS,)
        bounds[name], variances[name] = losses.mean().item(), losses.var().item()
        by_time[name] = losses.view(SLICES, -1).mean(1).numpy().tolist()
        tick(0.9 + 0.03 * len(bounds), f"bound, {name}", bound=bounds[name])

    # ½ ∫ E‖ε − ε̂‖² dγ = I(x; z_γ0) − I(x; z_γ1), and with a Gaussian of this spectrum I = ½ Σ log (1 + λ SNR)
    information = [0.5 * torch.log1p(spectrum * math.exp(-end)).sum().item() for end in (lowest, highest)]
    exact = information[0] - information[1]
    grid = torch.linspace(lowest, highest, 129, dtype=torch.float64)  # the least E[loss²]: (½ ∫ √E[error²] dγ)²
    twice = x.repeat(2, 1)  # (2N, 64)
    roots = [
        noise_error(g.expand(len(twice)), twice, torch.randn(twice.shape, generator=dice).double(), spectrum)
        .square().mean().sqrt() for g in grid
    ]  # fmt: skip
    least = (torch.trapezoid(torch.stack(roots), grid) / 2).square().item()
    second_moment = variances["learned"] + bounds["learned"] ** 2

    alpha_bar = {name: torch.sigmoid(-table) for name, table in tables.items()}  # (T,) each
    rises = {name: table.diff() for name, table in tables.items()}
    half = alpha_bar["cosine"][T // 2 - 1] / alpha_bar["linear"][T // 2 - 1]
    shown = NAMES if params.schedule == "all" else [params.schedule]
    steps = list(range(1, T + 1))
    eps = torch.randn(64, generator=dice)  # one noise for the whole strip
    columns = [max(1, round(T * part / 10)) for part in range(11)]
    strip = [
        [
            ((alpha_bar[name][n - 1].sqrt() * pixels[0] + (1 - alpha_bar[name][n - 1]).sqrt() * eps + 1) / 2)
            .clamp(0, 1).view(8, 8).numpy().tolist() for n in columns
        ]
        for name in shown
    ]  # fmt: skip
    curves = {name: alpha_bar[name].numpy().tolist() for name in shown}
    times = [(n + 0.5) / SLICES for n in range(SLICES)]
    figures: list[Figure] = [
        Lines("Signal left over time", "t", "ᾱ", steps, curves),
        Lines("The same in log SNR", "t", "log SNR", steps, {n: (-tables[n]).numpy().tolist() for n in shown}),
        Images("A digit at equal times", strip, shown, [f"t = {n}" for n in columns]),
        Lines("Loss over time: the area is the bound", "t / T", "nats", times, {n: by_time[n] for n in shown}, "y"),
        Lines(
            "Learning the schedule",
            "training step",
            "mean square",
            [*range(1, len(squares) + 1)],
            {"E[loss²]": squares},
            "y",
        ),
    ]
    return Result(
        metrics=[
            Metric("variance_of_bound", variances["learned"], "nats²"),
            Metric("variance of the bound, linear", variances["linear"], "nats²"),
            Metric("variance of the bound, cosine", variances["cosine"], "nats²"),
            Metric("bound", bounds["learned"], "nats/image"),
            Metric("bound in closed form", exact, "nats/image"),
        ],
        figures=figures,
        tables=[
            Table(
                "Where the steps go",
                ["schedule", "ᾱ at T/2", "ᾱ at T", "steps with |log SNR| < 4", "bound (nats)", "variance (nats²)"],
                [
                    [
                        name, alpha_bar[name][T // 2 - 1].item(), alpha_bar[name][-1].item(),
                        (tables[name].abs() < 4).double().mean().item(), bounds[name], variances[name],
                    ]
                    for name in NAMES
                ],
            )
        ],
        claims=[
            Claim("Cosine keeps more signal half way: ᾱ over that of linear", half.item(), ">=", 3.0),
            Claim(
                "SNR falls at every step of every schedule: steps where it does not",
                sum(int((rise <= 0).sum()) for rise in rises.values()), "==", 0,
            ),
            Claim(
                "The learned schedule lowers the variance of the bound: over that of linear",
                variances["learned"] / variances["linear"], "<=", 0.02,
            ),
            Claim("It comes near the best of all schedules: E[loss²] over the least", second_moment / least, "<=", 1.4),
            Claim(
                "With equal SNR at both ends the bound is the same for all schedules: relative spread",
                (max(bounds.values()) - min(bounds.values())) / exact, "<=", 0.05,
            ),
            Claim(
                "It is the information that the noise takes away, in closed form: largest relative difference",
                max(abs(bound / exact - 1) for bound in bounds.values()), "<=", 0.05,
            ),
        ],
    )  # fmt: skip
