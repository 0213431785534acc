"""The passages of an atlas on a Neo4j server: its vector and full-text indexes find topics, which are scored here.

The server gives what is near: passages by cosine and by BM25 (its full-text index holds the very words of
`search.words`, unstemmed by itself). Of these topics all passages are then scored as the embedded index does it, so
that both rank alike wherever both find a topic.
"""

import zlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from graph.neo4j import Neo4jConnection, vector_index, words_index
from graph.neo4j.recent import Recent
from search.filters import Filters
from search.index import Found, Match
from search.lexical import K1, B, rarity_of, spellings_by_word
from search.passages import LABELS, NAMES, Passage, PassageField
from search.scoring import Meaning, Strength, meaning_of

TOPICS_KEPT = 2_048
"""Topics whose passages are kept in memory once they were read; one takes some 60 kB."""

MORE_BY_WORDS = 1.5
"""Times as many topics as are wanted are taken from the full-text index: it ranks by the best passage alone."""

PASSAGES_BY_WORDS = 4
"""Passages looked at for each topic that is wanted by words."""

NAMES_AMONG = 200
"""Nearest passages among which the nearest name is looked for."""

BY_MEANING = """
    CALL db.index.vector.queryNodes($vectors, $passages, $vector) YIELD node AS p
    MATCH (t:Topic)-[:HAS_PASSAGE]->(p)
    RETURN t
"""
BY_WORDS = """
    CALL db.index.fulltext.queryNodes($words_index, $words, {limit: $by_words}) YIELD node AS p, score
    MATCH (t:Topic)-[:HAS_PASSAGE]->(p)
    WITH t, max(score) AS score ORDER BY score DESC LIMIT $topics
    RETURN t
"""
PASSAGES = """
    UNWIND $ids AS id
    MATCH (t:Topic {build: $build, id: id})-[:HAS_PASSAGE]->(p:Passage)
    WITH id, t, p ORDER BY p.number
    RETURN id, t.position AS position, collect([p.field, p.text, p.words, p.vector16]) AS passages
"""
ADMITTED = """($section IS NULL OR t.section = $section) AND ($level IS NULL OR t.level = $level)
    AND ($starred IS NULL OR t.starred = $starred)
    AND ($subtree IS NULL OR t.id = $subtree OR t.id STARTS WITH $subtree + '/')"""
ADMITTED_BY_MEANING = f"""
    MATCH (t:Topic {{build: $build}}) WHERE t.id IS NOT NULL AND {ADMITTED}
    MATCH (t)-[:HAS_PASSAGE]->(p:Passage)
    WITH t, p ORDER BY vector.similarity.cosine(p.embedding, $vector) DESC LIMIT $passages
    RETURN DISTINCT t
"""
ADMITTED_BY_WORDS = f"""
    CALL db.index.fulltext.queryNodes($words_index, $words) YIELD node AS p, score
    MATCH (t:Topic)-[:HAS_PASSAGE]->(p) WHERE {ADMITTED}
    WITH t, max(score) AS score ORDER BY score DESC LIMIT $topics
    RETURN t
"""


class ServerVocabulary(msgspec.Struct, frozen=True):
    """The words of all passages: how many have each, and its spellings; and how long passages are.

    `words` are by the form that is looked up, spellings commonest first. `mean_length` is in words.
    """

    size: int
    mean_length: float
    words: dict[str, tuple[int, list[str]]]

    def __contains__(self, word: str) -> bool:
        return word in self.words

    @property
    def spellings(self) -> Collection[str]:
        return [spelling for _, spellings in self.words.values() for spelling in spellings]

    def rarity(self, word: str) -> float:
        held = self.words.get(word)
        return 0.0 if held is None else self._rarity_of(held[0])

    @property
    def greatest_rarity(self) -> float:
        return self._rarity_of(1)

    def _rarity_of(self, passages: int) -> float:
        return rarity_of(passages, self.size)

    def encode(self) -> bytes:
        """The vocabulary as bytes to keep with the build."""
        return zlib.compress(msgspec.msgpack.encode(self))

    @staticmethod
    def decode(data: bytes) -> "ServerVocabulary":
        """The inverse of `encode`."""
        return msgspec.msgpack.decode(zlib.decompress(data), type=ServerVocabulary)


def vocabulary_of(rows: Sequence[Sequence[tuple[str, str]]]) -> ServerVocabulary:
    """The vocabulary of passages, each as its words with their spellings (`search.words.spellings_of`)."""
    passages = Counter(word for row in rows for word in {word for word, _ in row})
    words = {word: (passages[word], spellings) for word, spellings in spellings_by_word(rows).items()}
    return ServerVocabulary(len(rows), sum(map(len, rows)) / max(1, len(rows)), words)


