"""Diffusion on 3-D points

Question: Can noise become a surface, and half a surface a whole one?
Source: Luo, Hu 2021, arXiv:2103.01458, §4; completion with given points held fixed, point-voxel features: Zhou, Du, Wu
  2021 (PVD), arXiv:2104.03670, §3; a pooled global feature: Qi et al. 2016 (PointNet), arXiv:1612.00593.
Watch: a cloud has no order, so the network treats all points alike and knows the others by a pool over them. The upper
  half of a shape is flat or tall; its lower half does not tell which, and completions are of both kinds.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from demos.contract import Bars, Claim, DemoParams, Metric, Preset, Result, Scatter, Tick, no_tick
from demos.shared.ddpm import T, jump, make_schedule, step_back, train, visits
from demos.shared.unet import embed_time

WIDTH, BATCH, PASSES, CLOUDS = 64, 32, 50, 90
NEAR = 16  # channels of the voxel grid
SHAPES = ("sphere", "cube", "torus")
FLAT, TALL = 0.5, 1.5  # the two heights of an upper half


class Params(DemoParams):
    mode: Literal["generate", "complete"] = Field("generate", description="Figures: from noise, or from lower halves")
    points: int = Field(128, ge=64, le=512, description="Points of a shape")
    voxels: int = Field(0, ge=0, le=8, description="Cells along each side of a voxel grid that joins in; 0 is none")
    pool: bool = Field(True, description="Give each point the mean and the maximum over all points")
    samples: int = Field(4, ge=1, le=12, description="Completions of one lower half that are shown")
    steps: int = Field(800, ge=100, le=2500, description="Training steps")
    seed: int = Field(0, ge=0, le=9999, description="Seed of shapes, weights and sampling")

    presets: ClassVar[Mapping[str, Preset]] = {
        "each for itself": Preset("Points that do not know each other make a mixture of all shapes", {"pool": False}),
        "voxels": Preset("Neighbours count too: means over 4x4x4 cells join the point features", {"voxels": 4}),
        "completions": Preset("Eight completions of one lower half", {"mode": "complete", "samples": 8}),
    }


def draw_clouds(kind: Tensor, height: Tensor, points: int, rng: torch.Generator) -> Tensor:
    """Points on surfaces (B, points, 3) within [-1, 1]³, for shapes `kind` and heights of upper halves (B,)."""
    u = torch.randn(len(kind), points, 3, generator=rng)
    sphere = u / u.square().sum(dim=-1, keepdim=True).sqrt()
    axis = nn.functional.one_hot(torch.randint(3, (len(kind), points), generator=rng), 3).bool()
    side = 2 * torch.rand(len(kind), points, 3, generator=rng) - 1
    cube = 0.8 * torch.where(axis, side.sign(), side)  # one coordinate sits on a face
    turn = 2 * torch.pi * torch.rand(len(kind), points, generator=rng)
    tube = 0.35 * sphere[..., :2] / sphere[..., :2].square().sum(dim=-1, keepdim=True).sqrt()  # a circle, evenly
    ring = 0.75 + tube[..., 0]
    torus = torch.stack([ring * turn.cos(), ring * turn.sin(), tube[..., 1]], dim=-1)
    cloud = 0.6 * torch.stack([sphere, cube, torus])[kind, torch.arange(len(kind))]  # (B, points, 3)
    z = cloud[..., 2:]
    return torch.cat([cloud[..., :2], torch.where(z > 0, z * height[:, None, None], z)], dim=-1)


class Layer(nn.Module):
    """One layer over points: from itself, from time, from all points, and from its voxel."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        self.pool, self.voxels = params.pool, params.voxels
        self.own = nn.Linear(WIDTH, WIDTH)
        self.time = nn.Linear(32, WIDTH)
        self.all = nn.Linear(2 * WIDTH, WIDTH, bias=False)
        self.thin = nn.Linear(WIDTH, NEAR)
        self.near = nn.Conv3d(NEAR, WIDTH, 3, padding=1)

    def forward(self, h: Tensor, e: Tensor, x: Tensor) -> Tensor:
        """h (B, N, WIDTH), embedding e (B, 32), places x (B, N, 3) -> (B, N, WIDTH), added to h."""
        skip, h = h, nn.functional.layer_norm(h, (WIDTH,))
        out = self.own(h) + self.time(e)[:, None]
        if self.pool:
            out = out + self.all(torch.cat([h.mean(dim=1), h.max(dim=1).values], dim=1))[:, None]  # no order in it
        if self.voxels:
            out = out + self.from_voxels(self.thin(h), x)
        return skip + nn.functional.silu(out)

    def from_voxels(self, h: Tensor, x: Tensor) -> Tensor:
        """Mean of h (B, N, C) in each cell of a grid over [-1, 1]³, convolved, and read back at each point."""
        (B, _, C), r = h.shape, self.voxels
        cell = ((x.clamp(-0.999, 0.999) + 1) / 2 * r).long()  # (B, N, 3)
        number = (cell * torch.tensor([r * r, r, 1])).sum(dim=-1, keepdim=True)  # (B, N, 1)
        total = torch.zeros(B, r**3, C).scatter_add(1, number.expand(h.shape), h)
        count = torch.zeros(B, r**3, 1).scatter_add(1, number, torch.ones(number.shape))
        grid = (total / count.clamp(min=1)).transpose(1, 2).view(B, C, r, r, r)
        seen = self.near(grid).flatten(2).transpose(1, 2)  # (B, r³, WIDTH)
        return seen.gather(1, number.expand(-1, -1, WIDTH))


