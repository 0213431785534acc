"""A topic beside a picture or a list: title, facts, summary, and the lists of what it is linked with."""

from collections.abc import Callable

import streamlit as st

from graph import Comparison, Topic
from search import AspectTable
from service import Service
from ui.session import label_of
from ui.widgets.plain import cell, formula_cell, plain, prose, table


def badges(service: Service, topic: Topic) -> None:
    """The topic's facts in one row."""
    needs = len({edge.before for edge in service.store.effective_prerequisites(topic.id)})
    unlocks = len({edge.after for edge in service.store.dependents(topic.id)})
    with st.container(horizontal=True, gap="xsmall"):
        if topic.starred:
            st.badge("supplementary", icon=":material/star:", color="yellow")
        if topic.origin == "foundation":
            st.badge("foundation", icon=":material/foundation:", color="gray")
        if needs:
            st.badge(f"{needs} prerequisite{'s' if needs > 1 else ''}", color="orange")
        if unlocks:
            st.badge(f"unlocks {unlocks}", color="green")
        if topic.level:
            st.badge(topic.level, color="violet")
        if topic.minutes:
            st.badge(f"about {topic.minutes} min", icon=":material/schedule:", color="gray")


def place_of(topic: Topic) -> str:
    """The titles above a topic, as one line."""
    return " › ".join(topic.title_path[:-1]) or "Section"


def comparison_table(atlas: Service, comparison: Comparison) -> None:
    """A comparison as a table, what the sides share above it and the choice below."""
    st.markdown(f"**{prose(comparison.question)}**\n\n{prose(comparison.same)}")
    sides = [atlas.store.topic(side) for side in comparison.between]
    alike = len({side.title for side in sides}) < len(sides)
    titles = [plain(label_of(side) if alike else side.title) for side in sides]
    rows = [[f"**{cell(aspect.name)}**", *map(cell, aspect.values)] for aspect in comparison.aspects]
    st.markdown(table(["", *titles], rows))
    st.markdown(f"**Choose.** {prose(comparison.choose)}")


def aspect_table(found: AspectTable, titles: list[str]) -> None:
    """A comparison's rows under the titles of its sides."""
    rows: list[list[str]] = []
    for row in found.rows:
        is_formula = (
            found.comparison is None and row.aspect == "Formula"
        )  # where an author writes a dollar, it is money
        shown = [formula_cell(value) if is_formula else cell(value) for value in row.values]
        rows.append([f"**{cell(row.aspect)}**", *shown])
    st.markdown(table(["", *map(plain, titles)], rows))


def relations(
    service: Service, topic: Topic, key: str, go: Callable[[str], None], most: int = 6, parent: bool = False
) -> None:
    """What to learn first, what the topic unlocks, its comparisons, twins and parts, as lists of buttons.

    With `parent` also what it is a part of. A topic without parts shows its neighbours in the outline instead.
    """
    store = service.store
    before = {edge.before: prose(edge.why) for edge in store.effective_prerequisites(topic.id)}
    after = {edge.after: prose(edge.why) for edge in store.dependents(topic.id)}
    compared = {
        other: prose(comparison.question)
        for comparison in store.comparisons(topic.id)
        for other in comparison.between
        if other != topic.id
    }
    twins = {twin.id: plain(" › ".join(twin.title_path)) for twin in store.twins(topic.id)}
    parts = {child.id: prose(child.summary) for child in store.children(topic.id)}
    whole = {above.id: prose(above.summary) for above in store.ancestors(topic.id)[-1:]}
    beside = {
        child.id: prose(child.summary)
        for above in whole
        for child in store.children(above)
        if not parts and child.id != topic.id
    }
    lists = [
        ("Learn first", ":material/arrow_back:", before),
        ("Unlocks", ":material/arrow_forward:", after),
        ("Compare with", ":material/compare_arrows:", compared),
        ("The same concept", ":material/join_inner:", twins),
        ("Contains", ":material/account_tree:", parts),
        ("Part of", ":material/arrow_upward:", whole if parent else {}),
        ("Beside it", ":material/more_horiz:", beside),
    ]
    for heading, icon, found in lists:
        if found:
            _list(service, topic, heading, icon, found, f"{key}-{heading}", go, most)
    if not before:
        st.caption("Nothing needs to come first: you can start here." if topic.summary else "No prerequisites yet.")


def _list(
    service: Service,
    topic: Topic,
    heading: str,
    icon: str,
    found: dict[str, str],
    key: str,
    go: Callable[[str], None],
    most: int,
) -> None:
    st.markdown(f"{icon} **{heading}** :gray[{len(found)}]")
    rows = [service.store.topic(topic_id) for topic_id in list(found)[:most]]
    titles = [topic.title, *(row.title for row in rows)]
    with st.container(gap="xxsmall"):
        for row in rows:
            alike = titles.count(row.title) > 1 and row.parent is not None
            st.button(
                plain(f"{row.title} · {row.title_path[-2]}" if alike else row.title),
                key=f"{key}-{row.id}",
                help=found[row.id] or None,
                type="tertiary",
                icon=":material/chevron_right:",
                on_click=go,
                args=(row.id,),
            )
    if len(found) > most:
        st.caption(f"and {len(found) - most} more")
