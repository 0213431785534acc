import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.scoring import HELD, IN_LABELS, IN_TEXT, NAME, WHOLE, Strength, meaning_of, total


def array(*values: float) -> "np.ndarray[tuple[int], np.dtype[np.float32]]":
    return np.array(values, dtype=np.float32)


def strength(labels: float, text: float, held: float = 0) -> Strength:
    return Strength(array(labels), array(text), array(held))


def test_a_topic_is_as_near_as_its_nearest_name_its_nearest_passage_and_three_of_them() -> None:
    cosines = array(0.9, 0.2, 0.6, 0.8, 0.3, 0.5)
    is_name = np.array([False, True, True, False, True, False])
    meaning = meaning_of(cosines, is_name, np.array([4, 2]))
    assert meaning.name == pytest.approx([0.6, 0.3])
    assert meaning.best == pytest.approx([0.9, 0.5])
    assert meaning.whole == pytest.approx([(0.9 + 0.8 + 0.6) / 3, (0.3 + 0.5) / 2])


@given(st.lists(st.lists(st.tuples(st.floats(-1, 1, width=32), st.booleans()), min_size=1, max_size=8), max_size=6))
def test_a_topics_meaning_depends_on_its_own_passages_in_any_order(topics: list[list[tuple[float, bool]]]) -> None:
    def of(some: list[list[tuple[float, bool]]]) -> "list[tuple[float, float, float]]":
        rows = [row for topic in some for row in topic]
        names = np.array([is_name for _, is_name in rows], dtype=np.bool_)
        sizes = np.array([len(topic) for topic in some], dtype=np.int64)
        meaning = meaning_of(array(*(cosine for cosine, _ in rows)), names, sizes)
        return list(zip(meaning.name.tolist(), meaning.best.tolist(), meaning.whole.tolist(), strict=True))

    together = of(topics)
    alone = [of([topic[::-1]])[0] for topic in topics]
    assert together == [pytest.approx(each, abs=1e-6) for each in alone]
    for topic, (name, best, _) in zip(topics, together, strict=True):
        assert best == max(cosine for cosine, _ in topic)
        assert name == max((cosine for cosine, is_name in topic if is_name), default=-1)


def test_the_score_adds_its_weighted_parts() -> None:
    meaning = meaning_of(array(0.5), np.array([True]), np.array([1]))
    expected = NAME * 0.5 + WHOLE * 0.5 + IN_LABELS * 2 + IN_TEXT * 3 + HELD * 0.75
    assert total(meaning, strength(2, 3, 0.75), only_symbols=False) == pytest.approx([expected])


def test_a_query_of_symbols_goes_chiefly_by_words() -> None:
    near = meaning_of(array(0.9), np.array([True]), np.array([1]))
    far = meaning_of(array(0.1), np.array([True]), np.array([1]))
    for only_symbols, nearer_wins in ((False, True), (True, False)):
        without_words = total(near, strength(0, 0), only_symbols)
        with_words = total(far, strength(1, 0), only_symbols)
        assert bool(without_words[0] > with_words[0]) is nearer_wins


def test_without_meaning_the_better_of_labels_and_text_decides() -> None:
    assert total(None, strength(0.4, 0.9), only_symbols=False) == pytest.approx([0.9])


def test_a_passage_that_says_what_is_asked_outweighs_names_and_words() -> None:
    """The topic's own name is far from the query, another topic's name and labels have its words."""
    said = meaning_of(array(0.95, 0.3, 0.4), np.array([False, True, False]), np.array([3]))
    named = meaning_of(array(0.75, 0.6, 0.6), np.array([True, True, False]), np.array([3]))
    assert (
        total(said, strength(0, 0.5), only_symbols=False)[0] > total(named, strength(0.5, 0.2), only_symbols=False)[0]
    )
