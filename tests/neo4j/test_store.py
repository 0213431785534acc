import pytest
from hypothesis import HealthCheck, given, settings

from graph import Atlas, GraphStore, NetworkXStore, StoreUnavailable, neighbourhood, transitive_prerequisites
from graph.neo4j import Neo4jConnection, Neo4jStore, serving_build
from graph.neo4j.load import remove
from study import plan_path
from tests.graph.atlases import ATLAS, atlases
from tests.graph.store_contract import GraphStoreContract
from tests.neo4j.conftest import store_of, wipe

pytestmark = pytest.mark.xdist_group("neo4j")


@pytest.fixture(scope="module")
def loaded(connection: Neo4jConnection) -> str:
    """The build of ATLAS, until a later test wipes it away."""
    wipe(connection)
    store_of(connection, ATLAS)
    return serving_build(connection)


class TestNeo4jStore(GraphStoreContract):
    @pytest.fixture
    def store(self, connection: Neo4jConnection, loaded: str) -> GraphStore:
        return Neo4jStore(connection, loaded)


@given(atlas=atlases())
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_both_stores_answer_alike_about_any_atlas(connection: Neo4jConnection, atlas: Atlas) -> None:
    wipe(connection)
    here, there = NetworkXStore(atlas), store_of(connection, atlas)
    assert list(there.topics()) == list(here.topics())
    for topic in atlas.topics:
        assert list(there.subtree(topic.id)) == list(here.subtree(topic.id))
        assert list(there.ancestors(topic.id)) == list(here.ancestors(topic.id))
        assert list(there.effective_prerequisites(topic.id)) == list(here.effective_prerequisites(topic.id))
        assert list(there.dependents(topic.id)) == list(here.dependents(topic.id))
        assert list(there.twins(topic.id)) == list(here.twins(topic.id))
        assert there.canonical(topic.id) == here.canonical(topic.id)
        assert neighbourhood(there, topic.id, steps=2) == neighbourhood(here, topic.id, steps=2)
        assert transitive_prerequisites(there, topic.id) == transitive_prerequisites(here, topic.id)
        assert plan_path(there, [topic.id]) == plan_path(here, [topic.id])


def test_the_whole_atlas_comes_back(empty: Neo4jConnection) -> None:
    assert store_of(empty, ATLAS).atlas() == ATLAS


def test_a_build_that_is_gone_is_an_error_and_never_an_empty_atlas(empty: Neo4jConnection) -> None:
    store = store_of(empty, ATLAS)
    remove(empty, store.build)
    for question in (
        store.topics,
        store.demos,
        store.references,
        lambda: store.topic("gan"),
        lambda: store.subtree("gan"),
    ):
        with pytest.raises(StoreUnavailable, match="no longer"):
            question()


def test_a_server_without_an_atlas_says_how_to_load_one(empty: Neo4jConnection) -> None:
    with pytest.raises(StoreUnavailable, match="genatlas neo4j load"):
        serving_build(empty)
