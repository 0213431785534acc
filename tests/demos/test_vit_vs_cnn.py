"""ViT against CNN: the permutation, what each first layer sees, and what few images do."""

from functools import cache

import pytest
import torch

from demos.contract import Result
from demos.shared.digits import load_digits
from demos.vision_transformers.vit_vs_cnn import (
    CNN,
    PATCH,
    SIDE,
    Params,
    ViT,
    load,
    move_places,
    patch_order,
    permuted,
    reach,
    run,
    weights_of,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng


@cache
def result() -> Result:
    return run(Params.model_validate({}))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "vit-vs-cnn")
    assert metric(result(), "accuracy of the CNN") > 0.9


def test_a_convolutional_stem_cannot_be_moved_along() -> None:
    hybrid = run(Params.model_validate({"stem": "conv", "images": 200, "steps": 80}))
    assert "No order is built into the ViT" in failed(hybrid)


def test_permuted_images_have_the_same_patches_in_the_order_asked() -> None:
    images = torch.arange(64.0).view(1, 1, SIDE, SIDE)
    moved = permuted(images, seed=3)
    per_row = SIDE // PATCH
    for place, old in enumerate(patch_order(3).numpy().tolist()):
        new_row, new_column = PATCH * (place // per_row), PATCH * (place % per_row)
        row, column = PATCH * (old // per_row), PATCH * (old % per_row)
        torch.testing.assert_close(
            moved[..., new_row : new_row + PATCH, new_column : new_column + PATCH],
            images[..., row : row + PATCH, column : column + PATCH],
        )


def test_a_vit_whose_places_move_along_says_the_same_and_otherwise_not() -> None:
    images = load_digits()[0][:20]
    model = ViT("patch", rng())
    with torch.no_grad():
        before = model(images)
        assert (model(permuted(images, 5)) - before).abs().max().item() > 0.1
        move_places(model, 5)
        torch.testing.assert_close(model(permuted(images, 5)), before, atol=1e-4, rtol=1e-4)


def test_no_weight_of_the_cnn_is_moved() -> None:
    model = CNN(rng())
    before = [weight.clone() for weight in model.parameters()]
    move_places(model, 5)
    assert all(torch.equal(one, other) for one, other in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize("place", [1, 6, 16])
def test_a_token_sees_all_pixels_and_a_convolution_nine(place: int) -> None:
    assert reach(ViT("patch", rng()), (place,)) == 64
    assert reach(CNN(rng()), (slice(None), 4, 4)) == 9
    assert reach(CNN(rng()), (slice(None), 0, 0)) == 4  # at a corner


def test_both_have_about_as_many_weights() -> None:
    assert 0.8 < weights_of(CNN(rng())) / weights_of(ViT("patch", rng())) < 1.25


def test_shifted_test_images_are_moved_and_training_images_are_not() -> None:
    plain, moved = load(Params.model_validate({})), load(Params.model_validate({"shift": 2}))
    assert torch.equal(plain[0], moved[0])
    torch.testing.assert_close(plain[2][..., :-2], moved[2][..., 2:])
    assert moved[2][..., :2].abs().sum().item() == 0
