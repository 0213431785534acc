"""Demo runs over HTTP, in real worker processes."""

import signal
from pathlib import Path

import httpx
import pytest

from service import Settings, open_service
from service.runs import WAITING_EACH
from tests.api.conftest import Running, Start
from tests.api.events import events

pytestmark = pytest.mark.xdist_group("http")

QUICK: dict[str, object] = {"demo": "gaussian-kl", "params": {"samples": 1000}}
SLOW: dict[str, object] = {"demo": "ddpm-digits"}


def start_run(client: httpx.Client, wanted: dict[str, object]) -> str:
    """Ask for a run; where it is found."""
    taken = client.post("/v1/runs", json=wanted)
    assert taken.status_code == 202, taken.text
    return taken.headers["location"]


def test_a_run_is_followed_to_its_result_which_is_that_of_the_library(service: Running, built_home: Path) -> None:
    with service.client(service.key("run-demos")[1]) as client:
        place = start_run(client, QUICK | {"fresh": True})
        heard = events(client, f"{place}/events")
        whole = client.get(place).json()
        figures = client.get(f"{place}/figures").json()
    assert [event for event, _ in heard][-1] == "end"
    assert heard[-1][1] == whole
    fractions = [data["fraction"] for event, data in heard if event == "progress"]
    assert fractions == sorted(fractions)
    outcome = open_service(Settings(home=built_home)).run_demo("gaussian-kl", {"samples": 1000})
    assert outcome.cached  # the very same run
    assert whole["state"] == "done"
    assert whole["outcome"]["result"]["claims"] == outcome.to_json()["result"]["claims"]
    assert figures == whole["outcome"]["result"]["figures"] != []


def test_a_preset_is_run_with_what_goes_over_it(service: Running) -> None:
    with service.client(service.key("run-demos")[1]) as client:
        presets = client.get("/v1/demos/gaussian-kl").json()["presets"]
        name, preset = next(iter(presets.items()))
        taken = client.post("/v1/runs", json={"demo": "gaussian-kl", "preset": name, "params": {"seed": 5}}).json()
        unknown = client.post("/v1/runs", json={"demo": "gaussian-kl", "preset": "nothing"})
    assert taken["params"] | preset["values"] | {"seed": 5} == taken["params"]
    assert (unknown.status_code, name in unknown.json()["detail"]) == (400, True)


@pytest.mark.parametrize(
    ("wanted", "status", "says"),
    [
        ({"demo": "gausian-kl"}, 404, "gaussian-kl"),
        ({"demo": "gaussian-kl", "params": {"samples": -1, "dims": 2}}, 422, 'did you mean "dim"'),
        ({"demo": "gaussian-kl", "params": {"dim": [1]}}, 422, "params"),
        ({"demo": "gaussian-kl", "more": 1}, 422, "more"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_runs(
    service: Running, wanted: dict[str, object], status: int, says: str
) -> None:
    with service.client(service.key("run-demos")[1]) as client:
        refused = client.post("/v1/runs", json=wanted)
        assert refused.status_code == status
        assert says in refused.json()["detail"] + str(refused.json()["nearest"])
        assert client.get("/v1/runs").json() == []


def test_runs_are_their_owners_and_an_admins(service: Running) -> None:
    tokens = [service.key("run-demos")[1], service.key("run-demos")[1], service.key("admin")[1]]
    with service.client(tokens[0]) as owner, service.client(tokens[1]) as other, service.client(tokens[2]) as admin:
        place = start_run(owner, QUICK)
        assert other.get(place).status_code == 404
        assert other.delete(place).status_code == 404
        assert other.get("/v1/runs").json() == []
        assert admin.get(place).status_code == 200
        assert [each["demo"] for each in owner.get("/v1/runs").json()] == ["gaussian-kl"]


def test_the_queue_is_bounded_its_runs_can_be_taken_back_and_one_caller_does_not_fill_it(start: Start) -> None:
    service = start()
    greedy, modest = service.key("run-demos")[1], service.key("run-demos")[1]
    with service.client(greedy) as client, service.client(modest) as other:
        taken: list[str] = []
        while True:
            answer = client.post("/v1/runs", json=SLOW | {"params": {"seed": len(taken)}, "fresh": True})
            if answer.status_code != 202:
                break
            taken.append(answer.headers["location"])
        assert (answer.status_code, "retry-after" in answer.headers) == (429, True)
        assert WAITING_EACH <= len(taken) <= WAITING_EACH + 2
        modest_run = start_run(other, QUICK)
        for place in reversed(taken):
            assert client.delete(place).status_code == 202
        assert [events(client, f"{place}/events")[-1][1]["state"] for place in taken] == ["cancelled"] * len(taken)
        assert events(other, f"{modest_run}/events")[-1][1]["state"] == "done"
        assert service.workers() == []


def test_a_run_whose_process_is_killed_is_started_again(start: Start) -> None:
    service = start()
    with service.client(service.key("run-demos")[1]) as client:
        place = start_run(client, {"demo": "gaussian-kl", "fresh": True})
        with client.stream("GET", f"{place}/events") as answer:
            for line in answer.iter_lines():
                if '"state":"running"' in line and '"fraction":0.0' not in line:
                    break
            (worker,) = service.workers()
            worker.send_signal(signal.SIGKILL)
        assert events(client, f"{place}/events")[-1][1]["state"] == "done"


def test_a_service_that_is_asked_to_end_finishes_what_runs(start: Start) -> None:
    service = start()
    with service.client(service.key("run-demos")[1]) as client:
        place = start_run(client, {"demo": "gaussian-kl", "fresh": True})
        with client.stream("GET", f"{place}/events") as answer:
            lines = answer.iter_lines()
            next(line for line in lines if '"state":"running"' in line)
            service.process.send_signal(signal.SIGTERM)
            said = list(lines)
    assert '"state":"done"' in said[-2]
    assert service.process.wait(60) in (0, -signal.SIGTERM)
