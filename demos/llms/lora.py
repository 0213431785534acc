"""LoRA: fine-tuning by a low-rank difference

Question: How can one adapt a model by training 1 % of its parameters?
Source: Hu et al. 2021, arXiv:2106.09685, §4.1, eq. (3): h = W₀x + ΔWx = W₀x + (α/r)BAx.
Watch: a model that reverses words is to rotate them instead. Two thin matrices beside a frozen one do almost what
  training every weight does. Added to the weights they cost nothing when the model is used, and switched off they leave
  the old model as it was, which full fine-tuning destroys.
"""

import copy
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from demos.contract import Cell, Claim, DemoParams, Lines, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.transformer import Transformer, train

LETTERS, LENGTH = 12, 8  # in all; in a word
D, LAYERS, HEADS, BATCH = 64, 2, 2, 64
BASE_STEPS, BASE_RATE, LORA_RATE, TESTED = 300, 4e-3, 1e-2, 1_000
PARTS: dict[str, dict[str, list[int]]] = {  # of which matrices which thirds (query, key, value) are adapted
    "q": {"qkv": [0]},
    "qv": {"qkv": [0, 2]},
    "qkvo": {"qkv": [0, 1, 2], "out": [0]},
    "all": {"qkv": [0, 1, 2], "out": [0], "up": [0], "down": [0]},
}


class Params(DemoParams):
    rank: int = Field(4, ge=1, le=32, description="Rank r of the difference")
    alpha: float = Field(8.0, ge=1.0, le=64.0, description="Scale α: the difference is (α/r)BA")
    targets: Literal["q", "qv", "qkvo", "all"] = Field("qv", description="Which matrices get a difference")
    steps: int = Field(200, ge=50, le=1000, description="Steps of fine-tuning")
    seed: int = Field(0, ge=0, le=9999, description="Seed of weights and words")

    presets: ClassVar[Mapping[str, Preset]] = {
        "rank 1, queries": Preset("Too thin a difference does not reach full fine-tuning", {"rank": 1, "targets": "q"}),
        "every matrix": Preset("More adapted matrices than the task needs", {"targets": "all"}),
        "not thin at all": Preset("Rank 32 everywhere: no longer a few parameters", {"rank": 32, "targets": "all"}),
    }


class LowRank(nn.Module):
    """A frozen linear layer W₀ (out, in) and, for some equal parts of its rows, a trained difference (α/r)BA."""

    def __init__(self, frozen: nn.Linear, parts: list[int], rank: int, alpha: float, rng: torch.Generator) -> None:
        super().__init__()
        self.frozen, self.scale = frozen, alpha / rank
        rows = D if frozen.out_features == 3 * D else frozen.out_features  # qkv holds three matrices of d rows
        self.rows = [slice(part * rows, (part + 1) * rows) for part in parts]
        d_in = frozen.in_features
        self.a = nn.ParameterList(torch.randn(rank, d_in, generator=rng) * d_in**-0.5 for _ in parts)  # (r, in)
        self.b = nn.ParameterList(torch.zeros(rows, rank) for _ in parts)  # (rows, r): zero, so that ΔW = 0 at first

    def forward(self, x: Tensor) -> Tensor:
        """x (…, in) -> (…, out), eq. (3): the thin product is never written out as a matrix."""
        h = self.frozen(x)
        for rows, a, b in zip(self.rows, self.a, self.b, strict=True):
            h[..., rows] += self.scale * (x @ a.T @ b.T)
        return h

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """One layer with W₀ + (α/r)BA, for inference."""
        layer = copy.deepcopy(self.frozen)
        for rows, a, b in zip(self.rows, self.a, self.b, strict=True):
            layer.weight[rows] += self.scale * (b @ a)
        return layer


def adapt(base: Transformer, targets: str, rank: int, alpha: float, rng: torch.Generator) -> Transformer:
    """A frozen copy of the base with differences in each of its blocks."""
    model = copy.deepcopy(base).requires_grad_(requires_grad=False)
    for block in model.blocks:
        for name, parts in PARTS[targets].items():
            setattr(block, name, LowRank(getattr(block, name), parts, rank, alpha, rng))
    return model


def merge(model: Transformer) -> Transformer:
    """The same model with plain linear layers again."""
    plain = copy.deepcopy(model)
    for block in plain.blocks:
        for name, layer in list(block.named_children()):
            if isinstance(layer, LowRank):
                setattr(block, name, layer.merged())
    return plain


def reverse(words: Tensor) -> Tensor:
    """The old task: abcd -> dcba."""
    return words.flip(1)


def rotate(words: Tensor) -> Tensor:
    """The new task: abcd -> bcda. Of eight places two ask for the same letter in both tasks."""
    return words.roll(-1, 1)


