"""Topics cut into passages: the units that are embedded and indexed."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from graph import Atlas, Topic

PassageField = Literal[
    "title", "label", "path", "summary", "detail", "alias", "question", "misconception", "formula", "look_at"
]
LABELS: tuple[PassageField, ...] = ("title", "label", "path")
"""Three views of a topic's place, which every topic has: alone, with its parent, with all its ancestors."""

NAMES: tuple[PassageField, ...] = ("title", "label", "alias")
"""What a topic may be called. A path is none: its words come from many topics."""


SHORTEST_PART = 200
"""Characters, from which a paragraph of a detail stands alone."""


@dataclass(frozen=True, slots=True)
class Passage:
    """One piece of text of one topic, as it is embedded and indexed.

    `text` is what is searched; its vector depends on nothing else.
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

    A topic without text has its three labels, and as an alias the abbreviation that its title may hold. A detail is
    cut between paragraphs.
    """
    return [passage for topic in atlas.topics for passage in _cut(topic)]


def _cut(topic: Topic) -> Iterator[Passage]:
    def passage(field: PassageField, text: str) -> Passage:
        return Passage(topic.id, field, text)

    yield passage("title", topic.title)
    yield passage("label", f"{topic.title} ({topic.title_path[-2]})" if topic.depth else topic.title)
    yield passage("path", " > ".join(topic.title_path))
    # Running text seldom repeats the title, and "it" alone says nothing: the title leads it.
    if topic.summary:
        yield passage("summary", f"{topic.title}: {topic.summary}")
    for part in _parts(topic.detail):
        yield passage("detail", f"{topic.title}: {part}")
    for alias in dict.fromkeys([*_short_names(topic.title), *topic.aliases]):
        yield passage("alias", alias)
    for question in topic.questions:
        yield passage("question", question)
    if topic.misconception:
        yield passage("misconception", f"{topic.title}: {topic.misconception}")
    if topic.formula:
        yield passage("formula", f"{topic.title}: {topic.formula}")
    if topic.demo is not None and topic.demo.look_at:
        yield passage("look_at", f"{topic.title}: {topic.demo.look_at}")


def _short_names(title: str) -> Iterator[str]:
    """The abbreviation in a title with parentheses, on either side: of "Conditional GAN (cGAN)", "BERT (Bi…)"."""
    outside, parenthesis, rest = title.partition("(")
    for name in (outside.strip(), rest.partition(")")[0].strip()):
        if parenthesis and " " not in name and sum(sign.isupper() for sign in name) > 1:
            yield name


def _parts(detail: str) -> Iterator[str]:
    """The paragraphs of a detail, short ones joined with what follows: a heading alone matches everything."""
    part = ""
    for paragraph in detail.split("\n\n"):
        part = f"{part}\n\n{paragraph.strip()}".strip()
        if len(part) >= SHORTEST_PART:
            yield part
            part = ""
    if part:
        yield part
