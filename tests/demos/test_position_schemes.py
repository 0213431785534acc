import importlib
import math
from functools import cache
from typing import Any

import pytest
import torch

from demos.contract import Result
from demos.transformers.position_schemes import (
    BUCKETS,
    FAR,
    SCHEMES,
    A,
    B,
    Params,
    Reader,
    Scheme,
    alibi,
    bucket,
    draw_texts,
    run,
    sinusoids,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng


@cache
def result() -> Result:
    return run(Params.model_validate({}))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "position-schemes")
    assert metric(result(), "accuracy") == metric(result(), "accuracy of relative at the longer length")


def test_nothing_is_gained_at_the_trained_length() -> None:
    outcome = run(Params.model_validate({**Params.presets["nothing longer"].values, "steps": 150}))
    assert failed(outcome) == ["A relative bias survives longer texts"]


def test_with_too_few_steps_the_trained_length_is_not_solved() -> None:
    outcome = run(Params.model_validate(Params.presets["too few steps"].values))
    assert "With positions the trained length is solved" in failed(outcome)


@pytest.mark.parametrize(("buckets", "far"), [(BUCKETS, FAR), (32, 128)])
def test_buckets_are_those_of_t5(buckets: int, far: int) -> None:
    t5: Any = importlib.import_module("transformers.models.t5.modeling_t5")
    distance = torch.arange(-200, 201)
    expected = t5.T5Attention._relative_position_bucket(
        distance, bidirectional=True, num_buckets=buckets, max_distance=far
    )
    assert torch.equal(bucket(distance, buckets, far), expected)


def test_alibi_falls_by_its_slope_and_hides_the_other_side() -> None:
    places = torch.arange(5)
    bias = alibi(places[None] - places[:, None], 4)
    assert bias[:, 3, 1].numpy().tolist() == [-2 / 16, -2 / 256, -math.inf, -math.inf]
    assert bias[:, 1, 3].numpy().tolist() == [-math.inf, -math.inf, -2 / 16, -2 / 256]
    assert bias[:, 2, 2].numpy().tolist() == [0, 0, 0, 0]


def test_sinusoids_have_the_wavelengths_of_the_paper() -> None:
    table = sinusoids(torch.arange(10), 32)
    assert table[7, 4].item() == pytest.approx(math.sin(7 / 10_000 ** (4 / 32)))
    assert table[7, 5].item() == pytest.approx(math.cos(7 / 10_000 ** (4 / 32)))


def test_texts_hold_a_and_b_once_and_the_second_half_exchanges_them() -> None:
    texts, first = draw_texts(400, 9, rng())
    assert ((texts == A).sum(dim=1) == 1).all()
    assert ((texts == B).sum(dim=1) == 1).all()
    assert torch.equal((texts == A).int().argmax(dim=1) < (texts == B).int().argmax(dim=1), first)
    assert torch.equal((texts[:400] != texts[400:]).sum(dim=1), torch.full((400,), 2))
    assert 0.4 < first[:400].float().mean() < 0.6


@pytest.mark.parametrize("scheme", SCHEMES)
def test_one_row_of_attention_is_that_of_torch(scheme: Scheme) -> None:
    model = Reader(scheme, rng())
    torch.nn.init.normal_(model.bias.weight, generator=rng(1))
    texts, _ = draw_texts(8, 11, rng(2))
    places = torch.arange(11)
    x = model.place(model.words(texts), places)
    q, k, v = (part.view(16, 11, 4, -1).transpose(1, 2) for part in model.qkv(x).chunk(3, dim=2))
    mixed = torch.nn.functional.scaled_dot_product_attention(q, k, v, model.score_bias(places))
    every = x + model.out(mixed.transpose(1, 2).flatten(2))
    expected = model.down(model.up(every).relu())[..., 0][texts == A]
    assert torch.allclose(model(texts), expected, atol=1e-5)
