"""The prompt laboratory: the tasks, the parts of a prompt, how an answer is read, and what each part does."""

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demos.contract import Result
from demos.gpt.prompt_lab import (
    CLOSE,
    DIGITS,
    END,
    ID,
    OPEN,
    PROMPT,
    SAID,
    TASKS,
    WORDS,
    Params,
    Prompt,
    draw_input,
    draw_prompt,
    encode,
    pad,
    parse,
    run,
    solve,
    write,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, metric, rng


@cache
def result() -> Result:
    return run(Params.model_validate({}))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "prompt-lab")


def right(form: str) -> float:
    """Share of right answers in a row of the ablation table."""
    return {str(row[0]): float(row[1]) for row in result().tables[0].rows}[form]


def test_each_preset_is_a_prompt_form_of_the_ablation() -> None:
    forms = {name: Params.model_validate(preset.values).prompt() for name, preset in Params.presets.items()}
    assert forms == {
        "vague": Prompt("vague"),
        "vague, with examples": Prompt("vague", 3),
        "tagged": Prompt(output_format="tagged"),
        "teacher": Prompt(role="teacher"),
        "no context": Prompt(context_given=False),
    }


def test_a_vague_prompt_or_a_missing_fact_does_not_work_with_the_same_weights() -> None:
    assert max(right("vague"), right("no instruction"), right("fact missing")) < 0.5  # the bound of the first claim
    assert min(right("vague, 4 examples"), right("fact given"), right("as asked, fact")) > 0.5
    assert metric(result(), "accuracy") == right("as asked")


@pytest.mark.parametrize(
    ("task", "answer"),
    [("copy", "a 7 c"), ("reverse", "c 7 a"), ("upper", "A 7 C"), ("count", "1"), ("extract", "7")],
)
def test_the_right_answers(task: str, answer: str) -> None:
    assert solve(task, ["a", "7", "c"]) == answer.split()


def test_the_prompt_has_the_parts_that_are_on() -> None:
    words, said, answer = write("reverse", Prompt("clear", 2, "tagged", "teacher"), rng())
    assert words[:3] == ["teacher", "tagged", "reverse"]
    assert (words.count(";"), words.count("now"), words[-1]) == (2, 1, ":")
    assert said == [OPEN, *answer, CLOSE, ".", "by", "reverse", END]
    assert answer == list(reversed(words[-4:-1]))
    bare, said, answer = write("reverse", Prompt("none"), rng())
    assert bare[0] == "now"
    assert said == [*answer, ".", END]


@pytest.mark.parametrize("given_fact", [True, False])
def test_the_fact_is_in_the_prompt_if_it_is_given(given_fact: bool) -> None:
    words, _, answer = write("fact", Prompt(context_given=given_fact), rng())
    assert words[-3] == "what"
    assert (answer[0] in words) == given_fact


def test_every_prompt_and_answer_fits_and_inputs_have_one_digit() -> None:
    generator = rng()
    rows = [write(task, draw_prompt(generator), generator) for _ in range(300) for task in [*TASKS, "fact"]]
    assert max(len(words) for words, _, _ in rows) == PROMPT  # and none is longer
    assert max(len(said) for _, said, _ in rows) <= SAID
    assert encode([rows[0][0]]).shape == (1, PROMPT)
    assert pad([rows[0][1]]).shape == (1, SAID)
    assert encode([["now", "a"]])[0, -2:].numpy().tolist() == [ID["now"], ID["a"]]
    for _ in range(100):
        assert sum(item in DIGITS for item in draw_input(generator)) == 1


@given(st.lists(st.sampled_from(["a", "b", "7"]), min_size=1, max_size=3))
def test_an_answer_is_read_with_tags_and_without(answer: list[str]) -> None:
    assert parse([OPEN, *answer, CLOSE, ".", "by", "copy"]) == (answer, True)
    assert parse([*answer, ".", "by", "copy"]) == (answer, False)
    assert parse(answer) == (answer, False)
    assert parse([OPEN, *answer]) == ([OPEN, *answer], False)  # a tag that is never closed


def test_every_word_has_its_own_number() -> None:
    assert len(ID) == len(WORDS)
