"""Random atlases for study: those of the graph tests with a floor, gists and several sections."""

from dataclasses import replace

from hypothesis import strategies as st

from graph import Atlas, GraphStore, NetworkXStore
from study import StudyPath, plan_path
from tests.graph.atlases import atlases


@st.composite
def study_atlases(draw: st.DrawFn, topics_at_most: int = 14) -> Atlas:
    """An atlas in which some whole sections are foundations and some edges ask for the gist only."""
    atlas = draw(atlases(topics_at_most))
    sections = sorted({topic.section for topic in atlas.topics})
    floor = draw(st.sets(st.sampled_from(sections)))
    topics = tuple(replace(each, origin="foundation" if each.section in floor else "outline") for each in atlas.topics)
    gists = draw(st.lists(st.booleans(), min_size=len(atlas.prerequisites), max_size=len(atlas.prerequisites)))
    edges = tuple(
        replace(edge, depth="gist" if gist else "full")
        for edge, gist in zip(atlas.prerequisites, gists, strict=True)
    )  # fmt: skip
    return replace(atlas, topics=topics, prerequisites=edges)


@st.composite
def drawn_paths(draw: st.DrawFn, topics_at_most: int = 14) -> tuple[GraphStore, StudyPath]:
    """A path through a random atlas, with the store it was planned on."""
    atlas = draw(study_atlases(topics_at_most))
    store = NetworkXStore(atlas)
    ids = [topic.id for topic in atlas.topics]
    goals = draw(st.lists(st.sampled_from(ids), min_size=1, max_size=3, unique=True))
    known = draw(st.lists(st.sampled_from(ids), max_size=2, unique=True))
    return store, plan_path(store, goals, known, thorough=draw(st.booleans()))
