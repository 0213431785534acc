"""What a search asks of the passages of an atlas, wherever these are kept: in memory, or on a server."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from search.filters import Filters
from search.passages import Passage
from search.scoring import Meaning, Strength


class Vocabulary(Protocol):
    """Every word that some passage has, in the form that `search.words` gives it."""

    def __contains__(self, word: str) -> bool:
        """Whether some passage has the word."""
        ...

    @property
    def spellings(self) -> Collection[str]:
        """Every spelling of every word, in lower case."""
        ...

    def rarity(self, word: str) -> float:
        """The word's inverse document frequency, as BM25 has it; 0 for a word that no passage has."""
        ...

    @property
    def greatest_rarity(self) -> float:
        """The rarity of a word that a single passage has: about what one such word adds to a BM25 score."""
        ...


@dataclass(frozen=True, slots=True)
class Found:
    """The topics that one query found, by id in outline order; rows below are their places in this order.

    `by_meaning` has the nearest passage and its cosine, `by_words` the BM25 of the topic, both best first and only for
    the rows that this way of searching found. `meaning` is None where there was no vector to search by.
    """

    topics: Sequence[str]
    by_meaning: Mapping[int, tuple[Passage, float]]
    by_words: Mapping[int, float]
    meaning: Meaning | None
    strength: Strength


@dataclass(frozen=True, slots=True)
class Match:
    """A topic's best passage by words, and which of the words that were looked up it has."""

    passage: Passage
    words: frozenset[str]


class SearchIndex(Protocol):
    """The passages of one atlas, searched by words and, where they have vectors, by meaning.

    Words are given in the form that `search.words` gives them, vectors as unit vectors (d,).
    """

    @property
    def vocabulary(self) -> Vocabulary:
        """The words of all passages."""
        ...

    @property
    def has_vectors(self) -> bool:
        """Whether it can be searched by meaning."""
        ...

    def find(
        self,
        words: Sequence[str],
        vector: NDArray[np.float32] | None,
        filters: Filters | None,
        passages: int,
        topics: int,
    ) -> Found:
        """Return the topics of the nearest `passages` by meaning and the best `topics` by words, of those admitted."""
        ...

    def matches(self, topic_ids: Sequence[str], words: Sequence[str]) -> list[Match]:
        """Return the best passage by words of each of these topics."""
        ...

    def passages_about(
        self, topic_id: str, words: Sequence[str], vector: NDArray[np.float32] | None
    ) -> list[tuple[Passage, float]]:
        """Return the passages of one topic, nearest first: by cosine, or by BM25 without a vector."""
        ...

    def nearest_name(self, vector: NDArray[np.float32]) -> tuple[str, float] | None:
        """Return the id of the topic whose title, label or alias is nearest, and the cosine; None without vectors."""
        ...
