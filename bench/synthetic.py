"""Atlases of any size that look like the shipped one: for measuring growth, not for reading.

Shape as measured on the shipped atlas: sections of some 170 topics, four levels deep with fan-outs of 3 to 7, 0.7
prerequisites a topic mostly from earlier siblings and sections, 8 % of the topics twins, a comparison for every fifth.
"""

import numpy as np

from graph import Aspect, Atlas, Comparison, ConceptGroup, Prerequisite, Topic

SECTION, FAN_OUT, DEPTH = 170, (3, 8), 4
NEEDS, TWINS, COMPARED = 0.7, 0.08, 0.2
WORDS = 4_000
"""Different words of all titles and summaries; they are drawn as in natural text, the commonest far more often."""


def synthetic_atlas(topics: int, seed: int = 0) -> Atlas:
    """An atlas of so many topics; the same size and seed give the same atlas."""
    rng = np.random.default_rng(seed)
    ids: list[str] = []
    while len(ids) < topics:
        _grow(f"s{len(ids)}", min(SECTION, topics - len(ids)), ids, rng)
    spoken = 1 / np.arange(1, WORDS + 1)
    words: list[list[int]] = rng.choice(WORDS, size=(len(ids), 24), p=spoken / spoken.sum()).tolist()
    rows: list[Topic] = []
    path: dict[str, tuple[str, ...]] = {}
    for position, topic_id in enumerate(ids):
        parent = topic_id.rpartition("/")[0]
        title = " ".join(f"w{word}" for word in words[position][:3])
        path[topic_id] = (*path.get(parent, ()), title)
        rows.append(
            Topic(
                topic_id,
                title,
                path[topic_id],
                position,
                topic_id.count("/"),
                parent or None,
                summary=" ".join(f"w{word}" for word in words[position]),
                minutes=8,
            )
        )
    return Atlas(
        f"Synthetic, {topics:,} topics",
        tuple(rows),
        _prerequisites(ids, rng),
        _comparisons(ids, rng),
        _twins(ids, rng),
    )


def _grow(top: str, size: int, ids: list[str], rng: np.random.Generator) -> None:
    """A subtree of so many topics, in outline order."""
    ids.append(top)
    left = size - 1
    if left and top.count("/") < DEPTH:
        parts = min(left, int(rng.integers(*FAN_OUT)))
        for part in range(parts):
            share = left // (parts - part)
            _grow(f"{top}/t{part}", share, ids, rng)
            left -= share
    else:
        ids.extend(f"{top}/t{number}" for number in range(left))


def _prerequisites(ids: list[str], rng: np.random.Generator) -> tuple[Prerequisite, ...]:
    """Edges from earlier topics to later ones, half of them from the last hundred before."""
    after = np.flatnonzero(rng.random(len(ids)) < NEEDS)
    after = after[after > 0]
    near = np.minimum(after, rng.integers(1, 100, len(after)))
    far = rng.integers(1, after + 1)
    before = after - np.where(rng.random(len(after)) < 0.5, near, far)
    pairs: list[list[int]] = np.stack([before, after], axis=1).tolist()
    return tuple(
        Prerequisite(ids[b], ids[a], f"{ids[a]} builds on {ids[b]}.")
        for b, a in pairs
        if not ids[a].startswith(f"{ids[b]}/") and ids[a] != ids[b]
    )


def _comparisons(ids: list[str], rng: np.random.Generator) -> tuple[Comparison, ...]:
    pairs: list[list[int]] = rng.integers(0, len(ids), (int(COMPARED * len(ids)), 2)).tolist()
    return tuple(
        Comparison(f"c{n}", (ids[a], ids[b]), "Which?", (Aspect("cost", ("low", "high")),), "Both.", "Either.")
        for n, (a, b) in enumerate(pairs)
        if a != b
    )


def _twins(ids: list[str], rng: np.random.Generator) -> tuple[ConceptGroup, ...]:
    shuffled = rng.permutation(len(ids))[: 2 * (int(TWINS * len(ids)) // 2)]
    drawn: list[list[int]] = shuffled.reshape(-1, 2).tolist()
    return tuple(ConceptGroup((ids[a], ids[b])) for a, b in drawn)
