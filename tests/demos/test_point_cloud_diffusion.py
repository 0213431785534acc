"""point-cloud-diffusion against scipy's trees and diffusers' steps, and what points that know only themselves break."""

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from demos.contract import Cell, Result, Scatter
from demos.diffusion.point_cloud_diffusion import (
    FLAT,
    NEAR,
    TALL,
    Layer,
    Network,
    Params,
    chamfer,
    draw_clouds,
    run,
    sample,
)
from demos.shared.ddpm import make_schedule
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, rng


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "point-cloud-diffusion")


def test_chamfer_is_that_of_scipys_trees() -> None:
    x, y = torch.randn(3, 50, 3, generator=rng()), torch.randn(4, 70, 3, generator=rng(1))
    ours = chamfer(x, y)
    for a in range(3):
        for b in range(4):
            there = np.square(cKDTree(y[b].numpy()).query(x[a].numpy())[0]).mean()
            back = np.square(cKDTree(x[a].numpy()).query(y[b].numpy())[0]).mean()
            assert ours[a, b].item() == pytest.approx(there + back, abs=1e-5)
    assert chamfer(x, x).diagonal().abs().max() < 1e-5


@pytest.mark.parametrize("height", [FLAT, TALL])
def test_points_lie_on_their_surfaces(height: float) -> None:
    clouds = draw_clouds(torch.arange(3), torch.full((3,), height), 2000, rng()) / 0.6
    assert clouds.abs().max() <= 1 / 0.6
    x, y, z = clouds.unbind(dim=-1)
    z = torch.where(z > 0, z / height, z)
    radius = (x.square() + y.square()).sqrt()
    torch.testing.assert_close(radius[0].square() + z[0].square(), torch.ones(2000), rtol=0, atol=1e-5)
    torch.testing.assert_close(
        torch.stack([x[1], y[1], z[1]]).abs().max(dim=0).values, torch.full((2000,), 0.8), rtol=0, atol=1e-5
    )
    torch.testing.assert_close(
        (radius[2] - 0.75).square() + z[2].square(), torch.full((2000,), 0.35**2), rtol=0, atol=1e-5
    )
    assert abs((clouds[..., 2] > 0).float().mean().item() - 0.5) < 0.05


@torch.no_grad()
@pytest.mark.parametrize("voxels", [0, 4])
@pytest.mark.parametrize("pool", [True, False])
def test_reordering_the_points_reorders_the_output(pool: bool, voxels: int) -> None:
    net = Network(Params.model_validate({"pool": pool, "voxels": voxels}), rng())
    x, given, t = torch.randn(2, 64, 3, generator=rng()), torch.zeros(2, 64, 1), torch.tensor([0.1, 0.9])
    order = torch.randperm(64, generator=rng(1))
    out = net(x, given, t)
    torch.testing.assert_close(net(x[:, order], given, t), out[:, order], rtol=0, atol=1e-5)
    far = x.clone()
    far[:, 0] += 3  # one point moves away: do the others notice?
    moved = (net(far, given, t) - out)[:, 1:].abs().max().item()
    assert (moved > 1e-4) == (pool or voxels > 0)


@torch.no_grad()
def test_a_voxel_holds_the_mean_of_its_points() -> None:
    layer = Layer(Params.model_validate({"voxels": 2}))
    x = torch.tensor([[[-0.5, -0.5, -0.5], [-0.1, -0.9, -0.2], [0.5, 0.5, 0.5]]])  # two in one cell, one alone
    h = torch.randn(1, 3, NEAR, generator=rng())
    grid = torch.zeros(1, NEAR, 2, 2, 2)
    grid[0, :, 0, 0, 0], grid[0, :, 1, 1, 1] = h[0, :2].mean(dim=0), h[0, 2]
    theirs = layer.near(grid)
    ours = layer.from_voxels(h, x)
    torch.testing.assert_close(ours[0, 0], theirs[0, :, 0, 0, 0], rtol=0, atol=1e-5)
    torch.testing.assert_close(ours[0, 1], ours[0, 0])
    torch.testing.assert_close(ours[0, 2], theirs[0, :, 1, 1, 1], rtol=0, atol=1e-5)


def test_given_points_stay_on_the_whole_way() -> None:
    net, known = Network(Params.model_validate({}), rng()), torch.rand(2, 64, 3, generator=rng())
    given = (torch.arange(64) < 20).float().view(1, 64, 1).expand(2, 64, 1)
    for x in sample(net, known, given, make_schedule(), rng(1)):
        assert torch.equal(x[:, :20], known[:, :20])
        assert (x[:, 20:] - known[:, 20:]).abs().max() > 0.1


def test_points_that_know_only_themselves_do_not_agree_on_a_shape() -> None:
    outcome = result(steps=300, mode="complete", **Params.presets["each for itself"].values)
    assert "Lower halves are completed both ways, flat and tall" in failed(outcome)
    completion = outcome.figures[0]
    assert isinstance(completion, Scatter)
    assert list(completion.series) == ["given", *(f"completion {n}" for n in (1, 2, 3, 4))]
