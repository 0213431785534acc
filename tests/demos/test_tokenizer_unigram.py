"""tokenizer-unigram against the tokenizers library, brute force over all cuts, and worked examples."""

import math
from collections import Counter
from collections.abc import Mapping
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

from demos.contract import Cell, Result, no_tick
from demos.shared.prose import read_sentences
from demos.transformers.tokenizer_unigram import (
    Params,
    all_cuts,
    backward,
    expect,
    forward,
    join,
    lattice,
    learn,
    log_p,
    normalize,
    prune,
    run,
    sample,
    seed_pieces,
    split_words,
    viterbi,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng

HUGS = {"hug": 0.10, "hu": 0.03, "ug": 0.04, "gs": 0.01, "s": 0.05, "h": 0.02, "u": 0.03, "g": 0.02}


@cache
def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


@cache
def learned() -> Mapping[str, float]:
    counts = Counter(word for text in read_sentences()[:200] for word in split_words(text, True))
    return learn(counts, 200, 2, "loss", no_tick)[0]


def test_every_claim_holds_at_the_defaults() -> None:
    outcome = result()
    assert_claims_hold_as_listed(outcome, "tokenizer-unigram")
    assert metric(outcome, "different cuts in 5,000 samples") > 1


@pytest.mark.parametrize(
    ("preset", "missed"),
    [
        ("spaces lost", ["With ▁ every text comes back, spaces too"]),
        ("pruned by count", ["The pieces kept are those that matter"]),
        ("large", []),
    ],
)
def test_presets_show_what_they_say(preset: str, missed: list[str]) -> None:
    assert failed(result(**Params.presets[preset].values)) == missed


def test_words_are_cut_as_well_as_the_tokenizers_library_cuts_them() -> None:
    pieces = learned()
    theirs = Tokenizer(models.Unigram([("<unk>", -50.0), *((piece, math.log(p)) for piece, p in pieces.items())], 0))
    words = sorted({word for text in read_sentences()[200:] for word in split_words(text, True)})
    known = [word for word in words if all(letter in pieces for letter in word)][:1000]
    assert len(known) >= 500
    for word in known:
        ours, reference = viterbi(word, lattice(word, pieces)), theirs.encode(word).tokens
        assert "".join(reference) == word
        assert log_p(ours, pieces) == pytest.approx(log_p(reference, pieces), rel=1e-9)


def test_the_cuts_of_a_word_worked_by_hand() -> None:
    cuts = {" ".join(cut): math.exp(log_p(cut, HUGS)) for cut in all_cuts("hugs", HUGS)}
    assert cuts["hug s"] == pytest.approx(0.005)
    assert cuts["hu gs"] == pytest.approx(0.0003)
    assert cuts["h u g s"] == pytest.approx(0.02 * 0.03 * 0.02 * 0.05)
    assert viterbi("hugs", lattice("hugs", HUGS)) == ["hug", "s"]
    assert forward(lattice("hugs", HUGS), 4)[-1] == pytest.approx(sum(cuts.values()))


@given(st.text(alphabet="hugs", min_size=1, max_size=9))
def test_sums_and_the_best_cut_are_those_of_brute_force(word: str) -> None:
    edges, cuts = lattice(word, HUGS), [log_p(cut, HUGS) for cut in all_cuts(word, HUGS)]
    n, total = len(word), math.fsum(map(math.exp, cuts))
    before, after = forward(edges, n), backward(edges, n)
    assert before[n] == pytest.approx(total)
    assert after[0] == pytest.approx(total)
    for j in range(1, n):  # every cut has some piece over the gap between letters j − 1 and j, or ends there
        over = sum(before[i] * p * after[k] for i, k, p in edges if i < j < k)
        assert over + before[j] * after[j] == pytest.approx(total)
    assert log_p(viterbi(word, edges), HUGS) == pytest.approx(max(cuts))


def test_expected_counts_are_averages_over_all_cuts() -> None:
    expected, log_likelihood = expect({"hugs": 3, "ug": 1}, HUGS)
    by_hand, total = Counter[str](), 0.0
    for word, count in (("hugs", 3), ("ug", 1)):
        cuts = [(cut, math.exp(log_p(cut, HUGS))) for cut in all_cuts(word, HUGS)]
        mass = sum(p for _, p in cuts)
        total += count * math.log(mass)
        for cut, p in cuts:
            for piece in cut:
                by_hand[piece] += count * p / mass  # type: ignore[assignment]
    assert expected == pytest.approx({piece: by_hand[piece] for piece in HUGS})
    assert log_likelihood == pytest.approx(total)


def test_letters_are_never_pruned_and_a_useless_piece_goes_first() -> None:
    pieces = normalize(HUGS)
    expected = {**dict.fromkeys(pieces, 5.0), "gs": 0.1}
    assert set(pieces) - set(prune(pieces, expected, 7, "loss")) == {"gs"}
    assert set(prune(pieces, expected, 1, "loss")) == {"h", "u", "g", "s"}
    # "hu" is as frequent as "ug", but is missed less: h · u is nearer to it than u · g is to "ug"
    assert set(pieces) - set(prune(pieces, {**expected, "gs": 20.0}, 7, "loss")) == {"hu"}


def test_seeds_are_letters_and_frequent_substrings() -> None:
    seeds = seed_pieces({"aab": 2, "ab": 1})
    assert set(seeds) == {"a", "b", "aa", "ab", "aab"}
    assert seeds["ab"] / seeds["aa"] == pytest.approx(3 / 2)
    assert sum(seeds.values()) == pytest.approx(1)


def test_one_round_of_em_is_enough_to_see_its_gain() -> None:
    assert failed(result(em_rounds=1)) == []


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_samples_follow_their_probability_to_the_power_of_alpha(alpha: float) -> None:
    wanted = normalize({" ".join(cut): math.exp(alpha * log_p(cut, HUGS)) for cut in all_cuts("hugs", HUGS)})
    dice = rng(1)
    drawn = Counter(" ".join(sample("hugs", HUGS, alpha, dice)) for _ in range(3_000))
    assert set(drawn) <= set(wanted)
    assert all(drawn[cut] / 3_000 == pytest.approx(p, abs=0.04) for cut, p in wanted.items())


@given(st.text(alphabet="ab é😀日 ", max_size=20))
def test_every_text_comes_back_from_its_cuts(text: str) -> None:
    pieces = learned()
    cuts = [viterbi(word, lattice(word, pieces)) for word in split_words(text, True)]
    assert join([piece for cut in cuts for piece in cut]) == text
