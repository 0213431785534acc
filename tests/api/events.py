"""Server-sent events as a client hears them."""

import json
from typing import Any

import httpx


def events(client: httpx.Client, path: str, **asked: Any) -> list[tuple[str, Any]]:
    """Listen until the stream ends: each event with its data."""
    heard: list[tuple[str, Any]] = []
    name = ""
    with client.stream("GET", path, **asked) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            field, _, value = line.partition(": ")
            if field == "event":
                name = value
            elif field == "data":
                heard.append((name, json.loads(value)))
    return heard
