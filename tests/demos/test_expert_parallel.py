"""expert-parallel against one device and routing by transformers, and experts that refuse."""

from typing import Any

import pytest
import torch
from transformers.models.deepseek_v3 import modeling_deepseek_v3
from transformers.models.deepseek_v3.configuration_deepseek_v3 import DeepseekV3Config

from demos.contract import Cell, Lines, Result
from demos.deepseek.expert_parallel import Cluster, Params, chunk_time, refused, route, run
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    outcome = result()
    assert_claims_hold_as_listed(outcome, "expert-parallel")
    overlap = outcome.figures[1]
    assert isinstance(overlap, Lines)
    longer = overlap.series["the longer"]
    assert longer[0] > min(longer) < longer[-1]  # too few multiprocessors copy too slowly, too many compute too slowly


def test_without_a_limit_tokens_reach_more_nodes() -> None:
    assert failed(result(**Params.presets["no-limit"].values)) == [
        "A token reaches at most four nodes, as in V3",
        "The limit saves InfiniBand bytes",
    ]


def test_experts_that_refuse_change_the_result() -> None:
    outcome = result(**Params.presets["capacity"].values)
    assert failed(outcome) == ["Spread over devices, the result is that of one", "No visit is refused"]
    assert 0.05 < metric(outcome, "visits refused") < 0.3


def test_one_node_needs_no_infiniband() -> None:
    outcome = result(**Params.presets["one-node"].values)
    assert metric(outcome, "InfiniBand bytes per token, dispatch") == 0
    assert metric(outcome, "NVLink bytes per token, dispatch") > 0
    assert "Spread over devices, the result is that of one" not in failed(outcome)


@pytest.mark.parametrize("params", [{"nodes": 3, "gpus_per_node": 2, "experts": 20}, {"nodes": 16, "top_k": 13}])
def test_the_result_is_right_on_other_machines(params: dict[str, int]) -> None:
    assert not [name for name in failed(result(**params)) if name.startswith(("Spread", "One InfiniBand"))]


def test_the_limit_holds_at_thirteen_experts() -> None:
    assert "A token reaches at most four nodes, as in V3" not in failed(result(top_k=13))


@torch.no_grad()
def test_routing_is_transformers_node_limited_router() -> None:
    logits = torch.randn(100, 32, generator=rng())
    make: Any = DeepseekV3Config
    config = make(
        hidden_size=32, n_routed_experts=32, num_experts_per_tok=4, n_group=4, topk_group=2, routed_scaling_factor=1.0
    )
    router: Any = modeling_deepseek_v3.DeepseekV3TopkRouter(config)
    router.weight.copy_(torch.eye(32))
    _, gates, chosen = router(logits)  # its groups are judged by their two best, ours by top_k / max_nodes = 2
    ours, ours_gates = route(logits, nodes=4, top_k=4, max_nodes=2)
    assert torch.equal(ours.sort(dim=1).values, chosen.sort(dim=1).values)
    torch.testing.assert_close(ours_gates.sort(dim=1).values, gates.sort(dim=1).values)


def test_one_token_by_hand() -> None:
    """A token of device 0 for experts 1, 2 and 3, one on each of four devices in two nodes."""
    cluster = Cluster(torch.eye(2).repeat(4, 1, 1), 2, 2, torch.zeros(4, 4), torch.zeros(4, 4))
    x = torch.zeros(4, 2)
    x[0] = torch.tensor([0.5, -0.5])
    chosen, gates = torch.tensor([[1, 2, 3]] * 4), torch.tensor([[0.5, 0.25, 0.25]] + [[0.0] * 3] * 3)
    torch.testing.assert_close(cluster.run(x, chosen, gates)[0], x[0].tanh())
    assert cluster.nvlink.nonzero().numpy().tolist() == [[0, 1], [2, 3]]  # to the neighbour; from the door onwards
    assert cluster.infiniband.nonzero().numpy().tolist() == [[0, 2]]  # once, to the device of the same number


def test_the_first_come_are_served() -> None:
    chosen = torch.tensor([[0, 1], [0, 1], [0, 2]])
    assert refused(chosen, 3, 1.0).numpy().tolist() == [[False, False], [False, False], [True, False]]
    assert not refused(chosen, 3, 0.0).any()


def test_twice_the_bytes_take_twice_the_time_and_half_the_multiprocessors_too() -> None:
    _, full = chunk_time(20, 28_672.0, 0.0)
    assert full == pytest.approx(2 * 3 * 28_672 * 4096 / 50e9 * 1000)
    assert chunk_time(10, 28_672.0, 0.0)[1] == pytest.approx(2 * full)
    assert chunk_time(40, 28_672.0, 0.0)[1] == pytest.approx(full)
    assert chunk_time(66, 0.0, 0.0)[0] == pytest.approx(3 * 4.83 * 2, rel=0.01)  # half of them compute
