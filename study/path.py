"""Study paths: the topics to learn for one or more goals, in an order that never breaks a prerequisite."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from graph import GraphStore, Prerequisite, Topic
from study.errors import UnreachableGoal


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a step stands on the path: the step `needed_by` cannot be followed without it, because of `why`."""

    needed_by: str
    why: str
    strength: str
    depth: str


@dataclass(frozen=True, slots=True)
class Step:
    """One topic of a path. `number` counts from 1; a goal without dependants on the path has no reasons.

    `gist` is set when every reason is content with the idea, so that the step may be read and not studied.
    """

    number: int
    topic: Topic
    reasons: tuple[Reason, ...]
    is_goal: bool
    gist: bool

    def told_once(self, store: GraphStore) -> list[tuple[str, str]]:
        """Return each reason once with the titles of the steps that it serves: an ancestor's edge serves several."""
        titles_by_why: dict[str, list[str]] = {}
        for reason in self.reasons:
            titles_by_why.setdefault(reason.why, []).append(store.topic(reason.needed_by).title)
        return [(_listed(titles), why) for why, titles in titles_by_why.items()]


def _listed(titles: Sequence[str]) -> str:
    """Up to two titles, and how many more there are."""
    first, *others = titles
    if len(others) > 1:
        return f"{first} and {len(others)} more steps"
    return " and ".join(titles)


@dataclass(frozen=True, slots=True)
class StudyPath:
    """What to learn for the goals, first things first. `known` are the topics that were left out as known."""

    goals: tuple[str, ...]
    steps: tuple[Step, ...]
    known: tuple[str, ...]
    thorough: bool

    @property
    def minutes(self) -> int:
        """Study time of the steps whose time was estimated; `unestimated` counts the others."""
        return sum(step.topic.minutes or 0 for step in self.steps)

    @property
    def unestimated(self) -> int:
        """Steps without an authored study time."""
        return sum(step.topic.minutes is None for step in self.steps)


def plan_path(
    store: GraphStore, goals: Sequence[str], known: Collection[str] = (), thorough: bool = False
) -> StudyPath:
    """Return the steps from what is known to the goals, ordered so that each stands on the ones before it.

    Minimal by default: what is needed, and the goals themselves; of a section as a goal its direct subtopics too, since
    its own text only introduces them. `thorough` adds the helpful prerequisites and all subtopics of the goals. Of an
    either-or the alternative is taken that adds the least study time; a topic whose twin is known or already on the
    path is not asked for again; what a known topic needs counts as known. The walk is depth-first in outline order,
    which puts a prerequisite shortly before its use. Deterministic.
    Raises TopicNotFound for an unknown id and UnreachableGoal where the prerequisites form a cycle.
    """
    wanted = dict.fromkeys(topic.id for goal in goals for topic in _asked(store, goal, thorough))
    planner = _Planner(store, _closure_of_known(store, known), frozenset(wanted), thorough)
    for goal in wanted:
        planner.visit(goal)
    steps = tuple(
        Step(
            number=number,
            topic=store.topic(topic_id),
            reasons=tuple(reasons),
            is_goal=topic_id in wanted,
            gist=bool(reasons) and topic_id not in wanted and all(reason.depth == "gist" for reason in reasons),
        )
        for number, (topic_id, reasons) in enumerate(planner.reasons_by_step.items(), start=1)
    )
    return StudyPath(tuple(goals), steps, tuple(sorted(known)), thorough)


def _asked(store: GraphStore, goal: str, thorough: bool) -> Sequence[Topic]:
    """The topics that a goal asks for."""
    if thorough:
        return store.subtree(goal)
    topic = store.topic(goal)
    return [topic, *store.children(goal)] if topic.depth == 0 else [topic]


