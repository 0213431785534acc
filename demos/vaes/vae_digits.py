"""A variational autoencoder on digits.

Question: How do encoder, latent vector and decoder together turn a code drawn from N(0, I) into a digit?
Source: Kingma, Welling 2013, arXiv:1312.6114, eq. (3), eq. (10), appendices B and C; beta: Higgins et al. 2017.
Watch: Reconstruction and KL pull against each other. With beta = 0 codes leave the prior, and its draws are no digits.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from demos.contract import Bars, Claim, DemoParams, Images, Lines, Metric, Preset, Result, Scatter, Table, Tick, no_tick
from demos.shared.digits import load_digits

SIGMA = 0.25  # deviation of the decoder's Gaussian p(x | z), in units of black (the data's own is 0.38)
BATCH, TRAIN, SAMPLES = 128, 1_400, 500


class Params(DemoParams):
    latent_dim: int = Field(8, ge=1, le=32, description="Size of the latent vector")
    beta: float = Field(1.0, ge=0.0, le=8.0, description="Weight of the KL term")
    steps: int = Field(800, ge=100, le=3000, description="Training steps")
    view: Literal["reconstruct", "sample", "encode", "loss"] = Field("reconstruct", description="Which figure leads")
    seed: int = Field(0, ge=0, le=9999, description="Seed of data, weights and sampling")

    presets: ClassVar[Mapping[str, Preset]] = {
        "no KL": Preset("Codes go where they like: sharp copies, but prior draws are no digits", {"beta": 0.0}),
        "posterior collapse": Preset("The KL term wins: codes say almost nothing about the digit", {"beta": 8.0}),
        "plane": Preset(
            "Two latent numbers: the digits laid out in the plane, copied less well",
            {"latent_dim": 2, "view": "encode"},
        ),
    }


class VAE(nn.Module):
    """Encoder q(z | x) and decoder p(x | z), mirror images of each other: 1x8x8 -> d -> 1x8x8."""

    def __init__(self, d: int, rng: torch.Generator) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 32, 3, stride=2, padding=1), nn.ReLU(),  # (B, 32, 4, 4)
            nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.ReLU(),  # (B, 64, 2, 2)
            nn.Flatten(), nn.Linear(256, 2 * d),  # (B, 2d): mean and log-variance
        )  # fmt: skip
        self.decoder = nn.Sequential(
            nn.Linear(d, 256), nn.ReLU(), nn.Unflatten(1, (64, 2, 2)),  # (B, 64, 2, 2)
            nn.ConvTranspose2d(64, 32, 4, stride=2, padding=1), nn.ReLU(),  # (B, 32, 4, 4)
            nn.ConvTranspose2d(32, 1, 4, stride=2, padding=1), nn.Sigmoid(),  # (B, 1, 8, 8)
        )  # fmt: skip
        draw_weights(self, rng)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of q(z | x), (B, d) each."""
        mu, logvar = self.encoder(x).chunk(2, dim=1)
        return mu, logvar

    def decode(self, z: Tensor) -> Tensor:
        """Mean of p(x | z) = N(mean, SIGMA²): (B, d) -> (B, 1, 8, 8)."""
        return self.decoder(z)


def reparameterise(mu: Tensor, logvar: Tensor, rng: torch.Generator) -> Tensor:
    """z = mu + sigma * epsilon (eq. 10): a draw from q(z | x) that gradients pass through."""
    return mu + (0.5 * logvar).exp() * torch.randn(mu.shape, generator=rng)  # (B, d)


def loss_terms(x: Tensor, x_mean: Tensor, mu: Tensor, logvar: Tensor) -> tuple[Tensor, Tensor]:
    """The two terms of the negative ELBO (eq. 3) in nats an image, mean over the batch.

    The first is -log N(x; x_mean, SIGMA²) without its constant, the second KL(q(z | x) ‖ N(0, I)) by appendix B.
    """
    reconstruction = (x - x_mean).square().flatten(1).sum(dim=1) / (2 * SIGMA**2)  # (B,)
    kl = -0.5 * (1 + logvar - mu.square() - logvar.exp()).sum(dim=1)  # (B,)
    return reconstruction.mean(), kl.mean()


def draw_weights(model: nn.Module, rng: torch.Generator) -> None:
    """Give every weight torch's usual range, ±1 / √(inputs), but from a generator of our own."""
    for weight in model.parameters():
        nn.init.zeros_(weight) if weight.dim() == 1 else nn.init.kaiming_uniform_(weight, a=5**0.5, generator=rng)


