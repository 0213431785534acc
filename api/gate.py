"""What every request passes: its id, who asks and how often, what is known already, what is told of it afterwards."""

import hashlib
import logging
import time
import uuid
from dataclasses import dataclass

from anyio import move_on_after, to_thread
from cachetools import LRUCache
from fastapi import Request, Response
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import problems
from api.access import OPEN, Access, Refused
from api.metrics import Metrics
from graph import AtlasError
from service import LiveService

LOG = logging.getLogger("genatlas.access")
BODILESS = ("GET", "HEAD", "OPTIONS")
LONGEST_BODY, BODY_S = 1_000_000, 20
"""Bytes of a body, and the seconds that it may take to come."""
KEPT_BYTES, LONGEST_KEPT = 32 * 2**20, 256 * 2**10
"""Bytes of answers that are kept for who asks the same again, and of the longest one among them."""
OWN = ("/v1/me", "/v1/runs")
"""What is one caller's own, or changes: never kept, and without an entity tag."""
SAFE_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
}


@dataclass(frozen=True, slots=True)
class _Kept:
    """An answer as it was sent, and the route that it came from."""

    headers: list[tuple[bytes, bytes]]
    body: bytes
    route: str


class Gate:
    """The layer around the application (ASGI) that every request passes, preflights of browsers aside."""

    def __init__(self, app: ASGIApp, live: LiveService, access: Access, metrics: Metrics) -> None:
        self._app = app
        self._live = live
        self._access = access
        self._metrics = metrics
        self._answers: LRUCache[str, _Kept] = LRUCache(KEPT_BYTES, getsizeof=lambda kept: len(kept.body))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        began = time.perf_counter()
        request.state.id = _identity(request)
        sent = _Sent(send, request.state.id)
        response = await self._refusal(request)
        if response is None:
            whole = await _whole(request.method, receive)
            if whole is None:
                response = problems.problem(request, 408, f"The body did not come within {BODY_S} seconds.")
            else:
                response = await self._answer(scope, whole, sent)
        if response is not None:
            await response(scope, receive, sent)
        self._tell(request, sent, time.perf_counter() - began)

    async def _refusal(self, request: Request) -> Response | None:
        """Why a request is not taken, or None; `request.state.caller` is then who asks."""
        if _is_too_long(request):
            return problems.problem(request, 413, f"A body has at most {LONGEST_BODY:,} bytes, and says how many.")
        if request.url.path in OPEN:
            return None
        try:
            request.state.caller = await self._access.admit(request)
        except AtlasError as error:
            if isinstance(error, Refused) and error.status == 401 and "authorization" in request.headers:
                LOG.warning(
                    "key refused", extra={"id": request.state.id, "caller": request.client and request.client.host}
                )
            return problems.told(request, error)
        return None

    async def _answer(self, scope: Scope, receive: Receive, sent: "_Sent") -> Response | None:
        """Have the application answer, or give what is known; returns a response that is still to be sent."""
        request = Request(scope)
        tag = await self._tag(request)
        if tag is None:
            return await self._asked(scope, receive, sent)
        sent.tag = tag
        if tag in _offered(request):
            return Response(status_code=304)
        place = f"{tag} {request.headers.get('accept-encoding', '')}"
        kept = self._answers.get(place)
        self._metrics.looked(found=kept is not None)
        if kept is not None:
            sent.route = kept.route
            response = Response(kept.body)
            response.raw_headers = list(kept.headers)
            return response
        sent.keeping = True
        response = await self._asked(scope, receive, sent)
        if sent.status == 200 and sent.keeping:
            self._answers[place] = _Kept(sent.headers, bytes(sent.body), sent.route)
        return response

    async def _asked(self, scope: Scope, receive: Receive, sent: "_Sent") -> Response | None:
        request = Request(scope)
        try:
            await self._app(scope, receive, sent)
        except Exception as error:  # told here: the framework's own handler would close the connection
            if sent.status is not None:
                raise
            return problems.fault(request, error)
        finally:
            sent.route = getattr(scope.get("route"), "path", sent.route)
        return None

    async def _tag(self, request: Request) -> str | None:
        """The entity tag of a reading request: a build answers an address always alike."""
        path = request.url.path
        if request.method != "GET" or not path.startswith("/v1/") or path.startswith(OWN) or path.endswith("/events"):
            return None
        try:
            service = self._live.known() or await to_thread.run_sync(self._live.current)
        except AtlasError:  # the store is away: the route will say so
            return None
        asked = f"{service.opened.id} {path}?{request.url.query}"
        return f'W/"{hashlib.sha256(asked.encode()).hexdigest()[:32]}"'

    def _tell(self, request: Request, sent: "_Sent", seconds: float) -> None:
        status = sent.status or 500
        self._metrics.answered(request.method, sent.route, status, seconds)
        caller = getattr(request.state, "caller", None)
        LOG.info(
            "request",
            extra={
                "id": request.state.id,
                "method": request.method,
                "path": request.url.path,  # without the query: what learners ask is theirs
                "status": status,
                "ms": round(seconds * 1000, 2),
                "caller": caller.name if caller else None,
            },
        )


class _Sent:
    """Sends an answer on with the headers that all have, and remembers what it was."""

    def __init__(self, send: Send, identity: str) -> None:
        self._send = send
        self._identity = identity
        self.status: int | None = None
        self.route = "none"
        self.tag: str | None = None
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = bytearray()
        self.keeping = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = list(message["headers"])
            headers = MutableHeaders(raw=message["headers"])
            if self.tag is not None and self.status in (200, 304):
                headers["ETag"] = self.tag
                headers["Cache-Control"] = "no-cache"  # may be kept, and is asked about before it is used
            elif self.tag is None:
                headers.setdefault("Cache-Control", "no-store")
            headers["X-Request-ID"] = self._identity
            for name, value in SAFE_HEADERS.items():
                headers.setdefault(name, value)
        elif self.keeping and message["type"] == "http.response.body":
            self.body += message.get("body", b"")
            self.keeping = len(self.body) <= LONGEST_KEPT
        await self._send(message)


def _identity(request: Request) -> str:
    given = request.headers.get("x-request-id", "")
    return given if given.isascii() and given.isprintable() and 0 < len(given) <= 64 else uuid.uuid4().hex


async def _whole(method: str, receive: Receive) -> Receive | None:
    """The body read as a whole, to be received again from memory; None where it does not come in time."""
    if method in BODILESS:
        return receive
    read: list[Message] = []
    with move_on_after(BODY_S):
        while not read or read[-1].get("more_body", False):
            read.append(await receive())
    if not read or read[-1].get("more_body", False):
        return None
    parts = iter(read)

    async def again() -> Message:
        return next(parts, None) or await receive()

    return again


def _is_too_long(request: Request) -> bool:
    """Whether a body is longer than is read, or does not say how long it is."""
    if request.method in BODILESS:
        return False
    length = request.headers.get("content-length", "0" if "transfer-encoding" not in request.headers else "")
    return not length.isdecimal() or int(length) > LONGEST_BODY


def _offered(request: Request) -> list[str]:
    return [tag.strip() for tag in request.headers.get("if-none-match", "").split(",")]
