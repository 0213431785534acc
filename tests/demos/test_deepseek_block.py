"""The miniature beside transformers' DeepseekV3ForCausalLM and DeepseekV2ForCausalLM with the same weights."""

from dataclasses import asdict
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import DeepseekV2Config, DeepseekV2ForCausalLM, DeepseekV3Config, DeepseekV3ForCausalLM

from demos.contract import Result
from demos.deepseek.deepseek_block import DeepSeek, Dense, Experts, Params, count, run, start, trace
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, rng


@cache
def result() -> Result:
    return run(Params.model_validate({}))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "deepseek-block")


def test_without_residuals_it_hardly_learns() -> None:
    assert failed(run(Params.model_validate(Params.presets["no residuals"].values))) == ["It learns"]


def test_the_softmax_gate_learns_too() -> None:
    assert failed(run(Params.model_validate(Params.presets["v2"].values))) == []


def theirs(params: Params) -> Any:
    """The library's model of the same sizes, without rotary scaling."""
    sizes = asdict(params.sizes())
    shared: dict[str, Any] = sizes | {
        "num_key_value_heads": sizes["num_attention_heads"], "max_position_embeddings": 64, "attention_bias": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0}, "tie_word_embeddings": False,
        "n_group": 1, "topk_group": 1, "pad_token_id": None, "bos_token_id": 0, "eos_token_id": 0,
    }  # fmt: skip
    if params.version == "v3":
        return DeepseekV3ForCausalLM(DeepseekV3Config(**shared, norm_topk_prob=True, rope_interleave=True)).eval()
    return DeepseekV2ForCausalLM(DeepseekV2Config(**shared, topk_method="greedy", norm_topk_prob=False)).eval()


def copy_weights(ours: DeepSeek, reference: Any) -> None:
    """Names are the library's, but for the gate's weight and bias and the experts' folder."""
    state: dict[str, Tensor] = {}
    for name, value in ours.state_dict().items():
        for part in ("gate", "bias", "gate_up_proj", "down_proj"):
            inner = {"gate": "gate.weight", "bias": "gate.e_score_correction_bias"}.get(part, f"experts.{part}")
            name = name.replace(f"mlp.{part}", f"mlp.{inner}") if name.endswith(f"mlp.{part}") else name
        state[name if name.startswith("lm_head") else f"model.{name}"] = value
    if isinstance(reference, DeepseekV2ForCausalLM):
        state = {name: value for name, value in state.items() if not name.endswith("correction_bias")}
    reference.load_state_dict(state)


@pytest.mark.parametrize("version", ["v3", "v2"])
def test_logits_are_the_librarys_with_the_same_weights(version: str) -> None:
    params = Params.model_validate({"version": version, "layers": 4, "dense_layers": 2, "experts": 6, "top_k": 3})
    ours, reference = DeepSeek(params.sizes(), version), theirs(params)
    start(ours, rng())
    for part in ours.modules():
        if isinstance(part, Experts) and version == "v3":
            nn.init.normal_(part.bias, std=0.1, generator=rng(1))  # large enough to change choices
        if isinstance(part, nn.RMSNorm):
            nn.init.uniform_(part.weight, 0.5, 1.5, generator=rng(2))
    copy_weights(ours, reference)
    words = torch.randint(params.sizes().vocab_size, (2, 20), generator=rng(3))
    with torch.no_grad():
        torch.testing.assert_close(ours(words), reference(input_ids=words).logits, atol=1e-4, rtol=0)
    assert count(params.sizes())[0] == sum(weight.numel() for weight in reference.parameters())


@pytest.mark.parametrize("dense", [0, 1, 3])
def test_the_first_layers_are_dense_and_the_others_hold_experts(dense: int) -> None:
    params = Params.model_validate({"layers": 4, "dense_layers": dense})
    model = DeepSeek(params.sizes(), "v3")
    start(model, rng())
    rows = trace(model, torch.zeros(1, 8, dtype=torch.long))
    kinds = [row[1] for row in rows if str(row[0]).endswith("mlp")]
    assert kinds == [Dense.__name__] * dense + [Experts.__name__] * (4 - dense)
    assert len(rows) == 1 + 4 * 4 + 2
    assert {row[3] for row in rows[:-1]} == {"8 × 64"}  # the width of the stream, everywhere


def test_a_bias_changes_who_is_chosen_and_never_the_weight() -> None:
    experts = Experts(Params.model_validate({}).sizes(), "v3")
    start(experts, rng())
    x = torch.randn(50, 64, generator=rng(1))
    before, weights = experts.choose(x)
    experts.bias += 5.0  # the same for all: nobody is favoured
    same, equal = experts.choose(x)
    assert torch.equal(before, same)
    torch.testing.assert_close(weights, equal)
    experts.bias[3] += 5.0
    chosen, weights = experts.choose(x)
    assert bool((chosen == 3).any(dim=1).all())
    torch.testing.assert_close(weights.sum(dim=1), torch.full((50,), 2.5))
