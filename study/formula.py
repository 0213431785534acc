"""LaTeX as MathML, which browsers draw and print without a script."""

import re
import unicodedata
from html import escape, unescape
from typing import Literal

_LEFT_OVER = {
    r"\lVert": "‖", r"\rVert": "‖", r"\lfloor": "⌊", r"\rfloor": "⌋", r"\lceil": "⌈", r"\rceil": "⌉",
    r"\langle": "⟨", r"\rangle": "⟩", r"\arg": "arg",
}  # fmt: skip
"""Commands that latex2mathml passes on unread, delimiters after \\big among them."""
_COMMAND = re.compile(r"\\[A-Za-z]+")
_NAMES = (
    "math|mrow|mi|mn|mo|mtext|mspace|ms|mfrac|msqrt|mroot|mstyle|mpadded|mphantom|menclose|"
    "msub|msup|msubsup|munder|mover|munderover|mtable|mtr|mtd|mlabeledtr"
)
_ATTRIBUTE = r' (?!on|href|src|style)[a-z]+="[^"<>]*"'
_WHOLE = re.compile(rf"(?:[^<>&]|&#?\w+;|</(?:{_NAMES})>|<(?:{_NAMES})(?:{_ATTRIBUTE})* ?/?>)+")

_ALIGNED = re.compile(r"\\(begin|end)\{aligned\}")
_STYLED = re.compile(r'<(mi|mn|mtext) mathvariant="(double-struck|script|bold|monospace)">((?:\w|&#x\w+;)+)<')
_ROMAN = re.compile(r'(?:<mi mathvariant="normal">\w</mi>){2,}')
_TAG = re.compile("<[^>]*>")
_FUNCTION = re.compile(r"<(mi|mo)>(\w{2,})</\1>(?=(<mo[^>]*>&#x00028;)?)")
_BAR = re.compile(r"<mo>(‖|\||↑|↓|&#x(?:02016|0007C|02191|02193);)</mo>")


def formula_mathml(latex: str, display: Literal["block", "inline"] = "block") -> str:
    """Return a formula as a MathML element; its source, escaped, where it cannot be read.

    The converter passes on what stands in `\\text{…}` and in colours as it is, so its answer is taken only when it is
    MathML through and through.
    """
    from latex2mathml.converter import convert

    try:
        element = convert(_ALIGNED.sub(r"\\\1{align*}", latex), display=display)
    except Exception:  # its errors have no base of their own, and odd input ends in an IndexError as well
        element = ""
    if _WHOLE.fullmatch(element):
        return _as_browsers_read_it(_COMMAND.sub(lambda found: _LEFT_OVER.get(found[0], found[0]), element))
    return f"<code>{escape(latex)}</code>"


def _as_browsers_read_it(element: str) -> str:
    """The same element in MathML Core, the part of MathML that browsers draw.

    Letters in a style of their own become the signs that Unicode has for them (𝔼, ℒ), an upright word becomes one
    identifier, the name of a function stands off from its argument unless that is in brackets, and a bar or an arrow is
    as tall as a letter: unless told, they grow with their line.
    """
    element = _BAR.sub(r'<mo stretchy="false">\1</mo>', element)
    element = _FUNCTION.sub(
        lambda found: f'<mo lspace="0.167em" rspace="{"0" if found[3] else "0.167em"}">{found[2]}</mo>', element
    )
    element = _ROMAN.sub(lambda found: f"<mi>{_TAG.sub('', found[0])}</mi>", element)
    return _STYLED.sub(
        lambda found: f"<{found[1]}>{''.join(_styled(sign, found[2]) for sign in unescape(found[3]))}<", element
    )


def _styled(sign: str, style: str) -> str:
    """A letter or digit in a style, as the one sign that Unicode has for it, or else as it is."""
    kind = "DIGIT" if sign.isdigit() else "SMALL" if sign.islower() else "CAPITAL"
    name = unicodedata.name(sign, "").rsplit(" ", 1)[-1]
    for prefix in ("MATHEMATICAL ", ""):
        try:
            return unicodedata.lookup(f"{prefix}{style.upper()} {kind} {name}")
        except KeyError:
            continue
    return sign
