"""kv-cache against transformers' GPT-2 and torch's attention, and a server that reserves too much."""

import math
from typing import Any

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import DynamicCache, GPT2Config, GPT2LMHeadModel

from demos.contract import Cell, Result
from demos.gpt import kv_cache
from demos.gpt.kv_cache import HEAD, HEADS, LAYERS, LONGEST, SLOTS, WIDTH, Decoder, Params, bend, paged_attention, run
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "kv-cache")


def test_reserving_the_longest_text_wastes_memory() -> None:
    outcome = result(**Params.presets["contiguous"].values)
    assert failed(outcome) == ["Unused memory stays below a block per request"]
    assert metric(outcome, "largest number of requests at once") == SLOTS / LONGEST


def test_one_head_keeps_an_eighth_of_the_cache() -> None:
    outcome = result(**Params.presets["one-head"].values)
    assert failed(outcome) == []
    assert 8 * metric(outcome, "cache per token") == metric(result(kv_heads=8, context=16), "cache per token")


def test_a_crowd_is_served_in_fewer_steps_when_memory_is_paged() -> None:
    outcome = result(**Params.presets["crowd"].values, context=64)
    assert failed(outcome) == []
    steps = {row[0]: row[-1] for row in outcome.tables[1].rows}
    assert float(steps["paged"]) < 0.8 * float(steps["contiguous"])


def test_published_caches() -> None:
    table = {row[0]: row[1] for row in result(context=16).tables[0].rows}
    assert table["DeepSeek-V3"] == 70_272
    assert table["Llama 3.1 405B"] == 516_096
    assert table["Llama 3 8B"] == 131_072


@torch.no_grad()
def test_the_decoder_with_eight_key_heads_is_gpt2() -> None:
    ours = Decoder(HEADS, rng())
    config = GPT2Config(
        vocab_size=len(ours.tokens), n_positions=LONGEST, n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS,
        bos_token_id=0, eos_token_id=0, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0,
    )  # fmt: skip
    theirs: Any = GPT2LMHeadModel(config).eval()
    for name, weight in theirs.named_parameters():
        weight.fill_(1.0 if "ln_" in name and name.endswith("weight") else 0.0)
    theirs.transformer.wte.weight.copy_(ours.tokens)
    theirs.transformer.wpe.weight.copy_(ours.positions)
    for block, W in zip(theirs.transformer.h, ours.blocks, strict=True):
        block.attn.c_attn.weight.copy_(torch.cat([W["q"], W["k"], W["v"]], dim=1))  # Conv1D: (in, out)
        block.attn.c_proj.weight.copy_(W["o"])
        block.mlp.c_fc.weight.copy_(W["up"])
        block.mlp.c_proj.weight.copy_(W["down"])
    ids = torch.randint(len(ours.tokens), (20,), generator=rng(1))
    expected = theirs(ids[None]).logits[0]
    torch.testing.assert_close(ours.step(ids, []), expected[-1], rtol=0, atol=1e-5)
    cache, kept = list[tuple[torch.Tensor, torch.Tensor]](), DynamicCache()
    for t in range(20):
        logits = ours.step(ids[t : t + 1], cache)
        stepped = theirs(ids[None, t : t + 1], cache=kept, use_cache=True).logits[0, -1]
        torch.testing.assert_close(logits, stepped, rtol=0, atol=1e-5)
        torch.testing.assert_close(logits, expected[t], rtol=0, atol=1e-5)
    layers: Any = kept.layers
    torch.testing.assert_close(cache[1][0], layers[1].keys[0].transpose(0, 1), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kv", [1, 2, 8])
@pytest.mark.parametrize("length", [1, 4, 11])
def test_paged_attention_is_torchs_own_whatever_the_order_of_blocks(kv: int, length: int) -> None:
    q, pool = torch.randn(HEADS, HEAD, generator=rng()), torch.full((2, 5, 4, kv, HEAD), math.nan)
    k, v = (torch.randn(length, kv, HEAD, generator=rng(seed)) for seed in (1, 2))
    table = [3, 0, 4][: math.ceil(length / 4)]
    for t in range(length):
        pool[:, table[t // 4], t % 4] = torch.stack([k[t], v[t]])
    k, v = (x.transpose(0, 1).repeat_interleave(HEADS // kv, dim=0) for x in (k, v))  # (n, T, HEAD)
    expected = scaled_dot_product_attention(q[:, None], k, v)[:, 0]
    torch.testing.assert_close(paged_attention(q, pool, table, length), expected, rtol=0, atol=1e-5)


def test_serving_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kv_cache, "SLOTS", 4)
    assert kv_cache.serve([2, 1, 2], unit=2) == ([2, 2, 1], [2, 3, 2], [4, 4, 2])  # the third enters as one leaves
    assert kv_cache.serve([2, 2], unit=4) == ([1, 1, 1, 1], [1, 2, 1, 2], [4, 4, 4, 4])
    running, held, _ = kv_cache.serve([4, 4], unit=2)  # both grow until memory is full: the younger starts again
    assert (running, held) == ([2, 2, 1, 1, 1, 1, 1, 1], [2, 4, 3, 4, 1, 2, 3, 4])


def test_the_bend_of_a_line_and_a_parabola() -> None:
    assert bend([3, 5, 7, 9]) == 0
    assert bend([0, 1, 4, 9]) == 2
