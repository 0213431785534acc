from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

class SessionOptions:
    intra_op_num_threads: int
    inter_op_num_threads: int
    log_severity_level: int
    def add_session_config_entry(self, key: str, value: str) -> None: ...

class RunOptions:
    def add_run_config_entry(self, key: str, value: str) -> None: ...

class InferenceSession:
    def __init__(self, path: str, sess_options: SessionOptions, providers: Sequence[str]) -> None: ...
    def run(
        self, output_names: Sequence[str], input_feed: Mapping[str, NDArray[Any]], run_options: RunOptions | None = ...
    ) -> list[NDArray[np.float32]]: ...
