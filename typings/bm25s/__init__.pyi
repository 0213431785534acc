from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

class _Scores(TypedDict):
    data: NDArray[np.float32]
    indices: NDArray[np.int32]
    indptr: NDArray[np.int64]
    num_docs: int

class BM25:
    scores: _Scores
    def __init__(self, k1: float = ..., b: float = ..., method: str = ...) -> None: ...
    def index(
        self,
        corpus: tuple[list[list[int]], dict[str, int]],
        create_empty_token: bool = ...,
        show_progress: bool = ...,
    ) -> None: ...
    def get_scores(self, query_tokens_single: list[str]) -> NDArray[np.float32]: ...
