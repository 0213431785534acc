import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.scoring import BEST, IN_LABELS, IN_TEXT, NAME, WHOLE, Strength, meaning_of, total


def array(*values: float) -> "np.ndarray[tuple[int], np.dtype[np.float32]]":
    return np.array(values, dtype=np.float32)


def strength(labels: float, text: float) -> Strength:
    return Strength(array(labels), array(text))


def test_a_topic_is_as_near_as_its_nearest_name_its_nearest_passage_and_three_of_them() -> None:
    cosines = array(0.9, 0.2, 0.6, 0.3, 0.8, 0.5)
    groups = np.array([0, 0, 0, 1, 0, 1])
    is_name = np.array([False, True, True, True, False, False])
    meaning = meaning_of(cosines, groups, is_name, 2)
    assert meaning.name == pytest.approx([0.6, 0.3])
    assert meaning.best == pytest.approx([0.9, 0.5])
    assert meaning.whole == pytest.approx([(0.9 + 0.8 + 0.6) / 3, (0.3 + 0.5) / 2])


@given(
    st.lists(st.tuples(st.integers(0, 4), st.floats(-1, 1, width=32), st.booleans()), max_size=30),
)
def test_the_order_of_passages_makes_no_difference(rows: list[tuple[int, float, bool]]) -> None:
    def of(some: list[tuple[int, float, bool]]) -> "tuple[list[float], list[float]]":
        groups = np.array([row[0] for row in some], dtype=np.int64)
        names = np.array([row[2] for row in some], dtype=np.bool_)
        meaning = meaning_of(array(*(row[1] for row in some)), groups, names, 5)
        return meaning.name.tolist(), meaning.whole.tolist()

    turned = rows[::-1]
    assert of(turned)[0] == of(rows)[0]
    assert of(turned)[1] == pytest.approx(of(rows)[1], abs=1e-6)


def test_the_score_adds_its_weighted_parts() -> None:
    meaning = meaning_of(array(0.5), np.array([0]), np.array([True]), 1)
    expected = NAME * 0.5 + BEST * 0.5 + WHOLE * 0.5 + IN_LABELS * 2 + IN_TEXT * 3
    assert total(meaning, strength(2, 3), only_symbols=False) == pytest.approx([expected])


def test_a_query_of_symbols_goes_chiefly_by_words() -> None:
    near = meaning_of(array(0.9), np.array([0]), np.array([True]), 1)
    far = meaning_of(array(0.1), np.array([0]), np.array([True]), 1)
    for only_symbols, nearer_wins in ((False, True), (True, False)):
        without_words = total(near, strength(0, 0), only_symbols)
        with_words = total(far, strength(1, 0), only_symbols)
        assert bool(without_words[0] > with_words[0]) is nearer_wins


def test_without_meaning_the_better_of_labels_and_text_decides() -> None:
    assert total(None, strength(0.4, 0.9), only_symbols=False) == pytest.approx([0.9])


def test_a_passage_that_says_what_is_asked_outweighs_names_and_words() -> None:
    """The topic's own name is far from the query, another topic's name and labels have its words."""
    said = meaning_of(array(0.95, 0.3, 0.4), np.array([0, 0, 0]), np.array([False, True, False]), 1)
    named = meaning_of(array(0.75, 0.6, 0.6), np.array([0, 0, 0]), np.array([True, True, False]), 1)
    assert (
        total(said, strength(0, 0.5), only_symbols=False)[0] > total(named, strength(0.5, 0.2), only_symbols=False)[0]
    )
