"""Where things stand in a picture: pure functions from topics and links to positions and rectangles."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from graph import EdgeKind, GraphStore, Neighbourhood, Topic

Role = Literal["centre", "before", "after", "parent", "child", "compare", "concept", "other"]

# Directions in degrees, clockwise from the right as on a screen: what comes first stands on the left, what it unlocks
# on the right, the whole above, the parts below.
_CENTRE_OF_ROLE: dict[Role, float] = {
    "after": -25,
    "child": 65,
    "compare": 120,
    "concept": 142,
    "before": 185,
    "parent": 245,
}
_DEGREES_A_NODE = (9.0, 17.0)
"""What a neighbour takes of the circle: at least, and at most where there are few."""
_STRETCH = 1.34
"""Width of the ellipse over its height: labels need room sideways."""
_BEYOND = 2.1
"""Radius of the second circle over that of the first."""
_ARC = 20.0
"""What a node of a section's tree takes of its level's circle, in the picture's units."""


@dataclass(frozen=True, slots=True)
class Node:
    """A topic in a picture. x grows to the right and y downwards; `tilt` turns the label, in radians."""

    topic: Topic
    role: Role
    x: float
    y: float
    size: float
    font: float
    tilt: float
    side: Literal["left", "right", "center"]


@dataclass(frozen=True, slots=True)
class Rectangle:
    """A topic in the map, as parts of the whole's width and height. `level` counts from 0 within what is shown."""

    topic: Topic
    level: int
    x: float
    y: float
    width: float
    height: float


def roles(picture: Neighbourhood) -> dict[str, Role]:
    """What each topic of a neighbourhood is to its centre; "other" where only another neighbour links to it.

    A topic that is several things to the centre takes the first of: prerequisite, unlocked, parent, child, comparison.
    """
    found: dict[str, Role] = {}
    rank: list[Role] = ["before", "after", "parent", "child", "compare", "concept"]
    for link in picture.links:
        if picture.centre not in (link.source, link.target):
            continue
        outward = link.source == picture.centre
        other = link.target if outward else link.source
        role = _role(link.kind, outward)
        if other not in found or rank.index(role) < rank.index(found[other]):
            found[other] = role
    every: dict[str, Role] = {}
    for topic in picture.topics:
        every[topic.id] = "centre" if topic.id == picture.centre else found.get(topic.id, "other")
    return every


def _role(kind: EdgeKind, outward: bool) -> Role:
    match kind:
        case "prerequisite":
            return "after" if outward else "before"
        case "hierarchy":
            return "child" if outward else "parent"
        case "comparison":
            return "compare"
        case "concept":
            return "concept"


def neighbourhood_nodes(picture: Neighbourhood) -> list[Node]:
    """Positions of a neighbourhood: the centre at the origin, its neighbours on an ellipse, the rest outside theirs."""
    role_of = roles(picture)
    topics = {topic.id: topic for topic in picture.topics}
    ring: dict[Role, list[str]] = {}
    for topic_id, role in role_of.items():
        if role not in ("centre", "other"):
            ring.setdefault(role, []).append(topic_id)
    angle_of = _ring_angles(ring)
    radius = max(190.0, 8.0 * len(angle_of))
    wide = len(topics) > 1 + len(angle_of)  # two steps: the picture is drawn smaller, so its letters are larger
    nodes = [Node(topics[picture.centre], "centre", 0, 0, 34, 18 if wide else 13, 0, "center")]
    for number, (topic_id, angle) in enumerate(sorted(angle_of.items(), key=lambda item: item[1])):
        stagger = 1.0 if wide or len(angle_of) <= 26 or number % 2 == 0 else 1.25
        nodes.append(_on_ellipse(topics[topic_id], role_of[topic_id], angle, radius * stagger, 20, 15 if wide else 12))
    nodes.extend(_outer(picture, role_of, angle_of, topics, radius))
    return nodes


