"""DDPM with a U-Net on digits

Question: Is a small U-Net enough to draw digits from noise?
Source: Ho, Jain, Abbeel 2020, arXiv:2006.11239, Algorithms 1 and 2, eq. (14); averaged weights and the U-Net: its
  appendix B; fewer passes: Song, Meng, Ermon 2020, arXiv:2010.02502, eq. (12).
Watch: rough form comes first, strokes last; no label goes in, all ten digits come out. Fréchet distance looks at means
  and covariances only: a Gaussian of the data's own has nearly none and is no digit. Train too fast: the loss leaps.
"""

import time
from collections.abc import Mapping
from functools import partial
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from demos.contract import Bars, Claim, DemoParams, Images, Lines, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.ddpm import descend, jump, make_schedule, step_back, visits
from demos.shared.digits import load_digits
from demos.shared.unet import UNet

WIDTH, BATCH, SAMPLES, SMOOTH = 16, 128, 500, 20  # SMOOTH losses are averaged for a point of the curve


class Params(DemoParams):
    steps: int = Field(400, ge=100, le=3000, description="Training steps")
    timesteps: int = Field(200, ge=50, le=500, description="Number of noise levels T")
    sampler: Literal["ddpm", "ddim"] = Field("ddpm", description="Sampler: with fresh noise in each step, or without")
    sampling_steps: int = Field(50, ge=2, le=500, description="Network passes for an image (T when it is larger)")
    ema: float = Field(0.97, ge=0.0, le=0.999, description="Decay of the averaged weights; 0 takes the last ones")
    rate: float = Field(0.01, ge=0.0001, le=0.5, description="Highest learning rate")
    view: Literal["samples", "loss", "process"] = Field("samples", description="Which figure leads")
    seed: int = Field(0, ge=0, le=9999, description="Seed of data, weights and sampling")

    presets: ClassVar[Mapping[str, Preset]] = {
        "too fast": Preset("A learning rate 30 times as high: the loss leaps, samples suffer", {"rate": 0.3}),
        "hardly trained": Preset("After 100 steps: strokes, but few digits", {"steps": 100}),
        "three passes": Preset("Strides too long for a Gaussian step: smudges", {"sampling_steps": 3}),
        "ten passes of ddim": Preset("Without fresh noise ten passes do", {"sampler": "ddim", "sampling_steps": 10}),
    }


@torch.no_grad()
def sample(
    network: nn.Module, n: int, alpha_bar: Tensor, params: Params, passes: int, dice: torch.Generator
) -> tuple[Tensor, list[int], list[Tensor], list[Tensor]]:
    """Algorithm 2: n images (n, 1, 8, 8); the times visited; of the first eight images x_t and predicted x_0 there."""
    T = len(alpha_bar) - 1
    x = torch.randn(n, 1, 8, 8, generator=dice)
    times, noisy, clean = list[int](), list[Tensor](), list[Tensor]()
    for t, s in visits(T, passes):
        eps = network(x, torch.full((n,), t / T))
        times.append(t)
        noisy.append(x[:8])
        clean.append(step_back(x[:8], eps[:8], alpha_bar[t], alpha_bar[0]))  # in one stride to ᾱ = 1
        fresh = torch.randn(x.shape, generator=dice) if params.sampler == "ddpm" else None
        x = step_back(x, eps, alpha_bar[t], alpha_bar[s], fresh)
    return x, times, noisy, clean


def root(C: Tensor) -> Tensor:
    """Square root (d, d) of a symmetric matrix with no negative eigenvalue."""
    U, values, _ = C.svd()  # of such a matrix the eigenvectors and eigenvalues
    return U @ values.sqrt().diag() @ U.T


