"""Mixed labels beside the loss of both labels, skips beside torch's dropout, and what breaks the gain."""

from functools import cache

import pytest
import torch
from torch.nn.functional import cross_entropy, dropout, one_hot

from demos.contract import Images, Result
from demos.shared.digits import load_digits
from demos.vision_transformers.vit_regularization import (
    LAYERS,
    Params,
    ViT,
    augment,
    cutmix,
    mixing_error,
    mixup,
    randaugment,
    run,
    shift,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng

LABELS = one_hot(torch.arange(10)).float()
IMAGES = load_digits()[0][:10]  # of digits 0 to 9


@cache
def result() -> Result:
    return run(Params.model_validate({}))


def short(**values: str | float) -> Result:
    return run(Params.model_validate({"images": 50, "epochs": 5, **values}))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "vit-regularization")
    assert metric(result(), "gap, plain") > metric(result(), "gap")


def test_plain_training_beside_itself_gains_nothing() -> None:
    none = short(technique="none")
    assert metric(none, "gap") == metric(none, "gap, plain")
    assert {"The technique narrows the gap of given labels to unseen digits", "Unseen digits gain"} <= {*failed(none)}


def test_too_strong_a_technique_costs_unseen_digits() -> None:
    strong = run(Params.model_validate({**Params.presets["too strong"].values, "epochs": 10}))
    assert "Unseen digits gain" in failed(strong)
    assert metric(strong, "test accuracy") < metric(strong, "test accuracy, plain") - 0.05


@pytest.mark.parametrize(
    "technique", ["shift", "randaugment", "mixup", "cutmix", "drop_path", "dropout", "weight_decay"]
)
def test_each_technique_changes_training(technique: str) -> None:
    some = short(technique=technique, drop_path=0.5)
    assert metric(some, "test accuracy") != metric(some, "test accuracy, plain")
    figure = some.figures[0]
    assert isinstance(figure, Images)
    on_the_network = technique in ("drop_path", "dropout", "weight_decay")
    assert (figure.pixels[0] == figure.pixels[1]) == on_the_network


def test_the_loss_on_mixed_labels_is_the_mixed_loss_of_both() -> None:
    logits = torch.randn(10, 10, generator=rng())
    images, labels = mixup(IMAGES, LABELS, 0.7, rng(1))
    other = torch.randperm(10, generator=rng(1))
    both = 0.7 * cross_entropy(logits, torch.arange(10)) + 0.3 * cross_entropy(logits, other)
    torch.testing.assert_close(cross_entropy(logits, labels), both)
    torch.testing.assert_close(images, IMAGES.lerp(IMAGES[other], 0.3))


@pytest.mark.parametrize(("share", "most"), [(1.0, 0.0), (0.9375, 0.0625), (0.75, 0.25)])
def test_cutmix_pastes_at_most_the_box_and_no_blends(share: float, most: float) -> None:
    areas = list[float]()
    for seed in range(20):
        images, labels = cutmix(IMAGES, LABELS, share, rng(seed))
        other = torch.randperm(10, generator=rng(seed))
        assert ((images == IMAGES) | (images == IMAGES[other])).all()
        torch.testing.assert_close(labels.sum(dim=1), torch.ones(10))
        areas.append(labels[0, other[0]].item() if other[0] != 0 else 0.0)
    assert max(areas) == pytest.approx(most)


def test_a_label_that_ignores_the_border_is_told_from_the_area() -> None:
    def careless(
        images: torch.Tensor, labels: torch.Tensor, share: float, rng: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        other = torch.randperm(len(images), generator=torch.Generator().set_state(rng.get_state()))
        return cutmix(images, labels, share, rng)[0], share * labels + (1 - share) * labels[other]

    assert mixing_error(cutmix, rng()) < 1e-6
    assert mixing_error(careless, rng()) > 0.05


def test_skips_have_the_moments_of_dropout() -> None:
    model = ViT(rng(), drop_path=0.4)
    assert model.paths == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert len(model.paths) == LAYERS
    ones = torch.ones(40_000, 1, 1)
    ours, theirs = model.thin(ones, 0.4, ones.shape), dropout(ones, 0.4)
    assert {*ours.flatten().numpy().tolist()} == {*theirs.flatten().numpy().tolist()}
    assert ours.mean().item() == pytest.approx(1, abs=0.02)
    assert ours.var().item() == pytest.approx(theirs.var().item(), abs=0.03)


def test_a_skip_takes_a_layer_of_a_whole_image() -> None:
    branch = ViT(rng()).thin(torch.ones(500, 5, 3), 0.5, (500, 1, 1))
    assert {*branch.mean(dim=(1, 2)).numpy().tolist()} == {0.0, 2.0}


def test_evaluation_uses_the_whole_network() -> None:
    plain, random = ViT(rng()), ViT(rng(), drop_path=0.5, dropout=0.3)
    assert not torch.equal(plain(IMAGES), random(IMAGES))
    assert torch.equal(plain.eval()(IMAGES), random.eval()(IMAGES))


def test_augmented_images_stay_images() -> None:
    many = IMAGES.repeat(20, 1, 1, 1)
    torch.testing.assert_close(randaugment(many, 0, rng()), many, atol=1e-6, rtol=0)
    strong = randaugment(many, 10, rng())
    assert strong.min().item() >= 0
    assert strong.max().item() <= 1
    mild = randaugment(many, 2, rng())
    assert 0 < (mild - many).abs().mean().item() < (strong - many).abs().mean().item()


def test_shifts_are_of_one_pixel_and_of_nine_kinds() -> None:
    dot = torch.zeros(300, 1, 8, 8)
    dot[:, 0, 4, 4] = 1
    places = shift(dot, rng()).flatten(1).argmax(dim=1)
    assert sorted({*places.numpy().tolist()}) == [27, 28, 29, 35, 36, 37, 43, 44, 45]


def test_labels_stay_where_images_are_not_mixed() -> None:
    _, labels = augment(IMAGES, LABELS, Params.model_validate({"technique": "shift"}), rng())
    assert torch.equal(labels, LABELS)
