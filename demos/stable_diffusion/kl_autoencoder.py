"""The compression stage

Question: How far can an image be compressed before it looks different, and which loss keeps what the eye sees?
Source: Rombach et al. 2021, arXiv:2112.10752, §3.1, §G (KL-regularised, latents scaled to deviation 1); Kingma, Welling
  2013, arXiv:1312.6114, eq. (10); distance of features: R. Zhang et al. 2018, arXiv:1801.03924, eq. (1) with w = 1.
Watch: at factor 8 a picture of 768 values is told by 16: colour and side stay, detail goes. The features are of a
  network that learnt to name figures, as those of LPIPS learnt to name objects; trained on them, the decoder gets
  nearer to what is named and farther from the pixels. A KL term as heavy as in a plain VAE leaves latents little to
  say.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from demos.contract import Claim, DemoParams, Images, Lines, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.shapes import COLOURS, SHAPES, SIDES, draw_shapes, recognise, to_rows

BATCH, TESTED, SHOWN, NAMING = 32, 500, 8, 150  # NAMING steps train the network whose features are compared
VALUES = 3 * 16 * 16  # of a picture
Loss = Literal["l1", "l2", "perceptual"]


class Params(DemoParams):
    factor: int = Field(4, ge=2, le=8, description="Factor of the latents shown: 2, 4 or 8, others are cut to these")
    channels: int = Field(4, ge=1, le=16, description="Latent channels")
    loss: Loss = Field("l2", description="Reconstruction loss: |error|, error², or error² of features")
    kl_weight: float = Field(1e-4, ge=0.0, le=1.0, description="Weight of the KL term against the sum over pixels")
    steps: int = Field(400, ge=50, le=2000, description="Training steps of each autoencoder")
    seed: int = Field(0, ge=0, le=9999, description="Seed of data, weights and draws")

    presets: ClassVar[Mapping[str, Preset]] = {
        "perceptual": Preset("Trained on features: outlines right, pixels less so", {"loss": "perceptual"}),
        "full KL": Preset("The weight of a plain VAE: more latent values keep no more", {"kl_weight": 1.0}),
        "one channel": Preset("A quarter of the values: at factor 4 the error doubles", {"channels": 1}),
        "factor 8": Preset("768 values are told by 16: colour and side stay", {"factor": 8}),
    }


def start(net: nn.Module, rng: torch.Generator) -> None:
    """Draw weights as torch does, U(±1/√inputs), from a generator of our own."""
    for weight in net.parameters():
        bound = (weight[0].numel() if weight.dim() > 1 else len(weight)) ** -0.5
        nn.init.uniform_(weight, -bound, bound, generator=rng)


class Autoencoder(nn.Module):
    """Pictures (B, 3, 16, 16) to latents (B, c, 16/f, 16/f) and back; only the outermost layers change the size."""

    def __init__(self, f: int, c: int, rng: torch.Generator) -> None:
        super().__init__()
        C = 32 if f == 2 else 96  # width: at factor 2 there are more places to compute
        self.encoder = nn.Sequential(
            nn.Conv2d(3, C, f, f), nn.SiLU(), nn.Conv2d(C, C, 3, padding=1), nn.SiLU(), nn.Conv2d(C, 2 * c, 1)
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(c, C, 3, padding=1), nn.SiLU(), nn.Conv2d(C, C, 3, padding=1), nn.SiLU(),
            nn.ConvTranspose2d(C, 3, f, f),
        )  # fmt: skip
        start(self, rng)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the latent's Gaussian, (B, c, h, w) each."""
        mean, logvar = self.encoder(x).chunk(2, dim=1)
        return mean, logvar


def draw(mean: Tensor, logvar: Tensor, rng: torch.Generator) -> Tensor:
    """z = μ + σ ε."""
    return mean + (0.5 * logvar).exp() * torch.randn(mean.shape, generator=rng)


