"""precision-recall-knn against scipy's neighbours, and what outliers and large balls do to it."""

import numpy as np
import pytest
import torch
from scipy.spatial import KDTree

from demos.contract import Cell, Images, Lines, Result, Scatter
from demos.gans.precision_recall_knn import CASES, Params, draw_real, generate, in_balls, radii, run, score
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng

NOISY, COLLAPSED = "A noisy generator is not precise", "It lacks variety"


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "precision-recall-knn")


@pytest.mark.parametrize(("k", "d"), [(1, 2), (3, 2), (5, 8)])
def test_radii_and_membership_are_those_of_a_scipy_tree(k: int, d: int) -> None:
    real = torch.randn(200, d, generator=rng(), dtype=torch.float64)
    fake = 0.7 * torch.randn(150, d, generator=rng(1), dtype=torch.float64)
    far, _ = KDTree(real.numpy()).query(real.numpy(), k=k + 1)  # the point itself comes first
    radius = radii(real, k)
    np.testing.assert_allclose(radius.numpy(), np.asarray(far)[:, -1], rtol=1e-12)
    members = KDTree(fake.numpy()).query_ball_point(real.numpy(), radius.numpy())
    inside = in_balls(fake, real, radius).numpy()  # (150, 200)
    assert inside.any()
    assert [set(np.flatnonzero(ball)) for ball in inside.T] == [set(ball) for ball in members]


def test_precision_of_one_is_recall_of_the_other() -> None:
    real, fake = draw_real(300, 0, rng()), generate("noisy", 200, 1.0, rng(1))
    there, back = score(real, fake, 3), score(fake, real, 3)
    assert (there.precision, there.recall) == (back.recall, back.precision)
    assert there.precision < 0.6 < there.recall


def test_a_set_against_itself_is_perfect_and_far_away_it_scores_nothing() -> None:
    real = draw_real(300, 0, rng())
    same, away = score(real, real, 3), score(real, real + 100, 3)
    assert (same.precision, same.recall, same.coverage) == (1, 1, 1)
    assert same.density == pytest.approx(4 / 3)  # each point lies in its own ball and, on average, in three others
    assert (away.precision, away.recall, away.density, away.coverage) == (0, 0, 0, 0)


def test_lone_real_points_make_noise_precise_but_hardly_denser() -> None:
    preset = Params.presets["outliers"].values
    with_them, without = result(**preset), result(case="noisy")
    assert NOISY in failed(with_them)
    assert COLLAPSED not in failed(with_them)
    assert metric(with_them, "precision") > metric(without, "precision") + 0.3
    assert metric(with_them, "density") < 0.7


def test_balls_that_bridge_the_modes_accept_all_noise() -> None:
    outcome = result(**Params.presets["balls too large"].values)
    assert NOISY in failed(outcome)
    assert metric(outcome, "precision") > 0.9


def test_the_case_decides_the_numbers_and_the_leading_figure() -> None:
    outcomes = {case: result(case=case, samples=300) for case in CASES}
    assert metric(outcomes["collapsed"], "precision") > 0.85 > metric(outcomes["noisy"], "precision")
    assert metric(outcomes["noisy"], "recall") > 0.85 > metric(outcomes["collapsed"], "recall")
    assert isinstance(outcomes["truncated"].figures[0], Lines)
    points, balls = outcomes["collapsed"].figures[:2]
    assert isinstance(points, Scatter)
    assert sum(map(len, points.series.values())) == 600
    assert isinstance(balls, Images)
    real, fake = torch.tensor(balls.pixels)[0]  # (56, 56) each: 1 inside a ball
    assert real.sum() > 2 * fake.sum() > 0
