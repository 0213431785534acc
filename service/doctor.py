"""`genatlas doctor`: does this installation work, part by part?"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from service.facade import open_service
from service.messages import user_message
from service.model import verified_model
from service.settings import Settings, SettingsInvalid
from service.snapshot import open_current


@dataclass(frozen=True, slots=True)
class Finding:
    """One part of the installation, whether it works, and what was seen."""

    part: str
    ok: bool
    detail: str


def examine() -> list[Finding]:
    """Examine every part; one that fails does not hide the others."""
    return list(_examine())


def _examine() -> Iterator[Finding]:
    yield Finding("Python", sys.version_info >= (3, 11), sys.version.split()[0])
    parts: list[tuple[str, Callable[[], str]]] = [
        ("settings", lambda: f"home {Settings.read().home}, corpus {Settings.read().corpus}"),
        _atlas(),
        ("encoder", lambda: str(verified_model(Settings.read().home).name)),
        ("search", _search),
        ("demos", _demos),
    ]
    for part, look in parts:
        try:
            yield Finding(part, True, look())
        except Exception as error:  # any fault of a part is what a doctor is there to report
            yield Finding(part, False, user_message(error) or f"{type(error).__name__}: {error}")


def _atlas() -> tuple[str, Callable[[], str]]:
    """Where the atlas is read: a snapshot of the home, or a server. Settings that are wrong are told by their part."""
    try:
        on_server = Settings.read().store == "neo4j"
    except SettingsInvalid:
        on_server = False
    return ("server", _server) if on_server else ("snapshot", _snapshot)


def _server() -> str:
    from service.on_neo4j import ServerAtlas

    opened = ServerAtlas.open(Settings.read())
    return f"{opened.id[:12]}, {opened.counts['topics']:,} topics"


def _snapshot() -> str:
    snapshot = open_current(Settings.read().home)
    snapshot.verified()
    files = len(snapshot.manifest.files)
    return f"{snapshot.manifest.id[:12]}, {files} files as written, {snapshot.manifest.counts['topics']:,} topics"


def _search() -> str:
    service = open_service()
    topic = service.store.topics()[0]
    hits = service.search(topic.title).hits
    if topic.id not in [hit.topic.id for hit in hits]:
        raise RuntimeError(f'a search for "{topic.title}" does not find that topic')
    return f'"{topic.title}" finds {hits[0].topic.id}'


def _demos() -> str:
    infos = open_service().demos()
    return f"{sum(info.ready for info in infos)} of {len(infos)} can be run"
