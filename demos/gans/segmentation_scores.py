"""FCN-score: can a segmenter read the translation?

Question: How do you score a translated image when there is no single right answer?
Source: Isola et al. 2016, arXiv:1611.07004, §4.1 and table 1; the scores and the skip: Long, Shelhamer, Darrell 2014,
  arXiv:1411.4038, §4.2 and §5.
Watch: a network that reads labels from real photos reads the translation, and what it reads is held against the labels
  that were translated. Leave out every lamp: per-pixel accuracy hardly moves, the means over classes pay in full.
"""

from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from demos.contract import Claim, DemoParams, Heatmap, Images, Lines, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.scenes import CLASSES, COLOURS, draw_labels, paint_photo

NAMES = CLASSES["street"]
HOUSE, TREE, LAMP = (NAMES.index(name) for name in ("house", "tree", "lamp"))
AMOUNTS = (0.0, 0.25, 0.5, 0.75, 1.0)
TESTED, BATCH, GRAIN = 150, 8, 0.05  # scenes judged; scenes a training step; deviation of a photo's grain
Damage = Literal["none", "blur", "swap", "noise", "drop-rare"]
DAMAGES: tuple[Damage, ...] = ("blur", "swap", "noise", "drop-rare")
SCORES = ("pixel", "class", "iou")


class Params(DemoParams):
    damage: Damage = Field("blur", description="What is wrong with the translation")
    amount: float = Field(0.5, ge=0.0, le=1.0, description="Strength of the damage, or share of scenes that have it")
    metric: Literal["pixel", "class", "iou", "all"] = Field("all", description="Score drawn over the damage")
    steps: int = Field(200, ge=5, le=1000, description="Training steps of the segmenter")
    seed: int = Field(0, ge=0, le=9999, description="Random seed of scenes, weights and damage")

    presets: ClassVar[Mapping[str, Preset]] = {
        "no lamps": Preset("A rare class is left out everywhere", {"damage": "drop-rare", "amount": 1.0}),
        "swapped": Preset(
            "Houses look like trees: each picture could be real, and none fits", {"damage": "swap", "amount": 1.0}
        ),
        "poor judge": Preset("A segmenter that cannot read real photos says nothing of translations", {"steps": 10}),
    }


@dataclass(frozen=True, slots=True)
class Scores:
    """Long et al., §5: the three scores of one confusion matrix, each in [0, 1], in the order of `SCORES`."""

    pixel: float
    per_class: float
    iou: float


def confusion(truth: Tensor, read: Tensor, classes: int) -> Tensor:
    """n_ij: pixels of class i that were read as j, (K, K), from label maps of one shape."""
    return (truth.flatten() * classes + read.flatten()).bincount(minlength=classes**2).view(classes, classes)


def score(n: Tensor) -> Scores:
    """Scores of a confusion matrix (K, K); a class that neither truth nor reading has does not count."""
    n = n.double()
    hit, truth, read = n.diagonal(), n.sum(dim=1), n.sum(dim=0)  # (K,) each: n_ii, t_i, Σ_j n_ji
    there, seen = truth > 0, truth + read > 0
    return Scores(
        pixel=(hit.sum() / n.sum()).item(),
        per_class=(hit / truth)[there].mean().item(),
        iou=(hit / (truth + read - hit))[seen].mean().item(),
    )


