"""Segmentation from a denoiser

Question: Do the inner maps of a denoiser know what is where?
Source: Baranchuk et al. 2021 (DDPM-Seg), arXiv:2112.03126, §3 and §4; the denoiser: Ho et al. 2020, arXiv:2006.11239.
Watch: the denoiser was never told a class. A linear classifier on its maps, taught with five labelled pictures, beats
  one on the 3x3 pixels around that was taught with fifty. Maps of an untrained network are worth much less.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import interpolate, unfold

from demos.contract import Claim, DemoParams, Images, Lines, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.ddpm import T, jump, make_schedule, train
from demos.shared.unet import UNet

SIZE, WIDTH, BATCH, TESTED, CLASSES = 12, 16, 32, 100, 4  # background, square, disc, cross
SETS = 4  # of labelled pictures, drawn apart: with so few a result hangs on which they are, so four are averaged
NAMES = ("background", "square", "disc", "cross")
TIMES = (0.0, 0.05, 0.15, 0.3, 0.6)
BLOCKS: dict[str, tuple[str, ...]] = {
    "down": ("down",), "middle": ("middle2",), "up": ("up",), "all": ("down", "middle2", "up"),
}  # fmt: skip


class Params(DemoParams):
    labelled: int = Field(5, ge=1, le=100, description="Labelled pictures")
    t: float = Field(0.05, ge=0.0, le=0.8, description="Noise level at which maps are read, as a share of T")
    block: Literal["down", "middle", "up", "all"] = Field("all", description="Where in the U-Net they are read")
    trained: bool = Field(True, description="Train the denoiser")
    steps: int = Field(350, ge=100, le=2000, description="Training steps of the denoiser, which sees no label")
    seed: int = Field(0, ge=0, le=9999, description="Seed of pictures, weights and noise")

    presets: ClassVar[Mapping[str, Preset]] = {
        "untrained": Preset(
            "The same U-Net before training: its maps are hardly better than pixels", {"trained": False}
        ),
        "one label": Preset("One labelled picture", {"labelled": 1}),
        "too much noise": Preset("At t = 0.8 little of the picture is left to know", {"t": 0.8}),
    }


def draw_pictures(n: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Pictures (n, 1, 12, 12) in [-1, 1] and the class of each pixel (n, 12, 12): a shape or none in each quarter.

    All shapes have the same range of greys, so that a pixel alone does not tell what it is part of.
    """
    y, x = torch.arange(6).view(1, 1, 1, 6, 1), torch.arange(6).view(1, 1, 1, 1, 6)
    kind = torch.randint(CLASSES, (n, 2, 2, 1, 1), generator=rng)  # (n, 2, 2, 1, 1): one for each quarter
    at_y, at_x = (2 + torch.randint(2, (n, 2, 2, 1, 1), generator=rng) for _ in range(2))
    dy, dx = (y - at_y).abs(), (x - at_x).abs()  # (n, 2, 2, 6, 6)
    masks = [
        dy + dx < 0,
        (dy <= 2) & (dx <= 2),
        dy.square() + dx.square() <= 5,
        ((dy == 0) | (dx == 0)) & (dy + dx <= 2),
    ]
    shape = sum((mask & (kind == k) for k, mask in enumerate(masks)), torch.zeros_like(dy + dx).bool())
    grey = 0.5 + 0.5 * torch.rand(n, 2, 2, 1, 1, generator=rng)
    picture, label = shape * grey, shape * kind  # (n, 2, 2, 6, 6)
    whole = [part.permute(0, 1, 3, 2, 4).reshape(n, SIZE, SIZE) for part in (picture, label)]
    noisy = 2 * whole[0] - 1 + 0.05 * torch.randn(n, SIZE, SIZE, generator=rng)
    return noisy.clamp(-1, 1)[:, None], whole[1]


@torch.no_grad()
def read_maps(network: UNet, x: Tensor, t: float, block: str, noise: Tensor, alpha_bar: Tensor) -> Tensor:
    """Noise the pictures x (n, 1, 12, 12) to time t; the maps of a block, enlarged to every pixel, (n, 12, 12, D)."""
    level, maps = round(t * T), list[Tensor]()

    def keep(_: nn.Module, __: tuple[Tensor, ...], out: Tensor) -> None:
        maps.append(interpolate(out, size=SIZE, mode="bilinear"))  # (n, C, 12, 12)

    hooks = [getattr(network, name).register_forward_hook(keep) for name in BLOCKS[block]]
    network(jump(x, noise, alpha_bar[level]), torch.full((len(x),), level / T))
    for hook in hooks:
        hook.remove()
    return torch.cat(maps, dim=1).permute(0, 2, 3, 1)


def read_pixels(x: Tensor) -> Tensor:
    """The 3x3 pixels around each pixel of x (n, 1, 12, 12), without any network: (n, 12, 12, 9)."""
    return unfold(x, 3, padding=1).transpose(1, 2).reshape(len(x), SIZE, SIZE, 9)


def fit(features: Tensor, label: Tensor, penalty: float = 1.0) -> tuple[Tensor, Tensor]:
    """Logistic regression: weights (D, classes) and biases (classes,) that minimise Σ cross-entropy + penalty ‖W‖² / 2.

    features (M, D), label (M,).
    """
    W, b = torch.zeros(features.shape[1], CLASSES, requires_grad=True), torch.zeros(CLASSES, requires_grad=True)
    solver: Any = torch.optim.LBFGS([W, b], max_iter=60, line_search_fn="strong_wolfe")

    def objective() -> float:
        solver.zero_grad()
        loss = nn.functional.cross_entropy(features @ W + b, label, reduction="sum") + penalty * W.square().sum() / 2
        torch.autograd.backward(loss / len(label))
        return loss.item() / len(label)

    solver.step(objective)
    return W.detach(), b.detach()


