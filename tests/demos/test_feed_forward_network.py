"""feed-forward-network against torch's activations and encoder layer, and XOR without an activation."""

import pytest
import torch
from torch import nn

from demos.contract import Cell, Result
from demos.transformers.feed_forward_network import (
    ACTIVATIONS,
    FFN,
    Params,
    draw_tokens,
    gelu,
    gelu_tanh,
    relu,
    run,
    silu,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng

XOR = "The chosen activation finds the XOR of every pair"


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "feed-forward-network")


@pytest.mark.parametrize("name", ["identity", "no expansion"])
def test_xor_needs_an_activation_and_room(name: str) -> None:
    assert failed(result(**Params.presets[name].values)) == [XOR]


@pytest.mark.parametrize("activation", ["swiglu", "gelu_tanh"])
def test_the_other_activations_find_xor_too(activation: str) -> None:
    outcome = result(activation=activation)
    assert failed(outcome) == []
    assert metric(outcome, "xor-accuracy") == metric(outcome, f"xor-accuracy of {activation}")


def test_activations_are_torchs() -> None:
    x = torch.linspace(-8, 8, 999).double()
    torch.testing.assert_close(relu(x), nn.functional.relu(x))
    torch.testing.assert_close(gelu(x), nn.functional.gelu(x), rtol=0, atol=1e-12)
    torch.testing.assert_close(gelu_tanh(x), nn.functional.gelu(x, approximate="tanh"), rtol=0, atol=1e-12)
    torch.testing.assert_close(silu(x), nn.functional.silu(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_the_ffn_is_the_second_half_of_torchs_encoder_layer(activation: str) -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 32, dropout=0.0, activation=activation, batch_first=True, norm_first=True)
    layer.self_attn.out_proj.weight.data.zero_()  # attention adds nothing, so the layer is x + FFN(norm(x))
    layer.self_attn.out_proj.bias.data.zero_()
    ffn = FFN(8, 4, activation)
    ffn.W1.load_state_dict(layer.linear1.state_dict())
    ffn.W2.load_state_dict(layer.linear2.state_dict())
    x = torch.randn(3, 5, 8, generator=rng())
    torch.testing.assert_close(x + ffn(layer.norm2(x)), layer(x), rtol=0, atol=1e-6)


@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_the_ffn_is_convolutions_of_kernel_size_one(activation: str) -> None:
    ffn, x = FFN(6, 2, activation, rng()), torch.randn(2, 4, 6, generator=rng(1))
    torch.testing.assert_close(ffn.as_convolutions(x), ffn(x), rtol=0, atol=1e-6)
    assert (ffn.W1.bias is None) == (activation == "swiglu")


def test_labels_are_the_xor_of_neighbours() -> None:
    x, xor = draw_tokens(50, 6, rng())
    assert torch.equal(x.abs(), torch.ones_like(x))
    assert torch.equal(xor, (x[..., 0::2] * x[..., 1::2] < 0).float())