@dataclass(frozen=True, slots=True)
class _TopicPassages:
    """All passages of one topic (n), in order; how often each has each word; their vectors (n, d)."""

    position: int
    passages: Sequence[Passage]
    counts: Sequence[Mapping[str, int]]
    vectors: NDArray[np.float32]


class Neo4jIndex:
    """The passages of one build, which never changes: what was read once is kept. Safe to share between threads."""

    def __init__(self, connection: Neo4jConnection, build: str, vocabulary: ServerVocabulary) -> None:
        self._connection = connection
        self._build = build
        self._vocabulary = vocabulary
        self._kept = Recent[str, _TopicPassages](TOPICS_KEPT)

    @property
    def vocabulary(self) -> ServerVocabulary:
        return self._vocabulary

    @property
    def has_vectors(self) -> bool:
        return True

    def find(
        self,
        words: Sequence[str],
        vector: NDArray[np.float32] | None,
        filters: Filters | None,
        passages: int,
        topics: int,
    ) -> Found:
        about = self._about(self._candidates(words, vector, filters, passages, topics))
        ids = sorted(about, key=lambda topic_id: about[topic_id].position)
        cosines = {} if vector is None else {topic_id: about[topic_id].vectors @ vector for topic_id in ids}
        nearest = self._nearest(about, cosines, passages)
        strength = self._strength(words, [about[topic_id] for topic_id in ids])
        of_topic = np.maximum(strength.labels, strength.text)
        best: list[int] = [row for row in np.argsort(-of_topic, kind="stable").tolist() if of_topic[row] > 0]
        unit = self._vocabulary.greatest_rarity
        by_words = {ids[row]: float(of_topic[row]) * unit for row in best[:topics]}
        # The server gave some more by words than are wanted; those that neither way has among its best go.
        rows = [row for row, topic_id in enumerate(ids) if topic_id in nearest or topic_id in by_words]
        kept = [ids[row] for row in rows]
        place = {topic_id: row for row, topic_id in enumerate(kept)}
        return Found(
            kept,
            {place[topic_id]: found for topic_id, found in nearest.items()},
            {place[topic_id]: score for topic_id, score in by_words.items()},
            None if vector is None else self._meaning([(about[each], cosines[each]) for each in kept]),
            strength.of(np.array(rows, dtype=np.int64)),
        )

    def matches(self, topic_ids: Sequence[str], words: Sequence[str]) -> list[Match]:
        about = self._about(topic_ids)
        found: list[Match] = []
        for each in map(about.__getitem__, topic_ids):
            scores = [sum(self._scores(counts, words).values()) for counts in each.counts]
            best = max(range(len(scores)), key=scores.__getitem__)
            found.append(Match(each.passages[best], frozenset(word for word in words if word in each.counts[best])))
        return found

    def passages_about(
        self, topic_id: str, words: Sequence[str], vector: NDArray[np.float32] | None
    ) -> list[tuple[Passage, float]]:
        about = self._about([topic_id])[topic_id]
        if vector is None:
            near = [sum(self._scores(counts, words).values()) for counts in about.counts]
        else:
            near: list[float] = (about.vectors @ vector).tolist()
        order = sorted(range(len(near)), key=lambda place: (-near[place], place))
        return [(about.passages[place], near[place]) for place in order]

    def nearest_name(self, vector: NDArray[np.float32]) -> tuple[str, float] | None:
        rows = self._connection.read(
            """
            CALL db.index.vector.queryNodes($vectors, $among, $vector) YIELD node AS p, score
            WHERE p.field IN $names
            MATCH (t:Topic)-[:HAS_PASSAGE]->(p)
            RETURN t.id AS id, 2 * score - 1 AS cosine ORDER BY score DESC LIMIT 1
            """,
            vectors=vector_index(self._build),
            among=NAMES_AMONG,
            vector=vector.tolist(),
            names=NAMES,
        )
        return (str(rows[0]["id"]), float(rows[0]["cosine"])) if rows else None

    def _candidates(
        self,
        words: Sequence[str],
        vector: NDArray[np.float32] | None,
        filters: Filters | None,
        passages: int,
        topics: int,
    ) -> list[str]:
        """The topics that the server's indexes find, in one round trip."""
        known = [word for word in words if word in self._vocabulary]
        free = filters is None or filters == Filters()
        ways = [BY_MEANING if free else ADMITTED_BY_MEANING] if vector is not None else []
        ways += [BY_WORDS if free else ADMITTED_BY_WORDS] if known else []
        if not ways:
            return []
        asked = filters or Filters()
        rows = self._connection.read(
            f"CALL () {{ {' UNION '.join(ways)} }} RETURN t.id AS id",
            build=self._build,
            vectors=vector_index(self._build),
            words_index=words_index(self._build),
            vector=None if vector is None else vector.tolist(),
            words=" ".join('"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"' for word in known),
            passages=passages,
            by_words=topics * PASSAGES_BY_WORDS,
            topics=int(topics * MORE_BY_WORDS),
            section=asked.section,
            level=asked.level,
            starred=asked.starred,
            subtree=asked.subtree,
        )
        return [str(row["id"]) for row in rows]

    def _about(self, topic_ids: Iterable[str]) -> dict[str, _TopicPassages]:
        """The passages of some topics: those that are kept, the others in one round trip."""
        wanted = list(topic_ids)
        found, missing = self._kept.split(wanted)
        if missing:
            rows = self._connection.read(PASSAGES, build=self._build, ids=missing)
            read = {str(row["id"]): _topic_passages(row["id"], row["position"], row["passages"]) for row in rows}
            self._kept.keep(read)
            found |= read
        return found

    @staticmethod
    def _nearest(
        about: Mapping[str, _TopicPassages], cosines: Mapping[str, NDArray[np.float32]], depth: int
    ) -> dict[str, tuple[Passage, float]]:
        """The topics of the nearest `depth` passages, best first, each with its nearest."""
        near = [
            (-cosine, about[topic_id].position, place, topic_id)
            for topic_id, of_topic in cosines.items()
            for place, cosine in enumerate(of_topic.tolist())
        ]
        found: dict[str, tuple[Passage, float]] = {}
        for negated, _, place, topic_id in sorted(near)[:depth]:
            found.setdefault(topic_id, (about[topic_id].passages[place], -negated))
        return found

    @staticmethod
    def _meaning(topics: Sequence[tuple[_TopicPassages, NDArray[np.float32]]]) -> Meaning:
        fields = [passage.field for about, _ in topics for passage in about.passages]
        is_name = np.array([field in LABELS or field == "alias" for field in fields], dtype=np.bool_)
        sizes = np.array([len(about.passages) for about, _ in topics], dtype=np.int64)
        cosines = np.concatenate([of_topic for _, of_topic in topics]) if topics else np.zeros(0, np.float32)
        return meaning_of(cosines, is_name, sizes)

    def _strength(self, words: Sequence[str], topics: Sequence[_TopicPassages]) -> Strength:
        """How much each topic has of the words, as `PassageIndex` counts it."""
        rarity = {word: self._vocabulary.rarity(word) or self._vocabulary.greatest_rarity for word in words}
        whole = max(sum(rarity.values()), 1e-9)
        rows: list[tuple[float, float, float]] = []
        for about in topics:
            labels, texts = 0.0, dict.fromkeys(words, 0.0)
            held: set[str] = set()
            for passage, counts in zip(about.passages, about.counts, strict=True):
                scores = self._scores(counts, words)
                held |= scores.keys()
                if passage.field in LABELS:
                    labels += sum(scores.values()) / len(LABELS)
                else:
                    for word, score in scores.items():
                        texts[word] = max(texts[word], score)
            rows.append((labels, sum(texts.values()), sum(rarity[word] for word in held) / whole))
        of_labels, of_texts, shares = np.array(rows, dtype=np.float32).reshape(-1, 3).T
        unit = np.float32(self._vocabulary.greatest_rarity)
        return Strength(of_labels / unit, of_texts / unit, shares)

    def _scores(self, counts: Mapping[str, int], words: Sequence[str]) -> dict[str, float]:
        """The BM25 score in one passage of those words that it has (Lucene's form, as in `search.lexical`)."""
        held = {word: counts[word] for word in words if word in counts}
        if not held:
            return {}
        length = counts[LENGTH]
        norm = K1 * (1 - B + B * length / self._vocabulary.mean_length)
        return {word: self._vocabulary.rarity(word) * count / (count + norm) for word, count in held.items()}


LENGTH = ""
"""Stands among the counts of a passage for how many words it has; no word is empty."""


def _topic_passages(
    topic_id: str, position: int, rows: Iterable[tuple[PassageField, str, str, bytes]]
) -> _TopicPassages:
    passages: list[Passage] = []
    counts: list[Mapping[str, int]] = []
    vectors: list[NDArray[np.float16]] = []
    for field, text, joined, vector in rows:
        words = joined.split()
        passages.append(Passage(topic_id, field, text))
        counts.append(Counter(words) | {LENGTH: len(words)})
        vectors.append(np.frombuffer(vector, dtype="<f2"))
    return _TopicPassages(position, passages, counts, np.array(vectors, dtype=np.float32))
