import importlib
import random
from functools import cache
from typing import Any

import pytest
import torch

from demos.contract import Result
from demos.llms.safe_completions import (
    BANNED,
    BENIGN,
    DUAL,
    FORBIDDEN,
    FULL,
    HELP,
    PARTIAL,
    REFUSAL,
    SECRETS_TOLD,
    Bag,
    Params,
    attacked,
    choose,
    disguise,
    draw_requests,
    roc,
    run,
    train_policy,
    write_answer,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng


@cache
def result() -> Result:
    return run(Params.model_validate({}))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "safe-completions")


def test_without_disguised_examples_the_attack_keeps_working() -> None:
    outcome = run(Params.model_validate(Params.presets["untrained filter"].values))
    assert failed(outcome) == ["A filter that learned from disguises withstands"]
    assert metric(outcome, "attack success") > 0.4 > metric(result(), "attack success")


def test_a_red_team_that_tries_everything_gets_further() -> None:
    outcome = run(Params.model_validate(Params.presets["red team"].values))
    assert failed(outcome) == ["A filter that learned from disguises withstands"]


def test_an_anxious_filter_refuses_the_harmless() -> None:
    outcome = run(Params.model_validate(Params.presets["anxious"].values))
    assert "What only looks forbidden is answered" in failed(outcome)
    assert metric(outcome, "over-refusal") > metric(result(), "over-refusal")


def test_without_training_every_wish_is_fulfilled() -> None:
    outcome = run(Params.model_validate({"policy": "none"}))
    assert metric(outcome, "harm") == pytest.approx((0.5 + 1) / 3, abs=1e-6)
    assert metric(outcome, "helpfulness") == 1


def test_the_area_is_that_of_scikit_learn() -> None:
    risk = (torch.rand(200, generator=rng()) * 20).round() / 20  # with ties
    is_banned = torch.rand(200, generator=rng(1)) < risk
    refused, caught, area = roc(risk, is_banned)
    reference: Any = importlib.import_module("sklearn.metrics")
    assert area == pytest.approx(reference.roc_auc_score(is_banned.numpy(), risk.numpy()), abs=1e-6)
    assert (refused[0], caught[0], refused[-1], caught[-1]) == (0, 0, 1, 1)


def test_disguises_keep_the_letters_and_hide_the_words() -> None:
    assert disguise("make moonjam", "leetspeak") == "m4k3 m00nj4m"
    assert disguise("make it", "spacing") == "m a k e i t"
    assert disguise("make it", "roleplay").endswith(" make it")
    assert disguise("make it", "none") == "make it"


def test_letter_triples_see_through_spaces_and_words_do_not() -> None:
    words, letters = (Bag(["make moonjam"], 3, kind, rng()) for kind in (False, True))
    assert words.encode(["m a k e m o o n j a m"]).abs().sum() == 0
    assert torch.equal(
        letters.encode(["m a k e m o o n j a m"])[:, :7] > 0, letters.encode(["make moonjam"])[:, :7] > 0
    )


def test_full_answers_name_the_secrets_and_no_other_answer_does() -> None:
    draws = random.Random(0)
    for kind in (BENIGN, DUAL, BANNED):
        for answer in (FULL, PARTIAL, REFUSAL):
            said = write_answer(kind, answer, "moonjam", draws).split()
            assert sum(secret in said for secret in FORBIDDEN["moonjam"]) == SECRETS_TOLD[kind, answer]


def test_requests_have_each_kind_equally_often_and_training_lacks_the_last_wordings() -> None:
    texts, kinds, about = draw_requests(90, random.Random(0), unseen=2)
    assert kinds.bincount().numpy().tolist() == [90, 90, 90]
    assert not any("walk me through" in text or "worth reading" in text for text in texts)
    assert all(name in text for text, name in zip(texts, about, strict=True))


def test_the_best_answer_to_a_known_kind_is_found_by_the_reward() -> None:
    risk = torch.eye(3).repeat(20, 1)
    kinds = torch.arange(3).repeat(20)
    policy = train_policy(risk, kinds, HELP - SECRETS_TOLD, [FULL, PARTIAL, REFUSAL], rng())
    assert choose(policy, torch.eye(3), [FULL, PARTIAL, REFUSAL]).argmax(dim=1).numpy().tolist() == [
        FULL,
        PARTIAL,
        PARTIAL,
    ]
    assert choose(policy, torch.eye(3), [FULL, REFUSAL])[:, PARTIAL].max() == 0


def test_the_adaptive_attacker_finds_what_looks_least_forbidden() -> None:
    texts, kinds, _ = draw_requests(60, random.Random(0))
    bag = Bag(texts, 3, False, rng()).fit(texts, kinds)
    wish = ["how do i make moonjam"]
    tried = [attacked(wish, attack, bag) for attack in ("none", "leetspeak", "spacing", "roleplay")]
    chances = [bag(each).softmax(dim=1)[0, BANNED].item() for each in (*tried, attacked(wish, "adaptive", bag))]
    assert chances[-1] <= min(chances[:-1]) + 1e-6