def iou(guess: Tensor, label: Tensor, k: int) -> float:
    """Intersection over union of one class."""
    g, y = guess == k, label == k
    return ((g & y).sum() / (g | y).sum()).item()


def mean_iou(guess: Tensor, label: Tensor) -> float:
    """Intersection over union of pixels, mean over the classes; guess and label of one shape."""
    return sum(iou(guess, label, k) for k in range(CLASSES)) / CLASSES


def segment(known: Tensor, label: Tensor, asked: Tensor) -> Tensor:
    """Classes (n, 12, 12) of pixels with features asked (n, 12, 12, D), taught by known (m, 12, 12, D)."""
    flat = known.flatten(0, 2)
    mean, deviation = flat.mean(dim=0), flat.std(dim=0) + 1e-4
    W, b = fit((flat - mean) / deviation, label.flatten())
    return ((asked - mean) / deviation @ W + b).argmax(dim=-1)


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng, dice = (torch.Generator().manual_seed(2 * params.seed + odd) for odd in (0, 1))  # training; evaluation
    alpha_bar, network = make_schedule(), UNet(1, 1, rng, WIDTH)
    untrained = UNet(1, 1, torch.Generator().manual_seed(2 * params.seed), WIDTH)

    def draw_loss() -> Tensor:
        x0, _ = draw_pictures(BATCH, rng)  # pictures without labels cost nothing
        t = torch.randint(1, T + 1, (BATCH,), generator=rng)
        eps = torch.randn(x0.shape, generator=rng)
        return (eps - network(jump(x0, eps, alpha_bar[t]), t / T)).square().mean()

    if params.trained:
        train(network, draw_loss, params.steps, tick, part=(0.0, 0.7))
    known, label = draw_pictures(SETS * 100, dice)
    asked, truth = draw_pictures(TESTED, dice)
    noise, noise_asked = (torch.randn(x.shape, generator=dice) for x in (known, asked))

    def segmentations(taught: Tensor, features: Tensor, labelled: int) -> list[Tensor]:
        """Classes (TESTED, 12, 12) for each set of so many labelled pictures, from their features and those asked."""
        return [segment(taught[n::SETS][:labelled], label[n::SETS][:labelled], features) for n in range(SETS)]

    def score(guesses: list[Tensor]) -> float:
        return sum(mean_iou(guess, truth) for guess in guesses) / SETS

    def from_maps(of: UNet, t: float, block: str, labelled: int = 100) -> tuple[Tensor, Tensor]:
        """Maps of a network for SETS times so many labelled pictures, and for those asked."""
        n = SETS * labelled
        taught = read_maps(of, known[:n], t, block, noise[:n], alpha_bar)
        return taught, read_maps(of, asked, t, block, noise_asked, alpha_bar)

    features = {
        "maps": from_maps(network, params.t, params.block),
        "3x3 pixels": (read_pixels(known), read_pixels(asked)),
    }
    numbers, n = sorted({1, 2, 5, 10, 20, 50, params.labelled}), params.labelled
    taught = {name: [score(segmentations(*pair, number)) for number in numbers] for name, pair in features.items()}
    tick(0.85, "taught with more and more labels")
    curves = {block: [score(segmentations(*from_maps(network, t, block, n), n)) for t in TIMES] for block in BLOCKS}
    mine, pixels = (segmentations(*pair, n) for pair in features.values())
    raw = score(segmentations(*from_maps(untrained, params.t, params.block, n), n))
    five, fifty = ({name: ious[numbers.index(count)] for name, ious in taught.items()} for count in (5, 50))

    def shades(classes: Tensor) -> list[list[float]]:
        return (classes / (CLASSES - 1)).numpy().tolist()

    return Result(
        metrics=[
            Metric("iou", score(mine)),
            Metric("iou of pixels", score(pixels)),
            Metric("iou of an untrained network", raw),
            Metric("lead over pixels with five labelled pictures", five["maps"] - five["3x3 pixels"]),
            Metric("lead over pixels with fifty", fifty["maps"] - fifty["3x3 pixels"]),
        ],
        figures=[
            Images(
                "Black background, then square, disc, cross in ever lighter grey",
                [[((asked[k, 0] + 1) / 2).numpy().tolist(), *(shades(c[k]) for c in (truth, pixels[0], mine[0]))]
                 for k in range(8)],
                column_labels=["picture", "truth", "from pixels", "from maps"],
            ),
            Lines("Where the knowledge is", "noise level t / T", "mean IoU", TIMES, curves),
            Lines("What labels buy", "labelled pictures", "mean IoU", numbers, taught, log="x"),
        ],
        tables=[
            Table("IoU of each class", ["class", *features], [
                [name, *(sum(iou(guess, truth, k) for guess in guesses) / SETS for guesses in (mine, pixels))]
                for k, name in enumerate(NAMES)
            ])
        ],
        claims=[
            Claim("Five labelled pictures are worth more with maps than with pixels: IoU minus IoU",
                  five["maps"] - five["3x3 pixels"], ">=", 0.08),
            Claim("Five with maps are worth more than fifty with pixels: IoU minus IoU",
                  five["maps"] - fifty["3x3 pixels"], ">=", 0.04),
            Claim("Training without labels made the maps: IoU minus that of an untrained network",
                  score(mine) - raw, ">=", 0.05),
        ],
    )  # fmt: skip