class NewHead(nn.Module):
    """A frozen base and a trained output layer in place of its own."""

    def __init__(self, base: Transformer) -> None:
        super().__init__()
        self.base = copy.deepcopy(base).requires_grad_(requires_grad=False)
        self.head = nn.Linear(D, LETTERS)
        self.head.load_state_dict({"weight": base.words.weight, "bias": torch.zeros(LETTERS)})

    def forward(self, words: Tensor) -> Tensor:
        return self.head(self.base.hidden(words))


def fit(model: nn.Module, old: bool, steps: int, rate: float, rng: torch.Generator, tick: Tick, done: float) -> None:
    """Train what is not frozen on random words of the old or of the new task."""
    task = reverse if old else rotate

    def loss() -> Tensor:
        words = torch.randint(LETTERS, (BATCH, LENGTH), generator=rng)
        return cross_entropy(model(words).flatten(0, 1), task(words).flatten())

    def report(step: int, value: float) -> None:
        if step % 25 == 0:
            tick(done, f"step {step}", loss=value)

    train(model, loss, steps, rate, report)


def trained(model: nn.Module) -> int:
    """Parameters that are not frozen."""
    return sum(weight.numel() for weight in model.parameters() if weight.requires_grad)


@torch.no_grad()
def accuracies(model: nn.Module, words: Tensor) -> tuple[float, float]:
    """Share of letters right on the new task and on the old one."""
    said = model(words).argmax(dim=-1)
    return (said == rotate(words)).float().mean().item(), (said == reverse(words)).float().mean().item()


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng = torch.Generator().manual_seed(params.seed)
    base = Transformer(LETTERS, LENGTH, D, LAYERS, HEADS, rng, causal=False)
    fit(base, True, BASE_STEPS, BASE_RATE, rng, tick, 0.0)
    words = torch.randint(LETTERS, (TESTED, LENGTH), generator=rng)

    full, head = copy.deepcopy(base), NewHead(base)
    fit(full, False, params.steps, BASE_RATE, rng, tick, 0.2)
    fit(head, False, params.steps, LORA_RATE, rng, tick, 0.35)
    lora = adapt(base, params.targets, params.rank, params.alpha, rng)
    with torch.no_grad():
        at_start = (lora(words) - base(words)).abs().max().item()
    by_rank = dict[int, float]()
    for rank in sorted({1, 2, params.rank}):
        model = lora if rank == params.rank else adapt(base, params.targets, rank, params.alpha, rng)
        fit(model, False, params.steps, LORA_RATE, rng, tick, 0.4 + 0.05 * rank**0.5)
        by_rank[rank] = accuracies(model, words)[0]
    plain = merge(lora)
    with torch.no_grad():
        merging = (plain(words) - lora(words)).abs().max().item()

    models: dict[str, nn.Module] = {"base": base, "full fine-tuning": full, "head alone": head, "LoRA": lora,
                                    "LoRA, merged": plain}  # fmt: skip
    scores = {name: accuracies(model, words) for name, model in models.items()}
    weights = trained(base)
    counts = {"full fine-tuning": weights, "head alone": trained(head), "LoRA": trained(lora)}
    rows: list[list[Cell]] = [
        [name, new, old, counts.get(name, 0), round(8 * counts.get(name, 0) / 1024, 1)]  # Adam: two numbers, 4 bytes
        for name, (new, old) in scores.items()
    ]
    share = counts["LoRA"] / weights
    return Result(
        metrics=[
            Metric("accuracy", scores["LoRA"][0]),
            Metric("accuracy of full fine-tuning", scores["full fine-tuning"][0]),
            Metric("accuracy of a new head", scores["head alone"][0]),
            Metric("trainable share", 100 * share, "%"),
            Metric("trainable parameters", counts["LoRA"]),
        ],
        claims=[
            Claim("It starts as the base: largest difference of outputs", at_start, "==", 0.0),
            Claim("Merged weights say the same: largest difference of outputs", merging, "<=", 1e-4),
            Claim("Few parameters are trained: share of the base's", share, "<=", 0.05),
            Claim("It adapts as full fine-tuning does: accuracy of that, less its own",
                  scores["full fine-tuning"][0] - scores["LoRA"][0], "<=", 0.05),
            Claim("A new head does not: accuracy of LoRA, less that of a head alone",
                  scores["LoRA"][0] - scores["head alone"][0], ">=", 0.3),
            Claim("Full fine-tuning forgets: old-task accuracy of the base, less what is left",
                  scores["base"][1] - scores["full fine-tuning"][1], ">=", 0.5),
        ],
        figures=[
            Lines(f"A thicker difference ({params.targets})", x="rank", y="accuracy on the new task",
                  at=list(by_rank), log="x", series={
                      "LoRA": list(by_rank.values()),
                      "full fine-tuning": [scores["full fine-tuning"][0]] * len(by_rank)}),
        ],
        tables=[
            Table("Comparison (the base is LoRA switched off)",
                  ["model", "new task", "old task", "trained parameters", "Adam's memory in KiB"], rows),
        ],
    )  # fmt: skip
