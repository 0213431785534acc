"""vision-language-model against torch's convolution, and one decoder that must be causal over pixels and words."""

from functools import cache

import pytest
import torch

from demos.contract import Cell, Images, Result, Table
from demos.gpt.vision_language_model import QUESTIONS, TEXT, VOCABULARY, Decoder, Encoder, Params, answers, prompts, run
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng


@cache
def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def answer_table(outcome: Result) -> Table:
    return outcome.tables[0]


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "vision-language-model")
    assert metric(result(), "accuracy") == metric(result(), "accuracy, left")
    assert {row[2] for row in answer_table(result()).rows} <= set(VOCABULARY)
    looks = result().figures[1]
    assert isinstance(looks, Images)
    assert (len(looks.pixels[0]), len(looks.pixels[0][0]), len(looks.pixels[0][0][0])) == (4, 8, 16)


def test_most_answers_of_the_table_are_right() -> None:
    right = 0
    for image, question, answer in answer_table(result()).rows:
        left, other = (int(digit) for digit in str(image).split())
        kind = str(question).split()[2]
        right += str({"left": left, "right": other, "larger": max(left, other), "sum": left + other}[kind]) == answer
    assert right >= 7  # of 12


def test_with_noise_for_the_image_it_does_not_see() -> None:
    blind = result(steps=200, **Params.presets["blank image"].values)
    assert "It sees" in failed(blind)
    assert metric(blind, "accuracy") < 0.25


def test_a_number_of_tokens_that_does_not_tile_the_image_is_refused() -> None:
    with pytest.raises(ValueError, match="image_tokens must be 2, 8 or 32"):
        Params.model_validate({"image_tokens": 4})


@torch.no_grad()
@pytest.mark.parametrize("tokens", [2, 8, 32])
def test_patches_are_those_of_a_strided_convolution(tokens: int) -> None:
    encoder, images = Encoder(tokens, rng()), torch.randn(3, 8, 16, generator=rng(1))
    kernel = encoder.project.weight.view(-1, 1, encoder.P, encoder.P)
    for half, start in ((slice(0, tokens // 2), 0), (slice(tokens // 2, tokens), 8)):
        tile = images[:, None, :, start : start + 8]
        patches = torch.conv2d(tile, kernel, encoder.project.bias, stride=encoder.P).flatten(2).transpose(1, 2)
        expected = encoder.norm(encoder.block(patches + encoder.places.weight))
        torch.testing.assert_close(encoder(images)[:, half], expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_words_see_the_image_and_the_image_sees_no_word() -> None:
    decoder, features = Decoder(8, rng()), torch.randn(2, 8, 64, generator=rng(1))
    left, right = prompts(torch.tensor([0, 0])), prompts(torch.tensor([1, 1]))
    one, other = decoder(features, left), decoder(features, right)
    assert one.shape == (2, 8 + TEXT, len(VOCABULARY))
    assert torch.equal(one[:, :10], other[:, :10])  # up to "is" nothing differs
    assert (one[:, -1] - other[:, -1]).abs().max() > 1e-3
    assert (decoder(-features, left)[:, -1] - one[:, -1]).abs().max() > 1e-3


def test_prompts_are_questions_in_words() -> None:
    rows: list[list[int]] = prompts(torch.arange(4)).numpy().tolist()
    assert [[VOCABULARY[n] for n in row] for row in rows] == [["what", "is", name, "?"] for name in QUESTIONS]


def test_answers_are_the_places_of_their_words() -> None:
    left, right = torch.tensor([3, 3, 3, 3, 9]), torch.tensor([7, 7, 7, 7, 9])
    said = answers(left, right, torch.tensor([0, 1, 2, 3, 3])).numpy().tolist()
    assert [VOCABULARY[place] for place in said] == ["3", "7", "7", "10", "18"]
