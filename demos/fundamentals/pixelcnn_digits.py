"""PixelCNN: a digit written pixel by pixel.

Question: How does an autoregressive model give exact likelihoods, and why is sampling slow?
Source: van den Oord, Kalchbrenner, Kavukcuoglu 2016, arXiv:1601.06759, eq. (1), §3.3, §3.4, figure 2 and table 1.
Watch: All 64 conditionals of a known digit come out of one pass, but a new digit needs a pass for each pixel. Let the
    first mask see its own pixel and the code length falls to nothing: it copies, and can write no digit.
"""

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from demos.contract import Claim, DemoParams, Heatmap, Images, Lines, Metric, Preset, Result, Tick, no_tick
from demos.shared.digits import load_digits

LEVELS, SIDE, PIXELS = 17, 8, 64  # grey levels 0 to 16; pixels are numbered row by row
BATCH, TRAIN, SAMPLES = 32, 1_400, 60


class Params(DemoParams):
    steps: int = Field(400, ge=50, le=1500, description="Training steps")
    channels: int = Field(48, ge=8, le=96, description="Feature channels")
    layers: int = Field(4, ge=1, le=8, description="Masked layers: the first of 5x5, the others of 3x3")
    temperature: float = Field(1.0, ge=0.3, le=1.5, description="Sampling temperature")
    first_mask: Literal["A", "B"] = Field(
        "A", description="Mask of the first layer: A hides the pixel itself, B does not"
    )
    seed: int = Field(0, ge=0, le=9999, description="Seed of data, weights and sampling")

    presets: ClassVar[Mapping[str, Preset]] = {
        "peeking": Preset("The first layer sees the pixel to be predicted: it copies it", {"first_mask": "B"}),
        "one layer": Preset("Each pixel sees only twelve before it: strokes go astray", {"layers": 1}),
        "cold": Preset("Only likely grey levels are drawn: plain digits, cheaper than real ones", {"temperature": 0.5}),
    }


