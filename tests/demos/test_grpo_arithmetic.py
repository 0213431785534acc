from functools import cache

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from demos.contract import Result
from demos.deepseek.grpo_arithmetic import (
    CHECK,
    CLIP,
    EQUALS,
    SIGNS,
    SUMS,
    Params,
    advantages,
    answer,
    exact_divergence,
    k3,
    lesson,
    log_odds,
    objective,
    reward,
    run,
    spell,
)
from demos.shared.transformer import Transformer
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng


def transformer(seed: int = 0) -> Transformer:
    return Transformer(SIGNS, 8, 16, 1, 2, rng(seed), causal=True)


@cache
def result() -> Result:
    return run(Params.model_validate({}))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "grpo-arithmetic")


def test_pairs_teach_less_than_groups() -> None:
    outcome = run(Params.model_validate({"group": 2}))
    assert {"Right or wrong is enough", "Larger groups teach more"} <= {*failed(outcome)}
    assert metric(outcome, "sampled accuracy") < metric(result(), "sampled accuracy")


def test_on_a_tight_leash_the_policy_stays_near_the_weak_one() -> None:
    tight = run(Params.model_validate({"beta": 0.5, "iterations": 40}))
    assert metric(tight, "KL to the weak model") < metric(result(), "KL to the weak model")


def test_a_second_look_can_be_learned_too() -> None:
    outcome = run(Params.model_validate({"allow_check": True, "iterations": 40}))
    assert metric(outcome, "sampled accuracy") > metric(outcome, "sampled accuracy before")


@given(st.lists(st.integers(0, 1), min_size=2, max_size=16))
def test_advantages_have_mean_0_and_are_0_where_all_are_alike(rewards: list[int]) -> None:
    found = advantages(torch.tensor([rewards]).float())
    assert found.mean().item() == pytest.approx(0, abs=1e-5)
    if len({*rewards}) == 1:
        assert found.abs().max() == 0
    else:
        assert found.std().item() == pytest.approx(1, abs=1e-4)
        assert torch.equal(found[0] > 0, torch.tensor(rewards) > 0)


@given(st.integers(0, 99))
def test_k3_is_never_negative_and_the_kl_on_average(seed: int) -> None:
    p, q = (torch.randn(5, generator=rng(seed + shift)).log_softmax(0) for shift in (0, 100))
    assert (k3(p, q) >= -1e-6).all()
    torch.testing.assert_close((p.exp() * k3(p, q)).sum(), (p.exp() * (p - q)).sum(), rtol=0, atol=1e-5)


def test_the_objective_is_the_papers_formula_sign_by_sign() -> None:
    log_p, old, reference = (torch.randn(6, 2, generator=rng(seed)) for seed in range(3))
    advantage = torch.randn(6, generator=rng(3))
    expected = 0.0
    for row in range(6):
        for place in range(2):
            ratio = torch.exp(log_p[row, place] - old[row, place])
            clipped = min(ratio * advantage[row], ratio.clamp(1 - CLIP, 1 + CLIP) * advantage[row])
            away = reference[row, place] - log_p[row, place]
            expected += clipped - 0.3 * (away.exp() - away - 1)
    torch.testing.assert_close(objective(log_p, old, reference, advantage, 0.3), -torch.as_tensor(expected) / 12)


def test_before_the_first_update_the_gradient_is_that_of_the_policy_gradient() -> None:
    model, asked = transformer(), SUMS[:20]
    written = answer(model, asked, False, False, rng())
    advantage = torch.randn(20, generator=rng(1))
    now = log_odds(model, written)
    loss = objective(now, now.detach(), now.detach(), advantage, 0.5)
    plain = -(advantage[:, None] * log_odds(model, written)).mean()
    weight = model.blocks[0].get_parameter("up.weight")
    ours, theirs = (torch.autograd.grad(each, weight)[0] for each in (loss, plain))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_lessons_are_right_in_the_end_and_the_rule_says_so() -> None:
    for check in (False, True):
        shown = lesson(200, check, rng())
        assert (reward(shown[:, :2], shown) == 1).all()
        assert (shown[:, 2] == EQUALS).all()
        wrong = shown.clone()
        wrong[:, -1] = (wrong[:, -1] + 1) % 10
        assert (reward(shown[:, :2], wrong) == 0).all()
    assert (shown[:, 5] == CHECK).all()
    assert spell(torch.tensor([7, 5, EQUALS, 1, 2])) == "7 + 5 = 12"


def test_the_divergence_of_a_model_from_itself_is_0_and_from_another_positive() -> None:
    assert exact_divergence(transformer(), transformer())[0] == pytest.approx(0, abs=1e-6)
    assert exact_divergence(transformer(), transformer(1))[0] > 0
