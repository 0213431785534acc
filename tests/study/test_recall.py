from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graph import Atlas, ConceptGroup, NetworkXStore, Prerequisite
from study import Learner, Mark, Memory
from study.memory import Rating, first_memory, retrievability
from study.recall import SHARE, Recall, due_within
from tests.graph.atlases import atlas_of
from tests.study.drawn import study_atlases

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)

CHAIN = atlas_of(
    ["maths", "maths/mean", "maths/variance", "nets", "nets/scale", "nets/attention", "other", "other/mean"],
    Prerequisite("maths/mean", "maths/variance", "It is a mean of squares."),
    Prerequisite("maths/variance", "nets/scale", "The scale undoes it."),
    Prerequisite("nets/scale", "nets/attention", "It divides the scores."),
    Prerequisite("maths/variance", "nets/attention", "Nice to know.", strength="helpful"),
    concepts=(ConceptGroup(("maths/mean", "other/mean")),),
)
ATTENTION, SCALE, VARIANCE, MEAN, TWIN = "nets/attention", "nets/scale", "maths/variance", "maths/mean", "other/mean"


def memory(days_ago: float, stability: float = 10.0, due_in: float = 0.0) -> Memory:
    last = NOW - timedelta(days=days_ago)
    return Memory(stability, 5.0, last, NOW + timedelta(days=due_in))


def learner(memories: Mapping[str, Memory]) -> Learner:
    return Learner("ann", NOW, memories=memories)


@pytest.fixture
def recall() -> Recall:
    return Recall(NetworkXStore(CHAIN))


def test_a_recall_credits_what_it_exercises_and_less_the_further_down(recall: Recall) -> None:
    memories = {each: memory(10) for each in (ATTENTION, SCALE, VARIANCE, MEAN)}
    changed = recall.review(learner(memories), ATTENTION, Rating.good, NOW).memories
    credited = {each: after.credit for each, after in changed.items() if after and each != ATTENTION}
    assert credited == pytest.approx({SCALE: SHARE, VARIANCE: SHARE**2, MEAN: SHARE**3})
    assert all(after is not None and after.due > NOW for after in changed.values())


def test_a_hard_recall_credits_half(recall: Recall) -> None:
    changed = recall.review(learner({ATTENTION: memory(10), SCALE: memory(10)}), ATTENTION, Rating.hard, NOW).memories
    after = changed[SCALE]
    assert after is not None
    assert after.credit == pytest.approx(SHARE / 2)


def test_a_failure_credits_nothing_and_points_to_the_weakest_beneath(recall: Recall) -> None:
    memories = {ATTENTION: memory(10), SCALE: memory(3), VARIANCE: memory(40), MEAN: memory(20), "other": memory(900)}
    changes = recall.review(learner(memories), ATTENTION, Rating.again, NOW)
    assert set(changes.memories) == {ATTENTION}
    (event,) = changes.events
    assert event.detail["weakest"] == VARIANCE
    weak = recall.weakest(memories, ATTENTION, NOW)
    assert weak is not None
    assert weak.recall == retrievability(memories[VARIANCE], NOW)


def test_a_topic_with_nothing_beneath_it_in_review_points_nowhere(recall: Recall) -> None:
    assert recall.weakest({ATTENTION: memory(10), "other": memory(5)}, ATTENTION, NOW) is None


def test_a_twin_in_review_stands_for_its_concept(recall: Recall) -> None:
    assert recall.exercises(VARIANCE, {TWIN: memory(1)}) == {TWIN: SHARE}


def test_alternatives_share_what_one_of_them_would_get() -> None:
    store = NetworkXStore(
        atlas_of(
            ["a", "b", "c"],
            Prerequisite("a", "c", "Either.", group="c#1"),
            Prerequisite("b", "c", "Either.", group="c#1"),
        )
    )
    assert Recall(store).exercises("c", {"a": memory(1), "b": memory(1)}) == {"a": SHARE / 2, "b": SHARE / 2}


def test_what_saves_most_other_reviews_is_asked_first(recall: Recall) -> None:
    memories = {SCALE: memory(11), VARIANCE: memory(30), MEAN: memory(30), ATTENTION: memory(1, due_in=9)}
    assert recall.due(memories, NOW)[0] in (VARIANCE, MEAN)
    assert recall.next_due(memories, NOW) == SCALE


def test_nothing_is_asked_before_its_time(recall: Recall) -> None:
    assert recall.next_due({SCALE: memory(6, due_in=4), VARIANCE: memory(9, due_in=0.1)}, NOW) is None
    assert recall.next_due({SCALE: memory(6, due_in=4), VARIANCE: memory(9)}, NOW) == VARIANCE


def test_what_is_known_is_enrolled_once_for_each_concept(recall: Recall) -> None:
    ann = Learner("ann", NOW, {MEAN: Mark("learning", NOW)}, memories={VARIANCE: memory(3)})
    enrolled = recall.enrol(ann, [MEAN, TWIN, VARIANCE, SCALE], NOW).memories
    assert enrolled == {MEAN: first_memory(Rating.good, NOW), SCALE: first_memory(Rating.easy, NOW)}


def test_what_comes_due_is_counted_by_day() -> None:
    memories = {
        "a": memory(9, due_in=-3),
        "b": memory(9, due_in=0.5),
        "c": memory(1, due_in=2),
        "d": memory(1, due_in=9),
    }
    assert due_within(memories, NOW, 4) == [2, 0, 1, 0]


@given(study_atlases(), st.data())
def test_reviews_come_to_an_end_and_credit_only_what_is_needed(atlas: Atlas, data: st.DataObject) -> None:
    store = NetworkXStore(atlas)
    recall = Recall(store)
    ids = [topic.id for topic in atlas.topics]
    ages = data.draw(st.dictionaries(st.sampled_from(ids), st.integers(1, 60), max_size=8))
    memories = {each: memory(days, due_in=data.draw(st.integers(-5, 5))) for each, days in ages.items()}
    asked: list[str] = []
    while (topic_id := recall.next_due(memories, NOW)) is not None:
        assert topic_id not in asked, "nothing is asked twice a day"
        asked.append(topic_id)
        rating = data.draw(st.sampled_from(Rating))
        changes = recall.review(learner(memories), topic_id, rating, NOW).memories
        assert set(changes) <= {topic_id, *recall.exercises(topic_id, memories)}
        memories |= {each: after for each, after in changes.items() if after is not None}
    assert not recall.due(memories, NOW)


@given(study_atlases(), st.data())
def test_the_shares_do_not_depend_on_the_order_of_the_edges(atlas: Atlas, data: st.DataObject) -> None:
    ids = [topic.id for topic in atlas.topics]
    memories = {each: memory(5) for each in ids}
    shuffled = replace(atlas, prerequisites=tuple(data.draw(st.permutations(atlas.prerequisites))))
    topic_id = data.draw(st.sampled_from(ids))
    assert Recall(NetworkXStore(atlas)).exercises(topic_id, memories) == pytest.approx(
        Recall(NetworkXStore(shuffled)).exercises(topic_id, memories)
    )
