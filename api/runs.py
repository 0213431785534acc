"""Demo runs over HTTP: asked for, followed, taken back."""

import asyncio
from collections.abc import AsyncIterable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from api import documents as doc
from api.access import Asking, Caller
from api.routes import TOLD, Atlas
from service import audit
from service.runs import Run, RunQueue

LOOK_S = 0.1
"""Seconds between looks at a run that is followed."""


async def _may_run(caller: Asking) -> Caller:
    caller.needs("run-demos")
    return caller


async def _queue(request: Request) -> RunQueue:
    return request.app.state.runs


Runner = Annotated[Caller, Depends(_may_run)]
Queue = Annotated[RunQueue, Depends(_queue)]


async def _own(run_id: str, caller: Runner, queue: Queue) -> Run:
    """The run of a request, which is the caller's own; an admin's is any."""
    admin = caller.key is not None and caller.key.may("admin")
    return queue.find(run_id, None if admin else caller.name)


Own = Annotated[Run, Depends(_own)]

router = APIRouter(prefix="/v1/runs", tags=["runs"], responses=TOLD)


@router.post("", status_code=202)
def start(
    request: Request, response: Response, wanted: doc.RunWanted, caller: Runner, queue: Queue, atlas: Atlas
) -> doc.Run:
    """Have a demo run. It waits its turn; where it stands is at the address that Location names."""
    params: dict[str, Any] = dict(wanted.params)
    if wanted.preset is not None:
        params = {**atlas.preset(wanted.demo, wanted.preset), **params}
    run = queue.submit(wanted.demo, params, caller.name, wanted.fresh)
    audit.record(atlas.settings.home, caller.name, "run started", run=run.id, demo=run.demo)
    response.headers["Location"] = str(request.url_for("show", run_id=run.id).path)
    return as_document(run)


@router.get("")
def show_all(caller: Runner, queue: Queue) -> list[doc.Run]:
    """Your runs that are remembered, the oldest first."""
    return [as_document(run, whole=False) for run in queue.runs(caller.name)]


@router.get("/{run_id}")
def show(run: Own) -> doc.Run:
    """Where a run stands, and its result when it is done: metrics, claims with their verdicts, figures, tables."""
    return as_document(run)


@router.get("/{run_id}/figures")
def figures(run: Own) -> list[dict[str, Any]]:
    """The figures of a run as data, each with its kind; none before it is done."""
    found = as_document(run).outcome
    return found["result"]["figures"] if found else []


@router.get("/{run_id}/events", response_class=EventSourceResponse)
async def follow(run: Own) -> AsyncIterable[ServerSentEvent]:
    """Follow a run as server-sent events: `progress` each time that it has moved, `end` with the whole run."""
    before: doc.Run | None = None
    while not run.over:
        now = as_document(run, whole=False)
        if now != before:
            before = now
            yield ServerSentEvent(event="progress", data=now)
        await asyncio.sleep(LOOK_S)
    yield ServerSentEvent(event="end", data=as_document(run))


@router.delete("/{run_id}", status_code=202)
def cancel(run: Own, caller: Runner, queue: Queue, atlas: Atlas) -> doc.Run:
    """Take a run back; one that is over stays as it is."""
    queue.cancel(run)
    audit.record(atlas.settings.home, caller.name, "run cancelled", run=run.id, demo=run.demo)
    return as_document(run, whole=False)


def as_document(run: Run, whole: bool = True) -> doc.Run:
    """A run as it is told; without `whole` its result is left out."""
    seen = run.progress()
    return doc.Run(
        id=run.id,
        demo=run.demo,
        params=dict(run.params),
        state=run.state,
        fraction=seen.fraction if seen else 0.0,
        message=seen.message if seen else "Waiting its turn",
        live={name: points[-1][1] for name, points in seen.live.items() if points} if seen else {},
        error=run.error,
        outcome=run.outcome.to_json() if whole and run.outcome else None,
    )
