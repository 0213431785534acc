"""residual-gradient-flow: its layer against torch's, and stacks whose sums are taken away."""

import pytest
import torch
from torch import nn

from demos.contract import Cell, Result
from demos.transformers.residual_gradient_flow import WIDTH, Layer, Params, Stack, gradients, run, token_shares
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng

REACHES, APART = "In this stack the gradient reaches the first layer", "In this stack tokens stay apart"
LEARNS = "In pre-norm, with sums, a stack of this depth learns to copy"
SYMBOLS = torch.randint(8, (4, 8), generator=rng())


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "residual-gradient-flow")


def test_without_sums_and_norms_the_gradient_dies() -> None:
    outcome = result(steps=0, **Params.presets["no sum, no norms"].values)
    assert failed(outcome) == [REACHES, APART, LEARNS]
    assert metric(outcome, "gradient at the first layer over the last's") < 1e-8


def test_without_sums_norms_save_the_gradient_and_not_the_tokens() -> None:
    outcome = result(steps=0, **Params.presets["no sum"].values)
    assert failed(outcome) == [APART, LEARNS]


def test_forty_eight_pre_norm_layers_pass_gradients_on() -> None:
    assert failed(result(**Params.presets["48 layers"].values)) == [LEARNS]  # nothing was trained


def test_zeroed_branches_leave_everything_as_it_was() -> None:
    outcome = result(steps=0, **Params.presets["zeroed branches"].values)
    assert metric(outcome, "gradient at the first layer over the last's") == pytest.approx(1)


@pytest.mark.parametrize("norm_first", [False, True])
def test_the_layer_is_torchs(norm_first: bool) -> None:
    ours = Layer(True, "pre" if norm_first else "post", False)
    theirs = nn.TransformerEncoderLayer(WIDTH, 4, 4 * WIDTH, dropout=0.0, batch_first=True, norm_first=norm_first)
    weights = ours.state_dict()
    names = {"qkv.": "self_attn.in_proj_", "out.": "self_attn.out_proj.", "up.": "linear1.", "down.": "linear2."}
    for here, there in names.items():
        weights = {name.replace(here, there): weight for name, weight in weights.items()}
    theirs.load_state_dict(weights)
    x = torch.randn(2, 5, WIDTH, generator=rng())
    torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=1e-5)


def test_gradients_are_those_of_the_loss_by_what_each_layer_returns() -> None:
    stack = Stack(3, True, "none", False, 0)
    norms = gradients(stack, SYMBOLS)
    last = stack.through(SYMBOLS)[-1].detach().requires_grad_()
    (expected,) = torch.autograd.grad(stack.loss(last, SYMBOLS), last)
    assert len(norms) == 3
    assert norms[-1] == pytest.approx(expected.square().sum().sqrt().item(), rel=1e-5)


def test_the_share_of_equal_tokens_is_nothing() -> None:
    stack = Stack(2, True, "post", False, 0)
    assert max(token_shares(stack, torch.full((2, 8), 3))) < 1e-6
    assert min(token_shares(stack, SYMBOLS)) > 0.1
