import math
from collections import Counter
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demos.contract import Result
from demos.shared.prose import read_sentences
from demos.transformers.tokenization_levels import (
    LETTERS,
    LEVELS,
    TRUST,
    UNKNOWN,
    Level,
    Neighbours,
    Params,
    Tokenizer,
    bits_per_character,
    join,
    learn_merges,
    run,
    split_sentences,
    split_words,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric

TEXT = ["the cat sat.", "the cat ran.", "a dog sat."]


@cache
def result() -> Result:
    return run(Params.model_validate({}))


def tokenizer(level: Level, **params: int) -> Tokenizer:
    return Tokenizer(level, TEXT, Params.model_validate({"min_count": 1, **params}))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "tokenization-levels")


def test_the_more_words_are_cut_the_more_are_unknown() -> None:
    rates = [metric(run(Params.model_validate({"level": "word", "min_count": n})), "unknown rate") for n in (1, 2, 5)]
    assert rates == sorted(rates)
    assert rates[0] > 0.01
    cut = run(Params.model_validate(Params.presets["rare words cut"].values))
    assert failed(cut) == ["Length and vocabulary go opposite ways"]


def test_more_pieces_are_longer() -> None:
    many = run(Params.model_validate(Params.presets["many pieces"].values))
    assert metric(many, "tokens per sentence") < metric(result(), "tokens per sentence") / 1.3


def test_sentences_end_at_a_stop_before_a_capital() -> None:
    sentences = read_sentences()
    assert split_sentences(" ".join(sentences)) == sentences
    assert split_sentences("See e.g. this. Then that? Yes.") == ["See e.g. this.", "Then that?", "Yes."]


@given(st.text(alphabet=st.sampled_from("ab .,'"), max_size=30))
def test_words_joined_again_are_the_text_up_to_the_spaces(text: str) -> None:
    assert "".join(split_words(text)).replace(" ", "") == text.replace(" ", "")


def test_the_most_frequent_pair_is_joined_first() -> None:
    words = Counter({"aab": 3, "ab": 2, "cb": 4})
    assert learn_merges(words, len(LETTERS) + 2) == [("a", "b"), ("c", "b")]
    assert join(list("aabab"), ("a", "b")) == ["a", "ab", "ab"]


@pytest.mark.parametrize("level", LEVELS)
def test_numbers_are_one_to_one_and_lead_back(level: Level) -> None:
    made = tokenizer(level)
    assert sorted(made.number.values()) == list(range(len(made.number)))
    for sentence in TEXT:
        assert made.decode(made.encode(sentence)) == sentence


def test_only_the_word_level_lacks_a_new_word() -> None:
    unseen = "the zebra sat."
    assert UNKNOWN in tokenizer("word").decode(tokenizer("word").encode(unseen))
    for level in LEVELS[1:]:
        assert tokenizer(level).decode(tokenizer(level).encode(unseen)) == unseen


def test_bits_are_those_of_the_counts() -> None:
    model = Neighbours([[0, 1], [0, 1], [1, 1]], 2)
    single = {0: 3 / 9, 1: 5 / 9}  # counts 2 and 4 of 6, and one more of each of three
    first, second = (1 - TRUST) * single[0] + TRUST * 2 / 3, (1 - TRUST) * single[1] + TRUST * 2 / 2
    assert model.bits([0, 1]) == pytest.approx(-math.log2(first) - math.log2(second))


def test_what_is_unknown_costs_its_spelling_too() -> None:
    words, letters = tokenizer("word"), tokenizer("character")
    known, strange = (bits_per_character(words, letters, TEXT, [f"the {word} sat."]) for word in ("cat", "zqx"))
    assert strange > 2 * known
