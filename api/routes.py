"""What is asked of the atlas under /v1. Functions are synchronous: they compute, and FastAPI gives each a thread."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Annotated, Any, Literal

import msgspec
from anyio import to_thread
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from api import documents as doc
from api.access import Asking, Refused, profile_of
from api.problems import Problem
from graph import EDGE_KINDS, AtlasError, EdgeKind, transitive_prerequisites
from search import Answer, Filters, Sentence
from service import LiveService, Service, wire

TOLD: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": what, "content": {"application/problem+json": {}}}
    for status, what in (
        (400, "Refused, with the reason"),
        (401, "It takes a key"),
        (403, "The key does not open this"),
        (404, "There is no such thing; the nearest are named"),
        (422, "A parameter is missing or wrong"),
        (429, "Too much at a time; Retry-After says when to come again"),
        (503, "The store does not answer at present"),
    )
}


async def _may_read(caller: Asking) -> None:
    caller.needs("read")


async def _may_retell(
    caller: Asking,
    retell: Annotated[bool, Query(description="By the language model of the service; it takes a key")] = False,
) -> bool:
    if retell and caller.key is None:
        raise Refused(401, "A language model answers only who brings a key, sent as Authorization: Bearer …")
    return retell


router = APIRouter(prefix="/v1", responses=TOLD, dependencies=[Depends(_may_read)])


# What routes depend on is asynchronous where it takes no time: FastAPI sends every other function to a thread.
async def _current(request: Request) -> Service:
    live: LiveService = request.app.state.live
    return live.known() or await to_thread.run_sync(live.current)


Atlas = Annotated[Service, Depends(_current)]
TopicId = Annotated[str, Query(max_length=400, description="A topic: its id, the end of its id, or words")]
Count = Annotated[int, Query(ge=1, le=100, description="How many")]
Text = Annotated[str, Query(min_length=1, max_length=1000)]
After = Annotated[str | None, Query(max_length=400, description="The topic asked about before, for a follow-up")]


def ids_of(atlas: Service, names: Sequence[str]) -> list[str]:
    """The ids of topics that were named by id, by the end of it, or by words. Raises TopicNotFound."""
    return [atlas.find_topic(name).topic.id for name in names]


def known_ids(atlas: Service, topic_ids: Iterable[str]) -> list[str]:
    """The same ids, each of which the atlas has. Raises TopicNotFound."""
    return [atlas.store.topic(topic_id).id for topic_id in topic_ids]


@router.get("/topics", tags=["topics"])
def topics(
    atlas: Atlas,
    section: Annotated[str | None, Query(max_length=400, description="Only of this section (its id)")] = None,
    after: Annotated[str | None, Query(max_length=400, description="The cursor of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> doc.TopicsPage:
    """List topics in outline order, a page at a time."""
    within: Sequence[Any] = atlas.store.topics() if section is None else atlas.store.subtree(section)
    begin = 0 if after is None else atlas.store.topic(after).position + 1
    ahead = [topic for topic in within if topic.position >= begin]
    page = ahead[:limit]
    return doc.TopicsPage(
        topics=[doc.TopicLine(**wire.topic_line(topic)) for topic in page],
        next=page[-1].id if len(ahead) > limit else None,
    )


@router.get("/topics/{topic:path}", tags=["topics"], response_model=doc.TopicPage)
def topic(atlas: Atlas, topic: str) -> dict[str, Any]:
    """A topic with its text, what it needs, what it unlocks, and its demo. Named by id, end of id, or words."""
    return wire.topic_page(atlas, atlas.find_topic(topic).topic)


@router.get("/subtree", tags=["topics"], response_model=list[doc.TopicLine])
def subtree(atlas: Atlas, topic: TopicId) -> list[dict[str, Any]]:
    """A topic and everything below it, in outline order."""
    return [wire.topic_line(each) for each in atlas.store.subtree(atlas.find_topic(topic).topic.id)]


@router.get("/neighbourhood", tags=["topics"], response_model=doc.Neighbourhood)
def neighbourhood(
    atlas: Atlas,
    topic: TopicId,
    kinds: Annotated[list[EdgeKind], Query(description="Kinds of edges to follow")] = list(EDGE_KINDS),  # noqa: B006
    steps: Annotated[int, Query(ge=1, le=3)] = 1,
    limit: Annotated[int, Query(ge=1, le=200)] = 60,
) -> dict[str, Any]:
    """What surrounds a topic, nearest first, and every link between."""
    found = atlas.neighbourhood(atlas.find_topic(topic).topic.id, kinds, steps, limit)
    return {
        "centre": found.centre,
        "topics": [wire.topic_line(each) for each in found.topics],
        "links": [msgspec.to_builtins(link) for link in found.links],
        "omitted": found.omitted,
    }


@router.get("/prerequisites", tags=["study"], response_model=doc.Prerequisites)
def prerequisites(
    atlas: Atlas,
    topic: TopicId,
    closure: Annotated[bool, Query(description="Follow the prerequisites of prerequisites")] = False,
) -> dict[str, Any]:
    """What a topic needs, with the reason for each."""
    found = atlas.find_topic(topic).topic.id
    edges = transitive_prerequisites(atlas.store, found) if closure else atlas.store.effective_prerequisites(found)
    return {"topic": found, "prerequisites": [wire.edge(edge) for edge in edges]}


@router.get("/search", tags=["search"], response_model=doc.Ranking)
def search(
    atlas: Atlas,
    q: Annotated[str, Query(min_length=1, max_length=1000, examples=["why do we scale by sqrt dk"])],
    k: Count = 10,
    section: Annotated[str | None, Query(max_length=400)] = None,
    under: Annotated[str | None, Query(max_length=400, description="Only this topic and below it (its id)")] = None,
    level: doc.Level | None = None,
    starred: bool | None = None,
) -> dict[str, Any]:
    """Find topics by meaning and by words; what the atlas does not cover finds nothing."""
    return wire.ranking(atlas.search(q, k, Filters(section, level, starred, under)))


@router.get("/suggest", tags=["search"], response_model=list[doc.Suggestion])
def suggest(atlas: Atlas, typed: Text, k: Annotated[int, Query(ge=1, le=50)] = 8) -> list[dict[str, Any]]:
    """Names of topics that go on as typed."""
    return msgspec.to_builtins(atlas.suggest(typed, k))


def _answered(atlas: Atlas, question: Text, after: After = None) -> Answer:
    return atlas.ask(question, None if after is None else atlas.find_topic(after).topic.id)


@router.get("/ask", tags=["search"], response_model=doc.Answer)
def ask(atlas: Atlas, found: Annotated[Answer, Depends(_answered)]) -> dict[str, Any]:
    """Answer a question in the atlas's own sentences, each cited."""
    return wire.answer(atlas, found)


