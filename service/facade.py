"""The one surface that the command line, Streamlit and every other front end call."""

import math
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from graph import (
    EDGE_KINDS,
    AtlasError,
    Comparison,
    Demo,
    EdgeKind,
    Neighbourhood,
    Reference,
    Topic,
    TopicNotFound,
    comparison_between,
    nearest_ids,
    neighbourhood,
    to_cypher,
    to_graphml,
    to_json,
    to_jsonld,
)
from search import Answer, Answerer, AspectTable, Filters, Ranking, Searcher, Sentence
from search.comparison import built_table
from search.sentences import sentences_of
from service.opened import OpenAtlas, SnapshotAtlas
from service.settings import Settings

if TYPE_CHECKING:
    from demos import Cell, DemoRun, DemoSpec, Description, Figure, Outcome, Progress
    from search.suggest import Suggester, Suggestion
    from service.language_model import Retelling
    from service.learners import Learners
    from study import Ready, StudyPath, SyllabusLine, SyllabusReport, Unlocks


SURE_LEAD, FAR_LEAD = 0.1, 0.3
"""Lead in score from which a syllabus line's best hit counts as sure: of 185 judged questions above it 94 % hit, of 87
below it 72 %. An unsure line may also mean the topics behind, up to the second lead."""
LOOK_S = 1.0
"""Seconds after which a process that stays looks again which build serves."""
LONGEST_LINE = 200
"""Characters of a syllabus line that are searched for."""


class NothingCompared(AtlasError):
    """There is no authored comparison of two topics."""


class DemoPending(AtlasError):
    """The atlas names this demo, and it is not built yet."""


class PresetUnknown(AtlasError):
    """A demo has no preset of this name."""


@dataclass(frozen=True, slots=True)
class Found:
    """A topic that was named, and how the name led to it. `others` are further topics that the name fits."""

    topic: Topic
    how: Literal["id", "suffix", "words"]
    others: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DemoInfo:
    """A demo of the atlas. `spec` is what the demo library knows of it, None while the demo is still to come."""

    demo: Demo
    spec: "DemoSpec | None"
    topics: tuple[Topic, ...]

    @property
    def ready(self) -> bool:
        """Whether it can be run."""
        return self.spec is not None


