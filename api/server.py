"""The process that answers: where it listens, whom it lets in, how it ends."""

import ipaddress
import socket
from collections.abc import Callable

import uvicorn

from api.app import create_app
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

    Anybody may read, so that an address that others can reach is refused unless `public`. Raises ListenRefused and
    whatever `open_service` raises.
    """
    if not public and not _is_loopback(address):
        raise ListenRefused(
            f"Others can reach {address}, and the service asks nobody who they are. Say so: --public, best behind a "
            "proxy that checks; or leave --address at 127.0.0.1."
        )
    live = LiveService(settings)  # a missing or damaged atlas is told here, in one line
    listener = _listen(address, port)
    host = f"[{address}]" if ":" in address else address
    say(f"GenAtlas: http://{host}:{listener.getsockname()[1]}/docs")
    config = uvicorn.Config(
        create_app(live),
        log_level="warning",
        limit_concurrency=AT_ONCE,
        timeout_graceful_shutdown=GRACE_S,
        timeout_keep_alive=KEPT_S,
        server_header=False,
    )
    uvicorn.Server(config).run(sockets=[listener])


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


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
