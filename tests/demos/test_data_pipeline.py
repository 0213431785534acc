import random
from functools import cache

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from demos.contract import Result
from demos.llms.data_pipeline import (
    END,
    PAGES,
    PERSONAL,
    Params,
    draw_pages,
    held_out_loss,
    jaccard,
    minhash,
    mix,
    near_copies,
    pack,
    run,
    shingles,
    unpack,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng


@cache
def result() -> Result:
    return run(Params.model_validate({}))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "data-pipeline")


def test_without_cuts_more_is_kept_and_addresses_stay() -> None:
    outcome = run(Params.model_validate(Params.presets["no cuts"].values))
    assert "No personal data is left" in failed(outcome)
    assert metric(outcome, "pages kept") > metric(result(), "pages kept") + 0.1
    assert metric(outcome, "held-out") > metric(result(), "held-out")


def test_sixteen_hashes_let_copies_slip_through() -> None:
    outcome = run(Params.model_validate(Params.presets["few hashes"].values))
    assert "Near-copies are found" in failed(outcome)


def test_code_alone_teaches_nothing_of_prose() -> None:
    assert failed(run(Params.model_validate(Params.presets["code alone"].values))) == ["Cleaned text teaches more"]


def test_a_stricter_cut_keeps_less() -> None:
    shares = [metric(run(Params.model_validate({"quality_min": cut})), "pages kept") for cut in (0.2, 0.6, 0.9)]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > shares[-1]


def test_a_mixture_of_nothing_is_refused() -> None:
    with pytest.raises(ValidationError, match="cannot all be 0"):
        Params.model_validate({"web": 0, "books": 0, "code": 0})


@given(st.sets(st.integers(0, 200), min_size=1), st.sets(st.integers(0, 200), min_size=1))
def test_the_overlap_is_counted_as_jaccard_has_it(one: set[int], other: set[int]) -> None:
    common = sum(each in other for each in one)
    assert jaccard(one, other) == pytest.approx(common / (len(one) + len(other) - common))


def test_minhash_is_near_the_exact_overlap() -> None:
    numbers = random.Random(0).sample(range(2**30), 150)  # as shingles are; a row of numbers would hash too evenly
    one, other = set(numbers[:100]), set(numbers[50:])
    signatures = minhash([one, other], 4000, rng())
    agree = (signatures[0] == signatures[1]).float().mean().item()
    assert agree == pytest.approx(jaccard(one, other), abs=4 * (1 / 3 * 2 / 3 / 4000) ** 0.5)


def test_copies_are_told_by_their_first_page() -> None:
    sets = [set(range(100)), set(range(500, 600)), set(range(2, 100)), set(range(1, 100))]
    assert near_copies(minhash(sets, 128, rng()), 0.7) == [None, None, 0, 0]


def test_shingles_are_runs_of_three_words() -> None:
    words = ["a", "b", "c", "d"]
    assert len(shingles(words)) == 2
    assert shingles(words[:3]) | shingles(words[1:]) == shingles(words)
    assert len(shingles(["one"])) == 1


def test_personal_data_are_found_wherever_they_stand() -> None:
    text = "write to ann.smith@mail.example or call 555-011234 for dr. eve , page 12"
    assert PERSONAL.findall(text) == ["ann.smith@mail.example", "555-011234", "dr. eve"]


def test_copies_come_last_and_are_much_like_their_page() -> None:
    pages = draw_pages(random.Random(0), rng())
    assert all(page.copy_of is None for page in pages[:PAGES])
    for page in pages[PAGES:]:
        assert page.copy_of is not None
        assert len(page.words) == len(pages[page.copy_of].words)
        assert jaccard(shingles(page.words), shingles(pages[page.copy_of].words)) > 0.5


@given(st.lists(st.lists(st.sampled_from("abc"), max_size=5), max_size=6))
def test_packed_documents_come_back(documents: list[list[str]]) -> None:
    number = {word: i for i, word in enumerate(["a", "b", "c", END])}
    assert unpack(pack(documents, number), number) == documents


def test_a_mixture_has_its_shares() -> None:
    sources = {"web": [["w"] * 9], "books": [["b"] * 49], "code": [["c"] * 19]}
    documents = mix(sources, {"web": 0.5, "books": 0.3, "code": 0.2}, random.Random(0))
    words = [word for document in documents for word in document]
    for word, share in (("w", 0.5), ("b", 0.3), ("c", 0.2)):
        assert words.count(word) / len(words) == pytest.approx(share, abs=0.05)


def test_text_like_that_of_training_costs_less() -> None:
    regular, other = torch.tensor([0, 1] * 200), torch.tensor([2, 3] * 200)
    assert held_out_loss(regular, regular, 4) < 0.4 < held_out_loss(regular, other, 4)
