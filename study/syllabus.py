"""A teacher's syllabus held against the atlas: what it covers, misses and teaches too early, and a repaired order."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from graph import GraphStore, Topic
from study.explain import Because, explain_step
from study.path import Step, StudyPath, plan_path

_BULLET = re.compile(r"^(?:[-*•–—+>\s]+|\[[ xX]?\]\s*|(?:\d+(?:\.\d+)*|[a-zA-Z])[.)]\s+)+")
_UNIT = re.compile(
    r"^(?:week|lecture|session|class|module|unit|part|chapter|day|lesson)s?\s*(?:\d+(?:\s*[-–/]\s*\d+)?\s*[.:)–—-]*|:)\s*",
    re.IGNORECASE,
)
_LENGTH = re.compile(r"[\s,–—-]*\(?\b\d+(?:\.\d+)?\s*(?:min(?:ute)?s?|h(?:ours?|rs?)?)\b\)?\s*$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class SyllabusLine:
    """One line, by its number in the text, and the topic that it was taken for; None where the atlas has none.

    `others` are what it may mean as well: then the topic is the best guess.
    """

    number: int
    text: str
    topic: Topic | None
    others: tuple[Topic, ...] = ()

    @property
    def sure(self) -> bool:
        """Whether nothing else comes near."""
        return not self.others

    @property
    def titles(self) -> tuple[str, ...]:
        """What the line may mean, the best guess first; empty where the atlas has nothing."""
        return tuple(topic.title for topic in (self.topic, *self.others) if topic is not None)


@dataclass(frozen=True, slots=True)
class Missing:
    """A topic that the syllabus needs and does not have: the chain of reasons leads to a topic of `line`."""

    step: Step
    line: SyllabusLine
    chain: tuple[Because, ...]

    @property
    def is_direct(self) -> bool:
        """Whether the line itself needs it; otherwise another missing topic does."""
        return len(self.chain) == 1


@dataclass(frozen=True, slots=True)
class TooEarly:
    """A line that stands before one that it needs; `topic` is what it needs there, because of `why`."""

    line: SyllabusLine
    needs: SyllabusLine
    topic: Topic
    why: str


@dataclass(frozen=True, slots=True)
class Repeat:
    """A line whose topic, or a twin of it, an earlier line has already."""

    line: SyllabusLine
    first: SyllabusLine


@dataclass(frozen=True, slots=True)
class Slot:
    """A place in the repaired order: a topic, and its line; None where it was missing."""

    topic: Topic
    line: SyllabusLine | None


@dataclass(frozen=True, slots=True)
class SyllabusReport:
    """What a syllabus covers and lacks. `floor` is what its learners must bring: foundations that no line teaches."""

    lines: tuple[SyllabusLine, ...]
    missing: tuple[Missing, ...]
    floor: tuple[Missing, ...]
    too_early: tuple[TooEarly, ...]
    repeats: tuple[Repeat, ...]
    repaired: tuple[Slot, ...]

    @property
    def covered(self) -> tuple[SyllabusLine, ...]:
        """The lines that teach a topic of the atlas."""
        return tuple(line for line in self.lines if line.topic is not None)

    @property
    def unsure(self) -> tuple[SyllabusLine, ...]:
        """The lines of which the topic is only a guess."""
        return tuple(line for line in self.lines if line.topic is not None and not line.sure)

    @property
    def unknown(self) -> tuple[SyllabusLine, ...]:
        """The lines about something that the atlas does not have."""
        return tuple(line for line in self.lines if line.topic is None)


def syllabus_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield line numbers, from 1, and what each says without bullet, number, "Week 3:" and length.

    Blank lines, headings (#) and lines that only count weeks are passed over.
    """
    for number, line in enumerate(text.splitlines(), start=1):
        words = _LENGTH.sub("", _UNIT.sub("", _BULLET.sub("", line.strip()))).strip()
        if any(letter.isalpha() for letter in words) and not line.lstrip().startswith("#"):
            yield number, words


