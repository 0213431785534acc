"""The sentence encoder: texts to unit vectors, through ONNX Runtime and without torch.

`python -m search.export_model FOLDER` makes the files that it opens. Only `service` imports this module.
"""

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from search.errors import ModelUnavailable

MODEL_ID = "sentence-transformers/all-MiniLM-L6-v2"
DIMENSION = 384
MAX_TOKENS = 256
"""Longer texts are cut, as sentence-transformers does with this model."""

FILES = {"fp32": "encoder.fp32.onnx", "int8": "encoder.int8.onnx", "tokenizer": "tokenizer.json", "about": "model.json"}
Precision = Literal["fp32", "int8"]


class Encoder:
    """all-MiniLM-L6-v2 in one ONNX Runtime session; safe to share between threads.

    With `threads=1` each call uses one core: two callers on two cores then encode more than one caller on both.
    Raises ModelUnavailable when the folder's files are missing or damaged.
    """

    dimension = DIMENSION

    def __init__(self, folder: Path, precision: Precision = "fp32", threads: int = 1, batch: int = 32) -> None:
        self.precision: Precision = precision
        self._batch = batch
        path = folder / FILES[precision]
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Spinning threads answer a microsecond sooner on an idle machine and cost 13 ms tails on a busy one.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            self._tokenizer = Tokenizer.from_file(str(folder / FILES["tokenizer"]))
            self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # both libraries raise types of their own that have no other common root
            what = "is missing" if not path.is_file() else f"cannot be opened ({error})"
            raise ModelUnavailable(f"The encoder {path} {what}. Make it again: genatlas build") from error
        # More at a time than there are cores only take each other's time.
        self._turns = threading.BoundedSemaphore(os.cpu_count() or 1)
        # The arena would keep the memory of the largest batch for as long as the process lives.
        self._shrink = ort.RunOptions()
        self._shrink.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one vector a text, (n, d), rows of unit length, in the order of the texts.

        fp32 encodes batches of texts of like length. int8 encodes one text at a time: its one activation scale for a
        whole batch would make a text's vector depend on its neighbours (cosine down to 0.98).
        """
        vectors = np.empty((len(texts), DIMENSION), dtype=np.float32)
        encodings = self._tokenizer.encode_batch_fast(list(texts)) if len(texts) > 1 else []
        if len(texts) == 1:
            encodings = [self._tokenizer.encode(texts[0])]
        by_length = sorted(range(len(texts)), key=lambda number: len(encodings[number].ids))
        step = self._batch if self.precision == "fp32" else 1
        for start in range(0, len(texts), step):
            chosen = by_length[start : start + step]
            vectors[chosen] = self._run([encodings[number] for number in chosen])
        return vectors

    def knows(self, word: str) -> bool:
        """Whether a lower-case word is one of the 30,000 that the model does not have to put together from pieces."""
        return self._tokenizer.token_to_id(word) is not None

    def _run(self, encodings: Sequence[Encoding]) -> NDArray[np.float32]:
        width = max(len(encoding.ids) for encoding in encodings)
        ids = np.zeros((len(encodings), width), dtype=np.int64)  # (n, t); 0 is [PAD]
        mask = np.zeros_like(ids)
        for row, encoding in enumerate(encodings):
            ids[row, : len(encoding.ids)] = encoding.ids
            mask[row, : len(encoding.ids)] = 1
        feed = {"input_ids": ids, "attention_mask": mask}
        with self._turns:
            (vectors,) = self._session.run(["embedding"], feed, None if len(encodings) == 1 else self._shrink)
        return np.asarray(vectors, dtype=np.float32)
