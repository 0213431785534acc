"""Programs: the interpreter by hand and against Python, the estimate of pass@k by counting, and what is kept unseen."""

from functools import cache
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demos.contract import Result
from demos.llms.code_generation import (
    DIGITS,
    INPUTS,
    LENGTH,
    LIMIT,
    NUMBER,
    VERBS,
    WORDS,
    Params,
    compiled,
    execute,
    pass_at,
    passed,
    pose,
    program_of,
    prompt,
    run,
    runs,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng


@cache
def result() -> Result:
    return run(Params.model_validate({}))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "code-generation")
    assert metric(result(), "random programs stopped by the step limit") >= 2
    assert metric(result(), "pass with all tries") > metric(result(), "pass@1, sampled")


def test_a_single_try_has_no_second_chance() -> None:
    assert failed(run(Params.model_validate({"samples": 1}))) == ["Several tries help"]


def test_a_barely_trained_model_does_not_do_what_was_asked() -> None:
    assert "It does what was asked" in failed(run(Params.model_validate({"steps": 20, "samples": 2})))


@pytest.mark.parametrize("task", ["fix", "complete", "explain"])
def test_the_other_tasks_are_learned_as_well(task: str) -> None:
    outcome = run(Params.model_validate({"task": task, "samples": 2, "steps": 100}))
    assert metric(outcome, "pass@1, greedy") >= 0.5


@pytest.mark.parametrize(
    ("program", "left"),
    [("3 +", 5), ("4 -", -2), ("dup *", 4), ("dup + 3 *", 12), ("", 2), ("3", None), ("+", None), ("dup dup", None),
     ("then", None), ("again", None), ("2 - again", 0)],
)  # fmt: skip
def test_programs_leave_what_they_leave_by_hand(program: str, left: int | None) -> None:
    assert execute(program.split(), 2)[0] == left


@given(st.lists(st.sampled_from(WORDS), max_size=12), st.integers(-5, 5))
def test_the_interpreter_stops_on_every_program(program: list[str], x: int) -> None:
    assert execute(program, x)[1] <= LIMIT


def test_a_loop_is_stopped_at_the_limit_and_a_square_of_squares_at_its_size() -> None:
    assert execute(["dup", "again"], 1) == (None, LIMIT)
    assert execute(["dup", "*", "again"], 9)[0] is None


@given(st.integers(0, 9999))
def test_a_compiled_program_does_what_its_words_say_in_either_order(seed: int) -> None:
    words = pose(False, rng(seed))
    parts = [words[0:2], words[3:5], words[6:8]]
    for x in INPUTS:
        value = x
        for verb, on in parts if words[2] == "then" else parts[::-1]:
            number = 0 if on == "it" else int(on)
            value = {"add": value + number, "subtract": value - number, "times": value * number,
                     "double": value + value, "square": value * value}[verb]  # fmt: skip
        assert execute(compiled(words), x)[0] == value


def test_words_that_say_nothing_compile_to_nothing() -> None:
    good = ["add", "3", "then", "double", "it", "then", "times", "4"]
    assert compiled(good) == ["3", "+", "dup", "+", "4", "*"]
    for place, word in ((0, "it"), (1, "it"), (2, "after"), (4, "3")):
        assert compiled([*good[:place], word, *good[place + 1 :]]) == []
    assert compiled(good[:-1]) == []


@given(st.integers(0, 9999))
def test_unseen_programs_are_never_taught(seed: int) -> None:
    def remainder(program: list[str]) -> int:
        return sum((place + 1) * NUMBER[word] for place, word in enumerate(program)) % 5

    assert remainder(compiled(pose(True, rng(seed)))) == 0
    assert remainder(compiled(pose(False, rng(seed)))) != 0


@given(st.integers(0, 9999), st.sampled_from(list(LENGTH)))
def test_the_wanted_answer_passes_all_tests(seed: int, task: str) -> None:
    generator = rng(seed)
    instruction = pose(True, generator)
    _, answer, flawed = prompt(task, instruction, generator)
    assert len(answer) == LENGTH[task]
    program = program_of(task, answer[:-1], flawed)
    assert passed(program, compiled(instruction)) == len(INPUTS)
    assert runs(program)
    if task == "fix":
        assert sum(a != b for a, b in zip(flawed, program, strict=True)) == 1


def test_pass_at_k_is_the_share_of_draws_that_hold_a_right_try() -> None:
    for right in range(7):
        draws = list(combinations(range(6), 3))
        counted = sum(min(draw) < right for draw in draws) / len(draws)
        assert pass_at(3, 6, right) == pytest.approx(counted)


def test_words_are_told_apart() -> None:
    assert len(set(WORDS)) == len(WORDS)
    assert set(DIGITS) | set(VERBS) <= set(WORDS)
