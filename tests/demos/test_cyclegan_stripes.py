"""cyclegan-stripes: its drawn pairs, its parts by hand, and what the cycle loss holds."""

import functools

import pytest
import torch
from torchmetrics.classification import BinaryJaccardIndex

from demos.contract import Cell, Images, Lines, Result
from demos.gans.cyclegan_stripes import (
    Domains,
    Params,
    Residual,
    build_discriminator,
    build_generator,
    draw_shapes,
    find_shape,
    overlap,
    paint,
    run,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng

SHAPES_STAY, LOST_WITHOUT = "Shapes stay where they were, both ways", "Without the cycle loss content is lost"


@functools.cache
def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    outcome = result()
    assert_claims_hold_as_listed(outcome, "cyclegan-stripes")
    trips = outcome.figures[0]
    assert isinstance(trips, Images)
    assert (len(trips.pixels), len(trips.pixels[0])) == (2, 4)


def test_without_the_cycle_loss_shapes_are_lost() -> None:
    outcome = result(steps=80, **Params.presets["no cycle loss"].values)
    assert SHAPES_STAY in failed(outcome)
    assert LOST_WITHOUT in failed(outcome)  # there is nothing left to lose


def test_a_direction_shows_its_own_trips_and_the_identity_loss_its_curve() -> None:
    outcome = result(steps=50, direction="backward", lambda_identity=5.0, blocks=1)
    assert [figure.title for figure in outcome.figures if isinstance(figure, Images)][1:] == [
        "More round trips, backward"
    ]
    losses = next(figure for figure in outcome.figures if isinstance(figure, Lines))
    assert {"identity, G", "identity, F", "cycle, forward", "adversarial, backward"} <= losses.series.keys()


@pytest.mark.parametrize("domains", ["stripes", "season", "painting"])
def test_the_shape_is_found_in_both_domains(domains: Domains) -> None:
    mask = draw_shapes(50, rng())
    x, y = (paint(domains, in_y, mask) for in_y in (False, True))
    assert (x - y).abs().mean() > 0.02
    for in_y, picture in ((False, x), (True, y)):
        assert overlap(mask, find_shape(picture, domains, in_y)) == 1
        assert 0 <= picture.min() <= picture.max() <= 1


def test_overlap_is_the_jaccard_index_of_torchmetrics() -> None:
    a, b = (draw_shapes(1, rng(seed)) for seed in (0, 1))
    assert overlap(a, b) == pytest.approx(float(BinaryJaccardIndex()(a, b)), abs=1e-6)
    assert overlap(torch.cat([a, a]), torch.cat([a, b])) == pytest.approx((1 + overlap(a, b)) / 2)


@torch.no_grad()
def test_networks_keep_the_size_and_a_residual_block_starts_from_its_input() -> None:
    x = torch.rand(2, 3, 16, 16, generator=rng())
    assert build_generator(3, rng())(x).shape == x.shape
    D = build_discriminator(rng())
    assert D(x).shape == (2, 1, 4, 4)
    far = x.clone()
    far[..., 12:, 12:] = 0  # one corner, of which the opposite patch sees nothing but the instance norm's mean
    assert (D(far) - D(x)).abs()[..., -1, -1].min() > (D(far) - D(x)).abs()[..., 0, 0].max()
    block = Residual(4)
    for weight in block.parameters():
        torch.nn.init.zeros_(weight)
    h = torch.randn(1, 4, 8, 8, generator=rng())
    assert torch.equal(block(h), h)


def test_metrics_are_means_of_both_directions() -> None:
    outcome = result()
    trips = outcome.figures[0]
    assert isinstance(trips, Images)
    told = [float(label.rsplit(" ", 1)[1]) for label in trips.row_labels]
    assert metric(outcome, "cycle_l1") == pytest.approx(sum(told) / 2, abs=1e-3)
