"""tokenizer-wordpiece against the tokenizers library, and merges by count alone."""

from collections import Counter

import pytest
from tokenizers import Tokenizer, models

from demos.contract import Cell, Result
from demos.shared.prose import read_sentences
from demos.transformers.tokenizer_wordpiece import (
    Params,
    brute_force,
    build_inputs,
    encode_word,
    learn,
    merge,
    run,
    spell,
    split_words,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    outcome = result()
    assert_claims_hold_as_listed(outcome, "tokenizer-wordpiece")
    assert 0 < metric(outcome, "unk-rate") < 0.1


def test_by_count_it_merges_what_bpe_merges() -> None:
    assert failed(result(**Params.presets["by count"].values)) == ["Its first 20 merges are not BPE's"]


def test_pairs_that_occur_once_are_of_little_use() -> None:
    assert failed(result(**Params.presets["rare pairs"].values)) == ["Unseen words become few pieces"]


@pytest.mark.parametrize("name", ["cased", "large"])
def test_other_settings_keep_the_claims(name: str) -> None:
    assert failed(result(**Params.presets[name].values)) == []


def test_words_are_cut_as_the_tokenizers_library_cuts_them() -> None:
    sentences = read_sentences()
    counts = Counter(split_words(" ".join(sentences[:300]), lowercase=True))
    vocabulary, _ = learn(counts, 300, "likelihood", 20)
    theirs = Tokenizer(models.WordPiece({piece: n for n, piece in enumerate(vocabulary)}, unk_token="[UNK]"))  # noqa: S106
    words = sorted({*split_words(" ".join(sentences[300:]), lowercase=True), "😀", "naïve", "zzzz"})
    assert len(words) >= 1000
    assert [theirs.encode(word).tokens for word in words] == [encode_word(word, set(vocabulary)) for word in words]


def test_the_pair_of_the_best_score_is_merged_first() -> None:
    # of "ab" 4 times and "ac" 3 times: a+##b 4/(7·4), a+##c 3/(7·3): equal to 1/7 both, and the later name wins
    _, merges = learn(Counter({"ab": 4, "ac": 3}), 100, "likelihood", 1)
    assert merges[0] == (("a", "##c"), pytest.approx(1 / 7), 3)
    _, merges = learn(Counter({"ab": 4, "ac": 3}), 100, "count", 1)
    assert merges[0] == (("a", "##b"), 4, 4)


def test_the_mark_stands_on_what_continues_a_word() -> None:
    assert spell("cats") == ["c", "##a", "##t", "##s"]
    assert merge(["c", "##a", "##t"], ("##a", "##t")) == ["c", "##at"]
    assert merge(["c", "##a", "##t"], ("c", "##a")) == ["ca", "##t"]


def test_the_longest_piece_is_taken_even_where_it_leads_nowhere() -> None:
    vocabulary = {"un", "una", "##aff", "##ffable", "##able", "##f"}
    assert encode_word("unaffable", vocabulary) == ["una", "##ffable"] == brute_force("unaffable", vocabulary)
    assert encode_word("unaffed", vocabulary) == ["[UNK]"] == brute_force("unaffed", vocabulary)


def test_two_texts_make_one_input() -> None:
    tokens, segments = build_inputs(["a", "##b"], ["c"])
    assert tokens == ["[CLS]", "a", "##b", "[SEP]", "c", "[SEP]"]
    assert segments == [0, 0, 0, 0, 1, 1]
