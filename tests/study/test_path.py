from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graph import Atlas, ConceptGroup, NetworkXStore, Prerequisite, TopicNotFound
from study import UnreachableGoal, plan_path
from tests.graph.atlases import ATLAS, atlas_of, topic
from tests.study.drawn import study_atlases

STORE = NetworkXStore(ATLAS)


def ids(atlas: Atlas, *goals: str, known: tuple[str, ...] = (), thorough: bool = False) -> list[str]:
    return [step.topic.id for step in plan_path(NetworkXStore(atlas), goals, known, thorough).steps]


def needs(before: str, after: str, group: str | None = None) -> Prerequisite:
    return Prerequisite(before, after, f"{after} uses {before}.", group=group)


@given(study_atlases(), st.data(), st.booleans())
def test_no_order_breaks_a_prerequisite(atlas: Atlas, data: st.DataObject, thorough: bool) -> None:
    store = NetworkXStore(atlas)
    all_ids = [each.id for each in atlas.topics]
    goals = data.draw(st.lists(st.sampled_from(all_ids), min_size=1, max_size=3, unique=True))
    known = data.draw(st.lists(st.sampled_from(all_ids), max_size=2, unique=True))
    path = plan_path(store, goals, known, thorough)
    place = {step.topic.id: step.number for step in path.steps}
    implied = set(known)
    for _ in all_ids:  # what a known topic needs, and its twins, are known too
        implied |= {edge.before for each in implied for edge in store.effective_prerequisites(each)}
        implied |= {twin.id for each in implied for twin in store.twins(each)}

    def met(before: str, number: int) -> bool:
        places = [before, *(twin.id for twin in store.twins(before))]
        return any(each in implied or place.get(each, number) < number for each in places)

    for step in path.steps:
        assert step.topic.id not in known
        groups: dict[str, list[str]] = {}
        for edge in store.effective_prerequisites(step.topic.id):
            if edge.strength == "needed" and edge.group is None:
                assert met(edge.before, step.number), f"{edge.before} must come before {step.topic.id}"
            elif edge.group is not None:
                groups.setdefault(edge.group, []).append(edge.before)
        for alternatives in groups.values():
            assert any(met(before, step.number) for before in alternatives)
    assert [step.number for step in path.steps] == list(range(1, len(path.steps) + 1))
    assert all(goal in place or goal in implied for goal in goals)


@given(study_atlases(), st.data())
def test_every_step_is_a_goal_or_has_a_reason_that_stands_later_on_the_path(atlas: Atlas, data: st.DataObject) -> None:
    goal = data.draw(st.sampled_from([each.id for each in atlas.topics]))
    path = plan_path(NetworkXStore(atlas), [goal])
    place = {step.topic.id: step.number for step in path.steps}
    for step in path.steps:
        assert step.is_goal or step.reasons
        assert all(place[reason.needed_by] > step.number for reason in step.reasons)


def test_a_path_holds_what_is_needed_and_no_more() -> None:
    assert ids(ATLAS, "gan/wgan/loss") == ["transport", "gan/dcgan", "gan/wgan/loss"]


def test_a_step_says_what_needs_it_and_why() -> None:
    first = plan_path(STORE, ["gan/wgan/loss"]).steps[1]
    assert [(reason.needed_by, reason.why) for reason in first.reasons] == [
        ("gan/wgan/loss", "The networks are a DCGAN's.")
    ]


def test_a_thorough_path_adds_helpful_prerequisites_and_the_goals_subtopics() -> None:
    atlas = atlas_of(["s", "s/g", "s/g/x", "h"], Prerequisite("h", "s/g", "Helps.", strength="helpful"))
    assert ids(atlas, "s/g") == ["s/g"]
    assert ids(atlas, "s/g", thorough=True) == ["h", "s/g", "s/g/x"]


def test_a_section_as_a_goal_asks_for_its_direct_subtopics_and_what_they_need() -> None:
    atlas = atlas_of(["s", "s/a", "s/a/deep", "s/b", "h"], needs("h", "s/b"))
    assert ids(atlas, "s") == ["h", "s", "s/a", "s/b"]


def test_what_is_known_goes_with_all_that_it_implies() -> None:
    atlas = atlas_of(["a", "b", "c", "d"], needs("a", "b"), needs("b", "c"), needs("c", "d"))
    assert ids(atlas, "d") == ["a", "b", "c", "d"]
    assert ids(atlas, "d", known=("b",)) == ["c", "d"]
    assert ids(atlas, "d", known=("d",)) == []


def test_a_known_twin_satisfies_the_need() -> None:
    atlas = atlas_of(["a", "b", "c"], needs("a", "c"), concepts=(ConceptGroup(("a", "b")),))
    assert ids(atlas, "c", known=("b",)) == ["c"]


def test_of_an_either_or_the_cheaper_alternative_is_taken() -> None:
    long, short, goal = topic("long", 0, minutes=60), topic("short", 1, minutes=10), topic("goal", 2)
    atlas = Atlas("T", (long, short, goal), (needs("long", "goal", "g"), needs("short", "goal", "g")))
    assert ids(atlas, "goal") == ["short", "goal"]
    assert ids(atlas, "goal", known=("long",)) == ["goal"]


