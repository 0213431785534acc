"""Finding a cycle in what topics effectively need."""

from collections import defaultdict
from collections.abc import Sequence
from typing import cast

import networkx as nx

from graph import Prerequisite


def prerequisite_cycle(prerequisites: Sequence[Prerequisite]) -> list[Prerequisite]:
    """Return the edges of one cycle of the effective relation, or nothing when it has none.

    A topic needs what its ancestors need, but needing a topic is not needing its subtopics. So the walk goes from a
    topic to its holders (itself and its ancestors) and from a holder along its edges; only topics that some edge names
    can lie on a cycle, and the walk stays among them.
    """
    by_holder: dict[str, list[Prerequisite]] = defaultdict(list)
    for edge in prerequisites:
        by_holder[edge.after].append(edge)
    needs: nx.DiGraph[str] = nx.DiGraph()
    for topic_id in {edge.before for edge in prerequisites}:
        for holder in _line(topic_id):
            for edge in by_holder.get(holder, ()):
                needs.add_edge(topic_id, edge.before, edge=edge)
    try:
        found = cast("list[tuple[str, str]]", nx.find_cycle(needs))  # pyright: ignore[reportUnknownMemberType]
    except nx.NetworkXNoCycle:
        return []
    return [needs.edges[topic_id, before]["edge"] for topic_id, before in reversed(found)]


def _line(topic_id: str) -> list[str]:
    """The topic and its ancestors."""
    parts = topic_id.split("/")
    return ["/".join(parts[:length]) for length in range(len(parts), 0, -1)]
