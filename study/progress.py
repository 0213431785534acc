"""Learners' progress in a database: SQLite in a file by default, any other that SQLAlchemy knows by its URL.

Every change is one transaction that is on disk when the call returns: a process that is killed afterwards, or a machine
that loses its power, loses nothing that was acknowledged. Writers wait for each other, readers for nobody (SQLite's
write-ahead log). Loading SQLAlchemy takes about half a second, so this module is imported where it is needed.
"""

import re
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, cast

from rapidfuzz import fuzz, process
from sqlalchemy import DDL, URL, delete, func, inspect, select, update
from sqlalchemy.exc import ArgumentError, DatabaseError, IntegrityError, NoSuchModuleError, OperationalError
from sqlalchemy.orm import Session

from study.database import READING, open_database
from study.errors import ProfileExists, ProfileNameInvalid, ProfileUnknown, ProgressUnavailable, ProgressUnreadable
from study.learner import Changes, Event, Learner, Mark, Memory, Profile, ProgressFile
from study.progress_tables import (
    SCHEMA,
    UPGRADES,
    Base,
    EventRow,
    LearnerRow,
    MarkRow,
    MemoryRow,
    NoteRow,
    SchemaRow,
)

_NAME = re.compile(r"[^\W_][\w .@-]{0,63}")


