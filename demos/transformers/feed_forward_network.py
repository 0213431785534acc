"""The position-wise feed-forward network

Question: What does the FFN add that attention alone cannot, and what does "position-wise" mean?
Source: Vaswani et al. 2017, arXiv:1706.03762, §3.3, eq. (2); GELU: Hendrycks, Gimpel 2016, arXiv:1606.08415, §2;
    SwiGLU: Shazeer 2020, arXiv:2002.05202, eq. (6).
Watch: Each token holds pairs of ±1 features and the XOR of every pair is asked. No linear map can give it, and
    attention is linear in its values. Two linear maps with ReLU, GELU or a gate between them can; with the identity
    they guess.
"""

import math
from collections.abc import Callable, Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from demos.contract import Bars, Claim, DemoParams, Lines, Metric, Preset, Result, Table, Tick, no_tick

TOKENS, BATCH, TESTED = 8, 32, 500  # tokens of a sequence, sequences


class Params(DemoParams):
    d_model: int = Field(16, ge=4, le=128, description="Width of input and output: so many features has a token; even")
    expansion: int = Field(4, ge=1, le=8, description="Hidden width over d_model")
    activation: Literal["relu", "gelu", "gelu_tanh", "swiglu", "identity"] = Field(
        "relu", description="What stands between the two linear maps"
    )
    steps: int = Field(300, ge=50, le=2000, description="Training steps of 32 sequences")
    seed: int = Field(0, ge=0, le=9999, description="Seed of data and weights")

    presets: ClassVar[Mapping[str, Preset]] = {
        "identity": Preset("Two linear maps are one: XOR stays a guess", {"activation": "identity"}),
        "no expansion": Preset("ReLU needs two hidden units for each XOR: too few to learn them all", {"expansion": 1}),
        "swiglu": Preset("A product of two projections is an XOR of ±1 by itself", {"activation": "swiglu"}),
    }

    @model_validator(mode="after")
    def _features_come_in_pairs(self) -> "Params":
        if self.d_model % 2:
            raise ValueError(f"d_model must be even, for features come in pairs, and {self.d_model} is odd")
        return self


def relu(x: Tensor) -> Tensor:
    return x.clamp(min=0)


def gelu(x: Tensor) -> Tensor:
    """x·Φ(x): x times the chance that a standard normal lies below x."""
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def gelu_tanh(x: Tensor) -> Tensor:
    """The form without erf that GPT-2 uses."""
    return x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2


def silu(x: Tensor) -> Tensor:
    return x * x.sigmoid()


def identity(x: Tensor) -> Tensor:
    return x


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": relu, "gelu": gelu, "gelu_tanh": gelu_tanh, "swiglu": silu, "identity": identity,
}  # fmt: skip


class FFN(nn.Module):
    """Eq. (2), FFN(x) = act(x W1 + b1) W2 + b2; with swiglu (SiLU(x W1) ⊙ x V) W2, which has no biases."""

    def __init__(self, d: int, expansion: int, activation: str, rng: torch.Generator | None = None) -> None:
        super().__init__()
        gated, inner = activation == "swiglu", expansion * d
        self.act = ACTIVATIONS[activation]
        self.W1, self.W2 = nn.Linear(d, inner, bias=not gated), nn.Linear(inner, d, bias=not gated)
        self.V = nn.Linear(d, inner, bias=False) if gated else None
        if rng is not None:
            for layer in [self.W1, self.W2, *([self.V] if self.V is not None else [])]:
                for weight in layer.parameters():
                    nn.init.uniform_(weight, -(layer.in_features**-0.5), layer.in_features**-0.5, generator=rng)

    def forward(self, x: Tensor) -> Tensor:
        """x (…, d) -> (…, inner) -> (…, d): the same weights for every token, which sees no other."""
        hidden = self.act(self.W1(x))
        return self.W2(hidden if self.V is None else hidden * self.V(x))

    def as_convolutions(self, x: Tensor) -> Tensor:
        """The same by convolutions over the sequence that see one position at a time, x (B, T, d)."""

        def convolve(layer: nn.Linear, x: Tensor) -> Tensor:
            return nn.functional.conv1d(x, layer.weight[:, :, None], layer.bias)  # (B, channels, T)

        channels = x.transpose(1, 2)
        hidden = self.act(convolve(self.W1, channels))
        return convolve(self.W2, hidden if self.V is None else hidden * convolve(self.V, channels)).transpose(1, 2)


