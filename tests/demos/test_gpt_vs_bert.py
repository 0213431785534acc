from functools import cache

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from demos.contract import Result
from demos.gpt.gpt_vs_bert import (
    HEADS,
    MASK,
    PERSON,
    TOOL,
    WORDS,
    D,
    Params,
    attention_map,
    draw_text,
    fill,
    first_of,
    is_grammatical,
    run,
    write,
)
from demos.shared.transformer import Block, Transformer
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng


@cache
def result() -> Result:
    return run(Params.model_validate({}))


def network(causal: bool) -> Transformer:
    return Transformer(len(WORDS), 14, D, 2, HEADS, rng(), causal=causal)


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "gpt-vs-bert")


def test_bert_is_slower_to_learn() -> None:
    outcome = run(Params.model_validate(Params.presets["stopped early"].values))
    assert "Where the right side decides, BERT fills the blank" in failed(outcome)
    assert metric(outcome, "blank decided from the right, BERT") < 0.6


def test_both_fill_a_blank_that_the_left_decides() -> None:
    for name in ("GPT", "BERT"):
        assert metric(result(), f"blank decided from the left, {name}") > 0.9


def test_the_table_shows_the_comparison_that_was_asked_for() -> None:
    rows = run(Params.model_validate({"task": "classify", "steps": 50})).tables[0].rows
    assert [row[0] for row in rows] == [
        "probe: is the tool the person's?", "signal per step, share of words", "parameters"
    ]  # fmt: skip


@torch.no_grad()
@pytest.mark.parametrize("causal", [True, False])
def test_attention_is_torch_s_own_with_and_without_the_triangle(causal: bool) -> None:
    model, words = network(causal), draw_text(1, 14, rng(1))[0]
    allowed, weights = attention_map(model, words)
    assert allowed.sum() == (14 * 15 / 2 if causal else 14 * 14)
    block = model.blocks[0]
    assert isinstance(block, Block)
    x = model.words(words) + model.positions.weight
    q, k, _ = block.qkv(block.norm1(x)).view(14, 3, HEADS, D // HEADS).permute(1, 2, 0, 3)
    eye = torch.eye(14).expand(HEADS, 14, 14)  # with unit vectors as values the output is the weights
    expected = scaled_dot_product_attention(q, k, eye, is_causal=causal).mean(dim=0)
    assert torch.allclose(weights, expected, atol=1e-6)


@torch.no_grad()
def test_the_mask_is_all_that_differs() -> None:
    gpt, bert, x = network(True), network(False), draw_text(5, 14, rng(1))
    for ours, theirs in zip(gpt.parameters(), bert.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    changed = x.clone()
    changed[:, 9:] = MASK
    assert torch.allclose(gpt(x)[:, :9], gpt(changed)[:, :9], atol=1e-6)
    assert not torch.allclose(bert(x)[:, :9], bert(changed)[:, :9], atol=1e-2)
    triangle = torch.ones(14, 14).tril().bool()
    assert torch.allclose(bert(x, triangle), gpt(x), atol=1e-6)


def test_text_is_grammatical_and_what_breaks_it_is_seen() -> None:
    x = draw_text(300, 24, rng())
    assert all(is_grammatical(row[1:]) for row in x.numpy().tolist())
    first, second = "the sailor takes the old boat .", "the baker sees the bread ."
    for text, good in (
        (first, True), (f"{first} {second}", True), (f"{first} the baker", True), ("the baker sees the", False),
        ("the baker sees the boat .", False), (f"{first} the baker sees bread .", False), ("the old sailor .", False),
        (f"{first} .", False),
    ):  # fmt: skip
        assert is_grammatical([WORDS.index(word) for word in text.split()]) == good, text


def test_the_blank_is_the_person_and_only_the_tool_tells_it() -> None:
    x = draw_text(4000, 14, rng())
    person, tool = first_of(x, PERSON), first_of(x, TOOL)
    assert (person == 2).all()
    assert set(tool.numpy().tolist()) == {5, 6}
    rows = torch.arange(len(x))
    assert (x[rows, person] - PERSON == x[rows, tool] - TOOL).all()
    verbs = x[:, 3][x[:, 2] == PERSON].bincount()
    assert verbs[verbs > 0].float().std() < 0.2 * verbs.float().max()  # the verb tells nothing


@torch.no_grad()
def test_writing_gives_words_only_and_guesses_of_untrained_networks_are_bad() -> None:
    for causal in (True, False):
        model = network(causal)
        rows = write(model, 5, 14, rng(1))
        assert [len(row) for row in rows] == [13] * 5
        assert max(map(max, rows)) < MASK
        x = draw_text(500, 14, rng(2))
        assert fill(model, x, first_of(x, PERSON)) < 0.4
