"""What can go wrong with a server: each an error that says what to do, and none that needs a restart of ours."""

import os
import signal
import socket
from pathlib import Path

import pytest

from graph import StoreUnavailable
from graph.neo4j import Neo4jConnection, Neo4jStore, serving_build
from graph.neo4j.connection import Conflict, is_supported
from service import LiveService, Settings, neo4j_server, open_service
from tests.graph.atlases import ATLAS
from tests.neo4j.conftest import connect, load_atlas

pytestmark = pytest.mark.xdist_group("neo4j")


def test_no_server_at_the_address() -> None:
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        url = f"bolt://127.0.0.1:{taken.getsockname()[1]}"
        with Neo4jConnection(url, "neo4j", "x") as connection, pytest.raises(StoreUnavailable) as caught:
            connection.check()
    assert url in str(caught.value)
    assert "genatlas neo4j status" in str(caught.value)


def test_a_server_that_takes_connections_and_never_answers() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"bolt://127.0.0.1:{silent.getsockname()[1]}"
        with (
            Neo4jConnection(url, "neo4j", "x", seconds=1) as connection,
            pytest.raises(StoreUnavailable, match="does not answer"),
        ):
            connection.check()


@pytest.mark.parametrize("url", ["127.0.0.1:7687", "http://127.0.0.1:7687", "", "bolt:/x"])
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(StoreUnavailable, match="GENATLAS_NEO4J_URL"):
        Neo4jConnection(url, "neo4j", "x").check()


def test_a_wrong_password(server_home: Path) -> None:
    url = neo4j_server.status(server_home).url
    with (
        Neo4jConnection(url, "neo4j", "wrong") as connection,
        pytest.raises(StoreUnavailable, match="GENATLAS_NEO4J_PASSWORD") as caught,
    ):
        connection.check()
    assert "wrong" not in str(caught.value)


def test_a_database_that_is_not_there(server_home: Path) -> None:
    url, password = neo4j_server.status(server_home).url, neo4j_server.password_of(server_home)
    with (
        Neo4jConnection(url, "neo4j", password, database="absent") as connection,
        pytest.raises(StoreUnavailable, match="GENATLAS_NEO4J_DATABASE"),
    ):
        connection.check()


def test_a_query_that_takes_too_long_is_stopped(server_home: Path) -> None:
    with connect(server_home, seconds=1) as connection:
        with pytest.raises(StoreUnavailable, match="GENATLAS_NEO4J_SECONDS"):
            connection.read("UNWIND range(1, 100000000000) AS n RETURN sum(n) AS s")
        assert connection.read("RETURN 1 AS one")[0]["one"] == 1


def test_what_another_wrote_first_is_a_conflict(empty: Neo4jConnection) -> None:
    load_atlas(empty, ATLAS)
    with pytest.raises(Conflict):
        empty.write("CREATE (:Topic {build: $build, id: 'gan'})", build=serving_build(empty))


@pytest.mark.parametrize(
    ("version", "enough"),
    [("5.26.25", True), ("5.23.0", True), ("2025.10.1", True), ("5.22.0", False), ("5.9.0", False), ("4.4.30", False)],
)
def test_which_versions_will_do(version: str, enough: bool) -> None:
    assert is_supported(version) is enough


def test_a_server_that_may_only_be_read(own_home: Path) -> None:
    neo4j_server.start(own_home, port=0, heap_mb=512)
    with connect(own_home) as connection:
        load_atlas(connection, ATLAS)
    neo4j_server.stop(own_home)
    (own_home / "neo4j" / "extra.conf").write_text("server.databases.default_to_read_only=true\n")
    neo4j_server.start(own_home, port=0, heap_mb=512)
    with connect(own_home) as connection:
        assert Neo4jStore(connection, serving_build(connection)).atlas() == ATLAS
        with pytest.raises(StoreUnavailable, match="only read"):
            load_atlas(connection, ATLAS, "b2" * 16)


def test_a_lost_server_is_an_error_and_is_used_again_when_it_is_back(own_home: Path) -> None:
    status = neo4j_server.start(own_home, port=0, heap_mb=512)
    with connect(own_home) as connection:
        load_atlas(connection, ATLAS)
        store = Neo4jStore(connection, serving_build(connection))
        assert store.topic("gan") == ATLAS.topics[0]
        assert status.pid is not None
        os.kill(status.pid, signal.SIGKILL)
        with pytest.raises(StoreUnavailable, match="does not answer"):
            store.topic("vae")
        assert store.topic("gan") == ATLAS.topics[0]  # what was read is kept
        neo4j_server.start(own_home, port=int(status.url.rsplit(":", 1)[1]), heap_mb=512)
        assert [topic.id for topic in store.subtree("vae")] == ["vae", "vae/loss"]


def test_a_hanging_server_does_not_hang_its_readers(own_home: Path) -> None:
    status = neo4j_server.start(own_home, port=0, heap_mb=512)
    assert status.pid is not None
    with connect(own_home) as connection:
        connection.check()
        os.kill(status.pid, signal.SIGSTOP)
        try:
            with pytest.raises(StoreUnavailable):
                connection.read("RETURN 1 AS one")
        finally:
            os.kill(status.pid, signal.SIGCONT)
        assert connection.read("RETURN 1 AS one")[0]["one"] == 1


def test_a_process_that_stays_picks_up_a_new_build(
    empty: Neo4jConnection, server_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.facade.LOOK_S", 0.0)
    load_atlas(empty, ATLAS, "a1" * 16)
    live = LiveService(Settings(home=server_home, store="neo4j"))
    before = live.current()
    assert live.current() is before
    load_atlas(empty, ATLAS, "b2" * 16)
    after = live.current()
    assert (before.opened.id, after.opened.id) == ("a1" * 16, "b2" * 16)
    assert before.store.topic("vae/loss") == after.store.topic("vae/loss")  # a request under way ends on its build


def test_a_home_without_a_server_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(neo4j_server.Neo4jServerError, match="genatlas neo4j start"):
        open_service(Settings(home=tmp_path, store="neo4j"))
