"""Where does a ViT look?

Question: Can attention maps be read as explanations?
Source: Abnar & Zuidema 2020, arXiv:2005.00928, §3 (rollout); Dosovitskiy et al. 2020, arXiv:2010.11929, §4.5 and
  appendix D.7 (attention distance); hiding a part of the image: Zeiler & Fergus 2013, arXiv:1311.2901, §4.2.
Watch: digits lie somewhere on an empty canvas, and [CLS] gathers from where the ink is; without training (preset) it
  does not. So the map tells what was looked at. Which of the four inked patches decides is another question: hide each
  in turn, and more often than not the costliest is another than the one marked most.
"""

from collections.abc import Mapping
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, gelu, one_hot, pad, unfold

from demos.contract import Bars, Claim, DemoParams, Heatmap, Images, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.digits import load_digits
from demos.shared.transformer import start, train

CANVAS, PATCH, CLASSES = 16, 4, 10  # pixels; a digit is 8 wide and covers 2 x 2 patches
GRID = CANVAS // PATCH  # patches a row; tokens n = GRID² + 1
D, LAYERS, HEADS, RATE, BATCH, TRAINED = 32, 2, 4, 3e-3, 64, 1400


class Params(DemoParams):
    digit: int = Field(3, ge=0, le=9, description="Digit that is shown")
    layer: int = Field(-1, ge=-LAYERS, le=LAYERS - 1, description="Layer whose attention is drawn; -1 is the last")
    epochs: int = Field(10, ge=0, le=40, description="Passes over 1,400 images")
    seed: int = Field(0, ge=0, le=9999, description="Seed of the split, the places and the weights")

    presets: ClassVar[Mapping[str, Preset]] = {
        "untrained": Preset("Random weights look across the image too, but not for ink", {"epochs": 0}),
        "first layer": Preset("Attention before anything was mixed", {"layer": 0}),
        "an eight": Preset("Which patch makes it an eight?", {"digit": 8}),
    }


