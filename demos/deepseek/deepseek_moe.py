"""DeepSeekMoE: many fine experts, one shared

Question: How can a model hold many parameters and use few per token?
Source: Dai et al. 2024, arXiv:2401.06066, §3, eqs. (9)–(11); DeepSeek-AI 2024 (V3), arXiv:2412.19437, §2.1.2.
Watch: The table of one token, from scores to the merged output, and who gets which class of tokens after training.
  The mixture beats a dense layer of equal cost; with random routes (preset) specialisation and gain are gone.
"""

import math
from collections.abc import Callable, Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import silu
from torch.utils.flop_counter import FlopCounterMode

from demos.contract import Claim, DemoParams, Heatmap, Metric, Preset, Result, Table, Tick, no_tick

WIDTH, CLASSES, BATCH, TESTED = 32, 16, 256, 2000
SCALE = 2.5  # routed_scaling_factor of V3: what a token's gates sum to


class Params(DemoParams):
    experts: int = Field(16, ge=2, le=64, description="Routed experts (V3: 256)")
    top_k: int = Field(2, ge=1, le=8, description="Routed experts that a token uses (V3: 8)")
    shared: int = Field(1, ge=0, le=2, description="Shared experts, used by every token (V3: 1)")
    groups: int = Field(4, ge=1, le=8, description="Groups of experts, cut to a divisor of their number (V3: 8 nodes)")
    topk_groups: int = Field(2, ge=1, le=8, description="Groups a token may use, raised until top_k fits (V3: 4)")
    gate: Literal["softmax", "sigmoid"] = Field("sigmoid", description="Scores: sigmoid (V3) or softmax (V2)")
    d_expert: int = Field(32, ge=8, le=128, description="Inner width of one expert (V3: 2048)")
    learned: bool = Field(True, description="Route by learned scores; off: by random ones")
    steps: int = Field(250, ge=50, le=1000, description="Training steps")
    seed: int = Field(0, ge=0, le=9999, description="Seed of task, weights and batches")

    presets: ClassVar[Mapping[str, Preset]] = {
        "random-routes": Preset("Random experts: no one specialises, and a dense layer is as good", {"learned": False}),
        "fine": Preset("64 narrow experts, eight chosen", {"experts": 64, "d_expert": 8, "top_k": 8}),
        "v2-gate": Preset("Softmax scores and two shared experts, as in V2", {"gate": "softmax", "shared": 2}),
    }  # fmt: skip


def swiglu(x: Tensor, w_gate: Tensor, w_up: Tensor, w_down: Tensor) -> Tensor:
    """An expert: (N, d) from x (N, d), with w_gate and w_up (inner, d) and w_down (d, inner)."""
    return (silu(x @ w_gate.T) * (x @ w_up.T)) @ w_down.T


