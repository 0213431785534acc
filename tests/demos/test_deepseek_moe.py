"""deepseek-moe against transformers' DeepSeek-V3 mixture, and random routes."""

from typing import Any

import pytest
import torch
from transformers.models.deepseek_v3 import modeling_deepseek_v3
from transformers.models.deepseek_v3.configuration_deepseek_v3 import DeepseekV3Config

from demos.contract import Cell, Result
from demos.deepseek.deepseek_moe import CLASSES, SCALE, WIDTH, Mixture, Params, mutual_information, run
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng

hugging: Any = modeling_deepseek_v3  # untyped


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "deepseek-moe")


def test_random_routes_neither_specialise_nor_pay() -> None:
    assert failed(result(**Params.presets["random-routes"].values)) == [
        "Experts specialise",
        "The mixture beats a dense layer of equal cost",
    ]


@pytest.mark.parametrize(
    "params", [{"gate": "softmax", "shared": 0}, {"experts": 7, "top_k": 8}, {"experts": 64, "top_k": 8, "d_expert": 8}]
)
def test_the_exact_claims_hold_at_other_sizes(params: dict[str, Cell]) -> None:
    assert set(failed(result(**params, steps=50))) <= {
        "Experts specialise",
        "The mixture beats a dense layer of equal cost",
    }


@torch.no_grad()
@pytest.mark.parametrize("shared", [1, 2])
def test_the_mixture_is_transformers_deepseek_v3_moe(shared: int) -> None:
    params = Params.model_validate({"shared": shared})
    ours = Mixture(params, rng())
    ours.bias = 0.2 * torch.randn(16, generator=rng(1))
    make: Any = DeepseekV3Config
    config = make(
        hidden_size=WIDTH, moe_intermediate_size=32, n_routed_experts=16, num_experts_per_tok=2, n_group=4,
        topk_group=2, n_shared_experts=shared, routed_scaling_factor=SCALE,
    )  # fmt: skip
    theirs = hugging.DeepseekV3MoE(config).eval()
    theirs.gate.weight.copy_(ours.router)
    theirs.gate.e_score_correction_bias.copy_(ours.bias)
    theirs.experts.gate_up_proj.copy_(torch.cat(ours.experts[:2], dim=1))
    theirs.experts.down_proj.copy_(ours.experts[2])
    for name, weight in zip(("gate_proj", "up_proj", "down_proj"), ours.shared, strict=True):
        getattr(theirs.shared_experts, name).weight.copy_(weight)
    x = torch.randn(200, WIDTH, generator=rng(2))
    torch.testing.assert_close(ours.forward(x), theirs(x[None])[0], rtol=0, atol=1e-5)
    _, chosen, _ = ours.route(x)
    assert torch.equal(chosen.sort(dim=1).values, theirs.gate(x)[2].sort(dim=1).values)


def test_softmax_scores_sum_to_one_and_sigmoid_scores_do_not() -> None:
    sums = {}
    for gate in ("softmax", "sigmoid"):
        table = {row[0]: row for row in result(gate=gate, steps=50).tables[0].rows}
        sums[gate] = float(table["sum over experts"][1])
        assert float(table["sum over experts"][2]) == SCALE
        assert sum(row[2] == "0.000" for row in table.values()) == 14
    assert sums["softmax"] == 1
    assert sums["sigmoid"] > 2


def test_mutual_information_by_hand() -> None:
    classes = torch.arange(CLASSES).repeat(2)
    nats, shares = mutual_information(classes, (classes % 4)[:, None], 4)
    assert nats == pytest.approx(torch.tensor(4.0).log().item())  # the expert tells which of four quarters
    assert torch.equal(shares.argmax(dim=1), torch.arange(CLASSES) % 4)
    assert mutual_information(classes, torch.arange(4).expand(len(classes), 4), 4)[0] == pytest.approx(0, abs=1e-6)


def test_fine_experts_cost_as_much_as_coarse_ones() -> None:
    costs = list[list[Cell]]()
    settings: list[dict[str, Cell]] = [{}, {"experts": 32, "top_k": 4, "d_expert": 16}]
    for params in settings:
        rows = {row[0]: row for row in result(**params, steps=50).tables[1].rows}
        costs.append(list(rows["routed experts"][1:]))
    assert costs[0] == costs[1] == [16 * 3 * 32 * 32, 2 * 3 * 32 * 32, 2 * 2 * 3 * 32 * 32]


def test_half_the_share_at_twice_the_experts() -> None:
    share = [
        metric(result(experts=n, shared=0, steps=50), "share of the parameters that a token uses") for n in (16, 32)
    ]
    assert share[0] / share[1] == pytest.approx(2, rel=0.15)  # the router is used whole
