"""Adam, warmup and inverse-square-root decay

Question: What do the two moments and the warmup do for a transformer?
Source: Kingma, Ba 2014, arXiv:1412.6980, algorithm 1; decoupled decay: Loshchilov, Hutter 2017, arXiv:1711.05101,
    algorithm 2; the schedule: Vaswani et al. 2017, arXiv:1706.03762, eq. (3).
Watch: The optimizer written out follows torch's to the last digits. Its first step has size lr for every weight, large
    gradient or small, which is why the rate starts low. Without the bias correction it is (1 - β₁)/√(1 - β₂) of that.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from demos.contract import Claim, DemoParams, Lines, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.grammar import WORDS, draw_text, source_entropy

WIDTH, HEADS, LAYERS, WINDOW, BATCH, EPS = 32, 4, 3, 16, 16, 1e-8


class Params(DemoParams):
    lr: float = Field(0.001, ge=1e-5, le=0.1, description="Peak learning rate")
    beta1: float = Field(0.9, ge=0.0, le=0.999, description="Decay of the first moment")
    beta2: float = Field(0.98, ge=0.5, le=0.9999, description="Decay of the second moment")
    warmup_steps: int = Field(50, ge=0, le=1000, description="Steps of linear warm-up (0: a constant rate)")
    clip: float = Field(1.0, ge=0.0, le=10.0, description="Limit of the gradient's norm (0: off)")
    weight_decay: float = Field(0.01, ge=0.0, le=0.5, description="Decoupled weight decay")
    layer_decay: float = Field(1.0, ge=0.5, le=1.0, description="Factor of the rate for each layer further down")
    bias_correction: bool = Field(True, description="Divide the moments by 1 - βᵗ")
    steps: int = Field(200, ge=50, le=1000, description="Training steps")
    seed: int = Field(0, ge=0, le=9999, description="Seed of text and weights")

    presets: ClassVar[Mapping[str, Preset]] = {
        "no bias correction": Preset("The first step is too small: no longer torch's Adam", {"bias_correction": False}),
        "no clipping": Preset("The norm runs past the limit: that claim fails", {"clip": 0.0}),
        "no warm-up": Preset("The full rate from the first step", {"warmup_steps": 0}),
        "layer-wise decay": Preset("Lower layers move less", {"layer_decay": 0.6}),
    }


class AdamW:
    """Algorithm 2 of Loshchilov and Hutter; with weight_decay 0 it is Kingma and Ba's Adam."""

    def __init__(self, weights: Sequence[Tensor], params: Params) -> None:
        self.weights, self.params, self.t = list(weights), params, 0
        self.m = [torch.zeros_like(weight) for weight in weights]  # mean of gradients
        self.v = [torch.zeros_like(weight) for weight in weights]  # mean of their squares

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor], rates: Sequence[float]) -> None:
        """One update; each weight has a rate of its own."""
        beta1, beta2, decay = self.params.beta1, self.params.beta2, self.params.weight_decay
        self.t += 1
        correct1, correct2 = 1 - beta1**self.t, 1 - beta2**self.t  # both averages start at 0 and are too small at first
        if not self.params.bias_correction:
            correct1 = correct2 = 1.0
        for weight, g, m, v, lr in zip(self.weights, gradients, self.m, self.v, rates, strict=True):
            m += (1 - beta1) * (g - m)
            v += (1 - beta2) * (g.square() - v)
            weight *= 1 - lr * decay  # decoupled: the decay does not pass through the moments
            weight -= lr * (m / correct1) / ((v / correct2).sqrt() + EPS)


def noam(step: int, warmup: int, d: int) -> float:
    """Eq. (3): d^-0.5 · min(step^-0.5, step · warmup^-1.5), steps from 1."""
    return d**-0.5 * min(step**-0.5, step * warmup**-1.5)


def rate_at(step: int, lr: float, warmup: int) -> float:
    """The same shape with its peak at lr: a straight rise for `warmup` steps, then a fall as 1/√step."""
    return lr if warmup == 0 else lr * min(step / warmup, math.sqrt(warmup / step))


def clip(gradients: Sequence[Tensor], limit: float) -> tuple[list[Tensor], float]:
    """Gradients scaled down to the limit where their common norm is above it, and that norm before. Limit 0 is none."""
    norm = torch.stack([g.square().sum() for g in gradients]).sum().sqrt().item()
    scale = limit / norm if 0 < limit < norm else 1.0
    return [scale * g for g in gradients], norm


