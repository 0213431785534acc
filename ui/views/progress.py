"""Progress: what is due for review, what can be started, what the learner knows and plans, and the learner's data."""

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import streamlit as st

from graph import AtlasError
from service import Service
from study.learner import Learner
from ui.links import query
from ui.session import guarded, keep, known, learner, mark, profile, service, topic_labels
from ui.widgets.plain import cell, plain, prose, quoted, table

if TYPE_CHECKING:
    from study.cards import Card

AHEAD_DAYS = 14
READY = 6
LONGEST_LIST = 60
RATINGS = {"again": "Not at all", "hard": "With effort", "good": "Yes", "easy": "At once"}


def who(atlas: Service) -> None:
    """Whose progress this is: another profile, or a new one."""
    names = sorted({profile(), atlas.learners.default, *(each.name for each in atlas.learners.profiles())})

    def chosen() -> None:
        st.session_state.profile = st.session_state.whose

    def begun() -> None:
        name = st.session_state.new_profile.strip()
        if keep(lambda: atlas.learners.create(name)):
            st.session_state.profile = st.session_state.whose = name

    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.selectbox("Learner", names, index=names.index(profile()), key="whose", on_change=chosen)
        with st.popover("New", icon=":material/person_add:"):
            st.text_input("Name of the new profile", key="new_profile", max_chars=64)
            st.button("Begin", on_click=begun)


def review(atlas: Service, me: Learner) -> None:
    """The next question: think, look at the answer, and say how it went."""
    with st.container(border=True, key="review"):
        st.markdown("**Review**")
        if told := st.session_state.pop("reviewed", ""):
            st.info(told, icon=":material/lightbulb:")
        card = atlas.learners.next_card(me)
        if card is None:
            nothing_due(atlas, me)
            return
        left = len(atlas.learners.due(me))
        place = " › ".join(card.topic.title_path)
        st.caption(f"{plain(place)} · {left} due")
        st.markdown(f"##### {prose(card.question)}")
        if st.session_state.get("shown") != (card.topic.id, card.question):
            st.button("Show the answer", type="primary", on_click=show, args=(card,))
            return
        answer(card)
        st.caption("Did you have it?")
        with st.container(horizontal=True, gap="small"):
            for rating, label in RATINGS.items():
                st.button(label, key=f"rate-{rating}", on_click=rated, args=(atlas, card.topic.id, rating))


def show(card: "Card") -> None:
    """Turn the card over."""
    st.session_state.shown = (card.topic.id, card.question)


def rated(atlas: Service, topic_id: str, name: str) -> None:
    """Keep how it went, and what to look at when it went wrong."""
    from study.memory import Rating

    rating = Rating[name]
    st.session_state.shown = None
    if not keep(lambda: atlas.learners.review(profile(), topic_id, rating)) or rating.recalled:
        return
    weak = atlas.learners.weakest(learner(), topic_id)
    if weak is not None:
        title, below = atlas.store.topic(topic_id).title, atlas.store.topic(weak.topic).title
        st.session_state.reviewed = (
            f"{plain(title)} rests on **{plain(below)}**, which you remember with {weak.recall:.0%}: look there first."
        )


def answer(card: "Card") -> None:
    """The back of the card."""
    st.markdown(quoted(card.answer, card.topic.detail))
    if card.formula:
        st.latex(card.formula)
    if card.aspects:
        rows = [[cell(aspect.name), *map(cell, aspect.values)] for aspect in card.aspects]
        st.markdown(table(["", *(plain(side.title) for side in card.sides)], rows))
    st.page_link(
        "views/topic.py",
        label="Read the topic",
        icon=":material/menu_book:",
        query_params=query("topic", card.topic.id),
    )


def nothing_due(atlas: Service, me: Learner) -> None:
    """What there is to do while nothing is due."""
    ahead = min((memory.due for memory in me.memories.values()), default=None)
    if ahead is None:
        st.markdown("Mark topics as known or learning, and take them into the reviews: each comes back shortly before "
                    "it would be forgotten, and recalling one counts for what it rests on.")  # fmt: skip
    else:
        st.markdown(f"Nothing is due. The next review comes on {ahead:%d %b %Y}.")
    to_enrol = [topic_id for topic_id in known() if topic_id not in me.memories]

    def enrolled() -> None:
        keep(lambda: atlas.learners.enrol(profile(), to_enrol))

    if to_enrol:
        st.button(
            f"Review what I know ({len(to_enrol)})",
            icon=":material/event_repeat:",
            on_click=enrolled,
        )


def ready(atlas: Service) -> None:
    """What can be started now, first that on which most other topics rest."""
    found = atlas.ready(known())
    with st.container(border=True, key="ready"):
        st.markdown(f"**Ready to start** :gray[{len(found)}]", help="Everything that these need is known to you.")
        with st.container(gap=None):
            for each in found[:READY]:
                supports = f"&ensp;:small[:gray[{each.supports:,} rest on it]]" if each.supports else ""
                st.page_link(
                    "views/topic.py",
                    label=plain(each.topic.title) + supports,
                    help=plain(topic_labels()[each.topic.id]),
                    query_params=query("topic", each.topic.id),
                )
        if not found:
            st.caption("You know everything that can be known here.")


