import gzip
import json
import os
import socket
import subprocess
import sys
from datetime import date
from pathlib import Path

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client.parser import text_string_to_metric_families

from service import Service, Settings, open_service, wire
from study import syllabus_json
from study.database import sqlite_url
from tests.api.conftest import Running, Start
from tests.api.events import events
from tests.conftest import ROOT, run_genatlas

pytestmark = pytest.mark.xdist_group("http")

ELBO = "variational-autoencoders/training-objectives/elbo"


def as_json(document: object) -> object:
    """A document as a reader of its JSON has it."""
    return json.loads(json.dumps(document))


@pytest.fixture(scope="module")
def atlas(built_home: Path) -> Service:
    return open_service(Settings(home=built_home))


def test_every_page_of_topics_together_is_the_outline(client: httpx.Client, atlas: Service) -> None:
    found: list[str] = []
    after: dict[str, str] = {}
    while True:
        page = client.get("/v1/topics", params={"limit": 400, **after}).json()
        found += [topic["topic"] for topic in page["topics"]]
        if page["next"] is None:
            break
        after = {"after": page["next"]}
    assert found == [topic.id for topic in atlas.store.topics()]


def test_the_pages_of_a_section_are_its_subtree(client: httpx.Client, atlas: Service) -> None:
    first = client.get("/v1/topics", params={"section": "bert", "limit": 5}).json()
    rest = client.get("/v1/topics", params={"section": "bert", "limit": 500, "after": first["next"]}).json()
    ids = [topic["topic"] for topic in first["topics"] + rest["topics"]]
    assert ids == [topic.id for topic in atlas.store.subtree("bert")]


@pytest.mark.parametrize("name", [ELBO, "training-objectives/elbo", "evidence lower bound"])
def test_a_topic_is_named_by_id_by_its_end_or_by_words(client: httpx.Client, atlas: Service, name: str) -> None:
    page = client.get(f"/v1/topics/{name}").json()
    assert page == as_json(wire.topic_page(atlas, atlas.store.topic(ELBO)))


def test_what_the_service_answers_is_what_http_answers(client: httpx.Client, atlas: Service) -> None:
    question = "why do we scale by sqrt dk"
    told = client.get("/v1/ask", params={"question": question}).json()
    assert told == as_json(wire.answer(atlas, atlas.ask(question)))
    ranking = client.get("/v1/search", params={"q": "mode collapse", "k": 3}).json()
    assert ranking == as_json(wire.ranking(atlas.search("mode collapse", 3)))
    edges = client.get("/v1/prerequisites", params={"topic": ELBO, "closure": True}).json()
    assert len(edges["prerequisites"]) > len(atlas.store.effective_prerequisites(ELBO))
    below = client.get("/v1/subtree", params={"topic": "gpt-family"}).json()
    assert len(below) == len(atlas.store.subtree("gpt-family"))
    assert client.get("/v1/stats").json()["topics"] == 2063


def test_a_neighbourhood_follows_only_the_kinds_that_are_asked_for(client: httpx.Client) -> None:
    near = client.get("/v1/neighbourhood", params={"topic": ELBO, "kinds": ["prerequisite"], "limit": 10}).json()
    assert near["centre"] == ELBO
    assert {link["kind"] for link in near["links"]} == {"prerequisite"}
    assert len(near["topics"]) <= 10


def test_a_path_leaves_out_what_is_known(client: httpx.Client) -> None:
    whole = client.post("/v1/paths", json={"goals": [ELBO]}).json()
    known = whole["steps"][0]["topic"]
    rest = client.post("/v1/paths", json={"goals": [ELBO], "known": [known]}).json()
    assert whole["steps"][-1]["topic"] == ELBO
    assert known not in [step["topic"] for step in rest["steps"]]


def test_topics_are_compared_and_names_go_on_as_typed(client: httpx.Client, atlas: Service) -> None:
    authored = atlas.store.comparisons("variational-autoencoders/training-objectives/kl-divergence")[0]
    sides = {"one": authored.between[0], "other": authored.between[1]}
    compared = client.get("/v1/compare", params=sides)
    assert compared.json() == as_json(wire.comparison(atlas, authored))
    assert any("ELBO" in each["name"] for each in client.get("/v1/suggest", params={"typed": "elb"}).json())


