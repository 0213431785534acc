"""A drawn world with words: discs, rings and crosses in four colours, left or right, each picture with its caption.

It is small enough to be known in full, so that what a picture shows is told by comparing it with all that there is.
"""

import itertools

import torch
from torch import Tensor

COLOURS, SHAPES, SIDES = ["red", "green", "blue", "yellow"], ["disc", "ring", "cross"], ["left", "right"]
RGB = torch.tensor([[1.0, -1, -1], [-1, 1, -1], [-1, -1, 1], [1, 1, -1]])  # (4, 3), on a black ground of -1
CAPTIONS = [" ".join(words) for words in itertools.product(COLOURS, SHAPES, SIDES)]  # 24, in the order of `LABELS`
LABELS = torch.tensor(list(itertools.product(range(4), range(3), range(2))))  # (24, 3): colour, shape, side
X, Y, RADIUS = (0.28, 0.72), 0.5, 0.26  # centre and size of a figure, as shares of the picture's side
SHIFT_X, SHIFT_Y, GROWTH = 0.04, 0.15, 0.1  # how far a picture may be from them, drawn evenly


def captions_of(labels: Tensor) -> list[str]:
    """The caption of each row of labels (N, 3)."""
    return [CAPTIONS[int(n)] for n in labels @ torch.tensor([6, 2, 1])]


def cover(shape: Tensor, x: Tensor, y: Tensor, radius: Tensor, size: int) -> Tensor:
    """How much of each pixel a figure covers, (N, size, size) in [0, 1]; shape, x, y and radius are (N,)."""
    at = (torch.arange(size) + 0.5) / size  # (size,), middle of each pixel
    dx, dy = ((of[:, None] - at) for of in (x, y))  # (N, size) each
    dx, dy, r = dx[:, None, :].abs(), dy[:, :, None].abs(), radius[:, None, None]
    distance = (dx.square() + dy.square()).sqrt()  # (N, size, size)
    inner = 0.6 * r  # of the ring

    def within(edge: Tensor) -> Tensor:
        """A straight edge fades over one pixel; edge is the distance to it, positive inside."""
        return (edge * size + 0.5).clamp(0, 1)

    disc = within(r - distance)
    ring = disc - within(inner - distance)
    bar = 0.3 * r  # half the width of the cross's bars
    cross = torch.maximum(within(bar - dx) * within(r - dy), within(bar - dy) * within(r - dx))
    return torch.where((shape == 0)[:, None, None], disc, torch.where((shape == 1)[:, None, None], ring, cross))


def paint(labels: Tensor, x: Tensor, y: Tensor, radius: Tensor, size: int) -> Tensor:
    """Pictures (N, 3, size, size) in [-1, 1] of figures with these labels (N, 3), centres and radii (N,)."""
    covered = cover(labels[:, 1], x, y, radius, size)[:, None]  # (N, 1, size, size)
    return covered * (RGB[labels[:, 0]][..., None, None] + 1) - 1


def draw_shapes(n: int, rng: torch.Generator, size: int = 16, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """n pictures (n, 3, size, size) in [-1, 1] and their labels (n, 3), which are drawn where none are given."""
    if labels is None:
        labels = LABELS[torch.randint(len(LABELS), (n,), generator=rng)]
    dx, dy, grown = 2 * torch.rand(3, n, generator=rng) - 1
    x = torch.tensor(X)[labels[:, 2]] + SHIFT_X * dx
    return paint(labels, x, Y + SHIFT_Y * dy, RADIUS * (1 + GROWTH * grown), size), labels


def templates(size: int) -> tuple[Tensor, Tensor]:
    """Every figure at a grid of places and sizes: pictures (M, 3, size, size) and their labels (M, 3)."""
    dx, dy, grown = torch.cartesian_prod(
        torch.linspace(-1, 1, 3), torch.linspace(-1, 1, 7), torch.linspace(-1, 1, 3)
    ).T  # (63,) each
    labels = LABELS.repeat_interleave(len(dx), dim=0)
    dx, dy, grown = (of.repeat(len(LABELS)) for of in (dx, dy, grown))
    x = torch.tensor(X)[labels[:, 2]] + SHIFT_X * dx
    return paint(labels, x, Y + SHIFT_Y * dy, RADIUS * (1 + GROWTH * grown), size), labels


def recognise(pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Labels (N, 3) of the nearest possible picture, and the root mean square difference to it, (N,)."""
    known, labels = templates(pictures.shape[-1])
    distance, nearest = torch.cdist(pictures.flatten(1), known.flatten(1)).min(dim=1)
    return labels[nearest], distance / pictures[0].numel() ** 0.5


def to_rows(pictures: Tensor) -> list[list[list[list[float]]]]:
    """Pictures (N, 3, h, w) in [-1, 1] as one row of a figure: N of (h, w, 3) in [0, 1]."""
    return ((pictures.clamp(-1, 1) + 1) / 2).permute(0, 2, 3, 1).numpy().tolist()
