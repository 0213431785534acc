"""FP8 training with tile-wise scales

Question: How can eight bits train a model, and why per-tile scales?
Source: DeepSeek-AI 2024 (V3), arXiv:2412.19437, §3.3.1–3.3.2, figures 6 and 7; the formats: Micikevicius et al. 2022,
  arXiv:2209.05433, table 1.
Watch: The error of a product against the size of a few outliers. FP8 is a floating format, so outliers of 100 cost
  nothing; from 10⁵ on one scale per tensor pushes all ordinary values below the smallest number, while tiles lose only
  themselves. Train so (preset "one-scale") and the model learns little.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from demos.contract import Claim, DemoParams, Lines, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.grammar import WORDS, draw_text, source_entropy

Granularity = Literal["tensor", "tile"]
FORMATS = {"e4m3": torch.float8_e4m3fn, "e5m2": torch.float8_e5m2}  # largest numbers: 448 and 57,344
ROWS, INNER, COLUMNS, SPOILED = 256, 256, 128, 16  # of the product that is tested; rows with an outlier
SIZES = [1.0, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7]
BATCH, PAST, EMBEDDING, HIDDEN, LOUD = 256, 4, 32, 128, 2  # of the trained model; LOUD rows of a batch have an outlier


class Params(DemoParams):
    granularity: Granularity = Field("tile", description="What shares a scale: a whole tensor, or tiles of it")
    tile: int = Field(32, ge=8, le=128, description="Tile length: 1 × tile activations, tile × tile weights (V3: 128)")
    format: Literal["e4m3", "e5m2"] = Field("e4m3", description="Bits of exponent and mantissa")
    outliers: float = Field(1e5, ge=1.0, le=1e7, description="Size of the outliers; ordinary values have size 1")
    steps: int = Field(200, ge=50, le=1000, description="Training steps, in FP32 and in FP8")
    seed: int = Field(0, ge=0, le=9999, description="Seed of data and weights")

    presets: ClassVar[Mapping[str, Preset]] = {
        "one-scale": Preset("One scale per tensor beside outliers of 10⁶: all ordinary values become 0", {
            "granularity": "tensor", "outliers": 1e6,
        }),
        "v3-tile": Preset("Tiles of 128 as in V3: a longer tile shares its outlier with more values", {"tile": 128}),
        "e5m2": Preset("A wider exponent for a coarser mantissa", {"format": "e5m2"}),
    }  # fmt: skip


def quantize(x: Tensor, tile: tuple[int, int], kind: str) -> tuple[Tensor, Tensor]:
    """FP8 values (R, C) of x (R, C) and a float32 scale per tile: its largest value becomes the format's largest.

    A tile of (0, 0) is the whole tensor. Tiles at the edge may be smaller.
    """
    high, wide = tile[0] or len(x), tile[1] or x.shape[1]
    blocks = -(-len(x) // high), -(-x.shape[1] // wide)
    padded = nn.functional.pad(x, (0, blocks[1] * wide - x.shape[1], 0, blocks[0] * high - len(x)))
    largest = padded.view(blocks[0], high, blocks[1], wide).abs().amax(dim=(1, 3))
    scales = largest.clamp(min=1e-30) / torch.finfo(FORMATS[kind]).max  # (R / high, C / wide)
    return (x / spread(scales, high, wide, x)).to(FORMATS[kind]), scales


def spread(scales: Tensor, high: int, wide: int, like: Tensor) -> Tensor:
    """Each tile's scale at each of its values, in the shape of `like` (R, C)."""
    return scales.repeat_interleave(high, dim=0).repeat_interleave(wide, dim=1)[: len(like), : like.shape[1]]


def rounded(x: Tensor, tile: tuple[int, int], kind: str) -> Tensor:
    """x (R, C) as FP8 with scales holds it. Products are then taken in float32, as V3 accumulates in FP32 registers."""
    values, scales = quantize(x, tile, kind)
    return values.float() * spread(scales, tile[0] or len(x), tile[1] or x.shape[1], x)