class FCN(nn.Module):
    """Classes from a coarse map, upsampled and added to those from a fine one: (B, 3, H, W) -> logits (B, K, H, W)."""

    def __init__(self, classes: int, rng: torch.Generator) -> None:
        super().__init__()
        self.fine = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU())  # (B, 16, H, W)
        self.coarse = nn.Sequential(
            nn.Conv2d(16, 32, 4, stride=2, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU()
        )  # (B, 32, H/2, W/2)
        self.score_fine, self.score_coarse = nn.Conv2d(16, classes, 1), nn.Conv2d(32, classes, 1)
        for weight in self.parameters():
            nn.init.zeros_(weight) if weight.dim() == 1 else nn.init.kaiming_normal_(weight, generator=rng)

    def forward(self, photo: Tensor) -> Tensor:
        fine = self.fine(photo)
        coarse = self.score_coarse(self.coarse(fine))  # (B, K, H/2, W/2)
        return nn.functional.interpolate(coarse, scale_factor=2.0, mode="bilinear") + self.score_fine(fine)


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Take one step down the gradient of the loss."""
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()


def take(labels: Tensor, rng: torch.Generator) -> Tensor:
    """Photos (n, 3, H, W) of scenes with labels (n, H, W): each day has its light, each photo its grain."""
    light = 0.8 + 0.3 * torch.rand(len(labels), 1, 1, 1, generator=rng)
    photo = light * paint_photo("street", labels)
    return (photo + GRAIN * torch.randn(photo.shape, generator=rng)).clamp(0, 1)


def train_segmenter(steps: int, rng: torch.Generator, tick: Tick) -> FCN:
    """Cross-entropy of every pixel, on real photos alone: the judge never sees a translation."""
    net = FCN(len(NAMES), rng)
    adam = torch.optim.Adam(net.parameters(), lr=5e-3, fused=True)
    for step in range(1, steps + 1):
        labels = draw_labels("street", BATCH, rng)
        loss = nn.functional.cross_entropy(net(take(labels, rng)), labels)
        descend(adam, loss)
        if step % 10 == 0:
            tick(0.8 * step / steps, f"segmenter, step {step}", loss=loss.item())
    return net


def blur(photo: Tensor, sigma: float) -> Tensor:
    """Photos (n, 3, H, W) under a Gaussian of sigma pixels, first down the columns and then along the rows."""
    at = torch.arange(-9.0, 10.0)
    kernel = (-0.5 * (at / max(sigma, 0.01)).square()).softmax(dim=0)  # (19,), sums to 1
    for dims, shape in (((0, 0, 9, 9), (19, 1)), ((9, 9, 0, 0), (1, 19))):
        padded = nn.functional.pad(photo, dims, mode="replicate")
        photo = nn.functional.conv2d(padded, kernel.view(1, 1, *shape).expand(3, 1, *shape), groups=3)
    return photo


def translate(labels: Tensor, damage: Damage, amount: float, rng: torch.Generator) -> Tensor:
    """What a translator with one fault makes of labels (n, H, W): photos (n, 3, H, W)."""
    struck = torch.rand(len(labels), 1, 1, generator=rng) < amount  # (n, 1, 1): more scenes as the amount grows
    shown = labels
    if damage == "swap":
        order = torch.arange(len(NAMES))
        order[[HOUSE, TREE]] = order[[TREE, HOUSE]]
        shown = torch.where(struck, order[labels], labels)
    if damage == "drop-rare":  # painted over with what stands four pixels beside it
        shown = torch.where(struck & (labels == LAMP), labels.roll(4, dims=2), labels)
    photo = take(shown, rng)
    if damage == "blur":
        photo = blur(photo, 3 * amount)
    if damage == "noise":
        photo = (photo + amount * torch.randn(photo.shape, generator=rng)).clamp(0, 1)
    return photo


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng = torch.Generator().manual_seed(2 * params.seed)
    net = train_segmenter(params.steps, rng, tick)
    labels = draw_labels("street", TESTED, torch.Generator().manual_seed(2 * params.seed + 1))  # (N, H, W)

    @torch.no_grad()
    def judge(damage: Damage, amount: float) -> tuple[Tensor, Tensor, Tensor]:
        """Translations (N, 3, H, W), labels read from them (N, H, W), confusion (K, K); dice fall alike each time."""
        photo = translate(labels, damage, amount, torch.Generator().manual_seed(2 * params.seed + 1))
        read = net(photo).argmax(dim=1)
        return photo, read, confusion(labels, read, len(NAMES))

    sweep: dict[Damage, list[Scores]] = {}
    for number, damage in enumerate(DAMAGES, start=1):
        sweep[damage] = [score(judge(damage, amount)[2]) for amount in AMOUNTS]
        tick(0.8 + 0.05 * number, damage, iou=sweep[damage][-1].iou)
    curves = {damage: torch.tensor([astuple(s) for s in line]) for damage, line in sweep.items()}  # (amounts, 3) each
    largest_rise = max(curve.diff(dim=0).max().item() for curve in curves.values())
    whole, lampless, swapped = sweep["drop-rare"][0], sweep["drop-rare"][-1], sweep["swap"][-1]

    # eight pixels of class 0, two of class 1; one of each is misread: 8/10, (7/8 + 1/2) / 2, (7/9 + 1/3) / 2
    by_hand = score(confusion(torch.tensor([0] * 8 + [1] * 2), torch.tensor([0] * 7 + [1, 1, 0]), 2))
    off = max(abs(by_hand.pixel - 8 / 10), abs(by_hand.per_class - 11 / 16), abs(by_hand.iou - 5 / 9))

    photo, read, n = judge(params.damage, params.amount)
    chosen = score(n)
    real = judge("none", 0.0)[0]  # (N, 3, H, W): the photo in the same light
    flat = [COLOURS["street"][of[:6]] for of in (labels, read)]  # (6, H, W, 3) each: classes in their colours
    rows = torch.stack(
        [flat[0], real[:6].permute(0, 2, 3, 1), photo[:6].permute(0, 2, 3, 1), flat[1]]
    )  # (4, 6, H, W, 3)
    shown = SCORES if params.metric == "all" else (params.metric,)
    share = n.double() / n.sum(dim=1, keepdim=True)
    return Result(
        metrics=[
            Metric("per-pixel accuracy", chosen.pixel),
            Metric("per-class accuracy", chosen.per_class),
            Metric("class IoU", chosen.iou),
            Metric("share of pixels that are lamp", (labels == LAMP).double().mean().item()),
        ],
        claims=[
            Claim("The segmenter reads real scenes: per-pixel accuracy", whole.pixel, ">=", 0.95),
            Claim("No score grows with any damage: largest rise between two amounts", largest_rise, "<=", 0.02),
            Claim("Without lamps per-pixel accuracy hardly moves: fall", whole.pixel - lampless.pixel, "<=", 0.08),
            Claim("But class IoU is cut: fall", whole.iou - lampless.iou, ">=", 0.12),
            Claim(
                "Houses and trees swapped, each picture sharp: fall of per-class accuracy",
                whole.per_class - swapped.per_class, ">=", 0.2,
            ),
            Claim("Ten pixels counted by hand: largest difference of a score", off, "<=", 1e-6),
        ],
        figures=[
            Images(
                f"Labels, photo, translation ({params.damage}) and labels read from it", rows.numpy().tolist(),
                row_labels=["labels", "real photo", "translation", "labels read"],
            ),
            *(
                Lines(
                    f"Score over the amount of damage: {name}", x="amount", y="score", at=AMOUNTS,
                    series={damage: curve[:, SCORES.index(name)].numpy().tolist() for damage, curve in curves.items()},
                )
                for name in shown
            ),
            Heatmap(
                "Where the pixels of each class went", x="read as", y="class", values=share.numpy().tolist(),
                row_labels=NAMES, column_labels=NAMES,
            ),
        ],
        tables=[
            Table("Confusion matrix in pixels", ["class", *NAMES],
                  [[name, *row] for name, row in zip(NAMES, n.numpy().tolist(), strict=True)]),
        ],
    )  # fmt: skip
