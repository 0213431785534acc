"""ELECTRA's detector beside transformers' ElectraForPreTraining with the same weights; texts, fakes and gradients."""

import importlib
from functools import cache
from typing import Any

import pytest
import torch

from demos.bert.electra_replaced_token import (
    CLS,
    HEADS,
    LAYERS,
    LENGTH,
    MASK,
    SCENES,
    SLOTS,
    STOP,
    WORDS,
    D,
    Detector,
    Electra,
    Encoder,
    Params,
    V,
    cost,
    draw_texts,
    hide,
    replace,
    run,
    spoil,
)
from demos.contract import Lines, Result
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng

transformers: Any = importlib.import_module("transformers")


@cache
def result() -> Result:
    return run(Params.model_validate({}))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "electra-replaced-token")
    curves = result().figures[0]
    assert isinstance(curves, Lines)
    assert curves.series["ELECTRA"][-1] == metric(result(), "sense told, ELECTRA")
    assert {row[3] for row in result().tables[0].rows} == {"fake", "original"}


def test_a_strong_generator_leaves_no_fakes_that_could_be_told() -> None:
    outcome = run(Params.model_validate(Params.presets["strong generator"].values))
    assert "It finds the fakes" in failed(outcome)
    assert metric(outcome, "share of fakes") < metric(result(), "share of fakes")


def scene(word: int) -> int:
    return (word - STOP - 1) // 8


def test_texts_are_sentences_of_one_scene_in_either_of_two_words() -> None:
    texts = draw_texts(2000, rng())
    rows: list[list[int]] = texts.numpy().tolist()
    assert len({word for row in rows for word in row}) == V - 1  # all but [MASK]
    for row in rows[:50]:
        words = [WORDS[word] for word in row]
        assert [words[place] for place in (0, 1, 4, 6, 7, 9)] == ["[CLS]", "the", "the", "at", "the", "."]
        (number,) = {scene(row[place]) for place in SLOTS}
        assert all(words[place] in slot for place, slot in zip(SLOTS, SCENES[number], strict=True))


def test_a_spoilt_text_has_one_word_of_another_scene_in_its_slot() -> None:
    texts = draw_texts(400, rng())
    words, sense = spoil(texts, rng(1))
    assert 0.4 < sense.float().mean().item() < 0.6
    changed = words != texts
    assert torch.equal(changed.sum(dim=1), (~sense).long())
    for row, place in changed.nonzero().numpy().tolist():
        assert scene(int(words[row, place])) != scene(int(texts[row, place]))
        assert WORDS[int(words[row, place])] in SCENES[scene(int(words[row, place]))][SLOTS.index(place)]


def test_words_are_drawn_from_the_generator_in_hidden_places_and_right_guesses_are_no_fakes() -> None:
    texts = draw_texts(3000, rng())
    hidden = hide(texts, rng(1))
    assert not hidden[texts == CLS].any()
    assert hidden[:, 1:].float().mean().item() == pytest.approx(0.15, abs=0.01)
    logits = torch.full((int(hidden.sum()), V), -100.0)
    logits[torch.arange(len(logits)), texts[hidden]] = 0.0  # the true word, or
    logits[:, 7] = torch.log(torch.tensor(1 / 3))  # in a quarter of the cases this one
    read, fakes = replace(texts, hidden, logits, rng(2))
    assert torch.equal(read[~hidden], texts[~hidden])
    assert torch.equal(fakes, read != texts)
    other = hidden & (texts != 7)
    assert fakes[other].float().mean().item() == pytest.approx(0.25, abs=0.03)
    assert (read[fakes] == 7).all()


def test_a_generator_sees_a_mask_and_not_the_word() -> None:
    encoder, texts = Encoder(8, 1, rng()), draw_texts(1, rng(1))
    hidden = torch.zeros(1, LENGTH, dtype=torch.bool)
    hidden[0, 3] = True
    other = texts.clone()
    other[0, 3] = MASK
    with torch.no_grad():
        torch.testing.assert_close(encoder.fill(texts, hidden), encoder.fill(other, hidden))


def test_each_loss_pulls_at_its_own_network() -> None:
    for number in (0, 1):
        model = Electra(0.5, rng())
        torch.autograd.backward(model.losses(draw_texts(32, rng(1)), rng(2))[number])
        for part, trained in ((model.generator, number == 0), (model.detector, number == 1)):
            assert all((weight.grad is not None) == trained for weight in part.parameters())


def test_cost_is_that_of_the_layers() -> None:
    one = 4 * D * D + 4 * D + 8 * D * D + 5 * D + 4 * D
    assert cost(Encoder(D, 1, rng())) == one
    assert cost(Encoder(D, 2, rng()), Encoder(D, 1, rng())) == 3 * one


def test_the_detector_is_that_of_transformers_with_the_same_weights() -> None:
    ours = Detector(rng())
    for name, weight in ours.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(weight, std=0.5, generator=rng(1))
    config = transformers.ElectraConfig(
        vocab_size=V, embedding_size=D, hidden_size=D, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
        intermediate_size=4 * D, hidden_act="gelu", max_position_embeddings=LENGTH, layer_norm_eps=1e-5,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    reference = transformers.ElectraForPreTraining(config).eval()
    torch.nn.init.zeros_(reference.electra.embeddings.token_type_embeddings.weight)
    encoder = ours.encoder
    pairs: list[tuple[Any, str]] = [
        (encoder.words, "electra.embeddings.word_embeddings"),
        (encoder.places, "electra.embeddings.position_embeddings"),
        (encoder.norm, "electra.embeddings.LayerNorm"),
        (ours.dense, "discriminator_predictions.dense"),
        (ours.out, "discriminator_predictions.dense_prediction"),
    ]
    layers: list[Any] = list(encoder.layers)
    for number, layer in enumerate(layers):
        at = f"electra.encoder.layer.{number}"
        pairs += [
            (layer.self_attn.out_proj, f"{at}.attention.output.dense"),
            (layer.norm1, f"{at}.attention.output.LayerNorm"), (layer.linear1, f"{at}.intermediate.dense"),
            (layer.linear2, f"{at}.output.dense"), (layer.norm2, f"{at}.output.LayerNorm"),
        ]  # fmt: skip
        weights, biases = (part.chunk(3) for part in (layer.self_attn.in_proj_weight, layer.self_attn.in_proj_bias))
        for name, weight, bias in zip(("query", "key", "value"), weights, biases, strict=True):
            reference.get_submodule(f"{at}.attention.self.{name}").load_state_dict({"weight": weight, "bias": bias})
    for part, theirs in pairs:
        reference.get_submodule(theirs).load_state_dict(part.state_dict())
    texts = draw_texts(6, rng(2))
    with torch.no_grad():
        torch.testing.assert_close(ours(texts), reference(texts).logits, atol=1e-5, rtol=1e-5)
