"""adam-warmup-schedule against torch.optim and transformers' schedule, and Adam without its bias correction."""

from typing import Any

import pytest
import torch
from torch import nn
from transformers import get_inverse_sqrt_schedule

from demos.contract import Cell, Result
from demos.transformers.adam_warmup_schedule import AdamW, Params, clip, depth_of, gap_to_torch, noam, rate_at, run
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "adam-warmup-schedule")


def test_without_bias_correction_it_is_no_longer_adam() -> None:
    outcome = result(steps=50, **Params.presets["no bias correction"].values)
    assert failed(outcome) == [
        "100 steps of Adam by hand end where torch's end",
        "100 steps of AdamW by hand end where torch's end",
        "The first step has size lr, whatever the gradient",
    ]
    assert metric(outcome, "first step, over the rate") == pytest.approx(0.1 / 0.02**0.5, rel=1e-3)


def test_without_clipping_the_norm_runs_past_the_limit() -> None:
    assert failed(result(steps=50, **Params.presets["no clipping"].values)) == [
        "No clipped gradient is above the limit"
    ]


def test_lower_layers_move_less_under_layer_wise_decay() -> None:
    outcome = result(steps=50, **Params.presets["layer-wise decay"].values)
    assert failed(outcome) == []
    lowest, middle, highest = (float(row[1]) for row in outcome.tables[0].rows)
    assert lowest < 0.8 * middle < 0.64 * highest


@pytest.mark.parametrize(("beta1", "beta2"), [(0.9, 0.98), (0.5, 0.999), (0.0, 0.9)])
@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
def test_steps_are_torchs(beta1: float, beta2: float, weight_decay: float) -> None:
    params = Params.model_validate({"beta1": beta1, "beta2": beta2, "lr": 0.01})
    assert gap_to_torch(params, weight_decay) <= 1e-9


def test_each_weight_has_a_rate_of_its_own() -> None:
    weights = [torch.ones(3), torch.ones(3)]
    AdamW(weights, Params.model_validate({"weight_decay": 0.0})).step([torch.ones(3)] * 2, [0.1, 0.0])
    torch.testing.assert_close(weights[0], torch.full((3,), 0.9))
    assert torch.equal(weights[1], torch.ones(3))


def test_the_schedule_is_that_of_transformers() -> None:
    adam: Any = torch.optim.Adam([nn.Parameter(torch.zeros(1))], lr=0.01)
    schedule: Any = get_inverse_sqrt_schedule(adam, num_warmup_steps=20, timescale=20)
    for step in range(1, 100):
        adam.step()
        schedule.step()  # from now on it is the rate of this step
        assert rate_at(step, 0.01, 20) == pytest.approx(schedule.get_last_lr()[0])


def test_the_paper_s_rate_by_hand() -> None:
    assert noam(4000, 4000, 512) == pytest.approx(6.99e-4, rel=1e-3)
    assert noam(1, 4000, 512) == pytest.approx(1.747e-7, rel=1e-3)
    assert rate_at(7, 0.0002, 0) == 0.0002


@pytest.mark.parametrize("limit", [0.5, 100.0, 0.0])
def test_clipping_is_torchs(limit: float) -> None:
    gradients = [torch.randn(4, 3, generator=rng()), torch.randn(5, generator=rng(1))]
    weights = [nn.Parameter(torch.zeros_like(g)) for g in gradients]
    for weight, g in zip(weights, gradients, strict=True):
        weight.grad = g.clone()
    expected = nn.utils.clip_grad_norm_(weights, limit or 1e9)
    ours, norm = clip(gradients, limit)
    assert norm == pytest.approx(expected.item())
    for weight, g in zip(weights, ours, strict=True):
        torch.testing.assert_close(g, weight.grad, rtol=1e-4, atol=1e-6)


def test_depth_counts_from_the_output() -> None:
    assert [depth_of(name) for name in ("read.weight", "blocks.2.up.bias", "blocks.0.qkv.weight", "words.weight")] == [
        0, 1, 3, 4,
    ]  # fmt: skip
