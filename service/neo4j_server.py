"""A Neo4j server for development, of one's own: from Maven's jars, on loopback, without a container engine.

    home/neo4j/lib            the jars of one version, downloaded once
    home/neo4j/data, logs     the databases and what the server says
    home/neo4j/conf           written anew at each start
    home/neo4j/extra.conf     further settings of one's own, if there are any
    home/neo4j/password       of the user neo4j, random, readable by its owner alone
    home/neo4j/server.json    the process that was started, while it runs

For production see deploy/compose.yaml and docs/neo4j.md.
"""

import contextlib
import fcntl
import os
import re
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import psutil

from graph import AtlasError, StoreUnavailable

VERSION = "5.26.25"
"""Neo4j's long-term support line; runs on Java 17 and 21."""

USER = "neo4j"
START_S, STOP_S = 120, 60

POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>genatlas</groupId><artifactId>neo4j-server</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.neo4j</groupId><artifactId>neo4j</artifactId><version>{VERSION}</version></dependency>
  </dependencies>
</project>
"""
OPENED = ("java.nio", "java.io", "sun.nio.ch", "java.lang")
"""Packages of java.base that Neo4j reaches into."""


class Neo4jServerError(AtlasError):
    """The development server cannot be started, or stopped, as things are."""


@dataclass(frozen=True, slots=True)
class _Started:
    """The process that a start left running; `created` tells it from a later one of the same number."""

    pid: int
    created: float
    port: int


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """Where the development server stands. `url` and `pid` are of a running one."""

    running: bool
    folder: Path
    version: str = VERSION
    url: str = ""
    pid: int | None = None


def folder_of(home: Path) -> Path:
    """The server's folder in a home."""
    return home / "neo4j"


def password_of(home: Path) -> str:
    """The password of the server's user. Raises Neo4jServerError before the first start."""
    try:
        return (folder_of(home) / "password").read_text().strip()
    except FileNotFoundError:
        raise Neo4jServerError(f"No Neo4j server was ever started in {home}. Start it: genatlas neo4j start") from None


def status(home: Path) -> ServerStatus:
    """Whether the server that was started here runs, and where."""
    folder = folder_of(home)
    started = _started(folder)
    if started is None:
        return ServerStatus(running=False, folder=folder)
    return ServerStatus(True, folder, url=_url(started.port), pid=started.pid)


def start(
    home: Path,
    port: int = 7687,
    heap_mb: int = 1024,
    page_cache_mb: int = 512,
    say: Callable[[str], None] = lambda _: None,
) -> ServerStatus:
    """Start the server and return when it answers; one that runs already is left as it is.

    `port` 0 takes a free one. `say` hears what takes long. Raises Neo4jServerError: no Java, no Maven, port taken,
    a server that ends at once (with the end of what it said).
    """
    folder = folder_of(home)
    folder.mkdir(parents=True, exist_ok=True)
    with _start_lock(folder):
        if _started(folder) is not None:
            return status(home)
        java = _java()
        _fetch_jars(folder, say)
        port = _free_port(port)
        first = not (folder / "password").exists()
        if first:
            _write_password(folder / "password")
        _configure(folder, port, page_cache_mb)
        say("Starting Neo4j …")
        process = _spawn(
            [
                java,
                f"-Xmx{heap_mb}m",
                *(f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in OPENED),
                *("-cp", str(folder / "lib" / "*")),
                "org.neo4j.server.CommunityEntryPoint",
                f"--home-dir={folder}",
                f"--config-dir={folder / 'conf'}",
            ],
            folder / "logs" / "console.log",
        )
        started = _Started(process.pid, process.create_time(), port)
        (folder / "server.json").write_bytes(msgspec.json.encode(started))
        try:
            _wait_until_it_answers(home, process, port)
        except BaseException:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
                process.wait()
            (folder / "server.json").unlink(missing_ok=True)
            raise
    return status(home)


def stop(home: Path) -> bool:
    """Stop the server that `start` started, and nothing else; return False when none runs. Data stay."""
    folder = folder_of(home)
    started = _started(folder)
    if started is None:
        return False
    try:
        process = psutil.Process(started.pid)
        process.terminate()
        try:
            process.wait(STOP_S)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait(STOP_S)
    except psutil.NoSuchProcess:
        pass  # it ended by itself meanwhile
    (folder / "server.json").unlink(missing_ok=True)
    return True


def _spawn(command: list[str], log: Path) -> psutil.Process:
    """Start a process that outlives this one, in a session of its own: Ctrl-C here is not meant for it."""
    write = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log), write, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    return psutil.Process(os.posix_spawn(command[0], command, os.environ, file_actions=actions, setsid=True))


def _started(folder: Path) -> _Started | None:
    """The process of server.json, if it is still the one that was started."""
    try:
        started = msgspec.json.decode((folder / "server.json").read_bytes(), type=_Started)
        process = psutil.Process(started.pid)
        same = abs(process.create_time() - started.created) < 1 and _lives(process)
    except (FileNotFoundError, msgspec.DecodeError, psutil.NoSuchProcess):
        return None
    return started if same else None


