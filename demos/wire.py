"""What passes between the runner and its worker process, and how a result becomes JSON and comes back.

Lines of JSON, no pickle: a damaged or hostile line is a decoding error and never runs code. Python's dialect of JSON
is used, which writes NaN and Infinity as such: a run that diverged is a result worth seeing, and its numbers survive
pipe and cache. For readers outside, `strict` turns them into words.
"""

import json
import math
import numbers
from collections.abc import Mapping
from typing import Any, Literal, cast

import msgspec

from demos.contract import Bars, Cell, Claim, Figure, Heatmap, Images, Lines, Metric, Preset, Result, Scatter, Table

_FIGURES: dict[str, type[Figure]] = {
    "lines": Lines,
    "scatter": Scatter,
    "bars": Bars,
    "heatmap": Heatmap,
    "images": Images,
}


class RunRequest(msgspec.Struct, tag="run", frozen=True):
    """Run the demo in the file `path`. Limits that the kernel keeps for the worker go with it."""

    path: str
    params: dict[str, Cell]
    cpu_seconds: int
    memory_bytes: int
    output_bytes: int


class DescribeRequest(msgspec.Struct, tag="describe", frozen=True):
    """Import the demos in these files and describe the parameters of each."""

    paths: list[str]


class Described(msgspec.Struct, tag="described", frozen=True):
    """The JSON Schema of a demo's parameters and its presets; or `problem`, where it cannot be described."""

    path: str
    schema: dict[str, Any] = {}
    presets: dict[str, Preset] = {}
    problem: str = ""


class Ticked(msgspec.Struct, tag="tick", frozen=True):
    """The demo reported progress."""

    fraction: float
    message: str
    live: dict[str, float]


class Finished(msgspec.Struct, tag="finished", frozen=True):
    """The demo returned. The costs are those of its `run` alone, without imports; the peak is the whole process's."""

    result: dict[str, Any]
    cpu_seconds: float
    wall_seconds: float
    peak_bytes: int


class Stopped(msgspec.Struct, tag="stopped", frozen=True):
    """The demo ended without a result."""

    why: Literal["cancelled", "memory", "params", "failed"]
    message: str = ""
    details: str = ""


Message = Described | Ticked | Finished | Stopped
Request = RunRequest | DescribeRequest


class NotPlainData(TypeError):
    """A demo returned something that is not plain data. The message says where."""


def encode(message: Message | Request) -> bytes:
    """Return a message as one line of JSON, newline included."""
    return json.dumps(msgspec.to_builtins(message), ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def decode_message(line: bytes) -> Message:
    """Return the message of a line that a worker wrote. Raises ValueError when it is none."""
    return msgspec.convert(json.loads(line), Message)


def decode_request(line: bytes) -> Request:
    """Return the request of a line that the runner wrote. Raises ValueError when it is none."""
    return msgspec.convert(json.loads(line), Request)


def result_to_plain(result: Result) -> dict[str, Any]:
    """Return a result as dicts, lists, strings and numbers. Raises NotPlainData, for a tensor left in it say."""
    try:
        plain: dict[str, Any] = msgspec.to_builtins(result, enc_hook=_number)
        result_from_plain(plain)
    except (TypeError, ValueError, KeyError) as error:
        raise NotPlainData(f"its result is not plain data: {error}") from error
    return plain


def result_from_plain(plain: Mapping[str, Any]) -> Result:
    """Return the result that `result_to_plain` gave. Raises ValueError or KeyError when it is damaged."""
    return Result(
        metrics=msgspec.convert(plain["metrics"], tuple[Metric, ...]),
        claims=msgspec.convert(plain["claims"], tuple[Claim, ...]),
        figures=tuple(msgspec.convert(figure, _FIGURES[figure["kind"]]) for figure in plain["figures"]),
        tables=msgspec.convert(plain["tables"], tuple[Table, ...]),
    )


def strict(value: Any) -> Any:
    """Return plain data as JSON of any language carries it: NaN and infinities as "NaN", "Infinity", "-Infinity"."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key: strict(item) for key, item in cast(dict[str, Any], value).items()}
    if isinstance(value, list | tuple):
        return [strict(part) for part in cast(list[Any], value)]
    return value


def _number(value: object) -> int | float:
    """A number of numpy's as Python's own; anything else that is no plain data is refused."""
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    raise NotPlainData(f"{type(value).__name__} where a number, text or sequence is due")
