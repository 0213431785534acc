"""training-cost against published hours and bills, and the rule of six where it fails."""

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import GPT2Config, GPT2LMHeadModel

from demos.contract import Cell, Result
from demos.llms.training_cost import Params, counted_over_six_n, run, serving, utilisation
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def bill(outcome: Result) -> dict[Cell, Cell]:
    return {row[0]: row[1] for row in outcome.tables[0].rows}


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "training-cost")


def test_a_long_context_breaks_the_rule_of_six() -> None:
    outcome = result(**Params.presets["long-context"].values)
    assert failed(outcome) == ["Torch counts 6N FLOPs per token too"]
    assert metric(outcome, "counted FLOPs over 6N at your context") > 2


@pytest.mark.parametrize(("context", "width", "layers"), [(128, 512, 2)])
def test_six_n_is_what_torch_counts_for_transformers_gpt2(context: int, width: int, layers: int) -> None:
    make: Any = GPT2Config
    config = make(n_embd=width, n_layer=layers, n_head=8, vocab_size=1000, tie_word_embeddings=False)
    config._attn_implementation = "eager"
    with torch.device("meta"):
        gpt: Any = GPT2LMHeadModel(config)
        ids = torch.zeros(1, context, dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        torch.autograd.backward(gpt(ids, attention_mask=None).logits.sum())
    multiplied = gpt.num_parameters() - gpt.transformer.wte.weight.numel() - gpt.transformer.wpe.weight.numel()
    assert counter.get_total_flops() / (6 * multiplied * context) == pytest.approx(1, abs=0.1)


def test_attention_adds_twelve_d_t_per_block_and_token() -> None:
    weights = 4 * (12 * 256**2 + 9 * 256) + 1024 * 256  # biases count as parameters and cost nothing
    expected = [(6 * (4 * 12 * 256**2 + 1024 * 256) + 4 * 12 * 256 * t) / (6 * weights) for t in (64, 1024)]
    assert [counted_over_six_n(t) for t in (64, 1024)] == pytest.approx(expected, rel=1e-6)


def test_the_published_bills() -> None:
    v3 = bill(result())
    assert v3["device-hours by its makers"] == 2.788e6
    assert v3["dollars for those"] == 5.576e6
    assert v3["utilisation that follows"] == pytest.approx(0.347, abs=0.002)
    assert bill(result(price_hour=3.0))["dollars for those"] == pytest.approx(8.4e6, rel=0.01)
    assert bill(result(preset="bert-base", gpu="TPUv2", gpus=16))["days on their devices"] == 4
    llama = bill(result(preset="llama-2-70b"))
    assert llama["utilisation that follows"] == pytest.approx(0.43, abs=0.01)
    assert utilisation(6 * 280e9 * 13e12, 54e6, "A100") == pytest.approx(0.36, abs=0.005)  # the report says 32–36 %


def test_v3_on_sixty_four_a100s_takes_fifteen_years() -> None:
    days = metric(result(**Params.presets["sixty-four-cards"].values), "days")
    assert days / 365 == pytest.approx(15, abs=0.5)
    assert metric(result(preset="custom", params_b=37.0, tokens_b=6000.0, gpu="A100", gpus=64), "days") / 365 < 6.5


def test_all_experts_cost_eighteen_times_as_much() -> None:
    ratio = metric(result(**Params.presets["all-experts"].values), "dollars") / metric(result(), "dollars")
    assert ratio == pytest.approx(671 / 37)


def test_half_the_tokens_cost_half_and_half_the_use_costs_double() -> None:
    full, half = (result(preset="gpt-5-reported", tokens_b=tokens) for tokens in (70_000.0, 35_000.0))
    assert metric(full, "dollars") == 2 * metric(half, "dollars")
    assert metric(result(mfu=0.2), "dollars") == pytest.approx(2 * metric(result(mfu=0.4), "dollars"))


def test_the_break_even_is_a_metric_where_there_is_one() -> None:
    name = "own hardware is cheaper from, requests in the table"
    assert metric(result(), name) == 10**6
    assert name not in {metric.name for metric in result(preset="gpt-5-reported").metrics}


def test_a_large_model_needs_devices_even_for_one_request() -> None:
    api, devices, own = serving(37e9, 671e9, "H800", requests=1, price_hour=2.0)
    assert (api, devices, own) == (0.002, 12, 576)
    _, many, _ = serving(37e9, 671e9, "H800", requests=1e7, price_hour=2.0)
    assert many == 87  # 10¹⁰ tokens of 7.4·10¹⁰ FLOPs, at 98.9 TFLOP/s through 86,400 s: 86.6 devices
