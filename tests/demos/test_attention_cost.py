"""attention-cost against torch's kernel and published counts, and chunks whose sums are not rescaled."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from demos.contract import Cell, Result
from demos.vision_transformers.attention_cost import Layer, Params, attend_in_chunks, count_flops, run, score_bytes
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng

SAME = "Attention in chunks gives the same output"


def result(**params: Cell) -> Result:
    return run(Params.model_validate({"longest": 128, **params}))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(longest=1024), "attention-cost")


def test_without_rescaling_chunks_give_another_output() -> None:
    assert failed(result(**Params.presets["no rescaling"].values)) == [SAME]


@pytest.mark.parametrize("name", ["in chunks", "small patches"])
def test_other_settings_keep_the_claims(name: str) -> None:
    outcome = result(**Params.presets[name].values)
    assert failed(outcome) == []
    if name == "small patches":
        assert metric(outcome, "tokens of the image") == 3136


@pytest.mark.parametrize("chunk", [1, 7, 64, 500])
@pytest.mark.parametrize("scale", [1.0, 30.0])  # at 30 e^score would overflow without the running maximum
def test_chunks_give_what_torchs_kernel_gives(chunk: int, scale: float) -> None:
    q, k, v = (torch.randn(2, 100, 8, generator=rng(n)).double() for n in range(3))
    output, held = attend_in_chunks(scale * q, scale * k, v, chunk)
    torch.testing.assert_close(output, scaled_dot_product_attention(scale * q, scale * k, v), rtol=0, atol=1e-5)
    assert held == 2 * min(chunk, 100) ** 2 * 8


def test_the_whole_matrix_gives_it_too() -> None:
    q, k, v = (torch.randn(1, 20, 8, generator=rng(n)) for n in range(3))
    torch.testing.assert_close(Layer(8).mix(q, k, v), scaled_dot_product_attention(q, k, v), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("d", "N"), [(32, 64), (128, 256), (768, 197)])
def test_counts_are_two_for_each_multiply_and_add(d: int, N: int) -> None:
    assert count_flops(d, N) == {"projections": 8 * N * d * d, "scores": 4 * N * N * d, "MLP": 16 * N * d * d}


def test_vit_base_takes_35_gflop_on_an_image() -> None:
    # DeiT's paper and timm give 17.6 GMAC = 35.1 GFLOP with 197 tokens, embedding and head; 196 tokens here
    outcome = result()
    assert metric(outcome, "operations of ViT-Base on the image") == pytest.approx(34.7, abs=0.3)


def test_score_bytes_of_known_lengths() -> None:
    assert score_bytes(1024, 0) == 4 * 2**20
    assert score_bytes(1024, 128) == 4 * 2**14
    assert score_bytes(64, 128) == 4 * 64**2
