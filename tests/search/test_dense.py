from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from search import IndexUnreadable
from search.dense import COARSE_FROM, DenseIndex, DimensionMismatch


@pytest.fixture
def vectors() -> NDArray[np.float32]:
    drawn = np.random.default_rng(7).normal(size=(500, 32)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def test_search_is_exact(vectors: NDArray[np.float32]) -> None:
    cosines, numbers = DenseIndex.build(vectors).search(vectors[:20], k=10)
    all_cosines = vectors[:20] @ vectors.T
    expected = np.argsort(-all_cosines, axis=1)[:, :10]
    np.testing.assert_array_equal(numbers, expected)
    np.testing.assert_allclose(cosines, np.take_along_axis(all_cosines, expected, axis=1), atol=1e-5)


@pytest.fixture(scope="module")
def many() -> NDArray[np.float32]:
    """Enough vectors for coarse codes, in clusters as those of texts are."""
    rng = np.random.default_rng(3)
    centres = rng.normal(size=(200, 64))
    drawn = (centres[rng.integers(200, size=COARSE_FROM)] + 0.7 * rng.normal(size=(COARSE_FROM, 64))).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def test_among_many_passages_the_nearest_are_found_with_their_exact_cosines(
    many: NDArray[np.float32], tmp_path: Path
) -> None:
    queries = many[:100] + 0.02 * np.random.default_rng(4).normal(size=(100, 64)).astype(np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    DenseIndex.build(many).save(tmp_path / "index")
    cosines, numbers = DenseIndex.load(tmp_path / "index").search(queries, k=50)
    all_cosines = queries @ many.T
    expected = np.argsort(-all_cosines, axis=1)[:, :50]
    found = [len({*row} & {*right}) / 50 for row, right in zip(numbers.tolist(), expected.tolist(), strict=True)]
    assert np.mean(found) >= 0.99
    np.testing.assert_allclose(cosines, np.take_along_axis(all_cosines, numbers, axis=1), atol=1e-5)


def test_a_filter_is_exact_however_many_passages_there_are(many: NDArray[np.float32]) -> None:
    index, among = DenseIndex.build(many), np.arange(0, COARSE_FROM, 97)
    _, numbers = index.search(many[5:6], k=10, among=among)
    np.testing.assert_array_equal(numbers[0], among[np.argsort(-(many[among] @ many[5]))][:10])
    np.testing.assert_array_equal(index.vectors(), many)


def test_cosines_of_given_passages_are_exact_and_numbers_that_none_has_are_refused(many: NDArray[np.float32]) -> None:
    index, numbers = DenseIndex.build(many), np.array([COARSE_FROM - 1, 0, 17, 17])
    np.testing.assert_allclose(index.cosines(many[5], numbers), many[numbers] @ many[5], atol=1e-5)
    assert index.cosines(many[5], numbers[:0]).shape == (0,)
    for wrong in (-1, COARSE_FROM):
        with pytest.raises(IndexError, match="from 0 to"):
            index.cosines(many[5], np.array([3, wrong]))


def test_only_admitted_passages_are_found(vectors: NDArray[np.float32]) -> None:
    among = np.array([3, 77, 400])
    cosines, numbers = DenseIndex.build(vectors).search(vectors[:1], k=10, among=among)
    order = among[np.argsort(-(vectors[among] @ vectors[0]))]
    np.testing.assert_array_equal(numbers[0], order)
    assert cosines.shape == (1, 3)


def test_nobody_admitted_gives_nothing(vectors: NDArray[np.float32]) -> None:
    cosines, numbers = DenseIndex.build(vectors).search(vectors[:2], k=5, among=np.zeros(0, dtype=np.int64))
    assert cosines.shape == numbers.shape == (2, 0)


def test_an_index_read_back_finds_the_same(vectors: NDArray[np.float32], tmp_path: Path) -> None:
    DenseIndex.build(vectors).save(tmp_path / "index")
    opened = DenseIndex.load(tmp_path / "index")
    assert (len(opened), opened.dimension) == vectors.shape
    np.testing.assert_array_equal(opened.vectors(), vectors)
    assert opened.search(vectors[9:10], k=1)[1].tolist() == [[9]]


def test_vectors_of_another_encoder_are_refused(vectors: NDArray[np.float32]) -> None:
    with pytest.raises(DimensionMismatch, match="another encoder"):
        DenseIndex.build(vectors).search(np.ones((1, 8), dtype=np.float32), k=1)


def test_a_missing_or_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "vectors.faiss"
    with pytest.raises(IndexUnreadable, match=r"vectors\.faiss is missing"):
        DenseIndex.load(path)
    path.write_bytes(b"no index at all")
    with pytest.raises(IndexUnreadable, match=r"vectors\.faiss cannot be read"):
        DenseIndex.load(path)


def test_cosines_of_chosen_passages_are_those_of_the_whole_search() -> None:
    vectors = np.eye(4, dtype=np.float32)[[2, 0, 1, 3]]
    query = np.array([0.1, 0.2, 0.3, 0.4], np.float32)
    found = DenseIndex.build(vectors).cosines(query, np.array([3, 0]))
    assert found.tolist() == pytest.approx([0.4, 0.3])
