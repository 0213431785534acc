import subprocess
import sys
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, create_engine, inspect

from study import (
    Changes,
    Event,
    Learner,
    Mark,
    Memory,
    ProfileExists,
    ProfileNameInvalid,
    ProfileUnknown,
    ProgressUnavailable,
    ProgressUnreadable,
    Status,
    mark_topics,
    progress_json,
    read_progress,
    take_note,
    unmark_topics,
)
from study.database import sqlite_url
from study.learner import ProgressFile
from study.progress import ProgressStore
from tests.conftest import ROOT
from tests.study import progress_writer

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
KILLS = 3


@pytest.fixture
def store(database_url: str) -> Iterator[ProgressStore]:
    opened = ProgressStore(database_url)
    opened.create("ann")
    yield opened
    opened.close()


@contextmanager
def raw(url: str) -> Generator[Connection]:
    """The database itself, past the store."""
    engine = create_engine(url)
    with engine.begin() as connection:
        yield connection
    engine.dispose()


def marks(store: ProgressStore, topic_ids: list[str], status: Status = "known", name: str = "ann") -> Learner:
    return store.change(name, lambda learner: mark_topics(learner, topic_ids, status, NOW))


# What is kept


def test_what_was_kept_is_there_for_the_next_process(store: ProgressStore, database_url: str) -> None:
    memory = Memory(3.5, 4.25, NOW, NOW + timedelta(days=3), 0.25)
    store.change(
        "ann",
        lambda _: Changes(
            {"gan": Mark("learning", NOW), "vae": Mark("known", NOW, "inferred", 0.93)},
            {"gan": "min over max"},
            {"vae": memory},
            [Event(NOW, "placed", "vae", {"asked": 7})],
        ),
    )
    again = ProgressStore(database_url)
    learner = again.learner("ann")
    assert learner.marks == {"gan": Mark("learning", NOW), "vae": Mark("known", NOW, "inferred", 0.93)}
    assert learner.notes == {"gan": "min over max"}
    assert learner.memories == {"vae": memory}
    assert again.history("ann")[-1] == Event(NOW, "placed", "vae", {"asked": 7})
    again.close()


def test_times_of_any_zone_come_back_as_the_same_moment_in_utc(store: ProgressStore) -> None:
    there = datetime(2026, 3, 2, 23, 0, tzinfo=timezone(timedelta(hours=-5)))
    learner = store.change("ann", lambda _: Changes(marks={"gan": Mark("known", there)}))
    assert learner.marks["gan"].at == there
    assert store.learner("ann").marks["gan"].at.utcoffset() == timedelta(0)


def test_learners_do_not_see_each_other(store: ProgressStore) -> None:
    store.create("bob")
    marks(store, ["gan"])
    marks(store, ["vae"], "planned", "bob")
    assert [(each.name, each.known, each.planned) for each in store.profiles()] == [("ann", 1, 0), ("bob", 0, 1)]
    store.delete("ann")
    assert [each.name for each in store.profiles()] == ["bob"]
    assert store.learner("bob").having("planned") == ["vae"]


def test_delete_leaves_no_row_behind(store: ProgressStore, database_url: str) -> None:
    store.change("ann", lambda _: Changes({"a": Mark("known", NOW)}, {"a": "n"}, {"a": Memory(1, 5, NOW, NOW)}))
    store.delete("ann")
    with raw(database_url) as connection:
        names = inspect(connection).get_table_names()
        rows = {name: connection.exec_driver_sql(f"SELECT count(*) FROM {name}").scalar() for name in names}  # noqa: S608 (our own tables)
    assert rows == {name: name == "genatlas_schema" for name in names}
    assert len(names) == 6


def test_the_history_is_in_the_order_of_what_happened_and_only_grows(store: ProgressStore) -> None:
    marks(store, ["gan", "vae"])
    before = store.history("ann")
    store.change("ann", lambda learner: unmark_topics(learner, ["gan"], NOW))
    store.change("ann", lambda learner: take_note(learner, "vae", "a bound", NOW))
    after = store.history("ann")
    assert after[: len(before)] == before
    assert [(each.kind, each.topic) for each in after] == [
        ("created", ""),
        ("marked", "gan"),
        ("marked", "vae"),
        ("unmarked", "gan"),
        ("noted", "vae"),
    ]


def test_an_edit_that_fails_changes_nothing(store: ProgressStore) -> None:
    def fails(_: Learner) -> Changes:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store.change("bob", fails, create=True)
    assert [each.name for each in store.profiles()] == ["ann"]


# Marks and notes


def test_marking_again_what_is_marked_so_changes_nothing(store: ProgressStore) -> None:
    first = marks(store, ["gan"])
    assert marks(store, ["gan", "gan"]) == first
    assert len(store.history("ann")) == 2


def test_a_learners_word_replaces_what_a_placement_inferred() -> None:
    learner = Learner("ann", NOW, {"gan": Mark("known", NOW, "inferred", 0.9)})
    assert mark_topics(learner, ["gan"], "known", NOW).marks == {"gan": Mark("known", NOW)}


