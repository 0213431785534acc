"""A GLUE-like suite and its metrics

Question: Which number should each understanding task report, and when does accuracy lie?
Source: Wang et al. 2018 (GLUE), arXiv:1804.07461, §3 and table 1: tasks, metrics, macro average; spans, exact match and
  F1 of words: Rajpurkar et al. 2016 (SQuAD), arXiv:1606.05250, §6.1; Matthews 1975, doi:10.1016/0005-2795(75)90109-9.
Watch: one pre-trained encoder, a fine-tuned copy for each of nine tasks, and for each the metric that fits it. Compare
  every score with the majority's in its row. Without pre-training (preset) some tasks do not rise above it.
"""

import copy
import re
import statistics
from collections import Counter
from collections.abc import Callable, Mapping
from typing import ClassVar, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from demos.contract import Cell, Claim, DemoParams, Lines, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared import paraphrases as toy
from demos.shared.transformer import Transformer, start, train

D, LAYERS, HEADS, RATE, PRETRAINING, BATCH = 32, 2, 4, 5e-3, 500, 64
TRAINING, FEW, TESTED, DRAWS = 4000, 400, 500, 200  # examples, those of the task with few; tests; bootstrap samples
NOISE = 0.05  # share of the labels, of training and test, in which raters err


class Params(DemoParams):
    task: Literal["all", "single", "pair", "similarity", "span"] = Field("all", description="Kind of tasks to run")
    imbalance: float = Field(0.9, ge=0.5, le=0.99, description="Share of the larger class in the accuracy trap")
    steps: int = Field(60, ge=20, le=300, description="Fine-tuning steps for each task")
    pretrain: bool = Field(True, description="Start each task from the pre-trained encoder")
    seed: int = Field(0, ge=0, le=9999, description="Seed of sentences and weights")

    presets: ClassVar[Mapping[str, Preset]] = {
        "not pre-trained": Preset("From random weights some tasks stay at the majority's score", {"pretrain": False}),
        "balanced": Preset("Where classes are of equal size accuracy does not deceive", {"imbalance": 0.5}),
    }


def accuracy(y: Tensor, guess: Tensor) -> float:
    """Share of labels (N,) that agree."""
    return (y == guess).double().mean().item()


def f1(y: Tensor, guess: Tensor) -> float:
    """2TP / (2TP + FP + FN) of class 1; true negatives do not count."""
    hits, named = int((y * guess).sum()), int((y + guess).sum())  # TP, 2TP + FP + FN
    return 2 * hits / named if named else 0.0


def pearson(a: Tensor, b: Tensor) -> float:
    """Correlation of two (N,), 0 where one is constant. Of two yes-or-no variables it is Matthews' coefficient."""
    a, b = a.double() - a.double().mean(), b.double() - b.double().mean()
    norms = (a.square().sum() * b.square().sum()).sqrt()
    return (a @ b / norms).item() if norms > 1e-9 else 0.0


def spearman(a: Tensor, b: Tensor) -> float:
    """Pearson's formula on ranks: only the order counts. Equal values share the mean of their ranks."""
    ranks = ((x[:, None] > x).sum(1) + ((x[:, None] == x).sum(1) + 1) / 2 for x in (a, b))
    return pearson(*ranks)


def match(truth: str, guess: str) -> tuple[float, float]:
    """Exact match, and F1 of words, of one answer: without case, punctuation and articles."""
    y, g = (re.sub(r"[^\w\s]|\b(a|an|the)\b", "", answer.lower()).split() for answer in (truth, guess))
    common = sum((Counter(y) & Counter(g)).values())
    return float(y == g), 2 * common / (len(y) + len(g)) if common else float(y == g)


METRICS = {"accuracy": accuracy, "F1": f1, "Matthews": pearson, "Pearson": pearson, "Spearman": spearman}


class Task(NamedTuple):
    """Texts x (N, n) and what to say of them: labels or degrees y (N,), or first and last word of the answer (N, 2)."""

    name: str
    kind: str
    metrics: tuple[str, ...]
    x: Tensor
    y: Tensor


