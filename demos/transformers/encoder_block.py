"""The encoder layer and stack, checked against PyTorch

Question: What exactly happens inside one encoder layer, and what is identical across the N layers?
Source: Vaswani et al. 2017, arXiv:1706.03762, §3.1 to §3.3; norm in front: Xiong et al. 2020, arXiv:2002.04745.
Watch: Every sublayer ends at the width it began with, so layers can be stacked. With the same weights the stack gives
    what torch's gives. No mask: the first token feels the last. Put a causal mask on and it no longer does.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from demos.contract import Claim, DemoParams, Lines, Metric, Preset, Result, Table, Tick, no_tick

BATCH, TOKENS = 4, 12
PAPER = {"d_model": 512, "heads": 8, "d_ff": 2048, "norm_first": False}


class Params(DemoParams):
    d_model: int = Field(64, ge=16, le=512, description="Width, the same after every sublayer (paper: 512)")
    heads: int = Field(4, ge=1, le=16, description="Heads; they divide the width (paper: 8)")
    layers: int = Field(6, ge=1, le=12, description="Layers of the stack (paper: 6)")
    d_ff: int = Field(256, ge=32, le=2048, description="Width inside the feed-forward network (paper: 2,048)")
    norm_first: bool = Field(False, description="Norm before each sublayer (ViT, GPT-2) instead of after the sum")
    causal: bool = Field(False, description="Hide later tokens, as a decoder does")
    seed: int = Field(0, ge=0, le=9999, description="Seed of weights and input")

    presets: ClassVar[Mapping[str, Preset]] = {
        "causal mask": Preset("The first token no longer sees the last: that claim fails", {"causal": True}),
        "norm first": Preset("The layer as ViT and GPT-2 stack it", {"norm_first": True}),
        "paper size": Preset("The encoder of 2017: 18.9 million weights", {"d_model": 512, "heads": 8, "d_ff": 2048}),
    }

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> "Params":
        if self.d_model % self.heads:
            raise ValueError(f"heads must divide d_model, and {self.heads} does not divide {self.d_model}")
        return self


class EncoderLayer(nn.Module):
    """§3.1: self-attention and a feed-forward network, each within a residual sum and a layer norm."""

    def __init__(self, d: int, heads: int, d_ff: int, norm_first: bool) -> None:
        super().__init__()
        self.heads, self.norm_first = heads, norm_first
        self.qkv, self.out = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.up, self.down = nn.Linear(d, d_ff), nn.Linear(d_ff, d)
        self.norm1, self.norm2 = nn.LayerNorm(d), nn.LayerNorm(d)

    def attend(self, x: Tensor, causal: bool = False) -> Tensor:
        """Multi-head self-attention, §3.2.2. (B, T, d) -> (B, T, d)."""
        B, T, d = x.shape
        q, k, v = self.qkv(x).view(B, T, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)  # (B, h, T, d/h) each
        scores = q @ k.transpose(2, 3) / math.sqrt(d // self.heads)  # (B, h, T, T)
        if causal:
            scores = scores.masked_fill(torch.ones(T, T).triu(1).bool(), -math.inf)
        return self.out((scores.softmax(dim=-1) @ v).transpose(1, 2).reshape(B, T, d))

    def feed_forward(self, x: Tensor) -> Tensor:
        """Eq. (2): max(0, x W1 + b1) W2 + b2, for each token alone. (B, T, d) -> (B, T, d_ff) -> (B, T, d)."""
        return self.down(self.up(x).relu())

    def forward(self, x: Tensor, causal: bool = False) -> Tensor:
        if self.norm_first:
            x = x + self.attend(self.norm1(x), causal)
            return x + self.feed_forward(self.norm2(x))
        x = self.norm1(x + self.attend(x, causal))  # LayerNorm(x + Sublayer(x)), §3.1
        return self.norm2(x + self.feed_forward(x))


class Encoder(nn.Module):
    """N layers of one shape; only their weights differ. After pre-norm layers a last norm scales the sum."""

    def __init__(self, params: Params, layers: int, rng: torch.Generator | None = None) -> None:
        super().__init__()
        d, self.norm_first = params.d_model, params.norm_first
        self.layers = nn.ModuleList(
            EncoderLayer(d, params.heads, params.d_ff, params.norm_first) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(d) if params.norm_first else nn.Identity()
        if rng is not None:
            for name, weight in self.named_parameters():
                if "norm" not in name:
                    nn.init.normal_(weight, std=weight.shape[-1] ** -0.5, generator=rng)

    def forward(self, x: Tensor, causal: bool = False) -> Tensor:
        for layer in self.layers:
            x = layer(x, causal)  # (B, T, d)
        return self.norm(x)


def torchs_stack(ours: Encoder, params: Params) -> nn.TransformerEncoder:
    """torch's encoder with our weights copied into it."""
    layer = nn.TransformerEncoderLayer(
        params.d_model, params.heads, params.d_ff, dropout=0.0, batch_first=True, norm_first=params.norm_first
    )
    last = nn.LayerNorm(params.d_model) if params.norm_first else None  # as fresh as ours
    theirs = nn.TransformerEncoder(layer, len(ours.layers), norm=last, enable_nested_tensor=False)
    names = {"qkv.": "self_attn.in_proj_", "out.": "self_attn.out_proj.", "up.": "linear1.", "down.": "linear2."}
    for mine, copied in zip(ours.layers, theirs.layers, strict=True):
        weights = mine.state_dict()
        for here, there in names.items():
            weights = {re.sub(f"^{re.escape(here)}", there, name): weight for name, weight in weights.items()}
        copied.load_state_dict(weights)
    return theirs


