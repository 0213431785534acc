"""Pairing beside scipy and the DETR of transformers, scenes that agree with themselves, average precision by hand."""

from functools import cache
from typing import Any

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from transformers.loss import loss_for_object_detection

from demos.contract import Images, Result
from demos.vision_transformers.vit_dense_prediction import (
    BOX,
    EMPTY,
    GIOU,
    MASK,
    NOTHING,
    SIDE,
    Params,
    Scene,
    ViT,
    average_precision,
    box_losses,
    draw,
    loss_of,
    match,
    overlap,
    paint,
    pair,
    run,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng

detr: Any = loss_for_object_detection
MATCHER = detr.HungarianMatcher(class_cost=1, bbox_cost=BOX, giou_cost=GIOU)


@cache
def result() -> Result:
    return run(Params.model_validate({}))


@cache
def outputs() -> tuple[Scene, Scene]:
    """What an untrained model says of 12 scenes with up to 3 objects, and what is asked."""
    images, asked = draw(12, 3, rng())
    with torch.no_grad():
        out = ViT(5, rng(1))(images)
    return out, asked


def targets(asked: Scene) -> list[dict[str, torch.Tensor]]:
    there = asked.kinds < NOTHING
    return [
        {"class_labels": asked.kinds[n][there[n]], "boxes": asked.boxes[n][there[n]]} for n in range(len(asked.kinds))
    ]


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "vit-dense-prediction")
    assert 0 < metric(result(), "AP at IoU 0.5") <= 1


def test_queries_paired_as_listed_learn_no_object() -> None:
    listed = run(Params.model_validate(Params.presets["as listed"].values))
    assert failed(listed) == [
        "Queries find objects",
        "Queries name objects",
        "Queries cut objects out",
        "Objects are a set",
    ]
    assert metric(listed, "quality") < metric(result(), "quality") - 0.2


def test_each_task_scores_and_draws_its_own_output() -> None:
    short = [run(Params.model_validate({"task": task, "steps": 20})) for task in ("detection", "semantic", "instance")]
    assert len({metric(each, "quality") for each in short}) == 3
    tables = [[row[1] for row in each.tables[0].rows] for each in short]
    assert tables[0] == tables[1] == tables[2]
    assert [metric(each, "quality") for each in short] == [tables[0][0], tables[0][2], tables[0][1]]
    figures = [each.figures[0] for each in short]
    assert all(isinstance(figure, Images) for figure in figures)
    assert figures[0] != figures[1] != figures[2]


def test_pairs_cost_as_little_as_scipy_finds() -> None:
    costs = torch.rand(50, 5, 4, generator=rng())
    chosen = costs.gather(1, pair(costs)[:, None])[:, 0].sum(dim=1)
    for cost, total in zip(costs, chosen, strict=True):
        rows, columns = linear_sum_assignment(cost.numpy())
        assert total.item() == pytest.approx(cost[rows, columns].sum().item(), abs=1e-6)


def test_the_cheapest_entry_first_is_not_the_cheapest_pairing() -> None:
    costs = torch.tensor([[[0.2, 0.3], [0.3, 0.9], [0.9, 0.8]]])  # three queries, two objects
    assert pair(costs).numpy().tolist() == [[1, 0]]  # 0.6; entry by entry it would be 0.2 + 0.8


def test_boxes_overlap_as_in_transformers() -> None:
    middles, sizes = torch.rand(2, 20, 2, generator=rng()), 0.1 + torch.rand(2, 20, 2, generator=rng(1))
    a, b = torch.cat([middles, sizes], dim=2)
    corners = [torch.cat([box[:, :2] - box[:, 2:] / 2, box[:, :2] + box[:, 2:] / 2], dim=1) for box in (a, b)]
    iou, generalized = overlap(a[:, None], b)
    torch.testing.assert_close(iou, detr.box_iou(*corners)[0], atol=1e-6, rtol=0)
    torch.testing.assert_close(generalized, detr.generalized_box_iou(*corners), atol=1e-6, rtol=0)