class Block(nn.Module):
    """Causal attention and feed-forward network, the norm after each sum as in 2017."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        B, T, d = x.shape
        q, k, v = self.qkv(x).view(B, T, 3, HEADS, d // HEADS).permute(2, 0, 3, 1, 4)  # (B, h, T, d/h) each
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = self.norm1(x + self.out(mixed.transpose(1, 2).reshape(B, T, d)))
        return self.norm2(x + self.down(self.up(x).relu()))


class Model(nn.Module):
    """Word numbers (B, T) -> logits of the next word (B, T, V)."""

    def __init__(self, rng: torch.Generator) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(len(WORDS), WIDTH), nn.Embedding(WINDOW, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.read = nn.Linear(WIDTH, len(WORDS))
        for name, weight in self.named_parameters():
            if "norm" not in name:
                nn.init.uniform_(weight, -(WIDTH**-0.5), WIDTH**-0.5, generator=rng)

    def forward(self, words: Tensor) -> Tensor:
        x = self.words(words) + self.places.weight[: words.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.read(x)


def depth_of(name: str) -> int:
    """How many layers lie above a weight: 0 for the output, LAYERS + 1 for the embeddings."""
    if name.startswith("blocks."):
        return LAYERS - int(name.split(".")[1])
    return 0 if name.startswith("read") else LAYERS + 1


def train(params: Params, tick: Tick) -> dict[str, list[float]]:
    """Teach the grammar's next word. Return by step: loss, gradient norm before and after clipping, cosine of the two,
    and the mean size of the change of each layer's weights."""
    rng = torch.Generator().manual_seed(params.seed)
    text = draw_text(3_000, False, rng)
    model = Model(rng)
    names = [name for name, _ in model.named_parameters()]
    weights = list(model.parameters())
    adam = AdamW(weights, params)
    told: dict[str, list[float]] = {name: [] for name in ("loss", "before", "after", "cosine")}
    told |= {f"layer {n + 1}": [] for n in range(LAYERS)}
    for step in range(1, params.steps + 1):
        starts = torch.randint(len(text) - WINDOW, (BATCH, 1), generator=rng)
        windows = text[starts + torch.arange(WINDOW + 1)]  # (B, T + 1)
        loss = nn.functional.cross_entropy(model(windows[:, :-1]).transpose(1, 2), windows[:, 1:])
        raw = torch.autograd.grad(loss, weights)
        gradients, norm = clip(raw, params.clip)
        before = [weight.detach().clone() for weight in weights]
        rate = rate_at(step, params.lr, params.warmup_steps)
        adam.step(gradients, [rate * params.layer_decay ** depth_of(name) for name in names])
        flat, flat_raw = (torch.cat([g.flatten() for g in some]) for some in (gradients, raw))
        told["loss"].append(loss.item())
        told["before"].append(norm)
        told["after"].append(flat.square().sum().sqrt().item())
        told["cosine"].append(nn.functional.cosine_similarity(flat.double(), flat_raw.double(), dim=0).item())
        for n in range(LAYERS):
            moved = [(new.detach() - old).abs().mean() for name, new, old in zip(names, weights, before, strict=True)
                     if name.startswith(f"blocks.{n}.") and new.dim() == 2]  # fmt: skip
            told[f"layer {n + 1}"].append(torch.stack(moved).mean().item())
        if step % 10 == 0:
            tick(step / params.steps, f"step {step}", loss=loss.item())
    return told


def gap_to_torch(params: Params, weight_decay: float) -> float:
    """Largest difference to torch's Adam (no weight decay) or AdamW after 100 steps down a noisy bowl, in float64."""
    rng = torch.Generator().manual_seed(params.seed)
    start = torch.randn(50, generator=rng).double()
    curvature = torch.logspace(-3, 3, 50, dtype=torch.float64)  # gradients of very different size
    ours, theirs = start.clone(), start.clone().requires_grad_()
    adam = AdamW([ours], params.model_copy(update={"weight_decay": weight_decay}))
    kind: Any = torch.optim.AdamW if weight_decay else torch.optim.Adam
    reference: Any = kind(
        [theirs], lr=params.lr, betas=(params.beta1, params.beta2), eps=EPS, weight_decay=weight_decay
    )
    for _ in range(100):
        noise = torch.randn(50, generator=rng).double()
        adam.step([curvature * (ours + noise)], [params.lr])
        theirs.grad = curvature * (theirs.detach() + noise)
        reference.step()
    return (ours - theirs.detach()).abs().max().item()


