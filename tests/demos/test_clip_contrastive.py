"""The contrastive loss beside transformers' and by hand, groups of pairs, and what becomes of it without negatives."""

import math
from functools import cache

import pytest
import torch
from torch import Tensor
from transformers.models.clip import modeling_clip

from demos.contract import Cell, Result
from demos.vision_transformers.clip_contrastive import (
    CAPTIONS,
    CLIP,
    DIGITS,
    INKS,
    LENGTH,
    TEMPLATES,
    WORDS,
    Params,
    classify,
    contrastive_loss,
    paint,
    run,
    tokenize,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng


@cache
def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def unit(*shape: int) -> Tensor:
    return torch.nn.functional.normalize(torch.randn(*shape, generator=rng()), dim=-1)


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "clip-contrastive")
    assert [row[1] for row in result().tables[0].rows] == [10, 4, 40, 40]


def test_without_negatives_everything_collapses() -> None:
    outcome = result(loss="attract", steps=120)
    assert {
        "Names in a sentence never read tell digits",
        "Negatives teach",
        "They keep pictures apart",
    } <= {*failed(outcome)}
    assert outcome.claims[3].measured > 0.95


def test_a_flat_softmax_does_not_tell_digits() -> None:
    outcome = result(temperature=1.0, learned=False, steps=150)
    assert "Names in a sentence never read tell digits" in failed(outcome)
    assert metric(outcome, "temperature") == pytest.approx(1.0)


def test_the_loss_is_that_of_transformers() -> None:
    images, texts = unit(2, 12, 8)
    expected = modeling_clip.image_text_contrastive_loss(14.0 * texts @ images.T)
    torch.testing.assert_close(contrastive_loss(images, texts, 14.0), expected, atol=1e-6, rtol=0)


def test_groups_are_batches_of_their_own() -> None:
    images, texts = unit(2, 5, 4, 8)
    alone = torch.stack([contrastive_loss(x, y, 3.0) for x, y in zip(images, texts, strict=True)])
    torch.testing.assert_close(contrastive_loss(images, texts, 3.0), alone.mean())


def test_a_perfect_pair_costs_what_its_distance_from_the_others_says() -> None:
    opposite = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    assert contrastive_loss(opposite, opposite, 2.0).item() == pytest.approx(math.log(1 + math.exp(-4.0)), abs=1e-6)
    same = opposite[:1].expand(6, 2)
    assert contrastive_loss(same, same, 9.0).item() == pytest.approx(math.log(6), abs=1e-5)  # all alike: a guess


def test_encodings_have_length_one_and_padding_says_nothing() -> None:
    model = CLIP(Params.model_validate({}), rng())
    ids = tokenize(["a photo of a three", "three", "this is a red nine"])
    texts = model.encode_texts(ids)
    torch.testing.assert_close(texts.square().sum(dim=1), torch.ones(3))
    alone = model.encode_texts(tokenize(["three"]))
    torch.testing.assert_close(texts[1:2], alone)
    filled = ids.clone()
    model.words.weight.data[0] += 5.0  # the word that pads
    torch.testing.assert_close(model.encode_texts(filled), texts)


def test_sentences_of_the_test_are_no_captions_but_of_known_words() -> None:
    read = {text.format(ink=ink, digit=digit) for text in CAPTIONS for ink in INKS for digit in DIGITS}
    asked = {text.format(digit) for text in TEMPLATES for digit in DIGITS}
    assert not read & asked
    assert max(len(text.split()) for text in read | asked) <= LENGTH
    known = {word for text in read for word in text.split()}
    assert {word for text in asked for word in text.split()} <= known
    assert WORDS[0] == ""


def test_ink_colours_the_digit_and_leaves_the_ground_black() -> None:
    grey = torch.rand(4, 1, 8, 8, generator=rng())
    red, green, _, white = paint(grey, torch.arange(4))
    assert torch.equal(red[0], grey[0, 0])
    assert red[1:].abs().sum().item() == 0
    assert torch.equal(green[1], grey[1, 0])
    assert torch.equal(white, grey[3].expand(3, 8, 8))


def test_the_nearest_sentence_is_said() -> None:
    model = CLIP(Params.model_validate({}), rng())
    pictures = torch.rand(20, 3, 8, 8, generator=rng(1))
    names = ["a red three", "three", "this is a blue nine"]
    with torch.no_grad():
        cosines = [[(a @ b).item() for b in model.encode_texts(tokenize(names))] for a in model.encode_images(pictures)]
    assert classify(model, pictures, names).numpy().tolist() == [row.index(max(row)) for row in cosines]
