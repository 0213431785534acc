"""RandAugment, Mixup, CutMix, stochastic depth, weight decay

Question: How are ViTs kept from memorising small data sets?
Source: Cubuk et al. 2019, arXiv:1909.13719 (RandAugment); Zhang et al. 2017, arXiv:1710.09412 (Mixup, wrong labels);
  Yun et al. 2019, arXiv:1905.04899, §3.1 (CutMix); Huang et al. 2016, arXiv:1603.09382, §3, eq. (4) (stochastic
  depth); Touvron et al. 2020, arXiv:2012.12877, §6 (all of them in DeiT).
Watch: a fifth of 200 training digits has a wrong label, which nothing in the image explains. Plain training gives these
  back: it knows them by heart, and unseen digits pay for it. The techniques make that harder; too much of one (preset),
  and the right labels are not learned either.
"""

from collections.abc import Callable, Mapping
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import affine_grid, cross_entropy, grid_sample, one_hot, pad, unfold

from demos.contract import Bars, Claim, DemoParams, Images, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.digits import load_digits
from demos.shared.transformer import Block, start, train

SIDE, PATCH, CLASSES, POOL = 8, 4, 10, 1400  # of 1,797 digits the last 397 are for testing
D, LAYERS, HEADS, RATE, BATCH, RUNS = 32, 4, 4, 3e-3, 50, 3  # runs: trainings that a number is the mean of
OPERATIONS, KINDS = 2, 7  # of RandAugment: how many an image gets, and of how many
DROPOUT, PULL = 0.1, 0.03  # weight decay: the share of a weight, rate · decay, that the first steps take off
DRAWS, SHOWN = 20_000, 5  # branches in which skips are counted; images that are shown
Technique = Literal["none", "shift", "randaugment", "mixup", "cutmix", "drop_path", "dropout", "weight_decay"]


class Params(DemoParams):
    technique: Technique = Field("mixup", description="What is compared with plain training")
    alpha: float = Field(0.8, ge=0.05, le=2.0, description="Mixup, CutMix: λ ~ Beta(α, α)")
    magnitude: int = Field(2, ge=0, le=10, description="RandAugment: strength of every operation")
    drop_path: float = Field(0.1, ge=0.0, le=0.5, description="Stochastic depth: probability p at the last layer")
    wrong: float = Field(0.2, ge=0.0, le=0.5, description="Share of training images with a wrong label")
    images: int = Field(200, ge=50, le=POOL, description="Training images")
    epochs: int = Field(30, ge=5, le=100, description="Passes over them")
    seed: int = Field(0, ge=0, le=9999, description="Seed of the split, the weights and the noise")

    presets: ClassVar[Mapping[str, Preset]] = {
        "none": Preset("Plain training beside itself: no gain, of course", {"technique": "none"}),
        "cutmix": Preset("A piece of another image, and its share of the label", {"technique": "cutmix"}),
        "drop path": Preset("Each layer left out now and then", {"technique": "drop_path", "drop_path": 0.5}),
        "too strong": Preset("Distorted too far: unseen digits lose", {"technique": "randaugment", "magnitude": 10}),
    }


def shift(images: Tensor, rng: torch.Generator) -> Tensor:
    """Images (B, 1, 8, 8), each moved by at most a pixel along each axis."""
    wide = pad(images, (1, 1, 1, 1))
    moved = torch.stack([wide[..., y : y + SIDE, x : x + SIDE] for y in range(3) for x in range(3)])  # (9, B, 1, 8, 8)
    return moved[torch.randint(9, (len(images),), generator=rng), torch.arange(len(images))]


def randaugment(images: Tensor, magnitude: int, rng: torch.Generator) -> Tensor:
    """Two operations drawn anew for each image, all of one strength (0 to 10) and of random sign."""
    for _ in range(OPERATIONS):
        kinds = torch.randint(KINDS, (len(images),), generator=rng)
        amount = magnitude / 10 * (2 * torch.randint(2, (len(images),), generator=rng) - 1)
        turn, lean_x, lean_y, move_x, move_y, light, contrast = (amount * (kinds == kind) for kind in range(KINDS))
        cos, sin = (torch.pi / 6 * turn).cos(), (torch.pi / 6 * turn).sin()  # at most 30 degrees
        rows = [cos, 0.3 * lean_x - sin, 0.9 * move_x, 0.3 * lean_y + sin, cos, 0.9 * move_y]
        grid = affine_grid(torch.stack(rows, dim=1).view(-1, 2, 3), list(images.shape), align_corners=False)
        images = grid_sample(images, grid, align_corners=False) * (1 + 0.9 * light)[:, None, None, None]
        grey = images.mean(dim=(1, 2, 3), keepdim=True)
        images = (grey + (images - grey) * (1 + 0.9 * contrast)[:, None, None, None]).clamp(0, 1)
    return images


