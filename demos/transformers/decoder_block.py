"""The decoder layer: masked self-attention, cross-attention, shifted outputs

Question: How does the look-ahead mask let training run in parallel without leaking the future?
Source: Vaswani et al. 2017, arXiv:1706.03762, §3.1 (the decoder, shifted outputs) and §3.2.3 (the mask).
Watch: Alter a later token and no earlier output moves, so one masked pass over the whole target gives what decoding
    token by token gives. Take the mask away: the altered token shows at once, and training would read the answer.
"""

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from demos.contract import Claim, DemoParams, Heatmap, Metric, Preset, Result, Table, Tick, no_tick

TARGET = ["the", "animal", "did", "not", "cross", "the", "street", "because", "it", "was", "tired", "."]
VOCABULARY = ["<start>", *dict.fromkeys(TARGET)]
SOURCE = 9  # length of the source, on purpose another than the target's


class Params(DemoParams):
    d_model: int = Field(64, ge=16, le=512, description="Width")
    heads: int = Field(4, ge=1, le=16, description="Heads; they divide the width")
    layers: int = Field(2, ge=1, le=6, description="Layers")
    causal: bool = Field(True, description="Apply the look-ahead mask")
    seed: int = Field(0, ge=0, le=9999, description="Seed of weights and source")

    presets: ClassVar[Mapping[str, Preset]] = {
        "no mask": Preset("The future leaks, and one pass no longer equals decoding step by step", {"causal": False}),
        "six layers": Preset("The leak test stays clean at any depth: every layer masks", {"layers": 6}),
        "paper width": Preset("Six layers of width 512 with eight heads", {"d_model": 512, "heads": 8, "layers": 6}),
    }

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> "Params":
        if self.d_model % self.heads:
            raise ValueError(f"heads must divide d_model, and {self.heads} does not divide {self.d_model}")
        return self


