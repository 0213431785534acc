import importlib
from functools import cache
from typing import Any

import pytest
import torch

from demos.bert.bert_masking import (
    CHOSEN,
    KEPT,
    LENGTH_ODDS,
    MASKED,
    RANDOM,
    UNCHOSEN,
    Params,
    choose,
    corrupt,
    draw_lengths,
    run,
    write,
)
from demos.contract import Result
from demos.shared import paraphrases as toy
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng

transformers: Any = importlib.import_module("transformers")


@cache
def result() -> Result:
    return run(Params.model_validate({}))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "bert-masking")


@pytest.mark.parametrize(
    ("preset", "claim"),
    [("always [MASK]", "Who saw only [MASK] asked cannot read"), ("static", "Every epoch hides other words")],
)
def test_what_80_10_10_and_fresh_masks_are_for(preset: str, claim: str) -> None:
    outcome = run(Params.model_validate({**Params.presets[preset].values, "steps": 50}))
    assert claim in failed(outcome)


def test_larger_batches_mean_fewer_steps_and_no_sentence_task_no_score_for_it() -> None:
    outcome = run(Params.model_validate({**Params.presets["RoBERTa"].values, "steps": 50}))
    assert metric(outcome, "steps of each arm") == 25
    assert [row[-1] for row in outcome.tables[1].rows] == ["no such task"] * 2


def test_the_rates_are_those_of_transformers() -> None:
    x, _ = write(5000, "nsp", rng())
    _, kind = corrupt(x, choose(x, "dynamic", rng(1)), 0.8, 0.1, rng(2))
    vocabulary = {word: number for number, word in enumerate(toy.WORDS)}
    backend = importlib.import_module("tokenizers").Tokenizer(
        importlib.import_module("tokenizers.models").WordLevel(vocabulary)
    )
    special = {f"{kind}_token": f"[{kind.upper()}]" for kind in ("mask", "cls", "sep", "pad")}
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=backend, **special)
    collator = transformers.DataCollatorForLanguageModeling(tokenizer, mlm_probability=CHOSEN, seed=0)
    batch = collator([{"input_ids": row} for row in x])
    theirs, asked = batch["input_ids"], batch["labels"] != -100
    words = (x > toy.SEP).sum().item()
    assert not (asked & (x <= toy.SEP)).any()
    assert (kind > 0).sum().item() / words == pytest.approx(asked.sum().item() / words, abs=0.01)
    masked = (theirs[asked] == toy.MASK).float().mean().item()
    kept = (theirs[asked] == x[asked]).float().mean().item()  # theirs draws any token at random, the same at times
    ours = [(kind == number).sum().item() / (kind > 0).sum().item() for number in (MASKED, RANDOM, KEPT)]
    assert ours == pytest.approx([masked, 1 - masked - kept, kept], abs=0.015)


def test_corruption_changes_chosen_words_only_and_each_as_its_kind_says() -> None:
    x, _ = write(2000, "nsp", rng())
    chosen = choose(x, "dynamic", rng(1))
    read, kind = corrupt(x, chosen, 0.5, 0.3, rng(2))
    assert ((kind != UNCHOSEN) == chosen).all()
    assert (read[kind == MASKED] == toy.MASK).all()
    same = (kind == UNCHOSEN) | (kind == KEPT)
    assert torch.equal(read[same], x[same])
    assert (read[kind == RANDOM] > toy.HOW).all()
    read, kind = corrupt(x, chosen, 0.0, 0.0, rng(2))
    assert torch.equal(read, x)
    assert (kind[chosen] == KEPT).all()


@pytest.mark.parametrize("strategy", ["dynamic", "span"])
def test_15_percent_are_chosen_at_every_place_of_a_text(strategy: str) -> None:
    x, _ = write(20_000, "nsp", rng())
    share = choose(x, strategy, rng(1)).float().mean(dim=0)  # (23,)
    words = x[0] > toy.SEP
    assert share[words].numpy() == pytest.approx(0.15, abs=0.012)
    assert (share[~words] == 0).all()


def test_words_of_spans_stand_together() -> None:
    x, _ = write(20_000, "nsp", rng())

    def chosen_beside(strategy: str) -> float:
        chosen = choose(x, strategy, rng(1))
        return chosen[:, 2:11][chosen[:, 1:10]].float().mean().item()

    assert chosen_beside("dynamic") == pytest.approx(0.15, abs=0.01)
    assert chosen_beside("span") > 0.7  # 1 − 1 / 3.8 within a span, and a little from the next one


def test_span_lengths_follow_the_law_cut_at_ten() -> None:
    odds = LENGTH_ODDS / LENGTH_ODDS.sum()
    assert (odds * torch.arange(1, 11)).sum().item() == pytest.approx(3.80, abs=0.005)
    drawn = draw_lengths(50_000, rng())
    assert (drawn.bincount(minlength=11)[1:] / len(drawn)).numpy() == pytest.approx(odds.numpy(), abs=0.01)


def test_halves_belong_together_as_the_sentence_task_says() -> None:
    concept = torch.tensor([0] * 6 + [k for kind in toy.KINDS for k, two in enumerate(kind) for _ in two])
    for task in ("nsp", "sop", "none"):
        x, follows = write(2000, task, rng())
        subjects, verbs = concept[x[:, [1, 6, 12, 17]]], concept[x[:, [2, 7, 13, 18]]]
        one_story = (subjects == subjects[:, :1]).all(dim=1)
        in_order = (verbs == torch.arange(4)).all(dim=1)
        assert in_order[follows == 1].all()
        assert one_story[follows == 1].all()
        assert (follows.float().mean().item() == 1) == (task == "none")
        if task == "sop":
            assert one_story.all()
            assert (verbs[follows == 0] == torch.tensor([2, 3, 0, 1])).all()
        if task == "nsp":
            assert one_story[follows == 0].float().mean() < 0.25
