import numpy as np
from numpy.typing import NDArray

def sliced_wasserstein_distance(
    X_s: NDArray[np.floating],
    X_t: NDArray[np.floating],
    *,
    n_projections: int = 50,
    p: int = 2,
    seed: int | None = None,
) -> float: ...
