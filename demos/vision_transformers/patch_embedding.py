"""An image becomes a sequence: patches, flattening, projection, [CLS]

Question: How many tokens is an image, and what does the patch projection keep?
Source: Dosovitskiy et al. 2020, arXiv:2010.11929, §3.1, eq. (1).
Watch: Cutting and flattening lose nothing; a projection narrower than a patch does. One strided convolution is the same
    projection. Without position vectors a shuffled image is the same bag of tokens.
"""

import math
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from demos.contract import Claim, DemoParams, Images, Lines, Metric, Preset, Result, Table, Tick, no_tick


class Params(DemoParams):
    image_size: int = Field(32, ge=8, le=224, description="Height and width in pixels")
    patch_size: int = Field(4, ge=1, le=32, description="Side P of a patch; it divides the image's side")
    channels: int = Field(3, ge=1, le=3, description="1 for grey, 3 for colour")
    dim: int = Field(64, ge=8, le=768, description="Width of a token")
    positions: bool = Field(True, description="Add a vector for its place to each token")
    seed: int = Field(0, ge=0, le=9999, description="Seed of the picture and of the weights")

    presets: ClassVar[Mapping[str, Preset]] = {
        "too narrow": Preset("48 values through 8 numbers: the best projection loses detail", {"dim": 8}),
        "no positions": Preset("A shuffled image gives the same tokens, in another order", {"positions": False}),
        "16 x 16 words": Preset("ViT-Base's input: 196 tokens of 768 values",
                                {"image_size": 224, "patch_size": 16, "dim": 768}),
    }  # fmt: skip

    @model_validator(mode="after")
    def _patches_fill_the_image(self) -> "Params":
        if self.image_size % self.patch_size or self.channels == 2:
            raise ValueError(
                f"patch_size must divide image_size, and channels be 1 or 3; got a patch of {self.patch_size} "
                f"in {self.image_size} pixels and {self.channels} channels"
            )
        return self


