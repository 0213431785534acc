"""How long work tells how far it has come."""

from typing import Protocol


class Progress(Protocol):
    """Hears how far something has come."""

    def __call__(self, stage: str, fraction: float) -> None:
        """`stage` says what is being done, `fraction` how much is done (0 to 1)."""
        ...


def no_progress(stage: str, fraction: float) -> None:
    """Report to nobody."""
