"""Both stores as an atlas grows: how fast it is loaded, what it takes in memory, how long a question takes.

    python -m bench.neo4j_scale [TOPICS …]       10,000 and 100,000 if left out

Starts a Neo4j server of its own in a temporary folder (Java and Maven needed) and stops it. Each topic has one passage
with a vector of 384 numbers. Times are medians of 200 questions, one thread, warm caches of the server and cold ones of
the reader, beside a bare `RETURN 1` in the same run.
"""

import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median

import numpy as np
import psutil
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from bench.synthetic import synthetic_atlas
from graph import Atlas, GraphStore, NetworkXStore, neighbourhood
from graph.neo4j import Contents, Neo4jConnection, Neo4jStore, PassageRow, load
from graph.progress import no_progress
from search import passages_of
from search.neo4j_index import Neo4jIndex, vocabulary_of
from search.words import spellings_of
from service import neo4j_server

SIZES = (10_000, 100_000)
QUESTIONS = 200
DIMENSION = 384

Opens = Callable[[Neo4jConnection], Neo4jIndex]


def vectors_of(count: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Unit vectors (count, DIMENSION) that gather in clusters, as those of texts do."""
    centres = rng.normal(size=(max(20, count // 50), DIMENSION))
    rows = centres[rng.integers(0, len(centres), count)] + 0.6 * rng.normal(size=(count, DIMENSION))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def with_vectors(atlas: Atlas, build: str, vectors: NDArray[np.float32]) -> tuple[Contents, Opens]:
    """What to load: the label of each topic as its one passage."""
    passages = [passage for passage in passages_of(atlas) if passage.field == "summary"]
    words = [spellings_of(passage.text) for passage in passages]

    def rows() -> Iterator[PassageRow]:
        for passage, spelled, vector in zip(passages, words, vectors, strict=True):
            looked_up = [word for word, _ in spelled]
            halves = vector.astype("<f2").tobytes()
            yield PassageRow(passage.topic, passage.field, passage.text, looked_up, vector.tolist(), halves)

    vocabulary = vocabulary_of(words)
    contents = Contents(build, atlas, passages=rows, passage_count=len(passages), dimension=DIMENSION)
    return contents, lambda connection: Neo4jIndex(connection, build, vocabulary)


def milliseconds(ask: Callable[[int], object], count: int = QUESTIONS) -> float:
    """Median time of a question, in ms; `ask` takes its number. Twenty go before."""
    times: list[float] = []
    for number in range(-20, count):
        began = time.perf_counter()
        ask(number)
        times.append(1e3 * (time.perf_counter() - began))
    return median(times[20:])


def asked_of(store: GraphStore, ids: Sequence[str]) -> dict[str, float]:
    """The median times of two questions to a store, each about another topic."""
    return {
        "neighbourhood": milliseconds(lambda n: neighbourhood(store, ids[n])),
        "prerequisites": milliseconds(lambda n: store.effective_prerequisites(ids[QUESTIONS + 40 + n])),
    }


def _build(size: int, what: str) -> str:
    """A build's id: a hash, as a snapshot's is."""
    return hashlib.sha256(f"{size} {what}".encode()).hexdigest()


def measure(size: int, home: Path) -> dict[str, str]:
    """One row of the table."""
    rng = np.random.default_rng(0)
    atlas = synthetic_atlas(size)
    drawn: list[int] = rng.choice(size, 2 * QUESTIONS + 80, replace=False).tolist()
    ids = [atlas.topics[number].id for number in drawn]
    process = psutil.Process()
    before = process.memory_info().rss
    began = time.perf_counter()
    embedded = NetworkXStore(atlas)
    embedded.prerequisites(ids[0])  # makes the graph
    opening = time.perf_counter() - began
    grown = (process.memory_info().rss - before) / 2**20
    row = {"topics": f"{size:,}", "embedded: opened in": f"{opening:.1f} s", "embedded: memory": f"{grown:,.0f} MB"}
    row |= {f"embedded: {name}": f"{ms:.2f} ms" for name, ms in asked_of(embedded, ids).items()}
    url, password = neo4j_server.status(home).url, neo4j_server.password_of(home)
    with Neo4jConnection(url, neo4j_server.USER, password, seconds=600) as connection:
        began = time.perf_counter()
        load(connection, Contents(_build(size, "bare"), atlas), no_progress)
        row["Neo4j: loaded"] = f"{size / (time.perf_counter() - began):,.0f} topics/s"
        contents, index_of = with_vectors(atlas, _build(size, "vectors"), vectors_of(size, rng))
        began = time.perf_counter()
        load(connection, contents, no_progress)
        row["Neo4j: loaded with vectors"] = f"{size / (time.perf_counter() - began):,.0f} topics/s"
        server = psutil.Process(neo4j_server.status(home).pid)
        row["Neo4j: memory"] = f"{server.memory_info().rss / 2**20:,.0f} MB"
        bare = milliseconds(lambda _number: connection.read("RETURN 1 AS one"))
        row["Neo4j: RETURN 1"] = f"{bare:.2f} ms"
        asked = asked_of(Neo4jStore(connection, contents.build), ids)
        index, queries = index_of(connection), vectors_of(QUESTIONS + 20, rng)
        words = [[word for word, _ in spellings_of(topic.title)] for topic in atlas.topics[: QUESTIONS + 20]]
        asked["search"] = milliseconds(lambda n: index.find(words[n], queries[n], None, 80, 30))
        row |= {f"Neo4j: {name}": f"{ms:.1f} ms ({ms / bare:.1f}×)" for name, ms in asked.items()}
    return row


def main() -> None:
    """Measure the sizes of the command line, or all; print a row for each."""
    sizes = [int(each.replace(",", "")) for each in sys.argv[1:]] or list(SIZES)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        jars = os.environ.get("GENATLAS_HOME", "")
        if jars and (Path(jars) / "neo4j" / "lib").is_dir():  # fetched before
            (home / "neo4j").mkdir()
            (home / "neo4j" / "lib").symlink_to((Path(jars) / "neo4j" / "lib").resolve())
        neo4j_server.start(home, port=0, heap_mb=2048, page_cache_mb=2048)
        try:
            rows = [measure(size, home) for size in sizes]
        finally:
            neo4j_server.stop(home)
    table = Table("", *(row["topics"] for row in rows), title="Two stores as the atlas grows")
    for name in list(rows[0])[1:]:
        table.add_row(name, *(row[name] for row in rows))
    Console().print(table)


if __name__ == "__main__":
    main()
