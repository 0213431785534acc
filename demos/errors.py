"""What can go wrong when a demo is asked for or run, worded once for the command line, HTTP and Streamlit."""

from collections.abc import Sequence


class DemoError(Exception):
    """Root of every error of this package. Its message says what, where and what to do next, on one line."""


class DemoNotFound(DemoError):
    """No demo has this id. `nearest` are ids that read like it, best first."""

    def __init__(self, demo_id: str, nearest: Sequence[str] = ()) -> None:
        self.demo_id = demo_id
        self.nearest = tuple(nearest)
        hint = f" Nearest: {', '.join(self.nearest)}." if self.nearest else ""
        super().__init__(f'No demo "{demo_id}".{hint} All demos: genatlas demo list')


class BadDemoFile(DemoError):
    """A demo file that breaks the conventions of this library. `problems` are `file:line: what, and what to write`."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class BadParams(DemoError):
    """Parameters that the demo does not take. `problems` has one line for each; nothing was run."""

    def __init__(self, demo_id: str, problems: Sequence[str]) -> None:
        self.demo_id = demo_id
        self.problems = tuple(problems)
        super().__init__(
            f"{demo_id}: {'; '.join(self.problems)}. Nothing was run. All parameters: genatlas demo show {demo_id}"
        )


class TooManyRuns(DemoError):
    """As many demos as may run at once are running. Nothing was started."""

    def __init__(self, demo_id: str, at_once: int) -> None:
        self.demo_id = demo_id
        self.at_once = at_once
        running = "One demo is" if at_once == 1 else f"{at_once} demos are"
        super().__init__(
            f"{demo_id}: {running} running already, as many as run at once. Nothing was started; "
            "stop one or wait until it ends, then run this again."
        )


class RunError(DemoError):
    """Root of the ways in which a run that was started ends without a result. Nothing of it is kept."""

    def __init__(self, demo_id: str, message: str) -> None:
        self.demo_id = demo_id
        super().__init__(f"{demo_id}: {message}")


class DemoTimeout(RunError):
    """The run took longer than its limit and was ended."""

    def __init__(self, demo_id: str, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(
            demo_id, f"not finished after {seconds:g} seconds, so it was stopped. Take fewer steps or allow more time."
        )


class DemoOutOfMemory(RunError):
    """The run asked for more memory than its limit and was ended."""

    def __init__(self, demo_id: str, memory_bytes: int) -> None:
        self.memory_bytes = memory_bytes
        super().__init__(
            demo_id,
            f"needs more than the {memory_bytes / 2**20:,.0f} MiB of memory that it may use, so it was stopped. "
            "Take smaller sizes or allow more memory.",
        )


class DemoCancelled(RunError):
    """The run was cancelled by whoever started it."""

    def __init__(self, demo_id: str) -> None:
        super().__init__(demo_id, "cancelled; nothing of this run was kept.")


class DemoFailed(RunError):
    """The demo itself failed. `details` are the last lines of its traceback, or of what it wrote before it died."""

    def __init__(self, demo_id: str, reason: str, details: str = "") -> None:
        self.reason = reason
        self.details = details
        super().__init__(demo_id, f"failed: {reason}. Nothing was kept. With its defaults: genatlas demo run {demo_id}")


class DemoKilled(DemoFailed):
    """The demo's process was ended from outside, by no limit of its run."""
