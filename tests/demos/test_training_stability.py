"""Training stability: clipping beside torch's, checkpoints that restore everything, and a detector of spikes."""

from functools import cache

import pytest
import torch
from torch import nn

from demos.contract import Result
from demos.llms.training_stability import (
    STEPS,
    Params,
    Run,
    aftermath,
    batches,
    clip_,
    is_spike,
    largest_difference,
    run,
    train,
)
from demos.shared.transformer import Transformer
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng


@cache
def result() -> Result:
    return run(Params.model_validate({}))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "training-stability")
    assert metric(result(), "spikes found") == 2


def test_without_defences_nothing_is_undone() -> None:
    outcome = run(Params.model_validate(Params.presets["no defence"].values))
    assert failed(outcome)[:2] == ["Defences pay", "A rollback leaves no trace"]


@pytest.mark.parametrize("limit", [0.0, 0.5, 100.0])
def test_clipping_is_torchs(limit: float) -> None:
    ours, theirs = (nn.Linear(5, 3) for _ in range(2))
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        one.grad = torch.randn(one.shape, generator=rng())
        other.grad = one.grad.clone()
    norm = clip_(list(ours.parameters()), limit)
    expected = nn.utils.clip_grad_norm_(theirs.parameters(), limit or float("inf"))
    assert norm == pytest.approx(expected.item(), rel=1e-6)
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-5, atol=1e-6)


def test_a_rollback_is_as_if_the_batch_had_been_skipped_for_average_and_moments_too() -> None:
    params = Params.model_validate({"bad_batches": 1})
    data = batches(params)[0][:110]
    back = train(data, params, clip=1.0, warmup=10, rollback=True)
    spared = train(data, params, clip=1.0, warmup=10, rollback=False, skip={90})
    assert back.spikes == [90]
    assert back.replayed == 90 - 80
    assert largest_difference(back.model, spared.model) == 0
    assert largest_difference(back.average, spared.average) == 0
    assert back.losses[91:] == spared.losses[91:]


def test_a_spike_is_far_above_the_median_of_the_last_twenty() -> None:
    assert not is_spike(9.0, [1.0] * 19)  # too early to tell
    assert is_spike(1.51, [9.0] * 9 + [1.0] * 20)
    assert not is_spike(1.49, [1.0] * 20)
    assert is_spike(1.6, [1.0] * 19 + [50.0])  # one outlier does not move the median


def test_bad_batches_repeat_one_word_and_all_others_do_not() -> None:
    data, bad = batches(Params.model_validate({"bad_batches": 3}))
    assert len(data) == STEPS
    assert [step for step, rows in enumerate(data) if bool((rows == rows[:, :1]).all())] == bad == [90, 140, 190]


def test_aftermath_leaves_out_the_bad_batches_themselves() -> None:
    model = Transformer(4, 4, 4, 1, 1, rng(), causal=True)
    calm = Run(model, model, losses=[1.0] * STEPS)
    hit = Run(model, model, losses=[1.0] * 90 + [100.0] + [3.0] * 20 + [1.0] * (STEPS - 111))
    assert aftermath(hit, calm, [90]) == 2
    assert aftermath(hit, calm, []) == 0
