"""What a demo can be told: its parameters and presets, asked of a worker once and kept until its code changes."""

import contextlib
import hashlib
import math
import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import msgspec

from demos import cache as cache_files
from demos.contract import Cell, Preset
from demos.errors import BadDemoFile, BadParams
from demos.process import last_words, start_worker
from demos.registry import DEMOS, DemoSpec, catalogue, find_demo
from demos.wire import Described, DescribeRequest, decode_message, encode

DESCRIBE_SECONDS = 300.0
_NUMBER = re.compile(r"[-+]?\d*\.?\d+(e[-+]?\d+)?", re.IGNORECASE)
_KINDS: dict[str, Literal["int", "float", "bool", "text"]] = {
    "integer": "int",
    "number": "float",
    "boolean": "bool",
    "string": "text",
}


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a demo; the bounds are inclusive, None where there is none; a choice has its `choices`."""

    name: str
    kind: Literal["int", "float", "bool", "choice", "text"]
    default: Cell
    description: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Description:
    """A demo's parameters in the order of its form, its presets by name, and the JSON Schema they come from."""

    demo_id: str
    parameters: tuple[Parameter, ...]
    presets: Mapping[str, Preset]
    schema: Mapping[str, Any]

    @property
    def defaults(self) -> dict[str, Cell]:
        """The default of every parameter."""
        return {parameter.name: parameter.default for parameter in self.parameters}


def describe(demo_id: str, cache: Path, folder: Path = DEMOS) -> Description:
    """Return what a demo can be told. The first time after a change it is asked of a process (seconds: torch loads).

    Raises DemoNotFound, and BadDemoFile when the file cannot be imported or its parameters break a rule.
    """
    return _describe([find_demo(demo_id, folder)], cache)[demo_id]


def describe_all(cache: Path, folder: Path = DEMOS) -> Mapping[str, Description]:
    """Return what every demo can be told, by id; one process answers for all that are not in the cache."""
    return _describe(list(catalogue(folder).values()), cache)


def settle(description: Description, given: Mapping[str, object]) -> dict[str, Cell]:
    """Return a value for every parameter: the given ones, read as the parameter's kind, and defaults for the rest.

    Text is read too ("16", "true"), as a command line gives it. Raises BadParams with every problem at once.
    """
    demo_id = description.demo_id
    known = {parameter.name: parameter for parameter in description.parameters}
    problems = [_unknown(name, known) for name in given if name not in known]
    values = description.defaults
    for name, value in given.items():
        if name in known:
            try:
                values[name] = _read(known[name], value)
            except ValueError as problem:
                problems.append(str(problem))
    if problems:
        raise BadParams(demo_id, problems)
    return values


def _unknown(name: str, known: Mapping[str, Parameter]) -> str:
    from rapidfuzz import process  # only where a name is wrong

    nearest = process.extractOne(name, list(known), score_cutoff=60)
    return f'there is no parameter "{name}"' + (f' (did you mean "{nearest[0]}"?)' if nearest else "")


def _read(parameter: Parameter, value: object) -> Cell:
    """The value as the parameter's kind. Raises ValueError with what is wanted instead."""
    text = value.strip() if isinstance(value, str) else value
    match parameter.kind:
        case "choice":
            read, wanted = (text if text in parameter.choices else None), f"one of {', '.join(parameter.choices)}"
        case "bool":
            read, wanted = {"true": True, "false": False}.get(str(text).lower()), "true or false"
        case "text":
            read, wanted = (value if isinstance(value, str) else None), "text"
        case "int" | "float":
            number = _number(parameter, text)
            inside = number is not None and _low(parameter) <= number <= _high(parameter)
            read, wanted = (number if inside else None), _range(parameter, is_number=number is not None)
    if read is None:
        shown = f'"{value}"' if isinstance(value, str) and not _NUMBER.fullmatch(value.strip()) else value
        raise ValueError(f"{parameter.name} must be {wanted}, got {'nothing' if text in ('', None) else shown}")
    return str(read) if parameter.kind == "choice" else cast(Cell, read)


