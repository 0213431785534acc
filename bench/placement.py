"""Placement beside asking other topics: how many questions it takes, and how many topics are judged wrongly after it.

    python -m bench.placement [--learners 40] [--section TOPIC …]       over the atlas that was built last

Simulated learners of four kinds, none of which is the model's own: those who followed paths to a few topics; readers,
who read some chapters from the start up to somewhere; those who know topics by their level, chapter and chance,
whatever these need; and those who knew everything and forgot some of it, with all that needs it. Each slips and guesses
with a chance of her own between 2 and 20 %, alike for every way of asking. A topic is judged as known when that is
likelier than not. Random topics, the first of the outline, and topics spread evenly over it are asked as often as the
placement asked, and the same is inferred from the answers. An inferred mark is kept without the learner's own word.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.table import Table

from graph import GraphStore, Topic
from service import Settings, open_service
from study.path import implied_by
from study.placement import Placement, Placer

HARDER = {"beginner": -1.0, "intermediate": 0.0, "advanced": 1.2, None: 0.0}


@dataclass(frozen=True)
class Section:
    """What is asked about, and what knowing each of its topics implies within it."""

    topics: Sequence[Topic]
    implied: Mapping[str, frozenset[str]]

    @property
    def chapters(self) -> list[list[str]]:
        """The topics of each direct subtopic, in outline order."""
        chapters: dict[str, list[str]] = {}
        for topic in self.topics[1:]:
            chapter = "/".join(topic.id.split("/")[: self.topics[0].depth + 2])
            chapters.setdefault(chapter, []).append(topic.id)
        return list(chapters.values())

    def with_needs(self, known: Sequence[str]) -> set[str]:
        """These topics and all that they need."""
        return {needed for each in known for needed in self.implied[each]}


def section_of(store: GraphStore, topic_id: str) -> Section:
    """A section as the simulation sees it."""
    topics = store.subtree(topic_id)
    ids = {topic.id for topic in topics}
    return Section(topics, {each: implied_by(store, [each]) & ids for each in ids})


def follows_paths(section: Section, draws: np.random.Generator) -> set[str]:
    """Has followed the paths to one to five topics."""
    goals = draws.choice(len(section.topics), draws.integers(1, 6))
    return section.with_needs([section.topics[int(goal)].id for goal in goals])


def reads_chapters(section: Section, draws: np.random.Generator) -> set[str]:
    """Has read six of ten chapters, about a quarter of these to the end and the others up to anywhere."""
    read = [chapter[: int(1.3 * draws.random() * len(chapter))] for chapter in section.chapters if draws.random() < 0.6]
    return section.with_needs([each for chapter in read for each in chapter])


def knows_by_level(section: Section, draws: np.random.Generator) -> set[str]:
    """Knows what is not above her ability in its chapter (item response theory); it need not be closed."""
    ability = draws.normal(0, 1.5)
    chapter_of = {each: number for number, chapter in enumerate(section.chapters) for each in chapter}
    in_chapter = draws.normal(0, 0.8, len(section.chapters) + 1)
    known: set[str] = set()
    for topic in section.topics:
        over = ability + in_chapter[chapter_of.get(topic.id, -1)] - HARDER[topic.level] - draws.normal(0, 0.5)
        if draws.random() < 1 / (1 + np.exp(-1.7 * over)):
            known.add(topic.id)
    return known


def has_forgotten(section: Section, draws: np.random.Generator) -> set[str]:
    """Knew everything, and lost up to three topics of ten and all that needs them."""
    share = 0.3 * draws.random()
    lost = {topic.id for topic in section.topics if draws.random() < share}
    return {topic.id for topic in section.topics if not section.implied[topic.id] & lost}


KINDS: dict[str, Callable[[Section, np.random.Generator], set[str]]] = {
    "followed paths": follows_paths,
    "read chapters": reads_chapters,
    "by level": knows_by_level,
    "forgot": has_forgotten,
}


@dataclass(frozen=True)
class Outcome:
    """One learner placed: questions, the share of topics judged wrongly, and inferred marks, wrong ones and missing."""

    questions: int
    error: float
    inferred: int
    inferred_wrong: int
    found: float


class Asked:
    """A learner who answers, slips and guesses: the same topic always alike."""

    def __init__(self, section: Section, knows: set[str], draws: np.random.Generator) -> None:
        self.knows = knows
        slip, guess = draws.uniform(0.02, 0.2, 2)
        lucky = draws.random(len(section.topics))
        self._says = {
            topic.id: luck >= slip if topic.id in knows else luck < guess
            for topic, luck in zip(section.topics, lucky, strict=True)
        }

    def answers(self, topics: Sequence[str]) -> dict[str, bool]:
        """What she says about these topics."""
        return {each: bool(self._says[each]) for each in topics}


def outcome(section: Section, her: Asked, answers: Mapping[str, bool], found: Placement) -> Outcome:
    """How a placement came out."""
    wrong = sum((chance > 0.5) != (topic_id in her.knows) for topic_id, chance in found.chances.items())
    inferred = set(found.known) - {each for each, yes in answers.items() if yes}
    return Outcome(
        len(answers),
        wrong / len(section.topics),
        len(inferred),
        len(inferred - her.knows),
        len(set(found.known) & her.knows) / len(her.knows) if her.knows else 1.0,
    )


def place_all(section: Section, placer: Placer, her: Asked, draws: np.random.Generator) -> dict[str, Outcome]:
    """One learner asked in each way."""
    answers: dict[str, bool] = {}
    while (ask := placer.place(answers).ask) is not None:
        answers |= her.answers([ask])
    count, ids = len(answers), [topic.id for topic in section.topics]
    spread = [ids[(2 * number + 1) * len(ids) // (2 * count)] for number in range(count)]
    shuffled = [ids[int(place)] for place in draws.permutation(len(ids))[:count]]
    asked = {"placement": list(answers), "evenly over the outline": spread, "random": shuffled,
             "first of the outline": ids[:count], "nothing": []}  # fmt: skip
    return {way: outcome(section, her, her.answers(those), placer.place(her.answers(those)))
            for way, those in asked.items()}  # fmt: skip


def row(label: Sequence[str], outcomes: Sequence[Outcome]) -> list[str]:
    """One line of a table."""
    questions = [each.questions for each in outcomes]
    errors = [each.error for each in outcomes]
    inferred = sum(each.inferred for each in outcomes)
    wrong = sum(each.inferred_wrong for each in outcomes) / inferred if inferred else 0.0
    return [
        *label, f"{statistics.median(questions):.0f}", f"{np.percentile(questions, 90):.0f}",
        f"{statistics.fmean(errors):.1%}", f"{statistics.median(errors):.1%}", f"{np.percentile(errors, 90):.1%}",
        f"{statistics.fmean(each.found for each in outcomes):.0%}", f"{inferred / len(outcomes):.0f}", f"{wrong:.1%}",
    ]  # fmt: skip


COLUMNS = (
    "questions: median",
    "90th",
    "error: mean",
    "median",
    "90th",
    "of the known found",
    "inferred",
    "of it wrong",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--learners", type=int, default=40, help="learners of each section, a quarter of each kind")
    parser.add_argument("--section", nargs="*")
    given = parser.parse_args()
    store = open_service(Settings.read()).store
    roots = given.section or [topic.id for topic in store.topics() if topic.depth == 0]
    found: list[tuple[str, str, str, Outcome]] = []
    slowest = (0.0, 0.0, "")
    for root in roots:
        section = section_of(store, root)
        began = time.process_time()
        placer = Placer(store, root)
        ready = time.process_time()
        placer.place({})
        slowest = max(slowest, (time.process_time() - ready, ready - began, f"{root}, {len(section.topics)} topics"))
        for number in range(given.learners):
            draws = np.random.default_rng([number, len(section.topics)])
            kind = list(KINDS)[number % len(KINDS)]
            her = Asked(section, KINDS[kind](section, draws), draws)
            found += [(root, kind, way, each) for way, each in place_all(section, placer, her, draws).items()]
    out = Console(width=150)
    ways = list(dict.fromkeys(way for _, _, way, _ in found))
    table = Table("asked about", *COLUMNS, title=f"{len(roots)} sections, {given.learners} learners each")
    for way in ways:
        table.add_row(*row([way], [each for *_, which, each in found if which == way]))
    out.print(table)
    table = Table("learners", "asked about", *COLUMNS)
    for kind in KINDS:
        for way in ways:
            table.add_row(*row([kind, way], [each for _, which, by, each in found if (which, by) == (kind, way)]))
    out.print(table)
    table = Table("section", *COLUMNS, title="placement, by section")
    for root in roots:
        table.add_row(*row([root], [each for which, _, way, each in found if (which, way) == (root, "placement")]))
    out.print(table)
    cost = f"{1e3 * slowest[0]:.0f} ms of one processor at most, the first {1e3 * slowest[1]:.0f} ms more"
    out.print(f"A question takes {cost}: {slowest[2]}.")


if __name__ == "__main__":
    main()
