"""What latent space saves

Question: How do time, memory and operations of a denoiser fall with the downsampling factor?
Source: Rombach et al. 2021, arXiv:2112.10752, §3.1 (factor f = H / h) and §4.1; the noise-prediction loss is eq. (2);
  self-attention: Vaswani et al. 2017, arXiv:1706.03762, eq. (1) and table 1.
Watch: one network, the same training step, on pixels and on latents 2, 4 and 8 times smaller a side: convolutions fall
  with the square of the factor, self-attention with its fourth power. Counts are exact at any size, seconds are of
  images of at most 64 pixels a side.
"""

import math
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from demos.contract import Bars, Claim, DemoParams, Lines, Metric, Preset, Result, Table, Tick, no_tick

FACTORS, SIZES = [1, 2, 4, 8], [256, 512, 1024]  # factors compared; image sizes of the second table
LARGEST_RUN, REPEATS = 64, 5  # attention over 128x128 pixels alone would keep 2 GiB for the backward pass


class Params(DemoParams):
    image_size: int = Field(
        64, ge=32, le=1024, description="Image side, cut to a multiple of 16; above 64 only counted"
    )
    factor: int = Field(8, ge=1, le=16, description="Downsampling factor f whose cost is set against that of pixels")
    channels: int = Field(16, ge=8, le=64, description="U-Net width C")
    attention: bool = Field(True, description="Self-attention between all positions of the latent")
    seed: int = Field(0, ge=0, le=9999, description="Seed of the weights, image, noise and step")

    presets: ClassVar[Mapping[str, Preset]] = {
        "no attention": Preset("Convolutions alone: nothing falls with the fourth power", {"attention": False}),
        "pixels": Preset("Factor 1 is no compression: every ratio is 1", {"factor": 1}),
        "a thousand pixels": Preset("Attention over pixels would keep terabytes", {"image_size": 1024}),
    }


class ResBlock(nn.Module):
    """Two 3x3 convolutions with the time added between them: (B, c_in, n, n), (B, C) -> (B, c_out, n, n)."""

    def __init__(self, c_in: int, c_out: int, C: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(1, c_in), nn.Conv2d(c_in, c_out, 3, padding=1)
        self.norm2, self.conv2 = nn.GroupNorm(1, c_out), nn.Conv2d(c_out, c_out, 3, padding=1)
        self.time = nn.Linear(C, c_out)
        self.skip = nn.Identity() if c_in == c_out else nn.Conv2d(c_in, c_out, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x))) + self.time(time)[..., None, None]
        return self.skip(x) + self.conv2(F.silu(self.norm2(h)))


class Attention(nn.Module):
    """Self-attention between all N = n² positions, one head: (B, C, n, n) -> (B, C, n, n)."""

    def __init__(self, C: int) -> None:
        super().__init__()
        self.norm, self.qkv, self.out = nn.GroupNorm(1, C), nn.Conv2d(C, 3 * C, 1), nn.Conv2d(C, C, 1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).flatten(2).chunk(3, dim=1)  # (B, C, N) each
        weights = (q.mT @ k / math.sqrt(q.shape[1])).softmax(dim=-1)  # (B, N, N): the table that grows with n⁴
        return x + self.out((v @ weights.mT).view_as(x))


class UNet(nn.Module):
    """Predicts the noise of z_t (B, c, n, n) at step t (B,): two levels, attention at the upper one."""

    def __init__(self, c: int, C: int, attention: bool) -> None:
        super().__init__()
        self.enter, self.leave = nn.Conv2d(c, C, 3, padding=1), nn.Conv2d(C, c, 3, padding=1)
        self.above, self.below, self.joined = ResBlock(C, C, C), ResBlock(2 * C, 2 * C, C), ResBlock(2 * C, C, C)
        self.attention = Attention(C) if attention else nn.Identity()
        self.down, self.up = nn.Conv2d(C, 2 * C, 3, stride=2, padding=1), nn.Conv2d(2 * C, C, 3, padding=1)

    def forward(self, z_t: Tensor, t: Tensor) -> Tensor:
        half = self.enter.out_channels // 2
        angle = t[:, None] * torch.logspace(0, -4, half, device=t.device)  # (B, C / 2)
        time = F.pad(torch.cat([angle.sin(), angle.cos()], dim=1), (0, self.enter.out_channels % 2))  # (B, C)
        h = self.attention(self.above(self.enter(z_t), time))  # (B, C, n, n)
        low = self.below(self.down(h), time)  # (B, 2C, n/2, n/2)
        risen = self.up(F.interpolate(low, scale_factor=2.0))  # (B, C, n, n)
        return self.leave(self.joined(torch.cat([h, risen], dim=1), time))  # (B, c, n, n)


