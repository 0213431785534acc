"""Confident errors: the world and its text, calibration against scikit-learn, and what each preset changes."""

import importlib
from functools import cache
from typing import Any

import pytest
import torch

from demos.contract import Bars, Result
from demos.llms.hallucination_calibration import (
    CITIES,
    COMMON,
    FIRST,
    LAST,
    LIVES,
    PEOPLE,
    UNKNOWN,
    WORDS,
    YEARS,
    Facts,
    Params,
    ask,
    draw_world,
    mean,
    reliability,
    run,
    spell,
    write_text,
)
from demos.shared.transformer import Transformer
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng

sklearn_calibration: Any = importlib.import_module("sklearn.calibration")


@cache
def result(preset: str = "") -> Result:
    return run(Params.model_validate(Params.presets[preset].values if preset else {}))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "hallucination-calibration")
    by_year = result().figures[2]
    assert isinstance(by_year, Bars)
    assert min(by_year.series["right"][:3]) > 0.9  # changed in 2021, 2022, 2023: before the cutoff
    assert max(by_year.series["right"][3:]) < 0.1
    assert metric(result(), "two samples agree, common facts") > metric(result(), "two samples agree, unseen facts")


@pytest.mark.parametrize(
    ("preset", "broken"),
    [
        ("taught to say unknown", {"Strangers get an answer of the right form"}),
        ("nothing is common", {"Common facts are recalled", "Rare ones less"}),
        ("never silent", {"Silence below the threshold raises precision"}),
        (
            "up to date",
            {"What changed after the cutoff is answered as it was", "That is no cure for what is out of date"},
        ),
    ],
)
def test_each_preset_breaks_what_it_is_about(preset: str, broken: set[str]) -> None:
    assert {*failed(result(preset))} == broken


def test_the_text_has_each_fact_as_often_as_it_says_and_no_stranger() -> None:
    params = Params.model_validate({"frequency": 7})
    world = draw_world(params.frequency, rng())
    text = write_text(world, params)
    assert len(text) == PEOPLE * (0 + 1 + 2 + 7) + CITIES * COMMON
    for times, facts in world.people.values():
        for question, truth in zip(facts.questions[:10], facts.answers[:10], strict=True):
            asked = (text[:, :3] == question).all(dim=1)
            assert asked.sum() == times
            assert (text[asked, 3] == truth).all()
    named = torch.cat([facts.questions for _, facts in world.people.values()] + [world.nobody.questions])
    assert len({*map(spell, named.numpy().tolist())}) == 5 * PEOPLE  # nobody is in two groups
    assert not (text == UNKNOWN).any()
    taught = write_text(world, Params.model_validate({"idk_training": True}))
    assert (taught == UNKNOWN).sum() == PEOPLE * COMMON


@pytest.mark.parametrize("cutoff", [2020, 2023, 2026])
def test_the_text_knows_the_mayors_of_its_cutoff(cutoff: int) -> None:
    world = draw_world(5, rng())
    assert (world.old_mayors.answers != world.new_mayors.answers).all()
    assert {*world.changed.numpy().tolist()} == {*YEARS}
    told = write_text(world, Params.model_validate({"cutoff": cutoff}))
    for n in range(CITIES):
        lines = told[(told[:, :3] == world.new_mayors.questions[n]).all(dim=1)]
        now = world.new_mayors if world.changed[n] <= cutoff else world.old_mayors
        assert (lines[:, 3] == now.answers[n]).all()
        assert len(lines) == COMMON


def test_the_reliability_curve_is_scikit_learns() -> None:
    confidence = torch.rand(500, generator=rng(), dtype=torch.float64)
    right = torch.rand(500, generator=rng(1)) < confidence**2
    sure, share, error = reliability(confidence, right)
    expected_share, expected_sure = sklearn_calibration.calibration_curve(right.numpy(), confidence.numpy(), n_bins=5)
    assert sure == pytest.approx(list(expected_sure), abs=1e-9)
    assert share == pytest.approx(list(expected_share), abs=1e-6)
    place = (confidence * 5).long()
    by_hand = sum(abs(float(confidence[place == n].sum()) - float(right[place == n].sum())) / 500 for n in range(5))
    assert error == pytest.approx(by_hand, abs=1e-6)


def test_certain_and_right_is_calibrated() -> None:
    assert reliability(torch.ones(4), torch.ones(4, dtype=torch.bool)) == ([1.0], [1.0], 0.0)


def test_what_is_said_is_the_likeliest_word_with_its_probability() -> None:
    model = Transformer(WORDS, 4, 8, 1, 2, rng(), causal=True)
    facts = Facts(torch.tensor([[0, FIRST, LIVES], [1, FIRST + 1, LIVES]]), torch.tensor([5, 6]))
    said = ask(model, facts)
    p = torch.softmax(model(facts.questions)[:, 2], dim=-1)
    assert torch.equal(said.answers, p.argmax(dim=1))
    torch.testing.assert_close(said.confidence, p.gather(1, said.answers[:, None])[:, 0])
    drawn = torch.multinomial(p, 20_000, replacement=True, generator=rng(1))
    agree = (drawn[:, ::2] == drawn[:, 1::2]).float().mean(dim=1)
    torch.testing.assert_close(said.agreement, agree, atol=0.02, rtol=0)


def test_words_are_spelled_by_their_kind() -> None:
    assert spell([3, FIRST + 7, LIVES, FIRST + LAST + 12, UNKNOWN]) == "F3 L7 lives in C12 unknown"
    assert mean(torch.tensor([])) == 0
