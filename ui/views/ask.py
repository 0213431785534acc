"""Ask: a question in words, answered in the atlas's own sentences with numbered sources, and the topics found."""

import streamlit as st

from graph import Link
from search import Answer, Hit, Ranking, Sentence
from service import Service, wire
from service.language_model import ModelFailed
from ui.layout import Node, neighbourhood_nodes
from ui.links import query
from ui.session import guarded, is_ready, label_of, loading, service, topic_labels
from ui.widgets.graphview import graph
from ui.widgets.plain import excerpt, plain, prose, quoted
from ui.widgets.topic_card import aspect_table

EXAMPLES = [
    "What is the reparameterization trick?",
    "What is the difference between a VAE and a GAN?",
    "What must I know before the ELBO?",
    "Why do generated samples all look the same?",
    "Show me mode collapse",
]


def examples() -> None:
    """Questions to begin with."""

    def chosen() -> None:
        if st.session_state.example:
            st.session_state.q = st.session_state.example
            st.session_state.example = None

    st.pills("Try one of these", EXAMPLES, key="example", on_change=chosen)


def asked_before(question: str) -> str | None:
    """The topic that answered the question before this one; a rerun of the page is no new question."""
    said: tuple[str, str | None, str | None] = st.session_state.get("conversation", ("", None, None))
    last, before, topic = said
    return before if question == last else topic


def remember(question: str, before: str | None, answer: Answer) -> None:
    """Keep what a next question may lean on: the topic of this answer, or else the one before."""
    st.session_state.conversation = (question, before, answer.topic or before)


def retold(atlas: Service, answer: Answer) -> Answer:
    """The answer in the words of the language model of the settings, when it is wanted; each sentence as it comes."""
    settings = atlas.settings
    if not (settings.llm_url and settings.llm_model) or answer.abstained:
        return answer
    if not st.toggle(f"In the words of {plain(settings.llm_model)}", key="llm"):
        return answer
    coming, so_far = st.empty(), list[str]()

    def show(sentence: Sentence) -> None:
        so_far.append(prose(sentence.text))
        coming.markdown(" ".join(so_far))

    try:
        told = atlas.retell(answer, show)
    except ModelFailed as error:
        st.warning(f"{prose(str(error))} This is the atlas's own answer.", icon=":material/warning:")
        return answer
    coming.empty()
    if not told.by_model:
        st.caption("Nothing that the model wrote is carried by the sources: this is the atlas's own answer.")
    cost = "" if told.cost is None else f", cost {told.cost:.4f}"
    unsupported = f"; {len(told.left_out)} unsupported left out" if told.left_out else ""
    st.caption(f"{told.prompt_tokens} tokens read, {told.completion_tokens} written{cost}{unsupported}.")
    return told.answer


def answer_card(atlas: Service, answer: Answer) -> None:
    """The answer with its citations, or the plain word that there is none."""
    number_of = {topic_id: number for number, topic_id in enumerate(answer.citations, start=1)}
    with st.container(border=True, key="answer"):
        if answer.meaning_off:
            st.warning(
                "Meaning search is off: the encoder is missing, so only words were compared.", icon=":material/warning:"
            )
        if answer.abstained:
            st.markdown(f"**No answer.** {prose(answer.note)}")
            nearest(atlas, answer)
            return
        count = len(number_of)
        st.markdown(f"**Answer** :gray-badge[built from {count} topic{'s' if count > 1 else ''}]")
        if answer.sentences:
            said: list[str] = []
            for sentence in answer.sentences:
                text = quoted(sentence.text, atlas.store.topic(sentence.topic).detail)
                said.append(f"{text} :gray[[{number_of[sentence.topic]}]]")
            st.markdown(" ".join(said))
        if answer.formula:
            st.latex(answer.formula)
        if answer.table is not None:
            aspect_table(answer.table, list(answer.table.titles))
        if answer.note and "genatlas " not in answer.note:  # a command is no help here: the links below do the same
            st.caption(prose(answer.note))
        if answer.intent in ("prerequisites", "path") and answer.topic is not None:
            st.page_link(
                "views/path.py",
                label="The whole order of study",
                icon=":material/route:",
                query_params=query("path", answer.topic),
            )
        if answer.demo is not None and answer.topic is not None:
            seen = "See it run" if is_ready(answer.demo.demo) else "Its demo is still to come"
            st.page_link(
                "views/demo.py",
                label=f"{seen}: {prose(answer.demo.look_at)}",
                icon=":material/play_circle:",
                query_params=query("demo", answer.topic),
            )
        for topic_id, number in number_of.items():
            topic = atlas.store.topic(topic_id)
            works = "; ".join(f"[{plain(wire.cite(work))}]({work.link})" for work in atlas.references(topic.refs[:3]))
            place = f", {plain(' › '.join(topic.title_path[:-1]))}" if topic.parent else ""
            works = f" — {works}" if works else ""
            st.markdown(
                f":small[\\[{number}\\] **{plain(topic.title)}**{place}{works}]"
            )  # links in a caption are faint


