"""Topic: everything that was written about one topic, what it is linked with, and where to go next."""

import streamlit as st

from graph import Topic, nearest_ids
from search import QueryRefused
from service import Service, wire
from study.learner import Status
from ui.links import asked_for, query
from ui.session import guarded, is_ready, keep, learner, mark, profile, service, topic_labels
from ui.widgets.plain import plain, prose
from ui.widgets.topic_card import badges, comparison_table, relations

STATUS_OF: dict[str, Status] = {"Planned": "planned", "Learning": "learning", "Known": "known"}


def go(topic_id: str) -> None:
    """Turn the page to another topic."""
    st.query_params["id"] = topic_id
    st.session_state.topic = topic_id


def unknown(atlas: Service, asked: str) -> None:
    """The page for an address that names no topic."""
    st.subheader("No topic with this address")
    st.markdown(f"There is no **{plain(asked)}** in this atlas.")
    labels = topic_labels()
    near = list(dict.fromkeys([*nearest_ids(asked, labels, 5), *_found(atlas, asked)]))[:5]
    if near:
        st.markdown("Did you mean")
    for topic_id in near:
        st.button(plain(labels[topic_id]), key=f"near-{topic_id}", type="tertiary", on_click=go, args=(topic_id,))
    st.page_link("views/explore.py", label="Explore the atlas", icon=":material/hub:")


def _found(atlas: Service, asked: str) -> list[str]:
    """The topics that the last part of an address finds as words."""
    try:
        return [hit.topic.id for hit in atlas.search(asked.rsplit("/", 1)[-1].replace("-", " "), k=5).hits]
    except QueryRefused:
        return []


def breadcrumb(atlas: Service, topic: Topic) -> None:
    """The line above the topic, each step a way up."""
    with st.container(horizontal=True, gap="xsmall", key="breadcrumb"):
        for step in atlas.store.ancestors(topic.id):
            st.button(f"{plain(step.title)} ›", key=f"up-{step.id}", type="tertiary", on_click=go, args=(step.id,))


def text(topic: Topic) -> None:
    """What was written."""
    if not topic.summary:
        st.info(
            "The text of this topic is not written yet. Its place, its links and its demo are here.",
            icon=":material/edit_note:",
        )
    else:
        st.markdown(prose(topic.summary))
    if topic.formula:
        with st.container(border=True, key="formula"):
            st.latex(topic.formula)
    if topic.detail:
        st.markdown(topic.detail)
    if topic.outcomes:
        st.markdown("**Afterwards you can**\n\n" + "\n".join(f"- {prose(outcome)}" for outcome in topic.outcomes))
    if topic.misconception:
        st.warning(f"**Often got wrong.** {prose(topic.misconception)}", icon=":material/lightbulb:")
    if topic.aliases:
        st.caption(f"Also called: {plain(', '.join(topic.aliases))}")
    if topic.as_of:
        st.caption(f"Facts as of {topic.as_of}.")


def references(atlas: Service, topic: Topic) -> None:
    """The works behind the text."""
    if topic.refs:
        st.markdown("**References**")
        for work in atlas.references(topic.refs):
            st.markdown(f"- [{plain(wire.cite(work))}]({work.link})")


def next_steps(topic: Topic) -> None:
    """What one can do with the topic."""
    with st.container(border=True, key="next-steps"):
        st.markdown("**Next steps**")
        if topic.demo:
            st.page_link(
                "views/demo.py",
                label="Run the demo" if is_ready(topic.demo.demo) else "The demo (coming)",
                icon=":material/play_circle:",
                query_params=query("demo", topic.id),
            )
            st.caption(prose(topic.demo.look_at))
        st.page_link(
            "views/path.py", label="Build a study path", icon=":material/route:", query_params=query("path", topic.id)
        )
        st.page_link(
            "views/explore.py", label="Show in the graph", icon=":material/hub:", query_params={"topic": topic.id}
        )


def standing(topic: Topic) -> None:
    """How the learner stands to the topic: a mark, the reviews, and a note."""
    me = learner()
    status, text = f"status-{topic.id}", f"note-{topic.id}"

    def marked() -> None:
        mark(topic.id, STATUS_OF.get(st.session_state[status]))

    def noted() -> None:
        keep(lambda: service().learners.note(profile(), topic.id, st.session_state[text]))

    def enrolled() -> None:
        keep(lambda: service().learners.enrol(profile(), [topic.id]))

    with st.container(border=True, key="standing"):
        mine = me.marks.get(topic.id)
        st.segmented_control(
            "You and this topic",
            list(STATUS_OF),
            default=next((label for label, each in STATUS_OF.items() if mine and each == mine.status), None),
            key=status,
            on_change=marked,
            help="Study paths leave out what you know, with all that it needs.",
        )
        memory = me.memories.get(topic.id)
        if memory is not None:
            st.caption(f"In review, due on {memory.due:%d %b %Y}")
        elif mine is not None and mine.status != "planned":
            st.button("Review it from time to time", icon=":material/event_repeat:", on_click=enrolled)
        st.text_area("Your note", me.notes.get(topic.id, ""), key=text, on_change=noted, height=80, max_chars=10_000)


def resting(atlas: Service, topic: Topic) -> None:
    """How much of each section rests on the topic in the end."""
    found = atlas.unlocks(topic.id)
    if not found.supports:
        return
    with st.container(border=True, key="resting"):
        count = len(found.supports)
        st.markdown(f"**{count} topic{'s rest' if count > 1 else ' rests'} on it in the end**")
        lines = [f"{plain(atlas.store.topic(each).title)} :gray[{number}]" for each, number in found.by_section.items()]
        st.markdown("  \n".join(f":small[{line}]" for line in lines))


def page() -> None:
    """The page."""
    atlas = service()
    labels = topic_labels()
    asked = asked_for("topic", st.query_params) or st.session_state.get("topic") or next(iter(labels))
    if asked not in labels:
        unknown(atlas, asked)
        return
    topic = atlas.store.topic(asked)
    st.session_state.topic = topic.id
    left, right = st.columns([2, 1], gap="large")
    with left:
        breadcrumb(atlas, topic)
        st.title(plain(topic.title))
        badges(atlas, topic)
        text(topic)
        for comparison in atlas.store.comparisons(topic.id):
            with st.container(border=True):
                comparison_table(atlas, comparison)
        references(atlas, topic)
    with right:
        next_steps(topic)
        standing(topic)
        with st.container(border=True, key="relations"):
            relations(atlas, topic, "page", go, most=12)
        resting(atlas, topic)


guarded(page)
