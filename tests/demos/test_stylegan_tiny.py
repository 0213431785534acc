"""stylegan-tiny: AdaIN and R1 against torch and closed forms, mixing, and what noise is for."""

import functools

import pytest
import torch
from torch import nn
from torch.nn.functional import instance_norm

from demos.contract import Cell, Images, Result
from demos.gans.stylegan_tiny import (
    LATENT,
    LAYERS,
    Equalised,
    Generator,
    Params,
    adain,
    draw_discs,
    mix,
    place_and_colour,
    r1_penalty,
    run,
    sliced_wasserstein,
)
from demos.shared.shapes import cover
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng


@functools.cache
def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "stylegan-tiny")
    assert result().figures[0].title.startswith("First 4 styles")
    assert metric(result(), "sliced_wasserstein") < 3 * metric(result(), "sliced_wasserstein of more data")


def test_without_noise_one_style_is_one_picture() -> None:
    outcome = result(steps=100, **Params.presets["no noise"].values)
    assert "Noise makes the grain" in failed(outcome)
    assert metric(outcome, "deviation over noise") == 0
    assert isinstance(outcome.figures[0], Images)
    assert outcome.figures[0].title.startswith("One style")


def test_adain_is_instance_norm_with_the_mean_and_deviation_of_the_style() -> None:
    dice = rng()
    x, y_s, y_b = torch.randn(4, 5, 8, 8, generator=dice), *torch.randn(2, 4, 5, generator=dice)
    styled = adain(x, y_s, y_b)
    torch.testing.assert_close(styled.mean(dim=(2, 3)), y_b, atol=1e-5, rtol=0)
    torch.testing.assert_close(styled.std(dim=(2, 3), correction=0), y_s.abs(), atol=1e-4, rtol=0)
    torch.testing.assert_close(adain(x, torch.ones(4, 5), torch.zeros(4, 5)), instance_norm(x))


def test_r1_is_half_the_squared_slope_and_its_gradient_that_of_differences() -> None:
    w = torch.randn(12, generator=rng(), dtype=torch.float64).requires_grad_()

    class Critic(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.flatten(1) @ w

    real = torch.randn(3, 12, generator=rng(1), dtype=torch.float64)
    torch.testing.assert_close(r1_penalty(Critic(), real), w.square().sum() / 2)
    (slope,) = torch.autograd.grad(r1_penalty(Critic(), real), w)
    torch.testing.assert_close(slope, w)  # the penalty can be trained on


def test_equalised_layers_keep_the_size_of_their_inputs_and_hold_unit_weights() -> None:
    layer = Equalised((256, 128), rng(), rate=0.01)
    assert layer.weight.std().item() == pytest.approx(100, rel=0.02)  # N(0, 1) over the learning rate's factor
    assert layer(torch.randn(500, 128, generator=rng(1))).std().item() == pytest.approx(2**0.5, rel=0.05)


def test_the_first_layers_take_the_style_of_a() -> None:
    a, b = torch.zeros(2, 3), torch.ones(2, 3)
    assert mix(a, b, 4)[0, :, 0].numpy().tolist() == [0, 0, 0, 0, 1, 1]


@torch.no_grad()
def test_noise_enters_from_the_chosen_resolution_on() -> None:
    styles = torch.randn(1, LAYERS, LATENT, generator=rng())
    for noise_from, noisy in ((4, [True, True, True]), (8, [False, True, True]), (16, [False, False, True])):
        G = Generator(Params.model_validate({"noise_from": noise_from}), rng())
        first, again = G.synthesise(styles, rng(1)), G.synthesise(styles, rng(2))
        assert [not torch.equal(a, b) for a, b in zip(first[:3], again[:3], strict=True)] == noisy


def test_place_and_colour_are_those_of_a_drawn_disc() -> None:
    x, y = torch.tensor([0.4, 0.6]), torch.tensor([0.5, 0.3])
    inside = cover(torch.zeros(2), x, y, torch.full((2,), 0.22), 16)[:, None]
    place, colour = place_and_colour(2 * inside * torch.tensor([1.0, 0.5, 0.9])[:, None, None] - 1)
    torch.testing.assert_close(place, 16 * torch.stack([x, y], dim=1), atol=0.1, rtol=0)
    torch.testing.assert_close(colour, torch.tensor([[1.0, 0.0, 0.8]]).expand(2, 3), atol=0.25, rtol=0)


def test_sliced_distance_of_a_shift_is_its_length_over_the_root_of_the_dimension() -> None:
    x = draw_discs(50, rng())
    assert sliced_wasserstein(x, x.flip(0), rng(1)) == pytest.approx(0, abs=1e-5)
    shift = torch.zeros_like(x)
    shift[:, 0, 0, 0] = 768**0.5
    assert sliced_wasserstein(x, x + shift, rng(1)) == pytest.approx(1, rel=0.25)
