"""Two sentences: what pairs are, how both designs read them and how often, and how answers are scored."""

import importlib
from functools import cache
from typing import Any

import pytest
import torch

from demos.bert.bert_sentence_pair import (
    ENDINGS,
    Params,
    Scorer,
    count_passes,
    draw,
    loss_of,
    quality,
    run,
    shared_words,
    spearman,
)
from demos.contract import Result
from demos.shared import paraphrases as toy
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng

scipy: Any = importlib.import_module("scipy.stats")
CONCEPT = {word: two[0] for kind in toy.KINDS for two in kind for word in two}


@cache
def result() -> Result:
    return run(Params.model_validate({}))


def meanings(sentences: torch.Tensor) -> list[list[str]]:
    return [[CONCEPT[toy.WORDS[word]] for word in row] for row in sentences.numpy().tolist()]


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "bert-sentence-pair")


def test_without_positions_it_is_a_guess() -> None:
    values = {**Params.presets["without positions"].values, "pretrain_steps": 0, "steps": 100}
    outcome = run(Params.model_validate(values))
    assert failed(outcome) == ["New pairs are judged well"]
    assert metric(outcome, "quality") < 0.6


def test_degrees_want_an_encoder_that_has_learned_the_words_before() -> None:
    outcome = run(Params.model_validate({**Params.presets["from scratch"].values, "steps": 60}))
    assert failed(outcome) == ["New pairs are judged well"]


def test_vectors_and_their_cosine_follow_the_degrees() -> None:
    outcome = run(Params.model_validate({**Params.presets["sentence vectors"].values, "steps": 150}))
    assert failed(outcome) == []
    assert metric(outcome, "passes for all pairs") == 100
    assert metric(outcome, "change of the score when both sentences change places, mean") < 1e-4


def test_an_ending_is_found_by_reading_both() -> None:
    outcome = run(Params.model_validate({"task": "continuation", "pretrain_steps": 0, "steps": 80}))
    assert failed(outcome) == []
    assert metric(outcome, "quality of counting shared words") < 0.5


def test_a_symmetric_score_does_not_know_what_goes_on_from_what() -> None:
    values = {**Params.presets["ending by cosine"].values, "pretrain_steps": 0, "steps": 50}
    assert failed(run(Params.model_validate(values))) == ["New pairs are judged well"]


def test_a_paraphrase_says_the_same_and_any_other_pair_has_the_roles_exchanged() -> None:
    a, b, gold = draw("paraphrase", 300, rng())
    assert b.shape == (300, 1, 5)
    for one, other, same in zip(meanings(a), meanings(b[:, 0]), gold, strict=True):
        assert other == (one if same else [one[2], one[1], one[0], one[3], one[4]])
    assert 0.4 < gold.float().mean() < 0.6


def test_words_are_shared_as_often_by_paraphrases_as_by_other_pairs() -> None:
    a, b, gold = draw("paraphrase", 20_000, rng())
    shared = shared_words(a, b)[:, 0]
    assert abs(shared[gold == 1].mean() - shared[gold == 0].mean()) < 0.05


def test_a_degree_is_the_share_of_slots_that_mean_the_same() -> None:
    a, b, gold = draw("similarity", 200, rng())
    for one, other, degree in zip(meanings(a), meanings(b[:, 0]), gold, strict=True):
        assert degree.item() == pytest.approx(sum(x == y for x, y in zip(one, other, strict=True)) / 5)


def test_the_right_ending_alone_goes_on_with_the_object() -> None:
    a, b, gold = draw("continuation", 200, rng())
    assert b.shape == (200, ENDINGS, 5)
    assert gold.bincount(minlength=ENDINGS).min() > 30
    for first, endings, right in zip(a, b, gold, strict=True):
        subjects = [row[toy.SUBJECT] for row in meanings(endings)]
        assert len(set(subjects)) == ENDINGS
        assert subjects[int(right)] == meanings(first[None])[0][toy.OBJECT]
        assert all(row[toy.SUBJECT] != row[toy.OBJECT] for row in meanings(endings))


@torch.no_grad()
@pytest.mark.parametrize("mode", ["cross", "bi"])
def test_endings_are_scored_one_by_one_and_all_pairs_as_pairs_are(mode: str) -> None:
    a, b, _ = draw("continuation", 6, rng())
    model = Scorer(mode, rng(1))
    scores = model(a, b)
    assert scores.shape == (6, ENDINGS)
    for k in range(ENDINGS):
        torch.testing.assert_close(model(a, b[:, k : k + 1]), scores[:, k : k + 1])
    table = model.all_pairs(a)
    torch.testing.assert_close(table[0, 1:], model(a[:1], a[None, 1:])[0])
    torch.testing.assert_close(table, table.T)


@torch.no_grad()
def test_a_vector_has_its_own_sentence_only_and_a_score_of_both_depends_on_their_order() -> None:
    a, b, _ = draw("paraphrase", 4, rng())
    bi, cross = Scorer("bi", rng(1)), Scorer("cross", rng(1))
    torch.testing.assert_close(bi(a, b)[:, 0], bi(b[:, 0], a[:, None])[:, 0])
    assert (cross(a, b) - cross(b[:, 0], a[:, None])).abs().min() > 1e-4
    torch.testing.assert_close(bi.vectors(torch.cat([a, b[:, 0]]))[:4], bi.vectors(a))


@pytest.mark.parametrize(("mode", "passes"), [("cross", 45), ("bi", 10)])
def test_all_pairs_of_ten_sentences(mode: str, passes: int) -> None:
    assert count_passes(mode, 10, rng()) == passes


def test_the_table_of_costs_has_the_paper_s_ten_thousand_sentences() -> None:
    assert [10_000, 49_995_000, 10_000] in [list(row) for row in result().tables[0].rows]


def test_ranks_correlate_as_scipy_says_with_ties() -> None:
    a, b = torch.randn(300, generator=rng()), torch.randint(6, (300,), generator=rng(1)).float()
    for x, y in ((a, b), (b, b + a), (b, (b + 3 * a).round())):
        assert spearman(x, y) == pytest.approx(scipy.spearmanr(x, y).statistic, abs=1e-9)


def test_answers_are_scored_by_hand_solved_cases() -> None:
    scores, gold = torch.tensor([[2.0], [-1.0], [0.5], [-3.0]]), torch.tensor([1, 1, 1, 0])
    assert quality("paraphrase", scores, gold) == 0.75
    assert quality("paraphrase", scores, gold, -2.0) == 1
    tied = torch.tensor([[1.0, 1, 0, 0], [0, 2, 1, 1]])
    assert quality("continuation", tied, torch.tensor([0, 1])) == pytest.approx(0.75)
    assert loss_of("continuation", torch.zeros(3, 4), torch.tensor([0, 1, 2])).item() == pytest.approx(1.3863, abs=1e-4)
    assert loss_of("paraphrase", torch.zeros(4, 1), gold).item() == pytest.approx(0.6931, abs=1e-4)
    assert loss_of("similarity", torch.ones(2, 1), torch.tensor([0.0, 1.0])).item() == pytest.approx(0.5)


def test_shared_words_are_counted_wherever_they_stand() -> None:
    a, b = torch.tensor([[1, 2, 3, 4, 5]]), torch.tensor([[[3, 2, 1, 9, 8], [1, 2, 3, 4, 5]]])
    assert shared_words(a, b).numpy().tolist() == [[3, 5]]
