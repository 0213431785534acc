"""Palette: four repairs, one model

Question: Can one conditional diffusion recipe color, fill, extend and de-block images?
Source: Saharia et al. 2021 (Palette), arXiv:2111.05826, §3; its generalist learns all four tasks with one network; the
  velocity in place of the noise: Salimans, Ho 2022, arXiv:2202.00512, appendix D.
Watch: the network sees the damaged picture beside the noisy one, and the same weights do all four repairs. What the
  picture does not tell (the colour of a house, what a hole hid) is invented, and differs from draw to draw.
"""

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from demos.contract import Claim, DemoParams, Images, Lines, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.ddpm import T, jump, make_schedule, noise_of, step_back, train, velocity, visits
from demos.shared.unet import UNet

SIZE, WIDTH, BATCH, PASSES, TESTED, REPAIRS = 8, 16, 128, 20, 64, 3
BLOCK = 4  # pixels along a side of what the JPEG-like damage transforms at once; JPEG itself has 8
WALLS = torch.tensor([[0.9, 0.3, 0.2], [0.9, 0.85, 0.7]])  # a house is red or cream
Task = Literal["colorization", "inpainting", "uncropping", "jpeg"]
TASKS: tuple[Task, ...] = ("colorization", "inpainting", "uncropping", "jpeg")


class Params(DemoParams):
    task: Task = Field("inpainting", description="Damage to undo in the figures; the table has all four")
    quality: int = Field(10, ge=1, le=50, description="JPEG-like quantisation: lower is coarser")
    hole: float = Field(0.3, ge=0.1, le=0.7, description="Share of the image hidden in filling and extending")
    condition: bool = Field(True, description="Let the network see the damaged picture")
    steps: int = Field(450, ge=100, le=2000, description="Training steps")
    seed: int = Field(0, ge=0, le=9999, description="Seed of scenes, weights and sampling")

    presets: ClassVar[Mapping[str, Preset]] = {
        "blind": Preset(
            "A network that does not see the damaged picture fills in some other scene", {"condition": False}
        ),
        "colours": Preset(
            "Grey in, colours out: sky and grass are known, the house is a guess", {"task": "colorization"}
        ),
        "large hole": Preset("Little is left to go by: repairs differ more", {"hole": 0.7}),
        "coarse blocks": Preset("Almost only the mean of each block survives", {"task": "jpeg", "quality": 1}),
    }


def draw_scenes(n: int, rng: torch.Generator) -> Tensor:
    """Pictures (n, 3, 8, 8) in [-1, 1]: sky over grass, a sun, and a red or cream house with a dark roof."""

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, 1, 1, 1, generator=rng)  # (n, 1, 1, 1)

    def paint(picture: Tensor, where: Tensor, colour: Tensor) -> Tensor:
        return torch.where(where, colour, picture)  # where (n, 1, 8, 8), colour (n, 3, 1, 1) or (1, 3, …)

    y, x = torch.arange(SIZE).view(1, 1, -1, 1), torch.arange(SIZE).view(1, 1, 1, -1)  # (1, 1, 8, 1), (1, 1, 1, 8)
    horizon = uniform(4.5, 6.5)
    light = uniform(0.7, 1.0)
    sky = light * torch.tensor([0.5, 0.75, 1.0]).view(1, 3, 1, 1) * (0.7 + 0.3 * y / SIZE)  # brighter to the horizon
    picture = sky.expand(n, 3, SIZE, SIZE)
    sun = (x - uniform(0.5, 7.5)).square() + (y - uniform(0.5, 2.5)).square() < uniform(0.8, 2)
    picture = paint(picture, sun, torch.tensor([1.0, 0.9, 0.3]).view(1, 3, 1, 1))
    picture = paint(picture, y >= horizon, light * torch.tensor([0.1, 0.4, 0.1]).view(1, 3, 1, 1))
    left, width, height = uniform(0.5, 4.5), uniform(2, 3), uniform(2, 3)
    inside = (x >= left) & (x < left + width)
    wall = inside & (y < horizon + 1) & (y >= horizon + 1 - height)
    roof = inside & (y < horizon + 1 - height) & (y >= horizon - height)
    picture = paint(picture, wall, WALLS[torch.randint(2, (n,), generator=rng)].view(n, 3, 1, 1))
    return 2 * paint(picture, roof, torch.tensor([0.3, 0.15, 0.1]).view(1, 3, 1, 1)).clamp(0, 1) - 1


