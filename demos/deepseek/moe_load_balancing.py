"""Keeping experts busy without an auxiliary loss

Question: How does one bias per expert stop routing collapse?
Source: Wang et al. 2024, arXiv:2408.15664, algorithm 1; DeepSeek-AI 2024 (V3), arXiv:2412.19437, §2.1.2, eqs.
  (16)–(20); the auxiliary loss: Fedus et al. 2021, arXiv:2101.03961, §2.2, eq. (4).
Watch: The load of each expert over training. Left alone (preset "none") a few experts take most tokens. The bias moves
  one small step a batch, up for an idle expert and down for a busy one; it decides who is chosen and appears in no gate
  and no gradient. An auxiliary loss pulls at the router's weights instead, against the task.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from demos.contract import Claim, DemoParams, Lines, Metric, Preset, Result, Table, Tick, no_tick

Method = Literal["none", "aux", "bias", "aux-sequence"]
METHODS: tuple[Method, ...] = ("none", "aux", "aux-sequence", "bias")
EXPERTS, TOP_K, WIDTH, INNER, CLUSTERS = 16, 2, 32, 16, 16
SEQUENCES, LENGTH, TOPICS = 16, 16, 8  # of a batch; a sequence has tokens of so many clusters
LAST = 100  # steps over which the load is judged


class Params(DemoParams):
    method: Method = Field("bias", description="What keeps the experts busy")
    update_speed: float = Field(0.01, ge=0.0001, le=0.1, description="Step u of the bias (V3: 0.001)")
    aux_weight: float = Field(0.05, ge=0.0, le=1.0, description="Weight α of the auxiliary loss")
    skew: float = Field(1.0, ge=0.0, le=2.0, description="Zipf exponent of the clusters: 0 makes all as frequent")
    steps: int = Field(400, ge=100, le=1500, description="Training steps")
    seed: int = Field(0, ge=0, le=9999, description="Seed of task, weights and batches")

    presets: ClassVar[Mapping[str, Preset]] = {
        "none": Preset("Nothing balances: a few experts are overrun", {"method": "none"}),
        "aux": Preset("An auxiliary loss: in the router's gradient, and loads still uneven", {"method": "aux"}),
        "strong-aux": Preset("At weight 1 loads are even; the task loss tells the price", {
            "method": "aux", "aux_weight": 1.0,
        }),
        "slow": Preset("The bias does not arrive in time", {"update_speed": 0.0005}),
    }  # fmt: skip


class Task:
    """Clusters with Zipf frequencies; each has a map of its own, tanh(A x), on top of one for all."""

    def __init__(self, skew: float, rng: torch.Generator) -> None:
        self.frequency = torch.arange(1, CLUSTERS + 1) ** -skew  # (CLUSTERS,), not normalised
        self.centres = 2 * torch.randn(CLUSTERS, WIDTH, generator=rng) / WIDTH**0.5
        self.own = torch.randn(CLUSTERS, WIDTH, WIDTH, generator=rng) / WIDTH**0.5

    def draw(self, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """A batch of sequences: tokens (T, d) and targets (T, d), T = SEQUENCES · LENGTH."""
        topics = torch.multinomial(self.frequency.expand(SEQUENCES, -1), TOPICS, replacement=True, generator=rng)
        cluster = topics.gather(1, torch.randint(TOPICS, (SEQUENCES, LENGTH), generator=rng)).flatten()  # (T,)
        x = self.centres[cluster] + 0.5 * torch.randn(len(cluster), WIDTH, generator=rng)
        return x, torch.einsum("tij,tj->ti", self.own[cluster], x).tanh()


class Mixture:
    """EXPERTS two-layer experts, sigmoid scores, TOP_K of them chosen with the help of a bias."""

    def __init__(self, rng: torch.Generator) -> None:
        def matrix(*shape: int) -> Tensor:
            return (torch.randn(*shape, generator=rng) / math.sqrt(shape[-1])).requires_grad_()

        self.router, self.bias = matrix(EXPERTS, WIDTH), torch.zeros(EXPERTS)
        self.up, self.down = matrix(EXPERTS, INNER, WIDTH), matrix(EXPERTS, WIDTH, INNER)
        self.weights = [self.router, self.up, self.down]

    def route(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scores (T, E), who is chosen (T, E) as 0 or 1, gates (T, E) of sum 1. Eq. (16): the bias only chooses."""
        scores = (x @ self.router.T).sigmoid()
        chosen = torch.zeros_like(scores).scatter(1, (scores + self.bias).topk(TOP_K, dim=1).indices, 1.0)
        gates = scores * chosen
        return scores, chosen, gates / gates.sum(dim=1, keepdim=True)

    def forward(self, x: Tensor, gates: Tensor) -> Tensor:
        """Σ g_i · FFN_i(x), (T, d). So small that all experts may run, those not chosen with gate 0."""
        inner = torch.einsum("td,end->ten", x, self.up).relu()
        return torch.einsum("te,ten,edn->td", gates, inner, self.down)


