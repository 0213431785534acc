"""video-diffusion against diffusers' sampler, a ball moved step by step, and a network that knows the clips."""

from functools import cache
from typing import Any

import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor

from demos.contract import Cell, Images, Result
from demos.diffusion.video_diffusion import (
    ALPHA_BAR,
    HIGH,
    LOW,
    MODES,
    PASSES,
    PIXELS,
    Denoiser,
    Params,
    draw_masks,
    draw_paths,
    film,
    find_ball,
    make,
    path,
    run,
    schedule,
)
from demos.shared.ddpm import T
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng


@cache
def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "video-diffusion")
    assert metric(result(), "motion_error") == metric(result(), "motion_error, predict")
    clips = result().figures[0]
    assert isinstance(clips, Images)
    assert clips.pixels[0][0][:2] == clips.pixels[1][0][:2]  # the two given frames


def test_without_later_frames_in_training_it_cannot_interpolate() -> None:
    assert "Frames in between are easier than frames ahead" in failed(
        result(steps=500, **Params.presets["past only"].values)
    )


def test_without_sparse_frames_in_training_key_frames_fail() -> None:
    assert "Key frames first drifts less than step by step" in failed(
        result(steps=500, **Params.presets["consecutive only"].values)
    )


def test_a_clip_too_long_for_its_window_is_refused() -> None:
    with pytest.raises(ValueError, match="length must be 5 to 11 for 5 frames; got 12"):
        Params.model_validate({"frames": 5})


def test_a_ball_moves_evenly_and_turns_at_walls() -> None:
    place, speed = torch.tensor([9.5, 1.2, 5.0]), torch.tensor([0.7, -0.9, 1.1])
    there = path(place, speed, 40)
    for ball in range(3):
        x, v = place[ball].item(), speed[ball].item()
        for frame in range(40):
            assert there[ball, frame].item() == pytest.approx(x, abs=1e-4)
            x += v
            if not LOW <= x <= HIGH:
                x, v = 2 * (HIGH if x > HIGH else LOW) - x, -v


def test_the_ball_is_found_where_it_was_drawn() -> None:
    paths = draw_paths(500, 20, rng())
    assert LOW <= paths.min() < LOW + 0.1 < HIGH - 0.1 < paths.max() <= HIGH
    assert (find_ball(film(paths)) - paths).abs().max() < 0.15


def test_masks_are_those_of_the_tasks() -> None:
    given, asked = draw_masks(4000, Params.model_validate({}), rng())
    assert (given * asked).max() == 0
    assert asked.sum(dim=1).min() >= 1
    assert {4, 5, 6} == set((given + asked).sum(dim=1).long().numpy().tolist())
    first = asked.argmax(dim=1)  # of the frames asked
    before = (given.cumsum(dim=1) * asked).gather(1, first[:, None])[:, 0]
    after = given.sum(dim=1) - before
    assert set(before.long().numpy().tolist()) == {0, 1, 2}
    assert after.mean().item() == pytest.approx(0.5, abs=0.05)
    near, _ = draw_masks(500, Params.model_validate({"sparse": False, "future": False}), rng())
    assert near[:, 2:].max() == 0


@pytest.mark.parametrize(("frames", "length"), [(6, 12), (6, 18), (5, 11), (10, 24), (6, 6)])
def test_a_schedule_makes_every_frame_once_from_frames_that_are_there(frames: int, length: int) -> None:
    for mode in MODES[3:]:
        there = [0, 1]
        for given, asked in schedule(mode, frames, length):
            assert set(given) <= set(there)
            assert not set(asked) & set(there)
            assert len(given) + len(asked) <= frames
            assert max(given + asked) - min(given + asked) < length
            there += asked
        assert sorted(there) == list(range(length))


class Oracle(Denoiser):
    """Knows the clips, and gives the velocity that leads to them."""

    def __init__(self, clips: Tensor) -> None:
        super().__init__(clips.shape[1], rng())
        self.clips = clips

    def forward(self, x: Tensor, given: Tensor, asked: Tensor, t: Tensor) -> Tensor:
        a = ALPHA_BAR[round(t[0].item() * T)]
        eps = (x - a.sqrt() * self.clips) / (1 - a).sqrt()
        return (a.sqrt() * eps - (1 - a).sqrt() * self.clips) * (given + asked)[:, :, None]


def test_asked_frames_are_made_and_all_others_stay() -> None:
    clips, blank = film(draw_paths(5, 12, rng())), torch.zeros(5, 12, PIXELS)
    moved = torch.roll(clips, -3, dims=1)  # the network counts frames from the first of the window
    made = make(Oracle(moved), blank, [3, 4], [5, 8], rng(1))
    torch.testing.assert_close(made[:, [5, 8]], clips[:, [5, 8]], rtol=0, atol=1e-4)
    others = [frame for frame in range(12) if frame not in (5, 8)]
    assert made[:, others].abs().max() == 0


@torch.no_grad()
def test_sampling_is_diffusers_ddim() -> None:
    network, given = Denoiser(6, rng()), torch.zeros(3, 6)
    theirs: Any = DDIMScheduler(
        T, 0.1 / T, 20 / T, clip_sample=True, prediction_type="v_prediction", timestep_spacing="trailing"
    )
    theirs.set_timesteps(PASSES)
    x = torch.randn(3, 6, PIXELS, generator=rng(1))
    for t in theirs.timesteps:
        v = network(x, given, given + 1, torch.full((3,), (t.item() + 1) / T))
        x = theirs.step(v, t, x, use_clipped_model_output=True).prev_sample
    ours = make(network, torch.zeros(3, 6, PIXELS), [], list(range(6)), rng(1))
    torch.testing.assert_close(ours, x, rtol=0, atol=1e-4)


@torch.no_grad()
def test_frames_that_are_neither_given_nor_asked_are_not_seen() -> None:
    network, x, marks = Denoiser(6, rng()), torch.randn(2, 6, PIXELS, generator=rng(1)), torch.zeros(2, 2, 6)
    marks[0, :, 0] = marks[1, :, 1] = 1
    out = network(x, *marks, torch.ones(2))
    x[:, 2:] = 7.0
    assert torch.equal(network(x, *marks, torch.ones(2)), out)
    x[:, 0] = 7.0
    assert not torch.equal(network(x, *marks, torch.ones(2)), out)
