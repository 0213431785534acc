"""Outlines and authored content in, one validated atlas out."""

from ingest.corpus import (
    Corpus,
    Place,
    atlas_of_outline,
    outline_of_atlas,
    read_corpus,
    read_corpus_with_places,
)
from ingest.lint import lint
from ingest.outline import Outline, OutlineTopic, parse_outline, read_outline, write_outline
from ingest.problems import CorpusError, Problem

__all__ = [
    "Corpus",
    "CorpusError",
    "Outline",
    "OutlineTopic",
    "Place",
    "Problem",
    "atlas_of_outline",
    "lint",
    "outline_of_atlas",
    "parse_outline",
    "read_corpus",
    "read_corpus_with_places",
    "read_outline",
    "write_outline",
]
