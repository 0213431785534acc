"""How long a topic is remembered: FSRS (the `fsrs` package), and the share of a review that mere exercise is worth.

Source: FSRS-6, https://github.com/open-spaced-repetition/fsrs4anki/wiki/The-Algorithm. Recall falls with the days t
since the last review as R = (1 + F·t/S)^D, S being the stability in days, D = -0.1542 and F such that R(S) = 0.9.
"""

from datetime import datetime, timedelta
from enum import IntEnum
from functools import cache
from typing import TYPE_CHECKING

from study.learner import Memory

if TYPE_CHECKING:
    from fsrs import Card, Scheduler

RETENTION = 0.9
"""Chance of recall at which a topic is due."""
REACH = 0.5
"""How much longer a review may wait at full credit, as a share of its own interval (bench/reviews.py)."""


class Rating(IntEnum):
    """How a recall went, in the learner's own judgement, with the numbers of FSRS."""

    again = 1
    hard = 2
    good = 3
    easy = 4

    @property
    def recalled(self) -> bool:
        """Whether the answer was there."""
        return self is not Rating.again


def first_memory(rating: Rating, now: datetime, retention: float = RETENTION) -> Memory:
    """Return the memory of a topic after its first recall."""
    from fsrs import Card
    from fsrs import Rating as Rated

    card, _ = _scheduler(retention).review_card(Card(card_id=1, due=now), Rated(rating), now)
    return _memory(card)


def recalled(memory: Memory, rating: Rating, now: datetime, retention: float = RETENTION) -> Memory:
    """Return a memory after one more recall."""
    from fsrs import Card, State
    from fsrs import Rating as Rated

    card = Card(1, State.Review, None, memory.stability, memory.difficulty, memory.due, memory.last_review)
    card, _ = _scheduler(retention).review_card(card, Rated(rating), now)
    return _memory(card)


def exercised(memory: Memory, weight: float, now: datetime, retention: float = RETENTION) -> Memory:
    """Return a memory that something else exercised: `weight` from 0 (not at all) to 1 (as a review of its own would).

    Exercise postpones the next review and is no review: FSRS goes on from what was answered, so that a learner whom
    exercise does not help is asked a little late, once, and rated by the days that truly passed. Credit grows towards
    1 with each exercise, by less soon after a review, when there is little to refresh; at 1 the time until the next
    review is 1 + REACH times as long.
    """
    interval = _days_until(retention, memory.stability)
    spacing = min(1.0, _days_since(memory.last_review, now) / interval)
    credit = memory.credit + weight * spacing * (1 - memory.credit)
    due = memory.last_review + timedelta(days=max(1.0, interval * (1 + REACH * credit)))
    return Memory(memory.stability, memory.difficulty, memory.last_review, max(due, memory.due), credit)


def retrievability(memory: Memory, now: datetime) -> float:
    """Return the chance that a topic is recalled now, its credit for exercise counted in."""
    factor, decay = _curve()
    days = _days_since(memory.last_review, now) / (1 + REACH * memory.credit)
    return (1 + factor * days / memory.stability) ** decay


def _days_since(then: datetime, now: datetime) -> float:
    return max(0.0, (now - then) / timedelta(days=1))


def _days_until(recall: float, stability: float) -> float:
    """Days after which recall has fallen to this."""
    factor, decay = _curve()
    return stability / factor * (recall ** (1 / decay) - 1)


def _memory(card: "Card") -> Memory:
    if card.stability is None or card.difficulty is None or card.last_review is None:
        raise AssertionError("a card that was reviewed has all of these")
    return Memory(card.stability, card.difficulty, card.last_review, card.due)


@cache
def _curve() -> tuple[float, float]:
    """The factor and the decay of the curve."""
    decay = -_scheduler(RETENTION).parameters[20]
    return 0.9 ** (1 / decay) - 1, decay


@cache
def _scheduler(retention: float) -> "Scheduler":
    """FSRS in whole days: no steps within a day, since a topic is studied and not flashed, and no dice."""
    from fsrs import Scheduler

    return Scheduler(desired_retention=retention, learning_steps=(), relearning_steps=(), enable_fuzzing=False)
