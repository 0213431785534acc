"""Who did what with the keys, the runs and the learners' data: one line of JSON for each, in a file of the home."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path

FILE = "audit.jsonl"


def record(home: Path, who: str, action: str, **about: str) -> None:
    """Append a line. It is written at once, whole, and readable by the owner alone; secrets have no place in it."""
    line = {"at": datetime.now(UTC).isoformat(timespec="milliseconds"), "who": who, "action": action, **about}
    home.mkdir(parents=True, exist_ok=True)
    file = os.open(home / FILE, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, json.dumps(line, ensure_ascii=False).encode() + b"\n")
    finally:
        os.close(file)
