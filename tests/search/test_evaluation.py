import math

import pytest

from graph import NetworkXStore
from search.evaluation import (
    GRADED,
    Judged,
    JudgementUnreadable,
    Outcome,
    estimates,
    groups,
    judged_question,
    ndcg,
    reciprocal_rank,
    separation,
    sides_found,
    unknown_topics,
)
from tests.graph.atlases import ATLAS

STORE = NetworkXStore(ATLAS)


def outcome(ranked: str, grades: dict[str, int] | None = None, intent: str = "") -> Outcome:
    return Outcome(Judged("q", "?", grades or {"vae": 2, "gan": 1}, intent=intent), tuple(ranked.split()), 0.5)


@pytest.mark.parametrize(
    ("ranked", "expected"),
    [
        ("vae gan", {"hit@1": 1, "hit@1-strict": 1, "hit@3": 1, "mrr@10": 1, "abstained": 0}),
        ("gan vae", {"hit@1": 1, "hit@1-strict": 0, "hit@3": 1, "mrr@10": 1, "abstained": 0}),
        ("a b c vae", {"hit@1": 0, "hit@3": 0, "hit@5": 1, "mrr@10": 1 / 4, "abstained": 0}),
        ("a b c d e f g h i j vae", {"hit@5": 0, "mrr@10": 0, "ndcg@10": 0}),
        ("", {"hit@1": 0, "mrr@10": 0, "ndcg@10": 0, "abstained": 1}),
    ],
)
def test_measures_of_one_question(ranked: str, expected: dict[str, float]) -> None:
    assert {name: GRADED[name](outcome(ranked)) for name in expected} == expected


def test_ndcg_by_hand() -> None:
    best = 3 + 1 / math.log2(3)
    assert ndcg(outcome("vae gan")) == pytest.approx(1)
    assert ndcg(outcome("gan vae")) == pytest.approx((1 + 3 / math.log2(3)) / best)
    assert ndcg(outcome("x vae")) == pytest.approx(3 / math.log2(3) / best)


def test_both_sides_must_stand_among_the_first() -> None:
    judged = Judged("c", "a or b", {}, (frozenset({"a", "a2"}), frozenset({"b"})))
    found = Outcome(judged, ("a", "a2", "x", "b"), 1.0)
    assert [sides_found(k, 2)(found) for k in (2, 3, 4)] == [0, 0, 1]
    assert sides_found(2, 1)(found) == 1


def test_an_estimate_has_the_mean_and_an_interval_around_it_that_narrows_with_more_questions() -> None:
    few, many = ([outcome("vae")] * n + [outcome("x")] * n for n in (10, 1000))
    measure = {"mrr@10": reciprocal_rank}
    wide, narrow = estimates(few, measure)["mrr@10"], estimates(many, measure)["mrr@10"]
    assert (wide.mean, narrow.mean) == (0.5, 0.5)
    assert wide.low < narrow.low < 0.5 < narrow.high < wide.high
    assert (wide.n, narrow.n) == (20, 2000)


def test_groups_are_the_sections_of_best_topics_and_the_intents() -> None:
    some = [outcome("", {"vae/loss": 2, "gan": 1}, intent="why"), outcome("", {"gan/wgan": 2, "vae": 2})]
    assert {name: len(found) for name, found in groups(some, STORE).items()} == {"gan": 1, "vae": 2, "intent: why": 1}
    assert list(groups(some, STORE)) == ["gan", "vae", "intent: why"]


def test_separation_is_the_share_of_pairs_in_order() -> None:
    assert separation([2.0, 3.0], [1.0, 2.0]) == (4 - 0.5) / 4
    assert separation([math.inf], [5.0]) == 1


def test_ids_that_the_atlas_lacks_are_named() -> None:
    judged = [Judged("q", "?", {"vae": 2, "vea": 1}), Judged("c", "?", {}, (frozenset({"gan"}), frozenset({"gna"})))]
    assert unknown_topics(judged, STORE) == ["gna", "vea"]


@pytest.mark.parametrize(
    "line",
    [
        "[]",
        "{",
        '{"id": "q", "question": "?"}',
        '{"id": "q", "question": "?", "relevant": {"vae": 3}}',
        '{"id": "q", "question": "?", "a": ["vae"]}',
        '{"id": "q", "question": "?", "kind": "far", "relevant": {"vae": 1}}',
        '{"question": "?", "kind": "far"}',
    ],
)
def test_a_line_without_one_judgement_is_refused(line: str) -> None:
    with pytest.raises(JudgementUnreadable):
        judged_question(line)


def test_each_form_is_read() -> None:
    graded = judged_question('{"id": "q", "question": "?", "source": "s", "intent": "why", "relevant": {"vae": 2}}')
    assert (graded.grades, graded.intent) == ({"vae": 2}, "why")
    assert judged_question('{"id": "c", "question": "?", "a": ["x"], "b": ["y", "z"]}').sides == ({"x"}, {"y", "z"})
    assert judged_question('{"id": "o", "question": "?", "kind": "near"}').foreign == "near"
