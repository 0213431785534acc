"""Chains of thought: the problems, the vote against exact enumeration, and where a chain goes wrong."""

from functools import cache
from itertools import product
from math import prod

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from demos.contract import Lines, Result, no_tick
from demos.gpt.chain_of_thought import (
    BLANK,
    END,
    EQUALS,
    SIGNS,
    Params,
    accuracy,
    answer,
    heat,
    mark,
    pose,
    right_step,
    run,
    teach,
    vote,
    write,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, metric, rng


@cache
def result() -> Result:
    return run(Params.model_validate({}))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "chain-of-thought")
    assert metric(result(), "one chain right") == pytest.approx(0.6, abs=0.05)
    assert metric(result(), "vote right") >= 0.8


def test_direct_answers_fail_at_five_digits_and_steps_at_none() -> None:
    direct = teach("direct", Params.model_validate({"steps": 100}), no_tick)
    assert accuracy(direct, "direct", 5, 5, rng()) <= 0.3
    lengths = result().figures[0]
    assert isinstance(lengths, Lines)
    assert min(lengths.series["steps"]) >= 0.95


@given(st.integers(0, 999), st.integers(2, 5))
def test_running_sums_end_in_the_sum_modulo_ten(seed: int, digits: int) -> None:
    problem, sums = pose(4, digits, 5, rng(seed))
    assert problem.shape == (4, 6)
    assert (problem[:, digits:5] == BLANK).all()
    assert (problem[:, 5] == EQUALS).all()
    assert torch.equal(sums[:, -1], problem[:, :digits].sum(dim=1) % 10)
    assert torch.equal(sums[:, 0], problem[:, 0])
    assert answer(sums, "steps").shape == (4, digits + 1)
    assert torch.equal(answer(sums, "direct"), torch.stack([sums[:, -1], torch.full((4,), END)], dim=1))


def test_the_vote_is_right_as_often_as_enumeration_says() -> None:
    """Five voters over three answers: the share of all ballots, weighted by their odds, in which answer 0 wins."""
    odds = [0.5, 0.3, 0.2]
    exact = sum(prod(odds[choice] for choice in ballot) for ballot in product(range(3), repeat=5) if vote(ballot) == 0)
    drawn = torch.multinomial(torch.tensor(odds), 5 * 20_000, replacement=True, generator=rng()).view(-1, 5)
    measured = sum(vote(ballot) == 0 for ballot in drawn.numpy().tolist()) / len(drawn)
    assert measured == pytest.approx(exact, abs=0.01)
    assert exact > odds[0]


def test_the_first_of_several_leaders_wins() -> None:
    assert vote([3, 7, 7, 3, 1]) == 3
    assert vote([7]) == 7


def test_the_first_wrong_step_is_marked_and_no_other() -> None:
    assert mark([3, 8, 0], [3, 7, 9]) == "3 8(!) 0"
    assert mark([3, 7, 9], [3, 7, 9]) == "3 7 9"


def test_a_chain_at_a_low_temperature_is_the_greedy_one_and_heat_finds_the_share_asked() -> None:
    model = teach("steps", Params.model_validate({"terms": 2, "steps": 100}), no_tick)
    problem, sums = pose(200, 2, 2, rng())
    greedy = write(model, problem, 2, 0.0, rng())
    assert torch.equal(greedy, write(model, problem, 2, 1e-3, rng()))
    found = heat(model, problem, sums[:, -1], 2, rng())
    share = (write(model, problem, 2, found, rng(1))[:, -1] == sums[:, -1]).float().mean().item()
    assert share == pytest.approx(0.6, abs=0.12)
    assert right_step(model, problem, sums, 1.0) > right_step(model, problem, sums, found)


def test_signs_are_the_digits_first() -> None:
    assert SIGNS[:10] == [str(digit) for digit in range(10)]
    assert SIGNS[EQUALS] == "="