class Service:
    """One opened atlas. Safe to share between threads; everything that a call does not need stays unloaded.

    Errors are AtlasError or the demo library's DemoError, with messages for users.
    """

    def __init__(self, settings: Settings, opened: OpenAtlas) -> None:
        self.settings = settings
        self.opened = opened
        self.store = opened.store

    @cached_property
    def _searcher(self) -> Searcher:
        """The search engine; opening it takes about 0.2 s."""
        return self.opened.searcher()

    # Topics

    def find_topic(self, words: str) -> Found:
        """Return the topic that is named by id, by the end of its id, or by words (then the best hit of a search).

        Where several ids end alike the canonical or the highest one is taken and the rest are named in `others`. What
        looks like an id is taken as words only when they are a topic's very name ("wgan-gp"). Raises TopicNotFound.
        """
        try:
            return Found(self.store.topic(words), "id")
        except TopicNotFound as error:
            unknown = error
        ending = [topic for topic in self.store.topics() if topic.id.endswith(f"/{words}")]
        if ending:
            leading = min(ending, key=lambda topic: (topic.depth, topic.position))
            return Found(leading, "suffix", tuple(topic.id for topic in ending if topic is not leading))
        if "/" in words:
            raise unknown
        ranking = self.search(words, k=4)
        hits = ranking.hits
        if "-" in words and " " not in words and ranking.evidence < math.inf:
            raise unknown
        if not hits:
            raise TopicNotFound(words, nearest_ids(words, [topic.id for topic in self.store.topics()]))
        return Found(hits[0].topic, "words", tuple(hit.topic.id for hit in hits[1:]))

    def neighbourhood(
        self, topic_id: str, kinds: Collection[EdgeKind] = EDGE_KINDS, steps: int = 1, limit: int = 60
    ) -> Neighbourhood:
        """What surrounds a topic: at most `limit` topics within `steps` links of the chosen kinds."""
        return neighbourhood(self.store, topic_id, kinds, steps, limit)

    def references(self, keys: Sequence[str]) -> list[Reference]:
        """The references of these keys, in their order."""
        return [self._references[key] for key in keys]

    @cached_property
    def _references(self) -> Mapping[str, Reference]:
        return {reference.key: reference for reference in self.store.references()}

    def compare(self, one: str, other: str) -> Comparison:
        """The authored comparison that has both topics (or their twins) as sides. Raises NothingCompared."""
        comparison = comparison_between(self.store, one, other)
        if comparison is not None:
            return comparison
        known = [c.id for topic_id in (one, other) for c in self.store.comparisons(topic_id)]
        hint = f" Comparisons with one of them: {', '.join(dict.fromkeys(known))}." if known else ""
        raise NothingCompared(f"Nobody has compared {one} with {other} yet.{hint}")

    def side_by_side(self, one: str, other: str) -> AspectTable:
        """What two topics' own fields say, where nobody has compared them."""
        return built_table([self.store.topic(one), self.store.topic(other)], self.store)

    def stats(self) -> dict[str, Any]:
        """What the atlas holds, counted from the open graph: totals, and a row for each section.

        `topics`, `starred`, `sections` and `hierarchy` count the outline; `foundations` are counted apart.
        """
        from demos import catalogue

        ready = catalogue().keys()
        rows: dict[str, dict[str, Any]] = {}
        for topic in self.store.topics():
            row = rows.setdefault(
                topic.section,
                {"section": topic.section, "title": topic.title, "origin": topic.origin}
                | dict.fromkeys(("topics", "starred", "written", "demo_ready"), 0),
            )
            row["topics"] += 1
            row["starred"] += topic.starred
            row["written"] += bool(topic.summary)
            row["demo_ready"] += topic.demo is not None and topic.demo.demo in ready
        outline = [row for row in rows.values() if row["origin"] == "outline"]
        total = {name: sum(row[name] for row in outline) for name in ("topics", "starred")}
        return {
            **self.opened.counts,
            **total,
            "sections": len(outline),
            "hierarchy": total["topics"] - len(outline),
            "foundations": sum(row["topics"] for row in rows.values()) - total["topics"],
            "demos_ready": len(ready),
            "snapshot": self.opened.id,
            "by_section": list(rows.values()),
        }

    # Search and study

    def search(self, query: str, k: int = 10, filters: Filters | None = None) -> Ranking:
        """The best topics for a query, each with the passage that matched."""
        return self._searcher.search(query, k, filters)

    def suggest(self, typed: str, k: int = 8) -> "list[Suggestion]":
        """At most k names of topics that go on as typed."""
        return self._suggester.suggest(typed, k)

    @cached_property
    def _suggester(self) -> "Suggester":
        from search.suggest import Suggester

        return Suggester(self.store.topics())

    def ask(self, question: str, after: str | None = None) -> Answer:
        """An answer made of the atlas's own sentences, each cited; `after` is the topic of the answer before it."""
        return Answerer(self.store, self._searcher).ask(question, after)

    def retell(self, answer: Answer, on_sentence: Callable[[Sentence], None] = lambda _: None) -> "Retelling":
        """An answer in the words of the language model that the settings name, each sentence checked and cited.

        Its sources are the answer's own sentences and the summaries of the topics found. Raises ModelFailed.
        """
        from service.language_model import retell

        found = [self.store.topic(topic_id) for topic_id in dict.fromkeys([*answer.citations, *answer.ranked[:5]])]
        summaries = [Sentence(text, topic.id, topic.refs) for topic in found for text in sentences_of(topic.summary)]
        sources = list({source.text: source for source in (*answer.sentences, *summaries)}.values())
        return retell(answer, sources, self.settings, self._searcher.similarity, on_sentence)

    def export(
        self, kind: Literal["json", "graphml", "jsonld", "cypher", "opml"], base_url: str | None = None
    ) -> bytes:
        """The whole atlas in another format (docs/formats.md); JSON and GraphML read back to the same atlas.

        JSON-LD names things by the pages of the static site that is published at `base_url`, or by URNs.
        """
        atlas = self.opened.atlas()
        match kind:
            case "json":
                return to_json(atlas)
            case "graphml":
                return to_graphml(atlas)
            case "jsonld":
                return to_jsonld(atlas, base_url)
            case "cypher":
                return to_cypher(atlas).encode()
            case "opml":
                from ingest import outline_of_atlas, write_outline

                return write_outline(outline_of_atlas(atlas), "opml").encode()

    def path(self, goals: Sequence[str], known: Collection[str] = (), thorough: bool = False) -> "StudyPath":
        """What to learn for the goals (topic ids), in order."""
        from study import plan_path

        return plan_path(self.store, goals, known, thorough)

    def ready(self, known: Collection[str] = (), goals: Sequence[str] = ()) -> "tuple[Ready, ...]":
        """What can be started now, on the way to the goals if some are named; what most others rest on comes first."""
        from study import ready_topics

        return ready_topics(self.store, known, goals)

    def unlocks(self, topic_id: str) -> "Unlocks":
        """What a topic is good for: what asks for it, with the reasons, and all that rests on it."""
        from study import unlocked_by

        return unlocked_by(self.store, topic_id)

    def syllabus(self, text: str, known: Collection[str] = ()) -> "SyllabusReport":
        """What a syllabus, one topic a line, covers, lacks and teaches too early, each line found by searching."""
        from study import check_syllabus, syllabus_lines

        lines = [self._syllabus_line(number, words) for number, words in syllabus_lines(text)]
        return check_syllabus(self.store, lines, known)

    def _syllabus_line(self, number: int, words: str) -> "SyllabusLine":
        """A line and the topic that it means, with those that come close behind it."""
        from study import SyllabusLine

        hits = self.search(words[:LONGEST_LINE], k=4).hits
        if not hits:
            return SyllabusLine(number, words, None)
        others = [(hit.topic, hits[0].score - hit.score) for hit in hits[1:]]
        unsure = any(lead < SURE_LEAD for _, lead in others)
        close = tuple(topic for topic, lead in others if unsure and lead < FAR_LEAD)
        return SyllabusLine(number, words, hits[0].topic, close)

    @cached_property
    def learners(self) -> "Learners":
        """What learners know, learn, plan and have noted."""
        from service.learners import Learners

        return Learners(self.settings, self.store)

    # Demos

    def demos(self) -> list[DemoInfo]:
        """Every demo that the atlas names, by id."""
        from demos import catalogue

        specs = catalogue()
        serves: dict[str, list[Topic]] = {}
        for topic in self.store.topics():
            if topic.demo is not None:
                serves.setdefault(topic.demo.demo, []).append(topic)
        return [DemoInfo(d, specs.get(d.id), tuple(serves.get(d.id, ()))) for d in self.store.demos()]

    def demo(self, demo_id: str) -> DemoInfo:
        """One demo, read from its own file alone. Raises DemoNotFound with the nearest ids."""
        from demos import DemoNotFound, find_demo

        named = {demo.id: demo for demo in self.store.demos()}
        if demo_id not in named:
            raise DemoNotFound(demo_id, nearest_ids(demo_id, named))
        try:
            spec = find_demo(demo_id)
        except DemoNotFound:
            spec = None  # still to come
        serves = (topic for topic in self.store.topics() if topic.demo is not None and topic.demo.demo == demo_id)
        return DemoInfo(named[demo_id], spec, tuple(serves))

    def describe_demo(self, demo_id: str) -> "Description":
        """The parameters and presets of a demo that can be run; the first call for new code takes some seconds."""
        from demos import describe

        return describe(demo_id, cache=self._demo_cache)

    def preset(self, demo_id: str, name: str) -> "Mapping[str, Cell]":
        """The values of a demo's preset. Raises PresetUnknown and DemoError."""
        self._refuse_pending(demo_id)
        presets = self.describe_demo(demo_id).presets
        if name not in presets:
            known = ", ".join(presets) or "none"
            raise PresetUnknown(f'"{name}" is no preset of {demo_id}; it has: {known}')
        return presets[name].values

    def settle_params(self, demo_id: str, params: Mapping[str, object]) -> "Mapping[str, Cell]":
        """A value for every parameter of a demo. Raises DemoError for what cannot be run, with every problem."""
        from demos import settle

        self._refuse_pending(demo_id)
        return settle(self.describe_demo(demo_id), params)

    def describe_demos(self) -> "Mapping[str, Description]":
        """The same of every demo that can be run, by id; those of new code are asked of one process, together."""
        from demos import describe_all

        return describe_all(cache=self._demo_cache)

    def run_demo(
        self,
        demo_id: str,
        params: Mapping[str, object],
        on_progress: "Callable[[Progress], None] | None" = None,
        fresh: bool = False,
    ) -> "Outcome":
        """Run a demo to its end; unless `fresh`, take the kept result of an equal run. Raises DemoError."""
        from demos import run_demo

        self._refuse_pending(demo_id)
        return run_demo(demo_id, params, on_progress=on_progress, fresh=fresh, **self._run_options())

    def start_demo(self, demo_id: str, params: Mapping[str, object], fresh: bool = False) -> "DemoRun":
        """Start a demo and return at once with a handle: progress, cancel, result. Raises DemoError."""
        from demos import start_demo

        self._refuse_pending(demo_id)
        return start_demo(demo_id, params, fresh=fresh, **self._run_options())

    def _refuse_pending(self, demo_id: str) -> None:
        if not self.demo(demo_id).ready:
            raise DemoPending(
                f"The demo {demo_id} is planned and not built yet. Those that run: genatlas demo list --ready"
            )

    def _run_options(self) -> "RunOptions":
        return {
            "cache": self._demo_cache,
            "seconds": self.settings.demo_seconds,
            "memory_bytes": self.settings.demo_memory_mb * 2**20,
        }

    @property
    def _demo_cache(self) -> Path:
        return self.settings.home / "demos"


