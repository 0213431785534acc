"""Growing a GAN from 4x4 to 16x16

Question: How can layers be added to a running GAN without a shock?
Source: Karras, Aila, Laine, Lehtinen 2017, arXiv:1710.10196, §2 with fig. 2, §3 (deviation over the batch), §4.2 (pixel
  norm), §5 (sliced distance of patches); R1: Mescheder et al. 2018, arXiv:1801.04406, eq. (9).
Watch: discs, rings and crosses appear as blots first and get their edges later. A new layer starts at α = 0, where the
  picture is the old one enlarged, and takes over as α rises. Without the fade the pictures jump at once.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from demos.contract import Claim, DemoParams, Images, Lines, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.shapes import draw_shapes, recognise, to_rows

SIZES, CHANNELS = (4, 8, 16), (32, 32, 16)  # side and channels of each stage
NOISE, BATCH, LR, GAMMA, LAZY = 32, 32, 2e-3, 1.0, 8  # GAMMA: weight of R1, which is counted every LAZY steps
DRAWN, EVALUATED, SHOWN = 2_000, 500, 8  # pictures to learn from, to measure with, in a row


class Params(DemoParams):
    schedule: Literal["progressive", "direct"] = Field(
        "progressive", description="Grow, or train at full size from the start"
    )
    fade_steps: int = Field(100, ge=0, le=500, description="Steps of each fade-in")
    steps_per_stage: int = Field(200, ge=50, le=800, description="Steps at each resolution, after its fade-in")
    alpha: float = Field(0.5, ge=0.0, le=1.0, description="Blend shown in the figure of the last fade-in")
    seed: int = Field(0, ge=0, le=9999, description="Random seed of data, weights and sampling")

    presets: ClassVar[Mapping[str, Preset]] = {
        "no fade-in": Preset("The new layer takes over at once: the pictures jump", {"fade_steps": 0}),
        "direct": Preset("All layers from the start, for as many steps", {"schedule": "direct"}),
        "early in the fade-in": Preset("α = 0.3: mostly the old picture, enlarged", {"alpha": 0.3}),
    }


def double(x: Tensor) -> Tensor:
    """Each pixel four times, (B, c, h, w) -> (B, c, 2h, 2w)."""
    return x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)


def halve(x: Tensor) -> Tensor:
    """Means of 2x2 pixels."""
    return F.avg_pool2d(x, 2)


def pixel_norm(h: Tensor) -> Tensor:
    """The features of each pixel scaled to mean square 1, (B, c, h, w)."""
    return h * (h.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()


class Generator(nn.Module):
    """z (B, 32) to pictures (B, 3, size, size) of any stage; α blends the stage's own output with the one before."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(NOISE, CHANNELS[0] * 16)
        inputs = (CHANNELS[0], *CHANNELS[:-1])
        self.convs = nn.ModuleList(nn.Conv2d(n, m, 3, padding=1) for n, m in zip(inputs, CHANNELS, strict=True))
        self.to_rgb = nn.ModuleList(nn.Conv2d(c, 3, 1) for c in CHANNELS)

    def features(self, z: Tensor, stage: int) -> list[Tensor]:
        """The feature maps of every stage up to this one."""
        h = pixel_norm(F.leaky_relu(self.first(z).view(-1, CHANNELS[0], 4, 4), 0.2))
        maps = list[Tensor]()
        for n in range(stage + 1):
            h = pixel_norm(F.leaky_relu(self.convs[n](double(h) if n else h), 0.2))
            maps.append(h)
        return maps

    def paths(self, z: Tensor, stage: int) -> tuple[Tensor, Tensor]:
        """Fig. 2: the old stage's picture, enlarged, and the new stage's own; they are one at the first stage."""
        maps = self.features(z, stage)
        new = self.to_rgb[stage](maps[stage])
        return (double(self.to_rgb[stage - 1](maps[stage - 1])) if stage else new), new

    def forward(self, z: Tensor, stage: int, alpha: float) -> Tensor:
        old, new = self.paths(z, stage)
        return torch.lerp(old, new, alpha)  # (1 - α) old + α new


class Discriminator(nn.Module):
    """Pictures of a stage's size to logits of "real" (B,): the generator's mirror, with the same fade."""

    def __init__(self) -> None:
        super().__init__()
        self.from_rgb = nn.ModuleList(nn.Conv2d(3, c, 1) for c in CHANNELS)
        outputs = (CHANNELS[0], *CHANNELS[:-1])
        self.convs = nn.ModuleList(
            nn.Conv2d(m + (n == 0), k, 3, padding=1) for n, (m, k) in enumerate(zip(CHANNELS, outputs, strict=True))
        )
        self.last = nn.Linear(CHANNELS[0] * 16, 1)

    def forward(self, x: Tensor, stage: int, alpha: float) -> Tensor:
        h = F.leaky_relu(self.from_rgb[stage](x), 0.2)
        for n in range(stage, 0, -1):
            h = halve(F.leaky_relu(self.convs[n](h), 0.2))
            if n == stage:  # beside the new layer, the old way in: a smaller picture
                h = torch.lerp(F.leaky_relu(self.from_rgb[n - 1](halve(x)), 0.2), h, alpha)
        spread = (
            h.var(dim=0).add(1e-8).sqrt().mean().expand(len(h), 1, 4, 4)
        )  # a batch of equal pictures gives itself away
        h = F.leaky_relu(self.convs[0](torch.cat([h, spread.expand(len(h), 1, 4, 4)], dim=1)), 0.2)
        return self.last(h.flatten(1))[:, 0]


