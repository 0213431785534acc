"""toy-summarization against rouge-score, worked examples, and a writer that cannot read."""

import importlib
from functools import cache
from typing import Any

import pytest
import torch

from demos.contract import Cell, Result
from demos.transformers.toy_summarization import ENTITIES, Params, compose, rouge_l, rouge_n, run
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng

rouge_scorer: Any = importlib.import_module("rouge_score.rouge_scorer")  # it has no types


@cache
def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    outcome = result()
    assert_claims_hold_as_listed(outcome, "toy-summarization")
    assert metric(outcome, "rouge") > metric(outcome, "rouge of the first sentence")


def test_without_the_report_names_are_made_up() -> None:
    outcome = result(read_report=False, steps=150)
    assert {claim.split(",")[0] for claim in failed(outcome)} == {
        "It beats the first sentence",
        "It invents nothing",
        "It tells the event's facts from the filler's",
    }


@pytest.mark.parametrize("seed", range(3))
def test_rouge_is_that_of_rouge_score(seed: int) -> None:
    dice = rng(seed)
    scorer = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL"])
    for _ in range(30):
        report = compose(3, dice)
        count = int(torch.randint(12, (), generator=dice))
        places: list[int] = torch.randint(len(report.words), (count,), generator=dice).numpy().tolist()
        output = [report.words[place] for place in places if report.words[place] != "."]
        theirs = scorer.score(" ".join(report.summary), " ".join(output))
        assert rouge_n(output, report.summary, 1) == pytest.approx(theirs["rouge1"].fmeasure, abs=1e-6)
        assert rouge_n(output, report.summary, 2) == pytest.approx(theirs["rouge2"].fmeasure, abs=1e-6)
        assert rouge_l(output, report.summary) == pytest.approx(theirs["rougeL"].fmeasure, abs=1e-6)


def test_rouge_worked_by_hand() -> None:
    reference, output = ["the", "storm", "closed", "two", "airports"], ["two", "airports", "closed", "by", "storm"]
    assert rouge_n(output, reference, 1) == pytest.approx(0.8)
    assert rouge_n(output, reference, 2) == pytest.approx(1 / 4)
    assert rouge_l(output, reference) == pytest.approx(2 / 5)
    assert rouge_l([], reference) == 0
    assert rouge_n(["two", "two"], ["two"], 1) == pytest.approx(2 / 3)


def test_a_report_holds_the_facts_of_its_summary_among_filler() -> None:
    dice = rng(1)
    for filler in (0, 3, 8):
        report = compose(filler, dice)
        event, _, place, _, day = report.summary
        sentences = [" ".join(sentence) for sentence in report.sentences]
        assert len(sentences) == 3 + filler
        assert max(len(sentence) for sentence in report.sentences) <= 6
        assert {f"there was a {event} .", f"it was in {place} .", f"it came on {day} ."} <= {*sentences}
        assert {event, place, day} <= ENTITIES
