"""The application: one service for all requests, the routes, and what every answer has in common."""

import hashlib
import uuid
from collections.abc import Awaitable, Callable
from importlib.metadata import version

from fastapi import FastAPI, Request, Response
from fastapi.middleware.gzip import GZipMiddleware

from api import problems, routes
from service import LiveService

LONGEST_BODY = 1_000_000
SMALLEST_TO_PACK = 1_000
"""Bytes from which an answer is compressed."""


def create_app(live: LiveService) -> FastAPI:
    """The application over the atlas that serves."""
    app = FastAPI(
        title="GenAtlas",
        version=version("genatlas"),
        summary="A knowledge graph, search and study paths over 2,063 topics of generative AI.",
        docs_url="/docs",
        redoc_url=None,
    )
    app.state.live = live
    app.add_middleware(GZipMiddleware, minimum_size=SMALLEST_TO_PACK)
    problems.register(app)
    app.include_router(routes.router)
    app.include_router(routes.health)

    @app.middleware("http")
    async def common(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
        """A request id on every answer; an entity tag on those of the atlas, and 304 to who has it already."""
        identity = request.headers.get("x-request-id", "")
        identity = identity if identity.isascii() and 0 < len(identity) <= 64 else uuid.uuid4().hex
        tag = _tag(request)
        if _is_too_long(request):
            response = problems.problem(request, 413, f"A body has at most {LONGEST_BODY:,} bytes, and says how many.")
        elif tag is not None and tag in _offered(request):
            response = Response(status_code=304)
        else:
            try:
                response = await answer(request)
            except Exception as error:  # told here: the framework's own handler would close the connection
                response = problems.fault(request, error)
        if tag is not None and response.status_code in (200, 304):
            response.headers["ETag"] = tag
            response.headers["Cache-Control"] = "no-cache"  # may be kept, and is asked about before it is used
        response.headers["X-Request-ID"] = identity
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    _ = common  # the app holds it
    return app


def _is_too_long(request: Request) -> bool:
    """Whether a body is longer than is read, or does not say how long it is."""
    if request.method in ("GET", "HEAD", "OPTIONS"):
        return False
    length = request.headers.get("content-length", "0" if "transfer-encoding" not in request.headers else "")
    return not length.isdecimal() or int(length) > LONGEST_BODY


def _tag(request: Request) -> str | None:
    """The entity tag of a reading request: a build answers an address always alike."""
    if request.method != "GET" or not request.url.path.startswith("/v1/"):
        return None
    build = request.app.state.live.current().opened.id
    asked = f"{build} {request.url.path}?{request.url.query}"
    return f'W/"{hashlib.sha256(asked.encode()).hexdigest()[:32]}"'


def _offered(request: Request) -> list[str]:
    return [tag.strip() for tag in request.headers.get("if-none-match", "").split(",")]
