"""LoRA against peft with copied matrices: the difference, the merge, what is trained, and what is too thin."""

import importlib
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from demos.contract import Lines, Result, no_tick
from demos.llms.lora import (
    HEADS,
    LAYERS,
    LENGTH,
    LETTERS,
    D,
    LowRank,
    NewHead,
    Params,
    accuracies,
    adapt,
    fit,
    merge,
    reverse,
    rotate,
    run,
    trained,
)
from demos.shared.transformer import Transformer
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng

peft: Any = importlib.import_module("peft")


@cache
def result() -> Result:
    return run(Params.model_validate({}))


def base() -> Transformer:
    return Transformer(LETTERS, LENGTH, D, LAYERS, HEADS, rng(), causal=False)


def stirred(model: nn.Module) -> nn.Module:
    """The model with random numbers in all that can be trained, as after a training."""
    generator = rng(7)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.copy_(torch.randn(weight.shape, generator=generator) * 0.1)
    return model


def words(n: int) -> torch.Tensor:
    return torch.randint(LETTERS, (n, LENGTH), generator=rng(1))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "lora")
    curve = result().figures[0]
    assert isinstance(curve, Lines)
    assert curve.series["LoRA"][0] < curve.series["LoRA"][-1]  # rank 1 is too thin for this task
    table = {str(row[0]): row[1:] for row in result().tables[0].rows}
    assert table["LoRA"][:2] == table["LoRA, merged"][:2]


def test_a_difference_of_rank_one_in_the_queries_is_too_thin() -> None:
    outcome = run(Params.model_validate({**Params.presets["rank 1, queries"].values, "steps": 150}))
    assert "It adapts as full fine-tuning does" in failed(outcome)


@pytest.mark.parametrize("preset", ["", "every matrix", "not thin at all"])
def test_the_share_that_is_trained_is_what_the_formula_says(preset: str) -> None:
    params = Params.model_validate(Params.presets[preset].values if preset else {})
    r, of_block = params.rank, 12 * D * D + 13 * D  # matrices; biases and norms
    count = trained(adapt(base(), params.targets, r, params.alpha, rng()))
    if params.targets == "qv":
        assert count == LAYERS * 2 * r * (D + D) == 2048
        assert metric(result(), "trainable parameters") == count
    else:
        assert count == LAYERS * r * (4 * (D + D) + 2 * (D + 4 * D))
    whole = LAYERS * of_block + (LETTERS + LENGTH) * D + 2 * D
    assert trained(base()) == whole
    assert (count / whole > 0.05) == bool(preset)


@pytest.mark.parametrize("rank", [1, 4, 16])
def test_a_layer_is_pefts_with_the_same_matrices(rank: int) -> None:
    class Holder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(48, 40)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x)

    holder = Holder()
    mine = LowRank(nn.Linear(48, 40), [0], rank, 6.0, rng(1))
    mine.frozen.load_state_dict(holder.layer.state_dict())
    stirred(mine.b)
    theirs = peft.get_peft_model(holder, peft.LoraConfig(r=rank, lora_alpha=6, target_modules=["layer"]))
    adapter = theirs.base_model.model.layer
    with torch.no_grad():
        adapter.lora_A["default"].weight.copy_(mine.a[0])
        adapter.lora_B["default"].weight.copy_(mine.b[0])
        x = torch.randn(20, 48, generator=rng(2))
        expected = theirs(x)
        torch.testing.assert_close(mine(x), expected, atol=1e-6, rtol=1e-5)
        merged = theirs.merge_and_unload().layer
        torch.testing.assert_close(mine.merged().weight, merged.weight, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("targets", ["q", "qv", "qkvo", "all"])
def test_a_difference_starts_at_nothing_and_merges_to_plain_layers(targets: str) -> None:
    old = base()
    model = adapt(old, targets, 4, 8.0, rng(3))
    with torch.no_grad():
        assert torch.equal(model(words(10)), old(words(10)))
        stirred(model)
        plain = merge(model)
        assert not torch.allclose(model(words(10)), old(words(10)), atol=0.1)
        torch.testing.assert_close(plain(words(10)), model(words(10)), atol=1e-4, rtol=1e-4)
    assert not any(isinstance(part, LowRank) for part in plain.modules())
    assert {name: weight.shape for name, weight in plain.named_parameters()} == {
        name: weight.shape for name, weight in old.named_parameters()
    }


def test_only_the_asked_thirds_of_the_attention_change() -> None:
    old = base()
    model = adapt(old, "qv", 2, 8.0, rng())
    stirred(model)
    before, after = old.state_dict(), merge(model).state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {f"blocks.{layer}.qkv.weight" for layer in range(LAYERS)}
    difference = after["blocks.0.qkv.weight"] - before["blocks.0.qkv.weight"]
    assert (difference[D : 2 * D] == 0).all()  # keys
    for rows in (difference[:D], difference[2 * D :]):
        assert np.linalg.matrix_rank(rows.numpy(), tol=1e-4) == 2


def test_training_a_difference_or_a_head_leaves_the_base_as_it_was() -> None:
    old = base()
    before = {name: weight.clone() for name, weight in old.state_dict().items()}
    for model in (adapt(old, "all", 4, 8.0, rng()), NewHead(old)):
        fit(model, False, 3, 1e-2, rng(), no_tick, 0.0)
    assert all(torch.equal(weight, before[name]) for name, weight in old.state_dict().items())
    torch.testing.assert_close(NewHead(old)(words(5)), old(words(5)))


def test_tasks_are_what_they_say_and_share_two_places() -> None:
    word = torch.arange(LENGTH)[None]
    assert reverse(word)[0].numpy().tolist() == [7, 6, 5, 4, 3, 2, 1, 0]
    assert rotate(word)[0].numpy().tolist() == [1, 2, 3, 4, 5, 6, 7, 0]
    assert (reverse(word) == rotate(word)).sum() == 2
    assert sum(accuracies(base(), words(200))) < 0.5  # untrained: no better than guessing at both
