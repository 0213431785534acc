"""Loss spikes: what makes large training calm

Question: Why do runs diverge, and what keeps them steady?
Source: Chowdhery et al. 2022 (PaLM), arXiv:2204.02311, §5.1 (go back to a checkpoint, skip the batches of the spike);
  Wortsman et al. 2023, arXiv:2309.14322; gradient clipping: Pascanu et al. 2013, arXiv:1211.5063, algorithm 1.
Watch: a few corrupted batches hit two runs of the same model on the same data. Undefended, the loss stays raised for
  many steps after each. A limit on the gradient's norm caps the blow, and a rollback leaves no trace of it at all:
  the weights are bit for bit those of a run that never saw the batch.
"""

import copy
import statistics
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from demos.contract import Claim, DemoParams, Lines, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.grammar import WORDS, draw_text
from demos.shared.transformer import Transformer

STEPS, EVERY = 240, 20  # training steps, and from one checkpoint to the next
LENGTH, BATCH, D, LAYERS, HEADS = 24, 8, 32, 2, 4
DECAY = 0.95  # of the average of weights that is kept aside
FIRST_BAD = 90  # bad batches come after the loss has settled
WINDOW, SPIKE = 20, 1.5  # a spike is a loss above 1.5 times the median of the last 20


class Params(DemoParams):
    lr: float = Field(0.01, ge=0.0001, le=0.1, description="Peak learning rate")
    clip: float = Field(1.0, ge=0.0, le=10.0, description="Limit on the gradient's norm (0: none)")
    warmup: int = Field(50, ge=0, le=300, description="Steps in which the rate rises to its peak")
    bad_batches: int = Field(2, ge=0, le=10, description="Corrupted batches among the training data")
    rollback: bool = Field(True, description="At a spike restore the last checkpoint and skip the batch")
    seed: int = Field(0, ge=0, le=9999, description="Seed of text, weights and corruption")

    presets: ClassVar[Mapping[str, Preset]] = {
        "no defence": Preset("The undefended run itself: no gain", {"clip": 0.0, "rollback": False, "warmup": 0}),
        "clipping alone": Preset("Blows are capped, not undone", {"rollback": False}),
        "clean data": Preset("No blow to undo; warmup and clipping still pay", {"bad_batches": 0, "rollback": False}),
    }


@dataclass
class Run:
    """What a run leaves: last weights, their average, and for each batch its loss, gradient norm, largest logit."""

    model: Transformer
    average: Transformer
    losses: list[float] = field(default_factory=list[float])  # NaN where a batch was never tried
    norms: list[float] = field(default_factory=list[float])
    logits: list[float] = field(default_factory=list[float])
    spikes: list[int] = field(default_factory=list[int])
    replayed: int = 0  # steps taken twice


def batches(params: Params) -> tuple[list[Tensor], list[int]]:
    """Batches (STEPS of B × (n + 1)), and the numbers of the corrupted ones: there each text is one word repeated."""
    rng = torch.Generator().manual_seed(2 * params.seed + 1)
    text = draw_text(2000, True, rng)
    places = torch.randint(len(text) - LENGTH, (STEPS, BATCH, 1), generator=rng) + torch.arange(LENGTH + 1)
    gap = (STEPS - FIRST_BAD) // max(1, params.bad_batches)
    bad = [FIRST_BAD + gap * number for number in range(params.bad_batches)]
    rows = list(text[places])
    for number in bad:
        rows[number] = torch.randint(len(WORDS), (BATCH, 1), generator=rng).expand(BATCH, LENGTH + 1)
    return rows, bad


def clip_(weights: list[nn.Parameter], limit: float) -> float:
    """Norm of the whole gradient; if it is above the limit, all gradients shrink by the same factor."""
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    norm = torch.stack([gradient.square().sum() for gradient in gradients]).sum().sqrt()
    if 0 < limit < norm:
        for gradient in gradients:
            gradient.mul_(limit / norm)
    return norm.item()


def descend(optimizer: torch.optim.Optimizer, weights: list[nn.Parameter], loss: Tensor, limit: float) -> float:
    """One step down the clipped gradient; its norm before clipping."""
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    norm = clip_(weights, limit)
    optimizer.step()
    return norm


def is_spike(loss: float, before: list[float]) -> bool:
    """A loss far above the median of those before it."""
    return len(before) >= WINDOW and loss > SPIKE * statistics.median(before[-WINDOW:])


