"""The painter beside GPT-2 of transformers with the same weights, its alphabet, and what the first word is for."""

import math
from functools import cache
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from demos.contract import Cell, Images, Result
from demos.gpt.image_gpt import (
    CLASSES,
    GREYS,
    HEADS,
    LAYERS,
    PIXELS,
    D,
    Painter,
    Params,
    marginal_bits,
    next_pixel_loss,
    picture,
    quantise,
    run,
    write,
)
from demos.shared.digits import load_digits
from demos.shared.transformer import Block, extend
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng


@cache
def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def painter() -> Painter:
    return Painter(GREYS + CLASSES, 1 + PIXELS, D, LAYERS, HEADS, rng(), causal=True)


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "image-gpt")
    assert metric(result(), "bits-per-pixel") < metric(result(), "bits per pixel by itself") < 2


def test_without_the_first_word_it_paints_what_it_likes() -> None:
    outcome = result(prompt=False, steps=150)
    assert "Drawings are what was asked for" in failed(outcome)
    assert metric(outcome, "recognised") < 0.3


def test_heat_dissolves_strokes_and_cold_repeats_them() -> None:
    hot, cold = (result(temperature=temperature, steps=150) for temperature in (2.0, 0.1))
    assert "Drawings are what was asked for" in failed(hot)
    assert "It has no stencil" in failed(cold)


def test_given_rows_are_kept_and_the_rest_is_painted() -> None:
    figure = result(given_rows=5, steps=50, digit=8).figures[1]
    assert isinstance(figure, Images)
    real, continued = (torch.tensor(row) for row in figure.pixels)
    assert torch.equal(real[:, :5], continued[:, :5])
    assert not torch.equal(real[:, 5:], continued[:, 5:])


def test_logits_are_those_of_gpt2() -> None:
    ours = painter()
    theirs: Any = GPT2LMHeadModel(
        GPT2Config(vocab_size=GREYS + CLASSES, n_positions=1 + PIXELS, n_embd=D, n_layer=LAYERS, n_head=HEADS,
                   activation_function="gelu")
    ).eval()  # fmt: skip
    with torch.no_grad():
        theirs.transformer.wte.weight.copy_(ours.words.weight)
        theirs.transformer.wpe.weight.copy_(ours.positions.weight)
        for block, twin in zip(ours.blocks, theirs.transformer.h, strict=True):
            assert isinstance(block, Block)
            for part, other in ((block.norm1, twin.ln_1), (block.norm2, twin.ln_2)):
                other.load_state_dict(part.state_dict())
            for part, other in ((block.qkv, twin.attn.c_attn), (block.out, twin.attn.c_proj),
                                (block.up, twin.mlp.c_fc), (block.down, twin.mlp.c_proj)):  # fmt: skip
                other.weight.copy_(part.weight.T)
                other.bias.copy_(part.bias)
        theirs.transformer.ln_f.load_state_dict(ours.norm.state_dict())
        sentences = write(torch.randint(GREYS, (4, PIXELS), generator=rng(1)), torch.tensor([0, 3, 9, 5]), prompt=True)
        expected = theirs(sentences).logits[..., :GREYS]
        torch.testing.assert_close(ours(sentences)[..., :GREYS], expected, atol=1e-5, rtol=1e-5)


def test_the_loss_is_of_each_pixel_given_those_before() -> None:
    model, sentences = painter(), write(torch.randint(GREYS, (3, PIXELS), generator=rng(1)), torch.arange(3), True)
    with torch.no_grad():
        losses = next_pixel_loss(model, sentences)
        p = model(sentences[:, :11])[1, 10, :GREYS].softmax(dim=0)  # of the pixel after ten
        assert losses[1, 10].item() == pytest.approx(-math.log(p[sentences[1, 11]].item()), abs=1e-5)


def test_nothing_but_greys_is_painted_however_hot() -> None:
    drawn = extend(painter(), torch.full((50, 1), GREYS), PIXELS, 2.0, rng(1))
    assert drawn.shape == (50, 1 + PIXELS)
    assert drawn[:, 1:].max().item() < GREYS


def test_writing_and_looking_undo_each_other() -> None:
    images, digits = load_digits()
    sentences = write(quantise(images), digits, prompt=True)
    assert torch.equal(sentences[:, 0] - GREYS, digits)
    assert (picture(sentences) - images).abs().max().item() <= 0.5 / (GREYS - 1) + 1e-6
    assert (write(quantise(images), digits, prompt=False)[:, 0] == GREYS).all()


def test_frequencies_give_the_entropy_of_each_place() -> None:
    greys = torch.zeros(1000, PIXELS, dtype=torch.long)
    greys[:500, :32] = 1  # half of the places are a coin, the others always 0
    assert marginal_bits(greys, greys) == pytest.approx(0.5, abs=0.01)
