"""The embedded store: one atlas in memory."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from rapidfuzz import fuzz, process

from graph.errors import ComparisonNotFound, TopicNotFound
from graph.model import Atlas, Comparison, Demo, Prerequisite, Reference, Topic

if TYPE_CHECKING:
    import networkx as nx


class NetworkXStore:
    """One atlas in memory, read-only, safe to share between threads.

    Looking up topics takes a dictionary; NetworkX (0.1 s to import) is loaded by the first question about edges, so
    that a search from a cold start does not wait for it.
    """

    def __init__(self, atlas: Atlas) -> None:
        self.atlas = atlas
        self._topics = {topic.id: topic for topic in atlas.topics}
        self._children: dict[str, list[Topic]] = defaultdict(list)
        for topic in atlas.topics:
            if topic.parent is not None:
                self._children[topic.parent].append(topic)
        self._comparisons = {comparison.id: comparison for comparison in atlas.comparisons}
        self._comparisons_of: dict[str, list[Comparison]] = defaultdict(list)
        for comparison in atlas.comparisons:
            for side in comparison.between:
                self._comparisons_of[side].append(comparison)
        self._group_of = {topic_id: group for group in atlas.concepts for topic_id in group.topics}

    def topic(self, topic_id: str) -> Topic:
        found = self._topics.get(topic_id)
        if found is None:
            raise TopicNotFound(topic_id, nearest_ids(topic_id, self._topics))
        return found

    def topics(self) -> Sequence[Topic]:
        return self.atlas.topics

    def children(self, topic_id: str) -> Sequence[Topic]:
        self.topic(topic_id)
        return tuple(self._children.get(topic_id, ()))

    def ancestors(self, topic_id: str) -> Sequence[Topic]:
        line: list[Topic] = []
        above = self.topic(topic_id).parent
        while above is not None:
            line.append(self._topics[above])
            above = line[-1].parent
        return tuple(reversed(line))

    def subtree(self, topic_id: str) -> Sequence[Topic]:
        found = [self.topic(topic_id)]
        for child in self._children.get(topic_id, ()):
            found.extend(self.subtree(child.id))
        return tuple(found)

    def prerequisites(self, topic_id: str) -> Sequence[Prerequisite]:
        self.topic(topic_id)
        return self._in_order(self._edges(self._needs.in_edges(topic_id, data="edge")))

    def effective_prerequisites(self, topic_id: str) -> Sequence[Prerequisite]:
        holders = [*(holder.id for holder in self.ancestors(topic_id)), topic_id]
        return self._in_order(self._edges(self._needs.in_edges(holders, data="edge")))

    def dependents(self, topic_id: str) -> Sequence[Prerequisite]:
        self.topic(topic_id)
        edges = self._edges(self._needs.out_edges(topic_id, data="edge"))
        return tuple(sorted(edges, key=lambda edge: self._topics[edge.after].position))

    def comparisons(self, topic_id: str) -> Sequence[Comparison]:
        self.topic(topic_id)
        return tuple(self._comparisons_of.get(topic_id, ()))

    def comparison(self, comparison_id: str) -> Comparison:
        found = self._comparisons.get(comparison_id)
        if found is None:
            raise ComparisonNotFound(comparison_id, nearest_ids(comparison_id, self._comparisons))
        return found

    def twins(self, topic_id: str) -> Sequence[Topic]:
        self.topic(topic_id)
        group = self._group_of.get(topic_id)
        return () if group is None else tuple(self._topics[other] for other in group.topics if other != topic_id)

    def canonical(self, topic_id: str) -> Topic:
        topic = self.topic(topic_id)
        group = self._group_of.get(topic_id)
        return topic if group is None else self._topics[group.canonical]

    def demos(self) -> Sequence[Demo]:
        return tuple(sorted(self.atlas.demos, key=lambda demo: demo.id))

    def demonstrated_by(self, demo_id: str) -> Sequence[Topic]:
        return tuple(topic for topic in self.atlas.topics if topic.demo is not None and topic.demo.demo == demo_id)

    def references(self) -> Sequence[Reference]:
        return tuple(sorted(self.atlas.references, key=lambda reference: reference.key))

    def prefetch(self, topic_ids: Iterable[str]) -> None:
        """Do nothing: everything is in memory."""

    @cached_property
    def _needs(self) -> "nx.MultiDiGraph[str]":
        """The prerequisite relation: before → after, each edge holding its `Prerequisite` as `edge`."""
        import networkx as nx

        needs: nx.MultiDiGraph[str] = nx.MultiDiGraph()
        needs.add_nodes_from(self._topics)
        for edge in self.atlas.prerequisites:
            needs.add_edge(edge.before, edge.after, edge=edge)
        return needs

    @staticmethod
    def _edges(found: Iterable[tuple[str, str, Prerequisite]]) -> list[Prerequisite]:
        return [edge for _, _, edge in found]

    def _in_order(self, edges: list[Prerequisite]) -> tuple[Prerequisite, ...]:
        return tuple(sorted(edges, key=lambda edge: (self._topics[edge.before].position, edge.after)))


def nearest_ids(topic_id: str, ids: Iterable[str], count: int = 3) -> list[str]:
    """Up to `count` ids that read like `topic_id`, best first; none when nothing is near.

    A slip in a whole id is looked for first; then a part of an id, such as its end alone.
    """
    known = list(ids)
    found = process.extract(topic_id, known, scorer=fuzz.ratio, limit=count, score_cutoff=75)
    if not found:
        found = process.extract(topic_id, known, scorer=fuzz.WRatio, limit=count, score_cutoff=80)
    return [near for near, _, _ in found]
