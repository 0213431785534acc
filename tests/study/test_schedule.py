from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graph import GraphStore, NetworkXStore
from study import StudyPath, StudyTimes, TooLittleTime, plan_path, timetable
from study.schedule import REVIEW_AFTER_DAYS
from tests.graph.atlases import ATLAS
from tests.study.drawn import drawn_paths

PATH = plan_path(NetworkXStore(ATLAS), ["vae/loss"])
MONDAY = date(2026, 3, 2)


@given(
    drawn_paths(),
    st.integers(5, 90),
    st.sets(st.integers(0, 6), min_size=1),
    st.dates(date(2026, 1, 1), date(2027, 12, 31)),
)
def test_a_timetable_keeps_to_its_days_its_order_and_its_minutes(
    drawn: tuple[GraphStore, StudyPath], minutes: int, weekdays: set[int], start: date
) -> None:
    _, path = drawn
    days = timetable(path, StudyTimes(start, minutes, frozenset(weekdays)))
    assert [day.date for day in days] == sorted({day.date for day in days})
    assert all(day.date >= start and day.date.weekday() in weekdays for day in days)
    assert all(sum(session.minutes for session in day.sessions) <= minutes for day in days)
    sessions = [session for day in days for session in day.sessions]
    assert [each.step.number for each in sessions] == sorted(each.step.number for each in sessions)
    for step in path.steps:
        assert sum(each.minutes for each in sessions if each.step.number == step.number) == step.minutes
        studied = max(day.date for day in days if any(each.step.number == step.number for each in day.sessions))
        recalled = [day.date for day in days if any(each.number == step.number for each in day.reviews)]
        if step.gist:
            assert recalled == []
        else:
            dues = [studied + timedelta(days=interval) for interval in REVIEW_AFTER_DAYS]
            assert all(any(0 <= (each - due).days < 7 for due in dues) for each in recalled)
            assert all(any(0 <= (each - due).days < 7 for each in recalled) for due in dues)


def test_study_falls_on_the_chosen_days_of_the_week() -> None:
    days = timetable(PATH, StudyTimes(MONDAY, 20, frozenset({2, 5})), reviews=False)
    assert [day.date for day in days] == [date(2026, 3, 4), date(2026, 3, 7), date(2026, 3, 11)]


def test_reviews_come_at_growing_intervals_and_stop_at_the_end() -> None:
    path = plan_path(NetworkXStore(ATLAS), ["transport"])

    def recalled(end: date | None = None) -> list[int]:
        days = timetable(path, StudyTimes(MONDAY, 60, end=end))
        return [(day.date - MONDAY).days for day in days if day.reviews]

    assert recalled() == [1, 7, 16, 35]
    assert recalled(end=MONDAY + timedelta(days=16)) == [1, 7, 16]


def test_a_path_that_does_not_end_in_time_is_refused() -> None:
    times = StudyTimes(MONDAY, 20, end=date(2026, 3, 3))
    assert times.total == 40
    with pytest.raises(TooLittleTime, match="takes 50 minutes, and the days until the end hold 40"):
        timetable(PATH, times)


def test_times_without_a_day_or_with_their_end_before_their_start_are_refused() -> None:
    with pytest.raises(ValueError, match="weekdays"):
        StudyTimes(MONDAY, 30, frozenset())
    with pytest.raises(ValueError, match="before the start"):
        StudyTimes(MONDAY, 30, end=date(2026, 3, 1))
    with pytest.raises(ValueError, match="at least 5"):
        StudyTimes(MONDAY, 4)
