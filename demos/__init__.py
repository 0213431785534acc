"""The demo library: one readable torch file per demo, the registry that lists them, the runner that runs them.

Importing this loads neither torch nor pydantic: what the runner needs is imported when it is first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from demos.errors import (
    BadDemoFile,
    BadParams,
    DemoCancelled,
    DemoError,
    DemoFailed,
    DemoKilled,
    DemoNotFound,
    DemoOutOfMemory,
    DemoTimeout,
    RunError,
    TooManyRuns,
)
from demos.registry import FAMILIES, ClaimSpec, DemoSpec, catalogue, find_demo

if TYPE_CHECKING:
    from demos.contract import Bars, Cell, Claim, Figure, Heatmap, Images, Lines, Metric, Preset, Result, Scatter, Table
    from demos.drawing import figure_text
    from demos.parameters import Description, Parameter, describe, describe_all, settle
    from demos.runner import DemoRun, Outcome, Progress, run_demo, start_demo

_LATER = {
    "demos.contract": (
        "Bars", "Cell", "Claim", "Figure", "Heatmap", "Images", "Lines", "Metric", "Preset", "Result", "Scatter",
        "Table",
    ),
    "demos.drawing": ("figure_text",),
    "demos.parameters": ("Description", "Parameter", "describe", "describe_all", "settle"),
    "demos.runner": ("DemoRun", "Outcome", "Progress", "run_demo", "start_demo"),
}  # fmt: skip
_MODULE_BY_NAME = {name: module for module, names in _LATER.items() for name in names}

__all__ = [
    "FAMILIES",
    "BadDemoFile",
    "BadParams",
    "Bars",
    "Cell",
    "Claim",
    "ClaimSpec",
    "DemoCancelled",
    "DemoError",
    "DemoFailed",
    "DemoKilled",
    "DemoNotFound",
    "DemoOutOfMemory",
    "DemoRun",
    "DemoSpec",
    "DemoTimeout",
    "Description",
    "Figure",
    "Heatmap",
    "Images",
    "Lines",
    "Metric",
    "Outcome",
    "Parameter",
    "Preset",
    "Progress",
    "Result",
    "RunError",
    "Scatter",
    "Table",
    "TooManyRuns",
    "catalogue",
    "describe",
    "describe_all",
    "figure_text",
    "find_demo",
    "run_demo",
    "settle",
    "start_demo",
]


def __getattr__(name: str) -> object:
    if name in _MODULE_BY_NAME:
        return getattr(import_module(_MODULE_BY_NAME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
