"""normalization-layers against torch's and Llama's norms, and training where no norm holds it."""

import pytest
import torch
from torch import Tensor, nn
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from demos.contract import Cell, Result
from demos.transformers.normalization_layers import (
    EPS,
    Params,
    batch_norm,
    layer_norm,
    layer_norm_backward,
    operations,
    rms_norm,
    rms_norm_backward,
    run,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng

D = 24


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def values(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens (3, 5, D), gain and bias (D,), all double."""
    x, g, b = (torch.randn(*shape, generator=rng(seed + len(shape))).double() for shape in ((3, 5, D), (D,), (D,)))
    return 2 * x + 1, g, b + 0.5


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "normalization-layers")


def test_batch_norm_mixes_the_neighbours_in() -> None:
    assert "The chosen norm sees one token alone" in failed(result(steps=10, **Params.presets["batch norm"].values))


def test_without_a_norm_no_placement_learns() -> None:
    outcome = result(**Params.presets["no norm"].values)
    assert failed(outcome) == ["The norm before each sublayer learns to copy"]
    assert metric(outcome, "operations") == 0


def test_at_a_low_rate_post_norm_learns_too() -> None:
    assert "The norm after the sum does not at this rate" in failed(result(**Params.presets["low rate"].values))


def test_norms_are_torchs_and_llamas() -> None:
    x, g, b = values()
    torch.testing.assert_close(layer_norm(x, g, b), nn.functional.layer_norm(x, (D,), g, b, EPS), rtol=0, atol=1e-6)
    torch.testing.assert_close(rms_norm(x, g), nn.functional.rms_norm(x, (D,), g, EPS), rtol=0, atol=1e-6)
    channels = nn.functional.batch_norm(x.transpose(1, 2), None, None, g, b, training=True, eps=EPS)
    torch.testing.assert_close(batch_norm(x, g, b), channels.transpose(1, 2), rtol=0, atol=1e-6)
    llama = LlamaRMSNorm(D, eps=EPS)
    llama.weight.data = g.float()
    torch.testing.assert_close(rms_norm(x.float(), g.float()), llama(x.float()), rtol=0, atol=1e-6)


def test_gradients_by_hand_are_autograds() -> None:
    x, g, b = values()
    upstream = torch.randn(x.shape, generator=rng(9)).double()
    leaf = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(nn.functional.layer_norm(leaf, (D,), g, b, EPS), leaf, upstream)
    torch.testing.assert_close(layer_norm_backward(x, g, upstream), expected, rtol=0, atol=1e-5)
    (expected,) = torch.autograd.grad(nn.functional.rms_norm(leaf, (D,), g, EPS), leaf, upstream)
    torch.testing.assert_close(rms_norm_backward(x, g, upstream), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("d", [16, 100])
def test_operations_are_counted_while_the_norm_runs(d: int) -> None:
    # mean, minus, square, mean, times 1/σ, gain, bias are d numbers each; ε and the root are one each
    assert operations("layernorm", d) == 7 * d + 2
    assert operations("rmsnorm", d) == 4 * d + 2
    assert operations("none", d) == 0


def test_a_token_known_by_hand() -> None:
    token, one, zero = torch.tensor([2.0, 4.0, 4.0, 6.0]), torch.ones(4), torch.zeros(4)
    assert layer_norm(token, one, zero).numpy().tolist() == pytest.approx([-1.4142, 0, 0, 1.4142], abs=1e-4)
    assert rms_norm(token, one).numpy().tolist() == pytest.approx([0.4714, 0.9428, 0.9428, 1.4142], abs=1e-4)
