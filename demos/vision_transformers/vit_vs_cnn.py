"""Inductive bias: ViT against CNN as data grows

Question: What does a CNN know before training that a ViT must learn?
Source: Dosovitskiy et al. 2020, arXiv:2010.11929, §3.1 and §4.3; d'Ascoli et al. 2021 (ConViT), arXiv:2103.10697; LeCun
  et al. 1998 (convolutional networks); Xiao et al. 2021 (convolutional stems), arXiv:2106.14881.
Watch: with fifty images the CNN is far ahead, and the gap closes as they grow. Put the patches of all images in another
  order: the trained ViT is right again once its place vectors are moved along, for nothing else in it knew the order.
  The CNN has no such vectors. With a convolutional stem (preset) the ViT too has something built in.
"""

import copy
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from demos.contract import Claim, DemoParams, Lines, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.digits import load_digits
from demos.shared.transformer import Block, start, train

SIDE, PATCH, CLASSES = 8, 2, 10
SIZES, TESTED = [50, 200, 800, 1400], 397  # training images; the others
D, LAYERS, HEADS, BATCH, RATE = 32, 2, 4, 64, 3e-3


class Params(DemoParams):
    images: int = Field(1400, ge=200, le=1400, description="Most training images, of sizes 50, 200, 800 and 1,400")
    permute: bool = Field(False, description="Put the patches of every image in one other order")
    shift: int = Field(0, ge=0, le=2, description="Pixels by which the test images are moved to the right")
    steps: int = Field(150, ge=50, le=600, description="Training steps of 64 images, for each model and size")
    stem: Literal["patch", "conv"] = Field("patch", description="What makes tokens: one matrix, or convolutions")
    seed: int = Field(0, ge=0, le=9999, description="Seed of the split, the weights and the permutation")

    presets: ClassVar[Mapping[str, Preset]] = {
        "permuted": Preset("Learning from images whose patches are in another order", {"permute": True}),
        "shifted": Preset("Test images moved by a pixel: neither has seen one there", {"shift": 1}),
        "hybrid": Preset("Stem of convolutions, body of attention: places alone cannot undo another order",
                         {"stem": "conv"}),
    }  # fmt: skip


