"""The KV cache, and how servers page it

Question: Why does generation not recompute the past, and what does the memory cost?
Source: Pope et al. 2022, arXiv:2211.05102, §3.3; shared heads: Shazeer 2019, arXiv:1911.02150, Ainslie et al. 2023,
  arXiv:2305.13245; paging: Kwon et al. 2023 (vLLM), arXiv:2309.06180, §4.
Watch: The cache gives the same tokens for a line of work instead of a parabola, and then memory is what runs out.
  A server that reserves the longest text for everyone wastes most of it (preset "contiguous"); blocks waste at most
  one per request, so more requests run at once.
"""

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import gelu, layer_norm
from torch.utils.flop_counter import FlopCounterMode

from demos.contract import Claim, DemoParams, Lines, Metric, Preset, Result, Table, Tick, no_tick

VOCABULARY, WIDTH, HEADS, LAYERS, LONGEST = 64, 64, 8, 2, 512
HEAD = WIDTH // HEADS
SLOTS = 4096  # tokens that the server's memory holds: eight reservations of the longest text
PUBLISHED = {  # layers, numbers cached per token and layer (2 · kv_heads · head_dim; MLA: d_c + d_rope)
    "GPT-2 XL": (48, 2 * 25 * 64), "GPT-3 175B": (96, 2 * 96 * 128), "Llama 3 8B": (32, 2 * 8 * 128),
    "Llama 3 70B": (80, 2 * 8 * 128), "Llama 3.1 405B": (126, 2 * 8 * 128), "DeepSeek-V3": (61, 512 + 64),
}  # fmt: skip


class Params(DemoParams):
    context: int = Field(128, ge=16, le=512, description="Tokens to generate")
    kv_heads: int = Field(4, ge=1, le=8, description="Key–value heads for 8 query heads, cut to 1, 2, 4 or 8")
    allocator: Literal["contiguous", "paged"] = Field("paged", description="How the server hands out cache memory")
    block_size: int = Field(16, ge=4, le=64, description="Tokens per block of the paged cache")
    requests: int = Field(16, ge=1, le=64, description="Requests that arrive at once")
    seed: int = Field(0, ge=0, le=9999, description="Seed of the weights and of the requests' lengths")

    presets: ClassVar[Mapping[str, Preset]] = {
        "contiguous": Preset("The longest text is reserved for every request: most memory lies idle", {
            "allocator": "contiguous",
        }),
        "one-head": Preset("Multi-query attention: the cache is an eighth of the full one", {"kv_heads": 1}),
        "crowd": Preset("64 requests on the same memory: the queue shows which allocator serves more", {
            "requests": 64,
        }),
    }  # fmt: skip


