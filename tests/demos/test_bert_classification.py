"""Fine-tuning a classifier: the texts, what is new, what is trained, and what pre-training brings."""

import re
from functools import cache

import pytest
import torch

from demos.bert.bert_classification import (
    BLAME,
    CLASSES,
    ENDINGS,
    FAULTS,
    LENGTH,
    PAD,
    PRAISE,
    THINGS,
    WORDS,
    Classifier,
    D,
    Params,
    fine_tune,
    look,
    run,
    write,
    write_many,
)
from demos.contract import Result
from demos.shared.transformer import Transformer
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng


@cache
def result() -> Result:
    return run(Params.model_validate({}))


def encoder() -> Transformer:
    return Transformer(len(WORDS), LENGTH, D, 1, 4, rng(), causal=False)


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "bert-classification")
    assert metric(result(), "new weights") == D * 2 + 2


def test_from_scratch_sixty_labels_are_too_few() -> None:
    scratch = run(Params.model_validate(Params.presets["from scratch"].values))
    assert failed(scratch) == ["It classifies", "Pre-training helps", "Not good is not good"]


def test_tickets_are_told_by_their_words_alone() -> None:
    tickets = run(Params.model_validate({"task": "tickets", "pretrain_steps": 50}))
    assert "It classifies" not in failed(tickets)


@pytest.mark.parametrize("label", [0, 1])
def test_verdicts_of_a_review_agree_and_not_turns_one_around(label: int) -> None:
    generator = rng()
    for _ in range(100):
        text = " ".join(write("sentiment", label, False, generator))
        for not_, word in re.findall(r"\w+ (not )?(\w+) \.", text):
            assert (word in PRAISE) != (word in BLAME)
            assert (word in PRAISE) == (bool(label) != bool(not_))


def test_a_ticket_has_words_of_its_class_and_only_unlabelled_texts_an_ending() -> None:
    for label, name in enumerate(CLASSES["tickets"]):
        _, thing, fault, _ = write("tickets", label, False, rng())
        assert thing in THINGS[name]
        assert fault in FAULTS[name]
        assert write("tickets", label, True, rng())[-2:] == ENDINGS["tickets"][label]


def test_texts_are_framed_and_padding_is_not_looked_at() -> None:
    rows, labels = write_many("sentiment", 300, True, rng())
    assert rows.shape == (300, LENGTH)
    assert WORDS[int(rows[0, 0])] == "[CLS]"
    assert 0.35 < labels.float().mean().item() < 0.65
    model = Classifier(encoder(), 2)
    torch.nn.init.normal_(model.head.weight, generator=rng())
    short = rows[(rows[:, -1] == PAD)][:1]
    other = short.masked_fill(short == PAD, 7)
    assert look(short).shape == (1, 1, 1, LENGTH)
    hidden = model.encoder.hidden(other, look(short))[:, 0]
    torch.testing.assert_close(model.head(hidden), model(short))


@pytest.mark.parametrize("freeze", [True, False])
def test_a_frozen_encoder_stays_and_the_one_given_is_never_changed(freeze: bool) -> None:
    texts, labels = write_many("sentiment", 40, False, rng())
    given = encoder()
    before = {name: value.clone() for name, value in given.state_dict().items()}
    model, losses = fine_tune(given, texts, labels, Params.model_validate({"steps": 20}), freeze, rng())
    assert len(losses) == 20
    assert all(torch.equal(value, before[name]) for name, value in given.state_dict().items())
    same = all(torch.equal(value, before[name]) for name, value in model.encoder.state_dict().items())
    assert same == freeze
    assert model.head.weight.abs().sum().item() > 0


def test_the_classifier_starts_undecided() -> None:
    texts, _ = write_many("sentiment", 5, False, rng())
    torch.testing.assert_close(Classifier(encoder(), 2)(texts).softmax(dim=1), torch.full((5, 2), 0.5))
