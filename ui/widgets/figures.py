"""A demo's figures, tables and claims drawn from their data. Altair and NumPy load with the first figure."""

from typing import TYPE_CHECKING, Any

import streamlit as st

from ui.widgets.plain import plain, prose, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    import altair as alt

    from demos import Bars, Claim, Figure, Heatmap, Images, Lines, Metric, Scatter, Table

_PICTURE_WIDTH = 720


def draw_figure(figure: "Figure") -> None:
    """Draw a figure with its title; a description of it goes to screen readers."""
    st.markdown(f"**{prose(figure.title)}**")
    match figure.kind:
        case "lines":
            _lines(figure)
        case "scatter":
            _scatter(figure)
        case "bars":
            _bars(figure)
        case "heatmap":
            _heatmap(figure)
        case "images":
            _images(figure)


def live_curves(live: dict[str, tuple[tuple[float, float], ...]]) -> None:
    """The curves of a run under way, one chart for each, over the part of the run that is done."""
    import altair as alt
    import pandas as pd

    for name, points in live.items():
        frame = pd.DataFrame(points, columns=["part of the run", name])
        chart = (
            alt.Chart(frame)
            .mark_line(clip=True)
            .encode(
                x=alt.X("part of the run:Q", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%")),
                y=alt.Y(f"{name}:Q", scale=alt.Scale(zero=False)),
            )
        )
        st.altair_chart(chart.properties(height=220), width="stretch", alt=f"{name} so far: now {points[-1][1]:.4g}")


def _legend(figure: "Lines | Scatter | Bars") -> "alt.Legend | None":
    """A legend under the chart where there is more than one series; long names are not cut."""
    import altair as alt

    return alt.Legend(orient="bottom", labelLimit=320, columns=4) if len(figure.series) > 1 else None


def _angle(labels: "Sequence[str]") -> int:
    """Short labels of an axis stand upright, long ones slanted."""
    return 0 if sum(map(len, labels)) <= 60 else -40


def _lines(figure: "Lines") -> None:
    import altair as alt
    import pandas as pd

    rows = [
        {figure.x: x, figure.y: y, "series": name}
        for name, values in figure.series.items()
        for x, y in zip(figure.at, values, strict=True)
    ]
    chart = (
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
    ends = ", ".join(f"{name} ends at {values[-1]:.3g}" for name, values in figure.series.items() if len(values))
    st.altair_chart(chart, width="stretch", alt=f"{figure.title}: {figure.y} over {figure.x}; {ends}")


def _scatter(figure: "Scatter") -> None:
    import altair as alt
    import pandas as pd

    rows = [{figure.x: x, figure.y: y, "series": name} for name, points in figure.series.items() for x, y in points]
    chart = (
        alt.Chart(pd.DataFrame(rows))
        .mark_circle(size=16, opacity=0.55, clip=True)
        .encode(
            x=alt.X(field=figure.x, type="quantitative", title=figure.x),
            y=alt.Y(field=figure.y, type="quantitative", title=figure.y),
            color=alt.Color("series:N", title=None, sort=None, legend=_legend(figure)),
        )
        .properties(height=380)
    )
    counts = ", ".join(f"{len(points)} points of {name}" for name, points in figure.series.items())
    st.altair_chart(chart, width="stretch", alt=f"{figure.title}: {counts}")


def _bars(figure: "Bars") -> None:
    import altair as alt
    import pandas as pd

    rows = [
        {"label": label, "value": value, "series": name}
        for name, values in figure.series.items()
        for label, value in zip(figure.labels, values, strict=True)
    ]
    chart = (
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
    st.altair_chart(
        chart, width="stretch", alt=f"{figure.title}: {figure.y} for {len(figure.labels)} values of {figure.x}"
    )


def _heatmap(figure: "Heatmap") -> None:
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
    chart = (
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
    st.altair_chart(chart, width="stretch", alt=f"{figure.title}: {len(names[0])} rows by {len(names[1])} columns")


def _images(figure: "Images") -> None:
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
    enlarged = (np.kron(sheet, np.ones((scale, scale, *([1] * len(colour))))) * 255).astype(np.uint8)
    labels = "; ".join(str(label) for label in figure.row_labels)
    if labels:
        st.caption(f"Rows from the top: {plain(labels)}")
    st.image(enlarged, output_format="PNG", alt=f"{figure.title}: {rows} rows of {columns} pictures. {labels}")


def draw_table(results: "Table") -> None:
    """Draw a table of results."""
    st.markdown(f"**{prose(results.title)}**")
    rows = [[plain(_said(value)) for value in row] for row in results.rows]
    st.markdown(table([plain(column) for column in results.columns], rows))


def _said(value: str | float) -> str:
    """A number with four digits that count, or all of a whole one; a verdict in words."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) < 1e9 else f"{value:.4g}"


def draw_claims(claims: "list[Claim] | tuple[Claim, ...]") -> None:
    """Each claim with what this run measured, the bound and the verdict."""
    for claim in claims:
        icon = ":green[:material/check_circle:]" if claim.holds else ":orange[:material/cancel:]"
        verdict = "" if claim.holds else " — not reached in this run"
        asked = f":gray[(asked {claim.relation} {claim.bound:g})]"
        st.markdown(f"{icon} {prose(claim.statement)}: **{_said(claim.measured)}** {asked}{verdict}")


def draw_metrics(metrics: "list[Metric] | tuple[Metric, ...]") -> None:
    """The measured numbers in a row."""
    with st.container(horizontal=True, gap="medium"):
        for metric in metrics:
            st.metric(metric.name, f"{_said(metric.value)} {metric.unit}".strip())
