"""diffusion-vs-gan-training against torch.nn and POT, and what a high learning rate does."""

import math

import ot
import pytest
import torch
from torch import nn

from demos.contract import Cell, Result, Table
from demos.diffusion.diffusion_vs_gan_training import (
    CENTRES,
    STD,
    Params,
    Perceptrons,
    descend,
    draw,
    largest_jump,
    modes,
    run,
    waves,
)
from demos.shared.plane import sliced_distance
from tests.demos.outcomes import assert_claims_hold_as_listed, rng


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    outcome = result()
    assert_claims_hold_as_listed(outcome, "diffusion-vs-gan-training")
    table = outcome.tables[0]
    assert isinstance(table, Table)
    assert len(table.rows) == 10


def test_each_perceptron_is_torchs_and_learns_as_if_alone() -> None:
    side_by_side = Perceptrons(3, 14, 2, rng())
    x = torch.randn(3, 6, 14, generator=rng())
    for s in range(3):
        h = x[s]
        for n, (weight, bias) in enumerate(zip(side_by_side.weights, side_by_side.biases, strict=True)):
            h = nn.functional.linear(h, weight[s].T, bias[s, 0])
            h = nn.functional.silu(h) if n < 3 else h
        torch.testing.assert_close(side_by_side(x)[s], h)
    before = [weight.clone() for weight in side_by_side.parameters()]
    adam = torch.optim.SGD(side_by_side.parameters(), lr=1.0)
    scale = torch.tensor([100.0, 0.0, 100.0])  # the second has nothing to learn, the others are clipped
    descend(side_by_side, adam, (side_by_side(x) * scale[:, None, None]).square().mean(dim=(1, 2)))
    moved = sum(
        (new - old).square().sum(dim=(1, 2)) for new, old in zip(side_by_side.parameters(), before, strict=True)
    )
    torch.testing.assert_close(moved, torch.tensor([1.0, 0.0, 1.0]))


def test_data_lie_on_all_25_modes() -> None:
    x = draw((2, 5_000), rng())
    assert x.shape == (2, 5_000, 2)
    assert modes(x[0]) == 25
    assert modes(CENTRES[[3, 3, 7]].repeat(100, 1)) == 2
    assert modes(CENTRES[:1] + torch.tensor([[4.1 * STD, 0.0]])) == 0
    assert x.var(dim=(0, 1)).mean().item() == pytest.approx(2 * 0.49 + STD**2, rel=0.05)


def test_the_finest_wave_is_as_fine_as_the_grid() -> None:
    fine = waves(CENTRES[None])[0, :, -4:]  # sine and cosine of both coordinates at the last frequency
    torch.testing.assert_close(fine, torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(25, 4), rtol=0, atol=1e-5)


def test_the_distance_is_that_of_pot() -> None:
    x, y = draw((2, 500), rng())
    reference = ot.sliced_wasserstein_distance(x.numpy(), (y + 0.3).numpy(), n_projections=2_000, p=2, seed=0)
    assert sliced_distance(x, y + 0.3) == pytest.approx(reference, rel=0.05)


def test_the_largest_jump_is_that_of_the_second_half() -> None:
    losses = torch.tensor([[9.0, 1.0], [5.0, 1.0], [2.0, 1.0], [2.0, 1.0], [2.0, 1.5], [2.0, 0.5]])
    assert largest_jump(losses) == pytest.approx(1.0)
    assert largest_jump(torch.ones(6, 2)) == 0
    assert not math.isnan(largest_jump(losses))


def test_the_same_seed_repeats_all_runs_and_they_differ_among_themselves() -> None:
    first, again = (result(steps=200, seeds=2, seed=3) for _ in range(2))
    assert first == again
    table = first.tables[0]
    assert isinstance(table, Table)
    ends = [row[2] for row in table.rows]
    assert len(set(ends)) == 4
