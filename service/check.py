"""`genatlas check`: every problem of a corpus, then what deserves a second look."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from ingest import Corpus, Problem, lint, read_corpus_with_places


@dataclass(frozen=True, slots=True)
class CheckReport:
    """A corpus that reads: remarks by place, and what is still to be written or built."""

    topics: int
    written: int
    remarks: tuple[Problem, ...]
    bad_demo_lines: tuple[Problem, ...]
    pending_demos: tuple[str, ...]

    @property
    def failed(self) -> bool:
        """Whether something must be mended; remarks alone are no failure."""
        return bool(self.bad_demo_lines)

    @property
    def summary(self) -> str:
        """The outcome in one line."""
        return (
            f"{self.topics:,} topics read without a problem, {self.written:,} with text; "
            f"{len(self.remarks)} remarks, {len(self.bad_demo_lines)} wrong demo lines, "
            f"{len(self.pending_demos)} demos still to come."
        )

    def as_json(self) -> dict[str, Any]:
        """The report as JSON-able data."""
        document: dict[str, Any] = msgspec.to_builtins(self)
        return document


def check_corpus(folder: Path, home: Path | None = None) -> CheckReport:
    """Read and examine a corpus. Raises CorpusError with every problem.

    With a `home` (where demo descriptions are kept) each topic's demo line is held against the parameters of its demo.
    """
    from demos import catalogue

    corpus = read_corpus_with_places(folder)
    ready = catalogue().keys()
    named = {topic.demo.demo for topic in corpus.atlas.topics if topic.demo is not None}
    wrong: Sequence[Problem] = () if home is None else _bad_demo_lines(corpus, home / "demos")
    return CheckReport(
        topics=len(corpus.atlas.topics),
        written=sum(bool(topic.summary) for topic in corpus.atlas.topics),
        remarks=tuple(lint(corpus)),
        bad_demo_lines=tuple(wrong),
        pending_demos=tuple(sorted(named - ready)),
    )


def _bad_demo_lines(corpus: Corpus, cache: Path) -> list[Problem]:
    """Demo lines whose parameters the demo does not take."""
    from demos import BadParams, describe_all
    from demos.parameters import settle

    described = describe_all(cache)
    wrong: list[Problem] = []
    for topic in corpus.atlas.topics:
        if topic.demo is None or topic.demo.demo not in described:
            continue
        try:
            settle(described[topic.demo.demo], topic.demo.params)
        except BadParams as error:
            place = corpus.entries[topic.id]
            wrong.append(Problem(place.file, place.line, f'the demo line of "{topic.id}"', str(error)))
    return wrong
