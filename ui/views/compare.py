"""Compare: two topics side by side, aspect by aspect, and what each of them needs."""

from collections.abc import Sequence

import streamlit as st

from graph import Topic, comparison_between
from service import Service, wire
from study import Step
from ui.links import query
from ui.session import guarded, label_of, service, topic_labels
from ui.widgets.plain import plain, prose
from ui.widgets.topic_card import aspect_table, comparison_table, place_of

SIDES = {"topic": "One topic", "with": "Another"}
"""What the address calls each side, and its box."""
LONGEST_LIST = 15


def pick(side: str, topic_id: str) -> None:
    """Put a topic on a side."""
    st.query_params[side] = st.session_state[f"box-{side}"] = topic_id


def choose() -> list[Topic]:
    """The topics that are chosen, none to two."""
    labels = topic_labels()
    options = list(labels)
    found: list[Topic] = []
    for column, (side, label) in zip(st.columns(2, gap="large"), SIDES.items(), strict=True):
        asked = st.query_params.get(side, "").strip()
        if asked and asked not in labels:
            st.warning(f"There is no topic **{plain(asked)}**. Choose one from the list.")
        key = f"box-{side}"

        def chosen(side: str = side, key: str = key) -> None:
            if st.session_state[key]:
                st.query_params[side] = st.session_state[key]

        topic_id = column.selectbox(
            label,
            options,
            index=options.index(asked) if asked in labels else None,
            format_func=labels.__getitem__,
            placeholder="Type a few letters of its title",
            key=key,
            on_change=chosen,
        )
        if topic_id:
            found.append(service().store.topic(topic_id))
    return found


def suggestions(atlas: Service, topic: Topic) -> None:
    """What the topic has been compared with."""
    empty = next((side for side in SIDES if not st.session_state[f"box-{side}"]), "with")
    others = {
        other: prose(comparison.question)
        for comparison in atlas.store.comparisons(topic.id)
        for other in comparison.between
        if other != topic.id
    }
    if not others:
        st.info("Choose a second topic: nobody has compared this one yet, so their own fields will stand side by side.")
        return
    st.markdown(f"**{plain(topic.title)}** has been compared with")
    with st.container(gap="xxsmall"):
        for other, asked in others.items():
            label = plain(label_of(atlas.store.topic(other)))
            st.button(label, key=f"with-{other}", type="tertiary", icon=":material/compare_arrows:", help=asked,
                      on_click=pick, args=(empty, other))  # fmt: skip


def heads(one: Topic, other: Topic) -> None:
    """What each is, side by side."""
    for column, topic in zip(st.columns(2, gap="large"), (one, other), strict=True):
        with column.container(border=True, height="stretch"):
            st.caption(plain(place_of(topic)))
            st.markdown(f"##### {plain(topic.title)}")
            st.markdown(prose(topic.summary) or ":gray[The text of this topic is not written yet.]")
            st.page_link(
                "views/topic.py", label="Open", icon=":material/menu_book:", query_params=query("topic", topic.id)
            )


def aspects(atlas: Service, one: Topic, other: Topic) -> None:
    """The authored comparison, or else what the topics' own fields say."""
    with st.container(border=True, key="aspects"):
        comparison = comparison_between(atlas.store, one.id, other.id)
        if comparison is not None:
            comparison_table(atlas, comparison)
            works = [f"[{plain(wire.cite(work))}]({work.link})" for work in atlas.references(comparison.refs)]
            if works:
                st.markdown(f":small[{'; '.join(works)}]")
            return
        st.caption("Nobody has compared these two yet. This is what their own fields say.")
        found = atlas.side_by_side(one.id, other.id)
        alike = one.title == other.title
        aspect_table(found, [label_of(side) if alike else side.title for side in (one, other)])


def needs(atlas: Service, one: Topic, other: Topic) -> None:
    """What the way to each has in common, and what it has alone."""
    ways = [{step.topic.id: step for step in atlas.path([topic.id]).steps} for topic in (one, other)]
    mine, theirs = ways
    both = [step for topic_id, step in mine.items() if topic_id in theirs]
    only_mine = [step for topic_id, step in mine.items() if topic_id not in theirs and topic_id != one.id]
    only_theirs = [step for topic_id, step in theirs.items() if topic_id not in mine and topic_id != other.id]
    st.subheader("What they need")
    for first, second, way in ((one, other, theirs), (other, one, mine)):
        if first.id in way:
            st.markdown(f"**{plain(first.title)}** comes first: the way to {plain(second.title)} leads through it.")
    headings = ["Both", f"Only {plain(one.title)}", f"Only {plain(other.title)}"]
    columns = st.columns(3, gap="large")
    for column, heading, steps in zip(columns, headings, (both, only_mine, only_theirs), strict=True):
        with column:
            minutes = sum(step.minutes for step in steps)
            st.markdown(f"**{heading}** :gray[{len(steps)} · about {minutes} min]")
            listed(steps)


def listed(steps: Sequence[Step]) -> None:
    """Steps in study order, each a link."""
    if not steps:
        st.caption("Nothing.")
    with st.container(gap=None):
        for step in steps[:LONGEST_LIST]:
            title = plain(step.topic.title)
            st.page_link("views/topic.py", label=title, help=plain(place_of(step.topic)),
                         query_params=query("topic", step.topic.id))  # fmt: skip
    if len(steps) > LONGEST_LIST:
        st.caption(f"and {len(steps) - LONGEST_LIST} more")


def page() -> None:
    """The page."""
    atlas = service()
    st.title("Compare")
    chosen = choose()
    match chosen:
        case [one, other] if one.id == other.id:
            st.info("This is one topic twice. Choose another for one of the sides.")
            suggestions(atlas, one)
        case [one, other]:
            heads(one, other)
            aspects(atlas, one, other)
            needs(atlas, one, other)
        case [one]:
            suggestions(atlas, one)
        case _:
            st.info("Choose two topics: what sets them apart, and what each of them needs, will stand side by side.")


guarded(page)
