"""kl-autoencoder against diffusers' Gaussian of latents and torchmetrics' LPIPS, and what too much KL costs."""

from typing import Any

import pytest
import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torchmetrics.functional.image import lpips

from demos.contract import Cell, Images, Result
from demos.shared.shapes import draw_shapes
from demos.stable_diffusion.kl_autoencoder import (
    Autoencoder,
    Namer,
    Params,
    draw,
    feature_distance,
    kl,
    run,
    train_namer,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    outcome = result()
    assert_claims_hold_as_listed(outcome, "kl-autoencoder")
    pictures, _, latents, noisy = outcome.figures
    assert isinstance(pictures, Images)
    assert isinstance(latents, Images)
    assert isinstance(noisy, Images)
    assert [len(of.pixels) for of in (pictures, latents, noisy)] == [5, 4, 4]
    assert len(latents.pixels[0][0]) == 4  # a map of 4x4 for 16x16 pixels


def test_the_weight_of_a_plain_vae_loses_shapes() -> None:
    outcome = result(kl_weight=1.0, steps=150)
    assert "Shape survives factor 4" in failed(outcome)
    assert metric(outcome, "KL of a latent") < 30


@pytest.mark.parametrize("f", [2, 4, 8])
def test_latents_are_smaller_by_the_factor_and_pictures_come_back_in_size(f: int) -> None:
    net, x = Autoencoder(f, 3, rng()), torch.zeros(2, 3, 16, 16)
    mean, logvar = net.encode(x)
    assert mean.shape == logvar.shape == (2, 3, 16 // f, 16 // f)
    assert net.decoder(mean).shape == x.shape


def test_kl_and_draws_are_those_of_diffusers() -> None:
    moments = torch.randn(5, 8, 4, 4, generator=rng())
    theirs: Any = DiagonalGaussianDistribution(moments)
    mean, logvar = moments.chunk(2, dim=1)
    torch.testing.assert_close(kl(mean, logvar), theirs.kl(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(draw(mean, logvar, rng(1)), theirs.sample(rng(1)), rtol=0, atol=1e-6)


def test_the_feature_distance_is_lpips_with_every_weight_one() -> None:
    theirs: Any = lpips
    namer, x, y = Namer(rng()), draw_shapes(6, rng(1))[0], draw_shapes(6, rng(2))[0]
    expected = torch.zeros(6)
    for a, b in zip(namer.features(x), namer.features(y), strict=True):
        gap = (theirs._normalize_tensor(a) - theirs._normalize_tensor(b)).square()
        expected = expected + theirs._spatial_average(gap.sum(dim=1, keepdim=True), keep_dim=False).flatten()
    torch.testing.assert_close(feature_distance(namer, x, y), expected, rtol=1e-4, atol=1e-5)
    assert feature_distance(namer, x, x).abs().max() == 0


def test_features_are_of_a_network_that_can_name_what_it_sees() -> None:
    namer = train_namer(rng())
    x, labels = draw_shapes(500, rng(1))
    logits = namer.name(namer.features(x)[-1].flatten(1)).split([4, 3, 2], dim=1)
    right = torch.stack([of.argmax(dim=1) == labels[:, n] for n, of in enumerate(logits)])
    assert (right.float().mean(dim=1) > 0.9).all()
    assert not any(weight.requires_grad for weight in namer.parameters())
