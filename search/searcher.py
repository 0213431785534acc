"""Topics for a query: by meaning and by words, scored together, one hit for each concept."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from graph import GraphStore, Topic
from search.errors import EmptyQuery, QueryTooLong
from search.examples import NO_EXAMPLES, Examples
from search.filters import Filters
from search.index import Found, Match, SearchIndex
from search.passages import NAMES, Passage
from search.scoring import total
from search.spelling import Speller, correct
from search.words import QueryWord, unglued, words_of, words_of_query

LONGEST_QUERY = 1_000
"""Characters. The encoder reads some 1,200 of them; the longest real question that was collected has 210."""

DEPTH, WORDS_DEPTH = 8, 3
"""Passages taken from the search by meaning, topics from that by words, for each hit of ten or more that are wanted.
On the judged questions the first five are those of a search two and a half times as deep, and 99 % of the first ten."""

RECENT_QUERIES = 256
"""Whose vectors are kept: the encoder takes most of a search, and an answer asks for the same query several times."""

ENOUGH = 0.235
"""Evidence below which a query counts as foreign to the atlas.

The evidence is the best cosine + WORDS_SHARE × strength of words - the cosine of the nearest example of a neighbouring
field - UNKNOWN_SHARE × share of the query's words that no text of the atlas has. The strength of words is the best
topic's BM25, in units of a word that one passage has. Of the judged questions that are at home 0.7 % have less, of far
foreign ones all, of near ones 96 %.
"""
WORDS_SHARE, UNKNOWN_SHARE = 0.15, 0.3

NO_BOUNDARY = 0.35
"""Stands for that cosine in an atlas that names no neighbouring field."""

NEAR = 0.6
"""Cosine from which a foreign query is said to belong to a neighbouring field."""

ENOUGH_WORDS = 0.35
"""Strength of words below which a query counts as foreign when there is no search by meaning."""


class QueryEncoder(Protocol):
    """What a searcher needs of an encoder."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors (n, d) of the texts."""
        ...

    def knows(self, word: str) -> bool:
        """Whether a lower-case word is one of the model's own vocabulary, and so no slip."""
        ...


@dataclass(frozen=True, slots=True)
class Hit:
    """One topic found, and the passage that matched best.

    `score` is comparable only within one ranking. `reasons` say why, for people: "meaning 0.71", "words: mode,
    collapse", "symbol: βₜ". `twins` are the ids of the concept's other places, folded into this hit.
    """

    topic: Topic
    rank: int
    score: float
    passage: Passage
    reasons: tuple[str, ...]
    twins: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ranking:
    """What a query found: hits, best first; none when the query is foreign to the atlas (`abstained`).

    `nearest` are what came closest when the search abstained. `corrections` are words of the query and what they were
    read as. With `meaning_off` the search went by words alone, since there was no encoder or no vectors. `evidence`
    says how much speaks for the query being at home, on no scale but its own; `field` is the neighbouring field that an
    abstained query seems to belong to, "" where none is near.
    """

    query: str
    hits: tuple[Hit, ...]
    abstained: bool = False
    evidence: float = 0.0
    field: str = ""
    nearest: tuple[Hit, ...] = ()
    corrections: tuple[tuple[str, str], ...] = ()
    meaning_off: bool = False


@dataclass(frozen=True, slots=True)
class _Finding:
    """What both ways found for one query, and the score of each topic (by row); `is_by_words` when one way is shut.

    `beyond` is the nearest field beside the atlas, and how near it is (cosine).
    """

    words: tuple[QueryWord, ...]
    corrections: Mapping[str, str]
    found: Found
    beyond: tuple[str, float]
    scores: NDArray[np.float32]

    @property
    def single_words(self) -> list[QueryWord]:
        return [word for word in self.words if not word.is_pair]

    @property
    def meaning_off(self) -> bool:
        return self.found.meaning is None

    @property
    def first_by_words(self) -> int | None:
        return next(iter(self.found.by_words), None)


