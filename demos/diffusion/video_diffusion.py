"""Masked diffusion over frames

Question: Can one model predict, fill in and extend video by hiding different frames?
Source: random masks of past and future: Voleti et al. 2022 (MCVD), arXiv:2205.09853, §3; subsets of frames, key frames
  first: Harvey et al. 2022, arXiv:2205.11495, §3–4; video diffusion: Ho et al. 2022, arXiv:2204.03458.
Watch: a frame is one line of pixels, so a clip is a picture, time running down, and a bouncing ball a zigzag. Blue
  frames are given, orange ones made, by one network for all masks. Window after window errors add up; key frames first
  stay nearer to the path at the end, unless the network was trained on consecutive frames only.
"""

import itertools
from collections.abc import Mapping
from typing import ClassVar, Literal, get_args

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import layer_norm, silu

from demos.contract import Claim, DemoParams, Images, Lines, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.ddpm import T, jump, make_schedule, noise_of, step_back, velocity, visits
from demos.shared.transformer import train
from demos.shared.unet import embed_time

PIXELS, LOW, HIGH = 12, 1.0, 10.0  # pixels of a frame; where the ball's middle turns round
SLOW, FAST = 0.5, 1.2  # speeds, pixels a frame
HIDDEN, BATCH, RATE, PASSES, CLIPS = 256, 128, 4e-3, 20, 300
Mode = Literal["predict", "interpolate", "unconditional", "long", "hierarchical"]
MODES: tuple[Mode, ...] = get_args(Mode)
ALPHA_BAR = make_schedule()


class Params(DemoParams):
    mode: Mode = Field("predict", description="Which frames are hidden in the first figure and in motion_error")
    frames: int = Field(6, ge=5, le=10, description="Frames that the network handles at once: its window")
    length: int = Field(12, ge=6, le=24, description="Frames of a long clip")
    steps: int = Field(1000, ge=100, le=2500, description="Training steps")
    future: bool = Field(True, description="In training a later frame is given, too, in half of the clips")
    sparse: bool = Field(True, description="Half of the training windows are frames picked from the whole clip")
    seed: int = Field(0, ge=0, le=9999, description="Random seed of data, weights and sampling")

    presets: ClassVar[Mapping[str, Preset]] = {
        "past only": Preset("No frame after the hidden ones was ever given: it cannot interpolate", {"future": False}),
        "consecutive only": Preset("Key frames far apart are unlike all it saw: worse than window after window",
                                   {"sparse": False, "mode": "hierarchical"}),
        "from nothing": Preset("All frames hidden: how balls move is all it has", {"mode": "unconditional"}),
    }  # fmt: skip

    @model_validator(mode="after")
    def _a_window_fits(self) -> "Params":
        longest = 2 + (self.frames - 2) ** 2  # beyond that a gap between key frames does not fit into a window
        if not self.frames <= self.length <= longest:
            raise ValueError(f"length must be {self.frames} to {longest} for {self.frames} frames; got {self.length}")
        return self


def path(place: Tensor, speed: Tensor, n: int) -> Tensor:
    """Where balls (B,) that bounce between two walls are in frames 0 to n - 1, (B, n)."""
    way = (place[:, None] - LOW + speed[:, None] * torch.arange(n)).remainder(2 * (HIGH - LOW))
    return HIGH - (way - (HIGH - LOW)).abs()  # there and back


def draw_paths(B: int, n: int, rng: torch.Generator) -> Tensor:
    """Paths (B, n) of balls at any place, of any speed, to either side."""
    place, speed, side = torch.rand(3, B, generator=rng)
    return path(LOW + (HIGH - LOW) * place, (SLOW + (FAST - SLOW) * speed) * (2 * side.round() - 1), n)


def film(paths: Tensor) -> Tensor:
    """Frames (…, 12) in [-1, 1] of a ball at each place (…), a Gaussian of deviation 0.8 pixels."""
    return 2 * (-(paths[..., None] - torch.arange(PIXELS)).square() / (2 * 0.8**2)).exp() - 1


def find_ball(frames: Tensor) -> Tensor:
    """Middle of what is bright in frames (…, 12), in pixels (…)."""
    light = ((frames + 1) / 2 - 0.1).clamp(min=0)
    return light @ torch.arange(PIXELS).float() / light.sum(dim=-1).clamp(min=1e-6)


