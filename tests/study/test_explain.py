import pytest
from hypothesis import given
from hypothesis import strategies as st

from graph import Atlas, ConceptGroup, GraphStore, NetworkXStore, Prerequisite, TopicNotFound
from study import NotOnPath, StudyPath, explain_step, plan_path, ready_topics, skip_step, unlocked_by
from tests.graph.atlases import atlas_of, topic
from tests.study.drawn import drawn_paths, study_atlases


def needs(before: str, after: str, **more: str) -> Prerequisite:
    return Prerequisite(before, after, f"{after} uses {before}.", **more)  # pyright: ignore[reportArgumentType]


CHAIN = NetworkXStore(
    atlas_of(
        ["a", "b", "c", "d", "side", "goal"],
        needs("a", "b"),
        needs("b", "c"),
        needs("c", "goal"),
        needs("a", "d"),
        needs("d", "goal"),
        needs("side", "goal", strength="helpful"),
    )
)


# Why


def test_the_chain_is_the_shortest_one_to_the_goal() -> None:
    chain = explain_step(CHAIN, plan_path(CHAIN, ["goal"]), "a")
    assert [(link.step.topic.id, link.reason.needed_by) for link in chain] == [("a", "d"), ("d", "goal")]
    assert chain[0].reason.why == "d uses a."


def test_a_needed_chain_is_told_before_a_shorter_helpful_one() -> None:
    edges = [needs("a", "b"), needs("b", "goal"), needs("a", "goal", strength="helpful")]
    store = NetworkXStore(atlas_of(["a", "b", "goal"], *edges))
    chain = explain_step(store, plan_path(store, ["goal"], thorough=True), "a")
    assert [link.reason.needed_by for link in chain] == ["b", "goal"]


def test_a_goal_needs_no_reason() -> None:
    assert explain_step(CHAIN, plan_path(CHAIN, ["goal"]), "goal") == ()


@given(drawn_paths())
def test_every_step_has_a_chain_of_reasons_of_the_path_that_ends_at_a_goal(drawn: tuple[GraphStore, StudyPath]) -> None:
    store, path = drawn
    by_id = {step.topic.id: step for step in path.steps}
    for step in path.steps:
        at = step
        for link in explain_step(store, path, step.topic.id):
            assert link.step == at
            assert link.reason in at.reasons
            at = by_id[link.reason.needed_by]
        assert at.is_goal


def test_a_twin_on_the_path_answers_for_the_topic() -> None:
    atlas = atlas_of(["a", "twin", "goal"], needs("a", "goal"), concepts=(ConceptGroup(("twin", "a")),))
    store = NetworkXStore(atlas)
    chain = explain_step(store, plan_path(store, ["goal"]), "twin")
    assert [link.step.topic.id for link in chain] == ["a"]


def test_a_topic_off_the_path_is_told_why() -> None:
    with pytest.raises(NotOnPath, match="nothing on it needs"):
        explain_step(CHAIN, plan_path(CHAIN, ["goal"]), "side")
    with pytest.raises(NotOnPath, match="counts as known"):
        explain_step(CHAIN, plan_path(CHAIN, ["goal"], known=["b"]), "a")
    with pytest.raises(TopicNotFound):
        explain_step(CHAIN, plan_path(CHAIN, ["goal"]), "nowhere")


def test_an_alternative_that_was_not_taken_is_named_with_the_one_that_was() -> None:
    topics = (topic("long", 0, minutes=60), topic("short", 1, minutes=10), topic("goal", 2))
    store = NetworkXStore(Atlas("T", topics, (needs("long", "goal", group="g"), needs("short", "goal", group="g"))))
    path = plan_path(store, ["goal"])
    assert path.steps[0].reasons[0].instead == ("long",)
    with pytest.raises(NotOnPath, match="goal may use it or short"):
        explain_step(store, path, "long")


# Skip


def test_skipping_takes_the_footing_of_all_that_rests_on_the_step_with_the_reason() -> None:
    skipped = skip_step(CHAIN, plan_path(CHAIN, ["goal"]), "b")
    assert [(loss.step.topic.id, loss.missing.topic.id) for loss in skipped.lost] == [("c", "b"), ("goal", "c")]
    assert skipped.lost[0].reason.why == "c uses b."
    assert skipped.spared == ()
    assert skipped.minutes == 10


