"""clip-text-encoder against tokenizers' byte pairs and transformers' CLIP and BERT with copied weights."""

import itertools
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer as LibraryTokenizer
from tokenizers import models, pre_tokenizers, trainers
from torch import nn
from transformers.models.bert.configuration_bert import BertConfig
from transformers.models.bert.modeling_bert import BertModel
from transformers.models.clip.configuration_clip import CLIPTextConfig
from transformers.models.clip.modeling_clip import CLIPTextModel

from demos.contract import Cell, Result
from demos.stable_diffusion.clip_text_encoder import (
    END_OF_WORD,
    Encoder,
    Kind,
    Params,
    Tokenizer,
    draw_captions,
    learn_merges,
    run,
    symbols,
    words_of,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, rng

CLIP_NAMES = {
    "self_attn.q_proj": "q", "self_attn.k_proj": "k", "self_attn.v_proj": "v", "self_attn.out_proj": "out",
    "mlp.fc1": "fc1", "mlp.fc2": "fc2", "layer_norm1": "norm1", "layer_norm2": "norm2", "encoder.layers": "layers",
    "embeddings.token_embedding": "tokens", "embeddings.position_embedding": "positions", "final_layer_norm": "norm",
    "text_model.": "",
}  # fmt: skip
BERT_NAMES = {
    "attention.self.query": "q", "attention.self.key": "k", "attention.self.value": "v",
    "attention.output.dense": "out", "attention.output.LayerNorm": "norm1", "intermediate.dense": "fc1",
    "output.dense": "fc2", "output.LayerNorm": "norm2", "encoder.layer.": "layers.",
    "embeddings.word_embeddings": "tokens", "embeddings.position_embeddings": "positions",
    "embeddings.LayerNorm": "norm",
}  # fmt: skip


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def copied(theirs: Any, names: dict[str, str], kind: Kind) -> Encoder:
    """Our encoder with the random weights of a library model of 3 layers, 16 wide, 50 tokens."""
    for weight in theirs.parameters():
        nn.init.normal_(weight, std=0.3, generator=rng(weight.numel()))
    state: dict[str, torch.Tensor] = {}
    for name, value in theirs.state_dict().items():
        ours = name
        for old, new in names.items():
            ours = ours.replace(old, new)
        state[ours] = value
    if kind == "bert":  # every token is of the one kind: its vector can be added to the places
        state["positions.weight"] = state["positions.weight"] + state.pop("embeddings.token_type_embeddings.weight")
    encoder = Encoder(kind, 50, 16, 3, rng())
    encoder.load_state_dict({name: value for name, value in state.items() if "position_ids" not in name})
    theirs.eval()
    return encoder


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "clip-text-encoder")


def test_the_merges_are_those_that_the_library_learns() -> None:
    library: Any = LibraryTokenizer(models.BPE())
    splitter: Any = pre_tokenizers
    library.pre_tokenizer = splitter.WhitespaceSplit()
    trainer: Any = trainers.BpeTrainer
    words = ["".join(letters) for letters in itertools.product("abcd", repeat=4)]
    counts = torch.randint(1, 40, (len(words),), generator=rng()).numpy()  # so uneven that no two pairs tie
    text = [" ".join([word] * count) for word, count in zip(words, counts, strict=True)]
    library.train_from_iterator(text, trainer(vocab_size=8 + 20, end_of_word_suffix=END_OF_WORD, show_progress=False))
    vocabulary = library.get_vocab()
    learnt = sorted(
        (piece for piece in vocabulary if len(piece.removesuffix(END_OF_WORD)) > 1), key=vocabulary.__getitem__
    )
    assert len(learnt) == 20
    assert ["".join(pair) for pair in learn_merges(text, 20)] == learnt


@pytest.mark.parametrize("merges", [0, 30, 400])
def test_words_are_cut_as_the_library_cuts_them(merges: int) -> None:
    captions = draw_captions(200, rng())
    ours = Tokenizer(learn_merges(captions, merges))
    model: Any = models.BPE
    library = model(vocab=ours.id_of, merges=list(ours.rank), end_of_word_suffix=END_OF_WORD)
    words = {word for caption in captions for word in words_of(caption)} | {
        "rings",
        "disco",
        "reddest",
        "xylophone",
        "an",
    }
    for word in sorted(words):
        assert ours.cut(word) == [token.value for token in library.tokenize(word)]


