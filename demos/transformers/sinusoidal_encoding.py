"""Sinusoidal positional encoding

Question: Why do sines and cosines of different frequencies encode order so well?
Source: Vaswani et al. 2017, arXiv:1706.03762, §3.5: the formulas, and that PE(pos + k) is linear in PE(pos).
Watch: One rotation carries the code of every position k places on, so PE(p)·PE(q) depends on p - q alone. Put a second
    sine in the place of each cosine and all of that is lost: a sine alone does not say whether it rises or falls.
"""

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor

from demos.contract import Claim, DemoParams, Heatmap, Lines, Metric, Preset, Result, Table, Tick, no_tick


class Params(DemoParams):
    d_model: int = Field(64, ge=8, le=512, description="Width of the code, that of the embeddings it is added to; even")
    max_len: int = Field(256, ge=16, le=4096, description="Positions")
    base: float = Field(10000.0, ge=10.0, le=1e6, description="Base of the geometric sequence of wavelengths")
    offset: int = Field(5, ge=1, le=64, description="Shift k whose linear map is built")
    cosine: bool = Field(True, description="Pair each sine with a cosine; otherwise the sine stands twice")
    seed: int = Field(0, ge=0, le=9999, description="Unused: nothing here is random")

    presets: ClassVar[Mapping[str, Preset]] = {
        "sines alone": Preset("No shift map, no constant norm, no similarity by distance", {"cosine": False}),
        "short wavelengths": Preset("Base 10: far positions begin to look like near ones", {"base": 10.0}),
        "narrow": Preset("Four waves: coarse, and still every claim holds", {"d_model": 8}),
    }

    @model_validator(mode="after")
    def _width_is_even(self) -> "Params":
        if self.d_model % 2:
            raise ValueError(f"d_model must be even, for sines and cosines come in pairs, and {self.d_model} is odd")
        if self.offset >= self.max_len:
            raise ValueError(f"offset must be below max_len ({self.max_len})")
        return self


def frequencies(d: int, base: float) -> Tensor:
    """ω_i = base^(-2i / d) for the pairs i = 0 … d/2 - 1, (d/2,) float64."""
    return torch.exp(torch.arange(0, d, 2, dtype=torch.float64) * (-math.log(base) / d))


def encode_positions(length: int, d: int, base: float, cosine: bool = True) -> Tensor:
    """PE(pos, 2i) = sin(ω_i pos), PE(pos, 2i+1) = cos(ω_i pos): (length, d) float64.

    Angles in float32 would be wrong by 1e-5 at position 256: ω pos is rounded before the sine is taken.
    """
    angles = torch.arange(length, dtype=torch.float64)[:, None] * frequencies(d, base)  # (length, d/2)
    pairs = torch.stack([angles.sin(), angles.cos() if cosine else angles.sin()], dim=2)  # (length, d/2, 2)
    return pairs.flatten(1)  # (length, d): the two of a pair stand side by side


def shift_map(k: int, d: int, base: float) -> Tensor:
    """M_k (d, d) with M_k PE(pos) = PE(pos + k) whatever pos: a rotation by ω_i k in the plane of each pair."""
    turn = k * frequencies(d, base)  # (d/2,)
    sines, cosines = torch.arange(0, d, 2), torch.arange(1, d, 2)  # rows of either kind
    M = torch.zeros(d, d, dtype=torch.float64)
    M[sines, sines], M[sines, cosines] = turn.cos(), turn.sin()  # sin(a + b) = cos b sin a + sin b cos a
    M[cosines, sines], M[cosines, cosines] = -turn.sin(), turn.cos()  # cos(a + b) = -sin b sin a + cos b cos a
    return M


