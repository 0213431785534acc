"""Whether the process lives and answers, and its numbers."""

from fastapi import APIRouter, Request, Response

from api import documents as doc
from api.access import Asking, is_loopback
from api.metrics import MEDIA_TYPE
from api.routes import TOLD, Atlas

router = APIRouter(tags=["operation"])


@router.get("/healthz")
def lives() -> doc.Alive:
    """Whether this process lives; it asks nothing else."""
    return doc.Alive(status="ok")


@router.get("/readyz", responses={503: TOLD[503]})
def ready(atlas: Atlas) -> doc.Health:
    """Whether this process can answer at present, its store included, and which build it serves."""
    return doc.Health(status="ok", build=atlas.opened.id, topics=atlas.opened.counts["topics"])


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}, 401: TOLD[401], 403: TOLD[403], 503: TOLD[503]},
)
def metrics(request: Request, caller: Asking, atlas: Atlas) -> Response:
    """The numbers of this process for Prometheus. From another address it takes a key with the scope admin."""
    if caller.key is not None or not is_loopback(caller.address):
        caller.needs("admin")
    waiting, running = request.app.state.runs.counts()
    text = request.app.state.metrics.text(atlas.opened.id, atlas.opened.counts["topics"], waiting, running)
    return Response(text, media_type=MEDIA_TYPE)
