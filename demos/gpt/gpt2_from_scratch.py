"""GPT-2's architecture, line by line

Question: What exactly is inside a decoder-only transformer?
Source: Radford et al. 2019, "Language models are unsupervised multitask learners", §2.3, and the code published with
  it; GELU in its tanh form: Hendrycks and Gimpel 2016, arXiv:1606.08415, §2.
Watch: The trace, shape by shape: nothing but norm, masked attention, sum, norm, MLP, sum. The Jacobian of outputs by
  inputs is exactly 0 above the diagonal, so all positions can be trained at once; without the mask (preset "no-mask")
  each output sees the word it has to predict.
"""

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, gelu, layer_norm

from demos.contract import Claim, DemoParams, Heatmap, Metric, Preset, Result, Table, Tick, no_tick

VOCABULARY, SHOWN = 96, 12  # words (GPT-2: 50,257); positions of the Jacobian
STD = 0.02  # of the initial weights; those that end a residual branch get STD / √(2·layers)


class Params(DemoParams):
    layers: int = Field(2, ge=1, le=12, description="Blocks (GPT-2: 12 to 48)")
    d_model: int = Field(64, ge=16, le=256, description="Width (GPT-2: 768 to 1600)")
    heads: int = Field(4, ge=1, le=16, description="Heads, cut to a divisor of the width (GPT-2: 12 to 25)")
    context: int = Field(64, ge=8, le=1024, description="Positions (GPT-2: 1024)")
    mask: bool = Field(True, description="Let a position see only itself and those before it")
    seed: int = Field(0, ge=0, le=9999, description="Seed of weights and text")

    presets: ClassVar[Mapping[str, Preset]] = {
        "no-mask": Preset("Every position sees the future, also the word it must predict", {"mask": False}),
        "deeper": Preset("Six blocks: more weights, the same shapes", {"layers": 6}),
    }  # fmt: skip


class Gpt2:
    """The network: tensors in `weights`, named as in the published code. T tokens, d wide, n heads, V words."""

    def __init__(self, params: Params, rng: torch.Generator) -> None:
        self.d, self.n, self.layers = params.d_model, math.gcd(params.d_model, params.heads), params.layers
        self.mask = params.mask
        last = STD / math.sqrt(2 * params.layers)

        def matrix(rows: int, columns: int, std: float = STD) -> Tensor:
            return std * torch.randn(rows, columns, generator=rng)

        d = self.d
        self.weights = {"wte": matrix(VOCABULARY, d), "wpe": matrix(params.context, d)}  # (V, d), (context, d)
        for i in range(params.layers):
            self.weights |= {
                f"h{i}.ln_1.g": torch.ones(d), f"h{i}.ln_1.b": torch.zeros(d),
                f"h{i}.attn.w": matrix(d, 3 * d), f"h{i}.attn.b": torch.zeros(3 * d),  # q, k and v in one matrix
                f"h{i}.proj.w": matrix(d, d, last), f"h{i}.proj.b": torch.zeros(d),
                f"h{i}.ln_2.g": torch.ones(d), f"h{i}.ln_2.b": torch.zeros(d),
                f"h{i}.fc.w": matrix(d, 4 * d), f"h{i}.fc.b": torch.zeros(4 * d),
                f"h{i}.out.w": matrix(4 * d, d, last), f"h{i}.out.b": torch.zeros(d),
            }  # fmt: skip
        self.weights |= {"ln_f.g": torch.ones(d), "ln_f.b": torch.zeros(d)}
        self.head = self.weights["wte"]  # (V, d): one matrix reads words and writes them
        self.trace = list[tuple[str, str, int]]()  # step, shape, parameters

    def note(self, step: str, x: Tensor, *names: str) -> Tensor:
        """Write a step into the trace, with the weights it uses."""
        shape = " × ".join(str(size) for size in x.shape)
        self.trace.append((step, shape, sum(self.weights[name].numel() for name in names)))
        return x

    def norm(self, x: Tensor, name: str) -> Tensor:
        return layer_norm(x, (self.d,), self.weights[f"{name}.g"], self.weights[f"{name}.b"])

    def linear(self, x: Tensor, name: str) -> Tensor:
        return x @ self.weights[f"{name}.w"] + self.weights[f"{name}.b"]

    def attention(self, x: Tensor, block: str) -> Tensor:
        """Masked self-attention, (T, d) -> (T, d)."""
        q, k, v = self.linear(x, f"{block}.attn").tensor_split(3, dim=1)  # (T, d) each
        q, k, v = (y.view(len(x), self.n, -1).transpose(0, 1) for y in (q, k, v))  # (n, T, d / n)
        scores = q @ k.mT / math.sqrt(q.shape[2])  # (n, T, T)
        if self.mask:
            scores = scores.masked_fill(torch.ones(len(x), len(x), dtype=torch.bool).triu(1), -math.inf)
        weights = self.note(f"{block} attention weights", scores.softmax(dim=-1))
        return self.linear((weights @ v).transpose(0, 1).flatten(1), f"{block}.proj")

    def blocks(self, x: Tensor) -> Tensor:
        """Embedded tokens (T, d) to logits (T, V)."""
        for i in range(self.layers):
            b = f"h{i}"
            h = self.note(f"{b} norm", self.norm(x, f"{b}.ln_1"), f"{b}.ln_1.g", f"{b}.ln_1.b")
            h = self.attention(h, b)
            self.note(f"{b} masked self-attention", h, f"{b}.attn.w", f"{b}.attn.b", f"{b}.proj.w", f"{b}.proj.b")
            x = self.note(f"{b} sum", x + h)
            h = self.note(f"{b} norm", self.norm(x, f"{b}.ln_2"), f"{b}.ln_2.g", f"{b}.ln_2.b")
            h = gelu(self.linear(h, f"{b}.fc"), approximate="tanh")  # (T, 4·d)
            h = self.note(f"{b} MLP, inside", h, f"{b}.fc.w", f"{b}.fc.b")
            h = self.note(f"{b} MLP", self.linear(h, f"{b}.out"), f"{b}.out.w", f"{b}.out.b")
            x = self.note(f"{b} sum", x + h)
        x = self.note("final norm", self.norm(x, "ln_f"), "ln_f.g", "ln_f.b")
        return self.note("logits, by the table of words again", x @ self.head.T)

    def forward(self, ids: Tensor) -> Tensor:
        """Logits (T, V) for tokens ids (T,)."""
        self.trace = [("ids", str(len(ids)), 0)]
        x = self.weights["wte"][ids] + self.weights["wpe"][: len(ids)]
        return self.blocks(self.note("word + position", x, "wte", "wpe"))


