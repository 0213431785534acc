"""pixelcnn-digits against kernels zeroed by hand and torch.distributions, and what peeking does to it."""

import itertools
import math
from typing import Any

import pytest
import torch
from torch.nn.functional import conv2d

from demos.contract import Cell, Heatmap, Images, Result
from demos.fundamentals.pixelcnn_digits import (
    LEVELS,
    MaskedConv,
    Params,
    PixelCNN,
    bits_in_turn,
    histogram_bits,
    peeks,
    receptive_field,
    run,
    write,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, rng


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def model(**params: Cell) -> PixelCNN:
    return PixelCNN(Params.model_validate({"channels": 16, **params}), rng())


def digits(n: int) -> torch.Tensor:
    return torch.randint(LEVELS, (n, 1, 8, 8), generator=rng(7))


def test_every_claim_holds_at_the_defaults() -> None:
    outcome = result()
    assert_claims_hold_as_listed(outcome, "pixelcnn-digits")
    assert {m.name: m.value for m in outcome.metrics}["network_passes"] == 64
    canvases, field = outcome.figures[0], outcome.figures[2]
    assert isinstance(canvases, Images)
    assert torch.tensor(canvases.pixels).shape == (6, 9, 8, 8)
    assert torch.tensor(canvases.pixels)[:, 0].count_nonzero() == 0
    assert isinstance(field, Heatmap)
    assert torch.tensor(field.values).flatten()[36:].count_nonzero() == 0


@pytest.mark.parametrize("mask", ["A", "B"])
def test_a_masked_convolution_is_one_with_a_kernel_zeroed_by_hand(mask: str) -> None:
    layer = MaskedConv(mask, 3, 5, 3)
    for weight in layer.parameters():
        torch.nn.init.normal_(weight, generator=rng())
    kernel = layer.weight.detach().clone()
    kernel[:, :, 2] = 0
    kernel[:, :, 1, 2] = 0
    if mask == "A":
        kernel[:, :, 1, 1] = 0
    x = torch.randn(2, 3, 8, 8, generator=rng(1))
    torch.testing.assert_close(layer(x), conv2d(x, kernel, layer.bias, padding=1), rtol=0, atol=1e-6)


@pytest.mark.parametrize("layers", [1, 4, 8])
def test_a_pixel_sees_only_earlier_ones_and_not_all_of_them(layers: int) -> None:
    net = model(layers=layers)
    assert peeks(net, digits(1)) == 0
    field = receptive_field(net, digits(1), 4, 4)
    seen = (field > 0).flatten().nonzero().flatten()
    assert seen.max() == 35  # the pixel to the left
    if layers == 1:
        assert len(seen) == 12
    if layers == 8:
        assert field[4, :4].min() > 0
        assert field[3, 7] == 0  # the blind spot: a 3x3 mask climbs a row for each column to the right


def test_peeking_lets_a_pixel_see_itself() -> None:
    assert peeks(model(first_mask="B"), digits(1)) > 0


@torch.no_grad()
def test_bits_are_those_of_torchs_categorical_in_one_pass_and_in_turn() -> None:
    net, x = model(), digits(4)
    law: Any = torch.distributions.Categorical(logits=net(x).permute(0, 2, 3, 1))
    reference = -law.log_prob(x[:, 0]).flatten(1) / math.log(2)
    torch.testing.assert_close(net.bits(x), reference, rtol=0, atol=1e-5)
    torch.testing.assert_close(bits_in_turn(net, x, rng()), reference, rtol=0, atol=1e-4)


def test_each_pass_writes_one_pixel_by_its_own_law() -> None:
    net = model()
    path = write(net, 1_500, 1.0, rng())
    assert len(path) == 65
    for i, (before, after) in enumerate(itertools.pairwise(path)):
        changed = (before != after).flatten(1).any(dim=0).nonzero().flatten()
        assert set(changed.numpy().tolist()) <= {i}
    with torch.no_grad():
        p = net(path[0][:1])[0, :, 0, 0].softmax(dim=0)
    drawn = path[-1][:, 0, 0, 0].bincount(minlength=LEVELS) / 1_500
    torch.testing.assert_close(drawn, p, rtol=0, atol=0.05)


def test_histograms_code_what_never_varies_for_almost_nothing() -> None:
    constant = torch.zeros(1000, 64, dtype=torch.int64)
    assert histogram_bits(constant, constant) == pytest.approx(-math.log2(1001 / 1017), rel=1e-4)
    varied = digits(5000).flatten(1)
    assert histogram_bits(varied, varied) == pytest.approx(math.log2(17), abs=0.01)


def test_a_model_that_peeks_copies_and_cannot_write() -> None:
    broken = failed(result(steps=200, channels=32, **Params.presets["peeking"].values))
    assert "The logits of pixel i do not depend on pixel j >= i" in broken
    assert "One pass over a digit gives the bits of 64 passes that hide what is to come" in broken
    assert "Context shortens the code" not in broken  # too good to be true
