"""decoder-block against torch's decoder layer, and the leak where the mask is taken away."""

import pytest
import torch
from torch import nn

from demos.contract import Cell, Heatmap, Result
from demos.transformers.decoder_block import Attention, Decoder, Params, look_ahead_mask, run, shift_right, torchs_stack
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    outcome = result()
    assert_claims_hold_as_listed(outcome, "decoder-block")
    mask, weights, leak = outcome.figures
    for figure in (mask, weights, leak):  # none looks ahead, and each row looks at itself
        assert isinstance(figure, Heatmap)
        values = torch.tensor(figure.values)
        assert values.triu(1).abs().max() <= 1e-6
        assert values.diagonal().min() > 0
    assert isinstance(weights, Heatmap)
    torch.testing.assert_close(torch.tensor(weights.values).sum(dim=1), torch.ones(12))


def test_without_the_mask_the_future_leaks_and_one_pass_is_another_than_decoding() -> None:
    outcome = result(**Params.presets["no mask"].values)
    assert failed(outcome) == [
        "A later word altered leaves every earlier output alone",
        "One masked pass gives what decoding word by word gives",
    ]
    assert metric(outcome, "largest change of an earlier output") == metric(outcome, "the same without the mask")


@pytest.mark.parametrize("name", ["six layers", "paper width"])
def test_other_settings_keep_the_claims(name: str) -> None:
    assert failed(result(**Params.presets[name].values)) == []


def test_attention_is_torchs_with_its_weights() -> None:
    ours, theirs = Attention(16, 4), nn.MultiheadAttention(16, 4, batch_first=True)
    assert theirs.in_proj_weight is not None
    for weight in theirs.parameters():
        nn.init.normal_(weight, std=0.3, generator=rng(weight.numel()))
    parts = zip((ours.q, ours.k, ours.v), theirs.in_proj_weight.chunk(3), theirs.in_proj_bias.chunk(3), strict=True)
    with torch.no_grad():
        for mine, weight, bias in parts:
            mine.weight.copy_(weight)
            mine.bias.copy_(bias)
    ours.out.load_state_dict(theirs.out_proj.state_dict())
    x, memory = torch.randn(2, 5, 16, generator=rng()), torch.randn(2, 7, 16, generator=rng(1))
    for keys, mask in ((memory, None), (x, look_ahead_mask(5))):
        expected, expected_weights = theirs(x, keys, keys, attn_mask=mask, average_attn_weights=False)
        output, weights = ours(x, keys, mask)
        torch.testing.assert_close(output, expected, rtol=0, atol=1e-5)
        torch.testing.assert_close(weights, expected_weights, rtol=0, atol=1e-5)


def test_the_weights_are_copied_layer_by_layer() -> None:
    params = Params.model_validate({"layers": 3})
    ours = Decoder(params, rng())
    theirs = torchs_stack(ours, params)
    for mine, copied in zip(ours.layers, theirs.layers, strict=True):
        torch.testing.assert_close(copied.get_parameter("linear2.weight"), mine.get_parameter("down.weight"))


def test_labels_are_shifted_behind_a_start_token() -> None:
    assert shift_right(torch.tensor([[5, 3, 4]])).numpy().tolist() == [[0, 5, 3]]
    assert look_ahead_mask(3).numpy().tolist() == [[False, True, True], [False, False, True], [False, False, False]]
