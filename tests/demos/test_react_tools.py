"""Calls of tools: what they return and refuse, how the loop ends, and what without tools cannot be known."""

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demos.contract import Result, no_tick
from demos.gpt.react_tools import (
    ACT,
    ASKED,
    GOODS,
    HEADS,
    KINDS,
    LARGEST,
    LAYERS,
    NUMBER,
    SEEN,
    TAUGHT,
    WIDTH,
    WORDS,
    Params,
    act,
    loop,
    observe,
    pose,
    prices,
    run,
    spell,
    teach,
)
from demos.shared.transformer import Transformer
from tests.demos.outcomes import assert_claims_hold_as_listed, metric, rng


@cache
def result() -> Result:
    return run(Params.model_validate({}))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "react-tools")
    assert metric(result(), "most turns of an untrained model") <= 4


def test_without_a_table_prices_are_not_known_and_two_turns_do_not_add_two_prices() -> None:
    table = prices(rng(1))
    model = teach(True, table, Params.model_validate({"steps": 120}), no_tick)
    tasks = {kind: [pose(kind, table, False, rng(n)) for n in range(20)] for kind in KINDS}

    def right(kind: str, tools: str, max_turns: int) -> int:
        found = loop(model, tasks[kind], table, tools, max_turns)
        return sum(one.answer == task.answer for one, task in zip(found, tasks[kind], strict=True))

    assert right("price", "both", 4) >= 15
    assert right("price", "calculator", 4) <= 5
    assert right("sum of prices", "both", 2) == 0
    refused = loop(model, tasks["price"], table, "none", 4)
    assert all(seen in ([], ["_", "_"]) for one in refused for _, seen in one.turns)


@given(st.integers(0, 9999), st.sampled_from(KINDS), st.booleans())
def test_the_actions_of_a_lesson_bring_about_its_answer(seed: int, kind: str, large: bool) -> None:
    table = prices(rng(seed))
    task = pose(kind, table, large, rng(seed))
    assert len(task.words) == ASKED
    assert all(len(action) == ACT for action in task.actions)
    assert [observe(action, table, "both") for action in task.actions[:-1]] == task.seen
    assert int("".join(task.actions[-1][2:4])) == task.answer
    if kind == "sum":
        assert int("".join(task.words[:2])) + int("".join(task.words[3:5])) == task.answer
        assert TAUGHT < task.answer <= LARGEST if large else task.answer <= TAUGHT


@pytest.mark.parametrize(
    ("action", "tools", "seen"),
    [
        (act("look", "tea"), "both", ["0", "7"]),
        (act("look", "tea"), "calculator", ["_", "_"]),
        (act("look", "gold"), "both", ["_", "_"]),
        (act("look", "tea", "tea"), "both", ["_", "_"]),
        (act("calculate", "4", "9", "+", "1", "2"), "both", ["6", "1"]),
        (act("calculate", "4", "9", "+", "1", "2"), "lookup", ["_", "_"]),
        (act("calculate", "4", "9", "?", "1", "2"), "both", ["_", "_"]),
        (act("calculate", "4", "tea", "+", "1", "2"), "both", ["_", "_"]),
        (["tea"] * ACT, "both", ["_", "_"]),
    ],
)  # fmt: skip
def test_tools_are_exact_and_refuse_what_is_malformed(action: list[str], tools: str, seen: list[str]) -> None:
    assert observe(action, {"tea": 7}, tools) == seen


def test_the_loop_ends_at_its_limit() -> None:
    model = Transformer(len(WORDS), ASKED + 8 * (ACT + SEEN), WIDTH, LAYERS, HEADS, rng(), causal=True)
    tasks = [pose("sum", prices(rng()), False, rng(n)) for n in range(10)]
    for limit in (1, 3, 8):
        assert all(len(one.turns) <= limit for one in loop(model, tasks, prices(rng()), "both", limit))


def test_words_are_told_apart_and_blanks_are_not_spelled() -> None:
    assert len(NUMBER) == len(WORDS)
    assert set(GOODS) <= set(WORDS)
    assert spell(act("look", "tea")) == "unknown: look tea"
    assert max(prices(rng(), 10).values()) < 10
