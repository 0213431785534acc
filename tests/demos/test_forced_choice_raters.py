"""forced-choice-raters against scipy's binomial tests, and what attention, time and differing raters change."""

import math

import numpy as np
import pytest
import scipy.stats
import torch

from demos.contract import Cell, Lines, Result
from demos.gans.forced_choice_raters import SIGMA, Crowd, Params, exact_interval, fooled, rater_interval, run, tails
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "forced-choice-raters")


@pytest.mark.parametrize(("k", "n"), [(0, 40), (1, 40), (13, 40), (268, 1_000), (40, 40)])
def test_the_exact_interval_is_that_of_scipy(k: int, n: int) -> None:
    reference = scipy.stats.binomtest(k, n).proportion_ci(confidence_level=0.95, method="exact")
    low, high = exact_interval(k, n)
    assert low == pytest.approx(float(reference.low), abs=1e-9)
    assert high == pytest.approx(float(reference.high), abs=1e-9)


@pytest.mark.parametrize("p", [0.0, 0.03, 0.5, 1.0])
def test_tails_are_those_of_the_binomial_law(p: float) -> None:
    below, above = tails(25, p)
    for k in range(26):
        assert below[k].item() == pytest.approx(float(scipy.stats.binom.cdf(k, 25, p)), abs=1e-12)
        assert above[k].item() == pytest.approx(float(scipy.stats.binom.sf(k - 1, 25, p)), abs=1e-12)


def test_a_rater_follows_the_psychometric_curve_and_lapses_pull_to_one_half() -> None:
    crowd = Crowd(sharpness=torch.tensor([1.0, 2.0, 1.0]).double(), lapse=torch.tensor([0.0, 0.0, 1.0]).double())
    real, fake = torch.tensor([3.0]), torch.tensor([1.0])
    d = -2 / (SIGMA * math.sqrt(2))
    expected = [float(scipy.stats.norm.cdf(a * d)) for a in (1, 2)] + [0.5]
    torch.testing.assert_close(fooled(real, fake, crowd, 1.0), torch.tensor(expected).double(), rtol=1e-6, atol=0)
    longer = fooled(real, fake, crowd, 4.0)  # four times the time, half the noise: as sharp as the second rater
    assert longer[0].item() == pytest.approx(expected[1], rel=1e-6)
    assert longer[2] == 0.5


def test_the_interval_over_raters_is_scipys_bootstrap() -> None:
    shares = torch.rand(25, generator=rng())
    low, high = (end.item() for end in rater_interval(shares[None], rng(1)))
    reference = scipy.stats.bootstrap(
        (shares.numpy(),), np.mean, method="percentile", n_resamples=4_000, rng=2
    ).confidence_interval
    width = float(reference.high - reference.low)
    assert low == pytest.approx(float(reference.low), abs=0.1 * width)
    assert high == pytest.approx(float(reference.high), abs=0.1 * width)


def test_the_exact_interval_keeps_its_promise_once_raters_are_alike() -> None:
    outcome = result(**Params.presets["raters alike"].values)
    assert failed(outcome) == ["The exact interval takes votes for independent"]
    assert outcome.claims[6].measured > 0.93


def test_careless_raters_make_fakes_look_better_and_the_checks_find_them() -> None:
    outcome, careful = result(**Params.presets["careless raters"].values), result()
    assert "Fakes as bad as can be are seen" in failed(outcome)
    assert metric(outcome, "fooling_rate") > metric(careful, "fooling_rate") + 0.05
    rows = outcome.tables[0].rows
    guessing = [row for row in rows if row[2] == 1.0]
    assert sum(row[5] is True for row in guessing) <= len(guessing) / 4
    assert sum(row[5] is True for row in rows) >= len(rows) / 4


def test_a_glance_is_easier_to_fool_and_close_generators_need_more_raters() -> None:
    glance = result(**Params.presets["glance"].values)
    assert metric(glance, "fooling rate of the whole crowd") > 0.2
    close, needed = result(**Params.presets["close generators"].values), "raters needed to tell 0.1 more corruption"
    assert metric(close, needed) >= 3
    curves = close.figures[1]
    assert isinstance(curves, Lines)
    lower, upper, other_lower, other_upper = curves.series.values()
    assert upper[0] - lower[0] > upper[-1] - lower[-1] > 0  # more votes, shorter interval
    assert lower[-1] > other_lower[-1]
    assert other_upper[-1] > other_lower[-1]
