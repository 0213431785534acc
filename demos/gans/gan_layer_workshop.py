"""Convolutions up and down

Question: What do strided and transposed convolutions do to sizes, pixels and gradients?
Source: Dumoulin, Visin 2016, arXiv:1603.07285, relationships 6 and 14 and §4.1; Odena, Dumoulin, Olah 2016, Distill
  (checkerboard artifacts); Radford et al. 2015, arXiv:1511.06434; Ioffe, Szegedy 2015, arXiv:1502.03167, algorithm 1;
  pixel shuffle: Shi et al. 2016, arXiv:1609.05158, eq. (4).
Watch: the matrix of the strided convolution beside its transpose, and how often each output pixel is written to.
  Kernel 3 at stride 2 writes 1, 2 or 4 times in turn; kernel 4 writes 4 times everywhere.
"""

import itertools
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from demos.contract import Claim, DemoParams, Heatmap, Lines, Metric, Preset, Result, Table, Tick, no_tick

SIDE, SMALL = 8, 6  # side of the map that is convolved, and of the one that is upsampled
EPS = 1e-5  # added to the variance by normalisation, as torch does


class Params(DemoParams):
    kernel: int = Field(4, ge=1, le=7, description="Kernel size")
    stride: int = Field(2, ge=1, le=4, description="Stride")
    padding: int = Field(1, ge=0, le=3, description="Padding")
    up: Literal["transposed", "nearest", "bilinear", "pixelshuffle"] = Field(
        "transposed", description="Upsampling layer"
    )
    seed: int = Field(0, ge=0, le=9999, description="Random seed of maps and weights")

    presets: ClassVar[Mapping[str, Preset]] = {
        "checkerboard": Preset("Kernel 3 at stride 2: pixels are written 1, 2 or 4 times in turn", {"kernel": 3}),
        "resize, then convolve": Preset("Nearest neighbours first: no pattern, whatever the kernel",
                                        {"kernel": 3, "up": "nearest"}),
        "holes": Preset("Stride wider than the kernel: some pixels are never written", {"kernel": 2, "stride": 3}),
    }  # fmt: skip


def conv_size(n: int, k: int, s: int, p: int) -> int:
    """Side after a convolution (relationship 6)."""
    return (n + 2 * p - k) // s + 1


def up_size(n: int, k: int, s: int, p: int) -> int:
    """Side after a transposed convolution without output padding (relationship 14, its remainder a = 0)."""
    return (n - 1) * s + k - 2 * p


def conv_matrix(w: Tensor, n: int, s: int, p: int) -> Tensor:
    """The convolution with kernel w (k, k) of a map (n, n) as a matrix (m², n²) that acts on the flattened map."""
    k = len(w)
    m = conv_size(n, k, s, p)
    C = torch.zeros(m, m, n, n, dtype=w.dtype)
    y, x = (grid.flatten() for grid in torch.meshgrid(torch.arange(m), torch.arange(m), indexing="ij"))  # (m²,) each
    for i, j in itertools.product(range(k), range(k)):
        row, column = s * y + i - p, s * x + j - p  # (m²,): the input pixel under weight (i, j)
        real = (row >= 0) & (row < n) & (column >= 0) & (column < n)  # in the padding there is none
        C[y[real], x[real], row[real], column[real]] = w[i, j]
    return C.view(m * m, n * n)


def resize_matrix(n: int, s: int, mode: str) -> Tensor:
    """Nearest or bilinear upsampling of a map (n, n) by s as a matrix ((s n)², n²): the same one along each side."""
    at = (torch.arange(s * n, dtype=torch.float64) + 0.5) / s - 0.5  # centre of each new pixel, in old pixels
    at = (at + 0.5).floor() if mode == "nearest" else at.clamp(0, n - 1)  # beyond the border: the border
    line = (1 - (at[:, None] - torch.arange(n)).abs()).clamp(min=0)  # (s n, n), hat functions
    return torch.kron(line, line)


def shuffle(x: Tensor, s: int) -> Tensor:
    """Pixel shuffle, eq. (4): s² maps (s², n, n) become one (s n, s n)."""
    n = x.shape[-1]
    return x.view(s, s, n, n).permute(2, 0, 3, 1).reshape(s * n, s * n)