def draw_tasks(n: int, rng: torch.Generator) -> list[Task]:
    """n examples of each task, with the raters' errors; its name tells which of GLUE's it is like."""

    def yes(p: float) -> Tensor:  # (n, 1) of 0 and 1
        return (torch.rand(n, 1, generator=rng) < p).long()

    def rated(y: Tensor, classes: int = 2) -> Tensor:  # (n, 1) -> (n,)
        return ((y + yes(NOISE) * torch.randint(1, classes, (n, 1), generator=rng)) % classes)[:, 0]

    def some(slots: int) -> Tensor:  # (n, 5) bool: one of the first slots for certain, any other as a coin falls
        coins = torch.rand(n, 5, generator=rng) < 0.5
        return coins | (torch.randint(slots, (n, 1), generator=rng) == torch.arange(5))

    def altered(where: Tensor) -> Tensor:  # (n, 5)
        return toy.say(toy.alter(said, where, rng), rng)

    said = toy.draw_meanings(n, rng)
    other, verb = torch.arange(5) == toy.SUBJECT, torch.arange(5) == toy.VERB
    text, rows, place = toy.say(said, rng), torch.arange(n), torch.randint(4, (n,), generator=rng)
    mixed = text.clone()  # two neighbours have changed places
    mixed[rows, place], mixed[rows, place + 1] = text[rows, place + 1], text[rows, place]
    accepted, same, twice, fits, follows = yes(0.7), yes(0.68), yes(0.37), yes(0.5), yes(0.5)
    kept = torch.rand(n, 5, generator=rng) < torch.rand(n, 1, generator=rng)
    relation = torch.randint(3, (n, 1), generator=rng)  # entailed, neutral, contradicted
    second = torch.where(relation == 2, toy.deny(said), toy.alter(said, verb & (relation == 1), rng))
    asked = torch.randint(3, (n,), generator=rng)  # who, whom or how
    last = torch.tensor([3, 5, 7])[asked]
    first = last - ((asked == 2) & (said[:, toy.DEGREE] > 0)).long()  # "not kind", but "kind" of "is kind"
    too_long = yes(NOISE)[:, 0] * (asked > 0)  # some raters mark a word too many
    return [
        Task("acceptable? (CoLA)", "single", ("Matthews",),
             toy.join(torch.where(accepted == 1, text, mixed)), rated(accepted)),
        Task("praise? (SST-2)", "single", ("accuracy",), toy.join(text), rated(toy.praises(said).long()[:, None])),
        Task("paraphrase? (MRPC)", "pair", ("F1", "accuracy"),
             toy.join(text, altered(some(5) & (same == 0))), rated(same)),
        Task("same question? (QQP)", "pair", ("F1", "accuracy"),
             toy.join(toy.ask(text), toy.ask(altered(some(3) & (twice == 0)))), rated(twice)),
        Task("how similar? (STS-B)", "similarity", ("Pearson", "Spearman"),
             toy.join(text, altered(~kept)), kept.sum(dim=1) + 0.5 * torch.randn(n, generator=rng)),
        Task("entailed? (MNLI)", "pair", ("accuracy",), toy.join(text, toy.say(second, rng)), rated(relation, 3)),
        Task("answers it? (QNLI)", "pair", ("accuracy",),
             toy.join(toy.ask(altered(other & (fits == 0))), text), rated(fits)),
        Task("entailed, few examples (RTE)", "pair", ("accuracy",),
             toy.join(text, altered(verb & (follows == 0)))[:FEW], rated(follows)[:FEW]),
        Task("which words? (SQuAD)", "span", ("exact match", "F1"),
             toy.join(toy.WHO + asked[:, None], text), torch.stack([first - too_long, last], dim=1)),
    ]  # fmt: skip


def pretrain(steps: int, rng: torch.Generator, tick: Tick) -> Transformer:
    """The shared encoder: learns to fill hidden words in two sentences that say the same."""
    model = Transformer(len(toy.WORDS), 13, D, LAYERS, HEADS, rng, causal=False)

    def loss() -> Tensor:
        meaning = toy.draw_meanings(BATCH, rng)
        x = toy.join(toy.say(meaning, rng), toy.say(meaning, rng))
        hidden = (torch.rand(x.shape, generator=rng) < 0.2) & (x > toy.MASK)
        return cross_entropy(model(torch.where(hidden, toy.MASK, x))[hidden], x[hidden])

    if steps:
        train(model, loss, steps, RATE, lambda step, value: tick(0.5 * step / steps, f"step {step}", loss=value))
    return model


def fine_tune(
    base: Transformer, task: Task, steps: int, rng: torch.Generator, tick: Tick
) -> Callable[[Tensor], Tensor]:
    """A copy of the encoder with a new linear head, trained on a task: what it says of texts (N, n)."""
    outputs = {"similarity": 1, "span": 2}.get(task.kind, int(task.y.max()) + 1)
    model, head = copy.deepcopy(base), nn.Linear(D, outputs)
    start(head, rng)

    def out(x: Tensor) -> Tensor:  # read at [CLS], (N, outputs); for spans each word as first and as last, (N, n, 2)
        return head(model.hidden(x)) if task.kind == "span" else head(model.hidden(x)[:, 0])

    def loss() -> Tensor:
        some = torch.randint(len(task.x), (BATCH,), generator=rng)
        scores, y = out(task.x[some]), task.y[some]
        return mse_loss(scores[:, 0], y) if task.kind == "similarity" else cross_entropy(scores, y)

    @torch.no_grad()
    def guess(x: Tensor) -> Tensor:
        return out(x)[:, 0] if task.kind == "similarity" else out(x).argmax(dim=1)

    train(nn.ModuleList([model, head]), loss, steps, RATE, lambda step, _: tick(0.5, f"{task.name} step {step}"))
    return guess


