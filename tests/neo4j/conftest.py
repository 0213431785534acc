"""A real Neo4j server for the tests of this folder: their worker starts it, and stops it at the end."""

from collections.abc import Generator
from pathlib import Path

import pytest

from graph import Atlas
from graph.neo4j import Contents, LoadReport, Neo4jConnection, Neo4jStore, load
from service import neo4j_server


@pytest.fixture(scope="session")
def server_home(tmp_path_factory: pytest.TempPathFactory) -> Generator[Path]:
    """A home whose development server runs."""
    home = tmp_path_factory.mktemp("neo4j")
    neo4j_server.start(home, port=0)
    yield home
    neo4j_server.stop(home)


@pytest.fixture
def own_home(tmp_path: Path, server_home: Path) -> Generator[Path]:
    """A home with Neo4j's jars, for a server that the test starts itself; one that still runs is stopped."""
    home = tmp_path / "home"
    (home / "neo4j").mkdir(parents=True)
    (home / "neo4j" / "lib").symlink_to(server_home / "neo4j" / "lib")
    yield home
    neo4j_server.stop(home)


def connect(home: Path, seconds: float = 60) -> Neo4jConnection:
    """A connection to a home's running server."""
    password = neo4j_server.password_of(home)
    return Neo4jConnection(neo4j_server.status(home).url, neo4j_server.USER, password, seconds=seconds)


@pytest.fixture(scope="session")
def connection(server_home: Path) -> Generator[Neo4jConnection]:
    with connect(server_home) as opened:
        yield opened


@pytest.fixture
def empty(connection: Neo4jConnection) -> Neo4jConnection:
    """The connection, after every node was removed and every index of a build dropped."""
    wipe(connection)
    return connection


def wipe(connection: Neo4jConnection) -> None:
    connection.command("MATCH (n) CALL (n) { DETACH DELETE n } IN TRANSACTIONS OF 5000 ROWS")
    for row in connection.read("SHOW INDEXES YIELD name WHERE name STARTS WITH 'passage_' RETURN name"):
        if row["name"] != "passage_number":
            connection.command(f"DROP INDEX {row['name']} IF EXISTS")


def quiet(stage: str, fraction: float) -> None:
    """Hear of progress and say nothing."""


def load_atlas(connection: Neo4jConnection, atlas: Atlas, build: str = "a1" * 16) -> LoadReport:
    return load(connection, Contents(build, atlas), quiet)


def store_of(connection: Neo4jConnection, atlas: Atlas, build: str = "a1" * 16) -> Neo4jStore:
    """A store of an atlas that was just loaded."""
    load_atlas(connection, atlas, build)
    return Neo4jStore(connection, build)
