"""What can go wrong when a study path is planned."""

from collections.abc import Sequence

from graph import AtlasError


class UnreachableGoal(AtlasError):
    """The prerequisites of a goal go round in a circle, so no order satisfies them. `cycle` starts and ends alike."""

    def __init__(self, goal: str, cycle: Sequence[str]) -> None:
        self.goal = goal
        self.cycle = tuple(cycle)
        super().__init__(
            f'No order leads to "{goal}": these prerequisites form a cycle: {" → ".join(cycle)}. '
            "Remove one of them from the corpus and build again: genatlas check"
        )


class NotOnPath(AtlasError):
    """A topic is no step of a path; `because` says why it is not."""

    def __init__(self, topic_id: str, because: str) -> None:
        self.topic_id = topic_id
        self.because = because
        super().__init__(f"{topic_id} is no step of this path: {because}. The steps: genatlas path GOAL")


class NothingFits(AtlasError):
    """Not even the shortest step of a path fits the time that there is."""

    def __init__(self, minutes: int, shortest: int) -> None:
        self.minutes = minutes
        self.shortest = shortest
        super().__init__(
            f"Nothing fits {minutes} minutes: the shortest first step takes {shortest}. Give more time, or name what "
            "you know already: --known"
        )


class TooLittleTime(AtlasError):
    """The days until the end hold fewer minutes than a path takes."""

    def __init__(self, needed: int, available: int) -> None:
        self.needed = needed
        self.available = available
        super().__init__(
            f"The path takes {needed} minutes, and the days until the end hold {available}. Fit it to the time, study "
            "longer a day, or end later"
        )
