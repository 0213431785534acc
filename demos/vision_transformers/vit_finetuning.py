"""Pre-train a ViT, swap the head, fine-tune

Question: Why does a ViT pre-trained on much data adapt to a small task?
Source: Dosovitskiy et al. 2020, arXiv:2010.11929, §3.2 (zero head, positions interpolated for a higher resolution);
  Kolesnikov et al. 2019 (BiT), arXiv:1912.11370.
Watch: digits lie on strong stripes. From ten images of each a ViT hardly tells ink from stripe; one that has read 0–4
  on stripes can, though 5–9 are new to it, and only its last matrix starts anew. With a hundred
  images before instead of 800, little is left of its lead; with none (preset), nothing.
"""

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate, unfold

from demos.contract import Claim, DemoParams, Images, Lines, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.digits import load_digits
from demos.shared.transformer import Block, start, train

SIDE, PATCH, CLASSES = 8, 4, 5  # pixels; digits 0–4 to learn from before, 5–9 to adapt to
D, LAYERS, HEADS = 32, 2, 4
BEFORE, AFTER, BATCH = 250, 40, 64  # steps of pre-training and of fine-tuning; most images a step
RATE, HEAD_RATE = 3e-3, 1e-1  # of all weights, of a head alone
SIZES, SHOTS = [0, 100, 300, 800], [2, 10, 50]  # of the figures
FEW, MOST_SHOTS, DRAWS = 100, 100, 3  # little pre-training; images of 5–9 kept for shots; draws that a mean is of
WAVES = torch.tensor([[0.0, 1], [1, 0], [1, 1], [1, -1]]) / 4  # (4, 2): cycles a pixel, down and to the right
STRIPES = 0.5  # how strong a wave is, typically; ink is 1


class Params(DemoParams):
    shots: int = Field(10, ge=1, le=MOST_SHOTS, description="Labelled images of each new digit")
    pretrain_images: int = Field(800, ge=0, le=900, description="Labelled images of 0–4 to learn from before")
    freeze: Literal["none", "body"] = Field("none", description="Train everything, or leave all but the head as it is")
    resolution: int = Field(8, ge=8, le=16, description="Side of the images of the new task: 8 or 16")
    seed: int = Field(0, ge=0, le=9999, description="Seed of the split, the weights and the shots")

    presets: ClassVar[Mapping[str, Preset]] = {
        "no pre-training": Preset("No lead: random weights have nothing to give", {"pretrain_images": 0}),
        "head only": Preset("Only 165 weights learn: the body's features stay as they are", {"freeze": "body"}),
        "higher resolution": Preset("Places are interpolated, but patches see less: no lead", {"resolution": 16}),
    }  # fmt: skip

    @field_validator("resolution")
    @classmethod
    def _twice_or_not(cls, value: int) -> int:
        if value not in (SIDE, 2 * SIDE):
            raise ValueError(f"resolution must be 8 or 16; got {value}")
        return value


