"""DiffWave in small: tones from noise

Question: Does the same diffusion recipe work on waveforms?
Source: DiffWave: Kong et al. 2020, arXiv:2009.09761, §3 and Figure 2; WaveNet: van den Oord et al. 2016,
  arXiv:1609.03499, §2; velocity: Salimans, Ho 2022, arXiv:2202.00512, appendix D.
Watch: all samples of a tone come out of noise together, in a few dozen passes; the autoregressive twin writes the same
  waves one sample a pass. Take the dilation away: the network sees 13 samples, and the tone falls apart.
"""

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from demos.contract import Claim, DemoParams, Lines, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.ddpm import T, jump, make_schedule, noise_of, step_back, train, velocity, visits
from demos.shared.unet import embed_time

WIDTH, BATCH, LENGTH, PASSES, CLIPS = 24, 32, 128, 30, 24  # LENGTH of a clip in training
LOW, HIGH, NOISE = 0.03, 0.2, 0.05  # pitches in training, cycles a sample; deviation of the noise in a recording
DILATIONS = (1, 2, 4, 8, 16, 32)


class Params(DemoParams):
    model: Literal["diffusion", "autoregressive"] = Field("diffusion", description="Generator")
    pitch: float = Field(0.08, ge=LOW, le=HIGH, description="Pitch asked for, in cycles per sample")
    samples: int = Field(128, ge=128, le=1024, description="Length of a clip")
    dilated: bool = Field(True, description="Double the reach of the taps from layer to layer")
    told: bool = Field(True, description="Tell the network the pitch")
    steps: int = Field(400, ge=100, le=2000, description="Training steps")
    seed: int = Field(0, ge=0, le=9999, description="Seed of tones, weights and sampling")

    presets: ClassVar[Mapping[str, Preset]] = {
        "no dilation": Preset("Thirteen samples in view: the tone does not hold together", {"dilated": False}),
        "not told": Preset("Tones, but of any pitch", {"told": False}),
        "one sample a pass": Preset("The autoregressive twin on the same waves", {"model": "autoregressive"}),
    }


def draw_tones(pitch: Tensor, length: int, rng: torch.Generator) -> Tensor:
    """Tones (B, length) for pitches (B,): a wave and its octave, phases and loudness at random, and a little noise."""
    phase = 2 * math.pi * torch.rand(2, len(pitch), 1, generator=rng)
    angle = 2 * math.pi * pitch[:, None] * torch.arange(length)  # (B, length)
    loud = 0.5 + 0.3 * torch.rand(len(pitch), 1, generator=rng)
    wave = loud * ((angle + phase[0]).sin() + 0.25 * (2 * angle + phase[1]).sin())  # within [-1, 1]
    return wave + NOISE * torch.randn(wave.shape, generator=rng)


def taps(x: Tensor, dilation: int, causal: bool) -> Tensor:
    """Three samples for each place: itself and two at this distance, beside or (causal) before it; (B, C, L) -> 3C."""
    L = x.shape[2]
    left, right = (2 * dilation, 0) if causal else (dilation, dilation)
    padded = nn.functional.pad(x, (left, right))  # (B, C, L + 2 dilation)
    return torch.cat([padded[:, :, k * dilation : k * dilation + L] for k in range(3)], dim=1)  # (B, 3C, L)


class WaveNet(nn.Module):
    """Gated dilated convolutions with skips: ε̂'s network in DiffWave, the next sample's when causal."""

    def __init__(self, params: Params, rng: torch.Generator) -> None:
        super().__init__()
        self.causal = params.model == "autoregressive"
        self.dilations = DILATIONS if params.dilated else (1,) * len(DILATIONS)
        self.told = params.told
        self.first = nn.Linear(1, WIDTH)
        self.tell = nn.Linear(64, WIDTH)
        self.mix = nn.ModuleList([nn.Linear(3 * WIDTH, 2 * WIDTH) for _ in self.dilations])
        self.split = nn.ModuleList([nn.Linear(WIDTH, 2 * WIDTH) for _ in self.dilations])
        self.last = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.SiLU(), nn.Linear(WIDTH, 1))
        for weight in self.parameters():  # torch's usual range, from a generator of our own
            nn.init.zeros_(weight) if weight.dim() == 1 else nn.init.kaiming_uniform_(weight, a=5**0.5, generator=rng)

    def forward(self, x: Tensor, t: Tensor, pitch: Tensor) -> Tensor:
        """x (B, L), t (B,), pitch (B,) -> (B, L): v at each place, or (causal) the mean of the sample after it."""
        place = (pitch - LOW) / (HIGH - LOW) * self.told
        e = self.tell(torch.cat([embed_time(t, 32), embed_time(0.1 * place, 32)], dim=1))  # (B, WIDTH)
        h, skips = self.first(x[..., None]).transpose(1, 2), torch.zeros(())  # (B, WIDTH, L)
        for dilation, mix, split in zip(self.dilations, self.mix, self.split, strict=True):
            seen = taps(h + e[..., None], dilation, self.causal).transpose(1, 2)  # (B, L, 3 WIDTH)
            value, gate = mix(seen).chunk(2, dim=2)  # (B, L, WIDTH) each
            on, skip = split(value.tanh() * gate.sigmoid()).chunk(2, dim=2)
            h = (h + on.transpose(1, 2)) / math.sqrt(2)
            skips = skips + skip
        return self.last(skips / math.sqrt(len(self.dilations)))[..., 0]


def receptive_field(dilations: tuple[int, ...]) -> int:
    """Samples that one output depends on: 1 + Σ 2d."""
    return 1 + 2 * sum(dilations)


