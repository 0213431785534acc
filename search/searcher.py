"""Topics for a query: by meaning and by words, fused, one hit for each concept."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from graph import GraphStore, Topic
from search.errors import EmptyQuery, QueryTooLong
from search.filters import Filters
from search.fusion import RankedList, fuse_rankings
from search.lexical import LexicalIndex
from search.passages import LABELS, Passage
from search.spelling import Speller, correct
from search.words import QueryWord, words_of_query

if TYPE_CHECKING:
    from search.dense import DenseIndex

LONGEST_QUERY = 1_000
"""Characters. The encoder reads some 1,200 of them; the longest real question that was collected has 210."""

DEPTH = 300
"""Passages taken from the search by meaning: enough for every topic that can still come into the first ten."""

RECENT_QUERIES = 256
"""Whose vectors are kept: the encoder takes most of a search, and an answer asks for the same query several times."""

MEANING, WORDS = 1.5, 1.0
"""Weights of the two rankings in the fusion."""

MEANING_OF_SYMBOLS = 0.3
"""Weight of the search by meaning for a query of symbols alone: of "beta_t" the encoder knows little."""

ENOUGH = 0.57
"""Evidence, best cosine + best BM25 score / 50, below which a query counts as foreign to the atlas."""

ENOUGH_WORDS = 3.0
"""BM25 score of the best passage below which a query counts as foreign when there is no search by meaning."""


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
    read as. With `meaning_off` the search went by words alone, since there was no encoder or no vectors.
    """

    query: str
    hits: tuple[Hit, ...]
    abstained: bool = False
    nearest: tuple[Hit, ...] = ()
    corrections: tuple[tuple[str, str], ...] = ()
    meaning_off: bool = False


@dataclass(frozen=True, slots=True)
class _Evidence:
    """One way of searching: topics (by number), best first, with the passage that speaks for each and its score."""

    topics: list[int]
    passages: dict[int, int]
    scores: dict[int, float]

    @property
    def best(self) -> float:
        return self.scores[self.topics[0]] if self.topics else 0.0


