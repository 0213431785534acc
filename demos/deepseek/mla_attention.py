"""Multi-head latent attention

Question: How can 128 heads keep a cache of 576 numbers per token?
Source: DeepSeek-AI 2024 (V2), arXiv:2405.04434, §2.1.2–2.1.3 and appendix C; DeepSeek-AI 2024 (V3), arXiv:2412.19437,
  §2.1.1, eqs. (1)–(11).
Watch: One small vector per token is cached, and keys and values of all heads are linear maps of it. So the maps can be
  moved into the query and the output, and the keys are never built. Rotate those keys by position (preset "coupled")
  and that no longer works: this is why MLA has a rotary key apart.
"""

import math
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import rms_norm, scaled_dot_product_attention

from demos.contract import Claim, DemoParams, Lines, Metric, Preset, Result, Table, Tick, no_tick

WIDTH, TOKENS = 128, 64  # of the hidden vectors (V3: 7168), and of the sequence on which the forms are compared
V3 = {"heads": 128, "head_dim": 128, "d_c": 512, "d_rope": 64, "layers": 61}  # §4.2
BYTES = 2  # BF16


class Params(DemoParams):
    d_c: int = Field(32, ge=8, le=512, description="Width of the latent that keys and values are made from (V3: 512)")
    d_rope: int = Field(16, ge=4, le=64, description="Width of the rotary key, cut to an even number (V3: 64)")
    q_rank: int = Field(48, ge=8, le=1536, description="Width of the query latent (V3: 1536)")
    heads: int = Field(8, ge=1, le=128, description="Attention heads (V3: 128)")
    head_dim: int = Field(32, ge=8, le=128, description="Width of a head's keys and values, cut to even (V3: 128)")
    context: int = Field(64, ge=8, le=4096, description="Tokens in the cache, for the figures of memory")
    decoupled: bool = Field(True, description="Position in a rotary key apart; off: rotate the keys themselves")
    seed: int = Field(0, ge=0, le=9999, description="Seed of the weights and hidden vectors")

    presets: ClassVar[Mapping[str, Preset]] = {
        "coupled": Preset(
            "Rotary positions on the keys themselves: W_UK cannot be absorbed any more", {"decoupled": False}
        ),
        "one-head": Preset("A single head has little to share: its cache shrinks by a quarter only", {"heads": 1}),
        "v3-heads": Preset("V3's heads and latent: 576 numbers for 128 heads of 128", {
            "heads": 128, "head_dim": 128, "d_c": 512, "d_rope": 64,
        }),
    }  # fmt: skip


def rotate(x: Tensor, position: Tensor) -> Tensor:
    """RoPE of x (T, n, d) at position (T,): each pair (2i, 2i+1) turns by position / 10000^(2i/d)."""
    d = x.shape[-1]
    angle = position[:, None] * 10_000 ** (-torch.arange(0, d, 2) / d)  # (T, d/2)
    turn = torch.polar(torch.ones_like(angle), angle)  # (T, d/2), e^(i·angle)
    pairs = torch.complex(x[..., 0::2], x[..., 1::2])  # (T, n, d/2)
    return torch.view_as_real(pairs * turn[:, None]).flatten(-2)


def softmax_causal(scores: Tensor, position: Tensor) -> Tensor:
    """Weights (n, Q, K) of scores (n, Q, K); a query at position (Q,) sees the keys up to its own."""
    future = torch.arange(scores.shape[-1]) > position[:, None]  # (Q, K)
    return scores.masked_fill(future, -math.inf).softmax(dim=-1)


