"""What the pages share: the one opened service, and what this visitor has done."""

from collections.abc import Callable
from typing import cast

import streamlit as st

from graph import Topic
from service import Service, open_service, user_message


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


def known() -> set[str]:
    """The topics that this visitor has marked as known, for as long as the visit lasts."""
    return cast("set[str]", st.session_state.setdefault("known", set()))


def toggle_known(topic_id: str) -> None:
    """Mark a topic as known, or take the mark back."""
    known().symmetric_difference_update({topic_id})


def guarded(page: Callable[[], None]) -> None:
    """Draw a page; a fault that a user can mend is shown in words, with what to do."""
    try:
        page()
    except Exception as error:
        message = user_message(error)
        if message is None:
            raise
        st.error(message, icon=":material/error:")
        if st.button("Try again", icon=":material/refresh:"):
            st.cache_resource.clear()
            st.rerun()
