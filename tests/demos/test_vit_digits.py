"""The digit reader beside transformers' ViTForImageClassification with the same weights, and its parts."""

from functools import cache
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn
from transformers import ViTConfig, ViTForImageClassification

from demos.contract import Result
from demos.shared.digits import load_digits
from demos.vision_transformers.vit_digits import DROPOUT, SIDE, Block, Dropout, Params, ViT, cut, run, split
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng


@cache
def result() -> Result:
    return run(Params.model_validate({}))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "vit-digits")
    assert metric(result(), "tokens") == 17


def test_without_positions_it_misreads_digits() -> None:
    bag = run(Params.model_validate({**Params.presets["no positions"].values, "epochs": 8}))
    assert "It reads digits" in failed(bag)


def test_a_width_that_the_heads_cannot_share_is_refused() -> None:
    with pytest.raises(ValidationError, match="multiple of heads"):
        Params.model_validate({"dim": 20, "heads": 8})


def test_patches_are_cut_row_by_row() -> None:
    image = torch.arange(64.0).view(1, 1, 8, 8)
    patches = cut(image, 4)
    assert patches.shape == (1, 4, 16)
    assert patches[0, 0].numpy().tolist() == image[0, 0, :4, :4].flatten().numpy().tolist()
    assert patches[0, 1, 0] == 4  # the second patch is to the right
    assert patches[0, 2, 0] == 32
    torch.testing.assert_close(cut(image, 1)[0, :, 0], image.flatten())


def test_test_digits_are_not_learned_from_and_all_are_used() -> None:
    images, labels, unseen, right = split(3)
    assert (len(images), len(labels), len(unseen), len(right)) == (1400, 1400, 397, 397)
    both = torch.cat([images, unseen]).flatten(1)
    assert torch.equal(both.sum(dim=0), load_digits()[0].flatten(1).sum(dim=0))


def test_without_positions_the_order_of_patches_is_nothing() -> None:
    model = ViT(Params.model_validate({"positions": False, "patch_size": 4}), rng()).eval()
    image = torch.rand(1, 1, SIDE, SIDE, generator=rng(1))
    swapped = torch.cat([image[..., 4:], image[..., :4]], dim=3)  # left and right half
    torch.testing.assert_close(model(image), model(swapped))
    model.use_positions = True
    assert (model(image) - model(swapped)).abs().max().item() > 0.01


def test_dropout_keeps_the_mean_and_drops_its_share() -> None:
    drop = Dropout(rng())
    kept = drop(torch.ones(100_000))
    assert (kept == 0).float().mean().item() == pytest.approx(DROPOUT, abs=0.005)
    assert kept.mean().item() == pytest.approx(1, abs=0.005)
    assert torch.equal(drop.eval()(torch.ones(10)), torch.ones(10))


def test_the_head_of_pre_training_has_one_hidden_layer_with_tanh() -> None:
    head = ViT(Params.model_validate({"head": "mlp"}), rng()).head
    assert [type(part) for part in head] == [nn.Linear, nn.Tanh, nn.Linear]


@pytest.mark.parametrize("patch", [2, 4])
def test_logits_are_those_of_transformers_with_the_same_weights(patch: int) -> None:
    params = Params.model_validate({"patch_size": patch, "dim": 32, "layers": 3})
    ours = ViT(params, rng()).eval()
    config = ViTConfig(
        hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=128, hidden_act="gelu",
        image_size=SIDE, patch_size=patch, num_channels=1, layer_norm_eps=1e-5,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    config.num_labels = 10
    reference: Any = ViTForImageClassification(config).eval()
    vit = reference.vit
    with torch.no_grad():
        embeddings = vit.embeddings
        embeddings.patch_embeddings.projection.weight.copy_(ours.project.weight.view(32, 1, patch, patch))
        embeddings.patch_embeddings.projection.bias.copy_(ours.project.bias)
        embeddings.cls_token.copy_(ours.cls.weight[None])
        embeddings.position_embeddings.copy_(ours.places.weight[None])
    vit.layernorm.load_state_dict(ours.norm.state_dict())
    reference.classifier.load_state_dict(ours.head[0].state_dict())
    names = {
        "norm1": "layernorm_before", "norm2": "layernorm_after", "q": "attention.q_proj", "k": "attention.k_proj",
        "v": "attention.v_proj", "out": "attention.o_proj", "up": "mlp.fc1", "down": "mlp.fc2",
    }  # fmt: skip
    for block, layer in zip(ours.blocks, vit.layers, strict=True):
        assert isinstance(block, Block)
        for name, theirs in names.items():
            layer.get_submodule(theirs).load_state_dict(block.get_submodule(name).state_dict())
    images = load_digits()[0][:6]
    with torch.no_grad():
        torch.testing.assert_close(ours(images), reference(pixel_values=images).logits, atol=1e-5, rtol=0)