def test_ids_begin_as_those_of_clip_do() -> None:
    tokenizer = Tokenizer([])
    assert tokenizer.encode("A") == [320]  # as in CLIP's own table
    assert tokenizer.id_of["!"] == 0
    assert len(tokenizer.pieces) + 48_894 == 49_408
    full = tokenizer.fill("a " * 100, tokenizer.end)
    assert [len(full), full[0], full[-1]] == [77, tokenizer.start, tokenizer.end]
    assert tokenizer.fill("", 0) == [tokenizer.start, tokenizer.end, *[0] * 75]
    assert tokenizer.decode(tokenizer.fill("  Café   GRÖSSE, 12", tokenizer.end)) == "café grösse , 1 2"
    assert symbols("é") == ["Ã", "\xa9</w>"]


@pytest.mark.parametrize("kind", ["cliptext", "openclip"])
def test_vectors_are_those_of_clip_in_transformers(kind: Kind) -> None:
    clip: Any = CLIPTextModel
    theirs = clip(CLIPTextConfig(
        vocab_size=50, hidden_size=16, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4,
        max_position_embeddings=77, hidden_act="quick_gelu" if kind == "cliptext" else "gelu",
    ))  # fmt: skip
    ours = copied(theirs, CLIP_NAMES, kind)
    ids = torch.randint(50, (2, 77), generator=rng())
    with torch.no_grad():
        vectors, _ = ours(ids, torch.zeros(2, 77, dtype=torch.bool))
        out = theirs(input_ids=ids, output_hidden_states=True)
        norm: Any = ours.norm
        expected = out.last_hidden_state if kind == "cliptext" else norm(out.hidden_states[-2])
    torch.testing.assert_close(vectors, expected, rtol=0, atol=1e-5)


def test_vectors_are_those_of_bert_in_transformers() -> None:
    bert: Any = BertModel
    theirs = bert(BertConfig(
        vocab_size=50, hidden_size=16, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4,
        max_position_embeddings=77, type_vocab_size=1,
    ), add_pooling_layer=False)  # fmt: skip
    ours = copied(theirs, BERT_NAMES, "bert")
    ids = torch.randint(50, (2, 77), generator=rng())
    padding = torch.arange(77) >= torch.tensor([[9], [40]])
    with torch.no_grad():
        vectors, weights = ours(ids, padding)
        expected = theirs(input_ids=ids, attention_mask=(~padding).long()).last_hidden_state
    torch.testing.assert_close(vectors, expected, rtol=0, atol=1e-5)
    assert weights[0, :, :, 9:].max() == 0


@pytest.mark.parametrize(("kind", "earlier_move"), [("cliptext", False), ("openclip", False), ("bert", True)])
def test_a_changed_token_moves_earlier_vectors_only_where_there_is_no_causal_mask(
    kind: Kind, earlier_move: bool
) -> None:
    encoder = Encoder(kind, 50, 32, 3, rng())
    ids = torch.randint(50, (1, 77), generator=rng())
    other = ids.clone()
    other[0, 20] = (ids[0, 20] + 1) % 50
    with torch.no_grad():
        moved = [encoder(row, torch.zeros(1, 77, dtype=torch.bool))[0] for row in (ids, other)]
    change = (moved[0] - moved[1])[0].abs().amax(dim=1)
    assert (change[:20].max() > 0).item() is earlier_move
    assert change[20:].min() > 0


def test_without_merges_every_letter_is_a_token_and_long_prompts_lose_their_end() -> None:
    outcome = result(**Params.presets["no merges"].values)
    assert failed(outcome) == ["Merges shorten captions"]
    assert {m.name: m.value for m in outcome.metrics}["pieces of the prompt"] == len("areddiscontheleft")
    long = {m.name: m.value for m in result(**Params.presets["too long"].values).metrics}
    assert long["pieces of the prompt"] == 75
    assert long["pieces of the prompt that are cut off"] > 0


@pytest.mark.parametrize("preset", ["bidirectional", "openclip"])
def test_the_other_encoders_keep_every_claim(preset: str) -> None:
    assert failed(result(**Params.presets[preset].values)) == []