def dct_matrix(n: int = BLOCK) -> Tensor:
    """Orthonormal DCT-II: C (n, n), so that C x is the transform of x (n,) and Cᵀ undoes it."""
    k, i = torch.arange(n)[:, None], torch.arange(n)[None]
    C = (math.pi * (2 * i + 1) * k / (2 * n)).cos() * math.sqrt(2 / n)
    return torch.where(k == 0, C / math.sqrt(2), C)


def jpeg(x: Tensor, quality: int) -> Tensor:
    """Round the DCT of each block of x (N, 3, 8, 8) to multiples that grow with frequency."""
    C, u = dct_matrix(), torch.arange(BLOCK)
    steps = (16 + 12 * (u[:, None] + u[None])) * 50 / quality * 2 / 255  # (4, 4), about JPEG's table at this quality
    blocks = x.unfold(2, BLOCK, BLOCK).unfold(3, BLOCK, BLOCK)  # (N, 3, 2, 2, 4, 4)
    rounded = C.T @ ((C @ blocks @ C.T / steps).round() * steps) @ C  # (N, 3, 2, 2, 4, 4)
    return rounded.permute(0, 1, 2, 4, 3, 5).reshape(x.shape).clamp(-1, 1)


def given_pixels(task: Task, n: int, share: float, rng: torch.Generator) -> Tensor:
    """1 where a pixel is given and stays, 0 where it is to be made, (n, 1, 8, 8)."""
    y, x = torch.arange(SIZE).view(1, 1, -1, 1), torch.arange(SIZE).view(1, 1, 1, -1)
    if task == "inpainting":  # a square hole anywhere, of about the share asked for
        side = round(SIZE * math.sqrt(share))
        top, left = (torch.randint(SIZE - side + 1, (n, 1, 1, 1), generator=rng) for _ in range(2))
        return (~((y >= top) & (y < top + side) & (x >= left) & (x < left + side))).float()
    if task == "uncropping":  # the right side is missing
        return (x < round(SIZE * (1 - share))).float().expand(n, 1, SIZE, SIZE)
    return torch.zeros(n, 1, SIZE, SIZE)  # every pixel is damaged