class LatentAttention:
    """MLA with random weights; d = WIDTH, n heads of width h, latents d_c and q_rank, rotary width r."""

    def __init__(self, params: Params, rng: torch.Generator) -> None:
        self.n, self.h, self.r = params.heads, params.head_dim // 2 * 2, params.d_rope // 2 * 2
        self.decoupled = params.decoupled

        def matrix(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=rng) / math.sqrt(shape[-1])  # keeps the variance of its input

        self.W_DKV, self.W_KR = matrix(params.d_c, WIDTH), matrix(self.r, WIDTH)
        self.W_UK, self.W_UV = matrix(self.n, self.h, params.d_c), matrix(self.n, self.h, params.d_c)
        self.W_DQ = matrix(params.q_rank, WIDTH)
        self.W_UQ, self.W_QR = matrix(self.n, self.h, params.q_rank), matrix(self.n, self.r, params.q_rank)
        self.W_O = matrix(WIDTH, self.n * self.h)
        self.scale = 1 / math.sqrt(self.h + self.r)

    def compress(self, x: Tensor, position: Tensor) -> Tensor:
        """All that is cached of hidden vectors x (T, d): [c ; k^R], (T, d_c + r). Eqs. (1), (3)."""
        c = rms_norm(x @ self.W_DKV.T, self.W_DKV.shape[:1], eps=1e-6)  # (T, d_c)
        k_rope = rotate((x @ self.W_KR.T)[:, None], position)[:, 0]  # (T, r), one for all heads
        return torch.cat([c, k_rope], dim=1)

    def queries(self, x: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        """Content part (T, n, h) and rotary part (T, n, r) of the queries. Eqs. (6)–(9)."""
        c_q = rms_norm(x @ self.W_DQ.T, self.W_DQ.shape[:1], eps=1e-6)  # (T, q_rank)
        content = torch.einsum("nhc,tc->tnh", self.W_UQ, c_q)
        if not self.decoupled:
            content = rotate(content, position)
        return content, rotate(torch.einsum("nrc,tc->tnr", self.W_QR, c_q), position)

    def keys_and_values(self, cache: Tensor) -> tuple[Tensor, Tensor]:
        """Keys (K, n, h + r) and values (K, n, h) of all heads, from the cache (K, d_c + r). Eqs. (2), (4), (5)."""
        c, k_rope = cache[:, : -self.r], cache[:, -self.r :]
        content = torch.einsum("nhc,kc->knh", self.W_UK, c)
        if not self.decoupled:
            content = rotate(content, torch.arange(len(c)))
        keys = torch.cat([content, k_rope[:, None].expand(-1, self.n, -1)], dim=-1)
        return keys, torch.einsum("nhc,kc->knh", self.W_UV, c)

    def expanded(self, x: Tensor) -> Tensor:
        """The form for training, (T, d): build every head's keys and values, then attend. Eqs. (10), (11)."""
        position = torch.arange(len(x))
        keys, values = self.keys_and_values(self.compress(x, position))
        scores = torch.einsum("qnd,knd->nqk", torch.cat(self.queries(x, position), dim=-1), keys)
        weights = softmax_causal(scores * self.scale, position)  # (n, T, T)
        return torch.einsum("nqk,knh->qnh", weights, values).flatten(1) @ self.W_O.T

    def absorbed(self, x: Tensor, position: Tensor, cache: Tensor) -> Tensor:
        """The form for generation, (Q, d) for x (Q, d): q·(W_UK c) = (W_UKᵀ q)·c, so heads read the cache itself.

        Without a rotary key apart the score is q·R(W_UK c). A matrix that turns with the position cannot be moved to
        the query; what is left is to turn the latents, which is something else.
        """
        content, rope = self.queries(x, position)
        c, k_rope = cache[:, : -self.r], cache[:, -self.r :]
        latent = torch.einsum("qnh,nhc->qnc", content, self.W_UK)  # (Q, n, d_c): the query moved into the latent space
        seen = c if self.decoupled else rotate(c[:, None], torch.arange(len(c)))[:, 0]
        scores = torch.einsum("qnc,kc->nqk", latent, seen) + torch.einsum("qnr,kr->nqk", rope, k_rope)
        weights = softmax_causal(scores * self.scale, position)  # (n, Q, K)
        mixed = torch.einsum("nqk,kc->qnc", weights, c)  # (Q, n, d_c): values are built once, after the sum
        return torch.einsum("qnc,nhc->qnh", mixed, self.W_UV).flatten(1) @ self.W_O.T


def generate(mla: LatentAttention, x: Tensor, tick: Tick) -> tuple[Tensor, Tensor]:
    """Outputs (T, d) for x (T, d) given one token at a time, and the cache (T, d_c + r) that this leaves."""
    cache, outputs = torch.empty(0, len(mla.W_DKV) + mla.r), list[Tensor]()
    for t in range(len(x)):
        token, position = x[t : t + 1], torch.tensor([t])  # (1, d), (1,)
        cache = torch.cat([cache, mla.compress(token, position)])
        outputs.append(mla.absorbed(token, position, cache))
        tick(0.2 + 0.8 * (t + 1) / len(x), f"token {t + 1}", **{"numbers in the cache": cache.numel()})
    return torch.cat(outputs), cache


def cached_numbers(heads: int, head_dim: int, d_c: int, d_rope: int) -> dict[str, int]:
    """Numbers kept per token and layer: keys and values of all heads, of a quarter, of one; or the latent."""
    kinds = {"MHA": heads, "GQA, heads / 4": max(1, heads // 4), "MQA": 1}
    return {kind: 2 * kept * head_dim for kind, kept in kinds.items()} | {"MLA": d_c + d_rope}


def run(params: Params, tick: Tick = no_tick) -> Result:
    def generator(seed: int) -> torch.Generator:
        return torch.Generator().manual_seed(seed)

    mla = LatentAttention(params, generator(params.seed))
    x = torch.randn(TOKENS, WIDTH, generator=generator(params.seed + 10_000))  # (T, d)
    position = torch.arange(TOKENS)
    expanded, compressed = mla.expanded(x), mla.compress(x, position)
    absorbed = mla.absorbed(x, position, compressed)
    tick(0.2, "expanded and absorbed")
    stepped, cache = generate(mla, x, tick)
    q = torch.cat(mla.queries(x, position), dim=-1)  # (T, n, h + r)
    k, v = mla.keys_and_values(cache)
    q, k, v = q.transpose(0, 1), k.transpose(0, 1), v.transpose(0, 1)  # (n, T, ·)
    kernel = scaled_dot_product_attention(q, k, v, is_causal=True).transpose(0, 1).flatten(1) @ mla.W_O.T  # (T, d)
    coupled = LatentAttention(params.model_copy(update={"decoupled": False}), generator(params.seed))
    broken = (coupled.absorbed(x, position, compressed) - coupled.expanded(x)).abs().max().item()

    def gap(output: Tensor) -> float:
        return (output - expanded).abs().max().item()

    content = k[..., : mla.h].transpose(0, 1).flatten(1)  # (T, n·h): one row holds the keys of all heads
    rank = int(np.linalg.matrix_rank(content.numpy()))
    share = cache.numel() / (content.numel() + v.numel())
    ours = cached_numbers(mla.n, mla.h, params.d_c, mla.r)
    theirs = cached_numbers(V3["heads"], V3["head_dim"], V3["d_c"], V3["d_rope"])
    lengths = [round(params.context * part / 8) for part in range(1, 9)]
    built = 2 * params.context * params.d_c * mla.n * 2 * mla.h  # FLOPs that make keys and values of the whole cache
    attended = 2 * params.context * mla.n * (2 * mla.h + mla.r)
    moved = 2 * mla.n * 2 * mla.h * params.d_c
    in_latent = 2 * params.context * mla.n * (2 * params.d_c + mla.r)
    return Result(
        metrics=[
            Metric("cached numbers per token", cache.shape[1]),
            Metric("share of what ordinary attention caches", share),
            Metric("rank of the keys of all heads", rank, f"of {min(content.shape)}"),
        ],
        claims=[
            Claim("The latent cache is small: its numbers over the keys and values of all heads", share, "<=", 0.1),
            Claim("DeepSeek-V3's own sizes: share of the cache kept", theirs["MLA"] / theirs["MHA"], "<=", 0.018),
            Claim("Keys of all heads are maps of one latent: their rank over d_c", rank / params.d_c, "<=", 1.0),
            Claim("Absorbed and expanded form agree: largest difference", gap(absorbed), "<=", 1e-5),
            Claim("Token by token from the cache alone, the same: largest difference", gap(stepped), "<=", 1e-5),
            Claim("With rotated keys absorbing goes wrong: largest difference", broken, ">=", 0.1),
            Claim("Built keys in torch's own attention kernel: largest difference", gap(kernel), "<=", 1e-5),
        ],
        figures=[
            Lines(
                "Cache of one layer in BF16", x="tokens", y="KiB", at=lengths,
                series={kind: [BYTES * n * length / 1024 for length in lengths] for kind, n in ours.items()},
            )
        ],
        tables=[
            Table(
                "Cache", ["", *ours],
                [
                    ["this run: numbers per token and layer", *ours.values()],
                    ["this run: bytes per token and layer, BF16", *(BYTES * n for n in ours.values())],
                    [f"this run: {params.context} tokens, bytes", *(BYTES * n * params.context for n in ours.values())],
                    ["DeepSeek-V3: numbers per token and layer", *theirs.values()],
                    ["DeepSeek-V3: bytes per token, 61 layers", *(BYTES * V3["layers"] * n for n in theirs.values())],
                ],
            ),
            Table(
                "Paths", ["form", "largest difference from expanded", f"FLOPs for the token after {params.context}"],
                [
                    ["expanded: keys and values built from the cache", gap(kernel), built + attended],
                    ["absorbed, all tokens at once", gap(absorbed), moved + in_latent],
                    ["absorbed, token by token from the cache", gap(stepped), moved + in_latent],
                ],
            ),
        ],
    )  # fmt: skip