def trace(encoder: Encoder, x: Tensor, causal: bool) -> list[tuple[str, Tensor]]:
    """What each part of each layer returned, in the order in which it ran."""
    seen: list[tuple[str, Tensor]] = []
    norm = "norm" if encoder.norm_first else "add & norm"
    parts = {
        "norm1": norm, "qkv": "queries, keys, values", "out": "multi-head self-attention",
        "norm2": norm, "up": "feed-forward, inside", "down": "feed-forward",
    }  # fmt: skip

    def note(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(_module: nn.Module, _given: tuple[Tensor, ...], returned: Tensor) -> None:
            seen.append((name, returned))

        return hook

    hooks = [
        part.register_forward_hook(note(f"layer {n}: {parts[name]}"))
        for n, layer in enumerate(encoder.layers, start=1)
        for name, part in layer.named_children()
    ]
    encoder(x, causal)
    for hook in hooks:
        hook.remove()
    return seen


def similarity(x: Tensor) -> float:
    """Mean cosine of two different tokens of one sequence, x (B, T, d)."""
    unit = nn.functional.normalize(x, dim=-1)
    cosines = unit @ unit.transpose(1, 2)  # (B, T, T)
    return ((cosines.sum() - cosines.diagonal(dim1=1, dim2=2).sum()) / (len(x) * TOKENS * (TOKENS - 1))).item()


def count(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


@torch.no_grad()
def run(params: Params, tick: Tick = no_tick) -> Result:
    rng = torch.Generator().manual_seed(params.seed)
    d, causal = params.d_model, params.causal
    x = torch.randn(BATCH, TOKENS, d, generator=rng)  # (B, T, d)
    mask = torch.ones(TOKENS, TOKENS).triu(1).bool() if causal else None  # True hides, as torch has it
    gaps: list[float] = []
    for norm_first in (False, True):
        setting = params.model_copy(update={"norm_first": norm_first})
        ours = Encoder(setting, params.layers, rng)
        gaps.append((ours(x, causal) - torchs_stack(ours, setting)(x, mask=mask)).abs().max().item())
        tick(0.3 * len(gaps), "compared with torch")

    encoder = Encoder(params, params.layers, rng)
    seen = trace(encoder, x, causal)
    inner = ("inside", "keys, values")  # the two places where the width may differ
    odd = sum(returned.shape != x.shape for name, returned in seen if not name.endswith(inner))
    changed = x.clone()
    changed[:, -1] = torch.randn(BATCH, d, generator=rng)
    felt = (encoder(changed, causal) - encoder(x, causal))[:, 0].abs().max().item()
    first, second = (layer.state_dict() for layer in Encoder(params, 2, rng).layers)
    shapes = sum(first[name].shape != second[name].shape for name in first)
    apart = min((first[name] - second[name]).abs().max().item() for name in first if "norm" not in name)
    with torch.device("meta"):  # no memory is taken
        paper = count(Encoder(params.model_copy(update=PAPER), 6))
    at_depth, h = [similarity(x)], x
    for layer in encoder.layers:
        h = layer(h, causal)
        at_depth.append(similarity(h))
    layer = EncoderLayer(d, params.heads, params.d_ff, params.norm_first)
    sizes = {name: sum(count(part) for part in parts) for name, parts in {
        "multi-head self-attention": [layer.qkv, layer.out], "feed-forward network": [layer.up, layer.down],
        "two layer norms": [layer.norm1, layer.norm2],
    }.items()}  # fmt: skip
    total = count(layer)
    return Result(
        metrics=[
            Metric("parameters of a layer", total),
            Metric("parameters of the stack", count(encoder)),
            Metric("parameters of the paper's encoder", paper),
            Metric("cosine of two tokens, before", at_depth[0]),
            Metric("cosine of two tokens, after the last layer", at_depth[-1]),
        ],
        claims=[
            Claim("Same weights, same output as torch's, norm after or before: difference", max(gaps), "<=", 1e-5),
            Claim("Every sublayer ends at the shape it began with: outputs that do not", odd, "==", 0),
            Claim("No mask: the last token changed, the first one's output changes by", felt, ">", 1e-3),
            Claim("The paper's encoder has 18,914,304 weights: counted", paper, "==", 18_914_304),
            Claim("Layers are built alike: weights of another shape in the second", shapes, "==", 0),
            Claim("Each has its own weights: smallest of the largest differences", apart, ">", 0.01),
        ],
        figures=[
            Lines("Tokens mix with depth", x="layers passed", y="mean cosine of two tokens",
                  at=list(range(len(at_depth))), series={"this encoder": at_depth}),
        ],
        tables=[
            Table("Shapes through the first layers", ["part", "shape"],
                  [[name, str(tuple(returned.shape))] for name, returned in seen[:18]]),
            Table("Parameters", ["part", "in a layer", "share", "in the stack"],
                  [[name, size, size / total, size * params.layers] for name, size in sizes.items()]),
        ],
    )  # fmt: skip
