"""A folder that appears whole: its files are written beside it and take its place in one step."""

import tempfile
from collections.abc import Iterable
from pathlib import Path

import msgspec

from graph import AtlasError

LIST = "genatlas-site.json"
"""The file that names all others: what is not in it was not written by us."""


class FolderRefused(AtlasError):
    """A folder cannot be replaced, because it holds what is not ours or cannot be written."""


def replace_folder(folder: Path, files: Iterable[tuple[str, bytes]]) -> tuple[int, int]:
    """Write files (path below the folder, content) as this folder and return how many they are and their bytes.

    A folder that we wrote before is replaced; one that holds anything else is left alone. An error or a kill on the way
    leaves the old one. Raises FolderRefused.
    """
    folder = folder.absolute()
    _refuse_foreign(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as beside:
            new = Path(beside) / "new"
            counted = _write(new, files)
            _take_place(new, folder, Path(beside) / "old")
    except OSError as error:
        raise FolderRefused(f"{error.filename or folder} cannot be written: {error.strerror}.") from error
    return counted


def _take_place(new: Path, folder: Path, old: Path) -> None:
    """Put the new folder where the old one stands, or the old one back."""
    if folder.exists():
        folder.replace(old)
    try:
        new.replace(folder)
    except OSError:
        if old.exists():
            old.replace(folder)
        raise


def _write(new: Path, files: Iterable[tuple[str, bytes]]) -> tuple[int, int]:
    names: list[str] = []
    size = 0
    made: set[Path] = set()
    for name, content in files:
        path = new / name
        if path.parent not in made:
            path.parent.mkdir(parents=True, exist_ok=True)
            made.add(path.parent)
        path.write_bytes(content)
        names.append(name)
        size += len(content)
    (new / LIST).write_bytes(msgspec.json.format(msgspec.json.encode(sorted(names)), indent=0) + b"\n")
    return len(names), size


def _refuse_foreign(folder: Path) -> None:
    """Raise unless the folder is missing, empty or holds nothing but what we wrote."""
    if not folder.exists() and not folder.is_symlink():
        return
    if folder.is_symlink() or not folder.is_dir():
        raise FolderRefused(f"{folder} is no folder. Name one that is empty, new, or an earlier export.")
    ours = {LIST, *_listed(folder)}
    found = (
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()
    )
    foreign = sorted(name for name in found if name not in ours)
    if foreign:
        more = f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""
        raise FolderRefused(
            f"{folder} holds what this export did not write: {', '.join(foreign[:3])}{more}. "
            "Nothing was changed. Name a folder of its own, or move these out."
        )


def _listed(folder: Path) -> list[str]:
    try:
        return msgspec.json.decode((folder / LIST).read_bytes(), type=list[str])
    except FileNotFoundError:
        return []
    except (OSError, msgspec.DecodeError) as error:
        raise FolderRefused(f"{folder / LIST} cannot be read: {error}. Nothing was changed.") from error
