"""Loading a build onto a server: in batches, beside the one that serves, switched in one transaction.

Every batch is one transaction that also writes its `LoadStep`; a loader that was killed is run again and skips what has
its step. Readers follow (:Atlas)-[:SERVES]->(:Build), which moves when everything is there and counted.
"""

import contextlib
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import msgspec

from graph.analysis import Analysis
from graph.errors import AtlasError
from graph.model import Atlas
from graph.neo4j.connection import Conflict, Neo4jConnection
from graph.neo4j.schema import migrate
from graph.neo4j.store import SERVING
from graph.progress import Progress
from graph.tables import Rows, edge_tables, node_tables

BATCH = 1_000
"""Rows of one transaction. 500 to 1,000 load fastest; larger ones only take more of the server's memory."""

WRITERS = 2
"""Transactions at a time. Where two wait for each other's nodes the server stops one, which is tried again."""

ABANDONED_S = 600
"""Seconds without a step after which the unfinished build of another loader counts as abandoned."""


class LoadIncomplete(AtlasError):
    """What is on the server is not what was sent, so that it does not serve."""


@dataclass(frozen=True, slots=True)
class PassageRow:
    """One passage to load: `words` are what a word search looks up, `vector` its embedding as a list of numbers.

    `vector16` is the same as little-endian half floats: what a reader of a whole topic takes, in a tenth of the time.
    """

    topic: str
    field: str
    text: str
    words: Sequence[str]
    vector: Sequence[float]
    vector16: bytes


@dataclass(frozen=True, slots=True)
class Contents:
    """What one build consists of. `facts` are kept with the build as they are: counts, the model's name.

    `passages` may be made while they are loaded; `passage_count` and `dimension` say what will come. `data` are what a
    search needs besides, by name, made when all passages were. `analysis` is computed beside the loading.
    """

    build: str
    atlas: Atlas
    facts: Mapping[str, str] = field(default_factory=dict[str, str])
    data: Mapping[str, Callable[[], bytes]] = field(default_factory=dict[str, Callable[[], bytes]])
    analysis: Callable[[], Analysis] | None = None
    passages: Callable[[], Iterable[PassageRow]] = tuple[PassageRow]
    passage_count: int = 0
    dimension: int = 0


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What loading did. `changed` is False when this build served already; `pruned` are older builds removed."""

    build: str
    changed: bool
    nodes: int
    relationships: int
    seconds: float
    pruned: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Phase:
    """Rows of one kind and the query that writes a batch of them. Phases follow each other; batches need not."""

    name: str
    query: str
    rows: Callable[[], Iterable[Mapping[str, Any]]]
    count: int


def load(connection: Neo4jConnection, contents: Contents, progress: Progress) -> LoadReport:
    """Load a build and let it serve; do nothing when it serves already.

    The build that served before is kept for readers that still have it open; older ones are removed. An error, or a
    kill at any moment, leaves the old one serving; running it again goes on. Raises StoreUnavailable and
    LoadIncomplete.
    """
    started = time.monotonic()
    connection.check()
    migrate(connection)
    build = contents.build
    serving = connection.read(SERVING)
    if serving and serving[0]["id"] == build:
        return LoadReport(build, False, 0, 0, time.monotonic() - started)
    _begin(connection, contents)
    phases = _phases(contents)
    total, done = sum(phase.count for phase in phases), 0
    with ThreadPoolExecutor(1) as beside:
        analysis = None if contents.analysis is None else beside.submit(contents.analysis)
        for phase in phases:
            for rows in _run(connection, build, phase):
                done += rows
                progress(f"Loading {phase.name}", done / max(1, total))
        if analysis is not None:
            progress("Adding the analysis", 1.0)
            _add(connection, build, analysis.result())
    progress("Waiting for the indexes", 1.0)
    connection.command("CALL db.awaitIndexes(600)")
    try:
        _verify(connection, contents, phases)
    except LoadIncomplete:
        remove(connection, build)  # so that the next try begins anew
        raise
    _serve(connection, build)
    pruned = prune(connection)
    nodes = sum(phase.count for phase in phases if phase.name in NODE_LABELS)
    return LoadReport(build, True, nodes, total - nodes, time.monotonic() - started, pruned)


def passage_label(build: str) -> str:
    """The second label of a build's passages."""
    return f"Passage_{_short(build)}"


def vector_index(build: str) -> str:
    """Name of the index of a build's vectors."""
    return f"passage_vectors_{_short(build)}"


def words_index(build: str) -> str:
    """Name of the full-text index of a build's words."""
    return f"passage_words_{_short(build)}"


