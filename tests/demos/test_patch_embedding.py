"""patch-embedding against torch's convolution and transformers' ViT, and what too narrow a projection loses."""

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn
from transformers import ViTConfig, ViTModel

from demos.contract import Cell, Images, Result
from demos.vision_transformers.patch_embedding import (
    Params,
    PatchEmbedding,
    cut,
    join,
    principal_directions,
    rebuild,
    run,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    outcome = result()
    assert_claims_hold_as_listed(outcome, "patch-embedding")
    assert (metric(outcome, "tokens of the image"), metric(outcome, "values of a patch")) == (64, 48)
    patches = outcome.figures[0]
    assert isinstance(patches, Images)
    assert torch.tensor(patches.pixels).shape == (8, 8, 4, 4, 3)


def test_a_narrow_projection_cannot_keep_a_patch() -> None:
    assert failed(result(**Params.presets["too narrow"].values)) == ["This width can keep a whole patch"]


def test_without_positions_a_shuffled_image_is_the_same_bag_of_tokens() -> None:
    assert failed(result(**Params.presets["no positions"].values)) == ["A patch elsewhere is another token"]


def test_the_input_of_vit_base() -> None:
    outcome = result(**Params.presets["16 x 16 words"].values)
    assert failed(outcome) == []
    assert metric(outcome, "tokens with the class token") == 197


@pytest.mark.parametrize(("P", "C"), [(2, 3), (4, 1), (8, 3)])
def test_the_embedding_is_that_of_transformers_vit(P: int, C: int) -> None:
    config = ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8,
                       image_size=16, patch_size=P, num_channels=C, hidden_dropout_prob=0.0)  # fmt: skip
    theirs: Any = ViTModel(config, add_pooling_layer=False).embeddings
    ours = PatchEmbedding(P * P * C, (16 // P) ** 2, 16, True, rng())
    assert ours.places is not None
    with torch.no_grad():
        theirs.patch_embeddings.projection.weight.copy_(ours.E.T.view(16, P, P, C).permute(0, 3, 1, 2))
        theirs.patch_embeddings.projection.bias.copy_(ours.bias)
        theirs.cls_token.copy_(ours.class_token[None])
        theirs.position_embeddings.copy_(ours.places[None])
    image = torch.rand(C, 16, 16, generator=rng(1))
    torch.testing.assert_close(ours(cut(image, P)), theirs(image[None])[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(ours.convolve(image, P), ours.project(cut(image, P)), rtol=0, atol=1e-5)


def test_patches_are_those_of_torchs_unfold() -> None:
    image = torch.rand(3, 8, 12, generator=rng())
    theirs = nn.functional.unfold(image[None], kernel_size=4, stride=4)[0].T  # (N, C·P²), channels first
    ours = cut(image, 4).view(6, 4, 4, 3).permute(0, 3, 1, 2).reshape(6, 48)
    assert torch.equal(ours, theirs)
    assert torch.equal(join(cut(image, 4), 4, 8, 12), image)


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="patches of 3 do not fill an image of 8 x 8"):
        cut(torch.zeros(1, 8, 8), 3)
    with pytest.raises(ValidationError, match="patch_size must divide image_size"):
        Params.model_validate({"patch_size": 5})


def test_the_best_rebuild_keeps_as_many_directions_as_it_is_given() -> None:
    flat = torch.randn(50, 3, generator=rng()).double() @ torch.randn(3, 10, generator=rng(1)).double()
    axes = principal_directions(flat)
    torch.testing.assert_close(rebuild(flat, axes[:, :3]), flat)
    mean = flat.mean(dim=0)
    u, s, v = np.linalg.svd((flat - mean).numpy(), full_matrices=False)
    torch.testing.assert_close(rebuild(flat, axes[:, :2]), mean + torch.tensor(u[:, :2] * s[:2] @ v[:2]))
