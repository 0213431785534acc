import importlib
from functools import cache
from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st

from demos.contract import Result
from demos.llms.model_router import LONGEST, NOTHING, Params, Requests, learn, route, run, think, train_step
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng


@cache
def result() -> Result:
    return run(Params.model_validate({}))


def outcome(preset: str) -> Result:
    return run(Params.model_validate(Params.presets[preset].values))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "model-router")


def test_one_model_for_all_is_no_better_than_a_coin() -> None:
    fast, slow = outcome("all to the fast model"), outcome("all to the thinking model")
    assert failed(fast) == ["Choosing beats a coin", "Hard requests are thought about"]
    assert failed(slow) == ["Choosing beats a coin", "Easy requests go to a fast model"]
    assert metric(fast, "cost of the router") == 1
    assert metric(slow, "accuracy of the router") == metric(slow, "accuracy of thinking")


def test_users_switches_teach_the_router_too() -> None:
    assert failed(outcome("users' switches")) == []


def test_small_models_make_it_cheaper() -> None:
    four = outcome("four models")
    assert failed(four) == []
    assert metric(four, "cost of the router") < metric(result(), "cost of the router")


def test_sums_are_right_and_places_behind_the_end_are_empty() -> None:
    asked = Requests(500, rng())
    there = asked.digits != NOTHING
    assert torch.equal(there.sum(dim=1), asked.length)
    assert torch.equal((asked.digits * there).sum(dim=1) % 10, asked.answer)
    assert asked.length.max() == LONGEST


def test_thinking_is_right_when_every_step_is() -> None:
    asked = Requests(500, rng())
    assert torch.equal(think(train_step(rng(1)), asked.digits), asked.answer)


def test_the_router_is_the_logistic_regression_of_scikit_learn() -> None:
    signs = torch.cat([torch.randn(300, 3, generator=rng()), torch.ones(300, 1)], dim=1)
    signal = (torch.rand(300, generator=rng(1)) < torch.sigmoid(signs @ torch.tensor([1.0, -2.0, 0.5, 0.3]))).float()
    linear: Any = importlib.import_module("sklearn.linear_model")
    reference = linear.LogisticRegression(C=10, fit_intercept=False, tol=1e-8).fit(signs.numpy(), signal.numpy())
    expected = torch.tensor(reference.coef_[0], dtype=torch.float32)
    torch.testing.assert_close(learn(signs, signal), expected, rtol=0, atol=2e-3)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=8), st.floats(0, 1))
def test_the_cheapest_model_that_is_sure_enough_is_chosen(chances: list[tuple[float, float]], threshold: float) -> None:
    error = {
        name: torch.tensor([row[i] for row in chances], dtype=torch.double) for i, name in enumerate(("mini", "main"))
    }
    for (mini, main), chosen in zip(chances, route(error, threshold), strict=True):
        assert chosen == ("mini" if mini <= threshold else "main" if main <= threshold else "thinking")
