"""A study path as something to take along: Markdown, a calendar, JSON."""

from datetime import UTC, date, datetime, time, timedelta
from itertools import groupby
from typing import Any

from graph import GraphStore
from study.path import Step, StudyPath
from study.schedule import Session, schedule, step_minutes


def path_json(path: StudyPath) -> dict[str, Any]:
    """Return the path as JSON-able data: goals, totals, and each step with its reasons."""
    return {
        "goals": list(path.goals),
        "depth": "thorough" if path.thorough else "minimal",
        "known": list(path.known),
        "minutes": path.minutes,
        "unestimated": path.unestimated,
        "steps": [_step_json(step) for step in path.steps],
    }


def _step_json(step: Step) -> dict[str, Any]:
    topic = step.topic
    return {
        "number": step.number,
        "topic": topic.id,
        "title": topic.title,
        "title_path": list(topic.title_path),
        "minutes": topic.minutes,
        "level": topic.level,
        "goal": step.is_goal,
        "gist": step.gist,
        "demo": topic.demo.demo if topic.demo else None,
        "reasons": [
            {"needed_by": reason.needed_by, "why": reason.why, "strength": reason.strength, "depth": reason.depth}
            for reason in step.reasons
        ],
    }


def path_markdown(path: StudyPath, store: GraphStore, minutes_a_day: int | None = None) -> str:
    """Return the path as a Markdown checklist, under a heading for each day when `minutes_a_day` is given."""
    goals = " and ".join(store.topic(goal).title for goal in path.goals)
    lines = [f"# Study path to {goals}", "", f"{len(path.steps)} steps, about {_total(path)} minutes.", ""]
    if minutes_a_day is None:
        lines += [line for step in path.steps for line in _markdown_step(step, step_minutes(step), store)]
    else:
        for day, sessions in groupby(schedule(path, minutes_a_day), key=lambda session: session.day):
            lines += [f"## Day {day}", ""]
            for session in sessions:
                if session.continues:
                    lines.append(
                        f"- [ ] {session.step.number}. {session.step.topic.title}, continued ({session.minutes} min)"
                    )
                else:
                    lines += _markdown_step(session.step, session.minutes, store)
            lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _total(path: StudyPath) -> int:
    return sum(step_minutes(step) for step in path.steps)


def _markdown_step(step: Step, minutes: int, store: GraphStore) -> list[str]:
    guess = "" if step.topic.minutes else ", a guess"
    mark = " — the goal" if step.is_goal else " — the gist is enough" if step.gist else ""
    lines = [f"- [ ] {step.number}. **{step.topic.title}** ({minutes} min{guess}){mark}"]
    lines.append(f"  {' › '.join(step.topic.title_path[:-1])}" if step.topic.parent else "  Section")
    lines += [f"  - for {titles}: {why}" for titles, why in step.told_once(store)]
    if step.topic.demo:
        lines.append(f"  - demo: `genatlas demo run {step.topic.demo.demo}` — {step.topic.demo.look_at}")
    return lines


def path_ics(path: StudyPath, store: GraphStore, start: date, minutes_a_day: int, at: time = time(18)) -> str:
    """Return an iCalendar file (RFC 5545) with one event a session, from `start` on, each day beginning at `at`.

    Times are floating: the calendar that opens the file reads them as its own local time. Deterministic: the UID of an
    event is made of the topic and the day, so that a second import replaces the first.
    """
    from icalendar import Calendar, Event

    calendar = Calendar.new(prodid="-//GenAtlas//study path//EN", version="2.0", uid=f"{'+'.join(path.goals)}@genatlas")
    begins: dict[int, datetime] = {}
    for session in schedule(path, minutes_a_day):
        begin = begins.get(session.day, datetime.combine(start + timedelta(days=session.day - 1), at))
        end = begin + timedelta(minutes=session.minutes)
        begins[session.day] = end
        event = Event.new(
            uid=f"{session.step.topic.id}/day-{session.day}@genatlas",
            stamp=datetime.combine(start, time(0), tzinfo=UTC),
            start=begin,
            end=end,
            summary=_session_title(session),
            description=_session_text(session, store),
        )
        calendar.add_component(event)
    return calendar.to_ical().decode()


def _session_title(session: Session) -> str:
    return f"{session.step.number}. {session.step.topic.title}{', continued' if session.continues else ''}"


def _session_text(session: Session, store: GraphStore) -> str:
    step = session.step
    because = [f"For {titles}: {why}" for titles, why in step.told_once(store)]
    return "\n".join([step.topic.id, step.topic.summary, *because]).strip()
