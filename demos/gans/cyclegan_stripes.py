"""CycleGAN: plain to striped without pairs

Question: How can two unpaired piles of images teach a translation, and what keeps the content?
Source: Zhu, Park, Isola, Efros 2017, arXiv:1703.10593, eq. (1) to (3), §4 (least squares), §5.2 (identity), §7.1
  (networks); least squares: Mao et al. 2016, arXiv:1611.04076.
Watch: G puts stripes on a shape that stays where it was, and F takes them off. Without the cycle loss shapes move or
  go: a critic knows what its own pile looks like and never sees which x an output came from.
"""

import itertools
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import l1_loss

from demos.contract import Claim, DemoParams, Images, Lines, Metric, Preset, Result, Tick, no_tick

SIZE, BATCH, TESTED, CHANNELS = 16, 8, 200, 16  # pixels a side; images a step of each pile; unseen images
LR_G, LR_D = 2e-3, 4e-3  # slow critics let the shape drift: they follow where it goes
Domains = Literal["stripes", "season", "painting"]
GREY, GRASS, SNOW = (0.35, 0.35, 0.35), (0.25, 0.5, 0.15), (0.9, 0.9, 0.95)
GROUND = {"stripes": (GREY, GREY), "season": (GRASS, SNOW), "painting": (GREY, GREY)}  # colour in X and in Y
COLOUR = torch.tensor([0.95, 0.75, 0.45])[:, None, None]  # in X; content is place and form


class Params(DemoParams):
    domains: Domains = Field("stripes", description="Plain to striped, summer to winter, flat to brushed")
    lambda_cycle: float = Field(10.0, ge=0.0, le=20.0, description="Weight of both cycle losses")
    lambda_identity: float = Field(0.0, ge=0.0, le=10.0, description="Weight of both identity losses")
    blocks: int = Field(2, ge=1, le=9, description="Residual blocks of a generator")
    steps: int = Field(250, ge=50, le=1000, description="Training steps; half as many for the control")
    direction: Literal["forward", "backward", "both"] = Field("both", description="Round trips shown in number")
    seed: int = Field(0, ge=0, le=9999, description="Random seed of images and weights")

    presets: ClassVar[Mapping[str, Preset]] = {
        "no cycle loss": Preset("Nothing ties G(x) to x: the shape moves or goes", {"lambda_cycle": 0.0}),
        "identity loss": Preset("G leaves alone what is striped already", {"lambda_identity": 5.0}),
        "seasons": Preset("Colours of shape and ground change, no texture", {"domains": "season"}),
    }


def draw_shapes(n: int, rng: torch.Generator) -> Tensor:
    """A disc, a square or a triangle in each picture: masks (n, 1, 16, 16) of 0 and 1."""
    y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    cy, cx = 5 + 6 * torch.rand(2, n, 1, 1, generator=rng)  # (n, 1, 1)
    r, kind = 3.5 + 1.5 * torch.rand(n, 1, 1, generator=rng), torch.randint(3, (n, 1, 1), generator=rng)
    dy, dx = (y - cy) / r, (x - cx) / r  # (n, 16, 16): 1 is the edge
    disc, square = dy.square() + dx.square() < 1.1, torch.maximum(dy.abs(), dx.abs()) < 0.9
    triangle = (dy.abs() < 1) & (dx.abs() < 0.55 * (dy + 1.1))
    mask = torch.where(kind == 0, disc, torch.where(kind == 1, square, triangle))
    return mask[:, None].float()


def paint(domains: Domains, in_y: bool, mask: Tensor) -> Tensor:
    """What the shapes look like in X or in Y, (n, 3, 16, 16) in [0, 1]."""
    y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    ground, colour = torch.tensor(GROUND[domains][in_y])[:, None, None], COLOUR
    if in_y and domains == "stripes":
        colour = torch.where(y % 2 == 0, colour, 0.05)  # (3, 16, 16)
    elif in_y and domains == "season":
        colour = colour * torch.tensor([0.3, 0.6, 1.2])[:, None, None]
    elif in_y:  # strokes along a diagonal, strong on the shape, weak on the ground
        stroke = ((x + y) % 4 < 2).float()
        colour, ground = colour * (0.6 + 0.4 * stroke), ground * (0.8 + 0.2 * stroke)
    return mask * colour + (1 - mask) * ground