def frechet(x: Tensor, y: Tensor) -> float:
    """Fréchet distance ‖m − m'‖² + Tr(C + C' − 2 (C C')^½) of two sets of digits, the 64 pixels as features."""
    x, y = x.flatten(1).double(), y.flatten(1).double()  # (N, 64), (M, 64)
    C, C2 = x.T.cov(), y.T.cov()
    cross = (root(C) @ root(C2)).svd().S.sum()  # Tr (C C')^½
    return ((x.mean(dim=0) - y.mean(dim=0)).square().sum() + C.trace() + C2.trace() - 2 * cross).item()


def nearest(x: Tensor, digits: Tensor) -> tuple[Tensor, Tensor]:
    """Distance (N,) of each x (N, 1, 8, 8) to its nearest digit that is not x itself, and that digit's number (N,)."""
    distance = torch.cdist(x.flatten(1), digits.flatten(1))  # (N, M)
    distance, number = distance.masked_fill(distance < 1e-2, float("inf")).min(dim=1)
    return distance, number


def largest_jump(smoothed: Tensor) -> float:
    """The largest value of a loss curve (N,) over the smallest before it; 1 or less when it only falls."""
    return (smoothed[1:] / smoothed[:-1].cummin(dim=0).values).max().item()


@torch.no_grad()
def layer_table(network: UNet) -> list[list[str | int]]:
    """Name, output (channels, height, width; or length) and number of weights of each part, in the order of work."""
    rows = list[list[str | int]]()

    def note(name: str, part: nn.Module, _: tuple[Tensor, ...], out: Tensor) -> None:
        shape = "x".join(str(size) for size in out.shape[1:])
        rows.append([name, shape, sum(weight.numel() for weight in part.parameters())])

    hooks = [part.register_forward_hook(partial(note, name)) for name, part in network.named_children()]
    network(torch.zeros(1, 1, 8, 8), torch.zeros(1))
    for hook in hooks:
        hook.remove()
    return rows


