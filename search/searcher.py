"""Topics for a query: by meaning and by words, scored together, one hit for each concept."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, lru_cache
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from graph import GraphStore, Topic
from search.errors import EmptyQuery, QueryTooLong
from search.examples import NO_EXAMPLES, Examples
from search.filters import Filters
from search.lexical import LexicalIndex
from search.passages import LABELS, NAMES, Passage
from search.scoring import Strength, meaning_of, total
from search.spelling import Speller, correct
from search.words import QueryWord, unglued, words_of, words_of_query

if TYPE_CHECKING:
    from search.dense import DenseIndex

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
class _Evidence:
    """What one way of searching found: topics (by number), best first, with scores, and the best passage of each."""

    scores: Mapping[int, float]
    passage_of: Callable[[int], int]

    @property
    def best(self) -> float:
        return next(iter(self.scores.values()), 0.0)


@dataclass(frozen=True, slots=True)
class _Finding:
    """What both ways found for one query, and the score of each topic; `by_meaning` is None when that way is shut.

    `beyond` is the nearest field beside the atlas, and how near it is (cosine).
    """

    words: tuple[QueryWord, ...]
    corrections: Mapping[str, str]
    by_words: _Evidence
    by_meaning: _Evidence | None
    beyond: tuple[str, float]
    scores: Mapping[int, float]

    @property
    def single_words(self) -> list[QueryWord]:
        return [word for word in self.words if not word.is_pair]


class Searcher:
    """Searches one atlas. Safe to share between threads.

    `passages` are those that both indexes were built from, in their order: topic by topic as the store has them, at
    least one each. Without `encoder` or `dense` it searches by words alone, and each Ranking says so. `boundary` are
    examples of the fields beside the atlas, `comparisons` of what one asks to be given a comparison.
    """

    def __init__(
        self,
        store: GraphStore,
        encoder: QueryEncoder | None,
        passages: Sequence[Passage],
        dense: "DenseIndex | None",
        lexical: LexicalIndex,
        boundary: Examples = NO_EXAMPLES,
        comparisons: Examples = NO_EXAMPLES,
    ) -> None:
        sizes = {len(passages), len(lexical), len(passages) if dense is None else len(dense)}
        if len(sizes) > 1:
            raise ValueError(f"Passages and indexes do not belong together: they hold {sorted(sizes)} passages.")
        self._store = store
        self._topics = store.topics()
        self._encoder = encoder
        self._dense = dense
        self._lexical = lexical
        self._passages = passages
        self._boundary = boundary
        self._comparisons = comparisons
        self._vector = lru_cache(RECENT_QUERIES)(self._encode)
        self._number = {topic.id: number for number, topic in enumerate(self._topics)}
        self._owner = np.array([self._number[passage.topic] for passage in passages], dtype=np.int64)  # topic numbers
        self._sizes = np.bincount(self._owner, minlength=len(self._topics))  # passages of each topic
        if np.any(np.diff(self._owner) < 0) or not np.all(self._sizes):
            raise ValueError("Passages must come topic by topic, in the order of the topics, and each topic has some.")
        self._starts = np.cumsum(self._sizes) - self._sizes
        self._is_label = np.array([passage.field in LABELS for passage in passages], dtype=np.bool_)
        self._is_name = self._is_label | np.array([passage.field == "alias" for passage in passages], dtype=np.bool_)
        self._names = np.flatnonzero([passage.field in NAMES for passage in passages])
        self._label_share = (self._is_label / len(LABELS)).astype(np.float32)
        self._text_share = (~self._is_label).astype(np.float32)

    def search(self, query: str, k: int = 10, filters: Filters | None = None) -> Ranking:
        """Return at most k hits, best first. Raises EmptyQuery, QueryTooLong, or TopicNotFound for a filter's topic."""
        if len(query) > LONGEST_QUERY:
            raise QueryTooLong(len(query), LONGEST_QUERY)
        query = query.encode(errors="replace").decode()  # a lone surrogate is no text, and the tokenizer refuses it
        if not any(sign.isalnum() for sign in query):
            raise EmptyQuery
        finding = self._find(query, self._admitted(filters), max(k, 10))
        hits = tuple(self._hits(finding, k))
        evidence = self._evidence(finding)
        is_foreign = evidence < (ENOUGH_WORDS if finding.by_meaning is None else ENOUGH)
        return Ranking(
            query,
            hits=() if is_foreign else hits,
            abstained=is_foreign,
            evidence=evidence,
            field=finding.beyond[0] if is_foreign and finding.beyond[1] >= NEAR else "",
            nearest=hits[:3] if is_foreign else (),
            corrections=tuple(finding.corrections.items()),
            meaning_off=finding.by_meaning is None,
        )

    def passages_about(self, query: str, topic_id: str) -> list[tuple[Passage, float]]:
        """Return the passages of one topic with how near they are to a query, nearest first.

        Nearness is the cosine, or BM25 without an encoder. Raises TopicNotFound.
        """
        self._store.topic(topic_id)
        number = self._number[topic_id]
        among = np.arange(self._sizes[number], dtype=np.int64) + self._starts[number]
        if self._encoder is not None and self._dense is not None:
            cosines, numbers = self._dense.search(self._vector(query), len(among), among)
            return [(self._passages[n], cosine) for n, cosine in zip(numbers[0], cosines[0].tolist(), strict=True)]
        scores = self._lexical.scores(_forms(words_of_query(query)))
        return [(self._passages[n], float(scores[n])) for n in among[np.argsort(-scores[among], kind="stable")]]

    def similarity(self, text: str, others: Sequence[str]) -> list[float]:
        """Return the cosine of a text with each of some others; without an encoder the share of its words they have."""
        if self._encoder is None:
            words = {*words_of(text)}
            return [len(words.intersection(words_of(other))) / max(1, len(words)) for other in others]
        vectors = np.concatenate([self._encoder.encode([each]) for each in (text, *others)])
        return (vectors[1:] @ vectors[0]).tolist()

    def nearest_name(self, text: str) -> tuple[Topic, float] | None:
        """Return the topic whose title, label or alias is nearest, and the cosine; None without an encoder."""
        if self._encoder is None or self._dense is None:
            return None
        cosines, numbers = self._dense.search(self._vector(text), 1, self._names)
        return self._topics[int(self._owner[int(numbers[0, 0])])], float(cosines[0, 0])

    def nearness_of_comparisons(self, question: str) -> Mapping[str, float]:
        """Return how near each comparison's nearest example is to a question, by id; empty without an encoder."""
        return {} if self._encoder is None else self._comparisons.nearness(self._vector(question)[0])

    # Finding

    def _find(self, query: str, among: NDArray[np.int64] | None, wanted: int) -> _Finding:
        query = unglued(query)
        words = words_of_query(query)
        unknown = [word.typed for word in words if not word.is_pair and not self._is_known(word)]
        read, corrections = correct(query, unknown, self._speller.read) if unknown else (query, {})
        if corrections:
            words = words_of_query(read)
        # A pair that no text has as one word is no word of the query.
        words = tuple(self._as_symbol(word) for word in words if not word.is_pair or word.forms[0] in self._lexical)
        by_meaning = self._by_meaning(read, among, wanted * DEPTH)
        nothing = ("", NO_BOUNDARY)
        beyond = (by_meaning is not None and self._boundary.nearest(self._vector(read)[0])) or nothing
        by_words, strength = self._by_words(words, among, wanted * WORDS_DEPTH)
        scores = self._scored(read, words, strength, [*by_words.scores, *(by_meaning.scores if by_meaning else ())])
        return _Finding(words, corrections, by_words, by_meaning, beyond, scores)

    def _scored(
        self, query: str, words: Sequence[QueryWord], strength: Strength, found: Iterable[int]
    ) -> dict[int, float]:
        """The score of each topic found, from all of its passages."""
        topics = np.array(list(dict.fromkeys(found)), dtype=np.int64)
        meaning = None
        if self._encoder is not None and self._dense is not None:
            sizes = self._sizes[topics]
            first = np.repeat(self._starts[topics] - (np.cumsum(sizes) - sizes), sizes)
            numbers = first + np.arange(len(first))  # all passages of these topics, topic by topic
            meaning = meaning_of(self._dense.cosines(self._vector(query)[0], numbers), self._is_name[numbers], sizes)
        only_symbols = all(word.is_symbol for word in words if not word.is_pair)
        scores = total(meaning, strength.of(topics), only_symbols)
        return dict(zip(topics.tolist(), scores.tolist(), strict=True))

    def _by_words(
        self, words: Sequence[QueryWord], among: NDArray[np.int64] | None, depth: int
    ) -> tuple[_Evidence, Strength]:
        """Topics by BM25: the mean of a topic's labels, which say the same thing thrice, or all of its text."""
        forms = _forms(words)
        columns = [self._lexical.column(form) for form in forms]
        rarities = [self._lexical.rarity(form) or self._lexical.greatest_rarity for form in forms]
        sizes = np.array([len(passages) for passages, _ in columns], dtype=np.int64)
        labels = texts = held = np.zeros(len(self._topics), dtype=np.float32)
        if sizes.any():
            passages = np.concatenate([passages for passages, _ in columns])
            scores = np.concatenate([scores for _, scores in columns])
            owners = self._owner[passages]
            begins = np.diff(owners, prepend=-1) != 0  # where the passages of a form's next topic begin
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

        of_passage = cache(lambda: self._lexical.scores(forms))  # for those topics alone that become hits

        def best_passage(topic: int) -> int:
            start = int(self._starts[topic])
            return start + int(np.argmax(of_passage()[start : start + self._sizes[topic]]))

        evidence = _Evidence(dict(zip(order.tolist(), of_topic[order].tolist(), strict=True)), best_passage)
        unit = self._lexical.greatest_rarity
        return evidence, Strength(labels / unit, texts / unit, held / np.float32(max(sum(rarities), 1e-9)))

    def _by_meaning(self, query: str, among: NDArray[np.int64] | None, depth: int) -> _Evidence | None:
        """Topics by the cosine of their passage nearest to the query; None without an encoder or vectors."""
        if self._encoder is None or self._dense is None:
            return None
        cosines, numbers = self._dense.search(self._vector(query), depth, among)
        owners = self._owner[numbers[0]].tolist()
        passages: dict[int, int] = {}
        scores: dict[int, float] = {}
        for topic, passage, cosine in zip(owners, numbers[0].tolist(), cosines[0].tolist(), strict=True):
            if topic not in passages:
                passages[topic], scores[topic] = passage, cosine
        return _Evidence(scores, passages.__getitem__)

    def _admitted(self, filters: Filters | None) -> NDArray[np.int64] | None:
        """Numbers of the passages that a search may find; None for all."""
        if filters is None or filters == Filters():
            return None
        filters.check(self._store)
        admitted = np.array([filters.admits(topic) for topic in self._topics], dtype=np.bool_)
        return np.flatnonzero(admitted[self._owner])

    def _encode(self, query: str) -> NDArray[np.float32]:
        assert self._encoder is not None  # noqa: S101 (each caller has asked)
        vector = self._encoder.encode([query])
        vector.flags.writeable = False
        return vector

    # Hits

    def _hits(self, finding: _Finding, k: int) -> Iterator[Hit]:
        """The best k topics, without further places of a concept that is already among them."""
        told: set[str] = set()
        chosen: list[tuple[int, tuple[str, ...]]] = []
        for number in sorted(finding.scores, key=lambda number: (-finding.scores[number], number)):
            topic = self._topics[number]
            if topic.id in told:
                continue
            if len(chosen) == k:
                break
            twins = tuple(twin.id for twin in self._store.twins(topic.id))
            told.update((topic.id, *twins))
            chosen.append((number, twins))
        matched = self._matched([number for number, _ in chosen], finding)
        for rank, (number, twins) in enumerate(chosen, start=1):
            passage, reasons = self._why(number, matched.get(number), finding)
            yield Hit(self._topics[number], rank, finding.scores[number], self._passages[passage], reasons, twins)

    def _matched(self, topics: Sequence[int], finding: _Finding) -> dict[int, tuple[int, list[QueryWord]]]:
        """The best passage by words and the query's words in it, of those topics that words found."""
        found = [topic for topic in topics if topic in finding.by_words.scores]
        passages = np.array([finding.by_words.passage_of(topic) for topic in found], dtype=np.int64)
        matched: list[list[QueryWord]] = [[] for _ in found]
        for word in finding.words:
            held = np.logical_or.reduce([self._lexical.holding(form, passages) for form in word.forms])
            for place in np.flatnonzero(held).tolist():
                matched[place].append(word)
        return dict(zip(found, zip(passages.tolist(), matched, strict=True), strict=True))

    def _why(
        self, topic: int, matched: tuple[int, list[QueryWord]] | None, finding: _Finding
    ) -> tuple[int, tuple[str, ...]]:
        """The passage that matched best and the reasons: the nearest by meaning, unless only words found the topic."""
        reasons: list[str] = []
        passage = 0
        if matched is not None:
            passage, words = matched
            plain = dict.fromkeys(word.typed for word in words if not word.is_symbol)
            symbols = dict.fromkeys(word.typed for word in words if word.is_symbol)
            kinds = (("words", plain), ("symbol", symbols))
            reasons.extend(f"{kind}: {', '.join(typed)}" for kind, typed in kinds if typed)
        if finding.by_meaning is not None and topic in finding.by_meaning.scores:
            passage = finding.by_meaning.passage_of(topic)
            reasons.insert(0, f"meaning {finding.by_meaning.scores[topic]:.2f}")
        return passage, tuple(reasons)

    def _evidence(self, finding: _Finding) -> float:
        """How much speaks for the query being about something that the atlas holds; to be held against ENOUGH."""
        if self._is_a_name(finding):
            return math.inf
        strength = finding.by_words.best / self._lexical.greatest_rarity
        if finding.by_meaning is None:
            return strength
        words = finding.single_words
        unknown = sum(not any(form in self._lexical for form in word.forms) for word in words) / max(1, len(words))
        return finding.by_meaning.best + WORDS_SHARE * strength - finding.beyond[1] - UNKNOWN_SHARE * unknown

    def _is_a_name(self, finding: _Finding) -> bool:
        """Whether a name of the best topic by words has every word of the query, compounds as a whole.

        Such a query is at home, however terse it is and however little the encoder makes of it ("FID", "beta_t").
        """
        first = next(iter(finding.by_words.scores), None)
        if first is None:
            return False
        passage = finding.by_words.passage_of(first)
        wholes = [word.forms[-1] for word in finding.single_words]
        is_name = self._passages[passage].field in NAMES
        at = np.array([passage], dtype=np.int64)
        return is_name and all(self._lexical.holding(whole, at)[0] for whole in wholes)

    # Words

    def _as_symbol(self, word: QueryWord) -> QueryWord:
        """A symbol that the atlas has as a whole is looked up as that alone: βₜ is not the β of another formula."""
        if word.is_symbol and word.forms[-1] in self._lexical:
            return replace(word, forms=word.forms[-1:])
        return word

    def _is_known(self, word: QueryWord) -> bool:
        """Whether the atlas or the encoder has the word, or each part of a compound."""
        *parts, whole = word.forms
        if whole in self._lexical or (parts and all(part in self._lexical for part in parts)):
            return True
        return self._encoder is not None and self._encoder.knows(word.typed.casefold())

    @cached_property
    def _speller(self) -> Speller:
        return Speller(self._lexical.spellings)


def _forms(words: Sequence[QueryWord]) -> list[str]:
    """What to look words up by, each once."""
    return list(dict.fromkeys(form for word in words for form in word.forms))
