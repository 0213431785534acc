"""What a learner knows of a section, found by a few questions; the rest is inferred.

What can be known at once are the sets of topics that contain, with each topic, all that it needs. Of these many are
drawn, answers weigh them, and the next question is the one whose answer tells most about all topics together.

Source: states closed under prerequisites, Doignon and Falmagne 1985, doi:10.1016/S0020-7373(85)80031-6; slips, guesses
and questions chosen by what they tell, Falmagne and Doignon 1988, doi:10.1111/j.2044-8317.1988.tb00884.x.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from graph import GraphStore, Topic
from study.learner import Changes, Event, Learner, Mark
from study.path import implied_by

SLIP, GUESS = 0.1, 0.1
"""How often somebody who knows a topic says no, and somebody who does not says yes."""
MOST_QUESTIONS = 12
SURE = 0.9
"""Chance from which a topic counts as known, and below 1 - SURE as not known; neither is asked about."""
WORTH = 0.003
"""What an answer must take away of the doubt about each topic, on average, to be asked for (doubt: see `_told_by`)."""
STATES = 8192
"""How many states are drawn. From four times as many 0.2 % more of the topics were judged rightly."""
CANDIDATES = 256
"""Questions that are compared: of more unsettled topics those nearest to an even chance."""

States = NDArray[np.bool_]
"""(states, topics): which topics are known in each state."""


@dataclass(frozen=True, slots=True)
class Placement:
    """What is known after some answers, by topic in outline order.

    `chances` are those of being known. `known` is what is to be taken as known: what was told, what that implies, and
    what is sure; `inferred` is the part of it that was not told. `ask` is what to ask next, None when it is enough;
    `left` is how many questions may follow at most. `unsure` is how many topics are expected to be judged wrongly, if
    each had to be judged now.
    """

    chances: Mapping[str, float]
    known: tuple[str, ...]
    inferred: tuple[str, ...]
    ask: str | None
    left: int
    unsure: float


class Placer:
    """Places learners within one section, or any topic with all beneath it. Raises TopicNotFound.

    It keeps nothing of a learner. Its draws are seeded: the same answers give the same placement.
    """

    def __init__(self, store: GraphStore, topic_id: str, slip: float = SLIP, guess: float = GUESS) -> None:
        topics = store.subtree(topic_id)
        self._number = {topic.id: number for number, topic in enumerate(topics)}
        self._implies = _implications(store, self._number)
        self._states = draw_states(topics, self._implies, np.random.default_rng(0))
        self._slip, self._guess = slip, guess

    def place(self, answers: Mapping[str, bool], told: Collection[str] = (), most: int = MOST_QUESTIONS) -> Placement:
        """Return what the answers so far (known or not, by topic) say, and the next question.

        `told` are topics that the learner has marked as known: they are known with what they need, and say nothing
        about others, since nobody marks topics at random. Answers and marks outside the section are passed over.
        """
        said = {self._number[each]: known for each, known in answers.items() if each in self._number}
        marked = self._implied([self._number[each] for each in told if each in self._number])
        states = self._states | marked
        weights = self._weights(states, said)
        chances = np.clip(weights @ states.astype(np.float32), 0, 1)
        left = max(0, most - len(said))
        ask = self._next(said, states, weights, chances) if left else None
        ids = list(self._number)
        known = tuple(ids[each] for each in np.flatnonzero(self._judged(said, marked, chances)))
        return Placement(
            dict(zip(ids, map(float, chances), strict=True)),
            known,
            tuple(each for each in known if each not in answers and each not in told),
            None if ask is None else ids[ask],
            0 if ask is None else left,
            float(np.minimum(chances, 1 - chances).sum()),
        )

    def _next(
        self, said: Mapping[int, bool], states: States, weights: NDArray[np.float32], chances: NDArray[np.float32]
    ) -> int | None:
        """What to ask next; None where no topic that is not settled is worth a question."""
        settled = (chances >= SURE) | (chances <= 1 - SURE) | self._alike(list(said))
        open_ = np.flatnonzero(~settled)
        open_ = open_[np.argsort(np.abs(chances[open_] - 0.5), kind="stable")[:CANDIDATES]]
        told = self._told_by(open_, states, weights, chances)
        worth = told >= WORTH * len(chances)
        return int(open_[np.argmax(told)]) if worth.any() else None

    def _weights(self, states: States, said: Mapping[int, bool]) -> NDArray[np.float32]:
        """How likely each state is after the answers, (states,)."""
        weights = np.ones(len(states))
        for topic, yes in said.items():
            if_known, if_not = (1 - self._slip, self._guess) if yes else (self._slip, 1 - self._guess)
            weights *= np.where(states[:, topic], if_known, if_not)
        return (weights / weights.sum()).astype(np.float32)

    def _told_by(
        self, asked: NDArray[np.intp], states: States, weights: NDArray[np.float32], chances: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """By how much an answer about each of these topics lessens the doubt about all, (asked,).

        The doubt about a topic is p (1 - p), the variance of whether it is known; of a yes or no with variance v the
        answer takes away cov² / v. With the entropy in place of the variance placements came out a little worse.
        """
        heavy = weights > 1e-4 * weights.max()
        known = states[heavy].astype(np.float32)
        both = (known[:, asked] * weights[heavy, None]).T @ known
        hearing = 1 - self._slip - self._guess  # what slips and guesses leave of a covariance
        covariance = hearing * (both - np.outer(chances[asked], chances))
        yes = self._guess + hearing * chances[asked]
        return (covariance**2).sum(axis=1) / (yes * (1 - yes))

    def _judged(
        self, said: Mapping[int, bool], marked: NDArray[np.bool_], chances: NDArray[np.float32]
    ) -> NDArray[np.bool_]:
        """What counts as known: what is sure and needs nothing that was denied, and what an affirmed topic implies."""
        affirmed = self._implied([each for each, known in said.items() if known])
        denied = [each for each, known in said.items() if not known]
        judged = ((chances >= SURE) & ~self._implies[:, denied].any(axis=1)) | affirmed | marked
        judged[denied] = False
        return judged

    def _implied(self, topics: list[int]) -> NDArray[np.bool_]:
        """All that these topics imply, themselves included, (topics,)."""
        return np.logical_or.reduce(self._implies[topics], axis=0)

    def _alike(self, topics: list[int]) -> NDArray[np.bool_]:
        """These topics and their twins, (topics,)."""
        return np.logical_or.reduce((self._implies & self._implies.T)[topics], axis=0)


def _implications(store: GraphStore, number: Mapping[str, int]) -> NDArray[np.bool_]:
    """(topics, topics): whether knowing the first means knowing the second, as paths have it; each implies itself."""
    store.prefetch(number)
    implies = np.zeros((len(number), len(number)), dtype=np.bool_)
    for topic_id, row in number.items():
        implies[row, [number[each] for each in implied_by(store, [topic_id]) if each in number]] = True
    return implies


def draw_states(topics: Sequence[Topic], implies: NDArray[np.bool_], rng: np.random.Generator) -> States:
    """Return what so many learners may know of topics in outline order, each set closed under what is implied.

    Each learner has a grip on the section, and on each topic one near to that on what holds it. A topic whose grip is
    above 0 would be known by itself. As it is, some know nothing without all that it needs, others have learned what
    they know with all that it needs, and most are between: a topic is known where a mean of two grips is above 0, the
    weakest on what it implies and the strongest on what implies it.
    """
    number = {topic.id: row for row, topic in enumerate(topics)}
    grip = np.empty((len(topics), STATES), dtype=np.float32)
    for row, topic in enumerate(topics):  # a parent stands before its subtopics
        above = number.get(topic.parent or "")
        grip[row] = rng.normal(0 if above is None else grip[above], 1, STATES)
    strictness = rng.random(STATES, dtype=np.float32)
    known = np.empty((STATES, len(topics)), dtype=np.bool_)
    for row in range(len(topics)):
        weakest, strongest = grip[implies[row]].min(axis=0), grip[implies[:, row]].max(axis=0)
        known[:, row] = strictness * weakest + (1 - strictness) * strongest > 0
    return known


def placed(learner: Learner, placement: Placement, answers: Mapping[str, bool], now: datetime) -> Changes:
    """Return the changes that keep a placement: what was answered is told, the rest of what is known inferred.

    It takes the place of what an earlier placement inferred about these topics; a mark that the learner made is
    changed by an answer only.
    """
    marks: dict[str, Mark | None] = {}
    inferred = set(placement.inferred)
    for topic_id, chance in placement.chances.items():
        mark = learner.marks.get(topic_id)
        if answers.get(topic_id):
            if mark is None or (mark.status, mark.origin) != ("known", "told"):
                marks[topic_id] = Mark("known", now)
        elif topic_id in answers:
            if mark is not None and mark.status == "known":
                marks[topic_id] = None
        elif topic_id in inferred and (mark is None or mark.origin == "inferred"):
            marks[topic_id] = Mark("known", now, "inferred", round(chance, 4))
        elif mark is not None and mark.origin == "inferred":
            marks[topic_id] = None
    detail = {"asked": len(answers), "yes": sum(answers.values()), "inferred": len(inferred)}
    return Changes(marks=marks, events=[Event(now, "placed", next(iter(placement.chances)), detail)])
