"""BM25 over the passages: which of them hold the query's words, rare words counting most.

bm25s computes the scores of every word in every passage when the index is built; a query then only adds up the columns
of its words. That is done here with NumPy: importing bm25s for it would cost 0.1 s of every cold start.
"""

import itertools
import json
import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from search.errors import IndexUnreadable
from search.words import spellings_of

K1 = 1.2
"""How soon further occurrences of a word stop counting."""
B = 0.75
"""How much a long passage has to repeat a word to count like a short one."""

FILES = {
    "scores": "bm25-scores.npy",
    "passages": "bm25-passages.npy",
    "starts": "bm25-starts.npy",
    "words": "words.json",
}


def rarity_of(passages: int, size: int) -> float:
    """The inverse document frequency, as BM25 has it, of a word that so many of `size` passages have."""
    return math.log(1 + (size - passages + 0.5) / (passages + 0.5))


def spellings_by_word(rows: Iterable[Sequence[tuple[str, str]]]) -> dict[str, list[str]]:
    """Each word of some passages, in order, with its spellings, commonest first; rows are those of `spellings_of`."""
    spellings: dict[str, Counter[str]] = {}
    for word, spelling in itertools.chain.from_iterable(rows):
        spellings.setdefault(word, Counter())[spelling] += 1
    return {
        word: sorted(seen, key=lambda each, seen=seen: (-seen[each], each)) for word, seen in sorted(spellings.items())
    }


class LexicalIndex:
    """The BM25 score of each word in each passage that has it: one column of (passage, score) a word."""

    def __init__(
        self,
        words: Mapping[str, Sequence[str]],
        starts: NDArray[np.int64],
        passages: NDArray[np.int32],
        scores: NDArray[np.float32],
        size: int,
    ) -> None:
        """Column i, of word i, is `passages[starts[i]:starts[i + 1]]` with the scores beside; `size` passages in all.

        Within a column passages ascend. `words` maps each word, as it is looked up, to its spellings, commonest first.
        """
        self._words = words
        self._starts = starts
        self._passages = passages
        self._scores = scores
        self._size = size

    @classmethod
    def build(cls, texts: Iterable[str]) -> "LexicalIndex":
        """Index texts; their order gives the passage numbers. The same texts give the same index."""
        import bm25s

        rows = [spellings_of(text) for text in texts]
        words = spellings_by_word(rows)
        if not words:
            return cls({}, np.zeros(1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32), len(rows))
        number = {word: column for column, word in enumerate(words)}
        bm25 = bm25s.BM25(k1=K1, b=B, method="lucene")
        bm25.index(([[number[word] for word, _ in row] for row in rows], number), False, show_progress=False)
        scores = bm25.scores
        starts = scores["indptr"].astype(np.int64)
        columns = np.repeat(np.arange(len(words)), np.diff(starts))
        order = np.lexsort((scores["indices"], columns))  # passages ascending within a column, so that one can be found
        passages, values = scores["indices"][order].astype(np.int32), scores["data"][order].astype(np.float32)
        return cls(words, starts, passages, values, len(rows))

    def __len__(self) -> int:
        """How many passages were indexed."""
        return self._size

    @property
    def spellings(self) -> Collection[str]:
        """Every spelling of every word that some passage has, in lower case."""
        return [spelling for spellings in self._words.values() for spelling in spellings]

    def __contains__(self, word: str) -> bool:
        """Whether some passage has the word, in the form that `search.words` gives it."""
        return word in self._column

    @cached_property
    def _column(self) -> dict[str, int]:
        return {word: column for column, word in enumerate(self._words)}

    def scores(self, words: Iterable[str]) -> NDArray[np.float32]:
        """Return the BM25 score of every passage for these words, (passages,); 0 where it has none of them."""
        total = np.zeros(self._size, dtype=np.float32)
        for word in words:
            passages, scores = self.column(word)
            total[passages] += scores  # a passage stands once in a column
        return total

    def column(self, word: str) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return the passages that have a word, ascending, and its score in each, (n,) both."""
        column = self._column.get(word)
        held = slice(0) if column is None else slice(self._starts[column], self._starts[column + 1])
        return self._passages[held], self._scores[held]

    def rarity(self, word: str) -> float:
        """The word's inverse document frequency, as BM25 has it; 0 for a word that no passage has."""
        column = self._column.get(word)
        return 0.0 if column is None else self._rarity_of(int(self._starts[column + 1] - self._starts[column]))

    @property
    def greatest_rarity(self) -> float:
        """The rarity of a word that a single passage has: about what one such word adds to a BM25 score."""
        return self._rarity_of(1)

    def _rarity_of(self, passages: int) -> float:
        return rarity_of(passages, self._size)

    def holding(self, word: str, passages: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which of these passages (n,) have the word."""
        held, _ = self.column(word)
        if not len(held):
            return np.zeros(len(passages), dtype=np.bool_)
        places = np.searchsorted(held, passages).clip(max=len(held) - 1)
        return held[places] == passages

    def save(self, folder: Path) -> None:
        """Write the index into a folder: three arrays and a list of words, nothing pickled."""
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / FILES["scores"], self._scores, allow_pickle=False)
        np.save(folder / FILES["passages"], self._passages, allow_pickle=False)
        np.save(folder / FILES["starts"], self._starts, allow_pickle=False)
        text = json.dumps({"size": self._size, "words": self._words}, ensure_ascii=False)
        (folder / FILES["words"]).write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "LexicalIndex":
        """Open what `save` wrote. Raises IndexUnreadable for the first file that is missing or is not an index."""
        path = folder
        try:
            path = folder / FILES["words"]
            about = json.loads(path.read_text(encoding="utf-8"))
            arrays: dict[str, NDArray[np.generic]] = {}
            for part in ("starts", "passages", "scores"):
                path = folder / FILES[part]
                arrays[part] = np.load(path, allow_pickle=False)
            return cls(
                about["words"],
                arrays["starts"].astype(np.int64, copy=False),
                arrays["passages"].astype(np.int32, copy=False),
                arrays["scores"].astype(np.float32, copy=False),
                about["size"],
            )
        except FileNotFoundError:
            raise IndexUnreadable(path, "is missing") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise IndexUnreadable(path, f"cannot be read ({error})") from error
