from collections.abc import Mapping, Sequence
from itertools import pairwise, permutations

from hypothesis import given
from hypothesis import strategies as st

from study.order import arrange
from tests.study.drawn import drawn_paths

Needs = Mapping[str, Sequence[str]]


@st.composite
def drawn_walks(draw: st.DrawFn, steps_at_most: int = 7) -> tuple[list[str], Needs, dict[str, str]]:
    """Steps in an order that keeps random needs, and the section of each."""
    walk = [f"s{number}" for number in range(draw(st.integers(1, steps_at_most)))]
    needs = {step: draw(st.lists(st.sampled_from(walk[:n]), unique=True)) if n else [] for n, step in enumerate(walk)}
    return walk, needs, {step: draw(st.sampled_from(["A", "B", "C"])) for step in walk}


def keeps(order: Sequence[str], needs: Needs) -> bool:
    place = {step: number for number, step in enumerate(order)}
    return all(place[before] < place[step] for step in order for before in needs[step])


def switches(order: Sequence[str], section_of: Mapping[str, str]) -> int:
    return sum(section_of[one] != section_of[other] for one, other in pairwise(order))


@given(drawn_walks())
def test_no_order_that_keeps_the_needs_has_fewer_switches(walk: tuple[list[str], Needs, dict[str, str]]) -> None:
    steps, needs, section_of = walk
    fewest = min(switches(order, section_of) for order in permutations(steps) if keeps(order, needs))
    assert switches(arrange(steps, needs, section_of, floor=()), section_of) == fewest


@given(drawn_walks(steps_at_most=14), st.data())
def test_an_arranged_order_has_the_same_steps_and_keeps_every_need(
    walk: tuple[list[str], Needs, dict[str, str]], data: st.DataObject
) -> None:
    steps, needs, section_of = walk
    floor = data.draw(st.sets(st.sampled_from(steps)))
    order = arrange(steps, needs, section_of, floor)
    assert sorted(order) == sorted(steps)
    assert keeps(order, needs)
    assert order == arrange(steps, needs, section_of, floor)


def test_a_piece_of_the_floor_stands_directly_before_its_first_use() -> None:
    walk = ["f1", "f2", "x", "y", "goal"]
    needs = {"f1": [], "f2": ["f1"], "x": [], "y": ["f2"], "goal": ["x", "y"]}
    section_of = {"f1": "floor", "f2": "floor", "x": "A", "y": "A", "goal": "B"}
    assert arrange(walk, needs, section_of, floor={"f1", "f2"}) == ["x", "f1", "f2", "y", "goal"]


def test_a_foundation_that_needs_the_outline_waits_for_it() -> None:
    walk = ["x", "f", "goal"]
    needs = {"x": [], "f": ["x"], "goal": ["f"]}
    assert arrange(walk, needs, {"x": "A", "f": "floor", "goal": "B"}, floor={"f"}) == ["x", "f", "goal"]


@given(drawn_paths())
def test_a_path_is_the_same_each_time_and_numbered_from_one(drawn: tuple[object, object]) -> None:
    from study import StudyPath, plan_path

    store, path = drawn
    assert isinstance(path, StudyPath)
    assert [step.number for step in path.steps] == list(range(1, len(path.steps) + 1))
    again = plan_path(store, path.goals, tuple(reversed(path.known)), path.thorough)  # pyright: ignore[reportArgumentType]
    assert again == path
