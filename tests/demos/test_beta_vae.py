"""beta-vae against torch.distributions and pictures drawn pixel by pixel, and what is left when units are too few."""

import pytest
import torch
import torch.nn.functional as F
from torch.distributions import Bernoulli, Normal, kl_divergence

from demos.contract import Cell, Images, no_tick
from demos.registry import find_demo
from demos.vaes.beta_vae import VAE, Params, Trained, draw_shapes, explained, nll, run, train, traversals, unit_kl
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, rng


def test_every_claim_holds_at_the_defaults() -> None:
    outcome = run(Params.model_validate({}))
    assert_claims_hold_as_listed(outcome, "beta-vae")
    bought = outcome.tables[0].rows
    assert [row[0] for row in bought] == [0.1, 1.0, 4.0, 16.0]
    assert sum(row[0] == 1.0 for row in outcome.tables[1].rows) == bought[1][5]  # one row for each active unit


def test_the_two_terms_are_those_of_torch() -> None:
    mu, logvar = torch.randn(2, 50, 6, generator=rng(), dtype=torch.float64)
    exact = kl_divergence(Normal(mu, (0.5 * logvar).exp()), Normal(0.0, 1.0))
    torch.testing.assert_close(unit_kl(mu, logvar), exact, rtol=0, atol=1e-12)
    x, logits = (torch.rand(9, 256, generator=rng(1)) > 0.5).float(), torch.randn(9, 256, generator=rng(2))
    expected = -Bernoulli(logits=logits).log_prob(x).sum(dim=1)
    torch.testing.assert_close(nll(x, logits), expected, rtol=1e-5, atol=0)


def test_a_shape_covers_the_area_and_has_the_centre_that_its_factors_say() -> None:
    pictures, factors = draw_shapes(3_000, rng())
    x, y, size, square = factors.T
    assert 0.4 < square.mean() < 0.6
    assert set(square.numpy().tolist()) == {0.0, 1.0}
    area = pictures.sum(dim=1)
    torch.testing.assert_close(area, torch.pi * size**2, rtol=0.1, atol=0)  # discs and squares alike
    at = (torch.arange(16) + 0.5).repeat(16, 1)
    for axis, place in ((at.flatten(), x), (at.T.flatten(), y)):
        assert ((pictures @ axis) / area - place).abs().max() < 0.1
    filled = F.max_pool2d(pictures.view(-1, 1, 16, 16), 16)
    assert filled.min() == filled.max() == 1  # every shape has a black heart


def test_explained_finds_the_planted_factor_and_nothing_in_noise() -> None:
    _, factors = draw_shapes(4_000, rng())
    noise = torch.randn(4_000, generator=rng(1))
    share = explained(torch.stack([-3 * factors[:, 1] + 5, noise, torch.zeros(4_000)], dim=1), factors)
    assert share.shape == (3, 4)
    assert share[0, 1] == pytest.approx(1, abs=1e-6)
    assert share[[0, 1, 2]][:, [0, 2, 3]].max() < 0.01


def test_a_traversal_moves_one_unit_and_starts_from_the_picture() -> None:
    vae, (x, _) = VAE(3, rng()), draw_shapes(5, rng(1))
    with torch.no_grad():
        mu, logvar = vae.encode(x)
        model = Trained(1.0, vae, mu, torch.tensor([[0.1, 3.0, 2.0]]).expand(5, 3), 0.0, 0.0)
        z = mu[4].clone()
        z[1] = -2
        expected = vae.decode(z).sigmoid().view(16, 16)
    grid = traversals(model, 4)
    assert list(grid.row_labels) == ["z1, 3.0 nats", "z2, 2.0 nats", "z0, 0.1 nats"]
    torch.testing.assert_close(torch.tensor(grid.pixels[0][0]), expected)
    assert (logvar.shape, len(grid.pixels[0])) == ((5, 3), 9)


def test_without_weight_the_kl_runs_away_and_with_much_it_goes_to_zero() -> None:
    params = Params.model_validate({"steps": 150})
    x, _ = draw_shapes(500, rng(9))
    free, held = (train(beta, params, x, no_tick) for beta in (0.0, 16.0))
    assert free.rate > 20
    assert held.rate < 0.5
    assert held.active == 0
    assert free.distortion < held.distortion


def test_before_it_has_converged_a_weight_does_not_get_its_moneys_worth() -> None:
    outcome = run(Params.model_validate(Params.presets["barely trained"].values))
    assert "Only beta = 1 is the ELBO" in failed(outcome)
    assert "A nat of KL saved costs as many nats of reconstruction as lie between the two weights" in failed(outcome)


def test_the_extremes_train_two_weights_and_claim_nothing_of_the_third() -> None:
    values: dict[str, Cell] = dict(Params.presets["extremes"].values) | {"steps": 200}
    outcome = run(Params.model_validate(values))
    assert not [claim for claim in outcome.claims if claim.statement.startswith("Only beta = 1")]
    assert len(outcome.claims) == len(find_demo("beta-vae").claims) - 1
    assert [figure.title for figure in outcome.figures if isinstance(figure, Images)][1:3] == [
        "One unit moved at a time, beta = 0.1",
        "One unit moved at a time, beta = 16",
    ]
