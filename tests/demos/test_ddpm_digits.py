"""ddpm-digits against diffusers' samplers and torchmetrics, and what a hasty or a short training breaks."""

from typing import Any

import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torchmetrics.image.fid import FrechetInceptionDistance

from demos.contract import Cell, Images, Lines, Result
from demos.diffusion.ddpm_digits import Params, frechet, largest_jump, layer_table, nearest, run, sample
from demos.shared.ddpm import make_schedule
from demos.shared.digits import load_digits
from demos.shared.unet import UNet
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, rng


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def noisy_network() -> UNet:
    net = UNet(1, 1, rng(), width=8)
    for number, weight in enumerate(net.parameters()):
        torch.nn.init.normal_(weight, std=0.1, generator=rng(number))
    return net


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "ddpm-digits")


@torch.no_grad()
@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
def test_sampling_is_that_of_diffusers(sampler: str) -> None:
    net, T = noisy_network(), 50
    ours, times, _, clean = sample(net, 3, make_schedule(T), Params.model_validate({"sampler": sampler}), 25, rng(1))
    theirs: Any = DDIMScheduler(T, beta_start=0.1 / T, beta_end=20 / T, timestep_spacing="trailing")
    theirs.set_timesteps(25)
    dice = rng(1)
    x = torch.randn(3, 1, 8, 8, generator=dice)
    for number, t in enumerate(theirs.timesteps):
        assert times[number] == t + 1
        noise = torch.randn(x.shape, generator=dice) if sampler == "ddpm" else None
        eta = 1.0 if sampler == "ddpm" else 0.0
        step = theirs.step(net(x, torch.full((3,), (t + 1) / T)), t, x, eta, True, variance_noise=noise)
        torch.testing.assert_close(clean[number], step.pred_original_sample.clamp(-1, 1), rtol=0, atol=1e-4)
        x = step.prev_sample
    torch.testing.assert_close(ours, x, rtol=0, atol=1e-4)


def test_frechet_is_that_of_torchmetrics() -> None:
    digits, _ = load_digits()
    x, y = digits[:300], (digits[300:800] + 0.3 * torch.rand(500, 1, 8, 8, generator=rng())).clamp(0, 1)
    metric: Any = FrechetInceptionDistance(feature=Pixels(), normalize=True, input_img_size=(1, 8, 8))
    metric.set_dtype(torch.float64)
    metric.update(x.double(), real=True)
    metric.update(y.double(), real=False)
    assert frechet(x, y) == pytest.approx(metric.compute().item(), rel=1e-3)
    assert frechet(x, x) == pytest.approx(0, abs=1e-6)


class Pixels(torch.nn.Module):
    """Features for torchmetrics: the pixels."""

    num_features = 64

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)


def test_the_nearest_digit_is_never_the_image_itself() -> None:
    digits, labels = load_digits()
    distance, number = nearest(digits[:200], digits)
    assert (number != torch.arange(200)).all()
    assert (distance > 0).all()
    assert (labels[number] == labels[:200]).float().mean() > 0.95  # so the nearest digit tells the class


@pytest.mark.parametrize(("curve", "jump"), [([4.0, 3, 2, 1], 0.75), ([4, 2, 6, 1, 1.5], 3), ([1, 1], 1)])
def test_the_largest_jump_is_over_the_smallest_value_before(curve: list[float], jump: float) -> None:
    assert largest_jump(torch.tensor(curve)) == pytest.approx(jump)


def test_the_layer_table_counts_every_weight_in_the_order_of_work() -> None:
    net = UNet(1, 1, rng(), width=16)
    rows = layer_table(net)
    assert [row[0] for row in rows[:3]] == ["time", "first", "down"]
    assert sum(int(row[2]) for row in rows) == sum(weight.numel() for weight in net.parameters())
    assert {row[0]: row[1] for row in rows}["attention"] == "32x4x4"
    assert rows[-1][1] == "1x8x8"


def test_training_too_fast_leaps_and_the_figure_asked_for_leads() -> None:
    outcome = result(steps=200, sampling_steps=10, timesteps=50, view="loss", **Params.presets["too fast"].values)
    assert "The smoothed loss never leaps" in failed(outcome)
    assert "Means and covariances are those of digits" in failed(outcome)
    loss = outcome.figures[0]
    assert isinstance(loss, Lines)
    assert loss.at == list(range(20, 201, 20))


def test_a_hundred_steps_are_too_few() -> None:
    outcome = result(view="process", sampling_steps=40, **Params.presets["hardly trained"].values)
    assert failed(outcome) == [
        "Means and covariances are those of digits",
        "Samples are nearer to real digits than a Gaussian's",
    ]
    process = outcome.figures[0]
    assert isinstance(process, Images)
    assert len(process.pixels) == 4
    assert process.column_labels[0] == "t = 200"
