"""A Vision Transformer that reads handwritten digits

Question: Can a pure transformer, without any convolution, classify images?
Source: Dosovitskiy et al. 2020, arXiv:2010.11929, §3.1, eqs. (1)–(4); appendix D.3 (what the head reads).
Watch: an image becomes a short sequence of patches, and from there on it is a text encoder: nothing in it knows what
  is next to what. The learned positions have to tell it; without them (preset) a digit is a bag of strokes.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, gelu, scaled_dot_product_attention

from demos.contract import (
    Claim,
    DemoParams,
    Heatmap,
    Images,
    Lines,
    Metric,
    Preset,
    Result,
    Scatter,
    Table,
    Tick,
    no_tick,
)
from demos.shared.digits import load_digits
from demos.shared.transformer import start, train

SIDE, CLASSES, TRAINED = 8, 10, 1400  # pixels; kinds of digits; images to learn from, the other 397 are the test
DIGITS = [str(digit) for digit in range(CLASSES)]
BATCH, RATE, DROPOUT = 64, 3e-3, 0.1


class Params(DemoParams):
    patch_size: int = Field(2, ge=1, le=4, description="Side of a patch, of the image's 8 pixels: 1, 2 or 4")
    dim: int = Field(64, ge=16, le=128, description="Width of a token, a multiple of the heads")
    layers: int = Field(2, ge=1, le=6, description="Encoder blocks")
    heads: int = Field(4, ge=1, le=8, description="Attention heads")
    epochs: int = Field(15, ge=1, le=60, description="Passes over 1,400 images")
    pool: Literal["cls", "mean"] = Field("cls", description="What the head reads: [CLS], or the mean of the patches")
    head: Literal["linear", "mlp"] = Field("linear", description="One layer, or one with a hidden layer and tanh")
    positions: bool = Field(True, description="Add a learned vector for its place to each token")
    seed: int = Field(0, ge=0, le=9999, description="Seed of the split, the weights and the batches")

    presets: ClassVar[Mapping[str, Preset]] = {
        "no positions": Preset("A shuffled image gives the same answer: digits are mixed up",
                               {"positions": False}),
        "large patches": Preset("4 tokens of 16 pixels instead of 16 tokens of 4", {"patch_size": 4}),
        "mean of patches": Preset("The head reads the mean of all patches, not [CLS]", {"pool": "mean"}),
        "pre-training's head": Preset("A hidden layer with tanh before the classes", {"head": "mlp"}),
    }  # fmt: skip

    @model_validator(mode="after")
    def _parts_fill_the_whole(self) -> "Params":
        if SIDE % self.patch_size:
            raise ValueError(f"patch_size must be 1, 2 or 4; got {self.patch_size}")
        if self.dim % self.heads:
            raise ValueError(f"dim must be a multiple of heads; got {self.dim} and {self.heads}")
        return self


def cut(images: Tensor, P: int) -> Tensor:
    """Images (B, 1, 8, 8) as patches (B, N, P²), row by row from the top left."""
    B = len(images)
    tiles = images.view(B, SIDE // P, P, SIDE // P, P)
    return tiles.transpose(2, 3).reshape(B, -1, P * P)


class Dropout(nn.Module):
    """Zero a tenth of the values while training, and scale the others up; nothing in eval(). Draws from its own rng."""

    def __init__(self, rng: torch.Generator) -> None:
        super().__init__()
        self.rng = rng

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        return x * (torch.rand(x.shape, generator=self.rng) >= DROPOUT) / (1 - DROPOUT)


class Block(nn.Module):
    """Eqs. (2) and (3): z' = MSA(LN(z)) + z, then MLP(LN(z')) + z'. Both keep the shape (B, N + 1, D)."""

    def __init__(self, dim: int, heads: int, drop: Dropout) -> None:
        super().__init__()
        self.heads, self.drop = heads, drop
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.q, self.k, self.v, self.out = (nn.Linear(dim, dim) for _ in range(4))
        self.up, self.down = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def forward(self, z: Tensor) -> Tensor:
        x = self.norm1(z)
        q, k, v = (part(x).unflatten(2, (self.heads, -1)).transpose(1, 2) for part in (self.q, self.k, self.v))
        z = z + self.drop(self.out(scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)))
        return z + self.drop(self.down(gelu(self.up(self.norm2(z)))))


class ViT(nn.Module):
    """Images (B, 1, 8, 8) to logits (B, 10)."""

    def __init__(self, params: Params, rng: torch.Generator) -> None:
        super().__init__()
        self.P, self.pool, self.use_positions = params.patch_size, params.pool, params.positions
        d, tokens = params.dim, (SIDE // params.patch_size) ** 2 + 1
        self.project = nn.Linear(self.P**2, d)
        self.cls, self.places = nn.Embedding(1, d), nn.Embedding(tokens, d)
        self.drop = Dropout(rng)
        self.blocks = nn.ModuleList(Block(d, params.heads, self.drop) for _ in range(params.layers))
        self.norm = nn.LayerNorm(d)
        hidden = [nn.Linear(d, d), nn.Tanh()] if params.head == "mlp" else []
        self.head = nn.Sequential(*hidden, nn.Linear(d, CLASSES))
        start(self, rng)

    def encode(self, images: Tensor) -> Tensor:
        """What the head reads of each image, (B, D): the first token after the last norm, eq. (4), or a mean."""
        patches = self.project(cut(images, self.P))  # (B, N, D)
        z = torch.cat([self.cls.weight.expand(len(images), 1, -1), patches], dim=1)  # eq. (1)
        if self.use_positions:
            z = z + self.places.weight
        z = self.drop(z)
        for block in self.blocks:
            z = block(z)
        z = self.norm(z)
        return z[:, 0] if self.pool == "cls" else z[:, 1:].mean(dim=1)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.encode(images))


