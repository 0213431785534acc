"""Finding the cycles in what topics effectively need."""

from collections import defaultdict, deque
from collections.abc import Collection, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter

from graph import Prerequisite

Needs = Mapping[str, Mapping[str, Prerequisite]]


def prerequisite_cycles(prerequisites: Sequence[Prerequisite]) -> list[list[tuple[str, Prerequisite]]]:
    """Return one shortest cycle of each knot of topics that need each other; nothing when the relation has none.

    A cycle is a list of steps (topic, edge): the topic needs `edge.before`, the topic of the next step, by an edge that
    stands at the topic or at its ancestor `edge.after`. Both strengths and all alternatives of an either-or count.

    A topic needs what its ancestors need, but needing a topic is not needing its subtopics. So the walk goes from a
    topic to its holders (itself and its ancestors) and from a holder along its edges; only topics that some edge names
    can lie on a cycle, and the walk stays among them.
    """
    by_holder: dict[str, list[Prerequisite]] = defaultdict(list)
    for edge in prerequisites:
        by_holder[edge.after].append(edge)
    needs: dict[str, dict[str, Prerequisite]] = {}
    for topic in sorted({edge.before for edge in prerequisites}):
        edges = {edge.before: edge for holder in _line(topic) for edge in by_holder.get(holder, ())}
        needs[topic] = dict(sorted(edges.items()))  # so that the same cycle is found whatever the order of the edges
    try:
        TopologicalSorter(needs).prepare()
    except CycleError:
        return [_shortest_cycle(needs, knot) for knot in _knots(needs)]
    return []


def _line(topic_id: str) -> list[str]:
    """The ancestors of a topic, its section first, and the topic: the nearest holder of an edge comes last."""
    parts = topic_id.split("/")
    return ["/".join(parts[:length]) for length in range(1, len(parts) + 1)]


def _knots(needs: Needs) -> list[list[str]]:
    """The sets of topics that reach each other, each sorted."""
    import networkx as nx  # 0.1 s to load: only a corpus with a cycle pays for it

    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_edges_from((topic, before) for topic, edges in needs.items() for before in edges)
    return sorted(sorted(knot) for knot in nx.strongly_connected_components(graph) if len(knot) > 1)


def _shortest_cycle(needs: Needs, knot: Collection[str]) -> list[tuple[str, Prerequisite]]:
    return min((_cycle_from(topic, needs, set(knot)) for topic in knot), key=len)


def _cycle_from(start: str, needs: Needs, knot: Collection[str]) -> list[tuple[str, Prerequisite]]:
    """The shortest way from a topic of a knot back to itself, breadth first."""
    came_from: dict[str, str] = {}
    queue = deque([start])
    while start not in came_from:
        topic = queue.popleft()
        for before in needs.get(topic, ()):
            if before in knot and before not in came_from:
                came_from[before] = topic
                queue.append(before)
    steps: list[tuple[str, Prerequisite]] = []
    topic = start
    while not steps or topic != start:
        above = came_from[topic]
        steps.append((above, needs[above][topic]))
        topic = above
    return steps[::-1]
