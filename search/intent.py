"""What a question asks for, by plain rules on its wording."""

import re
from dataclasses import dataclass
from typing import Literal

from search.sentences import sentences_of

Intent = Literal["definition", "why", "how", "comparison", "prerequisites", "path", "list", "number", "demo"]


@dataclass(frozen=True, slots=True)
class Rule:
    """A wording and what it asks for. What it matches is about the asking, not about the subject."""

    intent: Intent
    wording: re.Pattern[str]


def _rule(intent: Intent, *wordings: str) -> Rule:
    return Rule(intent, re.compile("|".join(wordings), re.IGNORECASE))


RULES = (
    _rule(
        "path",
        r"\b(?:study|learning) (?:path|plan|order)\b(?: (?:for|to|towards))?",
        r"\broad ?map\b(?: (?:for|to))?",
        r"\bhow (?:do|can|should|would) (?:i|we) (?:learn|study)\b",
        r"\b(?:in )?(?:what|which) order\b.*\b(?:learn|study)\b",
        r"\bwhere (?:do|should|can) (?:i|we) (?:start|begin)\b(?: with)?",
    ),
    _rule(
        "prerequisites",
        r"\b(?:what (?:are|is) the )?pre-?requisites?\b(?: (?:of|for|to))?",
        r"\b(?:what )?(?:do|must|should) (?:i|we|one) (?:need to )?(?:know|learn|understand|study)\b(?: first)?"
        r"(?: (?:before|first|to understand|for)\b(?: (?:learning|studying|reading|i learn|starting))?)?",
        r"\b(?:needed|need to know|required)\b(?: (?:before|first|to understand|for))",
        r"\bbefore (?:i |we )?(?:learn|study|read|start)(?:ing)?\b",
    ),
    _rule(
        "demo",
        r"\b(?:is there |show me |run )?(?:a |the )?(?:live )?demo(?:nstration)?s?\b(?: (?:of|for|about))?",
        r"\bshow me\b",
        r"\b(?:can i|let me) (?:see|try|play with)\b",
    ),
    _rule("why", r"^\s*why\b(?!.*\b(?:better|worse|versus|vs|differ))"),
    _rule(
        "comparison",
        r"\bvs\b\.?",
        r"\bversus\b",
        r"\bdifferences? (?:between|from|to|of)\b",
        r"\bhow (?:do|does|are|is)\b.*\bdiffer(?:s|ent)?\b",
        r"\bdiffer(?:s|ent)? from\b",
        r"\bcompar(?:e|ed|es|ing|ison)\b",
        r"\bcontrast\b",
        r"\b(?:better|worse|faster|slower) than\b",
        r"\b(?:instead of|rather than|preferred over)\b",
        r"\b(?:use|choose|prefer|pick)\b(?=.*\bover\b)",
        r"^\s*\S+(?: \S+)? or \S+(?: \S+)?\s*\?*\s*$",
    ),
    _rule(
        "number",
        r"\bhow (?:many|much|large|big|long|deep|fast|expensive|costly|high)\b",
        r"\b(?:what is|what's) the (?:size|number|cost|price|dimension|length)\b",
        r"\b(?:which|what) year\b|\bwhen was\b",
    ),
    _rule(
        "why",
        r"\bwhy\b",
        r"\bwhat (?:is|are) the (?:purpose|reason|point|motivation|benefit|advantage|role)s?\b(?: (?:of|for|behind))?",
        r"\bwhats? the point\b(?: of)?",
        r"\breasons? (?:for|why)\b",
    ),
    _rule(
        "list",
        r"\b(?:what|which) are (?:(?:the|some|certain|common|main|different|typical) )+",
        r"\b(?:types|kinds|examples|variants) of\b",
        r"^\s*(?:list|name|enumerate)\b(?: (?:the|some|all|three|several))?",
    ),
    _rule("how", r"\bhow\b", r"\bsteps\b(?: (?:of|for|to))?", r"\bprocess of\b"),
)
"""The first that fits decides; a question that none fits asks for a definition."""


def intent_of(question: str) -> Intent:
    """Return what a question asks for."""
    rule = _rule_for(question)
    return "definition" if rule is None else rule.intent


