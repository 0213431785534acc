import json
from datetime import date, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st
from icalendar import Calendar

from graph import NetworkXStore
from study import path_ics, path_json, path_markdown, plan_path, schedule
from tests.graph.atlases import ATLAS

STORE = NetworkXStore(ATLAS)
PATH = plan_path(STORE, ["vae/loss"])


@given(st.integers(5, 120))
def test_a_schedule_keeps_order_fits_each_day_and_loses_no_minute(minutes_a_day: int) -> None:
    sessions = schedule(PATH, minutes_a_day)
    assert [s.step.number for s in sessions] == sorted(s.step.number for s in sessions)
    days = sorted({session.day for session in sessions})
    assert days == list(range(1, len(days) + 1))
    for day in days:
        assert sum(s.minutes for s in sessions if s.day == day) <= minutes_a_day
    for step in PATH.steps:
        assert sum(s.minutes for s in sessions if s.step == step) == (step.topic.minutes or 10)


def test_markdown_lists_each_step_with_its_reason_and_marks_a_guessed_time() -> None:
    text = path_markdown(PATH, STORE)
    assert text.startswith("# Study path to Loss\n")
    assert "- [ ] 2. **Transport** (15 min)\n" in text
    assert "for Loss: The critic estimates a transport cost." in text
    assert "- [ ] 1. **Dcgan** (10 min, a guess)" in text
    assert "genatlas demo run gan-demo" in text


def test_markdown_by_day_has_a_heading_for_each_day() -> None:
    headings = [line for line in path_markdown(PATH, STORE, minutes_a_day=20).splitlines() if line.startswith("## ")]
    assert headings == ["## Day 1", "## Day 2", "## Day 3"]


def test_the_calendar_reads_back_with_one_event_a_session() -> None:
    calendar = Calendar.from_ical(path_ics(PATH, STORE, date(2026, 3, 2), 20))
    assert isinstance(calendar, Calendar)
    events = calendar.events
    sessions = schedule(PATH, 20)
    assert len(events) == len(sessions)
    for event, session in zip(events, sessions, strict=True):
        start, end = event.start, event.end
        assert isinstance(start, datetime)
        assert start.date() == date(2026, 3, 1 + session.day)
        assert end - start == timedelta(minutes=session.minutes)
        assert session.step.topic.title in str(event["summary"])
    assert len({str(event["uid"]) for event in events}) == len(events)


def test_the_calendar_is_the_same_each_time() -> None:
    first, second = (path_ics(PATH, STORE, date(2026, 3, 2), 20) for _ in range(2))
    assert first == second


def test_json_holds_the_goals_and_each_steps_reasons() -> None:
    document = json.loads(json.dumps(path_json(PATH)))
    assert document["goals"] == ["vae/loss"]
    assert [step["topic"] for step in document["steps"]] == [step.topic.id for step in PATH.steps]
    assert document["steps"][0]["reasons"][0]["why"] == "The networks are a DCGAN's."
    assert document["minutes"] == sum(step.topic.minutes or 0 for step in PATH.steps)
