"""Demos run as the runner has them: on one thread, on which figures depend."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread() -> None:  # pyright: ignore[reportUnusedFunction]  # pytest calls it
    torch.set_num_threads(1)
