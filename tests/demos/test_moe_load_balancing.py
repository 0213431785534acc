"""moe-load-balancing against transformers' router with its correction bias, and methods that balance otherwise."""

from typing import Any

import pytest
import torch
from transformers.models.deepseek_v3 import modeling_deepseek_v3
from transformers.models.deepseek_v3.configuration_deepseek_v3 import DeepseekV3Config

from demos.contract import Cell, Result
from demos.deepseek.moe_load_balancing import (
    EXPERTS,
    TOP_K,
    WIDTH,
    Mixture,
    Params,
    Task,
    auxiliary_loss,
    moved_bias,
    run,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "moe-load-balancing")


def test_left_alone_it_stays_uneven() -> None:
    outcome = result(**Params.presets["none"].values, steps=200)
    assert failed(outcome) == ["The chosen method evens it out"]
    assert metric(outcome, "busiest expert's load over the mean") >= 2


def test_an_auxiliary_loss_is_in_the_routers_gradient() -> None:
    strong = result(**Params.presets["strong-aux"].values, steps=200)
    assert "And the router's gradient is the task's" in failed(strong)
    weak = result(**Params.presets["aux"].values, steps=200)
    assert {"The chosen method evens it out", "And the router's gradient is the task's"} <= set(failed(weak))
    name = "busiest expert's load over the mean"
    assert metric(strong, name) < metric(weak, name)


@torch.no_grad()
def test_choice_and_gates_are_those_of_transformers_router() -> None:
    ours = Mixture(rng())
    ours.bias = 0.3 * torch.randn(EXPERTS, generator=rng(1))
    make: Any = DeepseekV3Config
    config = make(
        hidden_size=WIDTH, n_routed_experts=EXPERTS, num_experts_per_tok=TOP_K, n_group=1, topk_group=1,
        routed_scaling_factor=1.0,
    )  # fmt: skip
    router: Any = modeling_deepseek_v3.DeepseekV3TopkRouter(config)
    router.weight.copy_(ours.router)
    router.e_score_correction_bias.copy_(ours.bias)
    x = torch.randn(200, WIDTH, generator=rng(2))
    _, weights, indices = router(x)
    _, chosen, gates = ours.route(x)
    assert torch.equal(chosen, torch.zeros(200, EXPERTS).scatter(1, indices, 1.0))
    torch.testing.assert_close(gates, torch.zeros(200, EXPERTS).scatter(1, indices, weights))
    ours.bias = torch.zeros(EXPERTS)
    assert not torch.equal(ours.route(x)[1], chosen)  # without the bias others are chosen


def test_the_bias_moves_one_step_against_the_error() -> None:
    moved = moved_bias(torch.tensor([0.5, 0.0, 0.0, 0.0]), torch.tensor([0.4, 0.2, 0.25, 0.15]), 0.1)
    torch.testing.assert_close(moved, torch.tensor([0.4, 0.1, 0.0, 0.1]))


def test_the_auxiliary_loss_is_one_when_even_and_more_when_not() -> None:
    even = torch.eye(EXPERTS) + torch.eye(EXPERTS).roll(1, dims=1)
    assert auxiliary_loss(torch.ones(EXPERTS, EXPERTS), even, 1).item() == pytest.approx(1)
    assert auxiliary_loss(torch.ones(EXPERTS, EXPERTS), even, 2).item() == pytest.approx(1)
    same = torch.zeros(EXPERTS, EXPERTS)
    same[:, :TOP_K] = 1.0
    assert auxiliary_loss(same, same, 1).item() == pytest.approx(EXPERTS / TOP_K)
    halves = torch.zeros(2, EXPERTS).scatter(1, torch.tensor([[0, 1], [2, 3]]), 1.0).repeat_interleave(4, dim=0)
    assert auxiliary_loss(halves, halves, 1).item() == pytest.approx(EXPERTS / TOP_K / 2)
    assert auxiliary_loss(halves, halves, 2).item() == pytest.approx(EXPERTS / TOP_K)  # each sequence alone is uneven


def test_clusters_have_zipf_frequencies() -> None:
    assert Task(0.0, rng()).frequency.numpy().tolist() == [1.0] * 16
    torch.testing.assert_close(Task(2.0, rng()).frequency[:3], torch.tensor([1.0, 1 / 4, 1 / 9]))
