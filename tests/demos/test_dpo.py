import importlib
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import logsigmoid

from demos.contract import Result
from demos.llms.dpo import Params, divergence, dpo_loss, implicit_reward, optimum, prefer, run, toy_optimum
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng


@cache
def result() -> Result:
    return run(Params.model_validate({}))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "dpo")


def test_coin_flips_teach_nothing() -> None:
    outcome = run(Params.model_validate(Params.presets["coin flips"].values))
    assert failed(outcome) == [
        "The policy gives what people like better",
        "It orders answers as people do",
    ]
    assert metric(outcome, "KL to the reference") > 0.1


def test_a_short_leash_gains_less_and_drifts_less() -> None:
    outcome = run(Params.model_validate(Params.presets["short leash"].values))
    assert failed(outcome) == []
    assert metric(outcome, "KL to the reference") < metric(result(), "KL to the reference") / 2
    assert metric(outcome, "true score") < metric(result(), "true score")


def test_the_loss_is_that_of_the_paper() -> None:
    """Eq. (7): −log σ(β (log π_w/π_ref,w − log π_l/π_ref,l))."""
    log_policy, log_reference = (torch.randn(50, 4, generator=rng(seed)).log_softmax(1) for seed in (0, 1))
    won, lost = torch.randint(4, (2, 50), generator=rng(2))
    rows = torch.arange(50)
    ratio = (log_policy[rows, won] - log_policy[rows, lost]) - (log_reference[rows, won] - log_reference[rows, lost])
    expected = -logsigmoid(0.3 * ratio)
    torch.testing.assert_close(dpo_loss(implicit_reward(log_policy, log_reference, 0.3), won, lost), expected)


@given(beta=st.floats(0.05, 2))
def test_the_population_loss_has_its_minimum_at_the_optimum_of_rlhf(beta: float) -> None:
    assert toy_optimum(beta) < 1e-3


def test_the_optimum_has_the_highest_reward_less_penalty() -> None:
    log_reference = torch.randn(1, 5, generator=rng()).log_softmax(1)
    reward = torch.randn(1, 5, generator=rng(1))

    def worth(log_policy: torch.Tensor) -> float:
        return float((log_policy.exp() * reward).sum() - 0.5 * divergence(log_policy, log_reference))

    best = optimum(log_reference, reward, 0.5)
    near = [(best + 0.1 * torch.randn(1, 5, generator=rng(seed))).log_softmax(1) for seed in range(20)]
    assert all(worth(best) > worth(each) for each in near)


def test_the_divergence_is_that_of_torch() -> None:
    p, q = (torch.randn(6, 5, generator=rng(seed)).log_softmax(1) for seed in (0, 1))
    distributions: Any = importlib.import_module("torch.distributions")
    expected = distributions.kl_divergence(distributions.Categorical(logits=p), distributions.Categorical(logits=q))
    assert divergence(p, q) == pytest.approx(expected.mean().item(), abs=1e-6)


def test_the_better_answer_is_preferred_as_often_as_bradley_and_terry_say() -> None:
    scores, reference = torch.tensor([[1.5, 0.0]]).repeat(20_000, 1), torch.full((20_000, 2), 0.5)
    for flipped, expected in ((0.0, 0.8176), (0.5, 0.5)):
        won, lost = prefer(scores, reference, flipped, rng())
        assert (won != lost).all()
        assert (won == 0).float().mean().item() == pytest.approx(expected, abs=0.01)
