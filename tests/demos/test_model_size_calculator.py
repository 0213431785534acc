"""model-size-calculator against transformers' own models, built on the meta device."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import transformers

from demos.contract import Cell, Result
from demos.llms.model_size_calculator import MODELS, Params, formula, run, working
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric

library: Any = transformers
DEEPSEEK: dict[str, Any] = {"num_attention_heads": 128, "num_key_value_heads": 128}  # latents and widths: its defaults
REFERENCE = {
    "bert-base": lambda: library.BertModel(library.BertConfig()),
    "bert-large": lambda: library.BertModel(
        library.BertConfig(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096)
    ),
    "gpt-1": lambda: library.OpenAIGPTLMHeadModel(library.OpenAIGPTConfig()),
    "gpt2": lambda: library.GPT2LMHeadModel(library.GPT2Config()),
    "gpt2-medium": lambda: library.GPT2LMHeadModel(library.GPT2Config(n_embd=1024, n_layer=24, n_head=16)),
    "gpt2-large": lambda: library.GPT2LMHeadModel(library.GPT2Config(n_embd=1280, n_layer=36, n_head=20)),
    "gpt2-xl": lambda: library.GPT2LMHeadModel(library.GPT2Config(n_embd=1600, n_layer=48, n_head=25)),
    "gpt-3": lambda: library.GPT2LMHeadModel(
        library.GPT2Config(n_embd=12288, n_layer=96, n_head=96, n_positions=2048)
    ),
    "vit-b16": lambda: library.ViTForImageClassification(library.ViTConfig(num_labels=1000)),
    "vit-l16": lambda: library.ViTForImageClassification(
        library.ViTConfig(
            hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096, num_labels=1000
        )
    ),
    "vit-h14": lambda: library.ViTForImageClassification(
        library.ViTConfig(
            hidden_size=1280, num_hidden_layers=32, num_attention_heads=16, intermediate_size=5120, patch_size=14,
            num_labels=1000,
        )
    ),
    "llama3-8b": lambda: library.LlamaForCausalLM(
        library.LlamaConfig(vocab_size=128256, intermediate_size=14336, num_key_value_heads=8)
    ),
    "llama3-70b": lambda: library.LlamaForCausalLM(
        library.LlamaConfig(
            vocab_size=128256, hidden_size=8192, num_hidden_layers=80, num_attention_heads=64, intermediate_size=28672,
            num_key_value_heads=8,
        )
    ),
    "deepseek-v2": lambda: library.DeepseekV2ForCausalLM(
        library.DeepseekV2Config(
            vocab_size=102400, hidden_size=5120, num_hidden_layers=60, intermediate_size=12288,
            moe_intermediate_size=1536, n_routed_experts=160, num_experts_per_tok=6, n_shared_experts=2,
            first_k_dense_replace=1, q_lora_rank=1536, **DEEPSEEK,
        )
    ),
    "deepseek-v3": lambda: library.DeepseekV3ForCausalLM(library.DeepseekV3Config()),
}  # fmt: skip


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "model-size-calculator")


@pytest.mark.parametrize("name", MODELS)
def test_the_formula_counts_transformers_own_model(name: str) -> None:
    with torch.device("meta"):
        theirs = REFERENCE[name]()
    assert sum(formula(MODELS[name], tied=True).values()) == theirs.num_parameters()


def test_an_output_matrix_counted_twice_is_not_what_is_published() -> None:
    outcome = result(**Params.presets["untied"].values)
    assert failed(outcome) == ["Fifteen models come out at their published size"]
    assert metric(outcome, "parameters") == 163_037_184


@pytest.mark.parametrize(("preset", "share"), [("gpt-1", 0.73), ("gpt2", 0.68), ("gpt2-xl", 0.95), ("gpt-3", 0.996)])
def test_the_share_of_the_blocks_grows(preset: str, share: float) -> None:
    outcome = result(preset=preset)
    assert failed(outcome) == []
    assert metric(outcome, "share of the blocks") == pytest.approx(share, abs=0.005)


def test_twice_the_experts_nearly_double_what_is_stored_but_not_what_is_used() -> None:
    eight, sixteen = (result(preset="custom", experts=experts, top_k=2, hidden=4096) for experts in (8, 16))
    stored = [metric(outcome, "parameters") for outcome in (eight, sixteen)]
    used = [metric(outcome, "parameters that a token uses") for outcome in (eight, sixteen)]
    assert 1.8 < stored[1] / stored[0] < 2
    assert used[1] - used[0] == 12 * 8 * 4096  # the router's new rows
    assert failed(eight) == []


def test_a_token_uses_all_of_a_dense_model_and_at_most_all_experts() -> None:
    dense = formula(MODELS["gpt2"], tied=True)
    assert working(MODELS["gpt2"], dense) == dense
    everyone = replace(MODELS["deepseek-v3"], top_k=256)
    assert working(everyone, formula(everyone, tied=True)) == formula(everyone, tied=True)
    assert failed(result(preset="custom", experts=1, top_k=16)) == []


def test_the_block_of_bert_base() -> None:
    outcome = result()
    assert metric(outcome, "parameters") == 109_482_240
    assert metric(outcome, "parameters of one block, on average") == pytest.approx(7.09e6, rel=0.001)
