"""The quadratic cost of attention, counted and timed

Question: How do FLOPs, memory and time grow with sequence length, image side and width?
Source: Vaswani et al. 2017, arXiv:1706.03762, table 1; attention in chunks: Dao et al. 2022, arXiv:2205.14135, §3.1,
    algorithm 1.
Watch: The projections grow with N, the scores with N²: beyond N = 2d they cost more. The N × N matrix need never be
    stored: chunk by chunk with a running maximum the output is the same. Forget to rescale when the maximum rises and
    it is not.
"""

import math
import statistics
import time
from collections.abc import Mapping
from typing import ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from demos.contract import Claim, DemoParams, Lines, Metric, Preset, Result, Table, Tick, no_tick

SHORTEST, HEADS, LAYERS, BYTES = 64, 4, 12, 4  # tokens; heads; layers of the ViT table (ViT-Base's); of a float32


class Params(DemoParams):
    longest: int = Field(1024, ge=128, le=4096, description="Longest sequence; lengths double from 64 up to it")
    d_model: int = Field(128, ge=32, le=512, description="Width d; a multiple of 4")
    image_size: int = Field(224, ge=32, le=1024, description="Image side for the table of patches")
    patch_size: int = Field(16, ge=4, le=32, description="Patch side")
    chunk: int = Field(0, ge=0, le=512, description="Queries and keys looked at together (0: the whole matrix)")
    rescale: bool = Field(True, description="Rescale what was summed when a larger score turns up")
    seed: int = Field(0, ge=0, le=9999, description="Seed of the vectors")

    presets: ClassVar[Mapping[str, Preset]] = {
        "in chunks": Preset("128 queries and keys at a time: a fixed piece of memory", {"chunk": 128}),
        "no rescaling": Preset("Sums of different scales are added up: another output", {"rescale": False}),
        "small patches": Preset("A quarter of the patch side, 256 times the scores", {"patch_size": 4}),
    }

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> "Params":
        if self.d_model % HEADS:
            raise ValueError(f"d_model must be a multiple of {HEADS}, and {self.d_model} is none")
        return self


class Layer(nn.Module):
    """The matrix products of one transformer layer of width d: x (1, N, d) -> (1, N, d)."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(d, 3 * d, bias=False), nn.Linear(d, d, bias=False)
        self.up, self.down = nn.Linear(d, 4 * d, bias=False), nn.Linear(4 * d, d, bias=False)

    def project(self, x: Tensor) -> Tensor:
        """Q, K, V and the output projection: 4 products of N·d·d. The mixing between them is left out here."""
        return self.out(self.qkv(x)[..., : x.shape[-1]])

    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Scores and the weighted sum: 2 products of N·N·d. Each (h, N, d/h)."""
        return (q @ k.transpose(1, 2) / math.sqrt(q.shape[2])).softmax(dim=2) @ v

    def mlp(self, x: Tensor) -> Tensor:
        return self.down(self.up(x).relu())


