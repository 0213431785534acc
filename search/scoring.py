"""How good a topic is for a query: what its passages say together, by meaning and by words."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NAME, WHOLE, IN_LABELS, IN_TEXT, HELD = np.array([1.0, 1.0, 0.35, 0.35, 0.2], dtype=np.float32)
"""Weights of the parts of a score: cosine of the nearest name, mean cosine of the nearest passages, strength of the
words in the labels and in the text, and share of the words that the topic has at all. Only their ratios matter;
docs/architecture.md has what was compared."""

SAID, MORE = np.array([0.8, 7.0], dtype=np.float32)
"""From this cosine on a passage says the very thing that is asked, mostly as a question of its own; what is above it
counts so much more. It is for symptoms, whose topics have other names; on the judged questions it changes little."""

NEAREST = 3
"""Passages whose mean cosine says how near a topic is as a whole; a single one may be near by chance."""

MEANING_OF_SYMBOLS = 0.1
"""Share that meaning keeps for a query of symbols alone: of "beta_t" the encoder knows little."""


@dataclass(frozen=True, slots=True)
class Strength:
    """How much each topic (n,) has of a query's words.

    `labels` is BM25, the mean over the topic's labels, and `text` its sum over words, each where a text has it best;
    both in units of a word that one passage has. `held` is the share of the words that the topic has at all, rare ones
    counting more.
    """

    labels: NDArray[np.float32]
    text: NDArray[np.float32]
    held: NDArray[np.float32]

    def of(self, topics: NDArray[np.int64]) -> "Strength":
        """The strength of these topics alone."""
        return Strength(self.labels[topics], self.text[topics], self.held[topics])


@dataclass(frozen=True, slots=True)
class Meaning:
    """Cosines of each topic (n,): its nearest label or alias, its nearest passage, and the mean of its NEAREST."""

    name: NDArray[np.float32]
    best: NDArray[np.float32]
    whole: NDArray[np.float32]


def meaning_of(cosines: NDArray[np.float32], is_name: NDArray[np.bool_], sizes: NDArray[np.int64]) -> Meaning:
    """Return the meaning of each topic from the cosines (m,) of its passages.

    Passages come topic by topic, `sizes` (n,) of each, at least one; `is_name` (m,) says which are labels or aliases.
    A topic with fewer than NEAREST passages is as near as all of them are on average.
    """
    if not len(sizes):
        return Meaning(cosines, cosines, cosines)
    starts = np.cumsum(sizes) - sizes
    name = np.maximum.reduceat(np.where(is_name, cosines, np.float32(-1)), starts)
    row = np.repeat(np.arange(len(sizes)), sizes)
    negated = np.full((len(sizes), max(NEAREST, int(sizes.max()))), np.inf, dtype=np.float32)  # a row for each topic
    negated[row, np.arange(len(cosines)) - starts[row]] = -cosines
    nearest = -np.partition(negated, NEAREST - 1, axis=1)[:, :NEAREST]  # (n, NEAREST), -inf where a topic has no more
    mean = np.where(np.isfinite(nearest), nearest, np.float32(0)).sum(axis=1) / np.minimum(sizes, NEAREST)
    return Meaning(name, nearest.max(axis=1), mean.astype(np.float32))


def total(meaning: Meaning | None, strength: Strength, only_symbols: bool) -> NDArray[np.float32]:
    """Return the score (n,) of each topic; without meaning it goes by words alone."""
    if meaning is None:
        return np.maximum(strength.labels, strength.text)
    share = np.float32(MEANING_OF_SYMBOLS if only_symbols else 1.0)
    by_meaning = NAME * meaning.name + WHOLE * meaning.whole + MORE * np.maximum(meaning.best - SAID, 0)
    return share * by_meaning + IN_LABELS * strength.labels + IN_TEXT * strength.text + HELD * strength.held
