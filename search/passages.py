"""Topics cut into passages: the units that are embedded and indexed."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from graph import Atlas, Topic

PassageField = Literal["title", "path", "summary", "detail", "alias", "question", "misconception", "formula", "look_at"]


@dataclass(frozen=True, slots=True)
class Passage:
    """One piece of text of one topic, as it is embedded and indexed.

    `text` is what is searched; for a label that means its context too. It is what a vector depends on.
    """

    topic: str
    field: PassageField
    text: str

    @property
    def digest(self) -> str:
        """Hex SHA-256 of the text: passages of one digest have one vector, whatever topic or field they belong to."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def passages_of(atlas: Atlas) -> list[Passage]:
    """Return every passage of every topic, topics in the atlas's order, fields in the order of `PassageField`.

    A topic without text has its title and its title path; paragraphs of a detail are a passage each.
    """
    return [passage for topic in atlas.topics for passage in _cut(topic)]


def _cut(topic: Topic) -> Iterator[Passage]:
    yield Passage(topic.id, "title", titled(topic))
    yield Passage(topic.id, "path", " > ".join(topic.title_path))
    if topic.summary:
        yield Passage(topic.id, "summary", f"{topic.title}: {topic.summary}")
    for paragraph in topic.detail.split("\n\n"):
        if paragraph.strip():
            yield Passage(topic.id, "detail", f"{topic.title}: {paragraph.strip()}")
    for alias in topic.aliases:
        yield Passage(topic.id, "alias", alias)
    for question in topic.questions:
        yield Passage(topic.id, "question", question)
    if topic.misconception:
        yield Passage(topic.id, "misconception", f"{topic.title}: {topic.misconception}")
    if topic.formula:
        yield Passage(topic.id, "formula", f"{topic.title}: {topic.formula}")
    if topic.demo is not None and topic.demo.look_at:
        yield Passage(topic.id, "look_at", f"{topic.title}: {topic.demo.look_at}")


def titled(topic: Topic) -> str:
    """The title with its parent's: most titles ("Applications", "Loss Functions") say little alone."""
    return topic.title if len(topic.title_path) < 2 else f"{topic.title} ({topic.title_path[-2]})"