def test_an_empty_note_takes_the_note_away(store: ProgressStore) -> None:
    store.change("ann", lambda learner: take_note(learner, "gan", "  two players \n", NOW))
    assert store.learner("ann").notes == {"gan": "two players"}
    store.change("ann", lambda learner: take_note(learner, "gan", " ", NOW))
    assert store.learner("ann").notes == {}


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["known", "learning", "planned", None])), max_size=12)
)
def test_the_last_mark_counts_and_each_change_has_one_line_of_history(said: list[tuple[str, Status | None]]) -> None:
    store = ProgressStore("sqlite://")
    store.create("ann")
    expected: dict[str, str] = {}
    changes = 0
    for topic_id, status in said:
        changes += expected.get(topic_id) != status
        if status is None:
            expected.pop(topic_id, None)
            store.change("ann", lambda learner, each=topic_id: unmark_topics(learner, [each], NOW))
        else:
            expected[topic_id] = status
            marks(store, [topic_id], status)
    assert {topic_id: mark.status for topic_id, mark in store.learner("ann").marks.items()} == expected
    assert len(store.history("ann")) == 1 + changes
    store.close()


# Several at once


def test_threads_that_write_at_once_lose_nothing(store: ProgressStore) -> None:
    topics = [f"t{number}" for number in range(40)]
    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(marks, store, [topic_id]) for topic_id in topics]:
            done.result()
    assert set(store.learner("ann").marks) == set(topics)


def test_a_change_builds_on_what_the_writer_before_it_left(store: ProgressStore) -> None:
    """Each edit counts one up from what it read: lost updates would show as a smaller count."""

    def count(learner: Learner) -> Changes:
        return Changes(notes={"gan": str(int(learner.notes.get("gan", "0")) + 1)})

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(store.change, "ann", count) for _ in range(40)]:
            done.result()
    assert store.learner("ann").notes["gan"] == "40"


def test_processes_that_begin_and_write_at_once_lose_nothing(store: ProgressStore, database_url: str) -> None:
    writers = [_writer(database_url, f"w{number}", 25) for number in range(4)]
    for writer in writers:
        said, wrong = writer.communicate(timeout=120)
        assert writer.returncode == 0, wrong
        assert said.count("\n") == 25
    assert set(store.learner("ann").marks) == {f"w{writer}/{number}" for writer in range(4) for number in range(25)}


def test_processes_that_open_a_new_database_at_once_all_get_it(database_url: str) -> None:
    program = (
        "import sys; from study.progress import ProgressStore\n"
        "store = ProgressStore(sys.argv[1]); store.create(sys.argv[2])"
    )
    command = [sys.executable, "-c", program, database_url]
    openers = [
        subprocess.Popen([*command, f"p{number}"], cwd=ROOT, stderr=subprocess.PIPE, text=True) for number in range(4)
    ]
    for opener in openers:
        _, wrong = opener.communicate(timeout=120)
        assert opener.returncode == 0, wrong
    store = ProgressStore(database_url)
    assert [each.name for each in store.profiles()] == ["p0", "p1", "p2", "p3"]
    store.close()


def test_a_kill_in_the_middle_of_writing_loses_nothing_that_was_acknowledged(
    store: ProgressStore, database_url: str
) -> None:
    acknowledged: set[str] = set()
    for kill in range(KILLS):
        writers = [_writer(database_url, f"k{kill}{side}", 100_000) for side in "ab"]
        first, second = writers
        assert first.stdout is not None
        assert second.stdout is not None
        for _ in range(3 + 5 * kill):
            acknowledged.add(first.stdout.readline().strip())
        for writer in writers:
            writer.kill()
        for writer in writers:
            said, _ = writer.communicate(timeout=60)
            acknowledged.update(line.strip() for line in said.splitlines(keepends=True) if line.endswith("\n"))
    kept = store.learner("ann").marks
    assert len(acknowledged) >= sum(3 + 5 * kill for kill in range(KILLS))
    assert acknowledged <= set(kept)
    logged = [each.topic for each in store.history("ann") if each.kind == "marked"]
    assert sorted(logged) == sorted(kept), "a mark and its line in the history are one"
    if database_url.startswith("sqlite"):
        with raw(database_url) as connection:
            assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"


def _writer(url: str, name: str, count: int) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", progress_writer.__name__, url, name, str(count)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


# Export and back

TIMES = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))
WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=30)
MARKS = st.builds(
    Mark,
    st.sampled_from(["known", "learning", "planned"]),
    TIMES,
    st.sampled_from(["told", "inferred"]),
    st.none() | st.floats(0, 1),
)
MEMORIES = st.builds(Memory, st.floats(0.001, 36500), st.floats(1, 10), TIMES, TIMES)
LEARNERS = st.builds(
    Learner,
    st.just("ann"),
    TIMES,
    st.dictionaries(WORDS, MARKS, max_size=4),
    st.dictionaries(WORDS, WORDS.map(str.strip).filter(bool), max_size=4),
    st.dictionaries(WORDS, MEMORIES, max_size=4),
)


