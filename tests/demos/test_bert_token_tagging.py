"""A tag for every token: sentences and their tags, what is ignored, whole spans, and what B- and rare names are for."""

import importlib
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import cross_entropy

from demos.bert.bert_token_tagging import (
    BARE,
    IGNORED,
    KNOWN,
    NEW,
    PAD,
    PIECES,
    RARE,
    TELLING,
    Params,
    Span,
    Tagger,
    encode,
    run,
    score,
    tags_of,
    to_spans,
    to_tags,
    write,
)
from demos.contract import Bars, Result
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng

transformers: Any = importlib.import_module("transformers.loss.loss_utils")
tokenizers: Any = importlib.import_module("tokenizers")
sklearn: Any = importlib.import_module("sklearn.metrics")


@cache
def result() -> Result:
    return run(Params.model_validate({}))


@cache
def taught(preset: str) -> Result:
    return run(Params.model_validate({**Params.presets[preset].values, "steps": 100}))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "bert-token-tagging")


def test_what_the_sentence_does_not_tell_types_no_new_name() -> None:
    (bars,) = (figure for figure in result().figures if isinstance(figure, Bars))
    told, bare, _ = bars.series["new names"]
    assert told > 0.9
    assert bare == metric(result(), "f1 of new names where the sentence does not tell") < 0.6
    assert bars.series["known names"][1] > 0.95


def test_without_b_neighbours_melt_into_one() -> None:
    assert "Neighbours of one type stay two" in failed(taught("without B-"))
    assert taught("without B-").claims[2].measured == 0
    assert metric(taught("without B-"), "spans found, for each of the gold ones") < 0.85
    assert metric(result(), "spans found, for each of the gold ones") == pytest.approx(1, abs=0.03)


def test_of_well_known_names_only_a_list_is_learned() -> None:
    names = failed(taught("well-known names only"))
    assert "New names are found by what stands around them" in names
    assert "Known names are found" not in names


@pytest.mark.parametrize("values", [{"task": "pos"}, {"task": "chunk"}])
def test_other_tags_are_learned_by_the_same_layer(values: dict[str, str]) -> None:
    outcome = run(Params.model_validate({**values, "steps": 60}))
    assert failed(outcome) == []
    assert metric(outcome, "f1") > 0.95


SENTENCE = ["tell", "bal ##do", "van", "ada", "kurt", "called", "."]
TAGS = {
    ("ner", "bio"): ["O", "B-PER", "I-PER", "I-PER", "B-PER", "O", "O"],
    ("ner", "io"): ["O", "I-PER", "I-PER", "I-PER", "I-PER", "O", "O"],
    ("pos", "bio"): ["VERB", "PROPN", "PROPN", "PROPN", "PROPN", "VERB", "PUNCT"],
    ("chunk", "bio"): ["B-VP", "B-NP", "I-NP", "I-NP", "B-NP", "B-VP", "O"],
}
SPANS: dict[str, list[Span]] = {
    "ner": [(1, 4, "PER"), (4, 5, "PER")],
    "pos": [(n, n + 1, tag) for n, tag in enumerate(TAGS["pos", "bio"])],
    "chunk": [(0, 1, "VP"), (1, 4, "NP"), (4, 5, "NP"), (5, 6, "VP")],
}


@pytest.mark.parametrize(("task", "scheme"), TAGS)
def test_tags_tell_spans_and_only_without_b_neighbours_are_lost(task: str, scheme: str) -> None:
    row = to_tags(SPANS[task], 7, tags_of(task, scheme))
    assert row == TAGS[task, scheme]
    assert to_spans(row) == ([(1, 5, "PER")] if scheme == "io" else SPANS[task])


def test_an_i_that_goes_on_with_nothing_begins_a_span() -> None:
    assert to_spans(["I-LOC", "I-LOC", "O", "B-PER", "I-LOC"]) == [(0, 2, "LOC"), (3, 4, "PER"), (4, 5, "LOC")]


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 3), st.sampled_from(sorted(KNOWN))), max_size=8))
def test_under_bio_all_spans_come_back(parts: list[tuple[int, int, str]]) -> None:
    spans, n = list[Span](), 0
    for gap, length, kind in parts:
        spans.append((n + gap, n + gap + length, kind))
        n += gap + length
    assert to_spans(to_tags(spans, n + 1, tags_of("ner", "bio"))) == spans


