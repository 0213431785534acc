from typing import Literal

import numpy as np
from numpy.typing import NDArray

def load_digits(*, return_X_y: Literal[True]) -> tuple[NDArray[np.float64], NDArray[np.int64]]: ...
def make_moons(
    n_samples: int = 100, *, noise: float | None = None, random_state: int | None = None
) -> tuple[NDArray[np.float64], NDArray[np.int64]]: ...
