from functools import cache

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from demos.contract import Result
from demos.llms.rlhf_ppo import (
    BEGIN,
    LAMBDA,
    Params,
    Policy,
    advantages,
    clipped_loss,
    drift,
    run,
    taken,
)
from demos.shared.answers import LENGTH
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng


@cache
def result() -> Result:
    return run(Params.model_validate({}))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "rlhf-ppo")


def test_without_the_leash_the_policy_runs_and_people_are_not_pleased() -> None:
    outcome = run(Params.model_validate({"beta": 0.0, "iterations": 15}))
    assert {"The leash holds", "Without it the policy runs"} <= {*failed(outcome)}
    assert metric(outcome, "KL to the reference") > metric(result(), "KL to the reference")


def test_one_iteration_leaves_the_policy_near_imitation() -> None:
    outcome = run(Params.model_validate({"iterations": 1}))
    assert metric(outcome, "KL to the reference") < 0.5
    assert "People like the answers better" in failed(outcome)


@given(st.integers(1, 8), st.integers(0, 99))
def test_advantages_are_the_discounted_sum_of_surprises(length: int, seed: int) -> None:
    rewards, values = torch.randn(2, 3, length, generator=rng(seed))
    following = torch.cat([values[:, 1:], torch.zeros(3, 1)], dim=1)
    delta = rewards + following - values
    for place in range(length):
        expected = sum(LAMBDA**later * delta[:, place + later] for later in range(length - place))
        torch.testing.assert_close(advantages(rewards, values)[:, place], torch.as_tensor(expected), rtol=0, atol=1e-5)


def test_a_ratio_beyond_the_clip_gains_nothing_and_one_that_harms_is_not_spared() -> None:
    def loss(ratio: float, advantage: float) -> float:
        return clipped_loss(torch.tensor([ratio]), torch.tensor([advantage]), 0.2).item()

    assert loss(1.5, 1.0) == pytest.approx(-1.2)
    assert loss(1.1, 1.0) == pytest.approx(-1.1)
    assert loss(0.5, -1.0) == pytest.approx(0.8)
    assert loss(1.5, -1.0) == pytest.approx(1.5)


def test_the_policy_writes_from_its_own_probabilities_and_never_the_mark() -> None:
    policy = Policy(rng())
    answers = policy.write(4000, rng(1))
    assert answers.shape == (4000, LENGTH)
    assert answers.max() < BEGIN
    odds = policy(answers[:1])[0][0, 0].exp()  # of the first word, which depends on nothing
    torch.testing.assert_close(answers[:, 0].bincount(minlength=BEGIN) / 4000, odds, rtol=0, atol=0.03)


def test_a_words_probability_does_not_depend_on_later_words() -> None:
    policy, answers = Policy(rng()), torch.zeros(1, LENGTH, dtype=torch.long)
    changed = answers.clone()
    changed[:, 5:] = 3
    torch.testing.assert_close(policy(answers)[0][:, :6], policy(changed)[0][:, :6])


def test_the_drift_is_the_mean_log_ratio_of_answers() -> None:
    policy, reference = Policy(rng()), Policy(rng(1))
    answers = policy.write(20_000, rng(2))
    with torch.no_grad():
        ratio = taken(policy(answers)[0], answers) - taken(reference(answers)[0], answers)
    sampled = ratio.sum(dim=1)
    assert drift(policy, reference, answers) == pytest.approx(sampled.mean().item(), abs=4 * sampled.std().item() / 141)
    assert drift(policy, policy, answers[:10]) == pytest.approx(0, abs=1e-6)
