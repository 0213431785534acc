"""The application: one service for all requests, the routes, and the gate before them."""

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib.metadata import version

from anyio import to_thread
from brotli_asgi import BrotliMiddleware
from fastapi import Depends, FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.security import HTTPBearer
from mcp.server.transport_security import TransportSecuritySettings

from api import learner, operation, problems, routes, runs
from api.access import Access
from api.gate import Gate
from api.mcp_server import create_server
from api.metrics import Metrics
from service import LiveService, Settings
from service.runs import Run, RunQueue

SMALLEST_TO_PACK = 1_000
"""Bytes from which an answer is compressed."""
CORES = os.cpu_count() or 1
THREADS = {"embedded": CORES + 1, "neo4j": 8 * CORES}
"""Answers that are computed at a time, by store: those from memory take each other's time, those from a server wait."""
RUNS_GRACE_S = 25
"""Seconds that demo runs under way have to finish when the process is asked to end."""


def create_app(live: LiveService, settings: Settings, public: bool = False) -> FastAPI:
    """The application over the atlas that serves. `public` lets any address read without a key."""
    metrics = Metrics()

    def ended(run: Run) -> None:
        metrics.run_ended(run.state)

    @asynccontextmanager
    async def running(app: FastAPI) -> AsyncGenerator[None]:
        to_thread.current_default_thread_limiter().total_tokens = THREADS[settings.store]
        await to_thread.run_sync(lambda: live.current().search("warm up"))  # so that no learner waits for the loading
        app.state.runs = RunQueue(live.current, ended)
        try:
            async with mcp.session_manager.run():
                yield
        finally:
            await to_thread.run_sync(app.state.runs.close, RUNS_GRACE_S)

    app = FastAPI(
        title="GenAtlas",
        version=version("genatlas"),
        summary="A knowledge graph, search, study paths and demos over 2,063 topics of generative AI.",
        docs_url="/docs",
        redoc_url=None,
        lifespan=running,
        dependencies=[Depends(HTTPBearer(auto_error=False, description="A key: genatlas key create"))],
    )
    app.state.live = live
    app.state.settings = settings
    app.state.metrics = metrics
    problems.register(app)
    for part in (routes, runs, learner, operation):
        app.include_router(part.router)
    mcp = create_server(live, lambda: app.state.runs)
    # The gate asks everybody else for a key, so that a page in a browser here, by whatever name, gets to read at most.
    trusted = TransportSecuritySettings(enable_dns_rebinding_protection=False)
    app.router.routes.extend(mcp.streamable_http_app(stateless_http=True, transport_security=trusted).routes)
    app.add_middleware(BrotliMiddleware, minimum_size=SMALLEST_TO_PACK, excluded_handlers=["/events$", "^/mcp"])
    app.add_middleware(Gate, live=live, access=Access(settings, public), metrics=metrics)
    if settings.cors_origins:  # outermost: its headers differ by site, and the gate keeps answers for everybody
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["*"],
            allow_headers=["authorization", "content-type", "if-none-match", "x-request-id"],
            expose_headers=["etag", "x-request-id", "retry-after", "location"],
        )
    if settings.traces_url:
        from api.traces import trace

        trace(app, settings.traces_url)
    return app
