"""realnvp-2d against torch.distributions' transforms, and its density where the determinant is left out."""

import math
from typing import Any

import pytest
import torch
from torch.distributions import ComposeTransform, Independent, Normal, TransformedDistribution
from torch.distributions.transforms import AffineTransform

from demos.contract import Cell, Result, Scatter
from demos.fundamentals.realnvp_2d import Coupling, Flow, Params, run, squares
from demos.shared.clouds import RADII, draw_cloud
from demos.shared.plane import MODES
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, rng


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def random_flow(**params: Cell) -> Flow:
    """A flow far from the identity at which training starts."""
    flow = Flow(Params.model_validate(params), rng())
    for weight in flow.parameters():
        torch.nn.init.normal_(weight, std=0.15, generator=rng(weight.numel()))
    return flow


def test_every_claim_holds_at_the_defaults() -> None:
    outcome = result()
    assert_claims_hold_as_listed(outcome, "realnvp-2d")
    carried = outcome.figures[1]
    assert isinstance(carried, Scatter)
    assert list(carried.series) == ["z", "after 2 layers", "after 4 layers", "after 6 layers", "after 8 layers"]


@torch.no_grad()
def test_the_density_is_that_of_torchs_transformed_distribution() -> None:
    flow = random_flow(layers=5)
    x = draw_cloud("moons", 50, rng())
    for point in x.double() * 1.0:  # the couplings are affine maps once the point is known
        flow.double()
        layers: list[Any] = []
        at = point[None]
        for layer in flow.couplings:
            s, t = layer.s_and_t(at)
            layers.append(AffineTransform(t[0], s[0].exp(), event_dim=1).inv)
            at, _ = layer(at)
        base = Independent(Normal(torch.zeros(2).double(), 1.0), 1)
        # z -> x runs the inverted layers from the last to the first
        reference: Any = TransformedDistribution(base, [ComposeTransform(layers[::-1])])
        torch.testing.assert_close(flow.log_prob(point[None])[0], reference.log_prob(point), rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_coupling_is_undone_and_lets_its_own_coordinate_pass() -> None:
    for layer in random_flow(layers=2).couplings:
        x = torch.randn(100, 2, generator=rng(1))
        y, log_det = layer(x)
        passes = int(layer.b.argmax())
        assert torch.equal(y[:, passes], x[:, passes])
        assert (y[:, 1 - passes] - x[:, 1 - passes]).abs().min() > 0
        torch.testing.assert_close(layer.inverse(y), x, rtol=0, atol=1e-5)
        assert log_det.std() > 0


def test_a_new_flow_is_the_identity() -> None:
    flow = Flow(Params.model_validate({}), rng())
    x = torch.randn(10, 2, generator=rng())
    z, log_det = flow(x)
    assert torch.equal(z, x)
    assert log_det.count_nonzero() == 0
    assert isinstance(flow.couplings[0], Coupling)


def test_without_the_determinant_there_is_no_density() -> None:
    outcome = result(steps=300, **Params.presets["no determinant"].values)
    assert "Summed log-scales are the log-determinant of the Jacobian" in failed(outcome)
    assert "The density integrates to one" in failed(outcome)


def test_a_coordinate_that_is_never_transformed_stays_gaussian() -> None:
    outcome = result(steps=300, **Params.presets["never swapped"].values)
    assert "The flow beats one Gaussian" in failed(outcome)
    assert "The density integrates to one" not in failed(outcome)  # a density all the same


def test_squares_tile_the_plane_from_the_top_row_down() -> None:
    centres = squares(4, 2.0)
    assert centres[:2].numpy().tolist() == [[-1.5, 1.5], [-0.5, 1.5]]
    assert centres[-1].numpy().tolist() == [1.5, -1.5]
    fine = squares(200, 6.0)
    mass = (-0.5 * fine.square().sum(dim=1)).exp().sum().item() * (12 / 200) ** 2
    assert mass == pytest.approx(2 * math.pi, rel=1e-4)


@pytest.mark.parametrize("name", ["moons", "rings", "gaussians"])
def test_clouds_are_where_they_are_said_to_be(name: str) -> None:
    x = draw_cloud(name, 20_000, rng())
    assert x.shape == (20_000, 2)
    torch.testing.assert_close(x.mean(dim=0), torch.zeros(2), rtol=0, atol=0.03)
    assert 0.45 < x.var(dim=0).min() <= x.var(dim=0).max() < 1.7
    if name == "rings":
        off = (x.square().sum(dim=1, keepdim=True).sqrt() - torch.tensor(RADII)).abs().min(dim=1).values
        assert (off < 0.55).all()
    if name == "gaussians":
        assert torch.cdist(x, MODES).min(dim=1).values.max() < 0.6
