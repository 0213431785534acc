"""ALBERT beside transformers' AlbertForPreTraining with the same weights; pairs, counts and gradients."""

import importlib
from functools import cache
from typing import Any

import pytest
import torch

from demos.bert.albert_sharing import (
    CLS,
    HEADS,
    ID,
    LENGTH,
    MASK,
    SEP,
    SHARES,
    TOPICS,
    WORDS,
    A,
    Albert,
    B,
    H,
    Params,
    Share,
    count,
    draw_pairs,
    run,
    unrolled_gap,
)
from demos.contract import Bars, Result
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng

transformers: Any = importlib.import_module("transformers")
DEFAULT = Params.model_validate({})


@cache
def result() -> Result:
    return run(DEFAULT)


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "albert-sharing")


@pytest.mark.parametrize(
    ("preset", "claims"),
    [
        ("nothing shared", {"89 % are gone", "Depth is free"}),
        ("wide words", {"Short vectors and a projection"}),
    ],
)
def test_what_is_not_shared_or_not_factorised_is_counted(preset: str, claims: set[str]) -> None:
    outcome = run(Params.model_validate({**Params.presets[preset].values, "steps": 50}))
    assert {*failed(outcome)} - {"It still works", "Unshared layers hardly do better"} == claims


def topic(thing: str) -> int:
    return next(number for number, things in enumerate(TOPICS) if thing in things)


@pytest.mark.parametrize("task", ["order", "topic"])
def test_true_pairs_go_on_and_others_are_swapped_or_of_two_topics(task: str) -> None:
    words, hidden, true = draw_pairs(400, task, rng())
    assert 0.4 < true.float().mean().item() < 0.6
    assert not hidden[(words == CLS) | (words == SEP)].any()
    assert hidden[words > MASK].float().mean().item() == pytest.approx(0.15, abs=0.02)
    for row, is_true in zip(words, true, strict=True):
        (giver, _, thing, _, receiver), (giver2, _, thing2, _, receiver2) = (
            [WORDS[int(word)] for word in row[part]] for part in (A, B)
        )
        goes_on, same_topic = receiver == giver2, topic(thing) == topic(thing2)
        assert len({giver, receiver, giver2, receiver2}) == 3
        assert goes_on != (receiver2 == giver)
        assert (goes_on, same_topic) == ((bool(is_true), True) if task == "order" else (True, bool(is_true)))


def test_parameters_are_those_of_transformers_at_the_published_sizes() -> None:
    with torch.device("meta"):
        config = transformers.AlbertConfig(hidden_size=768, num_attention_heads=12, intermediate_size=3072)
        albert, bert = transformers.AlbertModel(config), transformers.BertModel(transformers.BertConfig())
    assert metric(result(), "parameters at ALBERT-base's size") * 1e6 == count(albert) == 11_683_584
    assert metric(result(), "parameters of BERT-base") * 1e6 == count(bert) == 109_482_240
    bars = result().figures[0]
    assert isinstance(bars, Bars)
    assert bars.series["parameters"][:4] == pytest.approx([89, 64, 38, 12], abs=0.7)  # table 4 of the paper


@pytest.mark.parametrize("share", SHARES)
def test_gradients_of_uses_add_up_whatever_is_shared(share: Share) -> None:
    model = Albert(DEFAULT, share, rng())
    assert unrolled_gap(model, DEFAULT, rng(1)) < 1e-5
    shared = count(model.encoder.layers[0])
    assert (count(model.encoder.layers) == shared) == (share == "all")


@pytest.mark.parametrize(("share", "groups"), [("all", 1), ("none", DEFAULT.layers)])
def test_both_heads_are_those_of_transformers_with_the_same_weights(share: Share, groups: int) -> None:
    ours = Albert(DEFAULT, share, rng())
    config = transformers.AlbertConfig(
        vocab_size=len(WORDS), embedding_size=DEFAULT.embed_dim, hidden_size=H, num_hidden_layers=DEFAULT.layers,
        num_hidden_groups=groups, num_attention_heads=HEADS, intermediate_size=4 * H, hidden_act="gelu",
        max_position_embeddings=LENGTH, layer_norm_eps=1e-5, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    reference = transformers.AlbertForPreTraining(config).eval()
    for name, weight in ours.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(weight, std=0.5, generator=rng(1))
    encoder = ours.encoder
    pairs: list[tuple[Any, str]] = [
        (encoder.words, "albert.embeddings.word_embeddings"), (encoder.places, "albert.embeddings.position_embeddings"),
        (encoder.segments, "albert.embeddings.token_type_embeddings"), (encoder.norm, "albert.embeddings.LayerNorm"),
        (encoder.widen, "albert.encoder.embedding_hidden_mapping_in"), (encoder.pooler, "albert.pooler"),
        (ours.narrow, "predictions.dense"), (ours.norm, "predictions.LayerNorm"),
        (ours.order, "sop_classifier.classifier"),
    ]  # fmt: skip
    layers: list[Any] = list(encoder.layers)
    for group in range(groups):
        layer, at = layers[group], f"albert.encoder.albert_layer_groups.{group}.albert_layers.0"
        pairs += [
            (layer.self_attn.out_proj, f"{at}.attention.dense"), (layer.norm1, f"{at}.attention.LayerNorm"),
            (layer.linear1, f"{at}.ffn"), (layer.linear2, f"{at}.ffn_output"),
            (layer.norm2, f"{at}.full_layer_layer_norm"),
        ]  # fmt: skip
        weights, biases = (part.chunk(3) for part in (layer.self_attn.in_proj_weight, layer.self_attn.in_proj_bias))
        for name, weight, bias in zip(("query", "key", "value"), weights, biases, strict=True):
            reference.get_submodule(f"{at}.attention.{name}").load_state_dict({"weight": weight, "bias": bias})
    for part, theirs in pairs:
        reference.get_submodule(theirs).load_state_dict(part.state_dict())
    words, _, _ = draw_pairs(6, "order", rng(2))
    segments = torch.tensor([[0] * 7 + [1] * 6]).expand(6, LENGTH)
    with torch.no_grad():
        filled, order = ours(words)
        expected = reference(input_ids=words, token_type_ids=segments)
    assert ID["[SEP]"] == SEP
    torch.testing.assert_close(filled, expected.prediction_logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(order, expected.sop_logits, atol=1e-5, rtol=1e-5)
