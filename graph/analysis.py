"""What the shape of the graph says about its topics: centrality, communities, and edges that nothing replaces."""

from collections.abc import Mapping
from dataclasses import dataclass

from graph.model import Atlas

SAMPLED_FROM = 3_000
"""Topics from which betweenness is estimated from so many sources (Brandes and Pich 2007); exact below."""

SAMPLES = 500


@dataclass(frozen=True, slots=True)
class Analysis:
    """Numbers by topic id, and pairs (before, after).

    `pagerank` (sums to 1): how much rests on a topic, by what needs it and what needs that (Page et al. 1999, the edges
    of prerequisites walked backwards). `betweenness` (0 to 1): share of the shortest prerequisite chains that lead
    through it (Freeman 1977). `community`: number of the group of topics that are linked among each other more than to
    the rest (Louvain, Blondel et al. 2008), the largest being 0. `bridges` are prerequisites without which their two
    ends would have no connection at all, also not through subtopics, comparisons or twins.
    """

    pagerank: Mapping[str, float]
    betweenness: Mapping[str, float]
    community: Mapping[str, int]
    bridges: frozenset[tuple[str, str]]

    def of_topic(self, topic_id: str) -> dict[str, float | int]:
        """The numbers of one topic by name."""
        return {
            "pagerank": self.pagerank[topic_id],
            "betweenness": self.betweenness[topic_id],
            "community": self.community[topic_id],
        }


def analyse(atlas: Atlas, seed: int = 0) -> Analysis:
    """Compute the analysis of an atlas; the same atlas and seed give the same numbers.

    NetworkX takes 2 s for 2,000 topics. Betweenness grows with topics × edges, so that it is sampled in large atlases.
    """
    import networkx as nx

    ids = [topic.id for topic in atlas.topics]
    needs: nx.DiGraph[str] = nx.DiGraph()
    needs.add_nodes_from(ids)
    needs.add_edges_from((edge.before, edge.after) for edge in atlas.prerequisites)
    linked: nx.Graph[str] = nx.Graph()
    linked.add_nodes_from(ids)
    linked.add_edges_from((topic.parent, topic.id) for topic in atlas.topics if topic.parent is not None)
    linked.add_edges_from((edge.before, edge.after) for edge in atlas.prerequisites)
    linked.add_edges_from((c.between[0], other) for c in atlas.comparisons for other in c.between[1:])
    linked.add_edges_from((group.canonical, twin) for group in atlas.concepts for twin in group.topics[1:])
    cut = {frozenset(pair) for pair in nx.bridges(linked)}
    communities = sorted(nx.community.louvain_communities(linked, seed=seed), key=lambda each: (-len(each), min(each)))
    return Analysis(
        pagerank=nx.pagerank(needs.reverse()),
        betweenness=nx.betweenness_centrality(needs, k=SAMPLES if len(ids) >= SAMPLED_FROM else None, seed=seed),
        community={topic_id: number for number, members in enumerate(communities) for topic_id in members},
        bridges=frozenset(
            (edge.before, edge.after) for edge in atlas.prerequisites if frozenset((edge.before, edge.after)) in cut
        ),
    )
