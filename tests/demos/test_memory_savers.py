"""memory-savers: bytes that can be counted by hand, and gradients and steps against plain torch."""

import functools

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.functional import rms_norm

from demos.contract import Cell, Result
from demos.llms.memory_savers import (
    CHOICES,
    LATENT,
    WIDTH,
    Ledger,
    Params,
    descend,
    gradient,
    linear,
    make_weights,
    norm,
    run,
    sharded,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng

SAME = "Gradients are the same whatever is kept"


@functools.cache
def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def rows(outcome: Result) -> dict[str, int]:
    (table,) = outcome.tables
    return {str(name): int(size) for name, size, _ in table.rows}


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "memory-savers")


def test_new_dice_in_the_second_pass_spoil_the_gradient() -> None:
    assert failed(result(**Params.presets["new-dice"].values)) == [SAME]


@pytest.mark.parametrize(("layers", "tokens"), [(4, 128), (2, 50)])
def test_forgotten_bytes_are_those_of_norms_and_up_projections(layers: int, tokens: int) -> None:
    kept = rows(result(layers=layers, seq_len=tokens))
    norms = 4 * layers * tokens * (2 * WIDTH + LATENT)  # two inputs of the block's halves, and the latent
    ups = 4 * layers * tokens * 2 * WIDTH  # keys and values
    assert kept["activations, none"] - kept["activations, norm"] == norms
    assert kept["activations, norm"] - kept["activations, norm+up"] == ups


@pytest.mark.parametrize("preset", ["keep-all", "whole-blocks"])
def test_metrics_are_those_of_the_choice(preset: str) -> None:
    outcome = result(**Params.presets[preset].values)
    choice = str(Params.presets[preset].values["recompute"])
    assert metric(outcome, "activations kept") == rows(outcome)[f"activations, {choice}"] / 1e6
    assert failed(outcome) == []


def test_optimizer_state_is_an_exact_share() -> None:
    eight = rows(result(ranks=8))
    assert 8 * eight["optimizer, over 8 devices"] == eight["optimizer, on one device"] == 2 * eight["parameters"]


@pytest.mark.parametrize("ranks", [1, 3, 7])
def test_adamw_in_slices_is_torchs_adamw(ranks: int) -> None:
    w, *steps = torch.randn(4, 100, generator=rng())
    ours, state = sharded(w, steps, ranks)
    torch.testing.assert_close(ours, descend(w, steps)[0], atol=1e-7, rtol=0)
    assert state == 2 * -(-100 // ranks)


def test_norm_is_torchs_rms_norm_with_its_gradient() -> None:
    x, g = torch.randn(5, 8, generator=rng()).requires_grad_(), torch.rand(8, generator=rng(1)).requires_grad_()
    ours, theirs = norm(x, g), rms_norm(x, (8,), g, eps=1e-6)
    torch.testing.assert_close(ours, theirs)
    for mine, reference in zip(*(torch.autograd.grad(y.sin().sum(), (x, g)) for y in (ours, theirs)), strict=True):
        torch.testing.assert_close(mine, reference)


def test_the_ledger_counts_each_storage_once_and_no_weights() -> None:
    x, w = torch.randn(3, 4, generator=rng()), torch.randn(4, 4, generator=rng()).requires_grad_()
    ledger = Ledger([w])
    with saved_tensors_hooks(ledger.pack, ledger.unpack):
        h = linear(x, w)  # keeps x for the gradient of w
        y = h * h.view(3, 4)  # keeps h twice
    assert sum(ledger.kept.values()) == 4 * (12 + 12)
    (slope,) = torch.autograd.grad(y.sum(), w)
    torch.testing.assert_close(slope, 2 * (x @ w.T).T @ x)


def test_every_choice_gives_the_gradient_of_plain_autograd() -> None:
    table, blocks = make_weights(2, rng())
    ids = torch.randint(len(table), (20,), generator=rng(1))
    exact, _, flops = gradient(table, blocks, ids, "none", same_dice=True)
    for choice in CHOICES:
        other, _, more = gradient(table, blocks, ids, choice, same_dice=True)
        torch.testing.assert_close(other, exact, atol=1e-7, rtol=1e-5)
        assert more >= flops
