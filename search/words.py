"""Texts as words for the lexical index: symbols spelled, compounds both whole and in parts, endings stemmed."""

import re
import threading
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import Stemmer

GREEK = {
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "epsilon", "ϵ": "epsilon", "ζ": "zeta", "η": "eta",
    "θ": "theta", "ϑ": "theta", "ι": "iota", "κ": "kappa", "λ": "lambda", "μ": "mu", "ν": "nu", "ξ": "xi", "π": "pi",
    "ρ": "rho", "σ": "sigma", "ς": "sigma", "τ": "tau", "υ": "upsilon", "φ": "phi", "ϕ": "phi", "χ": "chi",
    "ψ": "psi", "ω": "omega",
}  # fmt: skip
SIGNS = {
    "√": " sqrt ", "²": " squared ", "³": " cubed ", "×": "x", "→": " to ", "↔": " to ", "·": " ", "∇": " nabla ",
    "∑": " sum ", "∫": " integral ", "∞": " infinity ", "%": " percent ", "’": "'", "‑": "-", "–": "-", "−": "-",
}  # fmt: skip


def _words(listed: str) -> frozenset[str]:
    return frozenset(listed.split())


STOP_WORDS = _words("""
    a about above after again all also am an and any are as at be because been before being below between both but
    by can could did do does doing done down during each else ever every few for from further get gets give given go
    had has have having he her here hers him his how however i if in into is it its itself just let me might more
    most much must my no nor not of off on once only or other our out over own please same shall she should so some
    such than that the their them then there these they thing things this those through to too under until up upon
    us use used uses using very via was we were what whats when where whether which while who whom whose why will
    with within without would you your
""")
"""Words that say nothing of the subject, in questions and in texts."""

ASKING_WORDS = _words("""
    compare compared contrast define describe detail detailed details difference differences different differ
    differs discuss elaborate exactly explain explanation explained highlight know meaning provide purpose regarding
    significance tell understand work working works
""")
"""Words of asking: they shape a question and do not name its subject. Left out of queries, kept in texts."""

_TYPOGRAPHY = re.compile(r"\\(?:mathrm|mathbf|mathcal|mathbb|operatorname|text|left|right|big|Big|quad|[,;:! ])")
_HUMP = re.compile(r"(?<=[a-z]{3})(?=[A-Z][A-Za-z]{2}|[A-Z]{2})")
_WORD = re.compile(r"[^\W_]+(?:[-_'.+][^\W_]+)*")
_PART = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+")
_GLUED = re.compile(r"\)(?=[^\W_])|\b(?:and|are|for|in|is|of|the|to|with)(?=[A-Z][^\W_])")
_WHAT_DOES_IT_MEAN = re.compile(r"\bmean(?:s|t)?\b(?=\s*(?:by\b|[?.!]|$))", re.IGNORECASE)
_VOWELS = frozenset("aeiouy")
_PUNCTUATION = "?!.,;:()[]{}\"'“”‘’"


@dataclass(frozen=True, slots=True)
class QueryWord:
    """One word of a query: as it was typed, and the forms to look it up by.

    A `pair` is two neighbours read as one word ("cycle gan" → cyclegan); a symbol has Greek letters, subscripts or the
    like ("βₜ", "beta_t", "√dk").
    """

    typed: str
    forms: tuple[str, ...]
    is_symbol: bool = False
    is_pair: bool = False


def words_of(text: str) -> list[str]:
    """Return the words that the index holds for a text, in its order, stop words left out.

    A compound gives its parts and its whole: "Self-Attention" → self, attent, selfattent; "βₜ" → beta, betat;
    "CycleGAN" → cycl, gan, cyclegan; "word2vec" → word, vec, word2vec.
    """
    return [_stem(form) for compound in _compounds(text) for form in _forms(compound)]


def spellings_of(text: str) -> list[tuple[str, str]]:
    """Return each word of `words_of` with the spelling that it was made from."""
    return [(_stem(form), form) for compound in _compounds(text) for form in _forms(compound)]


