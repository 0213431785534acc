"""The tables of learners' progress, version 2. Every time is UTC."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Float, ForeignKey, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from study.database import UtcTime

SCHEMA = 2
"""Version of the tables below."""

UPGRADES = {1: "ALTER TABLE genatlas_memory ADD COLUMN credit DOUBLE PRECISION NOT NULL DEFAULT 0"}
"""By version: what makes the next one of it."""


class Base(DeclarativeBase):
    """All tables have a prefix, so that a database may be shared with something else."""

    type_annotation_map = {datetime: UtcTime, float: Float(53)}  # noqa: RUF012 (read by SQLAlchemy)


class SchemaRow(Base):
    """The one row that says which version of the tables this is."""

    __tablename__ = "genatlas_schema"
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


class LearnerRow(Base):
    """A profile."""

    __tablename__ = "genatlas_learner"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    created: Mapped[datetime]


def _owner(primary: bool = True) -> Mapped[int]:
    return mapped_column(ForeignKey("genatlas_learner.id", ondelete="CASCADE"), primary_key=primary, index=not primary)


class MarkRow(Base):
    """How a learner stands to a topic."""

    __tablename__ = "genatlas_mark"
    learner_id: Mapped[int] = _owner()
    topic: Mapped[str] = mapped_column(String(400), primary_key=True)
    status: Mapped[str] = mapped_column(String(16))
    origin: Mapped[str] = mapped_column(String(16))
    probability: Mapped[float | None]
    at: Mapped[datetime]


class NoteRow(Base):
    """A learner's words about a topic."""

    __tablename__ = "genatlas_note"
    learner_id: Mapped[int] = _owner()
    topic: Mapped[str] = mapped_column(String(400), primary_key=True)
    text: Mapped[str] = mapped_column(Text)


class MemoryRow(Base):
    """What FSRS keeps about a topic."""

    __tablename__ = "genatlas_memory"
    learner_id: Mapped[int] = _owner()
    topic: Mapped[str] = mapped_column(String(400), primary_key=True)
    stability: Mapped[float]
    difficulty: Mapped[float]
    last_review: Mapped[datetime]
    due: Mapped[datetime]
    credit: Mapped[float]


class EventRow(Base):
    """One line of a learner's history; rows are added, and go only with the whole profile."""

    __tablename__ = "genatlas_event"
    id: Mapped[int] = mapped_column(primary_key=True)
    learner_id: Mapped[int] = _owner(primary=False)
    at: Mapped[datetime]
    kind: Mapped[str] = mapped_column(String(16))
    topic: Mapped[str] = mapped_column(String(400))
    detail: Mapped[dict[str, Any]] = mapped_column(JSON)
