"""Study path: what to learn for a goal, in order, as a list, as a picture and over days, and as files to take along."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any
from urllib.parse import urlsplit

import streamlit as st

from graph import Link
from service import Service
from study import (
    FittedPath,
    NothingFits,
    StudyDay,
    StudyPath,
    StudyTimes,
    explain_step,
    fit_path,
    path_csv,
    path_deck,
    path_html,
    path_ics,
    path_json,
    path_markdown,
    timetable,
)
from ui.layout import Node
from ui.links import address, asked_for, query
from ui.session import guarded, known, learner, service, toggle_known, topic_labels
from ui.widgets.graphview import graph
from ui.widgets.plain import plain, prose

DEPTHS = ["Essential", "Full"]
VIEWS = ["Steps", "Picture", "Days"]
WEEKDAYS = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
HEIGHT = 760


@dataclass(frozen=True, slots=True)
class Wish:
    """What the visitor asked for."""

    goal: str | None
    thorough: bool
    times: StudyTimes


def choices() -> Wish:
    """The goal, the depth, and the time that there is."""
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
    with st.expander("Days and deadline", icon=":material/calendar_month:"):
        left, middle, right = st.columns([3, 1.2, 1.2], vertical_alignment="top")
        days = left.pills("On", WEEKDAYS, selection_mode="multi", default=WEEKDAYS, key="weekdays") or WEEKDAYS
        start = middle.date_input("From", value="today", key="start")
        end = right.date_input("Finished by", value=None, min_value=start, key="end")
    times = StudyTimes(start or date.today(), minutes, frozenset(map(WEEKDAYS.index, days)), end)
    return Wish(goal, depth == DEPTHS[1], times)


def checklist(atlas: Service, path: StudyPath, days: Sequence[StudyDay], left_out: set[str]) -> None:
    """The steps in order, each with its day, its reason and a mark for what is done."""
    day_of: dict[str, date] = {}
    for day in days:
        for session in day.sessions:
            day_of.setdefault(session.step.topic.id, day.date)
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
            mine = learner().marks.get(topic.id)
            facts = ["no time for it"] if topic.id in left_out else []
            facts += ["known, it seems"] if mine and mine.origin == "inferred" else []
            facts += [f"{day_of[topic.id]:%a %d %b}"] if topic.id in day_of else []
            facts.append(f"{step.minutes} min" if topic.minutes else f"{step.minutes} min, a guess")
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


def layers(path: StudyPath) -> list[Node]:
    """The steps from top to bottom: each as near to the goals as what needs it allows, in study order along its row.

    Paths are longer than wide, so that rows keep the names large enough to read.
    """
    layer: dict[str, int] = {}
    for step in reversed(path.steps):
        layer[step.topic.id] = min((layer[reason.needed_by] - 1 for reason in step.reasons), default=0)
    rows: dict[int, list[str]] = {}
    for step in path.steps:
        rows.setdefault(layer[step.topic.id], []).append(step.topic.id)
    nodes: list[Node] = []
    for step in path.steps:
        row = rows[layer[step.topic.id]]
        x = 230.0 * (row.index(step.topic.id) - (len(row) - 1) / 2)
        y = 62.0 * layer[step.topic.id]
        role = "centre" if step.is_goal else "other" if step.gist else "before"
        nodes.append(Node(step.topic, role, x, y, 20, 15, 0, "right"))
    return sorted(nodes, key=lambda node: node.role != "centre")  # the first is the one that the picture is about


def picture(atlas: Service, path: StudyPath) -> None:
    """The steps as a layered graph; below it why the one that was clicked is on the path."""
    links = [
        Link(step.topic.id, reason.needed_by, "prerequisite") for step in path.steps for reason in step.reasons
    ]  # fmt: skip

    def pick(topic_id: str) -> None:
        st.session_state.path_step = topic_id

    nodes = layers(path)
    graph(nodes, links, "path-graph", HEIGHT, f"The path as {len(nodes)} steps and {len(links)} needs", pick, pick)
    picked = st.session_state.get("path_step")
    if picked not in {step.topic.id for step in path.steps}:
        st.caption("What comes first is on top, the goal at the bottom. Click a step to see why it is needed.")
        return
    chain = explain_step(atlas.store, path, picked)
    if not chain:
        st.markdown(f"**{plain(atlas.store.topic(picked).title)}** is a goal.")
    for link in chain:
        onward = atlas.store.topic(link.reason.needed_by)
        st.markdown(
            f"**{plain(link.step.topic.title)}** → {plain(onward.title)}&ensp;:gray[{prose(link.reason.why)}]"
        )  # fmt: skip


def calendar(days: Sequence[StudyDay]) -> None:
    """What is studied and recalled on each date."""
    with st.container(border=True, key="days"):
        for day in days:
            when, what = st.columns([1.6, 8], vertical_alignment="top")
            when.markdown(f"**{day.date:%a %d %b}**  \n:small[:gray[{day.minutes} min]]")
            lines = [
                f"{session.step.number}. {plain(session.step.topic.title)}"
                f"{', continued' if session.continues else ''}&ensp;:small[:gray[{session.minutes} min]]"
                for session in day.sessions
            ]
            if day.reviews:
                lines.append(f":gray[Recall: {', '.join(plain(step.topic.title) for step in day.reviews)}]")
            what.markdown("  \n".join(lines))


def timeline(days: Sequence[StudyDay]) -> None:
    """The sessions along the minutes that they take."""
    import altair as alt
    import pandas as pd

    rows: list[dict[str, Any]] = []
    begin = 0
    for day in days:
        for session in day.sessions:
            step = session.step
            rows.append(
                {
                    "step": f"{step.number}. {step.topic.title}",
                    "begin": begin,
                    "end": begin + session.minutes,
                    "day": day.date.isoformat(),
                    "goal": step.is_goal,
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
    last = max(day.date for day in days if day.sessions)
    st.altair_chart(chart, width="stretch", alt=f"{len(names)} steps until {last}, {begin} minutes in all")


def fitted_to(path: StudyPath, times: StudyTimes) -> FittedPath | None:
    """The part of the path for which there is time; None where there is not even the time for one step."""
    if times.total is None:
        return FittedPath(path, sum(step.minutes for step in path.steps), ())
    try:
        return fit_path(path, times.total)
    except NothingFits as error:
        st.warning(str(error).removesuffix(": --known"))
        return None


def tell_left_out(fitted: FittedPath) -> None:
    """What the deadline leaves no time for, and what it would cost."""
    count = len(fitted.left_out)
    reached = "" if fitted.reaches else " The goal is not reached; what stays is what leads nearest to it."
    st.warning(f"{fitted.minutes} minutes until the deadline leave no time for {count} steps.{reached}")
    with st.expander(f"Left out: {count} steps"):
        for each in fitted.left_out:
            more = each.minutes_with_needs - each.step.minutes
            needs = f", {each.minutes_with_needs} with what it needs" if more else ""
            st.markdown(f"{plain(each.step.topic.title)}&ensp;:small[:gray[{each.step.minutes} min{needs}]]")


def page() -> None:
    """The page."""
    atlas = service()
    st.title("Study path")
    wish = choices()
    if wish.goal is None:
        st.info("Choose a goal: the path holds what it needs, in an order that never asks for what comes later.")
        return
    st.session_state.topic = wish.goal
    whole = atlas.path([wish.goal], thorough=wish.thorough)
    to_do = atlas.path([wish.goal], known(), wish.thorough)
    done = len(whole.steps) - len(to_do.steps)
    fitted = fitted_to(to_do if to_do.steps else whole, wish.times)
    if fitted is None:
        return
    days = timetable(fitted.path, wish.times)
    left, right = st.columns([2.1, 1], gap="large")
    with left:
        rest = sum(step.minutes for step in to_do.steps)
        st.progress(done / len(whole.steps), f"{done} of {len(whole.steps)} steps done · about {rest} min left")
        if len(whole.steps) == 1 and whole.steps[0].topic.summary:
            st.success("Nothing needs to come first: you can start here.", icon=":material/flag:")
        elif len(whole.steps) == 1:
            st.info("Nobody has recorded yet what this topic needs.", icon=":material/edit_note:")
        if fitted.left_out:
            tell_left_out(fitted)
        view = st.segmented_control(
            "View", VIEWS, default=VIEWS[0], required=True, key="path_view", label_visibility="collapsed"
        )
        if view == VIEWS[0]:
            checklist(atlas, whole, days, {each.step.topic.id for each in fitted.left_out})
        elif view == VIEWS[1]:
            picture(atlas, whole)
        else:
            calendar(days)
    with right:
        with st.container(border=True):
            st.markdown("**Timeline**")
            timeline(days)
        with st.container(border=True, key="take-along"):
            st.markdown("**Take it with you**")
            take_along(atlas, fitted, days, wish.times)


def take_along(atlas: Service, fitted: FittedPath, days: Sequence[StudyDay], times: StudyTimes) -> None:
    """The path as files, each made when it is asked for."""
    path, store = fitted.path, atlas.store
    here = urlsplit(st.context.url or "http://localhost:8501/path")

    def link(topic_id: str) -> str:
        return f"{here.scheme}://{here.netloc}{here.path.removesuffix('/path')}{address('topic', topic_id)}"

    def as_json() -> str:
        return json.dumps(path_json(path), ensure_ascii=False, indent=2)

    files: list[tuple[str, str, str, str, Callable[[], str | bytes]]] = [
        ("Markdown", "md", "text/markdown", "download", lambda: path_markdown(path, store, times.minutes)),
        ("Calendar", "ics", "text/calendar", "event", lambda: path_ics(path, store, days, link=link)),
        ("Print", "html", "text/html", "print", lambda: path_html(path, store, days, fitted.left_out, link)),
        ("Anki", "apkg", "application/octet-stream", "style", lambda: path_deck(path, store, link)),
        ("Table", "csv", "text/csv", "table", lambda: path_csv(path, store, days)),
        ("JSON", "json", "application/json", "data_object", as_json),
    ]
    with st.container(horizontal=True, gap="small"):
        for label, ending, mime, icon, make in files:
            st.download_button(
                label, make, f"study-path.{ending}", mime=mime, on_click="ignore", icon=f":material/{icon}:"
            )  # fmt: skip


guarded(page)
