"""Fine-tuning beside transformers: which weights start anew, how places grow, what the body is worth."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from transformers import ViTConfig, ViTForImageClassification

from demos.contract import Result
from demos.vision_transformers.vit_finetuning import (
    CLASSES,
    MOST_SHOTS,
    PATCH,
    SIDE,
    D,
    Params,
    ViT,
    load,
    on_stripes,
    pick,
    pretrain,
    resize,
    run,
    swap_head,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng


@cache
def result() -> Result:
    return run(Params.model_validate({}))


def config(classes: int, side: int = SIDE) -> ViTConfig:
    made = ViTConfig(
        hidden_size=D, num_hidden_layers=1, num_attention_heads=4, intermediate_size=64,
        image_size=side, patch_size=PATCH, num_channels=1,
    )  # fmt: skip
    made.num_labels = classes
    return made


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "vit-finetuning")
    assert metric(result(), "accuracy, pre-trained") > metric(result(), "accuracy, from scratch")


def test_without_pre_training_there_is_no_lead() -> None:
    none = run(Params.model_validate(Params.presets["no pre-training"].values))
    assert failed(none) == ["What was learned on 0–4 helps with 5–9", "More images before help more"]


@pytest.mark.parametrize("side", [SIDE, 2 * SIDE])
def test_the_body_is_kept_and_the_head_is_zero(side: int) -> None:
    old = pretrain(*(part[:20] for part in load(0)["old"]), seed=0)
    assert old.head.weight.abs().sum().item() > 0
    new, names = swap_head(old, side, rng(5))
    assert sorted(names) == ["head.bias", "head.weight"]
    assert new.head.weight.abs().sum().item() == 0
    assert torch.equal(new.project.weight, old.project.weight)
    assert torch.equal(new.state_dict()["blocks.1.up.weight"], old.state_dict()["blocks.1.up.weight"])
    assert new(torch.zeros(3, 1, SIDE, SIDE)).shape == (3, CLASSES)


def test_transformers_starts_the_same_weights_anew(tmp_path: Path) -> None:
    kind: Any = ViTForImageClassification
    kind(config(CLASSES)).save_pretrained(tmp_path)
    _, told = kind.from_pretrained(tmp_path, num_labels=7, ignore_mismatched_sizes=True, output_loading_info=True)
    assert not told["missing_keys"]
    anew: set[str] = {key for key, _saved, _asked in told["mismatched_keys"]}
    ours = swap_head(ViT(SIDE, rng()), SIDE, rng())[1]
    assert {name.replace("head", "classifier") for name in ours} == anew


@pytest.mark.parametrize("times", [1, 2])
def test_places_are_interpolated_as_in_transformers(times: int) -> None:
    places = torch.randn(16, D, generator=rng())
    embeddings: Any = ViTForImageClassification(config(CLASSES, side=16)).vit.embeddings
    with torch.no_grad():
        embeddings.position_embeddings[0, 1:] = places
        theirs = embeddings.interpolate_pos_encoding(torch.zeros(1, 16 * times**2 + 1, D), 16 * times, 16 * times)
    torch.testing.assert_close(resize(places, 4 * times), theirs[0, 1:], atol=1e-5, rtol=0)


def test_no_new_digit_is_both_learned_from_and_tested() -> None:
    data = load(1)
    assert [len(data[name][1]) for name in ("old", "shots", "test")] == [901, CLASSES * MOST_SHOTS, 1797 - 901 - 500]
    shots, test = (data[name][0].flatten(1) for name in ("shots", "test"))
    assert torch.cdist(shots, test).min().item() > 0.1


def test_shots_are_as_many_of_each_digit_and_none_twice() -> None:
    labels = load(0)["shots"][1]
    few = pick(labels, 7, rng())
    assert torch.bincount(labels[few]).numpy().tolist() == [7] * CLASSES
    assert len({*few.numpy().tolist()}) == len(few)


def test_stripes_of_many_images_cancel_and_have_the_strength_asked() -> None:
    stripes = on_stripes(torch.zeros(4000, 1, SIDE, SIDE), rng())
    assert stripes.mean(dim=0).abs().max().item() < 0.06
    assert stripes.square().mean().item() == pytest.approx(4 * 0.5**2 / 2, rel=0.05)


def test_other_resolutions_are_refused() -> None:
    with pytest.raises(ValidationError, match="8 or 16"):
        Params.model_validate({"resolution": 12})
