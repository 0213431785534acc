"""Detection and segmentation from patch tokens

Question: How do patch tokens become boxes and masks?
Source: Carion et al. 2020, arXiv:2005.12872, §3.1, eqs. (1), (2) (pairing, set loss); Fang et al. 2021,
  arXiv:2106.00666 (queries as tokens of a ViT); Strudel et al. 2021, arXiv:2105.05633, §3.2 (a linear layer reads
  classes from patches); Cheng et al. 2021, arXiv:2107.06278, §3.3 (a mask is the product of a query and the pixels).
Watch: one encoder tells the class of each pixel of its patches, and a class, a box and a mask for each query. Which
  query tells which object is not given: the cheapest pairing is trained. Pair them as they are listed (preset), and
  with two objects a query has to fit either: boxes end up between them. Pixels need no pairing.
"""

import itertools
from collections.abc import Mapping
from typing import ClassVar, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, fold, unfold

from demos.contract import Claim, DemoParams, Images, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.transformer import Block, start, train

SIDE, PATCH, GRID = 16, 4, 4  # pixels of an image and of a patch; patches a row
NOTHING = 3  # class of a query without an object; 0, 1, 2 are square, disc, triangle; a pixel's are 1, 2, 3 on ground 0
D, E, LAYERS, HEADS, RATE, BATCH, UNSEEN, SHOWN = 48, 16, 2, 4, 8e-3, 48, 300, 6
BOX, GIOU, MASK, EMPTY = 5.0, 2.0, 3.0, 0.5  # weights of losses, and of the class NOTHING among classes
COLOURS = torch.tensor([[1, 0.3, 0.3], [0.3, 1, 0.3], [0.4, 0.5, 1], [1, 1, 0.3], [1, 0.4, 1], [0.3, 1, 1]])


class Params(DemoParams):
    task: Literal["detection", "semantic", "instance"] = Field("detection", description="Output to draw and to score")
    queries: int = Field(5, ge=4, le=6, description="Queries Q: the most objects that can be told")
    objects: int = Field(2, ge=1, le=4, description="Most objects M in an image")
    pairing: Literal["cheapest", "as listed"] = Field("cheapest", description="Which query has to tell which object")
    steps: int = Field(300, ge=10, le=2000, description="Training steps of 48 images")
    seed: int = Field(0, ge=0, le=9999, description="Seed of the images and of the weights")

    presets: ClassVar[Mapping[str, Preset]] = {
        "as listed": Preset("Without matching no query knows which object is its own", {"pairing": "as listed"}),
        "semantic": Preset("A class per pixel: touching shapes of one kind become one area", {"task": "semantic"}),
        "instance": Preset("A mask per query: each object has its own", {"task": "instance"}),
        "crowded": Preset("Up to four shapes that hide each other", {"objects": 4}),
    }


class Scene(NamedTuple):
    """What is in n images: M objects in what is asked, Q in what is said. The ViT gives logits, except for boxes."""

    pixels: Tensor  # (n, SIDE, SIDE), class of each; as logits (n, 4, SIDE, SIDE)
    kinds: Tensor  # (n, M), class of each object or NOTHING; as logits (n, Q, 4)
    boxes: Tensor  # (n, M, 4), middle x, y, width and height as shares of the side
    masks: Tensor  # (n, M, SIDE, SIDE), 1 where the object is seen


