"""multi-head-attention against torch.nn.MultiheadAttention, and the task that one head cannot do."""

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from demos.contract import Cell, Result
from demos.transformers.multi_head_attention import LENGTH, MultiHeadAttention, Params, draw_sequences, run
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "multi-head-attention")


def test_one_head_finds_one_fact_of_two() -> None:
    outcome = result(**Params.presets["one head"].values)
    assert failed(outcome) == ["The chosen heads find both facts"]
    assert 0.5 < metric(outcome, "accuracy-by-heads") < 0.7


def test_a_silenced_head_takes_its_fact_along() -> None:
    outcome = result(**Params.presets["silence head 0"].values)
    assert failed(outcome) == ["The chosen heads find both facts"]
    assert metric(outcome, "accuracy with 2 heads") > 0.95


def test_at_a_width_that_two_heads_can_use_eight_are_too_narrow() -> None:
    outcome = result(**Params.presets["too narrow"].values)
    assert failed(outcome) == ["The chosen heads find both facts"]
    assert metric(outcome, "accuracy with 2 heads") > 0.95


@pytest.mark.parametrize(("d", "heads"), [(8, 1), (12, 3), (32, 8)])
def test_the_layer_is_torchs_with_the_same_matrices(d: int, heads: int) -> None:
    ours = MultiHeadAttention(d, heads, rng())
    theirs = nn.MultiheadAttention(d, heads, bias=False, batch_first=True)
    assert theirs.in_proj_weight is not None
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.W_Q.T, ours.W_K.T, ours.W_V.T]))
        theirs.out_proj.weight.copy_(ours.W_O.T)
    x = torch.randn(5, 7, d, generator=rng(1))
    expected, expected_weights = theirs(x, x, x, average_attn_weights=False)
    output, weights = ours(x)
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(weights, expected_weights, rtol=0, atol=1e-5)
    torch.testing.assert_close(ours.one_by_one(x), expected, rtol=0, atol=1e-5)


def test_a_silenced_head_is_one_whose_rows_of_the_projection_are_zero() -> None:
    layer, x = MultiHeadAttention(12, 3, rng()), torch.randn(2, 5, 12, generator=rng(1))
    silenced, _ = layer(x, silent=1)
    with torch.no_grad():
        layer.W_O[4:8] = 0
    torch.testing.assert_close(silenced, layer(x)[0])


def test_facts_are_the_payloads_before_and_of_the_name_asked_for() -> None:
    (names, asked, payloads), (before, named) = draw_sequences(20, rng())
    for row in range(20):
        at = {int(name): place for place, name in enumerate(names[row].numpy())}
        assert sorted(at) == list(range(LENGTH))
        for place in range(1, LENGTH):
            assert before[row, place - 1] == payloads[row, place - 1]
            assert named[row, place - 1] == payloads[row, at[int(asked[row, place])]]


@pytest.mark.parametrize("wrong", [{"heads": 3}, {"d_model": 30}, {"ablate_head": 2}])
def test_sizes_that_do_not_fit_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValidationError, match=r"d_model|ablate_head"):
        Params.model_validate(wrong)
