"""Three clouds of points in the plane for density models: two moons, two rings, eight Gaussians."""

import math

import torch
from torch import Tensor

from demos.shared.plane import STD, draw_ring

RADII = (0.7, 1.7)  # of the two rings


def draw_cloud(name: str, n: int, rng: torch.Generator) -> Tensor:
    """Points (n, 2) of "moons", "rings" or "gaussians", mean near 0, variance about 1, noise of deviation STD."""
    if name == "gaussians":
        return draw_ring(n, rng)
    second = torch.randint(2, (n,), generator=rng)  # (n,): which moon or ring
    turn = math.pi * torch.rand(n, generator=rng)  # (n,)
    if name == "moons":
        arc = torch.stack([turn.cos(), turn.sin()], dim=1)  # (n, 2)
        points = 1.4 * (
            torch.where(second[:, None] == 0, arc, torch.tensor([1.0, 0.5]) - arc) - torch.tensor([0.5, 0.25])
        )
    else:
        points = torch.tensor(RADII)[second][:, None] * torch.stack([(2 * turn).cos(), (2 * turn).sin()], dim=1)
    return points + STD * torch.randn(n, 2, generator=rng)
