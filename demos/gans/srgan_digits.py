"""SRGAN: sharper than the mean

Question: Why does the best pixel error look soft, and what do feature and adversarial losses change?
Source: Ledig et al. 2016, arXiv:1609.04802, eq. (3) to (6) and fig. 4; sub-pixel convolution: Shi et al. 2016,
  arXiv:1609.05158, eq. (4).
Watch: many sharp pictures have the same small version. The squared error is least at their mean, which is soft; the
  discriminator knows no soft digits, so the other network picks one: sharper, and further from the truth in pixels.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from demos.contract import Claim, DemoParams, Images, Lines, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.digits import load_digits
from demos.shared.shapes import draw_shapes

CHANNELS, BLOCKS, BATCH, LR_G, LR_D = 24, 2, 32, 2e-3, 1e-3
ADVERSARIAL = 0.01  # weight of the adversarial loss beside the feature loss, eq. (3) has 0.001
TESTED, SHOWN, LOOKS = 397, 8, 20  # pictures held out, and of them shown; looks at the training


class Params(DemoParams):
    loss: Literal["mse", "gan", "both"] = Field(
        "both", description="Generator loss: pixel error, adversarial alone, or feature error and adversarial"
    )
    data: Literal["digits", "shapes"] = Field("digits", description="Images: 4 to 8 pixels, or 8 to 16")
    steps: int = Field(500, ge=100, le=2000, description="Training steps")
    upsampler: Literal["pixelshuffle", "transposed", "nearest"] = Field(
        "pixelshuffle", description="Layer that doubles the side"
    )
    seed: int = Field(0, ge=0, le=9999, description="Random seed of data, weights and sampling")

    presets: ClassVar[Mapping[str, Preset]] = {
        "pixel error": Preset("The mean of what is possible: nearest in pixels, and soft", {"loss": "mse"}),
        "adversarial alone": Preset("Sharp, and nothing holds it to the picture at hand", {"loss": "gan"}),
        "shapes": Preset("Drawn shapes, 8 to 16 pixels", {"data": "shapes"}),
    }


def pixel_shuffle(x: Tensor, r: int) -> Tensor:
    """Eq. (4) of Shi et al.: r² channels become an r x r block of pixels, (B, c r², h, w) -> (B, c, h r, w r)."""
    B, channels, h, w = x.shape
    blocks = x.view(B, channels // r**2, r, r, h, w)  # channel, row in the block, column in the block, place
    return blocks.permute(0, 1, 4, 2, 5, 3).reshape(B, channels // r**2, h * r, w * r)


class PixelShuffle(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return pixel_shuffle(x, 2)


def upsampler(kind: str) -> nn.Sequential:
    """Twice the side at the same number of channels."""
    c = CHANNELS
    if kind == "pixelshuffle":
        return nn.Sequential(nn.Conv2d(c, 4 * c, 3, padding=1), PixelShuffle())
    if kind == "transposed":
        return nn.Sequential(nn.ConvTranspose2d(c, c, 4, stride=2, padding=1))
    return nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(c, c, 3, padding=1))


class Residual(nn.Module):
    """x + f(x); without the paper's batch norm, which two blocks do not need."""

    def __init__(self) -> None:
        super().__init__()
        self.f = nn.Sequential(
            nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1), nn.PReLU(), nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.f(x)


