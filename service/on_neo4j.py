"""The atlas on a Neo4j server: a snapshot is loaded there, and any number of processes serve it."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import msgspec

from graph import Atlas, AtlasError, StoreUnavailable
from graph.neo4j import Contents, LoadReport, Neo4jConnection, Neo4jStore, PassageRow, load, serving_build
from search import Example, Examples, ModelUnavailable, Searcher
from search.neo4j_index import Neo4jIndex, ServerVocabulary, vocabulary_of
from search.words import spellings_of
from service import neo4j_server
from service.contents import EXAMPLES, read_atlas, read_examples, read_passages
from service.model import MODEL, prepare_model, verified_model
from service.opened import query_encoder
from service.settings import Settings
from service.snapshot import Snapshot, build_lock, open_current

if TYPE_CHECKING:
    from graph.progress import Progress

LOAD_SECONDS = 120.0
"""Time limit of one transaction while loading; a batch takes half a second on an idle server."""


class ServerAtlas:
    """The build that serves on a server, read from there as it is asked for."""

    def __init__(self, settings: Settings, connection: Neo4jConnection) -> None:
        """Raises StoreUnavailable where the server does not answer or serves no atlas."""
        self._settings = settings
        self._connection = connection
        self.store = Neo4jStore(connection, serving_build(connection))

    @classmethod
    def open(cls, settings: Settings) -> "ServerAtlas":
        """Open what serves. Raises StoreUnavailable, and Neo4jServerError where no server is known."""
        connection = connect(settings)
        connection.check()
        return cls(settings, connection)

    @property
    def id(self) -> str:
        return self.store.build

    @property
    def counts(self) -> Mapping[str, int]:
        return msgspec.json.decode(self.store.facts()["counts"], type=dict[str, int])

    def atlas(self) -> Atlas:
        return self.store.atlas()

    def searcher(self) -> Searcher:
        """A search over it; where this home has no encoder yet, one is made first (15 s, once).

        Raises StoreUnavailable where the passages were encoded by another version, ModelUnavailable.
        """
        made_with = self.store.facts()["model"]
        if made_with != MODEL:
            raise StoreUnavailable(
                f"The atlas on the server was encoded by {made_with}, and this GenAtlas encodes by {MODEL}. "
                "Load it by this version: genatlas build, genatlas neo4j load"
            )
        home = self._settings.home
        try:
            verified_model(home)
        except ModelUnavailable:
            with build_lock(home):
                prepare_model(home)
        data = self.store.data()
        index = Neo4jIndex(self._connection, self.id, ServerVocabulary.decode(data["vocabulary"]))
        examples = (_decode_examples(data[name]) for name in ("boundary", "comparisons"))
        return Searcher(self.store, query_encoder(self._settings), index, *examples)

    def latest(self) -> "ServerAtlas":
        serving = serving_build(self._connection)
        return self if serving == self.id else ServerAtlas(self._settings, self._connection)


def connect(settings: Settings, seconds: float | None = None) -> Neo4jConnection:
    """A connection to the server that the settings name, or else to the development server of the home.

    Raises StoreUnavailable for an address that is none, Neo4jServerError where no server is known.
    """
    password = settings.neo4j_password
    url = settings.neo4j_url
    if not url:
        status = neo4j_server.status(settings.home)
        if not status.running:
            raise neo4j_server.Neo4jServerError(
                "No Neo4j server is named (GENATLAS_NEO4J_URL), and none of this home runs. Start one: "
                "genatlas neo4j start"
            )
        url = status.url
    known = neo4j_server.password_of(settings.home) if password is None else password.get_secret_value()
    return Neo4jConnection(url, settings.neo4j_user, known, settings.neo4j_database, seconds or settings.neo4j_seconds)


def load_current(settings: Settings, progress: "Progress") -> LoadReport:
    """Load the snapshot that serves in the home onto the server and let it serve there.

    Raises SnapshotMissing, SnapshotDamaged, StoreUnavailable, LoadIncomplete, Neo4jServerError.
    """
    snapshot = open_current(settings.home)
    with connect(settings, LOAD_SECONDS) as connection:
        connection.check()
        progress("Reading the snapshot", 0.0)
        return load(connection, contents_of(snapshot), progress)


def examine(settings: Settings) -> dict[str, str | bool]:
    """Which server is used, whether it answers, its version, and the build that it serves; or what is wrong."""
    found: dict[str, str | bool] = {"server": "", "answers": False}
    try:
        with connect(settings) as connection:
            found |= {"server": connection.url, "version": connection.check(), "answers": True}
            found["serves"] = serving_build(connection)
    except AtlasError as error:
        found["problem"] = str(error)
    return found


def contents_of(snapshot: Snapshot) -> Contents:
    """What a snapshot holds, as rows to load. Raises SnapshotDamaged."""
    from graph.analysis import analyse
    from search.dense import DenseIndex

    folder = snapshot.verified("atlas.json", *EXAMPLES, "passages.json", "vectors.faiss")
    atlas, passages = read_atlas(folder), read_passages(folder)
    vectors = DenseIndex.load(folder / "vectors.faiss").vectors()
    words: list[list[tuple[str, str]]] = []

    def rows() -> Iterator[PassageRow]:
        words.clear()
        for passage, vector in zip(passages, vectors, strict=True):
            words.append(spellings_of(passage.text))
            looked_up = [word for word, _ in words[-1]]
            halves = vector.astype("<f2").tobytes()
            yield PassageRow(passage.topic, passage.field, passage.text, looked_up, vector.tolist(), halves)

    manifest = snapshot.manifest
    return Contents(
        manifest.id,
        atlas,
        facts={"model": manifest.model, "counts": msgspec.json.encode(manifest.counts).decode()},
        passages=rows,
        passage_count=len(passages),
        dimension=manifest.dimension,
        data={
            "vocabulary": lambda: vocabulary_of(words).encode(),
            "boundary": lambda: _encode_examples(read_examples(folder, "boundary")),
            "comparisons": lambda: _encode_examples(read_examples(folder, "comparisons")),
        },
        analysis=lambda: analyse(atlas),
    )


def _encode_examples(examples: Examples) -> bytes:
    return msgspec.msgpack.encode(
        [(example.name, example.text, vector.tobytes()) for example, vector in examples.with_vectors()]
    )


def _decode_examples(data: bytes) -> Examples:
    import numpy as np

    rows = msgspec.msgpack.decode(data, type=list[tuple[str, str, bytes]])
    vectors = [np.frombuffer(vector, dtype=np.float32) for _, _, vector in rows]
    return Examples([Example(name, text) for name, text, _ in rows], np.array(vectors, dtype=np.float32))
