"""A small denoiser: the time-conditioned U-Net of diffusion models, for images of 8x8 to 16x16.

Source: Ho, Jain, Abbeel 2020, arXiv:2006.11239, appendix B; scale and shift by the embedding (adaptive group
  normalisation) and zeroed last convolutions: Dhariwal, Nichol 2021, arXiv:2105.05233, §3 and eq. (3).

Shared by demos that train a diffusion model on tiny images. Shapes: B images of S x S pixels, W = width.
"""

import math

import torch
from torch import Tensor, nn


def embed_time(t: Tensor, size: int) -> Tensor:
    """Sines and cosines of t (B,) in [0, 1] at size / 2 frequencies from 1,000 down to 1, (B, size)."""
    frequencies = torch.logspace(3, 0, size // 2)  # (size / 2,): fast ones tell neighbours, slow ones early from late
    angles = t[:, None] * frequencies  # (B, size / 2)
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class Block(nn.Module):
    """Residual block: two convolutions, between them a scale and a shift that the embedding of time decides."""

    def __init__(self, inputs: int, outputs: int, embedding: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(8, inputs), nn.GroupNorm(8, outputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.adapt = nn.Linear(embedding, 2 * outputs)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        """x (B, inputs, S, S) and embedding e (B, 4W) -> (B, outputs, S, S)."""
        scale, shift = self.adapt(e)[:, :, None, None].chunk(2, dim=1)  # (B, outputs, 1, 1) each
        h = self.conv1(nn.functional.silu(self.norm1(x)))  # (B, outputs, S, S)
        h = self.norm2(h) * (1 + scale) + shift  # adaptive group normalisation
        return self.skip(x) + self.conv2(nn.functional.silu(h))


class Attention(nn.Module):
    """Self-attention over the pixels: each may look at every other, however far apart."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, S, S) -> (B, C, S, S)."""
        q, k, v = self.qkv(self.norm(x)).flatten(2).transpose(1, 2).chunk(3, dim=2)  # (B, S², C) each
        weights = (q @ k.transpose(1, 2) / math.sqrt(x.shape[1])).softmax(dim=-1)  # (B, S², S²)
        return x + self.out((weights @ v).transpose(1, 2).view(x.shape))


class UNet(nn.Module):
    """ε_θ(x_t, t, c): one step down to half the size and back, and a bridge over it that keeps the detail."""

    def __init__(self, inputs: int, outputs: int, rng: torch.Generator, width: int = 32) -> None:
        super().__init__()
        self.width = width
        self.time = nn.Sequential(nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, 4 * width))
        self.first = nn.Conv2d(inputs, width, 3, padding=1)
        self.down = Block(width, width, 4 * width)
        self.shrink = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.middle1 = Block(2 * width, 2 * width, 4 * width)
        self.attention = Attention(2 * width)
        self.middle2 = Block(2 * width, 2 * width, 4 * width)
        self.grow = nn.Conv2d(2 * width, width, 1)
        self.up = Block(2 * width, width, 4 * width)
        self.norm, self.last = nn.GroupNorm(8, width), nn.Conv2d(width, outputs, 3, padding=1)
        for module in self.modules():  # torch's usual range, from a generator of our own; biases start at 0
            if isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=5**0.5, generator=rng)
        for name, bias in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(bias)
        for block in (self.down, self.middle1, self.middle2, self.up):
            nn.init.zeros_(block.conv2.weight)  # a block starts as the identity,
        nn.init.zeros_(self.attention.out.weight)
        nn.init.zeros_(self.last.weight)  # and the whole network predicts 0

    def forward(self, x: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        """x (B, inputs, S, S), S even, times t (B,) in [0, 1], condition (B, 4W) or none -> (B, outputs, S, S)."""
        e = self.time(embed_time(t, self.width))  # (B, 4W)
        if condition is not None:  # whatever else the network is told: a class, a position, a picture's summary
            e = e + condition
        e = nn.functional.silu(e)
        fine = self.down(self.first(x), e)  # (B, W, S, S)
        coarse = self.middle1(self.shrink(fine), e)  # (B, 2W, S/2, S/2)
        coarse = self.middle2(self.attention(coarse), e)  # (B, 2W, S/2, S/2)
        back = nn.functional.interpolate(self.grow(coarse), scale_factor=2.0)  # (B, W, S, S), nearest pixel
        fine = self.up(torch.cat([back, fine], dim=1), e)  # the bridge: 2W channels in, (B, W, S, S) out
        return self.last(nn.functional.silu(self.norm(fine)))