def tiles(granularity: Granularity, t: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """The tiles of activations and of weights: 1 × t and t × t, or all of the tensor."""
    return ((1, t), (t, t)) if granularity == "tile" else ((0, 0), (0, 0))


class Fp8Product(torch.autograd.Function):
    """x @ w.T with all three products of training in FP8: forward, gradient of x, gradient of w. Figure 6."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, params: Params) -> Tensor:
        ctx.save_for_backward(x, w)
        ctx.params = params
        row, block = tiles(params.granularity, params.tile)
        return rounded(x, row, params.format) @ rounded(w, block, params.format).T

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, Tensor, None]:
        (g,) = upstream  # (B, out)
        x, w = ctx.saved_tensors
        row, block = tiles(ctx.params.granularity, ctx.params.tile)
        kind = ctx.params.format
        grad_w = rounded(g.T, row, kind) @ rounded(x.T, row, kind).T  # tiles now run along the batch (§3.3.2)
        return rounded(g, row, kind) @ rounded(w, block, kind), grad_w, None


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Take one step down the gradient of the loss."""
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()


def train(params: Params, in_fp8: bool, tick: Tick) -> list[float]:
    """Losses of a model that reads four words and predicts the next; its two inner products are in FP8, or in FP32.

    Embedding and output stay in FP32, and so do the weights that the optimizer keeps, as in V3. A few rows carry an
    outlier in a channel whose weights are 0: exact arithmetic does not notice it, a shared scale does.
    """
    rng = torch.Generator().manual_seed(params.seed)
    text = draw_text(4000, facts=False, rng=rng)  # (M,)

    def matrix(rows: int, columns: int) -> Tensor:
        return (torch.randn(rows, columns, generator=rng) / columns**0.5).requires_grad_()

    table, inner, second = matrix(len(WORDS), EMBEDDING), matrix(HIDDEN, PAST * EMBEDDING), matrix(HIDDEN, HIDDEN)
    head = matrix(len(WORDS), HIDDEN)
    adam = torch.optim.Adam([table, inner, second, head], lr=3e-3, fused=True)

    def product(x: Tensor, w: Tensor) -> Tensor:
        if not in_fp8:
            return x @ w.T
        loud = torch.zeros(len(x), 1)
        loud[:LOUD] = params.outliers
        return Fp8Product.apply(torch.cat([loud, x], dim=1), nn.functional.pad(w, (1, 0)), params)  # type: ignore

    losses: list[float] = []
    for step in range(params.steps):
        start = torch.randint(len(text) - PAST, (BATCH, 1), generator=rng)
        words = text[start + torch.arange(PAST + 1)]  # (B, 5)
        x = table[words[:, :PAST]].flatten(1) * EMBEDDING**0.5  # (B, 128), of size 1
        hidden = nn.functional.gelu(product(nn.functional.gelu(product(x, inner)), second))  # (B, HIDDEN)
        loss = nn.functional.cross_entropy(hidden @ head.T, words[:, PAST])
        descend(adam, loss)
        losses.append(loss.item())
        if step % 10 == 9:
            tick((step + 1) / params.steps, f"step {step + 1}", loss=losses[-1])
    return losses


def relative(approximate: Tensor, exact: Tensor) -> float:
    """Norm of the difference over the norm."""
    return ((approximate - exact).square().sum() / exact.square().sum()).sqrt().item()


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng = torch.Generator().manual_seed(params.seed)
    x, w = torch.randn(ROWS, INNER, generator=rng), torch.randn(COLUMNS, INNER, generator=rng)
    place = torch.arange(SPOILED), torch.randint(INNER, (SPOILED,), generator=rng)  # one outlier in each of these rows

    def with_outliers(size: float) -> Tensor:
        return x.index_put(place, size * x[place])

    def product_error(granularity: Granularity, size: float, kind: str = params.format) -> float:
        """Relative error of the product on the rows without an outlier."""
        row, block = tiles(granularity, params.tile)
        product = rounded(with_outliers(size), row, kind) @ rounded(w, block, kind).T
        return relative(product[SPOILED:], (x @ w.T)[SPOILED:])

    def sharing_error(t: int) -> float:
        """Relative error of the ordinary values in the rows with an outlier, for tiles of length t."""
        loud = with_outliers(params.outliers)[:SPOILED]
        kept = rounded(loud, (1, t), params.format).index_put(place, x[place])
        return relative(kept, x[:SPOILED])

    by_size = {name: [product_error(name, size) for size in SIZES] for name in ("tensor", "tile")}
    lengths = [8, 16, 32, 64, 128, 256]
    sharing = [sharing_error(t) for t in lengths]
    better = product_error("tile", 1e5) / product_error("tensor", 1e5)
    harmless = product_error("tensor", 100.0) / product_error("tile", 100.0)
    coarser = product_error("tile", 1.0, "e5m2") / product_error("tile", 1.0, "e4m3")
    normal = 2 ** (14 * torch.rand(100_000, generator=rng) - 6)  # from 2⁻⁶, the smallest normal number, to 256
    rounding = ((normal.to(torch.float8_e4m3fn).float() - normal) / normal).abs().max().item()
    loud = with_outliers(1e7)
    values, scales = quantize(loud, (1, params.tile), params.format)
    blocks = quantize(w, (params.tile, params.tile), params.format)
    bytes_x, bytes_w = ((v.nbytes + s.nbytes) / v.numel() for v, s in ((values, scales), blocks))
    broken = int((~values.float().isfinite()).sum())
    unscaled = int((loud.to(FORMATS[params.format]).float() - loud)[place].abs().gt(0.5 * loud[place].abs()).sum())

    def half(of: int) -> Tick:
        def report(fraction: float, message: str, **live: float) -> None:
            tick((of + fraction) / 2, f"{('FP32', 'FP8')[of]}, {message}", **live)

        return report

    losses = {name: train(params, name == "FP8", half(of)) for of, name in enumerate(("FP32", "FP8"))}
    final = {name: sum(curve[-20:]) / 20 for name, curve in losses.items()}  # the same batches in both
    lost = final["FP8"] / final["FP32"] - 1
    every = max(1, params.steps // 100)
    return Result(
        metrics=[
            Metric("loss in FP32, mean of the last 20 steps", final["FP32"], "nats"),
            Metric("loss in FP8", final["FP8"], "nats"),
            Metric("relative difference of the losses", lost),
            Metric("entropy of the text", source_entropy(facts=False), "nats"),
        ],
        claims=[
            Claim("Rounding loses at most 2⁻⁴ of a normal number: largest loss", rounding, "<=", 0.0625),
            Claim("FP8 floats, so outliers of 100 are harmless: error with one scale over tiles", harmless, "<=", 1.3),
            Claim("At 10⁵ tiles keep the other rows: error with tiles over one scale", better, "<=", 0.25),
            Claim("E5M2 rounds twice as coarsely as E4M3: distance of the ratio from 2", abs(coarser - 2), "<=", 0.3),
            Claim("Scaled, outliers of 10⁷ do not overflow: values broken", broken, "==", 0),
            Claim("Unscaled, they are cut off or overflow: outliers lost", unscaled, ">=", 1),
            Claim("Training in FP8 reaches the loss of FP32: relative difference", abs(lost), "<=", 0.01),
        ],
        figures=[
            Lines("Error of a product on rows without outliers", "size of the outliers", "relative error", SIZES,
                  {"one scale per tensor": by_size["tensor"], f"tiles of {params.tile}": by_size["tile"]}, log="xy"),
            Lines(f"Error of values that share a tile with an outlier of {params.outliers:g}", "tile length",
                  "relative error, whole rows", lengths, {params.format: sharing}, log="x"),
            Lines("Training", "step", "loss, nats", list(range(1, params.steps + 1, every)),
                  {name: curve[::every] for name, curve in losses.items()}),
        ],
        tables=[
            Table("Memory: bytes per value", ["", "BF16", "FP8 with its scales"], [
                ["activations", 2.0, bytes_x], ["weights in the products", 2.0, bytes_w],
                ["Adam's moments (V3 keeps both in BF16)", 4.0, 4.0], ["master weights and gradients, FP32", 8.0, 8.0],
            ]),
        ],
    )  # fmt: skip
