"""What the site shows, gathered from the atlas and the demo library before any page is written."""

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from graph import Atlas, Comparison, NetworkXStore, ParamValue, Prerequisite, Reference, Topic
from service import DemoInfo, Service

if TYPE_CHECKING:
    from demos import Description


@dataclass(frozen=True, slots=True)
class Need:
    """What a topic asks for: one topic, or one of several; `of` is the topic above that hands the need down."""

    topics: tuple[Topic, ...]
    edge: Prerequisite
    of: Topic | None


@dataclass(frozen=True, slots=True)
class Neighbour:
    """Another section, and how many prerequisites lead from one to the other."""

    section: Topic
    count: int


class Contents:
    """One atlas as a site shows it."""

    def __init__(
        self, atlas: Atlas, demos: Sequence[DemoInfo] = (), descriptions: "Mapping[str, Description] | None" = None
    ) -> None:
        self.atlas = atlas
        self.store = NetworkXStore(atlas)
        self.title = atlas.title or "GenAtlas"
        self.demos = {info.demo.id: info for info in demos}
        self.descriptions = descriptions or {}

    @classmethod
    def of(cls, service: Service) -> "Contents":
        """Gather it; parameters of demos whose code is new are asked of a process, which takes a while."""
        return cls(service.opened.atlas(), service.demos(), service.describe_demos())

    @cached_property
    def sections(self) -> Sequence[Topic]:
        """The topics at depth 0."""
        return [topic for topic in self.atlas.topics if topic.parent is None]

    @cached_property
    def sizes(self) -> Mapping[str, int]:
        """How many topics each section has, itself included."""
        return Counter(topic.section for topic in self.atlas.topics)

    @cached_property
    def _works(self) -> Mapping[str, Reference]:
        return {work.key: work for work in self.atlas.references}

    @cached_property
    def _between(self) -> Counter[tuple[str, str]]:
        """Prerequisites from one section to another."""
        pairs = ((self._section(edge.before), self._section(edge.after)) for edge in self.atlas.prerequisites)
        return Counter(pair for pair in pairs if pair[0] != pair[1])

    def _section(self, topic_id: str) -> str:
        return self.store.topic(topic_id).section

    def works(self, keys: Sequence[str]) -> list[Reference]:
        """The references of these keys."""
        return [self._works[key] for key in keys if key in self._works]

    def needs(self, topic: Topic) -> list[Need]:
        """What to learn before a topic, its own needs first, then those that its ancestors hand down.

        Alternatives are one need.
        """
        found: dict[str, list[Prerequisite]] = {}
        for edge in self.store.effective_prerequisites(topic.id):
            found.setdefault(edge.group or f"{edge.before} {edge.after}", []).append(edge)
        needs = [
            Need(
                tuple(self.store.topic(edge.before) for edge in edges),
                edges[0],
                None if edges[0].after == topic.id else self.store.topic(edges[0].after),
            )
            for edges in found.values()
        ]
        return sorted(needs, key=lambda need: need.of is not None)

    def unlocks(self, topic: Topic) -> list[tuple[Topic, Prerequisite]]:
        """The topics that ask for this one, each with its reason."""
        return [(self.store.topic(edge.after), edge) for edge in self.store.dependents(topic.id)]

    def beside(self, topic: Topic) -> tuple[Topic | None, Topic | None]:
        """The topics before and after it in the outline."""
        topics = self.atlas.topics
        before = topics[topic.position - 1] if topic.position > 0 else None
        return before, topics[topic.position + 1] if topic.position + 1 < len(topics) else None

    def builds_on(self, section: Topic) -> list[Neighbour]:
        """The sections that it takes most from, those first."""
        return self._neighbours({before: n for (before, after), n in self._between.items() if after == section.id})

    def leads_to(self, section: Topic) -> list[Neighbour]:
        """The sections that take from it, those that take most first."""
        return self._neighbours({after: n for (before, after), n in self._between.items() if before == section.id})

    def _neighbours(self, counts: Mapping[str, int]) -> list[Neighbour]:
        found = [Neighbour(self.store.topic(section), count) for section, count in counts.items()]
        return sorted(found, key=lambda each: (-each.count, each.section.position))

    def sides(self, comparison: Comparison) -> list[tuple[Topic, str]]:
        """Its topics with their titles, and with what they are a part of where two read alike."""
        sides = [self.store.topic(side) for side in comparison.between]
        alike = len({side.title for side in sides}) < len(sides)
        return [
            (side, f"{side.title} ({side.title_path[-2]})" if alike and side.parent else side.title) for side in sides
        ]

    def comparisons_by_section(self) -> list[tuple[Topic, list[Comparison]]]:
        """Every comparison, under the section of its first side."""
        found: dict[str, list[Comparison]] = {}
        for comparison in self.atlas.comparisons:
            found.setdefault(self._section(comparison.between[0]), []).append(comparison)
        return [(section, found[section.id]) for section in self.sections if section.id in found]

    def demos_by_section(self) -> list[tuple[Topic | None, list[DemoInfo]]]:
        """Every demo, under the section of the first topic that it shows; last those that show none."""
        found: dict[str, list[DemoInfo]] = {}
        for info in self.demos.values():
            found.setdefault(info.topics[0].section if info.topics else "", []).append(info)
        placed: list[tuple[Topic | None, list[DemoInfo]]] = [
            (section, found[section.id]) for section in self.sections if section.id in found
        ]
        return placed + [(None, infos) for section, infos in found.items() if not section]


def command(demo_id: str, params: Mapping[str, ParamValue]) -> str:
    """What runs a demo from a shell."""
    given = (shlex.quote(f"{name}={_told(value)}") for name, value in params.items())
    return " ".join(["genatlas demo run", demo_id, *(f"--param {each}" for each in given)])


def _told(value: ParamValue) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
