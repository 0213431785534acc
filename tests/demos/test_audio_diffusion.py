"""audio-diffusion against torch's dilated convolution and scipy's periodogram, and what a short view breaks."""

import numpy as np
import pytest
import scipy.signal
import torch
from torch import nn

from demos.contract import Cell, Result
from demos.diffusion.audio_diffusion import (
    DILATIONS,
    NOISE,
    Params,
    WaveNet,
    draw_tones,
    generate,
    measure,
    receptive_field,
    run,
    seen_by_gradient,
    spectrum,
    taps,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def network(**params: Cell) -> WaveNet:
    return WaveNet(Params.model_validate(params), rng())


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "audio-diffusion")


@torch.no_grad()
@pytest.mark.parametrize("dilation", [1, 4, 32])
@pytest.mark.parametrize("causal", [False, True])
def test_the_taps_make_torchs_dilated_convolution(causal: bool, dilation: int) -> None:
    x, mix = torch.randn(2, 5, 100, generator=rng()), nn.Linear(15, 7)
    theirs = nn.Conv1d(5, 7, 3, dilation=dilation)
    theirs.weight.copy_(mix.weight.view(7, 3, 5).transpose(1, 2))
    theirs.bias = mix.bias
    padded = nn.functional.pad(x, (2 * dilation, 0) if causal else (dilation, dilation))
    ours = mix(taps(x, dilation, causal).transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(ours, theirs(padded), rtol=0, atol=1e-5)


@pytest.mark.parametrize("model", ["diffusion", "autoregressive"])
@pytest.mark.parametrize("dilated", [True, False])
def test_the_receptive_field_is_what_a_gradient_reaches(model: str, dilated: bool) -> None:
    net = network(model=model, dilated=dilated)
    assert seen_by_gradient(net, 256) == receptive_field(net.dilations) == (127 if dilated else 13)


@torch.no_grad()
def test_the_causal_network_does_not_look_ahead_and_writing_sees_all_it_may() -> None:
    net, pitch = network(model="autoregressive"), torch.tensor([0.1])
    x = torch.randn(1, 200, generator=rng())
    ahead = x.clone()
    ahead[:, 100:] += 1
    zero = torch.zeros(1)
    assert torch.equal(net(x, zero, pitch)[:, :100], net(ahead, zero, pitch)[:, :100])
    (wave,), passes = generate(net, pitch, 200, rng(1))
    assert passes == 200
    mean = net(nn.functional.pad(wave, (1, -1)), zero, pitch)  # all at once, from the whole past
    torch.testing.assert_close((wave - mean).std(), torch.tensor(NOISE), rtol=0.15, atol=0)


def test_the_spectrum_is_scipys_periodogram() -> None:
    x = draw_tones(torch.tensor([0.05, 0.13]), 256, rng())
    _, theirs = scipy.signal.periodogram(x.numpy().astype(np.float64), detrend="constant")
    ours = spectrum(x).numpy() / 256
    ours[:, 1:-1] *= 2  # scipy folds the negative frequencies in
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)


def test_true_tones_have_their_pitch_and_their_octave() -> None:
    tones = draw_tones(torch.full((50,), 0.125), 256, rng())
    error, share = measure(tones, 0.125)
    assert error == 0
    assert 0.85 < share < 0.97  # the octave has 1 / 16 of the wave's power
    wrong, _ = measure(tones, 0.1)
    assert wrong == pytest.approx(0.025 * 256)


@pytest.mark.parametrize(
    ("preset", "claim"),
    [
        ("no dilation", "Power is concentrated as in true tones"),
        ("not told", "The spectral peak is at the pitch asked for"),
    ],
)
def test_a_short_view_or_an_untold_pitch_fails(preset: str, claim: str) -> None:
    assert claim in failed(result(steps=200, **Params.presets[preset].values))


def test_the_twin_takes_a_pass_for_every_sample() -> None:
    outcome = result(steps=100, samples=128, model="autoregressive")
    assert metric(outcome, "network passes for a clip") == 128
    assert DILATIONS[-1] == 32
