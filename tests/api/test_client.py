"""The client against the service: every address of the OpenAPI description has a method, and every answer its type."""

import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest

from api import documents as doc
from api.client import Client, ServiceRefused
from tests.api.conftest import Running
from tests.conftest import ROOT, run_genatlas

pytestmark = pytest.mark.xdist_group("http")

ELBO = "variational-autoencoders/training-objectives/elbo"
QUESTION = "why do we scale by sqrt dk"


def test_a_method_for_every_address_and_a_document_for_every_answer(service: Running, built_home: Path) -> None:
    """Calls every method, hears which addresses were asked, and compares them with the description."""
    environment = {"GENATLAS_PROGRESS_URL": f"sqlite:///{service.database}"}
    run_genatlas("profile", "new", "client", home=built_home, environment=environment)
    token = service.key("admin", profile="client")[1]
    called: set[str] = set()
    asked: set[tuple[str, str]] = set()
    sentences: list[doc.Sentence] = []
    with Client(service.address, token, timeout_s=60) as client:
        calls: dict[str, dict[str, Any]] = {
            "topics": {"section": "bert"}, "topic": {"topic": ELBO}, "subtree": {"topic": ELBO},
            "neighbourhood": {"topic": ELBO, "kinds": ["prerequisite"]}, "prerequisites": {"topic": ELBO},
            "unlocks": {"topic": ELBO}, "stats": {}, "search": {"query": QUESTION, "level": "intermediate"},
            "suggest": {"typed": "elb"}, "ask": {"question": QUESTION},
            "ask_streamed": {"question": QUESTION, "on_sentence": sentences.append},
            "compare": {"one": "mode-collapse", "other": "training-objectives/kl-divergence"},
            "path": {"goals": [ELBO], "mine": True},
            "handout": {"form": "markdown", "goals": [ELBO]}, "ready": {}, "syllabus": {"text": "ELBO"},
            "demos": {"ready": True}, "demo": {"demo": "gaussian-kl"},
            "start_run": {"demo": "gaussian-kl", "params": {"samples": 1000}},
            "run_demo": {"demo": "gaussian-kl", "params": {"samples": 1000}}, "runs": {}, "me": {},
            "mark": {"topics": [ELBO], "status": "known"}, "unmark": {"topics": [ELBO]},
            "note": {"topic": ELBO, "text": "mine"}, "due": {}, "enrol": {"topics": [ELBO]},
            "rate": {"topic": ELBO, "rating": "good"}, "place": {"topic": "bert"},
            "history": {}, "export": {}, "lives": {}, "health": {},
            "metrics": {}, "delete_me": {},
        }  # fmt: skip

        def heard(request: httpx2.Request) -> None:
            asked.add((request.method.lower(), request.url.path))

        hooks: Any = client._http  # pyright: ignore[reportPrivateUsage] (to hear what is asked)
        hooks.event_hooks = {"request": [heard]}
        answers: dict[str, Any] = {}
        for name, given in calls.items():
            answers[name] = getattr(client, name)(**given)
            if name == "topics":
                answers[name] = list(answers[name])
            called.add(name)
        for name in ("run", "figures", "cancel"):
            answers[name] = getattr(client, name)(answers["run_demo"].id)
            called.add(name)
    methods = {name for name, _ in inspect.getmembers(Client, inspect.isfunction) if not name.startswith("_")}
    assert called | {"close"} == methods
    described = httpx2.get(f"{service.address}/openapi.json").json()["paths"]
    patterns = {
        (method, path): re.compile(re.sub(r"\{topic\}", ".+", re.sub(r"\{(?!topic)\w+\}", "[^/]+", path)))
        for path, methods_of in described.items()
        for method in methods_of
    }
    missed = [
        address
        for address, pattern in patterns.items()
        if not any(method == address[0] and pattern.fullmatch(path) for method, path in asked)
    ]
    assert missed == []
    assert isinstance(answers["topic"], doc.TopicPage)
    assert answers["topic"].id == ELBO
    assert answers["ask"] == answers["ask_streamed"]
    assert sentences == answers["ask"].sentences
    assert answers["run_demo"].state == "done"
    assert answers["figures"]
    assert {line.topic.split("/")[0] for line in answers["topics"]} == {"bert"}


def test_a_refusal_says_why(service: Running) -> None:
    with Client(service.address) as client:
        with pytest.raises(ServiceRefused, match="elbow") as refused:
            client.topic("variational-autoencoders/training-objectives/elbow")
        assert (refused.value.status, ELBO in refused.value.nearest) == (404, True)
        with pytest.raises(ServiceRefused, match="run-demos") as refused:
            client.run_demo("gaussian-kl")
        assert refused.value.status == 401
    with Client(service.address, service.key("read", per_minute=1)[1]) as hasty:
        hasty.stats()
        with pytest.raises(ServiceRefused) as refused:
            hasty.stats()
        assert refused.value.wait_s is not None
        assert 0 < refused.value.wait_s <= 60


def test_the_client_loads_nothing_of_the_atlas() -> None:
    program = "import sys, api.client; assert not {'service', 'graph', 'fastapi', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)
