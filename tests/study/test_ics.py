"""The calendar as `ical`, a parser that shares no code with the library that wrote it, reads it."""

from dataclasses import replace
from datetime import date, datetime, timedelta

from ical.calendar_stream import IcsCalendarStream
from ical.event import Event

from graph import NetworkXStore
from study import StudyDay, StudyTimes, path_ics, plan_path, timetable
from tests.graph.atlases import ATLAS

STORE = NetworkXStore(ATLAS)
PATH = plan_path(STORE, ["vae/loss"])


def days(start: date = date(2026, 3, 2), reviews: bool = True) -> tuple[StudyDay, ...]:
    return timetable(PATH, StudyTimes(start, 20), reviews)


def link(topic_id: str) -> str:
    return f"https://atlas.example/topic?id={topic_id}"


def read(text: str) -> list[Event]:
    return IcsCalendarStream.calendar_from_ics(text).events


def test_each_session_is_an_event_of_its_length_one_after_the_other() -> None:
    events = read(path_ics(PATH, STORE, days(reviews=False)))
    found = [(event.summary, event.start, event.computed_duration) for event in events]
    at = datetime(2026, 3, 2, 18)
    assert found == [
        ("1. Transport", at, timedelta(minutes=15)),
        ("2. Dcgan", at + timedelta(minutes=15), timedelta(minutes=5)),
        ("2. Dcgan, continued", datetime(2026, 3, 3, 18), timedelta(minutes=5)),
        ("3. Loss", datetime(2026, 3, 3, 18, 5), timedelta(minutes=5)),
        ("4. Loss", datetime(2026, 3, 3, 18, 10), timedelta(minutes=10)),
        ("4. Loss, continued", datetime(2026, 3, 4, 18), timedelta(minutes=10)),
    ]


def test_an_event_says_why_and_links_to_the_topic() -> None:
    first = read(path_ics(PATH, STORE, days(), link=link))[0]
    assert str(first.url) == "https://atlas.example/topic?id=transport"
    assert "For Loss: The critic estimates a transport cost." in (first.description or "")


def test_the_sources_of_a_topic_are_in_its_event() -> None:
    store = NetworkXStore(replace(ATLAS, topics=tuple(replace(each, refs=("arjovsky2017",)) for each in ATLAS.topics)))
    path = plan_path(store, ["transport"])
    (event, *_) = read(path_ics(path, store, timetable(path, StudyTimes(date(2026, 3, 2), 60))))
    assert "Source: Wasserstein GAN. https://arxiv.org/abs/1701.07875" in (event.description or "")


def test_recall_is_an_event_of_its_own_after_the_days_sessions() -> None:
    events = {(event.start, event.summary) for event in read(path_ics(PATH, STORE, days()))}
    assert (datetime(2026, 3, 3, 18, 20), "Recall Transport") in events
    assert (datetime(2026, 3, 10, 18), "Recall Dcgan") in events


def test_no_two_events_share_an_id_and_the_same_path_gets_the_same_ids_on_other_dates() -> None:
    first, later = (read(path_ics(PATH, STORE, days(start))) for start in (date(2026, 3, 2), date(2026, 4, 6)))
    assert len({event.uid for event in first}) == len(first)
    assert [event.uid for event in first] == [event.uid for event in later]
    assert path_ics(PATH, STORE, days()) == path_ics(PATH, STORE, days())


def test_two_paths_through_the_same_topic_do_not_overwrite_each_other() -> None:
    other = plan_path(STORE, ["gan/wgan/loss"])
    theirs = read(path_ics(other, STORE, timetable(other, StudyTimes(date(2026, 3, 2), 20))))
    assert not {event.uid for event in theirs} & {event.uid for event in read(path_ics(PATH, STORE, days()))}
