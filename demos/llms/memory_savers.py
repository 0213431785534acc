"""Recomputation, sharded optimizer, EMA elsewhere, shared heads

Question: Where does training memory go, and what can be computed again instead of kept?
Source: Chen et al. 2016, arXiv:1604.06174; ZeRO-1: Rajbhandari et al. 2019, arXiv:1910.02054, §5.1; DeepSeek-AI 2024
  (V3), arXiv:2412.19437, §3.2.3.
Watch: what autograd keeps for the backward pass, counted tensor by tensor. Norms and up-projections are cheap to make
  again, so forgetting them costs little; forgetting whole blocks saves most and costs a second forward pass. Gradients
  are the same in every case, unless dropout draws new numbers the second time.
"""

import importlib
import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.functional import cross_entropy, silu
from torch.utils.flop_counter import FlopCounterMode

from demos.contract import Claim, DemoParams, Metric, Preset, Result, Scatter, Table, Tick, no_tick

checkpoint: Any = importlib.import_module("torch.utils.checkpoint")  # untyped
Choice = Literal["none", "norm", "norm+up", "block"]
CHOICES: tuple[Choice, ...] = ("none", "norm", "norm+up", "block")
VOCABULARY, WIDTH, HEADS, LATENT, INNER, DROPPED = 128, 64, 4, 16, 160, 0.1


class Params(DemoParams):
    recompute: Choice = Field("norm+up", description="What is computed again in the backward pass")
    ranks: int = Field(4, ge=1, le=64, description="Devices that share the optimizer's state")
    layers: int = Field(4, ge=1, le=16, description="Blocks")
    seq_len: int = Field(128, ge=16, le=1024, description="Tokens")
    same_dice: bool = Field(True, description="Dropout draws the same numbers when a block is computed again")
    seed: int = Field(0, ge=0, le=9999, description="Seed of weights and tokens")

    presets: ClassVar[Mapping[str, Preset]] = {
        "keep-all": Preset("Nothing is computed again: most memory, least time", {"recompute": "none"}),
        "whole-blocks": Preset("Only the inputs of blocks are kept", {"recompute": "block"}),
        "new-dice": Preset("The second forward pass drops other values: gradients are wrong", {"same_dice": False}),
    }


def address(x: Tensor) -> int:
    """Where the numbers of x are, the same for its views."""
    return x.untyped_storage().data_ptr()