def coming(atlas: Service, me: Learner) -> None:
    """How many reviews each of the next days brings."""
    import altair as alt
    import pandas as pd

    counts = atlas.learners.due_by_day(me, AHEAD_DAYS)
    today = datetime.now(UTC).date()
    days: list[date] = [today + timedelta(days=day) for day in range(AHEAD_DAYS)]
    with st.container(border=True, key="coming"):
        st.markdown("**The next two weeks**")
        chart = (
            alt.Chart(pd.DataFrame({"day": [f"{day:%d %b}" for day in days], "reviews": counts}))
            .mark_bar(cornerRadius=3, color="#6366f1")
            .encode(
                x=alt.X("day:N", sort=None, title=None, axis=alt.Axis(labelAngle=-45)),
                y=alt.Y("reviews:Q", title="reviews", axis=alt.Axis(tickMinStep=1, format="d")),
                tooltip=["day", "reviews"],
            )
            .properties(height=180)
        )
        st.altair_chart(chart, width="stretch", alt=f"{sum(counts)} reviews in {AHEAD_DAYS} days, {counts[0]} today")


def by_section(atlas: Service) -> None:
    """The known share of each section."""
    topics = atlas.store.topics()
    sizes = Counter(topic.section for topic in topics if topic.origin == "outline")
    have = Counter(atlas.store.topic(topic_id).section for topic_id in known())
    with st.container(border=True, key="sections"):
        st.markdown("**Known, by section**")
        for section, size in sizes.items():
            title = atlas.store.topic(section).title
            st.progress(min(1.0, have[section] / size), f":small[{plain(title)} · {have[section]} of {size}]")


def lists(me: Learner) -> None:
    """What the learner knows, learns, plans and has noted."""
    told = [topic_id for topic_id in me.having("known") if me.marks[topic_id].origin == "told"]
    inferred = [topic_id for topic_id in me.having("known") if me.marks[topic_id].origin == "inferred"]
    entries = {
        "Learning": me.having("learning"),
        "Planned": me.having("planned"),
        "Known": told,
        "Known, it seems": inferred,
        "Notes": sorted(me.notes),
    }
    tabs = st.tabs([f"{label} ({len(ids)})" for label, ids in entries.items()])
    for tab, (label, ids) in zip(tabs, entries.items(), strict=True):
        with tab:
            for topic_id in ids[:LONGEST_LIST]:
                entry(me, label, topic_id)
            if len(ids) > LONGEST_LIST:
                st.caption(f"and {len(ids) - LONGEST_LIST} more")
            if not ids and label != "Known, it seems":
                st.caption("Nothing yet. A topic's page has the switch.")
            elif not ids:
                st.caption("Nothing yet. A placement infers it from a few answers.")


def entry(me: Learner, label: str, topic_id: str) -> None:
    """One topic in a list."""
    there = topic_id in topic_labels()
    name, off = st.columns([6, 1.4], vertical_alignment="center")
    with name:
        if there:
            st.page_link("views/topic.py", label=plain(topic_labels()[topic_id]), query_params=query("topic", topic_id))
        else:
            st.markdown(f"{plain(topic_id)} :gray[no longer in the atlas]")
        if label == "Notes":
            st.caption(plain(me.notes[topic_id]))
        elif (chance := me.marks[topic_id].probability) is not None:
            st.caption(f"{min(0.99, chance):.0%} sure, from a placement")
    if label != "Notes":
        off.button(
            "Remove",
            key=f"off-{label}-{topic_id}",
            icon=":material/close:",
            type="tertiary",
            help="Take the mark off",
            on_click=mark,
            args=(topic_id, None),
        )


def own_data(atlas: Service, me: Learner) -> None:
    """Take one's data along, bring it back, or delete it."""
    with st.expander("Your data", icon=":material/database:"):
        if any(each.name == me.name for each in atlas.learners.profiles()):
            st.download_button(
                "Download all of it (JSON)",
                lambda: atlas.learners.exported(me.name),
                f"genatlas-{me.name}.json",
                mime="application/json",
                on_click="ignore",
                icon=":material/download:",
            )
            with st.popover("Delete this profile", icon=":material/delete:"):
                st.markdown(f"Deletes **{plain(me.name)}** with all marks, notes, reviews and history.")
                st.button("Delete for good", type="primary", on_click=deleted, args=(atlas, me.name))
        st.file_uploader("Bring back a downloaded profile", type="json", max_upload_size=20, key="bring")
        st.text_input("Under the name", placeholder="the one in the file", key="bring_as")
        st.button("Bring it back", disabled=st.session_state.get("bring") is None, on_click=brought_back, args=(atlas,))


def brought_back(atlas: Service) -> None:
    """Add a profile from a file, and turn to it."""
    data, name = st.session_state.bring.getvalue(), st.session_state.bring_as.strip() or None
    if keep(lambda: atlas.learners.restore(data, name)):
        st.session_state.profile = st.session_state.whose = learner().name


def deleted(atlas: Service, name: str) -> None:
    """Delete a profile, and go back to the settings' own."""
    try:
        atlas.learners.delete(name)
    except AtlasError as error:
        st.session_state.refused = str(error)
    st.session_state.profile = st.session_state.whose = atlas.learners.default


def page() -> None:
    """The page."""
    atlas, me = service(), learner()
    title, whose = st.columns([2.6, 1], vertical_alignment="bottom")
    title.title("Progress")
    with whose:
        who(atlas)
    numbers = {
        "Known": f"{len(known())} of {len(topic_labels())}",
        "Learning": len(me.having("learning")),
        "Planned": len(me.having("planned")),
        "In review": len(me.memories),
        "Due now": len(atlas.learners.due(me)),
    }
    for column, (label, number) in zip(st.columns(len(numbers)), numbers.items(), strict=True):
        column.metric(label, number)
    left, right = st.columns([1.6, 1], gap="large")
    with left:
        review(atlas, me)
        lists(me)
        own_data(atlas, me)
    with right:
        with st.container(border=True, key="placement"):
            st.page_link("views/place.py", label="Find out what you know", icon=":material/quiz:")
            st.caption("At most twelve questions about a section; the rest is inferred.")
        ready(atlas)
        if me.memories:
            coming(atlas, me)
        by_section(atlas)


guarded(page)