def test_a_demo_is_shown_with_its_parameters(client: httpx.Client) -> None:
    page = client.get("/v1/demos/scaled-dot-product-attention").json()
    assert {"d_k", "scale", "seed"} <= {parameter["name"] for parameter in page["parameters"]}
    assert page["claims"]
    ready = client.get("/v1/demos", params={"ready": True}).json()
    assert "scaled-dot-product-attention" in [each["id"] for each in ready]


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("/v1/topics/variational-autoencoders/training-objectives/elbow", 404, ELBO),
        ("/v1/demos/scaled-dot-product-atention", 404, "scaled-dot-product-attention"),
        ("/v1/compare?one=bert&other=foundations", 404, "Nobody has compared"),
        ("/v1/search?q=", 422, "q:"),
        ("/v1/search?q=x&k=0", 422, "k:"),
        ("/v1/search?q=%3F%3F%3F", 400, "empty"),
        ("/v1/search?q=gan&section=nowhere", 404, "nowhere"),
        ("/v1/nothing", 404, "Not Found"),
    ],
)
def test_errors_are_problems_that_say_what_to_do(client: httpx.Client, path: str, status: int, says: str) -> None:
    refused = client.get(path)
    assert refused.status_code == status
    assert refused.headers["content-type"] == "application/problem+json"
    document = refused.json()
    assert document["status"] == status
    assert says in document["detail"] + " ".join(document["nearest"])


def test_a_body_that_is_too_long_is_refused_unread(client: httpx.Client) -> None:
    refused = client.post("/v1/paths", content=b"{" + b" " * 1_000_001)
    endless = client.post("/v1/paths", content=iter([b"{}"]))
    assert [refused.status_code, endless.status_code] == [413, 413]
    assert refused.json()["title"]


