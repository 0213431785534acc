"""How good a search is, measured on judged questions.

A line of a JSONL file is one question with its judgement, in one of three forms:
    {"id", "question", "intent"?, "relevant": {topic id: 1 | 2}}    2 is a best topic to land on, 1 an acceptable one
    {"id", "question", "a": [topic ids], "b": [topic ids]}          a comparison: the acceptable topics of each side
    {"id", "question", "kind"}                                      foreign to the atlas: the right answer is none
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np

from graph import AtlasError, GraphStore

DEPTH = 10
"""Ranks that count."""

RESAMPLES = 2_000
"""Of the bootstrap behind each interval."""


class JudgementUnreadable(AtlasError):
    """A line of a file of judged questions has none of the three forms."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One question and what is right for it: grades by topic, or two sides, or the kind of what is foreign."""

    id: str
    question: str
    grades: Mapping[str, int]
    sides: tuple[frozenset[str], ...] = ()
    foreign: str = ""
    intent: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a search gave for one question: topics, best first (none when it abstained), and its evidence."""

    judged: Judged
    ranked: tuple[str, ...]
    evidence: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over `n` questions with its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float
    n: int


class _Line(msgspec.Struct):
    """A line as it is written; of the judgements exactly one is there."""

    id: str
    question: str
    intent: str = ""
    relevant: dict[str, Literal[1, 2]] = {}
    a: list[str] = []
    b: list[str] = []
    kind: str = ""


def judged_question(line: str) -> Judged:
    """Read one line. Raises JudgementUnreadable."""
    try:
        read = msgspec.json.decode(line, type=_Line)
    except msgspec.DecodeError as error:
        raise JudgementUnreadable(f"not a judged question: {error}") from error
    if bool(read.relevant) + bool(read.a and read.b) + bool(read.kind) != 1:
        raise JudgementUnreadable('write one judgement: "relevant" {topic: 1 or 2}, or "a" and "b", or "kind"')
    sides = (frozenset(read.a), frozenset(read.b)) if read.a else ()
    return Judged(read.id, read.question, read.relevant, sides, read.kind, read.intent)


def hit(k: int, least: int = 1) -> Callable[[Outcome], float]:
    """Whether some topic among the first k has at least this grade."""
    return lambda outcome: float(any(outcome.judged.grades.get(t, 0) >= least for t in outcome.ranked[:k]))


def reciprocal_rank(outcome: Outcome) -> float:
    """1 / rank of the first graded topic, 0 below the tenth."""
    ranks = (rank for rank, topic in enumerate(outcome.ranked[:DEPTH], start=1) if topic in outcome.judged.grades)
    return 1 / next(ranks, math.inf)


def ndcg(outcome: Outcome) -> float:
    """Discounted cumulative gain over the best possible one: gain 2^grade - 1, discount log2(1 + rank).

    Järvelin, Kekäläinen 2002. Twins that are folded into one hit keep it below 1.
    """

    def gain(grades: Iterable[int]) -> float:
        return sum((2**grade - 1) / math.log2(rank + 1) for rank, grade in enumerate(grades, start=1))

    grades = outcome.judged.grades
    best = gain(sorted(grades.values(), reverse=True)[:DEPTH])
    return gain(grades.get(topic, 0) for topic in outcome.ranked[:DEPTH]) / best


def sides_found(k: int, least: int) -> Callable[[Outcome], float]:
    """Whether at least so many sides of a comparison stand among the first k."""
    return lambda outcome: float(sum(bool(side & set(outcome.ranked[:k])) for side in outcome.judged.sides) >= least)


def abstained(outcome: Outcome) -> float:
    """Whether the search declined."""
    return float(not outcome.ranked)


GRADED: Mapping[str, Callable[[Outcome], float]] = {
    "hit@1": hit(1),
    "hit@1-strict": hit(1, 2),
    "hit@3": hit(3),
    "hit@5": hit(5),
    "mrr@10": reciprocal_rank,
    "ndcg@10": ndcg,
    "abstained": abstained,
}
COMPARED: Mapping[str, Callable[[Outcome], float]] = {
    "either@5": sides_found(5, 1),
    "both@2": sides_found(2, 2),
    "both@5": sides_found(5, 2),
    "both@10": sides_found(10, 2),
}


def estimates(outcomes: Sequence[Outcome], measures: Mapping[str, Callable[[Outcome], float]]) -> dict[str, Estimate]:
    """Return the mean of each measure with its interval: questions drawn again with replacement, seeded."""
    values = np.array([[measure(outcome) for measure in measures.values()] for outcome in outcomes])
    drawn = np.random.default_rng(0).integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.quantile(values[drawn].mean(axis=1), [0.025, 0.975], axis=0)
    return {
        name: Estimate(float(mean), float(least), float(most), len(values))
        for name, mean, least, most in zip(measures, values.mean(axis=0), low, high, strict=True)
    }


def groups(outcomes: Sequence[Outcome], store: GraphStore) -> dict[str, list[Outcome]]:
    """Return the graded questions by section (those of their best topics), then by intent."""
    found: dict[str, list[Outcome]] = {}
    order = [topic.id for topic in store.topics() if topic.depth == 0]
    sections = {topic.id: topic.section for topic in store.topics()}
    for outcome in outcomes:
        names = {sections.get(topic, "") for topic, grade in outcome.judged.grades.items() if grade == 2}
        if outcome.judged.intent:
            names.add(f"intent: {outcome.judged.intent}")
        for name in names - {""}:
            found.setdefault(name, []).append(outcome)
    return dict(sorted(found.items(), key=lambda item: (order.index(item[0]) if item[0] in order else 99, item[0])))


def separation(at_home: Sequence[float], foreign: Sequence[float]) -> float:
    """Area under the ROC curve of the evidence: how often a covered question has more of it than a foreign one."""
    home, other = np.array(at_home)[:, None], np.array(foreign)[None, :]
    return float(((home > other) + 0.5 * (home == other)).mean())


def unknown_topics(judged: Iterable[Judged], store: GraphStore) -> list[str]:
    """Return the ids that the judgements name and the atlas lacks: such a question cannot be scored fairly."""
    known = {topic.id for topic in store.topics()}
    named = {topic for each in judged for topic in [*each.grades, *(t for side in each.sides for t in side)]}
    return sorted(named - known)
