"""Laying a study path out over days."""

from dataclasses import dataclass

from study.path import Step, StudyPath

UNWRITTEN_MINUTES = 10
"""Study time that a topic counts for until its author has estimated it; exports mark such a time as a guess."""


@dataclass(frozen=True, slots=True)
class Session:
    """A piece of one step on one day. `day` counts from 1; a step longer than what a day has left goes on the next."""

    day: int
    step: Step
    minutes: int
    continues: bool


def step_minutes(step: Step) -> int:
    """Study time of a step, with the guess for a topic that has no estimate yet."""
    return step.topic.minutes or UNWRITTEN_MINUTES


def schedule(path: StudyPath, minutes_a_day: int) -> tuple[Session, ...]:
    """Return the path's sessions in order, at most `minutes_a_day` on each day. Raises ValueError below 5."""
    if minutes_a_day < 5:
        raise ValueError(f"minutes a day must be at least 5, got {minutes_a_day}")
    sessions: list[Session] = []
    day, left = 1, minutes_a_day
    for step in path.steps:
        to_do, continues = step_minutes(step), False
        while to_do:
            if left == 0:
                day, left = day + 1, minutes_a_day
            now = min(to_do, left)
            sessions.append(Session(day, step, now, continues))
            to_do, left, continues = to_do - now, left - now, True
    return tuple(sessions)
