"""Tries to reach its caller's machine

Question: What does a demo see of the machine that it runs on?
Source: none; it serves the runner's tests.
Watch: the numbers, which are zero.
"""

import os
import socket

from pydantic import Field

from demos.contract import Claim, DemoParams, Metric, Result, Tick, no_tick


class Params(DemoParams):
    port: int = Field(1, ge=1, le=65535, description="Where somebody listens")


def run(params: Params, tick: Tick = no_tick) -> Result:
    tick(0.5, "reaching out")
    try:
        socket.create_connection(("127.0.0.1", params.port), timeout=5).close()
        reached = 1
    except OSError:
        reached = 0
    settings = sum(name.startswith("GENATLAS_") for name in os.environ)
    return Result(
        metrics=[Metric("reached", reached), Metric("settings seen", settings)],
        claims=[Claim("It sees no settings", settings, "==", 0)],
    )
