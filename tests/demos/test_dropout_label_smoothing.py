import math
from functools import cache

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.functional.classification import multiclass_calibration_error

from demos.contract import Lines, Result
from demos.transformers.dropout_label_smoothing import (
    HEADS,
    LENGTH,
    WIDTH,
    WORDS,
    Params,
    Reader,
    V,
    calibration_error,
    draw_texts,
    dropout,
    fitted_probability,
    logits_in_use,
    run,
    smoothed_loss,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng

NOTHING = {"p_attention": 0.0, "p_residual": 0.0, "p_embedding": 0.0, "smoothing": 0.0}


@cache
def result() -> Result:
    return run(Params.model_validate({}))


def test_every_claim_holds_at_the_defaults() -> None:
    outcome = result()
    assert_claims_hold_as_listed(outcome, "dropout-label-smoothing")
    curves = outcome.figures[0]
    assert isinstance(curves, Lines)
    assert curves.series["neither, training texts"][-1] < 0.1
    assert metric(outcome, "mean top probability") < metric(outcome, "mean top probability with neither")


def test_without_both_the_arms_are_one() -> None:
    outcome = run(Params.model_validate({**Params.presets["nothing"].values, "steps": 50}))
    assert failed(outcome) == ["New texts are less of a surprise", "Confidence is better founded"]
    assert metric(outcome, "accuracy on new texts") == metric(outcome, "accuracy with neither")


def test_unscaled_dropout_shrinks_the_mean() -> None:
    outcome = run(Params.model_validate({**Params.presets["not scaled"].values, "steps": 50}))
    assert "Dropout keeps the mean" in failed(outcome)


@given(p=st.floats(0, 0.7))
def test_dropout_zeroes_a_share_p_and_scales_the_rest(p: float) -> None:
    dropped = dropout(torch.ones(20_000), p, rng(1))
    kept = dropped[dropped != 0]
    assert (dropped == 0).float().mean().item() == pytest.approx(p, abs=0.02)
    torch.testing.assert_close(kept, torch.full_like(kept, 1 / (1 - p)))
    assert (dropout(torch.ones(20_000), p, rng(1), inverted=False) == (dropped != 0)).all()


@given(p=st.floats(0.05, 0.7))
def test_it_is_a_scaled_bernoulli_draw(p: float) -> None:
    dropped = dropout(torch.ones(40_000), p, rng(2))
    assert dropped.mean().item() == pytest.approx(1, abs=0.05)
    assert dropped.std().item() == pytest.approx((p / (1 - p)) ** 0.5, abs=0.05)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_the_loss_is_torchs(smoothing: float) -> None:
    logits, labels = 3 * torch.randn(50, V, generator=rng()), torch.randint(V, (50,), generator=rng(1))
    expected = torch.nn.functional.cross_entropy(logits, labels, label_smoothing=smoothing)
    torch.testing.assert_close(smoothed_loss(logits, labels, smoothing), expected, atol=1e-6, rtol=0)


def test_the_minimum_is_the_smoothed_target_and_the_loss_there_its_entropy() -> None:
    right, wrong = 0.8 + 0.2 / V, 0.2 / V
    assert fitted_probability(0.2) == pytest.approx(right, abs=1e-3)
    target = torch.tensor([[right, *[wrong] * (V - 1)]])
    entropy = -right * math.log(right) - (V - 1) * wrong * math.log(wrong)
    assert smoothed_loss(target.log(), torch.tensor([0]), 0.2).item() == pytest.approx(entropy, abs=1e-6)


def test_calibration_error_is_that_of_torchmetrics() -> None:
    p = (2 * torch.randn(500, V, generator=rng())).softmax(dim=1)
    labels = torch.randint(V, (500,), generator=rng(1))
    expected = multiclass_calibration_error(p, labels, V, n_bins=10)
    assert calibration_error(p, labels) == pytest.approx(expected.item(), abs=1e-5)


@pytest.mark.parametrize("place", ["p_attention", "p_residual", "p_embedding"])
def test_each_place_drops_in_training_alone(place: str) -> None:
    model = Reader(Params.model_validate({**NOTHING, place: 0.5}), rng())
    texts, _ = draw_texts(20, rng(1))
    assert not torch.equal(model(texts), model(texts))
    assert torch.equal(logits_in_use(model, texts), logits_in_use(model, texts))
    assert model.training
    nothing = Reader(Params.model_validate(NOTHING), rng())
    assert torch.equal(nothing(texts), logits_in_use(model, texts))


def test_without_dropout_it_is_torchs_transformer() -> None:
    model = Reader(Params.model_validate(NOTHING), rng())
    texts, _ = draw_texts(5, rng(1))
    x = model.words(texts) + model.places.weight
    for block in model.blocks:
        layer = torch.nn.TransformerEncoderLayer(
            WIDTH, HEADS, 4 * WIDTH, dropout=0.0, batch_first=True, norm_first=True
        )
        weights = {"self_attn.in_proj_": block.qkv, "self_attn.out_proj.": block.out, "linear1.": block.up}
        weights |= {"linear2.": block.down, "norm1.": block.norm1, "norm2.": block.norm2}
        layer.load_state_dict({a + b: getattr(part, b) for a, part in weights.items() for b in ("weight", "bias")})
        x = layer(x)
    torch.testing.assert_close(model(texts), model.head(model.norm(x).mean(dim=1)), atol=1e-5, rtol=1e-5)


def test_texts_hold_more_words_of_their_topic() -> None:
    texts, topics = draw_texts(5_000, rng())
    assert texts.shape == (5_000, LENGTH)
    own = (texts // (WORDS // V) == topics[:, None]).float().mean().item()
    assert own == pytest.approx(0.4 + 0.6 / V, abs=0.01)
