"""The shapes of what is answered, as OpenAPI shows them; `service.wire` makes the values."""

from typing import Any, Literal

from pydantic import BaseModel, Field

ELBO = "variational-autoencoders/training-objectives/elbo"
Level = Literal["beginner", "intermediate", "advanced"]


class TopicLine(BaseModel):
    """A topic in a list."""

    topic: str = Field(description="Id", examples=[ELBO])
    title: str = Field(examples=["ELBO (Evidence Lower Bound)"])
    title_path: list[str] = Field(description="Titles from the section to the topic itself")


class TopicsPage(BaseModel):
    """Some of the topics, in outline order."""

    topics: list[TopicLine]
    next: str | None = Field(description="Cursor of the next page, for `after`; null on the last one")


class Edge(BaseModel):
    """`before` is to be learned before `after`."""

    before: str
    after: str
    why: str
    strength: Literal["needed", "helpful"]
    depth: Literal["gist", "full"]
    origin: Literal["authored", "inferred"]
    group: str | None = Field(description="Edges of one group are alternatives: one of them is enough")


class Reference(BaseModel):
    """A work that carries statements of the atlas."""

    key: str
    title: str
    authors: list[str]
    year: int | None
    venue: str
    arxiv: str
    doi: str
    url: str
    link: str


class DemoLink(BaseModel):
    """A topic's demo, with which parameters to run it, and what to look at."""

    demo: str
    look_at: str
    params: dict[str, Any]


class ComparisonLine(BaseModel):
    """A comparison in a list."""

    id: str
    question: str


class TopicPage(BaseModel):
    """A topic with everything that a page about it shows."""

    id: str
    title: str
    title_path: list[str]
    position: int
    depth: int
    parent: str | None
    section: str
    starred: bool
    origin: Literal["outline", "foundation"]
    summary: str
    detail: str
    formula: str
    aliases: list[str]
    questions: list[str]
    level: Level | None
    minutes: int | None
    outcomes: list[str]
    misconception: str
    refs: list[str]
    as_of: str
    demo: DemoLink | None
    children: list[TopicLine]
    prerequisites: list[Edge]
    unlocks: list[Edge]
    comparisons: list[ComparisonLine]
    twins: list[str]
    references: list[Reference]


class Link(BaseModel):
    """One edge of a picture; prerequisites run from before to after, hierarchy from parent to child."""

    source: str
    target: str
    kind: Literal["hierarchy", "prerequisite", "comparison", "concept"]


class Neighbourhood(BaseModel):
    """A topic with what surrounds it, nearest first, and the links between them."""

    centre: str
    topics: list[TopicLine]
    links: list[Link]
    omitted: int = Field(description="Topics within reach that the limit left out")


class Prerequisites(BaseModel):
    """What a topic needs."""

    topic: str
    prerequisites: list[Edge]


class Matched(BaseModel):
    """The passage that matched."""

    field: str
    text: str


class Hit(TopicLine):
    """A topic found, and why."""

    rank: int
    score: float = Field(description="Comparable within this ranking only")
    summary: str
    matched: Matched
    reasons: list[str]
    twins: list[str] = Field(description="Further places of the same concept")


class Correction(BaseModel):
    """A word of the query, and what it was read as."""

    typed: str
    read: str


class Ranking(BaseModel):
    """What a search found; no hits where the atlas does not cover the query."""

    query: str
    abstained: bool
    hits: list[Hit]
    nearest: list[Hit] = Field(description="What came closest when the search abstained")
    corrections: list[Correction]
    meaning_off: bool


class Suggestion(BaseModel):
    """A name that goes on as typed, and the topic that it names."""

    name: str
    topic: str


class Sentence(BaseModel):
    """A sentence of an answer and what it is cited to."""

    text: str
    topic: str
    refs: list[str]


class Citation(TopicLine):
    """A topic that the answer cites, and the works behind it."""

    references: list[Reference]


class AspectRow(BaseModel):
    """One row of a comparison: a value for each side."""

    name: str
    values: list[str]


class Aspect(AspectRow):
    """One row of an authored comparison."""

    measured: dict[str, Any] | None = Field(description="The demo run that produces the row's numbers")


class Comparison(BaseModel):
    """Topics beside each other, aspect by aspect."""

    id: str
    between: list[str]
    titles: list[str]
    question: str
    aspects: list[Aspect]
    same: str
    choose: str
    refs: list[str]
    references: list[Reference]


class Answer(BaseModel, extra="allow"):
    """An answer in the atlas's own sentences, each cited."""

    question: str
    intent: str
    answer: str
    sentences: list[Sentence]
    citations: list[Citation]
    abstained: bool


class PathGoals(BaseModel, extra="forbid"):
    """What to plan for."""

    goals: list[str] = Field(
        min_length=1, max_length=20, description="Topics: ids, ends of ids, or words", examples=[[ELBO]]
    )
    known: list[str] = Field(default=[], max_length=3000, description="Ids of topics that are known already")
    thorough: bool = Field(default=False, description="With helpful prerequisites and all subtopics of the goals")


class Path(BaseModel, extra="allow"):
    """The steps to the goals, in an order that never breaks a prerequisite."""

    goals: list[str]
    steps: list[dict[str, Any]]


class DemoLine(BaseModel):
    """A demo in a list."""

    id: str
    title: str
    question: str
    ready: bool
    topics: int


class DemoPage(BaseModel):
    """A demo with its claims, parameters and presets; these are null while it is to come."""

    id: str
    title: str
    question: str
    ready: bool
    source: str | None
    watch: str | None
    claims: list[dict[str, Any]] | None
    parameters: list[dict[str, Any]] | None
    presets: dict[str, Any] | None
    topics: list[dict[str, Any]]


class Health(BaseModel):
    """Whether the process lives, and what it serves."""

    status: Literal["ok"]
    build: str
    topics: int
