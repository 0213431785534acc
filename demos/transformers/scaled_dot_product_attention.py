"""Scaled dot-product attention and why it divides by √dₖ

Question: What happens to the softmax and its gradients when query–key scores are not divided by √dₖ?
Source: Vaswani et al. 2017, arXiv:1706.03762, §3.2.1, eq. (1) and footnote 4.
Watch: the entropy of the attention weights and the gradient that reaches the scores, with the scale and without it, as
  dₖ grows. Turn the scale off at dₖ = 512: one key takes nearly all the weight, and most queries stop learning.
"""

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention as kernel

from demos.contract import Claim, DemoParams, Heatmap, Lines, Metric, Preset, Result, Table, Tick, no_tick

SIZES = [16, 32, 64, 128, 256, 512]  # d_k of the sweep; the claims on saturation are read at the last one
QUERIES = 1000  # whose entropy and gradient are averaged
SAMPLES = 3000  # queries and keys whose 9 million scores give a variance within 1 %


class Params(DemoParams):
    d_k: int = Field(64, ge=8, le=1024, description="Width of one key or query vector")
    seq_len: int = Field(64, ge=8, le=512, description="Number of keys T that a query looks at")
    scale: bool = Field(True, description="Divide the scores by √dₖ")
    temperature: float = Field(1.0, ge=0.1, le=10.0, description="Extra divisor of the scores")
    seed: int = Field(0, ge=0, le=2147483647, description="Seed of the random queries, keys and values")

    presets: ClassVar[Mapping[str, Preset]] = {
        "no-scale": Preset("Without √dₖ the softmax picks one key and the gradient dies", {"d_k": 512, "scale": False}),
        "cold": Preset("A low temperature saturates the softmax just as a missing scale does", {"temperature": 0.1}),
        "hot": Preset("A high temperature makes every key count alike", {"temperature": 10.0}),
    }


def attention(q: Tensor, k: Tensor, v: Tensor, scale: float, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Eq. (1). q (N, d_k), k (T, d_k), v (T, d_v), mask (N, T) of keys allowed -> output (N, d_v), weights (N, T)."""
    scores = scale * (q @ k.T)  # (N, T); unscaled variance is d_k (footnote 4)
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)  # (N, T); e^-inf = 0: a masked key gets no weight
    weights = scores.softmax(dim=-1)  # (N, T); each row sums to 1
    return weights @ v, weights  # (N, d_v), (N, T)


def entropy(weights: Tensor) -> float:
    """Mean row entropy of weights (N, T) as a share of log T: 1 when every key counts alike, 0 when one takes all."""
    return (-torch.xlogy(weights, weights).sum(dim=-1).mean() / math.log(weights.shape[-1])).item()


def gradient_norms(scores: Tensor, upstream: Tensor) -> Tensor:
    """Norm (N,) of what the softmax hands back to each query's scores (N, T), for gradients upstream (N, T)."""
    leaf = scores.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(leaf.softmax(dim=-1), leaf, upstream)  # (N, T)
    return gradient.square().sum(dim=-1).sqrt()  # (N,)


def gap_to_kernel(q: Tensor, k: Tensor, v: Tensor, scale: float) -> float:
    """Largest difference between our output and torch's own attention, with a causal mask and without."""
    causal = torch.ones(len(q), len(k)).tril().bool()  # (N, T)
    return max(
        (attention(q, k, v, scale, mask)[0] - kernel(q, k, v, attn_mask=mask)).abs().max().item()
        for mask in (None, causal)
    )


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng = torch.Generator().manual_seed(params.seed)

    def factors(d_k: int) -> tuple[float, float]:
        """What this run multiplies q·k with, and what it would without √dₖ."""
        return (1 / math.sqrt(d_k) if params.scale else 1.0) / params.temperature, 1.0 / params.temperature

    def vectors(rows: int, d_k: int) -> Tensor:
        return torch.randn(rows, d_k, generator=rng)  # (rows, d_k), N(0, 1)

    curves: dict[str, list[float]] = {name: [] for name in ("var", "var raw", "soft", "hard", "grad", "grad raw")}
    for done, d_k in enumerate(SIZES, start=1):
        this, raw = factors(d_k)
        products = vectors(SAMPLES, d_k) @ vectors(SAMPLES, d_k).T  # (SAMPLES, SAMPLES), q·k
        variance = products.var().item()
        curves["var"].append(variance * this**2)
        curves["var raw"].append(variance)
        scores = vectors(QUERIES, d_k) @ vectors(params.seq_len, d_k).T  # (N, T)
        upstream = vectors(QUERIES, params.seq_len)  # (N, T)
        curves["soft"].append(entropy((this * scores).softmax(dim=-1)))
        curves["hard"].append(entropy((raw * scores).softmax(dim=-1)))
        curves["grad"].append(gradient_norms(this * scores, upstream).median().item())
        curves["grad raw"].append(gradient_norms(raw * scores, upstream).median().item())
        tick(done / len(SIZES), f"d_k = {d_k}", **{"entropy, this run": curves["soft"][-1]})

    this, _ = factors(params.d_k)
    q, k, v = (vectors(rows, params.d_k) for rows in (QUERIES, params.seq_len, params.seq_len))
    _, weights = attention(q, k, v, this)  # (N, T)
    sweep = list(zip(SIZES, curves["grad"], curves["grad raw"], strict=True))
    var_gap = max(abs(var - 1) for var in curves["var"])
    raw_gap = max(abs(var / d_k - 1) for d_k, var in zip(SIZES, curves["var raw"], strict=True))
    starved = curves["grad raw"][-1] / curves["grad"][-1]
    gap = gap_to_kernel(q[: len(k)], k, v, this)
    variances = {"this run": curves["var"], "q·k": curves["var raw"]}
    entropies = {"this run": curves["soft"], "without √dₖ": curves["hard"]}
    return Result(
        metrics=[
            Metric("entropy at your d_k", entropy(weights), "of log T"),
            Metric("largest weight of a query, on average", weights.max(dim=-1).values.mean().item()),
            Metric("variance of the scores at your d_k", (this * (q @ k.T)).var().item()),
        ],
        figures=[
            Lines("Variance of the scores", "d_k", "variance", SIZES, variances, log="xy"),
            Lines("Entropy of the attention weights", "d_k", "share of log T", SIZES, entropies, log="x"),
            Heatmap(f"Attention weights at d_k = {params.d_k}", "key", "query", weights[:12, :32].numpy().tolist()),
        ],
        tables=[
            Table(
                "Median norm of the gradient that reaches a query's scores",
                ["d_k", "this run", "without √dₖ", "ratio"],
                [[d_k, this_run, raw, raw / this_run] for d_k, this_run, raw in sweep],
            )
        ],
        claims=[
            Claim("Scores keep variance 1 whatever dₖ is: largest distance from 1", var_gap, "<=", 0.05),
            Claim("Without √dₖ their variance is dₖ: largest relative distance", raw_gap, "<=", 0.05),
            Claim("Attention stays soft at dₖ = 512: entropy / log T", curves["soft"][-1], ">=", 0.85),
            Claim("Without √dₖ it saturates at dₖ = 512: entropy / log T", curves["hard"][-1], "<=", 0.25),
            Claim("Saturation starves most queries: median gradient without √dₖ over this run's", starved, "<=", 0.1),
            Claim("Same output as torch's own kernel, masked or not: largest difference", gap, "<=", 1e-5),
        ],
    )
