import json
import os
import stat
import time
from pathlib import Path

import psutil
import pytest

from service import neo4j_server
from service.neo4j_server import Neo4jServerError
from tests.conftest import run_genatlas

pytestmark = pytest.mark.xdist_group("neo4j")


def test_the_command_line_starts_reports_and_stops_a_server(own_home: Path) -> None:
    down = run_genatlas("neo4j", "status", home=own_home)
    assert down.returncode == 1
    assert "genatlas neo4j start" in down.stdout
    run_genatlas("neo4j", "start", "--port", "0", "--heap", "512", home=own_home).check_returncode()
    pid = neo4j_server.status(own_home).pid
    assert pid is not None
    run_genatlas("neo4j", "start", "--port", "0", home=own_home).check_returncode()
    assert neo4j_server.status(own_home).pid == pid  # one that runs is left as it is
    up = json.loads(run_genatlas("neo4j", "status", "--json", home=own_home).stdout)
    assert (up["answers"], up["version"]) == (True, neo4j_server.VERSION)
    assert "genatlas neo4j load" in up["problem"]
    assert run_genatlas("neo4j", "stop", home=own_home).returncode == 0
    assert not neo4j_server.status(own_home).running
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    assert "No server" in run_genatlas("neo4j", "stop", home=own_home).stderr


def test_the_password_is_its_owner_s_alone_and_listens_on_loopback(server_home: Path) -> None:
    assert stat.S_IMODE((server_home / "neo4j" / "password").stat().st_mode) == 0o600
    assert len(neo4j_server.password_of(server_home)) >= 24
    pid = neo4j_server.status(server_home).pid
    listening = [each.laddr for each in psutil.Process(pid).net_connections() if each.status == psutil.CONN_LISTEN]
    assert listening
    assert {address[0].removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}


def test_stop_ends_nothing_that_start_did_not_start(tmp_path: Path) -> None:
    (tmp_path / "neo4j").mkdir()
    other = {"pid": os.getpid(), "created": time.time() - 10**6, "port": 1}  # our number, another process's
    (tmp_path / "neo4j" / "server.json").write_text(json.dumps(other))
    assert not neo4j_server.status(tmp_path).running
    assert not neo4j_server.stop(tmp_path)


def test_a_taken_port_is_said(own_home: Path, server_home: Path) -> None:
    taken = int(neo4j_server.status(server_home).url.rsplit(":", 1)[1])
    with pytest.raises(Neo4jServerError, match=f"Port {taken} is taken"):
        neo4j_server.start(own_home, port=taken)


def test_a_server_that_cannot_start_shows_the_end_of_its_log(own_home: Path) -> None:
    (own_home / "neo4j" / "extra.conf").write_text("server.memory.pagecache.nonsense=1\n")
    with pytest.raises(Neo4jServerError, match=r"pagecache\.nonsense"):
        neo4j_server.start(own_home, port=0, heap_mb=512)
    assert not neo4j_server.status(own_home).running


def test_data_of_another_password_are_said(own_home: Path) -> None:
    neo4j_server.start(own_home, port=0, heap_mb=512)
    neo4j_server.stop(own_home)
    (own_home / "neo4j" / "password").unlink()
    with pytest.raises(Neo4jServerError, match="another password"):
        neo4j_server.start(own_home, port=0, heap_mb=512)


@pytest.mark.parametrize(("path", "lacks"), [("", "Java 17"), ("java-only", "Maven")])
def test_what_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, lacks: str) -> None:
    tools = tmp_path / "java-only"
    tools.mkdir()
    java = tools / "java"
    java.write_text("#!/bin/sh\necho 'openjdk version \"17.0.1\"' >&2\n")
    java.chmod(0o755)
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / path) if path else str(tmp_path))
    with pytest.raises(Neo4jServerError, match=lacks):
        neo4j_server.start(tmp_path / "home", port=0)