def _ring_angles(ring: Mapping[Role, Sequence[str]]) -> dict[str, float]:
    """A direction for each neighbour: each role around its own direction, pushed aside where roles would overlap."""
    present: list[Role] = [role for role in _CENTRE_OF_ROLE if role in ring]
    count = sum(len(names) for names in ring.values())
    least, most = _DEGREES_A_NODE
    each = min(most, max(least, 250.0 / max(1, count)))
    wanted = [max(14.0, each * len(ring[role])) for role in present]
    scale = min(1.0, 345.0 / sum(wanted)) if wanted else 1.0
    widths: dict[Role, float] = {role: width * scale for role, width in zip(present, wanted, strict=True)}
    centres: dict[Role, float] = {role: _CENTRE_OF_ROLE[role] for role in present}
    following: list[Role] = [*present[1:], *present[:1]]
    for _ in range(60):
        for one, other in zip(present, following, strict=True):
            if one == other:
                continue
            turn = 360.0 if other == present[0] else 0.0
            overlap = (centres[one] + widths[one] / 2) - (centres[other] + turn - widths[other] / 2)
            if overlap > 0:
                centres[one] -= overlap / 2
                centres[other] += overlap / 2
    angles: dict[str, float] = {}
    for role in present:
        names, width = ring[role], widths[role]
        step = width / len(names)
        # Left of the centre the order runs upwards, so that lists read from top to bottom on both sides.
        ordered = list(reversed(names)) if 90 < centres[role] % 360 < 270 else list(names)
        for number, name in enumerate(ordered):
            angles[name] = centres[role] - width / 2 + step * (number + 0.5)
    return angles


def _outer(
    picture: Neighbourhood,
    role_of: Mapping[str, Role],
    angle_of: Mapping[str, float],
    topics: Mapping[str, Topic],
    radius: float,
) -> list[Node]:
    """The topics two links away, each behind the neighbour that leads to it, on a circle beyond the labels."""
    behind: dict[str, list[str]] = {}
    placed: set[str] = set()
    for link in picture.links:
        for inner, outer in ((link.source, link.target), (link.target, link.source)):
            if inner in angle_of and role_of[outer] == "other" and outer not in placed:
                behind.setdefault(inner, []).append(outer)
                placed.add(outer)
    wanted: dict[str, float] = {}
    for inner, names in behind.items():
        spread = min(7.0, 40.0 / len(names))
        for place, name in enumerate(names):
            wanted[name] = (angle_of[inner] + spread * (place - (len(names) - 1) / 2)) % 360
    return [
        _on_ellipse(topics[name], "other", angle, radius * _BEYOND, 12, 13)
        for name, angle in _apart(wanted, 4.5).items()
    ]


def _apart(wanted: Mapping[str, float], step: float) -> dict[str, float]:
    """Directions on a circle at least `step` degrees apart (less where they are too many), as near as can be to those
    that are wanted, in their order."""
    if not wanted:
        return {}
    ordered = sorted(wanted.items(), key=lambda item: item[1])
    step = min(step, 360.0 / len(ordered))
    gaps = [(ordered[place][1] - ordered[place - 1][1]) % 360 for place in range(len(ordered))]
    cut = gaps.index(max(gaps))  # the circle is opened where it is emptiest
    names = [name for name, _ in ordered[cut:] + ordered[:cut]]
    begin = wanted[names[0]]
    blocks: list[tuple[float, int]] = []  # runs of neighbours exactly a step apart: mean of angle − place·step, length
    for place, name in enumerate(names):
        mean, count = (wanted[name] - begin) % 360 - place * step, 1
        while blocks and blocks[-1][0] > mean:
            before, length = blocks.pop()
            mean, count = (before * length + mean * count) / (length + count), length + count
        blocks.append((mean, count))
    angles = [mean for mean, count in blocks for _ in range(count)]
    if angles[-1] - angles[0] + len(names) * step > 360:
        step, angles = 360.0 / len(names), [angles[0]] * len(names)
    return {name: begin + angle + place * step for place, (name, angle) in enumerate(zip(names, angles, strict=True))}


def _on_ellipse(topic: Topic, role: Role, degrees: float, radius: float, size: float, font: float) -> Node:
    angle = math.radians(degrees)
    x, y = _STRETCH * radius * math.cos(angle), radius * math.sin(angle)
    seen = math.atan2(y, x)
    on_the_right = x >= 0
    lean = seen if on_the_right else seen - math.copysign(math.pi, seen)
    return Node(topic, role, x, y, size, font, 0.58 * lean, "right" if on_the_right else "left")


