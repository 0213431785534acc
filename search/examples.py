"""Texts that stand for something: questions of fields beside the atlas, and of its comparisons."""

from collections.abc import Sequence
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
    """Return what one asks to be given each comparison, by its id: its own question, and its sides by their titles."""
    titles = {topic.id: topic.title for topic in atlas.topics}
    return [
        Example(comparison.id, text)
        for comparison in atlas.comparisons
        for text in (
            comparison.question,
            f"difference between {' and '.join(titles[side] for side in comparison.between)}",
        )
    ]


class Examples:
    """Examples with their vectors: which of them is nearest to a query. Safe to share between threads."""

    def __init__(self, examples: Sequence[Example], vectors: NDArray[np.float32]) -> None:
        """`vectors` is (n, d), a unit vector for each example."""
        if len(examples) != len(vectors):
            raise ValueError(f"{len(examples)} examples do not go with {len(vectors)} vectors.")
        self._examples = examples
        self._vectors = vectors

    def nearest(self, query: NDArray[np.float32]) -> tuple[str, float] | None:
        """Return the name of the example nearest to a query, a unit vector (d,), and its cosine; None without any."""
        if not self._examples:
            return None
        cosines = np.einsum("nd,d->n", self._vectors, query)  # (n,); so few need no index, and no second thread
        best = int(np.argmax(cosines))
        return self._examples[best].name, float(cosines[best])


NO_EXAMPLES = Examples((), np.zeros((0, 0), np.float32))
