"""Waits until it is told to stop

Question: Does a cancelled run end, and its children with it?
Source: none; it serves the runner's tests.
Watch: the lock that a child process holds.
"""

import subprocess
import sys

from pydantic import Field

from demos.contract import Claim, DemoParams, Result, Tick, no_tick

HOLD = """
import fcntl, signal, sys
held = open(sys.argv[1], "a")
fcntl.flock(held, fcntl.LOCK_EX)
print("held", flush=True)
signal.pause()
"""


class Params(DemoParams):
    lock: str = Field("", description="File that a child process locks as long as it lives")


def run(params: Params, tick: Tick = no_tick) -> Result:
    if params.lock:
        child = subprocess.Popen([sys.executable, "-c", HOLD, params.lock], stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
    while True:
        tick(0.5, "waiting")
        if params.lock == "never":
            return Result(metrics=[], claims=[Claim("It never comes here", 1.0, "==", 0.0)])
