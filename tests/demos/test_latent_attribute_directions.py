"""latent-attribute-directions against scikit-learn's SVM, scipy's entropy and a corner that must stay empty."""

import importlib
from functools import cache
from typing import Any

import pytest
import torch
from scipy.stats import entropy

from demos.contract import Cell, Images, Result
from demos.gans.latent_attribute_directions import (
    CUT,
    Generator,
    Params,
    conditional_entropy,
    draw_sliders,
    fit_hyperplane,
    paint,
    project_out,
    run,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng

LEAVES, STRAIGHTER = "And leaves the others", "Hyperplanes leave less open in W"


@cache
def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "latent-attribute-directions")
    assert metric(result(), "leak") < metric(result(), "leak along the plain normal")
    faces = result().figures[0]
    assert isinstance(faces, Images)
    assert faces.pixels[0][0] == faces.pixels[1][0]  # both ways start at the same face
    assert faces.pixels[0][-1] != faces.pixels[0][0]


@pytest.mark.parametrize(
    ("preset", "broken"), [("plain normals", LEAVES), ("edit in Z", LEAVES), ("no mapping network", STRAIGHTER)]
)
def test_each_part_is_needed(preset: str, broken: str) -> None:
    assert broken in failed(result(**Params.presets[preset].values))


def test_without_doubtful_faces_hyperplanes_are_nearly_perfect_in_w() -> None:
    half = result(**Params.presets["confident half"].values)
    assert metric(half, "separability score in W") < 1.1 < metric(result(), "separability score in W")


def test_backwards_the_attribute_goes() -> None:
    assert metric(result(strength=-4.0, attribute="mouth", samples=500), "flip_rate") > 0.85


def test_the_hyperplane_is_scikit_learns() -> None:
    x = torch.randn(500, 8, generator=rng())
    there = x[:, 0] + 0.5 * x[:, 1] + 0.4 * torch.randn(500, generator=rng(1)) > 0.3
    v, b = fit_hyperplane(x, there)
    svm: Any = importlib.import_module("sklearn.svm")  # it has no types
    model: Any = svm.LinearSVC(C=1.0, tol=1e-10, max_iter=100_000).fit(x.numpy(), there.numpy())
    torch.testing.assert_close(v, torch.tensor(model.coef_[0]).float(), rtol=0, atol=1e-4)
    assert b.item() == pytest.approx(model.intercept_[0], abs=1e-4)


def test_separable_codes_are_divided_without_an_error() -> None:
    x = torch.randn(300, 3, generator=rng())
    x = x[(x[:, 0] - 0.2).abs() > 0.1]
    v, b = fit_hyperplane(x, x[:, 0] > 0.2)
    assert torch.equal(x @ v + b > 0, x[:, 0] > 0.2)


def test_the_conditional_entropy_is_scipys() -> None:
    x, y = (torch.rand(2, 400, generator=rng()) < torch.tensor([[0.3], [0.6]])).unbind()
    y = y | x & (torch.rand(400, generator=rng(1)) < 0.7)
    expected = sum((x == a).double().mean().item() * entropy(y[x == a].long().bincount().numpy()) for a in (0, 1))
    assert conditional_entropy(x, y) == pytest.approx(float(expected), abs=1e-9)
    assert conditional_entropy(y, y) == pytest.approx(0, abs=1e-12)


def test_projection_is_that_of_the_two_vector_formula() -> None:
    d1, d2 = torch.nn.functional.normalize(torch.randn(2, 8, generator=rng()), dim=1)
    expected = d1 - (d1 @ d2) * d2
    torch.testing.assert_close(project_out(d1, d2[None]), expected / expected.square().sum().sqrt())
    others = torch.randn(3, 8, generator=rng(1))
    assert (others @ project_out(d1, others)).abs().max() < 1e-5


def test_data_have_no_face_in_the_two_corners() -> None:
    x = draw_sliders(5000, rng())
    assert x.shape == (5000, 4)
    for pair in (x[:, :2], x[:, 2:]):
        assert not (pair >= CUT).all(dim=1).any()
        assert (pair > 0.9).any(dim=0).all()
    assert torch.corrcoef(x.T)[0, 2].abs() < 0.05


def test_a_slider_moves_its_own_attribute_and_stops_at_its_ends() -> None:
    off = torch.zeros(1, 4)
    for k in range(4):
        on = off.clone()
        on[0, k] = 1
        assert (paint(on, 0) - paint(off, 0)).abs().max() > 0.3
        assert torch.equal(paint(3 * on, 0), paint(on, 0))


def test_without_layers_w_is_z_and_the_generator_starts_straight() -> None:
    G, z = Generator(0, rng()), torch.randn(3, 8, generator=rng(1))
    assert torch.equal(G.f(z), z)
    torch.testing.assert_close(G(z[0] + z[1]) + G(torch.zeros(8)), G(z[0]) + G(z[1]))
