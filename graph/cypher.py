"""The atlas as a Cypher script, for any Neo4j: no plugin, no parameters, and it may be run again.

Nodes are merged by their ids and edges by their ends. Labels, relationships and properties are those of an atlas that
`genatlas neo4j load` brings (docs/neo4j.md), without builds; `group` is '' on a prerequisite that has none.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import cast

from graph.model import Atlas
from graph.tables import EdgeTable, NodeTable, Rows, edge_tables, node_tables

BATCH = 250
"""Rows of one statement: some hundred kilobytes, which a server reads in a moment."""

_ESCAPED = re.compile(r"\\u|[\\'\x00-\x1f\x7f-\x9f\u2028\u2029]")
_ESCAPES = {r"\u": r"\\' + 'u", "\\": r"\\", "'": r"\'", "\n": r"\n", "\r": r"\r", "\t": r"\t"}
"""A backslash before a u ends its literal: older servers read a code point there, whatever stands before it."""


def to_cypher(atlas: Atlas) -> str:
    """Return a script that merges the whole atlas: one statement after another, each ending in `;` and a newline.

    No line within a statement ends in `;`. An edge or node that an earlier script brought and this one lacks stays.
    """
    title = " ".join(atlas.title.split())
    head = f"// {title}, written by genatlas export --format cypher. To load it: cypher-shell < FILE\n"
    return head + "".join(f"{statement};\n" for statement in _statements(atlas))


def cypher_literal(value: object) -> str:
    """Return a text, number, truth value, list or mapping as Cypher writes it; None is null."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case int() | float():
            return repr(value)
        case str():
            return f"'{_ESCAPED.sub(_escape, value)}'"
        case Mapping():
            fields = cast("Mapping[str, object]", value).items()
            return "{" + ", ".join(f"{name}: {cypher_literal(each)}" for name, each in fields) + "}"
        case list() | tuple():
            return f"[{', '.join(map(cypher_literal, cast('Sequence[object]', value)))}]"
        case _:
            raise TypeError(f"Cypher has no literal for a {type(value).__name__}.")


def _escape(found: re.Match[str]) -> str:
    return _ESCAPES.get(found[0]) or f"\\u{ord(found[0]):04x}"


def _statements(atlas: Atlas) -> Iterator[str]:
    """Constraints, which are the indexes that merging needs, then nodes, then edges, in batches."""
    nodes = node_tables(atlas)
    keys = {table.label: table.key for table in nodes}
    for table in nodes:
        name = f"genatlas_{table.label.lower()}_{table.key}"
        yield f"CREATE CONSTRAINT {name} IF NOT EXISTS FOR (n:{table.label}) REQUIRE n.{table.key} IS UNIQUE"
    for table in nodes:
        for rows in _batches(table.rows):
            yield _node_statement(table, rows)
    for table in edge_tables(atlas):
        for rows in _batches(table.rows):
            yield _edge_statement(table, keys, rows)


def _batches(rows: Rows) -> Iterator[str]:
    """The rows as list literals, each row on a line of its own."""
    for start in range(0, len(rows), BATCH):
        yield "[\n" + ",\n".join(map(cypher_literal, rows[start : start + BATCH])) + "\n]"


def _node_statement(table: NodeTable, rows: str) -> str:
    return f"UNWIND {rows} AS row\nMERGE (n:{table.label} {{{table.key}: row.{table.key}}})\nSET n += row"


def _edge_statement(table: EdgeTable, keys: Mapping[str, str], rows: str) -> str:
    start, end = f"{table.start} {{{keys[table.start]}: row.start}}", f"{table.end} {{{keys[table.end]}: row.end}}"
    apart = f"{{{table.key}: coalesce(row.edge.{table.key}, '')}}" if table.key else "{}"
    return (
        f"UNWIND {rows} AS row\nMATCH (a:{start})\nMATCH (z:{end})\n"
        f"MERGE (a)-[e:{table.kind} {apart}]->(z)\nSET e += row.edge, e += {apart}"
    )