def test_a_written_sentence_has_words_and_spans_of_its_frame() -> None:
    for _ in range(20):
        words, spans = write(TELLING[0], NEW, 0.0, rng())
        assert words[0] in ("tell", "ask")
        assert [kind for _, _, kind in spans["ner"]] == ["PER", "PER"]
        assert spans["ner"][0][1] == spans["ner"][1][0]
        assert [part for _, _, part in spans["pos"]][-2:] == ["VERB", "PUNCT"]
        assert [kind for _, _, kind in spans["chunk"]] == ["VP", "NP", "NP", "VP"]


def test_training_has_all_pieces_and_none_of_the_new_names() -> None:
    assert not set(RARE) & set(NEW)
    assert {piece for name in NEW for piece in name.split()} == {piece for name in RARE for piece in name.split()}
    generator, names = rng(), set[str]()
    for frame in (TELLING + BARE) * 100:
        words, _ = write(frame, RARE, 0.5, generator)
        names.update(word for word in words if " " in word)
    assert names == set(RARE)


def test_first_pieces_are_those_of_the_wordpiece_tokenizer() -> None:
    vocabulary = {piece: n for n, piece in enumerate(PIECES)}
    wordpiece = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocabulary, unk_token=PIECES[0]))
    wordpiece.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    x, y = encode([(SENTENCE, SPANS)], "ner", tags_of("ner", "bio"))
    theirs = wordpiece.encode(" ".join(word.replace(" ##", "") for word in SENTENCE))
    assert [PIECES[n] for n in x[0]][: len(theirs.tokens) + 2] == ["[CLS]", *theirs.tokens, "[SEP]"]
    assert (x[0, len(theirs.tokens) + 2 :] == PAD).all()
    first = [n for n, word in enumerate(theirs.word_ids) if n == 0 or word != theirs.word_ids[n - 1]]
    assert (y[0] != IGNORED).nonzero().flatten().numpy().tolist() == [n + 1 for n in first]
    assert [tags_of("ner", "bio")[n] for n in y[0] if n != IGNORED] == TAGS["ner", "bio"]


def test_the_loss_is_transformers_and_nothing_pulls_at_ignored_places() -> None:
    tags, generator = tags_of("ner", "bio"), rng()
    x, y = encode([write(frame, RARE, 0.5, generator) for frame in TELLING + BARE], "ner", tags)
    scores: Tensor = Tagger(len(tags), rng())(x)
    assert scores.shape == (len(x), x.shape[1], len(tags))
    ours = cross_entropy(scores.transpose(1, 2), y, ignore_index=IGNORED)

    class Config:
        num_labels = len(tags)

    theirs: Tensor = transformers.ForTokenClassification(scores, y, Config)
    torch.testing.assert_close(ours, theirs)
    (pull,) = torch.autograd.grad([ours], [scores])
    assert (pull[y == IGNORED] == 0).all()
    assert (pull[y != IGNORED] != 0).any(dim=1).all()


def test_padding_changes_nothing() -> None:
    tags = tags_of("ner", "bio")
    x, _ = encode([(SENTENCE, SPANS)], "ner", tags)
    model, real = Tagger(len(tags), rng()), (x != PAD)[0]
    with torch.no_grad():
        before = model(x)[:, real]
        model.encoder.words.weight[PAD] += 5
        torch.testing.assert_close(model(x)[:, real], before)


@settings(max_examples=25)
@given(st.lists(st.tuples(st.sets(st.integers(0, 8), max_size=4), st.sets(st.integers(0, 8), max_size=4)), min_size=1))
def test_the_score_is_scikit_learn_s_over_all_possible_spans(sentences: list[tuple[set[int], set[int]]]) -> None:
    every: list[Span] = [(n, n + length, kind) for n in range(3) for length in (1, 2) for kind in ("A", "B")][:9]
    gold, found = ([[every[n] for n in sorted(row[side])] for row in sentences] for side in (0, 1))
    flags = [[span in row for row in rows for span in every] for rows in (gold, found)]
    expected = [f(*flags, zero_division=0) for f in (sklearn.precision_score, sklearn.recall_score, sklearn.f1_score)]
    assert score(gold, found) == pytest.approx(expected)