class ViT(nn.Module):
    """Patches of 2 × 2, positions, [CLS], two blocks and a linear head: (B, 1, 8, 8) -> (B, 10)."""

    def __init__(self, stem: str, rng: torch.Generator) -> None:
        super().__init__()
        if stem == "conv":
            self.tokens = nn.Sequential(
                nn.Conv2d(1, D // 2, 3, padding=1), nn.GELU(), nn.Conv2d(D // 2, D, 3, stride=PATCH, padding=1)
            )
        else:
            self.tokens = nn.Sequential(nn.Conv2d(1, D, PATCH, stride=PATCH))  # one matrix for each patch
        self.places = nn.Embedding((SIDE // PATCH) ** 2 + 1, D)  # the first is [CLS]'s, and all that it has
        self.blocks = nn.ModuleList(Block(D, HEADS) for _ in range(LAYERS))
        self.norm, self.head = nn.LayerNorm(D), nn.Linear(D, CLASSES)
        start_all(self, rng)

    def layer1(self, images: Tensor) -> Tensor:
        """Tokens after the first block, (B, 17, D)."""
        tokens = self.tokens(images).flatten(2).transpose(1, 2)
        return self.blocks[0](nn.functional.pad(tokens, (0, 0, 1, 0)) + self.places.weight)

    def forward(self, images: Tensor) -> Tensor:
        x = self.layer1(images)
        for block in self.blocks[1:]:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


class CNN(nn.Module):
    """Three convolutions of 3 × 3, of which two halve the image, and a linear head, with about as many weights."""

    def __init__(self, rng: torch.Generator) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 24, 3, padding=1)
        self.rest = nn.Sequential(
            nn.ReLU(), nn.Conv2d(24, 40, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(40, 40, 3, stride=2, padding=1),
            nn.ReLU(), nn.Flatten(), nn.Linear(40 * 4, CLASSES),
        )  # fmt: skip
        start_all(self, rng)

    def layer1(self, images: Tensor) -> Tensor:
        """Features after the first convolution, (B, 24, 8, 8)."""
        return self.first(images)

    def forward(self, images: Tensor) -> Tensor:
        return self.rest(self.first(images))


def start_all(model: nn.Module, rng: torch.Generator) -> None:
    """Convolutions from N(0, 2 / inputs), the rest as the transformer's."""
    start(model, rng)
    for part in model.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.normal_(part.weight, std=(2 / part.weight[0].numel()) ** 0.5, generator=rng)


def load(params: Params) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images and labels to learn from (1400), and those of the test (397), permuted or moved as asked."""
    rng = torch.Generator().manual_seed(params.seed)
    images, labels = load_digits()
    order = torch.randperm(len(images), generator=rng)
    images, labels = images[order], labels[order]
    test = images[SIZES[-1] :]
    if params.shift:
        test = nn.functional.pad(test, (params.shift, 0))[..., :SIDE]
    if params.permute:
        images, test = permuted(images, params.seed), permuted(test, params.seed)
    return images[: SIZES[-1]], labels[: SIZES[-1]], test, labels[SIZES[-1] :]


def patch_order(seed: int) -> Tensor:
    """The order in which permuted images have their 16 patches, (16,)."""
    return torch.randperm((SIDE // PATCH) ** 2, generator=torch.Generator().manual_seed(seed + 1))


def permuted(images: Tensor, seed: int) -> Tensor:
    """All images (n, 1, 8, 8) with their 16 patches in another order, the same for all."""
    patches = nn.functional.unfold(images, PATCH, stride=PATCH)[..., patch_order(seed)]  # (n, 4, 16)
    return nn.functional.fold(patches, SIDE, PATCH, stride=PATCH)


def move_places(model: nn.Module, seed: int) -> None:
    """Give each patch of a permuted image the place that it had before; all that a ViT knows of order is there."""
    if isinstance(model, ViT):
        with torch.no_grad():
            model.places.weight[1:] = model.places.weight[1:][patch_order(seed)]


def fit(model: ViT | CNN, images: Tensor, labels: Tensor, steps: int, seed: int) -> ViT | CNN:
    """The model after training on the images (n, 1, 8, 8)."""
    rng = torch.Generator().manual_seed(seed)

    def loss() -> Tensor:
        some = torch.randint(len(images), (BATCH,), generator=rng)
        return cross_entropy(model(images[some]), labels[some])

    train(model, loss, steps, RATE, lambda _step, _value: None)
    return model


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    return (model(images).argmax(dim=1) == labels).float().mean().item()


def reach(model: ViT | CNN, place: tuple[int | slice, ...]) -> int:
    """How many of the 64 pixels one number of the first layer depends on, by its gradient."""
    image = torch.rand(1, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0)).requires_grad_()
    (slope,) = torch.autograd.grad(model.layer1(image)[0][place].sum(), [image])
    return int((slope != 0).sum())


def weights_of(model: nn.Module) -> int:
    return sum(weight.numel() for weight in model.parameters())


def run(params: Params, tick: Tick = no_tick) -> Result:
    def build(kind: str) -> ViT | CNN:
        rng = torch.Generator().manual_seed(params.seed)
        return ViT(params.stem, rng) if kind == "ViT" else CNN(rng)

    kinds = ["ViT", "CNN"]
    images, labels, test, right = load(params)
    sizes = [size for size in SIZES if size <= params.images]
    score: dict[str, list[float]] = {kind: [] for kind in kinds}
    largest = dict[str, ViT | CNN]()  # those of the last size
    for number, size in enumerate(sizes):
        for kind in kinds:
            tick((number + (kind == "CNN") / 2) / len(sizes), f"{kind} on {size} images")
            largest[kind] = fit(build(kind), images[:size], labels[:size], params.steps, params.seed)
            score[kind].append(accuracy(largest[kind], test, right))
    other = permuted(test, params.seed + 1)
    moved = copy.deepcopy(largest["ViT"])
    move_places(moved, params.seed + 1)
    lost = {
        "ViT, places moved along": score["ViT"][-1] - accuracy(moved, other, right),
        "ViT": score["ViT"][-1] - accuracy(largest["ViT"], other, right),
        "CNN": score["CNN"][-1] - accuracy(largest["CNN"], other, right),
    }
    gap = [cnn - vit for vit, cnn in zip(score["ViT"], score["CNN"], strict=True)]
    token, pixel = (5,), (slice(None), 4, 4)  # a token of the ViT, a place of the CNN, both away from the edge
    models = {kind: build(kind) for kind in kinds}
    far = {kind: reach(models[kind], token if kind == "ViT" else pixel) for kind in kinds}
    return Result(
        metrics=[
            Metric("accuracy of the ViT", score["ViT"][-1]),
            Metric("accuracy of the CNN", score["CNN"][-1]),
            Metric("lead of the CNN with 50 images", gap[0]),
            Metric("lead of the CNN with the most", gap[-1]),
        ],
        claims=[
            Claim("With few images the CNN is ahead: its accuracy, less the ViT's, with 50", gap[0], ">=", 0.05),
            Claim("The gap closes: lead with 50 images, less that with the most", gap[0] - gap[-1], ">=", 0.03),
            Claim("No order is built into the ViT: accuracy lost to another order, if its places move along",
                  lost["ViT, places moved along"], "<=", 0.01),
            Claim("The CNN has nothing to move: accuracy that it loses", lost["CNN"], ">=", 0.3),
            Claim("Attention sees all in its first layer: pixels that a token depends on", far["ViT"], ">=", 64),
            Claim("A convolution sees its neighbours: pixels that a feature depends on", far["CNN"], "<=", 9),
        ],
        figures=[Lines("Accuracy and data", "training images", "share right", sizes, score, log="x")],
        tables=[
            Table("Accuracy on 397 unseen digits", ["images", "ViT", "CNN", "CNN ahead by"],
                  [[size, vit, cnn, lead] for size, vit, cnn, lead in zip(sizes, *score.values(), gap, strict=True)]),
            Table("Test images with their patches in another order", ["", "accuracy lost"],
                  [[kind, share] for kind, share in lost.items()]),
            Table("Cost", ["", "weights", "pixels seen in layer 1"],
                  [[kind, weights_of(models[kind]), far[kind]] for kind in kinds]),
        ],
    )  # fmt: skip
