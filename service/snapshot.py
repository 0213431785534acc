"""Snapshots on disk: written beside the serving one, checked by hash, switched atomically.

    home/snapshots/<id>/…        the files of one build, with manifest.json (`<id>.2` for a second build of the same)
    home/current                 one line: the folder of the snapshot that serves
    home/build.lock              held while a build runs

`current` is replaced (write beside, fsync, rename) after everything that it names is on disk, so that a kill at any
moment leaves the previous snapshot serving.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from graph import AtlasError


class SnapshotMissing(AtlasError):
    """Nothing was built yet, or the snapshot that `current` names is gone."""


class SnapshotDamaged(AtlasError):
    """A file of the snapshot is not what was written. `path` names it."""

    def __init__(self, path: Path, what: str) -> None:
        self.path = path
        super().__init__(
            f"Snapshot {path.parent.name[:12]}: {path.name} {what}. It was not opened; "
            "the data is derived, so rebuild it: genatlas build --force"
        )


class BuildRunning(AtlasError):
    """Another process is building into the same home."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a snapshot consists of: SHA-256 of each file by its relative path, and the counts that were built."""

    id: str
    schema: int
    model: str
    dimension: int
    files: dict[str, str]
    counts: dict[str, int]


SCHEMA = 5
"""Version of the snapshot's layout. A snapshot of another version is not opened."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One opened snapshot: its folder and its manifest. Files are verified when they are asked for."""

    folder: Path
    manifest: Manifest

    def verified(self, *names: str) -> Path:
        """Return the folder after checking that the named files (all of them for no name) are what was written.

        A name stands for itself or for everything below it. Raises SnapshotDamaged for the first that differs.
        """
        for path, digest in self.manifest.files.items():
            if not names or any(path == name or path.startswith(f"{name}/") for name in names):
                verify(self.folder / path, digest)
        return self.folder


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(path: Path, digest: str) -> None:
    """Raise SnapshotDamaged unless the file is there and has this SHA-256."""
    try:
        found = sha256_of(path)
    except FileNotFoundError:
        raise SnapshotDamaged(path, "is missing") from None
    except OSError as error:
        raise SnapshotDamaged(path, f"cannot be read ({error.strerror})") from error
    if found != digest:
        raise SnapshotDamaged(path, "does not match its manifest")


def current_name(home: Path) -> str | None:
    """Name of the folder of the snapshot that serves, or None before the first build."""
    try:
        return (home / "current").read_text().strip() or None
    except FileNotFoundError:
        return None


def open_current(home: Path) -> Snapshot:
    """Open the snapshot that serves. Raises SnapshotMissing or SnapshotDamaged."""
    name = current_name(home)
    if name is None:
        raise SnapshotMissing(f"No atlas has been built in {home}. Build it: genatlas build")
    folder = home / "snapshots" / name
    path = folder / "manifest.json"
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except FileNotFoundError:
        raise SnapshotMissing(f"The snapshot {name[:12]} is gone from {home}. Build it again: genatlas build") from None
    except msgspec.DecodeError as error:
        raise SnapshotDamaged(path, f"cannot be read ({error})") from error
    if manifest.schema != SCHEMA:
        raise SnapshotMissing(f"The atlas in {home} was built by another version. Build it again: genatlas build")
    return Snapshot(folder, manifest)


@contextlib.contextmanager
def build_lock(home: Path) -> Generator[None]:
    """Hold the home's build lock. It goes with the process, however that ends. Raises BuildRunning."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / "build.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BuildRunning(f"Another build is running in {home}. Wait for it to end.") from None
        yield


def write_snapshot(
    home: Path, snapshot_id: str, model: str, dimension: int, counts: dict[str, int], fill: Callable[[Path], None]
) -> Snapshot:
    """Write a snapshot through `fill(folder)`, make it durable and let it serve; call it under `build_lock`.

    What an interrupted build left behind is removed first; of the older snapshots the previous one is kept, since a
    process that opened it may still read it.
    """
    snapshots = home / "snapshots"
    snapshots.mkdir(parents=True, exist_ok=True)
    previous = current_name(home)
    for leftover in snapshots.glob("unfinished-*"):
        shutil.rmtree(leftover)
    unfinished = snapshots / f"unfinished-{snapshot_id}"
    unfinished.mkdir()
    fill(unfinished)
    files = {str(path.relative_to(unfinished)): sha256_of(path) for path in sorted(_files(unfinished))}
    manifest = Manifest(snapshot_id, SCHEMA, model, dimension, files, counts)
    (unfinished / "manifest.json").write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1))
    for path in [*_files(unfinished), *(path for path in unfinished.rglob("*") if path.is_dir()), unfinished]:
        _fsync(path)
    final, again = snapshots / snapshot_id, 2
    while final.exists():  # built before from the same inputs, and perhaps serving: it is not touched
        final, again = snapshots / f"{snapshot_id}.{again}", again + 1
    unfinished.rename(final)
    _fsync(snapshots)
    _replace_durably(home / "current", f"{final.name}\n")
    for old in snapshots.iterdir():
        if old.name not in (final.name, previous):
            shutil.rmtree(old)
    return Snapshot(final, manifest)


def _files(folder: Path) -> Iterable[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def _replace_durably(path: Path, text: str) -> None:
    beside = path.with_name(f"{path.name}.new")
    beside.write_text(text)
    _fsync(beside)
    beside.replace(path)
    _fsync(path.parent)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
