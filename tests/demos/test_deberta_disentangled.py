"""Disentangled attention beside transformers' Deberta with the same weights, and by hand; texts and places."""

import importlib
import math
from functools import cache
from typing import Any

import pytest
import torch

from demos.bert.deberta_disentangled import (
    HEADS,
    HIDDEN,
    LENGTH,
    MASK,
    D,
    Deberta,
    Disentangled,
    Params,
    accuracy,
    delta,
    draw_texts,
    pretrain,
    run,
    split,
)
from demos.contract import Result, no_tick
from demos.shared.transformer import start
from tests.demos.outcomes import assert_claims_hold_as_listed, rng

deberta: Any = importlib.import_module("transformers.models.deberta.modeling_deberta")
transformers: Any = importlib.import_module("transformers")
ALL = ["c2c", "c2p", "p2c"]


@cache
def result() -> Result:
    return run(Params.model_validate({}))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "deberta-disentangled")
    assert len(result().tables[0].rows) == 4


@pytest.mark.parametrize("preset", ["no absolute place", "contents alone", "short sight"])
def test_without_absolute_or_relative_places_hidden_words_are_not_found(preset: str) -> None:
    params = Params.model_validate(Params.presets[preset].values)
    model = pretrain(params.terms, params.absolute_at_end, params, no_tick, 0.0)
    assert accuracy(model, *draw_texts(500, rng(1))) < 0.75


def test_a_hidden_word_repeats_one_or_two_places_back_and_that_place_is_seen() -> None:
    texts, hidden = draw_texts(500, rng())
    assert (hidden.sum(dim=1) == HIDDEN).all()
    assert (texts > MASK).all()
    seen = set[int]()
    for row, place in hidden.nonzero().numpy().tolist():
        source = place - 1 if place % 2 else place - 2
        assert texts[row, place] == texts[row, source]
        assert not hidden[row, place - 2 : place].any()
        seen.add(place)
    assert seen == set(range(2, LENGTH))


def test_distances_have_the_rows_of_equation_3() -> None:
    rows = delta(12, 4)
    assert rows[5].numpy().tolist() == [7, 7, 7, 6, 5, 4, 3, 2, 1, 0, 0, 0]


def layer() -> Disentangled:
    made = Disentangled()
    start(made, rng())
    return made


def reference_attention(ours: Disentangled, kinds: list[str], k: int) -> Any:
    config = transformers.DebertaConfig(
        hidden_size=D, num_attention_heads=HEADS, relative_attention=True, max_relative_positions=k,
        pos_att_type=kinds, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    reference = deberta.DisentangledSelfAttention(config).eval()
    by_head = [part.weight.view(HEADS, -1, D) for part in (ours.q, ours.k, ours.v)]
    weights = {"in_proj.weight": torch.cat(by_head, dim=1).flatten(0, 1), "q_bias": torch.zeros(D)}
    weights |= {"v_bias": torch.zeros(D)}
    if "c2p" in kinds:
        weights["pos_proj.weight"] = ours.k_r.weight
    if "p2c" in kinds:
        weights |= {"pos_q_proj.weight": ours.q_r.weight, "pos_q_proj.bias": torch.zeros(D)}
    reference.load_state_dict(weights)
    return reference


@pytest.mark.parametrize(("kinds", "k"), [([], 16), (["c2p"], 16), (["c2p"], 4), (["p2c"], 16)])
def test_scores_and_output_are_those_of_transformers_with_the_same_weights(kinds: list[str], k: int) -> None:
    ours, names = layer(), ["c2c", *kinds]
    x, table = torch.randn(2, 10, D, generator=rng(1)), torch.randn(2 * k, D, generator=rng(2))
    theirs = table
    if kinds == ["p2c"]:  # read at δ(i, j) where the paper has δ(j, i); with k > n the same rows backwards
        theirs = table[(2 * k - torch.arange(2 * k)).clamp(max=2 * k - 1)]
    distance = torch.arange(10)[:, None] - torch.arange(10)
    with torch.no_grad():
        out, weights = reference_attention(ours, kinds, k)(
            x, torch.ones(2, 1, 10, 10), output_attentions=True, relative_pos=distance[None], rel_embeddings=theirs
        )
        mine = ours.scores(x, x, table, names).softmax(dim=3)
        mixed = (mine @ split(ours.v(x))).transpose(1, 2).flatten(2)
    torch.testing.assert_close(mine, weights, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(mixed, out, atol=1e-5, rtol=1e-5)


def test_with_all_terms_variances_add_up_to_three_d() -> None:
    ours = layer()
    x, table = torch.randn(20, 40, D, generator=rng(1)), torch.randn(160, D, generator=rng(2))
    with torch.no_grad():
        assert ours.scores(x, x, table, ALL).std().item() == pytest.approx(1, abs=0.2)
        raw = sum(ours.terms(x, x, table).values(), torch.zeros(()))
    assert raw.std().item() == pytest.approx(math.sqrt(3 * D / HEADS), rel=0.2)


def test_relative_layers_alone_give_every_place_of_a_monotonous_text_the_same_answer() -> None:
    text = torch.full((1, LENGTH), 3)
    with torch.no_grad():
        for absolute in (False, True):
            logits = Deberta("c2c+c2p+p2c", absolute, 8, rng())(text)[0]
            assert ((logits - logits[0]).abs().max().item() < 1e-4) == (not absolute)
