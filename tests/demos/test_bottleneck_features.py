"""bottleneck-features against scikit-learn's PCA and LogisticRegression and scipy's principal angles."""

import importlib
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from demos.contract import Cell, Images, Lines, Scatter
from demos.shared.digits import load_digits
from demos.vaes.bottleneck_features import Autoencoder, Params, fit_pca, fit_probe, largest_angle, run
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, rng

decomposition: Any = importlib.import_module("sklearn.decomposition")  # untyped
linear_model: Any = importlib.import_module("sklearn.linear_model")
linalg: Any = importlib.import_module("scipy.linalg")


def digits() -> tuple[Tensor, Tensor]:
    images, labels = load_digits()
    return images.flatten(1), labels


def test_every_claim_holds_at_the_defaults() -> None:
    outcome = run(Params.model_validate({}))
    assert_claims_hold_as_listed(outcome, "bottleneck-features")
    curve, copies = outcome.figures[:2]
    assert isinstance(curve, Lines)
    assert list(curve.at) == [1, 2, 4, 8, 16, 32]
    assert isinstance(copies, Images)
    assert torch.tensor(copies.pixels).shape == (3, 10, 8, 8)


@pytest.mark.parametrize("d", [1, 4, 16])
def test_pca_is_that_of_scikit_learn(d: int) -> None:
    x, _ = digits()
    ours, theirs = fit_pca(x), decomposition.PCA(d, svd_solver="full").fit(x.double().numpy())
    back = ours.decode(ours.encode(x, d))
    expected = theirs.inverse_transform(theirs.transform(x.double().numpy()))
    np.testing.assert_allclose(back.numpy(), expected, atol=1e-4)


def test_principal_angles_are_those_of_scipy() -> None:
    a, b = torch.randn(2, 64, 4, generator=rng())
    expected = float(np.degrees(linalg.subspace_angles(a.double().numpy(), b.double().numpy()).max()))
    assert largest_angle(a, b) == pytest.approx(expected, abs=1e-5)
    assert largest_angle(a, a @ torch.randn(4, 4, generator=rng(1))) < 0.01  # another basis of the same space


def test_the_probe_is_scikit_learns_logistic_regression() -> None:
    x, y = digits()
    features = fit_pca(x).encode(x, 8)
    W, b = fit_probe(features[:200], y[:200])
    reference = linear_model.LogisticRegression(C=1.0, max_iter=1_000, tol=1e-8).fit(
        features[:200].double().numpy(), y[:200].numpy()
    )
    ours = (features @ W + b).softmax(dim=1)
    theirs = reference.predict_proba(features.double().numpy())
    np.testing.assert_allclose(ours.numpy(), theirs, atol=0.01)


def test_a_linear_autoencoder_is_linear_and_a_vae_is_not() -> None:
    x, _ = digits()
    for kind, bends in (("linear", False), ("vae", True)):
        model = Autoencoder(3, kind, x.mean(dim=0), rng())
        with torch.no_grad():
            a, b, middle = (model.decode(model.encode(v)) for v in (x[:50], x[50:100], (x[:50] + x[50:100]) / 2))
        assert (((a + b) / 2 - middle).abs().max().item() > 1e-4) == bends
        assert model.encode(x[:5]).shape == (5, 3)


def test_a_linear_code_gains_nothing_over_pca() -> None:
    values: dict[str, Cell] = dict(Params.presets["linear"].values)
    assert "Two curved numbers keep more than PCA's two" in failed(run(Params.model_validate(values)))


def test_two_numbers_make_a_map_and_are_too_few_for_the_class() -> None:
    values: dict[str, Cell] = dict(Params.presets["plane"].values)
    outcome = run(Params.model_validate(values))
    assert failed(outcome) == ["A probe with your labels reads the digit from your code"]
    leading = outcome.figures[0]
    assert isinstance(leading, Scatter)
    assert sum(len(points) for points in leading.series.values()) == 397
