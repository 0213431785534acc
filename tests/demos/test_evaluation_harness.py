import importlib
import math
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from demos.contract import Bars, Lines, Result
from demos.llms.evaluation_harness import (
    GAMES,
    SIZES,
    VOCABULARY,
    Params,
    Reader,
    answer_steps,
    answers,
    battles,
    chosen_right,
    exact,
    interval,
    lines,
    log_likelihood,
    pass_at_k,
    perplexity,
    prompts,
    ratings,
    run,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, metric, rng

linear: Any = importlib.import_module("sklearn.linear_model")  # untyped
metrics: Any = importlib.import_module("sklearn.metrics")


@cache
def result(**params: str | int | bool) -> Result:
    return run(Params.model_validate(params))


def text(tokens: torch.Tensor) -> str:
    return "".join(VOCABULARY[token] for token in tokens.numpy().tolist())


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "evaluation-harness")
    board = result().tables[0]
    assert len(board.rows) == 5 * len(SIZES)
    for _, _, score, span in board.rows:
        low, high = map(float, str(span).split(" to "))
        assert low - 0.0006 <= float(score) <= high + 0.0006


def test_contamination_lifts_the_leaderboard_and_one_suite_can_be_shown_alone() -> None:
    leaked = result(contaminated=True, suite="math")
    assert metric(leaked, "exact match, large") > metric(result(), "exact match, large") + 0.1
    assert {row[0] for row in leaked.tables[0].rows} == {"math"}
    assert [type(figure) for figure in leaked.figures] == [Bars]


def test_more_tries_never_pass_less() -> None:
    (figure,) = (figure for figure in result().figures if isinstance(figure, Lines))
    for curve in figure.series.values():
        assert np.all(np.diff(curve) >= -1e-12)
    assert pass_at_k(3, 10, 1) == pytest.approx(0.3)  # one try is the mean
    assert pass_at_k(0, 10, 10) == 0
    assert pass_at_k(1, 10, 10) == 1


def test_a_prompt_reads_as_it_should() -> None:
    pairs, letters = torch.tensor([[17, 25], [3, 4]]), torch.tensor([0, 1])
    assert [text(row) for row in lines(pairs[:, 0], pairs[:, 1], letters)] == ["17+25=42;", "03+04=ah;"]
    shown = prompts(pairs, letters, 1, torch.tensor([[10, 12]]), rng())
    assert [text(row) for row in shown] == ["         10+12=22;17+25=42;", "         10+12=cc;03+04=ah;"]
    none, eight = (prompts(pairs, letters, shots, torch.tensor([[10, 12]]), rng()) for shots in (0, 8))
    assert text(none[0]) == " " * 18 + "17+25=42;"
    assert text(eight[1]) == "10+12=cc;" * 2 + "03+04=ah;"
    (first, tens), (second, units) = answer_steps(shown)
    assert [text(first[0]), text(second[0])] == ["         10+12=22;17+25="[-24:], "        10+12=22;17+25=4"]
    assert text(torch.stack([tens[0], units[0]])) == "42"


def test_perplexity_is_that_of_the_log_loss() -> None:
    model = Reader(8, rng())
    pairs = torch.randint(50, (40, 2), generator=rng(1))
    shown = prompts(pairs, torch.arange(40) % 2, 2, pairs, rng(2))
    steps = answer_steps(shown)
    p = torch.cat([model(before).softmax(1).detach() for before, _ in steps]).double()
    labels = torch.cat([digit for _, digit in steps])
    loss: float = metrics.log_loss(
        labels.numpy(), (p / p.sum(1, keepdim=True)).numpy(), labels=np.arange(len(VOCABULARY))
    )
    assert perplexity(log_likelihood(model, shown), 80) == pytest.approx(math.exp(loss), rel=1e-5)


class Oracle(torch.nn.Module):
    """Adds up what stands before, and writes in the alphabet of the example that it sees."""

    def forward(self, before: torch.Tensor) -> torch.Tensor:
        logits = torch.zeros(len(before), len(VOCABULARY))
        for row, tokens in enumerate(before):
            *examples, asked = text(tokens).split(";")
            a, b = asked.split("=")[0].split("+")
            tens, units = divmod(int(a) + int(b), 10)
            shift = 10 if examples and examples[-1][-1].isalpha() else 0
            logits[row, (tens if asked.endswith("=") else units) + shift] = 9.0
        return logits


def test_who_adds_up_right_gets_full_marks_where_the_alphabet_is_shown() -> None:
    pairs = torch.randint(50, (60, 2), generator=rng())
    alphabet = torch.arange(60) % 2
    for shots, right in ((1, 1.0), (0, 0.5)):
        shown = prompts(pairs, alphabet, shots, pairs, rng(1))
        assert exact(answers(Oracle(), shown), shown).mean().item() == right
    shown = prompts(pairs, alphabet, 1, pairs, rng(1))
    assert chosen_right(Oracle(), pairs, alphabet, shown).mean().item() == 1
    before = shown.clone()
    answers(Oracle(), shown)
    assert torch.equal(before, shown)  # the prompt is not written over


def test_ratings_are_those_of_a_logistic_regression() -> None:
    first, second, won, longer = battles(rng(5))
    design = np.eye(5)[first.numpy()] - np.eye(5)[second.numpy()]
    for features, columns in ((None, design), (longer, np.column_stack([design, longer.numpy()]))):
        reference = linear.LogisticRegression(C=1e9, fit_intercept=False, max_iter=1000).fit(columns, won.numpy())
        expected = reference.coef_[0][:5] - reference.coef_[0][:5].mean()
        np.testing.assert_allclose(ratings(first, second, won, features).numpy(), expected, atol=1e-2)
    assert len(first) == GAMES
    assert bool((first != second).all())


def test_an_interval_covers_the_mean_about_as_often_as_it_says() -> None:
    drawn = rng(3)
    hits = 0
    for _ in range(200):
        mean, low, high = interval((torch.rand(80, generator=drawn) < 0.7).float(), drawn)
        assert low <= mean <= high
        hits += low <= 0.7 <= high
    assert 178 <= hits <= 198