def _closure_of_known(store: GraphStore, known: Collection[str]) -> frozenset[str]:
    """The known topics, all that they need, and the twins of both."""
    closed: set[str] = set()
    open_ids = list(known)
    while open_ids:
        topic_id = open_ids.pop()
        if topic_id not in closed:
            closed.add(topic_id)
            open_ids.extend(twin.id for twin in store.twins(topic_id))
            open_ids.extend(
                edge.before
                for edge in store.effective_prerequisites(topic_id)
                if edge.strength == "needed" and edge.group is None
            )
    return frozenset(closed)


class _Planner:
    """One depth-first walk. `reasons_by_step` fills in study order."""

    def __init__(self, store: GraphStore, known: frozenset[str], goals: frozenset[str], thorough: bool) -> None:
        self.reasons_by_step: dict[str, list[Reason]] = {}
        self._store = store
        self._known = known
        self._goals = goals
        self._thorough = thorough
        self._underway: dict[str, None] = {}

    def visit(self, topic_id: str) -> None:
        """Put the topic on the path behind everything that it needs."""
        if topic_id in self._known or topic_id in self.reasons_by_step:
            return
        if topic_id in self._underway:
            line = list(self._underway)
            raise UnreachableGoal(line[0], [*line[line.index(topic_id) :], topic_id])
        self._underway[topic_id] = None
        chosen = self._chosen(topic_id)
        for place, _ in chosen:
            self.visit(place)
        del self._underway[topic_id]
        self.reasons_by_step[topic_id] = []
        for place, edge in chosen:
            if place in self.reasons_by_step:
                self.reasons_by_step[place].append(Reason(topic_id, edge.why, edge.strength, edge.depth))

    def _chosen(self, topic_id: str) -> list[tuple[str, Prerequisite]]:
        """The edges to follow from a topic, one of each either-or, with the place that will satisfy each."""
        chosen: dict[str, tuple[str, Prerequisite]] = {}
        alternatives: dict[str, list[Prerequisite]] = {}
        for edge in self._store.effective_prerequisites(topic_id):
            if edge.strength == "helpful" and not self._thorough:
                continue
            if edge.group is not None:
                alternatives.setdefault(edge.group, []).append(edge)
            else:
                place = self._place(edge.before)
                chosen.setdefault(place, (place, edge))
        for edges in alternatives.values():
            cheapest = min(edges, key=lambda edge: (self._cost(edge.before), self._store.topic(edge.before).position))
            place = self._place(cheapest.before)
            chosen.setdefault(place, (place, cheapest))
        return list(chosen.values())

    def _place(self, topic_id: str) -> str:
        """The topic or the twin of it that the path already has or that is a goal anyway."""
        if topic_id in self._known or topic_id in self.reasons_by_step:
            return topic_id
        for twin in self._store.twins(topic_id):
            if twin.id in self.reasons_by_step or (twin.id in self._goals and not self._leads_back(twin.id)):
                return twin.id
        return topic_id

    def _leads_back(self, topic_id: str) -> bool:
        """Whether a topic is, or needs in the end, one that is underway: then another place of its concept must do."""
        seen: set[str] = set()
        open_ids = [topic_id]
        while open_ids:
            each = open_ids.pop()
            if each in self._underway:
                return True
            if each not in seen and each not in self.reasons_by_step:
                seen.add(each)
                open_ids.extend(edge.before for edge in self._store.effective_prerequisites(each))
        return False

    def _cost(self, topic_id: str) -> int:
        """Minutes that learning the topic would add to the path as it stands; an unwritten estimate counts 10."""
        added: dict[str, int] = {}
        open_ids = [self._place(topic_id)]
        while open_ids:
            each = open_ids.pop()
            if each in self._known or each in self.reasons_by_step or each in added:
                continue
            added[each] = self._store.topic(each).minutes or 10
            open_ids.extend(
                self._place(edge.before)
                for edge in self._store.effective_prerequisites(each)
                if edge.strength == "needed" and edge.group is None
            )
        return sum(added.values())
