import json

import pytest
from hypothesis import given

from graph import (
    Atlas,
    ExportUnreadable,
    NetworkXStore,
    Prerequisite,
    from_graphml,
    from_json,
    neighbourhood,
    to_graphml,
    to_json,
    to_mermaid,
    to_mermaid_sections,
)
from tests.graph.atlases import ATLAS, atlas_of, atlases


@given(atlases())
def test_json_reads_back_to_the_same_atlas(atlas: Atlas) -> None:
    assert from_json(to_json(atlas)) == atlas


@given(atlases())
def test_graphml_reads_back_to_the_same_atlas(atlas: Atlas) -> None:
    assert from_graphml(to_graphml(atlas)) == atlas


def test_every_part_of_an_atlas_survives_both_formats() -> None:
    assert from_json(to_json(ATLAS)) == ATLAS
    assert from_graphml(to_graphml(ATLAS)) == ATLAS


def test_json_has_the_documented_shape() -> None:
    document = json.loads(to_json(ATLAS))
    assert document["hierarchy"][:3] == [
        {"parent": "gan", "child": "gan/dcgan", "order": 0},
        {"parent": "gan", "child": "gan/wgan", "order": 1},
        {"parent": "gan/wgan", "child": "gan/wgan/loss", "order": 0},
    ]
    assert document["prerequisites"][0] == {
        "before": "transport",
        "after": "gan/wgan",
        "why": "The critic estimates a transport cost.",
        "strength": "needed",
        "depth": "full",
        "origin": "authored",
        "group": None,
    }
    assert document["concepts"] == [["transport/distance", "gan/wgan/clipping"]]
    assert document["demonstrated_by"][0] == {
        "topic": "gan/dcgan",
        "demo": "gan-demo",
        "params": {"steps": 5},
        "look_at": "The loss.",
    }
    assert [demo["id"] for demo in document["demos"]] == ["gan-demo", "aaa"]


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b"\xff\xfe", b'{"topics": 3}', to_json(ATLAS)[:-20]])
def test_a_file_that_is_no_atlas_is_refused_in_words(data: bytes) -> None:
    with pytest.raises(ExportUnreadable, match="no exported atlas"):
        from_json(data)
    with pytest.raises(ExportUnreadable, match="no exported atlas"):
        from_graphml(data)


def test_graphml_with_entities_is_refused_unread() -> None:
    bomb = b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaa">]><graphml>&a;</graphml>'
    with pytest.raises(ExportUnreadable, match="document type"):
        from_graphml(bomb)


def test_mermaid_draws_each_kind_of_link_in_its_own_way() -> None:
    drawn = to_mermaid(neighbourhood(NetworkXStore(ATLAS), "gan/wgan"))
    lines = drawn.splitlines()
    assert lines[0] == "flowchart LR"
    name = {line.split('"')[1]: line.split("[")[0].strip() for line in lines if '["' in line}
    assert f"  {name['Transport']} --> {name['Wgan']}" in lines
    assert f"  {name['Gan']} --- {name['Wgan']}" in lines
    assert f"  {name['Dcgan']} -.- {name['Wgan']}" in lines


def test_the_picture_of_the_sections_counts_what_leads_from_one_to_another() -> None:
    edges = [Prerequisite(f"a/{n}", f"b/{n}", "So.") for n in range(3)] + [Prerequisite("b", "c", "So.")]
    atlas = atlas_of(["a", "a/0", "a/1", "a/2", "b", "b/0", "b/1", "b/2", "c"], *edges)
    assert to_mermaid_sections(atlas).splitlines() == [
        "flowchart LR",
        '  s0["A<br>topics: 4"]',
        '  s1["B<br>topics: 4"]',
        '  s2["C<br>topics: 1"]',
        "  s0 -->|3| s1",
    ]


def test_mermaid_syntax_in_a_title_is_written_as_entities() -> None:
    drawn = to_mermaid(neighbourhood(NetworkXStore(atlas_of(['a"];b'])), 'a"];b'))
    assert '["A#34;#93;#59;B"]' in drawn
