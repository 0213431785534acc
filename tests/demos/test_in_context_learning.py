"""In-context learning: mappings and prompts, what is attainable by enumeration, where it looks, and what breaks it."""

import itertools
from functools import cache

import pytest
import torch

from demos.contract import Result
from demos.gpt.in_context_learning import (
    KEYS,
    MOST,
    VALUES,
    Params,
    Reader,
    answers,
    attainable,
    draw_mappings,
    draw_prompts,
    fingerprint,
    run,
    turn,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng


@cache
def result() -> Result:
    return run(Params.model_validate({}))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "in-context-learning")
    assert metric(result(), "accuracy") == pytest.approx(attainable(8), abs=0.05)


def test_trained_on_one_mapping_it_does_not_read_another() -> None:
    outcome = run(Params.model_validate({**Params.presets["one mapping in training"].values, "steps": 100}))
    assert {"Examples teach a new mapping", "A key that was shown is looked up"} <= {*failed(outcome)}


def test_apart_it_takes_longer_and_has_an_order() -> None:
    outcome = run(Params.model_validate({"layout": "separate", "steps": 100, "layers": 1}))
    assert {"A key that was shown is looked up", "Examples have no order here"} <= {*failed(outcome)}


@pytest.mark.parametrize("shots", [0, 1, 2, 3])
def test_what_is_attainable_is_what_an_enumeration_finds(shots: int) -> None:
    """Every list of shown keys and every question: right if the key was shown, else one in VALUES."""
    every = list(itertools.product(range(KEYS), repeat=shots + 1))
    best = sum(1.0 if question in shown else 1 / VALUES for *shown, question in every) / len(every)
    assert attainable(shots) == pytest.approx(best, abs=1e-12)


def test_mappings_of_tests_are_never_those_of_the_training() -> None:
    known, new = draw_mappings(4_000, new=False, rng=rng()), draw_mappings(4_000, new=True, rng=rng(1))
    assert known.shape == (4_000, KEYS)
    assert (known.sum(dim=1) % VALUES != 0).all()
    assert (new.sum(dim=1) % VALUES == 0).all()
    for mapping in (known, new):  # and each value of a key is as likely
        share = torch.nn.functional.one_hot(mapping, VALUES).float().mean(dim=0)
        torch.testing.assert_close(share, torch.full((KEYS, VALUES), 1 / VALUES), atol=0.03, rtol=0)


def test_prompts_follow_their_mapping() -> None:
    mapping = draw_mappings(50, new=True, rng=rng())
    keys, values = draw_prompts(mapping, 5, rng(1))
    assert keys.shape == values.shape == (50, 6)
    for row, asked, told in zip(mapping, keys, values, strict=True):
        assert torch.equal(row[asked], told)


@pytest.mark.parametrize("layout", ["pair", "separate"])
def test_a_reader_never_sees_the_answer_and_reads_all_lengths(layout: str) -> None:
    model = Reader(layout, 2, rng())
    for shots in (0, 1, MOST):
        keys, values = draw_prompts(draw_mappings(10, new=True, rng=rng(1)), shots, rng(2))
        other = torch.cat([values[:, :-1], (values[:, -1:] + 1) % VALUES], dim=1)
        assert torch.equal(answers(model, keys, values), answers(model, keys, other))
        assert model(keys, values[:, :-1]).shape == (10, VALUES)


def test_turned_examples_are_the_same_examples() -> None:
    keys, values = torch.tensor([[1, 2, 3]]), torch.tensor([[4, 5, 6]])
    assert [part.numpy().tolist() for part in turn(keys, values)] == [[[2, 1, 3]], [[5, 4, 6]]]


@pytest.mark.parametrize("layout", ["pair", "separate"])
def test_where_it_looks_is_torchs_attention(layout: str) -> None:
    model = Reader(layout, 1, rng())
    keys, values = draw_prompts(draw_mappings(6, new=True, rng=rng(1)), 4, rng(2))
    block, (x, mask) = model.blocks[0], model.read(keys, values[:, :-1])
    attention = torch.nn.MultiheadAttention(x.shape[-1], block.heads, batch_first=True)
    attention.load_state_dict({
        "in_proj_weight": block.qkv.weight, "in_proj_bias": block.qkv.bias,
        "out_proj.weight": block.out.weight, "out_proj.bias": block.out.bias,
    })  # fmt: skip
    y = block.norm1(x)
    _, weights = attention(y, y, y, attn_mask=None if mask is None else ~mask, average_attn_weights=False)
    last = weights[:, :, -1]  # (B, heads, n)
    expected = last[..., 1::2] if layout == "separate" else last[..., :-1]
    torch.testing.assert_close(model.looks(keys, values[:, :-1])[0], expected.transpose(0, 1))


def test_a_hash_sees_one_changed_weight() -> None:
    model = Reader("pair", 1, rng())
    before = fingerprint(model)
    assert fingerprint(Reader("pair", 1, rng())) == before
    with torch.no_grad():
        model.head.bias[0] += 1e-6
    assert fingerprint(model) != before