def nearest(atlas: Service, answer: Answer) -> None:
    """The topics that come closest to a question without an answer, the one it seems to ask for first."""
    found = [*([answer.topic] if answer.topic else []), *answer.nearest]
    if found:
        st.markdown("The nearest topics of the atlas:")
    for topic_id in dict.fromkeys(found):
        label = plain(label_of(atlas.store.topic(topic_id)))
        st.page_link("views/topic.py", label=label, icon=":material/menu_book:", query_params=query("topic", topic_id))


def hit_card(number: int | None, hit: Hit) -> None:
    """One topic found: where it stands, what matched and why."""
    with st.container(border=True):
        with st.container(horizontal=True, gap="small", vertical_alignment="center"):
            label = f"[{number}] {plain(hit.topic.title)}" if number else plain(hit.topic.title)
            st.page_link(
                "views/topic.py", label=label, icon=":material/menu_book:", query_params=query("topic", hit.topic.id)
            )
            for reason in hit.reasons:
                st.badge(plain(reason), color="violet")
        st.caption(plain(" › ".join(hit.topic.title_path)))
        if hit.passage.field not in ("title", "path"):
            text = excerpt(hit.passage.text, 220)
            st.caption(text if hit.passage.field == "detail" else prose(text))
        if hit.twins:
            st.caption(f"The same concept stands in {len(hit.twins)} other place{'s' if len(hit.twins) > 1 else ''}.")


def found_topics(answer: Answer, ranking: Ranking) -> None:
    """The ranked topics under the answer."""
    number_of = {topic_id: number for number, topic_id in enumerate(answer.citations, start=1)}
    if ranking.corrections:
        st.caption("; ".join(f"“{plain(typed)}” read as “{plain(read)}”" for typed, read in ranking.corrections))
    if ranking.hits:
        st.subheader("Topics found")
    for hit in ranking.hits[:6]:
        hit_card(number_of.get(hit.topic.id), hit)


@st.cache_data(show_spinner=False, max_entries=256)
def picture(topic_id: str) -> tuple[list[Node], list[Link]]:
    """A small neighbourhood of the topic that answers."""
    around = service().neighbourhood(topic_id, limit=18)
    return neighbourhood_nodes(around), list(around.links)


def go(topic_id: str) -> None:
    """Turn to the page of a topic in the small picture."""
    st.session_state.topic = topic_id
    st.session_state.open_from_ask = topic_id


def page() -> None:
    """The page."""
    atlas = service()
    clicked = st.session_state.pop("open_from_ask", None)
    if clicked:
        st.switch_page("views/topic.py", query_params=query("topic", clicked))
    st.title("Ask")
    question = st.text_input(
        "Your question",
        type="search",
        key="q",
        bind="query-params",
        placeholder="Why do we divide by the square root of d_k?",
        label_visibility="collapsed",
        icon=":material/search:",
        max_chars=1000,
    )
    if not (question or "").strip():
        examples()
        return
    with loading(180, f"Reading {len(topic_labels()):,} topics"):
        before = asked_before(question or "")
        answer = atlas.ask(question or "", after=before)
        ranking = atlas.search(answer.wording)
    remember(question or "", before, answer)
    if answer.read_as:
        st.caption(f"Read as “{plain(answer.read_as)}”, after the question before.")
    left, right = st.columns([1.8, 1], gap="large")
    with left:
        answer_card(atlas, retold(atlas, answer))
        found_topics(answer, ranking)
    with right:
        leading = answer.topic or (answer.citations or (None,))[0]
        if leading is not None:
            with st.container(border=True):
                st.markdown("**Where this stands**")
                nodes, links = picture(leading)
                title = atlas.store.topic(leading).title
                aria = f"{title} and {len(nodes) - 1} neighbours"
                graph(nodes, links, "ask-graph", 380, aria, go, go, labels=False)
                st.caption(
                    "On the left what to learn first, on the right what it unlocks. Point at a dot for its name."
                )


guarded(page)
