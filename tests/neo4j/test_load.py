"""Loading: whatever happens to the loader or the server, readers see one whole build or a clear error."""

import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

from graph import Atlas, Prerequisite, StoreUnavailable
from graph.neo4j import Contents, LoadIncomplete, Neo4jConnection, Neo4jStore, PassageRow, load, serving_build
from graph.neo4j.load import prune
from graph.neo4j.schema import VERSION
from service import neo4j_server
from tests.graph.atlases import ATLAS, topic
from tests.neo4j.conftest import connect, load_atlas, quiet, wipe

pytestmark = pytest.mark.xdist_group("neo4j")

FIRST, SECOND, THIRD = "a1" * 16, "b2" * 16, "c3" * 16


def large_atlas(name: str, topics: int = 6_000) -> Atlas:
    """An atlas of several batches; its title and every topic's summary name it, so that a mixture shows."""
    rows = [replace(topic(f"{name}-{number // 100}", 0), summary=name) for number in range(0, topics, 100)]
    rows += [replace(topic(f"{name}-{n // 100}/t{n}", 0), summary=name) for n in range(topics) if n % 100]
    placed = tuple(replace(each, position=position) for position, each in enumerate(sorted(rows, key=lambda r: r.id)))
    edges = tuple(Prerequisite(one.id, other.id, f"{other.id} stands on {one.id}.") for one, other in pairwise(placed))
    return Atlas(name, placed, edges)


class After:
    """Hears of progress, and acts at the report of this number."""

    def __init__(self, report: int, act: Callable[[], None]) -> None:
        self._left = report
        self._act = act

    def __call__(self, stage: str, fraction: float) -> None:  # noqa: ARG002 (what a loader tells)
        self._left -= 1
        if self._left == 0:
            self._act()


def interrupt() -> None:
    raise KeyboardInterrupt


def assert_whole(connection: Neo4jConnection, sizes: dict[str, int]) -> str:
    """What serves is one whole build: its title is that of every topic, and none is missing; return the title."""
    store = Neo4jStore(connection, serving_build(connection))
    atlas = store.atlas()
    assert {each.summary for each in atlas.topics} == {atlas.title}
    assert len(atlas.topics) == sizes[atlas.title]
    assert len(atlas.prerequisites) == sizes[atlas.title] - 1
    return atlas.title


def test_loading_the_same_build_again_does_nothing(empty: Neo4jConnection) -> None:
    first = load_atlas(empty, ATLAS)
    assert first.changed
    assert first.nodes == len(ATLAS.topics) + len(ATLAS.demos) + len(ATLAS.references) + len(ATLAS.comparisons)
    assert not load_atlas(empty, ATLAS).changed
    assert empty.read("MATCH (t:Topic) RETURN count(t) AS n")[0]["n"] == len(ATLAS.topics)


def test_an_older_build_stays_for_its_readers_and_the_one_before_it_goes(empty: Neo4jConnection) -> None:
    for build in (FIRST, SECOND):
        load_atlas(empty, replace(ATLAS, title=build), build)
    reader = Neo4jStore(empty, FIRST)
    assert reader.atlas().title == FIRST
    assert load_atlas(empty, replace(ATLAS, title=THIRD), THIRD).pruned == (FIRST,)
    with pytest.raises(StoreUnavailable, match="no longer"):
        reader.demos()
    assert Neo4jStore(empty, SECOND).atlas().title == SECOND
    assert Neo4jStore(empty, serving_build(empty)).atlas().title == THIRD
    left = empty.read("MATCH (n) WHERE n.build = $build RETURN count(n) AS n", build=FIRST)
    assert left[0]["n"] == 0


def test_a_build_that_is_being_loaded_is_not_pruned_and_an_abandoned_one_is(empty: Neo4jConnection) -> None:
    load_atlas(empty, ATLAS, FIRST)
    empty.write("CREATE (:Build {id: $id, state: 'loading', begun: datetime()})", id=SECOND)
    empty.write("CREATE (:Build {id: $id, state: 'loading', begun: datetime() - duration('PT1H')})", id=THIRD)
    assert prune(empty) == (THIRD,)


def test_an_interrupted_load_goes_on_where_it_stopped(empty: Neo4jConnection) -> None:
    load_atlas(empty, ATLAS, FIRST)
    atlas = large_atlas("second")
    with pytest.raises(KeyboardInterrupt):
        load(empty, Contents(SECOND, atlas), After(4, interrupt))
    assert serving_build(empty) == FIRST
    steps = empty.read("MATCH (s:LoadStep {build: $build}) RETURN s.name AS name, s.at AS at", build=SECOND)
    assert steps
    load(empty, Contents(SECOND, atlas), quiet)
    assert Neo4jStore(empty, serving_build(empty)).atlas() == atlas
    now = empty.read("MATCH (s:LoadStep {build: $build}) RETURN s.name AS name, s.at AS at", build=SECOND)
    later = {row["name"]: row["at"] for row in now}
    assert all(later[row["name"]] == row["at"] for row in steps)  # no batch was written twice


