"""The schema on the server: what is unique, what is indexed, and how an older one becomes the present one.

Every node of an atlas carries the id of its `build`, so that a new build is loaded beside the one that serves:

    (:Atlas {name})-[:SERVES]->(:Build {id, title, …})       the one pointer that readers follow
    (:Topic)-[:HAS_SUBTOPIC {order}]->(:Topic)
    (:Topic)-[:PREREQUISITE_OF {why, strength, depth, origin, group, order}]->(:Topic)
    (:Topic)-[:COMPARES_WITH {comparison}]->(:Topic)          first side to each other one
    (:Comparison)-[:HAS_SIDE {order}]->(:Topic)               what the comparison says
    (:Topic)-[:SAME_CONCEPT_AS {group, order}]->(:Topic)      canonical place to each other one
    (:Topic)-[:DEMONSTRATED_BY {params, look_at}]->(:Demo)    params as JSON
    (:Topic|Comparison)-[:CITES {order}]->(:Reference)
    (:Topic)-[:HAS_PASSAGE]->(:Passage {number, field, text, words, embedding, vector16})
    (:SearchData {name, data})                                what a search needs besides: vocabulary, examples

Passages have a second label and two indexes for each build: a search never meets another build's vectors.
"""

from graph.errors import StoreUnavailable
from graph.neo4j.connection import Neo4jConnection

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE CONSTRAINT atlas_name IF NOT EXISTS FOR (n:Atlas) REQUIRE n.name IS UNIQUE",
        "CREATE CONSTRAINT build_id IF NOT EXISTS FOR (n:Build) REQUIRE n.id IS UNIQUE",
        "CREATE CONSTRAINT load_step IF NOT EXISTS FOR (n:LoadStep) REQUIRE (n.build, n.name) IS UNIQUE",
        "CREATE CONSTRAINT topic_id IF NOT EXISTS FOR (n:Topic) REQUIRE (n.build, n.id) IS UNIQUE",
        "CREATE CONSTRAINT demo_id IF NOT EXISTS FOR (n:Demo) REQUIRE (n.build, n.id) IS UNIQUE",
        "CREATE CONSTRAINT reference_key IF NOT EXISTS FOR (n:Reference) REQUIRE (n.build, n.key) IS UNIQUE",
        "CREATE CONSTRAINT comparison_id IF NOT EXISTS FOR (n:Comparison) REQUIRE (n.build, n.id) IS UNIQUE",
        "CREATE CONSTRAINT passage_number IF NOT EXISTS FOR (n:Passage) REQUIRE (n.build, n.number) IS UNIQUE",
        "CREATE INDEX topic_title IF NOT EXISTS FOR (n:Topic) ON (n.build, n.title)",
        "CREATE FULLTEXT INDEX topic_text IF NOT EXISTS FOR (n:Topic) ON EACH [n.title, n.aliases, n.summary] "
        "OPTIONS {indexConfig: {`fulltext.analyzer`: 'english', `fulltext.eventually_consistent`: true}}",
    ),
)
"""Statements that lead from each version to the next; a new one is added at the end, and none is ever changed."""

VERSION = len(MIGRATIONS)


def schema_version(connection: Neo4jConnection) -> int:
    """The version on the server; 0 where no atlas was ever loaded."""
    rows = connection.read("MATCH (s:GenAtlasSchema) RETURN max(s.version) AS version")
    return int(rows[0]["version"] or 0)


def migrate(connection: Neo4jConnection) -> int:
    """Bring the schema to the present version and return the one that was found.

    Each step may be run twice, so that a killed migration is run again. Raises StoreUnavailable for a later version.
    """
    found = schema_version(connection)
    refuse_newer(connection, found)
    for version in range(found, VERSION):
        for statement in MIGRATIONS[version]:
            connection.command(statement)
        connection.write("MERGE (s:GenAtlasSchema) SET s.version = $version", version=version + 1)
    connection.command("CALL db.awaitIndexes(300)")
    return found


def refuse_newer(connection: Neo4jConnection, version: int) -> None:
    """Raise StoreUnavailable for a schema that a later GenAtlas made."""
    if version > VERSION:
        raise StoreUnavailable(
            f"The atlas on {connection.url} has schema {version} and this GenAtlas knows {VERSION}. Update GenAtlas."
        )
