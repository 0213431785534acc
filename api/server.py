"""The process that answers: where it listens, whom it lets in, how it ends."""

import socket
from collections.abc import Callable

import uvicorn

from api.access import is_loopback
from api.app import create_app
from api.logs import log_as_json
from graph import AtlasError
from service import LiveService, Settings

AT_ONCE, BACKLOG = 256, 512
"""Requests that are answered at a time, those beyond being told 503; connections that may wait to be taken."""

KEPT_S = 65
"""Seconds that a connection may be idle: more than proxies keep theirs, so that none sends into a closed one."""

GRACE_S = 30
"""Seconds that requests under way have to finish when the process is asked to end."""


class ListenRefused(AtlasError):
    """The service is not to listen there, or cannot."""


def serve(settings: Settings, address: str, port: int, public: bool, say: Callable[[str], None]) -> None:
    """Answer until the process is asked to end; what runs is finished first.

    Who asks from another address needs a key, unless the service is `public`: then anybody may read. Its log goes to
    standard output, a line of JSON for each event. Raises ListenRefused and whatever `open_service` raises.
    """
    live = LiveService(settings)  # a missing or damaged atlas is told here, in one line
    listener = _listen(address, port)
    host = f"[{address}]" if ":" in address else address
    if not is_loopback(address):
        say("Others can reach it: " + ("anybody may read." if public else "they need a key (genatlas key create)."))
    say(f"GenAtlas: http://{host}:{listener.getsockname()[1]}/docs")
    log_as_json()
    config = uvicorn.Config(
        create_app(live, settings, public),
        log_config=None,
        access_log=False,
        limit_concurrency=AT_ONCE,
        timeout_graceful_shutdown=GRACE_S,
        timeout_keep_alive=KEPT_S,
        server_header=False,
    )
    uvicorn.Server(config).run(sockets=[listener])


def _listen(address: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        listener = socket.socket(family)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
    except OSError as error:
        raise ListenRefused(
            f"Cannot listen on {address}, port {port}: {error.strerror}. Choose another: --port"
        ) from error
    listener.listen(BACKLOG)
    return listener
