"""What is known of one learner: values that the database gives out and takes in, and their JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, get_args

import msgspec

from study.errors import ProgressUnreadable

Status = Literal["known", "learning", "planned"]
Origin = Literal["told", "inferred"]
EventKind = Literal["created", "marked", "unmarked", "noted", "reviewed", "credited", "enrolled", "placed", "imported"]

STATUSES: tuple[Status, ...] = get_args(Status)
FORMAT = "genatlas-progress"
FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class Mark:
    """How a learner stands to a topic, and since when (UTC).

    `told` by the learner, or `inferred` by a placement, which then gives the `probability` that it is so.
    """

    status: Status
    at: datetime
    origin: Origin = "told"
    probability: float | None = None


@dataclass(frozen=True, slots=True)
class Memory:
    """What FSRS keeps about a topic that is reviewed; times in UTC.

    `stability` is the number of days after which 90 % are recalled, `difficulty` runs from 1 to 10. `credit`, from 0 to
    1, is for exercise since the last review; `due` has it counted in.
    """

    stability: float
    difficulty: float
    last_review: datetime
    due: datetime
    credit: float = 0.0


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the history, which only grows: `topic` is empty where the event is about the whole profile."""

    at: datetime
    kind: EventKind
    topic: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class Learner:
    """One learner as the database had it at one moment. Topics are named by id, also by ids that the atlas lacks."""

    name: str
    created: datetime
    marks: Mapping[str, Mark] = field(default_factory=dict[str, Mark])
    notes: Mapping[str, str] = field(default_factory=dict[str, str])
    memories: Mapping[str, Memory] = field(default_factory=dict[str, Memory])

    def having(self, status: Status) -> list[str]:
        """The topics of a status, by id."""
        return sorted(topic_id for topic_id, mark in self.marks.items() if mark.status == status)

    @property
    def topics(self) -> frozenset[str]:
        """Every topic that the learner has anything about."""
        return frozenset([*self.marks, *self.notes, *self.memories])


@dataclass(frozen=True, slots=True)
class Changes:
    """What is to be different about a learner: None takes out what there is. Events are added to the history."""

    marks: Mapping[str, Mark | None] = field(default_factory=dict[str, Mark | None])
    notes: Mapping[str, str | None] = field(default_factory=dict[str, str | None])
    memories: Mapping[str, Memory | None] = field(default_factory=dict[str, Memory | None])
    events: Sequence[Event] = ()


@dataclass(frozen=True, slots=True)
class Profile:
    """A learner as a line in a list."""

    name: str
    created: datetime
    known: int
    learning: int
    planned: int
    in_review: int


@dataclass(frozen=True, slots=True)
class ProgressFile:
    """One learner's data as a file: all of it, history included."""

    learner: Learner
    history: Sequence[Event]
    format: str = FORMAT
    version: int = FORMAT_VERSION


def progress_json(learner: Learner, history: Sequence[Event]) -> bytes:
    """Return all of a learner's data as indented JSON, which `read_progress` reads back (docs/formats.md)."""
    return msgspec.json.format(msgspec.json.encode(ProgressFile(learner, history)), indent=2) + b"\n"


def read_progress(data: bytes) -> ProgressFile:
    """Read what `progress_json` wrote. Raises ProgressUnreadable for anything else and for a newer version."""
    try:
        file = msgspec.json.decode(data, type=ProgressFile)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ProgressUnreadable(f"This is no exported progress: {error}") from error
    if file.format != FORMAT or file.version > FORMAT_VERSION:
        raise ProgressUnreadable(
            f"This file is {file.format} version {file.version}; this GenAtlas reads {FORMAT} up to version "
            f"{FORMAT_VERSION}. Update GenAtlas, or export it again with this one"
        )
    return file
