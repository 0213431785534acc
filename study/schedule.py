"""Laying a study path out over days."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta
from itertools import islice

from study.errors import TooLittleTime
from study.path import Step, StudyPath

REVIEW_AFTER_DAYS = (1, 7, 16, 35)
"""Days from the study of a topic to each of its reviews: the growing intervals of Woźniak's first table (1985)."""
REVIEW_MINUTES = 2
"""Time to recall one topic, on top of the day's minutes."""


@dataclass(frozen=True, slots=True)
class Session:
    """A piece of one step on one day. `day` counts from 1; a step longer than what a day has left goes on the next."""

    day: int
    step: Step
    minutes: int
    continues: bool


@dataclass(frozen=True, slots=True)
class StudyTimes:
    """When somebody studies: this many minutes on each of these weekdays (Monday is 0), from `start` to `end`.

    Both ends are included. Raises ValueError below 5 minutes, without a weekday, and for an end before the start.
    """

    start: date
    minutes: int
    weekdays: frozenset[int] = frozenset(range(7))
    end: date | None = None

    def __post_init__(self) -> None:
        if self.minutes < 5:
            raise ValueError(f"minutes a day must be at least 5, got {self.minutes}")
        if not self.weekdays or not self.weekdays <= set(range(7)):
            raise ValueError(f"weekdays must be some of 0 (Monday) to 6, got {sorted(self.weekdays)}")
        if self.end is not None and self.end < self.start:
            raise ValueError(f"the end, {self.end}, lies before the start, {self.start}")

    def dates(self) -> Iterator[date]:
        """The days of study, without end where none is set."""
        day = self.start
        while self.end is None or day <= self.end:
            if day.weekday() in self.weekdays:
                yield day
            day += timedelta(days=1)

    def lasting(self, days: int) -> "StudyTimes":
        """The same, ending with so many days of study."""
        return replace(self, end=list(islice(self.dates(), days))[-1])

    @property
    def total(self) -> int | None:
        """Minutes in all, None without an end."""
        return None if self.end is None else self.minutes * sum(1 for _ in self.dates())


@dataclass(frozen=True, slots=True)
class StudyDay:
    """One date: what is studied, and which steps of earlier days are recalled."""

    date: date
    sessions: tuple[Session, ...]
    reviews: tuple[Step, ...]

    @property
    def minutes(self) -> int:
        """Study and recall together."""
        return sum(session.minutes for session in self.sessions) + REVIEW_MINUTES * len(self.reviews)


def schedule(path: StudyPath, minutes_a_day: int) -> tuple[Session, ...]:
    """Return the path's sessions in order, at most `minutes_a_day` on each day. Raises ValueError below 5."""
    if minutes_a_day < 5:
        raise ValueError(f"minutes a day must be at least 5, got {minutes_a_day}")
    sessions: list[Session] = []
    day, left = 1, minutes_a_day
    for step in path.steps:
        to_do, continues = step.minutes, False
        while to_do:
            if left == 0:
                day, left = day + 1, minutes_a_day
            now = min(to_do, left)
            sessions.append(Session(day, step, now, continues))
            to_do, left, continues = to_do - now, left - now, True
    return tuple(sessions)


def timetable(path: StudyPath, times: StudyTimes, reviews: bool = True) -> tuple[StudyDay, ...]:
    """Return the dates on which there is something to do, in order.

    Each step that is studied in full is recalled 1, 7, 16 and 35 days after it was finished, or on the next day of
    study, until the end; reviews come on top of the day's minutes. Raises TooLittleTime when the path ends too late.
    """
    dates = times.dates()
    date_of: dict[int, date] = {}
    sessions: dict[date, list[Session]] = {}
    finished: dict[int, date] = {}
    for session in schedule(path, times.minutes):
        if session.day not in date_of:
            day = next(dates, None)
            if day is None:
                raise TooLittleTime(sum(step.minutes for step in path.steps), times.total or 0)
            date_of[session.day] = day
        day = date_of[session.day]
        sessions.setdefault(day, []).append(session)
        finished[session.step.number] = day
    recalled: dict[date, list[Step]] = {}
    for step in path.steps if reviews else ():
        for interval in () if step.gist else REVIEW_AFTER_DAYS:
            day = finished[step.number] + timedelta(days=interval)
            while day.weekday() not in times.weekdays:
                day += timedelta(days=1)
            if (times.end is None or day <= times.end) and step not in recalled.setdefault(day, []):
                recalled[day].append(step)
    return tuple(
        StudyDay(day, tuple(sessions.get(day, ())), tuple(recalled.get(day, ())))
        for day in sorted(sessions.keys() | {day for day, steps in recalled.items() if steps})
    )
