"""How long a study path takes, beside plain NetworkX: every goal of the atlas, and a sample of a much larger one.

    python -m bench.paths [--topics 100000] [--sample 200]      over the atlas that was built last, and a synthetic one

NetworkX does no more than the closure and the sort: `ancestors` and `topological_sort` over a graph that has every
effective prerequisite as an edge already, helpful ones too for the thorough depth, all alternatives of an either-or. A
path besides chooses between alternatives and twins, gives reasons, and stays in one section as long as it can. Times
are of one processor, each goal once, on a store that has been asked before.
"""

import argparse
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import networkx as nx
import numpy as np
from rich.console import Console
from rich.table import Table

from bench.synthetic import synthetic_atlas
from graph import GraphStore, NetworkXStore
from service import Settings, open_service
from study import plan_path


@dataclass(frozen=True)
class Timed:
    """What some goals took: seconds of each, and the steps of each."""

    seconds: list[float]
    steps: list[int]

    def row(self) -> list[str]:
        """As the end of a line of the table."""
        ms = [1e3 * each for each in self.seconds]
        return [
            f"{statistics.median(self.steps):,.0f}", f"{max(self.steps):,}", f"{statistics.median(ms):,.2f} ms",
            f"{np.percentile(ms, 99):,.1f} ms", f"{max(ms):,.1f} ms",
        ]  # fmt: skip


def timed(goals: Sequence[str], steps_to: Callable[[str], int]) -> Timed:
    """Ask for the steps to each goal."""
    seconds: list[float] = []
    steps: list[int] = []
    for goal in goals:
        began = time.process_time()
        steps.append(steps_to(goal))
        seconds.append(time.process_time() - began)
    return Timed(seconds, steps)


def needs_graph(store: GraphStore, thorough: bool) -> "nx.DiGraph[str]":
    """Every effective prerequisite as an edge from what comes before to what comes after."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    for topic in store.topics():
        graph.add_node(topic.id)
        edges = store.effective_prerequisites(topic.id)
        graph.add_edges_from((edge.before, topic.id) for edge in edges if thorough or edge.strength == "needed")
    return graph


def with_networkx(store: GraphStore, graph: "nx.DiGraph[str]", thorough: bool) -> Callable[[str], int]:
    """The closure of a goal and its order, as NetworkX has them."""

    def steps_to(goal: str) -> int:
        goals = [topic.id for topic in store.subtree(goal)] if thorough else [goal]
        wanted = set(goals)
        for each in goals:
            before: set[str] = nx.ancestors(graph, each)  # pyright: ignore[reportUnknownMemberType]
            wanted |= before
        return len(list(nx.topological_sort(graph.subgraph(wanted))))

    return steps_to


def measure(table: Table, label: str, store: GraphStore, goals: Sequence[str], thorough: bool) -> None:
    """Two lines of the table."""
    depth = "thorough" if thorough else "essential"

    def add(by: str, steps_to: Callable[[str], int]) -> None:
        steps_to(goals[0])  # loads what is loaded once
        table.add_row(label, f"{len(goals):,}", depth, by, *timed(goals, steps_to).row())

    add("study path", lambda goal: len(plan_path(store, [goal], thorough=thorough).steps))
    add("NetworkX", with_networkx(store, needs_graph(store, thorough), thorough))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--topics", type=int, default=100_000, help="topics of the synthetic atlas")
    parser.add_argument("--sample", type=int, default=200, help="goals drawn from it")
    given = parser.parse_args()
    table = Table("atlas", "goals", "depth", "by", "steps: median", "most", "time: median", "99th", "most")
    store = open_service(Settings.read()).store
    goals = [topic.id for topic in store.topics()]
    for thorough in (False, True):
        measure(table, "shipped", store, goals, thorough)
    atlas = synthetic_atlas(given.topics)
    goals = [topic.id for topic in random.Random(0).sample(atlas.topics, given.sample)]
    measure(table, f"{given.topics:,} topics", NetworkXStore(atlas), goals, thorough=False)
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
