"""What the KL weight buys and costs

Question: What changes in reconstructions, samples and used latent units when the KL term is weighted by beta?
Source: Higgins et al. 2017 (beta-VAE, ICLR), eq. (4); Burgess et al. 2018, arXiv:1804.03599; Kingma, Welling
  2013, arXiv:1312.6114, eq. (3) and appendix B; rate and distortion: Alemi et al. 2018, arXiv:1711.00464.
Watch: each weight buys information about the picture, in nats of KL, until one more nat saves less than beta nats of
  reconstruction. As it grows first size goes, then position; disc or square gets no unit of its own in this training.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from demos.contract import Claim, DemoParams, Heatmap, Images, Metric, Preset, Result, Scatter, Table, Tick, no_tick

SIDE, HIDDEN, BATCH, TESTED = 16, 128, 128, 2_000  # pixels a side; hidden units; pictures a step and for measuring
FACTORS = ("x", "y", "size", "square")
BETAS = {"sweep": (0.1, 1.0, 4.0, 16.0), "extremes": (0.1, 16.0)}
ACTIVE = 0.05  # nats of KL from which a unit counts as used


class Params(DemoParams):
    betas: Literal["sweep", "extremes"] = Field("sweep", description="KL weights: 0.1, 1, 4 and 16, or 0.1 and 16")
    latent_dim: int = Field(6, ge=2, le=16, description="Latent units")
    steps: int = Field(500, ge=100, le=2000, description="Training steps for each weight")
    seed: int = Field(0, ge=0, le=9999, description="Seed of weights, pictures and sampling")

    presets: ClassVar[Mapping[str, Preset]] = {
        "two units": Preset("Room for the position alone: few units to switch off", {"latent_dim": 2}),
        "extremes": Preset("Weakest and strongest alone, trained longer", {"betas": "extremes", "steps": 1000}),
        "barely trained": Preset("Before it has converged a weight does not get its money's worth", {"steps": 100}),
        "sixteen units": Preset("More room than factors: KL alone decides how many are used", {"latent_dim": 16}),
    }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Trained:
    """One weight's model and what it measured on pictures that no training saw; rate and distortion in nats."""

    beta: float
    vae: "VAE"
    mu: Tensor  # (N, d)
    kl: Tensor  # (N, d): of each unit
    distortion: float  # −E_q log p(x | z)
    mse: float  # of the picture decoded from the mean

    @property
    def rate(self) -> float:
        return self.kl.sum(dim=1).mean().item()

    @property
    def active(self) -> int:
        return int((self.kl.mean(dim=0) > ACTIVE).sum())


