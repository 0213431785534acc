"""Pipeline bubbles: GPipe, 1F1B, ZB1P, DualPipe

Question: How does feeding a pipeline from both ends fill the waiting time?
Source: DeepSeek-AI 2024 (V3), arXiv:2412.19437, §3.2.1, table 2; GPipe: Huang et al. 2018, arXiv:1811.06965; 1F1B:
  Narayanan et al. 2021, arXiv:2104.04473, §2.2; zero bubble (ZB-H1): Qi et al. 2023, arXiv:2401.10241, §2.3.
Watch: Idle cells of the chart. 1F1B waits as long as GPipe and only holds less. Weight gradients, which nobody waits
  for, fill holes. DualPipe feeds both ends and fuses a forward with a backward; preset "bad-fusion" undoes it.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from demos.contract import Bars, Claim, DemoParams, Heatmap, Metric, Preset, Result, Table, Tick, no_tick

Schedule = Literal["gpipe", "1f1b", "zb1p", "dualpipe"]
SCHEDULES: tuple[Schedule, ...] = ("gpipe", "1f1b", "zb1p", "dualpipe")
WIDTH, ROWS, CELLS = 16, 8, 96  # of the real pipeline's layers and micro-batches; columns of the chart
# One job of a device: F forward, B backward, I its part for the inputs, W its part for the weights; then the direction
# (0: enters at stage 0, 1: enters at the last) and the micro-batch. Two jobs in one chunk run fused.
Job = tuple[str, int, int]
Chunk = tuple[Job, ...]


class Params(DemoParams):
    schedule: Schedule = Field("dualpipe", description="Schedule drawn in the chart; the tables hold all four")
    stages: int = Field(8, ge=2, le=16, description="Pipeline stages PP, cut to an even number (V3: 16)")
    microbatches: int = Field(20, ge=2, le=64, description="Micro-batches, cut to even, raised to DualPipe's 2·PP")
    f: float = Field(1.0, ge=0.1, le=5.0, description="Time F of a forward chunk")
    b: float = Field(2.0, ge=0.1, le=10.0, description="Time B of a full backward chunk")
    w: float = Field(1.0, ge=0.1, le=5.0, description="Time W of its part for the weights, at most B")
    overlap: float = Field(2.6, ge=0.1, le=10.0, description="Time F&B of a fused forward and backward; F + B: no gain")
    seed: int = Field(0, ge=0, le=9999, description="Seed of the real pipeline's weights and data")

    presets: ClassVar[Mapping[str, Preset]] = {
        "bad-fusion": Preset("A fusion slower than its parts: DualPipe waits longer than ZB1P", {"overlap": 4.0}),
        "no-fusion": Preset("Nothing hidden by fusing: DualPipe's bubble is 6, ZB1P's 7", {"overlap": 3.0}),
        "deepseek-v3": Preset("16 stages as in V3: 45, 15 and 11.2 units", {"stages": 16, "microbatches": 40}),
    }  # fmt: skip


def program(schedule: Schedule, device: int, stages: int, m: int) -> list[str]:
    """The chunks of a device in order: job and direction, as "F0", or "F1 B0" where two are fused."""
    if schedule == "gpipe":
        return ["F0"] * m + ["B0"] * m
    if schedule == "dualpipe":  # its eight steps; direction 0 enters at the nearer end
        near = min(device, stages - 1 - device)
        inner = stages // 2 - near - 1  # devices between this one and the middle
        return [
            *["F0"] * (2 * inner), *["F0", "F1"] * (near + 1), *["I1", "W", "F1"] * inner,
            *(["F0 B1"] if inner else ["F0", "B1"]), "F1 B0", *["F0 B1", "F1 B0"] * (m // 2 - stages + near),
            *["B1", "F1 B0"] * inner, *[f"{'B' if i <= near else 'I'}{1 - i % 2}" for i in range(2 * near + 2)],
            *["W", "I0"] * inner, *["W"] * (near + 1),
        ]  # fmt: skip
    ahead = stages - 1 - device  # forwards that run before the first backward can arrive
    codes = ["F0"] * ahead
    for i in range(m):
        codes += ["F0"] if i + ahead < m else []
        codes += ["B0"] if schedule == "1f1b" else ["I0"]
        codes += ["W"] if schedule == "zb1p" and i >= device else []  # a late device puts off what nobody waits for
    return codes + ["W"] * (device if schedule == "zb1p" else 0)


def orders(schedule: Schedule, stages: int, m: int) -> list[list[Chunk]]:
    """The chunks of every device with their micro-batches: first come, first served, in each direction."""
    found = list[list[Chunk]]()
    for device in range(stages):
        done, put_off, chunks = {"F": [0, 0], "B": [0, 0]}, list[tuple[int, int]](), list[Chunk]()
        for code in program(schedule, device, stages, m):
            chunk = list[Job]()
            for job in code.split():
                if job == "W":
                    chunk.append(("W", *put_off.pop(0)))
                    continue
                direction = int(job[1]) ^ (schedule == "dualpipe" and device >= stages // 2)
                chunk.append((job[0], direction, done["F" if job[0] == "F" else "B"][direction]))
                done["F" if job[0] == "F" else "B"][direction] += 1
                put_off += [chunk[-1][1:]] if job[0] == "I" else []
            chunks.append(tuple(chunk))
        found.append(chunks)
    return found


class Timed(NamedTuple):
    """A chunk as it ran."""

    device: int
    start: float
    end: float
    chunk: Chunk


def simulate(order: list[list[Chunk]], params: Params) -> list[Timed]:
    """Run every device's chunks in its order, each as soon as the device is free and what it needs is there."""
    took = {"F": params.f, "B": params.b, "I": params.b - min(params.w, params.b), "W": min(params.w, params.b)}
    last, ended, free = len(order) - 1, dict[tuple[str, int, int, int], float](), [0.0] * len(order)
    left, ran = [list(chunks) for chunks in order], list[Timed]()

    def needs(device: int, job: Job) -> list[tuple[str, int, int, int]]:
        kind, direction, i = job
        stage = device if direction == 0 else last - device
        if kind == "F":
            return [("F", direction, i, stage - 1)] if stage > 0 else []
        behind = [("G", direction, i, stage + 1)] if stage < last and kind != "W" else []  # G: gradient for the inputs
        return [("G" if kind == "W" else "F", direction, i, stage), *behind]

    while any(left):
        before = len(ran)
        for device, chunks in enumerate(left):
            while chunks and all(need in ended for job in chunks[0] for need in needs(device, job)):
                chunk = chunks.pop(0)
                start = max([free[device], *(ended[need] for job in chunk for need in needs(device, job))])
                free[device] = start + (params.overlap if len(chunk) == 2 else took[chunk[0][0]])
                for kind, direction, i in chunk:
                    stage = device if direction == 0 else last - device
                    ended["G" if kind in "BI" else kind, direction, i, stage] = free[device]
                ran.append(Timed(device, start, free[device], chunk))
        if len(ran) == before:
            raise RuntimeError("the devices wait for each other for ever")
    return ran


