"""Text of the atlas as HTML: a topic's `detail` is Markdown with LaTeX, other prose is code and emphasis at most.

Everything that comes out is safe: raw HTML in the text is shown as text, and formulas are MathML (study/formula.py).
"""

import re
from collections.abc import Sequence
from functools import cache
from html import unescape
from typing import TYPE_CHECKING, Literal

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup, escape
from mdit_py_plugins.dollarmath import dollarmath_plugin

from search.sentences import sentences_of
from study.formula import formula_mathml

if TYPE_CHECKING:
    from pygments.token import _TokenType as TokenType  # pyright: ignore[reportPrivateUsage] (it has no other name)

_XMLNS = ' xmlns="http://www.w3.org/1998/Math/MathML"'
_MARKS = re.compile(r"[`*]")
_TAG = re.compile("<[^>]*>")
WIDE = 30
"""Signs of a formula within a line from which it may be wider than the screen of a phone."""


def formula(latex: str, tag: Literal["div", "span"] = "div") -> Markup:
    """A formula on a line of its own, which scrolls where it is wider than the page."""
    return Markup(f'<{tag} class="formula">{_mathml(latex.strip(), "block")}</{tag}>')  # noqa: S704 (only MathML)


def markdown(text: str) -> Markup:
    """A topic's detail."""
    return Markup(_detail().render(text))  # noqa: S704 (raw HTML is off)


def prose(text: str) -> Markup:
    """A summary, a reason or any other prose, in one line."""
    return Markup(_prose().renderInline(" ".join(text.split())))  # noqa: S704 (raw HTML is off)


def plain(text: str) -> str:
    """Prose without its marks, for places that show no markup."""
    return _MARKS.sub("", " ".join(text.split()))


def first_sentence(text: str) -> str:
    """What a list says of a topic."""
    sentences = sentences_of(text)
    return sentences[0] if sentences else ""


def code(text: str) -> Markup:
    """Python with its keywords, texts, numbers, remarks and names of functions marked; the stylesheet colours them."""
    from pygments.lexers import get_lexer_by_name  # pyright: ignore[reportUnknownVariableType] (its options)

    marked: list[str] = []
    for token, words in get_lexer_by_name("python", stripnl=False).get_tokens(text):
        kind = _kind(token)
        marked.append(f'<span class="{kind}">{escape(words)}</span>' if kind else str(escape(words)))
    return Markup("".join(marked))  # noqa: S704 (every word was escaped)


@cache
def _kind(token: "TokenType") -> str:
    from pygments.token import Comment, Keyword, Name, Number, Operator, String

    kinds = {
        "k": (Keyword, Operator.Word),
        "s": (String,),
        "m": (Number,),
        "c": (Comment,),
        "f": (Name.Function, Name.Class, Name.Decorator),
    }
    return next((kind for kind, tokens in kinds.items() if any(token in each for each in tokens)), "")


@cache
def _mathml(latex: str, display: Literal["block", "inline"]) -> str:
    """The element; in HTML it needs no name space."""
    return formula_mathml(latex, display).replace(_XMLNS, "", 1)


def _code_block(text: str, language: str, _attributes: str) -> str:
    return str(code(text) if language in ("python", "py") else escape(text))  # as Markup it would escape what it joins


@cache
def _detail() -> MarkdownIt:
    reader = MarkdownIt("commonmark", {"html": False, "highlight": _code_block}).enable(["table", "strikethrough"])
    reader.use(dollarmath_plugin, allow_labels=False, double_inline=True)
    reader.add_render_rule("table_open", lambda *_: '<div class="scroll"><table>\n')
    reader.add_render_rule("table_close", lambda *_: "</table></div>\n")
    reader.add_render_rule("heading_open", _heading)
    reader.add_render_rule("heading_close", _heading)
    for name in ("math_inline", "math_inline_double", "math_block"):
        reader.add_render_rule(name, _math)
    return reader


def _math(_self: object, tokens: Sequence[Token], index: int, *_: object) -> str:
    """A formula, without the element that the plugin would put around it."""
    token = tokens[index]
    if token.type == "math_inline":
        element = _mathml(token.content, "inline")
        wide = len(_TAG.sub("", unescape(element))) >= WIDE  # it has no places where a browser would break it
        return f'<span class="wide">{element}</span>' if wide else element
    within = token.type == "math_inline_double"  # of a paragraph, which holds no block
    return formula(token.content, "span" if within else "div")


def _heading(_self: object, tokens: Sequence[Token], index: int, *_: object) -> str:
    """A heading's tag, two levels down: the page has its own title, and the text is a part of it."""
    token = tokens[index]
    tag = f"h{min(6, int(token.tag[1:]) + 2)}"
    return f"<{tag}>" if token.nesting > 0 else f"</{tag}>\n"


@cache
def _prose() -> MarkdownIt:
    return MarkdownIt("zero").enable(["backticks", "emphasis"])
