"""Masking, encoder, decoder and loss beside transformers' ViTMAE with the same weights; what copying teaches."""

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import fold
from transformers import ViTMAEConfig, ViTMAEForPreTraining

from demos.contract import Cell, Result
from demos.shared.transformer import Block
from demos.vision_transformers.masked_autoencoder import (
    D_DECODER,
    HEADS,
    MAE,
    PATCH,
    SIDE,
    VALUES,
    D,
    N,
    Params,
    count_flops,
    hide,
    load,
    probe,
    run,
    take,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng


@cache
def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "masked-autoencoder")
    assert metric(result(), "tokens that the encoder reads") == 1 + N / 2


def test_copying_what_is_seen_teaches_less_than_nothing() -> None:
    outcome = result(target="visible", epochs=6)
    assert {"It paints what is hidden", "Features help without a label"} <= {*failed(outcome)}


def copy_block(ours: Block, theirs: Any) -> None:
    width = ours.out.weight.shape[0]
    attention = theirs.attention
    for name, rows in zip(("q_proj", "k_proj", "v_proj"), ours.qkv.weight.view(3, width, width), strict=True):
        getattr(attention, name).weight.copy_(rows)
        getattr(attention, name).bias.zero_()
    attention.o_proj.load_state_dict(ours.out.state_dict())
    theirs.layernorm_before.load_state_dict(ours.norm1.state_dict())
    theirs.layernorm_after.load_state_dict(ours.norm2.state_dict())
    theirs.mlp.fc1.load_state_dict(ours.up.state_dict())
    theirs.mlp.fc2.load_state_dict(ours.down.state_dict())


def test_loss_and_painting_are_those_of_transformers() -> None:
    ours = MAE(rng())
    config = ViTMAEConfig(
        hidden_size=D, num_hidden_layers=1, num_attention_heads=HEADS, intermediate_size=4 * D, image_size=SIDE,
        patch_size=PATCH, num_channels=1, decoder_hidden_size=D_DECODER, decoder_num_hidden_layers=1,
        decoder_num_attention_heads=HEADS, decoder_intermediate_size=4 * D_DECODER, mask_ratio=0.5,
    )  # fmt: skip
    config.layer_norm_eps = 1e-5
    theirs: Any = ViTMAEForPreTraining(config).eval()
    patches, noise = torch.randn(5, N, VALUES, generator=rng(1)), torch.rand(5, N, generator=rng(2))
    with torch.no_grad():
        embeddings, decoder = theirs.vit.embeddings, theirs.decoder
        embeddings.patch_embeddings.projection.weight.copy_(ours.project.weight.view(D, 1, PATCH, PATCH))
        embeddings.patch_embeddings.projection.bias.copy_(ours.project.bias)
        embeddings.cls_token.copy_(ours.cls.weight[None])
        embeddings.position_embeddings.copy_(ours.places.weight[None])
        copy_block(ours.encoder, theirs.vit.layers[0])
        theirs.vit.layernorm.load_state_dict(ours.norm.state_dict())
        decoder.decoder_embed.load_state_dict(ours.narrow.state_dict())
        decoder.mask_token.copy_(ours.mask_token.weight[None])
        decoder.decoder_pos_embed.copy_(ours.decoder_places.weight[None])
        copy_block(ours.decoder, decoder.decoder_layers[0])
        decoder.decoder_norm.load_state_dict(ours.decoder_norm.state_dict())
        decoder.decoder_pred.load_state_dict(ours.pixels.state_dict())

        expected = theirs(fold(patches.mT, SIDE, PATCH, stride=PATCH), noise=noise)
        order = noise.argsort(dim=1)  # theirs hides the patches with the largest numbers
        visible, hidden = order[:, : N // 2], order[:, N // 2 :]
        painted = ours.decode(ours.encode(patches, visible), visible)
        loss = (take(painted, hidden) - take(patches, hidden)).square().mean()
    torch.testing.assert_close(painted, expected.logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(loss, expected.loss, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("ratio", "kept"), [(0.1, 14), (0.5, 8), (0.75, 4), (0.9, 2)])
def test_each_patch_is_visible_or_hidden_and_all_alike(ratio: float, kept: int) -> None:
    visible, hidden = hide(4000, ratio, rng())
    assert visible.shape == (4000, kept)
    assert torch.equal(torch.cat([visible, hidden], dim=1).sort(dim=1).values, torch.arange(N).expand(4000, N))
    often = torch.bincount(visible.flatten(), minlength=N) / 4000
    assert (often - kept / N).abs().max().item() < 0.04


def test_features_do_not_depend_on_the_order_in_which_patches_are_listed() -> None:
    model, patches = MAE(rng()), torch.randn(3, N, VALUES, generator=rng(1))
    visible = hide(3, 0.5, rng(2))[0]
    forth, back = (model.decode(model.encode(patches, of), of) for of in (visible, visible.flip(1)))
    torch.testing.assert_close(forth, back, atol=1e-5, rtol=1e-5)


def test_fewer_tokens_cost_less_than_in_proportion() -> None:
    model, patches = MAE(rng()), torch.zeros(2, N, VALUES)
    whole, half = (count_flops(model, patches, torch.arange(k).expand(2, k)) for k in (16, 8))
    projection = 2 * 2 * N * VALUES * D  # of all patches, hidden or not
    assert (half - projection) / (whole - projection) < 9 / 17


def solved(features: Tensor, labels: Tensor, chosen: Tensor) -> Tensor:
    """Ridge regression by its normal equations, in terms of weights."""
    x = (features - features[chosen].mean(dim=0)) / (features[chosen].std(dim=0) + 1e-3)
    x = torch.cat([x, torch.ones(len(x), 1)], dim=1).double()
    A, y = x[chosen], torch.eye(10, dtype=torch.double)[labels[chosen]]
    return (x @ (A.T @ A + len(chosen) * torch.eye(A.shape[1])).inverse() @ A.T @ y).argmax(dim=1)


def test_the_probe_is_ridge_regression() -> None:
    data = load(rng())
    pixels, dice = data.patches.flatten(1), rng(7)
    picks = [torch.randperm(1400, generator=dice)[:60] for _ in range(5)]
    right = [(solved(pixels, data.labels, chosen) == data.labels)[1400:].float().mean().item() for chosen in picks]
    assert probe(pixels, data.labels, 60, rng(7)) == pytest.approx(sum(right) / 5, abs=1e-6)


def test_grain_is_the_same_whenever_an_image_is_seen_and_as_strong_as_said() -> None:
    data, again = load(rng()), load(rng())
    assert torch.equal(data.patches, again.patches)
    assert (data.patches - data.clean).std().item() == pytest.approx(2 * 0.2, rel=0.02)
