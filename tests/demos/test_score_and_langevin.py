"""score-and-langevin against torch.distributions and closed forms, and its samplers that miss the shares."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from demos.contract import Cell, Result, Scatter
from demos.diffusion.score_and_langevin import Data, NoiseNetwork, Params, anneal, run
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng

SHARES = "Annealing finds how much data each part holds"


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    outcome = result()
    assert_claims_hold_as_listed(outcome, "score-and-langevin")
    assert metric(outcome, "mode_weights") < metric(outcome, "mode_weights, one level")
    cloud = outcome.figures[3]
    assert isinstance(cloud, Scatter)
    assert [len(points) for points in cloud.series.values()] == [400] * 5


@pytest.mark.parametrize("name", ["mixture", "moons"])
@pytest.mark.parametrize("sigma", [0.1, 1.0])
def test_score_and_best_denoiser_are_those_of_torchs_mixture(name: str, sigma: float) -> None:
    data = Data(name)
    spread = torch.full((len(data.shares), 2), (data.deviation**2 + sigma**2) ** 0.5, dtype=torch.float64)
    reference: Any = MixtureSameFamily(
        Categorical(data.shares.double()), Independent(Normal(data.centres.double(), spread), 1)
    )
    leaf = torch.randn(200, 2, generator=rng(), dtype=torch.float64).requires_grad_()
    log_prob: Tensor = reference.log_prob(leaf)
    (score,) = torch.autograd.grad(log_prob.sum(), leaf)
    x = leaf.detach()
    torch.testing.assert_close(data.score(x, sigma), score, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(data.denoised(x, sigma), x + sigma**2 * score, rtol=1e-5, atol=1e-5)


def test_no_shift_or_scale_improves_the_best_denoiser() -> None:
    data = Data("mixture")
    x = data.draw(50_000, rng())
    noisy = x + 0.8 * torch.randn(x.shape, generator=rng(1))
    guess = data.denoised(noisy, 0.8)
    best = (guess - x).square().mean()
    for other in (guess + 0.1, 1.05 * guess, 0.95 * guess, noisy):
        assert (other - x).square().mean() > best


class ExactNetwork(NoiseNetwork):
    """The noise prediction that a perfect network would make for N(0, 1) data: x̃ has variance 1 + σ²."""

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        return sigma[:, None] * x / (1 + sigma[:, None] ** 2)


def test_langevin_steps_settle_at_the_variance_of_the_last_level() -> None:
    start = 5 * torch.randn(20_000, 2, generator=rng())
    clouds = anneal(ExactNetwork(rng()), torch.tensor([2.0, 1.0, 0.5]), 100, start, rng(1))
    assert len(clouds) == 4
    for cloud, sigma in zip(clouds[1:], (2.0, 1.0, 0.5), strict=True):
        assert cloud.var().item() == pytest.approx(1 + sigma**2, rel=0.05)


@pytest.mark.parametrize("name", ["one level", "little noise", "hasty"])
def test_without_much_noise_or_time_the_shares_stay_wrong(name: str) -> None:
    assert SHARES in failed(result(**{"steps": 600, **Params.presets[name].values}))


def test_eighty_percent_of_the_data_lie_in_the_larger_part() -> None:
    for name in ("mixture", "moons"):
        data = Data(name)
        assert data.larger_part(data.draw(20_000, rng())) == pytest.approx(0.8, abs=0.02)


def test_the_same_seed_repeats_the_run_and_a_hardly_trained_network_has_no_score_yet() -> None:
    first, again, other = (result(steps=200, data="moons", levels=3, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first != other
    assert "The network's score is near the exact one" in failed(first)
