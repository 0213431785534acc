import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graph import EDGE_KINDS, Atlas, Link, Neighbourhood, NetworkXStore, Prerequisite, neighbourhood
from tests.graph.atlases import ATLAS, atlas_of, atlases
from ui.layout import Node, Rectangle, neighbourhood_nodes, roles, section_nodes, treemap

STORE = NetworkXStore(ATLAS)
ASPECT = 1.45
"""Width over height of the map's picture; areas are compared in parts of the whole, where it cancels."""
HAIR = 1e-9


def around(topic_id: str, steps: int = 1) -> Neighbourhood:
    return neighbourhood(STORE, topic_id, steps=steps)


# roles


def test_the_role_of_a_neighbour_is_what_it_is_to_the_centre() -> None:
    assert roles(around("gan/wgan")) == {
        "gan/wgan": "centre",
        "transport": "before",
        "gan": "parent",
        "gan/wgan/loss": "child",
        "gan/wgan/clipping": "child",
        "gan/dcgan": "compare",
    }


def test_a_topic_behind_the_edge_is_unlocked() -> None:
    assert roles(around("transport"))["gan/wgan"] == "after"


def test_the_same_concept_in_another_place_has_a_role_of_its_own() -> None:
    assert roles(around("transport/distance"))["gan/wgan/clipping"] == "concept"


def test_a_topic_that_is_several_things_to_the_centre_is_a_prerequisite_first() -> None:
    first, second = ATLAS.topics[1], ATLAS.topics[2]
    links = (Link("gan/dcgan", "gan/wgan", "comparison"), Link("gan/dcgan", "gan/wgan", "prerequisite"))
    assert roles(Neighbourhood("gan/wgan", (second, first), links, 0))["gan/dcgan"] == "before"


def test_what_only_a_neighbour_links_to_is_other() -> None:
    assert roles(around("vae/loss", steps=2))["gan/wgan"] == "other"


# The neighbourhood


def by_id(nodes: list[Node]) -> dict[str, Node]:
    return {node.topic.id: node for node in nodes}


def test_meaning_gives_the_direction() -> None:
    nodes = by_id(neighbourhood_nodes(around("gan/wgan")))
    assert (nodes["gan/wgan"].x, nodes["gan/wgan"].y) == (0, 0)
    assert nodes["transport"].x < -abs(nodes["transport"].y), "a prerequisite stands on the left"
    assert nodes["gan"].y < 0, "the parent stands above"
    assert nodes["gan/wgan/loss"].y > 0, "a child stands below"
    assert nodes["gan/dcgan"].x < 0 < nodes["gan/dcgan"].y, "a comparison stands at the lower left"
    unlocked = by_id(neighbourhood_nodes(around("transport")))["gan/wgan"]
    assert unlocked.x > abs(unlocked.y), "what the centre unlocks stands on the right"


def test_each_side_lists_its_topics_in_their_order_from_top_to_bottom() -> None:
    befores = [f"a{n}" for n in range(6)]
    afters = [f"c{n}" for n in range(6)]
    edges = [Prerequisite(b, "b", "why") for b in befores] + [Prerequisite("b", a, "why") for a in afters]
    picture = neighbourhood(NetworkXStore(atlas_of([*befores, "b", *afters], *edges)), "b")
    nodes = by_id(neighbourhood_nodes(picture))
    for side in (befores, afters):
        heights = [nodes[name].y for name in side]
        assert heights == sorted(heights)


def test_labels_lean_outwards_and_are_never_upside_down() -> None:
    for node in neighbourhood_nodes(around("gan/wgan", steps=2))[1:]:
        assert node.side == ("right" if node.x >= 0 else "left")
        assert abs(node.tilt) <= 0.58 * math.pi / 2 + HAIR


@given(atlas=atlases(), steps=st.integers(1, 2), data=st.data())
def test_every_topic_of_any_neighbourhood_stands_once_in_a_place_of_its_own(
    atlas: Atlas, steps: int, data: st.DataObject
) -> None:
    centre = data.draw(st.sampled_from([topic.id for topic in atlas.topics]))
    kinds = data.draw(st.sets(st.sampled_from(EDGE_KINDS)))
    picture = neighbourhood(NetworkXStore(atlas), centre, kinds, steps)
    nodes = neighbourhood_nodes(picture)
    assert nodes[0].topic.id == centre
    assert sorted(node.topic.id for node in nodes) == sorted(topic.id for topic in picture.topics)
    for place, node in enumerate(nodes):
        for other in nodes[:place]:
            apart = math.hypot(node.x - other.x, node.y - other.y)
            assert apart > (node.size + other.size) / 2 * 0.6, f"{node.topic.id} covers {other.topic.id}"


@pytest.mark.parametrize("count", [1, 2, 12, 26, 27, 59])
def test_even_a_crowded_ring_keeps_its_nodes_apart(count: int) -> None:
    names = [f"b/t{n}" for n in range(count)]
    nodes = neighbourhood_nodes(neighbourhood(NetworkXStore(atlas_of(["b", *names])), "b"))
    gaps = [math.hypot(a.x - b.x, a.y - b.y) for i, a in enumerate(nodes) for b in nodes[:i]]
    assert min(gaps) > 20, "a neighbour is 20 wide"


