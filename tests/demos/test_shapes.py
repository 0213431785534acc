"""The drawn world: every picture is told right, also under noise, and looks as its caption says."""

import pytest
import torch

from demos.shared.shapes import CAPTIONS, LABELS, RGB, captions_of, draw_shapes, recognise, templates, to_rows
from tests.demos.outcomes import rng


@pytest.mark.parametrize("size", [8, 16])
def test_every_drawn_picture_is_recognised_also_under_noise(size: int) -> None:
    pictures, labels = draw_shapes(2_000, rng(), size)
    told, distance = recognise(pictures)
    assert torch.equal(told, labels)
    assert distance.max() < 0.25
    noisy = pictures + 0.4 * torch.randn(pictures.shape, generator=rng(1))
    assert (recognise(noisy)[0] == labels).all(dim=1).float().mean() > 0.95


def test_nothing_is_far_from_every_picture() -> None:
    _, distance = recognise(torch.zeros(1, 3, 16, 16))
    assert distance > 0.8


def test_captions_name_what_labels_count() -> None:
    assert len(set(CAPTIONS)) == len(LABELS) == 24
    assert CAPTIONS[0] == "red disc left"
    assert CAPTIONS[-1] == "yellow cross right"
    assert captions_of(LABELS) == CAPTIONS
    assert LABELS[-1].numpy().tolist() == [3, 2, 1]


def test_pictures_have_the_colour_the_side_and_the_shape_of_their_labels() -> None:
    pictures, labels = draw_shapes(24, rng(), 16, LABELS)
    ink = pictures.amax(dim=1) > 0  # (24, 16, 16)
    for picture, drawn, (colour, shape, side) in zip(pictures, ink, labels.numpy().tolist(), strict=True):
        assert torch.equal(picture.flatten(1).amax(dim=1) > 0, RGB[colour] > 0)
        y, x = torch.nonzero(drawn).float().mean(dim=0)
        assert (x > 7.5) == (side == 1)
        assert bool(drawn[int(y + 0.5), int(x + 0.5)]) == (shape != 1)  # a ring is empty in its middle
    of_shape = ink.view(4, 3, 2, -1).float().mean(dim=(0, 2, 3))  # share of the picture
    assert 0.5 > of_shape[0] > of_shape[1] > of_shape[2] > 0.03


def test_known_pictures_are_each_figure_at_each_place() -> None:
    pictures, labels = templates(16)
    assert len(pictures) == len(labels) == 24 * 63
    assert torch.equal(recognise(pictures)[0], labels)


def test_rows_are_colour_pictures_from_zero_to_one() -> None:
    rows = torch.tensor(to_rows(torch.tensor([-2.0, 0.0, 1.0]).view(1, 3, 1, 1).expand(2, 3, 4, 5)))
    assert rows.shape == (2, 4, 5, 3)
    assert rows[0, 0, 0].numpy().tolist() == [0.0, 0.5, 1.0]