def cut(image: Tensor, P: int) -> Tensor:
    """image (C, H, W) -> patches (N, P²·C), row by row from the top left, N = HW / P². Within a patch the values go
    through the rows, the columns and then the channels. Raises ValueError where patches do not fill the image."""
    C, H, W = image.shape
    if H % P or W % P:
        raise ValueError(f"patches of {P} do not fill an image of {H} x {W}")
    tiles = image.view(C, H // P, P, W // P, P)
    return tiles.permute(1, 3, 2, 4, 0).reshape(H * W // P**2, P * P * C)


def join(patches: Tensor, P: int, H: int, W: int) -> Tensor:
    """The way back: patches (N, P²·C) -> image (C, H, W)."""
    tiles = patches.view(H // P, W // P, P, P, patches.shape[1] // P**2)
    return tiles.permute(4, 0, 2, 1, 3).reshape(-1, H, W)


class PatchEmbedding(nn.Module):
    """Eq. (1): z = [x_class; x_1 E; …; x_N E] + E_pos, (N + 1, D)."""

    def __init__(self, values: int, tokens: int, dim: int, positions: bool, rng: torch.Generator) -> None:
        super().__init__()
        self.E = nn.Parameter(torch.randn(values, dim, generator=rng) / math.sqrt(values))  # (P²·C, D)
        self.bias = nn.Parameter(0.02 * torch.randn(dim, generator=rng))
        self.class_token = nn.Parameter(torch.randn(1, dim, generator=rng))
        self.places = nn.Parameter(0.5 * torch.randn(tokens + 1, dim, generator=rng)) if positions else None

    def project(self, patches: Tensor) -> Tensor:
        """One matrix product: (N, P²·C) -> (N, D)."""
        return patches @ self.E + self.bias

    def convolve(self, image: Tensor, P: int) -> Tensor:
        """The same as a convolution of kernel and stride P over the image (C, H, W): (N, D)."""
        kernel = self.E.T.view(-1, P, P, image.shape[0]).permute(0, 3, 1, 2)  # (D, C, P, P)
        return nn.functional.conv2d(image[None], kernel, self.bias, stride=P)[0].flatten(1).T

    def forward(self, patches: Tensor) -> Tensor:
        z = torch.cat([self.class_token, self.project(patches)])  # (N + 1, D)
        return z if self.places is None else z + self.places


def draw_picture(size: int, channels: int, rng: torch.Generator) -> Tensor:
    """A sun over hills with some grain, (C, size, size) in [0, 1]."""
    y, x = torch.meshgrid(torch.linspace(0, 1, size), torch.linspace(0, 1, size), indexing="ij")
    sky = torch.stack([0.3 + 0.4 * y, 0.5 + 0.3 * y, 0.9 - 0.2 * y])  # (3, size, size)
    sun = ((x - 0.7) ** 2 + (y - 0.25) ** 2 < 0.02).float()
    hills = (y > 0.65 + 0.12 * torch.sin(7 * x)).float()
    picture = sky * (1 - sun) * (1 - hills) + torch.tensor([1.0, 0.9, 0.3])[:, None, None] * sun
    picture = picture + torch.tensor([0.2, 0.5, 0.2])[:, None, None] * hills
    picture = (picture + 0.05 * torch.randn(picture.shape, generator=rng)).clamp(0, 1)
    return picture if channels == 3 else picture.mean(dim=0, keepdim=True)


def principal_directions(patches: Tensor) -> Tensor:
    """Orthonormal columns (M, M), those along which patches (N, M) vary most first."""
    centred = patches - patches.mean(dim=0)
    _, vectors = np.linalg.eigh((centred.T @ centred).numpy())  # variance rising
    return torch.tensor(vectors).flip(1)


def rebuild(patches: Tensor, directions: Tensor) -> Tensor:
    """Patches (N, M) after a squeeze to one number for each of the directions (M, n), and back."""
    mean = patches.mean(dim=0)
    return mean + (patches - mean) @ directions @ directions.T


def refused(size: int) -> int:
    """How many patch sizes that do not divide the side are refused."""
    count = 0
    for P in range(1, size):
        try:
            cut(torch.zeros(1, size, size), P)
        except ValueError:
            count += 1
    return count


@torch.no_grad()
def run(params: Params, tick: Tick = no_tick) -> Result:
    rng = torch.Generator().manual_seed(params.seed)
    size, P, C, dim = params.image_size, params.patch_size, params.channels, params.dim
    image = draw_picture(size, C, rng).double()  # (C, H, W)
    patches = cut(image, P)  # (N, P²·C)
    N, values = patches.shape
    undone = (join(patches, P, size, size) - image).abs().max().item()
    embedding = PatchEmbedding(values, N, dim, params.positions, rng).double()
    tokens = embedding(patches)  # (N + 1, D)
    conv_gap = (embedding.convolve(image, P) - embedding.project(patches)).abs().max().item()
    order = torch.randperm(N, generator=rng)
    moved = (embedding(patches[order])[1:] - tokens[1:][order]).abs().max().item()  # the same tokens, moved along?
    tick(0.4, "embedded")

    large = cut(torch.zeros(3, 224, 224), 16)  # ViT-Base's input
    accepted = size - 1 - refused(size) - sum(size % side == 0 for side in range(1, size))
    widths = sorted({n for n in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, dim) if n < values} | {values})
    axes, spread = principal_directions(patches), (patches - patches.mean(dim=0)).square().sum()
    errors = {n: ((rebuild(patches, axes[:, :n]) - patches).square().sum() / spread).sqrt().item() for n in widths}
    kept = errors[min(dim, values)]
    tick(0.9, "rebuilt")

    def picture(some: Tensor) -> list[list[list[float]]]:
        """(C, H, W) -> rows of pixels of three values, at most 64 a side."""
        step = math.ceil(some.shape[1] / 64)
        return some[:, ::step, ::step].clamp(0, 1).expand(3, -1, -1).permute(1, 2, 0).numpy().tolist()

    side = min(size // P, 10)  # patches shown a row
    rows = [
        [picture(patches[r * (size // P) + c].view(P, P, C).permute(2, 0, 1)) for c in range(side)] for r in range(side)
    ]
    shown = [n for n in widths if n <= 64][-5:]
    rebuilt = [picture(join(rebuild(patches, axes[:, :n]), P, size, size)) for n in shown]
    return Result(
        metrics=[
            Metric("tokens of the image", N),
            Metric("values of a patch", values),
            Metric("tokens with the class token", len(tokens)),
            Metric("error of the best rebuild at this width", kept, "of the patches' deviation"),
        ],
        claims=[
            Claim("224 x 224 pixels in patches of 16 are 14 x 14 words: tokens", large.shape[0], "==", 196),
            Claim("… of 16²·3 values each: values", large.shape[1], "==", 768),
            Claim("Cutting and flattening lose nothing: largest difference after the way back", undone, "==", 0),
            Claim("The projection is a convolution of stride P: largest difference", conv_gap, "<=", 1e-5),
            Claim("A patch size that does not divide the side is refused: sizes that are not", accepted, "==", 0),
            Claim("This width can keep a whole patch: error of the best linear rebuild", kept, "<=", 0.01),
            Claim("A patch elsewhere is another token: largest change when patches are shuffled", moved, ">", 0.1),
        ],
        figures=[
            Images("The image cut into patches" + (", its top left" if side < size // P else ""), rows,
                   row_labels=[f"row {r}" for r in range(side)], column_labels=[f"column {c}" for c in range(side)]),
            Images("Rebuilt from so many numbers a patch", [[picture(image), *rebuilt]],
                   column_labels=["image", *(str(n) for n in shown)]),
            Lines("What a width can keep", x="numbers a patch", y="error of the best rebuild", at=widths,
                  series={"principal directions": [errors[n] for n in widths]}, log="x"),
        ],
        tables=[
            Table(f"Tokens of an image of {size} x {size}",
                  ["patch", "tokens N", "values of a patch", "attention weights N²"],
                  [[side, (size // side) ** 2, side**2 * C, (size // side) ** 4]
                   for side in (1, 2, 4, 8, 16, 32) if size % side == 0]),
            Table("The first patch, flattened", ["place in the vector", "row", "column", "channel", "value"],
                  [[n, n // C // P, n // C % P, n % C, patches[0, n].item()] for n in range(min(values, 12))]),
        ],
    )  # fmt: skip
