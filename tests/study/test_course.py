from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graph import GraphStore, NetworkXStore
from study import StudyPath, course_json, course_markdown, plan_course, plan_path
from tests.graph.atlases import ATLAS
from tests.study.drawn import drawn_paths

STORE = NetworkXStore(ATLAS)
PATH = plan_path(STORE, ["vae/loss"])


@given(drawn_paths(topics_at_most=10), st.integers(1, 5))
def test_weeks_keep_the_order_and_no_other_cut_is_more_even(drawn: tuple[GraphStore, StudyPath], weeks: int) -> None:
    store, path = drawn
    course = plan_course(path, store, weeks)
    assert tuple(step for week in course.weeks for step in week.steps) == path.steps
    count = min(weeks, len(path.steps))
    assert [week.number for week in course.weeks] == list(range(1, count + 1))
    minutes = [step.minutes for step in path.steps]

    def unevenness(cuts: tuple[int, ...]) -> int:
        ends = (*cuts, len(minutes))
        return sum(sum(minutes[start:end]) ** 2 for start, end in zip((0, *cuts), ends, strict=True))

    if count:
        best = min(unevenness(cuts) for cuts in combinations(range(1, len(minutes)), count - 1))
        assert sum(week.minutes**2 for week in course.weeks) == best


def test_a_demo_and_a_reading_stand_in_the_first_week_that_uses_them() -> None:
    from dataclasses import replace

    cited = replace(ATLAS, topics=tuple(replace(each, refs=("arjovsky2017",)) for each in ATLAS.topics))
    store = NetworkXStore(cited)
    weeks = plan_course(plan_path(store, ["vae/loss"]), store, 2).weeks
    assert [[work.key for work in week.readings] for week in weeks] == [["arjovsky2017"], []]
    assert [[demo.demo for demo in week.demos] for week in weeks] == [["gan-demo"], []]


def test_the_plan_as_markdown_has_a_row_and_a_heading_for_each_week() -> None:
    text = course_markdown(plan_course(PATH, STORE, 2), STORE)
    assert "| 1 | Transport, Dcgan | 25 | 1 | 0 |" in text
    assert [line for line in text.splitlines() if line.startswith("## ")] == ["## Week 1", "## Week 2"]
    assert "- `genatlas demo run gan-demo` — The loss." in text


def test_the_plan_as_json_names_every_topic_once() -> None:
    document = course_json(plan_course(PATH, STORE, 3))
    topics = [step["topic"] for week in document["weeks"] for step in week["steps"]]
    assert topics == [step.topic.id for step in PATH.steps]


def test_a_course_without_a_week_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 week"):
        plan_course(PATH, STORE, 0)
