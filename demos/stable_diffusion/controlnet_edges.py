"""ControlNet: a frozen model takes a sketch

Question: How can a trained model learn a new input without forgetting what it knows?
Source: Zhang, Rao, Agrawala 2023, arXiv:2302.05543, §3.1 with eq. (2) and (3), §3.3 (the loss); the model: Rombach et
  al. 2021, arXiv:2112.10752, §3.3.
Watch: the base draws a shape of its own choice in the colour asked for. A copy of its encoder sees an outline as well
  and speaks to it through convolutions that start at zero: at first nothing changes, then the shape follows the
  outline, and words still decide the colour. The base never changes: at strength 0 it is back.
"""

import copy
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from demos.contract import Claim, DemoParams, Images, Lines, Metric, Preset, Result, Tick, no_tick
from demos.shared.ddpm import T, jump, step_back, train, visits
from demos.shared.shapes import COLOURS, RGB, draw_shapes, to_rows
from demos.shared.unet import embed_time
from demos.shared.words_to_shapes import ALPHA_BAR, SIZE, WordUNet, tokenize, train_words

Kind = Literal["edges", "scribble", "depth"]
BATCH, TESTED, EMPTIED, GUIDANCE = 32, 48, 0.3, 2.0  # in a step; pictures drawn; share of captions emptied; scale w


class Params(DemoParams):
    condition: Kind = Field("edges", description="Kind of control image")
    strength: float = Field(1.0, ge=0.0, le=2.0, description="Weight of the control when drawing")
    base_steps: int = Field(150, ge=100, le=2000, description="Training steps of the base")
    steps: int = Field(200, ge=10, le=1000, description="Training steps of the copy")
    zero: bool = Field(True, description="The joining convolutions start at zero")
    seed: int = Field(0, ge=0, le=9999, description="Seed of data, weights and noise")

    presets: ClassVar[Mapping[str, Preset]] = {
        "strength 0": Preset("The control is switched off: the base draws what it likes", {"strength": 0.0}),
        "not zero": Preset("Joined by random convolutions, the untrained copy spoils the base", {"zero": False}),
        "scribble": Preset("A broken outline is enough", {"condition": "scribble"}),
    }


def covered(x: Tensor) -> Tensor:
    """How much of each pixel of pictures (B, 3, S, S) in [-1, 1] is not black, (B, 1, S, S) in [0, 1]."""
    return (x.amax(dim=1, keepdim=True) + 1) / 2


def make_control(x: Tensor, kind: Kind, rng: torch.Generator) -> Tensor:
    """The control image of pictures (B, 3, S, S): (B, 1, S, S) without any colour."""
    mask = covered(x)
    if kind == "depth":
        return nn.functional.avg_pool2d(mask, 3, stride=1, padding=1, count_include_pad=False)  # soft: a smooth bump
    padded = nn.functional.pad(mask, (1, 1, 1, 1))
    dy, dx = padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1], padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]
    edges = (dy.square() + dx.square()).sqrt()
    if kind == "scribble":  # an unsteady hand: a fifth of the line is missing
        edges = edges * (torch.rand(edges.shape, generator=rng) > 0.2)
    return edges


class ControlNet(nn.Module):
    """The base, frozen; a trainable copy of its encoder that also sees the control; zero convolutions between them."""

    def __init__(self, base: WordUNet, zero: bool, rng: torch.Generator) -> None:
        super().__init__()
        self.base, self.copy = base.requires_grad_(requires_grad=False), copy.deepcopy(base).requires_grad_()
        width = base.width
        self.enter = nn.Conv2d(1, width, 3, padding=1)
        sizes = (width, width, 2 * width)  # at the entry, at the fine map, at the coarse map
        self.zeros = nn.ModuleList(nn.Conv2d(size, size, 1) for size in sizes)
        for n, layer in enumerate([self.enter, *self.zeros]):
            for weight in layer.parameters():
                nn.init.zeros_(weight)
                if n == 0 or not zero:
                    nn.init.normal_(weight, std=0.2, generator=rng)

    def forward(self, x: Tensor, t: Tensor, words: Tensor, control: Tensor, strength: float) -> Tensor:
        """x (B, 3, S, S), t (B,) in [0, 1], words (B, L, D), control (B, 1, S, S) -> predicted noise (B, 3, S, S)."""
        mine, base, (at_entry, at_fine, at_coarse) = self.copy, self.base, self.zeros
        e = nn.functional.silu(mine.time(embed_time(t, mine.width)))  # (B, 4W)
        fine = mine.first(x) + mine.where + at_entry(self.enter(control))  # (B, W, S, S), eq. (2)
        fine = mine.read_high(mine.down(fine, e), words)
        coarse = mine.read_low(mine.middle(mine.shrink(fine), e), words)  # (B, 2W, S/2, S/2)
        extra = strength * at_fine(fine), strength * at_coarse(coarse)

        e = nn.functional.silu(base.time(embed_time(t, base.width)))
        fine = base.read_high(base.down(base.first(x) + base.where, e), words)  # the base's own encoder
        coarse = base.read_low(base.middle(base.shrink(fine), e), words) + extra[1]
        back = nn.functional.interpolate(base.grow(coarse), scale_factor=2.0)
        fine = base.up(torch.cat([back, fine + extra[0]], dim=1), e)  # the decoder hears the copy through the bridge
        v = base.last(nn.functional.silu(base.norm(fine)))
        a = ALPHA_BAR[(t * T).round().long()][:, None, None, None]
        return (1 - a).sqrt() * x + a.sqrt() * v


