"""What a demo takes and gives back. A demo module has `Params` (a `DemoParams`) and `run(params, tick) -> Result`.

A demo file states its claims in `run` as `Claim("literal sentence", number, "literal relation", literal bound)`, and
its docstring has the title in the first line, then `Question:`, `Source:` and `Watch:`: the registry reads all these
without running the file. A parameter is an int, float, bool or `Literal` of strings with a default, a description and
its range as `ge`, `le`. The runner gives a demo one torch thread and no GPU, and an empty folder to work in.

The runner, the command line and the UI know a demo only through these types. They are plain data: a `Result` goes
through JSON unchanged, so that it can cross a process, be cached and be drawn by whoever asked for it.
"""

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Protocol

from pydantic import BaseModel, ConfigDict

Cell = str | int | float | bool
Bound = Literal["<=", ">=", "<", ">", "=="]
_HOLDS = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt, "==": operator.eq}


class DemoParams(BaseModel):
    """Base of each demo's parameters: frozen, ranges in the fields, an unknown name is an error.

    `presets` are named settings worth trying, chiefly those that break the mechanism on purpose.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    presets: ClassVar[Mapping[str, "Preset"]] = {}


@dataclass(frozen=True, slots=True)
class Preset:
    """Parameter values that differ from the defaults, and what they are meant to show."""

    shows: str
    values: Mapping[str, Cell]


class Tick(Protocol):
    """Reports progress. It raises `Cancelled` when the run is to end, so a demo has no other way out to look after."""

    def __call__(self, fraction: float, message: str, **live: float) -> None:
        """`fraction` of the run is done (0 to 1); `message` names the step; `live` holds values for a live curve."""
        ...


class Cancelled(Exception):
    """Raised out of `tick` when the run was cancelled."""


def no_tick(fraction: float, message: str, **live: float) -> None:
    """Report to nobody: the default when a demo is called from a notebook or a test."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A measured number with its unit ("" for a pure number)."""

    name: str
    value: float
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Claim:
    """A sentence, the number measured in this run, and the bound that it must keep. The verdict is computed."""

    statement: str
    measured: float
    relation: Bound
    bound: float

    @property
    def holds(self) -> bool:
        """Whether the measured number keeps the bound; never for NaN."""
        return bool(_HOLDS[self.relation](self.measured, self.bound))


@dataclass(frozen=True, slots=True)
class Lines:
    """Curves over one axis. `series` maps a label to values, as many as `at`; `log` names the logarithmic axes."""

    title: str
    x: str
    y: str
    at: Sequence[float]
    series: Mapping[str, Sequence[float]]
    log: Literal["", "x", "y", "xy"] = ""
    kind: Literal["lines"] = "lines"


@dataclass(frozen=True, slots=True)
class Scatter:
    """Points in the plane. `series` maps a label to (x, y) pairs."""

    title: str
    x: str
    y: str
    series: Mapping[str, Sequence[tuple[float, float]]]
    kind: Literal["scatter"] = "scatter"


@dataclass(frozen=True, slots=True)
class Bars:
    """Bars side by side. `series` maps a label to one value for each of `labels`."""

    title: str
    x: str
    y: str
    labels: Sequence[str]
    series: Mapping[str, Sequence[float]]
    kind: Literal["bars"] = "bars"


@dataclass(frozen=True, slots=True)
class Heatmap:
    """A matrix (rows, columns), first row on top, such as attention weights."""

    title: str
    x: str
    y: str
    values: Sequence[Sequence[float]]
    row_labels: Sequence[str] = ()
    column_labels: Sequence[str] = ()
    kind: Literal["heatmap"] = "heatmap"


@dataclass(frozen=True, slots=True)
class Images:
    """A grid of grey or colour pictures: `pixels` is (rows, columns, height, width) or (…, 3), values in [0, 1]."""

    title: str
    pixels: Sequence[Sequence[Sequence[Sequence[float | Sequence[float]]]]]
    row_labels: Sequence[str] = ()
    column_labels: Sequence[str] = ()
    kind: Literal["images"] = "images"


Figure = Lines | Scatter | Bars | Heatmap | Images


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells under named columns."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True, slots=True)
class Result:
    """What one run measured: numbers with units, figures and tables as data, and claims with their verdict."""

    metrics: Sequence[Metric]
    claims: Sequence[Claim]
    figures: Sequence[Figure] = field(default_factory=tuple[Figure, ...])
    tables: Sequence[Table] = field(default_factory=tuple[Table, ...])
