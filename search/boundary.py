"""Where the atlas ends: the fields beside it, each known by its name and by questions that belong there."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from graph import Atlas


@dataclass(frozen=True, slots=True)
class Example:
    """A text that belongs to a field which the atlas does not cover."""

    field: str
    text: str


def examples_of(atlas: Atlas) -> list[Example]:
    """Return the names and questions of every neighbouring field, in the atlas's order."""
    return [Example(field.name, text) for field in atlas.boundary for text in (field.name, *field.questions)]


class Boundary:
    """Negative prototypes: how near a query is to what the atlas does not cover. Safe to share between threads."""

    def __init__(self, examples: Sequence[Example], vectors: NDArray[np.float32]) -> None:
        """`vectors` is (n, d), a unit vector for each example."""
        if len(examples) != len(vectors):
            raise ValueError(f"{len(examples)} examples do not go with {len(vectors)} vectors.")
        self._examples = examples
        self._vectors = vectors

    def nearest(self, query: NDArray[np.float32]) -> tuple[str, float] | None:
        """Return the field of the example nearest to a query, a unit vector (d,), and its cosine; None without any."""
        if not self._examples:
            return None
        cosines = self._vectors @ query  # (n,); some hundred examples: no index is faster
        best = int(np.argmax(cosines))
        return self._examples[best].field, float(cosines[best])
