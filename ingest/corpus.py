"""A corpus folder as one validated `Atlas`.

outline.txt (or another outline format)   the topics; alone it is a corpus
foundations.txt                           a second outline: what the atlas assumes
topics/<section>/<level-1 slug>.yaml      what was written about the topics
comparisons/*.yaml  concepts.yaml  demos.yaml  references.bib
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from graph import (
    Aspect,
    Atlas,
    Comparison,
    ConceptGroup,
    Demo,
    DemoLink,
    Measured,
    Prerequisite,
    Reference,
    Topic,
    nearest_ids,
)
from graph.model import TopicOrigin
from ingest.bibliography import read_references
from ingest.cycles import prerequisite_cycle
from ingest.outline import Outline, OutlineTopic, read_outline
from ingest.positions import Loc, Positions, read_yaml
from ingest.problems import CorpusError, Problem
from ingest.schema import ComparisonEntry, DemoEntry, Entry, Group, Need

_T = TypeVar("_T")

OUTLINES = ("outline.txt", "outline.md", "outline.opml")


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands: a file, relative to the corpus, and a line from 1."""

    file: str
    line: int


@dataclass(slots=True)
class Corpus:
    """A corpus that was read: the atlas, and where each topic's entry and each prerequisite stands in its files."""

    atlas: Atlas
    entries: dict[str, Place] = field(default_factory=dict[str, Place])
    edges: dict[tuple[str, str], Place] = field(default_factory=dict[tuple[str, str], Place])


def read_corpus(folder: Path) -> Atlas:
    """Read a corpus folder. Raises CorpusError with every problem of every file; an outline alone is enough."""
    return read_corpus_with_places(folder).atlas


def read_corpus_with_places(folder: Path) -> Corpus:
    """Read a corpus folder and keep the places, for lints and messages. Raises CorpusError like `read_corpus`."""
    return _Reader(folder).read()


def atlas_of_outline(outline: Outline) -> Atlas:
    """An atlas of titles and hierarchy alone."""
    return Atlas(outline.title, tuple(_topics(outline.topics, 0, "outline")))


def _topics(lines: Iterable[OutlineTopic], start: int, origin: TopicOrigin) -> Iterable[Topic]:
    for position, line in enumerate(lines, start):
        yield Topic(line.id, line.title, line.title_path, position, line.depth, line.parent, line.starred, origin)