def check_syllabus(store: GraphStore, lines: Sequence[SyllabusLine], known: Collection[str] = ()) -> SyllabusReport:
    """Return what the lines cover, what they need and lack, and an order that repairs them.

    A line covers its topic, its twins and everything below it. An unsure line is taken for the first of its meanings
    that the sure lines need. What `known` topics imply is never missing. The repaired order keeps the teacher's, pulls
    forward what is taught too late and puts what is missing before its first use.
    """
    lines = _settled(store, lines, known)
    first: dict[str, SyllabusLine] = {}
    repeats: list[Repeat] = []
    for line in lines:
        if line.topic is None:
            continue
        places = [line.topic.id, *(twin.id for twin in store.twins(line.topic.id))]
        if line.topic.id in first:
            repeats.append(Repeat(line, first[line.topic.id]))
        for place in places:
            first.setdefault(place, line)
    goals = list(dict.fromkeys(line.topic.id for line in first.values() if line.topic))
    return _Check(store, plan_path(store, goals, known), first).report(lines, repeats)


def _settled(store: GraphStore, lines: Sequence[SyllabusLine], known: Collection[str]) -> list[SyllabusLine]:
    """The lines, those that may mean several topics taken for one that the others need, where there is such."""
    sure = [line.topic.id for line in lines if line.topic and line.sure]
    needed = {step.topic.id for step in plan_path(store, sure, known).steps}
    needed |= {twin.id for each in needed for twin in store.twins(each)}
    settled: list[SyllabusLine] = []
    for line in lines:
        meanings = [topic for topic in (line.topic, *line.others) if topic is not None]
        topic = next((topic for topic in meanings if topic.id in needed), line.topic)
        others = tuple(other for other in meanings if other is not topic)
        settled.append(replace(line, topic=topic, others=others))
    return settled


