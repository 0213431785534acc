from functools import cache

import pytest
import torch
from torch import nn

from demos.contract import Result
from demos.transformers.seq2seq_transformer import (
    PAD,
    SYMBOLS,
    Params,
    Seq2Seq,
    Task,
    draw_sources,
    run,
    solve,
    spell,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, rng


@cache
def result() -> Result:
    return run(Params.model_validate({}))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "seq2seq-transformer")


def test_a_bag_of_symbols_cannot_be_reversed() -> None:
    outcome = run(Params.model_validate({**Params.presets["no positions"].values, "steps": 150, "d_model": 32}))
    assert failed(outcome) == ["Unseen sources are solved by greedy decoding", "Reversing reads the mirrored place"]


def torchs_model(ours: Seq2Seq, params: Params) -> nn.Transformer:
    """torch's transformer with our weights; without the last norms that torch adds to the paper's."""
    d, heads, layers = params.d_model, params.heads, params.layers
    encoder = nn.TransformerEncoderLayer(d, heads, 4 * d, dropout=0.0, batch_first=True)
    decoder = nn.TransformerDecoderLayer(d, heads, 4 * d, dropout=0.0, batch_first=True)
    theirs = nn.Transformer(
        d,
        heads,
        custom_encoder=nn.TransformerEncoder(encoder, layers, enable_nested_tensor=False),
        custom_decoder=nn.TransformerDecoder(decoder, layers),
        batch_first=True,
    )
    for mine, copied in ((ours.encoder, theirs.encoder), (ours.decoder, theirs.decoder)):
        weights = {name.replace("in_proj.", "in_proj_"): weight for name, weight in mine.state_dict().items()}
        copied.layers.load_state_dict(weights)
    return theirs


def test_one_pass_gives_what_torchs_transformer_gives() -> None:
    params = Params.model_validate({})
    ours = Seq2Seq(params, rng())
    for weight in ours.parameters():  # no bias stays 0 and no norm 1: a forgotten one would show
        nn.init.normal_(weight, std=0.2, generator=rng(weight.numel()))
    source = draw_sources(16, 8, True, rng(1))
    written = torch.randint(3, 3 + SYMBOLS, (16, 6), generator=rng(2))
    padding = source == PAD
    assert padding.any()
    expected = torchs_model(ours, params)(
        ours.embed(source),
        ours.embed(written),
        tgt_mask=torch.ones(6, 6).triu(1).bool(),
        src_key_padding_mask=padding,
        memory_key_padding_mask=padding,
    )
    logits, weights = ours.decode(written, ours.encode(source), source)
    assert torch.allclose(logits, expected @ ours.embedding.weight.T, atol=1e-5, rtol=1e-5)
    assert torch.allclose(weights.sum(dim=3), torch.ones(()))
    assert (weights.masked_select(padding[:, None, None]) == 0).all()


@pytest.mark.parametrize(
    ("task", "expected"), [("reverse", "tac"), ("copy", "cat"), ("sort", "act"), ("increment", "dba")]
)
def test_targets_are_the_tasks_answers(task: Task, expected: str) -> None:
    source = torch.tensor([[3 + ord(letter) - ord("a") for letter in "cat"] + [PAD]])
    answer = solve(task, source)
    assert answer.shape == (1, 5)
    assert answer[0, 3:].numpy().tolist() == [2, PAD]  # END, then padding
    assert spell(answer[0]) == expected


def test_what_is_tested_is_never_trained() -> None:
    trained, held_out = draw_sources(1000, 8, False, rng()), draw_sources(300, 8, True, rng(1))
    assert len(held_out) == 300
    assert (trained.sum(dim=1) % 10 != 0).all()
    assert (held_out.sum(dim=1) % 10 == 0).all()
    assert set((held_out != PAD).sum(dim=1).numpy().tolist()) == {4, 5, 6, 7, 8}


def test_greedy_decoding_writes_the_likeliest_symbol_of_each_prefix() -> None:
    model = Seq2Seq(Params.model_validate({}), rng())
    source = draw_sources(5, 8, True, rng(1))
    written = model.write(source)
    given = nn.functional.pad(written[:, :-1], (1, 0), value=1)
    with torch.no_grad():
        logits, _ = model.decode(given, model.encode(source), source)
    assert torch.equal(logits.argmax(dim=2), written)