class Generator(nn.Module):
    """Small pictures (B, 1, h, h) to large ones (B, 1, 2h, 2h), fig. 4; nearly all work is done at the small size."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, CHANNELS, 3, padding=1), nn.PReLU())
        self.blocks = nn.Sequential(*(Residual() for _ in range(BLOCKS)))
        self.last = nn.Sequential(upsampler(kind), nn.PReLU(), nn.Conv2d(CHANNELS, 1, 3, padding=1), nn.Sigmoid())

    def forward(self, small: Tensor) -> Tensor:
        h = self.first(small)
        return self.last(h + self.blocks(h))  # a skip around all blocks


def discriminator() -> nn.Sequential:
    """Large pictures to a map of logits of "real"."""
    c = CHANNELS
    return nn.Sequential(
        nn.Conv2d(1, c, 3, padding=1), nn.LeakyReLU(0.2), nn.Conv2d(c, c, 4, stride=2, padding=1), nn.LeakyReLU(0.2),
        nn.Conv2d(c, 2 * c, 4, stride=2, padding=1), nn.LeakyReLU(0.2), nn.Conv2d(2 * c, 1, 2),
    )  # fmt: skip


def features() -> nn.Sequential:
    """φ, what the feature loss compares: fixed random filters here, where the paper has those of a trained VGG19."""
    return nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU())


def draw_weights(net: nn.Module, rng: torch.Generator) -> nn.Module:
    """The net with weights of torch's usual range, from a generator of our own."""
    for weight in net.parameters():
        if weight.dim() > 1:
            nn.init.kaiming_uniform_(weight, a=0.2, generator=rng)
        elif len(weight) > 1:  # biases; a PReLU's single slope keeps its 0.25
            nn.init.zeros_(weight)
    return net


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Take one step down the gradient of the loss."""
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()


def psnr(x: Tensor, truth: Tensor) -> float:
    """Peak signal-to-noise ratio of pictures in [0, 1], in dB: 10 log10(1 / mean squared error)."""
    return -10 * (x - truth).square().mean().log10().item()


def gradient_energy(x: Tensor) -> float:
    """Mean squared difference of neighbouring pixels."""
    return (x.diff(dim=2).square().mean() + x.diff(dim=3).square().mean()).item()


def load(data: str, rng: torch.Generator) -> Tensor:
    """Large pictures in [0, 1] in random order: (1797, 1, 8, 8) or (1797, 1, 16, 16)."""
    digits, _ = load_digits()
    if data == "digits":
        return digits[torch.randperm(len(digits), generator=rng)]
    return (draw_shapes(len(digits), rng)[0].amax(dim=1, keepdim=True) + 1) / 2  # colours are left out


def train(loss: str, params: Params, large: Tensor, tick: Tick) -> nn.Module:
    """A generator trained with one of the losses on pictures (N, 1, 2h, 2h) and their halves."""
    rng = torch.Generator().manual_seed(2 * params.seed)
    G, D, phi = draw_weights(Generator(params.upsampler), rng), draw_weights(discriminator(), rng), features()
    draw_weights(phi, rng).requires_grad_(requires_grad=False)
    adam_g = torch.optim.Adam(G.parameters(), lr=LR_G, fused=True)
    adam_d = torch.optim.Adam(D.parameters(), lr=LR_D, betas=(0.5, 0.999), fused=True)
    for step in range(1, params.steps + 1):
        real = large[torch.randint(len(large), (BATCH,), generator=rng)]
        fake = G(F.avg_pool2d(real, 2))
        if loss == "mse":
            loss_g = (fake - real).square().mean()  # eq. (4)
        else:
            descend(adam_d, F.softplus(-D(real)).mean() + F.softplus(D(fake.detach())).mean())
            adversarial = F.softplus(-D(fake)).mean()  # eq. (6)
            content = (phi(fake) - phi(real)).square().mean()  # eq. (5)
            loss_g = adversarial if loss == "gan" else content + ADVERSARIAL * adversarial  # eq. (3)
        descend(adam_g, loss_g)
        if step % (params.steps // LOOKS) == 0:
            error = (fake - real).square().mean().item()
            tick(step / params.steps, f"loss {loss}, step {step}", pixel_error=error)
    return G


def run(params: Params, tick: Tick = no_tick) -> Result:
    def part(start: float, share: float) -> Tick:
        def report(fraction: float, message: str, **live: float) -> None:
            tick(start + share * fraction, message, **live)

        return report

    rng = torch.Generator().manual_seed(2 * params.seed + 1)
    pictures = load(params.data, rng)
    learned, truth = pictures[TESTED:], pictures[:TESTED]
    small = F.avg_pool2d(truth, 2)
    by_pixels = train("mse", params, learned, part(0.0, 0.35))
    chosen = by_pixels if params.loss == "mse" else train(params.loss, params, learned, part(0.35, 0.65))
    with torch.no_grad():
        large = {
            "bicubic": F.interpolate(small, scale_factor=2, mode="bicubic").clamp(0, 1),
            "pixel error": by_pixels(small),
            f"this run ({params.loss})": chosen(small),
            "truth": truth,
        }
        up = torch.randn(2, 8, 3, 3, generator=rng)
        shuffle_gap = (pixel_shuffle(up, 2) - F.pixel_shuffle(up, 2)).abs().max().item()
    bicubic, soft, this = list(large)[:3]
    quality = {name: psnr(x, truth) for name, x in large.items() if name != "truth"}
    sharpness = {name: gradient_energy(x) / gradient_energy(truth) for name, x in large.items()}
    side = truth.shape[-1]
    shown = {"small": F.interpolate(small[:SHOWN], scale_factor=2), **{name: x[:SHOWN] for name, x in large.items()}}
    row = int((large[soft] - truth).square().mean(dim=(1, 2, 3)).argmax())  # where the pixel error did worst
    across = {name: x[row, 0, side // 2].numpy().tolist() for name, x in large.items()}
    return Result(
        metrics=[
            Metric("psnr", quality[this], "dB"),
            Metric("psnr of the pixel error's network", quality[soft], "dB"),
            Metric("psnr of bicubic", quality[bicubic], "dB"),
            Metric("sharpness", sharpness[this], "of that of the truth"),
            Metric("sharpness of the pixel error's network", sharpness[soft], "of that of the truth"),
        ],
        claims=[
            Claim("Trained on pixel error a network beats bicubic enlargement: PSNR, difference in dB",
                  quality[soft] - quality[bicubic], ">=", 1.0),
            Claim("But it is soft: its gradient energy over that of the truth", sharpness[soft], "<=", 0.9),
            Claim("This run's network is sharper: gradient energy over that of the truth, difference",
                  sharpness[this] - sharpness[soft], ">=", 0.05),
            Claim("And further from the truth in pixels: PSNR, difference in dB", quality[this] - quality[soft],
                  "<", 0.0),
            Claim("It still shows the picture at hand: PSNR against bicubic, difference in dB",
                  quality[this] - quality[bicubic], ">=", 0.0),
            Claim("Pixel shuffle is torch's: largest difference", shuffle_gap, "==", 0.0),
        ],
        figures=[
            Images("Enlargements of pictures held out", torch.stack(list(shown.values()))[:, :, 0].numpy().tolist(),
                   row_labels=list(shown)),
            Lines("One row of pixels, where the pixel error did worst", x="pixel", y="ink", at=list(range(side)),
                  series=across),
        ],
        tables=[
            Table("Enlargements measured", ["", "PSNR (dB)", "gradient energy over the truth's"],
                  [[name, quality.get(name, "no error"), sharpness[name]] for name in large]),
        ],
    )  # fmt: skip
