"""The process in which demos are imported and run: `python -m demos.worker`, started by `demos.process` only."""

import importlib.util
import os
import re
import resource
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from pydantic import ValidationError

from demos.contract import Cancelled, DemoParams, Preset, Result
from demos.wire import (
    Described,
    DescribeRequest,
    Finished,
    Message,
    RunRequest,
    Stopped,
    Ticked,
    decode_request,
    encode,
    result_to_plain,
)

TICKS = 500  # at most so many progress lines by fraction …
TICK_SECONDS = 0.1  # … and one more whenever so much time has passed
_NO_MEMORY = re.compile(r"DefaultCPUAllocator|not enough memory|can.t allocate memory|bad_alloc", re.IGNORECASE)


def main() -> None:
    channel = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what a demo prints must not mix with the messages
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    match decode_request(sys.stdin.buffer.readline()):
        case DescribeRequest(paths=paths):
            for path in paths:
                channel.write(encode(_describe(path)))
        case RunRequest() as request:
            Worker(channel, request).work()


class Worker:
    """One run: its progress out, a request to cancel in, and the limits that the kernel keeps."""

    def __init__(self, channel: Any, request: RunRequest) -> None:
        self._channel = channel
        self._request = request
        self._cancelled = False
        self._unsent: Ticked | None = None
        self._sent_fraction = -1.0
        self._sent_at = -1.0

    def work(self) -> None:
        """Run the demo and send what came of it."""
        signal.signal(signal.SIGTERM, self._on_terminate)
        threading.Thread(target=_end_with_the_caller, daemon=True).start()
        _limit(resource.RLIMIT_CPU, self._request.cpu_seconds)
        _limit(resource.RLIMIT_FSIZE, self._request.output_bytes)  # a file or a log that grows without end
        try:
            message: Message = self._run()
        except Cancelled:
            message = Stopped("cancelled")
        except ValidationError as error:
            message = Stopped("params", "; ".join(_problem(dict(detail)) for detail in error.errors()))
        except BaseException as error:  # whatever a demo raises, SystemExit included, is an answer to send
            _limit(resource.RLIMIT_DATA, resource.RLIM_INFINITY)
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:500]
            out_of_memory = isinstance(error, MemoryError) or _NO_MEMORY.search(reason)
            details = "".join(traceback.format_exception(error)).splitlines()[-20:]
            message = Stopped("memory" if out_of_memory else "failed", reason, "\n".join(details))
        if self._unsent:
            self._channel.write(encode(self._unsent))
        self._send(message)

    def _run(self) -> Finished:
        module = _load(self._request.path)
        if baseline := _status_bytes("VmData"):
            # The runner's own watch sees what is resident, a few times a second. This stops the one allocation that
            # is too large at once, and as an error that the demo's traceback shows. RLIMIT_AS would count address
            # space, of which torch maps gigabytes that it never touches.
            _limit(resource.RLIMIT_DATA, baseline + self._request.memory_bytes)
        if torch := sys.modules.get("torch"):
            torch.set_num_threads(1)
        params = module.Params(**self._request.params)
        self._stop_if_cancelled()
        cpu, wall = time.process_time(), time.perf_counter()
        result = module.run(params, self._tick)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        if not isinstance(result, Result):
            raise TypeError(f"run() returned {type(result).__name__}, not a Result")
        return Finished(result_to_plain(result), cpu, wall, _peak_bytes())

    def _tick(self, fraction: float, message: str, **live: float) -> None:
        self._stop_if_cancelled()
        tick = Ticked(float(fraction), message, {name: float(value) for name, value in live.items()})
        now = time.monotonic()
        if abs(tick.fraction - self._sent_fraction) < 1 / TICKS and now - self._sent_at < TICK_SECONDS:
            self._unsent = tick
            return
        self._sent_fraction, self._sent_at, self._unsent = tick.fraction, now, None
        self._channel.write(encode(tick))

    def _send(self, message: Message) -> None:
        line = encode(message)
        if len(line) > self._request.output_bytes:
            line = encode(Stopped("failed", f"its result takes {len(line) / 2**20:,.0f} MiB, more than it may"))
        self._channel.write(line)

    def _on_terminate(self, _signal: int, _frame: FrameType | None) -> None:
        self._cancelled = True

    def _stop_if_cancelled(self) -> None:
        if self._cancelled:
            raise Cancelled


def _describe(path: str) -> Described:
    try:
        module = _load(path)
        params: type[DemoParams] = module.Params
        params(**params().model_dump())  # defaults are not validated by themselves
        presets: dict[str, Preset] = dict(params.presets)
        for preset in presets.values():
            params(**preset.values)
        return Described(path, params.model_json_schema(), presets)
    except Exception as error:
        return Described(path, problem=" ".join(f"{type(error).__name__}: {error}".split()))


def _load(path: str) -> ModuleType:
    """Import a demo by its file; it need not lie in this package."""
    name = f"demos_run.{Path(path).stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pydantic look their module up there
    spec.loader.exec_module(module)
    return module


def _end_with_the_caller() -> None:
    """Kill this process and its children when stdin closes: the caller is gone, however it went."""
    while os.read(0, 4096):
        pass
    os.killpg(0, signal.SIGKILL)


def _limit(what: int, soft: int) -> None:
    _, hard = resource.getrlimit(what)
    if hard != resource.RLIM_INFINITY:
        soft = hard if soft == resource.RLIM_INFINITY else min(soft, hard)
    resource.setrlimit(what, (soft, hard))


def _status_bytes(name: str) -> int:
    """A size from Linux's /proc/self/status in bytes; 0 where there is none."""
    status = Path("/proc/self/status")
    found = re.search(rf"^{name}:\s+(\d+) kB", status.read_text(), re.MULTILINE) if status.is_file() else None
    return int(found[1]) * 1024 if found else 0


def _peak_bytes() -> int:
    """Peak resident size. On Linux not from getrusage, whose peak a child inherits from a larger parent."""
    scale = 1 if sys.platform == "darwin" else 1024
    return _status_bytes("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def _problem(detail: dict[str, Any]) -> str:
    where = ".".join(str(part) for part in detail["loc"])
    message = str(detail["msg"]).removeprefix("Value error, ")
    return f"{where}: {message}" if where else message


if __name__ == "__main__":
    main()