def draw(n: int, most: int, rng: torch.Generator) -> tuple[Tensor, Scene]:
    """Images (n, 1, SIDE, SIDE), a shape at most in each quarter; neighbours may touch, the later one lies below."""

    def between(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, most, 1, 1, generator=rng)

    there = torch.arange(most) < torch.randint(1, most + 1, (n, 1), generator=rng)
    kinds = torch.randint(NOTHING, (n, most), generator=rng).where(there, NOTHING)
    quarter = torch.rand(n, 4, generator=rng).argsort(dim=1)[:, :most, None, None]
    x, y = (SIDE / 4 + SIDE / 2 * half + between(-1.5, 1.5) for half in (quarter % 2, quarter // 2))  # (n, M, 1, 1)
    r, at = between(3, 4), torch.arange(SIDE) + 0.5
    dx, dy = at - x, at[:, None] - y
    square, disc = (dx.abs() < r) & (dy.abs() < r), dx.square() + dy.square() < r.square()
    shapes = torch.stack([square, disc, square & (dx.abs() < (dy + r) / 2), torch.zeros_like(square)], dim=2)
    whole = shapes.take_along_dim(kinds[:, :, None, None, None], dim=2)[:, :, 0].float()  # (n, M, SIDE, SIDE)
    masks = whole * (whole.cumsum(dim=1) == 1)
    images = (masks * between(0.5, 1)).sum(dim=1, keepdim=True) + 0.05 * torch.randn(n, 1, SIDE, SIDE, generator=rng)
    pixels = (masks * (kinds + 1)[:, :, None, None]).sum(dim=1).long()
    return images, Scene(pixels, kinds, torch.cat([x, y, 2 * r, 2 * r], dim=2)[..., 0] / SIDE, masks)


class ViT(nn.Module):
    """Patches and queries are tokens of one encoder; small heads read them. E numbers stand for a pixel in masks."""

    def __init__(self, queries: int, rng: torch.Generator) -> None:
        super().__init__()
        self.project, self.places = nn.Linear(PATCH**2, D), nn.Embedding(GRID**2, D)
        self.queries = nn.Embedding(queries, D)
        self.blocks, self.norm = nn.ModuleList(Block(D, HEADS) for _ in range(LAYERS)), nn.LayerNorm(D)
        self.pixels, self.mask = nn.Linear(D, (NOTHING + 1 + E) * PATCH**2), nn.Linear(D, E)
        self.kind, self.hidden, self.box = nn.Linear(D, NOTHING + 1), nn.Linear(D, D), nn.Linear(D, 4)
        start(self, rng)

    def forward(self, images: Tensor) -> Scene:
        patches = self.project(unfold(images, PATCH, stride=PATCH).mT) + self.places.weight  # (n, GRID², D)
        x = torch.cat([patches, self.queries.weight.expand(len(images), -1, -1)], dim=1)  # (n, GRID² + Q, D)
        for block in self.blocks:
            x = block(x)
        patches, queries = self.norm(x[:, : GRID**2]), self.norm(x[:, GRID**2 :])
        pixels = fold(self.pixels(patches).mT, SIDE, PATCH, stride=PATCH)  # (n, 4 + E, SIDE, SIDE), each from its patch
        masks = torch.einsum("nqe,neyx->nqyx", self.mask(queries), pixels[:, -E:]) / E**0.5
        return Scene(pixels[:, :-E], self.kind(queries), self.box(self.hidden(queries).relu()).sigmoid(), masks)


def overlap(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """IoU of boxes (…, 4), and the generalized one, less the share of their common hull that neither covers."""
    a0, a1, b0, b1 = (box[..., :2] + side * box[..., 2:] for box in (a, b) for side in (-0.5, 0.5))  # (…, 2): corners
    both = (torch.minimum(a1, b1) - torch.maximum(a0, b0)).clamp(min=0).prod(dim=-1)
    union = (a1 - a0).prod(dim=-1) + (b1 - b0).prod(dim=-1) - both
    hull = (torch.maximum(a1, b1) - torch.minimum(a0, b0)).prod(dim=-1)
    return both / union, both / union - (hull - union) / hull


def box_losses(out: Scene, asked: Scene) -> Tensor:
    """Loss of the box of each query for each object, (n, Q, M)."""
    a, b = out.boxes[:, :, None], asked.boxes[:, None]
    return BOX * (a - b).abs().sum(dim=3) + GIOU * (1 - overlap(a, b)[1])


def pair(costs: Tensor) -> Tensor:
    """Eq. (1): of all ways to give M objects a query each, the one of least total cost: (n, Q, M) -> (n, M)."""
    ways = torch.tensor(list(itertools.permutations(range(costs.shape[1]), costs.shape[2])))  # (ways, M)
    return ways[costs[:, ways, torch.arange(costs.shape[2])].sum(dim=2).argmin(dim=1)]


def match(out: Scene, asked: Scene, pairing: str) -> Tensor:
    """Which query (n, M) has to tell each object."""
    chance = out.kinds.softmax(dim=2).gather(2, asked.kinds[:, None].expand(-1, out.kinds.shape[1], -1))
    costs = (box_losses(out, asked) - chance) * (asked.kinds < NOTHING)[:, None]  # no object costs nothing
    return pair(costs.detach()) if pairing == "cheapest" else torch.arange(costs.shape[2]).expand(len(costs), -1)


def loss_of(out: Scene, asked: Scene, pairing: str) -> Tensor:
    """Eq. (2) for classes and boxes of queries, and the losses of masks and of pixels."""
    who, there, rows = match(out, asked, pairing), asked.kinds < NOTHING, torch.arange(len(asked.kinds))[:, None]
    kinds = torch.full(out.kinds.shape[:2], NOTHING).scatter(1, who, asked.kinds)
    named = cross_entropy(out.kinds.mT, kinds, weight=torch.tensor([1.0] * NOTHING + [EMPTY]))
    boxed = box_losses(out, asked).gather(1, who[:, None])[:, 0][there].mean()
    covered = binary_cross_entropy_with_logits(out.masks[rows, who][there], asked.masks[there])
    return named + boxed + MASK * covered + cross_entropy(out.pixels, asked.pixels)


def average_precision(chances: Tensor, ious: Tensor, kinds: Tensor) -> float:
    """AP at IoU 0.5, mean of kinds; chances (n, Q, 4), ious (n, Q, M), kinds (n, M). An object can be found once."""
    values = list[float]()
    for kind in range(NOTHING):
        free, hits, objects = kinds == kind, list[bool](), int((kinds == kind).sum())
        for at in chances[..., kind].flatten().argsort(descending=True).numpy().tolist():
            n, q = divmod(at, chances.shape[1])
            best = int((ious[n, q] * free[n]).argmax())
            hits.append(bool(free[n, best]) and ious[n, q, best].item() >= 0.5)
            free[n, best] &= not hits[-1]
        right = torch.tensor(hits).float()
        precision = right.cumsum(dim=0) / torch.arange(1, len(hits) + 1)
        values.append((precision.flip(0).cummax(dim=0).values.flip(0) * right).sum().item() / max(objects, 1))
    return sum(values) / NOTHING


def paint(images: Tensor, scene: Scene, n: int, task: str) -> list[list[list[float]]]:
    """The n-th image (SIDE, SIDE, 3), and on it boxes or areas in their kind's colour, or masks each in its own."""
    picture = 0.5 * images[n, 0].clamp(0, 1)[..., None].expand(-1, -1, 3).clone()
    told = [m for m, kind in enumerate(scene.kinds[n].numpy().tolist()) if kind < NOTHING]
    middle, size = SIDE * scene.boxes[n, :, :2, None], SIDE * scene.boxes[n, :, 2:, None]  # (M, 2, 1)
    beyond = (torch.arange(SIDE) + 0.5 - middle).abs() - size / 2  # (M, 2, SIDE): pixels out of the box, along x and y
    edge = torch.maximum(beyond[:, 0, None], beyond[:, 1, :, None])  # (M, SIDE, SIDE)
    areas = {"detection": [((edge[m] <= 0) & (edge[m] > -1), int(scene.kinds[n, m])) for m in told],
             "instance": [(scene.masks[n, m] > 0, m) for m in told],
             "semantic": [(scene.pixels[n] == kind + 1, kind) for kind in range(NOTHING)]}  # fmt: skip
    for area, colour in areas[task]:
        picture[area] = COLOURS[colour]
    return picture.numpy().tolist()


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng = torch.Generator().manual_seed(params.seed)
    model = ViT(params.queries, rng)

    def loss() -> Tensor:
        images, asked = draw(BATCH, params.objects, rng)
        return loss_of(model(images), asked, params.pairing)

    train(model, loss, params.steps, RATE, lambda step, value: tick(0.9 * step / params.steps, "training", loss=value))
    images, asked = draw(UNSEEN, params.objects, rng)
    there, rows = asked.kinds < NOTHING, torch.arange(UNSEEN)[:, None]
    with torch.no_grad():
        out = model(images)
        said = Scene(out.pixels.argmax(dim=1), out.kinds.argmax(dim=2), out.boxes, (out.masks > 0).float())
        who = match(out, asked, "cheapest")
        backwards = Scene(asked.pixels, *(part.flip(1) for part in asked[1:]))
        change = abs(loss_of(out, backwards, params.pairing) - loss_of(out, asked, params.pairing)).item()
    both = said.masks.flatten(2) @ asked.masks.flatten(2).mT  # (n, Q, M), pixels in two masks
    either = said.masks.sum(dim=(2, 3))[:, :, None] + asked.masks.sum(dim=(2, 3))[:, None] - both
    of_boxes = overlap(said.boxes[:, :, None], asked.boxes[:, None])[0]
    ious = {"detection": of_boxes, "instance": both / either.clamp(min=1)}
    ap = {task: average_precision(out.kinds.softmax(dim=2), each, asked.kinds) for task, each in ious.items()}
    quality = {task: each.gather(1, who[:, None])[:, 0][there].mean().item() for task, each in ious.items()}
    areas = [(said.pixels == kind, asked.pixels == kind) for kind in range(NOTHING + 1)]
    quality["semantic"] = sum(((a & b).sum() / (a | b).sum()).item() for a, b in areas) / len(areas)
    named = (said.kinds[rows, who] == asked.kinds)[there].float().mean().item()
    counted = ((said.kinds < NOTHING).sum(dim=1) == there.sum(dim=1)).float().mean().item()
    return Result(
        metrics=[
            Metric("quality", quality[params.task]), Metric("class accuracy", named),
            Metric("AP at IoU 0.5", ap["instance" if params.task == "instance" else "detection"]),
        ],
        claims=[
            Claim("Queries find objects: mean IoU of matched boxes", quality["detection"], ">=", 0.7),
            Claim("Queries name objects: class accuracy", named, ">=", 0.73),
            Claim("Each object is told once: images with the right number of objects", counted, ">=", 0.8),
            Claim("Queries cut objects out: mean IoU of matched masks", quality["instance"], ">=", 0.65),
            Claim("Patches know the class of each pixel: mean IoU", quality["semantic"], ">=", 0.5),
            Claim("Objects are a set: change of the loss when they are listed backwards", change, "<=", 1e-5),
        ],
        figures=[
            Images(f"Unseen images, and what is in them: {params.task}",
                   [[paint(images, scene, n, params.task) for n in range(SHOWN)] for scene in (asked, said)],
                   ["asked", "said"]),
        ],
        tables=[Table("Three outputs of one encoder", ["output", "quality", "is", "AP at IoU 0.5"], [
            ["box per query", quality["detection"], "mean IoU of matched boxes", ap["detection"]],
            ["mask per query", quality["instance"], "mean IoU of matched masks", ap["instance"]],
            ["class per pixel", quality["semantic"], "mean IoU of kinds and ground", "none: no objects"],
        ])],
    )  # fmt: skip
