"""What is wrong with a file, where, and what to write instead; all problems of a corpus at once."""

from collections.abc import Iterable
from dataclasses import dataclass

from graph import AtlasError


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing to mend. `line` counts from 1; `instead` is what to write or do, "" where `what` already says it."""

    file: str
    line: int
    what: str
    instead: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.what}" + (f"\n    {self.instead}" if self.instead else "")


LISTED = 200
"""So many problems stand in a message; a file of the wrong kind can have one on each of a million lines."""


class CorpusError(AtlasError):
    """An outline or a corpus cannot be read. `problems` has all of them, by file and line; nothing was changed."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(set(problems)))
        count = len(self.problems)
        listed = "\n".join(str(problem) for problem in self.problems[:LISTED])
        if count > LISTED:
            listed += f"\n… and {count - LISTED:,} more"
        super().__init__(f"{listed}\n{count:,} problem{'s' if count != 1 else ''}; nothing was changed.")