class Network(nn.Module):
    """ε_θ of all points of a cloud; points that are given are marked, and seen by the others as they are."""

    def __init__(self, params: Params, rng: torch.Generator) -> None:
        super().__init__()
        self.first = nn.Linear(22, WIDTH)
        self.layers = nn.ModuleList([Layer(params) for _ in range(3)])
        self.out = nn.Linear(WIDTH, 3)
        for weight in self.parameters():  # torch's usual range, from a generator of our own
            nn.init.zeros_(weight) if weight.dim() == 1 else nn.init.kaiming_uniform_(weight, a=5**0.5, generator=rng)

    def forward(self, x: Tensor, given: Tensor, t: Tensor) -> Tensor:
        """x (B, N, 3), given (B, N, 1) of 0 and 1, t (B,) in [0, 1] -> predicted noise (B, N, 3)."""
        waves = [f(k * x) for k in (2, 4, 8) for f in (torch.sin, torch.cos)]  # a surface is sharp: fine features help
        h, e = self.first(torch.cat([x, *waves, given], dim=-1)), embed_time(t, 32)  # (B, N, WIDTH), (B, 32)
        for layer in self.layers:
            h = layer(h, e, x)
        return self.out(h)


@torch.no_grad()
def sample(network: Network, known: Tensor, given: Tensor, alpha_bar: Tensor, dice: torch.Generator) -> list[Tensor]:
    """Clouds (B, N, 3) from noise to surface; where given (B, N, 1) is 1 the points stay those of known (B, N, 3)."""
    x = torch.where(given > 0, known, torch.randn(known.shape, generator=dice))
    path = [x]
    for t, s in visits(T, PASSES):
        eps = network(x, given, torch.full((len(x),), t / T))
        x = step_back(x, eps, alpha_bar[t], alpha_bar[s], torch.randn(x.shape, generator=dice))
        x = torch.where(given > 0, known, x)
        path.append(x)
    return path


