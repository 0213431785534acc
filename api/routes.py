"""What is answered under /v1. Functions are synchronous: the service computes, and FastAPI gives each a thread."""

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Query, Request

from api import documents as doc
from api.problems import Problem
from graph import EDGE_KINDS, EdgeKind, transitive_prerequisites
from search import Filters
from service import Service, wire

TOLD: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": what, "content": {"application/problem+json": {}}}
    for status, what in (
        (400, "Refused, with the reason"),
        (404, "No such topic or demo; the nearest are named"),
        (422, "A parameter is missing or wrong"),
        (503, "The store does not answer at present"),
    )
}

router = APIRouter(prefix="/v1", responses=TOLD)
health = APIRouter()


def _current(request: Request) -> Service:
    return request.app.state.live.current()


Atlas = Annotated[Service, Depends(_current)]
TopicId = Annotated[str, Query(max_length=400, description="A topic: its id, the end of its id, or words")]
Count = Annotated[int, Query(ge=1, le=100, description="How many")]
Text = Annotated[str, Query(min_length=1, max_length=1000)]


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


@router.get("/ask", tags=["search"], response_model=doc.Answer)
def ask(
    atlas: Atlas,
    question: Text,
    after: Annotated[
        str | None, Query(max_length=400, description="The topic asked about before, for a follow-up")
    ] = None,
) -> dict[str, Any]:
    """Answer a question in the atlas's own sentences, each cited."""
    return wire.answer(atlas, atlas.ask(question, None if after is None else atlas.find_topic(after).topic.id))


@router.get("/compare", tags=["search"], response_model=doc.Comparison)
def compare(atlas: Atlas, one: TopicId, other: TopicId) -> dict[str, Any]:
    """Set two topics beside each other, aspect by aspect, where somebody has compared them."""
    return wire.comparison(atlas, atlas.compare(atlas.find_topic(one).topic.id, atlas.find_topic(other).topic.id))


@router.post("/paths", tags=["study"], response_model=doc.Path)
def plan(atlas: Atlas, wanted: doc.PathGoals) -> dict[str, Any]:
    """Plan what to learn for some goals, in an order that never breaks a prerequisite, each step with its reasons."""
    from study import path_json

    goals = [atlas.find_topic(goal).topic.id for goal in wanted.goals]
    known = [atlas.store.topic(topic_id).id for topic_id in wanted.known]
    return path_json(atlas.path(goals, known, wanted.thorough))


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


@health.get("/healthz", tags=["operation"])
@health.get("/readyz", tags=["operation"], responses={503: TOLD[503]})
def healthy(atlas: Atlas) -> doc.Health:
    """Whether this process can answer, and which build it serves."""
    return doc.Health(status="ok", build=atlas.opened.id, topics=atlas.opened.counts["topics"])
