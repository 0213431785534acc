"""Experts on many nodes: all-to-all and its limits

Question: What travels between machines when experts live apart?
Source: DeepSeek-AI 2024 (V3), arXiv:2412.19437, §2.1.2 (node-limited routing) and §3.2.2 (dispatch and combine);
  dropped tokens: Lepikhin et al. 2020 (GShard), arXiv:2006.16668, §2.2.
Watch: InfiniBand is the slow link, so a token's vector crosses it once per node and is forwarded over NVLink there;
  V3 lets it reach four nodes of eight (preset "no-limit" lifts that). Moving tokens changes no result, unless experts
  refuse those beyond their capacity (preset "capacity").
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from demos.contract import Claim, DemoParams, Heatmap, Lines, Metric, Preset, Result, Table, Tick, no_tick

TOKENS, WIDTH = 16, 16  # tokens of each device, and their width here
D, THERE, BACK = 7168, 1, 2  # V3's width; bytes of a number on the way there (FP8) and back (BF16)
INFINIBAND, NVLINK, SMS, ENOUGH = 50e9, 160e9, 132, 20  # bytes a second; multiprocessors; those that fill both links
LAYER = 9 * 3 * 7168 * 2048 + 187.1e6  # weights a token uses in one layer of V3: nine experts and attention
PEAK, BATCH = 989e12, 4096  # BF16 FLOP/s of a device; tokens that each brings


class Params(DemoParams):
    nodes: int = Field(8, ge=1, le=16, description="Nodes")
    gpus_per_node: int = Field(8, ge=1, le=8, description="Devices per node")
    experts: int = Field(256, ge=8, le=512, description="Routed experts, cut to the same number on each device")
    top_k: int = Field(8, ge=1, le=16, description="Experts per token")
    max_nodes: int = Field(4, ge=1, le=8, description="Nodes a token may reach, raised until top_k experts fit")
    comm_sms: int = Field(20, ge=1, le=131, description="Multiprocessors of 132 given to communication")
    capacity_factor: float = Field(0.0, ge=0.0, le=4.0, description="Visits an expert takes, over the mean; 0: all")
    seed: int = Field(0, ge=0, le=9999, description="Seed of tokens, router and experts")

    presets: ClassVar[Mapping[str, Preset]] = {
        "no-limit": Preset("A token may reach all eight nodes: more copies cross the slow link", {"max_nodes": 8}),
        "capacity": Preset("Experts refuse what is beyond their mean load: the result is another", {
            "capacity_factor": 1.0,
        }),
        "one-node": Preset("All experts in one machine: nothing crosses InfiniBand", {"nodes": 1}),
    }  # fmt: skip


def route(logits: Tensor, nodes: int, top_k: int, max_nodes: int) -> tuple[Tensor, Tensor]:
    """Experts (N, k) and gates (N, k) from logits (N, E). Nodes are chosen first, by their best top_k / max_nodes."""
    scores = logits.sigmoid().view(len(logits), nodes, -1)  # (N, nodes, E / nodes)
    best = scores.topk(min(max(1, top_k // max_nodes), scores.shape[2]), dim=2).values.sum(dim=2)  # (N, nodes)
    allowed = torch.zeros_like(best).scatter(1, best.topk(max_nodes, dim=1).indices, 1.0)
    gates, chosen = scores.masked_fill(allowed[:, :, None] == 0, -1.0).flatten(1).topk(top_k, dim=1)
    return chosen, gates / gates.sum(dim=1, keepdim=True)


def refused(chosen: Tensor, experts: int, factor: float) -> Tensor:
    """Visits (N, k) that an expert refuses since it already has `factor` times the mean; first come, first served."""
    if factor == 0:
        return torch.zeros_like(chosen, dtype=torch.bool)
    visits = torch.nn.functional.one_hot(chosen.flatten(), experts)  # (N·k, E)
    rank = (visits.cumsum(dim=0) * visits).sum(dim=1)  # (N·k,), from 1: how many came to that expert before, and it
    return (rank > factor * chosen.numel() / experts).view_as(chosen)


@dataclass(slots=True)
class Cluster:
    """Devices with experts (E, d, d), E / R on each, and what they sent each other, in vectors: (R, R) each."""

    experts: Tensor
    nodes: int
    gpus: int
    infiniband: Tensor
    nvlink: Tensor

    def send(self, source: int, target: int, vectors: Tensor) -> Tensor:
        """Move vectors (n, d) to another device, over the link that connects the two."""
        if source != target:
            link = self.nvlink if source // self.gpus == target // self.gpus else self.infiniband
            link[source, target] += len(vectors)
        return vectors.clone()

    def run(self, x: Tensor, chosen: Tensor, gates: Tensor) -> Tensor:
        """Σ g_i · tanh(W_i x), (N, d), for x (N, d) of which each device holds the same number.

        Every vector goes to each node of its experts once, to the device with its own number in that node, and from
        there on to the devices of its experts. Results return by the same way, added up before they cross.
        """
        ranks, share = self.nodes * self.gpus, len(self.experts) // (self.nodes * self.gpus)
        output = torch.zeros_like(x)
        for home in range(ranks):
            mine = torch.arange(home * len(x) // ranks, (home + 1) * len(x) // ranks)
            for node in range(self.nodes):
                wanted = (chosen[mine] // share // self.gpus == node) & (gates[mine] > 0)  # (n, k)
                here = mine[wanted.any(dim=1)]
                if len(here) == 0:
                    continue
                door = node * self.gpus + home % self.gpus
                at_door = self.send(home, door, x[here])
                added = torch.zeros_like(at_door)
                for device in range(node * self.gpus, (node + 1) * self.gpus):
                    asked = (chosen[here] // share == device) & (gates[here] > 0)  # (n, k)
                    visitor = asked.any(dim=1).nonzero()[:, 0]
                    if len(visitor) == 0:
                        continue
                    arrived = self.send(door, device, at_door[visitor])
                    token, place = asked[visitor].nonzero(as_tuple=True)
                    expert, gate = chosen[here][visitor][token, place], gates[here][visitor][token, place]
                    terms = torch.einsum("nij,nj->ni", self.experts[expert], arrived[token]).tanh()
                    result = torch.zeros_like(arrived).index_add(0, token, gate[:, None] * terms)
                    added.index_add_(0, visitor, result)  # the way back is the same reversed: not counted again
                output.index_add_(0, here, added)
        return output


def chunk_time(sms: int, ib_bytes: float, nvlink_bytes: float) -> tuple[float, float]:
    """Milliseconds of arithmetic, and of communication, for a layer forward and backward with BATCH tokens a device.

    `sms` multiprocessors copy, the others compute; ENOUGH of them fill both links. Bytes are those of one token there.
    """
    arithmetic = 3 * 2 * LAYER * BATCH / PEAK * SMS / (SMS - sms)
    both_ways = 2 * (THERE + BACK) / THERE * BATCH  # dispatch and combine, in the forward and in the backward
    seconds = both_ways * max(ib_bytes / INFINIBAND, nvlink_bytes / NVLINK) * max(1.0, ENOUGH / sms)
    return 1000 * arithmetic, 1000 * seconds


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng = torch.Generator().manual_seed(params.seed)
    ranks = params.nodes * params.gpus_per_node
    experts = max(params.experts // ranks, 1) * ranks
    top_k = min(params.top_k, experts)
    limit = min(max(params.max_nodes, math.ceil(top_k / (experts // params.nodes))), params.nodes)
    weights = torch.randn(experts, WIDTH, WIDTH, generator=rng) / WIDTH**0.5
    x = torch.randn(ranks * TOKENS, WIDTH, generator=rng)  # (N, d)
    logits = torch.randn(len(x), experts, generator=rng)

    def travel(limit: int) -> tuple[Cluster, Tensor, Tensor, Tensor]:
        chosen, gates = route(logits, params.nodes, top_k, limit)
        kept = gates.masked_fill(refused(chosen, experts, params.capacity_factor), 0.0)
        cluster = Cluster(weights, params.nodes, params.gpus_per_node, *torch.zeros(2, ranks, ranks))
        return cluster, chosen, torch.stack([gates, kept]), cluster.run(x, chosen, kept)

    cluster, chosen, (gates, kept), output = travel(limit)
    tick(0.5, "limited", **{"copies over InfiniBand": cluster.infiniband.sum().item()})
    free, free_chosen, _, _ = travel(params.nodes)
    everywhere = torch.einsum("eij,nj->nei", weights, x).tanh()  # (N, E, d): one device with all experts
    alone = torch.einsum("nk,nkd->nd", gates, everywhere[torch.arange(len(x))[:, None], chosen])
    gap = (output - alone).abs().max().item()

    home = (torch.arange(len(x)) // TOKENS)[:, None]  # (N, 1), the device of each token
    device = chosen // (experts // ranks)  # (N, k)

    g = params.gpus_per_node
    reached = torch.zeros(len(x), params.nodes).scatter(1, device // g, 1.0).sum(dim=1)  # (N,)
    visited = torch.zeros(len(x), ranks).scatter_add(1, device, (kept > 0).float()) > 0  # (N, R)
    distant = torch.arange(ranks) // g != home // g  # (N, R)
    naive = (visited & distant).sum().item()
    remote = (visited & distant).view(len(x), params.nodes, g).any(dim=2).sum().item()
    sent = cluster.infiniband.sum().item()
    dropped = refused(chosen, experts, params.capacity_factor).float().mean().item()
    ib, nv = (D * THERE * link.sum().item() / len(x) for link in (cluster.infiniband, cluster.nvlink))
    ib_free, nv_free = (D * THERE * link.sum().item() / len(x) for link in (free.infiniband, free.nvlink))
    sms = list(range(4, 61, 2))
    times = [chunk_time(count, ib, nv) for count in sms]
    arithmetic, communication = chunk_time(params.comm_sms, ib, nv)
    return Result(
        metrics=[
            Metric("InfiniBand bytes per token, dispatch", ib, "bytes"),
            Metric("NVLink bytes per token, dispatch", nv, "bytes"),
            Metric("NVLink over InfiniBand bytes", nv / max(ib, 1.0)),
            Metric("visits refused", dropped),
            Metric("arithmetic of a layer", arithmetic, "ms"),
            Metric("communication of a layer", communication, "ms"),
        ],
        claims=[
            Claim("Spread over devices, the result is that of one: largest difference", gap, "<=", 1e-5),
            Claim("No visit is refused: share refused", dropped, "==", 0),
            Claim("A token reaches at most four nodes, as in V3: most reached", reached.max().item(), "<=", 4),
            Claim("One InfiniBand copy per distant node: copies less nodes", sent - remote, "==", 0),
            Claim("A copy for each device instead would cost: copies over these", naive / max(sent, 1.0), ">=", 1.4),
            Claim("The limit saves InfiniBand bytes: with it over without", ib / max(ib_free, 1.0), "<=", 0.85),
        ],
        figures=[
            Heatmap("Traffic of dispatch: vectors from device (row) to device (column)", "to", "from",
                    (cluster.infiniband + cluster.nvlink).numpy().tolist()),
            Lines("Overlap: a layer of V3, forward and backward", "multiprocessors for communication", "ms", sms,
                  {"arithmetic": [a for a, _ in times], "communication": [c for _, c in times],
                   "the longer": [max(pair) for pair in times]}),
        ],
        tables=[
            Table(f"Traffic per token in dispatch, {D} numbers in FP8", ["", f"at most {limit} nodes", "no limit"], [
                ["nodes reached, mean", reached.mean().item(),
                 torch.zeros(len(x), params.nodes).scatter(1, free_chosen // (experts // params.nodes), 1.0)
                 .sum(dim=1).mean().item()],
                ["bytes over InfiniBand", ib, ib_free], ["bytes over NVLink", nv, nv_free],
            ]),
        ],
    )  # fmt: skip
