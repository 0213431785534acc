"""The atlas on a Neo4j server, read through the same protocol as the embedded one."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec

from graph.errors import ComparisonNotFound, StoreUnavailable, TopicNotFound
from graph.model import (
    Atlas,
    Comparison,
    ConceptGroup,
    Demo,
    DemoLink,
    NeighbouringField,
    ParamValue,
    Prerequisite,
    Reference,
    Topic,
)
from graph.neo4j.connection import Neo4jConnection, Row
from graph.neo4j.recent import Recent
from graph.neo4j.schema import VERSION, refuse_newer, schema_version
from graph.networkx_store import nearest_ids

TOPICS_KEPT = 20_000
"""Topics whose surroundings are kept; one takes some 3 kB."""

TOPIC = """t {
    .*,
    parent: head([(above:Topic)-[:HAS_SUBTOPIC]->(t) | above.id]),
    refs: COLLECT { MATCH (t)-[c:CITES]->(work:Reference) RETURN work.key ORDER BY c.order },
    demo: head([(t)-[d:DEMONSTRATED_BY]->(demo:Demo) | d {.params, .look_at, demo: demo.id}])
}"""
"""A topic as a map, where `t` is its node."""

SURROUNDINGS = f"""
MATCH (:Build {{id: $build}})
UNWIND $ids AS id
OPTIONAL MATCH (t:Topic {{build: $build, id: id}})
RETURN id, {TOPIC} AS topic,
    COLLECT {{ MATCH (a:Topic)-[:HAS_SUBTOPIC*1..]->(t) RETURN a.id ORDER BY a.depth }} AS ancestors,
    COLLECT {{ MATCH (t)-[r:HAS_SUBTOPIC]->(c:Topic) RETURN c.id ORDER BY r.order }} AS children,
    COLLECT {{
        MATCH (before:Topic)-[e:PREREQUISITE_OF]->(t)
        RETURN e {{.*, before: before.id, after: t.id, position: before.position}} ORDER BY before.position, e.order
    }} AS prerequisites,
    COLLECT {{
        MATCH (t)-[e:PREREQUISITE_OF]->(after:Topic)
        RETURN e {{.*, before: t.id, after: after.id, position: t.position}} ORDER BY after.position, e.order
    }} AS dependents,
    COLLECT {{ MATCH (c:Comparison)-[:HAS_SIDE]->(t) RETURN c.id ORDER BY c.order }} AS comparisons,
    COLLECT {{
        MATCH (lead:Topic)-[:SAME_CONCEPT_AS*0..1]->(t)
        WHERE NOT EXISTS {{ (:Topic)-[:SAME_CONCEPT_AS]->(lead) }}
        MATCH (lead)-[r:SAME_CONCEPT_AS*0..1]->(place:Topic)
        RETURN place.id ORDER BY coalesce(head(r).order, 0)
    }} AS places