class Searcher:
    """Searches one atlas. Safe to share between threads.

    `index` holds the passages of the store's topics. Without `encoder`, or vectors in the index, it searches by words
    alone, and each Ranking says so. `boundary` are examples of the fields beside the atlas, `comparisons` of what one
    asks to be given a comparison.
    """

    def __init__(
        self,
        store: GraphStore,
        encoder: QueryEncoder | None,
        index: SearchIndex,
        boundary: Examples = NO_EXAMPLES,
        comparisons: Examples = NO_EXAMPLES,
    ) -> None:
        self._store = store
        self._encoder = encoder
        self._index = index
        self._words = index.vocabulary
        self._boundary = boundary
        self._comparisons = comparisons
        self._encoded = lru_cache(RECENT_QUERIES)(self._encode)

    def search(self, query: str, k: int = 10, filters: Filters | None = None) -> Ranking:
        """Return at most k hits, best first. Raises EmptyQuery, QueryTooLong, or TopicNotFound for a filter's topic."""
        if len(query) > LONGEST_QUERY:
            raise QueryTooLong(len(query), LONGEST_QUERY)
        query = query.encode(errors="replace").decode()  # a lone surrogate is no text, and the tokenizer refuses it
        if not any(sign.isalnum() for sign in query):
            raise EmptyQuery
        if filters is not None:
            filters.check(self._store)
        finding = self._find(query, filters, max(k, 10))
        best = self._best(finding, k)
        matches = self._matches(finding, best)
        hits = tuple(self._hits(finding, best, matches))
        evidence = self._evidence(finding, matches)
        is_foreign = evidence < (ENOUGH_WORDS if finding.meaning_off else ENOUGH)
        return Ranking(
            query,
            hits=() if is_foreign else hits,
            abstained=is_foreign,
            evidence=evidence,
            field=finding.beyond[0] if is_foreign and finding.beyond[1] >= NEAR else "",
            nearest=hits[:3] if is_foreign else (),
            corrections=tuple(finding.corrections.items()),
            meaning_off=finding.meaning_off,
        )

    def passages_about(self, query: str, topic_id: str) -> list[tuple[Passage, float]]:
        """Return the passages of one topic with how near they are to a query, nearest first.

        Nearness is the cosine, or BM25 without an encoder. Raises TopicNotFound.
        """
        self._store.topic(topic_id)
        return self._index.passages_about(topic_id, _forms(words_of_query(query)), self._vector(query))

    def similarity(self, text: str, others: Sequence[str]) -> list[float]:
        """Return the cosine of a text with each of some others; without an encoder the share of its words they have."""
        if self._encoder is None:
            words = {*words_of(text)}
            return [len(words.intersection(words_of(other))) / max(1, len(words)) for other in others]
        vectors = np.concatenate([self._encoder.encode([each]) for each in (text, *others)])
        return (vectors[1:] @ vectors[0]).tolist()

    def nearest_name(self, text: str) -> tuple[Topic, float] | None:
        """Return the topic whose title, label or alias is nearest, and the cosine; None without an encoder."""
        vector = self._vector(text)
        found = None if vector is None else self._index.nearest_name(vector)
        return None if found is None else (self._store.topic(found[0]), found[1])

    def nearness_of_comparisons(self, question: str) -> Mapping[str, float]:
        """Return how near each comparison's nearest example is to a question, by id; empty without an encoder."""
        vector = self._vector(question)
        return {} if vector is None else self._comparisons.nearness(vector)

    # Finding

    def _find(self, query: str, filters: Filters | None, wanted: int) -> _Finding:
        query = unglued(query)
        words = words_of_query(query)
        unknown = [word.typed for word in words if not word.is_pair and not self._is_known(word)]
        read, corrections = correct(query, unknown, self._speller.read) if unknown else (query, {})
        if corrections:
            words = words_of_query(read)
        # A pair that no text has as one word is no word of the query.
        words = tuple(self._as_symbol(word) for word in words if not word.is_pair or word.forms[0] in self._words)
        vector = self._vector(read)
        found = self._index.find(_forms(words), vector, filters, wanted * DEPTH, wanted * WORDS_DEPTH)
        beyond = (vector is not None and self._boundary.nearest(vector)) or ("", NO_BOUNDARY)
        only_symbols = all(word.is_symbol for word in words if not word.is_pair)
        return _Finding(words, corrections, found, beyond, total(found.meaning, found.strength, only_symbols))

    def _vector(self, text: str) -> NDArray[np.float32] | None:
        """The unit vector (d,) of a text; None where nothing is searched by meaning."""
        return None if self._encoder is None or not self._index.has_vectors else self._encoded(text)

    def _encode(self, text: str) -> NDArray[np.float32]:
        assert self._encoder is not None  # noqa: S101 (its caller has asked)
        vector = self._encoder.encode([text])[0]
        vector.flags.writeable = False
        return vector

    # Hits

    def _best(self, finding: _Finding, k: int) -> dict[int, tuple[str, ...]]:
        """The best k topics (rows), each with the further places of its concept, which are none of their own."""
        topics = finding.found.topics
        ranked: list[int] = np.argsort(-finding.scores, kind="stable").tolist()
        self._store.prefetch(topics[row] for row in ranked[: 2 * k])
        told: set[str] = set()
        chosen: dict[int, tuple[str, ...]] = {}
        for row in ranked:
            if topics[row] in told:
                continue
            if len(chosen) == k:
                break
            chosen[row] = tuple(twin.id for twin in self._store.twins(topics[row]))
            told.update((topics[row], *chosen[row]))
        return chosen

    def _matches(self, finding: _Finding, best: Mapping[int, tuple[str, ...]]) -> dict[int, Match]:
        """The best passage by words of those topics (rows) that words found, and of the first of them all."""
        by_words = finding.found.by_words
        if finding.first_by_words is None:
            return {}
        rows = list({row: None for row in (*best, finding.first_by_words) if row in by_words})
        found = self._index.matches([finding.found.topics[row] for row in rows], _forms(finding.words))
        return dict(zip(rows, found, strict=True))

    def _hits(
        self, finding: _Finding, best: Mapping[int, tuple[str, ...]], matches: Mapping[int, Match]
    ) -> Iterator[Hit]:
        for rank, (row, twins) in enumerate(best.items(), start=1):
            passage, reasons = self._why(row, matches.get(row), finding)
            topic = self._store.topic(finding.found.topics[row])
            yield Hit(topic, rank, float(finding.scores[row]), passage, reasons, twins)

    def _why(self, row: int, match: Match | None, finding: _Finding) -> tuple[Passage, tuple[str, ...]]:
        """The passage that matched best and the reasons: the nearest by meaning, unless only words found the topic."""
        reasons: list[str] = []
        if match is not None:
            words = [word for word in finding.words if match.words.intersection(word.forms)]
            plain = dict.fromkeys(word.typed for word in words if not word.is_symbol)
            symbols = dict.fromkeys(word.typed for word in words if word.is_symbol)
            kinds = (("words", plain), ("symbol", symbols))
            reasons.extend(f"{kind}: {', '.join(typed)}" for kind, typed in kinds if typed)
        nearest = finding.found.by_meaning.get(row)
        if nearest is not None:
            passage, cosine = nearest
            return passage, (f"meaning {cosine:.2f}", *reasons)
        assert match is not None  # noqa: S101 (one of both ways has found it)
        return match.passage, tuple(reasons)

    def _evidence(self, finding: _Finding, matches: Mapping[int, Match]) -> float:
        """How much speaks for the query being about something that the atlas holds; to be held against ENOUGH."""
        first = finding.first_by_words
        if first is not None and self._is_a_name(finding, matches[first]):
            return math.inf
        strength = 0.0 if first is None else finding.found.by_words[first] / self._words.greatest_rarity
        if finding.meaning_off:
            return strength
        words = finding.single_words
        unknown = sum(not any(form in self._words for form in word.forms) for word in words) / max(1, len(words))
        nearest = next((cosine for _, cosine in finding.found.by_meaning.values()), 0.0)
        return nearest + WORDS_SHARE * strength - finding.beyond[1] - UNKNOWN_SHARE * unknown

    @staticmethod
    def _is_a_name(finding: _Finding, match: Match) -> bool:
        """Whether a name of the best topic by words has every word of the query, compounds as a whole.

        Such a query is at home, however terse it is and however little the encoder makes of it ("FID", "beta_t").
        """
        return match.passage.field in NAMES and all(word.forms[-1] in match.words for word in finding.single_words)

    # Words

    def _as_symbol(self, word: QueryWord) -> QueryWord:
        """A symbol that the atlas has as a whole is looked up as that alone: βₜ is not the β of another formula."""
        if word.is_symbol and word.forms[-1] in self._words:
            return replace(word, forms=word.forms[-1:])
        return word

    def _is_known(self, word: QueryWord) -> bool:
        """Whether the atlas or the encoder has the word, or each part of a compound."""
        *parts, whole = word.forms
        if whole in self._words or (parts and all(part in self._words for part in parts)):
            return True
        return self._encoder is not None and self._encoder.knows(word.typed.casefold())

    @cached_property
    def _speller(self) -> Speller:
        return Speller(self._words.spellings)


def _forms(words: Sequence[QueryWord]) -> list[str]:
    """What to look words up by, each once."""
    return list(dict.fromkeys(form for word in words for form in word.forms))