class Decoder:
    """A GPT-2 block model with random weights, with `kv` key–value heads for HEADS query heads and no biases."""

    def __init__(self, kv: int, rng: torch.Generator) -> None:
        def matrix(rows: int, columns: int) -> Tensor:
            return torch.randn(rows, columns, generator=rng) / math.sqrt(rows)

        self.kv = kv
        self.tokens, self.positions = matrix(VOCABULARY, WIDTH), matrix(LONGEST, WIDTH)
        shapes = {"q": WIDTH, "k": kv * HEAD, "v": kv * HEAD, "o": WIDTH, "up": 4 * WIDTH}
        self.blocks = [
            {name: matrix(WIDTH, size) for name, size in shapes.items()} | {"down": matrix(4 * WIDTH, WIDTH)}
            for _ in range(LAYERS)
        ]

    def step(self, ids: Tensor, cache: list[tuple[Tensor, Tensor]]) -> Tensor:
        """Logits (VOCABULARY,) after new tokens ids (T,). `cache` holds keys and values (S, kv, HEAD) of each layer for
        the S tokens before, and is brought up to date; with an empty one, everything is computed."""
        start = len(cache[0][0]) if cache else 0
        x = self.tokens[ids] + self.positions[start : start + len(ids)]  # (T, d)
        for layer, W in enumerate(self.blocks):
            h = layer_norm(x, (WIDTH,))
            q, k, v = ((h @ W[name]).view(len(ids), -1, HEAD) for name in "qkv")  # (T, n or kv, HEAD)
            if layer < len(cache):
                k, v = torch.cat([cache[layer][0], k]), torch.cat([cache[layer][1], v])  # (S + T, kv, HEAD)
                cache[layer] = k, v
            else:
                cache.append((k, v))
            x = x + self.attend(q, k, v, start).flatten(1) @ W["o"]
            x = x + gelu(layer_norm(x, (WIDTH,)) @ W["up"], approximate="tanh") @ W["down"]
        return layer_norm(x[-1], (WIDTH,)) @ self.tokens.T

    def attend(self, q: Tensor, k: Tensor, v: Tensor, start: int) -> Tensor:
        """Causal attention (T, n, HEAD), queries from position `start` on; HEADS / kv query heads share a key head."""
        k, v = (part.repeat_interleave(HEADS // self.kv, dim=1) for part in (k, v))  # (K, n, HEAD)
        future = torch.arange(len(k)) > start + torch.arange(len(q))[:, None]  # (T, K)
        scores = torch.einsum("qnd,knd->nqk", q, k) / math.sqrt(HEAD)
        return torch.einsum("nqk,knd->qnd", scores.masked_fill(future, -math.inf).softmax(dim=-1), v)


def paged_attention(q: Tensor, pool: Tensor, table: list[int], length: int) -> Tensor:
    """Attention (n, HEAD) of one query (n, HEAD) over a text whose keys and values stand in the blocks of `table`.

    pool is (2, blocks, block_size, kv, HEAD). Blocks are read one at a time: kept are a maximum, a sum, an output.
    """
    top, total, output = torch.full((HEADS, 1), -math.inf), torch.zeros(HEADS, 1), torch.zeros(HEADS, HEAD)
    for number, block in enumerate(table):
        filled = length - number * pool.shape[2]
        k, v = pool[:, block, :filled].repeat_interleave(HEADS // pool.shape[3], dim=2)  # (b, n, HEAD) each
        scores = torch.einsum("nd,bnd->nb", q, k) / math.sqrt(HEAD)  # (n, b)
        higher = torch.maximum(top, scores.amax(dim=1, keepdim=True))
        fade, weights = (top - higher).exp(), (scores - higher).exp()  # fade: what was summed under a lower maximum
        total = fade * total + weights.sum(dim=1, keepdim=True)
        output = fade * output + torch.einsum("nb,bnd->nd", weights, v)
        top = higher
    return output / total


def serve(wanted: list[int], unit: int) -> tuple[list[int], list[int], list[int]]:
    """Requests running, tokens held and tokens reserved at each step; memory is handed out in `unit` tokens.

    Continuous batching: every running request makes one token a step and leaves when it has as many as it wanted; the
    next enters at once. Where memory is full, the last to come gives its blocks back and starts again later (§4.5).
    """
    queue, running, steps = list(wanted), list[tuple[int, int]](), list[tuple[int, int, int]]()  # (wanted, made)

    def reserved() -> int:
        return sum(math.ceil(made / unit) * unit for _, made in running)

    while queue or running:
        while queue and reserved() + unit <= SLOTS:
            running.append((queue.pop(0), 1))
        steps.append((len(running), sum(made for _, made in running), reserved()))
        running = [(target, made + 1) for target, made in running if made < target]
        while reserved() > SLOTS:
            queue.insert(0, running.pop()[0])
    running_at, held, kept = (list(column) for column in zip(*steps, strict=True))
    return running_at, held, kept


def bend(values: list[int]) -> int:
    """Largest second difference: 0 for a straight line. (Torch does not count products with one key alone: token 1.)"""
    return max(abs(a - 2 * b + c) for a, b, c in zip(values, values[1:], values[2:], strict=False))


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng = torch.Generator().manual_seed(params.seed)
    kv = 1 << (params.kv_heads.bit_length() - 1)
    decoder = Decoder(kv, rng)
    cache = list[tuple[Tensor, Tensor]]()
    ids, same, gap = [0], 0, 0.0
    flops: dict[str, list[int]] = {"with the cache": [], "without": []}
    for t in range(1, params.context + 1):
        logits = list[Tensor]()
        for name, given, past in (("with the cache", ids[-1:], cache), ("without", ids, [])):
            with FlopCounterMode(display=False) as counter:
                logits.append(decoder.step(torch.tensor(given), past))
            flops[name].append(counter.get_total_flops())
        gap = max(gap, (logits[0] - logits[1]).abs().max().item())
        same += bool(logits[0].argmax() == logits[1].argmax())
        ids.append(int(logits[1].argmax()))
        tick(0.9 * t / params.context, f"token {t}", FLOPs=flops["without"][-1])

    k, v = cache[0]  # (T, kv, HEAD) each
    blocks = math.ceil(len(k) / params.block_size)
    pool, table = torch.zeros(2, 2 * blocks, params.block_size, kv, HEAD), torch.randperm(2 * blocks, generator=rng)
    table = table[:blocks].numpy().tolist()  # where the text's blocks happen to lie
    for t, token in enumerate(torch.stack([k, v], dim=1)):  # (2, kv, HEAD)
        pool[:, table[t // params.block_size], t % params.block_size] = token
    q = torch.randn(1, HEADS, HEAD, generator=rng)
    paged_gap = (paged_attention(q[0], pool, table, len(k)) - decoder.attend(q, k, v, len(k) - 1)[0]).abs().max().item()

    wanted = (LONGEST * torch.rand(params.requests, generator=rng) ** 2).long().clamp(min=8).numpy().tolist()
    units = {"contiguous": LONGEST, "paged": params.block_size}
    served = {name: serve(wanted, unit) for name, unit in units.items()}  # mostly short texts, a few long ones
    idle = {name: 1 - sum(held) / sum(kept) for name, (_, held, kept) in served.items()}
    running, held, kept = served[params.allocator]
    unused = max((total - used) / count for count, used, total in zip(running, held, kept, strict=True))
    unused /= params.block_size
    crowd = max(served["paged"][0]) / max(served["contiguous"][0])
    formula = 2 * LAYERS * kv * HEAD * 4
    stored = sum(part.nbytes for pair in cache for part in pair) / params.context
    bent, saved = bend(flops["with the cache"][1:]), flops["without"][-1] / flops["with the cache"][-1]
    at = list(range(1, params.context + 1))
    shown = slice(None, None, max(1, params.context // 128))
    return Result(
        metrics=[
            Metric("cache per token", stored, "bytes"),
            Metric("FLOPs of the last token without the cache over with it", saved),
            Metric("largest number of requests at once", max(running)),
            Metric("tokens made per step", sum(wanted) / len(running)),
        ],
        claims=[
            Claim("The cache changes nothing: share of tokens that are the same", same / params.context, "==", 1),
            Claim("The cache changes nothing: largest difference of logits", gap, "<=", 1e-4),
            Claim("A token's FLOPs lie on a line with the cache: largest bend", bent, "==", 0),
            Claim("Recomputing bends upwards: FLOPs of the last token, times the cached", saved, ">=", 50),
            Claim("Cache bytes are 2·layers·kv_heads·head_dim·4: stored over formula", stored / formula, "==", 1),
            Claim("Reading block by block is the same attention: largest difference", paged_gap, "<=", 1e-5),
            Claim("Unused memory stays below a block per request: largest, in blocks", unused, "<", 1),
            Claim("Reserving the longest text leaves memory idle: share", idle["contiguous"], ">=", 0.4),
            Claim("Paging runs more requests at once: the most, over reservations' most", crowd, ">=", 1.5),
        ],
        figures=[
            Lines("Time per token, counted in FLOPs", "tokens so far", "million FLOPs", at[shown],
                  {name: [value / 1e6 for value in values[shown]] for name, values in flops.items()}),
        ],
        tables=[
            Table(
                "Memory: the cache of published models, BF16", ["model", "bytes per token", "GB for 8,192 tokens"],
                [[name, 2 * layers * n, 2 * layers * n * 8192 / 1e9] for name, (layers, n) in PUBLISHED.items()],
            ),
            Table(
                f"Utilisation: {params.requests} requests in memory for {SLOTS} tokens",
                ["allocator", "used of reserved", "requests at once, mean", "most", "steps until all are served"],
                [
                    [name, 1 - idle[name], sum(count) / len(count), max(count), len(count)]
                    for name, (count, _, _) in served.items()
                ],
            ),
        ],
    )  # fmt: skip
