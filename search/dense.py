"""Passages by meaning: inner products of unit vectors, through FAISS. Only `service` imports this module."""

from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from search.errors import IndexUnreadable

# A query takes a millisecond of one thread. Several would wait for each other, spinning: on two busy cores that cost
# five times as much (measured on 25,000 passages).
faiss.omp_set_num_threads(1)


COARSE_FROM = 10_000
"""Passages from which a search looks at 4-bit codes first and at the vectors of the nearest only."""

SHORTLIST = 4
"""Times as many passages as are wanted have their exact cosines computed. All of the exact 80 nearest of 25,000
passages are among them; 192 codes of 4 bits a vector take a twelfth of the time that all vectors take."""


class DimensionMismatch(ValueError):
    """Vectors of another length than the index holds: they come from another encoder."""

    def __init__(self, given: int, held: int) -> None:
        super().__init__(
            f"The index holds vectors of {held} numbers, and was given {given}: another encoder made them."
        )


class DenseIndex:
    """One unit vector a passage. All are compared with the query, as coarse codes first where there are many.

    The codes are product-quantised (Jégou et al. 2011) and scanned in registers (André et al. 2015). Cosines are those
    of the vectors in any case, and a search among given passages is exact.
    """

    def __init__(self, index: faiss.IndexFlat | faiss.IndexRefineFlat) -> None:
        self._index = index
        self._exact = faiss.downcast_index(index.refine_index) if isinstance(index, faiss.IndexRefineFlat) else index

    @classmethod
    def build(cls, vectors: NDArray[np.float32]) -> "DenseIndex":
        """Index vectors (n, d), rows of unit length; their order gives the passage numbers."""
        n, d = vectors.shape
        rows = np.ascontiguousarray(vectors, dtype=np.float32)
        if n < COARSE_FROM or d % 2:
            index = faiss.IndexFlatIP(d)
        else:
            made = faiss.index_factory(d, f"PQ{d // 2}x4fs,RFlat", faiss.METRIC_INNER_PRODUCT)
            assert isinstance(made, faiss.IndexRefineFlat)  # noqa: S101 (the factory declares a wider type)
            index = made
            index.k_factor = SHORTLIST
            index.train(rows)
        index.add(rows)
        return cls(index)

    def __len__(self) -> int:
        """How many passages are indexed."""
        return self._index.ntotal

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return self._index.d

    def vectors(self) -> NDArray[np.float32]:
        """All vectors (n, d), a copy: what a later build takes over."""
        return self._exact.reconstruct_n(0, len(self))

    def search(
        self, queries: NDArray[np.float32], k: int, among: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return the k most similar passages per query: cosines (n, k), best first, and passage numbers (n, k).

        queries is (n, d), rows of unit length. `among` admits only these passages. With fewer than k of them both
        results have as many columns as there are. Raises DimensionMismatch when d is not the index's.
        """
        if queries.shape[1] != self.dimension:
            raise DimensionMismatch(queries.shape[1], self.dimension)
        k = min(k, len(self) if among is None else len(among))
        if k == 0:
            return np.zeros((len(queries), 0), np.float32), np.zeros((len(queries), 0), np.int64)
        rows = np.ascontiguousarray(queries, dtype=np.float32)
        if among is None:
            return self._index.search(rows, k)
        chosen = faiss.SearchParameters(sel=faiss.IDSelectorBatch(among))  # pyright: ignore[reportCallIssue] (SWIG takes fields by name)
        return self._exact.search(rows, k, params=chosen)

    def cosines(self, query: NDArray[np.float32], numbers: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the cosines (n,) of these passages with one query, a unit vector (d,).

        Raises IndexError for a number that no passage has.
        """
        found = np.empty(len(numbers), dtype=np.float32)
        if not len(numbers):
            return found
        if numbers.min() < 0 or numbers.max() >= len(self):
            raise IndexError(f"Passage numbers run from 0 to {len(self) - 1}.")
        # In place: gathering the vectors first takes three times as long. SWIG gives it no type.
        faiss.fvec_inner_products_by_idx(  # pyright: ignore[reportUnknownMemberType, reportAttributeAccessIssue]
            faiss.swig_ptr(found),
            faiss.swig_ptr(np.ascontiguousarray(query, dtype=np.float32)),
            self._exact.get_xb(),  # pyright: ignore[reportUnknownMemberType, reportAttributeAccessIssue]
            faiss.swig_ptr(np.ascontiguousarray(numbers, dtype=np.int64)),
            self.dimension,
            1,
            len(numbers),
        )
        return found

    def save(self, path: Path) -> None:
        """Write the index to a file."""
        faiss.write_index(self._index, str(path))

    @classmethod
    def load(cls, path: Path) -> "DenseIndex":
        """Open what `save` wrote. Raises IndexUnreadable."""
        if not path.is_file():
            raise IndexUnreadable(path, "is missing")
        try:
            index = faiss.read_index(str(path))
        except RuntimeError as error:
            raise IndexUnreadable(path, "cannot be read") from error
        if not isinstance(index, faiss.IndexFlat | faiss.IndexRefineFlat):
            raise IndexUnreadable(path, f"is another kind of index ({type(index).__name__})")
        return cls(index)
