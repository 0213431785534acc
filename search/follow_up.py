"""Questions that lean on the one before: "and its loss?", asked after one about the Wasserstein GAN."""

import re

from search.words import words_of_query

_OPENING = re.compile(r"^\s*(?:(?:and|but|so|ok|okay|then)\b[\s,]*)?(?:(?:what|how) about\b\s*)?", re.IGNORECASE)
_OWNER = re.compile(r"\b(?:its|their)\b", re.IGNORECASE)
_PRONOUN = re.compile(r"\b(?:it|they|them)\b|\b(?:this|that|these|those)\b(?=\s*[?.!]*$)", re.IGNORECASE)

_ASKING = frozenset({
    "demo", "demos", "demonstration", "example", "examples", "learn", "need", "needed", "prerequisites", "run", "see",
    "show", "study",
})  # fmt: skip
"""Words of asking that are a subject elsewhere ("few-shot examples"): a follow-up of these alone names nothing."""


def completed(question: str, subject: str) -> str:
    """Return a question with the subject that it leans on, or as it is when it stands alone.

    It leans when it opens as a continuation ("and …", "what about …"), when it names nothing itself ("why?"), or when a
    pronoun comes before anything that it could mean ("how does it scale?", but not "what is LoRA and is it fast?").
    """
    opening = _OPENING.match(question)
    rest = question[opening.end() :] if opening else question
    continues = len(rest) < len(question.lstrip()) or not _names_something(rest)
    for pattern, words in ((_OWNER, f"{subject}'s"), (_PRONOUN, subject)):
        found = pattern.search(rest)
        if found and (continues or not _names_something(rest[: found.start()])):
            return f"{rest[: found.start()]}{words}{rest[found.end() :]}".strip()
    return f"{rest.strip().rstrip('?.! ')} of {subject}?" if continues else question


def _names_something(text: str) -> bool:
    return any(not word.is_pair and word.typed.casefold() not in _ASKING for word in words_of_query(text))
