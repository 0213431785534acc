"""Rotary position embedding

Question: How does rotating queries and keys make scores depend on distance only?
Source: Su et al. 2021 (RoFormer), arXiv:2104.09864, §3.2.2 and eqs. (14)–(16); decay: §3.4.3, eqs. (35)–(37).
Watch: Move query and key by the same number of positions: the score stays. Add the same angles' sines and cosines
  instead of rotating (preset "added"), and it does not. Rotate only a part (preset "partial"), and the rest of the
  score has no position in it at all.
"""

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import pad

from demos.contract import Claim, DemoParams, Heatmap, Lines, Metric, Preset, Result, Table, Tick, no_tick

PAIRS, TOKENS = 64, 64  # random query–key pairs, and the positions at which each is tried
FAR = 256  # distance up to which the decay is shown

Layout = Literal["interleaved", "half-split"]


class Params(DemoParams):
    dim: int = Field(64, ge=4, le=256, description="Width of a query or key, cut to an even number")
    theta: float = Field(10_000.0, ge=100.0, le=1_000_000.0, description="Base of the frequencies: slowest turn")
    offset: int = Field(7, ge=1, le=256, description="Positions by which query and key are moved together")
    rotated: int = Field(64, ge=0, le=256, description="Numbers of a vector that turn; the rest carry content only")
    position: Literal["rotate", "add"] = Field("rotate", description="Rotate by the angles, or add their sin and cos")
    seed: int = Field(0, ge=0, le=9999, description="Seed of the random queries and keys")

    presets: ClassVar[Mapping[str, Preset]] = {
        "added": Preset("Sinusoids added to the vectors: scores depend on where, not only on how far", {
            "position": "add",
        }),
        "none": Preset("Nothing turns: no order at all, so nothing falls off with distance", {"rotated": 0}),
        "partial": Preset("Only 16 of 64 numbers turn, as in MLA's rotary key: the rest holds its score", {
            "rotated": 16,
        }),
        "long-context": Preset("Base 10⁶: the turns are slower, so the score falls off later", {"theta": 1e6}),
    }  # fmt: skip


def frequencies(width: int, theta: float) -> Tensor:
    """Radians per position of each of width / 2 pairs: 1 for the first, almost 1 / theta for the last. Eq. (15)."""
    return theta ** (-torch.arange(0, width, 2) / max(width, 1))  # (width / 2,)


def rotate(x: Tensor, position: Tensor, theta: float, layout: Layout = "interleaved") -> Tensor:
    """Turn the pairs of x (…, T, d) at position (T,), d even. Pair i is (2i, 2i+1), or (i, i + d/2) if half-split."""
    angle = position[:, None] * frequencies(x.shape[-1], theta)  # (T, d/2)
    a, b = (x[..., 0::2], x[..., 1::2]) if layout == "interleaved" else x.tensor_split(2, dim=-1)  # (…, T, d/2)
    turned = [a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()]
    return torch.stack(turned, dim=-1).flatten(-2) if layout == "interleaved" else torch.cat(turned, dim=-1)


def place(x: Tensor, position: Tensor, rotated: int, params: Params) -> Tensor:
    """Give x (…, T, d) its position (T,), in its first `rotated` numbers only."""
    head, rest = x[..., :rotated], x[..., rotated:]
    if params.position == "add":
        angle = position[:, None] * frequencies(rotated, params.theta)
        return torch.cat([head + torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-2), rest], dim=-1)
    return torch.cat([rotate(head, position, params.theta), rest], dim=-1)


def score_in_closed_form(q: Tensor, k: Tensor, distance: Tensor, theta: float) -> Tensor:
    """q_m·k_n from the distances m − n (D,) alone: Re Σ q_i k_i* e^(i(m−n)θ_i), (N, D) for q, k (N, d). Eq. (16)."""
    products = torch.complex(q[:, 0::2], q[:, 1::2]) * torch.complex(k[:, 0::2], -k[:, 1::2])  # (N, d/2)
    angle = frequencies(q.shape[1], theta)[:, None] * distance  # (d/2, D)
    return (products @ torch.polar(torch.ones_like(angle), angle)).real


