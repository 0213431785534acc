"""biggan-tricks against torch's spectral normalisation and scipy's truncated normal law."""

import pytest
import scipy.stats
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from demos.contract import Cell, Result
from demos.gans.biggan_tricks import (
    ConditionalNorm,
    Discriminator,
    Generator,
    Params,
    SpectralLinear,
    largest_singular_values,
    overlap,
    run,
    truncated_normal,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng

SLOPE = "Layers have slope one"


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "biggan-tricks")


def test_without_spectral_normalisation_slopes_grow() -> None:
    outcome = result(steps=300, **Params.presets["no spectral norm"].values)
    assert SLOPE in failed(outcome)
    assert metric(outcome, "largest singular value of all layers") > 1.5


def test_hard_truncation_costs_variety() -> None:
    hard, soft = (metric(result(steps=300, truncation=truncation), "diversity") for truncation in (0.1, 3.0))
    assert hard < 0.5 * soft


@pytest.mark.parametrize("truncation", [0.3, 1.0, 3.0])
def test_the_noise_has_scipys_truncated_law(truncation: float) -> None:
    z = truncated_normal((4000,), truncation, rng())
    assert z.abs().max() <= truncation
    assert scipy.stats.kstest(z.numpy(), scipy.stats.truncnorm(-truncation, truncation).cdf).pvalue >= 0.01


@torch.no_grad()
def test_the_normalised_weight_is_torchs() -> None:
    layer = SpectralLinear(20, 30, on=True, rng=rng())
    nn.init.normal_(layer.W, generator=rng(1))
    for _ in range(200):  # power iteration settles
        layer.normalised()
    plain = nn.Linear(20, 30)
    plain.weight.copy_(layer.W)
    reference = spectral_norm(plain, n_power_iterations=200)
    torch.testing.assert_close(layer.normalised(), reference.weight, rtol=0.02, atol=1e-4)
    assert layer.normalised().svd().S[0].item() == pytest.approx(1, abs=0.02)


def test_each_training_step_takes_one_step_of_power_iteration() -> None:
    layer = SpectralLinear(5, 6, on=True, rng=rng())
    nn.init.normal_(layer.W, generator=rng(1))
    u = layer.u.clone()
    W = layer.W.detach()
    v = nn.functional.normalize(W.T @ u, dim=0)
    torch.autograd.backward(layer(torch.ones(2, 5)).sum())
    torch.testing.assert_close(layer.u, nn.functional.normalize(W @ v, dim=0))
    assert layer.W.grad is not None


def test_a_layer_without_normalisation_uses_its_weight_as_it_is() -> None:
    layer = SpectralLinear(5, 6, on=False, rng=rng())
    torch.testing.assert_close(layer.W.svd().S, torch.ones(5))  # orthogonal at the start
    with torch.no_grad():
        layer.W.mul_(3)
    assert largest_singular_values({"": nn.ModuleDict({"layer": layer})}) == {" layer": pytest.approx(3, rel=1e-5)}


def test_overlap_counts_all_pairs_of_filters_and_no_lengths() -> None:
    W = torch.tensor([[3.0, 1.0], [0.0, 2.0]])  # columns (3, 0) and (1, 2): their product is 3
    assert overlap(W).item() == pytest.approx(2 * 3**2)
    assert overlap(5 * torch.eye(4)).item() == 0


def test_the_norm_of_a_class_has_its_own_scale_and_shift() -> None:
    norm, x = ConditionalNorm(3), 2 * torch.randn(400, 3, generator=rng()) + 5
    with torch.no_grad():
        norm.gamma[4], norm.beta[4] = 2.0, -1.0
        y = norm(x, torch.full((400,), 4))
    torch.testing.assert_close(y.mean(dim=0), torch.full((3,), -1.0), rtol=0, atol=1e-4)
    torch.testing.assert_close(y.std(dim=0), torch.full((3,), 2.0), rtol=0, atol=0.01)


@torch.no_grad()
def test_the_label_enters_the_generator_through_its_norms_only() -> None:
    G, z = Generator(True, rng()).eval(), torch.randn(5, 16, generator=rng(1))
    one, other = torch.full((5,), 1), torch.full((5,), 2)
    assert torch.equal(G(z, one), G(z, other))  # at the start all classes have the same scale and shift
    G.norm2.beta[2] += 1
    assert not torch.equal(G(z, one), G(z, other))


@torch.no_grad()
def test_the_score_is_a_projection_on_the_class() -> None:
    D, x = Discriminator(False, rng()), torch.randn(4, 1, 8, 8, generator=rng(1))
    y = torch.tensor([0, 3, 9, 3])
    leaky = nn.LeakyReLU(0.2)
    phi = leaky(D.middle(leaky(D.inner(x.flatten(1)))))
    expected = D.outer(phi)[:, 0] + (D.classes.W[y] * phi).sum(dim=1) + D.classes.b[y]
    torch.testing.assert_close(D(x, y), expected)