class Block(nn.Module):
    """Pre-norm attention and MLP that also hands out its weights: (B, n, D) -> (B, n, D), (B, heads, n, n)."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(D), nn.LayerNorm(D)
        self.qkv, self.out = nn.Linear(D, 3 * D), nn.Linear(D, D)
        self.up, self.down = nn.Linear(D, 4 * D), nn.Linear(4 * D, D)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        q, k, v = self.qkv(self.norm1(x)).unflatten(2, (3, HEADS, D // HEADS)).permute(2, 0, 3, 1, 4)
        weights = (q @ k.mT / (D // HEADS) ** 0.5).softmax(dim=3)
        x = x + self.out((weights @ v).transpose(1, 2).flatten(2))
        return x + self.down(gelu(self.up(self.norm2(x)))), weights


class ViT(nn.Module):
    """Images (B, 1, 16, 16) to logits (B, 10) and the attention of each layer."""

    def __init__(self, rng: torch.Generator) -> None:
        super().__init__()
        self.project, self.places = nn.Linear(PATCH**2, D), nn.Embedding(GRID**2 + 1, D)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm, self.head = nn.LayerNorm(D), nn.Linear(D, CLASSES)
        start(self, rng)

    def forward(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        patches = self.project(unfold(images, PATCH, stride=PATCH).mT)  # (B, GRID², D)
        x = pad(patches, (0, 0, 1, 0)) + self.places.weight  # [CLS] is its place vector alone
        attention = list[Tensor]()
        for block in self.blocks:
            x, weights = block(x)
            attention.append(weights)
        return self.head(self.norm(x[:, 0])), attention


def rollout(attention: list[Tensor]) -> Tensor:
    """From which input each token has its content after all layers, (B, n, n): the shortcut brings half of a step."""
    own = torch.eye(attention[0].shape[-1])
    total = own
    for weights in attention:
        total = (0.5 * weights.mean(dim=1) + 0.5 * own) @ total
    return total


def among_patches(weights: Tensor) -> Tensor:
    """What [CLS] takes from each patch, as shares that sum to 1: (B, n, n) -> (B, GRID²)."""
    return weights[:, 0, 1:] / weights[:, 0, 1:].sum(dim=1, keepdim=True)


def distances(weights: Tensor) -> Tensor:
    """Mean distance in pixels from a patch to those that it looks at: (B, heads, n, n) -> (heads,)."""
    at = PATCH * torch.arange(GRID)
    places = torch.cartesian_prod(at, at).float()
    shares = weights[:, :, 1:, 1:] / weights[:, :, 1:, 1:].sum(dim=3, keepdim=True)  # [CLS] has no place
    return (shares * torch.cdist(places, places)).sum(dim=3).mean(dim=(0, 2))


def place(images: Tensor, rng: torch.Generator) -> Tensor:
    """Digits (B, 1, 8, 8) at one of nine places of an empty canvas, (B, 1, 16, 16)."""
    room = CANVAS - images.shape[-1]
    gaps = range(0, room + 1, PATCH)
    placed = torch.stack([pad(images, (x, room - x, y, room - y)) for y in gaps for x in gaps])  # (9, B, 1, 16, 16)
    return placed[torch.randint(len(placed), (len(images),), generator=rng), torch.arange(len(images))]


def enlarge(patches: Tensor) -> Tensor:
    """A number for each patch, (…, GRID²), as a picture (…, 16, 16)."""
    return torch.kron(patches.reshape(*patches.shape[:-1], GRID, GRID), torch.ones(PATCH, PATCH))


@torch.no_grad()
def occlusion(model: ViT, images: Tensor, labels: Tensor) -> Tensor:
    """How much probability of the right digit goes when a patch is made empty, for each patch: (B, GRID²)."""

    def right(images: Tensor) -> Tensor:
        return model(images)[0].softmax(dim=1).gather(1, labels[:, None])  # (B, 1)

    hidden = enlarge(one_hot(torch.arange(GRID**2)))  # (GRID², 16, 16), 1 where it is made empty
    return right(images) - torch.cat([right(images * (1 - patch)) for patch in hidden], dim=1)


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng = torch.Generator().manual_seed(params.seed)
    images, labels = load_digits()
    order = torch.randperm(len(images), generator=rng)
    images, labels = images[order], labels[order]
    model = ViT(rng)
    steps = params.epochs * -(-TRAINED // BATCH)

    def loss() -> Tensor:
        some = torch.randint(TRAINED, (BATCH,), generator=rng)
        return cross_entropy(model(place(images[some], rng))[0], labels[some])

    if steps:
        train(model, loss, steps, RATE, lambda step, value: tick(0.8 * step / steps, "training", loss=value))
    unseen, right = place(images[TRAINED:], rng), labels[TRAINED:]
    with torch.no_grad():
        logits, attention = model(unseen)
    flow = rollout(attention)
    marked, last = among_patches(flow), among_patches(attention[-1].mean(dim=1))
    cost = occlusion(model, unseen, right)
    tick(0.95, "hiding patches")

    amount = unfold(unseen, PATCH, stride=PATCH).sum(dim=1)  # (397, GRID²)
    ink, worst = amount > 0, cost.argmax(dim=1)
    chosen = {"marked most by rollout": marked, "marked most by the last layer": last, "most ink": amount}
    draws = {name: one_hot(by.argmax(dim=1), GRID**2).float() for name, by in chosen.items()}  # chance to be hidden
    draws |= {"any with ink": ink / ink.sum(dim=1, keepdim=True), "any": torch.full(ink.shape, 1 / GRID**2)}
    lost = {name: (chance * cost).sum(dim=1).mean().item() for name, chance in draws.items()}
    hits = {name: chance.gather(1, worst[:, None]).mean().item() for name, chance in draws.items()}

    reach = [distances(weights) for weights in attention]
    step = (torch.arange(GRID)[:, None] - torch.arange(GRID)).abs() <= 1  # (GRID, GRID), along one axis
    near = torch.kron(step.float(), step.float())  # (GRID², GRID²), 1 for the 3 x 3 patches around each
    conv, even = (distances(pad(w, (1, 0, 1, 0))[None, None]).item() for w in (near, torch.ones_like(near)))
    on_ink = ((marked * ink).sum(dim=1) / ink.float().mean(dim=1)).mean().item()
    one = int((right == params.digit).nonzero()[0])
    drawn = attention[params.layer][one].mean(dim=0)  # (n, n)
    maps = [among_patches(drawn[None])[0], marked[one], cost[one].clamp(min=0)]
    pictures = [unseen[one, 0], *(enlarge(each) / each.max().clamp(min=1e-9) for each in maps)]
    shown = params.layer % LAYERS + 1
    tokens = ["[CLS]", *(f"{y},{x}" for y in range(1, GRID + 1) for x in range(1, GRID + 1))]
    return Result(
        metrics=[
            Metric("accuracy", (logits.argmax(dim=1) == right).float().mean().item()),
            Metric("rollout's first patch has ink", (draws["marked most by rollout"] * ink).sum(dim=1).mean().item()),
            Metric("rollout's first patch is the costliest", hits["marked most by rollout"]),
            Metric("the same for a guess among inked patches", hits["any with ink"]),
        ],
        claims=[
            Claim("Rollout shares out all content: largest distance of a row's sum from 1",
                  (flow.sum(dim=2) - 1).abs().max().item(), "<=", 1e-5),
            Claim("[CLS] gathers from ink: rollout on patches with ink, over an even map's", on_ink, ">=", 1.3),
            Claim("What it marks matters: probability lost without that patch, less without any",
                  lost["marked most by rollout"] - lost["any"], ">=", 0.1),
            Claim("It is no explanation: share of images in which the patch marked most is the costliest",
                  hits["marked most by rollout"], "<=", 0.65),
            Claim("Layer 1 sees across the image: its farthest head's mean distance, over that of 3 x 3 patches",
                  reach[0].max().item() / conv, ">=", 1.5),
        ],
        figures=[
            Images(f"A {params.digit}, and where the ViT looks: brighter is more",
                   [[picture.numpy().tolist() for picture in pictures]],
                   column_labels=["image", f"[CLS], layer {shown}", "rollout", "cost of hiding"]),
            Heatmap(f"Attention of layer {shown}, mean of its heads", "looked at (row,column)",
                    "token", drawn.numpy().tolist(), tokens, tokens),
            Bars("How far patches look", "head", "pixels", [str(head + 1) for head in range(HEADS)],
                 {**{f"layer {n}": far.numpy().tolist() for n, far in enumerate(reach, start=1)},
                  "even attention": [even] * HEADS, "3 x 3 patches": [conv] * HEADS}),
        ],
        tables=[
            Table("Hide one patch: probability of the right digit that is lost",
                  ["hidden patch", "lost", "is the costliest"],
                  [[name, lost[name], hits[name]] for name in lost]),
            Table(f"The {params.digit}, patch by patch", ["row,column", "ink", "rollout", "lost when hidden"],
                  [[tokens[p + 1], *(float(of[one, p]) for of in (amount, marked, cost))] for p in range(GRID**2)]),
        ],
    )  # fmt: skip
