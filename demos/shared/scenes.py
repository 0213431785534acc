"""Four drawn worlds with a class for each pixel: streets, shapes, facades, city maps; and photos painted from them.

Shared by demos that translate pictures or read labels from them.
"""

from typing import Literal

import torch
from torch import Tensor

World = Literal["street", "shapes", "facade", "city"]
CLASSES: dict[World, tuple[str, ...]] = {  # number 0 fills the picture, the others lie on it
    "street": ("sky", "road", "house", "tree", "lamp"),
    "shapes": ("ground", "disc", "square", "triangle"),
    "facade": ("wall", "roof", "window", "door"),
    "city": ("blocks", "park", "water", "roads"),
}
COLOURS: dict[World, Tensor] = {  # (classes, 3): what a photo shows of each class, before texture
    "street": torch.tensor([[0.5, 0.75, 1.0], [0.4, 0.4, 0.4], [0.8, 0.45, 0.3], [0.1, 0.5, 0.15], [1.0, 0.95, 0.3]]),
    "shapes": torch.tensor([[0.85, 0.85, 0.8], [0.9, 0.3, 0.2], [0.2, 0.4, 0.85], [0.25, 0.7, 0.25]]),
    "facade": torch.tensor([[0.85, 0.7, 0.5], [0.6, 0.2, 0.15], [0.3, 0.5, 0.75], [0.35, 0.2, 0.1]]),
    "city": torch.tensor([[0.7, 0.6, 0.5], [0.2, 0.5, 0.2], [0.15, 0.3, 0.6], [0.35, 0.35, 0.4]]),
}
TEXTURE = 0.15  # how far stripes darken and lighten a photo


def draw_labels(world: World, n: int, rng: torch.Generator, size: int = 32) -> Tensor:
    """Classes of the pixels of n pictures, (n, size, size) int64."""
    at = (torch.arange(size) + 0.5) / size  # (size,): middle of each pixel, the picture being 1 wide
    y, x = at[None, :, None], at[None, None, :]

    def between(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, 1, 1, generator=rng)

    def box(top: Tensor, bottom: Tensor, left: Tensor, right: Tensor) -> Tensor:
        return (y > top) & (y < bottom) & (x > left) & (x < right)  # (n, size, size)

    def disc(cy: Tensor, cx: Tensor, r: Tensor) -> Tensor:
        return (y - cy).square() + (x - cx).square() < r.square()

    labels = torch.zeros(n, size, size, dtype=torch.int64)
    side = torch.rand(n, 1, 1, generator=rng) < 0.5
    match world:
        case "street":
            horizon, left, width = between(0.55, 0.75), between(0.05, 0.15), between(0.25, 0.35)
            trunk, crown, lamp = between(0.7, 0.8), between(0.12, 0.17), between(0.48, 0.54)
            labels[y.expand(n, -1, size) > horizon] = 1
            labels[box(between(0.2, 0.4), horizon + 0.03, left, left + width)] = 2
            labels[disc(horizon - 0.25, trunk, crown) | box(horizon - 0.25, horizon, trunk - 0.04, trunk + 0.04)] = 3
            head = horizon - between(0.25, 0.35)
            pole = box(head, horizon + 0.1, lamp - 0.02, lamp + 0.02)
            labels[pole | box(head - 0.1, head, lamp - 0.05, lamp + 0.05)] = 4
        case "shapes":
            for middle in (0.27, 0.73):
                cy, cx, r = between(0.3, 0.7), middle + between(-0.03, 0.03), between(0.18, 0.24)
                square = box(cy - 0.9 * r, cy + 0.9 * r, cx - 0.9 * r, cx + 0.9 * r)
                triangle = box(cy - r, cy + r, cx - r, cx + r) & ((x - cx).abs() < 0.5 * (y - cy + r))
                kind = torch.randint(3, (n, 1, 1), generator=rng)
                shape = torch.where(kind == 0, disc(cy, cx, r), torch.where(kind == 1, square, triangle))
                labels = torch.where(shape, kind + 1, labels)
        case "facade":
            eaves, pitch, ledge = between(0.12, 0.25), between(0.22, 0.3), between(0.05, 0.12)
            labels[y.expand(n, -1, size) < eaves] = 1
            pane = ((x - ledge) % pitch < 0.55 * pitch) & ((y - eaves - 0.06) % 0.26 < 0.14)
            labels[pane & (y > eaves + 0.06) & (y < 0.68) & (x > ledge)] = 2
            door = between(0.2, 0.65)
            labels[box(0.72 + 0 * door, 1 + door, door, door + 0.18)] = 3
        case "city":
            labels[box(*(between(*ends) for ends in ((0.0, 0.1), (0.35, 0.5), (0.0, 0.2), (0.4, 0.6))))] = 1
            labels[disc(between(0.65, 0.8), between(0.6, 0.8), between(0.1, 0.2))] = 2
            across, along, ring = between(0.45, 0.6), between(0.3, 0.7), between(0.03, 0.06)
            labels[((y - across).abs() < ring) | ((x - along).abs() < ring)] = 3
    return torch.where(side, labels, labels.flip(2))


def paint_photo(world: World, labels: Tensor) -> Tensor:
    """Photos (n, 3, size, size) in [0, 1]: each class in its colour, with stripes of its own across it."""
    y, x = torch.meshgrid(*(torch.arange(side) for side in labels.shape[1:]), indexing="ij")  # (size, size)
    stripes = torch.stack([torch.zeros_like(x), y, x, x + y, x - y])[: len(CLASSES[world])] % 4 < 2  # (classes, …)
    light = torch.where(stripes, 1 + TEXTURE, 1 - TEXTURE)  # class 0 is plain
    light[0] = 1
    colours = COLOURS[world][:, :, None, None] * light[:, None]  # (classes, 3, size, size)
    chosen = torch.nn.functional.one_hot(labels, len(CLASSES[world])).float()  # (n, size, size, classes)
    return torch.einsum("nyxc,cayx->nayx", chosen, colours).clamp(0, 1)
