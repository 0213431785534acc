"""Topics found by words and by meaning. Loads neither the encoder nor FAISS: `service` imports those by module."""

from search.errors import EmptyQuery, IndexUnreadable, ModelUnavailable, QueryRefused, QueryTooLong
from search.filters import Filters
from search.lexical import LexicalIndex
from search.passages import Passage, PassageField, passages_of
from search.searcher import Hit, QueryEncoder, Ranking, Searcher

__all__ = [
    "EmptyQuery",
    "Filters",
    "Hit",
    "IndexUnreadable",
    "LexicalIndex",
    "ModelUnavailable",
    "Passage",
    "PassageField",
    "QueryEncoder",
    "QueryRefused",
    "QueryTooLong",
    "Ranking",
    "Searcher",
    "passages_of",
]