def same_conv(x: Tensor, w: Tensor) -> Tensor:
    """Convolve maps (c, n, n) with w (o, c, k, k) so that the side stays."""
    k = w.shape[-1]
    pad = ((k - 1) // 2, k // 2)
    return F.conv2d(F.pad(x[None], (*pad, *pad)), w)[0]  # (o, n, n)


def upsample(up: str, x: Tensor, w: Tensor, s: int, p: int) -> Tensor:
    """A map (n, n) through the upsampling layer with weights w (s², k, k), of which all but pixelshuffle use one."""
    n, k = len(x), w.shape[-1]
    if up == "transposed":
        m = up_size(n, k, s, p)
        return (conv_matrix(w[0], m, s, p).T @ x.flatten()).view(m, m)  # the matrix of m -> n, read the other way
    if up == "pixelshuffle":
        return shuffle(same_conv(x[None], w[:, None]), s)
    resized = (resize_matrix(n, s, up) @ x.flatten()).view(1, s * n, s * n)
    return same_conv(resized, w[:1, None])[0]


def overlap(up: str, n: int, k: int, s: int, p: int) -> Tensor:
    """How often the kernel of each layer writes to each output pixel: its answer to ones, with weights of one."""
    return upsample(up, torch.ones(n, n).double(), torch.ones(s * s, k, k).double(), s, p)


def inside(x: Tensor, border: int) -> Tensor:
    """The pixels that no border reaches."""
    return x[border : len(x) - border, border : len(x) - border]


def spread(x: Tensor) -> float:
    """Largest minus smallest value."""
    return (x.max() - x.min()).item()


def normalise(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    """x (B, c, H, W) with mean 0 and variance 1 over dims: (0, 2, 3) is batch, (2, 3) instance normalisation."""
    mean = x.mean(dim=dims, keepdim=True)
    variance = (x - mean).square().mean(dim=dims, keepdim=True)
    return (x - mean) / (variance + EPS).sqrt()


def torch_size(n: int, k: int, s: int, p: int, *, transposed: bool) -> int:
    """The side that torch gives, 0 where it refuses."""
    call = F.conv_transpose2d if transposed else F.conv2d
    try:
        return call(torch.empty(1, 1, n, n, device="meta"), torch.empty(1, 1, k, k, device="meta"), stride=s, padding=p
                    ).shape[-1]  # fmt: skip
    except RuntimeError:
        return 0


def size_mismatches() -> int:
    """Settings in which a formula and torch differ, of kernel 1..7, stride 1..4, padding 0..3 and several sides."""
    wrong = 0
    for k, s, p, n in itertools.product(range(1, 8), range(1, 5), range(4), (1, 2, 5, 8, 9)):
        wrong += (conv_size(n, k, s, p) if n + 2 * p >= k else 0) != torch_size(n, k, s, p, transposed=False)
        wrong += max(up_size(n, k, s, p), 0) != torch_size(n, k, s, p, transposed=True)
    return wrong


def size_rows(params: Params) -> list[list[str | int]]:
    """Three layers down from 512 and three up from 64, by formula and by torch."""
    k, s, p = params.kernel, params.stride, params.padding
    rows = list[list[str | int]]()
    n = 512
    for _ in range(3):
        rows.append(["strided convolution", n, conv_size(n, k, s, p), torch_size(n, k, s, p, transposed=False), 0])
        n = conv_size(n, k, s, p)
    n = 64
    for _ in range(3):
        if params.up == "transposed":
            m = up_size(n, k, s, p)
            rows.append(["transposed convolution", n, m, torch_size(n, k, s, p, transposed=True), s * n - m])
        else:
            m = s * n
            mode = "bilinear" if params.up == "bilinear" else "nearest"
            resized = F.interpolate(torch.empty(1, 1, n, n, device="meta"), scale_factor=s, mode=mode)
            rows.append([f"{params.up} and convolution", n, m, resized.shape[-1], 0])
        n = m
    return rows


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng = torch.Generator().manual_seed(params.seed)
    k, s, p = params.kernel, params.stride, params.padding

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng, dtype=torch.float64)

    w, x = draw(k, k), draw(SIDE, SIDE)
    C = conv_matrix(w, SIDE, s, p)  # (m², 64)
    m = conv_size(SIDE, k, s, p)
    leaf = x.clone().requires_grad_()
    y = F.conv2d(leaf[None, None], w[None, None], stride=s, padding=p)  # (1, 1, m, m)
    matrix_gap = ((C @ x.flatten()) - y.detach().flatten()).abs().max().item()
    upstream = draw(1, 1, m, m)
    (vjp,) = torch.autograd.grad(y, leaf, upstream)  # (8, 8), what the backward pass of the convolution sends down
    extra = SIDE - up_size(m, k, s, p)  # rows that the stride skipped at the end
    lifted = F.conv_transpose2d(upstream, w[None, None], stride=s, padding=p, output_padding=extra)[0, 0]  # (8, 8)
    transpose_gap = max((vjp - lifted).abs().max().item(),
                        (C.T @ upstream.flatten() - lifted.flatten()).abs().max().item())  # fmt: skip
    tick(0.2, "matrices")

    wrong = size_mismatches()
    tick(0.6, "sizes")
    exceptions = sum(
        (spread(inside(overlap("transposed", 12, kernel, stride, 0), max(kernel, stride))) < 1e-9)
        != (kernel % stride == 0)
        for kernel, stride in itertools.product(range(1, 8), range(1, 5))
    )
    border = max(k, k // 2 * s)
    kinds = ("transposed", "nearest", "bilinear", "pixelshuffle")
    side = SMALL + 2 * k + 2 * p  # large enough to have an inside
    uneven = {kind: spread(inside(overlap(kind, side, k, s, p), border)) for kind in kinds}
    weights = draw(s * s, k, k)  # what an untrained layer has
    flat = torch.ones(side, side, dtype=torch.float64)
    pattern = {kind: spread(inside(upsample(kind, flat, weights, s, p), border)) for kind in kinds}
    tick(0.8, "overlaps")

    small = draw(SMALL, SMALL)
    resize_gap = max(
        ((resize_matrix(SMALL, s, mode) @ small.flatten()).view(s * SMALL, -1)
         - F.interpolate(small[None, None], scale_factor=s, mode=mode)[0, 0]).abs().max().item()
        for mode in ("nearest", "bilinear")
    )  # fmt: skip
    maps = 3 * draw(8, 4, 16, 16) + 5 * draw(1, 4, 1, 1)  # (B, c, H, W), each channel off centre
    off = 0.0
    for dims in ((0, 2, 3), (2, 3)):
        z = normalise(maps, dims)
        off = max(off, z.mean(dim=dims).abs().max().item(), (z.square().mean(dim=dims) - 1).abs().max().item())

    count = overlap(params.up, SMALL, k, s, p)
    ramp = torch.linspace(-3, 3, 61, dtype=torch.float64)
    rows = [[kind, *overlap(kind, side, k, s, p).shape, uneven[kind], pattern[kind]] for kind in kinds]
    return Result(
        metrics=[
            Metric("side after the strided convolution", m, f"from {SIDE}"),
            Metric("unevenness of the overlap", uneven[params.up], "writes, largest minus smallest"),
            Metric("pattern that untrained weights make of a flat map", pattern[params.up]),
        ],
        figures=[
            Heatmap(f"Convolution as a matrix: {SIDE}x{SIDE} to {m}x{m}", x="input pixel", y="output pixel",
                    values=C.numpy().tolist()),
            Heatmap("Its transpose: the transposed convolution", x="input pixel", y="output pixel",
                    values=C.T.numpy().tolist()),
            Heatmap(f"Writes to each output pixel: {params.up}", x="column", y="row", values=count.numpy().tolist()),
            Heatmap("Writes to each output pixel: transposed", x="column", y="row",
                    values=overlap("transposed", SMALL, k, s, p).numpy().tolist()),
            Lines("Activations", x="input", y="output", at=ramp.numpy().tolist(), series={
                "ReLU": ramp.relu().numpy().tolist(), "tanh": ramp.tanh().numpy().tolist(),
                "LeakyReLU 0.2": torch.where(ramp > 0, ramp, 0.2 * ramp).numpy().tolist(),
            }),
        ],
        tables=[
            Table("Sizes", ["layer", "side", "by formula", "by torch", "output padding to reach stride x side"],
                  size_rows(params)),
            Table("Four ways up", ["layer", "rows", "columns", "unevenness of the overlap",
                                   "pattern from untrained weights"], rows),
        ],
        claims=[
            Claim("The matrix is torch's convolution: largest difference", matrix_gap, "<=", 1e-9),
            Claim("A transposed convolution is the gradient of the convolution: largest difference", transpose_gap,
                  "<=", 1e-9),
            Claim("The size formulas hold for all settings that torch accepts: mismatches of 1,120", wrong, "==", 0),
            Claim("Overlap is even exactly where the stride divides the kernel: exceptions of 28", exceptions, "==", 0),
            Claim("The chosen layer writes equally often to all inner pixels: largest minus smallest",
                  uneven[params.up], "<=", 1e-9),
            Claim("Resize, then convolve leaves a flat map flat under any weights: largest minus smallest",
                  max(pattern["nearest"], pattern["bilinear"]), "<=", 1e-9),
            Claim("The resize matrices are torch's interpolation: largest difference", resize_gap, "<=", 1e-9),
            Claim("Batch and instance normalised maps have mean 0 and variance 1: largest deviation", off, "<=", 1e-3),
        ],
    )  # fmt: skip
