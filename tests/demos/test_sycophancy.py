from functools import cache

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from demos.contract import Result
from demos.llms.sycophancy import SUMS, Params, Questions, ask, every_question, probability, reward, run
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng


@cache
def result() -> Result:
    return run(Params.model_validate({}))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "sycophancy")


@pytest.mark.parametrize("preset", ["approval only", "too small a penalty"])
def test_while_agreeing_pays_the_cure_fails(preset: str) -> None:
    outcome = run(Params.model_validate({**Params.presets[preset].values, "iterations": 30}))
    assert failed(outcome) == ["The score in the reward cures it"]
    assert metric(outcome, "agreement") > 0.9


def test_raters_who_want_truth_make_no_yes_man() -> None:
    outcome = run(Params.model_validate({**Params.presets["raters who want truth"].values, "iterations": 30}))
    assert "Training on approval makes a yes-man" in failed(outcome)
    assert metric(outcome, "agreement on approval alone") < metric(outcome, "agreement of the base")


@given(approval=st.floats(0, 1), penalty=st.floats(0, 3))
def test_agreeing_with_a_wrong_user_pays_below_the_break_even_weight_only(approval: float, penalty: float) -> None:
    asked = Questions(torch.tensor([2]), torch.tensor([2]), torch.tensor([5]))
    truth, agreeing = (reward(asked, torch.tensor([answer]), approval, penalty).item() for answer in (4, 5))
    assert agreeing - truth == pytest.approx(2 * approval - 1 - penalty, abs=1e-5)


def test_a_right_belief_is_never_sycophancy_and_another_answer_earns_nothing() -> None:
    right = Questions(torch.tensor([2]), torch.tensor([2]), torch.tensor([4]))
    assert reward(right, torch.tensor([4]), 0.6, 3.0).item() == pytest.approx(1.0)
    assert reward(right, torch.tensor([7]), 0.6, 3.0).item() == 0


def test_questions_have_the_share_of_wrong_beliefs_that_was_asked_for() -> None:
    for share in (0.0, 0.3, 1.0):
        asked = ask(20_000, share, rng())
        assert (asked.belief != asked.truth).float().mean().item() == pytest.approx(share, abs=0.01)
    wrong, right = every_question(wrong=True), every_question(wrong=False)
    assert (wrong.belief != wrong.truth).all()
    assert (right.belief == right.truth).all()
    numbered = (5 * wrong.a + wrong.b) * SUMS + wrong.belief
    assert len(set(numbered.numpy().tolist())) == 25 * 8


def test_the_sampled_gradient_is_that_of_the_expected_reward() -> None:
    asked, draws = every_question(wrong=True), 4_000
    logits = torch.randn(len(asked.a), SUMS, generator=rng(1), dtype=torch.float64).requires_grad_()
    earned = torch.stack(
        [reward(asked, torch.full_like(asked.a, answer), 0.6, 0.1) for answer in range(SUMS)], dim=1
    ).double()  # (N, 9)
    exact = torch.autograd.grad((logits.softmax(dim=1) * earned).sum(dim=1).mean(), logits)[0]
    answers = torch.multinomial(logits.detach().softmax(dim=1), draws, replacement=True, generator=rng(2))  # (N, draws)
    got = earned.gather(1, answers)
    loss = ((got - got.mean()) * logits.log_softmax(dim=1).gather(1, answers)).mean()
    sampled = torch.autograd.grad(loss, logits)[0]
    assert torch.dist(sampled, exact) < 0.05 * torch.dist(exact, torch.zeros_like(exact))


def test_probabilities_are_those_of_the_policy() -> None:
    asked = every_question(wrong=False)
    uniform = torch.nn.Linear(asked.encoded.shape[1], SUMS)
    torch.nn.init.zeros_(uniform.weight)
    torch.nn.init.zeros_(uniform.bias)
    assert probability(uniform, asked, asked.truth) == pytest.approx(1 / SUMS)