class Attention(nn.Module):
    """Multi-head attention, §3.2.2. Keys and values come from `memory`, which in self-attention is x itself."""

    def __init__(self, d: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.out = (nn.Linear(d, d) for _ in range(4))

    def split(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], self.heads, x.shape[2] // self.heads).transpose(1, 2)  # (B, h, n, d/h)

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x (B, T, d), memory (B, S, d), mask (T, S) of what is hidden -> output (B, T, d), weights (B, h, T, S)."""
        q, k, v = self.split(self.q(x)), self.split(self.k(memory)), self.split(self.v(memory))
        scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[3])  # (B, h, T, S)
        if mask is not None:
            scores = scores.masked_fill(mask, -math.inf)  # -∞ before the softmax is weight 0 after it
        weights = scores.softmax(dim=3)
        return self.out((weights @ v).transpose(1, 2).reshape(x.shape)), weights


class DecoderLayer(nn.Module):
    """§3.1: three sublayers, each followed by LayerNorm(x + Sublayer(x))."""

    def __init__(self, d: int, heads: int) -> None:
        super().__init__()
        self.self_attention, self.cross_attention = Attention(d, heads), Attention(d, heads)
        self.up, self.down = nn.Linear(d, 4 * d), nn.Linear(4 * d, d)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(d) for _ in range(3))

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor | None) -> Tensor:
        x = self.norm1(x + self.self_attention(x, x, mask)[0])  # what was written so far
        x = self.norm2(x + self.cross_attention(x, memory)[0])  # all of the source, no mask
        return self.norm3(x + self.down(self.up(x).relu()))  # each token alone


class Decoder(nn.Module):
    """Words and places in, one vector a word out: (B, T) and memory (B, S, d) -> (B, T, d)."""

    def __init__(self, params: Params, rng: torch.Generator) -> None:
        super().__init__()
        d = params.d_model
        self.words, self.places = nn.Embedding(len(VOCABULARY), d), nn.Embedding(len(TARGET), d)
        self.layers = nn.ModuleList(DecoderLayer(d, params.heads) for _ in range(params.layers))
        for name, weight in self.named_parameters():
            if "norm" not in name:
                nn.init.normal_(weight, std=weight.shape[-1] ** -0.5, generator=rng)

    def embed(self, words: Tensor) -> Tensor:
        return self.words(words) + self.places.weight[: words.shape[1]]  # (B, T, d)

    def forward(self, words: Tensor, memory: Tensor, causal: bool) -> Tensor:
        x, mask = self.embed(words), look_ahead_mask(words.shape[1]) if causal else None
        for layer in self.layers:
            x = layer(x, memory, mask)
        return x


def look_ahead_mask(length: int) -> Tensor:
    """True above the diagonal: what position i (row) must not see, (T, T)."""
    return torch.ones(length, length).triu(1).bool()


def shift_right(labels: Tensor) -> Tensor:
    """What the decoder is given when it is to say the labels (B, T): a start token, then all labels but the last."""
    return torch.cat([torch.zeros_like(labels[:, :1]), labels[:, :-1]], dim=1)


def leaks(decoder: Decoder, words: Tensor, memory: Tensor, causal: bool) -> Tensor:
    """Change of output i (row) when word j (column) is altered: largest over the width, (T, T)."""
    before, T = decoder(words, memory, causal), words.shape[1]
    altered = words.repeat(T, 1)  # (T, T): row j is altered at place j
    altered.diagonal().copy_((altered.diagonal() + 1) % len(VOCABULARY))
    after = decoder(altered, memory.expand(T, -1, -1), causal)  # (T, T, d)
    return (after - before).abs().amax(dim=2).T


def torchs_stack(ours: Decoder, params: Params) -> nn.TransformerDecoder:
    """torch's decoder with our weights copied into it."""
    layer = nn.TransformerDecoderLayer(params.d_model, params.heads, 4 * params.d_model, dropout=0.0, batch_first=True)
    theirs = nn.TransformerDecoder(layer, params.layers)
    for mine, copied in zip(ours.layers, theirs.layers, strict=True):
        weights = mine.state_dict()
        renamed = {name: weights[name] for name in weights if name.startswith("norm")}
        for here, there in (("self_attention", "self_attn"), ("cross_attention", "multihead_attn")):
            for kind, out in (("weight", "out_proj.weight"), ("bias", "out_proj.bias")):
                renamed[f"{there}.in_proj_{kind}"] = torch.cat([weights[f"{here}.{part}.{kind}"] for part in "qkv"])
                renamed[f"{there}.{out}"] = weights[f"{here}.out.{kind}"]
        for here, there in (("up", "linear1"), ("down", "linear2")):
            renamed |= {f"{there}.{kind}": weights[f"{here}.{kind}"] for kind in ("weight", "bias")}
        copied.load_state_dict(renamed)
    return theirs


@torch.no_grad()
def run(params: Params, tick: Tick = no_tick) -> Result:
    rng = torch.Generator().manual_seed(params.seed)
    decoder = Decoder(params, rng).double()  # so that rounding does not pass for a leak
    memory, other = (torch.randn(1, SOURCE, params.d_model, generator=rng).double() for _ in range(2))
    labels = torch.tensor([[VOCABULARY.index(word) for word in TARGET]])  # (1, T)
    given, T, causal = shift_right(labels), len(TARGET), params.causal
    tick(0.2, "decoder made")

    leak, unmasked = leaks(decoder, given, memory, causal), leaks(decoder, given, memory, causal=False)  # (T, T)
    earlier = look_ahead_mask(T)  # pairs (i, j) with j after i
    whole = decoder(given, memory, causal)  # (1, T, d): training's one pass
    tick(0.6, "one pass")
    stepwise = torch.stack([decoder(given[:, : t + 1], memory, causal)[:, -1] for t in range(T)], dim=1)
    parallel_gap = (whole - stepwise).abs().max().item()
    x, mask = decoder.embed(given), look_ahead_mask(T) if causal else None
    parity_gap = (torchs_stack(decoder, params).double()(x, memory, tgt_mask=mask) - whole).abs().max().item()
    source = (decoder(given, other, causal) - whole).abs().max().item()
    weights: Tensor = decoder.layers[0].get_submodule("self_attention")(x, x, mask)[1]  # (1, h, T, T)
    inputs = [VOCABULARY[word] for word in given[0]]
    return Result(
        metrics=[
            Metric("largest change of an earlier output", leak[earlier].max().item()),
            Metric("the same without the mask", unmasked[earlier].max().item()),
            Metric("passes of one training step", 1),
            Metric("passes of decoding", T),
        ],
        claims=[
            Claim("A later word altered leaves every earlier output alone: largest change",
                  leak[earlier].max().item(), "<=", 1e-6),
            Claim("Without the mask it does not: smallest change", unmasked[earlier].min().item(), ">", 1e-3),
            Claim("One masked pass gives what decoding word by word gives: largest difference",
                  parallel_gap, "<=", 1e-5),
            Claim("Same weights, same output as torch's decoder: largest difference", parity_gap, "<=", 1e-5),
            Claim("Another source, another output: largest change", source, ">", 1e-3),
        ],
        figures=[
            Heatmap("The mask: 1 where a row may look", x="word looked at", y="word being written",
                    values=(~earlier if causal else earlier | True).int().numpy().tolist(),
                    row_labels=TARGET, column_labels=inputs),
            Heatmap("Self-attention of layer 1 under it, mean over heads", x="word looked at", y="word being written",
                    values=weights[0].mean(dim=0).numpy().tolist(), row_labels=TARGET, column_labels=inputs),
            Heatmap("Leak test: change of an output when one input word is altered", x="word altered", y="output",
                    values=leak.numpy().tolist(), row_labels=TARGET, column_labels=inputs),
        ],
        tables=[
            Table("Shifted right: what is given, what is to be said", ["step", "given so far", "given last", "label"],
                  [[t + 1, " ".join(inputs[: t + 1]), inputs[t], word] for t, word in enumerate(TARGET)]),
            Table("Largest change of outputs before an altered word", ["word altered", "this run", "without the mask"],
                  [[f"{j + 1}: {inputs[j]}", leak[:j, j].max().item(), unmasked[:j, j].max().item()]
                   for j in range(1, T)]),
        ],
    )  # fmt: skip
