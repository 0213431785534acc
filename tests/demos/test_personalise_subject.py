"""personalise-subject: the class drifts without the prior, and one word vector is all that inversion moves."""

import functools

import pytest
import torch

from demos.contract import Cell, Result, no_tick
from demos.shared.shapes import draw_shapes
from demos.shared.words_to_shapes import SIZE, WordUNet, tokenize, train_words
from demos.stable_diffusion.personalise_subject import (
    CLASS,
    SKS,
    SUBJECT,
    Params,
    draw_subject,
    dreambooth,
    invert,
    only,
    run,
    similarity,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng


@functools.cache
def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


@functools.cache
def untrained() -> WordUNet:
    return train_words(2, rng(), no_tick)[0]


def subject() -> tuple[torch.Tensor, list[str]]:
    return draw_subject(torch.tensor([0, 1]), torch.zeros(3, 2)), SUBJECT


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "personalise-subject")


def test_without_the_prior_nothing_keeps_the_class() -> None:
    outcome = result(base_steps=100, steps=20, **Params.presets["no prior"].values)
    assert "Prior preservation keeps the class" in failed(outcome)
    assert metric(outcome, "class_drift") == metric(outcome, "class_drift without the prior")


def test_inversion_changes_one_row_bit_by_bit() -> None:
    base = untrained()
    before = {name: value.clone() for name, value in base.state_dict().items()}
    model = invert(base, *subject(), steps=5, rng=rng(1), tick=no_tick)
    for name, value in model.state_dict().items():
        assert torch.equal(base.state_dict()[name], before[name])  # the base itself is not touched
        if name == "token.weight":
            changed = (value != before[name]).any(dim=1)
            assert changed.nonzero().flatten().numpy().tolist() == [SKS]
        else:
            assert torch.equal(value, before[name])


def test_dreambooth_trains_a_copy_and_the_prior_changes_what_it_learns() -> None:
    base = untrained()
    before = base.first.weight.clone()
    kind = draw_shapes(2, rng(), SIZE)[0], CLASS[:2]
    free, held = (dreambooth(base, subject(), kind, prior, 3, rng(1), no_tick) for prior in (0.0, 1.0))
    assert torch.equal(base.first.weight, before)
    assert not torch.equal(free.first.weight, held.first.weight)
    assert not torch.equal(free.first.weight, before)


def test_only_the_new_word_keeps_its_slope() -> None:
    slope = only(torch.ones(11, 4))
    assert slope.sum() == 4
    assert slope[SKS].sum() == 4


def test_the_subject_has_a_white_core_in_a_violet_rim_on_its_side() -> None:
    left, right = subject()[0]
    red, green, blue = ((left + 1) / 2).sum(dim=2)[:, 2]  # of the row of columns summed: light by colour
    assert blue > red > green
    torch.testing.assert_close(left, right.flip(2), atol=1e-6, rtol=0)
    assert left[:, :, 5:].max() == -1  # black on the other side


def test_similarity_is_one_for_the_subject_and_less_for_the_class() -> None:
    assert similarity(subject()[0]) == pytest.approx(1, abs=1e-5)
    red = draw_shapes(1, rng(), SIZE, torch.tensor([[0, 0, 0]]))[0]
    assert similarity(red) < 0.8
    assert similarity(red) < similarity(draw_shapes(1, rng(), SIZE, torch.tensor([[2, 0, 0]]))[0])  # blue is nearer


def test_captions_are_known_words() -> None:
    assert (tokenize(SUBJECT)[:, 0] == SKS).all()
    assert (tokenize(CLASS)[:, 0] != SKS).all()
