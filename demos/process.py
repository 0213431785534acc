"""Starts the worker process in which demos are imported and run, so that torch stays out of the caller's."""

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from demos.registry import DEMOS


def start_worker(workspace: Path) -> subprocess.Popen[bytes]:
    """Start a worker in a session (hence a process group) of its own, with `workspace` as its folder for everything.

    It takes one request line on stdin, answers in message lines on stdout, and ends when stdin closes: a worker never
    outlives its caller. What it prints goes to `workspace/stderr.txt`. It is given none of our settings, some of which
    are secrets, and no network where the system allows that.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GENATLAS_")} | {
        "PYTHONPATH": os.pathsep.join(filter(None, [str(DEMOS.parent), os.environ.get("PYTHONPATH")])),
        "PYTHONUTF8": "1",
        "TMPDIR": str(workspace),
        "CUDA_VISIBLE_DEVICES": "",  # the same numbers on every machine
        # One thread: more cost 15 to 25 times as much on a busy machine, where they wait spinning, and results of
        # convolutions would depend on their number.
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    with (workspace / "stderr.txt").open("wb") as stderr:
        return subprocess.Popen(
            [*_without_network(), sys.executable, "-P", "-m", "demos.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            cwd=workspace,
            env=environment,
            start_new_session=True,
        )


@cache
def _without_network() -> tuple[str, ...]:
    """What to put before a command so that it has no network; nothing where the system does not let users do that."""
    unshare = shutil.which("unshare")
    if unshare is None:
        return ()
    command = (unshare, "--user", "--net", "--map-current-user")
    tried = subprocess.run([*command, "true"], capture_output=True, check=False)
    return command if tried.returncode == 0 else ()


def last_words(workspace: Path, lines: int = 20) -> str:
    """Return the last lines that a worker printed."""
    with (workspace / "stderr.txt").open("rb") as stderr:
        stderr.seek(max(0, stderr.seek(0, os.SEEK_END) - 16_384))
        return "\n".join(stderr.read().decode(errors="replace").splitlines()[-lines:])
