"""Explore: the neighbourhood of a topic, a section as a tree, or the whole outline as a map; beside it the topic."""

from typing import cast

import streamlit as st

from graph import EdgeKind, Link, Topic
from service import Service
from ui.layout import Node, Rectangle, neighbourhood_nodes, section_nodes, treemap
from ui.links import query
from ui.session import guarded, is_ready, service, topic_labels
from ui.widgets.graphview import graph
from ui.widgets.plain import plain, prose
from ui.widgets.topic_card import badges, place_of, relations
from ui.widgets.treemap import section_colour, topic_map

VIEWS = ["Neighbourhood", "Section", "Whole map"]
KINDS: dict[str, list[EdgeKind]] = {
    "Prerequisites": ["prerequisite"],
    "Hierarchy": ["hierarchy"],
    "Comparisons": ["comparison", "concept"],
}
REACH = ["1 step", "2 steps"]
HEIGHT = 640
START = "variational-autoencoders"


def focus(topic_id: str) -> None:
    """Make a topic the one that the page is about, in the state and in the address."""
    st.session_state.topic = topic_id
    st.session_state.written = topic_id
    st.query_params["topic"] = topic_id


def focused(atlas: Service) -> Topic:
    """The topic that the page is about; an address that this page did not write itself wins."""
    asked = st.query_params.get("topic")
    known = topic_labels()
    if asked in known and asked != st.session_state.get("written"):
        st.session_state.topic = st.session_state.written = asked
    chosen = st.session_state.get("topic")
    if chosen not in known:
        chosen = START if START in known else next(iter(known))
    st.session_state.topic = chosen
    return atlas.store.topic(chosen)


def search_box() -> None:
    """The box that finds a topic by letters of its title, in the browser."""
    labels = topic_labels()

    def chosen() -> None:
        if st.session_state.find:
            focus(st.session_state.find)
            st.session_state.find = None

    st.selectbox(
        "Find a topic",
        list(labels),
        index=None,
        format_func=labels.__getitem__,
        key="find",
        on_change=chosen,
        placeholder=f"Find one of {len(labels):,} topics: type a few letters, such as “mode coll”",
        label_visibility="collapsed",
    )


def toolbar() -> tuple[str, list[EdgeKind], int]:
    """View, kinds of link and reach; the last two only where they do something."""
    with st.container(horizontal=True, key="toolbar"):
        view = st.segmented_control(
            "View",
            VIEWS,
            default=VIEWS[0],
            required=True,
            key="view",
            label_visibility="collapsed",
            bind="query-params",
        )
        kinds, reach = list(KINDS), REACH[0]
        if view == VIEWS[0]:
            kinds = st.pills(
                "Links",
                list(KINDS),
                selection_mode="multi",
                default=list(KINDS),
                key="links",
                label_visibility="collapsed",
                bind="query-params",
            )
            reach = st.segmented_control(
                "Reach",
                REACH,
                default=REACH[0],
                required=True,
                key="reach",
                label_visibility="collapsed",
                bind="query-params",
            )
    chosen: list[EdgeKind] = [kind for name in kinds for kind in KINDS[name]]
    return view or VIEWS[0], chosen, REACH.index(reach or REACH[0]) + 1


def open_topic(topic_id: str) -> None:
    """Ask for the topic's page; the switch itself has to wait for the end of the callback."""
    focus(topic_id)
    st.session_state.open_topic = topic_id


@st.cache_data(show_spinner=False, max_entries=512)
def neighbourhood_picture(topic_id: str, kinds: tuple[EdgeKind, ...], steps: int) -> tuple[list[Node], list[Link], int]:
    """Positions and links of a neighbourhood, and how many topics were left out."""
    picture = service().neighbourhood(topic_id, kinds, steps)
    return neighbourhood_nodes(picture), list(picture.links), picture.omitted


@st.cache_data(show_spinner=False, max_entries=32)
def section_picture(section: str) -> tuple[list[Node], list[Link]]:
    """Positions and links of a section."""
    nodes = section_nodes(service().store, section)
    shown = {node.topic.id for node in nodes}
    tree = [
        Link(node.topic.parent, node.topic.id, "hierarchy")
        for node in nodes
        if node.topic.parent is not None and node.topic.parent in shown
    ]
    return nodes, tree


@st.cache_data(show_spinner=False, max_entries=64)
def map_picture(inside: str | None) -> list[Rectangle]:
    """The rectangles of the map."""
    return treemap(service().store, inside)


