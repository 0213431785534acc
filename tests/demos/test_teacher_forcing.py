"""teacher-forcing against torch's cross-entropy, the gradient of the expected reward, and a machine run by hand."""

from functools import cache

import pytest
import torch
from torch import Tensor

from demos.contract import Cell, Result
from demos.shared.transformer import Transformer
from demos.transformers.teacher_forcing import (
    END,
    LONGEST,
    PAD,
    SHORTEST,
    STATES,
    VOCABULARY,
    Params,
    Runs,
    begin,
    check,
    logits,
    own_inputs,
    run,
    sequence_loss,
    steps_to,
    token_loss,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng


@cache
def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    outcome = result()
    assert_claims_hold_as_listed(outcome, "teacher-forcing")
    for row in outcome.tables[0].rows:
        assert float(row[4]) <= float(row[3])  # a whole sequence is right only if its tokens are


def test_free_running_has_no_gap_to_close() -> None:
    outcome = result(mode="free", steps=50)
    assert "Its own words mislead it" in failed(outcome)


def test_a_sequence_weight_is_set_beside_weight_zero() -> None:
    outcome = result(sequence_weight=0.3, steps=50)
    names = [row[0] for row in outcome.tables[0].rows]
    assert names[-1] == "teacher, sequence weight 0.3"
    assert names[0] == "teacher"


def test_the_loss_is_torchs_cross_entropy_with_padding_ignored() -> None:
    scores = torch.randn(5, 7, VOCABULARY, generator=rng())
    gold = torch.randint(STATES, (5, 7), generator=rng(1))
    gold[:, 4:] = PAD
    reference = torch.nn.functional.cross_entropy(scores.flatten(0, 1), gold.flatten(), ignore_index=PAD)
    torch.testing.assert_close(token_loss(scores, gold), reference, atol=1e-6, rtol=0)
    scores[:, 4:] += torch.randn(5, 3, VOCABULARY, generator=rng(2))
    torch.testing.assert_close(token_loss(scores, gold), reference, atol=1e-6, rtol=0)


def test_runs_follow_the_machine() -> None:
    _, runs, machine = begin(rng())
    for symbols, gold in zip(runs.symbols[:50].numpy().tolist(), runs.gold[:50].numpy().tolist(), strict=True):
        state, expected = 0, list[int]()
        for symbol in [symbol for symbol in symbols if symbol != PAD]:
            state = int(machine[symbol - STATES, state])
            expected.append(state)
        assert SHORTEST <= len(expected) <= LONGEST
        assert gold == [*expected, END, *[PAD] * (LONGEST - len(expected))]


def follow(model: Transformer, runs: Runs, count: int) -> Tensor:
    """What a model writes greedily, (N, count)."""
    written = runs.gold[:, :0]
    for _ in range(count):
        written = torch.cat([written, logits(model, runs, written)[:, -1:].argmax(dim=2)], dim=1)
    return written


def test_the_share_of_own_inputs_is_what_was_asked_for() -> None:
    model, runs, _ = begin(rng())
    gold = runs.gold[:, :-1]
    assert torch.equal(own_inputs(model, runs, 0.0, rng()), gold)
    assert torch.equal(own_inputs(model, runs, 1.0, rng()), follow(model, runs, LONGEST))
    changed = (own_inputs(model, runs, 0.25, rng()) != gold).float().mean().item()
    assert 0.15 < changed < 0.26  # own tokens may be the gold ones by chance


def test_a_check_counts_real_tokens_alone() -> None:
    model, runs, _ = begin(rng())
    measured = check(model, runs, 7)
    written, real = follow(model, runs, LONGEST + 1), runs.gold != PAD
    right = (written == runs.gold) & real
    assert measured.own == pytest.approx((right.sum() / real.sum()).item())
    assert measured.exact == pytest.approx(((written == runs.gold) | ~real).all(dim=1).float().mean().item())
    assert measured.free[0].item() == measured.forced[0].item()  # the first token has no prefix to be misled by
    assert measured.gap == measured.token - measured.own


def test_reinforce_follows_the_gradient_of_the_probability_of_what_is_right() -> None:
    model, runs, _ = begin(rng())
    gold = torch.full((1, LONGEST + 1), PAD)
    gold[0, 0] = runs.gold[0, 0]  # only the first token counts, so chance alone earns the reward often enough
    one = Runs(runs.symbols[:1], gold)
    many = Runs(one.symbols.expand(4_000, -1), one.gold.expand(4_000, -1))
    p = logits(model, one, gold[:, :0])[0, 0].softmax(dim=0)[gold[0, 0]]
    exact = -torch.autograd.grad(p, model.norm.bias)[0]
    sampled = torch.autograd.grad(sequence_loss(model, many, rng(5)), model.norm.bias)[0]
    assert torch.nn.functional.cosine_similarity(sampled, exact, dim=0).item() > 0.9
    assert torch.dist(sampled, exact) < 0.5 * torch.dist(exact, torch.zeros_like(exact))


def test_steps_are_counted_to_the_first_that_is_low_enough() -> None:
    assert steps_to([3.0, 2.0, 1.0, 2.0], 2.0) == 1
    assert steps_to([3.0, 2.0], 0.5) == 2


def test_metrics_are_those_of_the_chosen_mode() -> None:
    outcome = result(mode="free", steps=50)
    rows = {row[0]: row for row in outcome.tables[0].rows}  # the last row of each mode is that of its last step
    assert metric(outcome, "token accuracy after its own") == rows["free"][3]
    assert rows["free"][3] != rows["teacher"][3]
