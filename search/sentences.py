"""Running text as sentences."""

import itertools
import re

_ATOMS = re.compile(r"\$\$.+?\$\$|\$[^$\n]+\$|`[^`]+`", re.DOTALL)
"""Math and code: what stands inside ends no sentence."""

_END = re.compile(r"[.?!…][\"”’')\]*_]*(?=\s)")
_ABBREVIATION = re.compile(
    r"(?:\b(?:e\.g|i\.e|cf|vs|al|approx|resp|ca|viz|Fig|Figs|Eq|Eqs|Sec|Secs|Ch|Tab|Alg|App|Thm|Prop|Def|No|Nos|Nr|Vol"
    r"|pp?|Dr|Prof|Mr|Ms|St)|\b[A-Z])\.$"
)
_OPENS = re.compile(r"[^a-z]|[a-z](?![a-z])")
"""How a sentence may begin: with anything but a small letter, or with a variable ("z is drawn …")."""

_ENDED = re.compile(r"(?:[.?!…;]|\$)[\"”’')\]*_]*$")
_FENCE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_HEAD = re.compile(r"^\*\*[^*]+[.:?!]\*\*|^\*\*[^*]+\*\*$")
_MARKER = re.compile(r"^\s*(?:[-*+]|\d+[.)])\s+|^#+\s*", re.MULTILINE)


def sentences_of(text: str) -> list[str]:
    """Return the sentences of a paragraph, in order, white space made single.

    Abbreviations ("e.g.", "i.e.", "Fig. 2", "et al."), initials, decimals, math between dollar signs and code between
    backticks do not end a sentence. Joined by single spaces the sentences are the text again.
    """
    atoms = [match.span() for match in _ATOMS.finditer(text)]
    cuts = [0]
    for match in _END.finditer(text):
        end = match.end()
        following = text[end:].lstrip()
        if (
            not any(start < match.start() < stop - 1 for start, stop in atoms)
            and not _ABBREVIATION.search(text[cuts[-1] : match.start() + 1])
            and _OPENS.match(following)
        ):
            cuts.append(end)
    cuts.append(len(text))
    pieces = (" ".join(text[start:end].split()) for start, end in itertools.pairwise(cuts))
    return [piece for piece in pieces if piece]


def prose_of(markdown: str) -> list[str]:
    """Return the sentences of a Markdown text: paragraphs, list items and the display math that they lead up to.

    Code blocks, tables and heads are left out, and so is a sentence that leads up to one of them with a colon: what
    does not end as a sentence does is none.
    """
    found: list[str] = []
    for block in re.split(r"\n\s*\n", _FENCE.sub("\n\n", markdown)):
        lines = [line for line in block.splitlines() if not line.lstrip().startswith("|")]
        is_math = block.strip().startswith("$$")
        items = [block] if is_math else _items(lines)
        for item in items:
            if is_math and found and found[-1].endswith((":", ",")):
                found[-1] += f" {' '.join(item.split())}"
            elif not is_math:
                found.extend(sentences_of(_HEAD.sub("", item.strip()).replace("**", "")))
    return [sentence for sentence in found if _ENDED.search(sentence) and len(sentence.split()) > 2]


def _items(lines: list[str]) -> list[str]:
    """The paragraphs and list items of a block, without their markers."""
    items: list[str] = []
    for line in lines:
        if _MARKER.match(line) or not items:
            items.append(_MARKER.sub("", line))
        else:
            items[-1] += f" {line.strip()}"
    return items
