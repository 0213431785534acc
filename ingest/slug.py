"""Ids: a topic's id is its parent's id, `/`, and a slug of its title."""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

_WORDS = {
    "√": " sqrt ",
    "²": " squared ",
    "³": " cubed ",
    "→": " to ",
    "↔": " to ",
    "&": " and ",
    "+": " plus ",
    "=": " equals ",
    "×": " x ",
    "%": " percent ",
    "ᵧ": "y",  # a subscript gamma, which outlines use for the subscript y that Unicode lacks
}

_LETTERS = {"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ı": "i"}
"""Latin letters that Unicode does not decompose."""


def slug(title: str) -> str:
    """Return a title as lower-case words joined by hyphens; "" when it has neither letters nor digits.

    Greek letters and signs are spelled out and Latin accents fold. Letters of other scripts stay as they are: an id in
    Russian or Chinese says more than `topic-17`.
    """
    spelled = "".join(_WORDS.get(sign, sign) for sign in title)
    plain: list[str] = []
    for sign in unicodedata.normalize("NFKD", spelled).lower():
        if unicodedata.category(sign).startswith("M"):
            foreign = bool(plain) and not plain[-1].isascii()
            plain.append(sign if foreign else "")  # é folds to e; a Devanagari vowel sign is a part of its word
        else:
            plain.append(_plain(sign))
    return "-".join(unicodedata.normalize("NFC", "".join(plain)).split())


def _plain(sign: str) -> str:
    """One character of a slug: a Greek letter by its name, a letter or digit itself, anything else a blank."""
    greek = re.match(r"GREEK (?:SMALL|CAPITAL) LETTER (?:FINAL )?(\w+)$", unicodedata.name(sign, ""))
    if greek:
        return f" {greek[1].lower().replace('lamda', 'lambda')} "
    return _LETTERS.get(sign, sign) if sign.isalnum() else " "


def sibling_slugs(titles: Sequence[str]) -> list[str]:
    """Return the slugs of siblings, in order and all different.

    Parenthesised parts are left out unless two siblings would then read alike; those that still do get -2, -3 in order.
    """
    short = [slug(_without_parentheses(title)) or slug(title) for title in titles]
    count = Counter(short)
    chosen = [slug(title) if count[brief] > 1 else brief for title, brief in zip(titles, short, strict=True)]
    next_number: dict[str, int] = {}
    taken: set[str] = set()
    unique: list[str] = []
    for each in chosen:
        base = each or "topic"
        candidate, number = base, next_number.get(base, 2)
        while candidate in taken:
            candidate, number = f"{base}-{number}", number + 1
        next_number[base] = number
        taken.add(candidate)
        unique.append(candidate)
    return unique


def _without_parentheses(title: str) -> str:
    return re.sub(r"\([^()]*\)", "", title)