def latent_shape(size: int, factor: int) -> tuple[int, int, int]:
    """What the denoiser works on: 3 x size x size pixels at factor 1, else 4 latent channels of an even side."""
    side = 2 * round(size / factor / 2)
    return (3 if factor == 1 else 4), side, side


def operations(shape: tuple[int, int, int], C: int, attention: bool) -> tuple[int, int]:
    """Multiplications and additions of one forward pass: of its convolutions, and of attention's two products."""
    c, n, _ = shape
    m = n // 2  # side of the lower level
    layers = [  # kernel, channels in, channels out, side
        (3, c, C, n), (3, C, C, n), (3, C, C, n),  # enter, above
        (3, C, 2 * C, m), (3, 2 * C, 2 * C, m), (3, 2 * C, 2 * C, m), (3, 2 * C, C, n),  # down, below, up
        (3, 2 * C, C, n), (3, C, C, n), (1, 2 * C, C, n), (3, C, c, n),  # joined with its skip, leave
        *([(1, C, 3 * C, n), (1, C, C, n)] if attention else []),
    ]  # fmt: skip
    convolution = sum(2 * k * k * c_in * c_out * side**2 for k, c_in, c_out, side in layers)
    return convolution, 2 * (2 * n**4 * C) if attention else 0  # QKᵀ and weights·V, N² C products each


@dataclass(frozen=True, slots=True)
class Cost:
    """One training step on one image, in operations, as torch counts them, and the bytes that backward needs."""

    convolution: int
    attention: int
    forward: int
    step: int
    memory_bytes: int


def training_step(unet: UNet, z_0: Tensor, noise: Tensor, t: Tensor) -> None:
    """Forward and backward through ‖ε − ε_θ(z_t, t)‖², eq. (2), with ᾱ falling as a cosine from 1 to 0 at t = 1000."""
    angle = t[:, None, None, None] / 1000 * math.pi / 2
    z_t = angle.cos() * z_0 + angle.sin() * noise
    torch.autograd.backward(F.mse_loss(unet(z_t, t), noise))


def measure_cost(shape: tuple[int, int, int], C: int, attention: bool) -> Cost:
    """Count a step at any size: on the "meta" device tensors have shapes and no values, so nothing is computed."""
    kept: dict[int, torch.UntypedStorage] = {}  # each memory block once, however many views of it are saved

    def keep(saved: Tensor) -> Tensor:
        kept[id(saved.untyped_storage())] = saved.untyped_storage()
        return saved

    with torch.device("meta"):
        unet, z, t = UNet(shape[0], C, attention), torch.empty(1, *shape), torch.empty(1)
        with FlopCounterMode(display=False) as forward:
            unet(z, t)
        with FlopCounterMode(display=False) as step, saved_tensors_hooks(keep, lambda saved: saved):
            training_step(unet, z, z, t)
    weights = {id(weight.untyped_storage()) for weight in unet.parameters()}
    of = {str(op): count for op, count in forward.get_flop_counts()["Global"].items()}
    memory = sum(block.nbytes() for name, block in kept.items() if name not in weights)
    total, both = forward.get_total_flops(), step.get_total_flops()
    return Cost(of["aten.convolution"], of.get("aten.bmm", 0), total, both, memory)


