"""Drawn pictures with eight attributes, each there or not: cartoon faces, cats, cars and rooms.

Shared by demos in which a generator learns faces, or is steered to change one attribute and no other.
"""

from typing import Literal

import torch
from torch import Tensor

Domain = Literal["faces", "cats", "cars", "rooms"]
ATTRIBUTES: dict[Domain, tuple[str, ...]] = {
    "faces": ("glasses", "hair", "pose", "shape", "mouth", "eyes", "skin", "age"),
    "cats": ("collar", "stripes", "pose", "shape", "mouth", "eyes", "fur", "ears"),
    "cars": ("rack", "door", "direction", "length", "lights", "wheels", "paint", "windows"),
    "rooms": ("picture", "curtains", "side", "bed", "lamp", "rug", "wall", "floor"),
}
SHIFT, LIGHT = 0.03, 0.1  # what no attribute decides: place of the whole, and how light it is


def draw(domain: Domain, bits: Tensor, rng: torch.Generator, size: int = 16) -> Tensor:
    """Pictures (N, 3, size, size) in [-1, 1] with attributes `bits` (N, 8), each 0 or 1, ordered as in `ATTRIBUTES`."""
    n = len(bits)
    at = (torch.arange(size) + 0.5) / size  # middle of each pixel, the picture being 1 wide
    dy, dx, light = 2 * torch.rand(3, n, 1, 1, generator=rng) - 1  # (N, 1, 1) each
    y, x = at[None, :, None] - SHIFT * dy, at[None, None, :] - SHIFT * dx  # (N, size, 1), (N, 1, size)
    a = dict(zip(ATTRIBUTES[domain], bits.float()[:, :, None, None].unbind(dim=1), strict=True))  # (N, 1, 1) each
    canvas = torch.zeros(n, 3, size, size)

    def choose(name: str, without: float, with_it: float) -> Tensor:
        return without + (with_it - without) * a[name]

    def colour(name: str, without: tuple[float, ...], with_it: tuple[float, ...]) -> Tensor:
        return torch.lerp(torch.tensor(without)[:, None, None], torch.tensor(with_it)[:, None, None], a[name][:, None])

    def plain(*rgb: float) -> Tensor:
        return torch.tensor(rgb)[:, None, None]

    def disc(cy: Tensor | float, cx: Tensor | float, ry: Tensor | float, rx: Tensor | float) -> Tensor:
        r = (((y - cy) / ry).square() + ((x - cx) / rx).square()).sqrt()
        return ((1 - r) * torch.minimum(torch.as_tensor(ry), torch.as_tensor(rx)) * size + 0.5).clamp(0, 1)

    def box(cy: Tensor | float, cx: Tensor | float, hy: Tensor | float, hx: Tensor | float) -> Tensor:
        return (torch.minimum(hy - (y - cy).abs(), hx - (x - cx).abs()) * size + 0.5).clamp(0, 1)

    def lay(cover: Tensor, ink: Tensor) -> None:
        canvas.lerp_(ink.expand_as(canvas), cover.expand(n, size, size)[:, None])

    everywhere = torch.ones(1, 1, 1)
    match domain:
        case "faces":
            turn, wide = choose("pose", -0.08, 0.08), choose("shape", 0.25, 0.34)
            hair = colour("age", (0.3, 0.15, 0.05), (0.8, 0.8, 0.85))
            lay(everywhere, plain(0.45, 0.6, 0.7))
            lay(torch.maximum(disc(0.4, 0.5, 0.34, wide + 0.07), a["hair"] * box(0.65, 0.5, 0.28, wide + 0.07)), hair)
            lay(disc(0.56, 0.5 + turn / 3, 0.36, wide), colour("skin", (1.0, 0.8, 0.65), (0.5, 0.3, 0.2)))
            lay(disc(0.22, 0.5, 0.12, wide), hair)
            for side in (-0.13, 0.13):
                lay(a["glasses"] * box(0.5, 0.5 + turn + side, 0.1, 0.1), plain(0.05, 0.05, 0.1))
                lay(a["glasses"] * box(0.5, 0.5 + turn + side, 0.06, 0.06), plain(0.9, 0.95, 1.0))
                lay(disc(0.5, 0.5 + turn + side, 0.055, 0.055), colour("eyes", (0.1, 0.1, 0.1), (0.1, 0.5, 0.95)))
            lip = colour("mouth", (0.6, 0.2, 0.2), (0.35, 0.0, 0.05))
            lay(box(0.76, 0.5 + turn, choose("mouth", 0.025, 0.07), 0.1), lip)
        case "cats":
            turn, wide = choose("pose", -0.08, 0.08), choose("shape", 0.28, 0.38)
            fur = colour("fur", (0.85, 0.55, 0.25), (0.3, 0.3, 0.35))
            lay(everywhere, plain(0.6, 0.75, 0.55))
            for side in (-1, 1):
                lay(disc(0.28, 0.5 + side * (wide - 0.1), choose("ears", 0.16, 0.26), 0.1), fur)
            lay(disc(0.56, 0.5, 0.34, wide), fur)
            for middle in (0.33, 0.5, 0.67):
                lay(a["stripes"] * box(0.33, middle, 0.09, 0.03), plain(0.1, 0.08, 0.05))
            for side in (-0.14, 0.14):
                lay(disc(0.54, 0.5 + turn + side, 0.06, 0.06), colour("eyes", (0.95, 0.9, 0.2), (0.1, 0.75, 0.5)))
            lay(box(0.73, 0.5 + turn, choose("mouth", 0.025, 0.06), 0.08), plain(0.7, 0.2, 0.3))
            lay(a["collar"] * box(0.9, 0.5, 0.05, 0.26), plain(0.85, 0.1, 0.1))
        case "cars":
            nose, long = choose("direction", -1.0, 1.0), choose("length", 0.3, 0.42)
            lay(everywhere, plain(0.75, 0.85, 0.95))
            lay(box(0.9, 0.5, 0.13, 1.0), plain(0.4, 0.4, 0.4))
            paint = colour("paint", (0.8, 0.15, 0.15), (0.15, 0.3, 0.75))
            lay(box(0.62, 0.5, 0.13, long), paint)
            lay(box(0.42, 0.5 - 0.1 * nose, 0.12, 0.22), paint)
            lay(box(0.42, 0.5 - 0.1 * nose, 0.08, 0.17), colour("windows", (0.9, 0.95, 1.0), (0.15, 0.15, 0.2)))
            lay(a["rack"] * box(0.24, 0.5 - 0.1 * nose, 0.05, 0.2), plain(0.3, 0.2, 0.1))
            lay(a["door"] * box(0.62, 0.5, 0.1, 0.04), plain(0.05, 0.05, 0.05))
            lay(a["lights"] * disc(0.6, 0.5 + nose * (long - 0.05), 0.06, 0.06), plain(1.0, 1.0, 0.4))
            for side in (-0.2, 0.2):
                lay(disc(0.78, 0.5 + side, *[choose("wheels", 0.08, 0.13)] * 2), plain(0.05, 0.05, 0.05))
        case "rooms":
            side = choose("side", -1.0, 1.0)
            lay(everywhere, colour("wall", (0.85, 0.8, 0.65), (0.5, 0.65, 0.75)))
            lay(box(0.9, 0.5, 0.2, 1.0), colour("floor", (0.6, 0.4, 0.2), (0.35, 0.35, 0.38)))
            lay(a["rug"] * box(0.92, 0.5, 0.06, 0.4), plain(0.7, 0.1, 0.2))
            lay(box(0.3, 0.5 - 0.22 * side, 0.16, 0.14), plain(0.95, 1.0, 1.0))
            for edge in (-0.14, 0.14):
                lay(a["curtains"] * box(0.32, 0.5 - 0.22 * side + edge, 0.22, 0.05), plain(0.2, 0.5, 0.25))
            lay(box(0.7, 0.5 + 0.15 * side, 0.1, choose("bed", 0.18, 0.32)), plain(0.95, 0.95, 0.95))
            lay(a["picture"] * box(0.25, 0.5 + 0.25 * side, 0.1, 0.12), plain(0.15, 0.1, 0.3))
            lay(a["lamp"] * disc(0.55, 0.5 - 0.4 * side, 0.08, 0.08), plain(1.0, 0.9, 0.2))
    return (2 * canvas * (1 + LIGHT * light[:, None]) - 1).clamp(-1, 1)


def to_row(pictures: Tensor, size: int) -> list[list[list[list[float]]]]:
    """Pictures (N, …) of 3 · size² numbers in [-1, 1] as one row of a figure: N of (size, size, 3) in [0, 1]."""
    return ((pictures.view(-1, 3, size, size).clamp(-1, 1) + 1) / 2).permute(0, 2, 3, 1).numpy().tolist()
