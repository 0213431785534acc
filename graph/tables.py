"""The atlas as tables of nodes and edges, the way a property graph holds it: values are numbers, texts and lists."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from graph.export import hierarchy
from graph.model import Atlas

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class NodeTable:
    """Nodes of one label, a row each with all their properties; `key` names the one that tells them apart."""

    name: str
    label: str
    key: str
    rows: Rows


@dataclass(frozen=True, slots=True)
class EdgeTable:
    """Edges of one kind: a row has the keys of its ends as `start` and `end`, and its properties as `edge`.

    `key` names the property that tells parallel edges apart; "" where there are none.
    """

    name: str
    start: str
    kind: str
    end: str
    rows: Rows
    key: str = ""


def node_tables(atlas: Atlas) -> list[NodeTable]:
    """Every node of an atlas, by label."""
    comparisons = [
        {
            "id": each.id,
            "question": each.question,
            "aspects": msgspec.json.encode(each.aspects).decode(),
            "same": each.same,
            "choose": each.choose,
            "order": order,
        }
        for order, each in enumerate(atlas.comparisons)
    ]
    return [
        NodeTable("topics", "Topic", "id", _topics(atlas)),
        NodeTable("demos", "Demo", "id", _in_order(atlas.demos)),
        NodeTable("references", "Reference", "key", _in_order(atlas.references)),
        NodeTable("comparisons", "Comparison", "id", comparisons),
    ]


def edge_tables(atlas: Atlas) -> list[EdgeTable]:
    """Every edge of an atlas, by kind."""
    return [
        EdgeTable(
            "subtopics",
            "Topic",
            "HAS_SUBTOPIC",
            "Topic",
            [_row(parent, child, order=order) for parent, child, order in hierarchy(atlas)],
        ),
        EdgeTable("prerequisites", "Topic", "PREREQUISITE_OF", "Topic", _prerequisites(atlas), key="group"),
        EdgeTable(
            "sides of comparisons",
            "Comparison",
            "HAS_SIDE",
            "Topic",
            [_row(each.id, side, order=order) for each in atlas.comparisons for order, side in enumerate(each.between)],
        ),
        EdgeTable(
            "comparisons between topics",
            "Topic",
            "COMPARES_WITH",
            "Topic",
            [
                _row(each.between[0], other, comparison=each.id)
                for each in atlas.comparisons
                for other in each.between[1:]
            ],
            key="comparison",
        ),
        EdgeTable(
            "concepts",
            "Topic",
            "SAME_CONCEPT_AS",
            "Topic",
            [
                _row(group.canonical, twin, group=number, order=order)
                for number, group in enumerate(atlas.concepts)
                for order, twin in enumerate(group.topics[1:], start=1)
            ],
        ),
        EdgeTable(
            "demos of topics",
            "Topic",
            "DEMONSTRATED_BY",
            "Demo",
            [
                _row(
                    each.id,
                    each.demo.demo,
                    params=msgspec.json.encode(each.demo.params).decode(),
                    look_at=each.demo.look_at,
                )
                for each in atlas.topics
                if each.demo is not None
            ],
        ),
        *(
            EdgeTable(
                f"references of {name}",
                label,
                "CITES",
                "Reference",
                [_row(each.id, key, order=order) for each in citing for order, key in enumerate(each.refs)],
            )
            for name, label, citing in (
                ("topics", "Topic", atlas.topics),
                ("comparisons", "Comparison", atlas.comparisons),
            )
        ),
    ]


def _row(start: str, end: str, **edge: Any) -> Mapping[str, Any]:
    return {"start": start, "end": end, "edge": edge}


def _topics(atlas: Atlas) -> Rows:
    rows: list[dict[str, Any]] = []
    for topic in atlas.topics:
        row = msgspec.to_builtins(topic)
        for elsewhere in ("parent", "demo", "refs"):  # these are edges
            del row[elsewhere]
        row["section"] = topic.section
        rows.append(row)
    return rows


def _in_order(values: Sequence[object]) -> Rows:
    return [msgspec.to_builtins(value) | {"order": order} for order, value in enumerate(values)]


def _prerequisites(atlas: Atlas) -> Rows:
    rows: list[Mapping[str, Any]] = []
    for order, edge in enumerate(atlas.prerequisites):
        fields = msgspec.to_builtins(edge) | {"order": order}
        del fields["before"], fields["after"]
        rows.append({"start": edge.before, "end": edge.after, "edge": fields})
    return rows