class ViT(nn.Module):
    """Images (B, 1, 8, 8), enlarged to its side, to logits (B, 5). The linear head starts from zero."""

    def __init__(self, side: int, rng: torch.Generator) -> None:
        super().__init__()
        self.side = side
        self.project = nn.Linear(PATCH**2, D)
        self.cls, self.places = nn.Embedding(1, D), nn.Embedding((side // PATCH) ** 2, D)
        self.blocks = nn.ModuleList(Block(D, HEADS) for _ in range(LAYERS))
        self.norm, self.head = nn.LayerNorm(D), nn.Linear(D, CLASSES)
        start(self, rng)
        nn.init.zeros_(self.head.weight)

    def forward(self, images: Tensor) -> Tensor:
        images = interpolate(images, size=(self.side, self.side), mode="bilinear", align_corners=False)
        patches = unfold(images, PATCH, stride=PATCH).transpose(1, 2)  # (B, N, 4)
        tokens = self.project(patches) + self.places.weight
        x = torch.cat([self.cls.weight.expand(len(images), 1, D), tokens], dim=1)  # (B, N + 1, D)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x[:, 0]))


def resize(places: Tensor, side: int) -> Tensor:
    """Place vectors of a square grid, (N, D), for one of `side` × `side` places: as D pictures."""
    old = round(len(places) ** 0.5)
    grid = places.T.reshape(1, D, old, old)
    return interpolate(grid, size=(side, side), mode="bicubic", align_corners=False).flatten(2)[0].T


def swap_head(old: ViT, resolution: int, rng: torch.Generator) -> tuple[ViT, list[str]]:
    """A ViT for the new task with the old one's body, and the names of the weights that are new."""
    body = {name: weight for name, weight in old.state_dict().items() if not name.startswith("head.")}
    body["places.weight"] = resize(body["places.weight"], resolution // PATCH)
    new = ViT(resolution, rng)
    new.load_state_dict(body, strict=False)  # what the body lacks stays as it was drawn
    return new, [name for name in new.state_dict() if name not in body]


def on_stripes(images: Tensor, rng: torch.Generator) -> Tensor:
    """Images (B, 1, 8, 8) on four waves of random phase and strength: a nuisance that all digits share."""
    at = torch.arange(SIDE)
    turns = WAVES[:, 0, None, None] * at[:, None] + WAVES[:, 1, None, None] * at  # (4, 8, 8)
    phase = torch.rand(len(images), 4, 1, 1, generator=rng)
    strength = STRIPES * torch.randn(len(images), 4, 1, 1, generator=rng)
    return images + (strength * torch.cos(2 * torch.pi * (turns + phase))).sum(dim=1, keepdim=True)


def load(seed: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Striped images and labels 0–4: old digits, new ones to draw shots from (100 of each), and new ones to test."""
    rng = torch.Generator().manual_seed(seed)
    images, labels = load_digits()
    order = torch.randperm(len(images), generator=rng)
    images, labels = on_stripes(images[order], rng), labels[order]
    old = labels < CLASSES
    fresh, right = images[~old], labels[~old] - CLASSES
    nth = nn.functional.one_hot(right).cumsum(dim=0).gather(1, right[:, None])[:, 0]  # 1 for the first of its digit
    kept = nth <= MOST_SHOTS
    return {
        "old": (images[old], labels[old]),
        "shots": (fresh[kept], right[kept]),
        "test": (fresh[~kept], right[~kept]),
    }


def learn(model: ViT, images: Tensor, labels: Tensor, steps: int, rate: float, rng: torch.Generator) -> None:
    """Classify random batches; weights that need no gradient stay."""

    def loss() -> Tensor:
        some = torch.randperm(len(images), generator=rng)[:BATCH]
        return cross_entropy(model(images[some]), labels[some])

    train(model, loss, steps, rate, lambda _step, _loss: None)


def pretrain(images: Tensor, labels: Tensor, seed: int) -> ViT:
    """A ViT that has learned from old digits; with no images its weights stay as they were drawn."""
    rng = torch.Generator().manual_seed(seed)
    model = ViT(SIDE, rng)
    if len(images):
        learn(model, images, labels, BEFORE, RATE, rng)
    return model


def pick(labels: Tensor, shots: int, rng: torch.Generator) -> Tensor:
    """Numbers of `shots` images of each digit, drawn without putting back."""
    mixed = torch.randperm(len(labels), generator=rng)
    return torch.cat([mixed[labels[mixed] == digit][:shots] for digit in range(CLASSES)])


def finetune(old: ViT, data: Mapping[str, tuple[Tensor, Tensor]], shots: int, freeze: str, params: Params) -> float:
    """Share of unseen new digits read after learning from a few; mean of three draws of those few."""
    images, labels = data["shots"]
    unseen, right = data["test"]
    scores = list[float]()
    for draw in range(DRAWS):
        rng = torch.Generator().manual_seed(DRAWS * params.seed + draw)
        few = pick(labels, shots, rng)
        model, new = swap_head(old, params.resolution, rng)
        for name, weight in model.named_parameters():
            weight.requires_grad_(freeze == "none" or name in new)
        learn(model, images[few], labels[few], AFTER, RATE if freeze == "none" else HEAD_RATE, rng)
        with torch.no_grad():
            scores.append((model(unseen).argmax(dim=1) == right).float().mean().item())
    return sum(scores) / DRAWS


def run(params: Params, tick: Tick = no_tick) -> Result:
    data = load(params.seed)
    images, labels = data["old"]
    most, few = params.pretrain_images, min(FEW, params.pretrain_images)
    sizes = sorted({*(size for size in SIZES if size < most), few, most})
    bodies = dict[int, ViT]()
    by_size = dict[int, float]()
    for done, size in enumerate(sizes):
        bodies[size] = pretrain(images[:size], labels[:size], params.seed)
        by_size[size] = finetune(bodies[size], data, params.shots, params.freeze, params)
        tick(0.6 * (done + 1) / len(sizes), f"{size} images of 0–4 before", accuracy=by_size[size])

    shots = sorted({*SHOTS, params.shots})
    before, scratch = list[float](), list[float]()
    for done, count in enumerate(shots):
        asked = count == params.shots
        before.append(by_size[most] if asked else finetune(bodies[most], data, count, params.freeze, params))
        scratch.append(finetune(bodies[0], data, count, "none", params))
        tick(0.6 + 0.3 * (done + 1) / len(shots), f"{count} of each new digit", accuracy=before[-1])
    other = "body" if params.freeze == "none" else "none"
    ways = {params.freeze: by_size[most], other: finetune(bodies[most], data, params.shots, other, params)}
    lead = by_size[most] - scratch[shots.index(params.shots)]

    model, new = swap_head(bodies[most], params.resolution, torch.Generator().manual_seed(params.seed))
    head = {f"head.{name}" for name, _ in model.head.named_parameters()}
    unseen, right = data["test"]
    with torch.no_grad():
        no_opinion = abs(cross_entropy(model(unseen), right).item() - math.log(CLASSES))
    return Result(
        metrics=[
            Metric("accuracy, pre-trained", by_size[most]),
            Metric("accuracy, from scratch", by_size[most] - lead),
            Metric("accuracy, head only", ways["body"]),
        ],
        claims=[
            Claim("What was learned on 0–4 helps with 5–9: accuracy, less that from scratch", lead, ">=", 0.07),
            Claim("More images before help more: accuracy with all, less that with 100", by_size[most] - by_size[few],
                  ">=", 0.07),
            Claim("Only the head is new: weights that are new or the head's, and not both", len(head ^ {*new}),
                  "<=", 0),
            Claim("A zero head has no opinion: its first loss, away from ln 5", no_opinion, "<=", 1e-6),
        ],
        figures=[
            Lines("Few images are enough after pre-training", "images of each new digit", "share right", shots,
                  {"pre-trained": before, "from scratch": scratch}, log="x"),
            Lines("What pre-training images are worth", "images of 0–4 before", "share of 5–9 right",
                  list(by_size), {f"{params.shots} of each new digit": list(by_size.values())}),
            Images("Digits on stripes: the old ones, and the new",
                   [((x[:8, 0] + 1) / 3).clamp(0, 1).numpy().tolist() for x in (images, unseen)], ["0–4", "5–9"]),
        ],
        tables=[
            Table(f"Accuracy with {params.shots} images of each new digit", ["trained", "share right"], [
                ["all, after pre-training", ways["none"]],
                ["the head only, after pre-training", ways["body"]],
                ["all, from scratch", by_size[most] - lead],
            ]),
        ],
    )  # fmt: skip