def seen_by_gradient(network: WaveNet, length: int) -> int:
    """The same, counted: inputs that have a gradient from one output, for random weights."""
    x = torch.linspace(-1, 1, length)[None].requires_grad_()
    out = network(x, torch.full((1,), 0.5), torch.full((1,), 0.1))
    (gradient,) = torch.autograd.grad(out[0, length - 1 if network.causal else length // 2], x)
    return int(gradient.count_nonzero())


@torch.no_grad()
def generate(network: WaveNet, pitch: Tensor, length: int, dice: torch.Generator) -> tuple[list[Tensor], int]:
    """Clips (B, length) as they come to be, and the number of network passes."""
    if not network.causal:
        alpha_bar, x = make_schedule(), torch.randn(len(pitch), length, generator=dice)
        path = [x]
        for t, s in visits(T, PASSES):
            v = network(x, torch.full((len(x),), t / T), pitch)
            x = step_back(x, noise_of(x, v, alpha_bar[t]), alpha_bar[t], alpha_bar[s])
            path.append(x)
        return path, len(path) - 1
    x = torch.zeros(len(pitch), length + 1)  # the first is a start that is no sample
    reach = receptive_field(network.dilations)
    for n in range(length):
        mean = network(x[:, max(0, n + 1 - reach) : n + 1], torch.zeros(len(x)), pitch)[:, -1]
        x[:, n + 1] = mean + NOISE * torch.randn(len(x), generator=dice)
    return [x[:, 1:]], length


def spectrum(x: Tensor) -> Tensor:
    """Power (B, length / 2 + 1) at 0, 1, 2 … cycles a clip, for x (B, length) without its mean."""
    return torch.tensor(np.abs(np.fft.rfft((x - x.mean(dim=1, keepdim=True)).numpy())) ** 2)


def measure(x: Tensor, pitch: float) -> tuple[float, float]:
    """Median distance of the spectral peak from the pitch in bins; mean share of power within two bins of the peak."""
    power = spectrum(x)  # (B, bins)
    peak = power.argmax(dim=1)
    near = (torch.arange(power.shape[1]) - peak[:, None]).abs() <= 2  # (B, bins)
    share = (power * near).sum(dim=1) / power.sum(dim=1)
    return (peak - pitch * x.shape[1]).abs().median().item(), share.mean().item()


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng, dice = (torch.Generator().manual_seed(2 * params.seed + odd) for odd in (0, 1))  # training; evaluation
    network, alpha_bar, length = WaveNet(params, rng), make_schedule(), params.samples
    seen, reach = seen_by_gradient(network, 256), receptive_field(network.dilations)

    def draw_loss() -> Tensor:
        pitch = LOW + (HIGH - LOW) * torch.rand(BATCH, generator=rng)
        x0 = draw_tones(pitch, LENGTH, rng)  # (B, LENGTH)
        if network.causal:  # from all samples before it, the next: Gaussian likelihood of fixed deviation
            before = nn.functional.pad(x0, (1, -1))
            return (x0 - network(before, torch.zeros(BATCH), pitch)).square().mean()
        t = torch.randint(1, T + 1, (BATCH,), generator=rng)
        eps = torch.randn(x0.shape, generator=rng)
        guess = network(jump(x0, eps, alpha_bar[t]), t / T, pitch)
        return (guess - velocity(x0, eps, alpha_bar[t])).square().mean()

    losses = train(network, draw_loss, params.steps, tick, part=(0.0, 0.8))
    asked = torch.full((CLIPS,), params.pitch)
    path, passes = generate(network, asked, length, dice)
    made, true = path[-1], draw_tones(asked, length, dice)
    error, share = measure(made, params.pitch)
    _, share_true = measure(true, params.pitch)
    tick(0.9, "generated")
    rows = list[list[float]]()
    for pitch in (0.05, 0.1, 0.15):
        other, _ = generate(network, torch.full((8,), pitch), length, dice)
        rows.append([pitch, *measure(other[-1], pitch)])
    kept = sorted({round((len(path) - 1) * part / 4) for part in (0, 2, 3, 4)})
    names = [f"after {n} passes" for n in kept] if len(path) > 1 else [f"after {passes} passes"]
    bins = length // 2
    at = list(range(20, params.steps + 1, 20))
    return Result(
        metrics=[
            Metric("pitch_error", error, "bins"),
            Metric("share of power at the peak", share),
            Metric("same of true tones", share_true),
            Metric("network passes for a clip", passes),
            Metric("samples in view", seen),
        ],
        figures=[
            Lines("One clip as it comes to be", "sample", "amplitude", list(range(128)),
                  {name: path[n][0, :128].numpy().tolist() for name, n in zip(names, kept, strict=True)}),
            Lines("Mean power spectrum", "cycles per sample", "share of power", [n / length for n in range(bins)], {
                name: (power / power.sum()).numpy().tolist() for name, power in (
                    ("generated", spectrum(made).mean(dim=0)[:bins]), ("true tones", spectrum(true).mean(dim=0)[:bins])
                )
            }),
            Lines("Loss over training", "training step", "mean square per sample", at,
                  {"mean of 20": torch.tensor(losses).unfold(0, 20, 20).mean(dim=1).numpy().tolist()}),
        ],
        tables=[Table("Other pitches", ["pitch asked for", "error in bins", "share of power at the peak"], rows)],
        claims=[
            Claim("The spectral peak is at the pitch asked for: median distance in bins", error, "<=", 1.0),
            Claim("The network sees as far as 1 + Σ 2d says: samples counted by gradient minus that",
                  seen - reach, "==", 0),
            Claim("Power is concentrated as in true tones: share at the peak over theirs",
                  share / share_true, ">=", 0.8),
        ],
    )  # fmt: skip
