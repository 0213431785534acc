"""What the pages share: the one opened service, and the learner whose progress is shown and kept."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime

import streamlit as st

from graph import AtlasError, Topic
from service import DemoInfo, LiveService, Service, Settings, user_message
from study.learner import Learner, Status


@st.cache_resource(show_spinner=False)
def _live() -> LiveService:
    return LiveService(Settings.read())


def service() -> Service:
    """The service over the build that serves; opened once for each build in this process."""
    current = _live().current()
    _forget_pictures(current.opened.id)
    return current


@st.cache_resource(show_spinner=False, max_entries=1)
def _forget_pictures(build: str) -> None:  # noqa: ARG001 (each new build comes here once)
    st.cache_data.clear()


@st.cache_data(show_spinner=False)
def topic_labels() -> dict[str, str]:
    """What a list shows for each topic, by id: titles repeat, so the place stands beside them."""
    return {topic.id: label_of(topic) for topic in service().store.topics()}


def label_of(topic: Topic) -> str:
    """A title with its place: Latent Space · VAE Architecture › Variational Autoencoders."""
    place = " › ".join(reversed(topic.title_path[:-1][-2:]))
    return f"{topic.title} · {place}" if place else topic.title


def demo_infos() -> dict[str, DemoInfo]:
    """Every demo that the atlas names, by id."""
    return _demo_infos(service().opened.id)


@st.cache_resource(show_spinner=False, max_entries=2)
def _demo_infos(build: str) -> dict[str, DemoInfo]:  # noqa: ARG001 (the cache's key)
    return {info.demo.id: info for info in service().demos()}


def is_ready(demo_id: str) -> bool:
    """Whether a demo can be run; otherwise it is still to come."""
    return demo_infos()[demo_id].ready


def profile() -> str:
    """The profile that this visitor has chosen; that of the settings until then."""
    return str(st.session_state.get("profile") or service().learners.default)


def learner() -> Learner:
    """The learner as of this run of the page."""
    return st.session_state.learner


def known() -> list[str]:
    """The topics of the atlas that the learner knows."""
    return [topic_id for topic_id in learner().having("known") if topic_id in topic_labels()]


def keep(change: Callable[[], Learner]) -> bool:
    """Change the learner; what the database refuses is told by the page that is drawn next. True if it was kept."""
    try:
        st.session_state.learner = change()
    except AtlasError as error:
        st.session_state.refused = str(error)
        return False
    return True


def mark(topic_id: str, status: Status | None) -> None:
    """Give a topic a status, or take its mark off."""
    learners = service().learners
    if status is None:
        keep(lambda: learners.unmark(profile(), [topic_id]))
    else:
        keep(lambda: learners.mark(profile(), [topic_id], status))


def toggle_known(topic_id: str) -> None:
    """Mark a topic as known, or take the mark back."""
    mark(topic_id, None if topic_id in known() else "known")


def _meet_learner() -> None:
    """Read the learner anew. Without the database the pages work, as for somebody who knows nothing yet."""
    if not keep(lambda: service().learners.learner(profile())):
        st.session_state.learner = Learner(profile(), datetime.now(UTC))
    if refused := st.session_state.pop("refused", ""):
        st.error(refused, icon=":material/error:")


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
        _meet_learner()
        page()
    except Exception as error:
        message = user_message(error)
        if message is None:
            raise
        st.error(message, icon=":material/error:")
        if st.button("Try again", icon=":material/refresh:"):
            st.cache_resource.clear()
            st.rerun()
