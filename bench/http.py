"""What the service answers under load, beside a bare one over the same vectors, in the same minutes.

    python -m bench.http [SECONDS]        over the atlas that was built last (GENATLAS_HOME); 60 s by default

Clients on loopback each wait for their answer before they ask again. Every question is asked once, so that no cache
helps either side; one row repeats questions, as learners do. The clients take a part of the same cores. Blocks of both
services alternate, with 8 and with 32 clients.
"""

import asyncio
import itertools
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import quote

import psutil
from rich.console import Console
from rich.table import Table

from bench.load import Heard, ask_for
from bench.search import questions

BLOCK_S = 5.0
OURS, BARE, REPEATED = "GenAtlas", "FastAPI + sentence-transformers + FAISS", "GenAtlas, 200 questions repeated"
PATHS = {OURS: "/v1/search?k=10&q=", BARE: "/search?k=10&q=", REPEATED: "/v1/search?k=10&q="}


@contextmanager
def serving(command: Sequence[str], **settings: str) -> Generator[tuple[str, psutil.Process]]:
    """A service until the block ends: where it answers, and its process."""
    process = subprocess.Popen(
        [sys.executable, "-m", *command],
        env=os.environ | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    try:
        address = next(found[0] for line in process.stdout if (found := re.search(r"http://127.0.0.1:\d+", line)))
        # What else it says is read and let go, or the pipe would fill and stop it.
        drain = subprocess.Popen(["cat"], stdin=process.stdout, stdout=subprocess.DEVNULL)  # noqa: S607
        yield address, psutil.Process(process.pid)
        process.terminate()
        drain.wait()
    finally:
        process.terminate()
        process.wait()


def different(path: str) -> Iterator[str]:
    """Requests for questions of which none comes twice."""
    asked = questions(6000)
    for number in itertools.count():
        mark = f" {number // len(asked)}" if number >= len(asked) else ""
        yield path + quote(asked[number % len(asked)] + mark)


def main() -> None:
    """Measure and print."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    limits = {"GENATLAS_REQUESTS_PER_MINUTE": "100000000"}
    with (
        serving(["ui.cli", "serve", "--port", "0"], **limits) as (ours, own_process),
        serving(["bench.bare_service"]) as (bare, bare_process),
    ):
        where = {OURS: (ours, own_process), BARE: (bare, bare_process), REPEATED: (ours, own_process)}
        paths = {name: different(PATHS[name]) for name in (OURS, BARE)}
        few = [PATHS[REPEATED] + quote(question) for question in questions(200)]
        paths[REPEATED] = itertools.cycle(few)
        for name in PATHS:  # warm up
            asyncio.run(ask_for(where[name][0], paths[name], 4, 3))
        table = Table(title=f"Search over HTTP, {os.cpu_count()} cores for service and clients")
        for heading in ("", "clients", "answers/s", "p50 ms", "p99 ms", "other than 200", "CPU ms each", "ours / bare"):
            table.add_column(heading, justify="left" if not heading else "right")
        for clients in (8, 32):
            heard: dict[str, list[Heard]] = {name: [] for name in PATHS}
            cpu: dict[str, float] = dict.fromkeys(PATHS, 0.0)
            for _ in range(max(1, round(seconds / BLOCK_S / 2))):
                for name in PATHS:
                    address, process = where[name]
                    before = sum(process.cpu_times()[:2])
                    heard[name].append(asyncio.run(ask_for(address, paths[name], clients, BLOCK_S)))
                    cpu[name] += sum(process.cpu_times()[:2]) - before
            for name, blocks in heard.items():
                _row(table, name, clients, blocks, heard[BARE], cpu[name])
        Console(width=130).print(table)


def _row(table: Table, name: str, clients: int, blocks: list[Heard], bare: list[Heard], cpu: float) -> None:
    ratios = [own.rate / other.rate for own, other in zip(blocks, bare, strict=True)]
    answers = sum(len(block.seconds) for block in blocks)
    wrong = sum(count for block in blocks for status, count in block.statuses.items() if status != 200)
    wrong += sum(len(block.broken) for block in blocks)
    table.add_row(
        name,
        str(clients),
        f"{statistics.median(block.rate for block in blocks):,.0f}",
        f"{statistics.median(block.percentile(0.5) for block in blocks):.1f}",
        f"{statistics.median(block.percentile(0.99) for block in blocks):.1f}",
        str(wrong),
        f"{1000 * cpu / answers:.2f}",
        f"{statistics.median(ratios):.1f} × ({min(ratios):.1f}–{max(ratios):.1f})",
    )


if __name__ == "__main__":
    main()