def damage(task: Task, x: Tensor, params: Params, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """The damaged picture that the network is shown (N, 3, 8, 8), and the given pixels (N, 1, 8, 8)."""
    given = given_pixels(task, len(x), params.hole, rng)
    if task == "colorization":
        return x.mean(dim=1, keepdim=True).expand(x.shape), given
    if task == "jpeg":
        return jpeg(x, params.quality), given
    return given * x, given  # Palette fills holes with noise; that they are marked instead is learned in fewer steps


@torch.no_grad()
def repair(network: UNet, seen: Tensor, given: Tensor, told: bool, alpha_bar: Tensor, dice: torch.Generator) -> Tensor:
    """Draw x from p(x | damaged picture) by DDIM; given pixels are put back at the end. (N, 3, 8, 8)."""
    x = torch.randn(seen.shape, generator=dice)
    for t, s in visits(T, PASSES):
        v = network(torch.cat([x, seen * told, given * told], dim=1), torch.full((len(x),), t / T))
        x = step_back(x, noise_of(x, v, alpha_bar[t]), alpha_bar[t], alpha_bar[s])
    return torch.where(given.bool(), seen, x)


def off(x: Tensor, truth: Tensor, made: Tensor) -> float:
    """Mean absolute error over the pixels to be made, in the range [0, 1] of a colour."""
    return ((x - truth).abs() * made).sum().item() / (2 * 3 * made.sum().item())


def picture(image: Tensor) -> list[list[list[float]]]:
    """One image (3, 8, 8) in [-1, 1] as rows of colours in [0, 1]."""
    return ((image.permute(1, 2, 0) + 1) / 2).clamp(0, 1).numpy().tolist()


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng, dice = (torch.Generator().manual_seed(2 * params.seed + odd) for odd in (0, 1))  # training; evaluation
    alpha_bar, network = make_schedule(), UNet(7, 3, rng, WIDTH)  # noisy colours, damaged ones, and which are given

    def draw_loss() -> Tensor:
        x0 = draw_scenes(BATCH, rng)
        damaged = [damage(task, x, params, rng) for task, x in zip(TASKS, x0.chunk(len(TASKS)), strict=True)]
        seen, given = (torch.cat(parts) for parts in zip(*damaged, strict=True))
        t = torch.randint(1, T + 1, (BATCH,), generator=rng)
        eps = torch.randn(x0.shape, generator=rng)
        guess = network(
            torch.cat([jump(x0, eps, alpha_bar[t]), torch.cat([seen, given], dim=1) * params.condition], dim=1), t / T
        )
        square = (guess - velocity(x0, eps, alpha_bar[t])).square() * (1 - given)  # only where something is to be made
        return square.sum() / (3 * (1 - given).sum())

    losses = train(network, draw_loss, params.steps, tick, part=(0.0, 0.8))
    truth = draw_scenes(TESTED, dice)
    rows, found = list[list[str | float]](), dict[Task, tuple[Tensor, Tensor, Tensor]]()
    errors, baselines = dict[Task, float](), dict[Task, float]()
    for n, task in enumerate(TASKS, start=1):
        seen, given = damage(task, truth, params, dice)
        draws = REPAIRS if task == params.task else 1
        repairs = torch.stack([repair(network, seen, given, params.condition, alpha_bar, dice) for _ in range(draws)])
        mean = (truth * given).sum((2, 3), keepdim=True) / given.sum((2, 3), keepdim=True).clamp(min=1)
        plain = mean.expand(truth.shape) if given.any() else seen  # a hole filled with the mean, or the damage as it is
        errors[task], baselines[task] = off(repairs[0], truth, 1 - given), off(plain, truth, 1 - given)
        rows.append([task, errors[task], baselines[task], errors[task] / baselines[task]])
        found[task] = seen, given, repairs
        tick(0.8 + 0.05 * n, task)

    seen, given, repairs = found[params.task]
    made = 1 - given
    deviation = repairs.std(dim=0) / 2  # (TESTED, 3, 8, 8)
    inside = (deviation * made).sum().item() / (3 * made.sum().item())
    kept = ((repairs - truth) * given).abs().max().item()
    at = list(range(25, params.steps + 1, 25))
    return Result(
        metrics=[
            Metric("error", errors[params.task], "of the range of a colour"),
            Metric("error of the baseline", baselines[params.task], "of the range of a colour"),
            Metric("kept", kept),
            Metric("deviation between repairs", inside, "of the range of a colour"),
        ],
        figures=[
            Images(
                f"{params.task}: damaged, three repairs, truth",
                [[picture(image) for image in (seen[n], *repairs[:, n], truth[n])] for n in range(6)],
                column_labels=["damaged", *(f"repair {n + 1}" for n in range(REPAIRS)), "truth"],
            ),
            Images(
                "The same model, all four repairs",
                [[picture(image) for image in (found[task][0][6], found[task][2][0, 6], truth[6])] for task in TASKS],
                row_labels=TASKS, column_labels=["damaged", "repair", "truth"],
            ),
            Lines("Loss over training", "training step", "mean square per colour", at,
                  {"mean of 25": torch.tensor(losses).unfold(0, 25, 25).mean(dim=1).numpy().tolist()}),
        ],
        tables=[Table("Mean absolute error over what was damaged", ["task", "repair", "baseline", "ratio"], rows)],
        claims=[
            Claim("The repair beats the mean fill, or the damaged image: error over error",
                  errors[params.task] / baselines[params.task], "<=", 0.7),
            Claim("Given pixels are unchanged: largest change", kept, "<=", 1e-6),
            Claim("Repairs of one picture differ in what was made: deviation over the range of a colour",
                  inside, ">=", 0.01),
        ],
    )  # fmt: skip
