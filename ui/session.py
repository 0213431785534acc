"""What the pages share: the one opened service, and what this visitor has done."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import cast

import streamlit as st

from graph import Topic
from service import DemoInfo, Service, open_service, user_message


@st.cache_resource(show_spinner=False)
def service() -> Service:
    """The service of this process, opened once."""
    return open_service()


@st.cache_data(show_spinner=False)
def topic_labels() -> dict[str, str]:
    """What a list shows for each topic, by id: titles repeat, so the place stands beside them."""
    return {topic.id: label_of(topic) for topic in service().store.topics()}


def label_of(topic: Topic) -> str:
    """A title with its place: Latent Space · VAE Architecture › Variational Autoencoders."""
    place = " › ".join(reversed(topic.title_path[:-1][-2:]))
    return f"{topic.title} · {place}" if place else topic.title


@st.cache_resource(show_spinner=False)
def demo_infos() -> dict[str, DemoInfo]:
    """Every demo that the atlas names, by id."""
    return {info.demo.id: info for info in service().demos()}


def is_ready(demo_id: str) -> bool:
    """Whether a demo can be run; otherwise it is still to come."""
    return demo_infos()[demo_id].ready


def known() -> set[str]:
    """The topics that this visitor has marked as known, for as long as the visit lasts."""
    return cast("set[str]", st.session_state.setdefault("known", set()))


def toggle_known(topic_id: str) -> None:
    """Mark a topic as known, or take the mark back."""
    known().symmetric_difference_update({topic_id})


@contextmanager
def loading(height: int, words: str) -> Generator[None]:
    """The outline of what is to come, for as long as the block runs."""
    place = st.empty()
    with place.container():
        st.caption(words)
        st.skeleton(height=height)
    try:
        yield
    finally:
        place.empty()


def guarded(page: Callable[[], None]) -> None:
    """Draw a page; a fault that a user can mend is shown in words, with what to do.

    Opening the atlas takes a moment for the first visitor only, but each visitor's first page may have to wait for it.
    """
    try:
        if "opened" not in st.session_state:
            with loading(640, "Opening the atlas"):
                service()
                topic_labels()
            st.session_state.opened = True
        page()
    except Exception as error:
        message = user_message(error)
        if message is None:
            raise
        st.error(message, icon=":material/error:")
        if st.button("Try again", icon=":material/refresh:"):
            st.cache_resource.clear()
            st.rerun()
