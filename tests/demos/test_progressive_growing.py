"""progressive-growing: the fade against torch's own enlargement, and the jump without it."""

import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from demos.contract import Cell, Images, Result
from demos.gans.progressive_growing import (
    SIZES,
    Discriminator,
    Generator,
    Params,
    detail,
    double,
    draw_weights,
    halve,
    multiplications,
    pixel_norm,
    run,
    shrink,
    sliced_distance,
)
from demos.shared.shapes import draw_shapes
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng

SHOCK = "A layer comes in without a shock"


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def generator() -> Generator:
    G = Generator()
    draw_weights(G, rng())
    return G


def noise(n: int) -> torch.Tensor:
    return torch.randn(n, 32, generator=rng(1))


def test_every_claim_holds_at_the_defaults() -> None:
    outcome = result()
    assert_claims_hold_as_listed(outcome, "progressive-growing")
    growth, fade = outcome.figures[:2]
    assert isinstance(growth, Images)
    assert isinstance(fade, Images)
    assert list(growth.row_labels) == ["real", "4x4", "8x8", "16x16"]
    assert list(fade.row_labels) == ["old path", "α = 0.5", "new path"]


def test_without_a_fade_the_pictures_jump() -> None:
    outcome = result(steps_per_stage=50, **Params.presets["no fade-in"].values)
    assert SHOCK in failed(outcome)


def test_direct_training_has_one_stage() -> None:
    outcome = result(steps_per_stage=50, fade_steps=0, schedule="direct")
    assert len(outcome.tables[0].rows) == 1
    assert metric(outcome, "jump of the pictures as a layer comes in") == 0


@torch.no_grad()
def test_the_fade_goes_from_the_old_picture_enlarged_to_the_new_path() -> None:
    G, z = generator(), noise(4)
    for stage in (1, 2):
        old = F.interpolate(G(z, stage - 1, 1.0), scale_factor=2.0)
        torch.testing.assert_close(G(z, stage, 0.0), old, rtol=0, atol=1e-6)
        new = G.to_rgb[stage](G.features(z, stage)[stage])
        torch.testing.assert_close(G(z, stage, 1.0), new, rtol=0, atol=1e-6)
        torch.testing.assert_close(G(z, stage, 0.25), 0.75 * old + 0.25 * new)
        assert (old - new).abs().max() > 0.01


@torch.no_grad()
def test_at_alpha_zero_the_discriminator_reads_the_smaller_picture() -> None:
    D, x = Discriminator(), torch.randn(4, 3, 16, 16, generator=rng(2))
    draw_weights(D, rng())
    torch.testing.assert_close(D(x, 2, 0.0), D(halve(x), 1, 1.0), rtol=0, atol=1e-5)
    assert not torch.allclose(D(x, 2, 1.0), D(halve(x), 1, 1.0), atol=1e-3)


@torch.no_grad()
def test_the_discriminator_sees_how_much_a_batch_varies() -> None:
    D, x = Discriminator(), torch.randn(1, 3, 4, 4, generator=rng(2))
    draw_weights(D, rng())
    equal, other = x.repeat(2, 1, 1, 1), torch.cat([x, -x])
    assert not torch.allclose(D(equal, 0, 1.0)[0], D(other, 0, 1.0)[0])


def test_enlarging_and_shrinking_are_torchs() -> None:
    x = torch.randn(2, 3, 8, 8, generator=rng())
    assert torch.equal(double(x), F.interpolate(x, scale_factor=2.0))
    torch.testing.assert_close(shrink(x, 4), F.interpolate(x, scale_factor=0.5, mode="area"))
    torch.testing.assert_close(halve(double(x)), x)


def test_an_enlarged_picture_has_no_detail() -> None:
    x = torch.randn(2, 3, 8, 8, generator=rng())
    torch.testing.assert_close(detail(double(x)), torch.zeros(2, 3, 16, 16), rtol=0, atol=1e-6)
    assert detail(x).abs().max() > 0.1
    torch.testing.assert_close(detail(x).mean(), torch.tensor(0.0), rtol=0, atol=1e-6)


def test_pixel_norm_makes_each_pixel_unit_on_average() -> None:
    h = pixel_norm(5 * torch.randn(2, 16, 4, 4, generator=rng()))
    torch.testing.assert_close(h.square().mean(dim=1), torch.ones(2, 4, 4))


def test_the_sliced_distance_is_small_for_one_law_and_grows_with_blur() -> None:
    a, b = (draw_shapes(300, rng(seed))[0] for seed in (0, 1))
    assert sliced_distance(a, a) == 0
    assert sliced_distance(a, b) < 0.2 * sliced_distance(a, double(halve(b)))


@pytest.mark.parametrize("stage", [0, 1, 2])
@torch.no_grad()
def test_multiplications_are_counted_as_by_torch(stage: int) -> None:
    with FlopCounterMode(display=False) as counter:
        assert generator()(noise(1), stage, 1.0).shape[-1] == SIZES[stage]
    old = multiplications_of_the_old_path(stage)
    assert 2 * (multiplications(stage) + old) == counter.get_total_flops()  # torch counts the additions too


def multiplications_of_the_old_path(stage: int) -> int:
    """The 1x1 convolution to RGB that the pass also computes for the blend: 32 channels at the size before."""
    return 3 * 32 * SIZES[stage - 1] ** 2 if stage else 0
