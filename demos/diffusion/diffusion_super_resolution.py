"""SR3 and the cascade

Question: Can diffusion refine a small image into a large one, and can stages be chained?
Source: SR3: Saharia et al. 2021, arXiv:2104.07636, §2; cascades, noise on the small image: Ho et al. 2021,
  arXiv:2106.15282, §3; v in place of ε: Salimans, Ho 2022, arXiv:2202.00512, appendix D.
Watch: detail comes out of noise with the small image always in view. Outputs agree once shrunk and differ in what the
  small image does not tell. Hide the small image and sharp digits come out, but other ones.
"""

import math
from collections.abc import Callable, Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

from demos.contract import Claim, DemoParams, Images, Lines, Metric, Preset, Result, Tick, no_tick
from demos.shared.ddpm import T, jump, make_schedule, noise_of, step_back, train, velocity, visits
from demos.shared.digits import load_digits
from demos.shared.unet import UNet

WIDTH, BATCH, TRAIN, TESTED, DRAWS, NO_LABEL = 16, 128, 1_600, 60, 4, 10


class Params(DemoParams):
    mode: Literal["sr3", "cascade"] = Field("sr3", description="Refine real small images, or generated ones")
    augment: float = Field(0.1, ge=0.0, le=0.5, description="Deviation of noise on the small image in training")
    label: int = Field(-1, ge=-1, le=9, description="Class for the base stage of the cascade; -1 is none")
    condition: bool = Field(True, description="Let the refiner see the small image")
    steps: int = Field(300, ge=100, le=2000, description="Training steps of each stage")
    sampling_steps: int = Field(30, ge=5, le=200, description="Network passes of each stage")
    seed: int = Field(0, ge=0, le=9999, description="Seed of data, weights and sampling")

    presets: ClassVar[Mapping[str, Preset]] = {
        "blind": Preset("Without the small image in view the output is some other digit", {"condition": False}),
        "cascade": Preset("Draw 4x4 digits, then refine them", {"mode": "cascade"}),
        "sevens": Preset("A label for the base stage; the refiner needs none", {"mode": "cascade", "label": 7}),
        "distrust": Preset("Much noise on the small image: the refiner follows it less", {"augment": 0.5}),
    }


