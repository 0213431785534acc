from dataclasses import replace

import numpy as np
import pytest

from graph import Atlas, NeighbouringField, NetworkXStore
from search import Answerer, Examples, Searcher, boundary_examples, comparison_examples
from tests.search.atlas import ATLAS
from tests.search.conftest import Parts

FIELDS = (
    NeighbouringField("Cooking", ("how long do I boil an egg", "substitute for butter")),
    NeighbouringField("Decision trees", ("how does a decision tree choose its splits",)),
)


@pytest.fixture(scope="module")
def bounded(parts: Parts) -> Searcher:
    """The searcher of the small atlas, with two fields beside it."""
    examples = boundary_examples(Atlas("Test", (), boundary=FIELDS))
    vectors = parts.encoder.encode([example.text for example in examples])
    return Searcher(parts.store, parts.encoder, parts.index, Examples(examples, vectors))


def test_examples_are_names_and_questions_in_order() -> None:
    examples = boundary_examples(Atlas("Test", (), boundary=FIELDS))
    assert [example.text for example in examples] == [
        "Cooking",
        "how long do I boil an egg",
        "substitute for butter",
        "Decision trees",
        "how does a decision tree choose its splits",
    ]
    assert [example.name for example in examples] == ["Cooking"] * 3 + ["Decision trees"] * 2


def test_the_nearest_field_is_that_of_the_nearest_example() -> None:
    examples = boundary_examples(Atlas("Test", (), boundary=FIELDS))
    boundary = Examples(examples, np.eye(5, dtype=np.float32))
    assert boundary.nearest(np.array([0, 0, 0.6, 0, 0.8], np.float32)) == ("Decision trees", pytest.approx(0.8))
    assert Examples((), np.zeros((0, 5), np.float32)).nearest(np.ones(5, np.float32)) is None
    with pytest.raises(ValueError, match="5 examples do not go with 4 vectors"):
        Examples(examples, np.zeros((4, 5), np.float32))


def test_a_question_of_a_neighbouring_field_is_declined_and_told_whose_it_is(bounded: Searcher, parts: Parts) -> None:
    question = "which split does a decision tree take first"
    ranking = bounded.search(question)
    assert ranking.abstained
    assert ranking.hits == ()
    assert ranking.nearest
    assert ranking.field == "Decision trees"
    answer = Answerer(parts.store, bounded).ask(question)
    assert answer.note == "The atlas does not cover this question: it looks like one about Decision trees."


def test_a_question_of_the_atlas_stays_at_home(bounded: Searcher, searcher: Searcher) -> None:
    for question in ("why does my generator make the same face", "what is the evidence lower bound", "βₜ"):
        ranking = bounded.search(question)
        assert ranking.field == ""
        assert [hit.topic.id for hit in ranking.hits] == [hit.topic.id for hit in searcher.search(question).hits]


def test_a_question_like_that_of_a_comparison_is_answered_by_it(parts: Parts) -> None:
    """Its wording names no side that could be looked up."""
    atlas = replace(
        ATLAS,
        comparisons=(replace(ATLAS.comparisons[0], question="which part of the loss makes samples blurry?"),),
    )
    examples = comparison_examples(atlas)
    assert [example.text for example in examples] == [
        "which part of the loss makes samples blurry?",
        "difference between Reconstruction Loss and KL Divergence in Variational Autoencoders",
    ]  # there is a KL divergence among the foundations, too
    store = NetworkXStore(atlas)
    vectors = parts.encoder.encode([example.text for example in examples])
    searcher = Searcher(
        store,
        parts.encoder,
        parts.index,
        comparisons=Examples(examples, vectors),
    )
    answer = Answerer(store, searcher).ask("compare what makes samples blurry, which part of the loss is it?")
    assert answer.table is not None
    assert answer.table.comparison == ATLAS.comparisons[0].id
