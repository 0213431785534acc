import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from service import Service, Settings, open_service, wire
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
    for path in ("/healthz", "/readyz"):
        assert client.get(path).json() == {"status": "ok", "build": atlas.opened.id, "topics": 2063}


def test_other_addresses_are_refused_unless_said_so(built_home: Path) -> None:
    refused = run_genatlas("serve", "--address", "0.0.0.0", "--port", "0", home=built_home)  # noqa: S104
    assert refused.returncode == 1
    assert "--public" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_generated_requests_meet_no_fault_and_no_answer_outside_the_schema(address: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [str(Path(sys.executable).parent / "schemathesis"), "run", f"{address}/openapi.json",
         "--max-examples", "25", "--suppress-health-check", "all", "--seed", "7",
         "--phases", "examples,coverage,fuzzing",
         "--checks", "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"],
        capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "NO_COLOR": "1"}, check=False, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def test_importing_the_command_line_loads_no_http() -> None:
    program = "import sys, ui.cli; assert not {'fastapi', 'uvicorn', 'api'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)
