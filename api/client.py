"""A typed client of the HTTP service: a method for each of its addresses, answers as the documents of `api.documents`.

    with Client("http://127.0.0.1:8000", key="ga_…") as atlas:
        answer = atlas.ask("why do we scale by sqrt dk")
        run = atlas.run_demo("gaussian-kl", on_progress=lambda seen: print(seen.fraction))

It loads httpx2 and pydantic, and nothing of the atlas.
"""

import json
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, Self, TypeVar
from urllib.parse import quote

import httpx2
from pydantic import TypeAdapter

from api import documents as doc

Cell = int | float | bool | str
Answered = TypeVar("Answered")


class ServiceRefused(Exception):
    """The service did not answer: `status` and `detail` say why, `nearest` names ids, `wait_s` when to come again."""

    def __init__(self, status: int, detail: str, nearest: Sequence[str] = (), wait_s: int | None = None) -> None:
        self.status = status
        self.detail = detail
        self.nearest = tuple(nearest)
        self.wait_s = wait_s
        super().__init__(f"{status}: {detail}")


class Client:
    """A connection to one service. Methods raise ServiceRefused, and httpx2.TransportError where nobody answers."""

    def __init__(self, address: str, key: str | None = None, timeout_s: float = 30) -> None:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._http = httpx2.Client(base_url=address, headers=headers, timeout=timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    # Topics

    def topics(self, section: str | None = None) -> Iterator[doc.TopicLine]:
        """All topics in outline order, or those of a section; pages are fetched as they are needed."""
        after: str | None = None
        while True:
            page = self._get(doc.TopicsPage, "/v1/topics", section=section, after=after, limit=500)
            yield from page.topics
            after = page.next
            if after is None:
                return

    def topic(self, topic: str) -> doc.TopicPage:
        """A topic with its text, what it needs, what it unlocks, and its demo."""
        return self._get(doc.TopicPage, f"/v1/topics/{quote(topic)}")

    def subtree(self, topic: str) -> list[doc.TopicLine]:
        """A topic and everything below it."""
        return self._get(list[doc.TopicLine], "/v1/subtree", topic=topic)

    def neighbourhood(
        self, topic: str, kinds: Sequence[str] | None = None, steps: int = 1, limit: int = 60
    ) -> doc.Neighbourhood:
        """What surrounds a topic, nearest first."""
        return self._get(doc.Neighbourhood, "/v1/neighbourhood", topic=topic, kinds=kinds, steps=steps, limit=limit)

    def prerequisites(self, topic: str, closure: bool = False) -> doc.Prerequisites:
        """What a topic needs, with the reason for each."""
        return self._get(doc.Prerequisites, "/v1/prerequisites", topic=topic, closure=closure)

    def unlocks(self, topic: str) -> doc.Unlocks:
        """What a topic is good for."""
        return self._get(doc.Unlocks, "/v1/unlocks", topic=topic)

    def stats(self) -> dict[str, Any]:
        """What the atlas holds, counted."""
        return self._get(dict[str, Any], "/v1/stats")

    # Search

    def search(
        self,
        query: str,
        k: int = 10,
        *,
        section: str | None = None,
        under: str | None = None,
        level: doc.Level | None = None,
        starred: bool | None = None,
    ) -> doc.Ranking:
        """Topics found by meaning and by words."""
        return self._get(
            doc.Ranking, "/v1/search", q=query, k=k, section=section, under=under, level=level, starred=starred
        )

    def suggest(self, typed: str, k: int = 8) -> list[doc.Suggestion]:
        """Names of topics that go on as typed."""
        return self._get(list[doc.Suggestion], "/v1/suggest", typed=typed, k=k)

    def ask(self, question: str, after: str | None = None) -> doc.Answer:
        """An answer in the atlas's own sentences, each cited."""
        return self._get(doc.Answer, "/v1/ask", question=question, after=after)

    def ask_streamed(
        self,
        question: str,
        on_sentence: Callable[[doc.Sentence], None],
        after: str | None = None,
        retell: bool = False,
    ) -> doc.Answer:
        """The same, told sentence by sentence; with `retell` by the service's language model, sentences checked."""
        asked = _given({"question": question, "after": after, "retell": retell})
        for event, data in self._events("/v1/ask/events", asked):
            if event == "sentence":
                on_sentence(doc.Sentence.model_validate(data))
            elif event == "problem":
                raise ServiceRefused(502, data["detail"])
            else:
                return doc.Answer.model_validate(data)
        raise ServiceRefused(502, "the answer broke off")

    def compare(self, one: str, other: str) -> doc.Comparison:
        """Two topics beside each other, aspect by aspect."""
        return self._get(doc.Comparison, "/v1/compare", one=one, other=other)

    # Study

    def path(self, goals: Sequence[str], known: Sequence[str] = (), **wanted: Any) -> doc.Path:
        """What to learn for some goals; `wanted` as in `api.documents.PathGoals`: thorough, minutes, days, total …"""
        return self._send(doc.Path, "POST", "/v1/paths", {"goals": list(goals), "known": list(known), **wanted})

    def handout(
        self, form: Literal["markdown", "html", "ics", "csv", "mermaid"], goals: Sequence[str], **wanted: Any
    ) -> str:
        """The same as a hand-out."""
        return self._answer("POST", "/v1/paths", params={"format": form}, json={"goals": list(goals), **wanted}).text

    def ready(self, known: Sequence[str] = (), goals: Sequence[str] = ()) -> list[doc.ReadyTopic]:
        """What can be started now."""
        return self._send(list[doc.ReadyTopic], "POST", "/v1/ready", {"known": list(known), "goals": list(goals)})

    def syllabus(self, text: str, known: Sequence[str] = ()) -> dict[str, Any]:
        """What a syllabus, one topic a line, covers, lacks and teaches too early."""
        return self._send(dict[str, Any], "POST", "/v1/syllabus", {"text": text, "known": list(known)})

    # Demos

    def demos(self, ready: bool = False) -> list[doc.DemoLine]:
        """Every demo that the atlas names, or those that can be run."""
        return self._get(list[doc.DemoLine], "/v1/demos", ready=ready)

    def demo(self, demo: str) -> doc.DemoPage:
        """A demo with its claims, parameters and presets."""
        return self._get(doc.DemoPage, f"/v1/demos/{quote(demo, safe='')}")

    def start_run(
        self, demo: str, params: Mapping[str, Cell] | None = None, preset: str | None = None, fresh: bool = False
    ) -> doc.Run:
        """Have a demo run; it takes a key with the scope run-demos."""
        wanted = {"demo": demo, "params": dict(params or {}), "preset": preset, "fresh": fresh}
        return self._send(doc.Run, "POST", "/v1/runs", wanted)

    def run_demo(
        self,
        demo: str,
        params: Mapping[str, Cell] | None = None,
        preset: str | None = None,
        fresh: bool = False,
        on_progress: Callable[[doc.Run], None] = lambda _: None,
    ) -> doc.Run:
        """Have a demo run, follow it, and return it when it is over, its outcome included."""
        run = self.start_run(demo, params, preset, fresh)
        for event, data in self._events(f"/v1/runs/{run.id}/events", {}):
            run = doc.Run.model_validate(data)
            if event == "progress":
                on_progress(run)
        return run

    def runs(self) -> list[doc.Run]:
        """Your runs that are remembered."""
        return self._get(list[doc.Run], "/v1/runs")

    def run(self, run_id: str) -> doc.Run:
        """Where a run stands."""
        return self._get(doc.Run, f"/v1/runs/{quote(run_id, safe='')}")

    def figures(self, run_id: str) -> list[dict[str, Any]]:
        """The figures of a run as data."""
        return self._get(list[dict[str, Any]], f"/v1/runs/{quote(run_id, safe='')}/figures")

    def cancel(self, run_id: str) -> doc.Run:
        """Take a run back."""
        return self._send(doc.Run, "DELETE", f"/v1/runs/{quote(run_id, safe='')}")

    # The learner whom the key is for

    def me(self) -> doc.Learner:
        """What you know, learn and plan, your notes, and what is in review."""
        return self._get(doc.Learner, "/v1/me")

    def mark(self, topics: Sequence[str], status: Literal["known", "learning", "planned"]) -> doc.Learner:
        """Say what topics are to you."""
        return self._send(doc.Learner, "PUT", "/v1/me/topics", {"topics": list(topics), "status": status})

    def unmark(self, topics: Sequence[str]) -> doc.Learner:
        """Take the marks off topics."""
        return self._send(doc.Learner, "POST", "/v1/me/topics/unmark", {"topics": list(topics)})

    def note(self, topic: str, text: str) -> doc.Learner:
        """Keep a note about a topic; an empty one takes it away."""
        return self._send(doc.Learner, "PUT", "/v1/me/note", {"topic": topic, "text": text})

    def due(self, days: int = 7) -> doc.Due:
        """What to review now, and how much comes due on each of the next days."""
        return self._get(doc.Due, "/v1/me/review", days=days)

    def enrol(self, topics: Sequence[str]) -> doc.Learner:
        """Let topics be reviewed."""
        return self._send(doc.Learner, "POST", "/v1/me/review/topics", {"topics": list(topics)})

    def rate(self, topic: str, rating: Literal["again", "hard", "good", "easy"]) -> dict[str, Any]:
        """Keep how a recall went."""
        return self._send(dict[str, Any], "POST", "/v1/me/review", {"topic": topic, "rating": rating})

    def place(self, topic: str, answers: Mapping[str, bool] | None = None, keep: bool = False) -> doc.Placement:
        """What the answers so far say about a section, and what to ask next; `keep` marks it."""
        wanted = {"topic": topic, "answers": dict(answers or {}), "keep": keep}
        return self._send(doc.Placement, "POST", "/v1/me/placement", wanted)

    def history(self) -> list[dict[str, Any]]:
        """Everything that you did, first things first."""
        return self._get(list[dict[str, Any]], "/v1/me/history")

    def export(self) -> bytes:
        """All of your data."""
        return self._answer("GET", "/v1/me/export").content

    def delete_me(self) -> None:
        """Delete all of your data."""
        self._answer("DELETE", "/v1/me")

    # Operation

    def lives(self) -> doc.Alive:
        """Whether the service lives."""
        return self._get(doc.Alive, "/healthz")

    def health(self) -> doc.Health:
        """Whether it can answer, and which build it serves."""
        return self._get(doc.Health, "/readyz")

    def metrics(self) -> str:
        """Its numbers as Prometheus reads them."""
        return self._answer("GET", "/metrics").text

    def _get(self, kind: type[Answered], path: str, **asked: Any) -> Answered:
        return TypeAdapter(kind).validate_json(self._answer("GET", path, params=_given(asked)).content)

    def _send(self, kind: type[Answered], method: str, path: str, body: Mapping[str, Any] | None = None) -> Answered:
        return TypeAdapter(kind).validate_json(self._answer(method, path, json=body).content)

    def _answer(self, method: str, path: str, **asked: Any) -> httpx2.Response:
        answer = self._http.request(method, path, **asked)
        _raise_refusal(answer)
        return answer

    def _events(self, path: str, asked: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        """Server-sent events, each with its data, until the stream ends."""
        event = ""
        with self._stream(path, asked) as answer:
            for line in answer.iter_lines():
                field, _, value = line.partition(": ")
                if field == "event":
                    event = value
                elif field == "data":
                    yield event, json.loads(value)

    @contextmanager
    def _stream(self, path: str, asked: Mapping[str, Any]) -> Generator[httpx2.Response]:
        with self._http.stream("GET", path, params=asked, timeout=httpx2.Timeout(30, read=600)) as answer:
            if answer.status_code >= 400:
                answer.read()
            _raise_refusal(answer)
            yield answer


def _given(asked: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in asked.items() if value is not None}


def _raise_refusal(answer: httpx2.Response) -> None:
    if answer.status_code < 400:
        return
    problem: dict[str, Any] = {}
    if answer.headers.get("content-type") == "application/problem+json":  # else a proxy's page, or the server's own 503
        problem = json.loads(answer.content)
    wait: str = answer.headers.get("retry-after", "")
    raise ServiceRefused(
        answer.status_code,
        problem.get("detail", answer.reason_phrase),
        problem.get("nearest", ()),
        int(wait) if wait.isdecimal() else None,
    )
