"""The best part of a study path when there is not the time for all of it."""

from dataclasses import dataclass, replace

from study.errors import NothingFits
from study.path import Step, StudyPath

NEEDED, HELPFUL, SUBTOPIC, SUPPLEMENTARY = 1, 2, 3, 4
"""How far a link takes a step from its goal: worth is halved this many times."""
NEAREST = 64
"""Worth at no distance. Six halvings away every step counts 1; larger numbers would strain the solver's tolerance."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A step for which there is no time. `minutes_with_needs` adds what it needs and is left out as well."""

    step: Step
    minutes_with_needs: int


@dataclass(frozen=True, slots=True)
class FittedPath:
    """The steps that fit `minutes`, as a path of their own, and what was left out, in study order."""

    path: StudyPath
    minutes: int
    left_out: tuple[LeftOut, ...]

    @property
    def reaches(self) -> tuple[str, ...]:
        """The goals that the kept steps reach."""
        kept = {step.topic.id for step in self.path.steps}
        return tuple(goal for goal in self.path.goals if goal in kept)


def worth_of(path: StudyPath) -> dict[str, int]:
    """Return what each step is worth for the goals, by topic id.

    Worth is 64 at a goal, and halves for each needed link of the shortest way there; a helpful link halves it twice,
    and a subtopic that a goal merely brings with it has an eighth of it, a supplementary (starred) one a sixteenth.
    Each goal itself is worth more than everything else together.
    """
    goals = set(path.goals)
    distance: dict[str, int] = {}
    for step in reversed(path.steps):
        ways = [
            distance[reason.needed_by] + (NEEDED if reason.strength == "needed" else HELPFUL) for reason in step.reasons
        ]
        if step.is_goal:
            ways.append(SUPPLEMENTARY if step.topic.starred else SUBTOPIC)
        distance[step.topic.id] = 0 if step.topic.id in goals else min(ways)
    worth = {topic_id: max(1, NEAREST >> links) for topic_id, links in distance.items()}
    above_all = sum(value for topic_id, value in worth.items() if topic_id not in goals) + 1
    return {step.topic.id: above_all if step.topic.id in goals else worth[step.topic.id] for step in path.steps}


def fit_path(path: StudyPath, minutes: int) -> FittedPath:
    """Return the part of a path that is worth most for its goals and takes at most `minutes`.

    A step stays only with all that it needs on the path; of equally good parts the shortest is taken. Exact: an integer
    programme over the steps that HiGHS solves, in some 20 ms for most paths and up to 2 s for a whole section with all
    its subtopics. A path that fits is returned whole. Raises NothingFits when there is not the time for a single step.
    """
    if sum(step.minutes for step in path.steps) <= minutes:
        return FittedPath(path, minutes, ())
    first = min(step.minutes for step in path.steps if not _needs(path)[step.topic.id])
    if first > minutes:
        raise NothingFits(minutes, first)
    kept = _best_part(path, minutes)
    steps = [step for step in path.steps if step.topic.id in kept]
    fitted = replace(path, steps=tuple(replace(step, number=count) for count, step in enumerate(steps, start=1)))
    left_out = tuple(
        LeftOut(step, _minutes_to_add(path, step, kept)) for step in path.steps if step.topic.id not in kept
    )
    return FittedPath(fitted, minutes, left_out)


def _needs(path: StudyPath) -> dict[str, list[str]]:
    """What each step needs of the path directly."""
    needs: dict[str, list[str]] = {step.topic.id: [] for step in path.steps}
    for step in path.steps:
        for reason in step.reasons:
            if reason.strength == "needed":
                needs[reason.needed_by].append(step.topic.id)
    return needs


def _minutes_to_add(path: StudyPath, step: Step, kept: set[str]) -> int:
    """Minutes of a step and of everything that it needs and that is not kept."""
    needs = _needs(path)
    adding: set[str] = set()
    open_ids = [step.topic.id]
    while open_ids:
        each = open_ids.pop()
        if each not in kept and each not in adding:
            adding.add(each)
            open_ids.extend(needs[each])
    return sum(each.minutes for each in path.steps if each.topic.id in adding)


def _best_part(path: StudyPath, minutes: int) -> set[str]:
    """The topic ids of the best prerequisite-closed part.

    x (steps,) is 1 for a step that is kept. Maximise worth · x, less the share of all minutes that x takes, which is
    below 1 and so decides between equals only; with takes · x ≤ minutes, and x_after ≤ x_before for every needed edge.
    """
    import numpy as np
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import coo_array

    number = {step.topic.id: count for count, step in enumerate(path.steps)}
    edges = [(number[after], number[before]) for after, befores in _needs(path).items() for before in befores]
    worth = np.array(list(worth_of(path).values()), dtype=np.float64)  # (steps,)
    takes = np.array([step.minutes for step in path.steps], dtype=np.float64)  # (steps,)
    constraints = [LinearConstraint(takes[np.newaxis, :], ub=minutes)]
    if edges:
        rows, columns = np.repeat(np.arange(len(edges)), 2), np.array(edges).ravel()
        signs = np.tile([1.0, -1.0], len(edges))
        closed = coo_array((signs, (rows, columns)), shape=(len(edges), len(number)))
        constraints.append(LinearConstraint(closed.tocsr(), ub=0))  # x_after - x_before ≤ 0
    found = milp(
        takes / (takes.sum() + 1) - worth,
        integrality=np.ones(len(number), dtype=np.int64),
        bounds=Bounds(0, 1),
        constraints=constraints,
        options={"mip_rel_gap": 0.0},
    )
    if found.x is None:  # leaving everything out is always possible
        raise RuntimeError(f"HiGHS found no part of the path: {found.message}")
    return {topic_id for topic_id, count in number.items() if found.x[count] > 0.5}