@router.get("/ask/events", tags=["search"], response_class=EventSourceResponse)
def ask_streamed(
    atlas: Atlas, found: Annotated[Answer, Depends(_answered)], by_model: Annotated[bool, Depends(_may_retell)]
) -> Iterable[ServerSentEvent]:
    """Answer as server-sent events: `sentence` for each as it is ready, then `end` with the whole answer.

    With `retell` the language model that the service is set up with tells it, each sentence held against its sources
    before it is sent; `problem` says why it could not.
    """
    if not by_model:
        for sentence in found.sentences:
            yield ServerSentEvent(event="sentence", data=msgspec.to_builtins(sentence))
        yield ServerSentEvent(event="end", data=wire.answer(atlas, found))
        return
    checked: SimpleQueue[Sentence | None] = SimpleQueue()
    with ThreadPoolExecutor(1) as model:
        told = model.submit(atlas.retell, found, checked.put)
        told.add_done_callback(lambda _: checked.put(None))
        while (sentence := checked.get()) is not None:
            yield ServerSentEvent(event="sentence", data=msgspec.to_builtins(sentence))
    try:
        yield ServerSentEvent(event="end", data=wire.retelling(atlas, told.result()))
    except AtlasError as error:
        yield ServerSentEvent(event="problem", data={"detail": str(error)})


