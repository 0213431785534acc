"""Runs a demo in a process of its own, within limits, and keeps its result.

    run_demo("gaussian-kl", {"dim": 8}, cache=folder)    waits, and returns the Outcome or raises a DemoError
    start_demo("gaussian-kl", {"dim": 8}, cache=folder)  returns a DemoRun at once: progress(), cancel(), result()

Limits: wall-clock time and resident memory are watched from here and end the whole process group; the kernel keeps
CPU time, file size and single huge allocations for the worker itself (see `demos.worker`). How many demos run at once
is counted with file locks in the cache folder, so that it holds across processes and a killed one frees its place.
"""

import contextlib
import fcntl
import hashlib
import importlib.metadata
import json
import os
import selectors
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

import msgspec
import psutil

from demos import cache as cache_files
from demos.contract import Cell, Result
from demos.errors import (
    BadParams,
    DemoCancelled,
    DemoError,
    DemoFailed,
    DemoKilled,
    DemoOutOfMemory,
    DemoTimeout,
    RunError,
    TooManyRuns,
)
from demos.parameters import describe, settle
from demos.process import last_words, start_worker
from demos.registry import DEMOS, DemoSpec, find_demo
from demos.wire import (
    Finished,
    Message,
    RunRequest,
    Stopped,
    Ticked,
    decode_message,
    encode,
    result_from_plain,
    strict,
)

