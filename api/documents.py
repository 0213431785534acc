"""The shapes of what is answered, as OpenAPI shows them; `service.wire` makes the values."""

from datetime import date
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, model_validator

ELBO = "variational-autoencoders/training-objectives/elbo"
LAST_DAY = date(2199, 12, 31)
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
    """What to plan for, and the time that there is."""

    goals: list[str] = Field(
        min_length=1, max_length=20, description="Topics: ids, ends of ids, or words", examples=[[ELBO]]
    )
    known: list[str] = Field(default=[], max_length=3000, description="Ids of topics that are known already")
    mine: bool = Field(default=False, description="Take out, too, what the learner knows whom the key is for")
    thorough: bool = Field(default=False, description="With helpful prerequisites and all subtopics of the goals")
    minutes: int | None = Field(default=None, ge=5, le=960, description="Minutes a day, to lay the path out over days")
    weekdays: list[Annotated[int, Field(ge=0, le=6)]] = Field(
        default=list(range(7)), min_length=1, max_length=7, description="Days of study; 0 is Monday"
    )
    start: date = Field(default_factory=date.today, le=LAST_DAY, description="First day; today if left out")
    until: date | None = Field(default=None, le=LAST_DAY, description="Last day; what does not fit is left out")
    days: int | None = Field(default=None, ge=1, le=3660, description="Days of study, instead of until")
    total: int | None = Field(default=None, ge=1, le=1_000_000, description="Minutes in all, instead of until")
    reviews: bool = Field(default=True, description="Recall each topic after 1, 7, 16 and 35 days")

    @model_validator(mode="after")
    def one_end(self) -> Self:
        """Refuse times that contradict each other."""
        if sum(each is not None for each in (self.until, self.days, self.total)) > 1:
            raise ValueError("give one of until, days and total")
        if self.minutes is None and (self.until or self.days):
            raise ValueError("say how many minutes a day: minutes")
        if self.until is not None and self.until < self.start:
            raise ValueError(f"until, {self.until}, lies before start, {self.start}")
        return self


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


class RunWanted(BaseModel, extra="forbid"):
    """A demo to run, with what differs from its defaults."""

    demo: str = Field(max_length=100, examples=["gaussian-kl"])
    params: dict[str, int | float | bool | str] = Field(default={}, max_length=50)
    preset: str | None = Field(default=None, max_length=100, description="One of the demo's presets; params go over it")
    fresh: bool = Field(default=False, description="Run although an equal run is kept")


class Run(BaseModel):
    """A demo run and where it stands."""

    id: str
    demo: str
    params: dict[str, Any] = Field(description="Every parameter with its value")
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    fraction: float = Field(description="How much of it is done, from 0 to 1")
    message: str
    live: dict[str, Any] = Field(description="The latest value of each live curve")
    error: str | None = Field(description="Why it has no result, where it failed or was cancelled")
    outcome: dict[str, Any] | None = Field(description="What it measured, once it is done (docs/formats.md)")


class Marks(BaseModel, extra="forbid"):
    """What some topics are to the learner."""

    topics: list[str] = Field(min_length=1, max_length=500, description="Ids, ends of ids, or words", examples=[[ELBO]])
    status: Literal["known", "learning", "planned"]


class Topics(BaseModel, extra="forbid"):
    """Some topics."""

    topics: list[str] = Field(min_length=1, max_length=500, description="Ids, ends of ids, or words", examples=[[ELBO]])


class Note(BaseModel, extra="forbid"):
    """A note about a topic; an empty one takes it away."""

    topic: str = Field(max_length=400, examples=[ELBO])
    text: str = Field(max_length=20_000)


class Rated(BaseModel, extra="forbid"):
    """How well a topic was recalled."""

    topic: str = Field(max_length=400, examples=[ELBO])
    rating: Literal["again", "hard", "good", "easy"]


class Answers(BaseModel, extra="forbid"):
    """What a learner could answer so far, of a topic and all beneath it."""

    topic: str = Field(max_length=400, examples=["variational-autoencoders"])
    answers: dict[str, bool] = Field(default={}, max_length=100, description="By id: whether the topic is known")
    keep: bool = Field(default=False, description="Mark what was found: answers as told, the rest as inferred")


class Asked(TopicLine):
    """The topic that a placement asks about next, with its question."""

    question: str


class Placement(BaseModel):
    """What a placement found so far, and what it asks next."""

    section: str
    ask: Asked | None = Field(description="Null when it has ended")
    left: int = Field(description="Questions that are left at most")
    told: dict[str, bool]
    inferred: dict[str, float] = Field(description="Topics that follow from the answers, with their chance")
    unsure: float = Field(description="Topics that may be judged wrongly, expected")
    chances: dict[str, float] = Field(description="Chance that each topic is known")


class Learner(BaseModel, extra="allow"):
    """A learner with marks, notes and memories."""

    name: str
    gone: list[str] = Field(description="Topics that the learner has something about and the atlas has no longer")


class Due(BaseModel):
    """What to review now, and how much comes due on each of the next days."""

    due: int
    by_day: list[int]
    card: dict[str, Any] | None = Field(description="The next question with its answer; null where none is due")


class Syllabus(BaseModel, extra="forbid"):
    """A syllabus, one topic a line."""

    text: str = Field(min_length=1, max_length=100_000, examples=["1. Autoencoders\n2. VAEs\n3. The ELBO"])
    known: list[str] = Field(default=[], max_length=3000, description="Ids of topics that are known already")


class ReadyWanted(BaseModel, extra="forbid"):
    """What is known, and where to go."""

    known: list[str] = Field(default=[], max_length=3000, description="Ids of topics that are known already")
    goals: list[str] = Field(default=[], max_length=20, description="Topics: ids, ends of ids, or words")


class ReadyTopic(TopicLine):
    """A topic that can be started."""

    opens: int = Field(description="Topics that could be started next")
    supports: int = Field(description="Topics that rest on it in the end")


class Unlocks(BaseModel):
    """What a topic is good for."""

    topic: str
    direct: list[Edge]
    supports: list[str] = Field(description="Ids of all topics that rest on it in the end")
    by_section: dict[str, int]


class Alive(BaseModel):
    """That the process lives."""

    status: Literal["ok"]


class Health(BaseModel):
    """That the process can answer, and what it serves."""

    status: Literal["ok"]
    build: str
    topics: int