def envelope(width: int, distance: Tensor, theta: float) -> Tensor:
    """Mean |S_j| over the partial sums S_j = Σ_{i<j} e^(i·distance·θ_i), (D,): bounds the score, eqs. (36), (37)."""
    if width == 0:
        return torch.ones(len(distance))  # nothing turns, so distance bounds nothing
    angle = frequencies(width, theta)[:, None] * distance  # (d/2, D)
    return torch.polar(torch.ones_like(angle), angle).cumsum(dim=0).abs().mean(dim=0)


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng = torch.Generator().manual_seed(params.seed)
    d, rotated = params.dim // 2 * 2, min(params.rotated, params.dim) // 2 * 2
    q, k = (torch.randn(PAIRS, 1, d, generator=rng).expand(-1, TOKENS, -1) for _ in "qk")  # (N, T, d), one vector each
    here = torch.arange(TOKENS)

    def scores(moved: int) -> Tensor:
        """Scores (N, T, T) of every query position with every key position, all moved alike."""
        placed = (place(x, here + moved, rotated, params) for x in (q, k))
        return torch.einsum("nqd,nkd->nqk", *placed) / math.sqrt(d)

    at_home = scores(0)
    shift_gap = (scores(params.offset) - at_home).abs().max().item()
    tick(0.3, "moved together", gap=shift_gap)
    placed = place(q, here + params.offset, rotated, params)
    lengths = [x.square().sum(dim=-1).sqrt() for x in (q, placed)]  # (N, T) each
    stretch = (lengths[1] / lengths[0] - 1).abs().max().item()
    order = torch.cat([torch.arange(0, d, 2), torch.arange(1, d, 2)])  # interleaved pairs, sorted for half-split
    layout_gap = rotate(q, here, params.theta)[..., order] - rotate(q[..., order], here, params.theta, "half-split")
    distance = here[:, None] - here  # (T, T), m − n
    closed = score_in_closed_form(q[:, 0, :rotated], k[:, 0, :rotated], distance.flatten().float(), params.theta)
    content = torch.einsum("nd,nd->n", q[:, 0, rotated:], k[:, 0, rotated:])  # (N,), what has no position
    closed_gap = (at_home - (closed + content[:, None]).view(-1, TOKENS, TOKENS) / math.sqrt(d)).abs().max().item()
    tick(0.6, "closed form", gap=closed_gap)

    far = torch.arange(0, FAR + 1, 4)  # (D,)
    start = place(q[:, :1], torch.zeros(1), rotated, params)[:, 0]  # (N, d), the query at position 0
    later = place(q[:, :1].expand(-1, len(far), -1), far, rotated, params)  # (N, D, d), the same vector as key
    whole = torch.einsum("nd,nkd->nk", start, later).mean(dim=0) / d  # (D,)
    turning = torch.einsum("nd,nkd->nk", start[:, :rotated], later[..., :rotated]).mean(dim=0) / d
    ends = torch.tensor([1.0, FAR])
    near, distant = envelope(rotated, ends, params.theta).numpy()
    angle = pad(here[:33, None] * frequencies(rotated, params.theta), (0, (d - rotated) // 2))  # (33, d/2)
    waves = 2 * math.pi / frequencies(rotated, params.theta)  # (rotated / 2,), positions per full turn
    return Result(
        metrics=[
            Metric("numbers that turn", rotated, f"of {d}"),
            Metric("like vectors: score at distance 256 over that at 0", (whole[-1] / whole[0]).item()),
        ],
        claims=[
            Claim("Query and key moved together keep their score: largest change", shift_gap, "<=", 1e-4),
            Claim("Scores follow from the distance alone, eq. (16): largest difference", closed_gap, "<=", 1e-4),
            Claim("Rotation keeps the length: largest relative change", stretch, "<=", 1e-5),
            Claim("Both layouts are one up to order: largest difference", layout_gap.abs().max().item(), "<=", 1e-5),
            Claim("Far keys can score less: bound at distance 256 over that at 1", float(distant / near), "<=", 0.5),
        ],
        figures=[
            Lines(
                "Score of two equal vectors by distance", x="distance", y="share of |q|²", at=far.numpy().tolist(),
                series={
                    "whole score": whole.numpy().tolist(), "numbers that turn": turning.numpy().tolist(),
                    "the rest": (whole - turning).numpy().tolist(),
                },
            ),
            Lines(
                "Bound of the score by distance", x="distance", y="mean |S_j|", at=far.numpy().tolist(),
                series={"all pairs turn": envelope(d, far, params.theta).numpy().tolist(),
                        "those of this run": envelope(rotated, far, params.theta).numpy().tolist()},
            ),
            Heatmap(
                "Angles: cosine of each pair's turn", x="position", y="pair (0 is the fastest)",
                values=angle.cos().T.numpy().tolist(), row_labels=[str(i) for i in range(d // 2)],
                column_labels=[str(position) for position in range(33)],
            ),
        ],
        tables=[
            Table(
                "Positions until a pair has turned once", ["pair", "positions"],
                [[i, wave] for i, wave in enumerate(waves.numpy().tolist()) if i % max(1, len(waves) // 8) == 0],
            )
        ],
    )  # fmt: skip
