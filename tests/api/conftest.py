"""The HTTP service in a process of its own, over the shipped atlas."""

import os
import signal
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import httpx
import pytest

from tests.conftest import ROOT


@pytest.fixture(scope="session")
def address(built_home: Path) -> Generator[str]:
    """Where a server answers, started for the tests of one worker."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GENATLAS_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "ui.cli", "serve", "--port", "0"],
        env=clean | {"GENATLAS_HOME": str(built_home), "PYTHONPATH": str(ROOT)},
        cwd=built_home.parent,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    said = process.stderr.readline()
    assert "http://" in said, said
    yield said.split("GenAtlas: ")[1].strip().removesuffix("/docs")
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) in (0, -signal.SIGTERM)
    process.stderr.close()


@pytest.fixture(scope="session")
def client(address: str) -> Generator[httpx.Client]:
    with httpx.Client(base_url=address, timeout=60) as opened:
        yield opened
