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


class ProfileUnknown(AtlasError):
    """There is no learner profile of this name. `nearest` are names that read like it, best first."""

    def __init__(self, name: str, nearest: Sequence[str] = ()) -> None:
        self.name = name
        self.nearest = tuple(nearest)
        hint = f" Nearest: {', '.join(self.nearest)}." if self.nearest else ""
        super().__init__(f'No profile "{name}".{hint} All profiles: genatlas profile list; a new one: profile new NAME')


class ProfileExists(AtlasError):
    """A profile of this name is there already, and nothing was changed."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f'There is a profile "{name}" already; nothing was changed. Choose another name')


class ProfileNameInvalid(AtlasError):
    """A profile cannot have this name."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(
            f'"{name}" is no name for a profile: it takes 1 to 64 letters, digits, spaces and . _ - @, and begins with '
            "a letter or a digit"
        )


class ProgressUnreadable(AtlasError):
    """What should hold learners' progress cannot be read as such."""


class ProgressUnavailable(AtlasError):
    """The database of learners' progress cannot be reached or written at present; nothing was changed."""
