"""segmentation-scores against sklearn and torchmetrics, and what its damages leave whole."""

import importlib
from typing import Any

import pytest
import torch
from torchmetrics.classification import MulticlassJaccardIndex

from demos.contract import Cell, Result
from demos.gans.segmentation_scores import HOUSE, LAMP, TREE, Params, blur, confusion, run, score, translate
from demos.shared.scenes import CLASSES, COLOURS, World, draw_labels, paint_photo
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng

sklearn: Any = importlib.import_module("sklearn.metrics")  # untyped


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "segmentation-scores")


def test_a_judge_that_cannot_read_photos_says_nothing() -> None:
    assert "The segmenter reads real scenes" in failed(result(**Params.presets["poor judge"].values))


def test_the_chosen_damage_is_the_one_that_is_scored() -> None:
    lampless = result(steps=100, **Params.presets["no lamps"].values)
    swapped = result(steps=100, **Params.presets["swapped"].values)
    assert metric(lampless, "per-pixel accuracy") > 0.9 > metric(lampless, "per-class accuracy")
    assert metric(swapped, "per-pixel accuracy") < metric(lampless, "per-pixel accuracy") - 0.05


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_scores_are_those_of_sklearn_and_torchmetrics(seed: int) -> None:
    truth = torch.randint(5, (4, 16, 16), generator=rng(seed))
    read = torch.where(torch.rand(4, 16, 16, generator=rng(seed + 9)) < 0.6, truth, (truth * 3 + 1) % 5)
    n, ours = confusion(truth, read, 5), score(confusion(truth, read, 5))
    flat = truth.flatten().numpy(), read.flatten().numpy()
    assert n.numpy().tolist() == sklearn.confusion_matrix(*flat).tolist()
    assert ours.pixel == pytest.approx(float((truth == read).double().mean()), abs=1e-9)
    assert ours.per_class == pytest.approx(float(sklearn.balanced_accuracy_score(*flat)), abs=1e-9)
    assert ours.iou == pytest.approx(float(sklearn.jaccard_score(*flat, average="macro")), abs=1e-9)
    assert ours.iou == pytest.approx(float(MulticlassJaccardIndex(5)(read, truth)), abs=1e-6)


def test_an_absent_class_does_not_count() -> None:
    truth = torch.tensor([0, 0, 1, 1])
    assert score(confusion(truth, truth, 7)) == score(confusion(truth, truth, 2))
    assert score(confusion(truth, truth, 7)).iou == 1


def test_a_blur_keeps_the_mean_and_turns_an_edge_into_the_normal_distribution() -> None:
    photo = torch.rand(2, 3, 20, 20, generator=rng())
    torch.testing.assert_close(blur(photo, 0.0), photo)
    edge = torch.zeros(1, 3, 40, 40)
    edge[..., 20:] = 1  # a step between columns 19 and 20
    exact = torch.distributions.Normal(19.5, 2.0).cdf(torch.arange(40.0))
    torch.testing.assert_close(blur(edge, 2.0)[0, 0, 20], exact, rtol=0, atol=0.01)


def test_damages_touch_what_they_say() -> None:
    labels = draw_labels("street", 20, rng())
    whole = translate(labels, "none", 1.0, rng(1))
    lampless = translate(labels, "drop-rare", 1.0, rng(1))
    moved = (whole - lampless).abs().amax(dim=1) > 1e-6
    assert not moved[labels != LAMP].any()
    assert moved[labels == LAMP].double().mean() > 0.99
    swapped = translate(labels, "swap", 1.0, rng(1))
    moved = (whole - swapped).abs().amax(dim=1) > 1e-6
    assert not moved[(labels != HOUSE) & (labels != TREE)].any()
    assert torch.equal(translate(labels, "swap", 0.0, rng(1)), whole)


@pytest.mark.parametrize("world", CLASSES)
def test_every_class_of_a_world_is_drawn_and_told_by_its_colour(world: World) -> None:
    labels = draw_labels(world, 60, rng())
    assert (labels.flatten().bincount() > 0).numpy().tolist() == [True] * len(CLASSES[world])
    photo = paint_photo(world, labels).permute(0, 2, 3, 1)  # (60, 32, 32, 3)
    nearest = torch.cdist(photo.reshape(-1, 3), COLOURS[world]).argmin(dim=1)
    assert (nearest == labels.flatten()).double().mean() > 0.99