class Ledger:
    """What autograd keeps: bytes, each storage once; weights are not counted, since they are there anyway.

    Outputs of `again` are not kept but rebuilt from their inputs, when the backward pass asks for them.
    """

    def __init__(self, weights: list[Tensor]) -> None:
        self.weights = {address(w) for w in weights}
        self.kept = dict[int, int]()  # address -> bytes
        self.recipes = dict[int, tuple[Tensor, Callable[[], Tensor]]]()  # address -> what it holds, how to make it

    def again(self, make: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        """make(*inputs), to be forgotten until the backward pass."""
        output = make(*inputs)
        sources = [self.source(x) for x in inputs]
        self.recipes[address(output)] = output, lambda: make(*(source() for source in sources))
        return output

    def source(self, x: Tensor) -> Callable[[], Tensor]:
        """How to come by an input later: by its own recipe, or because it is kept."""
        kept = x.detach()
        return self.recipes[address(x)][1] if address(x) in self.recipes else lambda: kept

    def pack(self, x: Tensor) -> Any:
        """What autograd stores in place of x."""
        if address(x) in self.recipes:
            return self.recipes[address(x)][1], (x.size(), x.stride(), x.storage_offset())
        if address(x) not in self.weights:
            self.kept[address(x)] = x.untyped_storage().nbytes()
        return x

    def unpack(self, stored: Any) -> Tensor:
        """The tensor for what `pack` returned."""
        if isinstance(stored, Tensor):
            return stored
        make, view = stored
        with torch.no_grad():
            return make().as_strided(*view)


class RmsNorm(torch.autograd.Function):
    """x / rms(x) · g over rows; keeps x and g alone, as a fused kernel does."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, g: Tensor) -> Tensor:
        ctx.save_for_backward(x, g)
        return x * (x.square().mean(dim=1, keepdim=True) + 1e-6).rsqrt() * g

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, Tensor]:
        x, g = ctx.saved_tensors
        r = (x.square().mean(dim=1, keepdim=True) + 1e-6).rsqrt()  # (T, 1)
        inner = upstream[0] * g
        return r * (inner - x * r**2 * (inner * x).mean(dim=1, keepdim=True)), (upstream[0] * x * r).sum(dim=0)


def linear(x: Tensor, w: Tensor) -> Tensor:
    return x @ w.T


def norm(x: Tensor, g: Tensor) -> Tensor:
    return RmsNorm.apply(x, g)  # type: ignore


def block(
    x: Tensor, W: dict[str, Tensor], ledger: Ledger, choice: Choice, roll: Callable[[], torch.Generator]
) -> Tensor:
    """A block (T, d) -> (T, d): attention whose keys and values come from a latent, then SwiGLU with dropout."""

    def maybe(forget: bool, make: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        return ledger.again(make, *inputs) if forget else make(*inputs)

    norms, ups = choice in ("norm", "norm+up"), choice == "norm+up"
    h = maybe(norms, norm, x, W["g1"])  # (T, d)
    c = maybe(norms, norm, linear(h, W["down"]), W["g2"])  # (T, LATENT)
    q, k, v = linear(h, W["q"]), maybe(ups, linear, c, W["k"]), maybe(ups, linear, c, W["v"])  # (T, d) each
    q, k, v = (y.view(len(x), HEADS, -1).transpose(0, 1) for y in (q, k, v))  # (n, T, d / n)
    future = torch.ones(len(x), len(x), dtype=torch.bool).triu(1)
    weights = (q @ k.mT / math.sqrt(q.shape[2])).masked_fill(future, -math.inf).softmax(dim=-1)  # (n, T, T)
    x = x + linear((weights @ v).transpose(0, 1).flatten(1), W["o"])
    h = maybe(norms, norm, x, W["g3"])
    stays = torch.rand(len(x), INNER, generator=roll()) > DROPPED  # (T, INNER)
    return x + linear(silu(linear(h, W["gate"])) * linear(h, W["up"]) * stays / (1 - DROPPED), W["out"])


def make_weights(layers: int, rng: torch.Generator) -> tuple[Tensor, list[dict[str, Tensor]]]:
    """The table of words, shared with the head (VOCABULARY, d), and the weights of each block."""
    shapes = {"q": (WIDTH, WIDTH), "down": (LATENT, WIDTH), "k": (WIDTH, LATENT), "v": (WIDTH, LATENT),
              "o": (WIDTH, WIDTH), "gate": (INNER, WIDTH), "up": (INNER, WIDTH), "out": (WIDTH, INNER)}  # fmt: skip

    def matrix(rows: int, columns: int) -> Tensor:
        return (torch.randn(rows, columns, generator=rng) / math.sqrt(columns)).requires_grad_()

    gains = {"g1": WIDTH, "g2": LATENT, "g3": WIDTH}
    blocks = [
        {name: matrix(*shape) for name, shape in shapes.items()}
        | {name: torch.ones(n, requires_grad=True) for name, n in gains.items()}
        for _ in range(layers)
    ]
    return matrix(VOCABULARY, WIDTH), blocks


def gradient(
    table: Tensor, blocks: list[dict[str, Tensor]], ids: Tensor, choice: Choice, same_dice: bool
) -> tuple[Tensor, int, int]:
    """Gradient (P,) of the next-word loss on ids (T + 1,), bytes kept for it, FLOPs of its matrix products."""
    weights = [table, *(w for W in blocks for w in W.values())]
    ledger, dice = Ledger(weights), torch.Generator().manual_seed(0)
    with FlopCounterMode(display=False) as counter:
        with saved_tensors_hooks(ledger.pack, ledger.unpack):
            x = table[ids[:-1]]  # (T, d)
            for W in blocks:
                start = dice.get_state()

                def roll(start: Tensor = start) -> torch.Generator:
                    """The dice as they lay when this block was first computed, or as they lie now."""
                    return dice.set_state(start) if same_dice else dice

                if choice == "block":
                    ledger.pack(x)  # torch's checkpoint keeps the block's input and nothing of its inside
                    x = checkpoint.checkpoint(block, x, W, ledger, "none", roll, use_reentrant=False)
                else:
                    x = block(x, W, ledger, choice, roll)
                ledger.recipes.clear()  # nobody holds the forgotten tensors any longer
            loss = cross_entropy(x @ table.T, ids[1:])
        kept = sum(ledger.kept.values())
        gradients = torch.autograd.grad(loss, weights)
    return torch.cat([g.flatten() for g in gradients]), kept, counter.get_total_flops()


def step(optimizer: torch.optim.Optimizer) -> None:
    """One step: AdamW's own has no types."""
    optimizer.step()


def descend(w: Tensor, gradients: list[Tensor]) -> tuple[Tensor, int]:
    """Weights w (P,) after a step of AdamW for each gradient (P,), and how many numbers of state that took."""
    leaf = w.clone().requires_grad_()
    optimizer = torch.optim.AdamW([leaf], lr=1e-3)
    for gradient in gradients:
        leaf.grad = gradient
        step(optimizer)
    state = optimizer.state[leaf]
    return leaf.detach(), state["exp_avg"].numel() + state["exp_avg_sq"].numel()


def sharded(w: Tensor, gradients: list[Tensor], ranks: int) -> tuple[Tensor, int]:
    """ZeRO-1: each device updates its slice of w (P,) with a state for that slice alone; then all gather.

    Returns the weights, and the numbers of state on the device that holds most.
    """
    parts = [descend(part, list(g)) for part, *g in zip(*(x.tensor_split(ranks) for x in (w, *gradients)), strict=True)]
    return torch.cat([part for part, _ in parts]), max(state for _, state in parts)


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng = torch.Generator().manual_seed(params.seed)
    table, blocks = make_weights(params.layers, rng)
    ids = torch.randint(VOCABULARY, (params.seq_len + 1,), generator=rng)
    gradients, kept, extra = dict[Choice, Tensor](), dict[Choice, int](), dict[Choice, float]()
    flops_none = 1
    for done, choice in enumerate(CHOICES, start=1):
        gradients[choice], kept[choice], flops = gradient(table, blocks, ids, choice, params.same_dice)
        flops_none = flops if choice == "none" else flops_none
        extra[choice] = flops / flops_none - 1
        tick(0.2 * done, choice, megabytes=kept[choice] / 1e6)
    one_block = gradient(table, blocks[:1], ids, "none", params.same_dice)[1]
    kept["block"] += one_block  # alive while a block is computed again; the head, counted twice, is to spare
    exact = gradients["none"]
    gap = max(((one - exact).abs().max() / exact.abs().max()).item() for one in gradients.values())

    flat = torch.cat([w.detach().flatten() for w in [table, *(w for W in blocks for w in W.values())]])  # (P,)
    steps = [exact * scale for scale in (1.0, -0.5, 2.0)]
    ours, state = sharded(flat, steps, params.ranks)
    whole, _ = descend(flat, steps)
    zero_gap = (ours - whole).abs().max().item()
    count, head = len(flat), VOCABULARY * WIDTH
    return Result(
        metrics=[
            Metric("activations kept", kept[params.recompute] / 1e6, "MB"),
            Metric("extra FLOPs of matrix products", extra[params.recompute], "of a pass"),
            Metric("optimizer state per device", 4 * state / 1e6, "MB"),
        ],
        claims=[
            Claim("Gradients are the same whatever is kept: largest relative difference", gap, "<=", 1e-5),
            Claim("Forgetting norms and up-projections saves: bytes over keeping all", kept["norm+up"] / kept["none"],
                  "<=", 0.9),
            Claim("And costs next to nothing: extra FLOPs", extra["norm+up"], "<=", 0.05),
            Claim("Forgetting whole blocks saves most: bytes over keeping all", kept["block"] / kept["none"],
                  "<=", 0.5),
            Claim("And costs a second forward pass: extra FLOPs", extra["block"], ">=", 0.2),
            Claim("AdamW in slices is AdamW: largest difference of weights", zero_gap, "<=", 1e-6),
            Claim("Each device holds its share of the state: share times devices", state * params.ranks / (2 * count),
                  "<=", 1.01),
        ],
        figures=[
            Scatter("Bytes kept against matrix products repeated", "extra FLOPs, of a pass", "MB kept", {
                name: [(extra[name], kept[name] / 1e6)] for name in CHOICES
            }),
        ],
        tables=[
            Table("Memory", ["", "bytes", "how"], [
                ["parameters", 4 * count, "FP32"], ["gradients", 4 * count, "FP32"],
                ["optimizer, on one device", 8 * count, "two moments"],
                [f"optimizer, over {params.ranks} devices", 4 * state, "ZeRO-1, bytes of each"],
                ["moving average of the weights", 4 * count, "in the host's memory: none on a device"],
                ["a head of its own", 4 * head, "V·d numbers, saved: the table of words is the head"],
                *([f"activations, {name}", kept[name], f"{extra[name]:.1%} more FLOPs"] for name in CHOICES),
            ]),
        ],
    )  # fmt: skip