def subject_of(question: str) -> str:
    """Return the question without the wording that shows its intent; all of it when nothing else is left."""
    rule = _rule_for(question)
    subject = question if rule is None else rule.wording.sub(" ", question)
    return " ".join(subject.split()) if any(sign.isalnum() for sign in subject) else question


def _rule_for(question: str) -> Rule | None:
    return next((rule for rule in RULES if rule.wording.search(question)), None)


_SIDES = (
    re.compile(
        r"\bwhat (?:is|are) (?P<a>.+?),? ?and how (?:does|do|is|are) (?:it|they) (?:differ|different|compare)\w*"
        r" (?:from|to|with) (?P<b>.+)",
        re.IGNORECASE,
    ),
    re.compile(r"\bdifferences? (?:between|of) (?P<a>.+?),? and (?P<b>.+)", re.IGNORECASE),
    re.compile(
        r"\b(?:when|where|why) (?:might|could|should|would|is|are) (?P<a>.+?)"
        r" (?:be )?(?:preferred|preferable|chosen|better) (?:over|to|than) (?P<b>.+)",
        re.IGNORECASE,
    ),
    re.compile(
        r"\b(?:compare and contrast|compare|comparing|contrast|choosing between|distinguish) (?P<a>.+?)"
        r",? (?:and|with|to|from|against|vs\.?|versus) (?P<b>.+)",
        re.IGNORECASE,
    ),
    re.compile(r"\bhow (?:do|does|are|is) (?P<a>.+?) differ(?:ent)?(?: from| to)? (?P<b>.+)", re.IGNORECASE),
    re.compile(
        r"(?P<a>.+?) (?:vs\.?|versus|compared (?:to|with)|instead of|rather than|over) (?P<b>.+)", re.IGNORECASE
    ),
    re.compile(r"(?P<a>.+?) (?:better|worse|faster|slower) than (?P<b>.+)", re.IGNORECASE),
    re.compile(r"(?P<a>.+?) or (?P<b>.+)", re.IGNORECASE),
    re.compile(r"(?P<a>.+?) and (?P<b>.+)", re.IGNORECASE),
)


_LEAD_IN = re.compile(
    r"^(?:(?:please|can you|could you|explain|describe|discuss|compare|highlight|what (?:is|are)|why (?:is|are|do|does)"
    r"|how (?:is|are|do|does|can)|(?:when|in (?:what|which) \w+) (?:should|would|do) (?:i|you|we)|use|choose|prefer"
    r"|pick|the|a|an|main|key)\s+)+",
    re.IGNORECASE,
)
_TRAILER = re.compile(r",? (?:and )?(?:which|where|what|how|when|why|in terms of|in the context of)\b.*", re.IGNORECASE)
_PLAIN = re.compile(
    r"^(?:basic|vanilla|standard|plain|regular|ordinary|normal|traditional|conventional|original|classic(?:al)?)"
    r" (?=\w)",
    re.IGNORECASE,
)
_STANDS_FOR_ANOTHER = frozenset({"it", "they", "them", "these", "each other", "one another", "ones", "others"})


def sides_of(question: str) -> list[tuple[str, str]]:
    """Return what a comparison sets side by side, as it may be read, likeliest first; none where the wording is silent.

    A noun that both may share goes to both, then to one: "zero-shot and few-shot prompting" are "zero-shot prompting"
    and "few-shot prompting", but "LoRA and full fine-tuning" are better read as they stand. "Basic GANs" may be GANs.
    """
    first = sentences_of(question)[0].rstrip("?.! ")
    match = next((found for pattern in _SIDES if (found := pattern.search(first))), None)
    if match is None:
        return []
    one, other = (_LEAD_IN.sub("", worded).strip(" ,") for worded in (match["a"], _TRAILER.sub("", match["b"])))
    if not one or not other or {one.casefold(), other.casefold()} & _STANDS_FOR_ANOTHER:
        return []
    shared = [(f"{one} {other.split(' ', 1)[1]}", other)] if " " not in one and " " in other else []
    plain = (_PLAIN.sub("", one), _PLAIN.sub("", other))
    return [*shared, (one, other), *([plain] if plain != (one, other) else [])]
