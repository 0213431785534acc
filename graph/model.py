"""The words of the domain: a topic, the edges between topics, and the atlas that holds them all.

Everything here is an immutable value. An `Atlas` is built and validated once, by `ingest`; stores, search, study paths
and exports read it and never change it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Level = Literal["beginner", "intermediate", "advanced"]
Strength = Literal["needed", "helpful"]
Depth = Literal["gist", "full"]
TopicOrigin = Literal["outline", "foundation"]
EdgeOrigin = Literal["authored", "inferred"]
EdgeKind = Literal["hierarchy", "prerequisite", "comparison", "concept"]
Scalar = bool | int | float | str
ParamValue = Scalar | Sequence[Scalar] | Mapping[str, Scalar]

EDGE_KINDS: tuple[EdgeKind, ...] = ("hierarchy", "prerequisite", "comparison", "concept")


@dataclass(frozen=True, slots=True)
class DemoLink:
    """What a topic's demo is, with which parameters to run it, and what to look at in its result."""

    demo: str
    look_at: str
    params: Mapping[str, ParamValue] = field(default_factory=dict[str, ParamValue])


@dataclass(frozen=True, slots=True)
class Topic:
    """One node of the outline with what was written about it.

    `position` counts from 0 over the whole atlas in outline order, foundations last. `title_path` runs from the section
    to the topic itself. A text field that nobody has written yet is empty; `level` and `minutes` are then None.
    """

    id: str
    title: str
    title_path: tuple[str, ...]
    position: int
    depth: int
    parent: str | None
    starred: bool = False
    origin: TopicOrigin = "outline"
    summary: str = ""
    detail: str = ""
    formula: str = ""
    aliases: tuple[str, ...] = ()
    questions: tuple[str, ...] = ()
    level: Level | None = None
    minutes: int | None = None
    outcomes: tuple[str, ...] = ()
    misconception: str = ""
    refs: tuple[str, ...] = ()
    as_of: str = ""
    demo: DemoLink | None = None

    @property
    def section(self) -> str:
        """Id of the section that the topic belongs to."""
        return self.id.split("/", 1)[0]


@dataclass(frozen=True, slots=True)
class Prerequisite:
    """`before` is to be learned before `after`, because of `why`.

    The alternatives of an authored `any_of` are one edge each and share a `group`; one of them is enough.
    """

    before: str
    after: str
    why: str
    strength: Strength = "needed"
    depth: Depth = "full"
    origin: EdgeOrigin = "authored"
    group: str | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """The demo run that produces an aspect's numbers."""

    demo: str
    metric: str
    params: Mapping[str, ParamValue] = field(default_factory=dict[str, ParamValue])


@dataclass(frozen=True, slots=True)
class Aspect:
    """One row of a comparison: the same question answered for each side, in the order of the sides."""

    name: str
    values: tuple[str, ...]
    measured: Measured | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two or more topics set beside each other."""

    id: str
    between: tuple[str, ...]
    question: str
    aspects: tuple[Aspect, ...]
    same: str
    choose: str
    refs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ConceptGroup:
    """Topics that are one concept in several places of the outline; the canonical place leads."""

    topics: tuple[str, ...]

    @property
    def canonical(self) -> str:
        """The place that stands for the whole group."""
        return self.topics[0]


@dataclass(frozen=True, slots=True)
class Reference:
    """A real work that carries statements of the atlas. At least one of `arxiv`, `doi` and `url` is set."""

    key: str
    title: str
    authors: tuple[str, ...]
    year: int | None = None
    venue: str = ""
    arxiv: str = ""
    doi: str = ""
    url: str = ""

    @property
    def link(self) -> str:
        """Where a reader finds the work."""
        if self.arxiv:
            return f"https://arxiv.org/abs/{self.arxiv}"
        return f"https://doi.org/{self.doi}" if self.doi else self.url


@dataclass(frozen=True, slots=True)
class Demo:
    """A planned or built demo as the corpus names it; whether it can be run is known to the demo library alone."""

    id: str
    title: str
    question: str


@dataclass(frozen=True, slots=True)
class NeighbouringField:
    """A field beside the atlas that it does not cover, and questions that belong there: nothing here answers them."""

    name: str
    questions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Atlas:
    """The validated whole, each part in the order of the corpus: topics in outline order, foundations last."""

    title: str
    topics: tuple[Topic, ...]
    prerequisites: tuple[Prerequisite, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    concepts: tuple[ConceptGroup, ...] = ()
    references: tuple[Reference, ...] = ()
    demos: tuple[Demo, ...] = ()
    boundary: tuple[NeighbouringField, ...] = ()
