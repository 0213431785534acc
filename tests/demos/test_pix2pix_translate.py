"""pix2pix-translate against torchmetrics and a plain nn.Sequential, and what skips and L1 are for."""

import itertools

import pytest
import torch
from torch import nn
from torchmetrics.classification import MulticlassAccuracy
from torchmetrics.regression import MeanAbsoluteError

from demos.contract import Cell, Result
from demos.gans.pix2pix_translate import (
    WORLDS,
    Params,
    Task,
    UNet,
    build_discriminator,
    draw_pairs,
    read_classes,
    run,
)
from demos.shared.scenes import CLASSES, COLOURS, paint_photo
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng

SKIPS_HELP, TRANSLATED = "The network without skips does worse", "Unseen pairs are translated"


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "pix2pix-translate")


def test_without_skips_the_network_is_its_own_control() -> None:
    outcome = result(steps=50, **Params.presets["no skips"].values)
    assert SKIPS_HELP in failed(outcome)
    assert metric(outcome, "l1") == metric(outcome, "l1 without skips")


def test_the_critic_alone_does_not_tie_an_output_to_its_target() -> None:
    outcome = result(steps=60, **Params.presets["GAN alone"].values)
    assert TRANSLATED in failed(outcome)


@torch.no_grad()
def test_without_skips_the_unet_is_a_plain_sequence() -> None:
    net = UNet(False, rng())
    x = torch.rand(4, 3, 32, 32, generator=rng(1))
    plain = nn.Sequential(*itertools.chain(net.downs, net.ups, [net.last]))
    torch.testing.assert_close(net(x), plain(x), rtol=0, atol=1e-6)


@torch.no_grad()
def test_a_skip_carries_what_the_bottleneck_lost() -> None:
    x = torch.rand(4, 3, 32, 32, generator=rng(1))
    for skips in (True, False):
        net = UNet(skips, rng())
        for weight in net.downs[-1].parameters():
            nn.init.zeros_(weight)  # nothing passes the bottleneck
        assert (net(x).std(dim=0).max() > 1e-4) == skips  # do outputs still depend on their input?


@torch.no_grad()
def test_the_discriminator_judges_patches() -> None:
    D = build_discriminator(rng())
    assert D(torch.rand(2, 6, 32, 32, generator=rng())).shape == (2, 1, 8, 8)


@pytest.mark.parametrize("task", WORLDS)
def test_pairs_of_every_task_belong_together(task: Task) -> None:
    x, y, labels = draw_pairs(task, 6, rng())
    assert x.shape == y.shape == (6, 3, 32, 32)
    assert (x - y).abs().mean() > 0.01
    for picture in (x, y):
        assert 0 <= picture.min() <= picture.max() <= 1
    if task == "inpaint":
        hole = (x != y).any(dim=1).flatten(1).sum(dim=1)
        assert 100 < hole.min() <= hole.max() <= 144
    if task == "edges":  # a line wherever the class changes from one pixel to the next in its row, and on no plain row
        changes = labels[:, :, 1:] != labels[:, :, :-1]
        assert (x[:, 0, :, 1:][changes] == 0).all()
        assert (x[:, 0, 0][(labels[:, 0] == 0).all(dim=1)] == 1).all()
    if task == "night":
        assert y.mean() < 0.5 * x.mean()
        lamp = (labels == CLASSES["street"].index("lamp"))[:, None].expand_as(y)
        torch.testing.assert_close(y[lamp], 0.9 * x[lamp])


def test_numbers_are_those_of_torchmetrics() -> None:
    _, y, labels = draw_pairs("map", 5, rng())
    noisy = (y + 0.4 * torch.randn(y.shape, generator=rng(1))).clamp(0, 1)
    read = read_classes(noisy, COLOURS["city"])
    accuracy = MulticlassAccuracy(num_classes=4, average="micro")(read, labels)
    assert (read == labels).double().mean().item() == pytest.approx(float(accuracy), abs=1e-6)
    assert nn.functional.l1_loss(noisy, y).item() == pytest.approx(
        float(MeanAbsoluteError()(noisy.contiguous(), y.contiguous())), abs=1e-6
    )
    plain = paint_photo("city", labels)
    assert (read_classes(plain, COLOURS["city"]) == labels).double().mean() > 0.99