def draw_tokens(n: int, d: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Tokens (n, T, d) of ±1 features, and the XOR of each pair of neighbours, (n, T, d/2) of 0 and 1."""
    bits = torch.randint(2, (n, TOKENS, d), generator=rng)
    return 2.0 * bits - 1, (bits[..., 0::2] ^ bits[..., 1::2]).float()


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Take one step down the gradient of the loss."""
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()


def train(d: int, expansion: int, activation: str, steps: int, seed: int) -> FFN:
    """Teach an FFN to put the logit of each XOR into the first half of its output."""
    rng = torch.Generator().manual_seed(2 * seed)
    ffn = FFN(d, expansion, activation, rng)
    adam = torch.optim.Adam(ffn.parameters(), fused=True)
    rate = torch.optim.lr_scheduler.OneCycleLR(adam, max_lr=2e-2, total_steps=steps)
    for _ in range(steps):
        x, xor = draw_tokens(BATCH, d, rng)
        descend(adam, nn.functional.binary_cross_entropy_with_logits(ffn(x)[..., : d // 2], xor))
        rate.step()
    return ffn


def count(*layers: nn.Linear | None) -> int:
    """Weights of matrices, biases aside."""
    return sum(layer.weight.numel() for layer in layers if layer is not None)


def run(params: Params, tick: Tick = no_tick) -> Result:
    d, expansion = params.d_model, params.expansion
    dice = torch.Generator().manual_seed(2 * params.seed + 1)
    x, xor = draw_tokens(TESTED, d, dice)
    models: dict[str, FFN] = {}
    accuracy: dict[str, float] = {}
    names = list(dict.fromkeys(["identity", "relu", "gelu", params.activation]))
    for name in names:
        models[name] = train(d, expansion, name, params.steps, params.seed)
        with torch.no_grad():
            accuracy[name] = ((models[name](x)[..., : d // 2] > 0) == xor.bool()).float().mean().item()
        tick(len(models) / len(names), name, accuracy=accuracy[name])

    chosen = models[params.activation].double()  # exact comparisons from here on
    with torch.no_grad():
        some = torch.randn(4, TOKENS, d, generator=dice).double()  # (B, T, d)
        altered = some.clone()
        altered[:, 3] += 1
        moved = (chosen(altered) - chosen(some)).abs().amax(dim=(0, 2))  # (T,)
        elsewhere = moved[[t for t in range(TOKENS) if t != 3]].max().item()
        conv_gap = (chosen.as_convolutions(some) - chosen(some)).abs().max().item()
    grid = torch.linspace(-6, 6, 1201).double()
    gelu_gap = (gelu(grid) - nn.functional.gelu(grid)).abs().max().item()
    tanh_gap = (gelu_tanh(grid) - gelu(grid)).abs().max().item()
    attention = count(*(nn.Linear(d, d) for _ in range(4)))  # W_Q, W_K, W_V, W_O
    four = FFN(d, 4, "relu")
    off = abs(count(four.W1, four.W2) / (count(four.W1, four.W2) + attention) - 2 / 3)
    at = torch.linspace(-4, 4, 161)
    curves, slopes = dict[str, list[float]](), dict[str, list[float]]()
    for name in ("relu", "gelu", "gelu_tanh", "swiglu"):
        leaf = at.clone().requires_grad_()
        y = ACTIVATIONS[name](leaf)
        (slope,) = torch.autograd.grad(y.sum(), leaf)
        label = "SiLU, the gate of swiglu" if name == "swiglu" else name
        curves[label], slopes[label] = y.detach().numpy().tolist(), slope.numpy().tolist()
    sizes = {n: count(f.W1, f.V, f.W2) for n in range(1, 9) for f in [FFN(d, n, params.activation)]}
    return Result(
        metrics=[
            Metric("xor-accuracy", accuracy[params.activation]),
            *(Metric(f"xor-accuracy of {name}", accuracy[name]) for name in names),
            Metric("share of the block's weights", sizes[expansion] / (sizes[expansion] + attention)),
        ],
        claims=[
            Claim("The chosen activation finds the XOR of every pair: accuracy",
                  accuracy[params.activation], ">=", 0.97),
            Claim("Two linear maps with nothing between guess: accuracy", accuracy["identity"], "<=", 0.65),
            Claim("Position-wise, one token altered moves no other: largest change", elsewhere, "==", 0),
            Claim("The FFN is convolutions of kernel size 1: largest difference", conv_gap, "<=", 1e-6),
            Claim("GELU is x·Φ(x), as torch has it: largest difference", gelu_gap, "<=", 1e-6),
            Claim("Its tanh form is near: largest difference", tanh_gap, "<=", 1e-3),
            Claim("At expansion 4 two thirds of a block's weights are here: distance from 2/3", off, "<=", 1e-9),
        ],
        figures=[
            Lines("Activations", x="x", y="value", at=at.numpy().tolist(), series=curves),
            Lines("Their slopes: ReLU's jumps, the others' are smooth", x="x", y="slope", at=at.numpy().tolist(),
                  series=slopes),
            Bars("XOR of every pair of features", x="activation", y="accuracy", labels=names,
                 series={"accuracy": [accuracy[name] for name in names]}),
            Bars("One token altered: which outputs move", x="position", y="largest change",
                 labels=[str(t) for t in range(TOKENS)], series={"change": moved.numpy().tolist()}),
        ],
        tables=[
            Table(f"Weights of a block, {params.activation}", ["expansion", "attention", "FFN", "share of the FFN"],
                  [[n, attention, size, size / (size + attention)] for n, size in sizes.items()]),
        ],
    )  # fmt: skip