class _Check:
    """One syllabus on its path: which line covers which step, and which steps each one needs."""

    def __init__(self, store: GraphStore, path: StudyPath, line_of: Mapping[str, SyllabusLine]) -> None:
        self._store = store
        self._path = path
        self._line_of = line_of
        self._steps = {step.topic.id: step for step in path.steps}
        self._needs: dict[str, list[tuple[Step, str]]] = {topic_id: [] for topic_id in self._steps}
        for step in path.steps:
            for reason in step.reasons:
                self._needs[reason.needed_by].append((step, reason.why))
        self._cover = {step.topic.id: self._covering(step) for step in path.steps}
        self._lines_before: dict[str, set[int]] = {}
        for step in path.steps:
            self._lines_before[step.topic.id] = {
                number
                for before, _ in self._needs[step.topic.id]
                for number in (*self._lines_before[before.topic.id], *self._number_of(before))
            }

    def _covering(self, step: Step) -> SyllabusLine | None:
        """The line that teaches a step: at its own place or, narrowest first, as a part of something."""
        if step.topic.id in self._line_of:
            return self._line_of[step.topic.id]
        for above in reversed(self._store.ancestors(step.topic.id)):
            if above.id in self._line_of:
                return self._line_of[above.id]
        return None

    def _number_of(self, step: Step) -> tuple[int, ...]:
        line = self._cover[step.topic.id]
        return () if line is None else (line.number,)

    def report(self, lines: Sequence[SyllabusLine], repeats: Sequence[Repeat]) -> SyllabusReport:
        """The whole report."""
        lacking: list[Missing] = []
        for step in self._path.steps:
            if self._cover[step.topic.id] is None:
                chain = explain_step(self._store, self._path, step.topic.id)
                needed_by = self._cover[chain[-1].reason.needed_by]
                if needed_by is not None:
                    lacking.append(Missing(step, needed_by, chain))
        return SyllabusReport(
            tuple(lines),
            tuple(each for each in lacking if each.step.topic.origin == "outline"),
            tuple(each for each in lacking if each.step.topic.origin == "foundation"),
            tuple(self._too_early()),
            tuple(repeats),
            tuple(self._repaired()),
        )

    def _too_early(self) -> Iterator[TooEarly]:
        """Each line with the later lines that it needs, unless one in between needs them already."""
        place = {line.number: count for count, line in enumerate(self._taught())}
        for line in self._taught():
            step = self._step_of(line)
            if step is None:
                continue
            told: set[int] = set()
            for before, why in self._nearest_taught(step):
                needs = self._cover[before.topic.id]
                if needs is None or needs.number in told or place[needs.number] <= place[line.number]:
                    continue
                holder = self._step_of(needs)
                if holder is not None and line.number in self._lines_before[holder.topic.id]:
                    continue  # a broad line of which one part stands before this topic and another after it
                told.add(needs.number)
                yield TooEarly(line, needs, before.topic, why)

    def _taught(self) -> list[SyllabusLine]:
        return list({line.number: line for line in self._line_of.values()}.values())

    def _step_of(self, line: SyllabusLine) -> Step | None:
        """The step at which a line's own topic is learned; None for a known one."""
        if line.topic is None:
            return None
        places = [line.topic.id, *(twin.id for twin in self._store.twins(line.topic.id))]
        return next((self._steps[place] for place in places if place in self._steps), None)

    def _nearest_taught(self, step: Step) -> Iterator[tuple[Step, str]]:
        """The covered steps that a step needs, looked for through the missing ones, with the reason next to each."""
        seen: set[str] = set()
        open_needs = list(self._needs[step.topic.id])
        while open_needs:
            before, why = open_needs.pop(0)
            if before.topic.id in seen:
                continue
            seen.add(before.topic.id)
            if self._cover[before.topic.id] is None:
                open_needs += self._needs[before.topic.id]
            else:
                yield before, why

    def _repaired(self) -> Iterator[Slot]:
        placed: dict[str, Slot] = {}
        underway: set[str] = set()

        def place(step: Step) -> None:
            line = self._cover[step.topic.id]
            if line is not None:  # a part of a line stands where the whole line stands
                step = self._step_of(line) or step
            if step.topic.id in placed or step.topic.id in underway:
                return
            underway.add(step.topic.id)
            for before, _ in self._needs[step.topic.id]:
                place(before)
            underway.discard(step.topic.id)
            if line is not None or step.topic.origin == "outline":
                placed[step.topic.id] = Slot(step.topic, line)

        for line in self._taught():
            step = self._step_of(line)
            if step is not None:
                place(step)
            elif line.topic is not None:  # known already, and taught all the same
                placed[line.topic.id] = Slot(line.topic, line)
        return iter(placed.values())


def syllabus_json(report: SyllabusReport) -> dict[str, Any]:
    """Return the report as JSON-able data; lines are named by their numbers in the text."""
    return {
        "lines": [
            {
                "line": line.number,
                "text": line.text,
                "topic": line.topic.id if line.topic else None,
                "sure": line.sure,
                "others": [other.id for other in line.others],
            }
            for line in report.lines
        ],
        "missing": [_missing_json(each) for each in report.missing],
        "floor": [_missing_json(each) for each in report.floor],
        "too_early": [
            {"line": each.line.number, "needs_line": each.needs.number, "needs": each.topic.id, "why": each.why}
            for each in report.too_early
        ],
        "repeats": [{"line": each.line.number, "first": each.first.number} for each in report.repeats],
        "repaired": [
            {"topic": slot.topic.id, "title": slot.topic.title, "line": slot.line.number if slot.line else None}
            for slot in report.repaired
        ],
    }


def _missing_json(each: Missing) -> dict[str, Any]:
    return {
        "topic": each.step.topic.id,
        "title": each.step.topic.title,
        "for_line": each.line.number,
        "chain": [
            {"topic": link.step.topic.id, "needed_by": link.reason.needed_by, "why": link.reason.why}
            for link in each.chain
        ],
    }
