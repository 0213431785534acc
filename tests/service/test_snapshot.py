import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from service.snapshot import (
    BuildRunning,
    SnapshotDamaged,
    SnapshotMissing,
    build_lock,
    current_name,
    open_current,
    write_snapshot,
)


def write(home: Path, snapshot_id: str, text: str = "atlas") -> None:
    def fill(folder: Path) -> None:
        (folder / "atlas.json").write_text(text)
        (folder / "lexical").mkdir()
        (folder / "lexical" / "words").write_text("words")

    write_snapshot(home, snapshot_id, "model", 384, {"topics": 1}, fill)


def test_a_written_snapshot_opens_and_verifies(tmp_path: Path) -> None:
    write(tmp_path, "one")
    snapshot = open_current(tmp_path)
    assert snapshot.manifest.id == "one"
    assert set(snapshot.manifest.files) == {"atlas.json", "lexical/words"}
    assert (snapshot.verified() / "atlas.json").read_text() == "atlas"


def test_before_the_first_build_the_error_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SnapshotMissing, match="genatlas build"):
        open_current(tmp_path)


@pytest.mark.parametrize("name", ["atlas.json", "lexical/words"])
def test_a_flipped_byte_is_found_and_its_file_named(tmp_path: Path, name: str) -> None:
    write(tmp_path, "one")
    snapshot = open_current(tmp_path)
    path = snapshot.folder / name
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)
    with pytest.raises(SnapshotDamaged, match=f"{path.name} does not match.*genatlas build") as caught:
        snapshot.verified(name.split("/")[0])
    assert caught.value.path == path


def test_only_the_files_that_are_asked_for_are_verified(tmp_path: Path) -> None:
    write(tmp_path, "one")
    snapshot = open_current(tmp_path)
    (snapshot.folder / "lexical" / "words").unlink()
    snapshot.verified("atlas.json")
    with pytest.raises(SnapshotDamaged, match="words is missing"):
        snapshot.verified("lexical")


def test_a_damaged_manifest_is_told_apart_from_a_missing_one(tmp_path: Path) -> None:
    write(tmp_path, "one")
    manifest = open_current(tmp_path).folder / "manifest.json"
    manifest.write_text("{")
    with pytest.raises(SnapshotDamaged, match=r"manifest\.json cannot be read"):
        open_current(tmp_path)
    manifest.unlink()
    with pytest.raises(SnapshotMissing, match="genatlas build"):
        open_current(tmp_path)


def test_a_failed_build_leaves_the_previous_snapshot_serving(tmp_path: Path) -> None:
    write(tmp_path, "one")

    def fail(folder: Path) -> None:
        (folder / "atlas.json").write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_snapshot(tmp_path, "two", "model", 384, {}, fail)
    assert open_current(tmp_path).manifest.id == "one"
    write(tmp_path, "two")
    assert open_current(tmp_path).manifest.id == "two"
    assert not list((tmp_path / "snapshots").glob("unfinished-*"))


KILLED = """
import os, signal, sys
from pathlib import Path
import service.snapshot as snapshot
home, moment = Path(sys.argv[1]), sys.argv[2]

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def fill(folder):
    (folder / "atlas.json").write_text("new")
    if moment == "filling":
        die()

real = snapshot._fsync
if moment == "syncing":
    snapshot._fsync = die
if moment == "switching":
    snapshot._replace_durably = die
with snapshot.build_lock(home):
    snapshot.write_snapshot(home, "two", "model", 384, {}, fill)
"""


@pytest.mark.parametrize("moment", ["filling", "syncing", "switching"])
def test_a_kill_at_any_moment_leaves_the_old_snapshot_serving_and_a_rerun_finishes(tmp_path: Path, moment: str) -> None:
    write(tmp_path, "one")
    command = [sys.executable, "-c", KILLED, str(tmp_path), moment]
    killed = subprocess.run(command, check=False, env=os.environ | {"PYTHONPATH": str(Path.cwd())})
    assert killed.returncode == -signal.SIGKILL
    assert open_current(tmp_path).verified("atlas.json").joinpath("atlas.json").read_text() == "atlas"
    with build_lock(tmp_path):  # the lock went with the killed process
        write(tmp_path, "two", "new")
    assert open_current(tmp_path).verified("atlas.json").joinpath("atlas.json").read_text() == "new"


def test_a_second_build_into_the_same_home_is_refused(tmp_path: Path) -> None:
    with build_lock(tmp_path), pytest.raises(BuildRunning, match="Another build is running"), build_lock(tmp_path):
        pass


def test_building_the_same_inputs_again_does_not_touch_the_serving_folder(tmp_path: Path) -> None:
    write(tmp_path, "one", "first")
    serving = open_current(tmp_path)
    write(tmp_path, "one", "second")
    assert serving.verified("atlas.json").joinpath("atlas.json").read_text() == "first"
    assert open_current(tmp_path).verified("atlas.json").joinpath("atlas.json").read_text() == "second"


def test_of_older_snapshots_only_the_previous_one_is_kept(tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        write(tmp_path, name)
    assert {path.name for path in (tmp_path / "snapshots").iterdir()} == {"two", "three"}
    assert current_name(tmp_path) == "three"
