"""gan-training-kit against torch's optimisers and norms, and the settings that break a detail."""

import itertools
from typing import get_args

import pytest
import torch

from demos.contract import Cell, Result
from demos.gans.gan_training_kit import (
    CURVATURE,
    LARGER,
    SIZE,
    Params,
    Place,
    Topic,
    adam_path,
    descent_path,
    draw_place,
    jitter,
    library_path,
    normalise,
    relative_updates,
    run,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, rng


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "gan-training-kit")


@pytest.mark.parametrize("lr", [2e-4, 0.03, 0.5])
def test_adam_by_hand_takes_the_librarys_steps(lr: float) -> None:
    torch.testing.assert_close(adam_path(lr, 200), library_path("adam", lr, 200), rtol=0, atol=1e-9)


def test_gradient_descent_follows_the_librarys_steps_and_the_closed_form() -> None:
    path = descent_path(0.01, 100)
    torch.testing.assert_close(path, library_path("sgd", 0.01, 100), rtol=1e-12, atol=1e-12)
    t = torch.arange(101, dtype=torch.float64)
    closed = torch.stack([(1 - 0.01) ** t, 0.5 * (1 - 0.01 * CURVATURE) ** t], dim=1)  # (1 - lr λ)^t w_0
    torch.testing.assert_close(path, closed, rtol=1e-9, atol=1e-15)


def test_the_norms_are_those_of_torch_layers() -> None:
    maps = 3 * torch.randn(5, 4, 6, 7, generator=rng()) + 2
    for ours, layer in ((normalise(maps, (0, 2, 3)), torch.nn.BatchNorm2d(4)),
                        (normalise(maps, (2, 3)), torch.nn.InstanceNorm2d(4))):  # fmt: skip
        torch.testing.assert_close(ours, layer(maps).detach(), rtol=0, atol=1e-5)


def test_a_crop_is_a_window_of_the_enlarged_image_and_all_25_places_come_up() -> None:
    image = torch.rand(3, SIZE, SIZE, generator=rng())
    large = torch.nn.functional.interpolate(image[None], size=(LARGER, LARGER), mode="bilinear")[0]
    torch.testing.assert_close(jitter(image, Place(4, 1, False)), large[:, 4:36, 1:33])
    torch.testing.assert_close(jitter(image, Place(4, 1, True)).flip(2), large[:, 4:36, 1:33])
    dice = rng()
    places = {draw_place(dice) for _ in range(2_000)}
    assert {(place.top, place.left) for place in places} == set(itertools.product(range(5), repeat=2))
    assert len(places) == 50


def test_equalised_updates_are_the_rate_itself_and_usual_ones_grow_with_the_inputs() -> None:
    equal, output = relative_updates(True, 1e-3, 0)
    usual, same = relative_updates(False, 1e-3, 0)
    torch.testing.assert_close(output, same, rtol=1e-4, atol=1e-4)
    assert equal == pytest.approx([1e-3] * 4, rel=0.1)  # Adam's first step is its rate, the weights' deviation one
    assert usual == pytest.approx([1e-3 * (n / 2) ** 0.5 for n in (4, 256, 16, 64)], rel=0.1)


def test_above_the_edge_gradient_descent_leaves_the_valley_and_adam_does_not() -> None:
    outcome = result(**Params.presets["leaves the valley"].values)
    assert failed(outcome) == ["Gradient descent at the chosen rate goes down"]
    by_name = {m.name: m.value for m in outcome.metrics}
    assert by_name["loss after Adam over loss at the start"] < 0.1


def test_with_sixteen_images_batch_norm_is_no_instance_norm() -> None:
    outcome = result(**Params.presets["batch of sixteen"].values)
    assert failed(outcome) == ["Batch norm of the chosen batch is instance norm, as one image makes it"]
    assert len(outcome.tables[0].rows) == 17


def test_the_topic_decides_which_figure_leads_and_nothing_else() -> None:
    outcomes = [result(topic=topic, steps=10) for topic in get_args(Topic)]
    kinds = ["images", "images", "bars", "bars", "lines", "scatter", "scatter", "bars", "lines"]
    assert [outcome.figures[0].kind for outcome in outcomes] == kinds
    assert all(outcome.claims == outcomes[0].claims for outcome in outcomes)
