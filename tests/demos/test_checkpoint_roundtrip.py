"""checkpoint-roundtrip against safetensors and torch's moving average, and what each part left out costs."""

from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch.optim import swa_utils

from demos.contract import Cell, Result
from demos.stable_diffusion.checkpoint_roundtrip import (
    Denoiser,
    Params,
    Training,
    from_bytes,
    gap,
    merged,
    run,
    to_bytes,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, rng


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "checkpoint-roundtrip")


def test_the_file_is_one_of_safetensors_bit_for_bit(tmp_path: Path) -> None:
    library: Any = safetensors.torch  # its signatures are not fully typed
    training = Training(3)
    training.advance(5, 20)
    state = training.state()
    path = tmp_path / "ours.safetensors"
    path.write_bytes(to_bytes(state))
    theirs = library.load_file(path)
    assert theirs.keys() == state.keys()
    assert all(torch.equal(theirs[name], state[name]) for name in state)
    library.save_file(state, tmp_path / "theirs.safetensors")
    assert (tmp_path / "theirs.safetensors").read_bytes() == path.read_bytes()
    back = from_bytes((tmp_path / "theirs.safetensors").read_bytes())
    assert all(torch.equal(back[name], state[name]) and back[name].dtype == state[name].dtype for name in state)


@pytest.mark.parametrize(("restore", "same"), [("everything", True), ("no optimizer", False), ("weights", False)])
@pytest.mark.parametrize("stop", [1, 19])
def test_a_run_goes_on_as_if_never_stopped_only_with_all_that_it_needs(restore: str, same: bool, stop: int) -> None:
    whole, cut, elsewhere = Training(1), Training(1), Training(2)
    losses = whole.advance(20, 20)
    first = cut.advance(stop, 20)
    elsewhere.take(from_bytes(to_bytes(cut.state())), restore)
    second = elsewhere.advance(20, 20)
    assert (gap(whole.model.state_dict(), elsewhere.model.state_dict()) == 0) is same
    if same:
        assert [*first, *second] == losses
        assert to_bytes(whole.state()) == to_bytes(elsewhere.state())


@pytest.mark.parametrize("preset", list(Params.presets))
def test_what_was_left_out_of_the_file_is_missed(preset: str) -> None:
    outcome = result(steps=40, stop=20, **Params.presets[preset].values)
    assert "Resumed training ends in the same weights" in failed(outcome)
    assert "Loaded weights draw the same points" not in failed(outcome)


def test_the_average_is_the_moving_average_of_torch() -> None:
    training = Training(0)
    library: Any = swa_utils  # not fully typed
    theirs = library.AveragedModel(training.model, multi_avg_fn=library.get_ema_multi_avg_fn(0.98))
    theirs.update_parameters(training.model)  # the first call copies
    for step in range(1, 6):
        training.advance(step, 20)
        theirs.update_parameters(training.model)
    ours = Denoiser(rng())
    ours.load_state_dict(training.average)
    for a, b in zip(ours.parameters(), theirs.module.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


def test_a_merge_is_a_point_on_the_line_between_two_models() -> None:
    a, b = (Denoiser(rng(seed)).state_dict() for seed in (0, 1))
    assert gap(merged(a, b, 0.0), a) == gap(merged(a, b, 1.0), b) == 0
    quarter = merged(a, b, 0.25)
    for name in a:
        torch.testing.assert_close(quarter[name], torch.lerp(a[name], b[name], 0.25), rtol=0, atol=1e-6)
