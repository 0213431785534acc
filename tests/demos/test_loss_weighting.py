"""loss-weighting against diffusers' SNR, closed forms and numpy's least squares."""

import math
from typing import Any

import diffusers.training_utils
import numpy as np
import pytest
import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from torch.distributions import Normal, kl_divergence

from demos.contract import Cell, Images, Lines, Result
from demos.diffusion.loss_weighting import ALPHA_BAR, KINDS, SNR, Denoiser, Params, T, min_snr_of_x0, run, weights
from demos.shared.ddpm import jump
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, rng


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "loss-weighting")


def test_the_snr_is_that_of_diffusers() -> None:
    scheduler = DDPMScheduler(num_train_timesteps=T, beta_start=1e-4, beta_end=0.02)
    library: Any = diffusers.training_utils
    theirs = library.compute_snr(scheduler, torch.arange(T)).double()
    torch.testing.assert_close(
        SNR / theirs, torch.ones(T, dtype=torch.float64), rtol=0, atol=2e-3
    )  # float32 near t = 1
    torch.testing.assert_close(SNR[100:] / theirs[100:], torch.ones(T - 100).double(), rtol=0, atol=1e-4)


def test_the_bounds_weight_is_the_kl_of_two_gaussians() -> None:
    weight = weights("vlb", 5.0)
    ratios = list[float]()
    for t in (2, 100, 900):  # μ of eq. (11) with ε and with ε̂, variance β
        alpha = (ALPHA_BAR[t] / ALPHA_BAR[t - 1]).double().item()
        a = ALPHA_BAR[t].double().item()
        means = [-(1 - alpha) / math.sqrt(1 - a) * torch.tensor(eps).double() / math.sqrt(alpha) for eps in (0.7, 0.2)]
        deviation = torch.tensor(math.sqrt(1 - alpha)).double()
        kl = kl_divergence(Normal(means[0], deviation), Normal(means[1], deviation)).item()
        ratios.append(kl / 0.5**2 / weight[t - 1].item())
    assert ratios == pytest.approx([ratios[0]] * 3, rel=1e-3)  # up to the common scale to mean 1


@pytest.mark.parametrize("kind", KINDS)
def test_weights_have_mean_one_and_fall_with_what_they_disregard(kind: str) -> None:
    weight = weights(kind, 5.0)
    assert weight.mean().item() == pytest.approx(1)
    low, high = weight[0] / weight[500], weight[-1] / weight[500]
    assert (low > 50 and high > 1) if kind == "vlb" else True
    assert (low < 0.01 and high >= 1) if kind == "p2" else True
    assert (low < 0.01 and high == 1) if kind == "min-snr" else True


def test_gamma_moves_min_snr_and_p2_and_nothing_else() -> None:
    for kind in KINDS:
        same = torch.equal(weights(kind, 1.0), weights(kind, 5.0))
        assert same == (kind in ("simple", "vlb"))
    torch.testing.assert_close(weights("min-snr", 1e9), weights("simple", 1e9))
    low = weights("min-snr", 1e-9) * SNR  # the weight of the x_0 error: the same at every t
    torch.testing.assert_close(low / low[0], torch.ones(T, dtype=torch.float64))


def test_the_fit_is_numpys_weighted_regression() -> None:
    params = Params.model_validate({"features": 16})
    denoiser = Denoiser(params, rng())
    x0, eps = torch.rand(3_000, 64, generator=rng()) * 2 - 1, torch.randn(3_000, 64, generator=rng(1))
    t = torch.randint(1, T + 1, (3_000,), generator=rng(2))
    weight = torch.rand(3_000, generator=rng(3)).double() + 0.1
    denoiser.fit(x0, eps, t, weight)
    a = ALPHA_BAR[t][:, None]
    x_t = jump(x0, eps, ALPHA_BAR[t])
    phi = denoiser.phi(x_t, t)
    v = a.sqrt() * eps - (1 - a).sqrt() * x0
    root = (weight[:, None] * a).sqrt().numpy()
    solution = np.linalg.lstsq(root * phi.double().numpy(), root * v.double().numpy(), rcond=None)[0]
    fits = (denoiser.fitted.double(), torch.tensor(solution))
    ours, least = (float((((phi.double() @ fit - v).numpy() * root) ** 2).sum()) for fit in fits)
    assert least <= ours <= 1.005 * least  # the ridge costs a little where the weight is near 0
    v_hat = phi @ denoiser.fitted
    torch.testing.assert_close(denoiser(x_t, t), a.sqrt() * v_hat + (1 - a).sqrt() * x_t, rtol=0, atol=1e-4)


def test_min_snr_cuts_the_weight_of_low_noise_only() -> None:
    x0, eps = torch.zeros(2, 64), torch.ones(2, 64)
    t = torch.tensor([10, 900])
    x_t = jump(x0, eps, ALPHA_BAR[t])
    loss = min_snr_of_x0(torch.zeros(2, 64).double(), x_t, x0, t, 5.0).item()  # x̂_0 = x_t / √ᾱ, off by 1 / √SNR
    assert loss == pytest.approx((5.0 / SNR[9].item() + 1) / 2, rel=1e-3)


def test_mild_weights_have_little_to_trade_and_a_high_bound_cuts_nothing() -> None:
    assert failed(result(**Params.presets["mild"].values)) == [
        "The bound buys detail",
        "and pays with content",
        "and loses less detail than P2",
    ]
    assert failed(result(**Params.presets["strong"].values)) == ["Min-SNR gains content"]


@pytest.mark.parametrize(("weighting", "names"), [("compare", KINDS), ("simple", ["simple"]), ("p2", ["simple", "p2"])])
def test_the_weighting_asked_for_is_shown_beside_the_simple_one(weighting: str, names: list[str]) -> None:
    outcome = result(weighting=weighting, examples=5_000, features=16)
    curves, pictures = outcome.figures[0], outcome.figures[-1]
    assert isinstance(curves, Lines)
    assert isinstance(pictures, Images)
    assert list(curves.series) == list(pictures.row_labels) == names
