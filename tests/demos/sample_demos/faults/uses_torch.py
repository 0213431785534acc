"""Uses torch

Question: What does torch see in a worker?
Source: none; it serves the runner's tests.
Watch: one thread, and an allocation that is too large.
"""

import torch
from pydantic import Field

from demos.contract import Claim, DemoParams, Metric, Result, Tick, no_tick


class Params(DemoParams):
    gib: int = Field(0, ge=0, le=64, description="Size of a tensor to make")


def run(params: Params, tick: Tick = no_tick) -> Result:
    tick(0.5, "allocating")
    size = torch.empty(params.gib * 2**30, dtype=torch.uint8).numel()
    threads = torch.get_num_threads()
    return Result(metrics=[Metric("size", size, "B")], claims=[Claim("torch has one thread", threads, "==", 1.0)])