def find_shape(picture: Tensor, domains: Domains, in_y: bool) -> Tensor:
    """Mask (n, 1, 16, 16) of what differs from the ground of X or of Y in pictures (n, 3, 16, 16)."""
    ground = torch.tensor(GROUND[domains][in_y])[:, None, None]
    return (picture - ground).abs().amax(dim=1, keepdim=True) > 0.17


def overlap(a: Tensor, b: Tensor) -> float:
    """Intersection over union of masks (n, 1, 16, 16), mean over pictures."""
    a, b = a.bool().flatten(1), b.bool().flatten(1)
    return ((a & b).sum(dim=1) / (a | b).sum(dim=1).clamp(min=1)).mean().item()


class Residual(nn.Module):
    """x + f(x), f two convolutions at one size."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        convolutions = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.f = nn.Sequential(next(convolutions), nn.ReLU(), next(convolutions))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.f(x)


def build_generator(blocks: int, rng: torch.Generator) -> nn.Sequential:
    """§7.1 in small, one step down and up and no instance norm: (B, 3, 16, 16) both ends."""
    c = CHANNELS
    return draw_weights(nn.Sequential(
        nn.Conv2d(3, c, 3, padding=1), nn.ReLU(),  # (B, 16, 16, 16)
        nn.Conv2d(c, 2 * c, 4, stride=2, padding=1), nn.ReLU(),  # (B, 32, 8, 8)
        *(Residual(2 * c) for _ in range(blocks)),
        nn.ConvTranspose2d(2 * c, c, 4, stride=2, padding=1), nn.ReLU(),  # (B, 16, 16, 16)
        nn.Conv2d(c, 3, 3, padding=1), nn.Sigmoid(),
    ), rng)  # fmt: skip


def build_discriminator(rng: torch.Generator) -> nn.Sequential:
    """A PatchGAN: one score for each of 4x4 overlapping patches, (B, 3, 16, 16) -> (B, 1, 4, 4)."""
    c = CHANNELS
    return draw_weights(nn.Sequential(
        nn.Conv2d(3, c, 4, stride=2, padding=1), nn.LeakyReLU(0.2), nn.Conv2d(c, 2 * c, 4, stride=2, padding=1),
        nn.InstanceNorm2d(2 * c), nn.LeakyReLU(0.2), nn.Conv2d(2 * c, 1, 3, padding=1),
    ), rng)  # fmt: skip


def draw_weights(model: nn.Sequential, rng: torch.Generator) -> nn.Sequential:
    """The model with He's weights from our own generator, biases 0."""
    for weight in model.parameters():
        nn.init.zeros_(weight) if weight.dim() == 1 else nn.init.kaiming_normal_(weight, a=0.2, generator=rng)
    return model


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Take one step down the gradient of the loss."""
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()


def train(
    params: Params, lambda_cycle: float, steps: int, tick: Tick, done: int
) -> tuple[nn.Sequential, nn.Sequential, list[int], dict[str, list[float]]]:
    """G: X -> Y and F: Y -> X that minimise eq. (3), adversarial terms as least squares (§4); steps and losses."""
    rng = torch.Generator().manual_seed(2 * params.seed)
    G, F = (build_generator(params.blocks, rng) for _ in "GF")
    D_X, D_Y = (build_discriminator(rng) for _ in "XY")
    at, curves = list[int](), dict[str, list[float]]()
    adam_g, adam_d = (
        torch.optim.Adam(itertools.chain(a.parameters(), b.parameters()), lr=lr, betas=(0.5, 0.999), fused=True)
        for a, b, lr in ((G, F, LR_G), (D_X, D_Y, LR_D))
    )
    for step in range(1, steps + 1):
        x, y = (paint(params.domains, in_y, draw_shapes(BATCH, rng)) for in_y in (False, True))  # never pairs
        fake_y, fake_x = G(x), F(y)
        losses = {
            "adversarial, forward": (D_Y(fake_y) - 1).square().mean(),
            "adversarial, backward": (D_X(fake_x) - 1).square().mean(),
            "cycle, forward": l1_loss(F(fake_y), x),
            "cycle, backward": l1_loss(G(fake_x), y),
        }
        if params.lambda_identity > 0:
            losses |= {"identity, G": l1_loss(G(y), y), "identity, F": l1_loss(F(x), x)}
        weights = {"adversarial": 1.0, "cycle": lambda_cycle, "identity": params.lambda_identity}
        descend(adam_g, torch.stack([weights[name.split(",")[0]] * value for name, value in losses.items()]).sum())
        for name, D, real, fake in (("D_X", D_X, x, fake_x.detach()), ("D_Y", D_Y, y, fake_y.detach())):
            losses[name] = ((D(real) - 1).square().mean() + D(fake).square().mean()) / 2
        descend(adam_d, losses["D_X"] + losses["D_Y"])
        if step % 10 == 0:
            at.append(step)
            for name, value in losses.items():
                curves.setdefault(name, []).append(value.item())
            tick((done + step) / (1.5 * params.steps), f"step {step}", cycle=losses["cycle, forward"].item())
    return G, F, at, curves


def run(params: Params, tick: Tick = no_tick) -> Result:
    G, F, at, curves = train(params, params.lambda_cycle, params.steps, tick, done=0)
    G_0, F_0, _, _ = train(params, 0.0, params.steps // 2, tick, done=params.steps)
    mask = draw_shapes(TESTED, torch.Generator().manual_seed(2 * params.seed + 1))
    x, y = (paint(params.domains, in_y, mask) for in_y in (False, True))  # pairs, which training never had

    @torch.no_grad()
    def translate(G: nn.Module, F: nn.Module) -> tuple[Tensor, Tensor, Tensor, Tensor, list[float]]:
        """G(x), F(G(x)), F(y), G(F(y)), each (N, 3, 16, 16), and how well shapes are kept, forward and backward."""
        fake_y, fake_x = G(x), F(y)
        found = find_shape(fake_y, params.domains, True), find_shape(fake_x, params.domains, False)
        return fake_y, F(fake_y), fake_x, G(fake_x), [overlap(mask, shape) for shape in found]

    fake_y, back_x, fake_x, back_y, kept = translate(G, F)
    lost_y, _, lost_x, _, kept_without = translate(G_0, F_0)
    cycle = [l1_loss(back_x, x).item(), l1_loss(back_y, y).item()]
    target = [l1_loss(fake_y, y).item(), l1_loss(fake_x, x).item()]
    untouched, fall = l1_loss(x, y).item(), (sum(kept) - sum(kept_without)) / 2
    left_over = sum(target) / 2 / untouched

    ways = {  # pictures (5, N, 16, 16, 3): input, translated, and back, counterpart, translated by the control
        "forward": torch.stack([x, fake_y, back_x, y, lost_y]).permute(0, 1, 3, 4, 2),
        "backward": torch.stack([y, fake_x, back_y, x, lost_x]).permute(0, 1, 3, 4, 2),
    }
    names = ["input", "translated", "and back", "counterpart", "no cycle loss"]
    return Result(
        metrics=[
            Metric("cycle_l1", sum(cycle) / 2),
            Metric("content_iou", sum(kept) / 2),
            Metric("target_l1", sum(target) / 2),
            Metric("L1 of input and hidden counterpart", untouched),
            Metric("content_iou without the cycle loss", sum(kept_without) / 2),
        ],
        claims=[
            Claim("Round trips return the image: mean L1", sum(cycle) / 2, "<=", 0.08),
            Claim("Shapes stay where they were, both ways: mean overlap", sum(kept) / 2, ">=", 0.85),
            Claim("Outputs approach the hidden counterpart: L1 to it over the input's", left_over, "<=", 0.6),
            Claim("Without the cycle loss content is lost: fall of the overlap", fall, ">=", 0.15),
        ],
        figures=[
            Images(
                "Round trips, and the counterpart that training never saw",
                [trip[:4, 0].numpy().tolist() for trip in ways.values()], column_labels=names[:4],
                row_labels=[f"x, G(x), F(G(x)): L1 {cycle[0]:.3f}", f"y, F(y), G(F(y)): L1 {cycle[1]:.3f}"],
            ),
            *(
                Images(f"More round trips, {way}", trips[:, 1:9].numpy().tolist(), row_labels=names)
                for way, trips in ways.items() if params.direction in (way, "both")
            ),
            Lines(
                "Losses of generators and critics, D_X and D_Y (0.25: they cannot tell)", x="training step", y="loss",
                at=at, series=curves,
            ),
        ],
    )  # fmt: skip
