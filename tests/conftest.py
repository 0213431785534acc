"""The shipped atlas, built once for all test processes of a run."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

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
