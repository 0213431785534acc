"""Search by meaning as the passages grow: exact, as this project does it, and through an inverted file (IVF).

    python -m bench.dense [SIZE …]       over the atlas that was built last; sizes in passages

Passages beyond those of the atlas are vectors of the atlas with noise, so that they gather where real ones do. Queries
are passages with more noise. Recall is the share of the exact 80 nearest, which is how deep a search looks; one thread.
"""

import sys
import time
from collections.abc import Callable
from functools import partial

import faiss
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from search.dense import SHORTLIST, DenseIndex
from service import Settings
from service.snapshot import open_current

SIZES = (25_000, 100_000, 400_000)
QUERIES, DEPTH = 200, 80
GROWN, ASKED = 0.35, 0.5
"""Length of the noise that is added to unit vectors: to make passages, and to make queries of passages."""

Vectors = NDArray[np.float32]


def noisy(vectors: Vectors, length: float, rng: np.random.Generator) -> Vectors:
    """The vectors (n, d) moved by about this length, and of unit length again."""
    moved = vectors + length * rng.normal(size=vectors.shape) / vectors.shape[1] ** 0.5
    return (moved / np.linalg.norm(moved, axis=1, keepdims=True)).astype(np.float32)


def inverted(vectors: Vectors, probes: int) -> DenseIndex:
    """The usual next step: the same codes in 4 √n lists, of which a query reads a few."""
    n, d = vectors.shape
    lists = int(4 * n**0.5)
    index = faiss.index_factory(d, f"IVF{lists},PQ{d // 2}x4fs,RFlat", faiss.METRIC_INNER_PRODUCT)
    assert isinstance(index, faiss.IndexRefineFlat)
    index.k_factor = SHORTLIST
    index.train(vectors[: 40 * lists])  # pyright: ignore[reportCallIssue] (SWIG)
    index.add(vectors)  # pyright: ignore[reportCallIssue] (SWIG)
    faiss.extract_index_ivf(index).nprobe = probes
    return DenseIndex(index)


BUILDS: dict[str, Callable[[Vectors], DenseIndex]] = {
    "ours": DenseIndex.build,
    "inverted file, 16 lists read": partial(inverted, probes=16),
    "inverted file, 64 lists read": partial(inverted, probes=64),
}


def measure(index: DenseIndex, queries: Vectors) -> tuple[NDArray[np.int64], float]:
    """The passages found for each query, and the median time of a query in ms."""
    found: list[NDArray[np.int64]] = []
    times: list[float] = []
    for query in queries:
        start = time.perf_counter()
        found.append(index.search(query[None], DEPTH)[1])
        times.append((time.perf_counter() - start) * 1e3)
    return np.concatenate(found), float(np.median(times))


def main() -> None:
    """Measure and print a table."""
    sizes = [int(size) for size in sys.argv[1:]] or SIZES
    rng = np.random.default_rng(0)
    real = DenseIndex.load(open_current(Settings.read().home).folder / "vectors.faiss").vectors()
    table = Table(title=f"The {DEPTH} nearest passages of one query, one thread")
    for heading in ("passages", "index", "ms", "recall", "build s"):
        table.add_column(heading, justify="left" if heading == "index" else "right")
    for size in sizes:
        vectors = noisy(real[rng.integers(len(real), size=size)], GROWN, rng)
        queries = noisy(vectors[rng.integers(size, size=QUERIES)], ASKED, rng)
        exact = faiss.IndexFlatIP(vectors.shape[1])
        exact.add(vectors)  # pyright: ignore[reportCallIssue] (SWIG)
        right, ms = measure(DenseIndex(exact), queries)
        table.add_row(f"{size:,}", "exact", f"{ms:.2f}", "1", "")
        del exact
        for name, build in BUILDS.items():
            start = time.perf_counter()
            index = build(vectors)
            seconds = time.perf_counter() - start
            found, ms = measure(index, queries)
            shared = [len({*row} & {*best}) for row, best in zip(found.tolist(), right.tolist(), strict=True)]
            table.add_row("", name, f"{ms:.2f}", f"{np.mean(shared) / DEPTH:.3f}", f"{seconds:.1f}")
            del index
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
