import math
from pathlib import Path

import bm25s
import numpy as np
import pytest

from search import IndexUnreadable, LexicalIndex
from search.lexical import K1, B
from search.words import words_of
from tests.search.atlas import ATLAS

TEXTS = ["noise schedule", "noise noise image", "image of a horse and of a zebra"]


def test_scores_are_those_of_the_bm25_formula() -> None:
    scores = LexicalIndex.build(TEXTS).scores(["nois"])
    # Two of three texts have the word; lengths without stop words are 2, 3 and 3.
    idf = math.log(1 + (3 - 2 + 0.5) / (2 + 0.5))
    mean = (2 + 3 + 3) / 3
    expected = [idf * tf / (tf + K1 * (1 - B + B * length / mean)) for tf, length in ((1, 2), (2, 3))]
    np.testing.assert_allclose(scores, [*expected, 0], rtol=1e-6)


def test_scores_are_those_of_the_library() -> None:
    texts = [topic.summary or topic.title for topic in ATLAS.topics]
    rows = [words_of(text) for text in texts]
    words = sorted({word for row in rows for word in row})
    number = {word: column for column, word in enumerate(words)}
    library = bm25s.BM25(k1=K1, b=B, method="lucene")
    library.index(([[number[word] for word in row] for row in rows], number), False, show_progress=False)
    index = LexicalIndex.build(texts)
    for query in (["kl", "diverg"], ["discrimin"], ["nois", "imag", "gradient"]):
        np.testing.assert_allclose(index.scores(query), library.get_scores(query), rtol=1e-5)


def test_rare_words_count_more_than_frequent_ones() -> None:
    index = LexicalIndex.build(TEXTS)
    assert index.rarity("zebra") > index.rarity("nois")
    assert index.rarity("zebra") == index.greatest_rarity
    assert index.rarity("absent") == 0


def test_words_that_match_are_told() -> None:
    index = LexicalIndex.build(TEXTS)
    passages = np.array([2, 0])
    held = {word: index.holding(word, passages).tolist() for word in ("nois", "imag", "zebra", "absent")}
    assert held == {"nois": [False, True], "imag": [True, False], "zebra": [True, False], "absent": [False, False]}
    assert "zebra" in index
    assert "absent" not in index


def test_an_index_read_back_scores_the_same_and_the_same_texts_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "other"):
        LexicalIndex.build(TEXTS).save(tmp_path / name)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "other" / path.name).read_bytes()
    opened = LexicalIndex.load(tmp_path / "one")
    assert len(opened) == 3
    np.testing.assert_array_equal(opened.scores(["imag"]), LexicalIndex.build(TEXTS).scores(["imag"]))
    assert {"horse", "zebra", "schedule"} <= {*opened.spellings}


def test_no_texts_and_texts_without_words_can_be_indexed(tmp_path: Path) -> None:
    assert LexicalIndex.build([]).scores(["word"]).shape == (0,)
    LexicalIndex.build(["of the", ""]).save(tmp_path)
    assert LexicalIndex.load(tmp_path).scores(["word"]).tolist() == [0, 0]


def test_a_missing_or_damaged_file_is_named(tmp_path: Path) -> None:
    LexicalIndex.build(TEXTS).save(tmp_path)
    (tmp_path / "bm25-scores.npy").write_bytes(b"\x93NUMPY what is this")
    with pytest.raises(IndexUnreadable, match=r"bm25-scores\.npy cannot be read"):
        LexicalIndex.load(tmp_path)
    (tmp_path / "words.json").unlink()
    with pytest.raises(IndexUnreadable, match=r"words\.json is missing"):
        LexicalIndex.load(tmp_path)
