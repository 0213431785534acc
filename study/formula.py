"""LaTeX as MathML, which browsers draw and print without a script."""

import re
from html import escape

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


def formula_mathml(latex: str) -> str:
    """Return a formula as a MathML element; its source, escaped, where it cannot be read.

    The converter passes on what stands in `\\text{…}` and in colours as it is, so its answer is taken only when it is
    MathML through and through.
    """
    from latex2mathml.converter import convert

    try:
        element = convert(latex, display="block")
    except Exception:  # its errors have no base of their own, and odd input ends in an IndexError as well
        element = ""
    if _WHOLE.fullmatch(element):
        return _COMMAND.sub(lambda found: _LEFT_OVER.get(found[0], found[0]), element)
    return f"<code>{escape(latex)}</code>"
