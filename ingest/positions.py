"""YAML with positions: plain values, and the line on which each of them stands."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from yaml.reader import ReaderError

from ingest.problems import Problem

Value = None | bool | int | float | str | list["Value"] | dict[str, "Value"]
Loc = tuple[int | str, ...]

MAX_BYTES = 8 * 1024 * 1024
MAX_DEPTH = 20
"""Levels of nesting; the format itself needs seven."""

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"
_TEXT = {f"{_TAG}{name}" for name in ("str", "timestamp", "value", "merge")}
_TAGS = _TEXT | {f"{_TAG}{name}" for name in ("null", "bool", "int", "float", "seq", "map")}

_HINTS = {
    "mapping values are not allowed here": 'Quote the text: it holds ": ".',
    "could not find expected ':'": 'Write "key: value"; a text that runs over lines is indented deeper than its key.',
    "expected <block end>": "Indent it like the lines above that belong with it.",
    "but found another document": "Remove the line ---: a file is one list.",
    "cannot start any token": "Quote the text: it begins with a character that YAML keeps for itself, or with a tab.",
    "undefined alias": "Quote the text: it begins with *.",
    "expected alphabetic or numeric": "Quote the text: it begins with * or &.",
    "nesting": "Close the brackets that are open.",
}


@dataclass(slots=True)
class Positions:
    """The line (from 1) of every value of a file, by its path of keys and indexes."""

    file: str
    lines: dict[Loc, int] = field(default_factory=dict[Loc, int])

    def line(self, loc: Sequence[int | str]) -> int:
        """Line of the value at `loc`, or of the nearest thing around it that the file has."""
        for length in range(len(loc), -1, -1):
            found = self.lines.get(tuple(loc[:length]))
            if found is not None:
                return found
        return 1


def read_yaml(path: Path, name: str, problems: list[Problem]) -> tuple[Value, Positions]:
    """Read one YAML file as plain values with their lines; problems go to `problems`, None stands for what is wrong.

    Refused: aliases (which can blow a small file up), duplicate keys, tags, deep nesting, more than 8 MiB, and plain
    scalars that YAML 1.1 reads as something else than they look (`on`, `010`, `1:30`, `1e-4`).
    """
    positions = Positions(name)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        problems.append(Problem(name, 1, f"cannot be read: {error.strerror}"))
        return None, positions
    if len(data) > MAX_BYTES:
        problems.append(Problem(name, 1, f"the file is too large: at most {MAX_BYTES:,} bytes are read", "Split it."))
        return None, positions
    try:
        data.decode("utf-8")
        loader = _Loader(data)
        try:
            node = loader.get_single_node()
            reader = _Reader(loader, positions, problems)
            return (None if node is None else reader.value(node, ())), positions
        finally:
            loader.dispose()
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        what = f"byte 0x{data[error.start]:02x} is not UTF-8"
        problems.append(Problem(name, line, what, "Save the file as UTF-8."))
    except ReaderError as error:
        line = data[: error.position].count(b"\n") + 1
        what = f"the control character U+{int(error.character):04X}"
        problems.append(Problem(name, line, what, "Remove it."))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = str(error.problem)
        hint = next((hint for part, hint in _HINTS.items() if part in what), "Quote text that holds : # { [ or quotes.")
        problems.append(Problem(name, mark.line + 1 if mark else 1, f"not valid YAML: {what}", hint))
    return None, positions


class _Reader:
    """Turns YAML nodes into plain values and remembers their lines."""

    def __init__(self, loader: "yaml.SafeLoader", positions: Positions, problems: list[Problem]) -> None:
        self._loader = loader
        self._positions = positions
        self._problems = problems
        self._seen: set[int] = set()

    def value(self, node: Node, loc: Loc) -> Value:
        """The value of a node; whatever is wrong below it is noted and None in its place."""
        if not self._is_new(node):
            return None
        self._positions.lines[loc] = node.start_mark.line + 1
        if node.tag not in _TAGS:
            self._problem(node, f"the tag {node.tag.replace(_TAG, '!!')}", "Remove it: values need no tag here.")
        elif len(loc) > MAX_DEPTH:
            self._problem(node, f"nested more than {MAX_DEPTH} levels deep", "Close the brackets that are open.")
        elif isinstance(node, MappingNode):
            return self._mapping(node, loc)
        elif isinstance(node, SequenceNode):
            return [self.value(item, (*loc, index)) for index, item in enumerate(node.value)]
        elif isinstance(node, ScalarNode):
            return self._scalar(node)
        return None

    def _is_new(self, node: Node) -> bool:
        """Whether the node is met for the first time: an alias is the same node again, with the line of its anchor."""
        if id(node) in self._seen:
            self._problem(
                node, "an alias (*name) repeats this value", "Write it out at both places, or quote the text."
            )
            return False
        self._seen.add(id(node))
        return True

    def _problem(self, node: Node, what: str, instead: str) -> None:
        self._problems.append(Problem(self._positions.file, node.start_mark.line + 1, what, instead))

    def _scalar(self, node: ScalarNode) -> Value:
        text = str(node.value)
        if node.tag in _TEXT:
            if not node.style and re.fullmatch(r"[-+]?[\d.]+[eE][-+]?\d+", text):
                self._problem(
                    node, f"YAML reads {text} as text", f"Write {_with_point(text)} for the number, or quote it."
                )
            return text
        try:
            found: object = self._loader.construct_object(node)  # pyright: ignore[reportUnknownMemberType]
        except ValueError:
            self._problem(node, f'"{text[:40]}" is no number that can be read', "Quote it if it is meant as text.")
            return None
        if isinstance(found, bool) and text.lower() not in ("true", "false"):
            plain = str(found).lower()
            self._problem(node, f"YAML reads {text} as {plain}", f'Write {plain}, or "{text}" if it is meant as text.')
        elif isinstance(found, int) and not isinstance(found, bool) and not re.fullmatch(r"[-+]?(0|[1-9]\d*)", text):
            self._problem(node, f"YAML reads {text} as {found}", f'Write {found}, or "{text}" if it is meant as text.')
        elif isinstance(found, float) and not math.isfinite(found):
            self._problem(node, f"{text} is not a finite number", "Write a number, or quote the text.")
        return found if isinstance(found, bool | int | float | str) else None

    def _mapping(self, node: MappingNode, loc: Loc) -> dict[str, Value]:
        found: dict[str, Value] = {}
        for key_node, value_node in node.value:
            if not self._is_new(key_node):
                continue
            if not isinstance(key_node, ScalarNode):
                self._problem(key_node, "a key that is a list or a mapping", "Quote the text.")
                continue
            key = str(key_node.value)
            if key in found:
                self._problem(key_node, f'the key "{key}" stands twice', "Keep one of the two.")
            found[key] = self.value(value_node, (*loc, key))
            self._positions.lines[(*loc, key)] = key_node.start_mark.line + 1
        return found


def _with_point(text: str) -> str:
    """A number in the form that YAML 1.1 takes for one: 1e-4 is 1.0e-4, 2e5 is 2.0e+5."""
    mantissa, exponent = re.split("[eE]", text)
    mantissa = mantissa if "." in mantissa else f"{mantissa}.0"
    return f"{mantissa}e{exponent if exponent[0] in '+-' else '+' + exponent}"
