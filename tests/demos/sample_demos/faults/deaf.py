"""Does not hear that it should stop

Question: Is a run ended that neither ticks nor heeds a signal?
Source: none; it serves the runner's tests.
Watch: nothing.
"""

import signal
import threading

from demos.contract import Claim, DemoParams, Metric, Result, Tick, no_tick


class Params(DemoParams):
    pass


def run(params: Params, tick: Tick = no_tick) -> Result:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    tick(0.5, f"deaf: {params}")
    threading.Event().wait()
    return Result(metrics=[Metric("never", 0)], claims=[Claim("It never comes here", 1.0, "==", 0.0)])