def draw_weights(net: nn.Module, rng: torch.Generator) -> None:
    """Kaiming's start, from a generator of our own; the paper draws N(0, 1) and scales at run time."""
    for weight in net.parameters():
        nn.init.zeros_(weight) if weight.dim() == 1 else nn.init.kaiming_normal_(weight, a=0.2, generator=rng)


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Take one step down the gradient of the loss."""
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()


def shrink(pictures: Tensor, size: int) -> Tensor:
    """Pictures (N, 3, 16, 16) at a smaller side, by means."""
    return F.avg_pool2d(pictures, pictures.shape[-1] // size)


def detail(x: Tensor) -> Tensor:
    """What a picture has beyond its half-size version, one level of a Laplacian pyramid; all of it at 4x4."""
    return x if x.shape[-1] == SIZES[0] else x - double(halve(x))


def sliced_distance(x: Tensor, y: Tensor) -> float:
    """Sliced 2-Wasserstein distance of the 4x4 patches in the detail of pictures (N, 3, s, s), patches by patches."""
    patches = [F.unfold(detail(some), 4, stride=2).transpose(1, 2).flatten(0, 1) for some in (x, y)]  # (M, 48) each
    directions = torch.randn(48, 64, generator=torch.Generator().manual_seed(0))
    a, b = ((some @ F.normalize(directions, dim=0)).sort(dim=0).values for some in patches)
    return (a - b).square().mean().sqrt().item()


def multiplications(stage: int) -> int:
    """Weights times the places where they are used, in one pass of the generator to a stage's picture."""
    G = Generator()
    used = sum(conv.weight.numel() * SIZES[n] ** 2 for n, conv in enumerate(convs(G)[: stage + 1]))
    return G.first.weight.numel() + used + 3 * CHANNELS[stage] * SIZES[stage] ** 2


def convs(G: Generator) -> list[nn.Conv2d]:
    return [conv for conv in G.convs if isinstance(conv, nn.Conv2d)]


class Training:
    """Both networks, and what was seen on the way."""

    def __init__(self, params: Params) -> None:
        self.rng, self.dice = (torch.Generator().manual_seed(2 * params.seed + odd) for odd in (0, 1))
        self.G, self.D = Generator(), Discriminator()
        draw_weights(self.G, self.rng)
        draw_weights(self.D, self.rng)
        self.adam_g, self.adam_d = (
            torch.optim.Adam(net.parameters(), lr=LR, betas=(0.0, 0.99), fused=True) for net in (self.G, self.D)
        )
        self.real, _ = draw_shapes(DRAWN, self.rng)  # (DRAWN, 3, 16, 16)
        self.z = torch.randn(EVALUATED, NOISE, generator=self.dice)
        self.losses: list[tuple[float, float]] = []

    def step(self, stage: int, alpha: float) -> None:
        """One step of both players; real pictures are blended as the generated ones are."""
        real = shrink(self.real[torch.randint(DRAWN, (BATCH,), generator=self.rng)], SIZES[stage])
        if stage and alpha < 1:
            real = torch.lerp(double(halve(real)), real, alpha)
        fake = self.G(torch.randn(BATCH, NOISE, generator=self.rng), stage, alpha)
        penalised = len(self.losses) % LAZY == 0
        real.requires_grad_(penalised)
        on_real = self.D(real, stage, alpha)
        loss_d = F.softplus(-on_real).mean() + F.softplus(self.D(fake.detach(), stage, alpha)).mean()
        if penalised:
            (slope,) = torch.autograd.grad(on_real.sum(), real, create_graph=True)
            loss_d = loss_d + LAZY * GAMMA / 2 * slope.square().sum(dim=(1, 2, 3)).mean()  # R1
        descend(self.adam_d, loss_d)
        loss_g = F.softplus(-self.D(fake, stage, alpha)).mean()
        descend(self.adam_g, loss_g)
        self.losses.append((loss_d.item(), loss_g.item()))

    @torch.no_grad()
    def pictures(self, stage: int, alpha: float) -> Tensor:
        """The same noise through the generator as it stands, (EVALUATED, 3, size, size)."""
        return self.G(self.z, stage, alpha)

    def distance(self, stage: int, alpha: float) -> float:
        """Sliced distance to real pictures of the stage's size."""
        return sliced_distance(self.pictures(stage, alpha), shrink(self.real[:EVALUATED], SIZES[stage]))


