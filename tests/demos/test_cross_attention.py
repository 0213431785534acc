"""cross-attention against torch.nn.MultiheadAttention, and a source that cannot be aligned."""

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from demos.contract import Cell, Heatmap, Result
from demos.transformers.cross_attention import START, CrossAttention, Params, draw_sentences, gold_places, run
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "cross-attention")


def test_without_places_there_is_nothing_to_align_by() -> None:
    outcome = result(**Params.presets["no places"].values)
    assert failed(outcome) == [
        "The strongest source place is the right one",
        "The word read there is translated right",
    ]
    assert metric(outcome, "alignment-accuracy") < 0.4


@pytest.mark.parametrize("name", ["shuffled", "longer source"])
def test_shuffled_and_longer_sources_are_aligned_too(name: str) -> None:
    assert failed(result(**Params.presets[name].values)) == []


def test_shuffling_moves_the_columns_of_the_same_map() -> None:
    plain, moved = (result(steps=50, shuffle_source=shuffled).figures[0] for shuffled in (False, True))
    assert isinstance(plain, Heatmap)
    assert isinstance(moved, Heatmap)
    assert plain.column_labels != moved.column_labels
    order = [moved.column_labels.index(label) for label in plain.column_labels]
    torch.testing.assert_close(torch.tensor(moved.values)[:, order], torch.tensor(plain.values))


@pytest.mark.parametrize(("heads", "target", "source"), [(1, 3, 7), (4, 9, 2)])
def test_the_layer_is_torchs_with_the_same_matrices(heads: int, target: int, source: int) -> None:
    ours = CrossAttention(16, heads, rng())
    theirs = nn.MultiheadAttention(16, heads, bias=False, batch_first=True)
    assert theirs.in_proj_weight is not None
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.W_Q.T, ours.W_K.T, ours.W_V.T]))
        theirs.out_proj.weight.copy_(ours.W_O.T)
    x, memory = (torch.randn(5, n, 16, generator=rng(n)) for n in (target, source))
    expected, expected_weights = theirs(x, memory, memory, average_attn_weights=False)
    output, weights = ours(x, *ours.keys_and_values(memory))
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(weights, expected_weights, rtol=0, atol=1e-5)


def test_a_sentence_is_every_second_word_backwards_and_shifted_by_one() -> None:
    dictionary = torch.arange(20).flip(0)
    source, written, target = draw_sentences(3, 9, dictionary, rng())
    assert gold_places(9).numpy().tolist() == [8, 6, 4, 2]
    assert torch.equal(target, 19 - source[:, [8, 6, 4, 2]])
    assert torch.equal(written[:, 1:], target[:, :-1])
    assert (written[:, 0] == START).all()


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ValidationError, match="heads must divide 32"):
        Params.model_validate({"heads": 3})