def section_nodes(store: GraphStore, section: str, limit: int = 360) -> list[Node]:
    """A section as a radial tree: at most `limit` topics, the deepest levels left out first."""
    topics = list(store.subtree(section))
    deepest = max(topic.depth for topic in topics)
    while len(topics) > limit:
        deepest -= 1
        topics = [topic for topic in topics if topic.depth <= deepest]
    shown = {topic.id for topic in topics}
    children = {topic.id: [child.id for child in store.children(topic.id) if child.id in shown] for topic in topics}
    # A node at depth d needs 1/d of the angle that one at depth 1 needs for the same arc, and room for all below it.
    needs: dict[str, float] = {}
    for topic in reversed(topics):
        needs[topic.id] = max(1 / max(1, topic.depth), sum(needs[child] for child in children[topic.id]))
    wedge: dict[str, tuple[float, float]] = {section: (0.0, 360.0)}
    for topic in topics:
        begin, end = wedge[topic.id]
        share = (end - begin) / sum(needs[child] for child in children[topic.id]) if children[topic.id] else 0.0
        for child in children[topic.id]:
            wedge[child] = (begin, begin + share * needs[child])
            begin = wedge[child][1]
    angle = {topic_id: (begin + end) / 2 for topic_id, (begin, end) in wedge.items()}
    step = max(95.0, _ARC * needs[section] / math.tau)
    nodes: list[Node] = []
    for topic in topics:
        if topic.depth == 0:
            nodes.append(Node(topic, "centre", 0, 0, 34, 14, 0, "center"))
            continue
        role: Role = "child" if topic.depth == 1 else "other"
        node = _on_ellipse(
            topic, role, angle[topic.id], step * topic.depth, 20 - 3 * min(topic.depth, 4), 13 - topic.depth
        )
        upright = math.atan2(node.y, node.x)
        tilt = upright if node.side == "right" else upright - math.copysign(math.pi, upright)
        nodes.append(Node(topic, role, node.x, node.y, node.size, max(8, node.font), tilt, node.side))
    return nodes


def treemap(store: GraphStore, inside: str | None, aspect: float = 1.45) -> list[Rectangle]:
    """Two levels of the outline as rectangles; area grows with the leaf topics to the power 0.8.

    `inside` names the topic that is opened, None for the whole outline (foundations left out). `aspect` is width over
    height of the picture. A parent comes before its children, so that they are drawn over it.
    """
    if inside is None:
        top = [topic for topic in store.topics() if topic.depth == 0 and topic.origin == "outline"]
    else:
        top = list(store.children(inside))
    weights = {topic.id: _leaves(store, topic.id) ** 0.8 for topic in top}
    rectangles: list[Rectangle] = []
    for topic, (x, y, width, height) in _squarify(top, weights, 0.0, 0.0, aspect, 1.0):
        rectangles.append(Rectangle(topic, 0, x / aspect, y, width / aspect, height))
        children = list(store.children(topic.id))
        head = min(0.055, height / 2)
        if not children or height - head < 0.03 or width < 0.05:
            continue
        inner = {child.id: _leaves(store, child.id) ** 0.8 for child in children}
        margin = 0.004
        area = (x + margin, y + head, width - 2 * margin, height - head - margin)
        for child, (cx, cy, cw, ch) in _squarify(children, inner, *area):
            rectangles.append(Rectangle(child, 1, cx / aspect, cy, cw / aspect, ch))
    return rectangles


def _leaves(store: GraphStore, topic_id: str) -> int:
    subtree = store.subtree(topic_id)
    parents = {topic.parent for topic in subtree}
    return sum(topic.id not in parents for topic in subtree)


Box = tuple[float, float, float, float]


def _squarify(
    topics: Sequence[Topic], weights: Mapping[str, float], x: float, y: float, width: float, height: float
) -> list[tuple[Topic, Box]]:
    """Rectangles of near-square shape that fill the box (Bruls, Huizing and van Wijk 2000, squarified treemaps)."""
    ordered = sorted(topics, key=lambda topic: (-weights[topic.id], topic.position))
    unit = width * height / sum(weights[topic.id] for topic in ordered) if ordered else 0.0
    placed: list[tuple[Topic, Box]] = []
    row: list[Topic] = []

    def worst(candidates: Sequence[Topic], side: float) -> float:
        areas = [weights[topic.id] * unit for topic in candidates]
        total = sum(areas)
        return max(max(side * side * area / total**2, total**2 / (side * side * area)) for area in areas)

    def lay_row() -> None:
        nonlocal x, y, width, height
        total = sum(weights[topic.id] * unit for topic in row)
        across = width >= height
        thickness = total / (height if across else width)
        offset = 0.0
        for topic in row:
            length = weights[topic.id] * unit / thickness
            placed.append((topic, (x, y + offset, thickness, length) if across else (x + offset, y, length, thickness)))
            offset += length
        if across:
            x, width = x + thickness, width - thickness
        else:
            y, height = y + thickness, height - thickness

    for topic in ordered:
        side = min(width, height)
        if row and worst([*row, topic], side) > worst(row, side):
            lay_row()
            row = []
        row.append(topic)
    if row:
        lay_row()
    return placed
