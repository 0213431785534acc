"""YAML with positions: plain values, and the line on which each of them stands."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from yaml.nodes import MappingNode, Node, SequenceNode

from ingest.problems import Problem

Value = None | bool | int | float | str | list["Value"] | dict[str, "Value"]
Loc = tuple[int | str, ...]

MAX_BYTES = 8 * 1024 * 1024
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


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
    """Read one YAML file as plain values with their lines; problems go to `problems` and give None.

    Refused: aliases (which can blow a small file up), duplicate keys, unsafe tags, more than 8 MiB.
    """
    positions = Positions(name)
    try:
        data = path.read_bytes()
        if len(data) > MAX_BYTES:
            problems.append(Problem(name, 1, f"the file has {len(data):,} bytes; at most {MAX_BYTES:,} are read"))
            return None, positions
        loader = _Loader(data)
        try:
            node = loader.get_single_node()
            reader = _Reader(loader, positions, problems)
            return (None if node is None else reader.value(node, ())), positions
        finally:
            loader.dispose()
    except OSError as error:
        problems.append(Problem(name, 1, f"cannot be read: {error.strerror}"))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        problems.append(
            Problem(name, line, f"not valid YAML: {error.problem}", "Quote text that holds : # { [ or quotes.")
        )
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        problems.append(Problem(name, 1, f"not valid YAML: {error}", "Save the file as UTF-8."))
    return None, positions


class _Reader:
    """Turns YAML nodes into plain values and remembers their lines."""

    def __init__(self, loader: "yaml.SafeLoader", positions: Positions, problems: list[Problem]) -> None:
        self._loader = loader
        self._positions = positions
        self._problems = problems
        self._seen: set[int] = set()

    def value(self, node: Node, loc: Loc) -> Value:
        if id(node) in self._seen:  # the same node again: an alias
            self._problem(node, "an alias (*name)", "Write the value out, or quote the text.")
            return None
        self._seen.add(id(node))
        self._positions.lines[loc] = node.start_mark.line + 1
        if isinstance(node, MappingNode):
            return self._mapping(node, loc)
        if isinstance(node, SequenceNode):
            return [self.value(item, (*loc, index)) for index, item in enumerate(node.value)]
        found: object = self._loader.construct_object(node)  # pyright: ignore[reportUnknownMemberType]
        return found if isinstance(found, bool | int | float | str) or found is None else str(node.value)

    def _problem(self, node: Node, what: str, instead: str) -> None:
        self._problems.append(Problem(self._positions.file, node.start_mark.line + 1, what, instead))

    def _mapping(self, node: MappingNode, loc: Loc) -> dict[str, Value]:
        found: dict[str, Value] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value)
            if key in found:
                self._problem(key_node, f'the key "{key}" stands twice', "Keep one of the two.")
            found[key] = self.value(value_node, (*loc, key))
            self._positions.lines[(*loc, key)] = key_node.start_mark.line + 1
        return found
