"""Topics found by words and by meaning. Loads neither the encoder nor FAISS: `service` imports those by module."""

from search.answer import Answer, Answerer, Sentence
from search.comparison import AspectRow, AspectTable
from search.errors import EmptyQuery, IndexUnreadable, ModelUnavailable, QueryRefused, QueryTooLong
from search.examples import Example, Examples, boundary_examples, comparison_examples
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
    "EmptyQuery",
    "Example",
    "Examples",
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
    "boundary_examples",
    "comparison_examples",
    "passages_of",
]