def bubble(ran: list[Timed]) -> float:
    """Idle time of the device that idles most, from the first chunk of all to the last."""
    busy = [sum(one.end - one.start for one in ran if one.device == device) for device in {one.device for one in ran}]
    return max(one.end for one in ran) - min(busy)


def held(ran: list[Timed], device: int) -> int:
    """Most micro-batches whose activations a device holds: from the forward to the end of the backward."""
    most = now = 0
    for one in ran:
        for kind, _, _ in one.chunk if one.device == device else ():
            now += {"F": 1, "B": -1, "I": 0, "W": -1}[kind]
            most = max(most, now)
    return most


def gradient_gap(ran: list[Timed], stages: int, m: int, rng: torch.Generator) -> float:
    """Train a real chain of `stages` tanh layers in the simulated order; relative gap to autograd on the batch."""
    weights = torch.randn(stages, WIDTH, WIDTH, generator=rng) / WIDTH**0.5
    batch = torch.randn(2, m, ROWS, WIDTH, generator=rng)  # by direction and micro-batch; the loss is the outputs' sum
    inputs, outputs = dict[tuple[int, int, int], Tensor](), dict[tuple[int, int, int], Tensor]()
    gradients = dict[tuple[int, int, int], tuple[Tensor, Tensor]]()  # for the layer's inputs, and before its tanh
    total, taken = torch.zeros_like(weights), set[tuple[int, int]]()
    for one in sorted(ran, key=lambda one: one.start):
        for kind, direction, i in one.chunk:
            stage = one.device if direction == 0 else stages - 1 - one.device
            key = direction, i, stage
            if kind == "F":
                inputs[key] = batch[direction, i] if stage == 0 else outputs[direction, i, stage - 1]  # (ROWS, WIDTH)
                outputs[key] = (inputs[key] @ weights[stage]).tanh()
                taken.add((direction, i))
            if kind in "BI":
                upstream = torch.ones(ROWS, WIDTH) if stage == stages - 1 else gradients[direction, i, stage + 1][0]
                inner = upstream * (1 - outputs[key] ** 2)
                gradients[key] = inner @ weights[stage].T, inner
            if kind in "BW":
                total[stage] += inputs.pop(key).T @ gradients[key][1]
    leaf = weights.clone().requires_grad_()
    x = torch.cat([batch[direction, i] for direction, i in sorted(taken)])  # (all rows, WIDTH)
    for stage in range(stages):
        x = (x @ leaf[stage]).tanh()
    (whole,) = torch.autograd.grad(x.sum(), leaf)
    return ((total - whole).abs().max() / whole.abs().max()).item()


