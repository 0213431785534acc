"""guided-diffusion against torch.distributions and diffusers, and the guidances that go wrong."""

from typing import Any

import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from demos.contract import Cell, Result, Scatter
from demos.diffusion.guided_diffusion import (
    ALPHA_BAR,
    CENTRES,
    STD,
    Params,
    classifier_free,
    exact_noise,
    inputs,
    logits,
    measure,
    run,
    sample,
    sharpened,
    slope_of,
    with_classifier,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng

OBEY, NARROW = "At the chosen scale nearly all obey", "More scale, less spread"
STAYS = "The cloud still lies over its class"


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def noised(t: int) -> tuple[Any, Any]:
    """torch's laws of x_t: of the mixture, and of each class."""
    a = ALPHA_BAR[t].double()
    each = Independent(Normal(a.sqrt() * CENTRES.double(), (a * STD**2 + 1 - a).sqrt().expand(4, 2)), 1)
    return MixtureSameFamily(Categorical(torch.ones(4).double()), each), each


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "guided-diffusion")


@pytest.mark.parametrize("t", [1, 200, 900])
def test_noise_and_classifier_are_slopes_of_torchs_log_probabilities(t: int) -> None:
    mixture, each = noised(t)
    leaf = torch.randn(100, 2, generator=rng(), dtype=torch.float64).requires_grad_()
    x, sigma = leaf.detach(), (1 - ALPHA_BAR[t].double()).sqrt()
    of_all: Tensor = mixture.log_prob(leaf)
    of_class: Tensor = each.log_prob(leaf[:, None])[:, 2]
    for log_prob, y in ((of_all, None), (of_class, 2)):
        (score,) = torch.autograd.grad(log_prob.sum(), leaf, retain_graph=True)
        torch.testing.assert_close(exact_noise(x, t, y), -sigma * score, rtol=0, atol=1e-4)
    (posterior,) = torch.autograd.grad((of_class - of_all).sum(), leaf)
    torch.testing.assert_close(slope_of(logits)(x, t, 2), posterior, rtol=0, atol=1e-4)


def test_a_step_of_the_sampler_is_that_of_diffusers() -> None:
    ddim: Any = DDIMScheduler(num_train_timesteps=1000, beta_end=0.02, clip_sample=False, steps_offset=0)
    ddim.set_timesteps(50)
    x = start = torch.randn(64, 2, generator=rng())
    for t in ddim.timesteps:  # diffusers counts times from 0, so that its 980 is our 981
        x = ddim.step(exact_noise(x, int(t) + 1, 1), t, x).prev_sample
    torch.testing.assert_close(sample(exact_noise_of_1, start).mean(dim=0), x.mean(dim=0), rtol=0, atol=0.02)


def exact_noise_of_1(x: Tensor, t: int, _: int | None) -> Tensor:
    return exact_noise(x, t, 1)


def test_both_guidances_follow_their_formulas() -> None:
    x = torch.randn(20, 2, generator=rng())
    none, asked = exact_noise(x, 300, None), exact_noise(x, 300, 3)
    torch.testing.assert_close(classifier_free(exact_noise, 0.0, 3)(x, 300, None), none)
    torch.testing.assert_close(classifier_free(exact_noise, 1.0, 3)(x, 300, None), asked)
    w = 1.7  # Ho and Salimans write (1 + w) ε(x, y) − w ε(x)
    torch.testing.assert_close(classifier_free(exact_noise, 1 + w, 3)(x, 300, None), (1 + w) * asked - w * none)
    torch.testing.assert_close(with_classifier(exact_noise, slope_of(logits), 1.0, 3)(x, 300, None), asked)


def test_measures_are_right_on_planted_clouds() -> None:
    cloud = CENTRES[1] + STD * torch.randn(20_000, 2, generator=rng())
    share, spread, away = measure(cloud, 1)
    assert share == pytest.approx(float(Normal(0.0, STD).cdf(torch.tensor(0.85))) ** 2, abs=0.01)
    assert (spread, away) == (pytest.approx(1, abs=0.02), pytest.approx(0, abs=0.02))
    assert measure(cloud + 3 * STD, 1)[2] == pytest.approx(3 * 2**0.5, abs=0.02)


def test_the_sharpened_law_of_scale_one_is_the_class() -> None:
    assert sharpened(1.0, 2) < 1e-3
    assert sharpened(0.0, 2) == pytest.approx(0.85 * 2**0.5 / STD, abs=1e-3)  # all classes: the centre of the plane


def test_no_label_is_a_label_of_its_own() -> None:
    x = torch.zeros(3, 2)
    labels = torch.cat([inputs(x[:1], 10, y)[:, -5:] for y in (0, 1, 2, 3, None)])
    assert torch.equal(labels, torch.eye(5))


@pytest.mark.parametrize(("name", "broken"), [("no guidance", [OBEY, NARROW]), ("far too much", [STAYS])])
def test_too_little_or_too_much_guidance_misses_the_class(name: str, broken: list[str]) -> None:
    assert failed(result(**Params.presets[name].values)) == broken


def test_trained_networks_guide_as_well_and_a_trained_classifier_in_its_own_way() -> None:
    assert failed(result(**Params.presets["trained"].values)) == []
    broken = failed(result(**Params.presets["trained classifier"].values))
    assert "Scale 1 is conditional sampling, scale 0 has no class" in broken
    assert OBEY not in broken


def test_a_label_that_was_never_dropped_leaves_nothing_to_subtract() -> None:
    broken = failed(result(**Params.presets["labels never dropped"].values))
    assert {"The noise prediction without label is right", STAYS} <= set(broken)


@pytest.mark.parametrize("method", ["classifier", "classifier-free", "both"])
def test_with_exact_scores_the_method_changes_no_number(method: str) -> None:
    outcome = result(method=method, label=2)
    assert metric(outcome, "accuracy") == pytest.approx(1, abs=0.01)
    assert metric(outcome, "spread") == pytest.approx(metric(result(label=2), "spread"), abs=1e-4)
    drawn = outcome.figures[1]
    assert isinstance(drawn, Scatter)
    assert list(drawn.series) == (["classifier", "classifier-free"] if method == "both" else [method])
