"""Demo runs for many callers: a bounded queue, a few at a time, each remembered for a while after its end.

They live in this process: a run is asked about where it was started. Its result outlives the process in the cache of
the demo runner, so that asking for an equal run again costs nothing.
"""

import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from graph import AtlasError
from service.messages import user_message

if TYPE_CHECKING:
    from demos import DemoRun, Outcome, Progress
    from service.facade import Service

State = Literal["queued", "running", "done", "failed", "cancelled"]

AT_ONCE = 2
"""Runs under way at a time. The demo runner counts them across processes, too, and what finds no place waits here."""
WAITING, WAITING_EACH = 32, 8
"""Runs that may wait to begin, of all callers and of each."""
KEPT, KEPT_S = 200, 3600
"""Ended runs that are remembered, and for how many seconds."""
RETRY_S = 5
"""When to come back to a full queue, in seconds: about what a demo takes."""
LOOK_S = 0.2
"""Seconds between looks for a place while other processes run demos."""


class QueueFull(AtlasError):
    """No more runs are taken at present."""


class RunUnknown(AtlasError):
    """There is no such run, or it is too long ago."""


@dataclass(eq=False)
class Run:
    """A run that was asked for, and how it stands. `owner` is who asked."""

    id: str
    demo: str
    params: Mapping[str, object]
    owner: str
    fresh: bool
    state: State = "queued"
    outcome: "Outcome | None" = None
    error: str | None = None
    ended: float = 0.0
    handle: "DemoRun | None" = None
    stopping: threading.Event = field(default_factory=threading.Event)

    @property
    def over(self) -> bool:
        """Whether it has ended, in whatever way."""
        return self.state in ("done", "failed", "cancelled")

    def progress(self) -> "Progress | None":
        """Where it stands; None before it begins."""
        return self.handle.progress() if self.handle else None


class RunQueue:
    """Runs demos in the order in which they were asked for. Safe to share between threads."""

    def __init__(self, service: "Callable[[], Service]", on_end: Callable[[Run], None] = lambda _: None) -> None:
        """`service` gives the atlas that serves when a run begins; `on_end` is told of each run that has ended."""
        self._service = service
        self._on_end = on_end
        self._changed = threading.Condition()
        self._waiting: deque[Run] = deque()
        self._runs: dict[str, Run] = {}
        self._closing = False
        self._threads = [
            threading.Thread(target=self._work, name=f"demo runs {n}", daemon=True) for n in range(AT_ONCE)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, demo: str, params: Mapping[str, object], owner: str, fresh: bool = False) -> Run:
        """Take a run. Raises QueueFull, and DemoError for a demo or parameters that cannot be run."""
        run = Run(secrets.token_hex(8), demo, self._service().settle_params(demo, params), owner, fresh)
        with self._changed:
            self._forget()
            own = sum(each.owner == owner for each in self._waiting)
            if self._closing or len(self._waiting) >= WAITING or own >= WAITING_EACH:
                raise QueueFull(
                    f"{len(self._waiting)} runs wait already, {own} of them yours, and no more are taken. Nothing was "
                    f"started; try again in some {RETRY_S} seconds."
                )
            self._runs[run.id] = run
            self._waiting.append(run)
            self._changed.notify()
        return run

    def find(self, run_id: str, owner: str | None = None) -> Run:
        """A run by its id; with `owner` only that one's own. Raises RunUnknown."""
        with self._changed:
            run = self._runs.get(run_id)
        if run is None or owner not in (None, run.owner):
            raise RunUnknown(f'No run "{run_id}". Runs are remembered for {KEPT_S // 60} minutes after their end.')
        return run

    def runs(self, owner: str | None = None) -> list[Run]:
        """The runs that are remembered, of all or of one owner, the oldest first."""
        with self._changed:
            self._forget()
            return [run for run in self._runs.values() if owner in (None, run.owner)]

    def cancel(self, run: Run) -> None:
        """Have a run end; one that is over stays as it is."""
        with self._changed:
            run.stopping.set()
            if run in self._waiting:
                self._waiting.remove(run)
                self._end(run, "cancelled", "cancelled before it began.")
            elif run.handle:
                run.handle.cancel()

    def counts(self) -> tuple[int, int]:
        """How many runs wait, and how many are under way."""
        with self._changed:
            return len(self._waiting), sum(run.state == "running" for run in self._runs.values())

    def close(self, seconds: float) -> None:
        """Take no more, give what runs and waits so many seconds to finish, then cancel the rest."""
        until = time.monotonic() + seconds
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        for run in self.runs():
            self.cancel(run)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        """Take one run after the other, until there is none and no more will come."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if not self._waiting:
                    return
                run = self._waiting.popleft()
                run.state = "running"
            self._carry_out(run)

    def _carry_out(self, run: Run) -> None:
        from demos import DemoCancelled, DemoKilled

        state: State = "done"
        error: str | None = None
        try:
            try:
                run.outcome = self._outcome(run)
            except DemoKilled:  # from outside, by no fault of its own: once more
                run.outcome = self._outcome(run)
        except DemoCancelled as cancelled:
            state, error = "cancelled", str(cancelled)
        except Exception as failed:
            state, error = "failed", user_message(failed) or f"{type(failed).__name__}: {failed}"
        with self._changed:
            self._end(run, state, error)

    def _outcome(self, run: Run) -> "Outcome":
        """Run it, waiting for a place where other processes run demos."""
        from demos import DemoCancelled, TooManyRuns

        while not run.stopping.is_set():
            try:
                handle = self._service().start_demo(run.demo, run.params, run.fresh)
            except TooManyRuns:
                run.stopping.wait(LOOK_S)
                continue
            with self._changed:
                run.handle = handle
                if run.stopping.is_set():
                    handle.cancel()
            return handle.result()
        raise DemoCancelled(run.demo)

    def _end(self, run: Run, state: State, error: str | None) -> None:
        run.state, run.error, run.ended = state, error, time.monotonic()
        self._on_end(run)

    def _forget(self) -> None:
        """Let go of runs that ended long ago, and of the oldest ended ones where there are too many."""
        ended = [run for run in self._runs.values() if run.over]
        limit = time.monotonic() - KEPT_S
        for number, run in enumerate(ended):
            if run.ended < limit or number < len(ended) - KEPT:
                del self._runs[run.id]
