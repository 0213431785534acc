"""Demos: choose settings, run, watch, and see what the run claims and whether it holds."""

from typing import TYPE_CHECKING, Any, cast

import streamlit as st

from graph import Topic
from service import DemoInfo, Service, user_message
from ui.links import demo_params, query
from ui.session import demo_infos, guarded, service, topic_labels
from ui.widgets.figures import draw_claims, draw_figure, draw_metrics, draw_table, live_curves
from ui.widgets.plain import plain, prose

if TYPE_CHECKING:
    from collections.abc import Mapping

    from demos import DemoRun, Description, Parameter, Preset


def asked(atlas: Service) -> tuple[Topic | None, str | None]:
    """The topic and the demo that the address names; either may be missing."""
    labels = topic_labels()
    topic_id = st.query_params.get("topic", "")
    topic = atlas.store.topic(topic_id) if topic_id in labels else None
    if topic_id and topic is None:
        st.warning(f"There is no topic **{plain(topic_id)}**. Choose a demo from the list.")
    if topic is not None and topic.demo is not None:
        return topic, topic.demo.demo
    return None, st.query_params.get("demo")


def choose(infos: dict[str, DemoInfo], current: str | None) -> DemoInfo | None:
    """The list of demos, those that run first."""
    ordered = sorted(infos, key=lambda demo_id: (not infos[demo_id].ready, infos[demo_id].demo.title))

    def chosen() -> None:
        st.query_params.clear()
        if st.session_state.demo_box:
            st.query_params["demo"] = st.session_state.demo_box

    if st.session_state.get("demo_box") != current:
        st.session_state.demo_box = current
    picked = st.selectbox(
        "Demo",
        ordered,
        index=None,
        format_func=lambda demo_id: infos[demo_id].demo.title + ("" if infos[demo_id].ready else " (coming)"),
        key="demo_box",
        on_change=chosen,
        placeholder="Choose a demo",
        label_visibility="collapsed",
    )
    return infos[picked] if picked else None


def _open(demo_id: str) -> None:
    st.query_params.clear()
    st.query_params["demo"] = demo_id


def form(description: "Description", given: dict[str, Any]) -> dict[str, object] | None:
    """The settings; they are returned when Run was pressed."""
    key = description.demo_id
    with st.container(horizontal=True, gap="xsmall", key="presets"):
        for name, preset in description.presets.items():
            st.button(
                _worded(name),
                key=f"preset-{key}-{name}",
                help=prose(preset.shows),
                icon=":material/tune:",
                on_click=_apply,
                args=(key, description.defaults | dict(preset.values)),
            )
    with st.form(f"form-{key}"):
        chosen = {parameter.name: _widget(key, parameter, given) for parameter in description.parameters}
        # The dark theme's light accent would carry white letters; there the plain button reads better.
        look = "secondary" if st.context.theme.type == "dark" else "primary"
        if st.form_submit_button("Run", type=look, icon=":material/play_arrow:", width="stretch"):
            return chosen
    return None


def _worded(name: str) -> str:
    """A setting's or a preset's name as a label: words in sentence case, a letter of a formula (d_k) as it is."""
    words = name.replace("-", " ").replace("_", " ")
    return words[0].upper() + words[1:] if len(words.split()[0]) > 1 else plain(name)


def _apply(demo_id: str, values: dict[str, Any]) -> None:
    for name, value in values.items():
        st.session_state[f"param-{demo_id}-{name}"] = value


def _widget(demo_id: str, parameter: "Parameter", given: dict[str, Any]) -> object:
    """One setting as the widget of its kind, at the topic's value where the topic sets one."""
    key = f"param-{demo_id}-{parameter.name}"
    if key not in st.session_state:
        st.session_state[key] = _fitting(parameter, given.get(parameter.name, parameter.default))
    label, text = _worded(parameter.name), prose(parameter.description)
    if parameter.choices:
        return st.selectbox(label, parameter.choices, key=key, help=text)
    if parameter.kind == "bool":
        return st.toggle(label, key=key, help=text)
    if parameter.kind == "int":
        return st.number_input(
            label,
            min_value=None if parameter.minimum is None else int(parameter.minimum),
            max_value=None if parameter.maximum is None else int(parameter.maximum),
            step=1,
            key=key,
            help=text,
        )
    if parameter.kind == "float":
        return st.number_input(
            label, min_value=parameter.minimum, max_value=parameter.maximum, key=key, help=text, format="%g"
        )
    return st.text_input(label, key=key, help=text)


