"""gan-layer-workshop against torch's own layers, and the settings that leave a checkerboard."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from demos.contract import Cell, Result
from demos.gans.gan_layer_workshop import (
    Params,
    conv_matrix,
    conv_size,
    normalise,
    overlap,
    resize_matrix,
    run,
    shuffle,
    up_size,
    upsample,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, failed


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


UNEVEN = "The chosen layer writes equally often to all inner pixels"


def test_every_claim_holds_at_the_defaults() -> None:
    outcome = result()
    assert_claims_hold_as_listed(outcome, "gan-layer-workshop")
    assert [list(row[1:4]) for row in outcome.tables[0].rows] == [
        [512, 256, 256], [256, 128, 128], [128, 64, 64], [64, 128, 128], [128, 256, 256], [256, 512, 512]
    ]  # fmt: skip


@pytest.mark.parametrize(("k", "s", "p"), [(4, 2, 1), (3, 2, 1), (3, 1, 1), (7, 4, 3), (1, 3, 0), (2, 3, 0)])
def test_the_matrix_and_its_transpose_are_torchs_layers(k: int, s: int, p: int) -> None:
    w, y = draw(k, k), draw(5, 5, seed=1)
    ours = upsample("transposed", y, w[None], s, p)
    theirs = F.conv_transpose2d(y[None, None], w[None, None], stride=s, padding=p)[0, 0]
    torch.testing.assert_close(ours, theirs)
    n = up_size(5, k, s, p)
    assert conv_size(n, k, s, p) == 5  # the way back
    x = draw(n, n, seed=2)
    down = F.conv2d(x[None, None], w[None, None], stride=s, padding=p)
    torch.testing.assert_close(conv_matrix(w, n, s, p) @ x.flatten(), down.flatten())


@pytest.mark.parametrize("s", [1, 2, 3, 4])
def test_resizing_and_shuffling_are_torchs(s: int) -> None:
    x = draw(5, 5)
    for mode in ("nearest", "bilinear"):
        theirs = F.interpolate(x[None, None], scale_factor=s, mode=mode)
        torch.testing.assert_close(resize_matrix(5, s, mode) @ x.flatten(), theirs.flatten())
    maps = draw(s * s, 5, 5)
    torch.testing.assert_close(shuffle(maps, s), F.pixel_shuffle(maps[None], s)[0, 0])


def test_normalisation_is_torchs() -> None:
    x = 3 * draw(4, 3, 7, 7) + 2
    torch.testing.assert_close(normalise(x, (0, 2, 3)), nn.BatchNorm2d(3, affine=False).double()(x))
    torch.testing.assert_close(normalise(x, (2, 3)), nn.InstanceNorm2d(3)(x))


def test_kernel_3_at_stride_2_writes_one_two_and_four_times() -> None:
    count = overlap("transposed", 6, 3, 2, 0)[2:-2, 2:-2]
    assert count[:2, :2].numpy().tolist() == [[4, 2], [2, 1]]
    assert torch.equal(overlap("transposed", 6, 4, 2, 0)[3:-3, 3:-3], torch.full((8, 8), 4.0).double())


def test_uneven_overlap_comes_with_the_kernel_and_goes_with_the_resize() -> None:
    assert failed(result(**Params.presets["checkerboard"].values)) == [UNEVEN]
    assert failed(result(**Params.presets["holes"].values)) == [UNEVEN]
    assert failed(result(**Params.presets["resize, then convolve"].values)) == []
    by_name = {metric.name: metric.value for metric in result(up="pixelshuffle").metrics}
    assert by_name["unevenness of the overlap"] == 0  # even, and yet each phase has weights of its own
    assert by_name["pattern that untrained weights make of a flat map"] > 0.5


@pytest.mark.parametrize("params", [(7, 4, 3, "transposed"), (1, 1, 3, "transposed"), (7, 1, 0, "bilinear"),
                                    (1, 4, 3, "nearest"), (6, 3, 2, "pixelshuffle")])  # fmt: skip
def test_the_corners_of_the_ranges_run_and_keep_the_identities(params: tuple[int, int, int, str]) -> None:
    kernel, stride, padding, up = params
    assert set(failed(result(kernel=kernel, stride=stride, padding=padding, up=up))) <= {UNEVEN}
