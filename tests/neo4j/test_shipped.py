"""The shipped atlas on the server beside the same atlas in memory."""

import json
from collections.abc import Generator
from pathlib import Path
from statistics import mean

import pytest

from graph.neo4j import Neo4jConnection, load
from graph.neo4j.store import SERVING, SUBTREE, SURROUNDINGS
from search import Filters
from search.neo4j_index import ADMITTED_BY_MEANING, ADMITTED_BY_WORDS, BY_MEANING, BY_WORDS, PASSAGES
from service import Service, Settings, neo4j_server, open_service
from service.on_neo4j import contents_of
from service.snapshot import open_current
from tests.conftest import ROOT, run_genatlas
from tests.neo4j.conftest import quiet, wipe
from tests.neo4j.plans import SCANS, operators

pytestmark = pytest.mark.xdist_group("neo4j")

QUESTIONS = [json.loads(line)["question"] for line in (ROOT / "bench" / "questions.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def here(built_home: Path) -> Service:
    return open_service(Settings(home=built_home))


@pytest.fixture(scope="module")
def there(built_home: Path, server_home: Path, connection: Neo4jConnection) -> Generator[Service]:
    wipe(connection)
    load(connection, contents_of(open_current(built_home)), quiet)
    url, password = neo4j_server.status(server_home).url, neo4j_server.password_of(server_home)
    yield open_service(Settings.model_validate(
        {"home": built_home, "store": "neo4j", "neo4j_url": url, "neo4j_password": password}
    ))  # fmt: skip
    wipe(connection)


def test_both_rank_alike(here: Service, there: Service) -> None:
    overlaps: list[float] = []
    for question in QUESTIONS[::6]:
        one, other = here.search(question), there.search(question)
        assert one.abstained == other.abstained
        if one.hits:
            assert one.hits[0].topic == other.hits[0].topic
            ids = {hit.topic.id for hit in one.hits}
            overlaps.append(len(ids & {hit.topic.id for hit in other.hits}) / len(ids))
    assert mean(overlaps) >= 0.97


@pytest.mark.parametrize(
    "filters",
    [
        Filters(section="bert"),
        Filters(level="advanced"),
        Filters(starred=True),
        Filters(subtree="variational-autoencoders/training-objectives"),
    ],
)
def test_filters_admit_the_same(here: Service, there: Service, filters: Filters) -> None:
    for query in ("training objective", "how is it evaluated", "KL divergence"):
        one = [hit.topic.id for hit in here.search(query, filters=filters).hits]
        other = [hit.topic.id for hit in there.search(query, filters=filters).hits]
        assert len({*one} & {*other}) >= 0.9 * len(one)
        assert all(filters.admits(there.store.topic(each)) for each in other)


@pytest.mark.parametrize(
    "question",
    [
        "why do we scale by sqrt dk",
        "VAE vs GAN",
        "what must I know before diffusion models",
        "list the types of attention",
        "how do I bake bread",
        "beta_t",
        "posterior colapse",
    ],
)
def test_answers_are_the_same(here: Service, there: Service, question: str) -> None:
    one, other = here.ask(question), there.ask(question)
    assert (one.sentences, one.table, one.intent) == (other.sentences, other.table, other.intent)


def test_paths_counts_and_exports_are_the_same(here: Service, there: Service) -> None:
    for goal in ("gpt-family", "stable-diffusion", "deepseek-models"):
        topic = here.find_topic(goal).topic.id
        assert there.path([topic]).steps == here.path([topic]).steps
    assert there.stats() == here.stats()
    assert there.export("json") == here.export("json")


def test_the_analysis_is_there_for_cypher(there: Service, connection: Neo4jConnection) -> None:
    rows = connection.read(
        "MATCH (t:Topic {build: $build}) RETURN sum(t.pagerank) AS whole, count(t.betweenness) AS counted, "
        "count(DISTINCT t.community) AS groups",
        build=there.opened.id,
    )
    assert rows[0]["whole"] == pytest.approx(1.0, abs=1e-6)
    assert rows[0]["counted"] == len(there.store.topics())
    assert 5 < rows[0]["groups"] < 200


@pytest.fixture
def on_server(there: Service, server_home: Path) -> dict[str, str]:
    """The environment of a command that reads the server."""
    assert there.opened.id
    return {
        "GENATLAS_STORE": "neo4j",
        "GENATLAS_NEO4J_URL": neo4j_server.status(server_home).url,
        "GENATLAS_NEO4J_PASSWORD": neo4j_server.password_of(server_home),
    }


def test_a_build_that_serves_is_not_loaded_again(built_home: Path, on_server: dict[str, str]) -> None:
    again = run_genatlas("neo4j", "load", home=built_home, environment=on_server)
    assert "serves already" in again.stderr


def test_a_replica_needs_nothing_but_the_server(tmp_path: Path, on_server: dict[str, str]) -> None:
    home = tmp_path / "empty"
    home.mkdir()
    found = run_genatlas("search", "mode collapse", "--json", home=home, environment=on_server)
    document = json.loads(found.stdout)
    assert document["hits"][0]["topic"].endswith("/mode-collapse")
    assert not document["meaning_off"]
    examined = json.loads(run_genatlas("doctor", "--json", home=home, environment=on_server).stdout)
    assert {each["part"]: each["ok"] for each in examined} == dict.fromkeys(
        ("Python", "settings", "server", "encoder", "search", "demos"), True
    )


def test_a_wrong_password_is_one_message(built_home: Path, on_server: dict[str, str]) -> None:
    refused = run_genatlas("search", "x", home=built_home, environment=on_server | {"GENATLAS_NEO4J_PASSWORD": "no"})
    assert refused.returncode == 1
    assert "GENATLAS_NEO4J_PASSWORD" in refused.stderr
    assert "Traceback" not in refused.stderr


ON_TOPIC = {"build": "", "id": "bert", "ids": ["bert", "gpt"], "demo": "lora", "number": 5, "passages": 80}
SEARCHED = {
    "vectors": "v", "words_index": "w", "vector": [0.0] * 384, "words": "x", "by_words": 120, "topics": 45,
    "section": None, "level": None, "starred": None, "subtree": None,
}  # fmt: skip


@pytest.mark.parametrize(
    "query",
    [
        pytest.param(SURROUNDINGS, id="surroundings"),
        pytest.param(f"{SUBTREE} RETURN t", id="subtree"),
        pytest.param(SERVING, id="what serves"),
        pytest.param(PASSAGES, id="passages of topics"),
        pytest.param(f"CALL () {{ {BY_MEANING} UNION {BY_WORDS} }} RETURN t.id", id="search"),
        pytest.param(f"CALL () {{ {ADMITTED_BY_MEANING} UNION {ADMITTED_BY_WORDS} }} RETURN t.id", id="filtered"),
    ],
)
def test_no_hot_query_scans_or_joins_all_with_all(there: Service, server_home: Path, query: str) -> None:
    found = operators(server_home, query, ON_TOPIC | SEARCHED | {"build": there.opened.id})
    assert not SCANS & {*found}, found
