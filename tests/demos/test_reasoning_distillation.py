"""Distillation of reasoning: worked sums, their lengths and endings, and what students take over."""

from functools import cache

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from demos.contract import Result, Table, no_tick
from demos.deepseek.reasoning_distillation import (
    CHECK,
    END,
    EQUALS,
    LONGEST,
    MOD,
    PROBLEM,
    SIGNS,
    TERMS,
    Params,
    counted,
    finish,
    lecture,
    pad,
    pose,
    reinforce,
    result_of,
    run,
    spell,
    student,
    write,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, metric, rng


@cache
def result() -> Result:
    return run(Params.model_validate({}))


def students(outcome: Result) -> dict[str, dict[str, float]]:
    """The table of students by name and column."""
    table = outcome.tables[0]
    assert isinstance(table, Table)
    return {str(row[0]): dict(zip(table.columns[1:], map(float, row[1:]), strict=True)) for row in table.rows}


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "reasoning-distillation")


def test_students_differ_as_their_texts_do() -> None:
    of = students(result())
    assert of["brief"]["looks twice"] <= 0.1 <= 0.5 <= of["filtered"]["looks twice"]
    assert of["answers"]["mean signs"] == pytest.approx(3, abs=0.1)
    assert of["answers"]["mended"] <= 0.4
    assert of["brief"]["traces"] < of["filtered"]["traces"] < of["raw"]["traces"]
    assert metric(result(), "share readable") >= 0.9


@given(st.integers(0, 999), st.booleans())
def test_a_lesson_is_a_pass_that_may_slip_and_a_second_one_that_is_right(seed: int, reflection: bool) -> None:
    problems, sums = pose(torch.tensor([2, 3, 4, 5]), rng(seed))
    assert problems.shape == (4, PROBLEM)
    assert [(row[:TERMS] > 0).nonzero().numel() <= n for row, n in zip(problems, (2, 3, 4, 5), strict=True)] == [
        True
    ] * 4
    for problem, truth in zip(problems, sums, strict=True):
        words = lecture(problem, reflection, rng(seed))
        assert words[-1] == END
        assert words.count(CHECK) <= int(reflection)
        if CHECK in words:  # the second look adds from behind, and ends in the same sum
            assert words[TERMS] == CHECK
            back = problem[:TERMS].flip(0).cumsum(dim=0) % MOD
            assert words[TERMS + 1 : -1] == back.numpy().tolist()
            assert words[-2] == int(truth[-1])
        wrong = [said != right for said, right in zip(words[:TERMS], truth.numpy().tolist(), strict=True)]
        assert wrong == sorted(wrong)  # once a step is wrong, those after it are


def test_the_end_counts_and_what_follows_does_not() -> None:
    said = pad([[3, 1, END, 4], [2, END]])
    assert said.shape == (2, LONGEST)
    assert counted(said).sum(dim=1).numpy().tolist() == [3, 2]
    assert result_of(said).numpy().tolist() == [1, 2]
    assert spell(said[0]) == "3 1"


def test_a_readable_text_says_its_answer_once_more() -> None:
    neat = finish(pad([[3, 1, 5, END], [END]]))
    assert neat[0, :7].numpy().tolist() == [3, 1, 5, EQUALS, 5, END, END]
    assert result_of(neat)[0] == 5
    assert (neat[1] == END).all()


def test_a_text_begun_is_kept_and_gone_on_with() -> None:
    problems, _ = pose(torch.full((5,), TERMS), rng())
    model = student(16, problems, pad([[1, 2, END]] * 5), 60, 0)
    begun = torch.cat([problems, torch.ones(5, 1, dtype=torch.long)], dim=1)
    said = write(model, begun, rng())
    assert said.shape == (5, LONGEST)
    assert (said[:, 0] == 1).all()
    assert (said[:, 1] == 2).float().mean() >= 0.6
    assert torch.equal(said, write(model, begun, rng()))


def test_reward_moves_the_policy_and_counts_second_looks() -> None:
    """The teacher has learned to write any digit and stop: it never looks twice, and is right by chance."""
    problems, _ = pose(torch.full((200,), TERMS), rng())
    digits: list[int] = torch.randint(MOD, (200,), generator=rng()).numpy().tolist()
    teacher = student(16, problems, pad([[sign, END] for sign in digits]), 100, 0)
    before = [parameter.clone() for parameter in teacher.parameters()]
    right, looks = reinforce(teacher, rng(), no_tick)
    assert max(looks) <= 0.05
    assert sum(right) / len(right) == pytest.approx(1 / MOD, abs=0.1)
    assert any(not torch.equal(old, new) for old, new in zip(before, teacher.parameters(), strict=True))


def test_without_reflection_nothing_is_looked_at_twice() -> None:
    assert SIGNS[CHECK] == "?"
    problems, _ = pose(torch.full((50,), TERMS), rng())
    assert all(CHECK not in lecture(problem, False, rng(n)) for n, problem in enumerate(problems))
