"""A corpus folder as one validated `Atlas`, and where in its files everything stands."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from graph import Atlas, Topic
from graph.model import TopicOrigin
from ingest.outline import Outline, OutlineTopic


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands: a file, relative to the corpus, and a line from 1."""

    file: str
    line: int


@dataclass(frozen=True, slots=True)
class Corpus:
    """A corpus that was read: the atlas, and where its parts stand.

    `titles` has the outline's line of every topic, `entries` the place of what was written about one, `edges` that of
    each prerequisite by (before, after), `comparisons` by comparison id, `references` by key.
    """

    atlas: Atlas
    titles: Mapping[str, Place]
    entries: Mapping[str, Place]
    edges: Mapping[tuple[str, str], Place]
    comparisons: Mapping[str, Place]
    references: Mapping[str, Place]


def read_corpus(folder: Path) -> Atlas:
    """Read a corpus folder. Raises CorpusError with every problem of every file; an outline alone is enough."""
    return read_corpus_with_places(folder).atlas


def read_corpus_with_places(folder: Path) -> Corpus:
    """Read a corpus folder and keep the places, for lints and messages. Raises CorpusError like `read_corpus`."""
    from ingest.reader import CorpusReader  # it loads Pydantic and a BibTeX parser, which only reading a corpus needs

    return CorpusReader(folder).read()


def atlas_of_outline(outline: Outline) -> Atlas:
    """An atlas of titles and hierarchy alone."""
    return Atlas(outline.title, tuple(topics_of(outline.topics, 0, "outline")))


def outline_of_atlas(atlas: Atlas) -> Outline:
    """The outline that an atlas was built on, without its foundations; lines are counted from 1."""
    topics = [topic for topic in atlas.topics if topic.origin == "outline"]
    lines = (
        OutlineTopic(line, topic.depth, topic.starred, topic.id, topic.title, topic.title_path)
        for line, topic in enumerate(topics, start=1)
    )
    return Outline(atlas.title, tuple(lines))


def topics_of(lines: Iterable[OutlineTopic], start: int, origin: TopicOrigin) -> Iterable[Topic]:
    """Topics without text from the lines of an outline, their positions counted from `start`."""
    for position, line in enumerate(lines, start):
        yield Topic(line.id, line.title, line.title_path, position, line.depth, line.parent, line.starred, origin)
