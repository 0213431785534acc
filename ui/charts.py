"""A demo's figures as charts and pictures, and its numbers in words. Altair and NumPy load with the first figure."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import altair as alt
    import numpy as np
    from numpy.typing import NDArray

    from demos import Bars, Figure, Heatmap, Images, Lines, Scatter

_PICTURE_WIDTH = 720


def chart_of(figure: "Lines | Scatter | Bars | Heatmap") -> "alt.Chart":
    """Return a figure as a chart without its title, as wide as whoever draws it."""
    match figure.kind:
        case "lines":
            return _lines(figure)
        case "scatter":
            return _scatter(figure)
        case "bars":
            return _bars(figure)
        case "heatmap":
            return _heatmap(figure)


def picture_of(figure: "Images") -> "NDArray[np.uint8]":
    """Return a grid of pictures as one, enlarged without smoothing: (height, width) grey or (height, width, 3)."""
    import numpy as np

    pixels: Any = np.asarray(figure.pixels, dtype=np.float32)  # (rows, columns, height, width) or (…, 3)
    rows, columns, height, width = pixels.shape[:4]
    gap = 1
    colour = pixels.shape[4:]
    sheet = np.ones((rows * (height + gap) - gap, columns * (width + gap) - gap, *colour), dtype=np.float32)
    for r in range(rows):
        for c in range(columns):
            top, left = r * (height + gap), c * (width + gap)
            sheet[top : top + height, left : left + width] = np.clip(pixels[r, c], 0, 1)
    scale = max(1, min(12, _PICTURE_WIDTH // sheet.shape[1]))
    return (np.kron(sheet, np.ones((scale, scale, *([1] * len(colour))))) * 255).astype(np.uint8)


def described(figure: "Figure") -> str:
    """Return what a figure shows in one sentence, for who cannot see it."""
    match figure.kind:
        case "lines":
            ends = ", ".join(f"{name} ends at {ys[-1]:.3g}" for name, ys in figure.series.items() if len(ys))
            said = f"{figure.y} over {figure.x}; {ends}"
        case "scatter":
            said = ", ".join(f"{len(points)} points of {name}" for name, points in figure.series.items())
        case "bars":
            said = f"{figure.y} for {len(figure.labels)} values of {figure.x}"
        case "heatmap":
            said = f"{len(figure.values)} rows by {len(figure.values[0]) if figure.values else 0} columns"
        case "images":
            rows = "; ".join(str(label) for label in figure.row_labels)
            said = f"{len(figure.pixels)} rows of {len(figure.pixels[0])} pictures. {rows}"
    return f"{figure.title}: {said}"


def said(value: str | float) -> str:
    """A number with four digits that count, or all of a whole one; a verdict in words."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) < 1e9 else f"{value:.4g}"


def _legend(figure: "Lines | Scatter | Bars") -> "alt.Legend | None":
    """A legend under the chart where there is more than one series; long names are not cut."""
    import altair as alt

    return alt.Legend(orient="bottom", labelLimit=320, columns=4) if len(figure.series) > 1 else None


def _angle(labels: Sequence[str]) -> int:
    """Short labels of an axis stand upright, long ones slanted."""
    return 0 if sum(map(len, labels)) <= 60 else -40


def _lines(figure: "Lines") -> "alt.Chart":
    import altair as alt
    import pandas as pd

    rows = [
        {figure.x: x, figure.y: y, "series": name}
        for name, values in figure.series.items()
        for x, y in zip(figure.at, values, strict=True)
    ]
    return (
        alt.Chart(pd.DataFrame(rows))
        .mark_line(clip=True)
        .encode(
            x=alt.X(
                field=figure.x,
                type="quantitative",
                title=figure.x,
                scale=alt.Scale(type="log" if "x" in figure.log else "linear", zero=False),
            ),
            y=alt.Y(
                field=figure.y,
                type="quantitative",
                title=figure.y,
                scale=alt.Scale(type="log" if "y" in figure.log else "linear", zero=False),
            ),
            color=alt.Color("series:N", title=None, sort=None, legend=_legend(figure)),
            strokeDash=alt.StrokeDash("series:N", title=None, sort=None, legend=_legend(figure)),
            tooltip=[
                alt.Tooltip("series:N"),
                alt.Tooltip(field=figure.x, type="quantitative"),
                alt.Tooltip(field=figure.y, type="quantitative"),
            ],
        )
        .properties(height=280)
    )


def _scatter(figure: "Scatter") -> "alt.Chart":
    import altair as alt
    import pandas as pd

    rows = [{figure.x: x, figure.y: y, "series": name} for name, points in figure.series.items() for x, y in points]
    return (
        alt.Chart(pd.DataFrame(rows))
        .mark_circle(size=16, opacity=0.55, clip=True)
        .encode(
            x=alt.X(field=figure.x, type="quantitative", title=figure.x),
            y=alt.Y(field=figure.y, type="quantitative", title=figure.y),
            color=alt.Color("series:N", title=None, sort=None, legend=_legend(figure)),
        )
        .properties(height=380)
    )


def _bars(figure: "Bars") -> "alt.Chart":
    import altair as alt
    import pandas as pd

    rows = [
        {"label": label, "value": value, "series": name}
        for name, values in figure.series.items()
        for label, value in zip(figure.labels, values, strict=True)
    ]
    return (
        alt.Chart(pd.DataFrame(rows))
        .mark_bar()
        .encode(
            x=alt.X(
                "label:N", sort=list(figure.labels), title=figure.x, axis=alt.Axis(labelAngle=_angle(figure.labels))
            ),
            xOffset="series:N",
            y=alt.Y("value:Q", title=figure.y),
            color=alt.Color("series:N", title=None, sort=None, legend=_legend(figure)),
            tooltip=["series", "label", "value"],
        )
        .properties(height=280)
    )


def _heatmap(figure: "Heatmap") -> "alt.Chart":
    import altair as alt
    import pandas as pd

    names = [
        [str(name) for name in labels] if labels else [str(number) for number in range(count)]
        for labels, count in (
            (figure.row_labels, len(figure.values)),
            (figure.column_labels, len(figure.values[0]) if figure.values else 0),
        )
    ]
    rows = [
        {"row": f"{r}: {names[0][r]}", "column": f"{c}: {names[1][c]}", "value": value}
        for r, line in enumerate(figure.values)
        for c, value in enumerate(line)
    ]
    return (
        alt.Chart(pd.DataFrame(rows))
        .mark_rect()
        .encode(
            x=alt.X("column:N", sort=None, title=figure.x, axis=alt.Axis(labelExpr="split(datum.label, ': ')[1]")),
            y=alt.Y("row:N", sort=None, title=figure.y, axis=alt.Axis(labelExpr="split(datum.label, ': ')[1]")),
            color=alt.Color("value:Q", title=None, scale=alt.Scale(scheme="viridis")),
            tooltip=["row", "column", "value"],
        )
        .properties(height=360)
    )
