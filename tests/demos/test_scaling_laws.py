"""Scaling laws on a toy language: exact losses, the fitted power, and the published optimum."""

from functools import cache

import pytest
import torch
from scipy.optimize import minimize_scalar
from torch import nn

from demos.contract import Result
from demos.language_models.scaling_laws import (
    ALPHA,
    BETA,
    WORDS,
    A,
    B,
    E,
    Params,
    compute_optimal,
    draw_text,
    encode,
    entropy,
    make_source,
    power_law,
    run,
    true_loss,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, rng


@cache
def result() -> Result:
    return run(Params.model_validate({}))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "scaling-laws")


def test_too_little_of_one_leaves_nothing_to_gain_from_the_other() -> None:
    little_text = run(Params.model_validate(Params.presets["too little text"].values))
    assert failed(little_text) == ["A larger model is better"]
    small = run(Params.model_validate(Params.presets["too small a model"].values))
    assert failed(small) == ["More text is better"]


@pytest.mark.parametrize("exponent", [0.076, 0.34, 0.5, 1.0])
def test_the_exponent_of_a_known_power_is_found(exponent: float) -> None:
    sizes = [10.0, 100.0, 3000.0, 50_000.0]
    found, straight = power_law(sizes, [3.0 * size**-exponent for size in sizes])
    assert found == pytest.approx(exponent, abs=1e-9)
    assert straight == pytest.approx(1.0)


def test_a_bent_line_is_told_from_a_straight_one() -> None:
    sizes = [10.0, 100.0, 1000.0, 10_000.0]
    assert power_law(sizes, [1.0, 0.9, 0.5, 0.01])[1] < 0.9


@pytest.mark.parametrize("flops", [1e20, 5.76e23, 1e26])
def test_the_optimum_is_where_scipy_finds_the_least_loss(flops: float) -> None:
    def loss(log_n: float) -> float:
        n = 10.0**log_n
        return E + A / n**ALPHA + B / (flops / 6 / n) ** BETA

    n, d = compute_optimal(flops)
    assert 6 * n * d == pytest.approx(flops)
    found = minimize_scalar(loss, bounds=(5, 16), method="bounded", options={"xatol": 1e-8})
    assert n == pytest.approx(10.0 ** float(found.x), rel=1e-3)


def test_a_model_that_knows_the_source_loses_its_entropy_and_one_that_guesses_loses_log_40() -> None:
    p, often = make_source(rng())
    table = p.flatten(0, 1).log().float()  # one row a pair

    class Knows(nn.Module):
        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            first, second = rows.view(-1, 2, WORDS).argmax(dim=2).T
            return table[first * WORDS + second]

    class Guesses(nn.Module):
        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return torch.zeros(len(rows), WORDS)

    assert true_loss(Knows(), p, often) == pytest.approx(entropy(p, often), abs=1e-6)
    assert true_loss(Guesses(), p, often) == pytest.approx(torch.tensor(float(WORDS)).log().item(), abs=1e-6)


def test_the_frequencies_of_pairs_are_those_of_the_text() -> None:
    p, often = make_source(rng())
    torch.testing.assert_close(torch.einsum("ab,abc->bc", often, p), often, atol=1e-9, rtol=0)
    assert often.sum().item() == pytest.approx(1)
    text = draw_text(p, often, 200_000, rng())
    assert text.shape == (200_000, 3)
    counted = torch.zeros(WORDS * WORDS).index_add_(0, text[:, 0] * WORDS + text[:, 1], torch.ones(len(text)))
    assert (counted / len(text) - often.flatten()).abs().sum().item() < 0.1  # total variation: noise of 1,600 cells


def test_pairs_are_encoded_in_their_order() -> None:
    rows = encode(torch.tensor([[3, 7]]))
    assert rows.shape == (1, 2 * WORDS)
    assert rows[0].nonzero()[:, 0].numpy().tolist() == [3, WORDS + 7]