def _short(build: str) -> str:
    """The part of a build's id that stands in names, which Cypher takes no parameters for."""
    if not re.fullmatch(r"[0-9a-f]{12,64}", build):
        raise ValueError(f'A build is named by a hash in hexadecimal, not "{build}".')
    return build[:12]


def _begin(connection: Neo4jConnection, contents: Contents) -> None:
    build = contents.build
    connection.write(
        """
        MERGE (b:Build {id: $build})
        ON CREATE SET b.state = 'loading', b.begun = datetime()
        SET b += $facts, b.title = $title, b.boundary = $boundary,
            b.vector_index = $vectors, b.words_index = $words
        """,
        build=build,
        facts=dict(contents.facts),
        title=contents.atlas.title,
        boundary=msgspec.json.encode(contents.atlas.boundary).decode(),
        vectors=vector_index(build),
        words=words_index(build),
    )
    if not contents.passage_count:
        return
    # The indexes stand before the passages come: each batch then takes its part of the work, in both writers, where
    # filling an index afterwards takes one thread and twice as long.
    connection.command(
        f"CREATE VECTOR INDEX {vector_index(build)} IF NOT EXISTS "
        f"FOR (n:{passage_label(build)}) ON n.embedding OPTIONS {{indexConfig: {{"
        f"`vector.dimensions`: {contents.dimension}, `vector.similarity_function`: 'cosine'}}}}"
    )
    connection.command(
        f"CREATE FULLTEXT INDEX {words_index(build)} IF NOT EXISTS FOR (n:{passage_label(build)}) ON EACH [n.words] "
        "OPTIONS {indexConfig: {`fulltext.analyzer`: 'whitespace'}}"
    )


NODE_LABELS = {
    "topics": "Topic",
    "demos": "Demo",
    "references": "Reference",
    "comparisons": "Comparison",
    "passages": "Passage",
    "search data": "SearchData",
}
"""Phases that write nodes, and the label that counts them."""


def _phases(contents: Contents) -> list[_Phase]:
    """Nodes first, then the edges between them."""
    nodes = node_tables(contents.atlas)
    keys = {table.label: table.key for table in nodes}

    def phase(name: str, query: str, rows: Rows) -> _Phase:
        return _Phase(name, query, lambda: rows, len(rows))

    return [
        *(
            phase(
                table.name, f"UNWIND $rows AS row CREATE (n:{table.label} {{build: $build}}) SET n += row", table.rows
            )
            for table in nodes
        ),
        _Phase(
            "passages",
            f"""
            UNWIND $rows AS row
            MATCH (t:Topic {{build: $build, id: row.topic}})
            CREATE (t)-[:HAS_PASSAGE]->(p:Passage:{passage_label(contents.build)} {{
                build: $build, number: row.number, field: row.field, text: row.text, words: row.words,
                vector16: row.vector16
            }})
            WITH p, row CALL db.create.setNodeVectorProperty(p, 'embedding', row.vector)
            """,
            lambda: _passages(contents.passages()),
            contents.passage_count,
        ),
        _Phase(
            "search data",
            "UNWIND $rows AS row CREATE (d:SearchData {build: $build}) SET d += row",
            lambda: ({"name": name, "data": make()} for name, make in contents.data.items()),
            len(contents.data),
        ),
        *(
            phase(
                table.name,
                f"""
                UNWIND $rows AS row
                MATCH (a:{table.start} {{build: $build, {keys[table.start]}: row.start}})
                MATCH (z:{table.end} {{build: $build, {keys[table.end]}: row.end}})
                CREATE (a)-[e:{table.kind}]->(z) SET e += row.edge
                """,
                table.rows,
            )
            for table in edge_tables(contents.atlas)
        ),
    ]


def _passages(passages: Iterable[PassageRow]) -> Iterator[Mapping[str, Any]]:
    for number, passage in enumerate(passages):
        yield {
            "number": number,
            "topic": passage.topic,
            "field": passage.field,
            "text": passage.text,
            "words": " ".join(passage.words),
            "vector": passage.vector,
            "vector16": passage.vector16,
        }


def _run(connection: Neo4jConnection, build: str, phase: _Phase) -> Iterator[int]:
    """Write the batches of a phase that have no step yet; yield how many rows each has."""
    query = f"CREATE (:LoadStep {{build: $build, name: $step, at: datetime()}}) WITH 1 AS begun {phase.query}"
    rows = connection.read(
        "MATCH (s:LoadStep {build: $build}) WHERE s.name STARTS WITH $phase RETURN s.name AS name",
        build=build,
        phase=f"{phase.name} ",
    )
    done = {row["name"] for row in rows}

    def write(number: int, batch: Rows) -> int:
        step = f"{phase.name} {number}"
        if step not in done:
            # A conflict says that this step is there: by another loader, or by a first try whose answer was lost.
            with contextlib.suppress(Conflict):
                connection.write(query, build=build, step=step, rows=batch)
        return len(batch)

    source = enumerate(_batched(phase.rows(), BATCH))
    with ThreadPoolExecutor(WRITERS) as pool:
        while batches := list(islice(source, 4 * WRITERS)):  # few at a time: they need not all be in memory
            for written in as_completed([pool.submit(write, number, batch) for number, batch in batches]):
                yield written.result()


