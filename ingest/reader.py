"""The files of a corpus, read one after the other and held against each other.

outline.txt (or another outline format)   the topics; alone it is a corpus
foundations.txt                           a second outline: what the atlas assumes
topics/<section>/<level-1 slug>.yaml      what was written about the topics
comparisons/*.yaml  concepts.yaml  demos.yaml  boundary.yaml  references.bib
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
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
    NeighbouringField,
    Prerequisite,
    Reference,
    Topic,
)
from graph.model import TopicOrigin
from ingest.bibliography import read_references
from ingest.corpus import Corpus, Place, topics_of
from ingest.cycles import prerequisite_cycles
from ingest.latex import formula_fault, markdown_faults
from ingest.outline import Outline, read_outline
from ingest.positions import Loc, Positions, Value, read_yaml
from ingest.problems import CorpusError, Problem
from ingest.schema import (
    COMPARISON,
    DEMO,
    ENTRY,
    FIELD,
    GROUP,
    ComparisonEntry,
    Entry,
    MeasuredBy,
    Need,
    did_you_mean,
    schema_problems,
)

_T = TypeVar("_T")

OUTLINES = ("outline.txt", "outline.md", "outline.opml")


class CorpusReader:
    """Reads one corpus; `problems` collects what is wrong, and only at the end is it raised."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.problems: list[Problem] = []
        self.topics: dict[str, Topic] = {}
        self.titles: dict[str, Place] = {}
        self.entries: dict[str, Place] = {}
        self.edges: dict[tuple[str, str], Place] = {}
        self.comparisons: dict[str, Place] = {}
        self.prerequisites: list[Prerequisite] = []
        self.demo_ids: set[str] = set()
        self.references: dict[str, Place] = {}
        self.ids_are_known = True

    def read(self) -> Corpus:
        """Read all files. Raises CorpusError with every problem that they have."""
        title = self._read_outlines()
        demos = self._read_demos()
        references = self._read_references()
        self._read_topics()
        comparisons = self._read_comparisons()
        concepts = self._read_concepts()
        boundary = self._read_boundary()
        self._check_twins(concepts)
        order = {topic_id: topic.position for topic_id, topic in self.topics.items()}
        self.prerequisites.sort(key=lambda edge: (order[edge.after], order[edge.before]))
        self._check_cycles()
        if self.problems:
            raise CorpusError(self.problems)
        atlas = Atlas(
            title=title,
            topics=tuple(self.topics.values()),
            prerequisites=tuple(self.prerequisites),
            comparisons=tuple(comparisons),
            concepts=tuple(concepts),
            references=references,
            demos=tuple(demos),
            boundary=boundary,
        )
        return Corpus(atlas, self.titles, self.entries, self.edges, self.comparisons, self.references)

    def _problem(self, place: Place, what: str, instead: str = "") -> None:
        self.problems.append(Problem(place.file, place.line, what, instead))

    # Outlines first: every other file speaks of their ids.

    def _read_outlines(self) -> str:
        names = [name for name in OUTLINES if (self.folder / name).is_file()]
        if len(names) != 1:
            what = f"several outlines: {', '.join(names)}" if names else "no outline found"
            raise CorpusError(
                [Problem(str(self.folder), 1, what, f"Keep one of {', '.join(OUTLINES)} in this folder.")]
            )
        title = self._read_outline(names[0], "outline")
        if (self.folder / "foundations.txt").is_file():
            self._read_outline("foundations.txt", "foundation")
        return title

    def _read_outline(self, name: str, origin: TopicOrigin) -> str:
        """Take up the topics of an outline; its title comes back."""
        try:
            outline: Outline = read_outline(self.folder / name, name)
        except CorpusError as error:
            self.problems.extend(error.problems)
            self.ids_are_known = False  # from here on an unknown id may be that file's fault, and is not reported
            return ""
        topics = topics_of(outline.topics, len(self.topics), origin)
        for line, topic in zip(outline.topics, topics, strict=True):
            place = Place(name, line.line)
            if topic.id not in self.topics:
                self.topics[topic.id] = topic
                self.titles[topic.id] = place
            elif topic.depth == 0:
                first = self.titles[topic.id]
                what = f'the section "{topic.title}" stands already at {first.file}:{first.line}'
                self._problem(place, what, "Rename one of the two.")
        return outline.title

    def _read_demos(self) -> list[Demo]:
        entries, positions, raw = self._read_list(self.folder / "demos.yaml", DEMO)
        self.demo_ids = {str(each["id"]) for each in raw if isinstance(each, dict) and "id" in each}
        seen: set[str] = set()
        for index, entry in entries:
            if entry.id in seen:
                place = Place(positions.file, positions.line((index, "id")))
                self._problem(place, f'the demo "{entry.id}" stands twice', "Keep one of the two.")
            seen.add(entry.id)
        return [Demo(entry.id, entry.title, entry.question) for _, entry in entries]

    def _read_references(self) -> tuple[Reference, ...]:
        path = self.folder / "references.bib"
        if not path.exists():
            return ()
        lines = read_references(path, path.name, self.problems)
        self.references = {work.key: Place(path.name, line) for work, line in lines.items()}
        return tuple(lines)

    # What was written about the topics.

    def _read_topics(self) -> None:
        for path in self._files("topics"):
            entries, positions, _ = self._read_list(path, ENTRY)
            last: Topic | None = None
            for index, entry in entries:
                place = Place(positions.file, positions.line((index, "id")))
                topic = self._known_topic(entry.id, place)
                self._check_entry(entry, positions, index)
                if topic is not None:
                    self._check_place(topic, place, last)
                    last = topic
                    self.entries[topic.id] = place
                    self.topics[topic.id] = _written(topic, entry)
                for number, need in enumerate(entry.prerequisites):
                    self._read_need(entry.id, number, need, positions, (index, "prerequisites", number))

    def _check_entry(self, entry: Entry, positions: Positions, index: int) -> None:
        """What an entry names must exist, and its formulas must close."""
        self._check_references(entry.refs, positions, (index, "refs"))
        if entry.demo is not None:
            self._check_demo(entry.demo.run, Place(positions.file, positions.line((index, "demo", "run"))))
        fault = formula_fault(entry.formula or "")
        if fault:
            self._problem(Place(positions.file, positions.line((index, "formula"))), f"formula: {fault}")
        for fault in markdown_faults(entry.detail or ""):
            self._problem(Place(positions.file, positions.line((index, "detail"))), f"detail: {fault}")

    def _check_place(self, topic: Topic, place: Place, last: Topic | None) -> None:
        section, *below = topic.id.split("/")
        wanted = f"topics/{section}/{below[0] if below else '_section'}.yaml"
        if topic.id in self.entries:
            first = self.entries[topic.id]
            self._problem(place, f'"{topic.id}" stands already at {first.file}:{first.line}', "Merge the two entries.")
        elif place.file != wanted:
            self._problem(place, f'"{topic.id}" stands in the wrong file', f"Move it to {wanted}.")
        elif last is not None and topic.position < last.position:
            what = f'"{topic.id}" stands after "{last.id}", which follows it in the outline'
            self._problem(place, what, "Keep the outline's order.")

    def _read_need(self, after: str, number: int, need: Need, positions: Positions, loc: Loc) -> None:
        names = need.alternatives
        group = f"{after}#{number + 1}" if len(names) > 1 else None
        for index, before in enumerate(names):
            line = positions.line((*loc, "topic") if group is None else (*loc, "any_of", index))
            place = Place(positions.file, line)
            if self._known_topic(before, place) is None or after not in self.topics:
                continue
            kin = _kinship(before, after)
            if kin:
                what = f'"{after}" cannot need {kin} "{before}"'
                self._problem(place, what, "Name the narrowest topic that carries the idea.")
            elif (before, after) in self.edges:
                first = self.edges[before, after]
                what = f'"{before}" is needed already at {first.file}:{first.line}'
                self._problem(place, what, "Keep the better reason.")
            else:
                self.edges[before, after] = place
                edge = Prerequisite(before, after, need.why, need.strength, need.depth, "authored", group)
                self.prerequisites.append(edge)

    def _read_comparisons(self) -> list[Comparison]:
        comparisons: list[Comparison] = []
        for path in self._files("comparisons"):
            entries, positions, _ = self._read_list(path, COMPARISON)
            for index, entry in entries:
                place = Place(positions.file, positions.line((index, "id")))
                if entry.id in self.comparisons:
                    first = self.comparisons[entry.id]
                    what = f'the comparison "{entry.id}" stands already at {first.file}:{first.line}'
                    self._problem(place, what, "Rename one of the two.")
                self.comparisons.setdefault(entry.id, place)
                self._check_comparison(entry, positions, index)
                comparisons.append(_comparison(entry))
        return comparisons

    def _check_comparison(self, entry: ComparisonEntry, positions: Positions, index: int) -> None:
        def place(*loc: int | str) -> Place:
            return Place(positions.file, positions.line((index, *loc)))

        for side, name in enumerate(entry.between):
            self._known_topic(name, place("between", side))
            if name in entry.between[:side]:
                self._problem(place("between", side), f'"{name}" is compared with itself', "Name two topics.")
        self._check_references(entry.refs, positions, (index, "refs"))
        for row, aspect in enumerate(entry.aspects):
            if len(aspect.values) != len(entry.between):
                what = f'"{aspect.name}" has {len(aspect.values)} values for {len(entry.between)} sides'
                self._problem(place("aspects", row, "values"), what, "Write one value a side, in their order.")
            if aspect.measured is not None:
                self._check_demo(aspect.measured.demo, place("aspects", row, "measured", "demo"))

    def _read_concepts(self) -> list[ConceptGroup]:
        groups, positions, _ = self._read_list(self.folder / "concepts.yaml", GROUP)
        seen: dict[str, int] = {}
        for index, group in groups:
            found: list[Topic] = []
            for number, name in enumerate(group):
                place = Place(positions.file, positions.line((index, number)))
                topic = self._known_topic(name, place)
                if name in seen:
                    what = f'"{name}" belongs to a group already, at line {seen[name]}'
                    self._problem(place, what, "Join the two groups.")
                seen.setdefault(name, place.line)
                found += [topic] if topic is not None else []
            if found and found[0].origin == "foundation" and any(topic.origin == "outline" for topic in found):
                place = Place(positions.file, positions.line((index, 0)))
                what = f'the foundation "{found[0].id}" leads a group with topics of the outline'
                self._problem(place, what, "Put the outline's topic first: its place leads.")
        return [ConceptGroup(tuple(group)) for _, group in groups]

    def _read_boundary(self) -> tuple[NeighbouringField, ...]:
        entries, positions, _ = self._read_list(self.folder / "boundary.yaml", FIELD)
        seen: set[str] = set()
        for index, entry in entries:
            if entry.field in seen:
                place = Place(positions.file, positions.line((index, "field")))
                self._problem(place, f'the field "{entry.field}" stands twice', "Join the two.")
            seen.add(entry.field)
        return tuple(NeighbouringField(entry.field, tuple(entry.questions)) for _, entry in entries)

    # What only shows when everything is read.

    def _check_twins(self, concepts: Sequence[ConceptGroup]) -> None:
        group_of = {name: number for number, group in enumerate(concepts) for name in group.topics}
        for (before, after), place in self.edges.items():
            if before in group_of and group_of[before] == group_of.get(after):
                what = f'"{after}" cannot need "{before}": concepts.yaml says that they are one concept'
                self._problem(place, what, "Remove the prerequisite or the group.")

    def _check_cycles(self) -> None:
        for cycle in prerequisite_cycles(self.prerequisites):
            way = [cycle[0][0]]
            for topic, edge in reversed(cycle):  # a step goes from a topic to what it needs; the path goes forward
                place = self.edges[edge.before, edge.after]
                holder = "" if edge.after == topic else f", through {edge.after}"
                way.append(f"{topic} ({place.file}:{place.line}{holder})")
            what = f"these prerequisites form a cycle: {' → '.join(way)}"
            instead = "Remove one of them. The place of each arrow stands behind its end."
            self._problem(self.edges[cycle[-1][1].before, cycle[-1][1].after], what, instead)

    # Shared by all files.

    def _files(self, name: str) -> Iterable[Path]:
        """The YAML files below a folder. Any other file there would be left out unsaid, so it is a problem."""
        for path in sorted((self.folder / name).rglob("*")):
            if path.suffix == ".yaml":
                yield path
            elif not path.is_dir() and not path.name.startswith(".") and path.suffix != ".md":
                place = Place(path.relative_to(self.folder).as_posix(), 1)
                self._problem(place, "this file is not read", "Give it the ending .yaml, or move it elsewhere.")

    def _read_list(
        self, path: Path, adapter: TypeAdapter[_T]
    ) -> tuple[list[tuple[int, _T]], Positions, Sequence[Value]]:
        """The entries of a YAML file with their indexes, their positions, and all entries as they were written.

        A wrong entry is a problem; what is right about it is kept where it can be, so that it is checked as well.
        """
        name = path.relative_to(self.folder).as_posix()
        if not (path.exists() or path.is_symlink()):
            return [], Positions(name), ()
        value, positions = read_yaml(path, name, self.problems)
        if value is None:
            return [], positions, ()
        if not isinstance(value, list):
            self._problem(Place(name, 1), "this is no list of entries", 'Begin each entry with "- ".')
            return [], positions, ()
        entries: list[tuple[int, _T]] = []
        for index, item in enumerate(value):
            try:
                entries.append((index, adapter.validate_python(item)))
            except ValidationError as error:
                self.problems.extend(schema_problems(error, positions, index))
                wrong = {each["loc"][0] for each in error.errors() if each["loc"]}
                entries += _sound_part(index, item, wrong, adapter)
        return entries, positions, value

    def _known_topic(self, name: str, place: Place) -> Topic | None:
        topic = self.topics.get(name)
        if topic is None and self.ids_are_known:
            self._problem(place, f'unknown topic "{name}"', did_you_mean(name, self.topics))
        return topic

    def _check_demo(self, name: str, place: Place) -> None:
        if name not in self.demo_ids:
            self._problem(place, f'unknown demo "{name}"', did_you_mean(name, self.demo_ids))

    def _check_references(self, keys: Sequence[str], positions: Positions, loc: Loc) -> None:
        for index, key in enumerate(keys):
            place = Place(positions.file, positions.line((*loc, index)))
            if key not in self.references:
                self._problem(place, f'unknown reference "{key}"', did_you_mean(key, self.references))
            elif key in keys[:index]:
                self._problem(place, f'the reference "{key}" stands twice', "Name it once.")


def _sound_part(
    index: int, item: Value, wrong: Collection[int | str], adapter: TypeAdapter[_T]
) -> list[tuple[int, _T]]:
    """The entry without its wrong keys, if something valid is left."""
    if not isinstance(item, dict):
        return []
    try:
        return [(index, adapter.validate_python({key: value for key, value in item.items() if key not in wrong}))]
    except ValidationError:  # a key that must be there is among the wrong ones, which have been reported
        return []


def _kinship(before: str, after: str) -> str:
    """What `before` is to `after` where the one cannot need the other, "" otherwise."""
    if before == after:
        return "itself"
    if after.startswith(f"{before}/"):
        return "its own ancestor"
    return "its own subtopic" if before.startswith(f"{after}/") else ""


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
    aspects = [Aspect(aspect.name, tuple(aspect.values), _measured(aspect.measured)) for aspect in entry.aspects]
    return Comparison(
        entry.id, tuple(entry.between), entry.question, tuple(aspects), entry.same, entry.choose, tuple(entry.refs)
    )


def _measured(by: MeasuredBy | None) -> Measured | None:
    return None if by is None else Measured(by.demo, by.metric, by.params)
