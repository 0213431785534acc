import networkx as nx
from hypothesis import given
from hypothesis import strategies as st

from graph import Prerequisite
from ingest.cycles import prerequisite_cycles

TOPICS = ["a", "a/b", "a/b/c", "a/d", "e", "e/f", "e/f/g", "e/h"]
pairs = st.tuples(st.sampled_from(TOPICS), st.sampled_from(TOPICS)).filter(
    lambda pair: not f"{pair[0]}/".startswith(f"{pair[1]}/") and not f"{pair[1]}/".startswith(f"{pair[0]}/")
)


def effective(edges: list[Prerequisite]) -> "nx.DiGraph[str]":
    """The whole effective relation: from every topic to everything that it or an ancestor needs."""
    needs: nx.DiGraph[str] = nx.DiGraph()
    for topic in TOPICS:
        holders = [holder for holder in TOPICS if f"{topic}/".startswith(f"{holder}/")]
        needs.add_edges_from((topic, edge.before) for edge in edges if edge.after in holders)
    return needs


@given(st.lists(pairs, unique=True, max_size=12))
def test_cycles_are_found_where_the_effective_relation_has_them_and_nowhere_else(found: list[tuple[str, str]]) -> None:
    edges = [Prerequisite(before, after, "So.") for before, after in found]
    needs = effective(edges)
    knots = [knot for knot in nx.strongly_connected_components(needs) if len(knot) > 1]
    cycles = prerequisite_cycles(edges)
    assert len(cycles) == len(knots)
    for cycle in cycles:
        topics = [topic for topic, _ in cycle]
        (knot,) = (knot for knot in knots if topics[0] in knot)
        assert len(set(topics)) == len(topics)
        assert len(topics) == min(len(way) for way in nx.simple_cycles(needs.subgraph(knot)))
        for (topic, edge), following in zip(cycle, [*topics[1:], topics[0]], strict=True):
            assert edge in edges
            assert edge.before == following
            assert f"{topic}/".startswith(f"{edge.after}/")


@given(st.permutations([("a", "e"), ("e/f", "a/b"), ("e", "a/d"), ("a/d", "e/h"), ("e/h", "a/d")]))
def test_the_same_cycles_are_found_whatever_the_order_of_the_edges(found: list[tuple[str, str]]) -> None:
    def topics(pairs: list[tuple[str, str]]) -> list[list[str]]:
        edges = [Prerequisite(before, after, "So.") for before, after in pairs]
        return [[topic for topic, _ in cycle] for cycle in prerequisite_cycles(edges)]

    assert topics(found) == topics(sorted(found))
