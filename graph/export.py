"""The atlas in other people's formats: JSON and GraphML (read back losslessly) and Mermaid (to look at)."""

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec

from graph.errors import AtlasError
from graph.model import Atlas, DemoLink, Prerequisite, Topic
from graph.queries import Link, Neighbourhood


class ExportUnreadable(AtlasError):
    """A file that should hold an exported atlas does not. Its message names the place in the file."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"This is no exported atlas: {reason}. To write one: genatlas export --format json")


def to_json(atlas: Atlas) -> bytes:
    """Return the atlas as indented UTF-8 JSON in the documented shape (docs/formats.md), ending in a newline.

    The hierarchy and the demo links stand beside the topics as edges of their own, so that a reader needs no id rules.
    """
    document = {
        "title": atlas.title,
        "topics": [_topic_json(topic) for topic in atlas.topics],
        "hierarchy": [{"parent": p, "child": c, "order": n} for p, c, n in hierarchy(atlas)],
        "prerequisites": [msgspec.to_builtins(edge) for edge in atlas.prerequisites],
        "comparisons": [msgspec.to_builtins(comparison) for comparison in atlas.comparisons],
        "concepts": [list(group.topics) for group in atlas.concepts],
        "demos": [msgspec.to_builtins(demo) for demo in atlas.demos],
        "demonstrated_by": [
            {"topic": t.id, "demo": t.demo.demo, "params": dict(t.demo.params), "look_at": t.demo.look_at}
            for t in atlas.topics
            if t.demo is not None
        ],
        "boundary": [msgspec.to_builtins(field) for field in atlas.boundary],
        "references": [msgspec.to_builtins(reference) | {"link": reference.link} for reference in atlas.references],
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"


def _topic_json(topic: Topic) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(topic)
    return {name: value for name, value in fields.items() if name != "demo"}


def hierarchy(atlas: Atlas) -> Iterable[tuple[str, str, int]]:
    """Yield (parent, child, order among its siblings from 0) for every topic below another, in outline order."""
    count: dict[str, int] = {}
    for topic in atlas.topics:
        if topic.parent is not None:
            order = count.get(topic.parent, 0)
            count[topic.parent] = order + 1
            yield topic.parent, topic.id, order


def from_json(data: bytes) -> Atlas:
    """Read what `to_json` wrote and return the same atlas. Raises ExportUnreadable."""
    try:
        document = msgspec.json.decode(data, type=dict[str, Any])
        links = {
            row["topic"]: DemoLink(row["demo"], row["look_at"], row["params"]) for row in document["demonstrated_by"]
        }
        document["topics"] = [
            topic | {"demo": msgspec.to_builtins(links.get(topic["id"]))} for topic in document["topics"]
        ]
        document["concepts"] = [{"topics": group} for group in document["concepts"]]
        return msgspec.convert(document, type=Atlas)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ExportUnreadable(str(error)) from error
    except (KeyError, TypeError) as error:
        raise ExportUnreadable(f"something is missing or of the wrong kind: {error}") from error


def to_graphml(atlas: Atlas) -> bytes:
    """Return the atlas as GraphML: topics are nodes, prerequisites and the hierarchy are edges with a `kind`.

    Text, flags and numbers are attributes that any GraphML reader shows; what GraphML cannot hold (lists, comparisons,
    references) stands as JSON in attributes that end in `_json`, so that the file reads back to the same atlas.
    """
    import networkx as nx

    net: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    net.graph["title"] = atlas.title
    for part in ("comparisons", "concepts", "references", "demos", "boundary"):
        net.graph[f"{part}_json"] = msgspec.json.encode(getattr(atlas, part)).decode()
    for topic in atlas.topics:
        net.add_node(topic.id, **_flat(msgspec.to_builtins(topic)))
    for parent, child, order in hierarchy(atlas):
        net.add_edge(parent, child, kind="HAS_SUBTOPIC", order=order)
    for order, edge in enumerate(atlas.prerequisites):
        fields: dict[str, Any] = msgspec.to_builtins(edge)
        net.add_edge(edge.before, edge.after, kind="PREREQUISITE_OF", order=order, **_flat(fields))
    for comparison in atlas.comparisons:
        first, *others = comparison.between
        for other in others:
            net.add_edge(first, other, kind="COMPARES_WITH", comparison=comparison.id)
    for group in atlas.concepts:
        for twin in group.topics[1:]:
            net.add_edge(group.canonical, twin, kind="SAME_CONCEPT_AS")
    return "\n".join(nx.generate_graphml(net)).encode() + b"\n"


def _flat(fields: dict[str, Any]) -> dict[str, str | int | float | bool]:
    """Fields as GraphML attributes: nested values as JSON under `<name>_json`, None left out."""
    flat: dict[str, str | int | float | bool] = {}
    for name, value in fields.items():
        if isinstance(value, list | tuple | dict):
            flat[f"{name}_json"] = msgspec.json.encode(value).decode()
        elif value is not None:
            flat[name] = value
    return flat


def _deep(flat: dict[str, Any]) -> dict[str, Any]:
    """The inverse of `_flat`."""
    return {
        name.removesuffix("_json"): msgspec.json.decode(value) if name.endswith("_json") else value
        for name, value in flat.items()
    }


def from_graphml(data: bytes) -> Atlas:
    """Read what `to_graphml` wrote and return the same atlas. Raises ExportUnreadable."""
    import networkx as nx

    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise ExportUnreadable("it declares a document type, which an exported atlas never does")
    try:
        net = nx.parse_graphml(data.decode(), force_multigraph=True)
        edges = sorted(
            (fields for _, _, fields in net.edges(data=True) if fields.get("kind") == "PREREQUISITE_OF"),
            key=lambda fields: fields["order"],
        )
        document = _deep(dict(net.graph))
        topics: list[dict[str, Any]] = [{"parent": None} | _deep(dict(fields)) for _, fields in net.nodes(data=True)]
        document["topics"] = sorted(topics, key=lambda fields: fields["position"])
        document["prerequisites"] = [msgspec.convert(_deep(dict(fields)), type=Prerequisite) for fields in edges]
        return msgspec.convert(document, type=Atlas)
    except (nx.NetworkXError, msgspec.DecodeError, UnicodeDecodeError, SyntaxError, ValueError) as error:
        raise ExportUnreadable(str(error)) from error
    except (KeyError, TypeError) as error:
        raise ExportUnreadable(f"something is missing or of the wrong kind: {error}") from error


_ARROWS = {"prerequisite": "-->", "hierarchy": "---", "comparison": "-.-", "concept": "==="}


def to_mermaid(picture: Neighbourhood) -> str:
    """Return a neighbourhood as a Mermaid flowchart: arrows are prerequisites, lines part-of, dots comparisons."""
    names = {topic.id: f"t{number}" for number, topic in enumerate(picture.topics)}
    lines = ["flowchart LR"]
    lines += [f'  {names[topic.id]}["{_mermaid_text(topic.title)}"]' for topic in picture.topics]
    lines += [_mermaid_link(link, names) for link in picture.links]
    lines.append(f"  style {names[picture.centre]} stroke-width:3px")
    return "\n".join(lines) + "\n"


FEW = 3
"""Prerequisites between two sections from which a picture of the sections draws an arrow."""


def to_mermaid_sections(atlas: Atlas) -> str:
    """Return the sections as a Mermaid flowchart: an arrow says how many prerequisites lead from one to another.

    Arrows that stand for fewer than FEW are left out.
    """
    sections = [topic for topic in atlas.topics if topic.parent is None]
    names = {section.id: f"s{number}" for number, section in enumerate(sections)}
    sizes = Counter(topic.section for topic in atlas.topics)
    section_of = {topic.id: topic.section for topic in atlas.topics}
    arrows = Counter((section_of[edge.before], section_of[edge.after]) for edge in atlas.prerequisites)
    lines = ["flowchart LR"]
    lines += [f'  {names[each.id]}["{_mermaid_text(each.title)}<br>topics: {sizes[each.id]}"]' for each in sections]
    lines += [
        f"  {names[before]} -->|{count}| {names[after]}"
        for (before, after), count in sorted(arrows.items(), key=lambda arrow: (-arrow[1], arrow[0]))
        if before != after and count >= FEW
    ]
    return "\n".join(lines) + "\n"


def _mermaid_link(link: Link, names: dict[str, str]) -> str:
    return f"  {names[link.source]} {_ARROWS[link.kind]} {names[link.target]}"


def _mermaid_text(title: str) -> str:
    """A title with what Mermaid would read as syntax written as its entity codes."""
    return re.sub(r'["#;<>`\[\]{}|]', lambda found: f"#{ord(found.group())};", title)
