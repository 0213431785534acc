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


def slug(title: str) -> str:
    """Return a title as lower-case ASCII words joined by hyphens; Greek letters and signs are spelled out."""
    spelled = "".join(_WORDS.get(sign, sign) for sign in title)
    plain = "".join(_ascii(sign) for sign in unicodedata.normalize("NFKD", spelled))
    return re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")


def _ascii(sign: str) -> str:
    """One character of a decomposed text in ASCII: a Greek letter by its name, an accent dropped."""
    if sign.isascii():
        return sign
    name = unicodedata.name(sign, "")
    greek = re.match(r"GREEK (?:SMALL|CAPITAL) LETTER (?:FINAL )?(\w+)$", name)
    if greek:
        return f" {greek[1].lower().replace('lamda', 'lambda')} "
    return "" if unicodedata.combining(sign) else " "


def sibling_slugs(titles: Sequence[str]) -> list[str]:
    """Return the slugs of siblings, in order and all different.

    Parenthesised parts are left out unless two siblings would then read alike; those that still do get -2, -3 in order.
    """
    short = [slug(_without_parentheses(title)) or slug(title) for title in titles]
    count = Counter(short)
    chosen = [slug(title) if count[brief] > 1 else brief for title, brief in zip(titles, short, strict=True)]
    taken: set[str] = set()
    unique: list[str] = []
    for each in chosen:
        candidate, number = each or "topic", 2
        while candidate in taken:
            candidate, number = f"{each or 'topic'}-{number}", number + 1
        taken.add(candidate)
        unique.append(candidate)
    return unique


def _without_parentheses(title: str) -> str:
    return re.sub(r"\([^()]*\)", "", title)
