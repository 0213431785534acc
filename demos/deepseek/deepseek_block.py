"""A whole DeepSeek-V3 in miniature

Question: How do RMSNorm, MLA, dense and MoE layers and residuals make one model?
Source: DeepSeek-AI 2024 (V3), arXiv:2412.19437, §2.1, eqs. (1)–(16), and §4.2 for the sizes; DeepSeek-AI 2024 (V2),
  arXiv:2405.04434, §2.1–2.2 (softmax gate); code: DeepseekV3ForCausalLM of Hugging Face transformers.
Watch: one stream of vectors of constant width runs through every layer. Attention adds to it, then a dense network
  (first layers) or a few experts of many (all others). With V3's own sizes the same code counts its 671 billion
  weights, of which a token meets 37. Without the residuals (preset) the stream is cut in every layer.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear, scaled_dot_product_attention, silu

from demos.contract import Cell, Claim, DemoParams, Lines, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.grammar import WORDS, draw_text, source_entropy
from demos.shared.transformer import train

SENTENCES, LENGTH, BATCH, RATE = 2000, 32, 16, 1e-2
BALANCE = 0.01  # γ: by how much an expert's bias moves after each step (V3: 0.001)


@dataclass(frozen=True)
class Sizes:
    """What makes a model of this family, by its published names. V3's groups of experts are left out."""

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    first_k_dense_replace: int  # leading layers without experts
    intermediate_size: int  # of a dense layer's network
    moe_intermediate_size: int  # of an expert's
    n_routed_experts: int
    num_experts_per_tok: int
    n_shared_experts: int
    num_attention_heads: int
    q_lora_rank: int
    kv_lora_rank: int
    qk_nope_head_dim: int
    qk_rope_head_dim: int
    v_head_dim: int
    routed_scaling_factor: float = 1.0


V3 = Sizes(
    vocab_size=129_280, hidden_size=7168, num_hidden_layers=61, first_k_dense_replace=3, intermediate_size=18_432,
    moe_intermediate_size=2048, n_routed_experts=256, num_experts_per_tok=8, n_shared_experts=1,
    num_attention_heads=128, q_lora_rank=1536, kv_lora_rank=512, qk_nope_head_dim=128, qk_rope_head_dim=64,
    v_head_dim=128, routed_scaling_factor=2.5,
)  # fmt: skip


class Params(DemoParams):
    layers: int = Field(3, ge=1, le=8, description="Layers (V3: 61)")
    dense_layers: int = Field(1, ge=0, le=3, description="Leading layers with a dense network (V3: 3)")
    hidden: int = Field(64, ge=16, le=256, multiple_of=16, description="Width of the stream (V3: 7168)")
    experts: int = Field(8, ge=2, le=64, description="Routed experts in a layer (V3: 256)")
    top_k: int = Field(2, ge=1, le=8, description="Experts that a token meets; no more than there are (V3: 8)")
    version: Literal["v2", "v3"] = Field("v3", description="Softmax gate (V2), or sigmoid gate with a bias (V3)")
    residual: bool = Field(True, description="Add what each part makes to the stream; off: replace the stream")
    steps: int = Field(100, ge=0, le=500, description="Training steps of 16 texts")
    seed: int = Field(0, ge=0, le=9999, description="Seed of weights and text")

    presets: ClassVar[Mapping[str, Preset]] = {
        "v2": Preset("The softmax gate, without a bias for balance", {"version": "v2"}),
        "no residuals": Preset("Six layers, each of which replaces the stream", {"residual": False, "layers": 6}),
        "many experts": Preset("32 experts, of which a token meets 4", {"experts": 32, "top_k": 4}),
    }

    def sizes(self) -> Sizes:
        d = self.hidden
        return Sizes(
            vocab_size=len(WORDS), hidden_size=d, num_hidden_layers=self.layers,
            first_k_dense_replace=self.dense_layers, intermediate_size=4 * d, moe_intermediate_size=d // 2,
            n_routed_experts=self.experts, num_experts_per_tok=min(self.top_k, self.experts), n_shared_experts=1,
            num_attention_heads=4, q_lora_rank=d // 2, kv_lora_rank=d // 2, qk_nope_head_dim=d // 4,
            qk_rope_head_dim=d // 8, v_head_dim=d // 4, routed_scaling_factor=2.5 if self.version == "v3" else 1.0,
        )  # fmt: skip


