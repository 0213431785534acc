"""BERT in miniature beside transformers' BertForPreTraining with the same weights; pairs, masks and blanks."""

from functools import cache
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from transformers import BertConfig, BertForPreTraining

from demos.bert.bert_pretraining import (
    BLANK,
    DEEDS,
    HEADS,
    IGNORED,
    LAYERS,
    LENGTH,
    MASK,
    PEOPLE,
    PLACES,
    SEP,
    WORDS,
    Bert,
    Block,
    D,
    Params,
    corrupt,
    draw_pairs,
    fill,
    run,
)
from demos.contract import Result
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng


@cache
def result() -> Result:
    return run(Params.model_validate({}))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "bert-pretraining")
    assert result().tables[0].rows[0][0] == "store"  # where one buys milk


def test_without_next_sentences_pairs_are_not_told_apart() -> None:
    alone = run(Params.model_validate({"nsp": False, "steps": 100}))
    assert "It tells a next sentence from another" in failed(alone)
    assert 0.3 < metric(alone, "pairs told apart") < 0.7


@pytest.mark.parametrize(
    ("sentence", "problem"),
    [
        ("she went to the pub to [MASK]", "unknown: pub"),
        ("she went to the park", "one of them"),
        ("[MASK] [MASK]", "one of them"),
    ],
)
def test_a_sentence_that_it_cannot_read_is_refused(sentence: str, problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        Params.model_validate({"sentence": sentence})


def spell(row: torch.Tensor) -> list[str]:
    return [WORDS[int(word)] for word in row]


def test_true_pairs_stay_at_one_place_and_the_others_never_do() -> None:
    pairs = draw_pairs(400, rng())
    assert 0.4 < pairs.follows.float().mean().item() < 0.6
    for row, segments, follows in zip(pairs.words, pairs.segments, pairs.follows, strict=True):
        words = spell(row)
        assert words[BLANK] in PLACES
        assert " ".join(words[7:9]) in PLACES[words[BLANK]][0]
        assert (words[-3] == PLACES[words[BLANK]][1]) == bool(follows)
        first = words.index("[SEP]")
        assert segments.numpy().tolist() == [0] * (first + 1) + [1] * (LENGTH - first - 1)
        assert words[1] == words[first + 2] in PEOPLE


def test_a_deed_tells_its_place() -> None:
    assert len({deed for _, deed in DEEDS}) == len(DEEDS) == 15


def test_masks_are_80_10_10_of_the_chosen_share_and_targets_are_the_words() -> None:
    words = draw_pairs(4000, rng()).words
    read, targets = corrupt(words, 0.15, rng(1))
    chosen = targets != IGNORED
    assert torch.equal(targets[chosen], words[chosen])
    assert torch.equal(read[~chosen], words[~chosen])
    ordinary = words > MASK
    assert not chosen[~ordinary].any()
    assert chosen[ordinary].float().mean().item() == pytest.approx(0.15, abs=0.005)
    assert (read[chosen] == MASK).float().mean().item() == pytest.approx(0.8, abs=0.01)
    kept = (read[chosen] == words[chosen]).float().mean().item()
    assert kept == pytest.approx(0.1 + 0.1 / (len(WORDS) - MASK - 1), abs=0.01)  # a random word may be the same


def test_a_causal_model_sees_nothing_to_the_right() -> None:
    for causal in (True, False):
        model = Bert(causal, rng())
        pairs = draw_pairs(1, rng())
        changed = pairs.words.clone()
        changed[0, 8] = (changed[0, 8] + 1 - MASK) % 10 + MASK + 1
        with torch.no_grad():
            gap = (model(pairs.words, pairs.segments)[0] - model(changed, pairs.segments)[0])[0, :8].abs().max().item()
        assert (gap < 1e-6) == causal


def test_the_blank_gets_five_words_with_falling_probabilities() -> None:
    found = fill(Bert(False, rng()), "he went to the [MASK] to play ball")
    chances = [p for _, p in found]
    assert len(found) == 5
    assert chances == sorted(chances, reverse=True)
    assert sum(chances) <= 1


def test_both_heads_are_those_of_transformers_with_the_same_weights() -> None:
    ours = Bert(False, rng()).eval()
    config = BertConfig(
        vocab_size=len(WORDS), hidden_size=D, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
        intermediate_size=4 * D, max_position_embeddings=LENGTH, type_vocab_size=2, hidden_act="gelu",
        layer_norm_eps=1e-5, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    reference: Any = BertForPreTraining(config).eval()
    for part, theirs in (
        (ours.words, "bert.embeddings.word_embeddings"), (ours.positions, "bert.embeddings.position_embeddings"),
        (ours.segments, "bert.embeddings.token_type_embeddings"), (ours.norm, "bert.embeddings.LayerNorm"),
        (ours.transform, "cls.predictions.transform.dense"),
        (ours.transform_norm, "cls.predictions.transform.LayerNorm"),
        (ours.pooler, "bert.pooler.dense"), (ours.next_sentence, "cls.seq_relationship"),
    ):  # fmt: skip
        torch.nn.init.normal_(next(reversed(list(part.parameters()))), std=0.5, generator=rng(1))  # biases too
        reference.get_submodule(theirs).load_state_dict(part.state_dict())
    with torch.no_grad():
        torch.nn.init.normal_(ours.word_bias.bias, generator=rng(2))
        reference.cls.predictions.bias.copy_(ours.word_bias.bias)
    names = {
        "q": "attention.self.query", "k": "attention.self.key", "v": "attention.self.value",
        "out": "attention.output.dense", "norm1": "attention.output.LayerNorm", "up": "intermediate.dense",
        "down": "output.dense", "norm2": "output.LayerNorm",
    }  # fmt: skip
    for block, layer in zip(ours.blocks, reference.bert.encoder.layer, strict=True):
        assert isinstance(block, Block)
        for name, theirs in names.items():
            layer.get_submodule(theirs).load_state_dict(block.get_submodule(name).state_dict())
    pairs = draw_pairs(6, rng())
    assert (pairs.words == SEP).sum().item() == 12
    with torch.no_grad():
        filled, follows = ours(pairs.words, pairs.segments)
        expected = reference(input_ids=pairs.words, token_type_ids=pairs.segments)
    torch.testing.assert_close(filled, expected.prediction_logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(follows, expected.seq_relationship_logits, atol=1e-5, rtol=1e-5)