def _lives(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


@contextlib.contextmanager
def _start_lock(folder: Path) -> Generator[None]:
    with (folder / "start.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # a second start waits, and then finds the first one's server
        yield


def _url(port: int) -> str:
    return f"bolt://127.0.0.1:{port}"


def _java() -> str:
    """The Java to run. Raises Neo4jServerError when there is none or it is too old."""
    home = os.environ.get("JAVA_HOME")
    java = shutil.which(str(Path(home) / "bin" / "java")) if home else shutil.which("java")
    said = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr if java else ""
    version = re.search(r'version "(\d+)', said)
    if java is None or version is None or int(version.group(1)) < 17:
        found = f"found version {version.group(1)}" if version else "found none"
        raise Neo4jServerError(
            f"Neo4j {VERSION} needs Java 17 or 21; {found}. Install one (Debian, Ubuntu: openjdk-17-jre-headless)."
        )
    return java


def _fetch_jars(folder: Path, say: Callable[[str], None]) -> None:
    """Have Maven put the server's jars into lib, checksums verified; nothing half-fetched is ever used."""
    lib = folder / "lib"
    if (lib / "version").is_file() and (lib / "version").read_text() == VERSION:
        return
    maven = shutil.which("mvn")
    if maven is None:
        raise Neo4jServerError("Maven fetches Neo4j's jars and is not installed (Debian, Ubuntu: maven).")
    say(f"Fetching Neo4j {VERSION} (some 120 MB) …")
    beside = folder / "lib.new"
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    (folder / "pom.xml").write_text(POM)
    fetched = subprocess.run(
        [maven, "--batch-mode", "--quiet", "--strict-checksums", "-f", str(folder / "pom.xml"),
         "dependency:copy-dependencies", f"-DoutputDirectory={beside}", "-DincludeScope=runtime"],
        capture_output=True, text=True, check=False, cwd=folder,
    )  # fmt: skip
    if fetched.returncode or not any(beside.glob("neo4j-*.jar")):
        said = (fetched.stdout + fetched.stderr).strip().splitlines()[-5:]
        raise Neo4jServerError("Maven could not fetch Neo4j. It said:\n" + "\n".join(said))
    (beside / "version").write_text(VERSION)
    shutil.rmtree(lib, ignore_errors=True)
    beside.rename(lib)


def _free_port(port: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that ended a moment ago do not count
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise Neo4jServerError(
                f"Port {port} is taken, perhaps by another Neo4j. Choose another: genatlas neo4j start --port 17687"
            ) from None
        return int(probe.getsockname()[1])


def _write_password(path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_urlsafe(24))


def _configure(folder: Path, port: int, page_cache_mb: int) -> None:
    for name in ("conf", "logs"):
        (folder / name).mkdir(exist_ok=True)
    settings = {
        "server.default_listen_address": "127.0.0.1",
        "server.bolt.listen_address": f"127.0.0.1:{port}",
        "server.http.enabled": "false",
        "server.https.enabled": "false",
        "server.memory.pagecache.size": f"{page_cache_mb}m",
        # A client learns within ten seconds that the server hangs.
        "server.bolt.connection_keep_alive": "5s",
        "server.bolt.connection_keep_alive_for_requests": "ALL",
        "dbms.usage_report.enabled": "false",
        "db.tx_log.rotation.retention_policy": "1 files",
    }
    text = "".join(f"{name}={value}\n" for name, value in settings.items())
    extra = folder / "extra.conf"
    (folder / "conf" / "neo4j.conf").write_text(text + (extra.read_text() if extra.exists() else ""))


def _wait_until_it_answers(home: Path, process: psutil.Process, port: int) -> None:
    deadline = time.monotonic() + START_S
    password = password_of(home)
    while _lives(process) and time.monotonic() < deadline:
        if _answers(_url(port), password):
            return
        time.sleep(0.1)
    log = folder_of(home) / "logs" / "console.log"
    lines = log.read_text(errors="replace").strip().splitlines()
    said = [line for line in lines if not line.startswith("\t")][-5:]  # without the stack of Java
    how = f"took over {START_S} s" if _lives(process) else "ended"
    raise Neo4jServerError(f"Neo4j did not start: it {how}. The end of {log}:\n" + "\n".join(said))


def _answers(url: str, password: str) -> bool:
    """Whether the server answers to this password, which becomes that of a new one."""
    from graph.neo4j.connection import Neo4jConnection, PasswordRefused, set_first_password

    host, port = url.removeprefix("bolt://").split(":")
    try:
        socket.create_connection((host, int(port)), timeout=1).close()  # cheaper than the driver's own tries
        set_first_password(url, USER, password)
        with Neo4jConnection(url, USER, password) as connection:
            connection.check()
    except PasswordRefused as error:
        raise Neo4jServerError(
            "The server's data were made with another password than the file that lies beside them. Bring that file "
            "back, or remove the folder data, which can be loaded again."
        ) from error
    except (OSError, StoreUnavailable):
        return False
    return True
