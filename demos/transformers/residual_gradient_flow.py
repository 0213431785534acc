"""Residual connections keep gradients and tokens alive

Question: Why can a transformer be stacked 48 layers deep?
Source: He et al. 2015, arXiv:1512.03385, eq. (1); Vaswani et al. 2017, arXiv:1706.03762, §3.1; collapse of tokens
    without the sum: Dong et al. 2021, arXiv:2103.03404.
Watch: Take the sum x + f(x) away. Without norms the gradient dies on its way to the first layer. With norms it arrives,
    but by then all tokens of a sequence are alike: a stack that cannot even copy its input.
"""

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from demos.contract import Claim, DemoParams, Lines, Metric, Preset, Result, Table, Tick, no_tick

SYMBOLS, TOKENS, BATCH, WIDTH, HEADS = 8, 8, 16, 32, 4
SHALLOW = 6  # layers at which the claims on gradients and tokens are read, whatever depth is chosen
Place = Literal["none", "pre", "post"]
PLACES: tuple[Place, ...] = ("none", "pre", "post")


class Params(DemoParams):
    depth: int = Field(12, ge=2, le=64, description="Layers")
    residual: bool = Field(True, description="Add a sublayer's input to its output")
    norm: Place = Field("post", description="Layer norm: none, before each sublayer, or after the sum")
    zero_branch: bool = Field(
        False, description="Zero what each sublayer returns: without norms a layer is the identity"
    )
    steps: int = Field(150, ge=0, le=600, description="Training steps of the copy task")
    seed: int = Field(0, ge=0, le=9999, description="Seed of data and weights")

    presets: ClassVar[Mapping[str, Preset]] = {
        "no sum, no norms": Preset("The gradient never reaches the first layer", {"residual": False, "norm": "none"}),
        "no sum": Preset("Gradients arrive, but the tokens have become alike", {"residual": False}),
        "48 layers": Preset("As deep as GPT-2 XL: gradients only", {"depth": 48, "norm": "pre", "steps": 0}),
        "zeroed branches": Preset("The stack is the identity", {"zero_branch": True, "norm": "none"}),
    }