def _fitting(parameter: "Parameter", value: Any) -> Any:
    """A value from an address or a topic as its widget takes it; one that does not fit gives way to the default."""
    try:
        if parameter.choices:
            return value if value in parameter.choices else parameter.default
        if parameter.kind == "bool":
            return value if isinstance(value, bool) else str(value).lower() in ("1", "true", "yes")
        number = int(value) if parameter.kind == "int" else float(value) if parameter.kind == "float" else None
    except (TypeError, ValueError):
        return parameter.default
    if number is None:
        return str(value)
    low = parameter.minimum if parameter.minimum is not None else number
    high = parameter.maximum if parameter.maximum is not None else number
    return number if low <= number <= high else parameter.default


@st.fragment(run_every=0.5)
def watch() -> None:
    """The run under way: progress, Stop and live curves. Its end redraws the page once."""
    run = cast("DemoRun", st.session_state.demo_run)
    seen = run.progress()
    st.progress(min(1.0, seen.fraction), f"{seen.message} · {seen.seconds:.0f} s")
    if run.done:
        st.rerun()
    st.button("Stop", icon=":material/stop:", on_click=run.cancel)
    live_curves(dict(seen.live))


def outcome(run: "DemoRun") -> None:
    """What a finished run found."""
    try:
        found = run.result()
    except Exception as error:
        message = user_message(error)
        if message is None:
            raise
        st.error(message, icon=":material/error:")
        details = getattr(error, "details", "")
        if details:
            with st.expander("What the demo said last"):
                st.code(details, language=None)
        return
    kept = " · kept from an equal run" if found.cached else ""
    st.caption(f"{found.cpu_seconds:.1f} CPU seconds, {found.peak_bytes / 2**20:,.0f} MiB{kept}")
    st.subheader("What it claims")
    draw_claims(tuple(found.result.claims))
    draw_metrics(tuple(found.result.metrics))
    for figure in found.result.figures:
        draw_figure(figure)
    for table in found.result.tables:
        draw_table(table)


def run_side(atlas: Service, info: DemoInfo, presets: "Mapping[str, Preset]", chosen: dict[str, object] | None) -> None:
    """Start what was asked for, and show the run of this demo that is under way or done."""
    if chosen is not None:
        previous = cast("DemoRun | None", st.session_state.get("demo_run"))
        if previous is not None and not previous.done:
            previous.cancel()
        try:
            st.session_state.demo_run = atlas.start_demo(info.demo.id, chosen)
        except Exception as error:
            message = user_message(error)
            if message is None:
                raise
            st.error(message, icon=":material/error:")
            return
    run = cast("DemoRun | None", st.session_state.get("demo_run"))
    if run is None or run.spec.id != info.demo.id:
        st.info("Choose the settings and press Run. A run takes some seconds, on one core, in a process of its own.")
        st.markdown(f"**Watch.** {prose(info.spec.watch if info.spec else '')}")
        for name, preset in presets.items():
            st.markdown(f"**{_worded(name)}.** {prose(preset.shows)}")
        return
    if run.done:
        outcome(run)
    else:
        watch()


def page() -> None:
    """The page."""
    atlas = service()
    topic, demo_id = asked(atlas)
    infos = demo_infos()
    if demo_id is not None and demo_id not in infos:
        st.warning(f"There is no demo **{plain(demo_id)}**. Choose one from the list.")
        demo_id = None
    info = choose(infos, demo_id)
    if info is None:
        st.title("Demos")
        ready = [each for each in infos.values() if each.ready]
        st.markdown(f"{len(ready)} demos can be run, {len(infos) - len(ready)} are coming.")
        columns = st.columns(2)
        for place, each in enumerate(ready):
            with columns[place % 2].container(border=True):
                st.button(
                    plain(each.demo.title),
                    key=f"open-{each.demo.id}",
                    type="tertiary",
                    icon=":material/play_circle:",
                    on_click=_open,
                    args=(each.demo.id,),
                )
                st.caption(prose(each.demo.question))
        return
    st.title(plain(info.demo.title))
    st.markdown(prose(info.demo.question))
    if topic is not None and topic.demo is not None:
        st.info(f"**{plain(topic.title)}** — look at this: {prose(topic.demo.look_at)}", icon=":material/visibility:")
        st.page_link(
            "views/topic.py",
            label="Back to the topic",
            icon=":material/menu_book:",
            query_params=query("topic", topic.id),
        )
    if info.spec is None:
        st.info("This demo is planned and not built yet.", icon=":material/construction:")
        return
    st.caption(prose(info.spec.source))
    left, right = st.columns([1, 2.2], gap="large")
    with left:
        with st.spinner("Reading the demo's settings"):
            description = atlas.describe_demo(info.demo.id)
        given: dict[str, Any] = dict(topic.demo.params) if topic is not None and topic.demo is not None else {}
        chosen = form(description, given | demo_params(st.query_params.to_dict()))
    with right:
        run_side(atlas, info, description.presets, chosen)
    with st.expander("The code", icon=":material/code:"):
        st.code(info.spec.code, language="python")


guarded(page)