def test_queries_are_matched_as_in_transformers() -> None:
    out, asked = outputs()
    ours = match(out, asked, "cheapest")
    theirs = MATCHER({"logits": out.kinds, "pred_boxes": out.boxes}, targets(asked))
    for n, (queries, objects) in enumerate(theirs):
        assert torch.equal(ours[n, objects], queries)


def test_the_set_loss_is_that_of_transformers() -> None:
    out, asked = outputs()
    there, rows = asked.kinds < NOTHING, torch.arange(len(asked.kinds))[:, None]
    criterion = detr.ImageLoss(matcher=MATCHER, num_classes=NOTHING, eos_coef=EMPTY, losses=["labels", "boxes"])
    parts = criterion({"logits": out.kinds, "pred_boxes": out.boxes}, targets(asked))
    theirs = parts["loss_ce"] + BOX * parts["loss_bbox"] + GIOU * parts["loss_giou"]
    masks = out.masks[rows, match(out, asked, "cheapest")][there]
    rest = MASK * binary_cross_entropy_with_logits(masks, asked.masks[there]) + cross_entropy(out.pixels, asked.pixels)
    torch.testing.assert_close(loss_of(out, asked, "cheapest"), theirs + rest, atol=1e-5, rtol=0)


def test_the_loss_depends_on_the_list_only_when_pairs_are_listed() -> None:
    out, asked = outputs()
    other = Scene(asked.pixels, *(part.roll(1, dims=1) for part in asked[1:]))
    torch.testing.assert_close(loss_of(out, other, "cheapest"), loss_of(out, asked, "cheapest"))
    assert (loss_of(out, other, "as listed") - loss_of(out, asked, "as listed")).abs().item() > 1e-3


def test_a_perfect_box_costs_nothing() -> None:
    _, asked = draw(5, 2, rng())
    assert box_losses(asked, asked).diagonal(dim1=1, dim2=2).abs().max().item() < 1e-5


def test_what_is_asked_agrees_with_itself() -> None:
    images, asked = draw(200, 4, rng())
    there = asked.kinds < NOTHING
    assert asked.masks.sum(dim=1).max().item() == 1  # no pixel is of two objects
    assert torch.equal((asked.pixels > 0).float(), asked.masks.sum(dim=1))
    assert asked.masks[~there].sum().item() == 0
    assert {*there.sum(dim=1).numpy().tolist()} == {1, 2, 3, 4}
    n, m, y, x = asked.masks.nonzero().unbind(dim=1)
    middle, size = asked.boxes[n, m].view(-1, 2, 2).unbind(dim=1)
    at = (torch.stack([x, y], dim=1) + 0.5) / SIDE
    assert ((at - middle).abs() <= size / 2).all()
    assert torch.equal(asked.pixels[n, y, x], asked.kinds[n, m] + 1)
    bright = images[:, 0] > 0.25
    assert (bright == (asked.pixels > 0)).float().mean().item() > 0.999


def test_average_precision_by_hand() -> None:
    kinds = torch.tensor([[0, NOTHING], [0, NOTHING]])  # one object of kind 0 in each of two images
    ious = torch.tensor([[[0.9, 0], [0.8, 0]], [[0.2, 0], [0.6, 0]]])
    chances = torch.zeros(2, 2, 4)
    chances[..., 0] = torch.tensor([[0.9, 0.8], [0.7, 0.6]])  # found, found again, beside it, found
    assert average_precision(chances, ious, kinds) == pytest.approx((1 + 2 / 4) / 2 / NOTHING)


def test_boxes_are_drawn_as_outlines() -> None:
    scene = Scene(
        torch.zeros(1, SIDE, SIDE, dtype=torch.long), torch.tensor([[0, NOTHING]]),
        torch.tensor([[[0.5, 0.5, 0.5, 0.25], [0.5, 0.5, 1, 1]]]), torch.zeros(1, 2, SIDE, SIDE),
    )  # fmt: skip
    picture = torch.tensor(paint(torch.zeros(1, 1, SIDE, SIDE), scene, 0, "detection")).sum(dim=2) > 0
    assert picture.sum().item() == 2 * 8 + 2 * 2  # 8 x 4 pixels, less the 6 x 2 within
    assert picture[6:10, 4:12].sum().item() == 20
