"""A demo's figures, tables and claims on a page."""

from typing import TYPE_CHECKING

import streamlit as st

from ui.charts import chart_of, described, picture_of, said
from ui.widgets.plain import plain, prose, table

if TYPE_CHECKING:
    from demos import Claim, Figure, Metric, Table


def draw_figure(figure: "Figure") -> None:
    """Draw a figure with its title; a description of it goes to screen readers."""
    st.markdown(f"**{prose(figure.title)}**")
    if figure.kind == "images":
        if figure.row_labels:
            st.caption(f"Rows from the top: {plain('; '.join(figure.row_labels))}")
        st.image(picture_of(figure), output_format="PNG", alt=described(figure))
    else:
        st.altair_chart(chart_of(figure), width="stretch", alt=described(figure))


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


def draw_table(results: "Table") -> None:
    """Draw a table of results."""
    st.markdown(f"**{prose(results.title)}**")
    rows = [[plain(said(value)) for value in row] for row in results.rows]
    st.markdown(table([plain(column) for column in results.columns], rows))


def draw_claims(claims: "list[Claim] | tuple[Claim, ...]") -> None:
    """Each claim with what this run measured, the bound and the verdict."""
    for claim in claims:
        icon = ":green[:material/check_circle:]" if claim.holds else ":orange[:material/cancel:]"
        verdict = "" if claim.holds else " — not reached in this run"
        asked = f":gray[(asked {claim.relation} {claim.bound:g})]"
        st.markdown(f"{icon} {prose(claim.statement)}: **{said(claim.measured)}** {asked}{verdict}")


def draw_metrics(metrics: "list[Metric] | tuple[Metric, ...]") -> None:
    """The measured numbers in a row."""
    with st.container(horizontal=True, gap="medium"):
        for metric in metrics:
            st.metric(metric.name, f"{said(metric.value)} {metric.unit}".strip())
