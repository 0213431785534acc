"""Topics side by side: as an author compared them, or put together from what the atlas says of each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from graph import Comparison, GraphStore, Topic
from search.sentences import sentences_of

NOTHING = "—"
NAMED = 3
"""Prerequisites that a cell names."""


@dataclass(frozen=True, slots=True)
class AspectRow:
    """One row of a comparison's table: a value for each side."""

    aspect: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AspectTable:
    """A comparison as an answer shows it: topic ids and titles of the sides, and a row for each aspect.

    `comparison` is the id of the authored one; None when the rows were put together from the topics' own fields.
    """

    comparison: str | None
    topics: tuple[str, ...]
    titles: tuple[str, ...]
    rows: tuple[AspectRow, ...]


def authored_table(comparison: Comparison, store: GraphStore) -> AspectTable:
    """Return the table that an author wrote."""
    return AspectTable(
        comparison.id,
        comparison.between,
        tuple(store.topic(side).title for side in comparison.between),
        tuple(AspectRow(aspect.name, aspect.values) for aspect in comparison.aspects),
    )


def built_table(sides: Sequence[Topic], store: GraphStore) -> AspectTable:
    """Return a table of what the sides' own fields say; a row that no side has anything for is left out."""

    def needed(side: Topic) -> str:
        edges = [edge for edge in store.effective_prerequisites(side.id) if edge.strength == "needed"]
        return ", ".join(dict.fromkeys(store.topic(edge.before).title for edge in edges[:NAMED]))

    aspects: dict[str, Callable[[Topic], str]] = {
        "Part of": lambda side: " › ".join(side.title_path[:-1]),
        "Formula": lambda side: f"${side.formula}$" if side.formula else "",
        "Often misread": lambda side: "".join(sentences_of(side.misconception)[:1]),
        "Who knows it can": lambda side: "".join(side.outcomes[:1]),
        "Needed first": needed,
        "Level": lambda side: f"{side.level}, {side.minutes} min" if side.level and side.minutes else "",
        "Demo": lambda side: f"{side.demo.demo}: {side.demo.look_at}" if side.demo is not None else "",
    }
    rows = [(aspect, [told(side) for side in sides]) for aspect, told in aspects.items()]
    return AspectTable(
        None,
        tuple(side.id for side in sides),
        tuple(side.title for side in sides),
        tuple(AspectRow(aspect, tuple(value or NOTHING for value in values)) for aspect, values in rows if any(values)),
    )
