"""A learner's own progress over HTTP."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from study import Changes, Memory
from study.database import sqlite_url
from study.progress import ProgressStore
from tests.api.conftest import Running
from tests.conftest import run_genatlas

pytestmark = pytest.mark.xdist_group("http")

ELBO = "variational-autoencoders/training-objectives/elbo"
KL = "variational-autoencoders/training-objectives/kl-divergence"


def learner_of(service: Running, built_home: Path, name: str) -> httpx.Client:
    """A client with the key of a new learner."""
    made = run_genatlas(
        "key", "create", name, "--profile", name, home=built_home,
        environment={"GENATLAS_PROGRESS_URL": f"sqlite:///{service.database}"},
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    return service.client(made.stdout.strip())


def test_what_is_marked_is_known_to_paths_and_comes_back_as_it_was(service: Running, built_home: Path) -> None:
    with learner_of(service, built_home, "grace") as grace:
        assert grace.get("/v1/me").json()["marks"] == {}
        path = grace.post("/v1/paths", json={"goals": [ELBO], "mine": True}).json()
        first = path["steps"][0]["topic"]
        marked = grace.put("/v1/me/topics", json={"topics": [first], "status": "known"}).json()
        assert {topic: mark["status"] for topic, mark in marked["marks"].items()} == {first: "known"}
        rest = grace.post("/v1/paths", json={"goals": [ELBO], "mine": True}).json()
        assert first not in [step["topic"] for step in rest["steps"]]
        noted = grace.put("/v1/me/note", json={"topic": "training-objectives/elbo", "text": "β = 1"}).json()
        assert noted["notes"] == {ELBO: "β = 1"}
        assert grace.get("/v1/me").json() == noted
        assert grace.post("/v1/me/topics/unmark", json={"topics": [first]}).json()["marks"] == {}
        assert grace.get("/v1/me/history").json()[0]["kind"] == "created"
        exported = json.loads(grace.get("/v1/me/export").content)
        assert "β = 1" in json.dumps(exported, ensure_ascii=False)
        assert grace.delete("/v1/me").status_code == 204
        assert grace.get("/v1/me").status_code == 404


def test_reviews_are_asked_rated_and_come_back_later(service: Running, built_home: Path) -> None:
    with learner_of(service, built_home, "alan") as alan:
        assert alan.get("/v1/me/review").json() == {"due": 0, "by_day": [0] * 7, "card": None}
        enrolled = alan.post("/v1/me/review/topics", json={"topics": [ELBO]}).json()
        assert list(enrolled["memories"]) == [ELBO]
        long_ago = datetime.now(UTC) - timedelta(days=90)
        memory = Memory(stability=2, difficulty=5, last_review=long_ago, due=long_ago + timedelta(days=2), credit=0)
        ProgressStore(sqlite_url(service.database)).change("alan", lambda _: Changes(memories={ELBO: memory}))
        asked = alan.get("/v1/me/review").json()
        assert (asked["due"], asked["card"]["topic"]) == (1, ELBO)
        assert asked["card"]["question"]
        rated = alan.post("/v1/me/review", json={"topic": ELBO, "rating": "good"}).json()
        assert rated["memory"]["due"] > rated["memory"]["last_review"]
        assert alan.get("/v1/me/review").json()["due"] == 0
        assert alan.post("/v1/me/review", json={"topic": ELBO, "rating": "perfect"}).status_code == 422


def test_one_learner_does_not_see_another(service: Running, built_home: Path) -> None:
    with learner_of(service, built_home, "emmy") as emmy, learner_of(service, built_home, "kurt") as kurt:
        emmy.put("/v1/me/topics", json={"topics": [KL], "status": "planned"})
        assert list(emmy.get("/v1/me").json()["marks"]) == [KL]
        assert kurt.get("/v1/me").json()["marks"] == {}
        assert (kurt.get("/v1/me").json()["name"], emmy.get("/v1/me").json()["name"]) == ("kurt", "emmy")
        assert "etag" not in emmy.get("/v1/me").headers
        assert emmy.get("/v1/me").headers["cache-control"] == "no-store"


def test_a_placement_asks_at_most_twelve_and_keeps_told_and_inferred_apart(service: Running, built_home: Path) -> None:
    with learner_of(service, built_home, "noether") as noether:
        answers: dict[str, bool] = {}
        body: dict[str, object] = {"topic": "variational-autoencoders", "answers": answers}
        placed = noether.post("/v1/me/placement", json=body).json()
        while placed["ask"] is not None:
            assert placed["ask"]["question"]
            answers[placed["ask"]["topic"]] = len(answers) % 3 != 2
            placed = noether.post("/v1/me/placement", json=body).json()
        assert 0 < len(answers) <= 12
        assert placed["told"] == answers
        assert noether.get("/v1/me").json()["marks"] == {}
        noether.post("/v1/me/placement", json=body | {"keep": True})
        marks = noether.get("/v1/me").json()["marks"]
        told = {topic for topic, mark in marks.items() if mark["origin"] == "told"}
        inferred = {topic for topic, mark in marks.items() if mark["origin"] == "inferred"}
        assert told == {topic for topic, known in answers.items() if known}
        assert inferred == set(placed["inferred"])
        unknown = noether.post("/v1/me/placement", json={"topic": "bert", "answers": {"nowhere": True}})
        assert unknown.status_code == 404
