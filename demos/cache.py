"""Small JSON files that can be thrown away: written whole or not at all, and checked before they are believed."""

import contextlib
import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

KEPT = 500  # files in one folder; the oldest go first


def read(path: Path) -> Any:
    """Return what `write` put there; None when there is nothing, or when it is damaged: then it is removed."""
    try:
        digest, _, payload = path.read_bytes().partition(b"\n")
    except FileNotFoundError:
        return None
    if digest != _digest(payload):
        path.unlink(missing_ok=True)
        return None
    return json.loads(payload)


def write(path: Path, value: object) -> None:
    """Put plain data (NaN and infinities included) at `path` in one step; a kill leaves the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    payload = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", suffix=".new", delete=False) as new:
        new.write(_digest(payload) + b"\n" + payload)
    os.replace(new.name, path)  # noqa: PTH105 (the temporary file is known by its name only)
    _forget_the_oldest(path.parent)


def _digest(payload: bytes) -> bytes:
    return hashlib.sha256(payload).hexdigest().encode()


def _forget_the_oldest(folder: Path) -> None:
    files = list(folder.glob("*.json"))
    if len(files) > KEPT:
        ages: list[tuple[float, Path]] = []
        for file in files:
            with contextlib.suppress(FileNotFoundError):  # another process forgot it first
                ages.append((file.stat().st_mtime, file))
        for _, file in sorted(ages)[:-KEPT]:
            file.unlink(missing_ok=True)