def test_what_was_there_for_the_skipped_step_alone_is_spared() -> None:
    store = NetworkXStore(atlas_of(["a", "b", "c"], needs("a", "b"), needs("b", "c")))
    skipped = skip_step(store, plan_path(store, ["c"]), "b")
    assert [step.topic.id for step in skipped.spared] == ["a"]
    assert skipped.minutes == 20


def test_a_helpful_step_is_missed_and_takes_nothing_down() -> None:
    skipped = skip_step(CHAIN, plan_path(CHAIN, ["goal"], thorough=True), "side")
    assert skipped.lost == ()
    assert [reason.needed_by for reason in skipped.weakened] == ["goal"]


def test_another_way_of_an_either_or_on_the_path_keeps_the_footing() -> None:
    edges = [needs("a", "x", group="g"), needs("b", "x", group="g"), needs("b", "a"), needs("a", "y")]
    store = NetworkXStore(atlas_of(["b", "a", "x", "y"], *edges))
    path = plan_path(store, ["y", "x"])
    assert [loss.step.topic.id for loss in skip_step(store, path, "a").lost] == ["y"]


@given(drawn_paths(), st.data())
def test_what_is_left_after_a_skip_stands_without_it(drawn: tuple[GraphStore, StudyPath], data: st.DataObject) -> None:
    store, path = drawn
    if not path.steps:
        return
    step = data.draw(st.sampled_from(path.steps))
    skipped = skip_step(store, path, step.topic.id)
    gone = {step.topic.id, *(loss.step.topic.id for loss in skipped.lost)}
    kept = {each.topic.id for each in path.steps} - gone
    for each in path.steps:
        for reason in each.reasons:
            if reason.needed_by in kept and reason.strength == "needed":
                assert each.topic.id in kept or kept & set(reason.instead)


# Ready, unlocks


def test_ready_is_what_needs_nothing_unknown_and_most_supported_first() -> None:
    found = ready_topics(CHAIN, [])
    assert [(each.topic.id, each.opens, each.supports) for each in found] == [("a", 2, 4), ("side", 0, 0)]
    assert [each.topic.id for each in ready_topics(CHAIN, ["a"])] == ["b", "d", "side"]


def test_ready_on_the_way_to_a_goal_counts_only_that_way() -> None:
    assert [(each.topic.id, each.supports) for each in ready_topics(CHAIN, ["a"], ["c"])] == [("b", 1)]
    assert ready_topics(CHAIN, ["goal"], ["goal"]) == ()


def test_one_way_of_an_either_or_is_enough_to_be_ready() -> None:
    store = NetworkXStore(atlas_of(["a", "b", "x"], needs("a", "x", group="g"), needs("b", "x", group="g")))
    assert "x" not in {each.topic.id for each in ready_topics(store, [])}
    assert "x" in {each.topic.id for each in ready_topics(store, ["b"])}


@given(study_atlases(), st.data())
def test_a_topic_is_ready_exactly_when_its_path_is_itself_alone(atlas: Atlas, data: st.DataObject) -> None:
    store = NetworkXStore(atlas)
    known = data.draw(st.lists(st.sampled_from([each.id for each in atlas.topics]), max_size=3, unique=True))
    ready = {each.topic.id for each in ready_topics(store, known)}
    for each in atlas.topics:
        if each.depth > 0 and store.canonical(each.id).id == each.id:  # a section as a goal asks for its subtopics too
            steps = [step.topic.id for step in plan_path(store, [each.id], known).steps]
            assert (each.id in ready) == (steps == [each.id])


def test_unlocks_tells_direct_uses_with_reasons_and_all_that_rests_on_the_topic() -> None:
    found = unlocked_by(CHAIN, "a")
    assert [(edge.after, edge.why) for edge in found.direct] == [("b", "b uses a."), ("d", "d uses a.")]
    assert [each.id for each in found.supports] == ["b", "c", "d", "goal"]
    assert found.by_section == {"b": 1, "c": 1, "d": 1, "goal": 1}


def test_what_needs_a_twin_is_unlocked_too_and_subtopics_inherit() -> None:
    atlas = atlas_of(["a", "twin", "s", "s/x"], needs("a", "s"), concepts=(ConceptGroup(("twin", "a")),))
    found = unlocked_by(NetworkXStore(atlas), "twin")
    assert [edge.after for edge in found.direct] == ["s"]
    assert [each.id for each in found.supports] == ["s", "s/x"]