def words_of_query(query: str) -> list[QueryWord]:
    """Return the words to look a query up by, without stop words and words of asking; pairs of neighbours come last.

    A pair that no text has as one word finds nothing and costs nothing.
    """
    words: list[QueryWord] = []
    pairs: list[QueryWord] = []
    before: tuple[str, str] | None = None
    for chunk in _WHAT_DOES_IT_MEAN.sub(" ", query).split():
        typed = chunk.strip("?!.,;:" if "(" in chunk else _PUNCTUATION)
        is_symbol = "_" in typed or "\\" in typed or (not typed.isascii() and any(map(_is_symbol, typed)))
        for compound in _compounds(chunk):
            whole = "".join(compound)
            if before is not None:
                pairs.append(
                    QueryWord(" ".join(dict.fromkeys((before[0], typed))), (_stem(before[1] + whole),), is_pair=True)
                )
            before = (typed, whole)
            if whole not in ASKING_WORDS:
                forms = tuple(_stem(form) for form in _forms(compound))
                words.extend([QueryWord(typed, forms, is_symbol)] if forms else [])
    return words + pairs


def unglued(text: str) -> str:
    """Return the text with spaces where copying from a page lost them: "what areDCGANs" → "what are DCGANs"."""
    return _GLUED.sub(r"\g<0> ", text)


def spell(text: str) -> str:
    """Return the text with its symbols as words: βₜ → beta_t, √dₖ → sqrt d_k, pθ → p_theta, 4² → 4 squared, é → e."""
    if text.isascii():
        return text.replace("%", SIGNS["%"])
    spelled: list[str] = []
    before = ""  # what the last sign was: a letter, a Greek letter, a subscript or something else
    for sign in text:
        if sign in SIGNS:
            spelled.append(SIGNS[sign])
            before = ""
            continue
        is_subscript = unicodedata.decomposition(sign).startswith("<sub>")
        for plain in unicodedata.normalize("NFKD", sign):
            if unicodedata.combining(plain):
                continue
            greek = GREEK.get(plain.lower())
            kind = "subscript" if is_subscript else "greek" if greek else "letter" if plain.isalpha() else ""
            is_new_symbol = kind != before and (kind in ("subscript", "greek") or (kind and before == "greek"))
            if (before and is_new_symbol) or (before == kind == "greek"):
                spelled.append("_")
            spelled.append(SIGNS.get(plain, plain) if greek is None else greek)
            before = kind
    return "".join(spelled)


def _compounds(text: str) -> Iterator[tuple[str, ...]]:
    """The words of a text, each as its parts in lower case: ("self", "attention")."""
    plain = _HUMP.sub("-", spell(_TYPOGRAPHY.sub(" ", text))).replace("_{", "_")
    for word in _WORD.findall(plain):
        parts = tuple(_PART.findall(word.casefold().removesuffix("'s")))
        if parts:
            yield parts


def _forms(parts: tuple[str, ...]) -> Iterator[str]:
    """A word's parts, where they are more than a letter or a digit, and its whole."""
    if len(parts) > 1:
        for part in parts:
            if len(part) > 1 and part not in STOP_WORDS:
                yield part
    whole = "".join(parts)
    if whole not in STOP_WORDS:
        yield whole


def _is_symbol(sign: str) -> bool:
    return (
        sign.lower() in GREEK
        or sign in "√²³∇∑∫∞_\\"
        or unicodedata.decomposition(sign).startswith(("<sub>", "<super>"))
    )


@lru_cache(maxsize=50_000)
def _stem(word: str) -> str:
    if len(word) > 3 and word.endswith("s") and not _VOWELS.intersection(word):
        return word[:-1]  # Snowball leaves the plural of an abbreviation without vowels as it is: LLMs, RNNs
    return _snowball.stemmer.stemWord(word)


class _Snowball(threading.local):
    """One stemmer a thread: PyStemmer's objects are not safe to share."""

    def __init__(self) -> None:
        self.stemmer = Stemmer.Stemmer("english")


_snowball = _Snowball()
