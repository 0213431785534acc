import itertools
from fractions import Fraction
from functools import cache

import torch
from hypothesis import given
from hypothesis import strategies as st

from demos.contract import Result
from demos.gpt.tree_of_thoughts import (
    HIGHEST_KNOWN,
    LOWEST_KNOWN,
    Params,
    State,
    encode,
    guess,
    run,
    search,
    solvable,
    steps_of,
    thoughts,
)
from demos.shared.perceptron import perceptron
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng


@cache
def result() -> Result:
    return run(Params.model_validate({}))


def state(*numbers: int | Fraction) -> State:
    return tuple(sorted(map(Fraction, numbers)))


def judge() -> torch.nn.Sequential:
    return perceptron([HIGHEST_KNOWN - LOWEST_KNOWN + 2, 8, 1], torch.nn.ReLU, rng())


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "tree-of-thoughts")
    assert metric(result(), "solved by search") > metric(result(), "solved by as many chains")


def test_breadth_one_is_greedy_play() -> None:
    outcome = run(Params.model_validate({"breadth": 1, "steps": 60}))
    assert "Search adds to the first guess" in failed(outcome)
    assert metric(outcome, "solved by search") == metric(outcome, "solved greedily")


def test_search_is_as_good_as_its_judge() -> None:
    outcome = run(Params.model_validate(Params.presets["judged by nobody"].values))
    assert failed(outcome) == ["A wider beam helps"]


def outcomes(numbers: tuple[Fraction, ...]) -> set[Fraction]:
    """All that two groups of the numbers can make, each group being used up: another way to look at all steps."""
    if len(numbers) == 1:
        return {numbers[0]}
    found = set[Fraction]()
    for size in range(1, len(numbers)):
        for chosen in itertools.combinations(range(len(numbers)), size):
            one = tuple(numbers[n] for n in chosen)
            other = tuple(numbers[n] for n in range(len(numbers)) if n not in chosen)
            for a, b in itertools.product(outcomes(one), outcomes(other)):
                found |= {a + b, a - b, a * b} | ({a / b} if b else set())
    return found


@given(st.lists(st.integers(1, 9), min_size=1, max_size=3), st.integers(1, 50))
def test_what_can_be_solved_is_what_some_expression_makes(numbers: list[int], target: int) -> None:
    assert solvable(state(*numbers), target) == (target in outcomes(state(*numbers)))


def test_famous_puzzles() -> None:
    assert solvable(state(3, 3, 8, 8), 24)  # only by a fraction: 8 / (3 - 8/3)
    assert not solvable(state(1, 1, 1, 1), 24)


def test_a_wide_enough_beam_finds_whatever_can_be_found() -> None:
    for numbers in ((3, 3, 8, 8), (1, 5, 5, 5), (4, 9, 1, 2), (1, 1, 1, 1)):
        puzzle = state(*numbers)
        way, levels = search(judge(), puzzle, 10_000, 24)
        assert (way is not None) == solvable(puzzle, 24)
        assert {*levels[0]} == {*thoughts(puzzle)}
        if way is not None:
            assert way[0] == puzzle
            assert way[-1] == (24,)
            assert len(steps_of(way)) == 3
            assert steps_of(way)[-1].endswith("= 24")


def test_a_beam_keeps_the_states_that_the_judge_prefers() -> None:
    model, puzzle = judge(), state(4, 9, 1, 2)
    levels = search(model, puzzle, 3, 24)[1]
    ranked = sorted(thoughts(puzzle), key=lambda reached: -model(encode([reached])).item())
    assert [len(level) for level in levels] == [3, 3]
    assert {*levels[0]} == {*ranked[:3]}


def test_chains_find_nothing_where_there_is_nothing() -> None:
    assert not guess(judge(), state(1, 1, 1, 1), 20, 24, rng())
    assert guess(judge(), state(12, 2), 1, 24, rng())


def test_what_the_network_reads_is_a_set() -> None:
    half = Fraction(1, 2)
    assert torch.equal(encode([(Fraction(1), half, Fraction(7))]), encode([(Fraction(7), Fraction(1), half)]))
    counts = encode([state(3, 3, half, 99)])[0]
    assert counts[3 - LOWEST_KNOWN] == 2
    assert counts[-1] == 2  # what it does not know


def test_another_target_has_puzzles_of_its_own() -> None:
    outcome = run(Params.model_validate({"target": 50, "breadth": 1, "steps": 20}))
    assert 0 < metric(outcome, "puzzles to solve") < 248