def bare(inputs: int, outputs: int) -> nn.Linear:
    return nn.Linear(inputs, outputs, bias=False)


def rotate(x: Tensor) -> Tensor:
    """RoPE of x (..., T, d): at position t, pair (2i, 2i + 1) turns by t / 10000^(2i/d)."""
    length, d = x.shape[-2:]
    angle = torch.arange(length)[:, None] * 10_000 ** (-torch.arange(0, d, 2) / d)  # (T, d/2)
    pairs = torch.complex(x[..., 0::2], x[..., 1::2])
    return torch.view_as_real(pairs * torch.polar(torch.ones_like(angle), angle)).flatten(-2)


class LatentAttention(nn.Module):
    """MLA, eqs. (1)–(11): keys and values are made from one small vector, position stands in a rotary key apart."""

    def __init__(self, s: Sizes) -> None:
        super().__init__()
        self.s, n = s, s.num_attention_heads
        self.q_a_proj, self.q_a_layernorm = bare(s.hidden_size, s.q_lora_rank), nn.RMSNorm(s.q_lora_rank, 1e-6)
        self.q_b_proj = bare(s.q_lora_rank, n * (s.qk_nope_head_dim + s.qk_rope_head_dim))
        self.kv_a_proj_with_mqa = bare(s.hidden_size, s.kv_lora_rank + s.qk_rope_head_dim)
        self.kv_a_layernorm = nn.RMSNorm(s.kv_lora_rank, 1e-6)
        self.kv_b_proj = bare(s.kv_lora_rank, n * (s.qk_nope_head_dim + s.v_head_dim))
        self.o_proj = bare(n * s.v_head_dim, s.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        s, n = self.s, self.s.num_attention_heads
        q = self.q_b_proj(self.q_a_layernorm(self.q_a_proj(x))).unflatten(2, (n, -1)).transpose(1, 2)  # (B, n, T, ·)
        q_content, q_rope = q.split([s.qk_nope_head_dim, s.qk_rope_head_dim], dim=-1)
        latent, k_rope = self.kv_a_proj_with_mqa(x).split([s.kv_lora_rank, s.qk_rope_head_dim], dim=-1)
        kv = self.kv_b_proj(self.kv_a_layernorm(latent)).unflatten(2, (n, -1)).transpose(1, 2)
        k_content, v = kv.split([s.qk_nope_head_dim, s.v_head_dim], dim=-1)
        k_rope = rotate(k_rope)[:, None].expand(-1, n, -1, -1)  # one for all heads
        q, k = torch.cat([q_content, rotate(q_rope)], dim=-1), torch.cat([k_content, k_rope], dim=-1)
        return self.o_proj(scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))


class Dense(nn.Module):
    """SwiGLU: (SiLU(x W_gate) ⊙ x W_up) W_down."""

    def __init__(self, d: int, width: int) -> None:
        super().__init__()
        self.gate_proj, self.up_proj, self.down_proj = bare(d, width), bare(d, width), bare(width, d)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(silu(self.gate_proj(x)) * self.up_proj(x))


