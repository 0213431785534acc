"""Text of the atlas as Streamlit's Markdown: a topic's `detail` is written as Markdown, the rest only looks so."""

import re

_MARKS = re.compile(r"[\\`*_\[\]$~|<>#{}&]|:(?=[a-zA-Z])")
_LIST_MARK = re.compile(r"^(\d+)([.)])(?=\s|$)|^([-+])(?=\s)")
_FORMULA = re.compile(r"\$\$.+?\$\$|\$[^$\n]+\$", re.DOTALL)


def plain(text: str) -> str:
    """A title, or a visitor's own words, as Markdown that shows them unchanged."""
    escaped = _MARKS.sub(r"\\\g<0>", " ".join(text.split()))
    return _LIST_MARK.sub(lambda mark: f"{mark[1]}\\{mark[2]}" if mark[1] else f"\\{mark[3]}", escaped)


def prose(text: str) -> str:
    """A summary, a reason or any other prose: code and emphasis count, but a dollar is money and a tilde a sign."""
    return re.sub(r"`[^`]*`|[$~]", lambda mark: mark[0] if mark[0][0] == "`" else f"\\{mark[0]}", text)


def quoted(text: str, detail: str) -> str:
    """A sentence of a topic: a formula stays one where the topic's detail has it, other dollars are money."""
    whole = " ".join(detail.split())
    formulas = [mark for mark in _FORMULA.findall(text) if " ".join(mark.split()) in whole]
    return text if formulas else prose(text)


def cell(text: str) -> str:
    """Prose inside a table."""
    return prose(" ".join(text.split())).replace("|", "\\|")


def formula_cell(text: str) -> str:
    """A formula between dollars inside a table, where a bar would end the cell."""
    return " ".join(text.split()).replace(r"\|", r"\Vert ").replace("|", r"\vert ")


def table(columns: list[str], rows: list[list[str]]) -> str:
    """A Markdown table of cells that are Markdown already."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def excerpt(text: str, most: int) -> str:
    """The beginning of a text, at most `most` characters, cut between words and never inside a formula."""
    if len(text) <= most:
        return text
    start = text[:most].rsplit(" ", 1)[0]
    if start.count("$") % 2:
        start = start[: start.rindex("$")].rstrip()
    return f"{start} …"
