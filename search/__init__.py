"""Topics found by words and by meaning. Loads neither the encoder nor FAISS: `service` imports those by module."""

from search.answer import Answer, Answerer, AspectRow, AspectTable, Sentence
from search.boundary import Boundary, Example, examples_of
from search.errors import EmptyQuery, IndexUnreadable, ModelUnavailable, QueryRefused, QueryTooLong
from search.filters import Filters
from search.intent import Intent
from search.lexical import LexicalIndex
from search.passages import Passage, PassageField, passages_of
from search.searcher import Hit, QueryEncoder, Ranking, Searcher

__all__ = [
    "Answer",
    "Answerer",
    "AspectRow",
    "AspectTable",
    "Boundary",
    "EmptyQuery",
    "Example",
    "Filters",
    "Hit",
    "IndexUnreadable",
    "Intent",
    "LexicalIndex",
    "ModelUnavailable",
    "Passage",
    "PassageField",
    "QueryEncoder",
    "QueryRefused",
    "QueryTooLong",
    "Ranking",
    "Searcher",
    "Sentence",
    "examples_of",
    "passages_of",
]
