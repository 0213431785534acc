"""diffusion-features against scikit-learn, and what an untrained network lacks."""

import importlib
from typing import Any

import pytest
import torch

from demos.contract import Cell, Lines, Result
from demos.diffusion.diffusion_features import (
    BLOCKS,
    Params,
    draw_pictures,
    fit,
    mean_iou,
    read_maps,
    read_pixels,
    run,
)
from demos.shared.ddpm import T, jump, make_schedule
from demos.shared.unet import UNet, embed_time
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, rng

linear_model: Any = importlib.import_module("sklearn.linear_model")  # untyped
metrics: Any = importlib.import_module("sklearn.metrics")


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "diffusion-features")


def test_the_pixel_classifier_is_scikit_learns() -> None:
    pictures, label = draw_pictures(6, rng())
    x, y = read_pixels(pictures).flatten(0, 2), label.flatten()
    W, b = fit(x, y)
    theirs: Any = linear_model.LogisticRegression(C=1.0, tol=1e-6, max_iter=2000)
    theirs.fit(x.double().numpy(), y.numpy())
    ours = (x @ W + b).softmax(dim=1)
    torch.testing.assert_close(ours.double(), torch.tensor(theirs.predict_proba(x.double().numpy())), rtol=0, atol=5e-3)


def test_mean_iou_is_scikit_learns() -> None:
    guess, label = (torch.randint(4, (5, 12, 12), generator=rng(seed)) for seed in (0, 1))
    theirs: Any = metrics.jaccard_score(label.flatten().numpy(), guess.flatten().numpy(), average="macro")
    assert mean_iou(guess, label) == pytest.approx(float(theirs), abs=1e-6)
    assert mean_iou(label, label) == 1


def test_pictures_hold_one_shape_a_quarter_and_grey_does_not_tell_it() -> None:
    pictures, label = draw_pictures(500, rng())
    quarters = label.unfold(1, 6, 6).unfold(2, 6, 6).reshape(-1, 36)
    sizes = [int((quarters == k).sum(dim=1).max()) for k in (1, 2, 3)]
    assert sizes == [25, 21, 9]  # of 5x5: whole, without its corners, its middle row and column
    assert all(len(set(quarter)) <= 2 for quarter in quarters.numpy().tolist())
    greys = torch.stack([pictures[:, 0][label == k].mean() for k in (1, 2, 3)])
    assert greys.max() - greys.min() < 0.05
    assert (pictures[:, 0][label == 0] < -0.7).all()


@torch.no_grad()
def test_maps_are_read_at_every_pixel_from_the_block_asked_for() -> None:
    net, (x, _) = UNet(1, 1, rng(), width=16), draw_pictures(3, rng())
    noise = torch.randn(x.shape, generator=rng(1))
    maps = {block: read_maps(net, x, 0.15, block, noise, make_schedule()) for block in BLOCKS}
    assert {block: m.shape[-1] for block, m in maps.items()} == {"down": 16, "middle": 32, "up": 16, "all": 64}
    assert torch.equal(maps["all"], torch.cat([maps["down"], maps["middle"], maps["up"]], dim=-1))
    level = torch.full((3,), 30 / T)
    seen = jump(x, noise, make_schedule()[30])
    first = net.down(net.first(seen), torch.nn.functional.silu(net.time(embed_time(level, 16))))
    torch.testing.assert_close(maps["down"], first.permute(0, 2, 3, 1), rtol=0, atol=1e-6)


def test_pixels_are_read_with_their_neighbours() -> None:
    x, _ = draw_pictures(2, rng())
    around = read_pixels(x)
    assert torch.equal(around[..., 4], x[:, 0])
    assert torch.equal(around[:, 1:, :, 1], x[:, 0, :-1])  # the one above
    assert (around[:, 0, :, :3] == 0).all()


def test_an_untrained_network_lacks_what_training_made() -> None:
    outcome = result(**Params.presets["untrained"].values)
    assert "Training without labels made the maps" in failed(outcome)
    where = outcome.figures[1]
    assert isinstance(where, Lines)
    assert list(where.series) == ["down", "middle", "up", "all"]
