"""Reviews that know the graph: what an answer says about the topics beneath it, and which topic to ask about next.

Recalling a topic exercises what it needs, so that a part of the review is worth a review of each prerequisite: the
idea is fractional implicit repetition (J. Skycak, The Math Academy Way, 2024, ch. 29), here on FSRS. A failure
points to the prerequisite that is least likely to be remembered.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from graph import GraphStore
from study.learner import Changes, Event, Learner, Memory
from study.memory import RETENTION, Rating, exercised, first_memory, recalled, retrievability

SHARE = 0.5
"""What recalling a topic is worth for a direct prerequisite, as a share of a review of it; once more for each link on.

Smaller shares for a gist or for what an ancestor hands down saved fewer reviews (bench/reviews.py)."""
FAINTEST = 0.1
"""Shares below this are not given."""
LEARNED, CLAIMED = Rating.good, Rating.easy
"""The first recall of a topic that was being learned here, and of one that the learner came with."""


@dataclass(frozen=True, slots=True)
class Weak:
    """A prerequisite that may be why a topic was not recalled, and the chance that it is still remembered."""

    topic: str
    recall: float


class Recall:
    """The reviews of one atlas; it keeps nothing of a learner, and its answers are changes to one."""

    def __init__(self, store: GraphStore, retention: float = RETENTION) -> None:
        self._store = store
        self._retention = retention
        self._shares: dict[str, Mapping[str, float]] = {}
        self._below: dict[str, Mapping[str, float]] = {}

    def enrol(self, learner: Learner, topic_ids: Sequence[str], now: datetime) -> Changes:
        """Return the changes that let topics be reviewed which the learner says to know.

        A topic that is in review already, at this or another place of its concept, stays as it is.
        """
        memories: dict[str, Memory] = {}
        for topic_id in dict.fromkeys(topic_ids):
            places = {topic_id, *(twin.id for twin in self._store.twins(topic_id))}
            if places.isdisjoint(learner.memories) and places.isdisjoint(memories):
                mark = learner.marks.get(topic_id)
                rating = LEARNED if mark is not None and mark.status == "learning" else CLAIMED
                memories[topic_id] = first_memory(rating, now, self._retention)
        return Changes(memories=dict(memories), events=[Event(now, "enrolled", topic_id) for topic_id in memories])

    def due(self, memories: Mapping[str, Memory], now: datetime) -> list[str]:
        """Return the topics that are due, the least likely to be remembered first."""
        due = [topic_id for topic_id, memory in memories.items() if memory.due <= now]
        return sorted(due, key=lambda topic_id: (retrievability(memories[topic_id], now), topic_id))

    def next_due(self, memories: Mapping[str, Memory], now: datetime) -> str | None:
        """Return the topic to ask about now, or None when nothing is due.

        It is the due one whose recall is worth most to the others that are due; ties go to what is least likely to be
        remembered. Asking for a topic before its time, for the sake of others, saved nothing (bench/reviews.py).
        """
        due = self.due(memories, now)  # the faintest first, which decides between equals
        shares = {topic_id: self.exercises(topic_id, memories) for topic_id in due}
        return max(due, key=lambda topic_id: sum(shares[topic_id].get(below, 0.0) for below in due), default=None)

    def review(self, learner: Learner, topic_id: str, rating: Rating, now: datetime) -> Changes:
        """Return what an answer about a topic changes: its own memory, and those of what it exercises or needs.

        After a recall each prerequisite gets its share of the review, half of it when the recall was hard. After a
        failure the history names the weakest prerequisite, which is where to look first. A twin in review stands for
        the topic.
        """
        topic_id = self.place(learner.memories, topic_id)
        before = learner.memories.get(topic_id)
        memory = first_memory(rating, now, self._retention) if before is None else recalled(
            before, rating, now, self._retention
        )  # fmt: skip
        memories: dict[str, Memory] = {topic_id: memory}
        detail: dict[str, object] = {"rating": rating.name}
        if before is not None:
            detail["recall"] = round(retrievability(before, now), 4)
        if rating.recalled:
            part = 0.5 if rating is Rating.hard else 1.0
            for below, share in self.exercises(topic_id, learner.memories).items():
                memories[below] = exercised(learner.memories[below], part * share, now, self._retention)
        else:
            weak = self.weakest(learner.memories, topic_id, now)
            if weak is not None:
                detail["weakest"] = weak.topic
        return Changes(memories=dict(memories), events=[Event(now, "reviewed", topic_id, detail)])

    def place(self, memories: Mapping[str, Memory], topic_id: str) -> str:
        """Return the place of a topic's concept that is in review; the topic itself where none is."""
        if topic_id in memories:
            return topic_id
        return next((twin.id for twin in self._store.twins(topic_id) if twin.id in memories), topic_id)

    def weakest(self, memories: Mapping[str, Memory], topic_id: str, now: datetime) -> Weak | None:
        """Return the prerequisite in review that is least likely to be remembered; None where none is in review."""
        beneath = self.exercises(topic_id, memories)
        chances = [(retrievability(memories[below], now), below) for below in beneath]
        return Weak(min(chances)[1], min(chances)[0]) if chances else None

    def exercises(self, topic_id: str, memories: Mapping[str, Memory]) -> Mapping[str, float]:
        """Return which topics in review a recall of this one exercises, and the share of a review that each gets.

        Shares multiply along a chain of needs. A twin in review stands for its concept; the alternatives of an
        either-or share what one of them would get, since it is not known which one was used.
        """
        shares: dict[str, float] = {}
        for below, share in self._beneath(topic_id).items():
            if below in memories:
                shares[below] = max(share, shares.get(below, 0.0))
            else:
                for twin in self._store.twins(below):
                    if twin.id in memories and twin.id != topic_id:
                        shares[twin.id] = max(share, shares.get(twin.id, 0.0))
        return shares

    def _beneath(self, topic_id: str) -> Mapping[str, float]:
        """The share for every topic beneath one, the largest where several chains lead to it."""
        known = self._below.get(topic_id)
        if known is None:
            shares: dict[str, float] = {}
            open_ids = [(topic_id, 1.0)]
            while open_ids:
                each, share = open_ids.pop()
                for below, link in self._direct(each).items():
                    product = share * link
                    if product >= FAINTEST and product > shares.get(below, 0.0) and below != topic_id:
                        shares[below] = product
                        open_ids.append((below, product))
            known = self._below[topic_id] = shares
        return known

    def _direct(self, topic_id: str) -> Mapping[str, float]:
        """The share for what a topic needs itself."""
        known = self._shares.get(topic_id)
        if known is None:
            edges = [e for e in self._store.effective_prerequisites(topic_id) if e.strength == "needed"]
            ways: dict[str, int] = {}
            for edge in edges:
                if edge.group is not None:
                    ways[edge.group] = ways.get(edge.group, 0) + 1
            shares: dict[str, float] = {}
            for edge in edges:
                share = SHARE / (ways[edge.group] if edge.group is not None else 1)
                shares[edge.before] = max(share, shares.get(edge.before, 0.0))
            known = self._shares[topic_id] = shares
        return known


def due_within(memories: Mapping[str, Memory], now: datetime, days: int) -> list[int]:
    """Return how many topics come due on each of the next days, what is overdue on the first."""
    counts = [0] * days
    for memory in memories.values():
        day = max(0, (memory.due - now) // timedelta(days=1))
        if day < days:
            counts[day] += 1
    return counts