"""
"""Everything about some topics in one round trip. No row at all means that the build itself is gone."""


SUBTREE = "MATCH (:Topic {build: $build, id: $id})-[:HAS_SUBTOPIC*0..]->(t:Topic)"

SERVING = "MATCH (:Atlas {name: 'genatlas'})-[:SERVES]->(b:Build) RETURN b.id AS id"


@dataclass(frozen=True, slots=True)
class _Surroundings:
    """A topic with the ends of its edges. `places` are those of its concept, the canonical one first, itself included.

    `prerequisites` have the position of `before` beside them, which orders those of several topics.
    """

    topic: Topic
    ancestors: tuple[str, ...]
    children: tuple[str, ...]
    prerequisites: tuple[tuple[int, Prerequisite], ...]
    dependents: tuple[Prerequisite, ...]
    comparisons: tuple[str, ...]
    places: tuple[str, ...]


class Neo4jStore:
    """One build on a server. A build never changes, so that what was read once is kept. Safe to share between threads.

    Raises StoreUnavailable where the server cannot answer, or has this build no longer.
    """

    def __init__(self, connection: Neo4jConnection, build: str) -> None:
        self._connection = connection
        self.build = build
        self._kept = Recent[str, _Surroundings](TOPICS_KEPT)

    def topic(self, topic_id: str) -> Topic:
        return self._about(topic_id).topic

    def topics(self) -> Sequence[Topic]:
        return self._all_topics

    @cached_property
    def _all_topics(self) -> tuple[Topic, ...]:
        return self._select("MATCH (t:Topic {build: $build}) WHERE t.id IS NOT NULL")

    def children(self, topic_id: str) -> Sequence[Topic]:
        return self._topics(self._about(topic_id).children)

    def ancestors(self, topic_id: str) -> Sequence[Topic]:
        return self._topics(self._about(topic_id).ancestors)

    def subtree(self, topic_id: str) -> Sequence[Topic]:
        found = self._select(SUBTREE, id=topic_id)
        return found or (self.topic(topic_id),)  # which says what is wrong with the id

    def prerequisites(self, topic_id: str) -> Sequence[Prerequisite]:
        return tuple(edge for _, edge in self._about(topic_id).prerequisites)

    def effective_prerequisites(self, topic_id: str) -> Sequence[Prerequisite]:
        holders = self._read_about([*self._about(topic_id).ancestors, topic_id])
        edges = [each for holder in holders.values() for each in holder.prerequisites]
        return tuple(edge for _, edge in sorted(edges, key=lambda each: (each[0], each[1].after)))

    def dependents(self, topic_id: str) -> Sequence[Prerequisite]:
        return self._about(topic_id).dependents

    def comparisons(self, topic_id: str) -> Sequence[Comparison]:
        wanted = self._about(topic_id).comparisons
        return tuple(self._comparisons(wanted)) if wanted else ()

    def comparison(self, comparison_id: str) -> Comparison:
        found = self._comparisons([comparison_id])
        if not found:
            rows = self._read("MATCH (:Build {id: $build}) MATCH (c:Comparison {build: $build}) RETURN c.id AS id")
            raise ComparisonNotFound(comparison_id, nearest_ids(comparison_id, [row["id"] for row in rows]))
        return found[0]

    def twins(self, topic_id: str) -> Sequence[Topic]:
        return self._topics(place for place in self._about(topic_id).places if place != topic_id)

    def canonical(self, topic_id: str) -> Topic:
        return self.topic(self._about(topic_id).places[0])

    def demos(self) -> Sequence[Demo]:
        rows = self._read("MATCH (d:Demo {build: $build}) RETURN d {.id, .title, .question} AS demo ORDER BY d.id")
        return tuple(msgspec.convert(row["demo"], Demo) for row in rows)

    def demonstrated_by(self, demo_id: str) -> Sequence[Topic]:
        return self._select("MATCH (:Demo {build: $build, id: $demo})<-[:DEMONSTRATED_BY]-(t:Topic)", demo=demo_id)

    def references(self) -> Sequence[Reference]:
        rows = self._read("MATCH (r:Reference {build: $build}) RETURN r {.*} AS work ORDER BY r.key")
        return tuple(msgspec.convert(row["work"], Reference) for row in rows)

    def prefetch(self, topic_ids: Iterable[str]) -> None:
        self._read_about(topic_ids)

    def atlas(self) -> Atlas:
        """The whole, as it was loaded."""
        build = self._read("MATCH (b:Build {id: $build}) RETURN b.title AS title, b.boundary AS boundary")[0]
        edges = self._read(
            """
            MATCH (before:Topic {build: $build})-[e:PREREQUISITE_OF]->(after:Topic)
            RETURN e {.*, before: before.id, after: after.id} AS edge ORDER BY e.order
            """
        )
        groups = self._read(
            """
            MATCH (lead:Topic {build: $build})-[e:SAME_CONCEPT_AS]->(twin:Topic)
            WITH lead.id AS lead, e.group AS number, twin.id AS twin ORDER BY number, e.order
            WITH lead, number, collect(twin) AS twins
            RETURN [lead] + twins AS topics ORDER BY number
            """
        )
        comparisons = self._read("MATCH (c:Comparison {build: $build}) RETURN c.id AS id ORDER BY c.order")
        works = self._read("MATCH (r:Reference {build: $build}) RETURN r {.*} AS work ORDER BY r.order")
        demos = self._read("MATCH (d:Demo {build: $build}) RETURN d {.*} AS demo ORDER BY d.order")
        return Atlas(
            build["title"],
            tuple(self.topics()),
            tuple(_edge(row["edge"]) for row in edges),
            tuple(self._comparisons([row["id"] for row in comparisons])),
            tuple(ConceptGroup(tuple(row["topics"])) for row in groups),
            tuple(msgspec.convert(row["work"], Reference) for row in works),
            tuple(msgspec.convert(row["demo"], Demo) for row in demos),
            msgspec.json.decode(build["boundary"], type=tuple[NeighbouringField, ...]),
        )

    def facts(self) -> Mapping[str, str]:
        """What was kept with the build: counts, the model's name."""
        return self._read("MATCH (b:Build {id: $build}) RETURN b {.*} AS facts")[0]["facts"]

    def data(self) -> Mapping[str, bytes]:
        """What a search needs besides the passages, by name."""
        rows = self._read("MATCH (d:SearchData {build: $build}) RETURN d.name AS name, d.data AS data")
        return {row["name"]: bytes(row["data"]) for row in rows}

    def _read_about(self, topic_ids: Iterable[str]) -> dict[str, _Surroundings]:
        """The surroundings of those of some topics that the build has; what is not kept is read in one round trip."""
        found, missing = self._kept.split(topic_ids)
        if missing:
            rows = self._connection.read(SURROUNDINGS, build=self.build, ids=missing)
            if not rows:
                raise self._gone()
            read = {str(row["id"]): _surroundings(row) for row in rows if row["topic"] is not None}
            self._kept.keep(read)
            found |= read
        return found

    def _about(self, topic_id: str) -> _Surroundings:
        found = self._read_about([topic_id]).get(topic_id)
        if found is None:
            rows = self._read("MATCH (t:Topic {build: $build}) WHERE t.id IS NOT NULL RETURN t.id AS id")
            raise TopicNotFound(topic_id, nearest_ids(topic_id, [row["id"] for row in rows]))
        return found

    def _topics(self, topic_ids: Iterable[str]) -> tuple[Topic, ...]:
        wanted = list(topic_ids)
        found = self._read_about(wanted)
        return tuple(found[each].topic for each in wanted)

    def _select(self, match: str, **parameters: object) -> tuple[Topic, ...]:
        """The topics `t` of a pattern, in outline order."""
        rows = self._read(f"{match} RETURN {TOPIC} AS topic ORDER BY t.position", **parameters)
        return tuple(_topic(row["topic"]) for row in rows)

    def _comparisons(self, ids: Sequence[str]) -> list[Comparison]:
        rows = self._read(
            """
            UNWIND $ids AS id
            MATCH (c:Comparison {build: $build, id: id})
            RETURN c {
                .*,
                between: COLLECT { MATCH (c)-[s:HAS_SIDE]->(t:Topic) RETURN t.id ORDER BY s.order },
                refs: COLLECT { MATCH (c)-[r:CITES]->(work:Reference) RETURN work.key ORDER BY r.order }
            } AS comparison
            """,
            ids=ids,
        )
        return [_comparison(row["comparison"]) for row in rows]

    def _read(self, query: str, **parameters: object) -> list[Row]:
        """Rows of a query of this build. An empty answer of a build that is gone is an error."""
        rows = self._connection.read(query, build=self.build, **parameters)
        if not rows and not self._connection.read("MATCH (b:Build {id: $build}) RETURN b.id", build=self.build):
            raise self._gone()
        return rows

    def _gone(self) -> StoreUnavailable:
        return StoreUnavailable(
            f"The build {self.build[:12]} is on {self._connection.url} no longer: a newer one serves. Open it anew."
        )


