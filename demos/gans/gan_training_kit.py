"""Training details under the lens

Question: What exactly do jitter, batch size, normalisation, Adam and equalised learning rate do to a step?
Source: jitter, mirroring, batch 1: Isola et al. 2016, arXiv:1611.07004, §6.2; Adam: Kingma, Ba 2014, arXiv:1412.6980,
  algorithm 1; instance norm: Ulyanov et al. 2016, arXiv:1607.08022, eq. (2), batch norm its eq. (1); equalised learning
  rate: Karras et al. 2017, arXiv:1710.10196, §4.1.
Watch: gradient descent leaves a valley of curvature 50 at the rate 2 / 50; Adam moves by about its rate, however steep
  the valley. With a batch of one, batch norm is instance norm; with more images it no longer is.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from demos.contract import Bars, Claim, DemoParams, Images, Lines, Metric, Preset, Result, Scatter, Table, Tick, no_tick
from demos.shared.digits import load_digits

SIZE, LARGER, COPIES, DRAWS = 32, 36, 16, 200  # the papers' 256 and 286, eight times smaller
CURVATURE, START, CLEAR = 50.0, (1.0, 0.5), 0.03  # of the valley's steep side; first point; a rate to see paths at
BETAS, EPSILON = (0.5, 0.999), 1e-8  # pix2pix and CycleGAN take 0.5 for the first
WIDTHS = (4, 256, 16, 64, 32)  # of a small network whose layers have very different numbers of inputs
Topic = Literal["jitter", "mirror", "batch", "norm", "lr", "adam", "sgd", "equalized", "precision"]


class Params(DemoParams):
    topic: Topic = Field("adam", description="Detail to inspect")
    lr: float = Field(2e-4, ge=1e-5, le=0.5, description="Learning rate")
    batch_size: int = Field(1, ge=1, le=64, description="Batch size of the normalised feature maps")
    steps: int = Field(200, ge=10, le=1000, description="Optimiser steps in the valley")
    seed: int = Field(0, ge=0, le=9999, description="Random seed of images, places, weights and data")

    presets: ClassVar[Mapping[str, Preset]] = {
        "leaves the valley": Preset(
            "A rate above 2 / 50: gradient descent climbs out, Adam does not", {"topic": "lr", "lr": 0.05}
        ),
        "batch of sixteen": Preset(
            "Batch norm mixes the images, so it is no instance norm any more", {"topic": "batch", "batch_size": 16}
        ),
        "half precision": Preset("Squares overflow above 255, and Adam's ε is zero", {"topic": "precision"}),
        "equalised": Preset("Every layer moves by the same share of its weights", {"topic": "equalized"}),
    }


class Place(NamedTuple):
    """Where a crop is taken from the enlarged image, and whether it is mirrored."""

    top: int
    left: int
    mirrored: bool


def draw_place(rng: torch.Generator) -> Place:
    """One of 5 x 5 crops, mirrored or not, all alike."""
    top, left = torch.randint(LARGER - SIZE + 1, (2,), generator=rng).numpy().tolist()
    return Place(top, left, torch.rand((), generator=rng).item() < 0.5)


def jitter(image: Tensor, place: Place) -> Tensor:
    """Enlarge an image (C, 32, 32) to 36x36, crop 32x32 at the place, mirror it left to right if the place says so."""
    large = nn.functional.interpolate(image[None], size=(LARGER, LARGER), mode="bilinear", align_corners=False)[0]
    crop = large[:, place.top : place.top + SIZE, place.left : place.left + SIZE]
    return crop.flip(2) if place.mirrored else crop


def jitter_pair(x: Tensor, y: Tensor, rng: torch.Generator, paired: bool = True) -> tuple[Tensor, Tensor, Place]:
    """Input and target moved alike (pix2pix), or each by itself (CycleGAN's unpaired piles), and the input's place."""
    place = draw_place(rng)
    return jitter(x, place), jitter(y, place if paired else draw_place(rng)), place


def normalise(x: Tensor, over: tuple[int, ...]) -> Tensor:
    """x (B, C, H, W) with mean 0 and deviation 1 over these dimensions: (0, 2, 3) is batch, (2, 3) instance norm."""
    mean, variance = x.mean(dim=over, keepdim=True), x.var(dim=over, correction=0, keepdim=True)
    return (x - mean) / (variance + 1e-5).sqrt()


def valley(w: Tensor) -> Tensor:
    """½ (w_1² + CURVATURE w_2²) of w (2,): its gradient is (w_1, CURVATURE w_2)."""
    return (w[0].square() + CURVATURE * w[1].square()) / 2


def gradient(w: Tensor) -> Tensor:
    """The gradient of the valley, (2,)."""
    return w * w.new_tensor([1.0, CURVATURE])


def descent_path(lr: float, steps: int) -> Tensor:
    """Plain gradient descent in the valley, (steps + 1, 2)."""
    w = torch.tensor(START, dtype=torch.float64)
    path = [w]
    for _ in range(steps):
        w = w - lr * gradient(w)
        path.append(w)
    return torch.stack(path)


def adam_path(lr: float, steps: int, scale: float = 1.0) -> Tensor:
    """Adam (algorithm 1) in the valley, its loss multiplied by scale, (steps + 1, 2)."""
    w = torch.tensor(START, dtype=torch.float64)
    m, v = torch.zeros_like(w), torch.zeros_like(w)
    beta_1, beta_2 = BETAS
    path = [w]
    for t in range(1, steps + 1):
        g = scale * gradient(w)
        m = beta_1 * m + (1 - beta_1) * g
        v = beta_2 * v + (1 - beta_2) * g.square()
        m_hat, v_hat = m / (1 - beta_1**t), v / (1 - beta_2**t)  # both began at zero
        w = w - lr * m_hat / (v_hat.sqrt() + EPSILON)
        path.append(w)
    return torch.stack(path)


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Take one step down the gradient of the loss."""
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()


def library_path(kind: Literal["adam", "sgd"], lr: float, steps: int) -> Tensor:
    """The same path by torch.optim and autograd, (steps + 1, 2)."""
    w = torch.tensor(START, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([w], lr=lr) if kind == "sgd" else torch.optim.Adam([w], lr=lr, betas=BETAS, eps=EPSILON)
    path = [w.detach().clone()]
    for _ in range(steps):
        descend(optimizer, valley(w))
        path.append(w.detach().clone())
    return torch.stack(path)


def forward(weights: Sequence[Tensor], scales: Sequence[float], x: Tensor) -> Tensor:
    """A network of linear layers, weight (m, n) times its scale, with leaky rectifiers between: (B, 4) -> (B, 32)."""
    for number, (weight, scale) in enumerate(zip(weights, scales, strict=True)):
        x = nn.functional.leaky_relu(x, 0.2) if number else x
        x = x @ (scale * weight).T
    return x


def relative_updates(equalised: bool, lr: float, seed: int) -> tuple[list[float], Tensor]:
    """One step of Adam: per layer the deviation of the update over that of the weights; and the output before it.

    He's constant √(2 / inputs) is in the stored weights as usual, or, equalised, in the forward pass, the stored
    weights being N(0, 1). (The paper prints a division by it; its code multiplies.)
    """
    rng = torch.Generator().manual_seed(seed)
    he = [(2 / n) ** 0.5 for n in WIDTHS[:-1]]
    normal = [torch.randn(m, n, generator=rng) for n, m in itertools.pairwise(WIDTHS)]
    x, target = torch.randn(64, WIDTHS[0], generator=rng), torch.randn(64, WIDTHS[-1], generator=rng)
    weights = [(w if equalised else c * w).requires_grad_() for c, w in zip(he, normal, strict=True)]
    output = forward(weights, he if equalised else [1.0] * len(he), x)  # (64, 32)
    before = [w.detach().clone() for w in weights]
    descend(torch.optim.Adam(weights, lr=lr, betas=BETAS), (output - target).square().mean())
    pairs = zip(before, weights, strict=True)
    return [((w.detach() - b).square().mean() / b.square().mean()).sqrt().item() for b, w in pairs], output.detach()


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng, dice = (torch.Generator().manual_seed(2 * params.seed + odd) for odd in (0, 1))  # images, weights; places
    images, _ = load_digits()
    digits = images[torch.randperm(len(images), generator=rng)]

    photo = nn.functional.interpolate(digits[:1], size=(SIZE, SIZE), mode="bilinear", align_corners=False)[0]
    edges = (2 * (photo - photo.roll((1, 1), dims=(1, 2))).abs()).clamp(0, 1)  # (1, 32, 32): the input of the pair
    copies = [jitter_pair(edges, photo, dice) for _ in range(COPIES)]
    moved = {paired: [jitter_pair(photo, 1 - photo, dice, paired) for _ in range(DRAWS)] for paired in (True, False)}
    together = {  # a negative stays the negative exactly when both sides were moved alike
        paired: sum(float((x + y - 1).abs().max() <= 1e-5) for x, y, _ in pairs) / DRAWS
        for paired, pairs in moved.items()
    }
    mirrored = sum(place.mirrored for _, _, place in moved[True]) / DRAWS
    kept_size = all(side.shape == photo.shape for x, y, _ in copies for side in (x, y))
    tick(0.2, "jitter", together=together[True])

    kernels = torch.randn(6, 1, 3, 3, generator=rng)
    maps = nn.functional.conv2d(digits[: params.batch_size], kernels, padding=1)  # (B, 6, 8, 8)
    batch, instance = normalise(maps, (0, 2, 3)), normalise(maps, (2, 3))
    library = max(
        (batch - nn.functional.batch_norm(maps, None, None, training=True)).abs().max().item(),
        (instance - nn.functional.instance_norm(maps)).abs().max().item(),
    )
    sixteen = nn.functional.conv2d(digits[:16], kernels, padding=1)  # (16, 6, 8, 8)
    harder = torch.cat([2 * sixteen[:1] + 0.5, sixteen[1:]])  # the first image with twice the contrast, and brighter
    change = {
        name: (normalise(harder, over)[0] - normalise(sixteen, over)[0]).abs().max().item()
        for name, over in {"batch": (0, 2, 3), "instance": (2, 3)}.items()
    }
    tick(0.4, "normalisation", difference=(batch - instance).abs().max().item())

    descent, adam = descent_path(params.lr, params.steps), adam_path(params.lr, params.steps)  # (steps + 1, 2) each
    by_library = max(
        (descent - library_path("sgd", params.lr, params.steps)).div(descent.abs().max()).abs().max().item(),
        (adam - library_path("adam", params.lr, params.steps)).abs().max().item(),
    )
    tick(0.6, "optimisers", difference=by_library)
    edge = {share: valley(descent_path(share * 2 / CURVATURE, 200)[-1]).item() for share in (0.95, 1.05)}
    scaled = (adam_path(params.lr, params.steps, 1e3) - adam).abs().max().item()
    shown = {f"gradient descent, rate {params.lr:g}": descent, f"Adam, rate {params.lr:g}": adam,
             f"gradient descent, rate {CLEAR}": descent_path(CLEAR, params.steps),
             f"Adam, rate {CLEAR}": adam_path(CLEAR, params.steps)}  # fmt: skip
    losses = {name: [valley(w).item() for w in path] for name, path in shown.items()}
    start = valley(descent[0]).item()
    down = valley(descent[-1]).item() / start

    (equal, output), (usual, same) = (relative_updates(kind, params.lr, params.seed) for kind in (True, False))
    tick(0.8, "equalised learning rate", ratio=max(equal) / min(equal))

    sizes = [2.0**power for power in range(-14, 15)]  # activations or gradients to be squared
    squares = {name: [torch.tensor(size, dtype=kind).square().item() for size in sizes]
               for name, kind in {"half": torch.float16, "single": torch.float32}.items()}  # fmt: skip
    whole = torch.arange(1.0, 1_001.0)
    largest = int(whole[whole.half().square().isfinite()].max())
    finite = whole.square().isfinite().double().mean().item()
    lost = torch.tensor(EPSILON).half().item() + torch.tensor(1e-4).half().square().item()

    layers = [f"{n} → {m}" for n, m in itertools.pairwise(WIDTHS)]
    topics: dict[str, Sequence[Topic]] = {"pairs": ("jitter", "mirror"), "maps": ("batch", "norm"),
                                         "paths": ("adam", "sgd"), "losses": ("lr",), "layers": ("equalized",),
                                         "squares": ("precision",)}  # fmt: skip
    first = maps[: min(params.batch_size, 16), 0].flatten(1)  # (≤ 16, 64): channel 0 of each image
    figures = [
        ("paths", Scatter("Gradient descent and Adam on the same valley", x="w_1 (flat)", y="w_2 (steep)",
                          series={name: path.clamp(-3, 3).numpy().tolist() for name, path in shown.items()})),
        ("losses", Lines("Height in the valley", x="step", y="loss", at=list(range(params.steps + 1)),
                         series={name: [min(loss, 1e6) for loss in path] for name, path in losses.items()}, log="y")),
        ("pairs", Images("A pair and its jittered, mirrored copies", row_labels=["input", "target"],
                         pixels=torch.stack([torch.cat([edges, *(x for x, _, _ in copies)]),
                                             torch.cat([photo, *(y for _, y, _ in copies)])]).numpy().tolist(),
                         column_labels=["original", *("mirrored" if p.mirrored else "" for _, _, p in copies)])),
        ("maps", Bars("Mean and deviation of channel 0 before it is normalised", x="image", y="value",
                      labels=["whole batch", *(f"image {i + 1}" for i in range(len(first)))],
                      series={"mean": [maps[:, 0].mean().item(), *first.mean(dim=1).numpy().tolist()],
                              "deviation": [maps[:, 0].std(correction=0).item(),
                                            *first.std(dim=1, correction=0).numpy().tolist()]})),
        ("layers", Bars("One step of Adam: update over weights", x="layer", y="share", labels=layers,
                        series={"equalised": equal, "usual": usual})),
        ("squares", Lines("Squares in half and single precision (infinite and zero ones have no place)",
                          x="number", y="its square", at=sizes, series=squares, log="xy")),
    ]  # fmt: skip
    return Result(
        metrics=[
            Metric("loss after gradient descent over loss at the start", down),
            Metric("loss after Adam over loss at the start", valley(adam[-1]).item() / start),
            Metric("Adam's first step over its rate", (adam[1] - adam[0]).abs().max().item() / params.lr),
            Metric("batch norm against instance norm", (batch - instance).abs().max().item()),
            Metric("mirrored copies of 16", sum(place.mirrored for _, _, place in copies)),
            Metric("largest whole number with a square in half precision", largest),
        ],
        claims=[
            Claim("Adam and gradient descent by hand follow torch.optim: largest difference", by_library, "<=", 1e-9),
            Claim("A loss a thousand times larger leaves Adam's path as it is: difference over its rate",
                  scaled / params.lr, "<=", 1e-3),
            Claim("Gradient descent at the chosen rate goes down: loss at the end over the start",
                  down, "<", 1),
            Claim("At 0.95 of the rate 2 / curvature it comes home: loss over start", edge[0.95] / start, "<=", 0.01),
            Claim("At 1.05 of it it climbs out: loss over the start", edge[1.05] / start, ">=", 100),
            Claim("Batch norm of the chosen batch is instance norm, as one image makes it: difference",
                  (batch - instance).abs().max().item(), "<=", 1e-5),
            Claim("Both norms are torch's: largest difference", library, "<=", 1e-5),
            Claim("An image's contrast is lost on its instance norm: change", change["instance"], "<=", 0.01),
            Claim("With sixteen images it is not lost on batch norm: change", change["batch"], ">=", 0.3),
            Claim("Jitter moves input and target together: share of 200 draws", together[True], ">=", 1.0),
            Claim("Unpaired sides move by themselves: share that move together", together[False], "<=", 0.1),
            Claim("Half of the draws are mirrored: distance from one half", abs(mirrored - 0.5), "<=", 0.15),
            Claim("Jittered images keep their size", int(kept_size), "==", 1),
            Claim("Equalised, all layers move by one share: largest to least", max(equal) / min(equal), "<=", 1.2),
            Claim("As usual, it does not: largest to least", max(usual) / min(usual), ">=", 3),
            Claim("Both networks start as one function: difference", (output - same).abs().max().item(), "<=", 1e-4),
            Claim("Half precision has squares up to that of", largest, "==", 255),
            Claim("Single precision has them all, to 1,000 and beyond: share", finite, ">=", 1.0),
            Claim("Adam's ε and the square of a gradient of 0.0001 are lost in half: their sum", lost, "==", 0),
        ],
        figures=[figure for _, figure in sorted(figures, key=lambda of: params.topic not in topics[of[0]])],
        tables=[
            Table("Channel 0: what each norm subtracts and divides by", ["over", "mean", "deviation"],
                  [["the batch (batch norm)", maps[:, 0].mean().item(), maps[:, 0].std(correction=0).item()],
                   *([f"image {i + 1} (instance norm)", image.mean().item(), image.std(correction=0).item()]
                     for i, image in enumerate(first))]),
            Table("One step of Adam: update over weights, per layer", ["layer", "inputs", "equalised", "usual"],
                  [[layer, n, a, b] for layer, n, a, b in zip(layers, WIDTHS[:-1], equal, usual, strict=True)]),
        ],
    )  # fmt: skip
