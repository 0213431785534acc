"""`genatlas eval`: the open atlas's search held against judged questions, and a page of what it missed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from search.evaluation import (
    COMPARED,
    GRADED,
    Estimate,
    Judged,
    JudgementUnreadable,
    Outcome,
    estimates,
    groups,
    judged_question,
    separation,
    unknown_topics,
)
from service.facade import Service

LONGEST_LINE = 100_000


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Every outcome, and the measures: of graded questions as a whole and by group, of comparisons, of foreign ones.

    `abstained` is the share of foreign questions that were declined, by kind. `separation` is the area under the ROC
    curve of the evidence, foreign against graded questions; None without either.
    """

    outcomes: Sequence[Outcome]
    graded: dict[str, dict[str, Estimate]]
    compared: dict[str, Estimate]
    abstained: dict[str, Estimate]
    separation: float | None
    unknown: Sequence[str]

    def as_json(self) -> dict[str, Any]:
        """The measures as plain data."""
        return {
            "graded": msgspec.to_builtins(self.graded),
            "compared": msgspec.to_builtins(self.compared),
            "abstained": msgspec.to_builtins(self.abstained),
            "separation": self.separation,
            "unknown_topics": list(self.unknown),
        }


def read_judged(path: Path) -> list[Judged]:
    """Read a JSONL file of judged questions. Raises JudgementUnreadable naming every wrong line."""
    if not path.is_file():
        raise JudgementUnreadable(f"No file at {path}.")
    judged: list[Judged] = []
    problems: list[str] = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                judged += [judged_question(line[:LONGEST_LINE])] if line.strip() else []
            except JudgementUnreadable as error:
                problems.append(f"{path}:{number}: {error}")
    if problems or not judged:
        raise JudgementUnreadable("\n".join(problems) or f"{path} holds no question.")
    return judged


def evaluate(service: Service, judged: Sequence[Judged]) -> Evaluation:
    """Search for every question and measure. A comparison is asked, so that its two sides lead."""
    outcomes = [_outcome(service, each) for each in judged]
    graded = [outcome for outcome in outcomes if outcome.judged.grades]
    compared = [outcome for outcome in outcomes if outcome.judged.sides]
    foreign = [outcome for outcome in outcomes if outcome.judged.foreign]
    kinds = {"all": foreign} | {
        kind: [outcome for outcome in foreign if outcome.judged.foreign == kind]
        for kind in dict.fromkeys(outcome.judged.foreign for outcome in foreign)
    }
    declined = {"abstained": GRADED["abstained"]}
    return Evaluation(
        outcomes,
        graded={
            name: estimates(some, GRADED)
            for name, some in {"overall": graded, **groups(graded, service.store)}.items()
            if some
        },
        compared=estimates(compared, COMPARED) if compared else {},
        abstained={kind: estimates(some, declined)["abstained"] for kind, some in kinds.items() if some},
        separation=separation([o.evidence for o in graded], [o.evidence for o in foreign])
        if graded and foreign
        else None,
        unknown=unknown_topics(judged, service.store),
    )


def _outcome(service: Service, judged: Judged) -> Outcome:
    ranking = service.search(judged.question)
    if judged.sides:
        return Outcome(judged, service.ask(judged.question).ranked, ranking.evidence)
    return Outcome(judged, tuple(hit.topic.id for hit in ranking.hits), ranking.evidence)


def misses(evaluation: Evaluation) -> str:
    """Return a Markdown page of every question that did not lead to a right topic first, with what came instead."""
    lines = ["# Misses", ""]
    for outcome in evaluation.outcomes:
        judged = outcome.judged
        if judged.foreign:
            wrong, wanted = bool(outcome.ranked), ["nothing: foreign to the atlas"]
        elif judged.sides:
            wrong = not all(side & set(outcome.ranked[:5]) for side in judged.sides)
            wanted = [" or ".join(sorted(side)) for side in judged.sides]
        else:
            wrong = not outcome.ranked or outcome.ranked[0] not in judged.grades
            wanted = [topic for topic, grade in judged.grades.items() if grade == 2] or list(judged.grades)
        if wrong:
            lines += [f"## {judged.id}: {judged.question}", "", f"Evidence {outcome.evidence:.2f}. Wanted:"]
            lines += [*_listed(wanted), "", "Came:", *_listed(outcome.ranked[:5] or ["nothing: it abstained"]), ""]
    return "\n".join(lines)


def _listed(items: Iterable[str]) -> list[str]:
    return [f"- {item}" for item in items]
