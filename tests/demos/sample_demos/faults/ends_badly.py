"""Ends in one of many bad ways

Question: Does each end reach the caller as one clear error?
Source: none; it serves the runner's tests.
Watch: the error.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import Field

from demos.contract import Claim, DemoParams, Metric, Result, Tick, no_tick


class Params(DemoParams):
    how: Literal[
        "raise", "leave", "abort", "cpu", "grow", "allocate", "other", "tensor", "talk", "file", "large", "garbage"
    ] = Field("raise", description="The way to end")


def run(params: Params, tick: Tick = no_tick) -> Result:
    tick(0.5, params.how)
    end(params.how)
    value: Any = object() if params.how == "tensor" else 1.0
    name = "x" * (3 * 2**20 if params.how == "large" else 1)
    if params.how == "other":
        return cast(Result, {"metrics": []})
    return Result(metrics=[Metric(name, value)], claims=[Claim("It ends well", 1.0, "==", 0.0)])


def end(how: str) -> None:
    match how:
        case "raise":
            raise ValueError("the sum\nis wrong")
        case "leave":
            sys.exit(3)
        case "abort":
            print("last words", flush=True)
            os.abort()
        case "cpu":
            os.kill(os.getpid(), signal.SIGXCPU)
        case "grow":
            kept: list[bytes] = []
            while True:
                kept.append(os.urandom(4 * 2**20))
        case "allocate":
            bytes(6 * 2**30)  # zeros that the kernel would hand out only when they are read
        case "talk":
            while True:
                print("x" * 10_000)
        case "file":
            with Path("large").open("wb") as file:
                while True:
                    file.write(bytes(2**20))
        case "garbage":
            for descriptor in range(3, 32):  # one of them is the channel to the runner
                try:
                    os.write(descriptor, b"not a message\n")
                except OSError:
                    continue
        case _:
            return
