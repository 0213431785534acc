"""The runner with real worker processes: results, the cache, progress, limits, and every bad end."""

import fcntl
import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

import demos
from demos import Outcome, Progress, run_demo, start_demo

SAMPLES = Path(__file__).parent / "sample_demos"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def run_sample(demo_id: str, cache: Path, params: Mapping[str, object] | None = None, **limits: float) -> Outcome:
    settings = {name: int(value) if name.endswith("bytes") else value for name, value in limits.items()}
    return run_demo(demo_id, params, cache=cache, folder=SAMPLES, fresh=True, **settings)  # pyright: ignore[reportArgumentType] (by name)


def test_a_run_returns_its_result_and_its_parameters(cache: Path) -> None:
    outcome = run_sample("counts", cache, {"to": 8})
    assert outcome.result.metrics == (demos.Metric("last", 8.0),)
    assert [(claim.statement, claim.holds) for claim in outcome.result.claims] == [("It counts to the end", True)]
    assert outcome.params == {"to": 8, "step": 1.0, "loud": False, "order": "up", "work": 0, "word": "count"}
    assert not outcome.cached
    assert outcome.title == "Counts to a number"


def test_a_demo_of_the_library_runs_with_live_curves_and_its_figures_can_be_drawn(cache: Path) -> None:
    seen: list[Progress] = []
    outcome = run_demo("forward-diffusion", {"timesteps": 1000}, cache=cache, on_progress=seen.append)
    assert [claim.statement for claim in outcome.result.claims if not claim.holds] == []
    assert set(seen[-1].live) == {"mean factor", "deviation"}
    assert 100 < len(seen[-1].live["deviation"]) < 1000  # a curve, but not every tick of a quick demo
    assert seen[-1].live["deviation"][-1][0] == 1.0
    drawn = [demos.figure_text(figure) for figure in outcome.result.figures]
    assert [text.splitlines()[0] for text in drawn] == [figure.title for figure in outcome.result.figures]


def test_the_same_run_is_given_from_the_cache_and_other_parameters_are_not(cache: Path) -> None:
    first = run_demo("counts", {"to": 11}, cache=cache, folder=SAMPLES)
    again = run_demo("counts", {"word": "count", "to": "11", "step": 1}, cache=cache, folder=SAMPLES)
    other = run_demo("counts", {"to": 12}, cache=cache, folder=SAMPLES)
    assert (first.cached, again.cached, other.cached) == (False, True, False)
    assert again.result == first.result
    assert again.cpu_seconds == first.cpu_seconds
    assert other.result.metrics[0].value == 12


def test_a_fresh_run_does_not_take_the_cached_result(cache: Path) -> None:
    run_demo("counts", {"to": 13}, cache=cache, folder=SAMPLES)
    assert not run_demo("counts", {"to": 13}, cache=cache, folder=SAMPLES, fresh=True).cached


@pytest.mark.parametrize("damage", ["cut", "flip", "empty"])
def test_a_damaged_cache_file_is_discarded_and_the_demo_run_again(tmp_path: Path, damage: str) -> None:
    first = run_demo("counts", {"to": 3}, cache=tmp_path, folder=SAMPLES)
    (file,) = (tmp_path / "results").iterdir()
    content = file.read_bytes()
    file.write_bytes(
        {"cut": content[:-9], "flip": content.replace(b'"value":3.0', b'"value":4.0'), "empty": b""}[damage]
    )
    assert file.read_bytes() != content
    again = run_demo("counts", {"to": 3}, cache=tmp_path, folder=SAMPLES)
    assert not again.cached
    assert again.result == first.result


def test_progress_arrives_in_order_with_its_live_curve_and_in_the_callers_thread(cache: Path) -> None:
    seen: list[Progress] = []
    outcome = run_demo("counts", {"to": 20}, cache=cache, folder=SAMPLES, on_progress=seen.append)
    fractions = [progress.fraction for progress in seen]
    assert fractions == sorted(fractions)
    assert (seen[-1].fraction, seen[-1].message) == (1.0, "Done")
    assert seen[-1].live == {"counted": tuple((n / 20, float(n)) for n in range(1, 21))}
    assert seen[-1].seconds >= outcome.wall_seconds


def test_a_cached_run_is_over_at_once_and_still_reports_its_end(cache: Path) -> None:
    run_demo("counts", {"to": 4}, cache=cache, folder=SAMPLES)
    run = start_demo("counts", {"to": 4}, cache=cache, folder=SAMPLES)
    assert run.done
    assert [(progress.fraction, progress.message) for progress in run.updates()] == [(1.0, "From the cache")]
    assert run.result().cached


def test_what_a_demo_prints_does_not_disturb_its_messages(cache: Path) -> None:
    assert run_sample("counts", cache, {"loud": True, "to": 30}).result.metrics[0].value == 30