class Searcher:
    """Searches one atlas. Safe to share between threads.

    `passages` are those that both indexes were built from, in their order. Without `encoder` or `dense` it searches by
    words alone, and each Ranking says so.
    """

    def __init__(
        self,
        store: GraphStore,
        encoder: QueryEncoder | None,
        passages: Sequence[Passage],
        dense: "DenseIndex | None",
        lexical: LexicalIndex,
    ) -> None:
        sizes = {len(passages), len(lexical), len(passages) if dense is None else len(dense)}
        if len(sizes) > 1:
            raise ValueError(f"Passages and indexes do not belong together: they hold {sorted(sizes)} passages.")
        self._store = store
        self._encoder = encoder
        self._dense = dense
        self._lexical = lexical
        self._passages = passages
        self._vector = lru_cache(RECENT_QUERIES)(self._encode)
        self._topics = {topic.id: number for number, topic in enumerate(store.topics())}
        self._owner = np.array([self._topics[passage.topic] for passage in passages], dtype=np.int64)  # topic numbers
        self._is_label = np.array([passage.field in LABELS for passage in passages], dtype=np.bool_)

    def search(self, query: str, k: int = 10, filters: Filters | None = None) -> Ranking:
        """Return at most k hits, best first. Raises EmptyQuery, QueryTooLong, or TopicNotFound for a filter's topic."""
        if len(query) > LONGEST_QUERY:
            raise QueryTooLong(len(query), LONGEST_QUERY)
        if not any(sign.isalnum() or sign.isnumeric() for sign in query):
            raise EmptyQuery
        among = self._admitted(filters)
        words = words_of_query(query)
        unknown = [word.typed for word in words if not word.is_pair and not self._is_known(word)]
        read, corrections = correct(query, unknown, self._speller.read) if unknown else (query, {})
        if corrections:
            words = words_of_query(read)
        words = [self._as_symbol(word) for word in words]
        by_words = self._by_words(words, among)
        by_meaning = self._by_meaning(read, among)
        lists = [RankedList(by_words.topics, WORDS)]
        if by_meaning is not None:
            only_symbols = all(word.is_symbol or word.is_pair for word in words)
            lists.append(RankedList(by_meaning.topics, MEANING_OF_SYMBOLS if only_symbols else MEANING))
        fused = fuse_rankings(lists)
        hits = tuple(self._hits(fused, words, by_words, by_meaning, k))
        is_foreign = self._is_foreign(words, by_words, by_meaning)
        return Ranking(
            query,
            () if is_foreign else hits,
            abstained=is_foreign,
            nearest=hits[:3] if is_foreign else (),
            corrections=tuple(corrections.items()),
            meaning_off=by_meaning is None,
        )

    def passages_about(self, query: str, topic_id: str) -> list[tuple[Passage, float]]:
        """Return the passages of one topic with how near they are to a query, nearest first.

        Nearness is the cosine, or BM25 without an encoder. Raises TopicNotFound.
        """
        self._store.topic(topic_id)
        among = np.flatnonzero(self._owner == self._topics[topic_id])
        if self._encoder is not None and self._dense is not None:
            cosines, numbers = self._dense.search(self._vector(query), len(among), among)
            return [
                (self._passages[number], cosine) for number, cosine in zip(numbers[0], cosines[0].tolist(), strict=True)
            ]
        scores = self._lexical.scores(dict.fromkeys(form for word in words_of_query(query) for form in word.forms))
        order = among[np.argsort(-scores[among], kind="stable")]
        return [(self._passages[number], float(scores[number])) for number in order]

    def _admitted(self, filters: Filters | None) -> NDArray[np.int64] | None:
        """Numbers of the passages that a search may find; None for all."""
        if filters is None or filters == Filters():
            return None
        filters.check(self._store)
        admitted = np.array([filters.admits(topic) for topic in self._store.topics()], dtype=np.bool_)
        return np.flatnonzero(admitted[self._owner])

    def _by_words(self, words: Sequence[QueryWord], among: NDArray[np.int64] | None) -> _Evidence:
        """Topics by BM25: the mean of a topic's labels, which say the same thing thrice, or its best text."""
        scores = self._lexical.scores(dict.fromkeys(form for word in words for form in word.forms))
        found = np.flatnonzero(scores)
        if among is not None:
            found = np.intersect1d(found, among, assume_unique=True)
        labels = np.zeros(len(self._topics), dtype=np.float32)
        texts = np.zeros(len(self._topics), dtype=np.float32)
        is_label = self._is_label[found]
        np.add.at(labels, self._owner[found[is_label]], scores[found[is_label]] / len(LABELS))
        np.maximum.at(texts, self._owner[found[~is_label]], scores[found[~is_label]])
        of_topic = np.maximum(labels, texts)
        order = np.flatnonzero(of_topic)
        order = order[np.argsort(-of_topic[order], kind="stable")][:DEPTH]
        best: dict[int, int] = {}
        for passage in found[np.argsort(-scores[found], kind="stable")]:
            best.setdefault(int(self._owner[passage]), int(passage))
        return _Evidence(order.tolist(), best, {int(topic): float(of_topic[topic]) for topic in order})

    def _by_meaning(self, query: str, among: NDArray[np.int64] | None) -> _Evidence | None:
        """Topics by the cosine of their passage nearest to the query; None without an encoder or vectors."""
        if self._encoder is None or self._dense is None:
            return None
        cosines, numbers = self._dense.search(self._vector(query), DEPTH, among)
        best: dict[int, int] = {}
        scores: dict[int, float] = {}
        for cosine, passage in zip(cosines[0].tolist(), numbers[0].tolist(), strict=True):
            topic = int(self._owner[passage])
            if topic not in best:
                best[topic], scores[topic] = passage, cosine
        return _Evidence(list(best), best, scores)

    def _hits(
        self,
        fused: dict[int, float],
        words: Sequence[QueryWord],
        by_words: _Evidence,
        by_meaning: _Evidence | None,
        k: int,
    ) -> Iterator[Hit]:
        """The best k topics, without further places of a concept that is already among them."""
        topics = self._store.topics()
        told: set[str] = set()
        rank = 0
        for number in sorted(fused, key=lambda number: (-fused[number], number)):
            if rank == k:
                return
            topic = topics[number]
            if topic.id in told:
                continue
            twins = tuple(twin.id for twin in self._store.twins(topic.id))
            told.update((topic.id, *twins))
            rank += 1
            passage, reasons = self._why(number, words, by_words, by_meaning)
            yield Hit(topic, rank, fused[number], passage, reasons, twins)

    def _why(
        self, topic: int, words: Sequence[QueryWord], by_words: _Evidence, by_meaning: _Evidence | None
    ) -> tuple[Passage, tuple[str, ...]]:
        """The passage that matched best and the reasons: the nearest by meaning, unless only words found the topic."""
        reasons: list[str] = []
        passage = by_words.passages.get(topic)
        if passage is not None:
            matched = [word for word in words if self._lexical.matched(passage, word.forms)]
            symbols = dict.fromkeys(word.typed for word in matched if word.is_symbol)
            plain = dict.fromkeys(word.typed for word in matched if not word.is_symbol)
            reasons.extend(
                f"{kind}: {', '.join(typed)}" for kind, typed in (("words", plain), ("symbol", symbols)) if typed
            )
        if by_meaning is not None and topic in by_meaning.passages:
            passage = by_meaning.passages[topic]
            reasons.insert(0, f"meaning {by_meaning.scores[topic]:.2f}")
        assert passage is not None  # noqa: S101 (each fused topic comes from one of the two)
        return self._passages[passage], tuple(reasons)

    def _is_foreign(self, words: Sequence[QueryWord], by_words: _Evidence, by_meaning: _Evidence | None) -> bool:
        """Whether the query is about something that the atlas does not hold.

        A query all of whose words stand together in one passage is at home, however terse it is ("FID", "beta_t").
        """
        if self._all_in_one(words, by_words):
            return False
        if by_meaning is None:
            return by_words.best < ENOUGH_WORDS
        return by_meaning.best + by_words.best / 50 < ENOUGH

    def _all_in_one(self, words: Sequence[QueryWord], by_words: _Evidence) -> bool:
        if not by_words.topics:
            return False
        passage = by_words.passages[by_words.topics[0]]
        singles = [word for word in words if not word.is_pair]
        return bool(singles) and all(self._lexical.matched(passage, word.forms) for word in singles)

    def _as_symbol(self, word: QueryWord) -> QueryWord:
        """A symbol that the atlas has as a whole is looked up as that alone: βₜ is not the β of another formula."""
        if word.is_symbol and word.forms[-1] in self._lexical:
            return replace(word, forms=word.forms[-1:])
        return word

    def _is_known(self, word: QueryWord) -> bool:
        if any(form in self._lexical for form in word.forms):
            return True
        return self._encoder is not None and self._encoder.knows(word.typed.casefold())

    def _encode(self, query: str) -> NDArray[np.float32]:
        assert self._encoder is not None  # noqa: S101 (both callers have asked)
        return self._encoder.encode([query])

    @cached_property
    def _speller(self) -> Speller:
        return Speller(self._lexical.spellings)
