"""generative-vs-discriminative against scikit-learn and torch.distributions, and what few labels or spikes do to it."""

import importlib
from typing import Any

import pytest
import torch

from demos.contract import Cell, Result
from demos.fundamentals.generative_vs_discriminative import (
    Params,
    balanced_order,
    fit_discriminative,
    fit_generative,
    right,
    run,
)
from demos.shared.digits import load_digits
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, rng

mixture: Any = importlib.import_module("sklearn.mixture")  # untyped
linear_model: Any = importlib.import_module("sklearn.linear_model")


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def split() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    images, labels = load_digits()
    x = images.flatten(1).double()
    return x[:1200], labels[:1200], x[1200:], labels[1200:]


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "generative-vs-discriminative")


@pytest.mark.parametrize("components", [1, 3])
def test_gradient_ascent_reaches_the_likelihood_of_scikit_learns_em(components: int) -> None:
    x, y, _, _ = split()
    x = x + 0.1 * torch.randn(x.shape, generator=rng(), dtype=x.dtype)  # no pixel is constant: no bound is active
    model = fit_generative(x, y, components, 0.001, rng(1))
    own = model.log_likelihood(x)
    for label in range(10):
        members = x[y == label]
        em = mixture.GaussianMixture(components, covariance_type="diag", n_init=3, random_state=0)
        reference = float(em.fit(members.numpy()).score(members.numpy()))
        assert own[y == label, label].mean().item() == pytest.approx(reference, rel=0.02)


def test_softmax_regression_is_that_of_scikit_learn() -> None:
    x, y, x_test, y_test = split()
    ours = fit_discriminative(x, y)
    reference = linear_model.LogisticRegression(max_iter=5000, tol=1e-8).fit(x.numpy(), y.numpy())
    theirs = torch.tensor(reference.predict_proba(x_test.numpy()))
    torch.testing.assert_close(ours(x_test).softmax(dim=1), theirs, rtol=0, atol=0.02)
    assert right(ours(x_test), y_test) == pytest.approx(right(theirs, y_test), abs=0.005)


def test_draws_have_the_mean_and_deviation_of_their_class() -> None:
    x, y, _, _ = split()
    model = fit_generative(x, y, 3, 0.1, rng())
    drawn = model.draw(torch.full((40_000,), 4), rng(1))
    pi = model.logits.softmax(dim=1)[4, :, None]  # (K, 1)
    mean = (pi * model.mu[4]).sum(dim=0)
    second = (pi * (model.mu[4].square() + model.var[4])).sum(dim=0)
    torch.testing.assert_close(drawn.mean(dim=0), mean, rtol=0, atol=0.01)
    torch.testing.assert_close(drawn.std(dim=0), (second - mean.square()).sqrt(), rtol=0.03, atol=0)
    assert model.var.min() >= 0.01


def test_every_class_stands_in_any_few_digits() -> None:
    _, labels = load_digits()
    order = balanced_order(labels, rng())
    assert sorted(order.numpy().tolist()) == list(range(len(labels)))
    assert labels[order[:50]].bincount().numpy().tolist() == [5] * 10


def test_fifty_labels_are_too_few_for_three_gaussians_a_class() -> None:
    assert "Bayes' rule on p(x | y) p(y) classifies test digits" in failed(
        result(**Params.presets["fifty labels"].values)
    )


def test_one_gaussian_a_class_costs_accuracy_but_draws_digits() -> None:
    assert failed(result(**Params.presets["one Gaussian"].values)) == ["With all labels it costs little accuracy"]


def test_without_a_least_deviation_stray_ink_outweighs_the_digit() -> None:
    assert "Bayes' rule on p(x | y) p(y) classifies test digits" in failed(result(**Params.presets["spikes"].values))


@pytest.mark.parametrize(("mode", "kind"), [("compare", "lines"), ("generate", "images"), ("classify", "bars")])
def test_the_mode_decides_which_figure_leads(mode: str, kind: str) -> None:
    assert result(mode=mode, train_size=50, components=1).figures[0].kind == kind
