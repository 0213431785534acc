"""cross-attention-maps against torch's and diffusers' attention, and what is left without answers."""

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from demos.contract import Cell, Images, Result
from demos.shared.words_to_shapes import LENGTH, CrossAttention, D, WordUNet, sample, tokenize
from demos.stable_diffusion.cross_attention_maps import PASSES, SCALE, Params, Reader, edit, kernel_gap, run, swap_word
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, rng


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def trained(heads: int = 4) -> CrossAttention:
    attention = CrossAttention(32, heads)
    for weight in attention.parameters():
        nn.init.normal_(weight, std=0.3, generator=rng(weight.numel()))
    return attention


def test_every_claim_holds_at_the_defaults() -> None:
    outcome = result()
    assert_claims_hold_as_listed(outcome, "cross-attention-maps")
    maps = outcome.figures[0]
    assert isinstance(maps, Images)
    assert (len(maps.pixels), len(maps.pixels[0][0])) == (4, 4)  # a row for each word and padding, maps of 4x4


def test_without_answers_words_cannot_matter() -> None:
    missed = failed(result(answers=False, steps=50))
    assert "A changed word moves the prediction more than a changed padding token" in missed
    assert "Our attention is torch's own" not in missed


def test_the_high_block_has_maps_of_every_pixel() -> None:
    maps = result(block="high", steps=50, heads=3).figures[0]
    assert isinstance(maps, Images)
    assert len(maps.pixels[0][0]) == 8


@pytest.mark.parametrize("heads", [1, 4])
def test_the_reader_does_what_the_trained_attention_did(heads: int) -> None:
    attention = trained(heads)
    reader = Reader(attention, answers=True)
    x, words = torch.randn(2, 32, 4, 4, generator=rng()), torch.randn(2, LENGTH, D, generator=rng(1))
    with torch.no_grad():
        torch.testing.assert_close(reader(x, words), attention(x, words), rtol=1e-5, atol=1e-5)
        assert kernel_gap(reader, x, words) < 1e-5
        assert reader.maps.shape == (2, heads, 16, LENGTH)
        torch.testing.assert_close(reader(x, words) - x, reader.added, rtol=1e-4, atol=1e-4)
        assert torch.equal(Reader(attention, answers=False)(x, words), x)


def test_given_maps_replace_those_of_queries_and_keys() -> None:
    reader = Reader(trained(), answers=True)
    x, words = torch.randn(1, 32, 4, 4, generator=rng()), torch.randn(1, LENGTH, D, generator=rng(1))
    reader.given = torch.zeros(1, 4, 16, LENGTH)
    reader.given[..., 2] = 1  # every place reads the third word alone
    with torch.no_grad():
        out = reader(x, words) - x
        expected = reader.to_out(reader.to_v(words[:, 2]))  # (1, 32), the same everywhere
    torch.testing.assert_close(out, expected[..., None, None].expand_as(out), rtol=1e-4, atol=1e-4)


def test_a_word_swapped_for_itself_changes_nothing() -> None:
    model = WordUNet(3, 8, rng())
    nn.init.normal_(model.last.weight, std=0.1, generator=rng(1))
    readers = [Reader(of, answers=True) for of in (model.read_low, model.read_high)]
    model.read_low, model.read_high = readers
    x, prompt = torch.randn(2, 3, 8, 8, generator=rng(2)), "red disc left"
    plain = sample(model, model.read(tokenize([prompt] * 2)).detach(), x, SCALE, PASSES)
    for keep in (True, False):
        torch.testing.assert_close(edit(model, readers, (prompt, prompt), x, keep=keep), plain, rtol=0, atol=1e-4)
        assert all(reader.given is None for reader in readers)


def test_a_swapped_word_takes_the_place_of_its_kind() -> None:
    assert swap_word("red disc left", "ring") == "red ring left"
    assert swap_word("red disc left", "blue") == "blue disc left"
    with pytest.raises(ValidationError, match="a colour, a shape and a side"):
        Params.model_validate({"prompt": "disc red left"})
    with pytest.raises(ValidationError, match="one of red"):
        Params.model_validate({"swap": "purple"})
