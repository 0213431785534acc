"""The exported encoder, made once for all test processes of a run, and a searcher over the small atlas."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock

from graph import NetworkXStore
from search import LexicalIndex, Passage, Searcher, passages_of
from search.dense import DenseIndex
from search.encoder import Encoder
from search.passage_index import PassageIndex
from tests.search.atlas import ATLAS


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the exported encoder."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    folder = shared / "encoder"
    with FileLock(shared / "encoder.lock"):
        if not folder.exists():
            subprocess.run([sys.executable, "-m", "search.export_model", str(folder)], check=True, timeout=300)
    return folder


@pytest.fixture(scope="session")
def encoder(model: Path) -> Encoder:
    return Encoder(model)


@dataclass(frozen=True)
class Parts:
    """What a searcher over the small atlas is made of."""

    store: NetworkXStore
    encoder: Encoder
    passages: list[Passage]
    dense: DenseIndex
    lexical: LexicalIndex

    @property
    def index(self) -> PassageIndex:
        return PassageIndex(self.store.topics(), self.passages, self.dense, self.lexical)


@pytest.fixture(scope="session")
def parts(encoder: Encoder) -> Parts:
    passages = passages_of(ATLAS)
    texts = [passage.text for passage in passages]
    dense = DenseIndex.build(encoder.encode(texts))
    return Parts(NetworkXStore(ATLAS), encoder, passages, dense, LexicalIndex.build(texts))


@pytest.fixture(scope="session")
def searcher(parts: Parts) -> Searcher:
    return Searcher(parts.store, parts.encoder, parts.index)


@pytest.fixture(scope="session")
def words_only(parts: Parts) -> Searcher:
    """The same without meaning: no encoder and no vectors."""
    return Searcher(parts.store, None, PassageIndex(parts.store.topics(), parts.passages, None, parts.lexical))
