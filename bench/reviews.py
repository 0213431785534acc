"""Reviews that know the graph beside plain FSRS: how many it takes to remember equally well.

    python -m bench.reviews [--goal TOPIC …] [--seeds 10] [--days 365]      over the atlas that was built last

Simulated learners study the way to a goal, some topics a day in study order, and review what is due each day. Their
memory is not the scheduler's: each has weights of her own (FSRS-6 with noise on every one) and each topic its own ease;
she slips (5 %) and guesses (5 %), and a topic does not come to mind when a prerequisite that it rests on is gone
(30 %). How much a recall strengthens each prerequisite is drawn for each pair, with a mean from nothing to 0.5 of a
review; the scheduler does not know it and always credits the same shares. Both sides run over several target
retentions; what plain FSRS needs for the recall that ours reached is read off its curve, straight between its points.
"""

import argparse
import itertools
import math
import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from fsrs import Card, Scheduler, State
from fsrs import Rating as Rated
from fsrs.scheduler import DEFAULT_PARAMETERS, LOWER_BOUNDS_PARAMETERS, UPPER_BOUNDS_PARAMETERS
from rich.console import Console
from rich.table import Table

from graph import GraphStore
from service import Settings, open_service
from study import Learner, plan_path
from study.learner import Memory
from study.memory import Rating, first_memory, recalled
from study.recall import Recall

START = datetime(2026, 1, 1, 8, tzinfo=UTC)
NEW_A_DAY = 3
SLIP, GUESS, RESTS_ON = 0.05, 0.05, 0.3
RETENTIONS = (0.80, 0.85, 0.90, 0.94, 0.97)
OURS = 0.9
EXERCISE = (0.0, 0.15, 0.3, 0.5)
GOALS = ("diffusion-models", "gpt-family/rlhf", "stable-diffusion")


@dataclass(frozen=True)
class Outcome:
    """What a year of one learner took and gave: reviews, and the mean true chance of recall over topics and days."""

    reviews: int
    recall: float


class Mind:
    """What a simulated learner truly remembers."""

    def __init__(self, draws: random.Random, needs: Mapping[str, Sequence[str]], exercise: float) -> None:
        noisy = [
            min(high, max(low, weight * math.exp(draws.gauss(0, 0.1))))
            for low, weight, high in zip(
                LOWER_BOUNDS_PARAMETERS, DEFAULT_PARAMETERS, UPPER_BOUNDS_PARAMETERS, strict=True
            )
        ]
        self._law = Scheduler(parameters=noisy, learning_steps=(), relearning_steps=(), enable_fuzzing=False)
        self._decay = -noisy[20]
        self._factor = 0.9 ** (1 / self._decay) - 1
        self._draws = draws
        self._needs = needs
        self._gain = {
            (topic, below): draws.betavariate(4 * exercise, 4 * (1 - exercise)) if exercise else 0.0
            for topic, those in needs.items()
            for below in those
        }
        self._ease = {topic: draws.gauss(0, 0.5) for topic in needs}
        self._cards: dict[str, Card] = {}

    def study(self, topic: str, now: datetime) -> None:
        """Learn a topic for the first time."""
        card, _ = self._law.review_card(Card(1, due=now), Rated.Good, now)
        card.stability = (card.stability or 1) * math.exp(self._ease[topic])
        card.difficulty = min(10.0, max(1.0, (card.difficulty or 5) - 2 * self._ease[topic]))
        self._cards[topic] = card

    def recall(self, topic: str, now: datetime) -> float:
        """The true chance that a topic itself is remembered."""
        card = self._cards[topic]
        assert card.last_review is not None
        assert card.stability is not None
        days = max(0.0, (now - card.last_review) / timedelta(days=1))
        return float((1 + self._factor * days / card.stability) ** self._decay)

    def answer(self, topic: str, now: datetime) -> bool:
        """Ask for a topic, let the mind learn from it, and say what was seen."""
        chance = self.recall(topic, now)
        below = [each for each in self._needs[topic] if each in self._cards]
        for each in below:
            chance *= 1 - RESTS_ON * (1 - self.recall(each, now))
        there = self._draws.random() < chance
        card = self._cards[topic]
        self._cards[topic], _ = self._law.review_card(card, Rated.Good if there else Rated.Again, now)
        if there:
            for each in below:
                self._strengthen(each, self._gain[topic, each], now)
        return self._draws.random() >= SLIP if there else self._draws.random() < GUESS

    def _strengthen(self, topic: str, share: float, now: datetime) -> None:
        card = self._cards[topic]
        if share == 0 or card.stability is None:
            return
        good, _ = self._law.review_card(card, Rated.Good, now)
        assert good.stability is not None
        stability = card.stability * (good.stability / card.stability) ** share
        chance = self.recall(topic, now)
        days = stability / self._factor * ((chance + share * (1 - chance)) ** (1 / self._decay) - 1)
        self._cards[topic] = Card(
            1, State.Review, None, stability, card.difficulty, card.due, now - timedelta(days=days)
        )


