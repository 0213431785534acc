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
