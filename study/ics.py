"""A study path as a calendar file."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING
from uuid import NAMESPACE_URL, uuid5

from graph import GraphStore, Reference
from study.path import Step, StudyPath
from study.schedule import REVIEW_MINUTES, Session, StudyDay

if TYPE_CHECKING:
    from icalendar import Event


def path_ics(
    path: StudyPath,
    store: GraphStore,
    days: Sequence[StudyDay],
    at: time = time(18),
    link: Callable[[str], str] | None = None,
) -> str:
    """Return an iCalendar file (RFC 5545): on each day the sessions one after the other from `at` on, then the recall.

    `link` gives the address of a topic's page. Times are floating: the calendar that opens the file reads them as its
    own local time. Deterministic: the UID of an event is made of the goals and of what is done on which day of study,
    so that a second import replaces the first, moved dates included.
    """
    from icalendar import Calendar

    works = {work.key: work for work in store.references()}
    named = "+".join(path.goals)
    titles = " and ".join(store.topic(goal).title for goal in path.goals)
    calendar = Calendar.new(
        prodid="-//GenAtlas//study path//EN",
        version="2.0",
        uid=str(uuid5(NAMESPACE_URL, f"genatlas:{named}")),
        name=f"Study path to {titles}",
    )
    for count, day in enumerate(days, start=1):
        begin = datetime.combine(day.date, at)
        for session in day.sessions:
            topic = session.step.topic
            event = _event(f"{named}:{topic.id}:{session.day}", begin, session.minutes)
            event.summary = f"{session.step.number}. {topic.title}{', continued' if session.continues else ''}"
            event.description = _session_text(session, store, works, link)
            event.url = link(topic.id) if link else None
            calendar.add_component(event)
            begin = begin + timedelta(minutes=session.minutes)
        if day.reviews:
            event = _event(f"{named}:review:{count}", begin, REVIEW_MINUTES * len(day.reviews))
            first, *others = day.reviews
            event.summary = f"Recall {first.topic.title}{f' and {len(others)} more' if others else ''}"
            event.description = _review_text(day.reviews, link)
            calendar.add_component(event)
    return calendar.to_ical().decode()


def _event(what: str, begin: datetime, minutes: int) -> "Event":
    """An event whose UID says what it is about."""
    from icalendar import Event

    return Event.new(
        uid=f"{uuid5(NAMESPACE_URL, f'genatlas:{what}')}@genatlas",
        stamp=datetime.combine(begin.date(), time(0), tzinfo=UTC),
        start=begin,
        end=begin + timedelta(minutes=minutes),
    )


def _session_text(
    session: Session, store: GraphStore, works: Mapping[str, Reference], link: Callable[[str], str] | None
) -> str:
    topic = session.step.topic
    gist = "The gist is enough: read it, no need to work it through." if session.step.gist else ""
    because = [f"For {titles}: {why}" for titles, why in session.step.told_once(store)]
    demo = f"Demo: genatlas demo run {topic.demo.demo}" if topic.demo else ""
    sources = [f"Source: {works[key].title}. {works[key].link}" for key in topic.refs if key in works]
    page = link(topic.id) if link else topic.id
    return "\n".join(line for line in (page, topic.summary, gist, *because, demo, *sources) if line)


def _review_text(steps: Sequence[Step], link: Callable[[str], str] | None) -> str:
    """For each topic the question to answer from memory, and where the answer stands."""
    lines: list[str] = []
    for step in steps:
        question = step.topic.questions[0] if step.topic.questions else "What is it, and why does it hold?"
        lines.append(f"{step.topic.title}: {question} {link(step.topic.id) if link else step.topic.id}")
    return "\n".join(lines)
