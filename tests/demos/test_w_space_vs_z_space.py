"""w-space-vs-z-space against scikit-learn, scipy, torch and a path whose length is known."""

import importlib
from typing import Any

import pytest
import torch
from scipy.spatial import geometric_slerp

from demos.contract import Cell, Result, Scatter
from demos.gans.w_space_vs_z_space import (
    CUT,
    Params,
    Synthesis,
    draw_factors,
    grid,
    latent,
    linear_fit,
    mapping_network,
    path_length,
    run,
    slerp,
    sliced_loss,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng

STRAIGHTER = [
    "Factors are more linear in W than in Z",
    "And more than in the Z of a network without mapping",
    "Paths are shorter in W than in Z, by lerp or slerp",
    "And shorter than in the Z of a network without mapping",
]


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def doubles(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=rng(seed), dtype=torch.float64)


def test_every_claim_holds_at_the_defaults() -> None:
    outcome = result()
    assert_claims_hold_as_listed(outcome, "w-space-vs-z-space")
    assert metric(outcome, "ppl") < metric(outcome, "ppl in Z without mapping network") < metric(outcome, "ppl in Z")
    over_w = outcome.figures[1]
    assert isinstance(over_w, Scatter)
    assert list(over_w.series) == ["data", "grid of w"]


def test_without_a_mapping_network_w_is_z() -> None:
    outcome = result(**Params.presets["no mapping network"].values)
    assert failed(outcome) == [*STRAIGHTER, "The missing corner stays empty"]  # g alone cannot bend that far
    assert metric(outcome, "linear_fit") == metric(outcome, "linear_fit in Z")


def test_one_linear_layer_straightens_nothing() -> None:
    outcome = result(steps=300, **Params.presets["one linear layer"].values)
    assert set(STRAIGHTER) - {STRAIGHTER[3]} <= set(failed(outcome))
    assert metric(outcome, "linear_fit") == pytest.approx(metric(outcome, "linear_fit in Z"), abs=1e-9)


def test_the_ends_of_paths_are_shorter_in_w_too() -> None:
    outcome = result(**Params.presets["ends only"].values)
    assert failed(outcome) == []
    assert metric(outcome, "ppl") != metric(result(), "ppl")


def test_r_squared_is_that_of_scikit_learn() -> None:
    codes, factors = doubles(200, 2), doubles(200, 2, seed=1)
    factors = factors + codes @ doubles(2, 2, seed=2) + 3
    A, r2 = linear_fit(codes, factors)
    reference: Any = importlib.import_module("sklearn.linear_model")  # it has no types
    model: Any = reference.LinearRegression().fit(codes.numpy(), factors.numpy())
    torch.testing.assert_close(A, torch.tensor(model.coef_).T, rtol=0, atol=1e-6)
    for n in (0, 1):
        alone: Any = reference.LinearRegression().fit(codes.numpy(), factors[:, n].numpy())
        assert r2[n].item() == pytest.approx(alone.score(codes.numpy(), factors[:, n].numpy()), abs=1e-6)


def test_the_path_length_of_a_linear_map_is_known() -> None:
    codes, A, t = doubles(4000, 2), doubles(2, 2, seed=1), torch.rand(2000, 1, generator=rng(2)).double()
    expected = ((codes[2000:] - codes[:2000]) @ A).square().sum(dim=1).mean().item()
    assert path_length(latent(codes, lambda c: c @ A).paths["lerp"], t, 1e-3) == pytest.approx(expected, rel=1e-3)


def test_slerp_is_scipys() -> None:
    a, b = (torch.nn.functional.normalize(doubles(1, 5, seed=seed)) for seed in (0, 1))
    for t in (0.0, 0.3, 1.0):
        reference = geometric_slerp(a[0].numpy(), b[0].numpy(), t)
        torch.testing.assert_close(slerp(a, b, torch.tensor([[t]]).double())[0], torch.tensor(reference))


def test_slerp_changes_length_evenly_and_keeps_the_ends() -> None:
    a, b = doubles(50, 2), doubles(50, 2, seed=1)
    ends = [slerp(a, b, torch.full((50, 1), t).double()) for t in (0.0, 0.5, 1.0)]
    torch.testing.assert_close(ends[0], a)
    torch.testing.assert_close(ends[2], b)
    lengths = [x.square().sum(dim=1).sqrt() for x in ends]
    torch.testing.assert_close(lengths[1], (lengths[0] + lengths[2]) / 2)


def test_the_sliced_loss_of_a_shift_is_half_its_square() -> None:
    x = torch.randn(500, 2, generator=rng())
    # along a direction at angle a the shift d is d cos a, whose square is d²/2 on average
    assert sliced_loss(x, x + torch.tensor([3.0, 0.0]), rng(1)).item() == pytest.approx(4.5, rel=1e-4)


def test_no_data_lie_in_the_corner_and_all_else_is_covered() -> None:
    x = draw_factors(20_000, rng())
    assert x.shape == (20_000, 2)
    assert not (x >= CUT).all(dim=1).any()
    area = 4 - (1 - CUT) ** 2
    for low, high in (((-1, -1), (CUT, CUT)), ((CUT, -1), (1, CUT)), ((-1, CUT), (CUT, 1))):
        inside = ((x >= torch.tensor(low)) & (x < torch.tensor(high))).all(dim=1).float().mean().item()
        assert inside == pytest.approx((high[0] - low[0]) * (high[1] - low[1]) / area, abs=0.015)


def test_networks_have_the_depth_that_was_asked_for() -> None:
    z = torch.randn(10, 2, generator=rng())
    for layers in (0, 1, 8):
        f = mapping_network(layers, rng())
        assert sum(isinstance(part, torch.nn.Linear) for part in f.modules()) == layers
        assert f(z).shape == (10, 2)
    assert torch.equal(mapping_network(0, rng())(z), z)
    assert torch.equal(Synthesis(rng())(z), z)  # it starts straight


def test_the_grid_has_no_points_where_no_code_falls() -> None:
    ring = torch.nn.functional.normalize(doubles(4000, 2))
    points = grid(ring)
    assert 20 < len(points) < 434
    assert (points.square().sum(dim=1).sqrt() - 1).abs().max() < 0.11
