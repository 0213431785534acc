"""lora-adapter against peft with copied matrices, and what training every weight breaks."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from demos.contract import Cell, Result, no_tick
from demos.shared.shapes import draw_shapes
from demos.shared.words_to_shapes import WordUNet, tokenize
from demos.stable_diffusion.lora_adapter import GROUND, LoRA, Params, adapt, learn, merge, restyle, run
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def model() -> WordUNet:
    net = WordUNet(3, 8, rng())
    nn.init.normal_(net.last.weight, std=0.1, generator=rng(1))
    return net


def test_every_claim_holds_at_the_defaults() -> None:
    outcome = result()
    assert_claims_hold_as_listed(outcome, "lora-adapter")
    assert metric(outcome, "parameters trained") == 4 * (4 * 64 + 4 * 128 - 2 * 32)


@pytest.mark.parametrize("r", [1, 4])
def test_the_model_with_adapters_is_that_of_peft(r: int) -> None:
    base = model()
    ours, adapters = adapt(base, r, 6.0, rng(2))
    for adapter in adapters.values():
        nn.init.normal_(adapter.B, std=0.5, generator=rng(adapter.B.numel()))
    names = ["to_q", "to_k", "to_v", "to_out"]
    theirs: Any = get_peft_model(copy.deepcopy(base), LoraConfig(r=r, lora_alpha=6, target_modules=names))
    with torch.no_grad():
        for place, block in (("8x8", "read_high"), ("4x4", "read_low")):
            for name in names:
                layer: Any = theirs.base_model.model.get_submodule(block).get_submodule(name)
                layer.lora_A["default"].weight.copy_(adapters[f"{place} {name}"].A)
                layer.lora_B["default"].weight.copy_(adapters[f"{place} {name}"].B)
        x, t = torch.randn(3, 3, 8, 8, generator=rng(3)), torch.tensor([0.1, 0.5, 1.0])
        words = base.read(tokenize(["red disc left"] * 3))
        expected = theirs(x, t, words)
        torch.testing.assert_close(ours(x, t, words), expected, rtol=1e-5, atol=1e-5)
        assert (base(x, t, words) - expected).abs().max() > 0.01
        torch.testing.assert_close(merge(base, adapters)(x, t, words), expected, rtol=1e-4, atol=1e-4)


def test_an_adapter_starts_as_nothing_and_has_a_low_rank() -> None:
    linear = nn.Linear(20, 30)
    adapter = LoRA(linear, 3, 6.0, rng())
    x = torch.randn(5, 20, generator=rng(1))
    assert torch.equal(adapter(x), linear(x))
    nn.init.normal_(adapter.B, generator=rng(2))
    assert np.linalg.matrix_rank(adapter.change().detach().numpy()) == 3
    torch.testing.assert_close(adapter(x) - linear(x), x @ adapter.change().T, rtol=1e-4, atol=1e-4)


def test_only_adapters_learn() -> None:
    base = model()
    before = copy.deepcopy(base.state_dict())
    ours, adapters = adapt(base, 2, 2.0, rng())
    learn(ours, 5, rng(1), no_tick)
    assert all(torch.equal(base.state_dict()[name], before[name]) for name in before)
    assert torch.equal(ours.first.weight, base.first.weight)
    assert all(adapter.B.abs().max() > 0 for adapter in adapters.values())
    assert all(torch.equal(a.base.weight, before[n]) for a, n in [(adapters["8x8 to_q"], "read_high.to_q.weight")])


def test_the_new_style_changes_the_ground_and_leaves_the_ink() -> None:
    x, _ = draw_shapes(20, rng(), 16)
    styled, ink = restyle(x), x.amax(dim=1)
    torch.testing.assert_close(styled.movedim(1, -1)[ink == -1], GROUND.flatten().expand(int((ink == -1).sum()), 3))
    assert torch.equal(styled.movedim(1, -1)[ink == 1], x.movedim(1, -1)[ink == 1])


def test_training_every_weight_is_neither_small_nor_of_low_rank() -> None:
    outcome = result(method="full", base_steps=50, steps=10)
    missed = failed(outcome)
    assert "Few parameters are trained" in missed
    assert "The change of each weight has at most the stated rank" in missed
    assert metric(outcome, "trainable_share") == 1


def test_switched_off_it_does_nothing() -> None:
    outcome = result(alpha=0.0, base_steps=50, steps=10)
    assert "They lower the loss on the new style" in failed(outcome)
    assert metric(outcome, "forgetting") == pytest.approx(1)