class Layer(nn.Module):
    """Attention and a feed-forward network. With sum and norm after it each is LayerNorm(x + Sublayer(x))."""

    def __init__(self, residual: bool, norm: Place, zero_branch: bool) -> None:
        super().__init__()
        self.residual, self.norm, self.scale = residual, norm, 0.0 if zero_branch else 1.0
        self.norm1, self.norm2 = (nn.Identity() if norm == "none" else nn.LayerNorm(WIDTH) for _ in range(2))
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def attend(self, x: Tensor) -> Tensor:
        B, T, d = x.shape
        q, k, v = self.qkv(x).view(B, T, 3, HEADS, d // HEADS).permute(2, 0, 3, 1, 4)  # (B, h, T, d/h) each
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.out(mixed.transpose(1, 2).reshape(B, T, d))

    def feed_forward(self, x: Tensor) -> Tensor:
        return self.down(self.up(x).relu())

    def forward(self, x: Tensor) -> Tensor:
        for sublayer, norm in ((self.attend, self.norm1), (self.feed_forward, self.norm2)):
            branch = self.scale * sublayer(norm(x) if self.norm == "pre" else x)
            x = x + branch if self.residual else branch  # the whole difference
            if self.norm == "post":
                x = norm(x)
        return x


class Stack(nn.Module):
    """Symbols (B, T) -> logits (B, T, 8), by way of `depth` layers."""

    def __init__(self, depth: int, residual: bool, norm: Place, zero_branch: bool, seed: int) -> None:
        super().__init__()
        rng = torch.Generator().manual_seed(2 * seed)
        self.embed, self.read = nn.Embedding(SYMBOLS, WIDTH), nn.Linear(WIDTH, SYMBOLS)
        self.layers = nn.ModuleList(Layer(residual, norm, zero_branch) for _ in range(depth))
        self.last = nn.LayerNorm(WIDTH) if norm == "pre" else nn.Identity()
        for name, weight in self.named_parameters():
            if "norm" not in name and "last" not in name:  # torch's usual start, from a generator of our own
                bound = 1.0 if "embed" in name else weight.shape[-1] ** -0.5
                nn.init.uniform_(weight, -bound, bound, generator=rng)

    def through(self, symbols: Tensor) -> list[Tensor]:
        """What enters the first layer and what each layer returns: depth + 1 times (B, T, d)."""
        x = [self.embed(symbols)]
        for layer in self.layers:
            x.append(layer(x[-1]))
        return x

    def loss(self, x: Tensor, symbols: Tensor) -> Tensor:
        """Cross-entropy of naming each symbol again, from the last layer's output."""
        return nn.functional.cross_entropy(self.read(self.last(x)).transpose(1, 2), symbols)


def gradients(stack: Stack, symbols: Tensor) -> list[float]:
    """Norm of ∂loss/∂x behind each layer, first to last."""
    x = stack.through(symbols)
    flow = torch.autograd.grad(stack.loss(x[-1], symbols), x[1:])
    return [g.square().sum().sqrt().item() for g in flow]


def ratio(norms: Sequence[float]) -> float:
    """Of the gradient behind the first layer to that behind the last."""
    return norms[0] / norms[-1]


@torch.no_grad()
def token_shares(stack: Stack, symbols: Tensor) -> list[float]:
    """Share of x that differs between the tokens of a sequence, ‖x - mean over tokens‖ / ‖x‖, behind each layer."""
    layers = stack.through(symbols)[1:]
    squares = [((x - x.mean(dim=1, keepdim=True)).square().sum(), x.square().sum()) for x in layers]
    return [(apart / whole.clamp(min=1e-30)).sqrt().item() for apart, whole in squares]


def descend(optimizer: torch.optim.Optimizer, stack: Stack, loss: Tensor) -> None:
    """Take one step down the gradient, clipped to norm 1."""
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    nn.utils.clip_grad_norm_(stack.parameters(), 1.0)
    optimizer.step()


def train(stack: Stack, steps: int, seed: int) -> list[float]:
    """Teach a stack to copy; return the loss at each step, and at the end on fresh symbols."""
    rng = torch.Generator().manual_seed(2 * seed + 1)
    adam = torch.optim.Adam(stack.parameters(), fused=True)
    rate = torch.optim.lr_scheduler.OneCycleLR(adam, max_lr=3e-3, total_steps=steps + 1)
    losses = list[float]()
    for _ in range(steps):
        symbols = torch.randint(SYMBOLS, (BATCH, TOKENS), generator=rng)
        loss = stack.loss(stack.through(symbols)[-1], symbols)
        descend(adam, stack, loss)
        rate.step()
        losses.append(loss.item())
    with torch.no_grad():
        symbols = torch.randint(SYMBOLS, (500, TOKENS), generator=rng)
        return [*losses, stack.loss(stack.through(symbols)[-1], symbols).item()]


def run(params: Params, tick: Tick = no_tick) -> Result:
    depth, seed = params.depth, params.seed
    symbols = torch.randint(SYMBOLS, (BATCH, TOKENS), generator=torch.Generator().manual_seed(2**20 + seed))

    def stack(depth: int, residual: bool, norm: Place, zero_branch: bool = False) -> Stack:
        return Stack(depth, residual, norm, zero_branch, seed)

    chosen = stack(depth, params.residual, params.norm, params.zero_branch)
    other = stack(depth, not params.residual, params.norm, params.zero_branch)
    flows = {"this run": gradients(chosen, symbols), "the other way round": gradients(other, symbols)}
    shares = {"this run": token_shares(chosen, symbols), "the other way round": token_shares(other, symbols)}
    flow, no_flow = (ratio(gradients(stack(SHALLOW, residual, "none"), symbols)) for residual in (True, False))
    apart, alike = (token_shares(stack(SHALLOW, residual, "post"), symbols)[-1] for residual in (True, False))
    still = stack(depth, True, "none", zero_branch=True).through(symbols)
    identity = (still[-1] - still[0]).abs().max().item()
    tick(0.1, "gradients")

    arms = {"this run": chosen, "pre-norm with the sum": stack(depth, True, "pre"),
            "pre-norm without": stack(depth, False, "pre")}  # fmt: skip
    losses: dict[str, list[float]] = {}
    for name, arm in arms.items():
        losses[name] = train(arm, params.steps, seed)
        tick(0.1 + 0.9 * len(losses) / len(arms), name, loss=losses[name][-1])
    final = {name: some[-1] for name, some in losses.items()}
    layers, reaches = list(range(1, depth + 1)), ratio(flows["this run"])
    at = list(range(1, params.steps + 2))
    return Result(
        metrics=[
            Metric("final-loss", final["this run"], "nats"),
            Metric("gradient at the first layer over the last's", reaches),
            Metric("token-specific share at the last layer", shares["this run"][-1]),
            Metric("loss of a guess", math.log(SYMBOLS), "nats"),
        ],
        claims=[
            Claim("In this stack the gradient reaches the first layer: its norm over the last's", reaches, ">=", 0.01),
            Claim("In this stack tokens stay apart: share that differs at the last layer",
                  shares["this run"][-1], ">=", 0.05),
            Claim("Six layers, sums, no norms, the gradient arrives: first over last", flow, ">=", 0.1),
            Claim("The same without the sums, it does not: first over last", no_flow, "<=", 1e-4),
            Claim("Six layers, sums, norms, tokens stay apart: share", apart, ">=", 0.1),
            Claim("The same without the sums, tokens become alike: share", alike, "<=", 1e-5),
            Claim("With branches zeroed the stack is the identity: largest difference", identity, "==", 0),
            Claim("In pre-norm, with sums, a stack of this depth learns to copy: loss",
                  final["pre-norm with the sum"], "<=", 0.05),
            Claim("Without the sums it stays at a guess of ln 8 = 2.08: loss", final["pre-norm without"], ">=", 1.87),
        ],
        figures=[
            Lines("Gradient behind each layer, before training", x="layer", y="‖∂loss/∂x‖", log="y", at=layers,
                  series={name: [max(value, 1e-30) for value in some] for name, some in flows.items()}),
            Lines("What still differs between tokens, before training", x="layer", y="share of the norm", log="y",
                  at=layers, series={name: [max(value, 1e-30) for value in some] for name, some in shares.items()}),
            Lines("Copying", x="training step", y="nats", at=at,
                  series={**losses, "a guess": [math.log(SYMBOLS)] * len(at)}),
        ],
        tables=[
            Table("Before training, six layers", ["sum", "norm", "gradient, first over last", "token-specific share"],
                  [[residual, norm, ratio(gradients(some, symbols)), token_shares(some, symbols)[-1]]
                   for residual in (True, False) for norm in PLACES for some in [stack(SHALLOW, residual, norm)]]),
        ],
    )  # fmt: skip
