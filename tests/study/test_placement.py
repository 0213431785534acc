"""Placement against brute force: every state that is closed under prerequisites, weighed by Bayes' rule."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graph import Atlas, ConceptGroup, GraphStore, NetworkXStore, Prerequisite, TopicNotFound
from study import Learner, Mark, placement
from study.path import implied_by
from study.placement import MOST_QUESTIONS, SURE, Placer, draw_states, placed
from tests.graph.atlases import atlas_of

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
SLIP, GUESS = 0.05, 0.2
NEVER = 1e-9
"""For learners who neither slip nor guess."""

CHAIN = atlas_of(
    ["s", "s/a", "s/b", "s/c", "s/d", "t", "t/a"],
    Prerequisite("s/a", "s/b", "First a."),
    Prerequisite("s/b", "t", "Then t."),
    Prerequisite("t", "s/c", "Then c, by way of another section."),
    Prerequisite("s/d", "s/c", "It helps.", strength="helpful"),
    concepts=(ConceptGroup(("s/a", "t/a")),),
)


@st.composite
def sections(draw: st.DrawFn, topics_at_most: int) -> Atlas:
    """One section: a random tree, needs from earlier topics to later ones, some of them an either-or, and twins."""
    ids = ["s"]
    for number in range(draw(st.integers(1, topics_at_most - 1))):
        ids.append(f"{draw(st.sampled_from(ids))}/t{number}")
    pairs = [(a, b) for n, a in enumerate(ids) for b in ids[n + 1 :] if not b.startswith(f"{a}/")]
    edges: list[Prerequisite] = []
    for before, after in draw(st.lists(st.sampled_from(pairs), unique=True, max_size=8)) if pairs else []:
        group = draw(st.sampled_from([None, None, None, f"{after}#1"]))
        edges.append(Prerequisite(before, after, "Why.", group=group))
    twins = draw(st.lists(st.sampled_from(ids[1:]), unique=True, max_size=2))
    return atlas_of(ids, *edges, concepts=(ConceptGroup(tuple(twins)),) if len(twins) > 1 else ())


def closed_states(store: GraphStore, ids: Sequence[str]) -> list[frozenset[str]]:
    """Every set of topics that has, with each topic, its twins and all that it needs."""
    states: list[frozenset[str]] = []
    for bits in product([False, True], repeat=len(ids)):
        state = frozenset(topic_id for topic_id, bit in zip(ids, bits, strict=True) if bit)
        needs = {
            edge.before
            for each in state
            for edge in store.effective_prerequisites(each)
            if edge.strength == "needed" and edge.group is None
        }
        if needs <= state and {twin.id for each in state for twin in store.twins(each)} <= state:
            states.append(state)
    return states


Beliefs = dict[frozenset[str], float]


def before_any_answer(store: GraphStore, topic_id: str) -> Beliefs:
    """How often each state is drawn."""
    topics = store.subtree(topic_id)
    states = closed_states(store, [topic.id for topic in topics])
    implies = [[all(b.id in s for s in states if a.id in s) for b in topics] for a in topics]
    drawn = draw_states(topics, np.array(implies, dtype=np.bool_), np.random.default_rng(0))
    counts = Counter(
        frozenset(topic.id for topic, known in zip(topics, row, strict=True) if known) for row in drawn.tolist()
    )
    assert set(counts) <= set(states), "only closed states are drawn"
    return {state: count / len(drawn) for state, count in counts.items()}


def after_answer(beliefs: Beliefs, topic_id: str, said: bool) -> tuple[float, Beliefs]:
    """How likely the answer is, and what is believed after it."""
    chance = {True: 1 - SLIP if said else SLIP, False: GUESS if said else 1 - GUESS}
    joint = {state: belief * chance[topic_id in state] for state, belief in beliefs.items()}
    evidence = sum(joint.values())
    return evidence, {state: each / evidence for state, each in joint.items()}


def chance_of(beliefs: Beliefs, topic_id: str) -> float:
    return sum(belief for state, belief in beliefs.items() if topic_id in state)


def doubt(beliefs: Beliefs, ids: Sequence[str]) -> float:
    return sum(chance_of(beliefs, each) * (1 - chance_of(beliefs, each)) for each in ids)


def doubt_after(beliefs: Beliefs, topic_id: str, ids: Sequence[str]) -> float:
    """What is left of the doubt, on average, after an answer about a topic."""
    after = [after_answer(beliefs, topic_id, said) for said in (True, False)]
    return sum(likely * doubt(believed, ids) for likely, believed in after)


@settings(max_examples=40)
@given(sections(6), st.data())
def test_chances_and_the_next_question_are_those_of_brute_force(atlas: Atlas, data: st.DataObject) -> None:
    store = NetworkXStore(atlas)
    ids = [topic.id for topic in atlas.topics]
    answers = data.draw(st.dictionaries(st.sampled_from(ids), st.booleans(), max_size=4))
    beliefs = before_any_answer(store, "s")
    for topic_id, said in answers.items():
        _, beliefs = after_answer(beliefs, topic_id, said)
    found = Placer(store, "s", SLIP, GUESS).place(answers)
    assert found.chances == pytest.approx({each: chance_of(beliefs, each) for each in ids}, abs=1e-3)
    if found.ask is not None:
        asked = {each for each in ids for other in answers if all((each in s) == (other in s) for s in beliefs)}
        left = {
            each: doubt_after(beliefs, each, ids)
            for each in ids
            if 1 - SURE + 1e-3 < chance_of(beliefs, each) < SURE - 1e-3 and each not in asked
        }
        assert doubt_after(beliefs, found.ask, ids) == pytest.approx(min(left.values()), abs=1e-3)


@settings(max_examples=30)
@given(sections(5))
def test_every_closed_state_may_be_a_learners(atlas: Atlas) -> None:
    store = NetworkXStore(atlas)
    assert set(before_any_answer(store, "s")) == set(closed_states(store, [topic.id for topic in atlas.topics]))


@settings(max_examples=60)
@given(sections(6), st.data())
def test_without_slips_and_guesses_the_truth_is_found_where_everything_must_be_settled(
    atlas: Atlas, data: st.DataObject
) -> None:
    store = NetworkXStore(atlas)
    ids = [topic.id for topic in atlas.topics]
    knows = data.draw(st.sampled_from(closed_states(store, ids)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(placement, "SURE", 1 - 1e-4)
        patch.setattr(placement, "WORTH", 0)
        placer = Placer(store, "s", NEVER, NEVER)
        answers: dict[str, bool] = {}
        while (found := placer.place(answers)).ask is not None:
            answers[found.ask] = found.ask in knows
    assert set(found.known) == knows
    assert found.chances == pytest.approx({each: float(each in knows) for each in ids}, abs=1e-4)


@settings(max_examples=60)
@given(sections(14), st.data())
def test_no_more_than_twelve_are_asked_and_none_that_is_settled(atlas: Atlas, data: st.DataObject) -> None:
    store = NetworkXStore(atlas)
    placer = Placer(store, "s")
    answers: dict[str, bool] = {}
    while (found := placer.place(answers)).ask is not None:
        assert 1 - SURE < found.chances[found.ask] < SURE
        assert found.left == MOST_QUESTIONS - len(answers)
        alike = {found.ask, *(twin.id for twin in store.twins(found.ask))}
        assert alike.isdisjoint(answers)
        answers[found.ask] = data.draw(st.booleans())
    assert len(answers) <= MOST_QUESTIONS
    assert found.left == 0


@settings(max_examples=60)
@given(sections(14), st.data())
def test_answers_that_agree_with_the_order_leave_a_closed_set(atlas: Atlas, data: st.DataObject) -> None:
    store = NetworkXStore(atlas)
    ids = [topic.id for topic in atlas.topics]
    upper = data.draw(st.lists(st.sampled_from(ids), max_size=5))
    knows = implied_by(store, upper)
    asked = data.draw(st.lists(st.sampled_from(ids), unique=True, max_size=8))
    marked = data.draw(st.lists(st.sampled_from(sorted(knows)), max_size=2)) if knows else []
    answers = {each: each in knows for each in asked}
    known = frozenset(Placer(store, "s").place(answers, marked).known)
    needed = {
        edge.before
        for each in known
        for edge in store.effective_prerequisites(each)
        if edge.strength == "needed" and edge.group is None
    }
    assert needed <= known
    assert {each for each, said in answers.items() if said} <= known
    assert not known & {each for each, said in answers.items() if not said}


def test_what_is_needed_by_way_of_another_section_is_implied() -> None:
    placer = Placer(NetworkXStore(CHAIN), "s", NEVER, NEVER)
    chances = placer.place({"s/c": True}).chances
    assert chances["s/a"] == chances["s/b"] == chances["s/c"] == pytest.approx(1, abs=1e-4)
    assert chances["s/d"] < 1, "what only helps is not implied"
    assert placer.place({"s/a": False}).chances["s/c"] == pytest.approx(0, abs=1e-4)
    assert list(chances) == ["s", "s/a", "s/b", "s/c", "s/d"], "in outline order, and nothing of another section"


def test_a_mark_settles_what_it_implies_and_says_nothing_of_the_rest() -> None:
    placer = Placer(NetworkXStore(CHAIN), "s")
    plain, marked = placer.place({}), placer.place({}, ["s/b"])
    assert marked.chances["s/b"] == marked.chances["s/a"] == 1
    assert marked.chances["s/d"] == plain.chances["s/d"]
    assert marked.ask not in ("s/a", "s/b")
    assert (marked.known, marked.inferred) == (("s/a", "s/b"), ("s/a",))


def test_a_slip_is_outvoted() -> None:
    """One no among many topics that all rest on it is not believed, and what was denied is not called known."""
    ids = ["s", "s/base", *(f"s/t{number}" for number in range(6))]
    edges = [Prerequisite("s/base", each, "Why.") for each in ids[2:]]
    answers = {"s/base": False} | dict.fromkeys(ids[2:5], True)
    found = Placer(NetworkXStore(atlas_of(ids, *edges)), "s").place(answers)
    assert found.chances["s/base"] > SURE
    assert "s/base" not in found.known
    assert set(ids[2:5]) <= set(found.known)


def test_what_rests_on_a_denied_topic_is_not_inferred() -> None:
    ids = ["s", *(f"s/t{number}" for number in range(12)), "s/base", "s/rests"]
    store = NetworkXStore(atlas_of(ids, Prerequisite("s/base", "s/rests", "Why.")))
    answers = dict.fromkeys(ids[1:13], True)
    assert "s/rests" in Placer(store, "s").place(answers).inferred
    found = Placer(store, "s", slip=0.6, guess=NEVER).place(answers | {"s/base": False})
    assert found.chances["s/rests"] >= SURE
    assert "s/rests" not in found.known


def test_before_any_answer_nobody_is_taken_for_a_beginner_or_an_expert() -> None:
    """The first topic of a chain is likely known by as much as the last is not."""
    ids = ["s", *(f"s/t{number}" for number in range(5))]
    edges = [Prerequisite(before, after, "Why.") for before, after in pairwise(ids[1:])]
    chances = Placer(NetworkXStore(atlas_of(ids, *edges)), "s").place({}).chances
    assert chances["s/t0"] > 0.6
    assert chances["s/t4"] == pytest.approx(1 - chances["s/t0"], abs=0.03)


def test_an_unknown_section_is_an_error() -> None:
    with pytest.raises(TopicNotFound):
        Placer(NetworkXStore(CHAIN), "nowhere")


def test_answers_about_other_sections_are_passed_over() -> None:
    placer = Placer(NetworkXStore(CHAIN), "s")
    assert placer.place({"t": True, "gone": False}, ["t", "gone"]) == placer.place({})


# What is kept


def kept(marks: Mapping[str, Mark], answers: Mapping[str, bool]) -> dict[str, Mark | None]:
    """The changes to a learner with these marks, by a placement in CHAIN without slips and guesses."""
    found = Placer(NetworkXStore(CHAIN), "s", NEVER, NEVER).place(answers)
    return dict(placed(Learner("me", NOW, marks), found, answers, NOW).marks)


def test_what_is_told_and_what_is_inferred_are_marked_apart() -> None:
    assert kept({}, {"s/b": True}) == {"s/b": Mark("known", NOW), "s/a": Mark("known", NOW, "inferred", 1.0)}


def test_an_inference_leaves_the_learners_own_marks_alone_and_replaces_earlier_inferences() -> None:
    own, earlier = Mark("learning", NOW), Mark("known", NOW, "inferred", 0.91)
    assert kept({"s/a": own, "s/c": earlier}, {"s/b": True, "s/c": False}) == {"s/b": Mark("known", NOW), "s/c": None}
    assert kept({"s/d": earlier}, {"s/c": False}) == {"s/d": None}


def test_a_no_takes_off_what_was_called_known_and_nothing_else() -> None:
    marks = {"s/b": Mark("known", NOW), "s/d": Mark("planned", NOW)}
    assert kept(marks, {"s/b": False, "s/d": False}) == {"s/b": None}


def test_the_history_says_what_was_asked() -> None:
    found = Placer(NetworkXStore(CHAIN), "s", NEVER, NEVER).place({"s/b": True, "s/c": False})
    (event,) = placed(Learner("me", NOW), found, {"s/b": True, "s/c": False}, NOW).events
    assert (event.kind, event.topic) == ("placed", "s")
    assert event.detail == {"asked": 2, "yes": 1, "inferred": 1}