def picture(image: Tensor) -> list[list[float]]:
    """Pixels of one image (1, 8, 8) in [-1, 1] as rows of grey values in [0, 1]."""
    return ((image[0] + 1) / 2).clamp(0, 1).numpy().tolist()


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng, dice = (torch.Generator().manual_seed(2 * params.seed + odd) for odd in (0, 1))  # training; evaluation
    pixels, labels = load_digits()
    digits = 2 * pixels - 1  # (1797, 1, 8, 8) in [-1, 1]
    T, alpha_bar = params.timesteps, make_schedule(params.timesteps)
    network, averaged = UNet(1, 1, rng, WIDTH), UNet(1, 1, rng, WIDTH)
    averaged.load_state_dict(network.state_dict())
    adam = torch.optim.Adam(network.parameters(), fused=True)
    rate = torch.optim.lr_scheduler.OneCycleLR(adam, max_lr=params.rate, total_steps=params.steps)
    losses = list[float]()
    for step in range(1, params.steps + 1):  # Algorithm 1
        x0 = digits[torch.randint(len(digits), (BATCH,), generator=rng)]  # (B, 1, 8, 8)
        t = torch.randint(1, T + 1, (BATCH,), generator=rng)
        eps = torch.randn(x0.shape, generator=rng)
        loss = (eps - network(jump(x0, eps, alpha_bar[t]), t / T)).square().mean()  # eq. (14), per pixel
        descend(network, adam, loss)
        rate.step()
        with torch.no_grad():
            for slow, weight in zip(averaged.parameters(), network.parameters(), strict=True):
                slow.lerp_(weight, 1 - params.ema)
        losses.append(loss.item())
        if step % 10 == 0:
            tick(0.8 * step / params.steps, f"training step {step}", loss=sum(losses[-10:]) / 10)

    calls = list[int]()

    def count(_: nn.Module, __: tuple[Tensor, ...], eps: Tensor) -> None:
        calls.append(len(eps))

    counter = averaged.register_forward_hook(count)
    images, times, noisy, clean = sample(averaged, SAMPLES, alpha_bar, params, params.sampling_steps, dice)
    counter.remove()
    tick(0.95, "sampled")
    seconds = list[float]()
    tried = [n for n in (5, 10, 20, 40, 80) if n <= T]
    for n in tried:
        start = time.perf_counter()
        sample(averaged, 50, alpha_bar, params, n, dice)
        seconds.append((time.perf_counter() - start) / 50)

    smoothed = torch.tensor(losses).unfold(0, SMOOTH, SMOOTH).mean(dim=1)  # (steps / SMOOTH,)
    leap = largest_jump(smoothed[50 // SMOOTH :])  # after the warm-up
    noise = torch.randn(images.shape, generator=dice)
    flat = digits.flatten(1)
    blob = (flat.mean(dim=0) + noise.flatten(1) @ root(flat.T.cov())).clamp(-1, 1)  # (500, 64): all a Gaussian knows
    distance, number = nearest(images, digits)
    among_real, _ = nearest(digits[:SAMPLES], digits)
    from_blob, _ = nearest(blob, digits)
    counts = labels[number].bincount(minlength=10) / SAMPLES  # (10,): the class is that of the nearest digit
    real_counts = labels.bincount(minlength=10) / len(labels)
    d_noise = frechet(noise, digits)
    gap = frechet(images, digits) / d_noise
    closer = (distance.mean() / from_blob.mean()).item()
    shown = sorted({round((len(times) - 1) * part / 9) for part in range(10)})
    at = [SMOOTH * (n + 1) for n in range(len(smoothed))]
    hundred = [[picture(image) for image in images[n : n + 10]] for n in range(0, 100, 10)]
    by_view = {
        "samples": Images("A hundred of the five hundred digits drawn", hundred),
        "loss": Lines(
            "Loss over training", "training step", "mean square per pixel", at,
            {f"mean of {SMOOTH} steps": smoothed.numpy().tolist(),
             "smallest so far": smoothed.cummin(dim=0).values.numpy().tolist()},
        ),
        "process": Images(
            "Two digits over the steps: x_t, and the x_0 predicted from it",
            [[picture(frames[k][n]) for k in shown] for n in (0, 1) for frames in (noisy, clean)],
            ["x_t", "predicted x_0"] * 2, [f"t = {times[k]}" for k in shown],
        ),
    }  # fmt: skip
    return Result(
        metrics=[
            Metric("frechet", gap, "of that of noise"),
            Metric("frechet of the Gaussian", frechet(blob, digits) / d_noise, "of that of noise"),
            Metric("distance to the nearest real digit", (distance.mean() / among_real.mean()).item(), "of real's"),
            Metric("same for the Gaussian", (from_blob.mean() / among_real.mean()).item(), "of real's"),
            Metric("largest jump of the smoothed loss", leap, "times the smallest before"),
            Metric("loss at the end", smoothed[-1].item()),
            Metric("smallest share of a digit", counts.min().item()),
            Metric("seconds_per_image", seconds[-1], f"s at {tried[-1]} passes"),
        ],
        figures=[
            by_view[params.view],
            *(figure for view, figure in by_view.items() if view != params.view),
            Bars("What comes out, by the nearest real digit", "digit", "share", [str(n) for n in range(10)],
                 {"samples": counts.numpy().tolist(), "data": real_counts.numpy().tolist()}),
            Lines("Time of one image", "network passes", "s", tried, {"measured": seconds}),
        ],
        tables=[Table("The U-Net, in the order of its work", ["part", "output", "parameters"], layer_table(averaged))],
        claims=[
            Claim("All ten digits appear: smallest share among 500 samples", counts.min().item(), ">=", 0.02),
            Claim("Means and covariances are those of digits: Fréchet distance over that of noise", gap, "<=", 0.03),
            Claim("Samples are nearer to real digits than a Gaussian's: distance over distance", closer, "<=", 0.92),
            Claim("The smoothed loss never leaps: largest value over the smallest before", leap, "<=", 1.5),
            Claim("Work is the number of passes: network calls minus passes asked for",
                  len(calls) - min(params.sampling_steps, T), "==", 0),
        ],
    )  # fmt: skip