def by_the_formula(pos: int, dim: int, d: int, base: float) -> float:
    """One entry as the paper writes it, by Python's own sine."""
    angle = pos / base ** (2 * (dim // 2) / d)
    return math.sin(angle) if dim % 2 == 0 else math.cos(angle)


def run(params: Params, tick: Tick = no_tick) -> Result:
    d, base, k, length = params.d_model, params.base, params.offset, params.max_len
    PE = encode_positions(length, d, base, params.cosine)  # (L, d)
    some = sorted({*range(min(length, 64)), *range(0, length, max(1, length // 64)), length - 1})
    formula = torch.tensor([[by_the_formula(p, i, d, base) for i in range(d)] for p in some], dtype=torch.float64)
    formula_gap = (PE[some] - formula).abs().max().item()
    tick(0.4, "entry by entry")

    shift_gap = (PE[:-k] @ shift_map(k, d, base).T - PE[k:]).abs().max().item()
    products = PE @ PE.T  # (L, L): PE(p)·PE(q)
    spread = max(products.diagonal(n).std(correction=0).item() for n in range(length // 2)) / d
    norm_gap = (products.diagonal() / (d / 2) - 1).abs().max().item()
    distances = torch.cdist(PE, PE).fill_diagonal_(math.inf)  # (L, L)
    closest = distances.min().item() / math.sqrt(d)
    turn = torch.atan2(PE[1, 0::2], PE[1, 1::2])  # (d/2,): the turn of each pair from one position to the next
    wavelengths = 2 * math.pi / turn  # (d/2,): positions in a full turn, read off the code itself
    wanted = 2 * math.pi * base ** (torch.arange(0, d, 2, dtype=torch.float64) / d)
    wave_gap = (wavelengths / wanted - 1).abs().max().item()
    tick(0.9, "similarities")

    middle, reach = length // 2, min(length // 2, 150)
    near = range(middle - reach, middle + reach)
    shown = PE[: min(length, 100)]  # (≤ 100, d)
    pairs = range(0, d // 2, max(1, d // 2 // 8))
    return Result(
        metrics=[
            Metric("shortest wavelength", wavelengths[0].item(), "positions"),
            Metric("longest wavelength", wavelengths[-1].item(), "positions"),
            Metric("similarity of neighbours", products[middle, middle + 1].item() / (d / 2), "of the largest"),
            Metric("similarity at the offset", products[0, k].item() / (d / 2), "of the largest"),
        ],
        claims=[
            Claim("The code is the paper's formula, entry by entry: largest difference", formula_gap, "<=", 1e-6),
            Claim("One rotation carries every position k places on: largest difference", shift_gap, "<=", 1e-5),
            Claim("PE(p)·PE(q) depends on p - q alone: its deviation over p, over d", spread, "<=", 1e-5),
            Claim("Every code has the same length, ‖PE‖² = d/2: largest relative distance", norm_gap, "<=", 1e-5),
            Claim("Wavelengths run from 2π to 2π base^((d-2)/d): largest relative distance", wave_gap, "<=", 1e-6),
            Claim("No two positions share a code: smallest distance over √d", closest, ">=", 0.13),
        ],
        figures=[
            Heatmap(
                "The code: sines in even columns, cosines in odd ones", x="dimension", y="position",
                values=shown.numpy().tolist(),
            ),
            Lines(
                "How alike two positions are", x="p - q", y="PE(p)·PE(q) over d/2", at=[q - middle for q in near],
                series={"similarity": (products[middle, near.start : near.stop] / (d / 2)).numpy().tolist()},
            ),
            Lines(
                "Some dimensions over the positions", x="position", y="value", at=list(range(len(shown))),
                series={
                    f"dimension {2 * i}, wavelength {wavelengths[i].item():.0f}": shown[:, 2 * i].numpy().tolist()
                    for i in pairs[:5]
                },
            ),
        ],
        tables=[
            Table(
                "Wavelength of each pair of dimensions",
                ["dimensions", "wavelength in positions", "turn a position in degrees"],
                [
                    [f"{2 * i}, {2 * i + 1}", wavelengths[i].item(), math.degrees(turn[i].item())]
                    for i in sorted({*pairs, d // 2 - 1})
                ],
            )
        ],
    )  # fmt: skip
