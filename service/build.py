"""`genatlas build`: corpus → atlas → passages → vectors and indexes → a snapshot that serves."""

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from graph import Atlas, AtlasError, from_graphml, from_json
from graph.progress import Progress, no_progress
from ingest import atlas_of_outline, read_corpus, read_outline
from search import boundary_examples, comparison_examples, passages_of
from service.contents import EXAMPLES, read_atlas, read_examples, read_passages, write_contents
from service.model import MODEL, prepare_model
from service.settings import Settings
from service.snapshot import Snapshot, SnapshotDamaged, SnapshotMissing, build_lock, open_current, write_snapshot

if TYPE_CHECKING:
    from search.encoder import Encoder

CODE = ("graph", "ingest", "search")
"""Packages whose code decides what a snapshot holds; it is an input of the build like the corpus."""

BATCH = 64


class SourceMissing(AtlasError):
    """The file or folder to build from is not there."""


@dataclass(frozen=True, slots=True)
class Source:
    """What an atlas is built from: the hash of its bytes, and how to read it."""

    fingerprint: str
    read: Callable[[], Atlas]


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What a build did. `embedded` passages were encoded and `reused` taken over; both are 0 when nothing changed.

    `lost_text` are the topics that had a summary in the previous snapshot and have none, or are gone, in this one.
    """

    snapshot: Snapshot
    changed: bool
    embedded: int = 0
    reused: int = 0
    lost_text: tuple[str, ...] = ()


def corpus_source(folder: Path) -> Source:
    """The authored corpus in a folder. Raises SourceMissing."""
    if not folder.is_dir():
        raise SourceMissing(f"No corpus folder at {folder}. Name one: GENATLAS_CORPUS=… or genatlas build --corpus …")
    return Source(_fingerprint(folder), lambda: read_corpus(folder))


def file_source(path: Path) -> Source:
    """One file: an exported atlas (.json, .graphml) or an outline in any format. Raises SourceMissing."""
    if not path.is_file():
        raise SourceMissing(
            f"No file at {path}. It may be an outline (.txt, .md, .opml) or an atlas (.json, .graphml)."
        )
    data = path.read_bytes()
    readers: dict[str, Callable[[], Atlas]] = {".json": lambda: from_json(data), ".graphml": lambda: from_graphml(data)}
    read = readers.get(path.suffix.lower(), lambda: atlas_of_outline(read_outline(path)))
    return Source(hashlib.sha256(path.suffix.lower().encode() + data).hexdigest(), read)


def _fingerprint(folder: Path, pattern: str = "*") -> str:
    """SHA-256 over the names and bytes of a folder's files, in the order of their names."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob(pattern) if path.is_file()):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(folder)}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def _snapshot_id(source: Source) -> str:
    house = Path(__file__).resolve().parent.parent
    inputs = [source.fingerprint, MODEL, *(_fingerprint(house / package, "*.py") for package in CODE)]
    return hashlib.sha256("\0".join(inputs).encode()).hexdigest()[:32]


def build(
    settings: Settings, source: Source | None = None, force: bool = False, progress: Progress = no_progress
) -> BuildReport:
    """Build the atlas and let it serve; do nothing when its inputs are those of the snapshot that serves.

    Passages that the previous snapshot has under the same text and model are not encoded again, unless `force`. An
    error, or a kill at any moment, leaves the previous snapshot serving. Raises AtlasError: a wrong corpus, another
    build running, a model that cannot be prepared.
    """
    source = source or corpus_source(settings.corpus)
    snapshot_id = _snapshot_id(source)
    with build_lock(settings.home):
        previous = None if force else _intact(settings.home)
        if previous is not None and previous.manifest.id == snapshot_id:
            return BuildReport(previous, changed=False)
        progress("Reading the corpus", 0.0)
        atlas = source.read()
        passages = passages_of(atlas)
        progress("Preparing the encoder", 0.0)
        model = prepare_model(settings.home)
        from search.encoder import Encoder

        known = {} if previous is None or previous.manifest.model != MODEL else _vectors_by_text(previous)
        examples = [*boundary_examples(atlas), *comparison_examples(atlas)]
        texts = {*(passage.text for passage in passages), *(example.text for example in examples)}
        new = sorted(texts - known.keys(), key=lambda text: (len(text), text))
        encoder = Encoder(model, "fp32", threads=os.cpu_count() or 1)
        fresh = dict(zip(new, _encoded(encoder, new, progress), strict=True)) if new else {}
        vector_of = known | fresh
        progress("Writing the snapshot", 0.0)
        counts = _counts(atlas) | {"passages": len(passages)}
        snapshot = write_snapshot(
            settings.home,
            snapshot_id,
            MODEL,
            encoder.dimension,
            counts,
            lambda folder: write_contents(folder, atlas, passages, vector_of),
        )
        lost = () if previous is None else _lost_text(previous, atlas)
        return BuildReport(
            snapshot, True, len(new), len(passages) - len([p for p in passages if p.text in fresh]), lost
        )


def _intact(home: Path) -> Snapshot | None:
    """The snapshot that serves, or None when there is none or a file of it is damaged: then all is built anew."""
    try:
        snapshot = open_current(home)
        snapshot.verified()
    except (SnapshotMissing, SnapshotDamaged):
        return None
    return snapshot


def _encoded(encoder: "Encoder", texts: Sequence[str], progress: Progress) -> list[NDArray[np.float32]]:
    """Unit vectors of the texts, encoded in batches; texts sorted by length waste the least padding."""
    rows: list[NDArray[np.float32]] = []
    for start in range(0, len(texts), BATCH):
        progress(f"Embedding {len(texts):,} passages", start / len(texts))
        rows.extend(encoder.encode(texts[start : start + BATCH]))
    return rows


def _vectors_by_text(snapshot: Snapshot) -> dict[str, NDArray[np.float32]]:
    from search.dense import DenseIndex

    folder = snapshot.verified(*EXAMPLES, "passages.json", "vectors.faiss")
    texts = [passage.text for passage in read_passages(folder)]
    vectors = dict(zip(texts, DenseIndex.load(folder / "vectors.faiss").vectors(), strict=True))
    for examples in (read_examples(folder, "boundary"), read_examples(folder, "comparisons")):
        vectors |= {example.text: vector for example, vector in examples.with_vectors()}
    return vectors


def _counts(atlas: Atlas) -> dict[str, int]:
    outline = [topic for topic in atlas.topics if topic.origin == "outline"]
    return {
        "topics": len(outline),
        "starred": sum(topic.starred for topic in outline),
        "sections": sum(topic.depth == 0 for topic in outline),
        "foundations": len(atlas.topics) - len(outline),
        "hierarchy": sum(topic.depth > 0 for topic in outline),
        "written": sum(bool(topic.summary) for topic in atlas.topics),
        "prerequisites": len(atlas.prerequisites),
        "comparisons": len(atlas.comparisons),
        "concepts": len(atlas.concepts),
        "references": len(atlas.references),
        "demos": len(atlas.demos),
    }


def _lost_text(previous: Snapshot, atlas: Atlas) -> tuple[str, ...]:
    written = {topic.id for topic in atlas.topics if topic.summary}
    before = read_atlas(previous.verified("atlas.json"))
    return tuple(topic.id for topic in before.topics if topic.summary and topic.id not in written)