class MaskedConv(nn.Module):
    """A convolution whose kernel is zero at every pixel that comes later, and for mask A at the pixel itself too."""

    def __init__(self, mask: str, inputs: int, outputs: int, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs, size, size))
        self.bias = nn.Parameter(torch.empty(outputs))
        order = torch.arange(size * size).view(size, size)  # row by row, as pixels are numbered
        self.mask = nn.Buffer((order < size * size // 2 + (mask == "B")).float())  # (size, size); figure 2, right

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H, W)."""
        return nn.functional.conv2d(x, self.weight * self.mask, self.bias, padding=len(self.mask) // 2)


class Residual(nn.Module):
    """x + what a masked 3x3 convolution of x sees: figure 5, without its bottleneck."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = MaskedConv("B", channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W), the same shape out."""
        return x + self.conv(x.relu())


class PixelCNN(nn.Module):
    """Grey levels of a digit -> logits of each pixel's level, given those before it."""

    def __init__(self, params: Params, rng: torch.Generator) -> None:
        super().__init__()
        self.first = MaskedConv(params.first_mask, 1, params.channels, 5)
        self.blocks = nn.Sequential(*(Residual(params.channels) for _ in range(params.layers - 1)))
        self.head = nn.Sequential(nn.ReLU(), MaskedConv("B", params.channels, LEVELS, 1))
        for weight in self.parameters():
            nn.init.zeros_(weight) if weight.dim() == 1 else nn.init.kaiming_uniform_(weight, a=5**0.5, generator=rng)

    def forward(self, x: Tensor) -> Tensor:
        """Levels x (B, 1, 8, 8), int64 -> logits of p(x_i | x_1 … x_{i-1}), (B, 17, 8, 8)."""
        return self.head(self.blocks(self.first(x / 8 - 1.0)))

    def bits(self, x: Tensor) -> Tensor:
        """-log2 p(x_i | x_1 … x_{i-1}) of every pixel: their sum is -log2 p(x), eq. (1). (B, 1, 8, 8) -> (B, 64)."""
        nats = nn.functional.cross_entropy(self(x), x[:, 0], reduction="none")  # (B, 8, 8)
        return nats.flatten(1) / math.log(2)


@torch.no_grad()
def write(model: PixelCNN, count: int, temperature: float, rng: torch.Generator) -> list[Tensor]:
    """Draw digits pixel by pixel; return the canvas before and after each of the 64 passes, (count, 1, 8, 8) each."""
    canvas = torch.zeros(count, 1, SIDE, SIDE, dtype=torch.int64)
    path = [canvas.clone()]
    for i in range(PIXELS):
        row, column = divmod(i, SIDE)
        p = (model(canvas)[:, :, row, column] / temperature).softmax(dim=1)  # (count, 17)
        canvas[:, 0, row, column] = torch.multinomial(p, 1, generator=rng)[:, 0]
        path.append(canvas.clone())
    return path


@torch.no_grad()
def peeks(model: PixelCNN, x: Tensor) -> float:
    """Change each pixel j of x (1, 1, 8, 8) in turn: the largest change of the logits of a pixel i <= j."""
    changed = x.repeat(PIXELS + 1, 1, 1, 1).flatten(1)  # (65, 64); the last stays as it is
    j = torch.arange(PIXELS)
    changed[j, j] = (changed[j, j] + 8) % LEVELS
    logits = model(changed.view(-1, 1, SIDE, SIDE)).flatten(2)  # (65, 17, 64)
    change = (logits[:-1] - logits[-1:]).abs().amax(dim=1)  # (64, 64): [j, i]
    return change.tril().max().item()


@torch.no_grad()
def bits_in_turn(model: PixelCNN, x: Tensor, rng: torch.Generator) -> Tensor:
    """Bits of every pixel of x (B, 1, 8, 8) once more, (B, 64), in 64 passes, pixels not yet told being noise."""
    told = torch.randint(LEVELS, x.shape, generator=rng)
    bits: list[Tensor] = []
    for i in range(PIXELS):
        row, column = divmod(i, SIDE)
        law: Any = torch.distributions.Categorical(logits=model(told)[:, :, row, column])
        bits.append(-law.log_prob(x[:, 0, row, column]) / math.log(2))  # (B,)
        told[:, 0, row, column] = x[:, 0, row, column]
    return torch.stack(bits, dim=1)


def receptive_field(model: PixelCNN, x: Tensor, row: int, column: int) -> Tensor:
    """Size of the gradient of one pixel's logits with respect to every pixel of x (1, 1, 8, 8): (8, 8)."""
    grey = x.float().requires_grad_()
    (slope,) = torch.autograd.grad(model(grey)[0, :, row, column].square().sum(), grey)
    return slope[0, 0].abs()


def histogram_bits(train: Tensor, test: Tensor) -> float:
    """Bits a pixel of test (N, 64) when each pixel has its own histogram over train (M, 64), one count added to all."""
    counts = 1.0 + nn.functional.one_hot(train, LEVELS).sum(dim=0)  # (64, 17)
    p = counts / counts.sum(dim=1, keepdim=True)
    return -p[torch.arange(PIXELS), test].log2().mean().item()


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Take one step down the gradient of the loss."""
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng, dice = (torch.Generator().manual_seed(2 * params.seed + odd) for odd in (0, 1))  # training; evaluation
    images, _ = load_digits()
    levels = (16 * images).round().long()  # (1797, 1, 8, 8)
    order = torch.randperm(len(levels), generator=rng)
    train, test = levels[order[:TRAIN]], levels[order[TRAIN:]]
    model = PixelCNN(params, rng)
    adam = torch.optim.Adam(model.parameters(), fused=True)
    rate = torch.optim.lr_scheduler.OneCycleLR(adam, max_lr=6e-3, total_steps=params.steps)
    at, curve = list[int](), list[float]()
    for step in range(1, params.steps + 1):
        loss = model.bits(train[torch.randint(TRAIN, (BATCH,), generator=rng)]).mean()
        descend(adam, loss)
        rate.step()
        if step % 10 == 0:
            at.append(step)
            curve.append(loss.item())
            tick(0.9 * step / params.steps, f"step {step}", bits=curve[-1])

    with torch.no_grad():
        by_pixel = model.bits(test)  # (397, 64)
        p = model(test[:64]).double().softmax(dim=1)  # (64, 17, 8, 8)
    bits, independent = by_pixel.mean().item(), histogram_bits(train.flatten(1), test.flatten(1))
    off_one = (p.sum(dim=1) - 1).abs().max().item()
    turn_gap = (bits_in_turn(model, test[:32], dice) - by_pixel[:32]).abs().max().item()
    path = write(model, SAMPLES, params.temperature, dice)
    with torch.no_grad():
        written = model.bits(path[-1]).mean().item()
    change = peeks(model, test[:1])
    field = receptive_field(model, test[:1], 4, 4)  # (8, 8)
    canvases = torch.stack([canvas[:6, 0] for canvas in path[::8]], dim=1)  # (6, 9, 8, 8)
    return Result(
        metrics=[
            Metric("bits_per_pixel", bits, "bits/pixel"),
            Metric("bits_per_pixel of independent pixels", independent, "bits/pixel"),
            Metric("bits_per_pixel of samples", written, "bits/pixel"),
            Metric("network_passes", len(path) - 1, "passes/image"),
            Metric("pixels that the fifth pixel of the fifth row sees", int((field > 0).sum())),
        ],
        claims=[
            Claim("The logits of pixel i do not depend on pixel j >= i: largest change", change, "==", 0.0),
            Claim("Context shortens the code: bits over those of independent pixels", bits / independent, "<=", 0.85),
            Claim("The probabilities of every pixel sum to one: largest deviation", off_one, "<=", 1e-5),
            Claim(
                "One pass over a digit gives the bits of 64 passes that hide what is to come: largest difference",
                turn_gap, "<=", 1e-3,
            ),
            Claim("Samples cost as many bits as real digits: difference a pixel", abs(written - bits), "<=", 0.3),
        ],
        figures=[
            Images(
                "Six digits being written, from the blank canvas on", pixels=(canvases / 16).numpy().tolist(),
                column_labels=[f"{n} passes" for n in range(0, PIXELS + 1, 8)],
            ),
            Images("Digits written pixel by pixel", (path[-1].view(5, 12, 8, 8) / 16).numpy().tolist()),
            Heatmap(
                "What the fifth pixel of the fifth row sees: gradient of its logits", x="column", y="row",
                values=field.numpy().tolist(),
            ),
            Heatmap(
                "Bits of each pixel of test digits", x="column", y="row",
                values=by_pixel.mean(dim=0).view(8, 8).numpy().tolist(),
            ),
            Lines(
                "Code length", x="training step", y="bits a pixel", at=at,
                series={"PixelCNN, training": curve, "independent pixels, test": [independent] * len(at)},
            ),
        ],
    )  # fmt: skip