class Mixture:
    """Shared and routed experts with their router; d = WIDTH, E experts."""

    def __init__(self, params: Params, rng: torch.Generator) -> None:
        def matrix(*shape: int) -> Tensor:
            return (torch.randn(*shape, generator=rng) / math.sqrt(shape[-1])).requires_grad_()

        n, inner = params.experts, params.d_expert
        self.gate, self.learned, self.dice = params.gate, params.learned, rng
        self.groups, self.top_k = math.gcd(n, params.groups), min(params.top_k, n)
        enough = -(-self.top_k // (n // self.groups))  # groups that hold top_k experts
        self.topk_groups = min(max(params.topk_groups, enough), self.groups)
        self.router, self.bias = matrix(n, WIDTH), torch.zeros(n)  # the bias is for balance: see moe-load-balancing
        self.experts = [matrix(n, inner, WIDTH), matrix(n, inner, WIDTH), matrix(n, WIDTH, inner)]
        wide = params.shared * inner  # shared experts side by side are one wide expert
        self.shared = [matrix(wide, WIDTH), matrix(wide, WIDTH), matrix(WIDTH, wide)] if wide else []
        self.weights = [self.router, *self.experts, *self.shared]

    def route(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scores (N, E) of tokens x (N, d), chosen experts (N, k), and their gates (N, k). Eqs. (13)–(15)."""
        logits = x @ self.router.T if self.learned else torch.randn(len(x), len(self.router), generator=self.dice)
        scores = logits.sigmoid() if self.gate == "sigmoid" else logits.softmax(dim=-1)  # s_i = σ(u·e_i)
        biased = (scores + self.bias).view(len(x), self.groups, -1)  # (N, groups, E / groups)
        strength = biased.topk(min(2, biased.shape[-1]), dim=-1).values.sum(dim=-1)  # (N, groups): their two best
        allowed = torch.zeros_like(strength).scatter(1, strength.topk(self.topk_groups, dim=1).indices, 1.0)
        open_to = biased.masked_fill(allowed[:, :, None] == 0, -math.inf).flatten(1)  # (N, E)
        chosen = open_to.topk(self.top_k, dim=1).indices
        gates = scores.gather(1, chosen)  # without the bias
        return scores, chosen, SCALE * gates / gates.sum(dim=1, keepdim=True)

    def routed(self, x: Tensor, chosen: Tensor, gates: Tensor) -> Tensor:
        """Σ g_i · FFN_i(x), (N, d): every expert computes the tokens that chose it, and no others."""
        output = torch.zeros_like(x)
        for expert, weights in enumerate(zip(*self.experts, strict=True)):
            token, place = (chosen == expert).nonzero(as_tuple=True)  # (n,) each
            output = output.index_add(0, token, gates[token, place, None] * swiglu(x[token], *weights))
        return output

    def forward(self, x: Tensor) -> Tensor:
        """Shared plus routed experts, (N, d). The residual u of eq. (12) is added by the block around it."""
        _, chosen, gates = self.route(x)
        routed = self.routed(x, chosen, gates)
        return routed + swiglu(x, *self.shared) if self.shared else routed


class Task:
    """Tokens of CLASSES classes around their centres; each class has a map of its own, on top of one for all."""

    def __init__(self, rng: torch.Generator) -> None:
        self.centres = 2 * torch.randn(CLASSES, WIDTH, generator=rng) / WIDTH**0.5
        self.own = torch.randn(CLASSES, WIDTH, WIDTH, generator=rng) / WIDTH**0.5
        self.common = torch.randn(WIDTH, WIDTH, generator=rng) / WIDTH**0.5

    def draw(self, n: int, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens (n, d), targets (n, d), classes (n,)."""
        label = torch.randint(CLASSES, (n,), generator=rng)
        x = self.centres[label] + 0.5 * torch.randn(n, WIDTH, generator=rng)
        return x, torch.einsum("nij,nj->ni", self.own[label], x).tanh() + x @ self.common.T, label


def mutual_information(classes: Tensor, chosen: Tensor, experts: int) -> tuple[float, Tensor]:
    """Nats that a routed expert tells about the class, and the share (CLASSES, E) of each class's routes."""
    pairs = classes[:, None] * experts + chosen  # (N, k)
    joint = pairs.flatten().bincount(minlength=CLASSES * experts).view(CLASSES, experts).float()
    joint = joint / joint.sum()
    independent = joint.sum(dim=1, keepdim=True) * joint.sum(dim=0)  # (CLASSES, E)
    nats = torch.where(joint > 0, joint * (joint / independent).log(), 0.0).sum().item()
    return nats, joint / joint.sum(dim=1, keepdim=True)


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Take one step down the gradient of the loss."""
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()


def train(
    layer: Callable[[Tensor], Tensor], weights: list[Tensor], task: Task, params: Params, tick: Tick, start: int
) -> float:
    """Mean squared error on unseen tokens, after training on fresh batches with a learning rate that falls to 0."""
    rng = torch.Generator().manual_seed(params.seed + 10_000)  # every layer sees the same batches
    adam = torch.optim.Adam(weights, lr=1e-2, fused=True)
    slower = torch.optim.lr_scheduler.LinearLR(adam, 1.0, 0.0, params.steps)
    for step in range(1, params.steps + 1):
        x, y, _ = task.draw(BATCH, rng)
        loss = (layer(x) - y).square().mean()
        descend(adam, loss)
        slower.step()
        if step % 10 == 0:
            tick((step + start) / (2 * params.steps), f"step {step}", loss=loss.item())
    x, y, _ = task.draw(TESTED, rng)
    with torch.no_grad():
        return (layer(x) - y).square().mean().item()


def counted(moe: Mixture, x: Tensor, chosen: Tensor, gates: Tensor) -> int:
    """FLOPs of the routed experts, counted by torch."""
    with FlopCounterMode(display=False) as counter:
        moe.routed(x, chosen, gates)
    return counter.get_total_flops()


def numbers(vector: Tensor) -> str:
    return " ".join(f"{value:.2f}" for value in vector[:5].numpy().tolist()) + " …"


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng = torch.Generator().manual_seed(params.seed)
    task, moe = Task(rng), Mixture(params, rng)
    n, k, inner = params.experts, moe.top_k, params.d_expert
    wide = (params.shared + k) * inner  # a dense layer that costs what a token costs here
    shapes = [(wide, WIDTH), (wide, WIDTH), (WIDTH, wide)]
    dense = [(torch.randn(*shape, generator=rng) / shape[1] ** 0.5).requires_grad_() for shape in shapes]
    x, _, label = task.draw(TESTED, rng)

    before, _ = mutual_information(label, moe.route(x)[1], n)
    loss = train(moe.forward, moe.weights, task, params, tick, 0)
    loss_dense = train(lambda x: swiglu(x, *dense), dense, task, params, tick, params.steps)
    with torch.no_grad():
        scores, chosen, gates = moe.route(x)
        routed = moe.routed(x, chosen, gates)
        every = torch.stack([swiglu(x, *weights) for weights in zip(*moe.experts, strict=True)], dim=1)  # (N, E, d)
        all_gates = torch.zeros(TESTED, n).scatter(1, chosen, gates)  # (N, E), 0 where an expert is not chosen
        gap = (torch.einsum("ne,ned->nd", all_gates, every) - routed).abs().max().item()
        flops = counted(moe, x, chosen, gates)
        flops_all = counted(moe, x, torch.arange(n).expand(TESTED, n), all_gates)
        common = swiglu(x, *moe.shared) if moe.shared else torch.zeros_like(x)
    after, shares = mutual_information(label, chosen, n)
    uneven = int(((all_gates > 0).sum(dim=1) != k).sum())
    unit = (gates.sum(dim=1) - SCALE).abs().max().item()
    one = 3 * WIDTH * inner  # parameters of one expert
    stored = {"routed experts": n * one, "shared experts": params.shared * one, "router": n * WIDTH}
    used = stored | {"routed experts": k * one}
    cost = {"routed experts": flops / TESTED, "shared experts": 2 * params.shared * one, "router": 2 * n * WIDTH}
    rows = [["u, the input", "", "", numbers(x[0])]]
    for i in range(n):
        term = numbers(all_gates[0, i] * every[0, i]) if all_gates[0, i] > 0 else "does not run"
        rows.append([f"expert {i}", f"{scores[0, i]:.3f}", f"{all_gates[0, i]:.3f}", term])
    rows += [
        ["sum over experts", f"{scores[0].sum():.3f}", f"{all_gates[0].sum():.3f}", numbers(routed[0])],
        ["shared experts", "", "1" if moe.shared else "0", numbers(common[0])],
        ["output: the two together", "", "", numbers(routed[0] + common[0])],
    ]  # fmt: skip
    return Result(
        metrics=[
            Metric("loss of the mixture", loss),
            Metric("loss of a dense layer of equal cost", loss_dense),
            Metric("mutual information of expert and class, before training", before, "nats"),
            Metric("mutual information of expert and class", after, "nats"),
            Metric("share of the parameters that a token uses", sum(used.values()) / sum(stored.values())),
        ],
        claims=[
            Claim("Every token has exactly top_k experts: tokens that have not", uneven, "==", 0),
            Claim("Gates sum to the scaling factor: largest difference", unit, "<=", 1e-5),
            Claim("Only chosen experts run: FLOPs over top_k / experts of all", flops * n / (flops_all * k), "==", 1),
            Claim("And nothing is lost: largest difference to all experts, weighted", gap, "<=", 1e-4),
            Claim("Experts specialise: what they tell of the class, over the start", after / before, ">=", 1.3),
            Claim("The mixture beats a dense layer of equal cost: loss over loss", loss / loss_dense, "<=", 0.9),
        ],
        figures=[
            Heatmap("Specialisation: share of each class's routes", "expert", "class of token", shares.numpy().tolist(),
                    [str(c) for c in range(CLASSES)], [str(i) for i in range(n)]),
        ],
        tables=[
            Table("One token", ["", "score", "gate", "gate × output, first numbers"], rows),
            Table("Active: what is stored and what a token uses", ["part", "parameters", "used", "FLOPs per token"],
                  [[name, stored[name], used[name], cost[name]] for name in stored]
                  + [["all", sum(stored.values()), sum(used.values()), sum(cost.values())],
                     ["dense layer of equal cost", 3 * WIDTH * wide, 3 * WIDTH * wide, 6 * WIDTH * wide]]),
        ],
    )  # fmt: skip
