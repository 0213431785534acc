"""The chain of retrieval: BM25 against bm25s, what memory cannot know, and where an answer was read."""

import importlib
from functools import cache
from typing import Any

import pytest
import torch

from demos.contract import Result
from demos.llms.retrieval_augmented import (
    ENTITIES,
    FACTS,
    K1,
    NUMBER,
    RELATIONS,
    VALUES,
    WORDS,
    B,
    Chain,
    Dense,
    Params,
    Reader,
    bm25,
    numbers,
    passage,
    question,
    run,
    settle,
    share,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng


@cache
def result() -> Result:
    return run(Params.model_validate({}))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "retrieval-augmented")
    assert metric(result(), "accuracy") >= 0.95
    assert metric(result(), "changed facts answered with the old value, from memory") >= 0.9


def test_without_a_retriever_the_chain_knows_what_memory_knows() -> None:
    outcome = run(Params.model_validate({"retriever": "none"}))
    assert failed(outcome) == [
        "The chain knows what was never trained on",
        "Changed facts need no training",
        "Right answers name their source",
    ]
    assert metric(outcome, "accuracy") == metric(outcome, "accuracy from memory")


def test_a_stale_index_gives_stale_answers() -> None:
    outcome = run(Params.model_validate({"update_index": False, "steps": 150}))
    assert "Changed facts need no training" in failed(outcome)
    assert metric(outcome, "accuracy on changed facts") <= 0.1


def test_bm25_scores_as_bm25s_does() -> None:
    """Its Lucene variant lacks the constant factor k₁ + 1."""
    library: Any = importlib.import_module("bm25s")
    index = [passage(fact, VALUES[0]) for fact in FACTS[:9]] + [["now", "now", "river"], ["the", "seat"]]
    other = library.BM25(k1=K1, b=B, method="lucene", dtype="float64")
    other.index(index, show_progress=False)
    for asked in (question(FACTS[1]), ["now", "river"], ["seat", "of", "the"]):
        expected = torch.as_tensor(other.get_scores(asked)) * (K1 + 1)
        torch.testing.assert_close(bm25(asked, index), expected, rtol=0, atol=1e-9)


def test_bm25_of_a_case_solved_by_hand() -> None:
    """Two texts of equal length, one holds the word once: idf = ln(1 + 1.5 / 1.5), and tf's part is 2.2 / 2.2."""
    assert bm25(["a"], [["a", "b"], ["c", "b"]]).numpy().tolist() == pytest.approx([0.6931471805599453, 0.0])
    assert bm25(["x"], [["a", "b"]]).numpy().tolist() == [0.0]


def test_a_dense_score_is_the_product_of_the_two_sums() -> None:
    model = Dense(rng())
    asked, told = numbers([question(FACTS[0])]), numbers([passage(FACTS[0], VALUES[1]), passage(FACTS[5], VALUES[2])])
    by_hand = [
        sum((model.asked.weight[int(a)] @ model.told.weight[int(b)]).item() for a in asked[0] for b in text)
        for text in told
    ]
    assert model(asked, told)[0].detach().numpy().tolist() == pytest.approx(by_hand, abs=1e-4)


def test_the_reader_scores_a_word_by_its_passage_and_its_kind() -> None:
    model = Reader(rng())
    asked = numbers([question(FACTS[0])])
    told = numbers([passage(FACTS[0], VALUES[1]), passage(FACTS[5], VALUES[2])])
    logits = model(asked, told[None]).view(2, 7)
    fit = model.fit(asked, told)[0]
    torch.testing.assert_close(logits - model.kind(told)[..., 0], fit[:, None].expand(2, 7), rtol=0, atol=1e-4)


def test_the_chain_reads_the_best_word_of_what_it_found() -> None:
    reader = Reader(rng())
    torch.nn.init.zeros_(reader.kind.weight)
    with torch.no_grad():
        reader.kind.weight[NUMBER[VALUES[3]]] = 1e4
    index = [passage(FACTS[0], VALUES[1]), passage(FACTS[1], VALUES[3]), passage(FACTS[8], VALUES[3])]
    answer = Chain("bm25", 2, index, torch.nn.Linear(len(WORDS), len(WORDS)), Dense(rng()), reader).ask(
        question(FACTS[0])
    )
    assert answer.found == [0, 1]
    assert (answer.text, answer.source) == (VALUES[3], 1)
    nothing = Chain("none", 2, index, torch.nn.Linear(len(WORDS), len(WORDS)), Dense(rng()), reader).ask(
        question(FACTS[0])
    )
    assert (nothing.source, nothing.found) == (-1, [])


def test_a_world_keeps_unseen_facts_out_and_changes_what_it_says_it_changes() -> None:
    world = settle(rng())
    assert sorted(world.taught + world.unseen) == list(range(len(FACTS)))
    assert set(world.changed) <= set(world.taught)
    assert {fact for fact in range(len(FACTS)) if world.before[fact] != world.now[fact]} == set(world.changed)


def test_words_are_told_apart_and_questions_name_their_fact() -> None:
    assert len(set(WORDS)) == len(WORDS)
    assert FACTS[6] == (ENTITIES[1], list(RELATIONS)[2])
    assert question(FACTS[6])[3] != question(FACTS[6], reworded=True)[3]
    assert share([True, False]) == 0.5
