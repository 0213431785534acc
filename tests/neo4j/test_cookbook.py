"""Every query of docs/cypher.md on a real server, and what some of them answer beside the embedded store."""

import dataclasses
import re
from collections import Counter
from collections.abc import Generator
from itertools import islice
from pathlib import Path

import pytest

from graph import NetworkXStore, transitive_prerequisites
from graph.neo4j import Neo4jConnection, load
from graph.neo4j.connection import Row
from service.on_neo4j import contents_of
from service.snapshot import open_current
from tests.conftest import ROOT
from tests.neo4j.conftest import quiet, wipe
from tests.neo4j.plans import SCANS, operators

pytestmark = pytest.mark.xdist_group("neo4j")

PASSAGES = 600
"""So many passages are loaded: those of the first sections, enough for the one query that asks for vectors."""

PAGE = (ROOT / "docs" / "cypher.md").read_text()
QUERIES: dict[str, str] = dict(
    re.findall(r"^### ([^\n]+)\n[^#]*?^```cypher\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
)
"""The page's queries by the question that heads them."""


@pytest.fixture(scope="module")
def store(built_home: Path, connection: Neo4jConnection) -> Generator[NetworkXStore]:
    """The shipped atlas in memory, while the server has it too."""
    wipe(connection)
    contents = contents_of(open_current(built_home))
    few = dataclasses.replace(contents, passages=lambda: islice(contents.passages(), PASSAGES), passage_count=PASSAGES)
    load(connection, few, quiet)
    connection.command("CALL db.index.fulltext.awaitEventuallyConsistentIndexRefresh()")
    yield NetworkXStore(contents.atlas)
    wipe(connection)


def rows_of(connection: Neo4jConnection, question: str, was: str = "", instead: str = "") -> list[Row]:
    """The rows of a query, with something replaced in it."""
    query = QUERIES[question]
    assert was in query
    return connection.read(query.replace(was, instead) if was else query)


def test_the_page_has_a_query_under_each_of_its_questions() -> None:
    assert len(QUERIES) >= 20
    assert len(QUERIES) == PAGE.count("```cypher\n") == len(re.findall(r"^### ", PAGE, re.MULTILINE))
    assert all(
        query.startswith("MATCH (:Atlas {name: 'genatlas'})-[:SERVES]->(b:Build)\n") for query in QUERIES.values()
    )


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("question", QUERIES)
def test_it_answers_and_reads_no_more_than_it_must(
    connection: Neo4jConnection, server_home: Path, question: str
) -> None:
    assert rows_of(connection, question)
    found = operators(server_home, QUERIES[question], {})
    assert not SCANS & {*found}, found


ATTENTION = "transformer-architecture/attention-mechanism"


def test_below_a_topic_is_its_subtree(connection: Neo4jConnection, store: NetworkXStore) -> None:
    found = rows_of(connection, "What lies below this topic, and how deep?")
    depth = store.topic(ATTENTION).depth
    assert [(row["topic"], row["levels_below"]) for row in found] == [
        (topic.id, topic.depth - depth) for topic in store.subtree(ATTENTION)
    ]


@pytest.mark.parametrize("topic", [f"{ATTENTION}/self-attention", "stable-diffusion", "bert/pre-training-tasks"])
def test_prerequisites_are_the_effective_ones(connection: Neo4jConnection, store: NetworkXStore, topic: str) -> None:
    question = "What must I know before self-attention?"
    found = rows_of(connection, question, f"{ATTENTION}/self-attention", topic)
    assert Counter((row["before"], row["written_at"], row["why"], row["either_or"]) for row in found) == Counter(
        (edge.before, edge.after, edge.why, edge.group) for edge in store.effective_prerequisites(topic)
    )


@pytest.mark.parametrize(
    "topic", ["bert/pre-training-tasks", f"{ATTENTION}/self-attention", "deepseek-models/deepseek-v3"]
)
def test_all_the_way_down_is_the_closure(connection: Neo4jConnection, store: NetworkXStore, topic: str) -> None:
    question = "What must I know before it all the way down, and why?"
    found = rows_of(connection, question, f"{ATTENTION}/self-attention", topic)
    edges = transitive_prerequisites(store, topic)
    assert edges
    assert sorted(row["before"] for row in found) == sorted({edge.before for edge in edges})
    reasons = {edge.why for edge in edges}
    assert all(row["reasons"] and {*row["reasons"]} <= reasons for row in found)


def test_what_a_topic_unlocks_are_its_dependents(connection: Neo4jConnection, store: NetworkXStore) -> None:
    found = rows_of(connection, "What does this topic unlock?")
    topic = "language-models/word-embeddings-and-representations/tokenization"
    assert {(row["unlocks"], row["why"], row["topics_below"]) for row in found} == {
        (edge.after, edge.why, len(store.subtree(edge.after)) - 1) for edge in store.dependents(topic)
    }


def test_one_begins_where_nothing_of_the_section_is_needed(connection: Neo4jConnection, store: NetworkXStore) -> None:
    found = rows_of(connection, "Where can I begin in this section?", "LIMIT 20")
    section = "transformer-architecture"
    assert {row["topic"] for row in found} == {
        topic.id
        for topic in store.subtree(section)
        if all(store.topic(edge.before).section != section for edge in store.effective_prerequisites(topic.id))
    }


def test_the_rows_of_a_comparison_are_its_aspects(connection: Neo4jConnection, store: NetworkXStore) -> None:
    found = rows_of(connection, "How do masked and causal language modelling differ?")
    comparison = store.comparison("masked-vs-causal-language-modeling")
    assert [(row["aspect"], tuple(row["values"])) for row in found] == [
        (aspect.name, aspect.values) for aspect in comparison.aspects
    ]
    assert found[0]["sides"] == [store.topic(side).title for side in comparison.between]


def test_twins_are_those_of_the_canonical_place(connection: Neo4jConnection, store: NetworkXStore) -> None:
    for row in rows_of(connection, "Where else does a concept of this section stand?"):
        assert row["twins"] == [topic.id for topic in store.twins(row["canonical"])]


def test_hours_are_the_minutes_of_all_topics(connection: Neo4jConnection, store: NetworkXStore) -> None:
    found = rows_of(connection, "How many hours does each section take?")
    minutes: Counter[str] = Counter()
    for topic in store.topics():
        minutes[topic.section] += topic.minutes or 0
    assert {row["section"]: row["hours"] for row in found} == pytest.approx(
        {section: total / 60 for section, total in minutes.items()}, abs=0.051
    )


def test_works_are_cited_as_often_as_counted(connection: Neo4jConnection, store: NetworkXStore) -> None:
    found = rows_of(connection, "Which works are cited most?")
    cited = Counter(key for topic in store.topics() for key in topic.refs)
    assert {row["reference"]: row["topics"] for row in found} == {
        row["reference"]: cited[row["reference"]] for row in found
    }
