"""Why a step stands on a path, what falls without it, what can be started now, and what a topic is good for."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from graph import GraphStore, Prerequisite, Topic
from study.errors import NotOnPath
from study.path import Reason, Step, StudyPath, implied_by, plan_path


@dataclass(frozen=True, slots=True)
class Because:
    """One link of a chain: `step` is learned for the step that `reason` names."""

    step: Step
    reason: Reason


@dataclass(frozen=True, slots=True)
class Loss:
    """A step that loses its footing: `reason` is why it needs `missing`, which is skipped or lost itself."""

    step: Step
    missing: Step
    reason: Reason


@dataclass(frozen=True, slots=True)
class Skipped:
    """What leaving out a step does to a path.

    `lost` are the steps that cannot be followed any more, in study order; `weakened` those that it only helped;
    `spared` the steps that are on the path for nothing else, so that they fall away too.
    """

    step: Step
    lost: tuple[Loss, ...]
    weakened: tuple[Reason, ...]
    spared: tuple[Step, ...]

    @property
    def minutes(self) -> int:
        """Study time that skipping saves: the step's own and that of the steps spared with it."""
        return self.step.minutes + sum(step.minutes for step in self.spared)


@dataclass(frozen=True, slots=True)
class Ready:
    """A topic that can be started now. `opens` is what becomes ready by it alone, `supports` all that rests on it."""

    topic: Topic
    opens: int
    supports: int


@dataclass(frozen=True, slots=True)
class Unlocks:
    """What a topic is good for: the edges that ask for it directly, and every topic that rests on it in the end.

    `direct` holds the edges of its twins too, needed ones first; `supports` is in outline order.
    """

    topic: Topic
    direct: tuple[Prerequisite, ...]
    supports: tuple[Topic, ...]

    @property
    def by_section(self) -> Mapping[str, int]:
        """How many of the topics that rest on it each section has, by the section's id, the most first."""
        return dict(Counter(topic.section for topic in self.supports).most_common())


def explain_step(store: GraphStore, path: StudyPath, topic_id: str) -> tuple[Because, ...]:
    """Return the shortest chain of reasons from a step to a goal, needed links before helpful ones; empty for a goal.

    A twin of the topic that stands on the path answers for it. Raises NotOnPath, which says why, and TopicNotFound.
    """
    step = step_of(store, path, topic_id)
    by_id = {each.topic.id: each for each in path.steps}
    best: dict[str, tuple[int, int]] = {}  # helpful links and links to the nearest goal
    onward: dict[str, Reason] = {}
    for each in reversed(path.steps):
        if each.is_goal:
            best[each.topic.id] = (0, 0)
            continue
        for reason in each.reasons:
            helpful, links = best[reason.needed_by]
            cost = (helpful + (reason.strength == "helpful"), links + 1)
            if each.topic.id not in best or cost < best[each.topic.id]:
                best[each.topic.id], onward[each.topic.id] = cost, reason
    chain: list[Because] = []
    while step.topic.id in onward:
        reason = onward[step.topic.id]
        chain.append(Because(step, reason))
        step = by_id[reason.needed_by]
    return tuple(chain)


def skip_step(store: GraphStore, path: StudyPath, topic_id: str) -> Skipped:
    """Return what a path loses without a step.

    A step keeps its footing where another step before it may serve as well. Raises NotOnPath and TopicNotFound.
    """
    skipped = step_of(store, path, topic_id)
    needs: dict[str, list[tuple[Step, Reason]]] = {}
    for step in path.steps:
        for reason in step.reasons:
            needs.setdefault(reason.needed_by, []).append((step, reason))
    gone = {skipped.topic.id}
    standing: set[str] = set()
    lost: list[Loss] = []
    for step in path.steps:
        if step is skipped:
            continue
        for before, reason in needs.get(step.topic.id, ()):
            if before.topic.id in gone and reason.strength == "needed" and standing.isdisjoint(reason.instead):
                lost.append(Loss(step, before, reason))
                gone.add(step.topic.id)
                break
        else:
            standing.add(step.topic.id)
    weakened = [reason for reason in skipped.reasons if reason.strength == "helpful" and reason.needed_by not in gone]
    unused = {skipped.topic.id}
    for step in reversed(path.steps):
        if not step.is_goal and step.reasons and all(reason.needed_by in unused for reason in step.reasons):
            unused.add(step.topic.id)
    spared = [step for step in path.steps if step.topic.id in unused and step is not skipped]
    return Skipped(skipped, tuple(lost), tuple(weakened), tuple(spared))