def run(params: Params, tick: Tick = no_tick) -> Result:
    game = Training(params)
    last = len(SIZES) - 1
    stages = range(last + 1) if params.schedule == "progressive" else [last]
    fades = {stage: params.fade_steps if stage and len(stages) > 1 else 0 for stage in stages}
    total = 3 * params.steps_per_stage + 2 * params.fade_steps
    borders, starts, ends, jumps = list[int](), list[float](), list[float](), list[float]()
    grown, fade = dict[str, Tensor](), dict[str, Tensor]()

    def blend_of_last_stage() -> dict[str, Tensor]:
        with torch.no_grad():
            old, new = game.G.paths(game.z[:SHOWN], last)
        return {"old path": old, f"α = {params.alpha:g}": torch.lerp(old, new, params.alpha), "new path": new}

    for stage in stages:
        before = double(game.pictures(stage - 1, 1.0)) if stage and len(stages) > 1 else None
        borders.append(len(game.losses) + 1)
        starts.append(game.distance(stage, 0.0 if before is not None else 1.0))
        steps = params.steps_per_stage + fades[stage] if len(stages) > 1 else total
        for step in range(1, steps + 1):
            alpha = min(1.0, step / fades[stage]) if fades[stage] else 1.0
            if step == 1 and before is not None:  # how far the pictures jump as the new layer comes in
                jumps.append((game.pictures(stage, alpha) - before).square().mean().sqrt().item())
            game.step(stage, alpha)
            if stage == last and step == max(1, fades[stage] // 2):
                fade = blend_of_last_stage()
            if step % 20 == 0:
                d, g = game.losses[-1]
                tick(len(game.losses) / total, f"{SIZES[stage]}x{SIZES[stage]}, α = {alpha:.2f}", d=d, g=g)
        ends.append(game.distance(stage, 1.0))
        size = SIZES[stage]
        grown[f"{size}x{size}"] = (
            game.pictures(stage, 1.0)[:SHOWN].repeat_interleave(16 // size, 2).repeat_interleave(16 // size, 3)
        )
    final = game.pictures(last, 1.0)
    by_level = [sliced_distance(shrink(final, size), shrink(game.real[:EVALUATED], size)) for size in SIZES]
    halves = game.real[:EVALUATED], game.real[EVALUATED : 2 * EVALUATED]
    floors = [sliced_distance(shrink(halves[0], size), shrink(halves[1], size)) for size in SIZES]
    with torch.no_grad():
        old, new = game.G.paths(game.z, last)
        small = game.G(game.z, last - 1, 1.0)
        at_zero = (game.pictures(last, 0.0) - F.interpolate(small, scale_factor=2.0)).abs().max().item()
        at_one = (game.pictures(last, 1.0) - new).abs().max().item()
        apart = (old - new).square().mean().sqrt().item()
    ratios = [end / start for start, end in zip(starts, ends, strict=True)]
    work = [multiplications(stage) for stage in range(last + 1)]
    at = list(range(10, len(game.losses) + 1, 10))
    names = [f"{size}x{size}" for size in SIZES]
    rows = {"real": game.real[:SHOWN], **grown}
    return Result(
        metrics=[
            Metric("sliced_wasserstein", sum(by_level) / len(by_level), "mean of three levels"),
            Metric("distance to the nearest possible picture", recognise(final)[1].mean().item(), "root mean square"),
            Metric("jump of the pictures as a layer comes in", max(jumps, default=0.0), "root mean square"),
        ],
        claims=[
            Claim("At α = 0 the grown generator gives the old picture enlarged: largest difference", at_zero,
                  "<=", 1e-6),
            Claim("At α = 1 only the new path is left: largest difference", at_one, "<=", 1e-6),
            Claim("The two paths are not one: root mean square difference", apart, ">=", 0.02),
            Claim("A layer comes in without a shock: largest jump of the pictures, root mean square",
                  max(jumps, default=0.0), "<=", 0.05),
            Claim("Each resolution ends nearer to its data than it started: largest ratio of distances", max(ratios),
                  "<=", 0.7),
            Claim("Steps at 4x4 are cheaper: multiplications over those at 16x16", work[0] / work[-1], "<=", 0.5),
        ],
        figures=[
            Images("The same noise at the end of each stage", [to_rows(row) for row in rows.values()],
                   row_labels=list(rows)),
            Images("In the middle of the last fade-in", [to_rows(row) for row in fade.values()], row_labels=list(fade)),
            Lines(f"Losses (stages begin at steps {', '.join(map(str, borders))})", x="training step", y="nats", at=at,
                  series={name: [pair[n] for pair in game.losses[9::10]] for n, name in enumerate(["D", "G"])}),
        ],
        tables=[
            Table("Stages", ["stage", "distance at its start", "at its end", "ratio", "multiplications of a picture"],
                  [[names[stage], start, end, end / start, work[stage]]
                   for stage, start, end in zip(stages, starts, ends, strict=True)]),
            Table("Final pictures, level by level", ["level", "sliced distance", "of two sets of real pictures"],
                  [[name, d, floor] for name, d, floor in zip(names, by_level, floors, strict=True)]),
        ],
    )  # fmt: skip
