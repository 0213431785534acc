"""A loss that diverges

Question: Do numbers that are none survive the way to the caller?
Source: none; it serves the runner's tests.
Watch: NaN, which keeps no bound.
"""

import math

import numpy as np

from demos.contract import (
    Bars,
    Claim,
    DemoParams,
    Heatmap,
    Images,
    Lines,
    Metric,
    Result,
    Scatter,
    Table,
    Tick,
    no_tick,
)


class Params(DemoParams):
    pass


def run(params: Params, tick: Tick = no_tick) -> Result:
    tick(1.0, f"diverged: {params}", loss=math.inf)
    return Result(
        metrics=[Metric("loss", math.nan), Metric("weight", -math.inf, "kg"), Metric("numpy's", np.float64(0.5))],
        figures=[
            Lines("l", "x", "y", [1, 2], {"loss": [1.0, math.nan]}, log="y"),
            Scatter("s", "x", "y", {"points": [(1.0, math.inf)]}),
            Bars("b", "x", "y", ["one"], {"bars": [math.nan]}),
            Heatmap("h", "x", "y", [[math.nan, 1.0]], ["row"], ["a", "b"]),
            Images("i", [[[[0.0, 1.0]], [[[0.5, 0.5, 0.5], [math.nan, 0.0, 0.0]]]]], ["row"], ["a", "b"]),
        ],
        tables=[Table("t", ["text", "whole", "real", "flag"], [["16", 16, 16.0, True], ["NaN", 1, math.inf, False]])],
        claims=[Claim("The loss is small", math.nan, "<=", 1.0), Claim("It is large", math.inf, ">", 1.0)],
    )