def serving_build(connection: Neo4jConnection) -> str:
    """The id of the build that serves. Raises StoreUnavailable where none was loaded, or by another version."""
    version = schema_version(connection)
    refuse_newer(connection, version)
    rows = connection.read(SERVING)
    if not rows or version < VERSION:
        raise StoreUnavailable(
            f"No atlas for this version is on {connection.url}. Load the one that you built: genatlas neo4j load"
        )
    return str(rows[0]["id"])


def _surroundings(row: Row) -> _Surroundings:
    return _Surroundings(
        _topic(row["topic"]),
        tuple(row["ancestors"]),
        tuple(row["children"]),
        tuple((edge["position"], _edge(edge)) for edge in row["prerequisites"]),
        tuple(_edge(edge) for edge in row["dependents"]),
        tuple(row["comparisons"]),
        tuple(row["places"]),
    )


def _topic(fields: Mapping[str, Any]) -> Topic:
    demo = fields["demo"]
    link = None
    if demo is not None:
        params = msgspec.json.decode(demo["params"], type=dict[str, ParamValue])
        link = DemoLink(demo["demo"], demo["look_at"], params)
    return msgspec.convert({**fields, "demo": link}, Topic)


def _comparison(fields: Mapping[str, Any]) -> Comparison:
    return msgspec.convert({**fields, "aspects": msgspec.json.decode(fields["aspects"])}, Comparison)


def _edge(fields: Mapping[str, Any]) -> Prerequisite:
    return msgspec.convert(fields, Prerequisite)
