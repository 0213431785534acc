"""The encoder's files: exported once into the home, and checked by hash before they are opened."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec

import search
from search import ModelUnavailable
from service.snapshot import SnapshotDamaged, sha256_of, verify

_HOUSE = Path(search.__file__).parent
_MADE_OF = [_HOUSE / "export_model.py", _HOUSE / "adapter" / "adapter_model.safetensors"]
MODEL = f"all-MiniLM-L6-v2.{hashlib.sha256(b''.join(path.read_bytes() for path in _MADE_OF)).hexdigest()[:12]}"
"""Name of the encoder, of its change and of the code that exports it, which knows the weights' hash: vectors of one
name agree."""

_HASHES = "sha256.json"


def prepare_model(home: Path) -> Path:
    """Return the encoder's folder, exporting it first where it is missing or damaged (some 15 s and torch, once).

    Call it under the build lock. Raises ModelUnavailable.
    """
    folder = home / "models" / MODEL
    try:
        return verified_model(home)
    except ModelUnavailable:
        shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, "-m", "search.export_model", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = done.stderr.strip().splitlines() or ["no message"]
        raise ModelUnavailable(f"The encoder could not be exported: {last[-1]}")
    hashes = {path.name: sha256_of(path) for path in sorted(folder.iterdir())}
    (folder / _HASHES).write_bytes(msgspec.json.encode(hashes))
    return folder


def verified_model(home: Path, *names: str) -> Path:
    """Return the encoder's folder after checking the named files, or all of them. Raises ModelUnavailable."""
    folder = home / "models" / MODEL
    try:
        hashes = msgspec.json.decode((folder / _HASHES).read_bytes(), type=dict[str, str])
        for name, digest in hashes.items():
            if not names or name in names:
                verify(folder / name, digest)
    except (OSError, msgspec.DecodeError, SnapshotDamaged) as error:
        raise ModelUnavailable(
            f"The encoder in {folder} is missing or damaged. Make it again: genatlas build"
        ) from error
    return folder