def _number(parameter: Parameter, value: object) -> int | float | None:
    """The value as a finite number of the parameter's kind, or None. 8.0 and "8" are whole numbers, 8.5 is not."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
        if parameter.kind == "float":
            return number if math.isfinite(number) else None
        return int(value) if isinstance(value, str) or number == math.floor(number) else None
    except (ValueError, OverflowError):
        return None


def _low(parameter: Parameter) -> float:
    return -math.inf if parameter.minimum is None else parameter.minimum


def _high(parameter: Parameter) -> float:
    return math.inf if parameter.maximum is None else parameter.maximum


def _range(parameter: Parameter, *, is_number: bool) -> str:
    """What a number must be: its kind, where the value given was not of it, and its range."""
    kind = [] if is_number else ["a whole number" if parameter.kind == "int" else "a number"]
    low, high = (f"{bound:.12g}" for bound in (_low(parameter), _high(parameter)))
    match parameter.minimum, parameter.maximum:
        case None, None:
            return " ".join(kind)
        case _, None:
            return " ".join([*kind, f"at least {low}"])
        case None, _:
            return " ".join([*kind, f"at most {high}"])
        case _:
            return " ".join([*kind, f"between {low} and {high}"])


def _describe(specs: Sequence[DemoSpec], cache: Path) -> dict[str, Description]:
    found: dict[str, Described] = {}
    for spec in specs:
        kept = cache_files.read(_place(spec, cache))
        with contextlib.suppress(msgspec.ValidationError):  # nothing there, or written by an older version: ask again
            found[spec.id] = msgspec.convert(kept, Described)
    missing = [spec for spec in specs if spec.id not in found]
    if missing:
        answers = _ask(missing)
        for spec in missing:
            found[spec.id] = answers[str(spec.path)]
            cache_files.write(_place(spec, cache), msgspec.to_builtins(found[spec.id]))
    return {spec.id: _description(spec, found[spec.id]) for spec in specs}


def _place(spec: DemoSpec, cache: Path) -> Path:
    where = hashlib.sha256(f"{spec.path}\0{spec.code_hash}".encode()).hexdigest()
    return cache / "parameters" / f"{spec.id}-{where[:32]}.json"


def _ask(specs: Sequence[DemoSpec]) -> dict[str, Described]:
    paths = [str(spec.path) for spec in specs]
    with tempfile.TemporaryDirectory(prefix="genatlas-demo-") as name:
        with start_worker(Path(name)) as worker:
            try:
                output, _ = worker.communicate(encode(DescribeRequest(paths)), timeout=DESCRIBE_SECONDS)
            except subprocess.TimeoutExpired:
                worker.kill()
                output, _ = worker.communicate()
            except BaseException:
                worker.kill()
                raise
        answers = [decode_message(line) for line in output.splitlines()]
        by_path = {answer.path: answer for answer in answers if isinstance(answer, Described)}
        problems = [f"{path}: {by_path[path].problem}" for path in paths if path in by_path and by_path[path].problem]
        if len(by_path) < len(paths):
            problems.append(f"{paths[len(by_path)]}: its import did not end well: {last_words(Path(name), 1)}")
    if problems:
        raise BadDemoFile(problems)
    return by_path


def _description(spec: DemoSpec, answer: Described) -> Description:
    properties: dict[str, dict[str, Any]] = answer.schema.get("properties", {})
    parameters = tuple(_parameter(spec, name, schema) for name, schema in properties.items())
    return Description(spec.id, parameters, answer.presets, answer.schema)


def _parameter(spec: DemoSpec, name: str, schema: Mapping[str, Any]) -> Parameter:
    choices = schema.get("enum") or ([schema["const"]] if "const" in schema else [])
    kind = "choice" if choices else _KINDS.get(schema.get("type", ""))
    if kind is None or "default" not in schema or "description" not in schema or "exclusiveMinimum" in schema:
        raise BadDemoFile(
            [f"{spec.path}: parameter {name} must be an int, float, bool, str or Literal of strings, with a default, "
             "a description, and its range as ge and le"]
        )  # fmt: skip
    return Parameter(
        name=name,
        kind=kind,
        default=schema["default"],
        description=schema["description"],
        minimum=_bound(schema.get("minimum")),
        maximum=_bound(schema.get("maximum")),
        choices=tuple(choices),
    )


def _bound(value: float | None) -> float | None:
    return None if value is None else float(value)
