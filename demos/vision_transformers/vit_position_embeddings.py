"""1-D, 2-D and relative positions for image patches, and higher resolution

Question: Does a ViT need to be told that patches live on a grid?
Source: Dosovitskiy et al. 2020, arXiv:2010.11929, §3.2 and appendix D.4 (1-D, 2-D, relative; interpolation); Liu et al.
  2021 (Swin), arXiv:2103.14030, eq. (4) (a bias per offset); He et al. 2021 (MAE), arXiv:2111.06377 (2-D sines).
Watch: a ViT needs to know where each patch is, and hardly cares how it is told. Learned vectors are numbered 1 to 16,
  and nothing says that 5 lies below 1: where digits move about, those of neighbours become more alike all the same.
  Trained on 8 pixels, places stretched to a finer grid still fit, but not in another order.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal, get_args

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, cross_entropy, interpolate, unfold

from demos.contract import (
    Bars,
    Claim,
    DemoParams,
    Figure,
    Heatmap,
    Images,
    Metric,
    Preset,
    Result,
    Table,
    Tick,
    no_tick,
)
from demos.shared.digits import load_digits
from demos.shared.transformer import Block, start, train

Scheme = Literal["none", "learned-1d", "learned-2d", "sincos-2d", "relative"]
SCHEMES: tuple[Scheme, ...] = get_args(Scheme)
SIDE, PATCH, GRID, CLASSES = 8, 2, 4, 10  # pixels of an image and of a patch; patches a row
D, LAYERS, HEADS, RATE, BATCH, TRAINED = 32, 2, 4, 3e-3, 64, 1400  # the other 397 digits are the test
OFFSETS = [f"{offset:+d}" for offset in range(1 - GRID, GRID)]


class Params(DemoParams):
    scheme: Scheme = Field("learned-1d", description="Scheme that is drawn and that the metrics are of")
    epochs: int = Field(8, ge=1, le=40, description="Passes over 1,400 images, for each scheme")
    new_size: int = Field(16, ge=8, le=32, description="Side of the enlarged images, an even number")
    seed: int = Field(0, ge=0, le=9999, description="Seed of the split, the weights and the batches")

    presets: ClassVar[Mapping[str, Preset]] = {
        "one epoch": Preset("Too early: not every way of telling helps yet", {"epochs": 1}),
        "bag of patches": Preset("No places: moving patches changes nothing", {"scheme": "none"}),
        "relative": Preset("49 offsets have a bias in each head; no patch has a place", {"scheme": "relative"}),
    }  # fmt: skip

    @field_validator("new_size")
    @classmethod
    def _whole_patches(cls, value: int) -> int:
        if value % PATCH:
            raise ValueError(f"new_size must be even; got {value}")
        return value


def waves(side: int, width: int) -> Tensor:
    """Sines and cosines of `side` places along one axis, (side, width), as on the grid of 4 whatever the side."""
    at = (torch.arange(side) + 0.5) * GRID / side - 0.5  # 0, 1, 2, 3 on the grid of 4
    angles = at[:, None] * 10000 ** (-torch.arange(width // 2) / (width // 2))
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def on_grid(rows: Tensor, columns: Tensor) -> Tensor:
    """One vector for each row and each column, (n, D / 2) each: side by side for all patches, (n², D)."""
    n = len(rows)
    return torch.cat([rows.repeat_interleave(n, dim=0), columns.repeat(n, 1)], dim=1)


def resize(table: Tensor, side: int) -> Tensor:
    """A square of vectors (n, n, C) for a finer or coarser one (side, side, C), bicubic."""
    picture = table.permute(2, 0, 1)[None]
    return interpolate(picture, size=(side, side), mode="bicubic", align_corners=False)[0].permute(1, 2, 0)


class ViT(nn.Module):
    """Images (B, 1, s, s) to logits (B, 10), for any even s: places that it learned on 8 pixels are interpolated."""

    def __init__(self, scheme: Scheme, rng: torch.Generator) -> None:
        super().__init__()
        self.scheme: Scheme = scheme
        self.project, self.cls = nn.Linear(PATCH**2, D), nn.Embedding(1, D)
        self.blocks = nn.ModuleList(Block(D, HEADS) for _ in range(LAYERS))
        self.norm, self.head = nn.LayerNorm(D), nn.Linear(D, CLASSES)
        start(self, rng)
        shapes: dict[Scheme, list[int]] = {
            "learned-1d": [GRID**2, D], "learned-2d": [2, GRID, D // 2], "relative": [2 * GRID - 1, 2 * GRID - 1, HEADS]
        }  # fmt: skip
        first = torch.randn(shapes.get(scheme, [0]), generator=rng)  # a head of random biases looks to few offsets
        self.table = nn.Parameter(2 * first if scheme == "relative" else 0 * first)

    def places(self, side: int) -> Tensor:
        """What is added to the patches of a grid of side × side, (side², D)."""
        match self.scheme:
            case "learned-1d":
                return resize(self.table.view(GRID, GRID, D), side).reshape(-1, D)
            case "learned-2d":
                axes = interpolate(self.table.transpose(1, 2), size=side, mode="linear").transpose(1, 2)
                return on_grid(axes[0], axes[1])
            case "sincos-2d":
                return on_grid(waves(side, D // 2), waves(side, D // 2))
            case "none" | "relative":
                return torch.zeros(side**2, D)

    def bias(self, side: int) -> Tensor | None:
        """What is added to the scores of each pair of tokens, (heads, n, n); nothing where [CLS] is one of them."""
        if self.scheme != "relative":
            return None
        table = resize(self.table, 2 * side - 1)  # from every offset up and left to every one down and right
        at = torch.arange(side)
        row, column = at.repeat_interleave(side), at.repeat(side)
        down, right = (axis[None, :] - axis[:, None] + side - 1 for axis in (row, column))  # (side², side²)
        return nn.functional.pad(table[down, right].permute(2, 0, 1), (1, 0, 1, 0))

    def forward(self, images: Tensor, order: Tensor | None = None) -> Tensor:
        """`order` moves the place vectors: patch i gets that of patch order[i]."""
        side = images.shape[-1] // PATCH
        places = self.places(side) if order is None else self.places(side)[order]
        tokens = self.project(unfold(images, PATCH, stride=PATCH).transpose(1, 2)) + places
        x = torch.cat([self.cls.weight.expand(len(images), 1, D), tokens], dim=1)
        bias = self.bias(side)
        for block in self.blocks:
            x = block(x, bias)
        return self.head(self.norm(x[:, 0]))


def fit(scheme: Scheme, images: Tensor, labels: Tensor, params: Params, moves: int = 0) -> ViT:
    """A trained model; every scheme sees the same batches, moved by up to `moves` pixels (round the edge)."""
    model = ViT(scheme, torch.Generator().manual_seed(params.seed))
    rng = torch.Generator().manual_seed(params.seed)

    def loss() -> Tensor:
        some = torch.randint(len(images), (BATCH,), generator=rng)
        shift = torch.randint(-moves, moves + 1, (2,), generator=rng)
        batch = images[some].roll((int(shift[0]), int(shift[1])), dims=(2, 3))
        return cross_entropy(model(batch), labels[some])

    train(model, loss, params.epochs * -(-len(images) // BATCH), RATE, lambda _step, _loss: None)
    return model


def alike(places: Tensor) -> tuple[Tensor, float, float]:
    """Cosines of places (N, D) less their mean with one another (N, N); mean cosine of neighbours, and of others."""
    centred = places - places.mean(dim=0)
    cosines = cosine_similarity(centred[:, None], centred, dim=2)
    at = torch.arange(GRID)
    row, column = at.repeat_interleave(GRID), at.repeat(GRID)
    steps = (row[:, None] - row).abs() + (column[:, None] - column).abs()  # 1: above, below, left or right
    return cosines, cosines[steps == 1].mean().item(), cosines[steps > 1].mean().item()


def run(params: Params, tick: Tick = no_tick) -> Result:
    images, labels = load_digits()
    rng = torch.Generator().manual_seed(params.seed)
    mixed = torch.randperm(len(images), generator=rng)
    images, labels = images[mixed], labels[mixed]
    unseen, right = images[TRAINED:], labels[TRAINED:]
    large = interpolate(unseen, size=(params.new_size, params.new_size), mode="bilinear", align_corners=False)
    tokens = (params.new_size // PATCH) ** 2
    wrong = torch.randperm(tokens, generator=rng)  # another order of places
    models = dict[Scheme, ViT]()
    score, finer, lost = dict[Scheme, float](), dict[Scheme, float](), dict[Scheme, float]()

    def share(logits: Tensor) -> float:
        return (logits.argmax(dim=1) == right).float().mean().item()

    for done, scheme in enumerate(SCHEMES):
        model = models[scheme] = fit(scheme, images[:TRAINED], labels[:TRAINED], params)
        with torch.no_grad():
            score[scheme], finer[scheme] = share(model(unseen)), share(model(large))
            lost[scheme] = share(model(large, wrong))
        tick((done + 1) / (len(SCHEMES) + 1), scheme, accuracy=score[scheme])
    moved = fit("learned-1d", images[:TRAINED], labels[:TRAINED], params, moves=1)
    drawn = moved if params.scheme == "learned-1d" else models[params.scheme]
    with torch.no_grad():
        _, near, far = alike(moved.places(GRID))
        _, still_near, still_far = alike(models["learned-1d"].places(GRID))
        maps = alike(drawn.places(GRID))[0].view(GRID, GRID, GRID, GRID).clamp(-1, 1) / 2 + 0.5
        off = (moved.places(GRID) - moved.table).abs().max().item()
        offsets = models["relative"].table.permute(2, 0, 1).detach()
    figures: list[Figure] = [
        Bars("How it is told where patches are; trained on 8 pixels", "", "share of unseen digits right", list(SCHEMES),
             {"8 pixels": list(score.values()), f"{params.new_size} pixels": list(finer.values())}),
    ]  # fmt: skip
    if params.scheme == "relative":
        figures.append(Heatmap("Bias of the first head for each offset", "patches to the right", "patches down",
                               offsets[0].numpy().tolist(), OFFSETS, OFFSETS))  # fmt: skip
    elif params.scheme != "none":
        figures.append(Images(f"{params.scheme}: likeness of each place to all 16, white for the same",
                              maps.numpy().tolist()))  # fmt: skip
    return Result(
        metrics=[
            Metric("accuracy", score[params.scheme]),
            Metric("accuracy at the new size", finer[params.scheme]),
            Metric("tokens at the new size", tokens + 1),
        ],
        claims=[
            Claim("Every way of telling helps: accuracy of the worst, less that of none",
                  min(score[scheme] for scheme in SCHEMES[1:]) - score["none"], ">=", 0.09),
            Claim("Vectors without a grid find it, on digits that move: cosine of neighbours, less that of others",
                  near - far, ">=", 0.13),
            Claim("To the same grid, interpolation changes nothing: largest change of a place", off, "<=", 1e-6),
            Claim("On a finer grid interpolated places still fit: accuracy, less that with the places mixed up",
                  finer["learned-1d"] - lost["learned-1d"], ">=", 0.25),
        ],
        figures=figures,
        tables=[
            Table(f"Share of {len(unseen)} unseen digits right",
                  ["places", "8 pixels, 17 tokens", f"{params.new_size} pixels, {tokens + 1} tokens", "mixed up"],
                  [[scheme, score[scheme], finer[scheme], lost[scheme]] for scheme in SCHEMES]),
            Table("Learned 1-D places: mean cosine", ["trained on", "neighbours", "others"],
                  [["digits that move by a pixel", near, far], ["digits that stay", still_near, still_far]]),
        ],
    )  # fmt: skip
