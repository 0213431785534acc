"""Study path: what to learn for a goal, in order, as a checklist over days, and as files to take along."""

import json
from datetime import date
from typing import Any

import streamlit as st

from service import Service
from study import Session, StudyPath, path_ics, path_json, path_markdown, schedule
from ui.links import asked_for, query
from ui.session import guarded, known, service, toggle_known, topic_labels
from ui.widgets.plain import plain, prose

DEPTHS = ["Essential", "Full"]


def choices() -> tuple[str | None, int, bool]:
    """The goal, the minutes a day, and whether the path is to be thorough."""
    labels = topic_labels()
    asked = asked_for("path", st.query_params)
    if asked is not None and asked not in labels:
        st.warning(f"There is no topic **{plain(asked)}**. Choose the goal from the list.")
    options = list(labels)

    def chosen() -> None:
        if st.session_state.goal_box:
            st.query_params["goal"] = st.session_state.goal_box

    left, middle, right = st.columns([3, 1.2, 1.2], vertical_alignment="top")
    goal = left.selectbox(
        "Goal",
        options,
        index=options.index(asked) if asked in labels else None,
        format_func=labels.__getitem__,
        placeholder="What do you want to understand?",
        key="goal_box",
        on_change=chosen,
    )
    minutes = middle.slider("Minutes a day", 10, 240, 45, 5, key="minutes")
    depth = right.segmented_control("Depth", DEPTHS, default=DEPTHS[0], required=True, key="depth")
    return goal, minutes, depth == DEPTHS[1]


def checklist(atlas: Service, path: StudyPath, sessions: tuple[Session, ...]) -> None:
    """The steps in order, each with its day, its reason and a mark for what is done."""
    day_of: dict[int, int] = {}
    for session in sessions:
        day_of.setdefault(session.step.number, session.day)
    number_of = {step.topic.id: step.number for step in path.steps}
    with st.container(border=True, key="steps"):
        for step in path.steps:
            mark, words, way = st.columns([0.5, 8, 1.3], vertical_alignment="center")
            topic = step.topic
            mark.checkbox(
                f"I know {plain(topic.title)}",
                key=f"done-{topic.id}",
                value=topic.id in known(),
                label_visibility="collapsed",
                on_change=toggle_known,
                args=(topic.id,),
            )
            facts = [f"day {day_of[step.number]}", f"{topic.minutes} min" if topic.minutes else "10 min, a guess"]
            facts += [f"needed by step {number_of[step.reasons[0].needed_by]}"] if step.reasons else []
            facts += ["**the goal**"] if step.is_goal else ["the gist is enough"] if step.gist else []
            words.markdown(
                f"**{step.number}.** {plain(topic.title)}&ensp;:small[:gray[{' · '.join(facts)}]]",
                help="\n\n".join(
                    f"**For {plain(titles)}:** {prose(why)}" for titles, why in step.told_once(atlas.store)
                )
                or None,
            )
            with way:
                st.page_link(
                    "views/topic.py", label="Open", icon=":material/menu_book:", query_params=query("topic", topic.id)
                )


def timeline(sessions: tuple[Session, ...]) -> None:
    """The sessions along the minutes that they take."""
    import altair as alt
    import pandas as pd

    rows: list[dict[str, Any]] = []
    begin = 0
    for session in sessions:
        title = f"{session.step.number}. {session.step.topic.title}"
        rows.append(
            {
                "step": title,
                "begin": begin,
                "end": begin + session.minutes,
                "day": session.day,
                "goal": session.step.is_goal,
            }
        )
        begin += session.minutes
    names = list(dict.fromkeys(row["step"] for row in rows))
    chart = (
        alt.Chart(pd.DataFrame(rows))
        .mark_bar(cornerRadius=3, height=12)
        .encode(
            x=alt.X("begin:Q", title="minutes"),
            x2="end:Q",
            y=alt.Y("step:N", sort=names, title=None, axis=alt.Axis(labelLimit=170, labelOverlap=False)),
            color=alt.Color("goal:N", legend=None, scale=alt.Scale(domain=[False, True], range=["#6366f1", "#be185d"])),
            tooltip=["step", "day", "begin", "end"],
        )
        .properties(height=max(120, 24 * len(names)))
    )
    last = sessions[-1]
    st.altair_chart(chart, width="stretch", alt=f"{len(names)} steps over {last.day} days, {begin} minutes in all")


def page() -> None:
    """The page."""
    atlas = service()
    st.title("Study path")
    goal, minutes, thorough = choices()
    if goal is None:
        st.info("Choose a goal: the path holds what it needs, in an order that never asks for what comes later.")
        return
    st.session_state.topic = goal
    whole = atlas.path([goal], thorough=thorough)
    left_over = atlas.path([goal], known(), thorough)
    done = len(whole.steps) - len(left_over.steps)
    rest = sum(step.topic.minutes or 10 for step in left_over.steps)
    left, right = st.columns([2.1, 1], gap="large")
    sessions = schedule(whole, minutes)
    with left:
        st.progress(done / len(whole.steps), f"{done} of {len(whole.steps)} steps done · about {rest} min left")
        if len(whole.steps) == 1 and whole.steps[0].topic.summary:
            st.success("Nothing needs to come first: you can start here.", icon=":material/flag:")
        elif len(whole.steps) == 1:
            st.info("Nobody has recorded yet what this topic needs.", icon=":material/edit_note:")
        checklist(atlas, whole, sessions)
    with right:
        with st.container(border=True):
            st.markdown("**Timeline**")
            timeline(sessions)
        with st.container(border=True, key="take-along"):
            st.markdown("**Take it with you**")
            take_along(atlas, left_over if left_over.steps else whole, minutes)


def take_along(atlas: Service, path: StudyPath, minutes: int) -> None:
    """The path as files."""
    with st.container(horizontal=True, gap="small"):
        st.download_button(
            "Markdown",
            path_markdown(path, atlas.store, minutes),
            "study-path.md",
            on_click="ignore",
            icon=":material/download:",
        )
        st.download_button(
            "Calendar",
            path_ics(path, atlas.store, date.today(), minutes),
            "study-path.ics",
            mime="text/calendar",
            on_click="ignore",
            icon=":material/event:",
        )
        st.download_button(
            "JSON",
            json.dumps(path_json(path), ensure_ascii=False, indent=2),
            "study-path.json",
            mime="application/json",
            on_click="ignore",
            icon=":material/data_object:",
        )


guarded(page)
