"""latent-versus-pixel-cost against torch's operation counter on real tensors, its own attention, and without either."""

import math

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from demos.contract import Cell, Lines, Result
from demos.stable_diffusion.latent_versus_pixel_cost import (
    Attention,
    Params,
    UNet,
    latent_shape,
    measure_cost,
    operations,
    run,
    training_step,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, rng


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    outcome = result()
    assert_claims_hold_as_listed(outcome, "latent-versus-pixel-cost")
    curves = outcome.figures[0]
    assert isinstance(curves, Lines)
    assert curves.series["self-attention"] == [1, 1 / 16, 1 / 256, 1 / 4096]


@pytest.mark.parametrize("attention", [True, False])
@pytest.mark.parametrize("shape", [(3, 32, 32), (4, 8, 8), (4, 2, 2)])
def test_formulas_and_counts_without_values_are_those_of_a_real_pass(
    shape: tuple[int, int, int], attention: bool
) -> None:
    unet = UNet(shape[0], 8, attention)
    z, t = torch.randn(1, *shape, generator=rng()), torch.tensor([500])
    with FlopCounterMode(display=False) as counter:
        assert unet(z, t).shape == z.shape
    linear = 2 * 8 * (8 + 16 + 8)  # the time enters three blocks, whatever the size
    assert counter.get_total_flops() == sum(operations(shape, 8, attention)) + linear
    assert measure_cost(shape, 8, attention).forward == counter.get_total_flops()
    with FlopCounterMode(display=False) as counter:
        training_step(unet, z, z, t)
    assert measure_cost(shape, 8, attention).step == counter.get_total_flops()
    assert all(weight.grad is not None for weight in unet.parameters())


def test_memory_is_that_of_the_tensors_a_real_backward_pass_is_given() -> None:
    unet = UNet(4, 8, True)
    kept: dict[int, torch.Tensor] = {}

    def keep(saved: torch.Tensor) -> torch.Tensor:
        kept[saved.untyped_storage().data_ptr()] = saved
        return saved

    z, noise = torch.randn(2, 1, 4, 16, 16, generator=rng())
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda saved: saved):
        training_step(unet, z, noise, torch.tensor([500]))
    weights = {weight.data_ptr() for weight in unet.parameters()}
    real = sum(saved.untyped_storage().nbytes() for place, saved in kept.items() if place not in weights)
    counted = measure_cost((4, 16, 16), 8, True).memory_bytes
    assert counted == pytest.approx(real, rel=0.02)  # on real tensors the target and the input are two blocks
    assert counted > 256 * 256 * 4  # at least the attention weights


def test_attention_is_that_of_torch() -> None:
    attention = Attention(8)
    x = torch.randn(2, 8, 6, 6, generator=rng())
    with torch.no_grad():
        q, k, v = attention.qkv(attention.norm(x)).flatten(2).mT.chunk(3, dim=2)  # (2, 36, 8) each
        mixed = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        expected = x + attention.out(mixed.mT.reshape(2, 8, 6, 6))
        torch.testing.assert_close(attention(x), expected, rtol=0, atol=1e-5)


def test_sizes_are_those_of_stable_diffusion() -> None:
    assert latent_shape(512, 8) == (4, 64, 64)
    assert latent_shape(512, 1) == (3, 512, 512)
    assert latent_shape(1024, 8) == (4, 128, 128)
    doubled = [math.prod(latent_shape(size, 8)) for size in (512, 1024)]
    assert doubled[1] == 4 * doubled[0]
    assert operations(latent_shape(1024, 8), 16, True)[1] == 16 * operations(latent_shape(512, 8), 16, True)[1]


def test_without_attention_nothing_falls_with_the_fourth_power() -> None:
    outcome = result(**Params.presets["no attention"].values)
    assert "Attention falls with its fourth power" in failed(outcome)
    assert set(failed(outcome)) <= {"Attention falls with its fourth power", "Factor 4 is measurably faster"}
    assert outcome.metrics[0].value < 70


def test_factor_one_saves_nothing() -> None:
    assert [metric.value for metric in result(factor=1, image_size=32).metrics] == [1, 1, 1, 1, 1]


def test_attention_over_a_thousand_pixels_a_side_would_keep_terabytes() -> None:
    assert measure_cost(latent_shape(1024, 1), 16, True).memory_bytes > 2**42  # counted, not run