def run(params: Params, tick: Tick = no_tick) -> Result:
    arms = {"this run": params, "without warm-up": params.model_copy(update={"warmup_steps": 0}),
            "without clipping": params.model_copy(update={"clip": 0.0})}  # fmt: skip
    told: dict[str, dict[str, list[float]]] = {}
    for name, arm in arms.items():
        start, share = len(told) / len(arms), 1 / len(arms)

        def part(fraction: float, message: str, *, start: float = start, share: float = share, **live: float) -> None:
            tick(start + share * fraction, message, **live)

        told[name] = train(arm, part)
    this, steps = told["this run"], range(1, params.steps + 1)
    adam_gap, adamw_gap = gap_to_torch(params, 0.0), gap_to_torch(params, 0.1)
    gradient = torch.logspace(-3, 3, 50, dtype=torch.float64)
    weight = torch.zeros(50, dtype=torch.float64)
    AdamW([weight], params.model_copy(update={"weight_decay": 0.0})).step([gradient], [params.lr])
    taken = weight.abs() / params.lr  # (50,)
    first = (taken - 1).abs().max().item()
    warmup = params.warmup_steps or 50
    long = range(1, 10 * warmup)
    rates = [rate_at(step, params.lr, warmup) for step in long]
    scale = params.lr / noam(warmup, warmup, 512)
    noam_gap = max(abs(scale * noam(step, warmup, 512) - rate) for step, rate in zip(long, rates, strict=True))
    peak = 1 + rates.index(max(rates))
    limit = params.clip or 1.0
    over = max(this["after"]) / limit - 1
    entropy = source_entropy(False)

    def tail(losses: list[float]) -> float:
        return sum(losses[-20:]) / 20

    layers = [f"layer {n + 1}" for n in range(LAYERS)]
    return Result(
        metrics=[
            *(Metric(f"loss at the end, {name}", tail(some["loss"]), "nats a word") for name, some in told.items()),
            Metric("entropy of the text", entropy, "nats a word"),
            Metric("largest gradient norm before clipping", max(this["before"])),
            Metric("first step, over the rate", taken.mean().item()),
        ],
        claims=[
            Claim("100 steps of Adam by hand end where torch's end: largest difference", adam_gap, "<=", 1e-6),
            Claim("100 steps of AdamW by hand end where torch's end: largest difference", adamw_gap, "<=", 1e-6),
            Claim("The first step has size lr, whatever the gradient: relative distance", first, "<=", 1e-3),
            Claim("The schedule is eq. (3) scaled to the peak: largest difference", noam_gap, "<=", 1e-9),
            Claim("Its peak stands at the last step of warm-up: distance in steps", abs(peak - warmup), "==", 0),
            Claim("No clipped gradient is above the limit: largest excess, relative", over, "<=", 1e-5),
            Claim("Clipping keeps the direction: 1 less the smallest cosine", 1 - min(this["cosine"]), "<=", 1e-6),
        ],
        figures=[
            Lines("Learning rate", x="step", y="rate", at=list(steps),
                  series={name: [rate_at(step, params.lr, arm.warmup_steps) for step in steps]
                          for name, arm in arms.items() if name != "without clipping"}),
            Lines("Loss", x="step", y="nats a word", at=list(steps),
                  series={**{name: some["loss"] for name, some in told.items()}, "entropy": [entropy] * params.steps}),
            Lines("Mean change of a weight in one step", x="step", y="|Δθ|", log="y", at=list(steps),
                  series={name: this[name] for name in layers}),
            Lines("Norm of the gradient", x="step", y="norm", at=list(steps),
                  series={"before clipping": this["before"], "after": this["after"]}),
        ],
        tables=[
            Table("Mean change of a weight over the run", ["layer", "|Δθ| a step", "over the rate"],
                  [[name, sum(this[name]) / params.steps,
                    sum(this[name]) / sum(rate_at(step, params.lr, params.warmup_steps) for step in steps)]
                   for name in layers]),
        ],
    )  # fmt: skip