def live(store: GraphStore, topics: Sequence[str], mind: Mind, ours: bool, retention: float, days: int) -> Outcome:
    """Let a learner study the topics and review what a scheduler asks for."""
    graph = Recall(store, retention)
    memories: dict[str, Memory] = {}
    to_study = list(topics)
    reviews = 0
    seen: list[float] = []
    for day in range(days):
        now = START + timedelta(days=day)
        if ours:
            while topic := graph.next_due(memories, now):
                reviews += 1
                rating = Rating.good if mind.answer(topic, now) else Rating.again
                learner = Learner("", START, memories=memories)
                memories |= {each: m for each, m in graph.review(learner, topic, rating, now).memories.items() if m}
        else:
            for topic in sorted((each for each, memory in memories.items() if memory.due <= now)):
                reviews += 1
                rating = Rating.good if mind.answer(topic, now) else Rating.again
                memories[topic] = recalled(memories[topic], rating, now, retention)
        for topic in to_study[:NEW_A_DAY]:
            mind.study(topic, now)
            memories[topic] = first_memory(Rating.good, now, retention)
        del to_study[:NEW_A_DAY]
        if day % 5 == 4:
            evening = now + timedelta(hours=12)
            seen.append(statistics.fmean(mind.recall(topic, evening) for topic in memories))
    return Outcome(reviews, statistics.fmean(seen))


def both_ways(
    store: GraphStore, topics: Sequence[str], seed: str, exercise: float, days: int
) -> tuple[Outcome, list[Outcome]]:
    """One learner's outcome with ours, and with plain FSRS at each target retention."""
    needs = needs_within(store, topics)
    mine = live(store, topics, Mind(random.Random(seed), needs, exercise), True, OURS, days)
    curve = [live(store, topics, Mind(random.Random(seed), needs, exercise), False, each, days) for each in RETENTIONS]
    return mine, curve


def needs_within(store: GraphStore, topics: Sequence[str]) -> dict[str, list[str]]:
    """What each topic rests on directly, of those studied."""
    mine = set(topics)
    return {
        topic: sorted({e.before for e in store.effective_prerequisites(topic) if e.strength == "needed"} & mine)
        for topic in topics
    }


def at_equal_recall(curve: Sequence[Outcome], recall: float) -> float:
    """The reviews at which a curve has this recall; beyond its ends along its last piece."""
    points = sorted(curve, key=lambda each: each.recall)
    pieces = list(itertools.pairwise(points))
    low, high = next((piece for piece in pieces if piece[1].recall >= recall), pieces[-1])
    if recall < points[0].recall:
        low, high = pieces[0]
    share = (recall - low.recall) / (high.recall - low.recall)
    return low.reviews + share * (high.reviews - low.reviews)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--goal", nargs="*", default=GOALS)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--exercise", type=float, nargs="*", default=EXERCISE)
    given = parser.parse_args()
    store = open_service(Settings.read()).store
    table = Table("exercise", "reviews, ours", "recall, ours", f"plain, target {OURS}", "its recall",
                  "plain at our recall", "fewer reviews", "goal by goal")  # fmt: skip
    goals = {goal: [step.topic.id for step in plan_path(store, [goal]).steps] for goal in given.goal}
    for exercise in given.exercise:
        ours: list[Outcome] = []
        curves: list[list[Outcome]] = []
        by_goal: list[str] = []
        for goal, topics in goals.items():
            lives = [both_ways(store, topics, f"{goal} {seed}", exercise, given.days) for seed in range(given.seeds)]
            ours.append(pooled([mine for mine, _ in lives], [len(topics)] * given.seeds))
            curves.append(
                [pooled(each, [1] * given.seeds) for each in zip(*(curve for _, curve in lives), strict=True)]
            )
            by_goal.append(f"{1 - ours[-1].reviews / at_equal_recall(curves[-1], ours[-1].recall):.0%}")
        sizes = [len(topics) for topics in goals.values()]
        mine = pooled(ours, sizes)
        curve = [pooled(each, sizes) for each in zip(*curves, strict=True)]
        plain, level = curve[RETENTIONS.index(OURS)], at_equal_recall(curve, mine.recall)
        table.add_row(
            f"{exercise:.2f}", f"{mine.reviews:,}", f"{mine.recall:.3f}", f"{plain.reviews:,}", f"{plain.recall:.3f}",
            f"{level:,.0f}", f"{1 - mine.reviews / level:.0%}", " ".join(by_goal),
        )  # fmt: skip
    Console(width=140).print(table)
    whose = ", ".join(f"{goal} ({len(topics)} topics)" for goal, topics in goals.items())
    Console(width=140).print(f"{given.seeds} learners for each of {whose}; {given.days} days.")


def pooled(outcomes: Sequence[Outcome], weights: Sequence[int]) -> Outcome:
    """Several learners as one: reviews added up, recall averaged by weight."""
    recall = sum(each.recall * weight for each, weight in zip(outcomes, weights, strict=True)) / sum(weights)
    return Outcome(sum(each.reviews for each in outcomes), recall)


if __name__ == "__main__":
    main()
