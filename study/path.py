"""Study paths: the topics to learn for one or more goals, in an order that never breaks a prerequisite."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from graph import GraphStore, Prerequisite, Topic
from study.errors import UnreachableGoal
from study.order import arrange

UNWRITTEN_MINUTES = 10
"""Study time that a topic counts for until its author has estimated it; exports mark such a time as a guess."""


def study_minutes(topic: Topic, gist: bool = False) -> int:
    """Study time of a topic; where the gist is enough, half of it: it is read and not worked through."""
    whole = topic.minutes or UNWRITTEN_MINUTES
    return (whole + 1) // 2 if gist else whole


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a step stands on the path: the step `needed_by` cannot be followed without it, because of `why`.

    Where the author left a choice, `instead` are the other topics that would have served.
    """

    needed_by: str
    why: str
    strength: str
    depth: str
    instead: tuple[str, ...] = ()


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

    @property
    def minutes(self) -> int:
        """Study time of the step: half the topic's where the gist is enough, a guess where nobody has estimated it."""
        return study_minutes(self.topic, self.gist)

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
        return sum(step.minutes for step in self.steps if step.topic.minutes is not None)

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
    path is not asked for again; what a known topic needs counts as known. Related topics stay together, and a
    prerequisite from the floor stands shortly before its use (`study.order`). Deterministic.
    Raises TopicNotFound for an unknown id and UnreachableGoal where the prerequisites form a cycle.
    """
    asked = dict.fromkeys(goals)
    wanted = dict.fromkeys(topic.id for goal in asked for topic in _asked(store, goal, thorough))
    planner = _Planner(store, implied_by(store, known), frozenset(wanted), thorough)
    for goal in wanted:
        planner.visit(goal)
    reasons_by_step = planner.reasons_by_step
    topics = {topic_id: store.topic(topic_id) for topic_id in reasons_by_step}
    needs: dict[str, list[str]] = {topic_id: [] for topic_id in topics}
    for before, reasons in reasons_by_step.items():
        for reason in reasons:
            needs[reason.needed_by].append(before)
    order = arrange(
        list(topics),
        needs,
        {topic.id: topic.section for topic in topics.values()},
        {topic.id for topic in topics.values() if topic.origin == "foundation"},
    )
    place = {topic_id: number for number, topic_id in enumerate(order)}
    steps = tuple(
        Step(
            number=number,
            topic=topics[topic_id],
            reasons=tuple(sorted(reasons_by_step[topic_id], key=lambda reason: place[reason.needed_by])),
            is_goal=topic_id in wanted,
            gist=topic_id not in wanted and all(reason.depth == "gist" for reason in reasons_by_step[topic_id]),
        )
        for number, topic_id in enumerate(order, start=1)
    )
    return StudyPath(tuple(asked), steps, tuple(sorted(set(known))), thorough)


def _asked(store: GraphStore, goal: str, thorough: bool) -> Sequence[Topic]:
    """The topics that a goal asks for."""
    if thorough:
        return store.subtree(goal)
    topic = store.topic(goal)
    return [topic, *store.children(goal)] if topic.depth == 0 else [topic]


def implied_by(store: GraphStore, known: Collection[str]) -> frozenset[str]:
    """Return the known topics, all that they need, and the twins of both."""
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
    """One depth-first walk that chooses the steps. `reasons_by_step` fills in an order that keeps every need."""

    def __init__(self, store: GraphStore, known: frozenset[str], goals: frozenset[str], thorough: bool) -> None:
        self.reasons_by_step: dict[str, list[Reason]] = {}
        self._store = store
        self._known = known
        self._goals = goals
        self._thorough = thorough
        self._underway: dict[str, None] = {}

    def visit(self, topic_id: str) -> None:
        """Put the topic on the path behind everything that it needs."""
        line = [self._learn(topic_id)]  # a stack of its own: a chain of prerequisites may be longer than Python's
        while line:
            before = next(line[-1], None)
            if before is None:
                line.pop()
            else:
                line.append(self._learn(before))

    def _learn(self, topic_id: str) -> Iterator[str]:
        """Yield what is to be learned before a topic, each once the last one is on the path; then add the topic."""
        if topic_id in self._known or topic_id in self.reasons_by_step:
            return
        if topic_id in self._underway:
            line = list(self._underway)
            raise UnreachableGoal(line[0], [*line[line.index(topic_id) :], topic_id])
        self._underway[topic_id] = None
        single, choices = self._edges(topic_id)
        reasons: dict[str, Reason] = {}
        for edge in single:
            place = self._place(edge.before)
            yield place
            _add(reasons, place, edge, topic_id)
        for edges in choices:  # what is asked for anyway costs an either-or nothing more, so these come after
            edge = min(edges, key=lambda edge: (self._cost(edge), self._store.topic(edge.before).position))
            place = self._place(edge.before)
            yield place
            _add(reasons, place, edge, topic_id, tuple(other.before for other in edges if other is not edge))
        del self._underway[topic_id]
        self.reasons_by_step[topic_id] = []
        for place, reason in reasons.items():
            if place in self.reasons_by_step:
                self.reasons_by_step[place].append(reason)

    def _edges(self, topic_id: str) -> tuple[list[Prerequisite], list[list[Prerequisite]]]:
        """The edges to follow from a topic, and its either-ors."""
        single: list[Prerequisite] = []
        choices: dict[str, list[Prerequisite]] = {}
        for edge in self._store.effective_prerequisites(topic_id):
            if edge.strength == "needed" or self._thorough:
                if edge.group is None:
                    single.append(edge)
                else:
                    choices.setdefault(edge.group, []).append(edge)
        return single, list(choices.values())

    def _place(self, topic_id: str) -> str:
        """The place of a topic's concept that the path has or will have in any case; otherwise the one that was named.

        A twin that would take fewer minutes is not looked for: it mostly does because less was written about it, and a
        path to ViT through the one-page summary of each attention topic is shorter and worse.
        """
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

    def _cost(self, edge: Prerequisite) -> int:
        """Minutes that following the edge would add to the path as it stands."""
        added: dict[str, int] = {}
        open_edges = [edge]
        while open_edges:
            edge = open_edges.pop()
            place = self._place(edge.before)
            if place in self._known or place in self.reasons_by_step:
                continue
            if place not in added:
                open_edges.extend(
                    each
                    for each in self._store.effective_prerequisites(place)
                    if each.strength == "needed" and each.group is None
                )
            minutes = study_minutes(self._store.topic(place), edge.depth == "gist")
            added[place] = max(minutes, added.get(place, 0))
        return sum(added.values())


def _add(
    reasons: dict[str, Reason], place: str, edge: Prerequisite, needed_by: str, instead: tuple[str, ...] = ()
) -> None:
    """Note why a place is learned; of several edges that it satisfies the strictest is the reason."""
    reason = Reason(needed_by, edge.why, edge.strength, edge.depth, instead)
    if place not in reasons or _strictness(reason) > _strictness(reasons[place]):
        reasons[place] = reason


def _strictness(reason: Reason) -> tuple[bool, bool]:
    return reason.strength == "needed", reason.depth == "full"
