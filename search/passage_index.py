"""The passages of an atlas in memory: vectors and BM25 scores as arrays, all topics scored at once."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from graph import Topic
from search.filters import Filters
from search.index import Found, Match
from search.lexical import LexicalIndex
from search.passages import LABELS, NAMES, Passage
from search.scoring import Meaning, Strength, meaning_of

if TYPE_CHECKING:
    from search.dense import DenseIndex


class PassageIndex:
    """Safe to share between threads.

    `passages` are those that both indexes were built from, in their order: topic by topic as `topics` come, at least
    one each. Without `dense` there is no search by meaning.
    """

    def __init__(
        self, topics: Sequence[Topic], passages: Sequence[Passage], dense: "DenseIndex | None", lexical: LexicalIndex
    ) -> None:
        sizes = {len(passages), len(lexical), len(passages) if dense is None else len(dense)}
        if len(sizes) > 1:
            raise ValueError(f"Passages and indexes do not belong together: they hold {sorted(sizes)} passages.")
        self._topics = topics
        self._dense = dense
        self._lexical = lexical
        self._passages = passages
        self._number = {topic.id: number for number, topic in enumerate(topics)}
        self._owner = np.array([self._number[passage.topic] for passage in passages], dtype=np.int64)  # topic numbers
        self._sizes = np.bincount(self._owner, minlength=len(topics))  # passages of each topic
        if np.any(np.diff(self._owner) < 0) or not np.all(self._sizes):
            raise ValueError("Passages must come topic by topic, in the order of the topics, and each topic has some.")
        self._starts = np.cumsum(self._sizes) - self._sizes
        self._is_label = np.array([passage.field in LABELS for passage in passages], dtype=np.bool_)
        self._is_name = self._is_label | np.array([passage.field == "alias" for passage in passages], dtype=np.bool_)
        self._names = np.flatnonzero([passage.field in NAMES for passage in passages])
        self._label_share = (self._is_label / len(LABELS)).astype(np.float32)
        self._text_share = (~self._is_label).astype(np.float32)

    @property
    def vocabulary(self) -> LexicalIndex:
        return self._lexical

    @property
    def has_vectors(self) -> bool:
        return self._dense is not None

    def find(
        self,
        words: Sequence[str],
        vector: NDArray[np.float32] | None,
        filters: Filters | None,
        passages: int,
        topics: int,
    ) -> Found:
        among = self._admitted(filters)
        best_by_words, strength = self._by_words(words, among, topics)
        nearest = {} if vector is None else self._by_meaning(vector, among, passages)
        order = sorted({*best_by_words, *nearest})
        row = {number: place for place, number in enumerate(order)}
        numbers = np.array(order, dtype=np.int64)
        return Found(
            [self._topics[number].id for number in order],
            {row[number]: found for number, found in nearest.items()},
            {row[number]: score for number, score in best_by_words.items()},
            None if vector is None else self._meaning(vector, numbers),
            strength.of(numbers),
        )

    def matches(self, topic_ids: Sequence[str], words: Sequence[str]) -> list[Match]:
        scores = self._lexical.scores(words)
        best: list[int] = []
        for number in map(self._number.__getitem__, topic_ids):
            start = int(self._starts[number])
            best.append(start + int(np.argmax(scores[start : start + self._sizes[number]])))
        at = np.array(best, dtype=np.int64)
        held: list[set[str]] = [set() for _ in best]
        for word in words:
            for place in np.flatnonzero(self._lexical.holding(word, at)).tolist():
                held[place].add(word)
        return [Match(self._passages[each], frozenset(has)) for each, has in zip(best, held, strict=True)]

    def passages_about(
        self, topic_id: str, words: Sequence[str], vector: NDArray[np.float32] | None
    ) -> list[tuple[Passage, float]]:
        number = self._number[topic_id]
        among = np.arange(self._sizes[number], dtype=np.int64) + self._starts[number]
        if vector is not None and self._dense is not None:
            cosines, numbers = self._dense.search(vector[None], len(among), among)
            return [(self._passages[n], cosine) for n, cosine in zip(numbers[0], cosines[0].tolist(), strict=True)]
        scores = self._lexical.scores(words)
        return [(self._passages[n], float(scores[n])) for n in among[np.argsort(-scores[among], kind="stable")]]

    def nearest_name(self, vector: NDArray[np.float32]) -> tuple[str, float] | None:
        if self._dense is None:
            return None
        cosines, numbers = self._dense.search(vector[None], 1, self._names)
        return self._topics[int(self._owner[int(numbers[0, 0])])].id, float(cosines[0, 0])

    def _by_words(
        self, words: Sequence[str], among: NDArray[np.int64] | None, depth: int
    ) -> tuple[dict[int, float], Strength]:
        """Topics by BM25: the mean of a topic's labels, which say the same thing thrice, or all of its text."""
        columns = [self._lexical.column(word) for word in words]
        rarities = [self._lexical.rarity(word) or self._lexical.greatest_rarity for word in words]
        sizes = np.array([len(passages) for passages, _ in columns], dtype=np.int64)
        labels = texts = held = np.zeros(len(self._topics), dtype=np.float32)
        if sizes.any():
            passages = np.concatenate([passages for passages, _ in columns])
            scores = np.concatenate([scores for _, scores in columns])
            owners = self._owner[passages]
            begins = np.diff(owners, prepend=-1) != 0  # where the passages of a word's next topic begin
            begins[(np.cumsum(sizes) - sizes)[sizes > 0]] = True
            first = np.flatnonzero(begins)
            topics = owners[first]

            def summed(parts: NDArray[np.floating]) -> NDArray[np.float32]:
                return np.bincount(topics, parts, len(self._topics)).astype(np.float32)

            labels = summed(np.add.reduceat(scores * self._label_share[passages], first))
            texts = summed(np.maximum.reduceat(scores * self._text_share[passages], first))
            held = summed(np.repeat(np.array(rarities), sizes)[first])
        of_topic = np.maximum(labels, texts)
        if among is not None:
            admitted = np.zeros(len(self._topics), dtype=np.bool_)
            admitted[self._owner[among]] = True
            of_topic[~admitted] = 0
        found = np.flatnonzero(of_topic > 0)
        order = found[np.argsort(-of_topic[found], kind="stable")][:depth]
        unit = self._lexical.greatest_rarity
        strength = Strength(labels / unit, texts / unit, held / np.float32(max(sum(rarities), 1e-9)))
        return dict(zip(order.tolist(), of_topic[order].tolist(), strict=True)), strength

    def _by_meaning(
        self, vector: NDArray[np.float32], among: NDArray[np.int64] | None, depth: int
    ) -> dict[int, tuple[Passage, float]]:
        """Topics by the cosine of their passage nearest to the query."""
        found: dict[int, tuple[Passage, float]] = {}
        if self._dense is not None:
            cosines, numbers = self._dense.search(vector[None], depth, among)
            owners = self._owner[numbers[0]].tolist()
            for topic, passage, cosine in zip(owners, numbers[0].tolist(), cosines[0].tolist(), strict=True):
                if topic not in found:
                    found[topic] = self._passages[passage], cosine
        return found

    def _meaning(self, vector: NDArray[np.float32], topics: NDArray[np.int64]) -> Meaning | None:
        """The meaning of these topics, from all of their passages."""
        if self._dense is None:
            return None
        sizes = self._sizes[topics]
        first = np.repeat(self._starts[topics] - (np.cumsum(sizes) - sizes), sizes)
        numbers = first + np.arange(len(first))  # all passages of these topics, topic by topic
        return meaning_of(self._dense.cosines(vector, numbers), self._is_name[numbers], sizes)

    def _admitted(self, filters: Filters | None) -> NDArray[np.int64] | None:
        """Numbers of the passages that a search may find; None for all."""
        if filters is None or filters == Filters():
            return None
        admitted = np.array([filters.admits(topic) for topic in self._topics], dtype=np.bool_)
        return np.flatnonzero(admitted[self._owner])
