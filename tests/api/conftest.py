"""The HTTP service in a process of its own, over the shipped atlas."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import anyio
import httpx
import psutil
import pytest

from service.keys import Key, KeyStore, Scope
from study.database import sqlite_url
from tests.conftest import ROOT

Answered = TypeVar("Answered")


def in_a_loop_of_its_own(work: Callable[[], Coroutine[Any, Any, Answered]]) -> Answered:
    """Run asynchronous work in a thread: the browser of other tests may keep a loop running in this one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(anyio.run, work).result()


@dataclass
class Running:
    """A service under test: where it answers, its process, its log, and the database of its keys and learners."""

    address: str
    process: subprocess.Popen[str]
    log: Path
    database: Path

    def client(self, token: str | None = None) -> httpx.Client:
        """A client of it, with a key or without."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return httpx.Client(base_url=self.address, timeout=60, headers=headers)

    def key(
        self, *scopes: Scope, profile: str | None = None, per_minute: int | None = None, name: str = "test"
    ) -> tuple[Key, str]:
        """A new key with its token."""
        return KeyStore(sqlite_url(self.database)).create(name, scopes or ("read",), profile, per_minute)

    def workers(self, busy_s: float = 0.0) -> list[psutil.Process]:
        """Its demo processes that have used so many CPU seconds."""
        found: list[psutil.Process] = []
        for child in psutil.Process(self.process.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):  # it has just ended
                if "demos.worker" in child.cmdline() and child.cpu_times().user >= busy_s:
                    found.append(child)
        return found

    def revoke(self, key: Key) -> None:
        """Have a key open nothing any more."""
        KeyStore(sqlite_url(self.database)).revoke(key.id)


@contextmanager
def running(home: Path, folder: Path, arguments: Sequence[str] = (), **settings: str) -> Generator[Running]:
    """Start a service, and end it in the end as an operator would."""
    database = folder / "progress.db"
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GENATLAS_")}
    given = {
        "GENATLAS_HOME": str(home),
        "GENATLAS_PROGRESS_URL": sqlite_url(database).render_as_string(),
        "GENATLAS_REQUESTS_PER_MINUTE": "1000000",
        "PYTHONPATH": str(ROOT),
    }
    log = folder / "log.jsonl"
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "ui.cli", "serve", "--port", "0", *arguments],
            env=clean | given | settings,
            cwd=folder,
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert process.stderr is not None
    said = ""
    while "/docs" not in said:
        line = process.stderr.readline()
        assert line, said
        said += line
    try:
        yield Running(said.rsplit("GenAtlas: ", 1)[1].strip().removesuffix("/docs"), process, log, database)
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(60)
        process.stderr.close()
    assert code in (0, -signal.SIGTERM)


@pytest.fixture(scope="session")
def service(built_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Generator[Running]:
    """A service for the tests of one worker that leave it as it is."""
    with running(built_home, tmp_path_factory.mktemp("service")) as started:
        yield started


@pytest.fixture(scope="session")
def address(service: Running) -> str:
    """Where it answers."""
    return service.address


@pytest.fixture(scope="session")
def client(service: Running) -> Generator[httpx.Client]:
    """A client without a key."""
    with service.client() as opened:
        yield opened


Start = Callable[..., Running]


@pytest.fixture
def start(built_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Generator[Start]:
    """Starts services of a test's own, with options and settings."""
    from contextlib import ExitStack

    with ExitStack() as stack:

        def started(*arguments: str, **settings: str) -> Running:
            return stack.enter_context(running(built_home, tmp_path_factory.mktemp("own"), arguments, **settings))

        yield started
