"""Whether LaTeX can be typeset at all: braces, delimiters and environments that close."""

import re
from collections.abc import Iterator

_TOKEN = re.compile(r"\\(?:begin|end)\s*\{(?P<name>[^{}]*)\}|\\(?:[A-Za-z]+|.|$)|[{}$%]", re.DOTALL)
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`", re.DOTALL)
_MATH = re.compile(r"(?<!\\)\$\$(.+?)(?<!\\)\$\$|(?<!\\)\$([^$]+?)(?<!\\)\$", re.DOTALL)
_CLOSER = {"{": "}", r"\left": r"\right"}


def formula_fault(formula: str) -> str:
    """Say what keeps a formula (without dollar signs) from being typeset; "" when nothing does that can be seen."""
    open_marks: list[str] = []
    for token in _TOKEN.finditer(formula):
        mark, name = token[0], token["name"]
        opened = open_marks[-1] if open_marks else ""
        if mark == "\\":
            return "it ends with a backslash"
        if mark == "$":
            return "a $ inside the formula"
        if mark == "%":
            return "a % hides the rest of its line; write \\%"
        if mark in _CLOSER:
            open_marks.append(mark)
        elif name is not None and mark.startswith(r"\begin"):
            open_marks.append(f"\\begin{{{name}}}")
        elif mark == "}" or mark == r"\right" or name is not None:
            wanted = _CLOSER.get(opened, opened.replace(r"\begin", r"\end"))
            if mark.replace(" ", "") != wanted:
                return f"{mark} closes nothing" if not opened else f"{mark} where {opened} is to be closed by {wanted}"
            open_marks.pop()
        elif mark == r"\middle" and opened != r"\left":
            return r"\middle stands outside \left … \right"
        if mark in (r"\left", r"\right", r"\middle") and not formula[token.end() :].strip():
            return f"{mark} without a delimiter after it"
    return f"{open_marks[-1]} is never closed" if open_marks else ""


def markdown_faults(text: str) -> Iterator[str]:
    """Say what is wrong with the formulas of a Markdown text; code is left out, `\\$` is a dollar sign."""
    prose = _CODE.sub("", text)
    if _MATH.sub("", prose).replace(r"\$", "").count("$"):
        yield r"a $ without its partner; write \$ for a dollar sign"
    for found in _MATH.finditer(prose):
        formula = found[1] or found[2]
        fault = formula_fault(formula)
        if re.match(r"[\d.,]+", formula) and re.search(r"\b[a-z]{2,} [a-z]{2,}\b", formula) and "\\" not in formula:
            fault = r"this reads as a formula; write \$ for a dollar sign"
        if fault:
            yield f"${' '.join(formula.split())[:60]}$: {fault}"
