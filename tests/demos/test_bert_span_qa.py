"""Span answers: the world's passages, the pointers beside transformers' BertForQuestionAnswering, SQuAD's scores."""

import random
from functools import cache
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch.nn.functional import cross_entropy
from torchmetrics.functional.text import squad
from transformers import BertConfig, BertForQuestionAnswering

from demos.bert.bert_span_qa import (
    HEADS,
    LAYERS,
    LENGTH,
    WORDS,
    D,
    Params,
    Reader,
    encode,
    exact_match,
    f1,
    point,
    run,
    text,
    write_many,
)
from demos.contract import Result
from demos.shared.transformer import Block
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng


@cache
def result() -> Result:
    return run(Params.model_validate({}))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "bert-span-qa")
    assert metric(result(), "exact match") <= metric(result(), "F1")
    assert result().tables[0].rows[0][2] == result().tables[0].rows[0][3]  # the question of the parameters


def test_trained_on_answerable_questions_alone_it_never_declines() -> None:
    only = run(Params.model_validate(Params.presets["SQuAD 1.1"].values))
    assert failed(only) == ["It knows when to decline"]


def test_a_question_that_the_world_does_not_know_is_refused_with_examples() -> None:
    with pytest.raises(ValidationError, match="who built the museum"):
        Params.model_validate({"question": "who are you"})


def test_the_answer_stands_where_the_passage_says_and_unseen_facts_are_not_trained() -> None:
    seen, unseen = (write_many(400, 0.3, rng(), rival=False, unseen=unseen) for unseen in (False, True))

    told = [
        {(" ".join(p.words[1 : p.context - 1]), text(p, p.answer)) for p in passages if p.answer != (0, 0)}
        for passages in (seen, unseen)
    ]
    assert len(told[0]) > 100
    assert told[0].isdisjoint(told[1])
    for passage in [*seen, *unseen]:
        answered = passage.answer != (0, 0)
        assert passage.words.count(".") == 3
        assert not answered or passage.context <= passage.answer[0] <= passage.answer[1] < len(passage.words) - 1
    share = sum(p.answer == (0, 0) for p in seen) / len(seen)
    assert share == pytest.approx(0.3, abs=0.08)


def test_scores_and_loss_are_those_of_transformers_with_the_same_weights() -> None:
    """BERT norms after each part and this reader before it; so the encoder is bypassed by blocks that add nothing."""
    reader = Reader(rng())
    reader.norm.eps = 1e-12  # then a norm of a norm is the norm, and BERT has five in a row
    config = BertConfig(
        vocab_size=len(WORDS), hidden_size=D, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
        intermediate_size=4 * D, max_position_embeddings=LENGTH, type_vocab_size=2, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0, layer_norm_eps=1e-12,
    )  # fmt: skip
    reference: Any = BertForQuestionAnswering(config).eval()
    bert = reference.bert
    with torch.no_grad():
        for block in reader.blocks:
            assert isinstance(block, Block)
            for part in (block.out, block.down):  # what both add to x is nothing
                part.weight.zero_()
        for layer in bert.encoder.layer:
            for part in (layer.attention.output.dense, layer.output.dense):
                part.weight.zero_()
                part.bias.zero_()
        bert.embeddings.word_embeddings.weight.copy_(reader.words.weight)
        bert.embeddings.position_embeddings.weight.copy_(reader.positions.weight)
        bert.embeddings.token_type_embeddings.weight.copy_(reader.segments.weight)
        reference.qa_outputs.load_state_dict(reader.pointers.state_dict())
    passages = write_many(8, 0.3, rng(), rival=False, unseen=False)
    words, segments = encode(passages)
    ends = torch.tensor([passage.answer for passage in passages])
    for row, passage in enumerate(passages):
        some = slice(row, row + 1), slice(len(passage.words))  # transformers would spread the loss over padding too
        with torch.no_grad():
            ours = reader(words, segments)[row]
            theirs = reference(
                input_ids=words[some], token_type_ids=segments[some],
                start_positions=ends[row, :1], end_positions=ends[row, 1:],
            )  # fmt: skip
        logits = torch.cat([theirs.start_logits, theirs.end_logits])
        torch.testing.assert_close(ours[:, : len(passage.words)], logits, atol=1e-5, rtol=0)
        torch.testing.assert_close(cross_entropy(ours, ends[row]), theirs.loss, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("starts", "ends", "expected"),
    [
        ({5: 2.0}, {6: 2.0}, (5, 6)),
        ({8: 2.0, 5: 1.0}, {6: 2.0}, (5, 6)),  # the peaks are in the wrong order
        ({5: 2.0}, {9: 2.0, 7: 1.0}, (5, 7)),  # the best pair is too long
        ({2: 9.0, 5: 1.0}, {5: 1.0}, (5, 5)),  # in the question, not in the passage
        ({0: 2.0, 5: 1.0}, {0: 2.0, 5: 1.0}, (0, 0)),  # no answer scores higher
    ],
)
def test_the_best_valid_span_is_pointed_to(
    starts: dict[int, float], ends: dict[int, float], expected: tuple[int, int]
) -> None:
    scores = torch.full((2, LENGTH), -5.0)
    scores[:, -3:] = -torch.inf  # padding
    for side, values in enumerate((starts, ends)):
        for place, value in values.items():
            scores[side, place] = value
    assert point(scores, context=4, max_answer=3) == expected


def test_exact_match_and_f1_are_those_of_the_squad_script() -> None:
    """As torchmetrics has it, on 200 pairs of short texts with articles, capitals and punctuation."""
    chooser = random.Random(0)
    words = ["the", "The", "a", "Shanghai", "shanghai", "new", "delhi", "New Delhi.", "an", "1904", "may", "(May)"]
    for _ in range(200):
        given, right = (" ".join([*chooser.choices(words, k=3), "city"]) for _ in range(2))
        told = {"answers": {"answer_start": [0], "text": [right]}, "id": "0"}
        scores = squad({"prediction_text": given, "id": "0"}, told)
        assert exact_match(given, right) == scores["exact_match"].item() / 100
        assert f1(given, right) == pytest.approx(scores["f1"].item() / 100)


def test_no_answer_is_right_only_where_there_is_none() -> None:
    """SQuAD 2.0's rule."""
    assert (exact_match("", ""), f1("", "")) == (1, 1)
    assert (exact_match("", "lima"), f1("", "lima"), f1("lima", "")) == (0, 0, 0)
