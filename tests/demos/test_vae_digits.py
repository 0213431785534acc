"""vae-digits against torch.distributions and mse_loss, and its failures where the KL term is off or overdone."""

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from demos.contract import Cancelled, Cell, Images, Lines, Result
from demos.vaes.vae_digits import SIGMA, VAE, Params, loss_terms, reparameterise, run
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, rng


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "vae-digits")


def test_the_two_terms_are_those_of_torch() -> None:
    x, x_mean = torch.rand(7, 1, 8, 8, generator=rng()), torch.rand(7, 1, 8, 8, generator=rng(1))
    mu, logvar = torch.randn(7, 5, generator=rng(2)), torch.randn(7, 5, generator=rng(3))
    reconstruction, kl = loss_terms(x, x_mean, mu, logvar)
    squares = torch.nn.functional.mse_loss(x_mean, x, reduction="sum")
    torch.testing.assert_close(reconstruction, squares / (2 * SIGMA**2) / 7, rtol=1e-6, atol=0)
    constant = -64 * Normal(0.0, SIGMA).log_prob(torch.tensor(0.0))
    nll = -Normal(x_mean, SIGMA).log_prob(x).sum() / 7
    torch.testing.assert_close(reconstruction + constant, nll, rtol=1e-5, atol=0)
    exact = kl_divergence(Normal(mu, (0.5 * logvar).exp()), Normal(0.0, 1.0)).sum() / 7
    torch.testing.assert_close(kl, exact, rtol=1e-6, atol=0)


def test_a_draw_has_the_mean_and_deviation_of_the_posterior_and_passes_gradients() -> None:
    mu = torch.tensor([[1.0, -2.0]]).repeat(40_000, 1).requires_grad_()
    logvar = torch.tensor([[0.0, -3.0]]).repeat(40_000, 1).requires_grad_()
    z = reparameterise(mu, logvar, rng())
    torch.testing.assert_close(z.mean(dim=0), torch.tensor([1.0, -2.0]), rtol=0, atol=0.03)
    torch.testing.assert_close(z.std(dim=0), torch.tensor([1.0, math.exp(-1.5)]), rtol=0.02, atol=0)
    torch.autograd.backward(z.sum())
    assert mu.grad is not None
    assert logvar.grad is not None
    assert (mu.grad == 1).all()
    assert logvar.grad.abs().min() > 0


@pytest.mark.parametrize("latent_dim", [1, 8, 32])
def test_encoder_and_decoder_are_mirror_images(latent_dim: int) -> None:
    vae = VAE(latent_dim, rng())
    mu, logvar = vae.encode(torch.rand(3, 1, 8, 8, generator=rng()))
    assert mu.shape == logvar.shape == (3, latent_dim)
    x_mean = vae.decode(mu)
    assert x_mean.shape == (3, 1, 8, 8)
    assert 0 <= x_mean.min() <= x_mean.max() <= 1


def test_the_view_decides_which_figure_leads_and_nothing_else() -> None:
    views = ["reconstruct", "sample", "encode", "loss"]
    results = [result(view=view, steps=100, latent_dim=2) for view in views]
    assert [outcome.figures[0].kind for outcome in results] == ["images", "images", "scatter", "lines"]
    assert len({outcome.figures[0].title for outcome in results}) == 4
    numbers = [[m.value for m in outcome.metrics] + [c.measured for c in outcome.claims] for outcome in results]
    assert all(numbers[0] == other for other in numbers)  # four runs of one seed: the same figures, bit for bit
    assert all(sorted(o.figures, key=str) == sorted(results[0].figures, key=str) for o in results)


def test_another_seed_draws_another_run() -> None:
    first, second = (result(seed=seed, steps=100).metrics[0].value for seed in (0, 1))
    assert first != second


def test_figures_hold_what_they_name() -> None:
    outcome = result(view="loss", steps=200)
    curves, pairs = outcome.figures[0], outcome.figures[1]
    assert isinstance(curves, Lines)
    assert isinstance(pairs, Images)
    assert curves.at[-1] == 200
    for reconstruction, kl, loss in zip(*curves.series.values(), strict=True):
        assert loss == pytest.approx(reconstruction + kl, rel=1e-5)
    shape = torch.tensor(pairs.pixels).shape
    assert shape == (2, 10, 8, 8)
    rows = outcome.tables[0].rows
    assert rows[0][2] == rows[-1][2] == "1x8x8"
    assert ["latent", "mu + sigma * epsilon", "8"] in [list(row) for row in rows]


def test_without_the_kl_term_codes_leave_the_prior_and_its_draws_are_no_digits() -> None:
    outcome = result(**Params.presets["no KL"].values)
    assert failed(outcome) == [
        "Encoded digits fill the prior",
        "Encoded digits fill the prior",
        "The judge is confident on prior samples",
    ]


def test_too_much_kl_leaves_nothing_of_the_digit_in_the_code() -> None:
    outcome = result(steps=400, **Params.presets["posterior collapse"].values)
    assert "Reconstruction error over that of the mean image" in failed(outcome)
    assert "Encoded digits fill the prior" not in failed(outcome)


def test_a_cancelled_run_ends_at_its_next_tick() -> None:
    seen: list[float] = []

    def stop(fraction: float, message: str, **live: float) -> None:
        seen.append(fraction)
        raise Cancelled(f"{message} {live}")

    with pytest.raises(Cancelled, match="reconstruction"):
        run(Params.model_validate({}), stop)
    assert seen == [20 / 800]
