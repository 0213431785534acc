"""mla-attention against transformers' DeepSeek attention, and its failure where positions stay on the keys."""

from typing import Any

import pytest
import torch
from transformers import DynamicCache
from transformers.models.deepseek_v3 import modeling_deepseek_v3 as hugging
from transformers.models.deepseek_v3.configuration_deepseek_v3 import DeepseekV3Config

from demos.contract import Cell, Result, Table, no_tick
from demos.deepseek.mla_attention import WIDTH, LatentAttention, Params, cached_numbers, generate, rotate, run
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def rows(outcome: Result, title: str) -> dict[Cell, list[Cell]]:
    table = next(table for table in outcome.tables if table.title == title)
    assert isinstance(table, Table)
    return {row[0]: list(row[1:]) for row in table.rows}


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "mla-attention")


def test_positions_on_the_keys_break_absorption_and_raise_their_rank() -> None:
    outcome = result(**Params.presets["coupled"].values)
    assert failed(outcome) == [
        "Keys of all heads are maps of one latent",
        "Absorbed and expanded form agree",
        "Token by token from the cache alone, the same",
    ]


def test_one_head_has_little_to_share() -> None:
    assert failed(result(**Params.presets["one-head"].values)) == ["The latent cache is small"]


def test_v3s_own_heads_and_latent_cache_576_numbers() -> None:
    outcome = result(**Params.presets["v3-heads"].values)
    assert failed(outcome) == []
    assert metric(outcome, "cached numbers per token") == 576


@pytest.mark.parametrize(
    "params", [{"d_rope": 5}, {"heads": 1, "head_dim": 9}, {"d_c": 8, "q_rank": 8}, {"context": 4096, "d_c": 16}]
)
def test_the_forms_agree_at_other_sizes(params: dict[str, int]) -> None:
    names = ("Absorbed and", "Token by token", "Built keys")
    assert not [name for name in failed(result(**params)) if name.startswith(names)]


def test_the_cache_table_counts_the_published_model() -> None:
    table = rows(result(context=4096, heads=16, d_rope=32), "Cache")
    assert table["DeepSeek-V3: numbers per token and layer"] == [32_768, 8_192, 256, 576]
    assert table["DeepSeek-V3: bytes per token, 61 layers"][-1] == 70_272
    assert table["this run: numbers per token and layer"] == [2 * 16 * 32, 2 * 4 * 32, 2 * 32, 32 + 32]
    assert table["this run: 4096 tokens, bytes"][-1] == 2 * 64 * 4096
    assert cached_numbers(1, 8, 8, 4)["GQA, heads / 4"] == 16


def test_a_query_costs_less_absorbed_than_with_keys_built_anew() -> None:
    paths = rows(result(context=1024), "Paths")
    expanded, absorbed, stepped = (row[1] for row in paths.values())
    assert expanded == 2 * 1024 * 8 * (32 * 64 + 64 + 16)  # per head: W_UK and W_UV on each latent, then scores and sum
    assert absorbed == stepped == 2 * 8 * (32 * 64 + 1024 * (32 + 32 + 16))


def hugging_attention(mla: LatentAttention, params: Params) -> tuple[Any, Any]:
    """DeepseekV3Attention with the weights of ours, and its rotary table."""
    make: Any = DeepseekV3Config
    config = make(
        hidden_size=WIDTH, num_attention_heads=mla.n, num_key_value_heads=mla.n, q_lora_rank=params.q_rank,
        kv_lora_rank=params.d_c, qk_rope_head_dim=mla.r, qk_nope_head_dim=mla.h, v_head_dim=mla.h,
        attn_implementation="eager",
    )  # fmt: skip
    theirs: Any = hugging.DeepseekV3Attention(config, layer_idx=0).eval()
    copies = {
        "q_a_proj": mla.W_DQ,
        "q_b_proj": torch.cat([mla.W_UQ, mla.W_QR], dim=1).flatten(0, 1),
        "kv_a_proj_with_mqa": torch.cat([mla.W_DKV, mla.W_KR]),
        "kv_b_proj": torch.cat([mla.W_UK, mla.W_UV], dim=1).flatten(0, 1),
        "o_proj": mla.W_O,
    }
    for name, weight in copies.items():
        getattr(theirs, name).weight.data.copy_(weight)
    return theirs, hugging.DeepseekV3RotaryEmbedding(config)


@torch.no_grad()
@pytest.mark.parametrize("heads", [1, 8])
def test_every_form_is_transformers_deepseek_v3_attention(heads: int) -> None:
    params = Params.model_validate({"heads": heads})
    mla, x = LatentAttention(params, rng()), torch.randn(20, WIDTH, generator=rng(1))
    theirs, rotary = hugging_attention(mla, params)
    position = torch.arange(20)
    future = torch.full((20, 20), -torch.inf).triu(1)[None, None]
    expected = theirs(x[None], rotary(x, position[None]), future)[0][0]
    stepped, cache = generate(mla, x, no_tick)
    for output in (mla.expanded(x), mla.absorbed(x, position, cache), stepped):
        torch.testing.assert_close(output, expected, rtol=0, atol=1e-5)
    kept = DynamicCache()
    theirs(x[None], rotary(x, position[None]), future, cache=kept)
    latent: Any = kept.layers[0]
    torch.testing.assert_close(latent.keys[0, 0], cache[:, : params.d_c], rtol=0, atol=1e-5)  # it caches the latent too


def test_rotation_turns_each_pair_by_its_own_angle() -> None:
    x = torch.tensor([1.0, 0.0, 1.0, 0.0]).expand(2, 1, 4)
    turned = rotate(x, torch.tensor([0, 3]))
    torch.testing.assert_close(turned[0], x[0])
    angles = torch.tensor([3.0, 3.0 / 100])
    expected = torch.stack([angles.cos(), angles.sin()], dim=1).flatten()
    torch.testing.assert_close(turned[1, 0], expected)
