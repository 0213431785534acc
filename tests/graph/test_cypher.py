"""The form of the Cypher script; tests/neo4j runs it."""

import re
from dataclasses import replace

import pytest

from graph import to_cypher
from graph.cypher import cypher_literal
from tests.graph.atlases import ATLAS


def test_a_script_is_statements_that_end_a_line_with_a_semicolon_and_nothing_else_does() -> None:
    spiteful = replace(
        ATLAS.topics[0], summary="one;\ntwo; // three\r\n'; MATCH (n) DETACH DELETE n;\n", title="a\\u0027"
    )
    script = to_cypher(replace(ATLAS, title="A\nB", topics=(spiteful, *ATLAS.topics[1:])))
    head, *statements, rest = re.split(r";\n|(?<=FILE)\n", script)
    assert head.startswith("// A B, written by")
    assert rest == ""
    assert {statement.split(" ", 1)[0] for statement in statements} == {"CREATE", "UNWIND"}
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f]", script)


@pytest.mark.parametrize(
    ("value", "literal"),
    [
        (None, "null"),
        (True, "true"),
        (-3, "-3"),
        (1e-9, "1e-09"),
        ("it's", r"'it\'s'"),
        (r"\frac", r"'\\frac'"),
        (r"\underbrace", r"'\\' + 'underbrace'"),
        ("a\nb\x00", r"'a\nb\u0000'"),
        ({"a": [1, "x"]}, "{a: [1, 'x']}"),
    ],
)
def test_a_value_is_written_as_cypher_reads_it(value: object, literal: str) -> None:
    assert cypher_literal(value) == literal


def test_what_cypher_has_no_literal_for_is_a_mistake_of_ours() -> None:
    with pytest.raises(TypeError, match="set"):
        cypher_literal({1})
