from functools import cache

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from demos.contract import Lines, Result
from demos.llms.reward_model import (
    Params,
    RewardModel,
    accuracy,
    people_choose,
    preference_loss,
    rules_choose,
    run,
)
from demos.shared.answers import WANTED, WORDS, draw_answers, features, hidden_score
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng


@cache
def result(**params: str | float) -> Result:
    return run(Params.model_validate(params))


def said(*sentences: str) -> torch.Tensor:
    return torch.tensor([[WORDS.index(word) for word in sentence.split()] for sentence in sentences])


PLAIN = "and so the very it then so very"
POLITE = "hello bread oven very it then so very"
RUDE = "hello stupid oven very it then so very"
REPEATS = "and so so so it then so very"


def test_every_claim_holds_at_the_defaults() -> None:
    outcome = result()
    assert_claims_hold_as_listed(outcome, "reward-model")
    curve = outcome.figures[0]
    assert isinstance(curve, Lines)
    assert max(abs(a - b) for a, b in zip(curve.series["model"], curve.series["perfect"], strict=True)) < 0.2
    rewards = [float(row[1]) for row in outcome.tables[0].rows]
    assert rewards == sorted(rewards, reverse=True)


def test_few_careless_choices_do_not_show_what_people_share() -> None:
    outcome = result(pairs=100, noise=4.0)
    assert {"It orders new answers as people would", "Its number follows the hidden score"} <= {*failed(outcome)}


def test_an_ai_judge_teaches_an_order_of_its_own() -> None:
    assert 0.7 < metric(result(judge="ai"), "accuracy") < 1


def test_the_hidden_score_counts_what_it_says() -> None:
    expected = torch.tensor([[0, 0, 0, 0], [1, 2, 0, 0], [1, 1, 1, 0], [0, 0, 0, 2]])
    answers = said(PLAIN, POLITE, RUDE, REPEATS)
    assert torch.equal(features(answers), expected.float())
    torch.testing.assert_close(hidden_score(answers), expected.float() @ WANTED)


def test_the_rules_apply_in_their_order() -> None:
    a, b = said(POLITE, POLITE, PLAIN, PLAIN), said(RUDE, PLAIN, RUDE, REPEATS)
    assert rules_choose(a, b).numpy().tolist() == [True, True, True, False]
    assert rules_choose(b, a).numpy().tolist() == [False, False, False, False]  # nothing decides the last one


@given(st.floats(0.1, 4))
def test_choices_are_bradley_terry_of_the_labellers_own_scores(noise: float) -> None:
    a, b = said(POLITE).expand(4_000, -1), said(PLAIN).expand(4_000, -1)
    share = people_choose(a, b, WANTED[None], noise, rng(1)).float().mean().item()
    gap = (hidden_score(a) - hidden_score(b))[0].item()
    assert share == pytest.approx(1 / (1 + torch.e ** (-gap / noise)), abs=0.03)


def test_without_noise_the_better_one_always_wins_and_a_tie_is_a_coin() -> None:
    a, b = said(POLITE).expand(1_000, -1), said(PLAIN).expand(1_000, -1)
    assert people_choose(a, b, WANTED[None], 0.0, rng()).all()
    assert people_choose(a, a, WANTED[None], 0.0, rng()).float().mean().item() == pytest.approx(0.5, abs=0.05)


def test_the_loss_is_torchs_cross_entropy_of_two() -> None:
    better, worse = torch.randn(2, 50, generator=rng())
    reference = torch.nn.functional.cross_entropy(torch.stack([better, worse], 1), torch.zeros(50, dtype=torch.long))
    torch.testing.assert_close(preference_loss(better, worse), reference)
    torch.testing.assert_close(preference_loss(better + 7, worse + 7), reference, atol=1e-5, rtol=0)


def test_the_layer_is_torchs_attention() -> None:
    model, answers = RewardModel(rng()), draw_answers(6, rng(1))
    attention = torch.nn.MultiheadAttention(32, 1, batch_first=True)
    attention.load_state_dict({
        "in_proj_weight": model.qkv.weight, "in_proj_bias": model.qkv.bias,
        "out_proj.weight": model.out.weight, "out_proj.bias": model.out.bias,
    })  # fmt: skip
    x = model.words(answers) + model.places.weight
    x = x + attention(x, x, x)[0]
    expected = model.head((x + model.mlp(x)).mean(dim=1))[:, 0]
    torch.testing.assert_close(model(answers), expected, atol=1e-5, rtol=1e-5)


def test_accuracy_counts_clear_pairs_alone() -> None:
    gap, true_gap = torch.tensor([1.0, -1.0, 1.0]), torch.tensor([2.0, 0.5, 3.0])
    assert accuracy(gap, true_gap) == pytest.approx(2 / 3)
    assert accuracy(gap, true_gap, 1.0) == 1