def chamfer(x: Tensor, y: Tensor) -> Tensor:
    """Chamfer distances (A, B) of clouds x (A, N, 3) and y (B, M, 3): mean square way to the nearest, both ways."""
    rows = list[Tensor]()
    for cloud in x:
        square = torch.cdist(cloud[None], y).square()  # (B, N, M)
        rows.append(square.min(dim=2).values.mean(dim=1) + square.min(dim=1).values.mean(dim=1))
    return torch.stack(rows)


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng, dice = (torch.Generator().manual_seed(2 * params.seed + odd) for odd in (0, 1))  # training; evaluation
    alpha_bar, network = make_schedule(), Network(params, rng)

    def draw(n: int, dice: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Clouds (n, N, 3), which shape each is (n,), and how high its upper half (n,)."""
        kind, tall = torch.randint(3, (n,), generator=dice), torch.randint(2, (n,), generator=dice)
        height = FLAT + (TALL - FLAT) * tall
        return draw_clouds(kind, height, params.points, dice), kind, height

    def draw_loss() -> Tensor:
        x0, _, _ = draw(BATCH, rng)
        completing = torch.rand(BATCH, 1, 1, generator=rng) < 0.5  # half of the clouds show their lower half
        given = ((x0[..., 2:] <= 0) & completing).float()  # (B, N, 1)
        t = torch.randint(1, T + 1, (BATCH,), generator=rng)
        eps = torch.randn(x0.shape, generator=rng)
        x = torch.where(given > 0, x0, jump(x0, eps, alpha_bar[t]))
        off = (eps - network(x, given, t / T)).square() * (1 - given)
        return off.sum() / (3 * (1 - given).sum())

    train(network, draw_loss, params.steps, tick, part=(0.0, 0.8))
    blank = torch.zeros(CLOUDS, params.points, 3)
    path = sample(network, blank, blank[..., :1], alpha_bar, dice)
    tick(0.9, "generated")
    made = path[-1]
    kinds = torch.arange(3).repeat_interleave(10)  # (30,): ten of each shape, half of them tall
    true = draw_clouds(kinds, torch.tensor([FLAT, TALL]).repeat(15), params.points, dice)
    gap, nearest = chamfer(made, true).min(dim=1)  # (CLOUDS,), (CLOUDS,)
    fresh, _, _ = draw(CLOUDS, dice)
    blob = fresh.mean(dim=(0, 1)) + fresh.std(dim=(0, 1)) * path[0]  # noise of the size of the shapes
    gap_blob, gap_true = (chamfer(x, true).min(dim=1).values for x in (blob, fresh))
    share = kinds[nearest].bincount(minlength=3) / CLOUDS

    whole, kind, _ = draw(CLOUDS, dice)
    given = (whole[..., 2:] <= 0).float()  # the lower halves
    done = sample(network, whole, given, alpha_bar, dice)[-1]
    kept = ((done - whole).abs() * given).max().item()
    flat_or_tall = torch.tensor([0.6, 0.48, 0.21])[kind]  # half way between the tops of the two, for each shape
    top = done[..., 2].max(dim=1).values
    tall = (top > flat_or_tall).float().mean().item()
    one = whole[:1].expand(params.samples, -1, -1)
    several = sample(network, one, given[:1].expand(params.samples, -1, -1), alpha_bar, dice)[-1]
    apart = chamfer(several, several).sum().item() / max(1, params.samples * (params.samples - 1))

    order = torch.randperm(params.points, generator=dice)
    with torch.no_grad():
        t = torch.full((CLOUDS,), 0.5)
        moved = network(path[25][:, order], given[:, order], t) - network(path[25], given, t)[:, order]

    def side_view(clouds: Tensor) -> list[tuple[float, float]]:
        """Clouds (K, N, 3) side by side as seen from the front: x and height."""
        flat = clouds[..., ::2].clone()  # (K, N, 2)
        flat[..., 0] += 2.2 * torch.arange(len(clouds))[:, None]
        return [(x, z) for x, z in flat.flatten(0, 1)[:600].numpy().tolist()]

    new = given[0, :, 0] == 0  # (N,): the points that a completion made
    views = {
        "generate": Scatter("Generated clouds, seen from the front", "x", "z", {
            SHAPES[k]: side_view(made[kinds[nearest] == k][:2]) for k in range(3)
        }),
        "complete": Scatter("One lower half and its completions, seen from the front", "x", "z", {
            "given": side_view(one[:1, ~new]),
            **{f"completion {n + 1}": side_view(cloud[None, new]) for n, cloud in enumerate(several)},
        }),
    }  # fmt: skip
    ratio = (gap.median() / gap_blob.median()).item()
    return Result(
        metrics=[
            Metric("chamfer", gap.median().item()),
            Metric("chamfer of a Gaussian blob of their size", gap_blob.median().item()),
            Metric("chamfer of true clouds", gap_true.median().item()),
            Metric("share of tall completions", tall),
            Metric("chamfer between completions of one half", apart),
        ],
        figures=[
            views[params.mode],
            views["complete" if params.mode == "generate" else "generate"],
            Scatter("One cloud from noise to surface, seen from the front", "x", "z",
                    {f"t = {T - 4 * n}": side_view(path[n][:1]) for n in (0, 20, 30, 40, 50)}),
            Bars("Shapes per class", "shape", "share", SHAPES, {"generated": share.numpy().tolist()}),
        ],
        claims=[
            Claim("Clouds are near a true surface: median Chamfer distance over that of a blob", ratio, "<=", 0.57),
            Claim("All three shapes appear: smallest share", share.min().item(), ">=", 0.04),
            Claim("Reordering the points reorders the output only: largest difference",
                  moved.abs().max().item(), "<=", 1e-5),
            Claim("Given points are unchanged in completion: largest difference", kept, "<=", 1e-6),
            Claim("Lower halves are completed both ways, flat and tall: share of the rarer",
                  min(tall, 1 - tall), ">=", 0.1),
        ],
    )  # fmt: skip
