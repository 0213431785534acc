"""gpt2-from-scratch against transformers' GPT-2, and a decoder without its mask."""

import math
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from demos.contract import Cell, Heatmap, Result
from demos.gpt.gpt2_from_scratch import VOCABULARY, Gpt2, Params, influence, run
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    outcome = result()
    assert_claims_hold_as_listed(outcome, "gpt2-from-scratch")
    jacobian = outcome.figures[0]
    assert isinstance(jacobian, Heatmap)
    assert jacobian.values[0][1:] == [0.0] * 11  # the first position depends on itself alone


def test_without_the_mask_the_future_leaks() -> None:
    assert failed(result(**Params.presets["no-mask"].values)) == [
        "Outputs ignore later words",
        "Same logits as torch's own layers with a causal mask",
    ]


@pytest.mark.parametrize("params", [{"heads": 7, "d_model": 60}, {"layers": 6, "context": 8}, {"d_model": 16}])
def test_all_claims_hold_at_other_sizes(params: dict[str, int]) -> None:
    assert failed(result(**params)) == []


def test_more_blocks_leave_every_shape_as_it_is() -> None:
    short, long = ([row[1] for row in result(layers=n).tables[0].rows] for n in (2, 6))
    assert len(long) == len(short) + 4 * 8
    assert set(long) == set(short)
    assert short[-1] == f"64 × {VOCABULARY}"


@torch.no_grad()
@pytest.mark.parametrize(("layers", "heads"), [(1, 1), (3, 4)])
def test_logits_and_weights_are_those_of_transformers_gpt2(layers: int, heads: int) -> None:
    ours = Gpt2(Params.model_validate({"layers": layers, "heads": heads}), rng())
    make: Any = GPT2Config
    config = make(
        vocab_size=VOCABULARY, n_positions=64, n_embd=64, n_layer=layers, n_head=heads, bos_token_id=0, eos_token_id=0
    )
    theirs: Any = GPT2LMHeadModel(config).eval()
    places = {"ln_1": "ln_1", "attn": "attn.c_attn", "proj": "attn.c_proj", "ln_2": "ln_2", "fc": "mlp.c_fc",
              "out": "mlp.c_proj"}  # fmt: skip
    names = {"wte": "wte.weight", "wpe": "wpe.weight", "ln_f.g": "ln_f.weight", "ln_f.b": "ln_f.bias"}
    ends = {"w": "weight", "g": "weight", "b": "bias"}
    for name in ours.weights.keys() - names.keys():
        block, part, end = name.split(".")
        names[name] = f"h.{block[1:]}.{places[part]}.{ends[end]}"
    state = dict(theirs.transformer.named_parameters())
    assert sorted(names.values()) == sorted(state)  # no weight is left out
    for name, weight in ours.weights.items():
        weight += 0.1 * torch.randn(weight.shape, generator=rng(len(name)))  # biases and gains away from 0 and 1
        state[names[name]].copy_(weight)
    ids = torch.randint(VOCABULARY, (40,), generator=rng(1))
    torch.testing.assert_close(ours.forward(ids), theirs(ids[None]).logits[0], rtol=0, atol=1e-4)
    assert sum(weight.numel() for weight in ours.weights.values()) == theirs.num_parameters()


def test_the_influence_is_the_norm_of_the_jacobian() -> None:
    gpt = Gpt2(Params.model_validate({"layers": 1, "d_model": 16, "context": 8}), rng())
    x = torch.randn(4, 16, generator=rng(1))
    direction = torch.randn(4, VOCABULARY, generator=rng(2))
    functional: Any = torch.autograd.functional  # untyped

    def directed(x: torch.Tensor) -> torch.Tensor:
        return (gpt.blocks(x) * direction).sum(dim=1)  # (T,)

    jacobian = functional.jacobian(directed, x)  # (T, T, d)
    torch.testing.assert_close(influence(gpt, x, rng(2)), jacobian.square().sum(dim=2).sqrt())


def test_an_untrained_model_is_as_unsure_as_can_be() -> None:
    assert metric(result(layers=6), "loss before training") == pytest.approx(math.log(VOCABULARY), rel=0.05)
