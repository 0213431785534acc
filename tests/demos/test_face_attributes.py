"""face-attributes: drawings against what their names say, and what the critic must see."""

import importlib
from functools import cache
from typing import Any

import pytest
import torch

from demos.contract import Cell, Images, Result, no_tick
from demos.gans.face_attributes import Faces, Generator, Params, draw_bits, fit_judge, partner, run, train
from demos.shared.faces import ATTRIBUTES, Domain, draw, to_row
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng

DOMAINS: tuple[Domain, ...] = ("faces", "cats", "cars", "rooms")


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


@cache
def default() -> Result:
    return result()


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(default(), "face-attributes")


def test_figures_show_each_attribute_switched() -> None:
    edit = default().figures[0]
    assert isinstance(edit, Images)
    assert [len(row) for row in edit.pixels] == [9, 9]
    assert edit.column_labels == ["as it was", *ATTRIBUTES["faces"]]
    drawn = edit.pixels[0]
    assert all(picture != drawn[0] for picture in drawn[1:])
    new_eyes = torch.tensor(drawn[6]) != torch.tensor(drawn[0])  # (16, 16, 3): all else, place too, stays
    assert 0 < new_eyes.any(dim=2).sum() < 30


def test_a_critic_that_is_not_told_lets_attributes_be_ignored() -> None:
    broken = result(steps=200, size=1000, **Params.presets["critic not told"].values)
    assert {
        "Asked attributes are recognised in the samples",
        "Switching one changes the pixels where it is drawn more than the rest",
    } <= set(failed(broken))
    assert metric(broken, "attribute_accuracy") < 0.7


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_drawing_changes_where_its_attribute_is_and_a_logistic_regression_reads_it(domain: Domain) -> None:
    # the reference: scikit-learn's linear model, trained on other drawings, tells each attribute from the pixels
    linear: Any = importlib.import_module("sklearn.linear_model")
    bits = (torch.rand(900, 8, generator=rng()) < 0.5).float()
    x = draw(domain, bits, rng(1))
    assert x.shape == (900, 3, 16, 16)
    assert x.abs().max() <= 1
    rows = x.flatten(1).numpy()
    for n in range(8):
        model: Any = linear.RidgeClassifier().fit(rows[:600], bits[:600, n].numpy())
        assert model.score(rows[600:], bits[600:, n].numpy()) > 0.93


def test_glasses_are_dark_around_the_eyes_and_nowhere_else() -> None:
    plain = torch.zeros(1, 8)
    glasses = plain.clone()
    glasses[0, 0] = 1
    without, with_them = (draw("faces", bits, rng(), 32)[0].mean(dim=0) for bits in (plain, glasses))
    rows = (without != with_them).any(dim=1).nonzero()
    assert 10 <= rows.min() <= rows.max() <= 22
    assert (with_them - without).min() < -1


def faces(domain: Domain, n: int, size: int, seed: int) -> Faces:
    bits = draw_bits(n, 0, 0.0, False, rng(seed))
    return Faces(draw(domain, bits, rng(seed), size).flatten(1), bits)


def test_a_judge_reads_fresh_drawings() -> None:
    judge, fresh = fit_judge(faces("faces", 1000, 16, seed=1), rng()), faces("faces", 1000, 16, seed=2)
    assert ((judge(fresh.x) > 0) == fresh.bits.bool()).float().mean() > 0.97


def test_bits_have_the_shares_asked_for_and_never_the_missing_pair() -> None:
    bits = draw_bits(20_000, 0, 0.8, True, rng())
    assert bits[:, 0].mean().item() == pytest.approx(0.1, abs=0.01)
    assert not bits[:, [0, 4]].all(dim=1).any()
    whole = draw_bits(20_000, 4, 0.0, False, rng())
    assert whole.mean(dim=0).numpy() == pytest.approx(0.5, abs=0.02)
    assert whole[:, [0, 4]].all(dim=1).float().mean().item() == pytest.approx(0.25, abs=0.02)
    assert (partner(0), partner(4), partner(7)) == (4, 0, 4)


def test_a_generator_that_is_not_told_gives_no_weight_to_attributes() -> None:
    rooms = faces("rooms", 200, 8, seed=1)
    before = next(Generator(rooms.x.shape[1], rng(5)).parameters())  # (256, 24), the last 8 columns for attributes
    after = next(train(rooms, 20, told=False, critic_sees=True, rng=rng(5), report=no_tick).parameters())
    torch.testing.assert_close(after[:, 16:], before[:, 16:])  # their inputs were 0: no gradient
    assert (after[:, :16] - before[:, :16]).abs().max() > 1e-4


def test_rows_are_pictures_with_their_channels_last() -> None:
    picture = torch.full((1, 3, 8, 8), -1.0)
    picture[0, 2, 1, 5] = 1.0
    assert to_row(picture.flatten(1), 8)[0][1][5] == [0.0, 0.0, 1.0]
    assert to_row(picture, 8)[0][5][1] == [0.0, 0.0, 0.0]


def test_a_seed_repeats_the_run() -> None:
    small = {"steps": 100, "size": 300, "resolution": 8, "domain": "rooms", "attribute": "mouth", "skew": 0.5}
    assert result(**small) == result(**small)