def chart(ran: list[Timed], stages: int) -> list[list[float]]:
    """What each device does in each of CELLS moments: 0 nothing, 1 forward, 2 backward, 3 weights, 4 fused."""
    width, cells = max(one.end for one in ran) / CELLS, [[0.0] * CELLS for _ in range(stages)]
    for one in ran:
        kind = 4.0 if len(one.chunk) == 2 else {"F": 1.0, "B": 2.0, "I": 2.0, "W": 3.0}[one.chunk[0][0]]
        first, past = round(one.start / width), round(one.end / width)
        cells[one.device][first:past] = [kind] * (past - first)
    return cells


def run(params: Params, tick: Tick = no_tick) -> Result:
    stages, rng = params.stages // 2 * 2, torch.Generator().manual_seed(params.seed)
    m = max(params.microbatches // 2 * 2, 2 * stages)
    f, b, w = params.f, params.b, min(params.w, params.b)
    ran = {name: simulate(orders(name, stages, m), params) for name in SCHEDULES}
    idle = {name: bubble(one) for name, one in ran.items()}
    table2 = {
        "gpipe": (stages - 1) * (f + b), "1f1b": (stages - 1) * (f + b), "zb1p": (stages - 1) * (f + b - 2 * w),
        "dualpipe": (stages / 2 - 1) * (params.overlap + b - 3 * w),
    }  # fmt: skip
    tick(0.5, "simulated", bubble=idle[params.schedule])
    gap = max(gradient_gap(one, stages, m, rng) for one in ran.values())
    off = {name: abs(idle[name] - table2[name]) for name in SCHEDULES}
    ends = {name: max(job.end for job in one) for name, one in ran.items()}
    memory = {name: max(held(one, device) for device in range(stages)) for name, one in ran.items()}
    return Result(
        metrics=[
            Metric("bubble of the chosen schedule", idle[params.schedule], "time units"),
            Metric("share of the time idle", idle[params.schedule] / ends[params.schedule]),
        ],
        claims=[
            Claim("1F1B waits (PP−1)(F+B), GPipe too: largest difference", max(off["1f1b"], off["gpipe"]), "<=", 1e-6),
            Claim("ZB1P waits (PP−1)(F+B−2W): difference", off["zb1p"], "<=", 1e-6),
            Claim("DualPipe waits (PP/2−1)(F&B+B−3W): difference", off["dualpipe"], "<=", 1e-6),
            Claim("ZB1P waits less than 1F1B: bubble over bubble", idle["zb1p"] / idle["1f1b"], "<", 1),
            Claim("DualPipe waits less than ZB1P: bubble over bubble", idle["dualpipe"] / idle["zb1p"], "<", 1),
            Claim("1F1B holds fewer activations than GPipe: share", memory["1f1b"] / memory["gpipe"], "<=", 0.5),
            Claim("A real pipeline in these orders has the batch's gradients: largest difference", gap, "<=", 1e-5),
        ],
        figures=[
            Heatmap(f"Gantt chart of {params.schedule}: 1 forward, 2 backward, 3 weights, 4 fused", "time", "device",
                    chart(ran[params.schedule], stages), [str(device) for device in range(stages)]),
            Bars("Bubbles", "schedule", "time units", SCHEDULES, {"simulated": list(idle.values())}),
        ],
        tables=[
            Table("Bubbles", ["schedule", "simulated", "table 2", "parameters held", "activations held", "end"],
                  [[name, idle[name], table2[name], f"{2 if name == 'dualpipe' else 1}×", memory[name], ends[name]]
                   for name in SCHEDULES]),
        ],
    )  # fmt: skip
