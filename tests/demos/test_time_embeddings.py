"""time-embeddings against diffusers and torch, and the embeddings that tell too little."""

import pytest
import torch
from diffusers.models.embeddings import GaussianFourierProjection, get_timestep_embedding

from demos.contract import Cell, Heatmap, Lines, Result
from demos.diffusion.time_embeddings import (
    GROUPS,
    WIDTH,
    Block,
    Denoiser,
    Params,
    T,
    best_noise,
    fourier,
    group_norm,
    noised,
    run,
    sinusoidal,
)
from demos.shared.plane import draw_ring
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng

FALLS, ALIKE, NEEDED = (
    "It falls over the next ten times",
    "Times five apart are still alike",
    "Without time the loss is clearly higher",
)


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    outcome = result()
    assert_claims_hold_as_listed(outcome, "time-embeddings")
    table, by_t = outcome.figures[0], outcome.figures[3]
    assert isinstance(table, Heatmap)
    assert (len(table.values), len(table.values[0])) == (32, 25)
    assert isinstance(by_t, Lines)
    assert list(by_t.series) == ["sinusoidal", "fourier", "raw", "none", "best possible"]


@pytest.mark.parametrize("dim", [4, 32, 256])
def test_the_sinusoidal_table_is_that_of_diffusers(dim: int) -> None:
    t = torch.arange(0, 50)  # small times: diffusers multiplies in float32, which at t = 1000 is off by 1e-4
    torch.testing.assert_close(
        sinusoidal(t, dim), get_timestep_embedding(t, dim, downscale_freq_shift=0), rtol=0, atol=5e-6
    )
    late = torch.tensor([999, 1000])
    torch.testing.assert_close(
        sinusoidal(late, dim), get_timestep_embedding(late, dim, downscale_freq_shift=0), rtol=0, atol=2e-4
    )


def test_random_features_are_those_of_diffusers() -> None:
    reference = GaussianFourierProjection(embedding_size=8, scale=1.0, log=False, flip_sin_to_cos=False)
    weights = 3 * torch.randn(8, generator=rng())
    reference.weight.data = weights
    t = torch.arange(0, T + 1, 50)
    torch.testing.assert_close(fourier(t, weights), reference(t / T), rtol=0, atol=1e-5)


def test_a_shift_in_time_is_a_rotation() -> None:
    first, later = sinusoidal(torch.tensor([100]), 8)[0], sinusoidal(torch.tensor([107]), 8)[0]
    omega = 10_000 ** (-torch.arange(4) / 4)
    turned = torch.cat([
        first[:4] * (7 * omega).cos() + first[4:] * (7 * omega).sin(),
        first[4:] * (7 * omega).cos() - first[:4] * (7 * omega).sin(),
    ])  # fmt: skip
    torch.testing.assert_close(later, turned, rtol=0, atol=1e-5)


@pytest.mark.parametrize("injection", ["add", "adagn"])
def test_a_block_modulates_torchs_group_norm(injection: str) -> None:
    block = Block(injection)
    h, vector = 3 * torch.randn(5, WIDTH, generator=rng()), torch.randn(5, WIDTH, generator=rng(1))
    acts = block.time(vector)
    torch.testing.assert_close(group_norm(h), torch.nn.functional.group_norm(h, GROUPS), rtol=0, atol=1e-5)
    if injection == "add":
        expected = torch.nn.functional.group_norm(h + acts, GROUPS)
    else:
        expected = torch.nn.functional.group_norm(h, GROUPS) * (1 + acts[:, :WIDTH]) + acts[:, WIDTH:]
    torch.testing.assert_close(block.modulate(h, vector), expected, rtol=0, atol=1e-5)


def test_no_guess_that_is_a_bit_different_beats_the_best() -> None:
    x0, eps = draw_ring(20_000, rng()), torch.randn(20_000, 2, generator=rng(1))
    t = torch.full((20_000,), 300)
    best = best_noise(noised(x0, t, eps), t)
    least = (best - eps).square().mean()
    for other in (1.05 * best, 0.95 * best, best + 0.1, torch.zeros_like(best)):
        assert (other - eps).square().mean() > least


def test_only_a_network_without_time_gives_the_same_answer_at_all_times() -> None:
    x = torch.randn(6, 2, generator=rng())
    for kind in ("sinusoidal", "fourier", "raw", "none"):
        network = Denoiser(kind, Params.model_validate({"dim": 10}), rng())
        with torch.no_grad():
            early, late = network(x, torch.full((6,), 1)), network(x, torch.full((6,), 900))
        assert torch.equal(early, late) == (kind == "none")


def test_embeddings_that_tell_too_little_fail_where_they_should() -> None:
    none = result(steps=100, **Params.presets["no time"].values)
    assert {FALLS, ALIKE, NEEDED} <= set(failed(none))
    assert metric(none, "loss") == metric(none, "loss, none")
    assert FALLS in failed(result(steps=100, **Params.presets["raw number"].values))
    assert ALIKE in failed(result(steps=100, **Params.presets["fast"].values))
    added = result(steps=100, **Params.presets["added"].values)
    assert metric(added, "largest change of a channel's scale over t") == 0
