from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graph import Atlas, GraphStore, NetworkXStore, Prerequisite
from study import NothingFits, StudyPath, fit_path, plan_path
from study.budget import worth_of
from tests.graph.atlases import topic
from tests.study.drawn import drawn_paths


def is_closed(path: StudyPath, kept: frozenset[str]) -> bool:
    return all(
        step.topic.id in kept
        for step in path.steps
        for reason in step.reasons
        if reason.strength == "needed" and reason.needed_by in kept
    )


@given(drawn_paths(topics_at_most=10), st.integers(1, 150))
def test_no_other_part_of_the_path_that_fits_is_worth_more_or_as_much_and_shorter(
    drawn: tuple[GraphStore, StudyPath], minutes: int
) -> None:
    _, path = drawn
    takes = {step.topic.id: step.minutes for step in path.steps}
    worth = worth_of(path)

    def value(kept: frozenset[str]) -> tuple[int, int]:
        return sum(worth[each] for each in kept), -sum(takes[each] for each in kept)

    subsets = (frozenset(kept) for count in range(len(takes) + 1) for kept in combinations(takes, count))
    best = max(value(kept) for kept in subsets if is_closed(path, kept) and -value(kept)[1] <= minutes)
    if best == (0, 0) and path.steps:
        with pytest.raises(NothingFits):
            fit_path(path, minutes)
        return
    fitted = fit_path(path, minutes)
    kept = frozenset(step.topic.id for step in fitted.path.steps)
    assert is_closed(path, kept)
    if sum(takes.values()) <= minutes:
        assert fitted.path == path
    else:
        assert value(kept) == best
    assert {each.step.topic.id for each in fitted.left_out} == takes.keys() - kept


def chain(*minutes: int, **strength: str) -> StudyPath:
    """A path a → b → c … of these minutes; the last is the goal."""
    ids = "abcdefgh"[: len(minutes)]
    topics = tuple(topic(each, number, minutes=time) for number, (each, time) in enumerate(zip(ids, minutes)))  # noqa: B905
    edges = tuple(
        Prerequisite(one, other, "Why.", strength.get(one, "needed"))  # pyright: ignore[reportArgumentType]
        for one, other in zip(ids, ids[1:])  # noqa: B905, RUF007
    )
    return plan_path(NetworkXStore(Atlas("T", topics, edges)), [ids[-1]], thorough=True)


def test_a_path_that_fits_is_left_as_it_is() -> None:
    path = chain(10, 20, 30)
    fitted = fit_path(path, 60)
    assert fitted.path is path
    assert fitted.left_out == ()
    assert fitted.reaches == ("c",)


def test_what_is_left_out_is_told_with_what_it_would_have_cost() -> None:
    fitted = fit_path(chain(10, 20, 30, 40), 59)
    assert [step.topic.id for step in fitted.path.steps] == ["a", "b"]
    assert [(each.step.topic.id, each.step.minutes, each.minutes_with_needs) for each in fitted.left_out] == [
        ("c", 30, 30),
        ("d", 40, 70),
    ]
    assert fitted.reaches == ()


def test_a_goal_is_worth_more_than_everything_else() -> None:
    topics = (topic("h1", 0, minutes=5), topic("h2", 1, minutes=6), topic("goal", 2, minutes=20))
    edges = tuple(Prerequisite(each, "goal", "Helps.", "helpful") for each in ("h1", "h2"))
    path = plan_path(NetworkXStore(Atlas("T", topics, edges)), ["goal"], thorough=True)
    fitted = fit_path(path, 20)
    assert [step.topic.id for step in fitted.path.steps] == ["goal"]
    assert fitted.reaches == ("goal",)
    assert [step.topic.id for step in fit_path(path, 30).path.steps] == ["h1", "goal"]


def test_worth_halves_with_each_link_and_quarters_with_a_helpful_one() -> None:
    worth = worth_of(chain(10, 10, 10, 10, b="helpful"))
    assert worth == {"a": 4, "b": 8, "c": 32, "d": 45}


def test_the_steps_that_stay_are_numbered_anew() -> None:
    topics = tuple(topic(each, number, minutes=10) for number, each in enumerate(["far", "near", "mid", "goal"]))
    edges = (
        Prerequisite("far", "mid", "Why."),
        Prerequisite("mid", "goal", "Why."),
        Prerequisite("near", "goal", "W."),
    )
    fitted = fit_path(plan_path(NetworkXStore(Atlas("T", topics, edges)), ["goal"]), 10)
    assert [(step.number, step.topic.id) for step in fitted.path.steps] == [(1, "near")]


def test_without_time_for_one_step_nothing_fits() -> None:
    with pytest.raises(NothingFits, match="the shortest first step takes 10"):
        fit_path(chain(10, 5), 9)
