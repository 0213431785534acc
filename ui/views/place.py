"""Placement: a few questions about a section, and what the answers say about the rest of it."""

from collections.abc import Mapping

import streamlit as st

from service import Service
from study.cards import question_about
from study.placement import MOST_QUESTIONS, SURE, Placement
from ui.links import asked_for
from ui.session import guarded, keep, learner, profile, service, topic_labels
from ui.widgets.plain import plain, prose
from ui.widgets.topic_card import place_of

LONGEST_LIST = 40


def answers_of(section: str) -> dict[str, bool]:
    """What this visitor has answered about a section, in the order asked."""
    all_answers: dict[str, dict[str, bool]] = st.session_state.setdefault("placements", {})
    return all_answers.setdefault(section, {})


def answered(section: str, topic_id: str, known: bool) -> None:
    """Keep an answer for this visit."""
    answers_of(section)[topic_id] = known


def took_back(section: str) -> None:
    """Forget the last answer, so that its question comes again."""
    if answers := answers_of(section):
        answers.popitem()
    st.session_state.enough = None


def began_again(section: str) -> None:
    """Forget all answers about a section."""
    answers_of(section).clear()
    st.session_state.enough = st.session_state.kept = None


def said_enough(section: str) -> None:
    """End the questions."""
    st.session_state.enough = section


def kept(atlas: Service, section: str) -> None:
    """Keep in the profile what was found."""
    if keep(lambda: atlas.learners.keep_placement(profile(), section, answers_of(section))):
        st.session_state.kept = section


def forgot(atlas: Service, section: str) -> None:
    """Take off what was inferred."""
    if keep(lambda: atlas.learners.forget_inferred(profile(), section)):
        st.session_state.kept = None


def choose(atlas: Service) -> str | None:
    """The section that the questions are about; the address may name any topic."""
    labels = topic_labels()
    asked = asked_for("place", st.query_params)
    if asked is not None and asked not in labels:
        st.warning(f"There is no topic **{plain(asked)}**. Choose a section from the list.")
    options = [topic.id for topic in atlas.store.topics() if topic.depth == 0]
    if asked in labels and asked not in options:
        options.insert(0, asked)

    def chosen() -> None:
        if st.session_state.place_box:
            st.query_params["topic"] = st.session_state.place_box

    return st.selectbox(
        "Section",
        options,
        index=options.index(asked) if asked in labels else None,
        format_func=labels.__getitem__,
        placeholder="What shall the questions be about?",
        key="place_box",
        on_change=chosen,
    )


def ask(atlas: Service, section: str, topic_id: str, left: int, answers: Mapping[str, bool]) -> None:
    """The next question, and the keys that answer it."""
    topic = atlas.store.topic(topic_id)
    with st.container(border=True, key="question"):
        st.progress(len(answers) / MOST_QUESTIONS, f"Question {len(answers) + 1} of at most {len(answers) + left}")
        st.caption(plain(place_of(topic)))
        st.markdown(f"##### {plain(topic.title)}")
        st.markdown(f"“{prose(question_about(topic))}”\n\nCould you answer this now, without looking it up?")
        with st.container(horizontal=True, gap="small"):
            st.button("Yes", key="yes", type="primary", shortcut="Y", on_click=answered, args=(section, topic.id, True))
            st.button("No", key="no", shortcut="N", on_click=answered, args=(section, topic.id, False))
            st.space("stretch")
            st.button("Back", key="back", type="tertiary", shortcut="B", disabled=not answers, on_click=took_back,
                      args=(section,))  # fmt: skip
            st.button("Enough", key="enough_now", type="tertiary", shortcut="E", disabled=not answers,
                      on_click=said_enough, args=(section,))  # fmt: skip


def ended(atlas: Service, section: str, found: Placement, answers: Mapping[str, bool]) -> None:
    """What was found, to keep or not."""
    with st.container(border=True, key="found"):
        told = sum(answers.values())
        st.markdown(
            f"**{told}** known as you say, **{len(found.inferred)}** more as it seems, of {len(found.chances)} topics, "
            f"after {len(answers)} question{'' if len(answers) == 1 else 's'}."
        )
        if st.session_state.get("kept") == section:
            st.success("Kept. Study paths leave out what you know, with all that it needs.", icon=":material/check:")
            with st.container(horizontal=True, gap="small", vertical_alignment="center"):
                st.page_link("views/path.py", label="Plan a path", icon=":material/route:")
                st.page_link("views/progress.py", label="Progress", icon=":material/trending_up:")
                st.button("Take off what was inferred", key="forget", icon=":material/undo:", on_click=forgot,
                          args=(atlas, section))  # fmt: skip
                st.button("Begin again", key="again", type="tertiary", on_click=began_again, args=(section,))
            return
        st.caption("What is inferred is kept apart from what you say, and never replaces it.")
        with st.container(horizontal=True, gap="small"):
            st.button("Keep", key="keep", type="primary", shortcut="K", disabled=not answers, on_click=kept,
                      args=(atlas, section))  # fmt: skip
            st.button("Back", key="back", shortcut="B", disabled=not answers, on_click=took_back, args=(section,))
            st.button("Begin again", key="again", type="tertiary", on_click=began_again, args=(section,))


def so_far(atlas: Service, found: Placement, answers: Mapping[str, bool]) -> None:
    """What was said and what follows from it, apart."""
    with st.container(border=True, key="so-far"):
        st.markdown(f"**As you say** :gray[{len(answers)}]")
        st.markdown(
            "  \n".join(
                f"{':material/check:' if known else ':material/close:'} {plain(atlas.store.topic(topic_id).title)}"
                for topic_id, known in answers.items()
            )
            or ":gray[Nothing yet.]"
        )
        st.markdown(f"**As it seems** :gray[{len(found.inferred)}]", help="Inferred: each with its chance of being so.")
        seems = [(atlas.store.topic(each).title, found.chances[each]) for each in found.inferred[:LONGEST_LIST]]
        lines = [f"{plain(title)}&ensp;:small[:gray[{min(0.99, chance):.0%}]]" for title, chance in seems]
        st.markdown("  \n".join(lines) or ":gray[Nothing yet.]")
        if len(found.inferred) > LONGEST_LIST:
            st.caption(f"and {len(found.inferred) - LONGEST_LIST} more")
        undecided = sum(1 - SURE < chance < SURE for chance in found.chances.values())
        st.caption(f"{undecided} of {len(found.chances)} topics are undecided and stay unmarked.")


def page() -> None:
    """The page."""
    atlas, me = service(), learner()
    st.title("What do you know already?")
    section = choose(atlas)
    if section is None:
        st.info(
            f"Choose a section: at most {MOST_QUESTIONS} questions find what you know of it, each the one whose answer "
            "tells most. Study paths leave out what you know.",
            icon=":material/quiz:",
        )
        return
    answers = answers_of(section)
    found = atlas.learners.place(me, section, answers)
    left, right = st.columns([1.6, 1], gap="large")
    with left:
        if found.ask is None or section in (st.session_state.get("enough"), st.session_state.get("kept")):
            ended(atlas, section, found, answers)
        else:
            ask(atlas, section, found.ask, found.left, answers)
            st.caption("Keys: Y and N answer, B takes the last answer back, E ends the questions.")
    with right:
        so_far(atlas, found, answers)


guarded(page)
