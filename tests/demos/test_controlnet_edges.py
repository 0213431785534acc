"""controlnet-edges: the base is untouched, silent at zero, and the control image is what it says."""

import functools

import pytest
import torch

from demos.contract import Cell, Result
from demos.shared.shapes import LABELS, draw_shapes
from demos.shared.words_to_shapes import SIZE, WordUNet
from demos.stable_diffusion.controlnet_edges import (
    ControlNet,
    Kind,
    Params,
    colour_ids,
    covered,
    make_control,
    noise_loss,
    overlap,
    right_colour,
    run,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng


@functools.cache
def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def base() -> WordUNet:
    """A base with random weights, the last of which start at 0 and would predict 0."""
    model = WordUNet(3, SIZE, rng())
    torch.nn.init.normal_(model.last.weight, generator=rng(2))
    return model


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "controlnet-edges")


def test_joined_by_random_convolutions_the_copy_spoils_the_base_and_at_strength_zero_it_is_back() -> None:
    broken = {**Params.presets["not zero"].values, **Params.presets["strength 0"].values}
    outcome = result(base_steps=100, steps=10, **broken)
    assert {"Joined at zero, the untrained copy changes nothing", "Without it they do not"} <= set(failed(outcome))
    assert "The base stays as it was" not in failed(outcome)
    assert metric(outcome, "overlap") == metric(outcome, "overlap at strength 0")


@torch.no_grad()
def test_whatever_the_copy_says_strength_zero_is_the_base_and_strength_one_is_not() -> None:
    model = ControlNet(base(), zero=False, rng=rng())
    x, labels = draw_shapes(4, rng(1), SIZE)
    words, t = model.base.read(colour_ids(labels)), torch.full((4,), 0.5)
    control = make_control(x, "edges", rng())
    plain = model.base(x, t, words)
    assert torch.equal(model(x, t, words, control, 0.0), plain)
    assert not torch.equal(model(x, t, words, control, 1.0), plain)


def test_only_the_copy_and_its_joints_get_gradients() -> None:
    model = ControlNet(base(), zero=True, rng=rng())
    torch.autograd.backward(noise_loss(model, "edges", rng(1)))
    assert all(weight.grad is None for weight in model.base.parameters())
    fine = model.zeros[1].get_parameter("weight").grad
    assert fine is not None
    assert fine.abs().max() > 0  # a convolution at zero has a slope, though its output is 0: so it can grow


@pytest.mark.parametrize("kind", ["edges", "scribble", "depth"])
def test_a_control_image_has_no_colour(kind: Kind) -> None:
    moved = [draw_shapes(1, rng(), SIZE, torch.tensor([[colour, 1, 0]]))[0] for colour in range(4)]
    controls = [make_control(picture, kind, rng(1)) for picture in moved]
    for control in controls:
        torch.testing.assert_close(control, controls[0])


def test_edges_are_at_the_border_and_a_scribble_is_a_part_of_them() -> None:
    square = torch.full((1, 3, 8, 8), -1.0)
    square[:, 0, 2:6, 2:6] = 1
    edges, scribble = (make_control(square, kind, rng()) for kind in ("edges", "scribble"))
    assert edges[0, 0, 4, 2] == 1
    assert edges[0, 0, 3:5, 3:5].max() == 0  # inside
    assert edges[0, 0, 0].max() == 0  # outside
    assert torch.equal(scribble, edges * (scribble > 0))
    assert 0 < (scribble > 0).sum() < (edges > 0).sum()
    assert torch.equal(covered(square)[0, 0, 2:6, 2:6], torch.ones(4, 4))


def test_overlap_and_colour_by_hand() -> None:
    a = torch.full((1, 3, 8, 8), -1.0)
    b = a.clone()
    a[:, 1, :, :4] = 1
    b[:, 1, :, 2:6] = 1
    assert overlap(a, a) == 1
    assert overlap(a, b) == pytest.approx(2 / 6)
    x, _ = draw_shapes(24, rng(), SIZE, LABELS)
    assert right_colour(x, LABELS) == 1
    assert right_colour(x, LABELS.roll(6, dims=0)) == 0  # six labels for each colour
