"""LayerNorm, RMSNorm and where they sit

Question: What do the norms compute per token, and why do pre-norm and RMSNorm train deep stacks more calmly and
    cheaply?
Source: Ba et al. 2016, arXiv:1607.06450, eq. (3), (4); RMSNorm: Zhang, Sennrich 2019, arXiv:1910.07467, eq. (4);
    placement: Xiong et al. 2020, arXiv:2002.04745.
Watch: Both norms see one token alone; batch norm mixes its neighbours in. Twelve blocks at a high rate without warm-up:
    with the norm before each sublayer they learn to copy, with the norm after the sum or with none they do not.
"""

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from demos.contract import Claim, DemoParams, Lines, Metric, Preset, Result, Table, Tick, no_tick

SYMBOLS, TOKENS, BATCH, HEADS, EPS = 8, 8, 32, 4, 1e-5
Kind = Literal["layernorm", "rmsnorm", "batchnorm", "none"]
KINDS: tuple[Kind, ...] = ("layernorm", "rmsnorm", "batchnorm", "none")


class Params(DemoParams):
    norm: Kind = Field("layernorm", description="Norm of the trained stack and of the statistics")
    placement: Literal["pre", "post"] = Field("post", description="Before each sublayer or after the residual sum")
    depth: int = Field(12, ge=2, le=32, description="Blocks")
    width: int = Field(32, ge=16, le=512, description="Features of a token; a multiple of 4")
    lr: float = Field(0.01, ge=0.0001, le=0.03, description="Learning rate of Adam, without warm-up")
    steps: int = Field(100, ge=10, le=500, description="Training steps of 32 sequences of the copy task")
    seed: int = Field(0, ge=0, le=9999, description="Seed of data and weights")

    presets: ClassVar[Mapping[str, Preset]] = {
        "batch norm": Preset("A token's result moves with its neighbours: that claim fails", {"norm": "batchnorm"}),
        "no norm": Preset("Without a norm no placement learns at this rate", {"norm": "none"}),
        "rmsnorm": Preset("Half the parameters, fewer operations, the same training", {"norm": "rmsnorm"}),
        "low rate": Preset("At a small rate post-norm learns too: those claims fail", {"lr": 0.001}),
    }


def layer_norm(x: Tensor, g: Tensor, b: Tensor) -> Tensor:
    """Ba et al., eq. (3) and (4), over the features of each token alone: x (…, d), gain g (d,), bias b (d,)."""
    centred = x - x.mean(dim=-1, keepdim=True)
    return centred * (centred.square().mean(dim=-1, keepdim=True) + EPS).rsqrt() * g + b


def rms_norm(x: Tensor, g: Tensor) -> Tensor:
    """Zhang and Sennrich, eq. (4): no mean is taken away, no bias added."""
    return x * (x.square().mean(dim=-1, keepdim=True) + EPS).rsqrt() * g


def batch_norm(x: Tensor, g: Tensor, b: Tensor) -> Tensor:
    """In training mode: each feature over all tokens of the batch, x (B, T, d)."""
    centred = x - x.mean(dim=(0, 1))
    return centred * (centred.square().mean(dim=(0, 1)) + EPS).rsqrt() * g + b


def layer_norm_backward(x: Tensor, g: Tensor, upstream: Tensor) -> Tensor:
    """∂loss/∂x (…, d) by hand: a change of x along 1 or along x̂ is undone by the norm, so both parts are taken out."""
    centred = x - x.mean(dim=-1, keepdim=True)
    r = (centred.square().mean(dim=-1, keepdim=True) + EPS).rsqrt()  # 1/σ
    hat, u = centred * r, upstream * g
    return r * (u - u.mean(dim=-1, keepdim=True) - hat * (u * hat).mean(dim=-1, keepdim=True))


def rms_norm_backward(x: Tensor, g: Tensor, upstream: Tensor) -> Tensor:
    """The same without the mean: only the part along x is taken out."""
    r = (x.square().mean(dim=-1, keepdim=True) + EPS).rsqrt()
    hat, u = x * r, upstream * g
    return r * (u - hat * (u * hat).mean(dim=-1, keepdim=True))