class _Reader:
    """Reads one corpus; `problems` collects what is wrong, and only at the end is it raised."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.problems: list[Problem] = []
        self.topics: dict[str, Topic] = {}
        self.entries: dict[str, Place] = {}
        self.edges: dict[tuple[str, str], Place] = {}
        self.prerequisites: list[Prerequisite] = []

    def read(self) -> Corpus:
        title = self._read_outlines()
        demos = self._read_demos()
        references = self._read_references()
        named = {demo.id for demo in demos}, {reference.key for reference in references}
        self._read_topics(*named)
        comparisons = self._read_comparisons(*named)
        concepts = self._read_concepts()
        self._check_relations(concepts)
        if self.problems:
            raise CorpusError(self.problems)
        order = {topic_id: topic.position for topic_id, topic in self.topics.items()}
        self.prerequisites.sort(key=lambda edge: (order[edge.after], order[edge.before]))
        atlas = Atlas(
            title,
            tuple(self.topics.values()),
            tuple(self.prerequisites),
            tuple(comparisons),
            tuple(concepts),
            references,
            tuple(demos),
        )
        return Corpus(atlas, self.entries, self.edges)

    # Outlines first: every other file speaks of their ids.

    def _read_outlines(self) -> str:
        names = [name for name in OUTLINES if (self.folder / name).is_file()]
        if len(names) != 1:
            what = f"several outlines: {', '.join(names)}" if names else "no outline found"
            raise CorpusError(
                [Problem(str(self.folder), 1, what, f"Keep one of {', '.join(OUTLINES)} in this folder.")]
            )
        outlines: list[tuple[Outline, TopicOrigin]] = []
        wanted: list[tuple[str, TopicOrigin]] = [(names[0], "outline"), ("foundations.txt", "foundation")]
        for name, origin in wanted:
            if (self.folder / name).is_file():
                try:
                    outlines.append((read_outline(self.folder / name), origin))
                except CorpusError as error:
                    self.problems.extend(error.problems)
        for outline, origin in outlines:
            for topic in _topics(outline.topics, len(self.topics), origin):
                if topic.id in self.topics:
                    what = f'the section "{topic.title}" stands in both outlines'
                    self.problems.append(Problem("foundations.txt", 1, what, "Rename it in foundations.txt."))
                self.topics[topic.id] = topic
        if self.problems:  # without the ids, every other message would be noise
            raise CorpusError(self.problems)
        return outlines[0][0].title

    def _read_demos(self) -> list[Demo]:
        entries, positions = self._read_list(self.folder / "demos.yaml", TypeAdapter(list[DemoEntry]))
        self._refuse_repeats([entry.id for entry in entries], positions, "demo")
        return [Demo(entry.id, entry.title, entry.question) for entry in entries]

    def _read_references(self) -> tuple[Reference, ...]:
        path = self.folder / "references.bib"
        return read_references(path, path.name, self.problems) if path.is_file() else ()

    # What was written about the topics.

    def _read_topics(self, demos: Collection[str], references: Collection[str]) -> None:
        for path in sorted((self.folder / "topics").glob("**/*.yaml")):
            entries, positions = self._read_list(path, TypeAdapter(list[Entry]))
            last = -1
            for index, entry in enumerate(entries):
                topic = self._known_topic(entry.id, positions, (index, "id"))
                if topic is None:
                    continue
                place = Place(positions.file, positions.line((index, "id")))
                self._check_place(topic, place, last)
                last = topic.position
                self.entries[topic.id] = place
                self._check_names(entry.refs, references, "reference", positions, (index, "refs"))
                if entry.demo is not None:
                    self._check_names([entry.demo.run], demos, "demo", positions, (index, "demo", "run"), listed=False)
                self.topics[topic.id] = _written(topic, entry)
                for number, need in enumerate(entry.prerequisites):
                    self._read_need(topic.id, number, need, positions, (index, "prerequisites", number))

    def _check_place(self, topic: Topic, place: Place, last: int) -> None:
        section, *below = topic.id.split("/")
        wanted = f"topics/{section}/{below[0] if below else '_section'}.yaml"
        if topic.id in self.entries:
            first = self.entries[topic.id]
            what = f'"{topic.id}" stands already at {first.file}:{first.line}'
            self.problems.append(Problem(place.file, place.line, what, "Merge the two entries."))
        elif place.file != wanted:
            self.problems.append(
                Problem(place.file, place.line, f'"{topic.id}" stands in the wrong file', f"Move it to {wanted}.")
            )
        elif topic.position < last:
            what = f'"{topic.id}" stands after a topic that follows it in the outline'
            self.problems.append(Problem(place.file, place.line, what, "Keep the outline's order."))

    def _read_need(self, after: str, number: int, need: Need, positions: Positions, loc: Loc) -> None:
        names = need.alternatives
        key = "topic" if need.topic is not None else "any_of"
        group = f"{after}#{number + 1}" if len(names) > 1 else None
        for before in names:
            line = positions.line((*loc, key) if group is None else (*loc, key, names.index(before)))
            if self._known_topic(before, positions, line=line) is None:
                continue
            if before == after or before.startswith(f"{after}/") or after.startswith(f"{before}/"):
                kin = (
                    "itself"
                    if before == after
                    else "its own ancestor"
                    if after.startswith(before)
                    else "its own subtopic"
                )
                what = f'"{after}" cannot need {kin} "{before}"'
                self.problems.append(
                    Problem(positions.file, line, what, "Name the narrowest topic that carries the idea.")
                )
            elif (before, after) in self.edges:
                self.problems.append(
                    Problem(positions.file, line, f'"{before}" is named twice', "Keep the better reason.")
                )
            else:
                self.edges[before, after] = Place(positions.file, line)
                self.prerequisites.append(
                    Prerequisite(before, after, need.why, need.strength, need.depth, "authored", group)
                )

    def _read_comparisons(self, demos: Collection[str], references: Collection[str]) -> list[Comparison]:
        comparisons: dict[str, Comparison] = {}
        for path in sorted((self.folder / "comparisons").glob("*.yaml")):
            entries, positions = self._read_list(path, TypeAdapter(list[ComparisonEntry]))
            for index, entry in enumerate(entries):
                if entry.id in comparisons:
                    what = f'the comparison "{entry.id}" stands twice'
                    self.problems.append(Problem(positions.file, positions.line((index, "id")), what, "Rename one."))
                for side, name in enumerate(entry.between):
                    self._known_topic(name, positions, (index, "between", side))
                if len(set(entry.between)) < len(entry.between):
                    line = positions.line((index, "between"))
                    self.problems.append(Problem(positions.file, line, "a topic is compared with itself"))
                self._check_names(entry.refs, references, "reference", positions, (index, "refs"))
                for row, aspect in enumerate(entry.aspects):
                    if aspect.measured is not None:
                        loc = (index, "aspects", row, "measured", "demo")
                        self._check_names([aspect.measured.demo], demos, "demo", positions, loc, listed=False)
                comparisons[entry.id] = _comparison(entry)
        return list(comparisons.values())

    def _read_concepts(self) -> list[ConceptGroup]:
        groups, positions = self._read_list(self.folder / "concepts.yaml", TypeAdapter(list[Group]))
        seen: dict[str, int] = {}
        for index, group in enumerate(groups):
            for place, name in enumerate(group):
                self._known_topic(name, positions, (index, place))
                line = positions.line((index, place))
                if name in seen:
                    what = f'"{name}" belongs to a group already, at line {seen[name]}'
                    self.problems.append(Problem(positions.file, line, what, "Join the two groups."))
                seen[name] = line
        return [ConceptGroup(tuple(group)) for group in groups]

    # What only shows when everything is read.

    def _check_relations(self, concepts: Sequence[ConceptGroup]) -> None:
        group_of = {name: number for number, group in enumerate(concepts) for name in group.topics}
        for (before, after), place in self.edges.items():
            if before in group_of and group_of[before] == group_of.get(after):
                what = f'"{after}" cannot need "{before}": concepts.yaml says that they are one concept'
                self.problems.append(Problem(place.file, place.line, what, "Remove the prerequisite or the group."))
        cycle = prerequisite_cycle(self.prerequisites)
        if cycle:
            places = [self.edges[edge.before, edge.after] for edge in cycle]
            steps = [
                f"{edge.before} → {edge.after} ({place.file}:{place.line})"
                for edge, place in zip(cycle, places, strict=True)
            ]
            what = f"these prerequisites form a cycle: {', then '.join(steps)}"
            instead = "Remove one of them. A topic needs what its ancestors need."
            self.problems.append(Problem(places[0].file, places[0].line, what, instead))

    # Shared by all files.

    def _read_list(self, path: Path, adapter: TypeAdapter[list[_T]]) -> tuple[list[_T], Positions]:
        """The entries of a YAML file; none where it is missing, empty or wrong (then its problems are noted)."""
        name = str(path.relative_to(self.folder))
        if not path.is_file():
            return [], Positions(name)
        value, positions = read_yaml(path, name, self.problems)
        if value is None:
            return [], positions
        try:
            return adapter.validate_python(value), positions
        except ValidationError as error:
            self.problems.extend(schema_problems(error, positions))
            return [], positions

    def _known_topic(self, name: str, positions: Positions, loc: Loc = (), line: int = 0) -> Topic | None:
        topic = self.topics.get(name)
        if topic is None:
            what = f'unknown topic "{name}"'
            line = line or positions.line(loc)
            self.problems.append(Problem(positions.file, line, what, _did_you_mean(name, self.topics)))
        return topic

    def _check_names(
        self,
        names: Sequence[str],
        known: Collection[str],
        kind: str,
        positions: Positions,
        loc: Loc,
        listed: bool = True,
    ) -> None:
        for index, name in enumerate(names):
            if name not in known:
                line = positions.line((*loc, index) if listed else loc)
                what = f'unknown {kind} "{name}"'
                self.problems.append(Problem(positions.file, line, what, _did_you_mean(name, known)))

    def _refuse_repeats(self, names: Sequence[str], positions: Positions, kind: str) -> None:
        for index, name in enumerate(names):
            if name in names[:index]:
                line = positions.line((index, "id"))
                self.problems.append(Problem(positions.file, line, f'the {kind} "{name}" stands twice', "Keep one."))


def schema_problems(error: ValidationError, positions: Positions) -> Iterable[Problem]:
    """What the schema refused, in words and with the line that it stands on."""
    for each in error.errors(include_url=False):
        loc = tuple(part for part in each["loc"])
        line = positions.line(loc)
        name = str(loc[-1]) if loc else ""
        if each["type"] == "extra_forbidden":
            yield Problem(positions.file, line, f'unknown key "{name}"', _did_you_mean(name, _KEYS))
        elif each["type"] == "missing":
            yield Problem(
                positions.file, line, f'"{name}" is missing', "Every entry has it; see README.md of the corpus."
            )
        else:
            where = next((str(part) for part in reversed(loc) if isinstance(part, str)), "")
            message = each["msg"].removeprefix("Value error, ")
            yield Problem(positions.file, line, f"{where}: {message}" if where else message)


_KEYS = sorted({alias for model in (Entry, ComparisonEntry, DemoEntry, Need) for alias in model.model_fields})


def _did_you_mean(name: str, known: Collection[str]) -> str:
    near = nearest_ids(name, known, 1)
    return f'did you mean "{near[0]}"?' if near else ""


def _written(topic: Topic, entry: Entry) -> Topic:
    demo = entry.demo
    return replace(
        topic,
        summary=entry.summary or "",
        detail=entry.detail or "",
        formula=entry.formula or "",
        aliases=tuple(entry.aliases),
        questions=tuple(entry.questions),
        level=entry.level,
        minutes=entry.minutes,
        outcomes=tuple(entry.outcomes),
        misconception=entry.misconception or "",
        refs=tuple(entry.refs),
        as_of=entry.as_of or "",
        demo=None if demo is None else DemoLink(demo.run, demo.look_at, demo.params),
    )


def _comparison(entry: ComparisonEntry) -> Comparison:
    aspects = [
        Aspect(
            aspect.name,
            tuple(aspect.values),
            None
            if aspect.measured is None
            else Measured(aspect.measured.demo, aspect.measured.metric, aspect.measured.params),
        )
        for aspect in entry.aspects
    ]
    return Comparison(
        entry.id, tuple(entry.between), entry.question, tuple(aspects), entry.same, entry.choose, tuple(entry.refs)
    )
