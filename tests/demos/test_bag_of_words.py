"""bag-of-words against scikit-learn's vectors and classifier, and pairs of words."""

from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch

from demos.contract import Cell, Result
from demos.language_models.bag_of_words import Bag, Params, accuracy, run, terms, topic_texts, who_bit_whom
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng

features: Any = import_module("sklearn.feature_extraction.text")  # untyped
linear: Any = import_module("sklearn.linear_model")


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


@pytest.mark.parametrize("weighting", ["count", "binary", "tfidf"])
def test_every_claim_holds_at_the_defaults_and_with_other_weights(weighting: str) -> None:
    assert_claims_hold_as_listed(result(weighting=weighting), "bag-of-words")


def test_pairs_of_words_keep_some_order() -> None:
    outcome = result(**Params.presets["bigrams"].values)
    assert failed(outcome) == ["A text and its shuffle are one vector", "They cannot tell who bit whom"]
    assert metric(outcome, "accuracy where order matters") >= 0.95
    assert metric(outcome, "columns") > 10 * metric(result(), "columns")


def test_a_cut_of_rare_words_shrinks_the_matrix_and_keeps_the_topics() -> None:
    cut = result(**Params.presets["rare-words-cut"].values, ngrams=2)
    assert metric(cut, "columns") < 0.5 * metric(result(ngrams=2), "columns")
    assert metric(cut, "accuracy") >= 0.95


@pytest.mark.parametrize(("ngrams", "min_count"), [(1, 1), (2, 3), (3, 1)])
def test_vectors_are_scikit_learns(ngrams: int, min_count: int) -> None:
    texts, _ = topic_texts(60, rng())
    new, _ = topic_texts(20, rng(1))
    counts: Any = features.CountVectorizer(ngram_range=(1, ngrams), min_df=min_count, tokenizer=str.split)
    counts.set_params(token_pattern=None)
    expected: Any = counts.fit_transform(texts)
    bags = {
        name: Bag(texts, Params.model_validate({"weighting": name, "ngrams": ngrams, "min_count": min_count}))
        for name in ("count", "binary", "tfidf")
    }
    assert bags["count"].columns == counts.get_feature_names_out().tolist()
    transformer: Any = features.TfidfTransformer().fit(expected)
    for given in (texts, new):
        theirs: Any = counts.transform(given)
        assert np.array_equal(bags["count"].vectors(given).numpy(), theirs.toarray())
        assert np.array_equal(bags["binary"].vectors(given).numpy(), (theirs.toarray() > 0).astype(float))
        ours = bags["tfidf"].vectors(given).numpy()
        np.testing.assert_allclose(ours, transformer.transform(theirs).toarray(), atol=1e-9)


def test_the_classifier_is_as_good_as_scikit_learns() -> None:
    params = Params.model_validate({})
    training, test = topic_texts(200, rng()), topic_texts(200, rng(1))
    bag = Bag(training[0], params)
    model: Any = linear.LogisticRegression(max_iter=1000).fit(bag.vectors(training[0]).numpy(), training[1].numpy())
    theirs = model.score(bag.vectors(test[0]).numpy(), test[1].numpy())
    assert accuracy(training, test, params) == pytest.approx(theirs, abs=0.02)


def test_both_orders_are_one_vector_so_accuracy_is_exactly_chance() -> None:
    texts, labels = who_bit_whom(30, rng())
    assert labels.double().mean() == 0.5
    vectors = Bag(texts, Params.model_validate({})).vectors(texts)
    assert torch.equal(vectors[0::2], vectors[1::2])
    assert metric(result(), "accuracy where order matters") == 0.5


def test_terms_are_runs_of_words() -> None:
    assert terms("The cat the", 2) == ["the", "cat", "the", "the cat", "cat the"]
