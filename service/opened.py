"""One build, opened: what the service stands on, wherever the build is kept."""

from collections.abc import Mapping
from typing import Protocol

from graph import Atlas, GraphStore, NetworkXStore
from search import ModelUnavailable, QueryEncoder, Searcher
from service.contents import EXAMPLES, read_atlas, read_examples, read_passages
from service.settings import Settings
from service.snapshot import Snapshot, current_name, open_current


class OpenAtlas(Protocol):
    """One build. It never changes while it is open."""

    @property
    def id(self) -> str:
        """The build's id: the hash of what it was made from."""
        ...

    @property
    def counts(self) -> Mapping[str, int]:
        """What was counted when it was built."""
        ...

    @property
    def store(self) -> GraphStore:
        """Its graph."""
        ...

    def searcher(self) -> Searcher:
        """A search over it."""
        ...

    def atlas(self) -> Atlas:
        """The whole of it as a value."""
        ...

    def latest(self) -> "OpenAtlas":
        """Itself while it is the build that serves, else that one, opened. Raises what opening raises."""
        ...


class SnapshotAtlas:
    """The snapshot that serves in a home, read into memory."""

    def __init__(self, settings: Settings) -> None:
        """Raises SnapshotMissing or SnapshotDamaged."""
        self._settings = settings
        self.snapshot: Snapshot = open_current(settings.home)
        self.store = NetworkXStore(self.atlas())

    @property
    def id(self) -> str:
        return self.snapshot.manifest.id

    @property
    def counts(self) -> Mapping[str, int]:
        return self.snapshot.manifest.counts

    def atlas(self) -> Atlas:
        return read_atlas(self.snapshot.verified("atlas.json"))

    def latest(self) -> "SnapshotAtlas":
        return self if current_name(self._settings.home) == self.snapshot.folder.name else SnapshotAtlas(self._settings)

    def searcher(self) -> Searcher:
        from search.dense import DenseIndex
        from search.lexical import LexicalIndex
        from search.passage_index import PassageIndex

        folder = self.snapshot.verified(*EXAMPLES, "passages.json", "vectors.faiss", "lexical")
        index = PassageIndex(
            self.store.topics(),
            read_passages(folder),
            DenseIndex.load(folder / "vectors.faiss"),
            LexicalIndex.load(folder / "lexical"),
        )
        examples = read_examples(folder, "boundary"), read_examples(folder, "comparisons")
        return Searcher(self.store, query_encoder(self._settings), index, *examples)


def query_encoder(settings: Settings) -> QueryEncoder | None:
    """The encoder of queries; None where it was not made, or is damaged: rankings then say that they go by words."""
    from search.encoder import FILES, Encoder
    from service.model import verified_model

    precision = settings.precision
    try:
        return Encoder(verified_model(settings.home, FILES[precision], FILES["tokenizer"]), precision)
    except ModelUnavailable:
        return None