SECONDS = 300.0  # by the clock, imports included; the slowest demo takes some 60 CPU seconds, on a busy machine more
MEMORY_BYTES = 2 * 2**30  # resident; torch alone takes 0.3 to 0.6 GiB
OUTPUT_BYTES = 32 * 2**20
AT_ONCE = 2
GRACE_SECONDS = 2.0  # from the request to stop until the process is killed
_POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands. `live` maps a curve's name to its points (fraction of the run, value), oldest first."""

    fraction: float
    message: str
    seconds: float
    live: Mapping[str, tuple[tuple[float, float], ...]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished run: the parameters that it really had, its result, and what it cost.

    Seconds are those of the demo's `run` alone; the peak is the worker's resident size, torch included. `cached` says
    that an earlier run of the same code and parameters is given again; its cost is then the earlier run's.
    """

    demo_id: str
    title: str
    params: Mapping[str, Cell]
    result: Result
    cpu_seconds: float
    wall_seconds: float
    peak_bytes: int
    code_hash: str
    cached: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the outcome as plain data for any JSON: each claim with its verdict, NaN and infinities as words."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        for claim, shown in zip(self.result.claims, plain["result"]["claims"], strict=True):
            shown["holds"] = claim.holds
        return strict(plain)


class _Kept(msgspec.Struct, frozen=True):
    """A finished run as the cache holds it."""

    params: dict[str, Cell]
    finished: Finished


@dataclass
class _Limits:
    seconds: float
    memory_bytes: int
    output_bytes: int


@dataclass
class _Seen:
    """What the worker has reported so far."""

    fraction: float = 0.0
    message: str = "Starting"
    live: dict[str, list[tuple[float, float]]] = field(default_factory=dict[str, list[tuple[float, float]]])


class DemoRun:
    """A run under way or over. Its methods may be called from any thread."""

    def __init__(
        self, spec: DemoSpec, params: Mapping[str, Cell], limits: _Limits, place: Path, kept: Outcome | None = None
    ) -> None:
        self.spec = spec
        self.params = params
        self._limits = limits
        self._place = place
        self._changed = threading.Condition()
        self._changes = 0
        self._seen = _Seen()
        self._cancel = threading.Event()
        self._started = time.monotonic()
        self._ended = self._started
        self._end: Outcome | BaseException | None = None
        if kept:
            self._end_with(kept)

    @property
    def done(self) -> bool:
        """Whether the run is over, however it went."""
        return self._end is not None

    def progress(self) -> Progress:
        """Return where the run stands now."""
        with self._changed:
            live = {name: tuple(points) for name, points in self._seen.live.items()}
            until = self._ended if self.done else time.monotonic()
            return Progress(self._seen.fraction, self._seen.message, until - self._started, live)

    def updates(self) -> Iterator[Progress]:
        """Yield the progress each time that it has changed, and once more at the end. Blocks in between."""
        known = -1
        while True:
            with self._changed:
                self._changed.wait_for(lambda before=known: self._changes != before or self.done)
                known, last = self._changes, self.done
            yield self.progress()
            if last:
                return

    def cancel(self) -> None:
        """Ask the run to end. It does so within GRACE_SECONDS; `result` then raises DemoCancelled."""
        self._cancel.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the run is over, or for so many seconds; return whether it is over."""
        with self._changed:
            return self._changed.wait_for(lambda: self.done, timeout)

    def result(self) -> Outcome:
        """Wait for the run to end and return its outcome. Raises the RunError that says why there is none."""
        with self._changed:
            self._changed.wait_for(lambda: self.done)
        if isinstance(self._end, Outcome):
            return self._end
        raise self._end or RuntimeError("a run cannot be over without an end")

    def start(self, slot: IO[bytes]) -> None:
        """Begin the work in a thread of its own; `slot` is closed when it is done."""
        threading.Thread(target=self._work, args=(slot,), name=f"demo {self.spec.id}", daemon=True).start()

    def _end_with(self, end: Outcome | BaseException) -> None:
        with self._changed:
            self._end, self._ended = end, time.monotonic()
            if isinstance(end, Outcome):
                self._seen.fraction, self._seen.message = 1.0, "From the cache" if end.cached else "Done"
            self._changed.notify_all()

    def _work(self, slot: IO[bytes]) -> None:
        """Start the worker and watch it to its end."""
        try:
            with slot, tempfile.TemporaryDirectory(prefix="genatlas-demo-") as name:
                finished = self._finish(Path(name))
            cache_files.write(self._place, msgspec.to_builtins(_Kept(dict(self.params), finished)))
            self._end_with(_outcome(self.spec, self.params, finished))
        except BaseException as error:  # a bug of ours too must reach whoever waits for the result
            self._end_with(error)

    def _finish(self, workspace: Path) -> Finished:
        request = RunRequest(
            path=str(self.spec.path),
            params=dict(self.params),
            # A second line of defence for a demo that uses several threads or outlives our watch.
            cpu_seconds=int(self._limits.seconds) + 5,
            memory_bytes=self._limits.memory_bytes,
            output_bytes=self._limits.output_bytes,
        )
        with start_worker(workspace) as worker:
            try:
                last = self._watch(worker, request)
                if last is None:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        worker.wait(GRACE_SECONDS)
            finally:
                _kill(worker)
        match last:
            case Finished():
                return last
            case Stopped():
                raise self._stopped(last)
            case _:
                raise self._died(worker.returncode, last_words(workspace))

    def _watch(self, worker: subprocess.Popen[bytes], request: RunRequest) -> Finished | Stopped | None:
        """Take the worker's messages until the last one; None when it ended without one. Keeps the limits."""
        stdin, stdout = cast(IO[bytes], worker.stdin), cast(IO[bytes], worker.stdout)  # both are pipes
        process = psutil.Process(worker.pid)
        asked_to_stop: float | None = None
        received, rest = 0, b""
        with selectors.DefaultSelector() as selector, contextlib.suppress(BrokenPipeError):
            selector.register(stdout, selectors.EVENT_READ)
            stdin.write(encode(request))
            stdin.flush()  # and stays open: the worker ends when it closes
            while True:
                now = time.monotonic()
                if self._cancel.is_set() and asked_to_stop is None:
                    asked_to_stop = now
                    worker.terminate()
                if asked_to_stop is not None and now > asked_to_stop + GRACE_SECONDS:
                    return Stopped("cancelled")
                if now > self._started + self._limits.seconds:
                    raise DemoTimeout(self.spec.id, self._limits.seconds)
                if _resident_bytes(process) > self._limits.memory_bytes:
                    return Stopped("memory")
                if not selector.select(_POLL_SECONDS):
                    if worker.poll() is not None:  # ended, and a child of its own still holds the pipe
                        return None
                    continue
                chunk = os.read(stdout.fileno(), 1 << 16)
                received += len(chunk)
                if not chunk:
                    return None
                if received > 2 * self._limits.output_bytes:
                    return Stopped("failed", "it reported more than it may")
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    match self._understand(line):
                        case Ticked() as tick:
                            self._note(tick)
                        case Finished() | Stopped() as last:
                            return last
                        case other:
                            return Stopped("failed", f"its process sent a message out of turn: {type(other).__name__}")
        return None

    def _understand(self, line: bytes) -> Message:
        try:
            return decode_message(line)
        except ValueError as error:
            return Stopped("failed", f"its process sent something that is no message: {error}")

    def _note(self, tick: Ticked) -> None:
        with self._changed:
            self._seen.fraction = min(1.0, max(0.0, tick.fraction))
            self._seen.message = tick.message
            for name, value in tick.live.items():
                self._seen.live.setdefault(name, []).append((self._seen.fraction, value))
            self._changes += 1
            self._changed.notify_all()

    def _stopped(self, stopped: Stopped) -> DemoError:
        match stopped.why:
            case "cancelled":
                return DemoCancelled(self.spec.id)
            case "memory":
                return DemoOutOfMemory(self.spec.id, self._limits.memory_bytes)
            case "params":
                return BadParams(self.spec.id, stopped.message.split("; "))
            case "failed":
                return DemoFailed(self.spec.id, stopped.message, stopped.details)

    def _died(self, status: int, details: str) -> RunError:
        """Why there is no last message: the worker was ended by a signal, or left on its own."""
        if self._cancel.is_set():
            return DemoCancelled(self.spec.id)
        if status == -signal.SIGXCPU:
            return DemoTimeout(self.spec.id, self._limits.seconds)
        if status < 0:
            return DemoKilled(self.spec.id, f"its process was ended by {signal.Signals(-status).name}", details)
        return DemoFailed(self.spec.id, f"its process left ({status})", details)


def start_demo(
    demo_id: str,
    params: Mapping[str, object] | None = None,
    *,
    cache: Path,
    seconds: float = SECONDS,
    memory_bytes: int = MEMORY_BYTES,
    output_bytes: int = OUTPUT_BYTES,
    at_once: int = AT_ONCE,
    fresh: bool = False,
    folder: Path = DEMOS,
) -> DemoRun:
    """Start a demo and return its run at once; parameters not given take their defaults.

    A result in the cache makes a run that is done already, unless `fresh` asks for a new one. Raises DemoNotFound,
    BadParams or TooManyRuns before anything is run. Asks for the demo's parameters first, which takes some seconds
    the first time (see `describe`).
    """
    spec = find_demo(demo_id, folder)
    settled = settle(describe(demo_id, cache, folder), params or {})
    place = cache / "results" / f"{demo_id}-{_key(spec, settled)}.json"
    kept = None if fresh else _kept(place, spec, settled)
    run = DemoRun(spec, settled, _Limits(seconds, memory_bytes, output_bytes), place, kept)
    if not kept:
        run.start(_take_slot(cache, demo_id, at_once))
    return run


def run_demo(
    demo_id: str,
    params: Mapping[str, object] | None = None,
    *,
    cache: Path,
    seconds: float = SECONDS,
    memory_bytes: int = MEMORY_BYTES,
    output_bytes: int = OUTPUT_BYTES,
    at_once: int = AT_ONCE,
    on_progress: Callable[[Progress], None] | None = None,
    fresh: bool = False,
    folder: Path = DEMOS,
) -> Outcome:
    """Run a demo, wait for it and return its outcome; an exception here (Ctrl-C too) ends the run.

    `on_progress` is called in this thread. Raises as `start_demo` does, and the RunError that ended the run.
    """
    run = start_demo(
        demo_id,
        params,
        cache=cache,
        seconds=seconds,
        memory_bytes=memory_bytes,
        output_bytes=output_bytes,
        at_once=at_once,
        fresh=fresh,
        folder=folder,
    )
    try:
        if on_progress:
            for progress in run.updates():
                on_progress(progress)
        return run.result()
    except BaseException:
        run.cancel()
        run.wait()
        raise


def _key(spec: DemoSpec, params: Mapping[str, Cell]) -> str:
    """What a result depends on: the demo's code, torch, and every parameter."""
    parts = [spec.code_hash, importlib.metadata.version("torch"), sorted(params.items())]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _kept(place: Path, spec: DemoSpec, params: Mapping[str, Cell]) -> Outcome | None:
    try:
        kept = msgspec.convert(cache_files.read(place), _Kept)
        return _outcome(spec, params, kept.finished, cached=True)
    except (ValueError, KeyError):  # nothing there, damaged, or written by an older version: run it again
        return None


def _outcome(spec: DemoSpec, params: Mapping[str, Cell], finished: Finished, *, cached: bool = False) -> Outcome:
    return Outcome(
        demo_id=spec.id,
        title=spec.title,
        params=dict(params),
        result=result_from_plain(finished.result),
        cpu_seconds=finished.cpu_seconds,
        wall_seconds=finished.wall_seconds,
        peak_bytes=finished.peak_bytes,
        code_hash=spec.code_hash,
        cached=cached,
    )


def _take_slot(cache: Path, demo_id: str, at_once: int) -> IO[bytes]:
    """Lock one of `at_once` files. The lock goes with the file handle, hence with this process at the latest."""
    folder = cache / "running"
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(at_once):
        slot = (folder / f"{number}.lock").open("ab")
        try:
            fcntl.flock(slot, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            slot.close()
        else:
            return slot
    raise TooManyRuns(demo_id, at_once)


def _resident_bytes(process: psutil.Process) -> int:
    try:
        return process.memory_info().rss
    except psutil.Error:  # it has just ended
        return 0


def _kill(worker: subprocess.Popen[bytes]) -> None:
    """Kill what is left of the worker's process group, its children included."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(worker.pid, signal.SIGKILL)
