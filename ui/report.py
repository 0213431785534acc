"""What a demo's run showed, as files to take along: JSON, one HTML page, and each figure as PNG."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graph import AtlasError
from ui.charts import chart_of, described, picture_of, said

if TYPE_CHECKING:
    from demos import DemoSpec, Figure, Outcome

TEMPLATE = Path(__file__).with_name("report.html")
WIDTH = 720
"""Pixels of a chart; its PNG has twice as many."""


class NotWritable(AtlasError):
    """There is no room or no right to write where a run was to go."""


@dataclass(frozen=True, slots=True)
class _Drawn:
    """A figure as the page shows it: SVG where it is a chart, PNG where it is pictures."""

    title: str
    described: str
    rows: str
    type: str
    base64: str


def write_report(outcome: "Outcome", spec: "DemoSpec | None", out: Path) -> list[Path]:
    """Write a run to `out` and return the files written.

    A name that ends in .json or .html gets that one file; any other is a folder, made where it is missing, and gets
    result.json, report.html and figure-1.png and so on. The page stands alone: no script, nothing to load. Raises
    NotWritable.
    """
    try:
        return _write(outcome, spec, out)
    except OSError as error:
        raise NotWritable(f"{error.filename or out} cannot be written: {error.strerror}.") from error


def _write(outcome: "Outcome", spec: "DemoSpec | None", out: Path) -> list[Path]:
    match out.suffix:
        case ".json":
            out.write_bytes(_json(outcome))
            return [out]
        case ".html":
            out.write_text(report_html(outcome, spec), encoding="utf-8")
            return [out]
        case _:
            out.mkdir(parents=True, exist_ok=True)
            files = {"result.json": _json(outcome), "report.html": report_html(outcome, spec).encode()}
            files |= {f"figure-{n}.png": png_of(figure) for n, figure in enumerate(outcome.result.figures, start=1)}
            for name, content in files.items():
                (out / name).write_bytes(content)
            return [out / name for name in files]


def report_html(outcome: "Outcome", spec: "DemoSpec | None") -> str:
    """Return a run as one HTML page."""
    from jinja2 import Environment, StrictUndefined

    page = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = page.from_string(TEMPLATE.read_text(encoding="utf-8"))
    drawn = [_drawn(figure) for figure in outcome.result.figures]
    return template.render(outcome=outcome, spec=spec, figures=drawn, said=said) + "\n"


def png_of(figure: "Figure") -> bytes:
    """Return a figure as a PNG picture."""
    if figure.kind == "images":
        from PIL import Image

        file = io.BytesIO()
        Image.fromarray(picture_of(figure)).save(file, "PNG")
        return file.getvalue()
    import vl_convert

    return vl_convert.vegalite_to_png(_vega_lite(figure) | {"title": figure.title}, scale=2)


def _drawn(figure: "Figure") -> _Drawn:
    if figure.kind == "images":
        content, kind, rows = png_of(figure), "image/png", "; ".join(figure.row_labels)
    else:
        import vl_convert

        content, kind, rows = vl_convert.vegalite_to_svg(_vega_lite(figure)).encode(), "image/svg+xml", ""
    return _Drawn(figure.title, described(figure), rows, kind, base64.b64encode(content).decode())


def _vega_lite(figure: "Figure") -> dict[str, Any]:
    """A chart with its data, however many points it has, on white."""
    import altair as alt

    assert figure.kind != "images"  # noqa: S101 (they are no chart)
    with alt.data_transformers.enable("default", max_rows=None):
        chart = chart_of(figure).properties(width=WIDTH, background="white")
        return chart.to_dict()


def _json(outcome: "Outcome") -> bytes:
    import msgspec

    return msgspec.json.encode(outcome.to_json())
