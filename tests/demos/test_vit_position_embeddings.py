"""Places on a grid beside transformers' interpolation and MAE's sines, and what each scheme can tell."""

from functools import cache
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from transformers import ViTConfig, ViTModel
from transformers.models.vit_mae import modeling_vit_mae

from demos.contract import Result
from demos.vision_transformers.vit_position_embeddings import GRID, SCHEMES, D, Params, Scheme, ViT, alike, run
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng

IMAGES = torch.rand(2, 1, 8, 8, generator=rng())


@cache
def result() -> Result:
    return run(Params.model_validate({}))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "vit-position-embeddings")
    assert metric(result(), "tokens at the new size") == 8 * 8 + 1


def test_one_epoch_is_not_enough() -> None:
    early = run(Params.model_validate(Params.presets["one epoch"].values))
    assert failed(early) == ["Every way of telling helps", "Vectors without a grid find it, on digits that move"]


@pytest.mark.parametrize("side", [GRID, 8, 3])
def test_learned_places_are_interpolated_as_in_transformers(side: int) -> None:
    model = ViT("learned-1d", rng())
    config = ViTConfig(
        hidden_size=D, num_hidden_layers=1, num_attention_heads=4, intermediate_size=64,
        image_size=8, patch_size=2, num_channels=1,
    )  # fmt: skip
    embeddings: Any = ViTModel(config).embeddings
    with torch.no_grad():
        model.table.normal_(generator=rng(1))
        embeddings.position_embeddings[0, 1:] = model.table
        theirs = embeddings.interpolate_pos_encoding(torch.zeros(1, side**2 + 1, D), 2 * side, 2 * side)
        torch.testing.assert_close(model.places(side), theirs[0, 1:], atol=1e-5, rtol=0)


def test_sines_are_those_of_mae() -> None:
    mae: Any = modeling_vit_mae
    theirs = mae.build_2d_sinusoidal_position_embedding(GRID, GRID, D)
    torch.testing.assert_close(ViT("sincos-2d", rng()).places(GRID), theirs, atol=1e-5, rtol=0)


def test_rows_and_columns_share_their_vectors() -> None:
    model = ViT("learned-2d", rng())
    with torch.no_grad():
        model.table.normal_(generator=rng(1))
        places = model.places(GRID).view(GRID, GRID, D)
    assert torch.equal(places[1, :, : D // 2], model.table[0, 1].expand(GRID, -1))
    assert torch.equal(places[:, 2, D // 2 :], model.table[1, 2].expand(GRID, -1))


def test_a_bias_depends_on_the_offset_alone() -> None:
    model = ViT("relative", rng())
    bias = model.bias(GRID)
    assert bias is not None
    assert bias.shape == (4, GRID**2 + 1, GRID**2 + 1)
    assert bias[:, 0].abs().sum().item() + bias[:, :, 0].abs().sum().item() == 0  # [CLS] has no place
    patches = bias[:, 1:, 1:]
    torch.testing.assert_close(patches[:, 0, 5], patches[:, 10, 15])  # one down, one right
    torch.testing.assert_close(patches[:, 6, 5], model.table[GRID - 1, GRID - 2])  # none down, one left


@pytest.mark.parametrize("scheme", SCHEMES)
def test_only_a_bag_of_patches_does_not_mind_their_order(scheme: Scheme) -> None:
    model = ViT(scheme, rng())
    with torch.no_grad():
        if scheme.startswith("learned"):
            model.table.normal_(generator=rng(1))
        swapped = torch.cat([IMAGES[..., 4:], IMAGES[..., :4]], dim=3)  # left and right half
        change = (model(IMAGES) - model(swapped)).abs().max().item()
    assert (change < 1e-4) == (scheme == "none")


def test_places_on_a_line_are_like_their_neighbours() -> None:
    at = torch.arange(16)
    _, near, far = alike(torch.stack([at // GRID, at % GRID], dim=1).float())
    assert near > 0.3 > 0 > far


def test_a_size_that_cuts_a_patch_is_refused() -> None:
    with pytest.raises(ValidationError, match="even"):
        Params.model_validate({"new_size": 15})