def auxiliary_loss(scores: Tensor, chosen: Tensor, groups: int) -> Tensor:
    """Σ f_i·P_i, eqs. (17)–(20), for scores and choices (T, E), taken in each of `groups` equal parts and averaged.

    f_i: share of choices that fell on expert i, times E; P_i: its mean share of the scores. 1 when all is even.
    """
    f = chosen.view(groups, -1, EXPERTS).mean(dim=1) * EXPERTS / TOP_K  # (groups, E), no gradient
    P = (scores / scores.sum(dim=1, keepdim=True)).view(groups, -1, EXPERTS).mean(dim=1)  # (groups, E)
    return (f * P).sum(dim=1).mean()


def moved_bias(bias: Tensor, load: Tensor, speed: float) -> Tensor:
    """Algorithm 1: up by u where the load (E,) of the last batch is below its mean, down where it is above."""
    return bias + speed * (load.mean() - load).sign()


@dataclass(frozen=True, slots=True)
class Trained:
    """A run: loads (steps, E) as shares of the choices, biases (steps, E), task losses, and two checks at the end."""

    load: Tensor
    bias: Tensor
    loss: list[float]
    extra_gradient: float  # of balancing, in the router's gradient, relative to the task's
    gate_gap: float  # of gates to score over sum of chosen scores

    @property
    def late(self) -> Tensor:
        """Load over mean load (E,), over the last steps together."""
        return self.load[-LAST:].mean(dim=0) * EXPERTS

    @property
    def late_loss(self) -> float:
        """Task loss, mean of the last steps."""
        return sum(self.loss[-LAST:]) / LAST

    @property
    def balanced_at(self) -> int:
        """Steps until the load over ten steps first has a maximum of at most 1.3 times its mean."""
        smooth = self.load.unfold(0, 10, 1).mean(dim=-1).amax(dim=1) * EXPERTS  # (steps - 9,)
        even = (smooth <= 1.3).nonzero()
        return int(even[0]) + 10 if len(even) else len(self.load)


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Take one step down the gradient of the loss."""
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()


def train(method: Method, params: Params, tick: Tick, start: float) -> Trained:
    """Train one mixture with one method; weights and batches are the same for every method."""
    rng = torch.Generator().manual_seed(params.seed)
    task, moe = Task(params.skew, rng), Mixture(rng)
    adam = torch.optim.Adam(moe.weights, lr=1e-2, fused=True)
    slower = torch.optim.lr_scheduler.LinearLR(adam, 1.0, 0.1, params.steps)
    loads, biases, losses = list[Tensor](), list[Tensor](), list[float]()
    extra, gap = 0.0, 0.0
    for step in range(1, params.steps + 1):
        x, y = task.draw(rng)
        scores, chosen, gates = moe.route(x)
        loss = (moe.forward(x, gates) - y).square().mean()
        balance = torch.zeros(())
        if method in ("aux", "aux-sequence"):
            balance = params.aux_weight * auxiliary_loss(scores, chosen, SEQUENCES if method == "aux-sequence" else 1)
        if step == params.steps:
            (alone,) = torch.autograd.grad(loss, moe.router, retain_graph=True)
            (both,) = torch.autograd.grad(loss + balance, moe.router, retain_graph=True)
            extra = ((both - alone).square().sum() / alone.square().sum()).sqrt().item()
            picked = scores * chosen
            gap = (gates - picked / picked.sum(dim=1, keepdim=True)).abs().max().item()
        descend(adam, loss + balance)
        slower.step()
        load = chosen.mean(dim=0) / TOP_K  # (E,), sums to 1
        if method == "bias":
            moe.bias = moved_bias(moe.bias, load, params.update_speed)
        loads.append(load)
        biases.append(moe.bias)
        losses.append(loss.item())
        if step % 20 == 0:
            tick(start + step / params.steps / 6, f"{method}, step {step}", busiest=load.max().item() * EXPERTS)
    return Trained(torch.stack(loads), torch.stack(biases), losses, extra, gap)


def run(params: Params, tick: Tick = no_tick) -> Result:
    arms: dict[str, tuple[Method, Params]] = {name: (name, params) for name in METHODS}
    for name, factor in (("bias, u / 5", 0.2), ("bias, 5·u", 5.0)):
        arms[name] = "bias", params.model_copy(update={"update_speed": factor * params.update_speed})

    runs = {name: train(*arm, tick, number / len(arms)) for number, (name, arm) in enumerate(arms.items())}
    chosen, none, bias, slow = runs[params.method], runs["none"], runs["bias"], runs["bias, u / 5"]
    swing = {name: one.load[-LAST:].std(dim=0).mean().item() * EXPERTS for name, one in runs.items()}
    at = list(range(0, params.steps, max(1, params.steps // 100)))
    smooth = torch.nn.functional.avg_pool1d(chosen.load.T[None], 9, 1, 4, count_include_pad=False)[0]  # (E, steps)
    cheaper = bias.late_loss / runs["aux"].late_loss
    names = [f"expert {i}" for i in range(EXPERTS)]
    return Result(
        metrics=[
            Metric("busiest expert's load over the mean", chosen.late.max().item()),
            Metric("idlest expert's load over the mean", chosen.late.min().item()),
            Metric("task loss", chosen.late_loss),
        ],
        claims=[
            Claim("Left alone, routing is uneven: busiest load over mean", none.late.max().item(), ">=", 2.0),
            Claim("The chosen method evens it out: busiest load over mean", chosen.late.max().item(), "<=", 1.2),
            Claim("The task pays little: its loss over that without balancing", chosen.late_loss / none.late_loss,
                  "<=", 1.15),
            Claim("The bias costs less than the auxiliary loss: task loss over task loss", cheaper, "<", 1),
            Claim("And the router's gradient is the task's: relative size of the rest", chosen.extra_gradient,
                  "<=", 1e-6),
            Claim("The bias is in no gate: largest distance from score over sum of scores", bias.gate_gap, "<=", 1e-6),
            Claim("A fifth of the speed balances later: steps over steps", slow.balanced_at / bias.balanced_at, ">", 1),
            Claim("Five times the speed swings more at the end: deviation over deviation",
                  swing["bias, 5·u"] / swing["bias"], ">", 1),
        ],
        figures=[
            Lines("Load of each expert, smoothed", "step", "over the mean", at, {
                name: (EXPERTS * curve[at]).numpy().tolist() for name, curve in zip(names, smooth, strict=True)
            }),
            Lines("Bias of each expert", "step", "bias", at, {
                name: curve[at].numpy().tolist() for name, curve in zip(names, chosen.bias.T, strict=True)
            }),
        ],
        tables=[
            Table(
                f"Methods, over the last {LAST} steps",
                ["method", "max / mean load", "min / mean load", "task loss", "even after", "swing"],
                [[name, one.late.max().item(), one.late.min().item(), one.late_loss, one.balanced_at, swing[name]]
                 for name, one in runs.items()],
            ),
        ],
    )  # fmt: skip
