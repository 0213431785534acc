"""cycle-domain-adaptation against sklearn's logistic regression, and what carries a classifier over."""

import importlib
from functools import cache
from typing import Any

import pytest
import torch

from demos.contract import Cell, Images, Result
from demos.gans.cycle_domain_adaptation import (
    INK,
    PAPER,
    PILE,
    Params,
    Target,
    accuracy,
    build_critic,
    build_translator,
    draw_in_target,
    fit_classifier,
    run,
    train,
)
from demos.shared.digits import load_digits
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng

LogisticRegression: Any = importlib.import_module("sklearn.linear_model").LogisticRegression  # untyped
GAIN = "Adaptation raises accuracy on the target"
LOOK = "Nobody showed it, and the translator finds the target's look"


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


@cache
def default() -> Result:
    return result()


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(default(), "cycle-domain-adaptation")


def test_without_critics_there_is_no_gain_and_no_look() -> None:
    assert {GAIN, LOOK} <= set(failed(result(steps=150, **Params.presets["no critics"].values)))


def test_without_the_cycle_loss_a_digit_does_not_come_back() -> None:
    assert failed(result(**Params.presets["no cycle loss"].values)) == ["Round trips return the digit"]


def test_noise_cannot_be_predicted() -> None:
    assert LOOK in failed(result(steps=150, **Params.presets["noisy"].values))


def test_another_kind_of_classifier_gains_too() -> None:
    params = Params.model_validate({"steps": 250})
    digits, labels = load_digits()
    order = torch.randperm(len(digits), generator=rng(1))
    source, target, test = order[:PILE], order[PILE : 2 * PILE], order[2 * PILE :]
    xs, ys = digits[source].expand(-1, 3, -1, -1), labels[source]
    G = train(params, xs, ys, draw_in_target(digits[target], params.target, rng()), rng(2)).G
    with torch.no_grad():
        translated = G(xs)
    unseen, truth = draw_in_target(digits[test], params.target, rng()).flatten(1).numpy(), labels[test].numpy()
    before, adapted = (
        LogisticRegression(max_iter=300).fit(x.flatten(1).numpy(), ys.numpy()).score(unseen, truth)
        for x in (xs, translated)
    )
    assert adapted > before + 0.1


@pytest.mark.parametrize("target", ["inverted", "tinted", "noisy"])
def test_a_target_shows_the_digit_in_its_look(target: Target) -> None:
    x = load_digits()[0][:20]
    y = draw_in_target(x, target, rng())
    assert y.shape == (20, 3, 8, 8)
    assert 0 <= y.min() <= y.max() <= 1
    blank, full = (draw_in_target(torch.full((1, 1, 8, 8), ink), target, rng())[0] for ink in (0.0, 1.0))
    expected = {"inverted": ((1.0,) * 3, (0.0,) * 3), "tinted": (PAPER, INK), "noisy": ((0.2,) * 3, (0.8,) * 3)}
    for picture, colour in zip((blank, full), expected[target], strict=True):
        torch.testing.assert_close(picture.mean(dim=(1, 2)), torch.tensor(colour), rtol=0, atol=0.06)


@torch.no_grad()
def test_the_translator_sees_three_pixels_around_and_the_critic_gives_one_score() -> None:
    G, x = build_translator(rng()), torch.rand(1, 3, 8, 8, generator=rng(1))
    touched = x.clone()
    touched[..., 0, 0] = 1 - touched[..., 0, 0]
    changed = (G(touched) != G(x)).any(dim=1)[0].nonzero()
    assert changed.max() <= 3
    assert build_critic(rng())(x).shape == (1, 1)


def test_accuracy_counts_and_a_classifier_reads_what_it_was_shown() -> None:
    digits, labels = load_digits()
    x = digits[:400].expand(-1, 3, -1, -1)
    assert accuracy(fit_classifier(x, labels[:400], rng()), x, labels[:400]) > 0.97


def test_the_shown_digits_are_one_of_each_class() -> None:
    outcome = default()
    rows = outcome.figures[0]
    assert isinstance(rows, Images)
    assert (len(rows.pixels), len(rows.pixels[0])) == (4, 10)
    assert metric(outcome, "L1 of digit and hidden counterpart") > 0.3