def split(seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images and labels to learn from (1400), and those of the test (397)."""
    images, labels = load_digits()
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    return images[order[:TRAINED]], labels[order[:TRAINED]], images[order[TRAINED:]], labels[order[TRAINED:]]


def fit(params: Params, tick: Tick) -> tuple[ViT, list[float], list[float]]:
    """A trained model, and the loss and test accuracy after each epoch."""
    rng = torch.Generator().manual_seed(params.seed)
    images, labels, unseen, right = split(params.seed)
    model = ViT(params, rng)
    per_epoch = -(-TRAINED // BATCH)
    losses, accuracies = list[float](), list[float]()

    def loss() -> Tensor:
        some = torch.randint(TRAINED, (BATCH,), generator=rng)
        return cross_entropy(model(images[some]), labels[some])

    def after(step: int, value: float) -> None:
        losses.append(value)
        if (step + 1) % per_epoch == 0:
            accuracies.append(accuracy(model, unseen, right))
            epoch = len(accuracies)
            tick(epoch / params.epochs, f"epoch {epoch}", loss=value, accuracy=accuracies[-1])

    train(model, loss, params.epochs * per_epoch, RATE, after)
    model.eval()
    means = torch.tensor(losses).view(params.epochs, per_epoch).mean(dim=1)
    return model, means.numpy().tolist(), accuracies


@torch.no_grad()
def accuracy(model: ViT, images: Tensor, labels: Tensor) -> float:
    """Share of labels (n,) that the model gives the highest logit; it is in training again afterwards."""
    model.eval()
    share = (model(images).argmax(dim=1) == labels).float().mean().item()
    model.train()
    return share


def part_of(tick: Tick, done: int, way: str) -> Tick:
    """The progress of one of three trainings, as progress of the whole."""

    def report(fraction: float, message: str, **live: float) -> None:
        tick((done + fraction) / 3, f"{way}: {message}", **live)

    return report


@torch.no_grad()
def run(params: Params, tick: Tick = no_tick) -> Result:
    _, _, images, labels = split(params.seed)
    ways = {
        "as asked": params,
        "patches of 2": params.model_copy(update={"patch_size": 2, "positions": True}),
        "patches of 2, no positions": params.model_copy(update={"patch_size": 2, "positions": False}),
    }
    fitted = dict[str, tuple[ViT, list[float], list[float]]]()
    for done, (way, each) in enumerate(ways.items()):
        twin = next((fitted[other] for other in fitted if ways[other] == each), None)  # trained already

        with torch.enable_grad():
            fitted[way] = twin or fit(each, part_of(tick, done, way))
    model, losses, curve = fitted["as asked"]
    score = {way: curve[-1] for way, (_, _, curve) in fitted.items()}
    said = model(images).argmax(dim=1)
    confusion = torch.zeros(CLASSES, CLASSES).index_put_((labels, said), torch.ones(len(labels)), accumulate=True)

    model.train()
    noisy = (model(images[:50]) - model(images[:50])).abs().max().item()
    model.eval()
    steady = (model(images[:50]) - model(images[:50])).abs().max().item()
    foreign = sum(isinstance(part, (nn.Conv2d, nn.RNNBase)) for part in model.modules())
    vectors = model.encode(images)  # (397, D)
    centred = (vectors - vectors.mean(dim=0)).numpy()
    plane = centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T  # (397, 2)
    filters = model.project.weight.view(1, -1, params.patch_size, params.patch_size)[:, :16]
    filters = (filters - filters.amin()) / (filters.amax() - filters.amin())
    wrong = (said != labels).nonzero()[:8, 0]
    return Result(
        metrics=[
            Metric("accuracy", score["as asked"]),
            Metric("tokens", model.places.num_embeddings),
            Metric("weights", sum(weight.numel() for weight in model.parameters())),
        ],
        claims=[
            Claim("It reads digits: share of 397 that it never saw", score["as asked"], ">=", 0.9),
            Claim("Nothing in it is a convolution or a recurrence: such parts", foreign, "<=", 0),
            Claim("Where a patch stands matters: accuracy lost without positions, in patches of 2",
                  score["patches of 2"] - score["patches of 2, no positions"], ">=", 0.08),
            Claim("Dropout makes it vary in train(): largest difference of two answers", noisy, ">=", 0.01),
            Claim("And not in eval(): the same", steady, "<=", 0.0),
        ],
        figures=[
            Lines("Learning", "epoch", "", list(range(1, len(curve) + 1)),
                  {"loss": losses, "accuracy on unseen digits": curve}),
            Heatmap("Confusion", "said", "is", confusion.numpy().tolist(), DIGITS, DIGITS),
            Scatter("What the head reads, on its two principal axes", "", "",
                    {name: [(float(x), float(y)) for x, y in plane[(labels == digit).numpy()]]
                     for digit, name in enumerate(DIGITS)}),
            Images("Digits that it takes for others", [images[wrong, 0].numpy().tolist()],
                   column_labels=[f"{int(labels[one])}, said {int(said[one])}" for one in wrong]),
            Images("Patch projection: what the first 16 numbers of a token look for", filters.numpy().tolist()),
        ],
        tables=[
            Table("Positions and patches", ["model", "tokens", "right"],
                  [[way, fitted[way][0].places.num_embeddings, score[way]] for way in ways]),
        ],
    )  # fmt: skip
