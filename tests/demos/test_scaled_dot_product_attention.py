"""scaled-dot-product-attention against torch's own, and its failures where the scale is missing."""

import math

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from demos.transformers.scaled_dot_product_attention import Params, attention, entropy, gradient_norms, run
from tests.demos.outcomes import assert_claims_hold_as_listed, rng


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(run(Params.model_validate({})), "scaled-dot-product-attention")


def test_without_the_scale_every_claim_about_it_fails() -> None:
    preset = Params.model_validate(Params.presets["no-scale"].values)
    failed = {claim.statement.split(":")[0]: claim.measured for claim in run(preset).claims if not claim.holds}
    assert list(failed) == [
        "Scores keep variance 1 whatever dₖ is",
        "Attention stays soft at dₖ = 512",
        "Saturation starves most queries",
        "Same output as torch's own kernel, masked or not",
    ]
    assert failed["Scores keep variance 1 whatever dₖ is"] == pytest.approx(511, rel=0.05)
    assert failed["Saturation starves most queries"] == 1.0


@pytest.mark.parametrize(("name", "lowest", "highest"), [("cold", 0.0, 0.25), ("hot", 0.99, 1.0)])
def test_the_temperature_moves_the_entropy(name: str, lowest: float, highest: float) -> None:
    result = run(Params.model_validate(Params.presets[name].values))
    assert lowest <= result.metrics[0].value <= highest


@pytest.mark.parametrize("shape", [(1, 2, 8, 8), (5, 7, 16, 3), (64, 64, 1024, 1024)])
def test_attention_equals_torchs_own_with_a_mask_and_without(shape: tuple[int, int, int, int]) -> None:
    queries, keys, d_k, d_v = shape
    q, k, v = (torch.randn(n, d, generator=rng(n + d)) for n, d in ((queries, d_k), (keys, d_k), (keys, d_v)))
    mask = torch.rand(queries, keys, generator=rng()) < 0.5
    mask[:, 0] = True  # a query that may attend to nothing has no softmax
    for allowed in (None, mask):
        output, weights = attention(q, k, v, 1 / math.sqrt(d_k), allowed)
        expected = scaled_dot_product_attention(q, k, v, attn_mask=allowed)
        torch.testing.assert_close(output, expected, rtol=0, atol=1e-5)
        torch.testing.assert_close(weights.sum(-1), torch.ones(queries))
    assert weights[~mask].count_nonzero() == 0


def test_entropy_runs_from_one_key_to_all() -> None:
    assert entropy(torch.full((3, 8), 1 / 8)) == pytest.approx(1)
    assert entropy(torch.eye(8)) == 0


def test_the_gradient_through_the_softmax_is_that_of_its_jacobian() -> None:
    scores, upstream = torch.randn(4, 6, generator=rng()), torch.randn(4, 6, generator=rng(1))
    a = scores.softmax(-1)
    expected = (a * (upstream - (a * upstream).sum(-1, keepdim=True))).square().sum(-1).sqrt()
    torch.testing.assert_close(gradient_norms(scores, upstream), expected)