class Denoiser(nn.Module):
    """Velocity of all frames at once; it is told which are given and which to make, and sees nothing of the others."""

    def __init__(self, length: int, rng: torch.Generator) -> None:
        super().__init__()
        self.first = nn.Linear(length * (PIXELS + 2) + 32, HIDDEN)
        self.middle = nn.ModuleList(nn.Linear(HIDDEN, HIDDEN) for _ in range(3))
        self.last = nn.Linear(HIDDEN, length * PIXELS)
        for weight in self.parameters():  # torch's usual range, from a generator of our own
            nn.init.zeros_(weight) if weight.dim() == 1 else nn.init.kaiming_uniform_(weight, a=5**0.5, generator=rng)

    def forward(self, x: Tensor, given: Tensor, asked: Tensor, t: Tensor) -> Tensor:
        """x (B, L, 12), given and asked (B, L) of 0 and 1, t (B,) in [0, 1] -> (B, L, 12)."""
        seen = (x * (given + asked)[:, :, None]).flatten(1)
        h = self.first(torch.cat([seen, given, asked, embed_time(t, 32)], dim=1))
        for layer in self.middle:
            h = h + layer(silu(layer_norm(h, (HIDDEN,))))
        return self.last(silu(h)).view(x.shape)


def draw_masks(B: int, params: Params, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Frames given and frames asked (B, L). A window is the first 4 to `frames` frames of the clip, or that many picked
    from all of it; given are none, one or two of its first frames, and the last or not."""
    L = params.length
    size = torch.randint(4, params.frames + 1, (B, 1), generator=rng)
    near = torch.rand(B, 1, generator=rng) < (0.5 if params.sparse else 1.0)
    order = torch.where(near, torch.arange(L).float(), torch.rand(B, L, generator=rng))  # (B, L)
    window = order.argsort(dim=1).argsort(dim=1) < size
    number = window.long().cumsum(dim=1)  # 1, 2, … within the window
    past = torch.randint(0, 3, (B, 1), generator=rng)
    future = torch.randint(0, 2, (B, 1), generator=rng) * params.future
    given = window & ((number <= past) | (number > size - future))
    return given.float(), (window & ~given).float()


def fit(params: Params, rng: torch.Generator, tick: Tick) -> Denoiser:
    """A denoiser trained on all masks: the loss counts asked frames only, given ones carry no noise."""
    network = Denoiser(params.length, rng)

    def loss() -> Tensor:
        x0 = film(draw_paths(BATCH, params.length, rng))  # (B, L, 12)
        given, asked = draw_masks(BATCH, params, rng)
        t = torch.randint(1, T + 1, (BATCH,), generator=rng)
        eps = torch.randn(x0.shape, generator=rng)
        x = torch.where(given[:, :, None] > 0, x0, jump(x0, eps, ALPHA_BAR[t]))
        off = (network(x, given, asked, t / T) - velocity(x0, eps, ALPHA_BAR[t])).square().mean(dim=2)  # (B, L)
        return (off * asked).sum() / asked.sum()

    train(network, loss, params.steps, RATE, lambda n, value: tick(0.8 * n / params.steps, f"step {n}", loss=value))
    return network


@torch.no_grad()
def make(network: Denoiser, clips: Tensor, given: list[int], asked: list[int], rng: torch.Generator) -> Tensor:
    """clips (N, L, 12) with the asked frames drawn by DDIM, conditioned on the given ones; one call of the sampler.

    Only differences of time count: the window is moved to the start of the clip, where the network knows it from.
    """
    first = min(*given, *asked)
    known, marks = torch.zeros_like(clips), torch.zeros(2, *clips.shape[:2])
    for mark, frames in zip(marks, (given, asked), strict=True):
        mark[:, [frame - first for frame in frames]] = 1
    known[:, : clips.shape[1] - first] = clips[:, first:]
    fixed = marks[0][:, :, None] > 0
    x = torch.where(fixed, known, torch.randn(clips.shape, generator=rng))
    for t, s in visits(T, PASSES):
        v = network(x, *marks, torch.full((len(x),), t / T))
        x = torch.where(fixed, known, step_back(x, noise_of(x, v, ALPHA_BAR[t]), ALPHA_BAR[t], ALPHA_BAR[s]))
    clips, window = clips.clone(), [*given, *asked]
    clips[:, window] = x[:, [frame - first for frame in window]]
    return clips


def schedule(mode: Mode, frames: int, length: int) -> list[tuple[list[int], list[int]]]:
    """The calls of a mode, in turn: which frames are given, and which are made."""
    if mode == "long":
        starts = range(2, length, frames - 2)
        return [([n - 2, n - 1], list(range(n, min(n + frames - 2, length)))) for n in starts]
    if mode == "hierarchical":
        keys = [0, *(1 + round((length - 2) * n / (frames - 2)) for n in range(frames - 1))]  # 0, 1, …, the last
        gaps = [(a, b) for a, b in itertools.pairwise(keys[1:]) if b - a > 1]
        return [([0, 1], keys[2:]), *(([a - 1, a, b], list(range(a + 1, b))) for a, b in gaps)]
    if mode == "unconditional":
        return [([], list(range(frames)))]
    return [([0, 1], [2, 3]) if mode == "predict" else ([0, 3], [1, 2])]


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng = torch.Generator().manual_seed(params.seed)
    network, L = fit(params, rng, tick), params.length
    true, calls = draw_paths(CLIPS, L, rng), {mode: schedule(mode, params.frames, L) for mode in MODES}  # (N, L)
    made, error, kept = dict[Mode, Tensor](), dict[Mode, Tensor](), 0.0
    for n, mode in enumerate(MODES):
        tick(0.8 + 0.2 * n / len(MODES), mode)
        clips, right = film(true), true
        for given, asked in calls[mode]:
            clips = make(network, clips, given, asked, rng)
        new = sorted(frame for _, asked in calls[mode] for frame in asked)
        kept += (clips - film(true))[:, [frame for frame in range(L) if frame not in new]].abs().sum().item()
        places = find_ball(clips)  # (N, L)
        if mode == "unconditional":  # nothing was given: the path that its own first two frames begin
            right, new = path(places[:, 0], places[:, 1] - places[:, 0], L), new[2:]
        made[mode], error[mode] = clips, (places - right).abs().mean(dim=0)[new]  # a number for each frame made
    mean = {mode: value.mean().item() for mode, value in error.items()}
    drift = {mode: value[-len(value) // 3 :].mean().item() for mode, value in error.items()}  # of their last third

    def picture(mode: Mode, clip: Tensor) -> list[list[list[float]]]:
        """A clip (L, 12) as (L, 12, 3): given frames blue, made ones orange, what the mode leaves out black."""
        colour = torch.zeros(L, 3)
        colour[[frame for _, asked in calls[mode] for frame in asked]] = torch.tensor([1.0, 0.6, 0.1])
        colour[calls[mode][0][0]] = torch.tensor([0.2, 0.6, 1.0])
        return ((clip + 1)[:, :, None] / 2 * colour[:, None]).clamp(0, 1).numpy().tolist()

    return Result(
        metrics=[
            Metric("motion_error", mean[params.mode], "pixels"),
            Metric("drift", drift[params.mode], "pixels, last third of the frames made"),
            *(Metric(f"motion_error, {mode}", value, "pixels") for mode, value in mean.items()),
        ],
        claims=[
            Claim("Predicted balls stay near the physical path: mean distance over two frames, in pixels",
                  mean["predict"], "<=", 0.95),
            Claim("Frames in between are easier than frames ahead: error, ratio",
                  mean["interpolate"] / mean["predict"], "<=", 0.95),
            Claim("Given frames are unchanged: sum of differences", kept, "<=", 1e-6),
            Claim("Key frames first drifts less than step by step: drift, ratio",
                  drift["hierarchical"] / drift["long"], "<=", 0.95),
        ],
        figures=[
            Images(f"Six clips, {params.mode}: time runs down, given blue, made orange",
                   [[picture(params.mode, clip) for clip in clips[:6]] for clips in (film(true), made[params.mode])],
                   ["data", "made"]),
            Images("One ball, one network, five masks", [[picture(mode, made[mode][0]) for mode in MODES]], (), MODES),
            Lines("Distance from the physical path", "frame", "pixels", list(range(2, L)),
                  {mode: error[mode].numpy().tolist() for mode in MODES[3:]}),
        ],
        tables=[
            Table("Five schedules", ["mode", "calls of the sampler: given, made", "error in pixels", "drift"],
                  [[mode, "; ".join(f"{given}, {asked}" for given, asked in calls[mode]), mean[mode], drift[mode]]
                   for mode in MODES]),
        ],
    )  # fmt: skip
