from datetime import UTC, datetime, timedelta

import fsrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from study.learner import Memory
from study.memory import REACH, Rating, exercised, first_memory, recalled, retrievability

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
DAYS = st.integers(0, 400).map(lambda days: NOW + timedelta(days=days))


@st.composite
def memories(draw: st.DrawFn) -> Memory:
    """What FSRS may keep about a topic that was reviewed now."""
    stability = draw(st.floats(0.5, 200))
    due = NOW + timedelta(days=max(1, stability))
    return Memory(stability, draw(st.floats(1, 10)), NOW, due, draw(st.floats(0, 1)))


@given(st.lists(st.tuples(st.sampled_from(Rating), st.integers(1, 60)), min_size=1, max_size=8))
def test_without_exercise_it_is_fsrs(answers: list[tuple[Rating, int]]) -> None:
    """The package itself, card by card, is the reference."""
    scheduler = fsrs.Scheduler(learning_steps=(), relearning_steps=(), enable_fuzzing=False)
    card, now, memory = fsrs.Card(1, due=NOW), NOW, None
    for rating, days in answers:
        now += timedelta(days=days)
        card, _ = scheduler.review_card(card, fsrs.Rating(rating), now)
        memory = first_memory(rating, now) if memory is None else recalled(memory, rating, now)
    assert memory is not None
    assert (memory.stability, memory.difficulty, memory.due) == (card.stability, card.difficulty, card.due)
    later = now + timedelta(days=17)
    assert retrievability(memory, later) == pytest.approx(scheduler.get_card_retrievability(card, later))


def test_at_its_stability_nine_of_ten_are_recalled() -> None:
    memory = Memory(12.0, 5.0, NOW, NOW)
    assert retrievability(memory, NOW) == 1
    assert retrievability(memory, NOW + timedelta(days=12)) == pytest.approx(0.9)


@given(memories(), st.floats(0, 1), DAYS)
def test_exercise_postpones_and_never_hurries_and_leaves_what_fsrs_keeps(
    memory: Memory, weight: float, now: datetime
) -> None:
    after = exercised(memory, weight, now)
    assert after.due >= memory.due
    assert memory.credit <= after.credit <= 1
    assert (after.stability, after.difficulty, after.last_review) == (
        memory.stability,
        memory.difficulty,
        memory.last_review,
    )
    assert retrievability(after, now) >= retrievability(memory, now)
    longest = memory.last_review + timedelta(days=max(1, memory.stability * (1 + REACH))) + timedelta(seconds=1)
    assert after.due <= max(longest, memory.due)


def test_exercise_is_worth_more_the_longer_ago_the_review_was() -> None:
    memory = Memory(10.0, 5.0, NOW, NOW + timedelta(days=10))
    credited = [exercised(memory, 0.5, NOW + timedelta(days=days)).credit for days in (0, 2, 5, 10, 30)]
    assert credited == pytest.approx([0, 0.1, 0.25, 0.5, 0.5])


def test_a_review_of_its_own_starts_credit_anew() -> None:
    later = NOW + timedelta(days=9)
    credited = exercised(Memory(10.0, 5.0, NOW, NOW + timedelta(days=10)), 1.0, later)
    assert credited.credit > 0.8
    assert recalled(credited, Rating.good, later + timedelta(days=1)).credit == 0