class ProgressStore:
    """The profiles of one database. Safe to share between threads, and the database between processes.

    Methods raise ProfileUnknown for a name that there is not, and ProgressUnavailable where the database does not
    answer, is full or may not be written; nothing is changed then.
    """

    def __init__(self, url: str | URL) -> None:
        """Open the database, make its tables where there are none, and bring older ones up to date.

        Raises ProgressUnavailable, and ProgressUnreadable for a file that is no database or that a newer GenAtlas made.
        """
        try:
            self._engine = open_database(url)
        except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
            raise ProgressUnavailable(
                f"GENATLAS_PROGRESS_URL names no database that can be opened here: {error}. It is written as "
                "postgresql+psycopg://user@host/name, and the driver it names must be installed"
            ) from error
        self._where = self._engine.url.render_as_string()  # without the password
        self._make_tables()

    def close(self) -> None:
        """Close the connections that are kept open."""
        self._engine.dispose()

    def profiles(self) -> list[Profile]:
        """All profiles, by name."""
        with self._reading() as session:
            counts: dict[tuple[int, str], int] = {
                (owner, status): count
                for owner, status, count in session.execute(
                    select(MarkRow.learner_id, MarkRow.status, func.count()).group_by(
                        MarkRow.learner_id, MarkRow.status
                    )
                )
            }
            reviewed = dict[int, int](
                session.execute(select(MemoryRow.learner_id, func.count()).group_by(MemoryRow.learner_id)).all()
            )
            return [
                Profile(
                    name=row.name,
                    created=row.created,
                    known=counts.get((row.id, "known"), 0),
                    learning=counts.get((row.id, "learning"), 0),
                    planned=counts.get((row.id, "planned"), 0),
                    in_review=reviewed.get(row.id, 0),
                )
                for row in session.scalars(select(LearnerRow).order_by(LearnerRow.name))
            ]

    def learner(self, name: str) -> Learner:
        """A learner with all marks, notes and memories, as they are at this moment."""
        with self._reading() as session:
            return _learner(session, _row(session, name))

    def history(self, name: str) -> list[Event]:
        """Everything that happened, first things first."""
        with self._reading() as session:
            return _history(session, _row(session, name))

    def create(self, name: str) -> Learner:
        """Add an empty profile. Raises ProfileExists and ProfileNameInvalid."""
        with self._writing() as session:
            return _learner(session, _new_row(session, name, datetime.now(UTC)))

    def change(self, name: str, edit: Callable[[Learner], Changes], create: bool = False) -> Learner:
        """Apply what `edit` makes of the learner, and return the learner afterwards.

        No other writer comes between what `edit` sees and what is written. With `create` a profile that there is not
        begins empty.
        """
        with self._writing() as session:
            if create and session.scalar(select(LearnerRow.id).where(LearnerRow.name == name)) is None:
                _new_row(session, name, datetime.now(UTC))
            row = _row(session, name, lock=True)
            _apply(session, row, edit(_learner(session, row)))
            session.flush()
            return _learner(session, row)

    def delete(self, name: str) -> None:
        """Delete a profile with everything that belongs to it, history included."""
        with self._writing() as session:
            row = _row(session, name, lock=True)
            for table in (MarkRow, NoteRow, MemoryRow, EventRow):
                session.execute(delete(table).where(table.learner_id == row.id))
            session.delete(row)

    def exported(self, name: str) -> ProgressFile:
        """All of a learner's data, of one moment."""
        with self._reading() as session:
            row = _row(session, name)
            return ProgressFile(_learner(session, row), _history(session, row))

    def restore(self, file: ProgressFile, name: str | None = None) -> Learner:
        """Add a profile from exported data, under its own name or another.

        Raises ProfileExists and ProfileNameInvalid; nothing is added then.
        """
        with self._writing() as session:
            row = _new_row(session, name or file.learner.name, file.learner.created, greet=False)
            learner = file.learner
            restored = Event(datetime.now(UTC), "imported", detail={"from": learner.name})
            _apply(session, row, Changes(learner.marks, learner.notes, learner.memories, [*file.history, restored]))
            session.flush()
            return _learner(session, row)

    def _make_tables(self) -> None:
        with self._answering():
            if inspect(self._engine).has_table(SchemaRow.__tablename__):
                with self._reading() as session:
                    version = session.scalar(select(func.max(SchemaRow.version)))
                if version in UPGRADES:
                    version = self._upgraded()
            else:
                self._created()
                version = SCHEMA
        if version != SCHEMA:
            self.close()
            raise ProgressUnreadable(
                f"The progress in {self._where} has version {version} of the tables; this GenAtlas knows {SCHEMA}. "
                "Nothing was changed. Update GenAtlas, or name another database: GENATLAS_PROGRESS_URL"
            )

    def _created(self) -> None:
        """Make the tables, or take those that another process has made at the same moment."""
        try:
            with self._writing() as session:
                Base.metadata.create_all(session.connection())
                if session.scalar(select(SchemaRow.version)) is None:
                    session.add(SchemaRow(version=SCHEMA))
        except (ProgressUnavailable, ProgressUnreadable):
            if not inspect(self._engine).has_table(SchemaRow.__tablename__):
                raise

    def _upgraded(self) -> int:
        """Bring older tables up to date, all of it or nothing, and return the version that there is then."""
        with self._writing() as session:
            row = session.scalars(select(SchemaRow).with_for_update()).one()  # another process may have been first
            version = row.version
            while version in UPGRADES:
                session.connection().execute(DDL(UPGRADES[version]))
                version += 1
            session.execute(update(SchemaRow).values(version=version))
            return version

    @contextmanager
    def _reading(self) -> Generator[Session]:
        """One moment of the database, which no writer changes."""
        with self._answering(), Session(self._engine.execution_options(**READING)) as session, session.begin():
            yield session

    @contextmanager
    def _writing(self) -> Generator[Session]:
        """One transaction: all of it is on disk at the end, or nothing."""
        with self._answering(), Session(self._engine, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def _answering(self) -> Generator[None]:
        """Put the database's faults into words."""
        try:
            yield
        except IntegrityError as error:
            raise ProgressUnavailable(
                f"Another writer was faster at {self._where}; nothing was changed. Try again"
            ) from error
        except OperationalError as error:
            raise ProgressUnavailable(
                f"The progress in {self._where} cannot be read or written at present: {error.orig}. Nothing was changed"
            ) from error
        except DatabaseError as error:
            raise ProgressUnreadable(
                f"{self._where} cannot be read as learners' progress: {error.orig}. Nothing was changed. Bring back a "
                "copy of it, or move it out of the way: a new one is begun where there is none"
            ) from error


def _row(session: Session, name: str, lock: bool = False) -> LearnerRow:
    """A profile's row; with `lock` other writers of a server database wait for this one."""
    found = select(LearnerRow).where(LearnerRow.name == name)
    row = session.scalar(found.with_for_update() if lock else found)
    if row is None:
        names = session.scalars(select(LearnerRow.name)).all()
        near = process.extract(name, names, scorer=fuzz.ratio, limit=3, score_cutoff=60)
        raise ProfileUnknown(name, [each for each, _, _ in near])
    return row


def _new_row(session: Session, name: str, created: datetime, greet: bool = True) -> LearnerRow:
    if not _NAME.fullmatch(name):
        raise ProfileNameInvalid(name)
    if session.scalar(select(LearnerRow.id).where(LearnerRow.name == name)) is not None:
        raise ProfileExists(name)
    row = LearnerRow(name=name, created=created)
    session.add(row)
    session.flush()
    if greet:
        _apply(session, row, Changes(events=[Event(created, "created")]))
    return row


def _learner(session: Session, row: LearnerRow) -> Learner:
    marks = session.scalars(select(MarkRow).where(MarkRow.learner_id == row.id).order_by(MarkRow.topic))
    notes = session.scalars(select(NoteRow).where(NoteRow.learner_id == row.id).order_by(NoteRow.topic))
    memories = session.scalars(select(MemoryRow).where(MemoryRow.learner_id == row.id).order_by(MemoryRow.topic))
    return Learner(
        row.name,
        row.created,
        {
            each.topic: Mark(cast("Any", each.status), each.at, cast("Any", each.origin), each.probability)
            for each in marks
        },
        {each.topic: each.text for each in notes},
        {
            each.topic: Memory(each.stability, each.difficulty, each.last_review, each.due, each.credit)
            for each in memories
        },
    )


def _history(session: Session, row: LearnerRow) -> list[Event]:
    events = session.scalars(select(EventRow).where(EventRow.learner_id == row.id).order_by(EventRow.id))
    return [Event(each.at, cast("Any", each.kind), each.topic, each.detail) for each in events]


def _apply(session: Session, row: LearnerRow, changes: Changes) -> None:
    """Write changes into the rows of a learner."""
    for topic, mark in changes.marks.items():
        if mark is None:
            _drop(session, MarkRow, row, topic)
        else:
            values = {"status": mark.status, "origin": mark.origin, "probability": mark.probability, "at": mark.at}
            session.merge(MarkRow(learner_id=row.id, topic=topic, **values))
    for topic, text in changes.notes.items():
        if text is None:
            _drop(session, NoteRow, row, topic)
        else:
            session.merge(NoteRow(learner_id=row.id, topic=topic, text=text))
    for topic, memory in changes.memories.items():
        if memory is None:
            _drop(session, MemoryRow, row, topic)
        else:
            values = {"stability": memory.stability, "difficulty": memory.difficulty,
                      "last_review": memory.last_review, "due": memory.due, "credit": memory.credit}  # fmt: skip
            session.merge(MemoryRow(learner_id=row.id, topic=topic, **values))
    for each in changes.events:
        session.add(EventRow(learner_id=row.id, at=each.at, kind=each.kind, topic=each.topic, detail=dict(each.detail)))
        session.flush()  # one by one: their order is their number


def _drop(
    session: Session, table: type[MarkRow] | type[NoteRow] | type[MemoryRow], row: LearnerRow, topic: str
) -> None:
    session.execute(delete(table).where(table.learner_id == row.id, table.topic == topic))
