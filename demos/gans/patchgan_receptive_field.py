"""What one PatchGAN output sees

Question: How does the depth of the discriminator set the patch it judges, and what does it then ignore?
Source: Isola, Zhu, Zhou, Efros 2016, arXiv:1611.07004, §3.2.2 and appendix 6.1.2; Li, Wand 2016, arXiv:1604.04382.
Watch: damage one corner, and only the verdicts whose patch touches it move. Weights are random: this is what the wiring
  alone decides. Turn on instance normalisation, which the paper uses, and every verdict hears of every pixel.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from demos.contract import Claim, DemoParams, Heatmap, Images, Lines, Metric, Preset, Result, Table, Tick, no_tick

PUBLISHED = 64  # channels of the first layer in the paper
CHANNELS = 6  # condition and picture, three each
CORNER = 32  # side of the damaged corner
MEASURED = 320  # side of the map on which fields are measured: the largest of them, 286, fits in
SHOWN = 64  # verdicts in a row of a figure at most


class Params(DemoParams):
    patch: Literal["1", "16", "70", "286"] = Field("70", description="Receptive field in pixels")
    base_channels: int = Field(8, ge=2, le=64, description="Channels of the first layer (64 in the paper)")
    image_size: int = Field(320, ge=96, le=384, description="Input size")
    norm: Literal["none", "instance"] = Field("none", description="Normalisation between the layers")
    seed: int = Field(0, ge=0, le=9999, description="Random seed of picture, weights and damage")

    presets: ClassVar[Mapping[str, Preset]] = {
        "PixelGAN": Preset("One pixel at a time: colour and nothing else", {"patch": "1"}),
        "texture": Preset("Sixteen pixels: local texture", {"patch": "16"}),
        "ImageGAN": Preset("286 pixels: each verdict sees most of the picture", {"patch": "286"}),
        "normalised": Preset(
            "Statistics over the whole map reach every verdict: the patches are no longer independent",
            {"norm": "instance"},
        ),
    }


def layers(patch: str) -> list[tuple[int, int, int]]:
    """Kernel, stride and output channels (in units of the first layer's) of each convolution; 0 is the verdict.

    Appendix 6.1.2: C64-C128 of 1x1 filters; C64-C128; C64-C128-C256-C512; C64-C128-C256-C512-C512-C512. Convolutions
    are 4x4 at stride 2 but for the last two, at stride 1 as in the authors' code: with stride 2 in all, as the text
    has it, the fields would not have the sizes that name them.
    """
    if patch == "1":
        return [(1, 1, 1), (1, 1, 2), (1, 1, 0)]
    widths = {"16": [1, 2], "70": [1, 2, 4, 8], "286": [1, 2, 4, 8, 8, 8]}[patch]
    return [(4, 2, width) for width in widths[:-1]] + [(4, 1, widths[-1]), (4, 1, 0)]


def padding(kernel: int) -> int:
    return 0 if kernel == 1 else 1


class PatchGAN(nn.Module):
    """Condition and picture (B, 6, H, W) to a map of verdicts (B, 1, h, w), each a logit of "real"."""

    def __init__(self, patch: str, base: int, norm: str, rng: torch.Generator) -> None:
        super().__init__()
        self.convs = nn.ModuleList()
        self.norm = norm
        n = CHANNELS
        for kernel, stride, width in layers(patch):
            conv = nn.Conv2d(n, width * base or 1, kernel, stride, padding(kernel))
            bound = (n * kernel**2) ** -0.5
            for weight in conv.parameters():
                nn.init.uniform_(weight, -bound, bound, generator=rng)
            self.convs.append(conv)
            n = width * base

    def forward(self, x: Tensor) -> Tensor:
        last = len(self.convs) - 1
        for number, conv in enumerate(self.convs):
            x = conv(x)
            if self.norm == "instance" and 0 < number < last:  # not after the first layer, as in the paper
                x = F.instance_norm(x)
            if number < last:
                x = F.leaky_relu(x, 0.2)
        return x


def parameters(patch: str, base: int = PUBLISHED) -> int:
    """Weights and biases of the convolutions, counted by hand."""
    total, n = 0, CHANNELS
    for kernel, _, width in layers(patch):
        total += n * kernel**2 * (width * base or 1) + (width * base or 1)
        n = width * base
    return total


def field(patch: str) -> tuple[int, int, int]:
    """Receptive field R, step J from one field to the next, offset P: verdict o sees J o - P to J o - P + R - 1.

    Going back from one verdict, r = (r - 1) stride + kernel at each layer.
    """
    r, jump, offset = 1, 1, 0
    for kernel, stride, _ in reversed(layers(patch)):
        r = (r - 1) * stride + kernel
    for kernel, stride, _ in layers(patch):
        offset += padding(kernel) * jump
        jump *= stride
    return r, jump, offset


def field_sizes(patch: str, size: int) -> list[tuple[str, int, int, int, int]]:
    """After each layer: name, kernel, stride, side of its map, and how many input pixels one of its units sees."""
    rows = list[tuple[str, int, int, int, int]]()
    seen, jump = 1, 1
    for kernel, stride, width in layers(patch):
        seen, jump = seen + (kernel - 1) * jump, jump * stride
        size = (size + 2 * padding(kernel) - kernel) // stride + 1
        rows.append((f"C{width * PUBLISHED}" if width else "verdict", kernel, stride, size, seen))
    return rows


def touched(D: nn.Module, x: Tensor) -> Tensor:
    """Which pixels (H, W) of x (1, 6, H, W) move the verdict in the middle, by its gradient."""
    leaf = x.double().requires_grad_()
    verdicts = D.double()(leaf)[0, 0]  # (h, w)
    middle = (verdicts.shape[0] - 1) // 2
    (gradient,) = torch.autograd.grad(verdicts[middle, middle], leaf)
    return gradient[0].abs().sum(dim=0) > 0


def side_of(seen: Tensor) -> int:
    """Side of the filled square that these pixels (H, W) are, 0 when they are no filled square."""
    rows, columns = seen.any(dim=1).nonzero().flatten(), seen.any(dim=0).nonzero().flatten()
    height, width = int(rows.max() - rows.min()) + 1, int(columns.max() - columns.min()) + 1
    return height if height == width and int(seen.sum()) == height * width else 0


def draw_pair(size: int, rng: torch.Generator) -> Tensor:
    """A picture of waves and the outline of its stripes, (1, 6, size, size), values in [0, 1]."""
    y, x = torch.meshgrid(torch.arange(size) / 16, torch.arange(size) / 16, indexing="ij")
    waves = [(a * x + b * y + c).sin() for a, b, c in (2 * torch.rand(3, 3, generator=rng)).unbind()]
    picture = (torch.stack(waves) + 1) / 2  # (3, size, size)
    edges = (picture - picture.roll(1, dims=2)).abs().clamp(max=0.1) * 10  # (3, size, size)
    return torch.cat([edges, picture])[None]


def shift_change(D: nn.Module, pair: Tensor) -> float:
    """Largest change of a 16x16 PatchGAN's inner verdicts when pair (1, 6, n, n) moves by one step of the verdicts.

    Verdict o of the moved picture has the patch of verdict o - 1 of the first, so layout is nothing to it.
    """
    _, J, _ = field("16")
    here, there = D(pair)[0, 0], D(pair.roll((J, J), dims=(2, 3)))[0, 0]  # (h, w) each
    edge = 16 // J  # verdicts whose patch hangs over the border, or over the seam of the roll
    return (there[edge + 1 : -edge, edge + 1 : -edge] - here[edge : -edge - 1, edge : -edge - 1]).abs().max().item()


def grid(values: Tensor) -> list[list[float]]:
    """A map of verdicts (h, w) for a figure; a large one is thinned."""
    step = -(-len(values) // SHOWN)
    return values[::step, ::step].double().numpy().tolist()


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng = torch.Generator().manual_seed(params.seed)
    sizes: Sequence[str] = ("1", "16", "70", "286")
    measured = dict[str, int]()
    for done, patch in enumerate(sizes, start=1):
        plain = PatchGAN(patch, params.base_channels, "none", rng)  # convolutions: what the names speak of
        seen = touched(plain, draw_pair(MEASURED, rng))
        measured[patch] = side_of(seen)
        tick(0.6 * done / len(sizes), f"field of the {patch}x{patch} discriminator", side=measured[patch])
    recurrence = max(abs(measured[patch] - field(patch)[0]) for patch in sizes)

    n = params.image_size
    D = PatchGAN(params.patch, params.base_channels, params.norm, rng)
    R, J, P = field(params.patch)
    pair = draw_pair(n, rng)  # (1, 6, n, n)
    with torch.no_grad():
        before = D(pair)[0, 0]  # (h, w)
        h = len(before)
        middle = (h - 1) // 2
        first = J * middle - P
        kept = slice(max(first, 0), max(first + R, 0))  # the rows, and the columns, of the middle verdict's patch
        far = torch.rand(pair.shape, generator=rng)
        far[..., kept, kept] = pair[..., kept, kept]
        outside = (D(far)[0, 0][middle, middle] - before[middle, middle]).abs().item()
        tick(0.7, "all but one patch replaced")

        damaged = pair.clone()
        damaged[..., :CORNER, :CORNER] = torch.rand(1, CHANNELS, CORNER, CORNER, generator=rng)
        after = D(damaged)[0, 0]
        changed = after != before  # (h, w)
        sees = J * torch.arange(h) - P < CORNER  # (h,): the patch begins above the end of the corner
        should = sees[:, None] & sees[None, :]
        tick(0.8, "one corner damaged")

        shifted = shift_change(PatchGAN("16", params.base_channels, params.norm, rng), pair)
    wrong, missed = int((changed & ~should).sum()), int((should & ~changed).sum())

    seen = touched(PatchGAN(params.patch, params.base_channels, params.norm, rng), draw_pair(MEASURED, rng))
    rows = field_sizes(params.patch, n)
    compare = [
        [f"{patch}x{patch}", len(layers(patch)), field(patch)[0], measured[patch], parameters(patch),
         field_sizes(patch, n)[-1][3], field_sizes(patch, 256)[-1][3]] for patch in sizes
    ]  # fmt: skip
    pictures = torch.stack([pair[0, 3:], damaged[0, 3:], far[0, 3:]]).permute(0, 2, 3, 1)  # (3, n, n, 3)
    small = pictures[:, :: n // 48, :: n // 48].numpy().tolist()
    return Result(
        metrics=[
            Metric("parameters", parameters(params.patch), "with 64 base channels"),
            Metric("receptive field", side_of(seen), "pixels"),
            Metric("verdicts", h * h),
            Metric("verdicts that the damage moves", int(changed.sum())),
        ],
        figures=[
            Heatmap("How far the damaged corner moves each verdict", x="column", y="row",
                    values=grid((after - before).abs())),
            Heatmap("Verdicts on the whole picture (random weights)", x="column", y="row", values=grid(before)),
            Heatmap(f"Pixels of {MEASURED}x{MEASURED} that move the middle verdict", x="column", y="row",
                    values=grid(seen)),
            Images("Picture; corner damaged; all but the middle verdict's patch replaced", [small],
                   column_labels=["picture", "damaged", "replaced"]),
            Lines("Pixels that one unit sees after each layer", x="layer", y="pixels", at=[1, 2, 3, 4, 5, 6, 7],
                  series={f"{patch}x{patch}": [*itertools.chain(
                      [row[4] for row in field_sizes(patch, n)], [field(patch)[0]] * (7 - len(layers(patch))))]
                      for patch in sizes}),
        ],
        tables=[
            Table("The chosen discriminator, layer by layer",
                  ["layer", "kernel", "stride", "side of the map", "pixels seen"], rows),
            Table("The four published sizes", ["name", "convolutions", "field by recurrence", "field by gradient",
                  "parameters", f"verdicts in a row at {n}", "verdicts in a row at 256"], compare),
        ],
        claims=[
            Claim("The PixelGAN sees this many pixels in a row, by gradient", measured["1"], "==", 1),
            Claim("The 16x16 PatchGAN sees this many pixels in a row, by gradient", measured["16"], "==", 16),
            Claim("The 70x70 PatchGAN sees this many pixels in a row, by gradient", measured["70"], "==", 70),
            Claim("The ImageGAN sees this many pixels in a row, by gradient", measured["286"], "==", 286),
            Claim("The recurrence r = (r - 1) stride + kernel says the same: largest difference", recurrence, "==", 0),
            Claim("Pixels outside the patch do not change the verdict: change", outside, "==", 0),
            Claim("Damage in one corner leaves verdicts that do not see it alone: others that change", wrong, "==", 0),
            Claim("And moves all that see it: verdicts that stay", missed, "==", 0),
            Claim("The 16x16 PatchGAN rates equal patches alike wherever they lie: change under a shift", shifted, "<=",
                  1e-5),
            Claim("Parameters of the 70x70 discriminator, 6 channels in, no normalisation", parameters("70"), "==",
                  2767809),
        ],
    )  # fmt: skip
