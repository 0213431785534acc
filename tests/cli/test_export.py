"""`genatlas export` in the formats of others; tests/graph and tests/ui hold their contents to account."""

import csv
import json
from pathlib import Path

import pytest

from ingest import parse_outline
from tests.cli.test_cli import GOLDEN
from tests.conftest import Genatlas


def test_the_outline_reads_back_from_opml_without_the_foundations(genatlas: Genatlas, tmp_path: Path) -> None:
    file = tmp_path / "outline.opml"
    done = genatlas("export", "--format", "opml", "-o", str(file))
    assert done.returncode == 0, done.stderr
    outline = parse_outline(file.read_bytes())
    with GOLDEN.open(encoding="utf-8") as golden:
        rows = list(csv.DictReader(golden, delimiter="\t", quoting=csv.QUOTE_NONE))
    assert [(topic.id, topic.title, str(topic.depth)) for topic in outline.topics] == [
        (row["id"], row["title"], row["depth"]) for row in rows
    ]
    assert sum(topic.starred for topic in outline.topics) == 159


def test_jsonld_names_the_topics_by_urn_or_by_page(genatlas: Genatlas) -> None:
    for options, name in (
        ((), "urn:genatlas:topics/bert"),
        (("--base-url", "https://atlas.example/"), "https://atlas.example/topics/bert.html"),
    ):
        document = json.loads(genatlas("export", "--format", "jsonld", *options).stdout)
        assert name in {node["@id"] for node in document["@graph"]}


def test_cypher_and_mermaid_are_written(genatlas: Genatlas) -> None:
    assert "MERGE (n:Topic {id: row.id})" in genatlas("export", "--format", "cypher").stdout
    picture = genatlas("export", "--format", "mermaid").stdout
    assert picture.startswith("flowchart LR\n")
    assert "BERT" in picture
    assert "Mode Collapse" in genatlas("export", "--format", "mermaid", "--topic", "mode-collapse").stdout


def test_a_site_is_refused_a_folder_with_anything_else_in_it(genatlas: Genatlas, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    done = genatlas("export", "--format", "site", "--output", str(tmp_path))
    assert done.returncode == 1
    assert "mine.txt" in done.stderr
    assert "Nothing was changed" in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--format", "site"),
        ("--format", "json", "--topic", "bert"),
        ("--format", "json", "--base-url", "https://atlas.example"),
        ("--format", "site", "--output", "x", "--base-url", "atlas.example"),
        ("--format", "json", "--output", "no/such/folder/file"),
    ],
)
def test_what_does_not_fit_together_is_wrong_usage(genatlas: Genatlas, arguments: tuple[str, ...]) -> None:
    done = genatlas("export", *arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
