"""A ViT's attention beside that of transformers, and maps of weights that are known."""

from functools import cache
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import one_hot
from transformers import ViTConfig, ViTModel

from demos.contract import Result
from demos.shared.digits import load_digits
from demos.vision_transformers.vit_attention_maps import (
    CANVAS,
    GRID,
    HEADS,
    LAYERS,
    PATCH,
    D,
    Params,
    ViT,
    among_patches,
    distances,
    enlarge,
    occlusion,
    place,
    rollout,
    run,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng

TOKENS = GRID**2 + 1


@cache
def result() -> Result:
    return run(Params.model_validate({}))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "vit-attention-maps")
    assert metric(result(), "accuracy") > 0.85
    assert metric(result(), "rollout's first patch has ink") > 0.8


def test_without_training_ink_is_not_looked_for() -> None:
    untrained = run(Params.model_validate(Params.presets["untrained"].values))
    assert failed(untrained) == ["[CLS] gathers from ink", "What it marks matters"]


def test_attention_is_that_of_transformers() -> None:
    ours = ViT(rng())
    config: Any = ViTConfig(
        hidden_size=D, num_hidden_layers=LAYERS, num_attention_heads=HEADS, intermediate_size=4 * D,
        layer_norm_eps=1e-5, image_size=CANVAS, patch_size=PATCH, num_channels=1,
    )  # fmt: skip
    config._attn_implementation = "eager"
    theirs: Any = ViTModel(config, add_pooling_layer=False).eval()
    with torch.no_grad():
        for norm in (part for part in ours.modules() if isinstance(part, nn.LayerNorm)):
            norm.weight.normal_(generator=rng(1))
        own = ours.state_dict()
        copied = {
            "embeddings.cls_token": torch.zeros(1, 1, D),
            "embeddings.position_embeddings": own["places.weight"][None],
            "embeddings.patch_embeddings.projection.weight": own["project.weight"].view(D, 1, PATCH, PATCH),
            "embeddings.patch_embeddings.projection.bias": own["project.bias"],
        }
        renamed = {"norm1": "layernorm_before", "norm2": "layernorm_after", "out": "attention.o_proj",
                   "up": "mlp.fc1", "down": "mlp.fc2"}  # fmt: skip
        for kind in ("weight", "bias"):
            copied[f"layernorm.{kind}"] = own[f"norm.{kind}"]
            for layer in range(LAYERS):
                block = f"blocks.{layer}"
                for mine, name in renamed.items():
                    copied[f"layers.{layer}.{name}.{kind}"] = own[f"{block}.{mine}.{kind}"]
                for letter, part in zip("qkv", own[f"{block}.qkv.{kind}"].chunk(3), strict=True):
                    copied[f"layers.{layer}.attention.{letter}_proj.{kind}"] = part
        theirs.load_state_dict(copied)
        images = torch.rand(3, 1, CANVAS, CANVAS, generator=rng(2))
        logits, attention = ours(images)
        answer = theirs(images, output_attentions=True)
        torch.testing.assert_close(logits, ours.head(answer.last_hidden_state[:, 0]), atol=1e-5, rtol=0)
    for weights, reference in zip(attention, answer.attentions, strict=True):
        torch.testing.assert_close(weights, reference, atol=1e-5, rtol=0)


def test_rollout_follows_content_through_two_layers() -> None:
    first, second = torch.eye(3), torch.eye(3)
    first[1], second[0] = torch.tensor([0.0, 0, 1]), torch.tensor([0.0, 1, 0])  # 0 looks at 1, which has looked at 2
    total = rollout([first[None, None], second[None, None]])
    torch.testing.assert_close(total[0, 0], torch.tensor([0.5, 0.25, 0.25]))
    torch.testing.assert_close(total[0, 1], torch.tensor([0.0, 0.5, 0.5]))


def test_shares_of_patches_leave_out_cls() -> None:
    weights = torch.tensor([[[0.6, 0.1, 0.3], [0, 1, 0], [0, 0, 1.0]]])
    torch.testing.assert_close(among_patches(weights), torch.tensor([[0.25, 0.75]]))


@pytest.mark.parametrize(("patches", "pixels"), [(0, 0), (1, PATCH), (GRID, PATCH)])
def test_distance_of_a_head_that_looks_at_one_offset(patches: int, pixels: int) -> None:
    at = torch.arange(GRID**2)
    to = (at // GRID * GRID + (at + 1) % GRID) if patches == 1 else (at + patches) % GRID**2
    weights = torch.zeros(1, 1, TOKENS, TOKENS)
    weights[0, 0, 1:, 1:] = 0.5 * one_hot(to)
    weights[..., 0] = 0.5  # what [CLS] gets has no distance
    last = pixels * (GRID - 1)  # from the edge to the other one
    assert distances(weights).item() == pytest.approx(((GRID - 1) * pixels + last) / GRID)


def test_digits_are_placed_whole_and_on_patches() -> None:
    images = load_digits()[0][:200]
    placed = place(images, rng())
    assert placed.shape == (200, 1, CANVAS, CANVAS)
    torch.testing.assert_close(placed.sum(dim=(1, 2, 3)), images.sum(dim=(1, 2, 3)))
    corners = {(y, x) for y in (0, 4, 8) for x in (0, 4, 8)}
    seen = {next((y, x) for y, x in corners if torch.equal(one[0, y : y + 8, x : x + 8], image[0]))
            for one, image in zip(placed, images, strict=True)}  # fmt: skip
    assert seen == corners


def test_a_number_for_each_patch_becomes_a_picture() -> None:
    picture = enlarge(torch.arange(GRID**2))
    assert picture.shape == (CANVAS, CANVAS)
    assert picture[3, 4].item() == 1
    assert picture[4, 3].item() == GRID


def test_hiding_what_is_empty_costs_nothing() -> None:
    images, labels = load_digits()
    placed = place(images[:20], rng())
    cost = occlusion(ViT(rng()), placed, labels[:20])
    empty = placed.unfold(2, PATCH, PATCH).unfold(3, PATCH, PATCH).sum(dim=(1, 4, 5)).flatten(1) == 0
    assert empty.any()
    assert cost[empty].abs().max().item() == pytest.approx(0, abs=1e-6)
    assert cost[~empty].abs().max().item() > 1e-3
