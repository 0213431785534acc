"""DCGAN on digits

Question: Can a generator of transposed convolutions learn to draw digits in seconds?
Source: Radford, Metz, Chintala 2015, arXiv:1511.06434, §3 (guidelines) and §4 (training); one-sided label smoothing:
  Salimans et al. 2016, arXiv:1606.03498, §3.4; Fréchet distance: Heusel et al. 2017, arXiv:1706.08500, eq. (6).
Watch: digits form out of noise within a few hundred steps. Switch off one guideline at a time: without batch
  normalisation nothing is learned from the paper's small weights, a linear output leaves the range of pixels; the
  others change little at this size.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from demos.contract import Claim, DemoParams, Images, Lines, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.digits import load_digits
from demos.shared.judge import train_judge

NOISE, CHANNELS, BATCH, LR, REAL = 32, 32, 64, 1e-3, 0.9  # REAL: the label of real images, smoothed
LOOKS, SHOWN = 20, 10  # points of the loss curves; samples in a row
TILES = 40  # of the gallery, half of them real


class Params(DemoParams):
    steps: int = Field(800, ge=100, le=3000, description="Training steps")
    batch_norm: bool = Field(True, description="Batch normalisation in both networks")
    g_activation: Literal["relu", "leaky", "tanh"] = Field("relu", description="Generator activation")
    d_activation: Literal["leaky", "relu"] = Field("leaky", description="Discriminator activation")
    downsample: Literal["stride", "pool"] = Field("stride", description="How the discriminator halves an image")
    output: Literal["tanh", "linear"] = Field("tanh", description="Output layer of the generator")
    view: Literal["samples", "losses", "gallery"] = Field("samples", description="Leading figure")
    seed: int = Field(0, ge=0, le=9999, description="Random seed of data, weights and sampling")

    presets: ClassVar[Mapping[str, Preset]] = {
        "no batch norm": Preset("From weights as small as the paper's nothing is learned", {"batch_norm": False}),
        "max pooling": Preset("Pooling in D instead of strided convolutions", {"downsample": "pool"}),
        "linear output": Preset("Samples leave the range of pixels", {"output": "linear"}),
        "tanh inside": Preset("Tanh instead of ReLU in the generator", {"g_activation": "tanh"}),
        "gallery": Preset("Which tiles are real? The answers are in the last table", {"view": "gallery"}),
    }


def activation(name: str) -> nn.Module:
    return {"relu": nn.ReLU(), "leaky": nn.LeakyReLU(0.2), "tanh": nn.Tanh()}[name]


def generator(params: Params) -> nn.Sequential:
    """z (B, 32, 1, 1) to images (B, 1, 8, 8), in -1 … 1 by tanh: the side doubles with each transposed convolution."""

    def layer(c_in: int, c: int, kernel: int, stride: int, padding: int) -> list[nn.Module]:
        norm: list[nn.Module] = [nn.BatchNorm2d(c)] if params.batch_norm else []
        return [nn.ConvTranspose2d(c_in, c, kernel, stride, padding), *norm, activation(params.g_activation)]

    return nn.Sequential(
        *layer(NOISE, 2 * CHANNELS, 2, 1, 0),  # (B, 64, 2, 2)
        *layer(2 * CHANNELS, CHANNELS, 4, 2, 1),  # (B, 32, 4, 4)
        nn.ConvTranspose2d(CHANNELS, 1, 4, 2, 1),  # no norm at the output: it must be free in mean and range
        *([nn.Tanh()] if params.output == "tanh" else []),
    )


def discriminator(params: Params) -> nn.Sequential:
    """Images (B, 1, 8, 8) to logits of "real" (B, 1, 1, 1): no dense layer, no norm at the input."""

    def half(c_in: int, c: int) -> list[nn.Module]:
        if params.downsample == "pool":
            return [nn.Conv2d(c_in, c, 3, padding=1), nn.MaxPool2d(2)]
        return [nn.Conv2d(c_in, c, 4, stride=2, padding=1)]

    norm: list[nn.Module] = [nn.BatchNorm2d(2 * CHANNELS)] if params.batch_norm else []
    return nn.Sequential(
        *half(1, CHANNELS), activation(params.d_activation),  # (B, 32, 4, 4)
        *half(CHANNELS, 2 * CHANNELS), *norm, activation(params.d_activation),  # (B, 64, 2, 2)
        nn.Conv2d(2 * CHANNELS, 1, 2),
    )  # fmt: skip


def draw_weights(net: nn.Module, rng: torch.Generator) -> None:
    """The paper's start: weights N(0, 0.02²), norms' scales near 1, biases 0."""
    for name, weight in net.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(weight)
        else:
            nn.init.normal_(weight, mean=1.0 if weight.dim() == 1 else 0.0, std=0.02, generator=rng)


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Take one step down the gradient of the loss."""
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()