def test_what_lies_behind_two_neighbours_in_one_direction_stands_apart() -> None:
    befores = [f"a{n}" for n in range(8)]
    further = [f"f{n}/x{k}" for n in range(8) for k in range(4)]
    edges = [Prerequisite(b, "z", "why") for b in befores]
    edges += [Prerequisite(f, f"a{f[1]}", "why") for f in further]
    store = NetworkXStore(
        atlas_of([each for n in range(8) for each in (f"f{n}", *further[4 * n : 4 * n + 4])] + [*befores, "z"], *edges)
    )
    nodes = neighbourhood_nodes(neighbourhood(store, "z", ["prerequisite"], steps=2))
    assert len(nodes) == 41
    gaps = [math.hypot(a.x - b.x, a.y - b.y) - (a.size + b.size) / 2 for i, a in enumerate(nodes) for b in nodes[:i]]
    assert min(gaps) > 5
    assert all(node.x < 0 for node in nodes if node.role == "other"), "behind prerequisites means further left"


# A section


def test_a_section_is_drawn_around_its_root_with_each_level_further_out() -> None:
    nodes = by_id(section_nodes(STORE, "gan"))
    assert set(nodes) == {"gan", "gan/dcgan", "gan/wgan", "gan/wgan/loss", "gan/wgan/clipping"}
    assert (nodes["gan"].x, nodes["gan"].y) == (0, 0)

    def out(name: str) -> float:
        return math.hypot(nodes[name].x / 1.34, nodes[name].y)

    assert out("gan/dcgan") == pytest.approx(out("gan/wgan"))
    assert out("gan/wgan/loss") == pytest.approx(2 * out("gan/wgan"))


def test_a_lopsided_section_keeps_its_topics_apart() -> None:
    """Many short branches beside few deep ones: each level has its own circle and room for all that stands on it."""
    short = [f"s/b{n}" for n in range(60)]
    deep = [f"s/d{'/e' * level}/f{n}" for level in range(4) for n in range(12)]
    stems = ["s/d", "s/d/e", "s/d/e/e", "s/d/e/e/e"]
    ids = ["s", *short, *sorted([*stems, *deep])]
    nodes = section_nodes(NetworkXStore(atlas_of(ids)), "s")
    gaps = [math.hypot(a.x - b.x, a.y - b.y) - (a.size + b.size) / 2 for i, a in enumerate(nodes) for b in nodes[:i]]
    assert min(gaps) > 2


def test_a_section_over_the_limit_loses_its_deepest_level_first() -> None:
    assert {node.topic.id for node in section_nodes(STORE, "gan", limit=4)} == {"gan", "gan/dcgan", "gan/wgan"}


@given(atlas=atlases(), limit=st.integers(1, 14))
def test_a_section_never_has_more_than_the_limit_and_never_a_child_without_its_parent(atlas: Atlas, limit: int) -> None:
    store = NetworkXStore(atlas)
    for section in (topic for topic in atlas.topics if topic.parent is None):
        nodes = section_nodes(store, section.id, limit)
        shown = {node.topic.id for node in nodes}
        assert len(nodes) == len(shown) <= limit
        assert nodes[0].topic.id == section.id
        assert all(node.topic.parent in shown for node in nodes[1:])
        places = {(round(node.x, 6), round(node.y, 6)) for node in nodes}
        assert len(places) == len(nodes)


# The map


def leaves(store: NetworkXStore, topic_id: str) -> int:
    return sum(not store.children(topic.id) for topic in store.subtree(topic_id))


def overlap(one: Rectangle, other: Rectangle) -> float:
    wide = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
    high = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
    return max(0.0, wide) * max(0.0, high)


@given(atlas=atlases(), data=st.data())
def test_the_map_is_a_packing_whose_areas_follow_the_leaves(atlas: Atlas, data: st.DataObject) -> None:
    store = NetworkXStore(atlas)
    inside = data.draw(st.sampled_from([None, *(topic.id for topic in atlas.topics)]))
    boxes = treemap(store, inside, ASPECT)
    top = [box for box in boxes if box.level == 0]
    expected = [t for t in atlas.topics if t.parent is None] if inside is None else list(store.children(inside))
    assert {box.topic.id for box in top} == {topic.id for topic in expected}
    if not top:
        return
    for box in boxes:
        assert min(box.x, box.y) >= -HAIR
        assert min(box.width, box.height) > 0
        assert max(box.x + box.width, box.y + box.height) <= 1 + HAIR
    assert sum(box.width * box.height for box in top) == pytest.approx(1)
    by_topic = {box.topic.id: box for box in boxes}
    assert len(by_topic) == len(boxes)
    families = [top, *([b for b in boxes if b.level == 1 and b.topic.parent == parent.topic.id] for parent in top)]
    for family in families:
        for place, box in enumerate(family):
            assert all(overlap(box, other) < HAIR for other in family[:place])
            ratio = box.width * box.height / (family[0].width * family[0].height)
            grown = (leaves(store, box.topic.id) / leaves(store, family[0].topic.id)) ** 0.8
            assert ratio == pytest.approx(grown, rel=1e-6)
    for place, box in enumerate(boxes):
        if box.level == 1:
            parent = by_topic[box.topic.parent or ""]
            assert boxes.index(parent) < place, "a parent comes first, so that its children lie over it"
            assert overlap(box, parent) == pytest.approx(box.width * box.height)


def test_a_map_of_nothing_is_empty() -> None:
    assert treemap(STORE, "gan/dcgan") == []