def draw_neighbourhood(topic: Topic, kinds: list[EdgeKind], steps: int) -> None:
    """The topic in the middle of what it is linked with."""
    nodes, links, omitted = neighbourhood_picture(topic.id, tuple(kinds), steps)
    count = f"{len(nodes)} topics · {len(links)} links"
    graph(nodes, links, "graph", HEIGHT, f"{topic.title} and its neighbours: {count}", focus, open_topic)
    if len(nodes) == 1:
        st.caption("No links of these kinds are recorded. Turn on Hierarchy to see where the topic stands.")
        return
    legend = [
        ":orange[→] prerequisite, the arrow points to what it unlocks",
        "— part of",
        ":red[- -] compare with",
        ":blue[···] same concept",
        ":orange[○] supplementary",
    ]
    with st.container(horizontal=True, horizontal_alignment="distribute"):
        st.markdown(f":small[{'&emsp;'.join(legend)}]", width="content")
        st.caption(count + (f" · {omitted} more not drawn" if omitted else ""), width="content")


def draw_section(topic: Topic) -> None:
    """The topic's section as a radial tree."""
    nodes, links = section_picture(topic.section)
    title = nodes[0].topic.title
    graph(nodes, links, "graph", HEIGHT, f"{title} as a tree of {len(nodes)} topics", focus, open_topic, labels=False)
    whole = len(service().store.subtree(topic.section))
    left_out = "" if whole == len(nodes) else f" · {whole - len(nodes)} on deeper levels not drawn"
    st.caption(f"{len(nodes)} topics of {plain(title)}{left_out}. Zoom in for more names.")


def draw_map(topic: Topic) -> None:
    """The whole outline, or one topic of it opened."""
    store = service().store
    inside = cast("str | None", st.session_state.get("inside"))
    line = [] if inside is None else [*store.ancestors(inside), store.topic(inside)]

    def enter(topic_id: str | None) -> None:
        st.session_state.inside = topic_id

    def picked(topic_id: str) -> None:
        focus(topic_id)
        if store.children(topic_id):
            enter(topic_id)

    with st.container(horizontal=True, gap="xsmall", key="crumbs"):
        st.button("All topics", key="crumb-all", type="tertiary", on_click=enter, args=(None,), disabled=inside is None)
        for step in line:
            label = f"› {plain(step.title)}"
            st.button(label, key=f"crumb-{step.id}", type="tertiary", on_click=enter, args=(step.id,))
    sections = [each.id for each in store.topics() if each.depth == 0]
    topic_map(
        map_picture(inside),
        lambda box: section_colour(sections.index(box.topic.section)),
        "map",
        HEIGHT - 50,
        topic.id,
        picked,
    )
    st.caption("The area of a topic grows with the number of topics in it. Click to select and go in.")


def inspector(atlas: Service, topic: Topic) -> None:
    """The topic in words: everything that the picture shows stands here too."""
    with st.container(border=True, height=HEIGHT + 51, key="inspector"):
        st.caption(plain(place_of(topic)))
        st.markdown(f"##### {plain(topic.title)}")
        badges(atlas, topic)
        st.markdown(prose(topic.summary) or ":gray[The text of this topic is not written yet.]")
        if topic.formula:
            st.markdown(f"$\\displaystyle {' '.join(topic.formula.split())}$")  # unlike st.latex it breaks into lines
        with st.container(horizontal=True, gap="small"):
            st.page_link(
                "views/topic.py", label="Open", icon=":material/menu_book:", query_params=query("topic", topic.id)
            )
            if topic.demo:
                label = "Demo" if is_ready(topic.demo.demo) else "Demo (coming)"
                st.page_link(
                    "views/demo.py", label=label, icon=":material/play_circle:", query_params=query("demo", topic.id)
                )
            st.page_link("views/path.py", label="Path", icon=":material/route:", query_params=query("path", topic.id))
        relations(atlas, topic, "inspector", focus, parent=True)


@st.fragment
def body() -> None:
    """Everything that changes with a click, so that a click reruns this and not the page."""
    atlas = service()
    topic = focused(atlas)
    if st.session_state.pop("open_topic", None):
        st.switch_page("views/topic.py", query_params=query("topic", topic.id))
    left, right = st.columns([2.35, 1])
    with left:
        view, kinds, steps = toolbar()
        if view == "Section":
            draw_section(topic)
        elif view == "Whole map":
            draw_map(topic)
        else:
            draw_neighbourhood(topic, kinds, steps)
    with right:
        inspector(atlas, topic)


def page() -> None:
    """The page."""
    search_box()
    body()


guarded(page)