def step_of(store: GraphStore, path: StudyPath, topic_id: str) -> Step:
    """Return the step where a topic, or a twin of it, is learned. Raises NotOnPath and TopicNotFound."""
    by_id = {step.topic.id: step for step in path.steps}
    places = [topic_id, *(twin.id for twin in store.twins(topic_id))]
    for place in places:
        if place in by_id:
            return by_id[place]
    if topic_id in implied_by(store, path.known):
        raise NotOnPath(topic_id, "it counts as known: you named it, or something that needs it")
    for step in path.steps:
        for reason in step.reasons:
            if topic_id in reason.instead:
                raise NotOnPath(topic_id, f"{reason.needed_by} may use it or {step.topic.id}, which costs less here")
    raise NotOnPath(topic_id, "nothing on it needs this topic")


def ready_topics(store: GraphStore, known: Collection[str], goals: Sequence[str] = ()) -> tuple[Ready, ...]:
    """Return the topics whose needed prerequisites are all known, best first: those on which most others rest.

    With `goals` only the steps of their path, and only what rests on these there. Ties: what opens more, what takes
    less time, outline order. A concept is named once, at its canonical place if that is ready. Raises TopicNotFound.
    """
    if goals:
        return _ready_on_path(plan_path(store, goals, known))
    mine = implied_by(store, known)
    needs = _Needs(store)
    startable: dict[str, Topic] = {}
    for topic in store.topics():
        concept = needs.concept[topic.id]
        if topic.id not in mine and needs.met(topic.id, mine) and (concept == topic.id or concept not in startable):
            startable[concept] = topic
    found: list[Ready] = []
    for concept, topic in startable.items():
        with_it = mine | {topic.id} | {twin.id for twin in store.twins(topic.id)}
        after = needs.after.get(concept, set()) - mine
        opens = sum(needs.met(other, with_it) and not needs.met(other, mine) for other in after)
        found.append(Ready(topic, opens, len(needs.resting_on(concept) - mine)))
    return _ranked(found)


def _ready_on_path(path: StudyPath) -> tuple[Ready, ...]:
    waiting: dict[str, int] = {step.topic.id: 0 for step in path.steps}
    after: dict[str, set[str]] = {step.topic.id: set() for step in path.steps}
    for step in path.steps:
        for reason in step.reasons:
            waiting[reason.needed_by] += 1
            after[step.topic.id].add(reason.needed_by)
    resting: dict[str, set[str]] = {}
    for step in reversed(path.steps):
        resting[step.topic.id] = after[step.topic.id].union(*(resting[other] for other in after[step.topic.id]))
    return _ranked(
        [
            Ready(step.topic, sum(waiting[other] == 1 for other in after[step.topic.id]), len(resting[step.topic.id]))
            for step in path.steps
            if not waiting[step.topic.id]
        ]
    )


def _ranked(found: list[Ready]) -> tuple[Ready, ...]:
    def rank(each: Ready) -> tuple[int, int, int, int]:
        return -each.supports, -each.opens, each.topic.minutes or 0, each.topic.position

    return tuple(sorted(found, key=rank))


def unlocked_by(store: GraphStore, topic_id: str) -> Unlocks:
    """Return what asks for a topic, with the reasons, and all that rests on it in the end. Raises TopicNotFound."""
    topic = store.topic(topic_id)
    edges = [edge for place in (topic, *store.twins(topic_id)) for edge in store.dependents(place.id)]
    needs = _Needs(store)
    resting = needs.resting_on(needs.concept[topic_id])
    return Unlocks(
        topic,
        tuple(sorted(edges, key=lambda edge: edge.strength == "helpful")),
        tuple(each for each in store.topics() if each.id in resting),
    )


class _Needs:
    """What each topic needs, by concept: twins are one, and an either-or is one need with several ways.

    `concept` gives the canonical place of each topic, `after` the concepts that ask for one directly.
    """

    def __init__(self, store: GraphStore) -> None:
        self.concept = {topic.id: store.canonical(topic.id).id for topic in store.topics()}
        self.after: dict[str, set[str]] = {}
        self._edges: dict[str, tuple[Prerequisite, ...]] = {}
        for topic in store.topics():  # a parent stands before its subtopics, which inherit from it
            own = tuple(edge for edge in store.prerequisites(topic.id) if edge.strength == "needed")
            self._edges[topic.id] = (self._edges[topic.parent] if topic.parent else ()) + own
            for edge in self._edges[topic.id]:
                self.after.setdefault(self.concept[edge.before], set()).add(self.concept[topic.id])

    def met(self, topic_id: str, known: Collection[str]) -> bool:
        """Whether everything that a topic needs is known, of an either-or one way."""
        ways: dict[str, bool] = {}
        for edge in self._edges[topic_id]:
            is_known = edge.before in known
            if edge.group is not None:
                ways[edge.group] = ways.get(edge.group, False) or is_known
            elif not is_known:
                return False
        return all(ways.values())

    def resting_on(self, topic_id: str) -> set[str]:
        """The concepts that need this one in the end, whichever way they choose."""
        found: set[str] = set()
        open_ids = [topic_id]
        while open_ids:
            new = self.after.get(open_ids.pop(), set()) - found
            found |= new
            open_ids.extend(new)
        return found - {topic_id}
