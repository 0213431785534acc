"""Where do 110 million or 671 billion parameters sit?

Question: How do layers, width, heads and experts add up to the published sizes?
Source: configurations of Devlin et al. 2018, arXiv:1810.04805; Brown et al. 2020, arXiv:2005.14165, table 2.1;
  Dosovitskiy et al. 2020, arXiv:2010.11929; Llama team 2024, arXiv:2407.21783; DeepSeek-AI 2024, arXiv:2412.19437.
Watch: Nearly everything is in the blocks, 12·d² in each dense one. Experts multiply what is stored, not what a token
  uses. Count a shared output matrix twice (preset "untied"), as a summary of modules does, and GPT-2 has 163M.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import nn

from demos.contract import Bars, Claim, DemoParams, Metric, Preset, Result, Table, Tick, no_tick

Name = Literal[
    "bert-base", "bert-large", "gpt-1", "gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl", "gpt-3",
    "vit-b16", "vit-l16", "vit-h14", "llama3-8b", "llama3-70b", "deepseek-v2", "deepseek-v3", "custom",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Model:
    """A configuration. `published` and `active` are the sizes its makers give; 0 where they give none."""

    family: Literal["bert", "gpt", "vit", "llama", "deepseek"]
    layers: int
    d: int
    heads: int
    ff: int  # width of a feed-forward layer, or of one expert
    rows: int  # of the embedding table: vocabulary; for ViT the numbers in one patch
    positions: int = 0
    kv_heads: int = 0
    experts: int = 0
    top_k: int = 0
    shared: int = 0
    dense: int = 0  # leading layers without experts, and the width of their feed-forward layer
    dense_ff: int = 0
    final_norm: bool = True
    published: float = 0.0
    active: float = 0.0


MODELS: Mapping[str, Model] = {
    "bert-base": Model("bert", 12, 768, 12, 3072, 30522, 512, published=110e6),
    "bert-large": Model("bert", 24, 1024, 16, 4096, 30522, 512, published=340e6),
    "gpt-1": Model("gpt", 12, 768, 12, 3072, 40478, 512, final_norm=False, published=117e6),
    "gpt2": Model("gpt", 12, 768, 12, 3072, 50257, 1024, published=124e6),  # the paper's 117M was a slip
    "gpt2-medium": Model("gpt", 24, 1024, 16, 4096, 50257, 1024, published=355e6),
    "gpt2-large": Model("gpt", 36, 1280, 20, 5120, 50257, 1024, published=774e6),
    "gpt2-xl": Model("gpt", 48, 1600, 25, 6400, 50257, 1024, published=1558e6),
    "gpt-3": Model("gpt", 96, 12288, 96, 49152, 50257, 2048, published=175e9),
    "vit-b16": Model("vit", 12, 768, 12, 3072, 3 * 16**2, 14**2 + 1, published=86e6),
    "vit-l16": Model("vit", 24, 1024, 16, 4096, 3 * 16**2, 14**2 + 1, published=307e6),
    "vit-h14": Model("vit", 32, 1280, 16, 5120, 3 * 14**2, 16**2 + 1, published=632e6),
    "llama3-8b": Model("llama", 32, 4096, 32, 14336, 128256, kv_heads=8, published=8.03e9),
    "llama3-70b": Model("llama", 80, 8192, 64, 28672, 128256, kv_heads=8, published=70.6e9),
    "deepseek-v2": Model("deepseek", 60, 5120, 128, 1536, 102400, experts=160, top_k=6, shared=2, dense=1,
                         dense_ff=12288, published=236e9, active=21e9),
    "deepseek-v3": Model("deepseek", 61, 7168, 128, 2048, 129280, experts=256, top_k=8, shared=1, dense=3,
                         dense_ff=18432, published=671e9, active=37e9),
}  # fmt: skip
CLASSES, D_C, Q_RANK, NOPE, ROPE = 1000, 512, 1536, 128, 64  # ImageNet; DeepSeek's latents and head widths
BYTES = {"fp32": 4.0, "bf16": 2.0, "fp8": 1.0, "int4": 0.5, "training: bf16, gradients, fp32 copy, Adam": 16.0}


class Params(DemoParams):
    preset: Name = Field("bert-base", description="Model to take apart; custom takes the numbers below")
    layers: int = Field(12, ge=1, le=128, description="Blocks (custom)")
    hidden: int = Field(768, ge=16, le=16384, description="Width (custom)")
    heads: int = Field(12, ge=1, le=128, description="Heads (custom): they share the width, so they add nothing")
    vocab: int = Field(30522, ge=100, le=256000, description="Vocabulary (custom)")
    experts: int = Field(0, ge=0, le=512, description="Experts in place of each feed-forward layer (custom; 0: none)")
    top_k: int = Field(2, ge=1, le=16, description="Experts that a token uses (custom)")
    tied: bool = Field(True, description="BERT and GPT use the embedding table for the output as well")
    seed: int = Field(0, ge=0, le=9999, description="Nothing here is random")

    presets: ClassVar[Mapping[str, Preset]] = {
        "untied": Preset("The shared output matrix counted twice: GPT-2 has 163M", {"preset": "gpt2", "tied": False}),
        "deepseek-v3": Preset("671 billion stored, 37 billion at work", {"preset": "deepseek-v3"}),
        "mixture": Preset("Eight experts, two of them used", {"preset": "custom", "experts": 8}),
    }  # fmt: skip


def formula(m: Model, tied: bool) -> dict[str, int]:
    """Parameters by component, from the configuration alone."""
    d, routed = m.d, m.layers - m.dense  # layers that have experts, if there are any
    if m.family == "deepseek":
        attention = d * (Q_RANK + D_C + ROPE) + m.heads * (Q_RANK * (NOPE + ROPE) + D_C * 2 * NOPE + NOPE * d)
        return {
            "embeddings": m.rows * d, "attention": m.layers * attention,
            "feed-forward": m.dense * 3 * d * m.dense_ff + routed * m.shared * 3 * d * m.ff,
            "routed experts": routed * m.experts * 3 * d * m.ff, "router": routed * m.experts * d,
            "norms": m.layers * (2 * d + Q_RANK + D_C) + d, "head": m.rows * d,
        }  # fmt: skip
    if m.family == "llama":
        attention = 2 * d * d + 2 * d * m.kv_heads * d // m.heads
        return {
            "embeddings": m.rows * d, "attention": m.layers * attention, "feed-forward": m.layers * 3 * d * m.ff,
            "norms": m.layers * 2 * d + d, "head": m.rows * d,
        }  # fmt: skip
    one = 2 * d * m.ff + m.ff + d  # feed-forward layer with biases
    embeddings = {"bert": (m.rows + m.positions + 2) * d, "gpt": (m.rows + m.positions) * d,
                  "vit": (m.rows + 1 + 1 + m.positions) * d}[m.family]  # fmt: skip
    head = {"bert": d * d + d, "gpt": 0, "vit": (d + 1) * CLASSES}[m.family]  # BERT's pooler
    return {
        "embeddings": embeddings, "attention": m.layers * 4 * (d * d + d),
        "feed-forward": 0 if m.experts else m.layers * one, "routed experts": m.layers * m.experts * one,
        "router": m.layers * m.experts * d, "norms": (2 * m.layers + m.final_norm) * 2 * d,
        "head": head + (0 if tied or m.family == "vit" else m.rows * d),
    }  # fmt: skip


def build(m: Model, tied: bool) -> dict[str, nn.ModuleList]:
    """The model's modules by component, on torch's meta device: shapes without memory. Experts lie side by side."""
    parts = {name: nn.ModuleList() for name in formula(m, tied)}
    d, biases = m.d, m.family in ("bert", "gpt", "vit")
    norm = nn.LayerNorm if biases else nn.RMSNorm

    def mlp(width: int, copies: int = 1) -> list[nn.Module]:
        gates = 1 if biases else 2  # SwiGLU has two matrices that lead in
        return [nn.Linear(d, gates * width * copies, bias=biases), nn.Linear(width, d * copies, bias=biases)]

    with torch.device("meta"):
        patches = m.family == "vit"
        parts["embeddings"].append(nn.Linear(m.rows, d) if patches else nn.Embedding(m.rows, d))
        tables = m.positions + {"bert": 2, "vit": 1}.get(m.family, 0)  # BERT's segments, ViT's class token
        parts["embeddings"].append(nn.Embedding(tables, d))
        for layer in range(m.layers):
            if m.family == "deepseek":
                shapes = [(d, Q_RANK), (Q_RANK, m.heads * (NOPE + ROPE)), (d, D_C + ROPE),
                          (D_C, m.heads * 2 * NOPE), (m.heads * NOPE, d)]  # fmt: skip
                parts["norms"].extend([norm(Q_RANK), norm(D_C)])
            else:
                kv = (m.kv_heads or m.heads) * d // m.heads
                shapes = [(d, d), (d, kv), (d, kv), (d, d)]
            parts["attention"].extend(nn.Linear(*shape, bias=biases) for shape in shapes)
            parts["norms"].extend([norm(d), norm(d)])
            if layer < m.dense or not m.experts:
                parts["feed-forward"].extend(mlp(m.dense_ff if m.dense else m.ff))
            else:
                parts["routed experts"].extend(mlp(m.ff, m.experts))
                parts["router"].append(nn.Linear(d, m.experts, bias=False))
                if m.shared:
                    parts["feed-forward"].extend(mlp(m.shared * m.ff))
        if m.final_norm:
            parts["norms"].append(norm(d))
        if m.family in ("bert", "vit"):
            parts["head"].append(nn.Linear(d, CLASSES if patches else d))
        if not biases or not (tied or patches):
            parts["head"].append(nn.Linear(d, m.rows, bias=False))
    return parts


def working(m: Model, counts: Mapping[str, int]) -> dict[str, int]:
    """The parameters that one token uses, by component: of the routed experts only top_k."""
    return {name: n * m.top_k // m.experts if name == "routed experts" and n else n for name, n in counts.items()}


def run(params: Params, tick: Tick = no_tick) -> Result:
    custom = Model("gpt", params.layers, params.hidden, params.heads, 4 * params.hidden, params.vocab, 1024,
                   experts=params.experts, top_k=min(params.top_k, params.experts))  # fmt: skip
    models = {**MODELS, "custom": custom}
    counts, total, active, off = dict[str, dict[str, int]](), dict[str, int](), dict[str, int](), 0
    for done, (name, model) in enumerate(models.items(), start=1):
        counts[name] = formula(model, params.tied)
        modules = build(model, params.tied)
        built = {part: sum(weight.numel() for weight in module.parameters()) for part, module in modules.items()}
        off = max([off, *(abs(built[part] - n) for part, n in counts[name].items())])
        total[name], active[name] = sum(counts[name].values()), sum(working(model, counts[name]).values())
        tick(done / len(models), name, billions=total[name] / 1e9)

    chosen = models[params.preset]
    parts, used, all_of_it = counts[params.preset], working(chosen, counts[params.preset]), total[params.preset]
    blocks = {name: total[name] - n["embeddings"] - n["head"] for name, n in counts.items()}
    wrong = max(abs(total[name] / model.published - 1) for name, model in MODELS.items())
    wrong_active = max(abs(active[name] / model.active - 1) for name, model in MODELS.items() if model.active)
    twelve = max(abs(blocks[name] / (12 * m.layers * m.d**2) - 1) for name, m in MODELS.items() if m.family == "gpt")
    v3 = counts["deepseek-v3"]["routed experts"] / total["deepseek-v3"]
    return Result(
        metrics=[
            Metric("parameters", all_of_it),
            Metric("parameters that a token uses", active[params.preset]),
            Metric("parameters of one block, on average", blocks[params.preset] / chosen.layers),
            Metric("share of the blocks", blocks[params.preset] / all_of_it),
        ],
        claims=[
            Claim("Fifteen models come out at their published size: largest relative difference", wrong, "<=", 0.02),
            Claim("So do V2's and V3's active parameters: largest relative difference", wrong_active, "<=", 0.02),
            Claim("Formula and modules on the meta device agree: largest difference in any part", off, "==", 0),
            Claim("A dense GPT block has 12·d² weights: largest relative difference", twelve, "<=", 0.02),
            Claim("DeepSeek-V3 is nearly all experts: their share", v3, ">=", 0.95),
            Claim("And a token uses little of it: share", active["deepseek-v3"] / total["deepseek-v3"], "<=", 0.06),
        ],
        figures=[
            Bars("Shares of the parameters", "component", "share", list(parts), {
                "stored": [n / all_of_it for n in parts.values()],
                "used by a token": [n / active[params.preset] for n in used.values()],
            }),
        ],
        tables=[
            Table(
                f"Breakdown of {params.preset}", ["component", "parameters", "share", "used by a token"],
                [[part, n, n / all_of_it, used[part]] for part, n in parts.items()]
                + [["total", all_of_it, 1.0, active[params.preset]]],
            ),
            Table("Memory", ["format", "GB"], [[kind, size * all_of_it / 1e9] for kind, size in BYTES.items()]),
            Table(
                "All models", ["model", "layers", "width", "parameters", "published", "share of the blocks", "active"],
                [
                    [name, m.layers, m.d, total[name], m.published, blocks[name] / total[name], active[name]]
                    for name, m in models.items()
                ],
            ),
        ],
    )  # fmt: skip
