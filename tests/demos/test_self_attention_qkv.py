"""self-attention-qkv against torch's kernel, and a layer that asks before it has read."""

import pytest
import torch
from pydantic import ValidationError
from torch.nn.functional import scaled_dot_product_attention

from demos.contract import Cell, Result
from demos.transformers.self_attention_qkv import FELT, LIVING, WORDS, Params, SelfAttention, draw_sentences, run
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng

POINTS, WEIGHT = "In pairs of nouns never seen, it looks at the noun meant", "… and hardly elsewhere"


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "self-attention-qkv")


def test_not_told_the_adjective_it_asks_the_same_whatever_follows() -> None:
    outcome = result(**Params.presets["not informed"].values)
    assert failed(outcome) == [POINTS, WEIGHT]
    assert 0.3 < metric(outcome, "coreference-accuracy") < 0.7


def test_untrained_projections_point_nowhere() -> None:
    assert failed(result(**Params.presets["untrained"].values)) == [POINTS, WEIGHT]


def test_another_adjective_moves_the_focus() -> None:
    tired, wide = result(), result(**Params.presets["wide"].values)
    first, second = "weight from it to the first noun of your sentence", "weight from it to the second"
    assert metric(tired, first) >= 0.7 > metric(tired, second)
    assert metric(wide, second) >= 0.7 > metric(wide, first)


def test_attention_is_torchs_on_the_same_projections() -> None:
    layer, x = SelfAttention(16, 8, rng()), torch.randn(3, 7, 16, generator=rng(1))
    seen = layer(x)
    expected = scaled_dot_product_attention(x @ layer.W_Q, x @ layer.W_K, x @ layer.W_V)
    torch.testing.assert_close(seen["weights V"], expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(seen["output"], expected @ layer.W_O, rtol=0, atol=1e-5)


def test_the_noun_meant_is_the_one_that_can_be_so() -> None:
    sentences, places = draw_sentences(300, False, rng())
    for sentence, place in zip(sentences, places, strict=True):
        noun, adjective = WORDS[int(sentence[place])], WORDS[int(sentence[-1])]
        assert (noun in LIVING) == (adjective in FELT)


def test_pairs_of_the_test_are_never_trained_on() -> None:
    trained, tested = (draw_sentences(2000, held_out, rng())[0] for held_out in (False, True))
    pairs, new = ({frozenset(row) for row in some[:, [1, 6]].numpy().tolist()} for some in (trained, tested))
    assert not pairs & new
    assert len(pairs | new) == 64


@pytest.mark.parametrize("wrong", ["the elephant did not see the road because it was ill", "the dog was ill"])
def test_sentences_of_another_form_are_refused(wrong: str) -> None:
    with pytest.raises(ValidationError, match=r"elephant|write it as"):
        Params.model_validate({"sentence": wrong})
