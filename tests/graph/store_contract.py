"""What every GraphStore owes its callers. A store's tests derive from it and give a `store` that holds ATLAS."""

import pytest

from graph import ComparisonNotFound, GraphStore, TopicNotFound
from tests.graph.atlases import ATLAS


class GraphStoreContract:
    def test_a_topic_comes_back_whole(self, store: GraphStore) -> None:
        assert [store.topic(topic.id) for topic in ATLAS.topics] == list(ATLAS.topics)

    def test_topics_come_in_outline_order(self, store: GraphStore) -> None:
        assert list(store.topics()) == list(ATLAS.topics)

    def test_children_are_direct_and_in_order(self, store: GraphStore) -> None:
        assert [topic.id for topic in store.children("gan")] == ["gan/dcgan", "gan/wgan"]
        assert list(store.children("gan/dcgan")) == []

    def test_ancestors_run_from_the_section_to_the_parent(self, store: GraphStore) -> None:
        assert [topic.id for topic in store.ancestors("gan/wgan/loss")] == ["gan", "gan/wgan"]
        assert list(store.ancestors("gan")) == []

    def test_a_subtree_starts_with_its_topic_and_keeps_outline_order(self, store: GraphStore) -> None:
        ids = ["gan/wgan", "gan/wgan/loss", "gan/wgan/clipping"]
        assert [topic.id for topic in store.subtree("gan/wgan")] == ids

    def test_direct_prerequisites_leave_inherited_ones_out(self, store: GraphStore) -> None:
        assert [edge.before for edge in store.prerequisites("gan/wgan/loss")] == ["gan/dcgan", "vae/loss"]

    def test_a_subtopic_inherits_what_its_ancestors_need(self, store: GraphStore) -> None:
        needs = store.effective_prerequisites("gan/wgan/loss")
        assert [(edge.before, edge.after) for edge in needs] == [
            ("gan/dcgan", "gan/wgan/loss"),
            ("vae/loss", "gan/wgan/loss"),
            ("transport", "gan/wgan"),
        ]

    def test_an_edge_comes_back_with_its_reason_strength_and_depth(self, store: GraphStore) -> None:
        assert list(store.prerequisites("vae")) == [ATLAS.prerequisites[3]]

    def test_dependents_are_the_direct_ones(self, store: GraphStore) -> None:
        assert [edge.after for edge in store.dependents("transport")] == ["gan/wgan"]
        assert [edge.after for edge in store.dependents("gan/wgan/loss")] == ["vae"]

    def test_a_comparison_is_found_from_each_side(self, store: GraphStore) -> None:
        for side in ("gan/dcgan", "gan/wgan"):
            assert list(store.comparisons(side)) == list(ATLAS.comparisons)
        assert list(store.comparisons("gan")) == []

    def test_a_comparison_is_found_by_its_id(self, store: GraphStore) -> None:
        assert store.comparison("dcgan-wgan") == ATLAS.comparisons[0]
        with pytest.raises(ComparisonNotFound) as caught:
            store.comparison("dcgan-wgna")
        assert caught.value.nearest == ("dcgan-wgan",)

    def test_twins_are_the_other_places(self, store: GraphStore) -> None:
        assert [topic.id for topic in store.twins("gan/wgan/clipping")] == ["transport/distance"]
        assert [topic.id for topic in store.twins("transport/distance")] == ["gan/wgan/clipping"]
        assert list(store.twins("gan")) == []

    def test_the_canonical_place_leads_its_concept(self, store: GraphStore) -> None:
        assert store.canonical("gan/wgan/clipping").id == "transport/distance"
        assert store.canonical("transport/distance").id == "transport/distance"
        assert store.canonical("gan").id == "gan"

    def test_demos_come_by_id_with_the_topics_they_serve(self, store: GraphStore) -> None:
        assert [demo.id for demo in store.demos()] == ["aaa", "gan-demo"]
        assert [topic.id for topic in store.demonstrated_by("gan-demo")] == ["gan/dcgan", "gan/wgan"]
        assert list(store.demonstrated_by("aaa")) == []

    def test_references_come_back(self, store: GraphStore) -> None:
        assert list(store.references()) == list(ATLAS.references)

    def test_an_unknown_topic_is_an_error_in_every_question_and_names_the_nearest(self, store: GraphStore) -> None:
        questions = [
            store.topic,
            store.children,
            store.ancestors,
            store.subtree,
            store.prerequisites,
            store.effective_prerequisites,
            store.dependents,
            store.comparisons,
            store.twins,
            store.canonical,
        ]
        for question in questions:
            with pytest.raises(TopicNotFound) as caught:
                question("gan/wgan/los")
            assert caught.value.topic_id == "gan/wgan/los"
            assert caught.value.nearest[0] == "gan/wgan/loss"