def noise_loss(model: ControlNet, kind: Kind, rng: torch.Generator) -> Tensor:
    """Eq. (5) on pictures drawn anew, their outlines and their colours; 1 / ᾱ makes it the error of v."""
    x, labels = draw_shapes(BATCH, rng, SIZE)
    ids = colour_ids(labels) * (torch.rand(BATCH, 1, generator=rng) > EMPTIED)  # so that the outline must speak
    t, eps = torch.randint(1, T + 1, (BATCH,), generator=rng), torch.randn(x.shape, generator=rng)
    a = ALPHA_BAR[t]
    noise = model(jump(x, eps, a), t / T, model.base.read(ids), make_control(x, kind, rng), 1.0)
    return ((noise - eps).square() / a[:, None, None, None]).mean()


def colour_ids(labels: Tensor) -> Tensor:
    """Captions of one word, the colour, for labels (N, 3): what shape and where is left to the control. (N, L)."""
    return tokenize(COLOURS)[labels[:, 0]]


@torch.no_grad()
def draw(model: ControlNet, ids: Tensor, control: Tensor, strength: float, x: Tensor) -> Tensor:
    """Noise x (N, 3, S, S) to pictures of captions ids (N, L) and control (N, 1, S, S) by DDIM, guided by the words."""
    words, twice = model.base.read(torch.cat([torch.zeros_like(ids), ids])), torch.cat([control, control])
    for t, s in visits(T, 20):
        noise = model(torch.cat([x, x]), torch.full((2 * len(x),), t / T), words, twice, strength)
        eps_0, eps_c = noise.chunk(2)
        x = step_back(x, eps_0 + GUIDANCE * (eps_c - eps_0), ALPHA_BAR[t], ALPHA_BAR[s])
    return x


def overlap(x: Tensor, y: Tensor) -> float:
    """Intersection over union of the pixels that pictures (N, 3, S, S) cover by more than half, mean over N."""
    a, b = (covered(of).flatten(1) > 0.5 for of in (x, y))
    return ((a & b).sum(dim=1) / (a | b).sum(dim=1).clamp(min=1)).mean().item()


def right_colour(x: Tensor, labels: Tensor) -> float:
    """Share of pictures (N, 3, S, S) whose light is nearest to the colour in labels (N, 3)."""
    light = nn.functional.normalize((x + 1).sum(dim=(2, 3)), dim=1)  # (N, 3)
    return ((light @ nn.functional.normalize(RGB + 1, dim=1).T).argmax(dim=1) == labels[:, 0]).float().mean().item()


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng, dice = (torch.Generator().manual_seed(2 * params.seed + odd) for odd in (0, 1))

    def part(start: float, share: float, name: str) -> Tick:
        return lambda fraction, message, **live: tick(start + share * fraction, f"{name}: {message}", **live)

    base, _ = train_words(params.base_steps, rng, part(0.0, 0.5, "base"))
    before = copy.deepcopy(base.state_dict())
    x, labels = draw_shapes(TESTED, dice, SIZE)
    control, ids = make_control(x, params.condition, dice), colour_ids(labels)
    noise = torch.randn(x.shape, generator=dice)
    model = ControlNet(base, params.zero, rng)
    free = draw(model, ids, control, 0.0, noise)  # strength 0: the base alone
    with torch.no_grad():
        t = torch.full((TESTED,), 0.5)
        untrained = model(noise, t, base.read(ids), control, 1.0) - base(noise, t, base.read(ids))
    sizes = list[float]()

    def look() -> Tensor:
        sizes.append(sum(weight.detach().abs().sum().item() for weight in model.zeros.parameters()) / count)
        return noise_loss(model, params.condition, rng)

    count = sum(weight.numel() for weight in model.zeros.parameters())
    losses = train(model, look, params.steps, part(0.5, 0.5, "copy"))
    drawn = draw(model, ids, control, params.strength, noise)
    moved = max((base.state_dict()[name] - before[name]).abs().max().item() for name in before)
    followed, by_chance = overlap(drawn, x), overlap(free, x)
    strengths, few = [0.0, 0.5, 1.0, 2.0], slice(16)
    curve = [overlap(draw(model, ids[few], control[few], s, noise[few]), x[few]) for s in strengths]
    lines = (2 * control / control.max() - 1).expand(-1, 3, -1, -1)
    return Result(
        metrics=[
            Metric("overlap", followed),
            Metric("overlap at strength 0", by_chance),
            Metric("share of pictures in the colour asked for", right_colour(drawn, labels)),
            Metric("mean size of the zero convolutions' weights", sizes[-1]),
        ],
        claims=[
            Claim("Joined at zero, the untrained copy changes nothing: largest difference",
                  untrained.abs().max().item(), "==", 0),
            Claim("The base stays as it was: largest change of a weight", moved, "==", 0),
            Claim("Shapes follow the control: overlap with what it outlines", followed, ">=", 0.45),
            Claim("Without it they do not: overlap, above that at strength 0", followed - by_chance, ">=", 0.25),
            Claim("Words still decide the colour: share as asked", right_colour(drawn, labels), ">=", 0.8),
        ],
        figures=[
            Images("Control, the picture it was made of, strength 0, and with the control; the caption is the colour",
                   [to_rows(of[:10]) for of in (lines, x, free, drawn)],
                   ["control", "hidden", "strength 0", f"strength {params.strength:g}"],
                   [COLOURS[int(n)] for n in labels[:10, 0]]),
            Lines("Zero convolutions over training", "step", "mean size of a weight",
                  list(range(1, params.steps + 1)), {"zero convolutions": sizes}),
            Lines("Overlap against strength", "strength", "overlap", strengths, {"overlap": curve}),
            Lines("Training of the copy", "step", "squared error", list(range(1, params.steps + 1)), {"loss": losses}),
        ],
    )  # fmt: skip