def reference_loss(x: Tensor, x_mean: Tensor, mu: Tensor, logvar: Tensor, beta: float) -> Tensor:
    """Reconstruction + beta KL once more, by torch.distributions, which knows nothing of the formulas above."""
    p, q = Normal(x_mean, SIGMA), Normal(mu, (0.5 * logvar).exp())
    reconstruction = (p.log_prob(x_mean) - p.log_prob(x)).flatten(1).sum(dim=1)  # (B,); the first term is the constant
    kl = kl_divergence(q, Normal(torch.zeros_like(mu), 1.0)).sum(dim=1)  # (B,)
    return (reconstruction + beta * kl).mean()


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Take one step down the gradient of the loss."""
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()


def train_judge(x: Tensor, labels: Tensor, rng: torch.Generator) -> nn.Module:
    """A classifier trained on real digits alone: (B, 1, 8, 8) -> logits (B, 10)."""
    judge = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 32), nn.ReLU(), nn.Linear(32, 10)
    )  # fmt: skip
    draw_weights(judge, rng)
    adam = torch.optim.Adam(judge.parameters(), lr=2e-3, fused=True)
    for _ in range(600):
        batch = torch.randint(len(x), (BATCH,), generator=rng)
        descend(adam, nn.functional.cross_entropy(judge(x[batch]), labels[batch]))
    return judge


def layer_shapes(vae: VAE, x: Tensor, z: Tensor) -> list[list[str]]:
    """One row for each layer that x (1, 1, 8, 8), then z (1, d), goes through: part, layer, shape after it."""
    rows = [["input", "", "1x8x8"]]
    for part, layers, value in (("encoder", vae.encoder, x), ("decoder", vae.decoder, z)):
        for layer in layers:
            value = layer(value)
            rows.append([part, type(layer).__name__, "x".join(str(size) for size in value.shape[1:])])
        if part == "encoder":
            rows.append(["latent", "mu + sigma * epsilon", str(z.shape[1])])
    return rows


def map_of_codes(mu: Tensor, std: Tensor, y: Tensor, shown: Tensor) -> Scatter:
    """Encoder means in the plane of the two latent units that vary most, and one deviation around ten of them."""
    h, v = mu.var(dim=0).argsort(descending=True).numpy()[[0, min(1, mu.shape[1] - 1)]]
    turn = torch.linspace(0, 2 * torch.pi, 25)[:, None]  # (25, 1)
    rings = torch.stack([mu[shown, h] + std[shown, h] * turn.cos(), mu[shown, v] + std[shown, v] * turn.sin()], dim=-1)
    series = {str(digit): mu[y == digit][:, [h, v]].numpy().tolist() for digit in range(10)}
    series["one deviation around ten of them"] = rings.flatten(0, 1).numpy().tolist()  # (250, 2)
    return Scatter("Encoder means of test digits, by class", x=f"z{h}", y=f"z{v}", series=series)


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng, dice = (torch.Generator().manual_seed(2 * params.seed + odd) for odd in (0, 1))  # training; evaluation
    images, labels = load_digits()
    order = torch.randperm(len(images), generator=rng)
    train, test = order[:TRAIN], order[TRAIN:]
    x, y = images[test], labels[test]  # (397, 1, 8, 8), (397,): never trained on
    judge = train_judge(images[train], labels[train], rng)
    vae = VAE(params.latent_dim, rng)
    adam = torch.optim.Adam(vae.parameters(), fused=True)
    rate = torch.optim.lr_scheduler.OneCycleLR(adam, max_lr=8e-3, total_steps=params.steps)
    at, terms = list[int](), list[list[float]]()
    for step in range(1, params.steps + 1):
        batch = images[train[torch.randint(TRAIN, (BATCH,), generator=rng)]]
        mu, logvar = vae.encode(batch)
        reconstruction, kl = loss_terms(batch, vae.decode(reparameterise(mu, logvar, rng)), mu, logvar)
        loss = reconstruction + params.beta * kl  # the negative ELBO where beta = 1
        descend(adam, loss)
        rate.step()
        if step % 20 == 0:
            at.append(step)
            terms.append([reconstruction.item(), kl.item(), loss.item()])
            tick(step / params.steps, f"step {step}", reconstruction=terms[-1][0], KL=terms[-1][1])

    with torch.no_grad():
        mu, logvar = vae.encode(x)  # (397, d) each
        z = reparameterise(mu, logvar, dice)  # (397, d): the aggregate posterior
        x_mean = vae.decode(z)
        drawn = vae.decode(torch.randn(SAMPLES, params.latent_dim, generator=dice))  # (500, 1, 8, 8), from z ~ N(0, I)
        verdict = judge(drawn).softmax(dim=1)  # (500, 10)
        accuracy = (judge(x).argmax(dim=1) == y).double().mean().item()
        shapes = layer_shapes(vae, x[:1], z[:1])
    counts = verdict.argmax(dim=1).bincount(minlength=10)
    mse, variance = (x - x_mean).square().mean().item(), (x - images[train].mean(dim=0)).square().mean().item()
    spread = mu.var(dim=0)  # (d,); near 0 where the code says nothing of the digit (Burda et al. 2015)
    exact = [value.double() for value in (x, x_mean, mu, logvar)]
    reconstruction, kl = loss_terms(*exact)
    reference = reference_loss(*exact, beta=params.beta)
    gap = ((reconstruction + params.beta * kl - reference) / reference).abs().item()

    std = (0.5 * logvar).exp()  # (397, d)
    shown = torch.stack([(y == digit).nonzero()[0, 0] for digit in range(10)])  # (10,): a test image of each class
    curves = torch.tensor(terms).T.numpy().tolist()  # 3 x (steps / 20)
    figures = [
        ("reconstruct", Images(
            "Digits never trained on and their reconstructions", row_labels=["digit", "reconstruction"],
            pixels=torch.cat([x[shown], x_mean[shown]]).view(2, 10, 8, 8).numpy().tolist(),
        )),
        ("reconstruct", Bars(
            "The code of the first of them", x="latent unit", y="value", labels=[f"z{i}" for i in range(len(spread))],
            series={
                "mean": mu[shown[0]].numpy().tolist(), "deviation": std[shown[0]].numpy().tolist(),
                "draw that was decoded": z[shown[0]].numpy().tolist(),
            },
        )),
        ("sample", Images("Decoded draws from N(0, I)", drawn[:60].view(5, 12, 8, 8).numpy().tolist())),
        ("sample", Bars(
            f"Classes that the judge sees in {SAMPLES} draws", x="class", y="draws",
            labels=[str(digit) for digit in range(10)], series={"draws": counts.numpy().tolist()},
        )),
        ("encode", map_of_codes(mu, std, y, shown)),
        ("loss", Lines(
            f"Loss = reconstruction + {params.beta:g} KL", x="training step", y="nats an image", at=at,
            series={"reconstruction": curves[0], "KL": curves[1], "loss": curves[2]},
        )),
    ]  # fmt: skip
    return Result(
        metrics=[
            Metric("reconstruction", reconstruction.item(), "nats/image"),
            Metric("KL", kl.item(), "nats/image"),
            Metric("negative ELBO", (reconstruction + kl).item(), "nats/image"),
            Metric("reconstruction error", mse),
            Metric("active latent units", int((spread > 0.01).sum())),
            Metric("rarest class among prior samples", counts.min().item() / SAMPLES),
        ],
        claims=[
            Claim("Reconstruction error over that of the mean image", mse / variance, "<=", 0.45),
            Claim("Encoded digits fill the prior: largest |mean|", z.mean(dim=0).abs().max().item(), "<=", 0.3),
            Claim("Encoded digits fill the prior: smallest deviation", z.std(dim=0).min().item(), ">=", 0.6),
            Claim("Encoded digits fill the prior: largest deviation", z.std(dim=0).max().item(), "<=", 1.3),
            Claim("The judge is right on real digits it never saw", accuracy, ">=", 0.9),
            Claim("The judge is confident on prior samples", verdict.amax(dim=1).mean().item(), ">=", 0.82),
            Claim("Classes that appear among 500 prior samples", int((counts > 0).sum()), ">=", 10),
            Claim("The loss is the sum of its two terms as torch.distributions has them: difference", gap, "<=", 1e-6),
        ],
        figures=[figure for _, figure in sorted(figures, key=lambda of: of[0] != params.view)],
        tables=[Table("Tensor shape after every layer", ["part", "layer", "shape"], shapes)],
    )