def draw_shapes(n: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Discs and squares of one area for one size, pictures (n, 256) in [0, 1], and their FACTORS (n, 4)."""
    unit = torch.rand(n, 4, generator=rng)
    x, y, size, square = (unit * torch.tensor([8.0, 8.0, 2.0, 2.0]) + torch.tensor([4.0, 4.0, 2.0, 0.0])).T  # (n,) each
    square = square.floor()  # 0 or 1
    at = torch.arange(SIDE) + 0.5
    dx, dy = at - x[:, None, None], at[:, None] - y[:, None, None]  # (n, 1, 16), (n, 16, 1)
    disc = (dx**2 + dy**2).sqrt() - size[:, None, None]  # (n, 16, 16): distance to the edge, negative inside
    box = torch.maximum(dx.abs(), dy.abs()) - torch.pi**0.5 / 2 * size[:, None, None]
    edge = torch.where(square[:, None, None] == 1, box, disc)
    return (0.5 - edge).clamp(0, 1).flatten(1), torch.stack([x, y, size, square], dim=1)


class VAE(nn.Module):
    """q(z | x) = N(mu, diag σ²) and p(x | z) = Bernoulli(decode(z)) for each pixel."""

    def __init__(self, d: int, rng: torch.Generator) -> None:
        super().__init__()
        D = SIDE**2
        self.encoder = nn.Sequential(
            nn.Linear(D, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 2 * d)
        )
        self.decoder = nn.Sequential(
            nn.Linear(d, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, D)
        )
        for weight in self.parameters():
            nn.init.zeros_(weight) if weight.dim() == 1 else nn.init.kaiming_uniform_(weight, a=5**0.5, generator=rng)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of q(z | x): (B, 256) -> (B, d) each."""
        mu, logvar = self.encoder(x).chunk(2, dim=1)
        return mu, logvar

    def decode(self, z: Tensor) -> Tensor:
        """Logits of p(x | z): (B, d) -> (B, 256)."""
        return self.decoder(z)


def reparameterise(mu: Tensor, logvar: Tensor, rng: torch.Generator) -> Tensor:
    return mu + (0.5 * logvar).exp() * torch.randn(mu.shape, generator=rng)  # (B, d)


def unit_kl(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL(q(z_j | x) ‖ N(0, 1)) in nats (appendix B of arXiv:1312.6114), not summed over units: (B, d)."""
    return -0.5 * (1 + logvar - mu.square() - logvar.exp())


def nll(x: Tensor, logits: Tensor) -> Tensor:
    """−log p(x | z) in nats a picture: (B, 256) each -> (B,)."""
    return F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(dim=1)


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()


def train(beta: float, params: Params, x: Tensor, tick: Tick) -> Trained:
    """Train one VAE on fresh pictures in each step and measure it on x (N, 256); all weights see the same pictures."""
    rng, dice = (torch.Generator().manual_seed(2 * params.seed + odd) for odd in (0, 1))  # training; evaluation
    vae = VAE(params.latent_dim, rng)
    adam = torch.optim.Adam(vae.parameters(), fused=True)
    rate = torch.optim.lr_scheduler.OneCycleLR(adam, max_lr=5e-3, total_steps=params.steps)
    for step in range(1, params.steps + 1):
        batch, _ = draw_shapes(BATCH, rng)
        mu, logvar = vae.encode(batch)
        distortion = nll(batch, vae.decode(reparameterise(mu, logvar, rng))).mean()
        kl = unit_kl(mu, logvar).sum(dim=1).mean()
        descend(adam, distortion + beta * kl)  # eq. (4) of Higgins et al.; the negative ELBO where beta = 1
        rate.step()
        if step % 20 == 0:
            tick(step / params.steps, f"beta {beta:g}, step {step}", reconstruction=distortion.item(), KL=kl.item())
    with torch.no_grad():
        mu, logvar = vae.encode(x)
        distortion = nll(x, vae.decode(reparameterise(mu, logvar, dice))).mean().item()
        mse = (x - vae.decode(mu).sigmoid()).square().mean().item()
        return Trained(beta, vae, mu, unit_kl(mu, logvar), distortion, mse)


def part(tick: Tick, start: float, share: float) -> Tick:
    """A tick for one of several trainings."""

    def report(fraction: float, message: str, **live: float) -> None:
        tick(start + share * fraction, message, **live)

    return report


def explained(mu: Tensor, factors: Tensor) -> Tensor:
    """Squared correlation of each unit's mean (N, d) with each factor (N, 4): (d, 4)."""
    a, b = ((value - value.mean(dim=0)).double() for value in (mu, factors))
    return (a.T @ b) ** 2 / (a.square().sum(dim=0)[:, None] * b.square().sum(dim=0)).clamp(min=1e-12)


def pictures(grid: Tensor) -> list[list[list[list[float]]]]:
    """Pictures (rows, columns, 256) as the contract has them."""
    return grid.view(*grid.shape[:2], SIDE, SIDE).numpy().tolist()


@torch.no_grad()
def traversals(model: Trained, start: int) -> Images:
    """Each unit moved from −2 to 2 while the others keep the code of one picture; the unit that says most on top."""
    values, kl = torch.linspace(-2, 2, 9), model.kl.mean(dim=0)
    order = kl.argsort(descending=True)[:6]
    z = model.mu[start].repeat(len(order), len(values), 1)  # (units, 9, d)
    for row, unit in enumerate(order):
        z[row, :, unit] = values
    rows = [f"z{int(unit)}, {kl[unit].item():.1f} nats" for unit in order]
    columns = [f"{value:g}" for value in values.numpy().tolist()]
    decoded = model.vae.decode(z.flatten(0, 1)).sigmoid().view(len(order), len(values), -1)
    return Images(f"One unit moved at a time, beta = {model.beta:g}", pictures(decoded), rows, columns)


def run(params: Params, tick: Tick = no_tick) -> Result:
    dice = torch.Generator().manual_seed(2 * params.seed + 1)
    x, factors = draw_shapes(TESTED, dice)  # (N, 256), (N, 4)
    betas = BETAS[params.betas]
    models = list[Trained]()
    for done, beta in enumerate(betas):
        models.append(train(beta, params, x, part(tick, done / len(betas), 1 / len(betas))))

    weak, strong = models[0], models[-1]
    pairs = list(itertools.pairwise(models))  # neighbouring weights
    prices = [(b.distortion - a.distortion) / max(a.rate - b.rate, 1e-9) for a, b in pairs]
    fair = sum(a.beta <= price <= b.beta for price, (a, b) in zip(prices, pairs, strict=True)) / len(pairs)
    z = torch.randn(9, params.latent_dim, generator=dice)
    with torch.no_grad():
        copies = torch.stack([x[:9], *(model.vae.decode(model.mu[:9]).sigmoid() for model in models)])
        samples = torch.stack([model.vae.decode(z).sigmoid() for model in models])  # (B, 9, 256)
        mu, logvar = (value.double() for value in weak.vae.encode(x))
        library = kl_divergence(Normal(mu, (0.5 * logvar).exp()), Normal(0.0, 1.0))  # (N, d)
    gap = (unit_kl(mu, logvar) - library).abs().max().item()
    found = [explained(model.mu, factors) * (model.kl.mean(dim=0) > ACTIVE)[:, None] for model in models]  # (d, 4) each
    names = [f"beta = {model.beta:g}" for model in models]
    bounds = {model.beta: model.rate + model.distortion for model in models}  # negative ELBO in nats
    best = list[Claim]()
    if 1.0 in bounds:
        ahead = min(bound for beta, bound in bounds.items() if beta != 1) - bounds[1.0]
        best.append(Claim("Only beta = 1 is the ELBO: nats by which its bound beats the best other", ahead, ">=", 2.0))
    return Result(
        metrics=[
            *(Metric(f"KL at beta {model.beta:g}", model.rate, "nats") for model in models),
            *(Metric(f"reconstruction error at beta {model.beta:g}", model.mse) for model in models),
            *(Metric(f"active units at beta {model.beta:g}", model.active) for model in models),
        ],
        figures=[
            Scatter(
                "Rate and distortion", x="KL (nats)", y="reconstruction (nats)",
                series={name: [(model.rate, model.distortion)] for name, model in zip(names, models, strict=True)},
            ),
            Images("Pictures and their reconstructions", pictures(copies), ["picture", *names]),
            *(traversals(model, 0) for model in models),
            Images("Decoded draws from N(0, I)", pictures(samples), names),
            Heatmap(
                "How much each factor moves the best unit for it (squared correlation)", x="factor", y="weight",
                values=torch.stack([share.amax(dim=0) for share in found]).numpy().tolist(),
                row_labels=names, column_labels=FACTORS,
            ),
        ],
        tables=[
            Table(
                "What each weight buys (nats a picture)",
                ["beta", "KL", "reconstruction", "negative ELBO", "squared error a pixel", "active units"],
                [[m.beta, m.rate, m.distortion, m.rate + m.distortion, m.mse, m.active] for m in models],
            ),
            Table(
                "Active units and the factor that each follows",
                ["beta", "unit", "KL (nats)", "factor", "squared correlation"],
                [
                    [m.beta, f"z{j}", kl[j].item(), FACTORS[int(share[j].argmax())], share[j].max().item()]
                    for m, share in zip(models, found, strict=True)
                    for kl in [m.kl.mean(dim=0)]
                    for j in kl.argsort(descending=True).numpy().tolist()[: m.active]
                ],
            ),
        ],
        claims=[
            *best,
            Claim(
                "A larger weight gives a smaller KL: largest ratio of neighbours",
                max(b.rate / max(a.rate, 1e-9) for a, b in pairs), "<=", 0.75,
            ),
            Claim("and a larger error: strongest weight over weakest", strong.mse / weak.mse, ">=", 3.0),
            Claim(
                "A nat of KL saved costs as many nats of reconstruction as lie between the two weights: share of pairs",
                fair, ">=", 1.0,
            ),
            Claim("The strongest weight switches units off: fewer by", weak.active - strong.active, ">=", 3),
            Claim("KL of each unit as torch.distributions has it: largest difference", gap, "<=", 1e-6),
        ],
    )  # fmt: skip