@given(LEARNERS)
def test_an_export_restores_the_same_learner(learner: Learner) -> None:
    history = [Event(learner.created, "created"), Event(NOW, "noted", "gan", {"text": "ζ"})]
    store = ProgressStore("sqlite://")
    restored = store.restore(read_progress(progress_json(learner, history)))
    assert restored == learner
    assert store.learner("ann") == learner
    *kept, last = store.history("ann")
    assert kept == history
    assert last.kind == "imported"
    store.close()


def test_an_export_does_not_overwrite_a_profile_and_may_take_another_name(store: ProgressStore) -> None:
    marks(store, ["gan"])
    exported = store.exported("ann")
    with pytest.raises(ProfileExists, match="nothing was changed"):
        store.restore(exported)
    store.restore(exported, "copy of ann")
    assert store.learner("copy of ann").marks == store.learner("ann").marks


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe",
        b"[1, 2]",
        b'{"learner": {"name": "ann"}}',
        progress_json(Learner("ann", NOW), ()).replace(b"genatlas-progress", b"anki-progress"),
        progress_json(Learner("ann", NOW, {"gan": Mark("known", NOW)}), ()).replace(b'"known"', b'"knwon"'),
    ],
)
def test_what_is_no_export_is_refused(data: bytes) -> None:
    with pytest.raises(ProgressUnreadable):
        read_progress(data)


def test_an_export_of_a_newer_version_is_refused() -> None:
    data = progress_json(Learner("ann", NOW), ()).replace(b'"version": 1', b'"version": 2')
    with pytest.raises(ProgressUnreadable, match="Update GenAtlas"):
        read_progress(data)


# What can go wrong


def test_an_unknown_profile_is_named_with_the_nearest(store: ProgressStore) -> None:
    store.create("anna")
    with pytest.raises(ProfileUnknown, match="Nearest: anna, ann") as raised:
        store.learner("annna")
    assert raised.value.nearest == ("anna", "ann")
    for call in (store.history, store.delete, store.exported):
        with pytest.raises(ProfileUnknown):
            call("annna")


@pytest.mark.parametrize("name", ["", " ann", "-rf", "a" * 65, "ann/../bob", "ann\nbob", "_"])
def test_a_name_that_would_be_hard_to_type_is_refused(store: ProgressStore, name: str) -> None:
    with pytest.raises(ProfileNameInvalid):
        store.create(name)
    with pytest.raises(ProfileNameInvalid):
        store.restore(ProgressFile(Learner("ann", NOW), ()), name or "/")


@pytest.mark.parametrize("name", ["Zoë", "ann b.", "ann@example.org", "李"])
def test_names_of_people_are_names_of_profiles(store: ProgressStore, name: str) -> None:
    store.create(name)
    assert name in {each.name for each in store.profiles()}


def test_a_file_that_is_no_database_is_told_and_left_alone(tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    other.write_bytes(b"These are no pages of SQLite. " * 200)
    before = other.read_bytes()
    with pytest.raises(ProgressUnreadable, match=r"other\.db.*file is not a database"):
        ProgressStore(sqlite_url(other))
    assert other.read_bytes() == before


def test_a_newer_schema_is_refused_and_left_alone(store: ProgressStore, database_url: str) -> None:
    store.close()
    with raw(database_url) as connection:
        connection.exec_driver_sql("UPDATE genatlas_schema SET version = 3")
    with pytest.raises(ProgressUnreadable, match="version 3 of the tables; this GenAtlas knows 2"):
        ProgressStore(database_url)


def test_tables_of_version_1_are_brought_up_to_date_with_all_that_they_hold(database_url: str) -> None:
    made = ProgressStore(database_url)
    made.create("ann")
    memory = Memory(3.5, 4.25, NOW, NOW + timedelta(days=3), 0.25)
    made.change("ann", lambda _: Changes({"gan": Mark("known", NOW)}, memories={"gan": memory}))
    made.close()
    with raw(database_url) as connection:
        connection.exec_driver_sql("ALTER TABLE genatlas_memory DROP COLUMN credit")
        connection.exec_driver_sql("UPDATE genatlas_schema SET version = 1")
    with ThreadPoolExecutor(4) as pool:
        opened = list(pool.map(ProgressStore, [database_url] * 4))
    for each in opened:
        assert each.learner("ann").memories == {"gan": replace(memory, credit=0.0)}
        assert each.learner("ann").having("known") == ["gan"]
        each.close()


@pytest.mark.parametrize("url", ["nonsense", "foo://x", "sqlite:////proc/none/progress.db"])
def test_a_database_that_cannot_be_opened_is_told(url: str) -> None:
    with pytest.raises(ProgressUnavailable):
        ProgressStore(url)


def test_a_password_is_never_shown() -> None:
    with pytest.raises(ProgressUnavailable) as raised:
        ProgressStore("mysql+nodriver://ann:hunter2@127.0.0.1/x")
    assert "hunter2" not in str(raised.value)