class Base(nn.Module):
    """The first stage: a U-Net on 4x4 pixels that is told a class, or NO_LABEL."""

    def __init__(self, rng: torch.Generator) -> None:
        super().__init__()
        self.unet = UNet(1, 1, rng, WIDTH)
        self.classes = nn.Embedding(NO_LABEL + 1, 4 * WIDTH)
        nn.init.normal_(self.classes.weight, generator=rng)

    def forward(self, x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        """x (B, 1, 4, 4), t (B,), label (B,) -> v (B, 1, 4, 4)."""
        return self.unet(x, t, self.classes(label))


def shrink(x: Tensor) -> Tensor:
    """Mean of each 2x2 block: (N, 1, 8, 8) -> (N, 1, 4, 4)."""
    return avg_pool2d(x, 2)


def enlarge(x: Tensor) -> Tensor:
    """Bicubic: (N, 1, 4, 4) -> (N, 1, 8, 8)."""
    return interpolate(x, scale_factor=2, mode="bicubic")


@torch.no_grad()
def sample(
    predict_v: Callable[[Tensor, Tensor], Tensor], x: Tensor, passes: int, alpha_bar: Tensor
) -> tuple[Tensor, list[int], list[Tensor]]:
    """DDIM from noise x (N, 1, S, S): the images, the times visited, and x_0 as predicted at each."""
    times, guesses = list[int](), list[Tensor]()
    for t, s in visits(T, passes):
        a = alpha_bar[t]
        eps = noise_of(x, predict_v(x, torch.full((len(x),), t / T)), a)
        times.append(t)
        guesses.append(step_back(x, eps, a, alpha_bar[0]))
        x = step_back(x, eps, a, alpha_bar[s])
    return x, times, guesses


def gradient_energy(x: Tensor) -> float:
    """Mean square difference of neighbouring pixels: what blur takes away."""
    return (x.diff(dim=2).square().mean() + x.diff(dim=3).square().mean()).item()


def psnr(x: Tensor, truth: Tensor) -> float:
    """Peak signal to noise ratio in dB, for pixels in [-1, 1]."""
    return 10 * math.log10(4 / (x - truth).square().mean().item())


def picture(image: Tensor) -> list[list[float]]:
    """Pixels of one image (1, S, S) in [-1, 1] as rows of grey values in [0, 1], always 8x8."""
    return ((interpolate(image[None], size=8)[0, 0] + 1) / 2).clamp(0, 1).numpy().tolist()


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng, dice = (torch.Generator().manual_seed(2 * params.seed + odd) for odd in (0, 1))  # training; evaluation
    pixels, labels = load_digits()
    digits = 2 * pixels - 1  # (1797, 1, 8, 8) in [-1, 1]
    alpha_bar, cascade = make_schedule(), params.mode == "cascade"
    refiner, base = UNet(2, 1, rng, WIDTH), Base(rng)

    def refine(x: Tensor, t: Tensor, small: Tensor) -> Tensor:
        """v (B, 1, 8, 8) for noisy x (B, 1, 8, 8) beside the enlarged small image (B, 1, 4, 4)."""
        return refiner(torch.cat([x, enlarge(small) * params.condition], dim=1), t)

    def draw() -> tuple[Tensor, Tensor, Tensor]:
        """Digits (B, 1, 8, 8), their labels (B,) and times (B,)."""
        rows = torch.randint(TRAIN, (BATCH,), generator=rng)
        return digits[rows], labels[rows], torch.randint(1, T + 1, (BATCH,), generator=rng)

    def refiner_loss() -> Tensor:
        x0, _, t = draw()
        eps = torch.randn(x0.shape, generator=rng)
        small = shrink(x0)
        small = small + params.augment * torch.randn(small.shape, generator=rng)  # real or drawn: it is never perfect
        v = refine(jump(x0, eps, alpha_bar[t]), t / T, small)
        return (v - velocity(x0, eps, alpha_bar[t])).square().mean()

    def base_loss() -> Tensor:
        x0, label, t = draw()
        x0 = shrink(x0)
        label = torch.where(torch.rand(BATCH, generator=rng) < 0.1, NO_LABEL, label)  # so that it can do without
        eps = torch.randn(x0.shape, generator=rng)
        v = base(jump(x0, eps, alpha_bar[t]), t / T, label)
        return (v - velocity(x0, eps, alpha_bar[t])).square().mean()

    losses = {"refiner": train(refiner, refiner_loss, params.steps, tick, part=(0.0, 0.6 if cascade else 0.9))}
    truth = digits[TRAIN : TRAIN + TESTED]  # (TESTED, 1, 8, 8), never trained on
    small = shrink(truth)
    if cascade:
        losses["base"] = train(base, base_loss, params.steps, tick, part=(0.6, 0.9))
        label = torch.full((TESTED,), params.label if params.label >= 0 else NO_LABEL)
        start = torch.randn(small.shape, generator=dice)
        small, _, _ = sample(lambda x, t: base(x, t, label), start, params.sampling_steps, alpha_bar)
    start = torch.randn(DRAWS * TESTED, 1, 8, 8, generator=dice)
    view = small.repeat(DRAWS, 1, 1, 1)
    outputs, times, guesses = sample(lambda x, t: refine(x, t, view), start, params.sampling_steps, alpha_bar)
    draws = outputs.view(DRAWS, TESTED, 1, 8, 8)
    plain = enlarge(small)
    consistency = ((shrink(outputs) - view).square().mean() / small.var()).item()
    varied = draws.std(dim=0).mean().item() / 2
    energy = {
        name: gradient_energy(x) / gradient_energy(digits) for name, x in (("refined", outputs), ("plain", plain))
    }
    # how much nearer to 1 the refined ratio is than the bicubic one
    blur = abs(math.log(energy["refined"])) / abs(math.log(energy["plain"]))
    shown = sorted({round((len(times) - 1) * part / 5) for part in range(6)})
    columns = ["small", *(f"x_0 at t = {times[k]}" for k in shown), "output", "bicubic"]
    rows = [[small[n], *(guesses[k][n] for k in shown), outputs[n], plain[n]] for n in range(6)]
    variants = [[small[n], *draws[:, n]] for n in range(6)]
    metrics = [
        Metric("consistency", consistency, "of the variance"),
        Metric("deviation between outputs for one input", varied, "of white"),
        Metric("gradient energy of outputs", energy["refined"], "of real digits'"),
        Metric("gradient energy of bicubic", energy["plain"], "of real digits'"),
    ]
    if not cascade:  # only a real small image has a truth
        columns.append("truth")
        rows = [[*row, truth[n]] for n, row in enumerate(rows)]
        variants = [[*row, truth[n]] for n, row in enumerate(variants)]
        metrics += [
            Metric("psnr", psnr(draws[0], truth), "dB"),
            Metric("psnr of the mean of four outputs", psnr(draws.mean(dim=0), truth), "dB"),
            Metric("psnr of bicubic", psnr(plain, truth), "dB"),
        ]
    at = list(range(20, params.steps + 1, 20))
    return Result(
        metrics=metrics,
        figures=[
            Images("Refinement", [[picture(image) for image in row] for row in rows], column_labels=columns),
            Images(
                "Several outputs for one small image", [[picture(image) for image in row] for row in variants],
                column_labels=["small", *(f"output {n + 1}" for n in range(DRAWS)), *(["truth"] * (not cascade))],
            ),
            Lines("Loss over training, means of 20 steps", "training step", "mean square per pixel", at, {
                name: torch.tensor(loss).unfold(0, 20, 20).mean(dim=1).numpy().tolist() for name, loss in losses.items()
            }),
        ],
        claims=[
            Claim("Shrinking the output gives the input back: mean square off, over the variance",
                  consistency, "<=", 0.1),
            Claim("Outputs have real digits' gradient energy, bicubic lacks it: log-ratio over log-ratio",
                  blur, "<=", 0.5),
            Claim("Outputs differ where the small image is silent: deviation, of white", varied, ">=", 0.02),
        ],
    )  # fmt: skip