def scorer(task: Task, guess: Tensor) -> Callable[[Tensor], list[float]]:
    """The task's metrics for any sample of its items, given as row numbers."""
    if task.kind != "span":
        return lambda rows: [METRICS[name](task.y[rows], guess[rows]) for name in task.metrics]
    texts: list[list[int]] = task.x.numpy().tolist()
    answers = [
        [" ".join(toy.WORDS[word] for word in text[a : b + 1]) for text, (a, b) in zip(texts, spans, strict=True)]
        for spans in (task.y.numpy().tolist(), guess.numpy().tolist())
    ]
    matches = torch.tensor([match(y, g) for y, g in zip(*answers, strict=True)])  # (N, 2)
    return lambda rows: matches[rows].mean(dim=0).numpy().tolist()


def trap(share: float) -> dict[str, float]:
    """Scores where class 0 has this share: of always saying 0, and of being right nine times in ten in either class."""
    order = torch.arange(10_000)
    y = (order >= round(share * 10_000)).long()
    able = torch.where(order % 10 == 0, 1 - y, y)
    return {
        f"{name}: {metric}": METRICS[metric](y, guess)
        for name, guess in (("always the majority", 0 * y), ("right nine times in ten", able))
        for metric in ("accuracy", "Matthews", "F1")
    }


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng = torch.Generator().manual_seed(params.seed)
    base = pretrain(PRETRAINING if params.pretrain else 0, rng, tick)
    rows, margins, scores = list[list[Cell]](), list[float](), list[float]()
    for done, (task, test) in enumerate(zip(draw_tasks(TRAINING, rng), draw_tasks(TESTED, rng), strict=True), start=1):
        if params.task not in ("all", task.kind):
            continue
        items = len(test.x)
        commonest = task.y.mean() if task.kind == "similarity" else task.y.mode(dim=0).values
        majority = scorer(test, commonest.expand(test.y.shape))(torch.arange(items))
        score = scorer(test, fine_tune(base, task, params.steps, rng, tick)(test.x))
        measured = score(torch.arange(items))
        samples = torch.tensor([score(torch.randint(items, (items,), generator=rng)) for _ in range(DRAWS)])
        low, high = (samples.quantile(q, dim=0).numpy().tolist() for q in (0.025, 0.975))
        for row in zip(task.metrics, measured, low, high, majority, strict=True):
            rows.append([task.name, *row])
        scores.append(statistics.fmean(measured))
        margins.append(samples.mean(dim=1).quantile(0.025).item() - statistics.fmean(majority))
        tick(0.5 + 0.5 * done / 9, task.name, score=scores[-1])

    shares = [0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99]
    curves, here = [trap(share) for share in shares], trap(params.imbalance)
    suite = statistics.fmean(scores)
    return Result(
        metrics=[
            Metric("suite score", suite),
            Metric("best task less worst", max(scores) - min(scores)),
            *(Metric(name, value) for name, value in here.items()),
        ],
        claims=[
            Claim("Accuracy deceives: that of always saying the majority class",
                  here["always the majority: accuracy"], ">=", 0.9),
            Claim("Matthews does not: that of the same answers", here["always the majority: Matthews"], "==", 0.0),
            Claim("Nor does F1: that of the rare class", here["always the majority: F1"], "==", 0.0),
            Claim("With nine in ten right, accuracy says 0.9 of any classes: Matthews where the rare one has 1 %",
                  curves[-1]["right nine times in ten: Matthews"], "<=", 0.5),
            Claim("Every task is learned: least score less the majority's, at the lower end of its 95 % interval",
                  min(margins), ">=", 0.05),
        ],
        figures=[
            Lines("Accuracy trap", x="share of the larger class", y="score", at=shares,
                  series={name: [curve[name] for curve in curves] for name in here}),
        ],
        tables=[
            Table("Suite", ["task", "metric", "score", "95 % from", "to", "majority"],
                  [*rows, ["macro average of the tasks", "", suite, "", "", ""]]),
        ],
    )  # fmt: skip
