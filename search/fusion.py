"""Ranked lists joined into one, by ranks alone: their scores need not be comparable."""

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

K = 10
"""Of reciprocal rank fusion. The paper has 60 for deep lists of whole documents; here the first few ranks decide."""

T = TypeVar("T", bound=Hashable)


@dataclass(frozen=True, slots=True)
class RankedList(Generic[T]):
    """Things, best first and each once, and how much their ranks count beside those of other lists."""

    items: Sequence[T]
    weight: float = 1.0


def fuse_rankings(lists: Iterable[RankedList[T]], k: float = K) -> dict[T, float]:
    """Return the score Σ weight / (k + rank) of everything in some list, rank from 1; what a list lacks adds nothing.

    Reciprocal rank fusion (Cormack et al. 2009). The scores do not depend on the order of the lists.
    """
    shares: dict[T, list[float]] = {}
    for ranked in lists:
        for rank, item in enumerate(ranked.items, start=1):
            shares.setdefault(item, []).append(ranked.weight / (k + rank))
    return {item: math.fsum(parts) for item, parts in shares.items()}