def _add(connection: Neo4jConnection, build: str, analysis: Analysis) -> None:
    """Write what the analysis found as properties; writing it twice changes nothing."""
    topics = [{"id": topic_id} | analysis.of_topic(topic_id) for topic_id in analysis.pagerank]
    for rows in _batched(topics, BATCH):
        connection.write(
            "UNWIND $rows AS row MATCH (t:Topic {build: $build, id: row.id}) SET t += row", build=build, rows=rows
        )
    for rows in _batched([{"before": before, "after": after} for before, after in sorted(analysis.bridges)], BATCH):
        connection.write(
            """
            UNWIND $rows AS row
            MATCH (:Topic {build: $build, id: row.before})-[e:PREREQUISITE_OF]->(:Topic {build: $build, id: row.after})
            SET e.bridge = true
            """,
            build=build,
            rows=rows,
        )


def _batched(rows: Iterable[Mapping[str, Any]], size: int) -> Iterator[Rows]:
    source = iter(rows)
    while batch := list(islice(source, size)):
        yield batch


def _verify(connection: Neo4jConnection, contents: Contents, phases: Sequence[_Phase]) -> None:
    """Raise LoadIncomplete unless the server has as many nodes and relationships of this build as were sent."""
    expected = {NODE_LABELS[phase.name]: phase.count for phase in phases if phase.name in NODE_LABELS}
    edges = sum(phase.count for phase in phases if phase.name not in NODE_LABELS) + contents.passage_count

    def count(query: str) -> int:
        return int(connection.read(f"{query} AS n", build=contents.build)[0]["n"])

    found = {label: count(f"MATCH (n:{label} {{build: $build}}) RETURN count(n)") for label in expected}
    expected["relationships"] = edges
    found["relationships"] = sum(
        count(f"MATCH (n:{label} {{build: $build}})-[r]->() RETURN count(r)") for label in ("Topic", "Comparison")
    )
    wrong = [f"{found[part]:,} of {sent:,} {part}" for part, sent in expected.items() if found[part] != sent]
    if wrong:
        raise LoadIncomplete(f"Build {contents.build[:12]} has {', '.join(wrong)} and does not serve. Load it again.")


def _serve(connection: Neo4jConnection, build: str) -> None:
    """Let readers find this build: one transaction, after which it serves and the one before does not."""
    connection.write(
        """
        MATCH (b:Build {id: $build})
        MERGE (a:Atlas {name: 'genatlas'})
        WITH a, b
        OPTIONAL MATCH (a)-[old:SERVES]->(previous:Build)
        SET b.state = 'ready', b.previous = previous.id, b.ready = datetime()
        DELETE old
        CREATE (a)-[:SERVES]->(b)
        """,
        build=build,
    )


def prune(connection: Neo4jConnection) -> tuple[str, ...]:
    """Remove the builds that neither serve nor served just before nor are being loaded; return their ids."""
    rows = connection.read(
        """
        MATCH (:Atlas {name: 'genatlas'})-[:SERVES]->(serving:Build)
        MATCH (b:Build) WHERE b.id <> serving.id AND b.id <> coalesce(serving.previous, '')
        OPTIONAL MATCH (s:LoadStep {build: b.id})
        WITH b, max(s.at) AS last
        WHERE b.state = 'ready' OR coalesce(last, b.begun) < datetime() - duration({seconds: $abandoned})
        RETURN b.id AS id
        """,
        abandoned=ABANDONED_S,
    )
    pruned = tuple(str(row["id"]) for row in rows)
    for build in pruned:
        remove(connection, build)
    return pruned


def remove(connection: Neo4jConnection, build: str) -> None:
    """Remove a build with everything of it; a reader that still has it open is told so. Raises StoreUnavailable."""
    connection.write("MATCH (b:Build {id: $build}) DETACH DELETE b", build=build)  # from now on nobody reads it
    for index in (vector_index(build), words_index(build)):
        connection.command(f"DROP INDEX {index} IF EXISTS")
    for label in (*reversed(NODE_LABELS.values()), "LoadStep"):
        connection.command(
            f"MATCH (n:{label} {{build: $build}}) CALL (n) {{ DETACH DELETE n }} IN TRANSACTIONS OF 5000 ROWS",
            build=build,
        )
