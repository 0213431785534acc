"""Words that the atlas does not know, read as the words that were probably meant."""

from collections.abc import Callable, Collection, Mapping
from functools import cached_property

from rapidfuzz import process
from rapidfuzz.distance import OSA

from search.words import STOP_WORDS

LONGEST = 40
"""Letters of a word that is looked at; a longer one is no slip of the keyboard."""


class Speller:
    """Finds the nearest known spelling. `spellings` are the words of the atlas, in lower case."""

    def __init__(self, spellings: Collection[str]) -> None:
        self._spellings = frozenset(spellings)

    def read(self, word: str) -> str | None:
        """Return what an unknown lower-case word was probably meant to be: one known word, or several; else None.

        A word of 5 to 7 letters may differ in one letter, a longer one in two (swapped neighbours count once), and
        never in its first: that one is seldom mistyped, and other words of the language stay what they are. Words
        written together without spaces are taken apart.
        """
        if not word.isalpha() or not 5 <= len(word) <= LONGEST:
            return None
        alike = self._by_initial.get(word[0], ())
        found = process.extractOne(word, alike, scorer=OSA.distance, score_cutoff=1 if len(word) < 8 else 2)
        return found[0] if found is not None else self._taken_apart(word)

    @cached_property
    def _by_initial(self) -> Mapping[str, list[str]]:
        found: dict[str, list[str]] = {}
        for spelling in sorted(self._spellings | STOP_WORDS):
            if spelling.isalpha() and len(spelling) > 3:
                found.setdefault(spelling[0], []).append(spelling)
        return found

    def _taken_apart(self, word: str) -> str | None:
        """The word as the fewest known words, at least one of them of four letters and no stop word."""
        fewest: list[tuple[str, ...] | None] = [()]  # fewest[i] is how the first i letters are read
        for end in range(1, len(word) + 1):
            readings = [
                (*before, piece)
                for start in range(max(0, end - 20), end)
                if (before := fewest[start]) is not None and self._is_piece(piece := word[start:end])
            ]
            fewest.append(min(readings, key=len, default=None))
        reading = fewest[-1]
        if reading is None or not any(len(piece) > 3 and piece not in STOP_WORDS for piece in reading):
            return None
        return " ".join(reading)

    def _is_piece(self, piece: str) -> bool:
        return len(piece) > 1 and (piece in STOP_WORDS or (len(piece) > 3 and piece in self._spellings))


def correct(text: str, words: Collection[str], read: Callable[[str], str | None]) -> tuple[str, dict[str, str]]:
    """Return a text with the given words read anew, and which word was read as what."""
    changes = {word: meant for word in words if (meant := read(word.casefold())) is not None}
    for word, meant in changes.items():
        text = text.replace(word, meant)
    return text, changes
