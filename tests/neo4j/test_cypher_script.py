"""The Cypher script of `genatlas export`, run on a server."""

from collections.abc import Generator, Iterable, Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graph import Atlas, to_cypher
from graph.cypher import cypher_literal
from graph.neo4j import Neo4jConnection
from graph.tables import edge_tables, node_tables
from tests.graph.atlases import ATLAS, atlases
from tests.neo4j.conftest import wipe

pytestmark = pytest.mark.xdist_group("neo4j")
text = st.text(st.characters(exclude_categories=["Cs"]))
ESCAPES = st.text(st.sampled_from("\\u0027'\"\n\r;/`{}$"), max_size=12)


@pytest.fixture
def database(empty: Neo4jConnection) -> Generator[Neo4jConnection]:
    """An empty database, and afterwards one without the script's constraints: builds beside each other break them."""
    yield empty
    wipe(empty)
    for row in empty.read("SHOW CONSTRAINTS YIELD name WHERE name STARTS WITH 'genatlas_' RETURN name"):
        empty.command(f"DROP CONSTRAINT {row['name']}")


def run(connection: Neo4jConnection, script: str) -> None:
    for statement in script.split("\n", 1)[1].split(";\n")[:-1]:
        connection.command(statement)


def assert_holds(connection: Neo4jConnection, atlas: Atlas) -> None:
    """The server has every node and edge of the atlas with all that it says, and no other."""
    tables = node_tables(atlas)
    keys = {table.label: table.key for table in tables}
    for table in tables:
        found = connection.read(f"MATCH (n:{table.label}) RETURN properties(n) AS row")
        assert comparable(row["row"] for row in found) == comparable(table.rows)
    for table in edge_tables(atlas):
        found = connection.read(
            f"MATCH (a:{table.start})-[e:{table.kind}]->(z:{table.end}) "
            f"RETURN a.{keys[table.start]} AS start, z.{keys[table.end]} AS end, properties(e) AS edge"
        )
        assert comparable(map(flat, found)) == comparable(map(flat, table.rows))


def flat(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """An edge with its ends among its properties; '' stands for a prerequisite's group that is none."""
    edge = {name: value for name, value in row["edge"].items() if (name, value) != ("group", "")}
    return {"start": row["start"], "end": row["end"], **edge}


def comparable(rows: Iterable[Mapping[str, Any]]) -> list[bytes]:
    """The rows in one order, without what is null."""
    told = ({name: value for name, value in row.items() if value is not None} for row in rows)
    return sorted(msgspec.json.encode(row, order="sorted") for row in told)


def test_the_script_brings_the_whole_atlas_and_may_be_run_again(database: Neo4jConnection) -> None:
    for _ in range(2):
        run(database, to_cypher(ATLAS))
        assert_holds(database, ATLAS)


@given(atlas=atlases(topics_at_most=8))
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_script_brings_any_atlas(database: Neo4jConnection, atlas: Atlas) -> None:
    wipe(database)
    run(database, to_cypher(atlas))
    assert_holds(database, atlas)


@given(texts=st.lists(text | ESCAPES, max_size=10))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_text_arrives_as_it_was(connection: Neo4jConnection, texts: list[str]) -> None:
    literal = cypher_literal({"texts": texts})
    assert connection.read(f"RETURN {literal} AS value") == [{"value": {"texts": texts}}]
