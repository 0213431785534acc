"""Topics found by words and by meaning. Loads neither the encoder nor FAISS: `service` imports those by module."""

from search.errors import EmptyQuery, IndexUnreadable, ModelUnavailable, QueryRefused, QueryTooLong
from search.lexical import LexicalIndex
from search.passages import Passage, PassageField, passages_of

__all__ = [
    "EmptyQuery",
    "IndexUnreadable",
    "LexicalIndex",
    "ModelUnavailable",
    "Passage",
    "PassageField",
    "QueryRefused",
    "QueryTooLong",
    "passages_of",
]