class Norm(nn.Module):
    """One of the norms with its learned gain and, but for RMSNorm, bias."""

    def __init__(self, kind: Kind, d: int) -> None:
        super().__init__()
        self.kind = kind
        self.g = nn.Parameter(torch.ones(d)) if kind != "none" else None
        self.b = nn.Parameter(torch.zeros(d)) if kind in ("layernorm", "batchnorm") else None

    def forward(self, x: Tensor) -> Tensor:
        if self.g is None:
            return x
        if self.b is None:
            return rms_norm(x, self.g)
        return layer_norm(x, self.g, self.b) if self.kind == "layernorm" else batch_norm(x, self.g, self.b)


class Block(nn.Module):
    """Attention and feed-forward network, each within a residual sum, the norm before it or after the sum."""

    def __init__(self, kind: Kind, pre: bool, d: int) -> None:
        super().__init__()
        self.pre = pre
        self.norm1, self.norm2 = Norm(kind, d), Norm(kind, d)
        self.qkv, self.out = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.up, self.down = nn.Linear(d, 4 * d), nn.Linear(4 * d, d)

    def attend(self, x: Tensor) -> Tensor:
        B, T, d = x.shape
        q, k, v = self.qkv(x).view(B, T, 3, HEADS, d // HEADS).permute(2, 0, 3, 1, 4)  # (B, h, T, d/h) each
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.out(mixed.transpose(1, 2).reshape(B, T, d))

    def forward(self, x: Tensor) -> Tensor:
        if self.pre:
            x = x + self.attend(self.norm1(x))
            return x + self.down(self.up(self.norm2(x)).relu())
        x = self.norm1(x + self.attend(x))
        return self.norm2(x + self.down(self.up(x).relu()))


class Stack(nn.Module):
    """Symbols (B, T) -> logits of the symbols (B, T, 8). A pre-norm stack has a last norm, as in GPT-2."""

    def __init__(self, kind: Kind, pre: bool, params: Params, rng: torch.Generator) -> None:
        super().__init__()
        d = params.width
        self.embed, self.read = nn.Embedding(SYMBOLS, d), nn.Linear(d, SYMBOLS)
        self.blocks = nn.ModuleList(Block(kind, pre, d) for _ in range(params.depth))
        self.last = Norm(kind if pre else "none", d)
        for weight in self.parameters():
            if weight.dim() == 2:
                nn.init.normal_(weight, std=weight.shape[1] ** -0.5, generator=rng)
        for name, weight in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(weight)

    def forward(self, symbols: Tensor) -> Tensor:
        x = self.embed(symbols)
        for block in self.blocks:
            x = block(x)
        return self.read(self.last(x))


class CountOperations(TorchDispatchMode):
    """Counts the numbers that each tensor operation reads or writes, whichever is more."""

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        returned = func(*args, **(kwargs or {}))
        self.total += max(x.numel() for x in (*args, returned) if isinstance(x, Tensor))
        return returned


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Take one step down the gradient of the loss."""
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()


def train(kind: Kind, pre: bool, params: Params) -> tuple[list[float], list[float]]:
    """Teach a stack to repeat each symbol. Return the loss of each step and each block's gradient norm at the first."""
    rng = torch.Generator().manual_seed(params.seed)
    model = Stack(kind, pre, params, rng)
    adam = torch.optim.Adam(model.parameters(), lr=params.lr, fused=True)
    losses, gradients = list[float](), list[float]()
    for step in range(params.steps):
        symbols = torch.randint(SYMBOLS, (BATCH, TOKENS), generator=rng)
        loss = nn.functional.cross_entropy(model(symbols).transpose(1, 2), symbols)
        descend(adam, loss)
        losses.append(loss.item())
        if step == 0:
            squares = [[w.grad.square().sum() for w in b.parameters() if w.grad is not None] for b in model.blocks]
            gradients = [torch.stack(some).sum().sqrt().item() for some in squares]
    return losses, gradients


@torch.no_grad()
def operations(kind: Kind, d: int) -> int:
    """Numbers passed through to normalise one token of width d, counted while the norm runs."""
    norm, token = Norm(kind, d), torch.ones(1, 1, d)
    with CountOperations() as counter:
        norm(token)
    return counter.total


@torch.no_grad()
def run(params: Params, tick: Tick = no_tick) -> Result:
    d, kind = params.width, params.norm
    dice = torch.Generator().manual_seed(2**20 + params.seed)
    x = 3 * torch.randn(BATCH, TOKENS, d, generator=dice).double() + 2  # (B, T, d): far from normal
    g, b = torch.ones(d).double(), torch.zeros(d).double()
    y = layer_norm(x, g, b)
    mean_off, var_off = y.mean(dim=-1).abs().max().item(), (y.var(dim=-1, correction=0) - 1).abs().max().item()
    chosen = Norm(kind, d).double()
    mates = torch.cat([x[:1], x[1:] * 2 + 1])  # the first sequence among other ones
    moved = (chosen(mates) - chosen(x))[0].abs().max().item()
    rms_scaled = (rms_norm(100 * x, g) - rms_norm(x, g)).abs().max().item()
    rms_shifted = (rms_norm(x + 5, g) - rms_norm(x, g)).abs().max().item()
    both = (layer_norm(100 * x + 5, g, b) - y).abs().max().item()
    counted = {name: operations(name, d) for name in KINDS}
    sizes = {name: sum(weight.numel() for weight in Norm(name, d).parameters()) for name in KINDS}

    arms: dict[str, tuple[Kind, bool]] = {"pre": (kind, True), "post": (kind, False), "no norm": ("none", False)}
    losses, gradients = dict[str, list[float]](), dict[str, list[float]]()
    for name, (norm, pre) in arms.items():
        with torch.enable_grad():
            losses[name], gradients[name] = train(norm, pre, params)
        tick(len(losses) / len(arms), name, loss=losses[name][-1])
    final = {name: sum(some[-10:]) / 10 for name, some in losses.items()}
    before, after = x[0], chosen(x)[0]  # (T, d)

    def statistics(token: Tensor) -> list[float]:
        return [token.mean().item(), token.var(correction=0).item(), token.square().mean().sqrt().item()]

    return Result(
        metrics=[
            Metric("loss", final[params.placement], "nats"),
            Metric("operations", counted[kind], "numbers a token"),
            *(Metric(f"loss, {name}", value, "nats") for name, value in final.items()),
        ],
        claims=[
            Claim("LayerNorm gives every token mean 0: largest distance", mean_off, "<=", 1e-6),
            Claim("… and variance 1: largest distance", var_off, "<=", 1e-3),
            Claim("The chosen norm sees one token alone: change when its neighbours change", moved, "<=", 1e-6),
            Claim("RMSNorm does not feel a scale: largest change", rms_scaled, "<=", 1e-5),
            Claim("It does feel a shift: largest change", rms_shifted, ">", 0.01),
            Claim("LayerNorm feels neither: largest change", both, "<=", 1e-5),
            Claim("RMSNorm is cheaper: its operations over LayerNorm's",
                  counted["rmsnorm"] / counted["layernorm"], "<=", 0.7),
            Claim("… with half the parameters: its over LayerNorm's", sizes["rmsnorm"] / sizes["layernorm"], "==", 0.5),
            Claim("The norm before each sublayer learns to copy: loss", final["pre"], "<=", 0.05),
            Claim("The norm after the sum does not at this rate: loss", final["post"], ">=", 1.0),
            Claim("Nor does a stack without norms: loss", final["no norm"], ">=", 1.0),
        ],
        figures=[
            Lines("Copying, without warm-up", x="training step", y="nats", at=list(range(1, params.steps + 1)),
                  series={**losses, "chance": [math.log(SYMBOLS)] * params.steps}),
            Lines("Gradient of each block's weights before training", x="block", y="norm", log="y",
                  at=list(range(1, params.depth + 1)), series=gradients),
        ],
        tables=[
            Table(f"Statistics of each token, {kind}",
                  ["token", "mean before", "variance before", "RMS before", "mean", "variance", "RMS"],
                  [[n, *statistics(before[n]), *statistics(after[n])] for n in range(TOKENS)]),
            Table("What a norm costs", ["norm", "parameters", "operations a token"],
                  [[name, sizes[name], counted[name]] for name in KINDS]),
        ],
    )  # fmt: skip
