"""encoder-block against torch's encoder layer, and the mask that an encoder does without."""

import pytest
import torch
from torch import nn

from demos.contract import Cell, Result, Table
from demos.transformers.encoder_block import Encoder, EncoderLayer, Params, run, similarity, torchs_stack, trace
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "encoder-block")


def test_under_a_causal_mask_the_first_token_does_not_see_the_last() -> None:
    assert failed(result(**Params.presets["causal mask"].values)) == ["No mask"]


@pytest.mark.parametrize("name", ["norm first", "paper size"])
def test_other_settings_keep_the_claims(name: str) -> None:
    outcome = result(**Params.presets[name].values)
    assert failed(outcome) == []
    if name == "paper size":
        assert metric(outcome, "parameters of the stack") == 18_914_304


@pytest.mark.parametrize("norm_first", [False, True])
def test_one_layer_is_torchs_with_its_weights(norm_first: bool) -> None:
    theirs = nn.TransformerEncoderLayer(16, 2, 40, dropout=0.0, batch_first=True, norm_first=norm_first)
    ours = EncoderLayer(16, 2, 40, norm_first)
    for weight in theirs.parameters():  # norms and biases too, which torch starts at 0 and 1
        nn.init.normal_(weight, std=0.3, generator=rng(weight.numel()))
    names = {"self_attn.in_proj_": "qkv.", "self_attn.out_proj.": "out.", "linear1.": "up.", "linear2.": "down."}
    weights = theirs.state_dict()
    for there, here in names.items():
        weights = {name.replace(there, here): weight for name, weight in weights.items()}
    ours.load_state_dict(weights)
    x = torch.randn(3, 5, 16, generator=rng())
    mask = torch.ones(5, 5).triu(1).bool()
    torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=1e-5)
    torch.testing.assert_close(ours(x, causal=True), theirs(x, src_mask=mask), rtol=0, atol=1e-5)


def test_the_weights_are_copied_layer_by_layer() -> None:
    params = Params.model_validate({"layers": 3, "norm_first": True})
    ours = Encoder(params, 3, rng())
    theirs = torchs_stack(ours, params)
    for mine, copied in zip(ours.layers, theirs.layers, strict=True):
        torch.testing.assert_close(copied.get_parameter("linear1.weight"), mine.get_parameter("up.weight"))
    assert not torch.equal(theirs.layers[0].get_parameter("linear1.weight"), ours.layers[1].get_parameter("up.weight"))


def test_the_trace_names_the_parts_in_the_order_they_ran() -> None:
    x = torch.randn(4, 12, 64, generator=rng())
    attention, network = (
        ["queries, keys, values", "multi-head self-attention"],
        ["feed-forward, inside", "feed-forward"],
    )
    for norm_first, order in ((False, [*attention, "add & norm", *network, "add & norm"]),
                              (True, ["norm", *attention, "norm", *network])):  # fmt: skip
        seen = trace(Encoder(Params.model_validate({"norm_first": norm_first}), 2, rng()), x, causal=False)
        assert [name for name, _ in seen] == [f"layer {n}: {name}" for n in (1, 2) for name in order]


def test_similarity_of_equal_and_of_opposite_tokens() -> None:
    x = torch.randn(1, 1, 8, generator=rng()).repeat(1, 12, 1)
    assert similarity(x) == pytest.approx(1)
    x[:, :6] *= -1  # of the 132 ordered pairs 72 are opposite
    assert similarity(x) == pytest.approx((60 - 72) / 132)


def test_the_parameters_of_the_table_add_up() -> None:
    outcome = result(layers=3)
    table = outcome.tables[1]
    assert isinstance(table, Table)
    assert sum(int(row[1]) for row in table.rows) == metric(outcome, "parameters of a layer")
    assert sum(int(row[3]) for row in table.rows) == metric(outcome, "parameters of the stack")