def test_the_cost_of_an_alternative_counts_what_it_needs_itself() -> None:
    topics = (topic("base", 0, minutes=50), topic("a", 1, minutes=5), topic("b", 2, minutes=20), topic("goal", 3))
    atlas = Atlas("T", topics, (needs("base", "a"), needs("a", "goal", "g"), needs("b", "goal", "g")))
    assert ids(atlas, "goal") == ["b", "goal"]


def test_a_step_that_is_needed_only_in_outline_is_marked_gist() -> None:
    steps = {step.topic.id: step for step in plan_path(STORE, ["vae"]).steps}
    assert steps["gan/wgan/loss"].gist
    assert not steps["transport"].gist
    assert not steps["vae"].gist


def test_a_prerequisite_stands_shortly_before_its_use() -> None:
    atlas = atlas_of(["f1", "f2", "x", "y"], needs("f1", "x"), needs("f2", "y"), needs("x", "y"))
    assert ids(atlas, "y") in (["f1", "x", "f2", "y"], ["f2", "f1", "x", "y"])


def test_several_goals_share_their_prerequisites() -> None:
    atlas = atlas_of(["base", "x", "y"], needs("base", "x"), needs("base", "y"))
    assert ids(atlas, "x", "y") == ["base", "x", "y"]


def test_an_unknown_goal_is_an_error() -> None:
    with pytest.raises(TopicNotFound, match="gan/wgam"):
        plan_path(STORE, ["gan/wgam"])


def test_an_unknown_known_topic_is_an_error_too() -> None:
    with pytest.raises(TopicNotFound, match="nonsense"):
        plan_path(STORE, ["gan"], known=["nonsense"])


def test_a_cycle_is_reported_as_the_path_it_is() -> None:
    atlas = atlas_of(["a", "b", "c"], needs("a", "b"), needs("b", "c"), needs("c", "a"))
    with pytest.raises(UnreachableGoal) as caught:
        ids(atlas, "b")
    assert caught.value.cycle == ("b", "a", "c", "b")


def test_a_reason_that_an_ancestor_hands_down_is_told_once_with_the_steps_it_serves() -> None:
    edges = [needs("maths", "gan"), needs("gan/a", "gan/c"), needs("gan/b", "gan/c")]
    store = NetworkXStore(atlas_of(["gan", "gan/a", "gan/b", "gan/c", "maths"], *edges))
    first = plan_path(store, ["gan/c"]).steps[0]
    assert first.topic.id == "maths"
    assert first.told_once(store) == [("A and 2 more steps", "gan uses maths.")]


def test_a_goal_that_needs_the_topic_underway_does_not_stand_for_its_twin() -> None:
    atlas = atlas_of(
        ["a", "a/score", "a/other", "b"],
        needs("b", "a/score"),
        needs("a/score", "a/other"),
    )
    atlas = replace(atlas, concepts=(ConceptGroup(("b", "a/other")),))
    assert ids(atlas, "a", thorough=True) == ["b", "a", "a/score", "a/other"]


def test_a_chain_of_prerequisites_may_be_longer_than_pythons_stack() -> None:
    names = [f"t{number}" for number in range(3000)]
    atlas = atlas_of(names, *(needs(one, other) for one, other in pairwise(names)))
    assert ids(atlas, names[-1]) == names


def test_the_gist_of_a_topic_costs_half_its_time() -> None:
    topics = (topic("a", 0, minutes=15), topic("b", 1), topic("goal", 2, minutes=20))
    edges = (Prerequisite("a", "goal", "Why.", depth="gist"), Prerequisite("b", "goal", "Why."))
    path = plan_path(NetworkXStore(Atlas("T", topics, edges)), ["goal"])
    assert [(step.topic.id, step.gist, step.minutes) for step in path.steps] == [
        ("a", True, 8),
        ("b", False, 10),
        ("goal", False, 20),
    ]
    assert (path.minutes, path.unestimated) == (28, 1)


def test_an_alternative_whose_gist_is_enough_is_weighed_by_the_gist() -> None:
    topics = (topic("full", 0, minutes=12), topic("gist", 1, minutes=20), topic("goal", 2))
    edges = (
        Prerequisite("full", "goal", "Why.", group="g"),
        Prerequisite("gist", "goal", "Why.", depth="gist", group="g"),
    )
    assert ids(Atlas("T", topics, edges), "goal") == ["gist", "goal"]


def test_an_alternative_that_is_asked_for_anyway_costs_nothing_more() -> None:
    topics = (topic("cheap", 0, minutes=5), topic("anyway", 1, minutes=50), topic("goal", 2))
    edges = (needs("cheap", "goal", "g"), needs("anyway", "goal", "g"), needs("anyway", "goal"))
    assert ids(Atlas("T", topics, edges), "goal") == ["anyway", "goal"]


def test_a_topic_that_is_needed_in_full_and_in_outline_is_studied_in_full() -> None:
    edges = (Prerequisite("a", "s", "Outline.", depth="gist"), Prerequisite("a", "s/x", "Full."))
    (first, _) = plan_path(NetworkXStore(atlas_of(["s", "s/x", "a"], *edges)), ["s/x"]).steps
    assert not first.gist
    assert [reason.why for reason in first.reasons] == ["Full."]


def test_the_order_in_which_known_topics_are_named_changes_nothing() -> None:
    known = ["transport", "gan/dcgan"]
    assert plan_path(STORE, ["vae"], known) == plan_path(STORE, ["vae"], known[::-1])
    assert plan_path(STORE, ["vae", "vae"]) == plan_path(STORE, ["vae"])