def root(C: Tensor) -> Tensor:
    """Square root of a symmetric matrix (d, d) without negative eigenvalues."""
    U, values, _ = C.svd()
    return U @ values.sqrt().diag() @ U.T


def frechet(x: Tensor, y: Tensor) -> float:
    """‖m - m_w‖² + Tr(C + C_w - 2 (C C_w)^½) of features (N, d), (M, d), in double precision."""
    x, y = x.double(), y.double()
    C, C_w = x.T.cov(), y.T.cov()  # (d, d) each
    cross = (root(C) @ root(C_w)).svd().S.sum()  # Tr (C C_w)^½
    return ((x.mean(dim=0) - y.mean(dim=0)).square().sum() + C.trace() + C_w.trace() - 2 * cross).item()


def nearest(images: Tensor, real: Tensor) -> Tensor:
    """The real image nearest to each of the images, pixel by pixel: (N, 1, 8, 8), (M, 1, 8, 8) -> (N, 1, 8, 8)."""
    return real[torch.cdist(images.flatten(1), real.flatten(1)).argmin(dim=1)]


def layer_rows(name: str, net: nn.Sequential, x: Tensor) -> list[list[str | int]]:
    """Network, layer, output shape and parameters, for each layer of a network that x (1, …) passes."""
    rows = list[list[str | int]]()
    for layer in net:
        x = layer(x)
        size = sum(weight.numel() for weight in layer.parameters())
        rows.append([name, type(layer).__name__, "x".join(map(str, x.shape[1:])), size])
    return rows


