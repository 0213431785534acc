"""The Streamlit app: page settings and navigation, nothing else."""

from pathlib import Path

import streamlit as st

HERE = Path(__file__).parent

st.set_page_config(page_title="GenAtlas", page_icon=str(HERE / "static" / "favicon.png"), layout="wide")
st.navigation(
    [
        st.Page(HERE / "views" / "explore.py", title="Explore", icon=":material/hub:", default=True),
        st.Page(HERE / "views" / "topic.py", title="Topic", icon=":material/menu_book:", url_path="topic"),
        st.Page(HERE / "views" / "ask.py", title="Ask", icon=":material/forum:", url_path="ask"),
        st.Page(HERE / "views" / "compare.py", title="Compare", icon=":material/compare_arrows:", url_path="compare"),
        st.Page(HERE / "views" / "path.py", title="Study path", icon=":material/route:", url_path="path"),
        st.Page(HERE / "views" / "progress.py", title="Progress", icon=":material/trending_up:", url_path="progress"),
        st.Page(HERE / "views" / "place.py", title="Placement", url_path="place", visibility="hidden"),
        st.Page(HERE / "views" / "demo.py", title="Demos", icon=":material/play_circle:", url_path="demo"),
    ],
    position="top",
).run()
