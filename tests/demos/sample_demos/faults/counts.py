"""Counts to a number

Question: Does progress reach the caller in order?
Source: none; it serves the runner's tests.
Watch: the curve of counts,
  which is a straight line.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, field_validator

from demos.contract import Claim, DemoParams, Lines, Metric, Preset, Result, Tick, no_tick


class Params(DemoParams):
    to: int = Field(5, ge=1, le=100, description="The number to count to")
    step: float = Field(1.0, ge=0.5, le=2.0, description="Size of a step")
    loud: bool = Field(False, description="Print while counting")
    order: Literal["up", "down"] = Field("up", description="Direction")
    work: int = Field(0, ge=0, le=1_000_000, description="Numbers to add up in each step")
    word: str = Field("count", description="What to call a step; never 'forbidden'")

    presets: ClassVar[Mapping[str, Preset]] = {"far": Preset("A longer line", {"to": 50})}

    @field_validator("word")
    @classmethod
    def is_allowed(cls, word: str) -> str:
        if word == "forbidden":
            raise ValueError("this word cannot be used")
        return word


def run(params: Params, tick: Tick = no_tick) -> Result:
    counts: list[float] = []
    for number in range(1, params.to + 1):
        counts.append(number * params.step)
        sum(range(params.work))
        if params.loud:
            print(params.word, number)
        tick(number / params.to, f"{params.word} {number}", counted=counts[-1])
    return Result(
        metrics=[Metric("last", counts[-1])],
        figures=[Lines("Counts", "number", "counted", list(range(params.to)), {"counted": counts})],
        claims=[Claim("It counts to the end", counts[-1] / params.step / params.to, "==", 1.0)],
    )
