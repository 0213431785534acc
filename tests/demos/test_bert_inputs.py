"""bert-inputs against transformers' BertModel and its word pieces, and a causal mask."""

from typing import Any

import pytest
import tokenizers
import torch
from transformers import BertConfig, BertModel

from demos.bert.bert_inputs import (
    EPS,
    HEADS,
    ID,
    VOCABULARY,
    Encoder,
    InputTooLong,
    Params,
    pack,
    refusals,
    run,
    tokenize,
    word_pieces,
)
from demos.contract import Cell, Result
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def tokens(outcome: Result) -> list[Cell]:
    return [row[1] for row in outcome.tables[0].rows]


def test_every_claim_holds_at_the_defaults() -> None:
    outcome = result()
    assert_claims_hold_as_listed(outcome, "bert-inputs")
    assert " ".join(map(str, tokens(outcome))) == "[CLS] my dog is cute [SEP] he likes play ##ing [SEP]"  # figure 2
    assert [row[3] for row in outcome.tables[0].rows] == [0] * 6 + [1] * 5


def test_a_causal_mask_leaves_cls_alone() -> None:
    outcome = result(**Params.presets["causal"].values)
    assert "Every output hears every token" in failed(outcome)
    assert metric(outcome, "change of [CLS] when the last token changes") == 0


def test_one_sentence_has_one_segment() -> None:
    outcome = result(**Params.presets["one-sentence"].values)
    assert failed(outcome) == []
    assert {row[3] for row in outcome.tables[0].rows} == {0}


@pytest.mark.parametrize("name", ["masked", "too-long"])
def test_the_other_presets_hold_all_claims(name: str) -> None:
    outcome = result(**Params.presets[name].values)
    assert failed(outcome) == []
    assert ("[MASK]" in tokens(outcome)) == (name == "masked")
    assert metric(outcome, "tokens cut") == (3 if name == "too-long" else 0)


@torch.no_grad()
@pytest.mark.parametrize("layers", [1, 3])
def test_the_encoder_is_transformers_bert(layers: int) -> None:
    params = Params.model_validate({"layers": layers})
    ours = Encoder(params, rng())
    make: Any = BertConfig
    config = make(
        vocab_size=len(VOCABULARY), hidden_size=64, num_hidden_layers=layers, num_attention_heads=HEADS,
        intermediate_size=256, max_position_embeddings=32, layer_norm_eps=EPS,
    )  # fmt: skip
    theirs: Any = BertModel(config).eval()
    for name, weight in theirs.named_parameters():
        weight.fill_(1.0 if name.endswith("LayerNorm.weight") else 0.0)
    for kind, table in (("word", ours.tokens), ("token_type", ours.segments), ("position", ours.positions)):
        getattr(theirs.embeddings, f"{kind}_embeddings").weight.copy_(table)
    for layer, W in zip(theirs.encoder.layer, ours.layers, strict=True):
        attention = layer.attention
        places = {"q": attention.self.query, "k": attention.self.key, "v": attention.self.value,
                  "o": attention.output.dense, "up": layer.intermediate.dense, "down": layer.output.dense}  # fmt: skip
        for name, linear in places.items():
            linear.weight.copy_(W[name])
    ids = torch.randint(5, len(VOCABULARY), (2, 12), generator=rng(1))
    segments = torch.tensor([0] * 7 + [1] * 5)
    real = torch.ones(2, 12, dtype=torch.bool)
    real[1, 9:] = False
    expected = theirs(ids, token_type_ids=segments.expand(2, -1), attention_mask=real.long()).last_hidden_state
    embedded = theirs.embeddings(ids, token_type_ids=segments.expand(2, -1))
    for row in range(2):
        x = ours.embed(ids[row], segments)
        torch.testing.assert_close(x, embedded[row], rtol=0, atol=1e-5)
        output = ours.encode(x, real[row])
        torch.testing.assert_close(output[real[row]], expected[row][real[row]], rtol=0, atol=1e-5)


def test_word_pieces_are_those_of_the_tokenizers_library() -> None:
    models: Any = tokenizers.models
    library: Any = models.WordPiece(vocab=ID, unk_token="[UNK]")  # noqa: S106
    for word in ("playing", "likes", "cute", "barked", "loudly", "xylophone", "a", "zebra", "mysql", "déjà"):
        assert word_pieces(word) == [token.value for token in library.tokenize(word)]


def test_text_is_lowered_and_signs_stand_alone() -> None:
    assert tokenize("My dog, is [MASK]!") == ["my", "dog", "[UNK]", "is", "[MASK]", "[UNK]"]
    assert tokenize("") == []


def test_the_longer_sentence_is_cut_first() -> None:
    assert pack(["a"] * 5, ["b"] * 2, 8) == (["[CLS]", "a", "a", "a", "[SEP]", "b", "b", "[SEP]"], [0] * 5 + [1] * 3, 2)
    assert pack(["a"] * 9, [], 8) == (["[CLS]", *["a"] * 6, "[SEP]"], [0] * 8, 3)


def test_an_input_longer_than_the_table_is_an_error() -> None:
    encoder = Encoder(Params.model_validate({"max_len": 8}), rng())
    with pytest.raises(InputTooLong, match="9 tokens, but only 8 positions"):
        encoder.embed(torch.zeros(9).long(), torch.zeros(9).long())
    assert refusals(encoder, 8) == 1
