"""palette-restoration against scipy's DCT and diffusers, and what a blind network breaks."""

from typing import Any

import numpy as np
import pytest
import scipy.fft
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler

from demos.contract import Cell, Images, Result
from demos.diffusion.palette_restoration import (
    PASSES,
    TASKS,
    Params,
    Task,
    damage,
    dct_matrix,
    draw_scenes,
    given_pixels,
    jpeg,
    off,
    repair,
    run,
)
from demos.shared.ddpm import T, make_schedule
from demos.shared.unet import UNet
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, rng


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "palette-restoration")


def test_the_block_transform_is_scipys() -> None:
    block, C = torch.randn(4, 4, generator=rng()), dct_matrix()
    theirs = scipy.fft.dctn(block.numpy(), norm="ortho")
    np.testing.assert_allclose((C @ block @ C.T).numpy(), theirs, rtol=0, atol=1e-5)
    torch.testing.assert_close(C.T @ C, torch.eye(4), rtol=0, atol=1e-6)


def test_jpeg_rounds_each_block_by_itself() -> None:
    x = draw_scenes(4, rng())
    fine, coarse = jpeg(x, 50), jpeg(x, 5)
    assert (fine - x).abs().mean() < 0.5 * (coarse - x).abs().mean()
    other = x.clone()
    other[:, :, 4:, 4:] = 0
    assert torch.equal(jpeg(other, 5)[:, :, :4], coarse[:, :, :4])
    block = scipy.fft.dctn(jpeg(0.3 * x, 5)[0, 1, 4:, :4].numpy(), norm="ortho")  # 0.3: nothing is clipped
    table = (16 + 12 * np.add.outer(np.arange(4), np.arange(4))) * 10 * 2 / 255
    np.testing.assert_allclose(block / table, np.round(block / table), rtol=0, atol=1e-3)


@pytest.mark.parametrize("share", [0.1, 0.35, 0.7])
def test_holes_hide_about_the_share_asked_for(share: float) -> None:
    hidden: dict[Task, float] = {task: 1 - given_pixels(task, 50, share, rng()).mean().item() for task in TASKS}
    assert hidden["inpainting"] == pytest.approx(share, abs=0.08)
    assert hidden["uncropping"] == pytest.approx(share, abs=0.08)
    assert hidden["colorization"] == hidden["jpeg"] == 1


def test_damage_takes_what_it_says_and_no_more() -> None:
    x, params = draw_scenes(8, rng()), Params.model_validate({})
    grey, _ = damage("colorization", x, params, rng())
    assert torch.equal(grey[:, 0], grey[:, 2])
    torch.testing.assert_close(grey[:, 0], x.mean(dim=1))
    seen, given = damage("inpainting", x, params, rng())
    assert torch.equal(seen, x * given)  # nothing of the picture shows through
    assert off(x + 0.2 * (1 - given), x, 1 - given) == pytest.approx(0.1)


def test_scenes_have_their_colours() -> None:
    x = draw_scenes(200, rng())
    assert x.min() >= -1
    assert x.max() <= 1
    assert (x[:, 2, 0] > x[:, 0, 0]).float().mean() > 0.7  # a blue sky, but for the sun
    assert (x[:, 1, -1] > x[:, 2, -1]).all()  # green grass


@torch.no_grad()
def test_repairing_is_diffusers_ddim_of_velocities() -> None:
    net = UNet(7, 3, rng(), width=8)
    for number, weight in enumerate(net.parameters()):
        torch.nn.init.normal_(weight, std=0.1, generator=rng(number))
    seen, given = damage("uncropping", draw_scenes(2, rng()), Params.model_validate({}), rng(1))
    ours = repair(net, seen, given, True, make_schedule(), rng(2))
    theirs: Any = DDIMScheduler(
        T, beta_start=0.1 / T, beta_end=20 / T, timestep_spacing="trailing", prediction_type="v_prediction"
    )
    theirs.set_timesteps(PASSES)
    x = torch.randn(seen.shape, generator=rng(2))
    for t in theirs.timesteps:
        v = net(torch.cat([x, seen, given], dim=1), torch.full((2,), (t + 1) / T))
        x = theirs.step(v, t, x, use_clipped_model_output=True).prev_sample
    torch.testing.assert_close(ours, given * seen + (1 - given) * x, rtol=0, atol=1e-4)


def test_a_blind_network_repairs_nothing() -> None:
    outcome = result(steps=150, task="jpeg", **Params.presets["blind"].values)
    assert failed(outcome) == ["The repair beats the mean fill, or the damaged image"]
    pictures = outcome.figures[1]
    assert isinstance(pictures, Images)
    assert tuple(pictures.row_labels) == TASKS