def measure_seconds(shapes: list[tuple[int, int, int]], params: Params, tick: Tick) -> tuple[list[float], list[float]]:
    """Median CPU seconds of a forward pass (a sampling step) and of a training step; the shapes take turns."""
    rng = torch.Generator().manual_seed(params.seed)
    unets = [UNet(shape[0], params.channels, params.attention) for shape in shapes]
    for weight in (weight for unet in unets for weight in unet.parameters()):
        nn.init.normal_(weight, std=0.05, generator=rng)
    passes, steps = [[list[float]() for _ in shapes] for _ in range(2)]
    for repeat in range(1 + REPEATS):  # the first warms up and is dropped
        for i, (unet, shape) in enumerate(zip(unets, shapes, strict=True)):
            z_0, noise = torch.randn(2, 1, *shape, generator=rng)
            t = torch.randint(1, 1001, (1,), generator=rng)
            times = min(
                16, (shapes[0][1] // shape[1]) ** 2
            )  # in a row, as some clocks count only hundredths of a second
            began = time.process_time()  # not the clock on the wall: another program's turn must not count
            with torch.no_grad():
                for _ in range(times):
                    unet(z_0, t)
            between = time.process_time()
            for _ in range(times):
                training_step(unet, z_0, noise, t)
            ended = time.process_time()
            if repeat:
                passes[i].append((between - began) / times)
                steps[i].append((ended - between) / times)
        tick(0.2 + 0.8 * (repeat + 1) / (1 + REPEATS), f"repetition {repeat} of {REPEATS}")
    return [statistics.median(some) for some in passes], [statistics.median(some) for some in steps]


def run(params: Params, tick: Tick = no_tick) -> Result:
    size, C = params.image_size // 16 * 16, params.channels
    factors = sorted({*FACTORS, params.factor})
    shapes = {f: latent_shape(size, f) for f in factors}
    costs = {f: measure_cost(shapes[f], C, params.attention) for f in factors}
    formulas = {f: operations(shapes[f], C, params.attention) for f in factors}
    tick(0.2, "operations counted")
    pixel, latent = costs[1], costs[params.factor]

    def law(counted: str, power: int) -> float:
        """How far the count is from falling with this power of the factor: largest relative distance over 2, 4, 8."""
        falls = {f: getattr(pixel, counted) / max(1, getattr(costs[f], counted)) for f in FACTORS[1:]}
        return max(abs(fall / f**power - 1) for f, fall in falls.items())

    counted_gap = max(
        abs(ours / max(1, theirs) - 1) if ours or theirs else 0.0
        for f in factors
        for ours, theirs in zip(formulas[f], (costs[f].convolution, costs[f].attention), strict=True)
    )
    run_size = min(size, LARGEST_RUN)
    passes, steps = measure_seconds([latent_shape(run_size, f) for f in factors], params, tick)
    seconds = dict(zip(factors, steps, strict=True))
    values = {f: math.prod(latent_shape(512, f)) for f in (1, 8)}

    names = [f"factor {f}" for f in factors]
    mib = [costs[f].memory_bytes / 2**20 for f in factors]
    relative = {
        "convolutions": [costs[f].convolution / pixel.convolution for f in factors],
        **({"self-attention": [costs[f].attention / pixel.attention for f in factors]} if params.attention else {}),
        "memory for the backward pass": [costs[f].memory_bytes / pixel.memory_bytes for f in factors],
        f"CPU seconds at {run_size} pixels": [seconds[f] / seconds[1] for f in factors],
    }
    at_size = {s: measure_cost(latent_shape(s, params.factor), C, params.attention) for s in SIZES}
    return Result(
        metrics=[
            Metric("ratio", pixel.step / latent.step, "operations of a training step on pixels over latents"),
            Metric("ratio of convolutions", pixel.convolution / latent.convolution),
            Metric("ratio of attention", pixel.attention / max(1, latent.attention)),
            Metric("ratio of memory", pixel.memory_bytes / latent.memory_bytes),
            Metric("ratio of seconds", seconds[1] / seconds[params.factor], "CPU seconds of a training step"),
        ],
        claims=[
            Claim("512x512x3 pixels are so many times the values of 64x64x4 latents", values[1] / values[8], "==", 48),
            Claim("The formulas give what torch counts: largest relative difference", counted_gap, "<=", 1e-9),
            Claim("Convolutions fall with the square of the factor: relative error", law("convolution", 2), "<=", 0.02),
            Claim("Attention falls with its fourth power: relative error", law("attention", 4), "<=", 0.001),
            Claim(
                "A training step costs three forward passes: relative error",
                abs(latent.step / latent.forward / 3 - 1), "<=", 0.02,
            ),
            Claim("Factor 8 keeps less for the backward pass: memory of pixels over it",
                  pixel.memory_bytes / costs[8].memory_bytes, ">=", 55),
            Claim("Factor 4 is measurably faster: CPU seconds of pixels over its own",
                  seconds[1] / seconds[4], ">=", 5),
        ],
        figures=[
            Lines("Cost of a training step, as a share of that on pixels", x="downsampling factor", y="share",
                  at=factors, series=relative, log="xy"),
            Bars(f"Memory that the backward pass needs, {size}x{size} image", x="", y="MiB", labels=names,
                 series={"activations": mib}),
            Bars(f"CPU seconds of one step, {run_size}x{run_size} image", x="", y="s", labels=names,
                 series={"forward pass (sampling)": passes, "training step": steps}),
        ],
        tables=[
            Table(
                f"One {size}x{size} image",
                ["factor", "denoised", "values", "convolutions, MFLOP", "attention, MFLOP", "training step, MFLOP",
                 "kept for backward, MiB", f"training step at {run_size} pixels, CPU s"],
                [[f, "x".join(map(str, shapes[f])), math.prod(shapes[f]), costs[f].convolution / 1e6,
                  costs[f].attention / 1e6, costs[f].step / 1e6, costs[f].memory_bytes / 2**20, seconds[f]]
                 for f in factors],
            ),
            Table(
                f"Larger images at factor {params.factor}, counted",
                ["image", "denoised", "convolutions, MFLOP", "attention, MFLOP", "training step, MFLOP"],
                [[s, "x".join(map(str, latent_shape(s, params.factor))), cost.convolution / 1e6, cost.attention / 1e6,
                  cost.step / 1e6] for s, cost in at_size.items()],
            ),
        ],
    )  # fmt: skip
