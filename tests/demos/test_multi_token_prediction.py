"""Multi-token prediction: what each module sees, predicts and shares, and drafts that never change the text."""

from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from demos.contract import Result
from demos.deepseek.multi_token_prediction import (
    LENGTH,
    PROMPT,
    WRITTEN,
    D,
    Model,
    Module,
    Params,
    draft,
    looks_ahead,
    losses,
    run,
    sampled_difference,
    write_alone,
    write_with_drafts,
)
from demos.shared.grammar import WORDS, draw_text
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng


@cache
def result() -> Result:
    return run(Params.model_validate({}))


def words(rows: int = 2) -> torch.Tensor:
    return draw_text(100, True, rng(1))[: rows * LENGTH].view(rows, LENGTH)


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "multi-token-prediction")
    assert 1 < metric(result(), "tokens per pass") <= 2


def test_untrained_modules_gain_nothing_and_change_nothing() -> None:
    idle = run(Params.model_validate({**Params.presets["weight 0"].values, "steps": 60}))
    assert failed(idle) == ["Drafts hold", "So a pass writes more than a token"]


def test_without_drafts_each_pass_writes_one_token() -> None:
    assert metric(run(Params.model_validate({"speculate": False, "steps": 50})), "tokens per pass") == 1


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 999), depth=st.integers(1, 3))
def test_any_model_writes_the_same_with_drafts_as_alone(seed: int, depth: int) -> None:
    model, prompt = Model(depth, rng(seed)), words()[0, :PROMPT]
    alone, drafted = write_alone(model, prompt, WRITTEN), write_with_drafts(model, prompt, WRITTEN)
    assert drafted.words == alone.words
    assert WRITTEN / (depth + 1) <= drafted.passes <= alone.passes == WRITTEN
    for fate in drafted.accepted:
        assert len(fate) <= depth
        assert all(fate[:-1])  # after a refusal nothing more is looked at


def test_drafts_that_always_hold_write_all_tokens_of_a_pass() -> None:
    """Where every word is followed by itself, whoever reads the last word of a text knows the rest."""
    model = Model(2, rng())
    modules = [module for module in model.extra if isinstance(module, Module)]
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
        torch.nn.init.normal_(model.main.words.weight, generator=rng())
        for norm in (model.main.norm, *(module.norm for module in modules), *(each.norm_token for each in modules)):
            norm.weight.fill_(1.0)
        for module in modules:
            module.project.weight[:, D:] = torch.eye(D)
    drafted = write_with_drafts(model, words()[0, :PROMPT], 12)
    assert len(set(drafted.words)) == 1
    assert drafted.passes == 5  # one without drafts, then three tokens each


def test_each_module_predicts_one_word_further() -> None:
    model, rows = Model(2, rng()), words()
    logits = model(rows)
    assert [each.shape[1] for each in logits] == [LENGTH, LENGTH - 1, LENGTH - 2]
    for k, (loss, each) in enumerate(zip(losses(model, rows), logits, strict=True)):
        by_hand = [cross_entropy(each[:, place], rows[:, place + k + 1]) for place in range(LENGTH - k - 1)]
        torch.testing.assert_close(loss, torch.stack(by_hand).mean())


@pytest.mark.parametrize("depth", [1, 3])
def test_no_module_sees_the_word_that_it_predicts(depth: int) -> None:
    too_far, within = looks_ahead(Model(depth, rng()), words())
    assert too_far == 0
    assert within > 1e-4


def test_a_draft_is_what_the_module_predicts_from_words_alone() -> None:
    model, row = Model(2, rng()), words(1)[:, :12]
    logits = model(row)
    expected = int(logits[1][0, -1].argmax())  # after 12 words, from those at places 10 and 11
    with torch.no_grad():
        hidden = model.main.hidden(row[:, :-1])
    assert draft(model, row[0].numpy().tolist(), hidden)[0] == expected


def test_verified_sampling_keeps_the_odds_of_an_untrained_model_too() -> None:
    assert sampled_difference(Model(1, rng()), words()) < 1e-5


def test_modules_have_no_table_of_words_of_their_own() -> None:
    model = Model(3, rng())
    tables = [name for name, weight in model.named_parameters() if len(WORDS) in weight.shape]
    assert tables == ["main.words.weight"]