def test_cancelling_ends_the_run_and_the_processes_that_it_started(tmp_path: Path, cache: Path) -> None:
    lock = tmp_path / "lock"
    run = start_demo("waits", {"lock": str(lock)}, cache=cache, folder=SAMPLES)
    next(progress for progress in run.updates() if progress.fraction == 0.5)
    with lock.open("a") as file:
        with pytest.raises(BlockingIOError):  # the child lives and holds it
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        run.cancel()
        with pytest.raises(demos.DemoCancelled, match=r"waits: cancelled"):
            run.result()
        fcntl.flock(file, fcntl.LOCK_EX)  # granted once the child is gone
    assert run.done


def test_a_run_that_does_not_heed_the_cancellation_is_killed(cache: Path) -> None:
    run = start_demo("deaf", cache=cache, folder=SAMPLES)
    next(progress for progress in run.updates() if progress.fraction == 0.5)
    run.cancel()
    with pytest.raises(demos.DemoCancelled):
        run.result()


def test_a_demo_has_no_network_where_the_system_allows_that_and_sees_no_settings(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GENATLAS_LLM_KEY", "secret")
    tool = shutil.which("unshare") or "false"
    allowed = subprocess.run([tool, "--user", "--net", "--map-current-user", "true"], capture_output=True, check=False)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        outcome = run_sample("network", cache, {"port": listener.getsockname()[1]})
    measured = {metric.name: metric.value for metric in outcome.result.metrics}
    assert measured == {"reached": 0 if allowed.returncode == 0 else 1, "settings seen": 0}


def test_a_worker_does_not_outlive_its_caller(tmp_path: Path, cache: Path) -> None:
    lock = tmp_path / "lock"
    caller = f"""
import os, signal
from pathlib import Path
from demos import start_demo
run = start_demo("waits", {{"lock": {str(lock)!r}}}, cache=Path({str(cache)!r}), folder=Path({str(SAMPLES)!r}))
next(progress for progress in run.updates() if progress.fraction == 0.5)
os.kill(os.getpid(), signal.SIGKILL)
"""
    died = subprocess.run([sys.executable, "-c", caller], env=os.environ | {"TMPDIR": str(tmp_path)}, check=False)
    assert died.returncode == -signal.SIGKILL
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # granted once the worker and its child are gone


def test_an_error_of_the_callers_own_ends_the_run(cache: Path) -> None:
    def interrupt(progress: Progress) -> None:
        if progress.fraction > 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_demo("waits", cache=cache, folder=SAMPLES, on_progress=interrupt, at_once=1)
    assert run_demo("counts", {"to": 2}, cache=cache, folder=SAMPLES, fresh=True, at_once=1).params["to"] == 2


def test_a_run_over_its_time_is_ended(cache: Path) -> None:
    with pytest.raises(demos.DemoTimeout, match=r"waits: not finished after 1 seconds, so it was stopped") as caught:
        run_sample("waits", cache, seconds=1)
    assert caught.value.seconds == 1


def test_a_run_over_its_memory_is_ended(cache: Path) -> None:
    with pytest.raises(demos.DemoOutOfMemory, match=r"needs more than the 200 MiB") as caught:
        run_sample("ends-badly", cache, {"how": "grow"}, memory_bytes=200 * 2**20)
    assert caught.value.memory_bytes == 200 * 2**20


def test_one_allocation_larger_than_the_memory_is_refused(cache: Path) -> None:
    with pytest.raises(demos.DemoOutOfMemory):
        run_sample("ends-badly", cache, {"how": "allocate"})


def test_the_cost_is_that_of_the_run_and_not_of_its_caller(cache: Path) -> None:
    held = b"x" * (300 * 2**20)  # a child inherits its parent's peak where the peak is read carelessly
    outcome = run_sample("counts", cache, {"to": 100, "work": 20_000})
    assert outcome.cpu_seconds > 0.01  # two million additions
    assert outcome.wall_seconds > 0.01
    assert 5 * 2**20 < outcome.peak_bytes < len(held)


def test_torch_has_one_thread_and_its_large_allocations_are_refused(cache: Path) -> None:
    assert all(claim.holds for claim in run_sample("uses-torch", cache).result.claims)
    with pytest.raises(demos.DemoOutOfMemory):
        run_sample("uses-torch", cache, {"gib": 64})


@pytest.mark.parametrize(
    ("how", "reason", "details"),
    [
        ("raise", "ValueError: the sum is wrong", 'raise ValueError("the sum\\nis wrong")'),
        ("leave", "SystemExit: 3", "sys.exit(3)"),
        ("abort", "its process was ended by SIGABRT", "last words"),
        ("other", "TypeError: run() returned dict, not a Result", "Traceback"),
        ("tensor", "object where a number, text or sequence is due", "Traceback"),
        ("talk", "File too large", "print("),
        ("file", "File too large", "file.write("),
        ("garbage", "its process sent something that is no message", ""),
    ],
)
def test_a_bad_end_is_one_line_without_a_traceback_which_stands_in_a_field(
    cache: Path, how: str, reason: str, details: str
) -> None:
    with pytest.raises(demos.DemoFailed) as caught:
        run_sample("ends-badly", cache, {"how": how}, output_bytes=2 * 2**20)
    assert reason in str(caught.value)
    assert str(caught.value).startswith("ends-badly: failed: ")
    assert "\n" not in str(caught.value)
    assert "Traceback" not in str(caught.value)
    assert details in caught.value.details


def test_a_result_larger_than_it_may_be_is_refused(cache: Path) -> None:
    with pytest.raises(demos.DemoFailed, match=r"its result takes 3 MiB, more than it may"):
        run_sample("ends-badly", cache, {"how": "large"}, output_bytes=2 * 2**20)


def test_a_run_that_the_kernel_ends_for_its_cpu_time_is_a_timeout(cache: Path) -> None:
    with pytest.raises(demos.DemoTimeout):
        run_sample("ends-badly", cache, {"how": "cpu"})


def test_a_failed_run_is_not_kept(tmp_path: Path) -> None:
    with pytest.raises(demos.DemoFailed):
        run_demo("ends-badly", cache=tmp_path, folder=SAMPLES)
    assert not list(tmp_path.glob("results/*"))


def test_numbers_that_are_none_survive_the_way_and_the_cache(cache: Path) -> None:
    first = run_demo("diverges", cache=cache, folder=SAMPLES)
    again = run_demo("diverges", cache=cache, folder=SAMPLES)
    assert again.cached
    for outcome in (first, again):
        loss, weight, of_numpy = outcome.result.metrics
        assert math.isnan(loss.value)
        assert weight.value == -math.inf
        assert of_numpy.value == 0.5
        assert [claim.holds for claim in outcome.result.claims] == [False, True]
        assert [figure.kind for figure in outcome.result.figures] == ["lines", "scatter", "bars", "heatmap", "images"]
        assert outcome.result.tables[0].rows[0] == ["16", 16, 16.0, True]
    assert repr(again.result) == repr(first.result)


def test_an_outcome_for_readers_outside_is_strict_json_with_verdicts(cache: Path) -> None:
    outcome = run_demo("diverges", cache=cache, folder=SAMPLES)
    plain = json.loads(json.dumps(outcome.to_json(), allow_nan=False))
    assert [metric["value"] for metric in plain["result"]["metrics"]] == ["NaN", "-Infinity", 0.5]
    assert [claim["holds"] for claim in plain["result"]["claims"]] == [False, True]
    assert plain["result"]["tables"][0]["rows"] == [["16", 16, 16.0, True], ["NaN", 1, "Infinity", False]]


def test_more_runs_than_may_be_at_once_are_refused_until_one_ends(cache: Path) -> None:
    first = start_demo("waits", cache=cache, folder=SAMPLES, at_once=1)
    with pytest.raises(demos.TooManyRuns, match=r"counts: One demo is running already, .* Nothing was started"):
        start_demo("counts", {"to": 77}, cache=cache, folder=SAMPLES, at_once=1)
    first.cancel()
    first.wait()
    assert run_demo("counts", {"to": 77}, cache=cache, folder=SAMPLES, at_once=1).result.metrics[0].value == 77


def test_nothing_of_a_run_stays_in_the_temporary_folder(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    run_sample("counts", cache)
    with pytest.raises(demos.DemoFailed):
        run_sample("ends-badly", cache)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_demo_names_its_nearest(cache: Path) -> None:
    with pytest.raises(demos.DemoNotFound) as caught:
        run_demo("count", cache=cache, folder=SAMPLES)
    assert caught.value.nearest == ("counts",)
    assert str(caught.value) == 'No demo "count". Nearest: counts. All demos: genatlas demo list'


def test_a_parameter_that_only_the_demo_can_judge_is_refused_by_it(cache: Path) -> None:
    with pytest.raises(demos.BadParams, match=r"counts: word: this word cannot be used\. Nothing was run\."):
        run_sample("counts", cache, {"word": "forbidden"})


def test_the_caller_loads_no_torch() -> None:
    code = """
import sys, demos
assert not {"torch", "pydantic", "numpy"} & set(sys.modules), "import demos"
demos.catalogue()
assert not {"torch", "pydantic", "numpy"} & set(sys.modules), "catalogue"
demos.run_demo, demos.start_demo, demos.describe, demos.figure_text
assert not {"torch", "numpy"} & set(sys.modules), "runner"
"""
    subprocess.run([sys.executable, "-c", code], check=True)
