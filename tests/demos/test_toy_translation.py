"""toy-translation against sacrebleu, a hand-made sentence, and a decoder that cannot read."""

import importlib
from functools import cache
from itertools import pairwise
from typing import Any

import pytest
import torch

from demos.contract import Cell, Heatmap, Result
from demos.transformers.toy_translation import (
    ADJECTIVES,
    CASES,
    NOUNS,
    VERBS,
    Params,
    bleu,
    compose,
    ngrams,
    other_number,
    run,
    word_for_word,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng

sacrebleu: Any = importlib.import_module("sacrebleu")  # it has no types


@cache
def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    outcome = result()
    assert_claims_hold_as_listed(outcome, "toy-translation")
    assert metric(outcome, "whole sentences right") > 0.9
    heatmap = outcome.figures[0]
    assert isinstance(heatmap, Heatmap)
    assert all(sum(row) == pytest.approx(1, abs=1e-4) for row in heatmap.values)  # nothing is read from padding


def test_a_blind_decoder_writes_well_and_says_nothing() -> None:
    outcome = result(read_source=False, steps=200)
    assert failed(outcome) == ["It translates sentences that it has never seen"]
    assert metric(outcome, "verb last") > 0.9
    assert metric(outcome, "whole sentences right") < 0.05


def test_a_wider_beam_finds_the_same_translations() -> None:
    assert failed(result(beam_width=4, steps=200)) == []


@pytest.mark.parametrize("seed", range(5))
def test_bleu_is_sacrebleus(seed: int) -> None:
    dice = rng(seed)
    references = [compose(dice).invented for _ in range(50)]
    outputs = list[tuple[str, ...]]()
    for words in references:
        keep = torch.rand(len(words), generator=dice) < 0.85
        kept = [word for word, stays in zip(words, keep, strict=True) if stays] + [words[-1]] * int(
            torch.randint(3, (), generator=dice)
        )
        outputs.append(tuple(kept))
    theirs = sacrebleu.corpus_bleu(
        [" ".join(out) for out in outputs], [[" ".join(ref) for ref in references]],
        tokenize="none", smooth_method="none", force=True,
    )  # fmt: skip
    assert bleu(outputs, references) == pytest.approx(theirs.score, abs=0.01)


def test_bleu_is_clipped_and_punishes_brevity() -> None:
    reference = ("a", "b", "c", "d", "e")
    assert bleu([reference], [reference]) == pytest.approx(100)
    assert bleu([reference[:4]], [reference]) == pytest.approx(100 * torch.e ** (1 - 5 / 4))
    assert bleu([("a",) * 5], [reference]) == 0
    assert bleu([()], [reference]) == 0
    assert (ngrams("aaab", 2) & ngrams("aab", 2)).total() == 2


def test_a_sentence_is_the_same_in_both_languages() -> None:
    dice, nouns = rng(3), {stem: noun for noun, stem in NOUNS.items()}
    endings = {ending for both in CASES.values() for ending in both}
    for _ in range(200):
        pair = compose(dice)
        said = [nouns[word[:3]] for word in pair.invented if word[:3] in nouns and word[3:] in endings]
        heard = [word.removesuffix("s") for word in pair.english if word.removesuffix("s") in NOUNS]
        assert said == heard
        subject_plural = pair.english[[w.removesuffix("s") in NOUNS for w in pair.english].index(True)].endswith("s")
        assert pair.invented[-1].endswith("en" if subject_plural else "et")
        assert pair.invented[-1][:-2] in VERBS.values()
        for noun, other in pairwise(pair.invented):  # an adjective bears its noun's ending
            stem = other.rstrip("aio")
            if stem in ADJECTIVES.values():
                assert noun[3:] == other.removeprefix(stem)


def test_a_dictionary_keeps_the_order_and_knows_no_object() -> None:
    english = ("the", "old", "dog", "sees", "the", "birds", "today")
    assert word_for_word(english) == ("bresa", "kela", "videt", "pavai", "nun")
    assert other_number("videt") == "viden"
    assert other_number("viden") == "videt"
