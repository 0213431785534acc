"""What does training a large model cost?

Question: How do parameters, tokens and hardware turn into GPU-days, money and energy?
Source: Kaplan et al. 2020, arXiv:2001.08361, §2.1 (C ≈ 6ND); Brown et al. 2020, arXiv:2005.14165, table D.1; Touvron et
  al. 2023, arXiv:2307.09288, table 2; Patterson et al. 2021, arXiv:2104.10350; DeepSeek-AI 2024, arXiv:2412.19437,
  table 1. Each figure below is marked: published, reported (a leak), or assumed.
Watch: Two numbers fix the arithmetic, the parameters that a token uses and the tokens; hardware and its use turn it
  into hours, and only then a price makes it money. Count V3 with all 671 billion and its own hours become impossible.
  The 6 in 6ND forgets attention: it is wrong for long contexts (preset "long-context").
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from demos.contract import Bars, Claim, DemoParams, Lines, Metric, Preset, Result, Table, Tick, no_tick

Gpu = Literal["TPUv2", "A100", "H100", "H800"]
PEAK: Mapping[Gpu, tuple[float, float]] = {  # dense BF16 FLOP/s and watts of one device
    "TPUv2": (46e12, 280.0), "A100": (312e12, 400.0), "H100": (989e12, 700.0), "H800": (989e12, 700.0),
}  # fmt: skip
PUE, CO2 = 1.1, 0.4  # power of the building over that of the devices, kg per kWh: assumed
API_PRICE, REQUEST, SERVING_USE, ROOM = 2.0, 1000, 0.1, 60e9  # dollars per 10⁶ tokens, tokens, of peak, bytes: assumed


@dataclass(frozen=True, slots=True)
class Training:
    """A run: parameters that a token uses, all parameters, tokens, devices, device-hours given by its makers."""

    active: float
    stored: float
    tokens: float
    gpu: Gpu
    gpus: int
    hours: float  # 0 where nobody gives them
    marked: Literal["published", "reported", "assumed"]


RUNS: Mapping[str, Training] = {
    "bert-base": Training(110e6, 110e6, 131e9, "TPUv2", 16, 16 * 96, "published"),  # 10⁶ steps of 256 · 512 tokens
    "bert-large": Training(340e6, 340e6, 131e9, "TPUv2", 64, 64 * 96, "published"),
    "gpt-3": Training(175e9, 175e9, 300e9, "A100", 1024, 0, "published"),  # its V100 hours are not: A100 assumed
    "gpt-4-reported": Training(280e9, 1.8e12, 13e12, "A100", 25_000, 25_000 * 24 * 95, "reported"),
    "gpt-5-reported": Training(300e9, 2e12, 70e12, "H100", 50_000, 0, "assumed"),  # tokens: an outsider's estimate
    "llama-2-70b": Training(70e9, 70e9, 2e12, "A100", 2_000, 1_720_320, "published"),
    "llama-3-70b": Training(70.6e9, 70.6e9, 15e12, "H100", 16_384, 6.4e6, "published"),
    "claude-2-reported": Training(130e9, 130e9, 1.2e12, "A100", 1_024, 0, "assumed"),  # no source for either number
    "deepseek-v3": Training(37e9, 671e9, 14.8e12, "H800", 2_048, 2.664e6, "published"),  # pre-training alone
    "custom": Training(1e9, 1e9, 20e9, "H800", 8, 0, "assumed"),
}
V3_HOURS = 2.788e6  # with context extension (119K) and post-training (5K)
GPT3_FLOPS = 3.14e23  # table D.1


class Params(DemoParams):
    preset: Literal[
        "bert-base", "bert-large", "gpt-3", "gpt-4-reported", "gpt-5-reported", "llama-2-70b", "llama-3-70b",
        "claude-2-reported", "deepseek-v3", "custom",
    ] = Field("deepseek-v3", description="Training run; each 0 below stands for its own value")  # fmt: skip
    params_b: float = Field(0.0, ge=0.0, le=2000.0, description="Parameters that a token uses, in 10⁹")
    tokens_b: float = Field(0.0, ge=0.0, le=100_000.0, description="Training tokens, in 10⁹")
    gpu: Literal["its own", "TPUv2", "A100", "H100", "H800"] = Field("its own", description="Device")
    gpus: int = Field(0, ge=0, le=100_000, description="Devices")
    mfu: float = Field(0.35, ge=0.05, le=0.7, description="Share of the device's peak that is reached")
    price_hour: float = Field(2.0, ge=0.1, le=20.0, description="Dollars per device-hour")
    requests_per_day: int = Field(10_000, ge=1, le=10_000_000, description="Requests of 1,000 tokens to serve")
    context: int = Field(64, ge=16, le=8192, description="Context of the small model on which 6N is checked")
    seed: int = Field(0, ge=0, le=9999, description="Nothing here is random")

    presets: ClassVar[Mapping[str, Preset]] = {
        "long-context": Preset("Attention grows with the context: 6 FLOPs per parameter no longer do", {
            "context": 4096,
        }),
        "all-experts": Preset("What V3 would cost if every token went through all 671 billion", {"params_b": 671.0}),
        "sixty-four-cards": Preset("V3's tokens on the 64 A100s of the legend: fifteen years", {
            "gpu": "A100", "gpus": 64,
        }),
    }  # fmt: skip


class Gpt(nn.Module):
    """A small GPT, one block written out, whose only use is that its FLOPs are counted: d = 256, 4 blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(1024, 256)
        self.blocks = nn.ModuleList(
            nn.ModuleList([nn.Linear(256, 768), nn.Linear(256, 256), nn.Linear(256, 1024), nn.Linear(1024, 256)])
            for _ in range(4)
        )
        self.head = nn.Linear(256, 1024, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.table(ids)  # (T, 256)
        for layers in self.blocks:
            qkv, out, up, down = layers.children()
            q, k, v = qkv(x).tensor_split(3, dim=-1)  # (T, 256) each; one head: the count is that of many
            x = x + out((q @ k.T).softmax(dim=-1) @ v)
            x = x + down(nn.functional.gelu(up(x)))
        return self.head(x)


def counted_over_six_n(context: int) -> float:
    """FLOPs of forward and backward per token, counted by torch, over 6N. N: all that is multiplied, no table."""
    with torch.device("meta"):  # shapes are enough to count
        gpt, ids = Gpt(), torch.zeros(context, dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        torch.autograd.backward(gpt(ids).sum())
    multiplied = sum(weight.numel() for weight in gpt.parameters()) - gpt.table.weight.numel()
    return counter.get_total_flops() / (6 * multiplied * context)


def utilisation(flops: float, hours: float, gpu: Gpu) -> float:
    """Share of the peak that a run of so many device-hours has reached."""
    return flops / (hours * 3600 * PEAK[gpu][0])


def serving(active: float, stored: float, gpu: Gpu, requests: float, price_hour: float) -> tuple[float, int, float]:
    """Dollars a day from an API; devices of one's own, and dollars a day for them. 2N FLOPs per token, FP8 weights."""
    tokens = requests * REQUEST
    fastest = 86_400 * PEAK[gpu][0] * SERVING_USE / (2 * active)  # tokens a day of one device
    devices = max(math.ceil(stored / ROOM), math.ceil(tokens / fastest))
    return tokens / 1e6 * API_PRICE, devices, devices * 24 * price_hour


def run(params: Params, tick: Tick = no_tick) -> Result:
    chosen = RUNS[params.preset]
    active, tokens = params.params_b * 1e9 or chosen.active, params.tokens_b * 1e9 or chosen.tokens
    gpu: Gpu = chosen.gpu if params.gpu == "its own" else params.gpu
    gpus = params.gpus or chosen.gpus

    def bill(tokens: float) -> tuple[float, float, float]:
        """FLOPs, device-hours and dollars for so many tokens."""
        flops = 6 * active * tokens
        hours = flops / (PEAK[gpu][0] * params.mfu * 3600)
        return flops, hours, hours * params.price_hour

    flops, hours, dollars = bill(tokens)
    energy = hours * PEAK[gpu][1] * PUE / 1e6  # MWh
    lengths = [64, 256, 1024, 4096]
    ratios = [counted_over_six_n(length) for length in lengths]
    ratio = counted_over_six_n(params.context)
    tick(0.8, "6N checked", ratio=ratio)

    computed = {name: 6 * one.active * one.tokens for name, one in RUNS.items() if name != "custom"}
    computed["this run"] = flops
    v3, gpt4 = RUNS["deepseek-v3"], RUNS["gpt-4-reported"]
    v3_use = utilisation(6 * v3.active * v3.tokens, v3.hours, "H800")
    all_use = utilisation(6 * v3.stored * v3.tokens, v3.hours, "H800")
    gpt4_use = utilisation(computed["gpt-4-reported"], gpt4.hours, "A100")
    v3_dollars = V3_HOURS * 2 / 1e6
    rows: list[list[str | float]] = [
        ["FLOPs, 6·N·D", flops, "computed"], ["device-hours", hours, "computed"],
        ["days", hours / gpus / 24, f"computed, {gpus:,} × {gpu}"], ["dollars", dollars, "computed"],
        ["MWh", energy, "computed"], ["tonnes of CO₂", energy * CO2, f"computed, {CO2} kg per kWh assumed"],
    ]  # fmt: skip
    if chosen.hours:
        given = V3_HOURS if chosen is v3 else chosen.hours
        rows += [
            ["device-hours by its makers", given, chosen.marked],
            ["days on their devices", given / chosen.gpus / 24, chosen.marked],
            ["dollars for those", given * params.price_hour, f"{chosen.marked} hours, your price"],
            ["utilisation that follows", utilisation(flops, chosen.hours, chosen.gpu), "computed"],
        ]
    requests = sorted({*(10**power for power in range(3, 8)), params.requests_per_day})
    served = [serving(active, chosen.stored, gpu, each, params.price_hour) for each in requests]
    pays = [each for each, (api, _, ours) in zip(requests, served, strict=True) if ours < api]
    gpt3_gap = abs(computed["gpt-3"] / GPT3_FLOPS - 1)
    return Result(
        metrics=[
            Metric("FLOPs of training", flops),
            Metric("device-hours", hours, "h"),
            Metric("days", hours / gpus / 24, "days"),
            Metric("dollars", dollars, "$"),
            Metric("counted FLOPs over 6N at your context", ratio),
            *(Metric("own hardware is cheaper from, requests in the table", each, "per day") for each in pays[:1]),
        ],
        claims=[
            Claim("6ND gives GPT-3's published 3.14·10²³: relative difference", gpt3_gap, "<=", 0.01),
            Claim("Torch counts 6N FLOPs per token too: relative difference", abs(ratio - 1), "<=", 0.1),
            Claim("V3's 2.788 million hours at 2 dollars: million dollars", v3_dollars, "==", 5.576),
            Claim("V3's 2.664 million hours of pre-training mean this share of the peak", v3_use, "<=", 0.5),
            Claim("With all 671 billion in use it would be impossible: share of the peak", all_use, ">", 1),
            Claim("GPT-4's reported hours and tokens agree: share of the peak", gpt4_use, "<=", 0.45),
            Claim("Cost is linear: dollars for twice the tokens", bill(2 * tokens)[2] / dollars, "==", 2),
        ],
        figures=[
            Bars("Training runs", "run", "log10 of FLOPs", list(computed), {
                "6·N·D": [math.log10(value) for value in computed.values()],
            }),
            Lines("6N forgets attention", "context", "counted over 6N", lengths, {"forward and backward": ratios},
                  log="x"),
        ],
        tables=[
            Table(f"Bill of {params.preset}", ["", "value", "how known"], rows),
            Table("All runs", ["run", "active", "tokens", "FLOPs", "device-hours given", "share of peak", "marked"], [
                [name, one.active, one.tokens, computed[name], one.hours,
                 utilisation(computed[name], one.hours, one.gpu) if one.hours else "", one.marked]
                for name, one in RUNS.items() if name != "custom"
            ]),
            Table("Break-even: an API at $2 for 10⁶ tokens, or devices of one's own",
                  ["requests per day", "API, $ per day", "devices", "own, $ per day"],
                  [[each, api, devices, ours] for each, (api, devices, ours) in zip(requests, served, strict=True)]),
        ],
    )  # fmt: skip
