"""fid-and-inception-score against scipy and torchmetrics, and the faults that one score or the other misses."""

import warnings
from typing import Any, cast

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.inception import InceptionScore

from demos.contract import Cell, Lines, Result
from demos.gans.fid_and_inception_score import DAMAGES, Classifier, Damage, Params, frechet, inception_score, run, spoil
from demos.shared.digits import load_digits
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


class Eye(nn.Module):
    """Bytes (B, 1, 8, 8) to what one metric of torchmetrics wants: features or logits of a classifier of ours."""

    def __init__(self, net: Classifier, part: int) -> None:
        super().__init__()
        self.net, self.part, self.num_features = net, part, 32

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return self.net(x / 255)[self.part]


def two_sets() -> tuple[Classifier, Tensor, Tensor]:
    """A classifier that nobody trained, and two sets of digits as bytes."""
    images, _ = load_digits()
    pixels = (255 * images).byte()
    return Classifier(rng()), pixels[:600], pixels[600:1_100].flip(3)


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "fid-and-inception-score")


def test_the_distance_is_that_of_scipys_matrix_root() -> None:
    x = torch.randn(400, 6, generator=rng()) @ torch.randn(6, 6, generator=rng(1))
    y = torch.randn(300, 6, generator=rng(2)) @ torch.randn(6, 6, generator=rng(3)) + 0.5
    C, C_w = (np.cov(z.double().numpy(), rowvar=False) for z in (x, y))
    covariance = np.trace(C + C_w - 2 * np.real(scipy.linalg.sqrtm(C @ C_w)))
    ours = frechet(x, y)
    assert ours.covariance == pytest.approx(float(covariance), rel=1e-6)
    assert ours.mean == pytest.approx(float((x.mean(0) - y.mean(0)).square().sum()), rel=1e-4)
    assert ours.total == pytest.approx(frechet(y, x).total, rel=1e-9)


def test_a_shift_of_all_features_is_its_squared_length_away() -> None:
    x = torch.randn(500, 8, generator=rng()) * torch.tensor([1.0, 2, 3, 0, 0, 1, 1, 1])  # two features are dead
    moved = frechet(x, x.double() + torch.arange(8.0))
    assert moved.mean == pytest.approx(140, rel=1e-6)  # 0 + 1 + 4 + … + 49
    assert moved.covariance == pytest.approx(0, abs=1e-6)


def test_fid_is_that_of_torchmetrics() -> None:
    net, real, fake = two_sets()
    library = cast(Any, FrechetInceptionDistance(feature=Eye(net, 0)))
    library.update(real, real=True)
    library.update(fake, real=False)
    ours = frechet(*(net(pixels / 255)[0].detach() for pixels in (real, fake)))
    assert ours.total == pytest.approx(float(library.compute()), rel=1e-2)
    assert ours.total > 1e-3


def test_the_inception_score_is_that_of_torchmetrics() -> None:
    net, real, _ = two_sets()
    with torch.no_grad():
        net.head.weight.mul_(30)  # so that it is sure of something
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of its memory, and of the deviation over one split
        library = InceptionScore(feature=Eye(net, 1), splits=1)
        library.update(real)
        reference, _ = library.compute()
    ours = inception_score(net(real / 255)[1].detach())
    assert ours == pytest.approx(float(reference), rel=1e-4)
    assert ours > 1.1


def test_the_inception_score_lies_between_one_and_the_number_of_classes() -> None:
    sure = 50.0 * torch.eye(10).repeat(7, 1)
    assert inception_score(sure) == pytest.approx(10, rel=1e-6)
    assert inception_score(sure[:1].repeat(70, 1)) == pytest.approx(1)  # sharp, but one class
    assert inception_score(torch.zeros(70, 10)) == pytest.approx(1)  # all classes, but never sure


@pytest.mark.parametrize("damage", DAMAGES)
def test_nothing_is_spoiled_at_amount_zero_and_something_at_one(damage: Damage) -> None:
    images, labels = load_digits()
    x, y = images[:300], labels[:300]
    torch.testing.assert_close(spoil(damage, 0.0, x, y, rng()), x, rtol=0, atol=1e-6)
    spoiled = spoil(damage, 1.0, x, y, rng())
    assert spoiled.shape == x.shape
    assert 0 <= spoiled.min() < spoiled.max() <= 1 + 1e-6
    kinds = len({tuple(picture) for picture in spoiled.flatten(1).numpy().tolist()})
    assert kinds == 10 if damage == "one-per-class" else kinds > 10
    assert (spoiled - x).abs().max() > 0.5


def test_the_score_does_not_notice_one_image_per_class_and_the_distance_does() -> None:
    outcome = result(**Params.presets["one image per class"].values)
    assert metric(outcome, "inception_score") > 0.95 * metric(outcome, "inception_score of the real set")
    assert metric(outcome, "fid") > 10 * metric(outcome, "fid of two real halves")
    curve = outcome.figures[0]
    assert isinstance(curve, Lines)
    assert list(curve.series) == ["Inception Score"]


def test_with_fifty_images_the_floor_drowns_what_was_spoiled() -> None:
    assert "But not the FID, in units of real against real" in failed(result(**Params.presets["fifty images"].values))
