"""adain-style-transfer against torch's norms and explicit loops, and what is left when no style is asked for."""

from typing import get_args

import pytest
import torch

from demos.contract import Bars, Cell, Images, Result
from demos.gans.adain_style_transfer import (
    LATENT,
    Params,
    Style,
    adain,
    draw_content,
    draw_filters,
    draw_style,
    features,
    gram,
    normalise,
    run,
    styled,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "adain-style-transfer")


def test_normalising_is_torchs_instance_norm_and_batch_norm_of_images_laid_out_as_channels() -> None:
    x = 3 * torch.randn(4, 5, 6, 7, generator=rng()) + 2
    ours = normalise(x)
    torch.testing.assert_close(ours, torch.nn.functional.instance_norm(x), rtol=0, atol=1e-5)
    batch = torch.nn.functional.batch_norm(x.reshape(1, 20, 6, 7), None, None, training=True)
    torch.testing.assert_close(ours, batch.view(4, 5, 6, 7), rtol=0, atol=1e-5)


def test_adain_takes_the_statistics_of_a_style_of_another_size() -> None:
    x, y = torch.randn(2, 5, 9, 9, generator=rng()), 4 * torch.rand(2, 5, 6, 8, generator=rng(1)) - 1
    out = adain(x, y)
    torch.testing.assert_close(out.mean(dim=(2, 3)), y.mean(dim=(2, 3)), rtol=0, atol=1e-5)
    torch.testing.assert_close(out.std(dim=(2, 3), correction=0), y.std(dim=(2, 3), correction=0), rtol=0, atol=1e-5)
    torch.testing.assert_close(adain(x, x), x, rtol=0, atol=1e-5)


def test_the_gram_matrix_is_the_sum_over_positions() -> None:
    x = torch.randn(2, 3, 4, 5, generator=rng())
    expected = torch.zeros(2, 3, 3)
    for n in range(2):
        for i in range(3):
            for j in range(3):
                expected[n, i, j] = sum(x[n, i, h, w] * x[n, j, h, w] for h in range(4) for w in range(5)) / 20
    torch.testing.assert_close(gram(x), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(gram(x), torch.einsum("nihw,njhw->nij", x, x) / 20, rtol=0, atol=1e-5)


def test_w_sets_scale_and_bias_by_one_linear_map() -> None:
    x, w = torch.randn(1, 4, 8, 8, generator=rng()), torch.randn(LATENT, generator=rng(1))
    A, b = torch.randn(8, LATENT, generator=rng(2)), torch.randn(8, generator=rng(3))
    y_s, y_b = torch.nn.functional.linear(w, A, b).view(2, 4, 1, 1)
    torch.testing.assert_close(
        styled(x, w, A, b), y_s * torch.nn.functional.instance_norm(x) + y_b, rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("style", get_args(Style))
def test_pictures_are_in_range_and_features_have_their_shapes(style: Style) -> None:
    picture = draw_style(style, rng())
    assert picture.shape == draw_content(rng()).shape == (1, 3, 40, 40)
    assert 0 <= picture.min() < picture.max() <= 1
    shapes = [tuple(maps.shape[1:]) for maps in features(picture, draw_filters(rng()))]
    assert shapes == [(16, 40, 40), (24, 40, 40), (32, 20, 20), (32, 20, 20)]


def test_without_alpha_nothing_is_carried_over() -> None:
    outcome = result(**Params.presets["no style"].values)
    assert failed(outcome) == ["The style is carried over"]
    assert metric(outcome, "style_loss") == pytest.approx(1, rel=0.05)
    assert metric(outcome, "content_correlation") > 0.95


def test_gram_matrices_are_matched_when_they_are_asked_for() -> None:
    outcome = result(**Params.presets["Gram matrices"].values)
    assert metric(outcome, "style_loss") == metric(outcome, "Gram loss of the result") < 0.1


def test_figures_hold_what_they_name() -> None:
    outcome = result(steps=20)
    pictures, means, deviations = outcome.figures[:3]
    assert isinstance(pictures, Images)
    assert torch.tensor(pictures.pixels).shape == (1, 3, 40, 40, 3)
    assert isinstance(means, Bars)
    assert isinstance(deviations, Bars)
    assert means.series["normalised"] == pytest.approx([0] * 12, abs=1e-9)
    assert deviations.series["normalised"] == pytest.approx([1] * 12, rel=1e-4)
    assert means.series["after AdaIN"] == pytest.approx(list(means.series["style"]), abs=1e-5)