class RunOptions(TypedDict):
    """What the settings say about every demo run."""

    cache: Path
    seconds: float
    memory_bytes: int


def draw_figure(figure: "Figure", width: int) -> str:
    """A demo's figure as text of at most `width` columns."""
    from demos import figure_text

    return figure_text(figure, width)


def open_service(settings: Settings | None = None) -> Service:
    """Open the atlas that serves, in the home or on a server.

    Raises SettingsInvalid, and SnapshotMissing or SnapshotDamaged, or StoreUnavailable.
    """
    settings = settings or Settings.read()
    if settings.store == "embedded":
        return Service(settings, SnapshotAtlas(settings))
    from service.on_neo4j import ServerAtlas

    return Service(settings, ServerAtlas.open(settings))


class LiveService:
    """The service over the build that serves at the moment, for a process that stays: a new one is picked up by itself.

    Safe to share between threads. A request keeps to the service that it took, old builds being kept for those.
    """

    def __init__(self, settings: Settings) -> None:
        """Raises what `open_service` raises."""
        self._service = open_service(settings)
        self._looked = time.monotonic()
        self._lock = threading.Lock()

    def known(self) -> Service | None:
        """The service where nobody has to look which build serves, so that asking takes no time; else None."""
        return self._service if time.monotonic() - self._looked < LOOK_S else None

    def current(self) -> Service:
        """The service; which build serves is looked up at most once in LOOK_S. Raises what `open_service` raises."""
        with self._lock:
            if time.monotonic() - self._looked >= LOOK_S:
                latest = self._service.opened.latest()
                if latest is not self._service.opened:
                    self._service = Service(self._service.settings, latest)
                self._looked = time.monotonic()
            return self._service
