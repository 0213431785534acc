"""Questions about the graph that are answered from the store's primitives, the same way for every store."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from graph.model import EDGE_KINDS, Comparison, EdgeKind, Prerequisite, Topic
from graph.store import GraphStore


@dataclass(frozen=True, slots=True)
class Link:
    """One edge of a picture. Prerequisites run from before to after, hierarchy from parent to child."""

    source: str
    target: str
    kind: EdgeKind


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """A topic with what surrounds it: topics nearest first (the centre leads), and every link between them.

    `omitted` counts the topics within reach that the limit left out.
    """

    centre: str
    topics: tuple[Topic, ...]
    links: tuple[Link, ...]
    omitted: int


def neighbourhood(
    store: GraphStore,
    topic_id: str,
    kinds: Collection[EdgeKind] = EDGE_KINDS,
    steps: int = 1,
    limit: int = 60,
) -> Neighbourhood:
    """Return at most `limit` topics within `steps` links of a topic, following only the chosen kinds of edge.

    The prerequisites that the centre's ancestors hand down count as its own. Raises TopicNotFound.
    """
    centre = store.topic(topic_id)
    reached: dict[str, Topic] = {centre.id: centre}
    links: dict[Link, None] = {}
    ring = [centre]
    for _ in range(steps):
        found: dict[str, None] = {}
        for topic in ring:
            for link in _links_of(store, topic, kinds, inherited=topic is centre):
                links[link] = None
                other = link.target if link.source == topic.id else link.source
                if other not in reached:
                    found[other] = None
        store.prefetch(found)
        ring = [store.topic(other) for other in found]
        reached |= {topic.id: topic for topic in ring}
    kept = list(reached.values())[:limit]
    # The last ring's own edges were not walked; those between two kept topics belong to the picture all the same.
    names = {topic.id for topic in kept}
    for topic in ring:
        if topic.id in names:
            links |= dict.fromkeys(_links_of(store, topic, kinds, inherited=False))
    between = tuple(link for link in links if link.source in names and link.target in names)
    return Neighbourhood(centre.id, tuple(kept), between, omitted=len(reached) - len(kept))


def _links_of(store: GraphStore, topic: Topic, kinds: Collection[EdgeKind], inherited: bool) -> Iterator[Link]:
    """Every link that touches a topic: prerequisites first, since a limit keeps what comes first."""
    if "prerequisite" in kinds:
        needs = store.effective_prerequisites(topic.id) if inherited else store.prerequisites(topic.id)
        for edge in needs:
            yield Link(edge.before, topic.id, "prerequisite")
        for edge in store.dependents(topic.id):
            yield Link(topic.id, edge.after, "prerequisite")
    if "comparison" in kinds:
        for comparison in store.comparisons(topic.id):
            for other in comparison.between:
                if other != topic.id:
                    yield _undirected(topic.id, other, "comparison")
    if "concept" in kinds:
        for twin in store.twins(topic.id):
            yield _undirected(topic.id, twin.id, "concept")
    if "hierarchy" in kinds:
        if topic.parent is not None:
            yield Link(topic.parent, topic.id, "hierarchy")
        for child in store.children(topic.id):
            yield Link(topic.id, child.id, "hierarchy")


def _undirected(one: str, other: str, kind: EdgeKind) -> Link:
    """The same link from whichever side it is met."""
    return Link(min(one, other), max(one, other), kind)


def comparison_between(store: GraphStore, one: str, other: str) -> Comparison | None:
    """Return the authored comparison that has both topics as sides, or else twins of theirs; None without any.

    Raises TopicNotFound.
    """
    places = list(dict.fromkeys([one, *(twin.id for twin in store.twins(one))]))
    others = {other, *(twin.id for twin in store.twins(other))} - {*places}
    for place in places:
        for comparison in store.comparisons(place):
            if others & {*comparison.between}:
                return comparison
    return None


def transitive_prerequisites(store: GraphStore, topic_id: str, helpful: bool = False) -> Sequence[Prerequisite]:
    """Return every effective prerequisite edge on the way to a topic, nearest first.

    All alternatives of an either-or are followed: this is what may be needed, `study.plan_path` chooses.
    With `helpful` the edges that are only helpful count too. Raises TopicNotFound.
    """
    edges: dict[Prerequisite, None] = {}
    seen = {topic_id}
    ring = [topic_id]
    while ring:
        beyond: list[str] = []
        store.prefetch(ring)
        for each in ring:
            for edge in store.effective_prerequisites(each):
                if edge.strength == "needed" or helpful:
                    edges[edge] = None
                    if edge.before not in seen:
                        seen.add(edge.before)
                        beyond.append(edge.before)
        ring = beyond
    return tuple(edges)
