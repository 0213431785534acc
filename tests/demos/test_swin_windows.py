"""Shifted windows beside transformers' Swin, and beside attention over all pairs of an image with the rest masked."""

from functools import cache
from typing import Any, TypeVar

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from transformers import SwinConfig
from transformers.models.swin import modeling_swin

from demos.contract import Result
from demos.shared.transformer import start
from demos.vision_transformers.swin_windows import (
    HEADS,
    Block,
    C,
    Merging,
    Params,
    count_flops,
    join,
    partition,
    reach,
    run,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng

CASES = [(8, 4, 2), (12, 4, 1), (15, 5, 2), (6, 2, 1), (4, 4, 2)]  # side, window, shift

Part = TypeVar("Part", bound=torch.nn.Module)


@cache
def result(**params: int) -> Result:
    return run(Params.model_validate(params))


def started(part: Part) -> Part:
    start(part, rng(1))
    return part


def patches(side: int) -> Tensor:
    return torch.randn(side, side, C, generator=rng(2))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "swin-windows")
    reached = [metric(result(), f"patches that reach one in {n} blocks") for n in (1, 2, 3, 4)]
    assert reached == [16, 64, 144, 256]


@pytest.mark.parametrize(
    ("preset", "broken"),
    [
        ("no shift", "Moved windows connect"),
        ("no mask", "Opposite edges never look at each other"),
        ("no bias", "The bias tells where patches are"),
        ("one stage", "A merging halves the grid and doubles the width"),
    ],
)
def test_each_part_that_is_left_out_breaks_its_claim(preset: str, broken: str) -> None:
    assert failed(run(Params.model_validate(Params.presets[preset].values))) == [broken]


def test_three_stages_halve_the_grid_twice() -> None:
    assert [row[1:3] for row in result(stages=3).tables[0].rows] == [[32, 16], [16, 32], [8, 64]]


@pytest.mark.parametrize(("side", "window", "shift"), CASES)
def test_a_block_is_that_of_transformers(side: int, window: int, shift: int) -> None:
    ours = started(Block(C, window, shift))
    config = SwinConfig(embed_dim=C, num_heads=[HEADS], depths=[1], window_size=window)
    config.layer_norm_eps = 1e-5  # as in torch and in Swin's own code
    theirs: Any = modeling_swin.SwinLayer(config, C, (side, side), HEADS, shift_size=shift).eval()
    with torch.no_grad():
        for name, weight in zip(("q", "k", "v"), ours.qkv.weight.view(3, C, C), strict=True):
            getattr(theirs.attention, f"{name}_proj").weight.copy_(weight)
            getattr(theirs.attention, f"{name}_proj").bias.zero_()
        theirs.attention.o_proj.load_state_dict(ours.out.state_dict())
        theirs.attention.relative_position_bias.relative_position_bias_table.copy_(ours.table.view(-1, HEADS))
        theirs.mlp.fc1.load_state_dict(ours.up.state_dict())
        theirs.mlp.fc2.load_state_dict(ours.down.state_dict())
        x = patches(side)
        expected = theirs(x.view(1, side**2, C), (side, side))[0].view(side, side, C)
        torch.testing.assert_close(ours(x), expected, atol=1e-5, rtol=1e-5)


def test_a_merging_is_that_of_transformers() -> None:
    ours, theirs = started(Merging(C)), modeling_swin.SwinPatchMerging(C)
    theirs.reduction.load_state_dict(ours.reduce.state_dict())
    x = patches(6)
    torch.testing.assert_close(ours(x), theirs(x.view(1, 36, C), (6, 6)).view(3, 3, 2 * C), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("side", "window", "shift"), CASES[:-1])
def test_roll_and_mask_are_windows_that_the_edge_cuts(side: int, window: int, shift: int) -> None:
    block, x = started(Block(C, window, shift)), patches(side)
    number = [(at - shift) // window for at in range(side)]  # of the window along one axis; -1 is one that is cut
    q, k, v = block.qkv(x).unflatten(2, (3, HEADS, -1)).permute(2, 3, 0, 1, 4)  # (heads, side, side, d)
    for row, column in [(0, 0), (0, side - 1), (side // 2, 1), (side - 1, side - 1), (shift, shift)]:
        rows = [at for at in range(side) if number[at] == number[row]]
        columns = [at for at in range(side) if number[at] == number[column]]
        seen = [(r, c) for r in rows for c in columns]
        bias = torch.stack([block.table[row - r + window - 1, column - c + window - 1] for r, c in seen], dim=1)
        keys, values = (torch.stack([of[:, r, c] for r, c in seen], dim=1) for of in (k, v))  # (heads, n, d)
        scores = (keys @ q[:, row, column, :, None])[..., 0] / keys.shape[2] ** 0.5 + bias  # (heads, n)
        expected = block.out((scores.softmax(dim=1)[:, None] @ values).flatten())
        torch.testing.assert_close(block.attend(x)[0][row, column], expected, atol=1e-5, rtol=1e-5)


def test_windows_are_cut_row_by_row() -> None:
    x = torch.arange(36).view(6, 6, 1)
    windows = partition(x, 3)
    assert windows[1, :, 0].numpy().tolist() == [3, 4, 5, 9, 10, 11, 15, 16, 17]
    assert torch.equal(join(windows, 3, 6), x)


@pytest.mark.parametrize("window", [2, 4, 8])
def test_counted_operations_are_those_of_the_paper(window: int) -> None:
    for side in (8, 16, 32):  # a multiplication and an addition are one operation in the paper, two here
        assert count_flops(C, window, side) == 2 * (4 * side**2 * C**2 + 2 * window**2 * side**2 * C)  # eq. (2)
    assert count_flops(C, 16, 16) == 2 * (4 * 256 * C**2 + 2 * 256**2 * C)  # eq. (1): a window that holds all


def test_a_window_that_does_not_move_is_all_that_a_patch_knows() -> None:
    expected = torch.zeros(12, 12, dtype=torch.bool)
    expected[4:8, 4:8] = True
    still = torch.nn.Sequential(*(started(Block(C, 4, 0)) for _ in range(3)))
    assert torch.equal(reach(still, patches(12)), expected)


@pytest.mark.parametrize("params", [{"window": 5}, {"window": 8, "stages": 3, "image_size": 48}, {"shift": 4}])
def test_windows_that_do_not_fit_are_refused(params: dict[str, int]) -> None:
    with pytest.raises(ValidationError, match="window must divide"):
        Params.model_validate(params)
