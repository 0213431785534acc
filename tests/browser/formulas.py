"""A Streamlit page with the formulas and details of some topics, typeset by the KaTeX that readers get.

streamlit run tests/browser/formulas.py, then /?from=0&to=100
"""

import streamlit as st

from graph import Topic
from ingest import read_corpus
from tests.conftest import ROOT


@st.cache_resource
def written_topics() -> list[Topic]:
    """The topics that hold formulas, in the corpus's order; a dollar behind a backslash is money."""
    topics = read_corpus(ROOT / "corpus").topics
    return [topic for topic in topics if topic.formula or "$" in topic.detail.replace("\\$", "")]


start, end = (int(st.query_params.get(name, 0)) for name in ("from", "to"))
for topic in written_topics()[start:end]:
    with st.container(key=f"topic-{topic.position}"):
        if topic.formula:
            st.latex(topic.formula)
        if topic.detail:
            st.markdown(topic.detail)