def mixup(images: Tensor, labels: Tensor, share: float, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Each image, and its label (B, 10), blended with another's by the same share λ."""
    other = torch.randperm(len(images), generator=rng)
    return share * images + (1 - share) * images[other], share * labels + (1 - share) * labels[other]


def cutmix(images: Tensor, labels: Tensor, share: float, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """A box of about 1 - λ of each image comes from another; labels are mixed by the area that was really pasted."""
    other = torch.randperm(len(images), generator=rng)
    half, middle = SIDE * (1 - share) ** 0.5 / 2, SIDE * torch.rand(2, 1, generator=rng)
    rows, columns = (torch.arange(SIDE) + 0.5 - middle).abs() < half  # (8,) each; the border clips the box
    box = rows[:, None] & columns
    area = box.float().mean()
    return torch.where(box, images[other], images), (1 - area) * labels + area * labels[other]


def augment(images: Tensor, labels: Tensor, params: Params, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """What the technique makes of a batch; three of them leave it as it is, and act on the network."""
    match params.technique:
        case "shift":
            return shift(images, rng), labels
        case "randaugment":
            return randaugment(images, params.magnitude, rng), labels
        case "mixup" | "cutmix":
            mix = mixup if params.technique == "mixup" else cutmix
            numpy = np.random.default_rng(int(torch.randint(2**31, (), generator=rng)))  # torch's Beta takes no rng
            return mix(images, labels, numpy.beta(params.alpha, params.alpha), rng)
        case _:
            return images, labels


class ViT(nn.Module):
    """Images (B, 1, 8, 8) to logits (B, 10). While it trains, layers and numbers are left out at random."""

    def __init__(self, rng: torch.Generator, drop_path: float = 0.0, dropout: float = 0.0) -> None:
        super().__init__()
        self.rng, self.dropout = rng, dropout
        self.paths = [layer / LAYERS * drop_path for layer in range(1, LAYERS + 1)]  # Huang's eq. (4): l / L · p
        self.project, self.places = nn.Linear(PATCH**2, D), nn.Embedding((SIDE // PATCH) ** 2 + 1, D)
        self.blocks = nn.ModuleList(Block(D, HEADS) for _ in range(LAYERS))
        self.norm, self.head = nn.LayerNorm(D), nn.Linear(D, CLASSES)
        start(self, rng)

    def thin(self, x: Tensor, probability: float, shape: tuple[int, ...]) -> Tensor:
        """Leave parts of x out and enlarge the others, so that the mean stays; nothing in evaluation."""
        if not self.training or probability == 0:
            return x
        return x * (torch.rand(shape, generator=self.rng) >= probability) / (1 - probability)

    def forward(self, images: Tensor) -> Tensor:
        x = pad(self.project(unfold(images, PATCH, stride=PATCH).mT), (0, 0, 1, 0))  # (B, 5, D); [CLS] is empty
        x = self.thin(x + self.places.weight, self.dropout, x.shape)
        for path, block in zip(self.paths, self.blocks, strict=True):
            branch = block(x) - x  # what the layer adds; skipped for a whole image at a time
            x = x + self.thin(self.thin(branch, self.dropout, x.shape), path, (len(x), 1, 1))
        return self.head(self.norm(x[:, 0]))


def learn(data: tuple[Tensor, ...], params: Params, seed: int, tick: Tick, done: float) -> Tensor:
    """Train a ViT; shares of given labels, of unseen digits and of wrong labels (the first given) that it tells."""
    rng, technique = torch.Generator().manual_seed(seed), params.technique
    model = ViT(rng, params.drop_path * (technique == "drop_path"), DROPOUT * (technique == "dropout"))
    images, given, unseen, right = data
    steps, targets = params.epochs * -(-len(images) // BATCH), one_hot(given, CLASSES).float()

    def loss() -> Tensor:
        some = torch.randperm(len(images), generator=rng)[:BATCH]
        shown, told = augment(images[some], targets[some], params, rng)
        return cross_entropy(model(shown), told)

    @torch.no_grad()
    def after(step: int, value: float) -> None:
        for weight in model.parameters() if technique == "weight_decay" else ():
            if weight.dim() == 2:  # biases and norms are not pulled
                weight.mul_(1 - PULL * (1 - step / steps))  # falls like the rate
        tick(done + step / steps / 2 / RUNS, technique, loss=value)

    train(model, loss, steps, RATE, after)
    model.eval()
    with torch.no_grad():
        known, read = ((model(x).argmax(dim=1) == y).float() for x, y in ((images, given), (unseen, right)))
    return torch.stack([known.mean(), read.mean(), known[: round(params.wrong * len(images))].mean().nan_to_num()])


def mixing_error(mix: Callable[..., tuple[Tensor, Tensor]], rng: torch.Generator) -> float:
    """Black and white images, mixed: largest difference between the share of white in one and what its label says."""
    white = torch.arange(BATCH) % 2
    images = white.float().view(-1, 1, 1, 1).expand(-1, 1, SIDE, SIDE)
    pairs = [mix(images, one_hot(white, 2).float(), share / 9, rng) for share in range(10)]
    grey, told = torch.cat([mixed for mixed, _ in pairs]).mean(dim=(1, 2, 3)), torch.cat([label for _, label in pairs])
    return (told - torch.stack([1 - grey, grey], dim=1)).abs().max().item()


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng = torch.Generator().manual_seed(params.seed)
    images, labels = load_digits()
    order = torch.randperm(len(images), generator=rng)
    seen, unseen, wrong = order[: params.images], order[POOL:], round(params.wrong * params.images)
    given = labels[seen]
    given[:wrong] += torch.randint(1, CLASSES, (wrong,), generator=rng)  # another digit, whichever
    data = images[seen], given % CLASSES, images[unseen], labels[unseen]
    arms = [params.model_copy(update={"technique": "none"}), params]
    runs = [learn(data, arm, RUNS * params.seed + again, tick, (n + again / RUNS) / 2)
            for n, arm in enumerate(arms) for again in range(RUNS)]  # fmt: skip
    ends: list[list[float]] = torch.stack(runs).view(2, RUNS, 3).mean(dim=1).numpy().tolist()
    (train_plain, test_plain, heart_plain), (train_, test, _) = ends
    with torch.no_grad():
        model, ones = ViT(rng, params.drop_path), torch.ones(DRAWS, 1, 1)
        kept = torch.cat([model.thin(ones, path, ones.shape)[..., 0] for path in model.paths], dim=1)  # (DRAWS, LAYERS)
        skips = (kept == 0).float().mean(dim=0)
        rule = params.drop_path * torch.arange(1, LAYERS + 1) / LAYERS
    last = data[0][-BATCH:], one_hot(data[1][-BATCH:], CLASSES).float()  # these labels are right
    shown, told = augment(*last, params, rng)
    names = [" + ".join(f"{share:.0%} {digit}" for share, digit in zip(*label.topk(2), strict=True) if share > 0.005)
             for label in told[:SHOWN]]  # fmt: skip
    rows = [[picture[0].numpy().tolist() for picture in images[:SHOWN]] for images in (last[0], shown)]
    return Result(
        metrics=[
            Metric("gap", train_ - test), Metric("gap, plain", train_plain - test_plain),
            Metric("test accuracy", test), Metric("test accuracy, plain", test_plain),
        ],
        claims=[
            Claim("A plain ViT learns by heart: share of wrong labels that it gives back", heart_plain, ">=", 0.85),
            Claim("The technique narrows the gap of given labels to unseen digits: plain, less its own",
                  train_plain - test_plain - train_ + test, ">=", 0.045),
            Claim("Unseen digits gain: accuracy, less that of plain training", test - test_plain, ">=", 0.02),
            Claim("Mixup mixes labels as it mixes images: largest difference", mixing_error(mixup, rng), "<=", 1e-6),
            Claim("CutMix counts the area that it pastes: largest difference", mixing_error(cutmix, rng), "<=", 1e-6),
            Claim("Layer l of L is skipped with probability l / L · p: largest difference of its share",
                  (skips - rule).abs().max().item(), "<=", 0.02),
            Claim("The mean of what a layer adds stays: largest relative change",
                  (kept.mean(dim=0) - 1).abs().max().item(), "<=", 0.02),
        ],
        figures=[
            Images("Training images as they are, and as the technique shows them", rows,
                   ["as they are", params.technique], names),
            Bars("How often a layer is skipped", "layer", "share", [str(layer) for layer in range(1, LAYERS + 1)],
                 {"measured": skips.numpy().tolist(), "l / L · p": rule.numpy().tolist()}),
        ],
        tables=[
            Table(f"Mean of {RUNS} trainings",
                  ["training", "given labels right", "unseen digits right", "gap", "wrong labels known by heart"],
                  [[arm, known, read, known - read, by_heart]
                   for arm, (known, read, by_heart) in zip(["plain", params.technique], ends, strict=True)]),
        ],
    )  # fmt: skip