@router.get("/compare", tags=["search"], response_model=doc.Comparison)
def compare(atlas: Atlas, one: TopicId, other: TopicId) -> dict[str, Any]:
    """Set two topics beside each other, aspect by aspect, where somebody has compared them."""
    return wire.comparison(atlas, atlas.compare(atlas.find_topic(one).topic.id, atlas.find_topic(other).topic.id))


PATH_TYPES = {
    "json": "application/json",
    "markdown": "text/markdown; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "ics": "text/calendar; charset=utf-8",
    "csv": "text/csv; charset=utf-8",
    "mermaid": "text/vnd.mermaid; charset=utf-8",
}
PathFormat = Literal["json", "markdown", "html", "ics", "csv", "mermaid"]


@router.post(
    "/paths",
    tags=["study"],
    response_model=doc.Path,
    responses={200: {"content": {kind.partition(";")[0]: {} for kind in PATH_TYPES.values()}}},
)
def plan(
    atlas: Atlas,
    caller: Asking,
    wanted: doc.PathGoals,
    form: Annotated[PathFormat, Query(alias="format", description="JSON, or a hand-out")] = "json",
) -> Any:
    """Plan what to learn for some goals, in an order that never breaks a prerequisite, each step with its reasons.

    With minutes a day it is laid out over days; with a total what does not fit is left out by its worth for the goals.
    """
    from api.handouts import handout  # with all that plans and prints, which a search need not load

    goals = ids_of(atlas, wanted.goals)
    known = known_ids(atlas, wanted.known)
    if wanted.mine:
        known += atlas.learners.known(profile_of(caller))
    made = handout(atlas, atlas.path(goals, known, wanted.thorough), wanted, form)
    return made if isinstance(made, dict) else Response(made, media_type=PATH_TYPES[form])


@router.post("/ready", tags=["study"], response_model=list[doc.ReadyTopic])
def startable(atlas: Atlas, wanted: doc.ReadyWanted) -> list[dict[str, Any]]:
    """What can be started now, what most others rest on first; with goals only what is on the way to them."""
    known = known_ids(atlas, wanted.known)
    goals = ids_of(atlas, wanted.goals)
    return [wire.ready(each) for each in atlas.ready(known, goals)[:200]]


@router.get("/unlocks", tags=["study"], response_model=doc.Unlocks)
def unlocks(atlas: Atlas, topic: TopicId) -> dict[str, Any]:
    """What a topic is good for: what asks for it, with the reasons, and all that rests on it."""
    return wire.unlocks(atlas.unlocks(atlas.find_topic(topic).topic.id))


@router.post("/syllabus", tags=["study"])
def syllabus(atlas: Atlas, wanted: doc.Syllabus) -> dict[str, Any]:
    """What a syllabus covers, what it lacks, what it teaches too early, and a repaired order."""
    from study import syllabus_json

    known = known_ids(atlas, wanted.known)
    return syllabus_json(atlas.syllabus(wanted.text, known))


@router.get("/demos", tags=["demos"], response_model=list[doc.DemoLine])
def demos(
    atlas: Atlas, ready: Annotated[bool, Query(description="Only those that can be run")] = False
) -> list[dict[str, Any]]:
    """Every demo that the atlas names."""
    return [wire.demo_line(info) for info in atlas.demos() if info.ready or not ready]


@router.get("/demos/{demo}", tags=["demos"], response_model=doc.DemoPage)
def demo(atlas: Atlas, demo: str) -> dict[str, Any]:
    """A demo with its claims, parameters, presets and the topics that it serves."""
    info = atlas.demo(demo)
    return wire.demo_page(info, atlas.describe_demo(demo) if info.ready else None)


@router.get("/stats", tags=["topics"])
def stats(atlas: Atlas) -> dict[str, Any]:
    """What the atlas holds, counted, section by section."""
    return atlas.stats()
