"""tokenizer-bpe against the tokenizers library, and a vocabulary without room for merges."""

from collections import Counter

import pytest
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

from demos.contract import Cell, Result
from demos.shared.prose import read_sentences
from demos.transformers.tokenizer_bpe import BPE, UNKNOWN, Params, merge, most_missed, readable, run, split_words
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric

SENTENCES = read_sentences()
TEXT, UNSEEN = " ".join(SENTENCES[:400]), " ".join(SENTENCES[-200:])


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "tokenizer-bpe")


def test_a_vocabulary_as_large_as_the_alphabet_merges_nothing() -> None:
    outcome = result(**Params.presets["bytes alone"].values)
    assert failed(outcome) == ["The vocabulary shortens unseen text"]


@pytest.mark.parametrize("name", ["bytes", "large"])
def test_other_settings_keep_the_claims(name: str) -> None:
    assert failed(result(**Params.presets[name].values)) == []


def test_pieces_are_those_of_the_tokenizers_library() -> None:
    ours = BPE(TEXT, 500, "char")
    theirs = Tokenizer(models.BPE())
    theirs.pre_tokenizer = pre_tokenizers.Split(Regex(r" ?\S+|\s"), behavior="isolated")  # pyright: ignore
    theirs.train_from_iterator([TEXT], trainers.BpeTrainer(vocab_size=500, min_frequency=2, show_progress=False))
    assert theirs.get_vocab_size() == len(ours.alphabet) + len(ours.merges)
    words = sorted(set(split_words(UNSEEN, "char")))
    known = [word for word in words if set(word) <= ours.alphabet]
    same = sum(theirs.encode(word).tokens == ours.encode(word) for word in known)
    assert len(known) > 500
    assert same >= 0.99 * len(known)


@pytest.mark.parametrize("text", ["naïve café 😀", "a\tb\n\n  c ", "日本語 und Ελλάδα"])
def test_bytes_lose_nothing_and_characters_only_what_they_do_not_know(text: str) -> None:
    byte, char = BPE(TEXT, 400, "byte"), BPE(TEXT, 400, "char")
    assert byte.decode(byte.encode(text)) == text
    assert char.decode(char.encode(text)) == "".join(c if c in char.alphabet else UNKNOWN for c in text)


def test_merging_is_from_left_to_right() -> None:
    assert merge("aaa", ("a", "a")) == ["aa", "a"]
    assert merge(["ab", "c", "ab"], ("ab", "c")) == ["abc", "ab"]


def test_the_pairs_of_a_small_text_are_merged_in_the_order_of_their_counts() -> None:
    bpe = BPE("low low low lower lower newest", 100, "char")
    assert list(bpe.merges.items())[:2] == [(("l", "o"), 5), (("lo", "w"), 5)]  # of equals the older letters first
    assert bpe.encode(" lower") == [" lower"]
    assert most_missed(bpe) == 0
    assert Counter(bpe.merges.values())[1] == 0  # what is there once is not merged


def test_a_text_of_ones_own_is_learned_from() -> None:
    outcome = result(text="banana bandana " * 20, word=" banana", vocab_size=100)
    assert metric(outcome, "pieces of the word") == 1


def test_half_a_character_is_shown_in_hexadecimal() -> None:
    face = "😀".encode().decode("latin-1")
    assert readable([" a", face[:2], face], "byte") == "␣a · <F0><9F> · 😀"
