"""trilemma-2d: EM against scikit-learn, the flow against autograd, and what four passes do to diffusion."""

import functools
import importlib
from typing import Any

import pytest
import torch

from demos.contract import Cell, Result
from demos.fundamentals.trilemma_2d import (
    GRID,
    STD,
    Flow,
    Params,
    draw_data,
    expect_maximise,
    judge,
    log_normal,
    run,
    sample,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng

sklearn_mixture: Any = importlib.import_module("sklearn.mixture")  # untyped


@functools.cache
def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "trilemma-2d")
    (table,) = result().tables
    gives_up = {str(row[0]): row[-1] for row in table.rows}
    assert gives_up["VAE"] == gives_up["flow"] == "quality"
    assert gives_up["GAN"] == "coverage"
    assert gives_up["diffusion"] == "speed"


def test_four_passes_are_too_few() -> None:
    outcome = result(families="flow+diffusion", train_seconds=1.0, **Params.presets["hasty diffusion"].values)
    assert failed(outcome) == [
        "Diffusion pays with speed",
        "Diffusion holds the modes",
        "So does the flow",
    ]


def test_a_part_of_the_families_makes_only_its_own_claims_and_the_year_sorts_the_table() -> None:
    outcome = result(families="vae+gan", order="year", train_seconds=1.0)
    (table,) = outcome.tables
    assert [row[:2] for row in table.rows] == [["VAE", 2013], ["GAN", 2014]]
    assert not any("iffusion" in claim.statement for claim in outcome.claims)
    assert len(outcome.claims) == 3


def test_em_is_that_of_scikit_learn() -> None:
    x, start = draw_data(500, rng()), GRID[[0, 4, 12, 20]]
    share, mean, covariance = expect_maximise(x, start, rounds=400)
    theirs = sklearn_mixture.GaussianMixture(
        4,
        weights_init=[0.25] * 4,
        means_init=start.numpy(),
        precisions_init=x.T.cov().inverse().expand(4, 2, 2).numpy(),
        max_iter=400,
        tol=1e-8,
    ).fit(x.numpy())
    torch.testing.assert_close(share, torch.tensor(theirs.weights_).float(), atol=1e-3, rtol=0)
    torch.testing.assert_close(mean, torch.tensor(theirs.means_).float(), atol=1e-3, rtol=0)
    torch.testing.assert_close(covariance, torch.tensor(theirs.covariances_).float(), atol=1e-3, rtol=0)
    ours = (share.log() + log_normal(x, mean, covariance)).logsumexp(dim=1).mean().item()
    assert ours == pytest.approx(theirs.score(x.numpy()), abs=1e-3)


def test_the_flow_undoes_itself_and_knows_its_determinant() -> None:
    flow, x = Flow(rng()), draw_data(5, rng(1))
    z, log_det = flow.encode(x)
    torch.testing.assert_close(flow(z), x, atol=1e-5, rtol=0)
    few = x.clone().requires_grad_()
    rows = [torch.autograd.grad(column.sum(), few, retain_graph=True)[0] for column in flow.encode(few)[0].T]
    torch.testing.assert_close(torch.slogdet(torch.stack(rows, dim=1)).logabsdet, log_det)  # ∂z / ∂x, (N, 2, 2)


def test_the_judge_counts_planted_points() -> None:
    assert judge(GRID) == (1.0, 25)
    assert judge(GRID + 5 * STD) == (0.0, 25)  # beside the modes, yet in their cells
    assert judge(GRID[:5].repeat(20, 1)) == (1.0, 5)
    near, modes = judge(draw_data(2000, rng()))
    assert near > 0.99
    assert modes == 25


def test_passes_are_calls_of_the_network() -> None:
    network = torch.nn.Linear(2, 2)
    _, calls = sample(lambda n: network(network(torch.zeros(n, 2))), network)
    assert calls == 2


def test_a_flat_cloud_scores_what_the_metric_says() -> None:
    flat = 2 * torch.rand(50_000, 2, generator=rng()) - 1  # over the 25 cells of side 0.4
    expected = metric(result(), "near_mode_share of a flat cloud over the grid")
    assert judge(flat)[0] == pytest.approx(expected, abs=0.01)