def test_two_loaders_of_one_build_write_it_once(empty: Neo4jConnection) -> None:
    atlas = large_atlas("both", 3_000)
    reports: list[object] = []
    loaders = [
        threading.Thread(target=lambda: reports.append(load(empty, Contents(FIRST, atlas), quiet))) for _ in range(2)
    ]
    for loader in loaders:
        loader.start()
    for loader in loaders:
        loader.join()
    assert len(reports) == 2
    assert Neo4jStore(empty, serving_build(empty)).atlas() == atlas


def test_what_does_not_arrive_whole_never_serves(empty: Neo4jConnection) -> None:
    load_atlas(empty, ATLAS, FIRST)
    short = Contents(SECOND, ATLAS, passages=lambda: rows(3), passage_count=4, dimension=2)
    with pytest.raises(LoadIncomplete, match="3 of 4 Passage"):
        load(empty, short, quiet)
    assert serving_build(empty) == FIRST
    assert empty.read("MATCH (n {build: $build}) RETURN count(n) AS n", build=SECOND)[0]["n"] == 0
    assert load(empty, replace(short, passages=lambda: rows(4)), quiet).changed


def rows(count: int) -> Iterator[PassageRow]:
    for number in range(count):
        yield PassageRow("gan", "title", f"text {number}", ["text", str(number)], [1.0, float(number)], b"\0" * 4)


def test_a_schema_of_a_later_version_is_left_alone(empty: Neo4jConnection) -> None:
    load_atlas(empty, ATLAS)
    empty.write("MATCH (s:GenAtlasSchema) SET s.version = $version", version=VERSION + 1)
    try:
        for use in (lambda: serving_build(empty), lambda: load_atlas(empty, ATLAS, SECOND)):
            with pytest.raises(StoreUnavailable, match="Update GenAtlas"):
                use()
    finally:
        empty.write("MATCH (s:GenAtlasSchema) SET s.version = $version", version=VERSION)


LOADER = """
import sys
from graph.neo4j import Contents, Neo4jConnection, load
from tests.neo4j.test_load import large_atlas
url, password, name, build = sys.argv[1:]
with Neo4jConnection(url, "neo4j", password, seconds=60) as connection:
    load(connection, Contents(build, large_atlas(name)), lambda stage, fraction: print(stage, fraction, flush=True))
"""


def start_loader(home: Path, name: str, build: str) -> "subprocess.Popen[str]":
    status, password = neo4j_server.status(home), neo4j_server.password_of(home)
    command = [sys.executable, "-c", LOADER, status.url, password, name, build]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def test_a_loader_killed_at_any_batch_leaves_the_old_build_and_a_rerun_ends(
    empty: Neo4jConnection, server_home: Path
) -> None:
    draw = random.Random(5)
    sizes = {"old": 1_000, "new": 6_000}
    load(empty, Contents(FIRST, large_atlas("old", 1_000)), quiet)
    for _ in range(15):
        loader = start_loader(server_home, "new", SECOND)
        assert loader.stdout is not None
        for _ in range(draw.randrange(1, 12)):  # so many reports of progress, then the end
            loader.stdout.readline()
        loader.kill()
        loader.wait()
        loader.stdout.close()
        if assert_whole(empty, sizes) == "new":  # the kill came after the switch
            load(empty, Contents(THIRD, large_atlas("old", 1_000)), quiet)
            wipe(empty)
            load(empty, Contents(FIRST, large_atlas("old", 1_000)), quiet)
    load(empty, Contents(SECOND, large_atlas("new")), quiet)
    assert assert_whole(empty, sizes) == "new"


def load_until(connection: Neo4jConnection, contents: Contents, report: After, kill: Callable[[], None]) -> None:
    """Load, and kill the server at a report of progress, or at the end where the last query was quicker."""
    load(connection, contents, report)
    kill()
    serving_build(connection)


def test_a_server_killed_while_it_loads_comes_back_with_a_whole_build(own_home: Path) -> None:
    draw = random.Random(7)
    home = own_home
    neo4j_server.start(home, port=0, heap_mb=512)
    sizes = {"first": 1_000}
    with connect(home) as connection:
        load(connection, Contents(f"{1:032x}", large_atlas("first", 1_000)), quiet)
    for round_ in range(2, 7):
        name = f"round{round_}"
        sizes[name] = 6_000
        server = neo4j_server.status(home).pid
        assert server is not None
        kill = partial(os.kill, server, signal.SIGKILL)
        contents = Contents(f"{round_:032x}", large_atlas(name))
        with connect(home) as connection, pytest.raises(StoreUnavailable):
            load_until(connection, contents, After(draw.randrange(1, 9), kill), kill)
        neo4j_server.start(home, port=0, heap_mb=512)
        with connect(home) as connection:
            assert_whole(connection, sizes)
