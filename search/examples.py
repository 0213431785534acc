"""Texts that stand for something: questions of fields beside the atlas, and of its comparisons."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from graph import Atlas


@dataclass(frozen=True, slots=True)
class Example:
    """A text and the name of what it stands for."""

    name: str
    text: str


def boundary_examples(atlas: Atlas) -> list[Example]:
    """Return the names and questions of every neighbouring field, which the atlas does not cover, in its order."""
    return [Example(field.name, text) for field in atlas.boundary for text in (field.name, *field.questions)]


def comparison_examples(atlas: Atlas) -> list[Example]:
    """Return what one asks to be given each comparison, by its id: its own question, and its sides by their titles.

    Where other topics have such a title too, the section is said: "… Pre-training and Fine-Tuning in Vision
    Transformers".
    """
    topics = {topic.id: topic for topic in atlas.topics}
    places = Counter(topic.title.casefold() for topic in atlas.topics)

    def by_title(between: Sequence[str]) -> str:
        sides = [topics[side] for side in between]
        sections = {side.title_path[0].partition(" (")[0] for side in sides}
        is_shared = any(places[side.title.casefold()] > 1 for side in sides)
        where = f" in {sections.pop()}" if is_shared and len(sections) == 1 else ""
        return f"difference between {' and '.join(side.title for side in sides)}{where}"

    return [
        Example(comparison.id, text)
        for comparison in atlas.comparisons
        for text in (comparison.question, by_title(comparison.between))
    ]


class Examples:
    """Examples with their vectors: which of them is nearest to a query. Safe to share between threads."""

    def __init__(self, examples: Sequence[Example], vectors: NDArray[np.float32]) -> None:
        """`vectors` is (n, d), a unit vector for each example."""
        if len(examples) != len(vectors):
            raise ValueError(f"{len(examples)} examples do not go with {len(vectors)} vectors.")
        self._examples = examples
        self._vectors = vectors

    def with_vectors(self) -> Iterator[tuple[Example, NDArray[np.float32]]]:
        """Each example with its vector (d,)."""
        return zip(self._examples, self._vectors, strict=True)

    def nearest(self, query: NDArray[np.float32]) -> tuple[str, float] | None:
        """Return the name of the example nearest to a query, a unit vector (d,), and its cosine; None without any."""
        if not self._examples:
            return None
        cosines = self._cosines(query)
        best = int(np.argmax(cosines))
        return self._examples[best].name, float(cosines[best])

    def nearness(self, query: NDArray[np.float32]) -> dict[str, float]:
        """Return the cosine of each name's example nearest to a query, a unit vector (d,)."""
        found: dict[str, float] = {}
        for example, cosine in zip(self._examples, self._cosines(query).tolist(), strict=True):
            found[example.name] = max(cosine, found.get(example.name, -1.0))
        return found

    def _cosines(self, query: NDArray[np.float32]) -> NDArray[np.float32]:
        if not self._examples:
            return np.zeros(0, np.float32)
        return np.einsum("nd,d->n", self._vectors, query)  # (n,); so few need no index, and no second thread


NO_EXAMPLES = Examples((), np.zeros((0, 0), np.float32))