def to_grid(images: Tensor, columns: int) -> list[list[list[list[float]]]]:
    """Images (N, 1, 8, 8) in [0, 1] as rows of a figure."""
    return images.clamp(0, 1).view(-1, columns, 8, 8).numpy().tolist()


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng, dice = (torch.Generator().manual_seed(2 * params.seed + odd) for odd in (0, 1))  # training; evaluation
    digits, _ = load_digits()  # (1797, 1, 8, 8) in [0, 1]
    judge = train_judge(params.seed)
    G, D = generator(params), discriminator(params)
    draw_weights(G, rng)
    draw_weights(D, rng)
    adam_g, adam_d = (torch.optim.Adam(net.parameters(), lr=LR, betas=(0.5, 0.999), fused=True) for net in (G, D))
    shown = torch.randn(SHOWN, NOISE, 1, 1, generator=dice)  # the same noise at each look
    at, losses_d, losses_g, grown = list[int](), list[float](), list[float](), list[Tensor]()

    def sample(z: Tensor) -> Tensor:
        """Images in [0, 1], if the output keeps its range; norms by the batch at hand, as in training."""
        with torch.no_grad():
            return (G(z) + 1) / 2

    for step in range(1, params.steps + 1):
        real = 2 * digits[torch.randint(len(digits), (BATCH,), generator=rng)] - 1  # to the range of tanh
        fake = G(torch.randn(BATCH, NOISE, 1, 1, generator=rng))
        on_real = D(real)
        loss_d = F.binary_cross_entropy_with_logits(on_real, torch.full_like(on_real, REAL))
        loss_d = loss_d + F.softplus(D(fake.detach())).mean()  # real and fake in batches of their own
        descend(adam_d, loss_d)
        loss_g = F.softplus(-D(fake)).mean()  # -log D(G(z))
        descend(adam_g, loss_g)
        if step % (params.steps // LOOKS) == 0:
            at.append(step)
            losses_d.append(loss_d.item())
            losses_g.append(loss_g.item())
            tick(step / params.steps, f"step {step}", d=losses_d[-1], g=losses_g[-1])
        if step % (params.steps // 5) == 0:
            grown.append(sample(shown))

    images = sample(torch.randn(len(digits), NOISE, 1, 1, generator=dice))  # (1797, 1, 8, 8)
    noise = torch.rand(images.shape, generator=dice)
    p = judge(images).softmax(dim=1)  # (1797, 10)
    shares = p.argmax(dim=1).bincount(minlength=10) / len(images)  # (10,)
    confidence = p.max(dim=1).values.mean().item()
    confidence_real = judge(digits).softmax(dim=1).max(dim=1).values.mean().item()
    features = judge.features(digits)  # (1797, 32)
    distance, distance_noise = (frechet(judge.features(some), features) for some in (images, noise))
    largest = (2 * images - 1).abs().max().item()

    is_real = torch.randperm(TILES, generator=dice) < TILES // 2  # (TILES,)
    picks = digits[torch.randint(len(digits), (TILES,), generator=dice)]
    gallery = torch.where(is_real[:, None, None, None], picks, images[:TILES])
    both = torch.stack([images[:SHOWN], nearest(images[:SHOWN], digits)]).flatten(0, 1)
    figures: Sequence[tuple[str, Images | Lines]] = [
        ("samples", Images("Samples over training, from the same noise", to_grid(torch.cat(grown), SHOWN),
                           row_labels=[f"step {params.steps // 5 * n}" for n in range(1, len(grown) + 1)])),
        ("losses", Lines("Losses", x="training step", y="nats", at=at, series={"D": losses_d, "G": losses_g})),
        ("gallery", Images("Gallery: which tiles are real?", to_grid(gallery, SHOWN), row_labels=list("abcd"),
                           column_labels=[str(n) for n in range(1, SHOWN + 1)])),
        ("gallery", Images("Samples, and the nearest real digit of each", to_grid(both, SHOWN),
                           row_labels=["generated", "nearest real"])),
    ]  # fmt: skip
    answers = [
        [row, " ".join(str(n + 1) for n in range(SHOWN) if is_real[SHOWN * index + n])]
        for index, row in enumerate("abcd")
    ]
    with torch.device("meta"):
        g, d = generator(params).eval(), discriminator(params).eval()
        layers = layer_rows("G", g, torch.zeros(1, NOISE, 1, 1)) + layer_rows("D", d, torch.zeros(1, 1, 8, 8))
    return Result(
        metrics=[
            Metric("frechet", distance / distance_noise, "of that of noise"),
            Metric("share of the rarest class", shares.min().item()),
            Metric("confidence of the judge", confidence),
            Metric("confidence on real digits", confidence_real),
        ],
        claims=[
            Claim("All ten digits are drawn: share of the rarest, as the judge reads it", shares.min().item(),
                  ">=", 0.02),
            Claim("The judge is nearly as sure of samples as of real digits: its confidence, ratio",
                  confidence / confidence_real, ">=", 0.85),
            Claim("Samples are far nearer to real digits than noise is: Fréchet distance, ratio",
                  distance / distance_noise, "<=", 0.35),
            Claim("Pixels keep their range: largest |x|", largest, "<=", 1.0),
        ],
        figures=[figure for _, figure in sorted(figures, key=lambda pair: pair[0] != params.view)],
        tables=[
            Table("Layers", ["network", "layer", "output", "parameters"], layers),
            Table("Samples read by the judge", ["digit", "share"], [[n, shares[n].item()] for n in range(10)]),
            Table("Answers to the gallery: real tiles", ["row", "columns"], answers),
        ],
    )  # fmt: skip