def test_a_body_that_does_not_come_holds_nobody_up(client: httpx.Client, address: str) -> None:
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as slow:
        slow.sendall(b"POST /v1/paths HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
        assert client.get("/healthz").status_code == 200
        assert slow.recv(1000).startswith(b"HTTP/1.1 408 ")


def test_who_has_an_answer_is_told_so_until_the_build_changes(client: httpx.Client) -> None:
    first = client.get("/v1/search", params={"q": "dropout"})
    again = client.get("/v1/search", params={"q": "dropout"}, headers={"If-None-Match": first.headers["etag"]})
    other = client.get("/v1/search", params={"q": "gan"}, headers={"If-None-Match": first.headers["etag"]})
    assert (first.status_code, again.status_code, other.status_code) == (200, 304, 200)
    assert again.content == b""


def test_every_answer_has_a_request_id_and_large_ones_are_packed(client: httpx.Client) -> None:
    given = client.get("/healthz", headers={"X-Request-ID": "mine-1"})
    assert given.headers["x-request-id"] == "mine-1"
    large = client.get("/v1/topics", headers={"Accept-Encoding": "gzip"})
    assert large.headers["content-encoding"] == "gzip"
    assert len(large.headers["x-request-id"]) == 32


def test_the_service_tells_which_build_it_serves(client: httpx.Client, atlas: Service) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ok", "build": atlas.opened.id, "topics": 2063}


def test_an_answer_is_streamed_sentence_by_sentence(client: httpx.Client, atlas: Service) -> None:
    question = "why do we scale by sqrt dk"
    heard = events(client, "/v1/ask/events", params={"question": question})
    answer = as_json(wire.answer(atlas, atlas.ask(question)))
    assert isinstance(answer, dict)
    assert [data for event, data in heard if event == "sentence"] == answer["sentences"]
    assert heard[-1] == ("end", answer)
    refused = client.get("/v1/ask/events", params={"question": question, "retell": True})
    assert refused.status_code == 401


@pytest.mark.parametrize(
    ("form", "kind", "begins"),
    [
        ("markdown", "text/markdown", "# Study path to"),
        ("html", "text/html", "<!doctype html>"),
        ("ics", "text/calendar", "BEGIN:VCALENDAR"),
        ("csv", "text/csv", "number,date,topic"),
        ("mermaid", "text/vnd.mermaid", "flowchart"),
    ],
)
def test_a_path_is_handed_out_in_the_form_that_is_asked_for(
    client: httpx.Client, form: str, kind: str, begins: str
) -> None:
    made = client.post("/v1/paths", params={"format": form}, json={"goals": [ELBO], "minutes": 30})
    assert made.headers["content-type"].startswith(kind)
    assert made.text.lower().startswith(begins.lower()), made.text[:80]


def test_a_path_is_fitted_to_the_time_that_there_is(client: httpx.Client) -> None:
    whole = client.post("/v1/paths", json={"goals": [ELBO]}).json()
    some = client.post("/v1/paths", json={"goals": [ELBO], "minutes": 20, "days": 3, "weekdays": [0, 2]}).json()
    assert sum(step["minutes"] for step in some["steps"]) <= 60 < sum(step["minutes"] for step in whole["steps"])
    assert len(some["days"]) <= 3
    assert {date.fromisoformat(day["date"]).weekday() for day in some["days"]} <= {0, 2}
    assert some["left_out"]
    for wrong in ({"days": 3}, {"total": 50, "minutes": 9, "days": 1}, {"minutes": 9, "until": "2020-01-01"}):
        assert client.post("/v1/paths", json={"goals": [ELBO], **wrong}).status_code == 422


def test_what_can_be_started_and_what_a_topic_is_good_for(client: httpx.Client, atlas: Service) -> None:
    ready = client.post("/v1/ready", json={"goals": [ELBO]}).json()
    assert ready == [as_json(wire.ready(each)) for each in atlas.ready((), [ELBO])]
    good_for = client.get("/v1/unlocks", params={"topic": ELBO}).json()
    assert good_for == as_json(wire.unlocks(atlas.unlocks(ELBO)))


def test_a_syllabus_is_checked(client: httpx.Client, atlas: Service) -> None:
    text = "1. VAEs\n2. The ELBO\n3. Baking sourdough bread"
    report = client.post("/v1/syllabus", json={"text": text}).json()
    assert report == as_json(syllabus_json(atlas.syllabus(text)))
    assert "sourdough" in str(report)


def test_answers_are_packed_as_the_reader_can_unpack_them(client: httpx.Client) -> None:
    plain, packed = (
        client.get("/v1/topics", headers={"Accept-Encoding": encoding}) for encoding in ("identity", "gzip")
    )
    assert packed.headers["content-encoding"] == "gzip"
    assert plain.json() == packed.json()
    with client.stream("GET", "/v1/topics", headers={"Accept-Encoding": "br"}) as answer:
        assert answer.headers["content-encoding"] == "br"


def test_the_numbers_count_what_was_asked(client: httpx.Client) -> None:
    def count() -> float:
        families = text_string_to_metric_families(client.get("/metrics").text)
        return sum(
            sample.value
            for family in families
            for sample in family.samples
            if sample.name == "genatlas_request_seconds_count"
            and sample.labels == {"method": "GET", "route": "/v1/suggest", "status": "200"}
        )

    before = count()
    for typed in ("elb", "elb", "gan"):  # the second from the cache
        client.get("/v1/suggest", params={"typed": typed})
    assert count() == before + 3
    assert "genatlas_build_info" in client.get("/metrics").text


def test_the_log_has_a_line_for_each_request_and_no_question(service: Running) -> None:
    _, token = service.key("read")
    with service.client(token) as client:
        client.get("/v1/search", params={"q": "a private question"}, headers={"X-Request-ID": "logged-1"})
    text = service.log.read_text()
    (line,) = [each for each in map(json.loads, text.splitlines()) if each.get("id") == "logged-1"]
    assert (line["event"], line["path"], line["status"]) == ("request", "/v1/search", 200)
    assert line["caller"].startswith("key ")
    assert "private question" not in text
    assert token not in text


def test_requests_are_traced_where_a_collector_is_named(start: Start) -> None:
    from http.server import BaseHTTPRequestHandler, HTTPServer

    heard: list[bytes] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            heard.append(gzip.decompress(body) if self.headers["content-encoding"] == "gzip" else body)
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with HTTPServer(("127.0.0.1", 0), Collector) as collector:
        at = f"http://127.0.0.1:{collector.server_port}/v1/traces"
        traced = start(GENATLAS_TRACES_URL=at, OTEL_BSP_SCHEDULE_DELAY="50")
        with traced.client() as client:
            client.get("/v1/search", params={"q": "gan"})
        collector.timeout = 30
        collector.handle_request()
    request = ExportTraceServiceRequest.FromString(heard[0])
    names = [span.name for group in request.resource_spans for scope in group.scope_spans for span in scope.spans]
    assert "GET /v1/search" in names


def test_generated_requests_meet_no_fault_and_no_answer_outside_the_schema(
    service: Running, tmp_path: Path, built_home: Path
) -> None:
    environment = {"GENATLAS_PROGRESS_URL": sqlite_url(service.database).render_as_string()}
    run_genatlas("profile", "new", "fuzzed", home=built_home, environment=environment)
    _, token = service.key("read", profile="fuzzed")  # which runs no demos: that they would be refused is in the schema
    done = subprocess.run(
        [str(Path(sys.executable).parent / "schemathesis"), "run", f"{service.address}/openapi.json",
         "--header", f"Authorization: Bearer {token}", "--max-examples", "12", "--suppress-health-check", "all",
         "--seed", "7", "--phases", "examples,coverage,fuzzing",
         "--checks", "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"],
        capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "NO_COLOR": "1"}, check=False, timeout=1200,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def test_importing_the_command_line_loads_no_http() -> None:
    program = "import sys, ui.cli; assert not {'fastapi', 'uvicorn', 'api'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)