def count_flops(d: int, N: int) -> dict[str, int]:
    """Floating point operations of each part, counted while it runs on tensors that hold no numbers."""
    with torch.device("meta"):
        layer, x, q = Layer(d), torch.empty(1, N, d), torch.empty(HEADS, N, d // HEADS)
    counts = dict[str, int]()
    for name, work in (("projections", lambda: layer.project(x)), ("scores", lambda: layer.mix(q, q, q)),
                       ("MLP", lambda: layer.mlp(x))):  # fmt: skip
        with FlopCounterMode(display=False) as counter:
            work()
        counts[name] = counter.get_total_flops()
    return counts


def attend_in_chunks(q: Tensor, k: Tensor, v: Tensor, chunk: int, rescale: bool = True) -> tuple[Tensor, int]:
    """Softmax attention that holds at most chunk × chunk scores: q, k, v (h, N, d/h) -> output, bytes of scores held.

    Algorithm 1: each chunk of queries goes through the keys with the largest score so far m, the mass Σ e^(score - m),
    and the sum of values so weighted; when m rises, what was summed is rescaled by e^(old m - new m).
    """
    rows, most = list[Tensor](), 0
    for some_q in torch.split(q, chunk, dim=1):
        m = torch.full((*some_q.shape[:2], 1), -math.inf, dtype=q.dtype)  # (h, c, 1)
        mass, total = torch.zeros_like(m), torch.zeros_like(some_q)
        for some_k, some_v in zip(torch.split(k, chunk, dim=1), torch.split(v, chunk, dim=1), strict=True):
            scores = some_q @ some_k.transpose(1, 2) / math.sqrt(q.shape[2])  # (h, c, c)
            new_m = torch.maximum(m, scores.amax(dim=2, keepdim=True))
            old = (m - new_m).exp() if rescale else torch.ones_like(m)
            weights = (scores - new_m).exp()
            mass = old * mass + weights.sum(dim=2, keepdim=True)
            total = old * total + weights @ some_v
            m, most = new_m, max(most, scores.numel() * scores.element_size())
        rows.append(total / mass)
    return torch.cat(rows, dim=1), most


def score_bytes(N: int, chunk: int) -> int:
    """Bytes of one head's scores that are held at a time, float32."""
    side = min(N, chunk) if chunk else N
    return BYTES * side * side


def milliseconds(layer: Layer, N: int, d: int, rng: torch.Generator) -> list[float]:
    """Median time of the three parts over five runs: projections, scores, MLP."""
    x, q = torch.randn(1, N, d, generator=rng), torch.randn(HEADS, N, d // HEADS, generator=rng)
    medians = list[float]()
    for work in (lambda: layer.project(x), lambda: layer.mix(q, q, q), lambda: layer.mlp(x)):
        taken = list[float]()
        for _ in range(5):
            start = time.perf_counter()
            work()
            taken.append(1000 * (time.perf_counter() - start))
        medians.append(statistics.median(taken))
    return medians


@torch.no_grad()
def run(params: Params, tick: Tick = no_tick) -> Result:
    rng = torch.Generator().manual_seed(params.seed)
    d, chunk = params.d_model, params.chunk
    lengths = [SHORTEST * 2**n for n in range(7) if SHORTEST * 2**n <= params.longest]
    counts = {N: count_flops(d, N) for N in lengths}
    off = max(
        abs((count["projections"] + count["scores"]) / (8 * N * d**2 + 4 * N**2 * d) - 1) for N, count in counts.items()
    )
    at_crossing = count_flops(d, 2 * d)
    tick(0.2, "counted")

    q, k, v = (torch.randn(HEADS, 384, d // HEADS, generator=rng).double() for _ in range(3))  # (h, N, d/h)
    whole = Layer(HEADS).mix(3 * q, k, v)  # 3: scores of some size, so that maxima do rise on the way
    in_chunks, held = attend_in_chunks(3 * q, k, v, chunk or 64, params.rescale)
    chunk_gap = (whole - in_chunks).abs().max().item()
    measured = [(q[:, :N] @ k[:, :N].transpose(1, 2)).float().nbytes for N in (192, 384)]
    tick(0.3, "in chunks")

    layer = Layer(d)
    for weight in layer.parameters():
        nn.init.normal_(weight, std=d**-0.5, generator=rng)
    times = dict[int, list[float]]()
    for N in lengths:
        times[N] = milliseconds(layer, N, d, rng)
        tick(0.3 + 0.7 * len(times) / len(lengths), f"N = {N}")
    tokens = (params.image_size // params.patch_size) ** 2
    image = count_flops(768, tokens)  # ViT-Base's width
    patches = sorted({1, 4, 8, 16, 32, params.patch_size})
    rows = [[P, n, sum(count_flops(768, n).values()) * LAYERS / 1e9, score_bytes(n, 0) / 2**20]
            for P in patches for n in [(params.image_size // P) ** 2]]  # fmt: skip
    return Result(
        metrics=[
            Metric("tokens of the image", tokens),
            Metric("operations of ViT-Base on the image", sum(image.values()) * LAYERS / 1e9, "GFLOP"),
            Metric("share of the scores in them", image["scores"] / sum(image.values())),
            Metric("scores held at a time, longest sequence", score_bytes(lengths[-1], chunk) / 2**20, "MiB a head"),
        ],
        claims=[
            Claim("Counted operations of attention are 8Nd² + 4N²d: largest relative distance", off, "<=", 0.01),
            Claim("Twice the tokens, four times the scores: ratio of bytes of two stored matrices",
                  measured[1] / measured[0], "==", 4),
            Claim("At N = 2d scores cost what projections cost: counted ratio",
                  at_crossing["scores"] / at_crossing["projections"], "==", 1),
            Claim("Attention in chunks gives the same output: largest difference", chunk_gap, "<=", 1e-5),
            Claim("… while it holds few scores: bytes held over those of the whole matrix",
                  held / (HEADS * 384**2 * 8), "<=", 0.15),
        ],
        figures=[
            Lines("Operations of one layer", x="tokens N", y="FLOP", log="xy", at=lengths,
                  series={name: [counts[N][name] for N in lengths] for name in counts[lengths[0]]}),
            Lines("Scores of one head held at a time", x="tokens N", y="bytes", log="xy", at=lengths,
                  series={"whole matrix": [score_bytes(N, 0) for N in lengths],
                          f"chunks of {chunk or 64}": [score_bytes(N, chunk or 64) for N in lengths]}),
        ],
        tables=[
            Table("Median time on this machine", ["tokens", "projections, ms", "scores, ms", "MLP, ms"],
                  [[N, *some] for N, some in times.items()]),
            Table(f"ViT-Base on an image of {params.image_size} x {params.image_size}",
                  ["patch", "tokens", "GFLOP", "scores of one head, MiB"], rows),
        ],
    )  # fmt: skip
