"""Names of topics that go on as somebody has begun to type: titles and aliases, from the beginning of any word."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from graph import Topic
from search.words import spell

MOST_LOOKED_AT = 2_000
"""Names with a beginning that are ranked; of one letter there may be more, and any of them will do."""

RECENT = 4_096
"""Beginnings whose names are kept: people begin alike."""

_LAST = "\U0010ffff"
_Rank = tuple[bool, bool, int, int]


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A name that goes on as typed, and the topic that it names."""

    name: str
    topic: str


class Suggester:
    """All names of an atlas, sorted once; a look-up takes microseconds. Safe to share between threads."""

    def __init__(self, topics: Iterable[Topic]) -> None:
        keys: list[tuple[str, _Rank, str, str]] = []
        for topic in topics:
            for is_alias, name in enumerate(dict.fromkeys([topic.title, *topic.aliases])):
                for place, beginning in enumerate(_beginnings(name)):
                    rank = (place > 0, is_alias > 0, topic.depth, len(name))
                    keys.append((beginning, rank, name, topic.id))
        self._keys = sorted(keys)
        self._found = lru_cache(RECENT)(self._find)  # of a single letter some thousand names are ranked

    def suggest(self, typed: str, k: int = 8) -> list[Suggestion]:
        """Return at most k names, each once.

        Whole words come before their continuations ("mode" in "Mode Collapse" before "Model"), beginnings of a name
        before its later words, titles before aliases, then by depth in the outline and length. Case, accents and how a
        symbol is written make no difference. Nothing typed suggests nothing.
        """
        begun = _plain(typed)
        return list(self._found(begun)[:k]) if begun else []

    def _find(self, begun: str) -> tuple[Suggestion, ...]:
        first = bisect_left(self._keys, (begun,))
        last = bisect_left(self._keys, (begun + _LAST,), lo=first, hi=min(len(self._keys), first + MOST_LOOKED_AT))
        whole = f"{begun} "
        ranked = sorted(self._keys[first:last], key=lambda key: (not f"{key[0]} ".startswith(whole), key[1], key[2]))
        found: dict[str, Suggestion] = {}
        for _, _, name, topic in ranked:
            found.setdefault(name.casefold(), Suggestion(name, topic))
        return tuple(found.values())


def _beginnings(name: str) -> Iterator[str]:
    """The name from its first word on, from its second on, and so forth."""
    words = _plain(name).split()
    return (" ".join(words[start:]) for start in range(len(words)))


def _plain(text: str) -> str:
    return " ".join(spell(text).casefold().replace("-", " ").replace("(", " ").split())