def influence(gpt: Gpt2, x: Tensor, rng: torch.Generator) -> Tensor:
    """Norm of ∂(output i) / ∂(input j), (T, T), for embedded tokens x (T, d) and a random direction of each output."""
    leaf = x.clone().requires_grad_()
    directed = (gpt.blocks(leaf) * torch.randn(len(x), VOCABULARY, generator=rng)).sum(dim=1)  # (T,)
    rows = [torch.autograd.grad(output, leaf, retain_graph=True)[0].square().sum(dim=1).sqrt() for output in directed]
    return torch.stack(rows)


def by_torch(gpt: Gpt2, x: Tensor) -> Tensor:
    """Logits (T, V) of torch's own encoder layers with our weights, its causal mask, and our last two lines."""
    for i in range(gpt.layers):
        layer = nn.TransformerEncoderLayer(
            gpt.d, gpt.n, 4 * gpt.d, 0.0, lambda h: gelu(h, approximate="tanh"), batch_first=True, norm_first=True
        ).eval()
        names = [f"{part}.{kind}" for part in ("attn", "proj", "fc", "out") for kind in "wb"]
        names += [f"{part}.{kind}" for part in ("ln_1", "ln_2") for kind in "gb"]
        for theirs, name in zip(layer.parameters(), names, strict=True):
            theirs.data = gpt.weights[f"h{i}.{name}"].t()  # theirs are (out, in)
        x = layer(x[None], src_mask=nn.Transformer.generate_square_subsequent_mask(len(x)), is_causal=True)[0]
    return gpt.norm(x, "ln_f") @ gpt.head.T


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng = torch.Generator().manual_seed(params.seed)
    gpt = Gpt2(params, rng)
    d, L = gpt.d, gpt.layers
    text = torch.randint(VOCABULARY, (params.context + 1,), generator=rng)
    ids = text[:-1]  # (T,)
    logits = gpt.forward(ids)
    trace = list(gpt.trace)  # before other passes write on
    tick(0.4, "forward", tokens=len(ids))
    x = gpt.weights["wte"][ids] + gpt.weights["wpe"][: len(ids)]
    with torch.no_grad():
        gap = (by_torch(gpt, x) - logits).abs().max().item()
    jacobian = influence(gpt, x[:SHOWN], rng)  # (T, T)
    future = jacobian.triu(1).max().item()
    past = jacobian[torch.ones_like(jacobian).tril().bool()].min().item()
    sums = (logits.softmax(dim=1).sum(dim=1) - 1).abs().max().item()
    loss = cross_entropy(logits, text[1:]).item()
    apart = gpt.head.data_ptr() - gpt.weights["wte"].data_ptr()
    parameters = sum(weight.numel() for weight in gpt.weights.values())
    formula = 12 * L * d**2 + 13 * L * d + (VOCABULARY + params.context + 2) * d
    positions = [str(i) for i in range(len(jacobian))]
    return Result(
        metrics=[
            Metric("parameters", parameters),
            Metric("loss before training", loss, "nats"),
            Metric("ln of the vocabulary", math.log(VOCABULARY), "nats"),
        ],
        claims=[
            Claim("Outputs ignore later words: largest influence above the diagonal", future, "==", 0),
            Claim("And hear every earlier one: smallest influence below it", past, ">", 0),
            Claim("Same logits as torch's own layers with a causal mask: largest difference", gap, "<=", 1e-5),
            Claim("Each position has probabilities: largest distance of their sum from 1", sums, "<=", 1e-5),
            Claim("One matrix reads and writes words: distance of the two in memory", apart, "==", 0),
            Claim("Parameters are 12·L·d² + 13·L·d + (V + T + 2)·d: difference", parameters - formula, "==", 0),
            Claim("Untrained, every word is as likely: loss over ln V, less 1", abs(loss / math.log(VOCABULARY) - 1),
                  "<=", 0.05),
        ],
        figures=[
            Heatmap("Causal Jacobian: influence, fourth root so that small ones show", "input", "output",
                    (jacobian / jacobian.max()).pow(0.25).numpy().tolist(), positions, positions),
        ],
        tables=[Table("Trace", ["step", "shape", "parameters"], [list(row) for row in trace])],
    )  # fmt: skip