def kl(mean: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(μ, σ²) ‖ N(0, I)) of each latent in nats, eq. (10): (B, c, h, w) -> (B,)."""
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum(dim=(1, 2, 3))


class Namer(nn.Module):
    """A small convolutional classifier of colour, shape and side; what it computes on the way are the features."""

    def __init__(self, rng: torch.Generator) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 24, 3, 2, 1), nn.Conv2d(24, 48, 3, 2, 1)
        self.name = nn.Linear(48 * 4 * 4, len(COLOURS) + len(SHAPES) + len(SIDES))
        start(self, rng)

    def features(self, x: Tensor) -> list[Tensor]:
        """(B, 24, 8, 8) and (B, 48, 4, 4)."""
        h = F.relu(self.first(x))
        return [h, F.relu(self.second(h))]

    def error(self, x: Tensor, labels: Tensor) -> Tensor:
        """Sum of three cross-entropies."""
        logits = self.name(self.features(x)[-1].flatten(1)).split([len(COLOURS), len(SHAPES), len(SIDES)], dim=1)
        return torch.stack([F.cross_entropy(of, labels[:, n]) for n, of in enumerate(logits)]).sum()


def feature_distance(namer: Namer, x: Tensor, y: Tensor) -> Tensor:
    """Eq. (1): features made length 1 at each place, squared differences, mean over places, sum of layers: (B,)."""
    pairs = zip(namer.features(x), namer.features(y), strict=True)
    unit = [[of / (of.square().sum(dim=1, keepdim=True).sqrt() + 1e-8) for of in pair] for pair in pairs]
    return torch.stack([(a - b).square().sum(dim=1).mean(dim=(1, 2)) for a, b in unit]).sum(dim=0)


def fit(net: nn.Module, loss: Tensor, adam: torch.optim.Optimizer, rate: torch.optim.lr_scheduler.LRScheduler) -> None:
    """One step down the gradient, clipped to norm 1."""
    adam.zero_grad()
    torch.autograd.backward(loss)
    nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    adam.step()
    rate.step()


def train_namer(rng: torch.Generator) -> Namer:
    """The network whose features count, trained to name and then fixed."""
    namer = Namer(rng)
    adam = torch.optim.Adam(namer.parameters(), fused=True)
    rate = torch.optim.lr_scheduler.OneCycleLR(adam, max_lr=1e-2, total_steps=NAMING)
    for _ in range(NAMING):
        fit(namer, namer.error(*draw_shapes(2 * BATCH, rng)), adam, rate)
    return namer.requires_grad_(False)


def train(f: int, loss: Loss, params: Params, namer: Namer, rng: torch.Generator) -> tuple[Autoencoder, float]:
    """An autoencoder of factor f, and the scale: 1 / deviation of the latents of some pictures, measured once."""
    net = Autoencoder(f, params.channels, rng)
    adam = torch.optim.Adam(net.parameters(), fused=True)
    rate = torch.optim.lr_scheduler.OneCycleLR(adam, max_lr=8e-3, total_steps=params.steps)
    for _ in range(params.steps):
        x, _ = draw_shapes(BATCH, rng)
        mean, logvar = net.encode(x)
        y = net.decoder(draw(mean, logvar, rng))
        error = F.mse_loss(y, x) if loss == "l2" else F.l1_loss(y, x)
        if loss == "perceptual":  # features of length 1 do not see brightness: a little of |error| holds it
            error = 0.1 * error + feature_distance(namer, x, y).mean()
        fit(net, error + params.kl_weight * kl(mean, logvar).mean() / VALUES, adam, rate)
    with torch.no_grad():
        return net, 1 / draw(*net.encode(draw_shapes(TESTED, rng)[0]), rng).std().item()


@dataclass(frozen=True, slots=True)
class Trained:
    """An autoencoder, the scale of its latents, what it makes of the test pictures, and its errors."""

    net: Autoencoder
    scale: float
    mean: Tensor
    logvar: Tensor
    made: Tensor
    pixel: float  # mean squared error over the variance of the pictures
    feature: float
    told: Tensor  # share of colours, shapes and sides still told right, (3,)


@torch.no_grad()
def test(net: Autoencoder, scale: float, x: Tensor, labels: Tensor, namer: Namer, dice: torch.Generator) -> Trained:
    """Encode, draw, decode pictures (N, 3, 16, 16) that were not trained on."""
    mean, logvar = net.encode(x)
    y = net.decoder(draw(mean, logvar, dice))
    told = (recognise(y)[0] == labels).double().mean(dim=0)
    pixel, feature = (F.mse_loss(y, x) / x.var()).item(), feature_distance(namer, x, y).mean().item()
    return Trained(net, scale, mean, logvar, y, pixel, feature, told)


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng, dice = (torch.Generator().manual_seed(2 * params.seed + odd) for odd in (0, 1))  # training; evaluation
    namer = train_namer(rng)
    tick(0.1, "features learnt")
    x, labels = draw_shapes(TESTED, dice)
    other: Loss = "l2" if params.loss == "perceptual" else "perceptual"
    kinds: list[tuple[int, Loss]] = [(8, params.loss), (4, params.loss), (2, params.loss), (8, other)]
    trained = list[Trained]()
    for done, kind in enumerate(kinds, start=1):
        trained.append(test(*train(*kind, params, namer, rng), x, labels, namer, dice))
        tick(0.1 + 0.9 * done / len(kinds), f"factor {kind[0]}, {kind[1]}", error=trained[-1].pixel)
    eight, four, two, rival = trained
    factor = max(f for f in (2, 4, 8) if f <= params.factor)
    chosen = {8: eight, 4: four, 2: two}[factor]
    plain, perceptual = (eight, rival) if other == "perceptual" else (rival, eight)
    with torch.no_grad():
        z = draw(chosen.mean, chosen.logvar, dice)
        jitter = torch.randn(z[:SHOWN].shape, generator=dice) / chosen.scale  # as large as the latents themselves
        noisy = [chosen.net.decoder(z[:SHOWN] + level * jitter) for level in (0.2, 0.5, 1.0)]
        anything = feature_distance(namer, x, x.roll(1, 0)).mean().item()  # of two pictures that have nothing in common
    values = {f: params.channels * (16 // f) ** 2 for f in (8, 4, 2)}
    first = (1 - eight.pixel) / values[8] / ((eight.pixel - four.pixel) / (values[4] - values[8]))
    bound = chosen.scale * z[:SHOWN] / 6 + 0.5  # -3…3 deviations from black to white
    return Result(
        metrics=[
            Metric("scale", chosen.scale),
            Metric("pixel error at your factor", chosen.pixel, "of the variance"),
            Metric("feature error at your factor", chosen.feature),
            Metric("shape told right at your factor", chosen.told[1].item(), "share"),
            Metric("KL of a latent", kl(chosen.mean, chosen.logvar).mean().item(), "nats"),
        ],
        claims=[
            Claim("More latent values, less error: factor 8 over factor 4", eight.pixel / four.pixel, ">=", 1.4),
            Claim("More latent values, less error: factor 4 over factor 2", four.pixel / two.pixel, ">=", 1.1),
            Claim("The first values buy most: error removed by each up to factor 8 over each of those on to factor 4",
                  first, ">=", 5),
            Claim("Scaled latents of new pictures have deviation one: distance from it",
                  abs(chosen.scale * z.std().item() - 1), "<=", 0.05),
            Claim("Colour survives factor 4: share told right", four.told[0].item(), ">=", 0.9),
            Claim("Shape survives factor 4: share told right", four.told[1].item(), ">=", 0.93),
            Claim("At factor 8 the feature loss gives the lower feature error: over that of the other loss",
                  perceptual.feature / plain.feature, "<=", 0.93),
            Claim("And the higher pixel error: over that of the other loss",
                  perceptual.pixel / plain.pixel, ">=", 1.05),
        ],
        figures=[
            Images("Pictures and what comes back",
                   [to_rows(x[:SHOWN]), *(to_rows(each.made[:SHOWN]) for each in trained)],
                   ["original", *(f"factor {f}, {loss}" for f, loss in kinds)]),
            Lines("Rate and distortion", "latent values", "error over that of no values at all",
                  [values[f] for f in (8, 4, 2)],
                  {"pixels": [each.pixel for each in trained[:3]],
                   "features": [each.feature / anything for each in trained[:3]]}, log="xy"),
            Images(f"Scaled latent of each picture at factor {factor}, a row for each channel",
                   bound.clamp(0, 1).transpose(0, 1).numpy().tolist()),
            Images("Decoded from latents with noise", [to_rows(of) for of in (chosen.made[:SHOWN], *noisy)],
                   ["none", "0.2 deviations", "0.5", "1"]),
        ],
        tables=[
            Table(
                "Compression", ["factor", "loss", "latent", "times fewer values", "pixel error", "feature error",
                                "colour right", "shape right", "side right"],
                [[f, loss, f"{params.channels}x{16 // f}x{16 // f}", VALUES / values[f], each.pixel, each.feature,
                  *each.told.numpy().tolist()] for (f, loss), each in zip(kinds, trained, strict=True)],
            )
        ],
    )  # fmt: skip