class Experts(nn.Module):
    """DeepSeekMoE, eqs. (12)–(16): the shared experts, and the gate's choice of routed ones, weighted by its scores."""

    bias: Tensor
    load: Tensor

    def __init__(self, s: Sizes, version: str) -> None:
        super().__init__()
        self.s, self.version = s, version
        width = s.moe_intermediate_size
        self.gate = nn.Parameter(torch.empty(s.n_routed_experts, s.hidden_size))
        self.gate_up_proj = nn.Parameter(torch.empty(s.n_routed_experts, 2 * width, s.hidden_size))
        self.down_proj = nn.Parameter(torch.empty(s.n_routed_experts, s.hidden_size, width))
        self.shared_experts = Dense(s.hidden_size, width * s.n_shared_experts)
        self.register_buffer("bias", torch.zeros(s.n_routed_experts))  # steers the choice, never the weights
        self.register_buffer("load", torch.zeros(s.n_routed_experts), persistent=False)  # tokens each got, last time

    def choose(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Experts (N, K) of tokens x (N, d) and their weights (N, K)."""
        logits = linear(x, self.gate)
        if self.version == "v2":
            weights, chosen = logits.softmax(dim=1).topk(self.s.num_experts_per_tok)
        else:
            scores = logits.sigmoid()
            chosen = (scores + self.bias).topk(self.s.num_experts_per_tok).indices
            weights = scores.gather(1, chosen)
            weights = weights / weights.sum(dim=1, keepdim=True)
        return chosen, weights * self.s.routed_scaling_factor

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(0, 1)  # (N, d)
        chosen, weights = self.choose(tokens)
        self.load = chosen.flatten().bincount(minlength=self.s.n_routed_experts).float()
        routed = torch.zeros_like(tokens)
        for expert in range(self.s.n_routed_experts):
            token, place = (chosen == expert).nonzero(as_tuple=True)
            gate, up = linear(tokens[token], self.gate_up_proj[expert]).chunk(2, dim=1)
            out = linear(silu(gate) * up, self.down_proj[expert])
            routed = routed.index_add(0, token, out * weights[token, place, None])
        return routed.view_as(x) + self.shared_experts(x)


class Layer(nn.Module):
    """Norm, attention, and norm, network: each adds what it makes to the stream (B, T, d)."""

    def __init__(self, s: Sizes, number: int, version: str, residual: bool) -> None:
        super().__init__()
        self.residual = residual
        self.input_layernorm = nn.RMSNorm(s.hidden_size, 1e-6)
        self.self_attn = LatentAttention(s)
        self.post_attention_layernorm = nn.RMSNorm(s.hidden_size, 1e-6)
        dense = number < s.first_k_dense_replace
        self.mlp = Dense(s.hidden_size, s.intermediate_size) if dense else Experts(s, version)

    def forward(self, x: Tensor) -> Tensor:
        for norm, part in ((self.input_layernorm, self.self_attn), (self.post_attention_layernorm, self.mlp)):
            x = part(norm(x)) + (x if self.residual else 0)
        return x


class DeepSeek(nn.Module):
    """Words to vectors, layers, a last norm, and logits of the next word from weights of their own."""

    def __init__(self, s: Sizes, version: str, residual: bool = True) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(s.vocab_size, s.hidden_size)
        self.layers = nn.ModuleList(Layer(s, i, version, residual) for i in range(s.num_hidden_layers))
        self.norm = nn.RMSNorm(s.hidden_size, 1e-6)
        self.lm_head = bare(s.hidden_size, s.vocab_size)

    def forward(self, words: Tensor) -> Tensor:
        """Logits (B, T, V) of words (B, T)."""
        x = self.embed_tokens(words)
        for layer in self.layers:
            x = layer(x)
        return self.lm_head(self.norm(x))


def start(model: nn.Module, rng: torch.Generator) -> None:
    """Matrices from N(0, 1 / inputs), so that a part keeps the size of what it reads; norms stay 1."""
    for weight in model.parameters():
        if weight.dim() > 1:
            nn.init.normal_(weight, std=weight.shape[-1] ** -0.5, generator=rng)


def weights_of(model: nn.Module) -> int:
    return sum(weight.numel() for weight in model.parameters())


def count(s: Sizes) -> tuple[int, int]:
    """All weights, and those that one token meets; on the meta device, where weights have a shape and no memory."""
    with torch.device("meta"):
        model = DeepSeek(s, "v3")
    idle = s.n_routed_experts - s.num_experts_per_tok
    moe = sum(isinstance(part, Experts) for part in model.modules())
    total = weights_of(model)
    return total, total - moe * idle * 3 * s.hidden_size * s.moe_intermediate_size


def train_model(model: DeepSeek, params: Params, text: Tensor, rng: torch.Generator, tick: Tick) -> list[float]:
    """Losses (steps). After each step a V3 expert's bias sinks if it got more than its share, and rises otherwise."""
    losses = list[float]()

    def loss() -> Tensor:
        places = torch.randint(len(text) - LENGTH, (BATCH, 1), generator=rng) + torch.arange(LENGTH + 1)
        words = text[places]
        return cross_entropy(model(words[:, :-1]).flatten(0, 1), words[:, 1:].flatten())

    def after(step: int, value: float) -> None:
        losses.append(value)
        for part in model.modules():
            if isinstance(part, Experts) and params.version == "v3":
                part.bias += BALANCE * (part.load.mean() - part.load).sign()
        tick((step + 1) / params.steps, "training", loss=value)

    if params.steps:
        train(model, loss, params.steps, RATE, after)
    return losses


@torch.no_grad()
def trace(model: DeepSeek, words: Tensor) -> list[list[Cell]]:
    """Each part in the order in which it runs on words (1, T): its kind, the shapes it reads and makes, its weights."""
    rows = list[list[Cell]]()

    def note(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(part: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            shapes = (" × ".join(map(str, tensor.shape[1:])) for tensor in (inputs[0], output))
            rows.append([name, type(part).__name__, *shapes, weights_of(part)])

        return hook

    parts: list[tuple[str, nn.Module]] = [("words to vectors", model.embed_tokens)]
    for number, layer in enumerate(model.layers):
        parts += [(f"layer {number}: {name}", part) for name, part in layer.named_children()]
    parts += [("norm", model.norm), ("head", model.lm_head)]
    hooks = [part.register_forward_hook(note(name)) for name, part in parts]
    model(words)
    for hook in hooks:
        hook.remove()
    return rows


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng = torch.Generator().manual_seed(params.seed)
    sizes, text = params.sizes(), draw_text(SENTENCES, True, rng)
    model = DeepSeek(sizes, params.version, params.residual)
    start(model, rng)
    losses = train_model(model, params, text, rng, tick)
    floor = source_entropy(facts=True)
    first, last = (losses[0], sum(losses[-10:]) / len(losses[-10:])) if losses else (math.log(len(WORDS)),) * 2

    words = text[None, :LENGTH]
    with torch.no_grad():
        changed = words.clone()
        changed[0, -1] = (words[0, -1] + 1) % len(WORDS)
        leak = (model(changed) - model(words))[0, :-1].abs().max().item()
    total, active = count(sizes)
    v3_total, v3_active = count(V3)
    grown = [replace(sizes, n_routed_experts=sizes.n_routed_experts * 2**times) for times in range(4)]
    shares = [met / whole for whole, met in map(count, grown)]
    busiest = [(part.load.max() / part.load.mean()).item() for part in model.modules() if isinstance(part, Experts)]
    return Result(
        metrics=[
            Metric("weights", total),
            Metric("weights that a token meets", active / total, "of all"),
            Metric("last loss", last, "nats"),
            Metric("entropy of the source", floor, "nats"),
            *(Metric("busiest expert's load", max(loads), "of the mean") for loads in [busiest] if loads),
        ],
        claims=[
            Claim("It learns: share of the way from the first loss to the source's entropy",
                  (first - last) / (first - floor), ">=", 0.75),
            Claim("It does not look ahead: largest change of an earlier word's logits", leak, "<=", 1e-5),
            Claim("V3's own sizes give V3's weights: billions, apart from the published 671",
                  abs(v3_total / 1e9 - 671), "<=", 1.0),
            Claim("A token meets few of them: billions, apart from the published 37",
                  abs(v3_active / 1e9 - 37), "<=", 1.0),
            Claim("Twice the experts, a smaller share for each token: largest ratio of two shares",
                  max(b / a for a, b in pairwise(shares)), "<=", 0.99),
        ],
        figures=[Lines("Training", "step", "nats", list(range(1, len(losses) + 1)),
                       {"loss": losses, "entropy of the source": [floor] * len(losses)})] if losses else [],
        tables=[
            Table("Trace: a text on its way through the model", ["part", "kind", "reads", "makes", "weights"],
                  trace(model, words)),
            Table("Configuration", ["", "here", "DeepSeek-V3"],
                  [[field.name, getattr(sizes, field.name), getattr(V3, field.name)] for field in fields(Sizes)]
                  + [["gate", "softmax" if params.version == "v2" else "sigmoid, with a bias", "sigmoid, with a bias"],
                     ["weights", total, v3_total], ["weights that a token meets", active, v3_active]]),
        ],
    )  # fmt: skip
