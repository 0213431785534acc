"""ngram-language-model against counts by hand, the sum over all sentences, and counts without smoothing."""

import math

import numpy as np
import pytest

from demos.contract import Cell, Result
from demos.language_models.ngram_language_model import END, START, UNKNOWN, NGram, Params, Smoothing, run, sentences_of
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng

TEXT = [line.split() for line in ("a b", "a b", "a c", "b c")]


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "ngram-language-model")


def test_counts_alone_find_sentences_impossible() -> None:
    outcome = result(**Params.presets["unsmoothed"].values)
    assert failed(outcome) == ["No held-out sentence is impossible"]
    assert metric(outcome, "held-out sentences with probability 0") > 0


def test_single_words_have_no_order() -> None:
    outcome = result(**Params.presets["unigram"].values)
    assert failed(outcome) == ["The true order is likelier than a shuffled one"]
    assert metric(outcome, "samples that are sentences of the grammar") <= 2


def test_add_k_holds_all_claims_and_words_unknown_to_training_are_scored() -> None:
    assert failed(result(**Params.presets["add-k"].values)) == []
    unknown = result(sentence="The xylophone sleeps")
    assert -60 < metric(unknown, "log-probability of the sentence") < -5
    assert unknown.tables[0].rows[1][0] == UNKNOWN
    assert result(smoothing="none", sentence="cat cat cat").tables[0].rows[-1][-1] == "−∞"
    assert result(sentence="").tables[0].rows[0][0] == END


def test_counts_by_hand() -> None:
    model = NGram(2, "none", TEXT)
    assert model.probability("a", (START,)) == 3 / 4
    assert model.probability("b", ("a",)) == 2 / 3
    assert model.log_probability(["a", "b"]) == pytest.approx(math.log(3 / 4 * 2 / 3 * 2 / 3))
    assert model.log_probability(["c", "a"]) == -math.inf
    assert model.perplexity([["a", "b"]]) == pytest.approx((3 / 4 * 2 / 3 * 2 / 3) ** (-1 / 3))


def test_add_k_by_hand() -> None:
    model = NGram(2, "add-k", TEXT, k=0.5)  # a, b, c, end, unknown
    assert model.probability("b", ("a",)) == pytest.approx((2 + 0.5) / (3 + 0.5 * 5))
    assert model.probability("a", ("nowhere",)) == pytest.approx(1 / 5)


def test_kneser_ney_by_hand() -> None:
    model = NGram(2, "kneser-ney", TEXT)
    # 7 different pairs, <s>a <s>b ab ac bc b</s> c</s>: b stands second in 2 of them, and 4 words stand second
    lower = (2 - 0.75) / 7 + 0.75 * 4 / 7 / 5
    assert model.probability("b", ()) == pytest.approx(lower)
    assert model.probability("b", ("a",)) == pytest.approx((2 - 0.75) / 3 + 0.75 * 2 / 3 * lower)
    assert model.probability("b", ("nowhere",)) == pytest.approx(lower)


@pytest.mark.parametrize("smoothing", ["none", "add-k", "kneser-ney"])
def test_the_probabilities_of_all_sentences_sum_to_one(smoothing: Smoothing) -> None:
    """A bigram model is a Markov chain: the sum over sentences of every length is start · (1 − Q)⁻¹ · end."""
    model = NGram(2, smoothing, sentences_of(200, rng()))
    words = [word for word in model.vocabulary if word != END and (smoothing != "none" or (word,) in model.counts)]
    Q = np.array([[model.probability(b, (a,)) for b in words] for a in words])
    start = np.array([model.probability(a, (START,)) for a in words])
    end = np.array([model.probability(END, (a,)) for a in words])
    total = start @ np.linalg.solve(np.eye(len(words)) - Q, end) + model.probability(END, (START,))
    assert total == pytest.approx(1, abs=1e-9)


def test_samples_follow_the_model() -> None:
    model = NGram(2, "none", TEXT)
    dice = rng()
    drawn = [tuple(model.sample(dice)) for _ in range(400)]
    assert {len(sentence) <= 20 for sentence in drawn} == {True}
    share = drawn.count(("a", "c")) / 400
    assert share == pytest.approx(3 / 4 / 3, abs=0.07)