def train(
    data: list[Tensor],
    params: Params,
    *,
    clip: float,
    warmup: int,
    rollback: bool,
    skip: Set[int] = frozenset(),
    tick: Tick = no_tick,
    done: float = 0.0,
) -> Run:
    """AdamW on each batch but those to skip. A rollback restores a checkpoint and replays without the bad batch."""
    rng = torch.Generator().manual_seed(2 * params.seed)
    model = Transformer(len(WORDS), LENGTH, D, LAYERS, HEADS, rng, causal=True)
    weights = list(model.parameters())
    adam = torch.optim.AdamW(weights, lr=params.lr, weight_decay=0.01)
    average = copy.deepcopy(model)
    run, skipped, step = Run(model, average), set(skip), 0

    def checkpoint() -> tuple[dict[str, Any], ...]:
        return copy.deepcopy((model.state_dict(), average.state_dict(), adam.state_dict()))

    good = list[float]()  # losses of batches that were learned from
    saved = (0, checkpoint(), list[float]())
    while step < len(data):
        if step % EVERY == 0 and step > saved[0]:
            saved = (step, checkpoint(), list(good))
        if step not in skipped:
            for group in adam.param_groups:
                group["lr"] = params.lr * min(1.0, (step + 1) / max(1, warmup))
            logits = model(data[step][:, :-1])
            loss = cross_entropy(logits.flatten(0, 1), data[step][:, 1:].flatten())
            norm = descend(adam, weights, loss, clip)
            with torch.no_grad():
                for kept, weight in zip(average.parameters(), weights, strict=True):
                    kept.lerp_(weight, 1 - DECAY)
            if step == len(run.losses):  # not in a replay
                run.losses.append(loss.item())
                run.norms.append(norm)
                run.logits.append(logits.abs().max().item())
                if step % 20 == 0:
                    tick(done + 0.2 * step / len(data), f"batch {step}", loss=loss.item())
            if is_spike(loss.item(), good):
                run.spikes.append(step)
                if rollback:
                    run.replayed += step - saved[0]
                    skipped.add(step)
                    step, good = saved[0], list(saved[2])
                    for part, state in zip((model, average, adam), copy.deepcopy(saved[1]), strict=True):
                        part.load_state_dict(state)
                    continue
            good.append(loss.item())
        elif step == len(run.losses):
            run.losses.append(float("nan"))
            run.norms.append(float("nan"))
            run.logits.append(float("nan"))
        step += 1
    return run


def largest_difference(one: nn.Module, other: nn.Module) -> float:
    """Largest difference between two models' weights."""
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return max((a - b).abs().max().item() for a, b in pairs)


@torch.no_grad()
def loss_on(model: nn.Module, text: Tensor) -> float:
    """Mean cross-entropy on rows (N, n + 1) that were not trained on."""
    return cross_entropy(model(text[:, :-1]).flatten(0, 1), text[:, 1:].flatten()).item()


def aftermath(hit: Run, spared: Run, bad: list[int]) -> float:
    """Extra loss in the 20 batches after each bad one, beside a run that skipped it: mean, nats."""
    later = [step for number in bad for step in range(number + 1, min(STEPS, number + 21)) if step not in bad]
    return statistics.mean([hit.losses[step] - spared.losses[step] for step in later] or [0.0])


def run(params: Params, tick: Tick = no_tick) -> Result:
    data, bad = batches(params)
    fresh = draw_text(400, True, torch.Generator().manual_seed(params.seed + 20_000))
    fresh = fresh[: len(fresh) // (LENGTH + 1) * (LENGTH + 1)].view(-1, LENGTH + 1)
    own: dict[str, Any] = {"clip": params.clip, "warmup": params.warmup}
    defended = train(data, params, **own, rollback=params.rollback, tick=tick)
    spared = train(data, params, **own, rollback=False, skip=set(bad), tick=tick, done=0.2)
    clipped = train(data, params, **own, rollback=False, tick=tick, done=0.4)
    bare: dict[str, Any] = {"clip": 0.0, "warmup": 0}
    undefended = train(data, params, **bare, rollback=False, tick=tick, done=0.6)
    bare_spared = train(data, params, **bare, rollback=False, skip=set(bad), tick=tick, done=0.8)
    runs = {"undefended": undefended, "clipping and warmup": clipped, "this run": defended}
    harm = {
        name: aftermath(hit, free, bad)
        for (name, hit), free in zip(runs.items(), (bare_spared, spared, spared), strict=True)
    }
    ends = {name: loss_on(each.model, fresh) for name, each in runs.items()}
    averaged = {name: loss_on(each.average, fresh) for name, each in runs.items()}
    mistakes = len(set(bad) ^ set(defended.spikes)) + len(spared.spikes)
    at = list(range(STEPS))
    return Result(
        metrics=[
            Metric("spikes found", len(defended.spikes)),
            Metric("steps taken twice", defended.replayed),
            Metric("loss at the end", ends["this run"], "nats"),
            Metric("loss at the end, undefended", ends["undefended"], "nats"),
            Metric("loss of the averaged weights", averaged["this run"], "nats"),
        ],
        claims=[
            Claim("A bad batch hurts for long: extra loss of the undefended run in the 20 batches after",
                  harm["undefended"], ">=", 0.05),
            Claim("Defences pay: loss of the undefended run at the end, less this run's",
                  ends["undefended"] - ends["this run"], ">=", 0.025),
            Claim("A rollback leaves no trace: largest difference from weights that never saw the bad batches",
                  largest_difference(defended.model, spared.model), "<=", 0.0),
            Claim("The detector finds the bad batches and no other: missed and false ones", mistakes, "<=", 0),
            Claim("An average of the weights is calmer still: loss of the last weights less that of the average",
                  ends["this run"] - averaged["this run"], ">=", 0.02),
        ],
        figures=[
            Lines("Loss of each batch when it is first tried", "batch", "nats", at,
                  {name: each.losses for name, each in runs.items()}),
            Lines("Gradient norm before clipping", "batch", "norm", at, {n: r.norms for n, r in runs.items()}, log="y"),
            Lines("Largest logit", "batch", "size", at, {n: r.logits for n, r in runs.items()}),
        ],
        tables=[
            Table("Runs", ["run", "spikes", "highest loss at one", "extra loss after", "loss at the end", "averaged"],
                  [[name, len(each.spikes), max((each.losses[step] for step in each.spikes), default=0.0),
                    harm[name], ends[name], averaged[name]] for name, each in runs.items()]),
        ],
    )  # fmt: skip
