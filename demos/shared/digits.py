"""The 8x8 handwritten digits that scikit-learn ships: real images, no download."""

import torch
from sklearn import datasets
from torch import Tensor


def load_digits() -> tuple[Tensor, Tensor]:
    """Return all 1,797 digits in the data set's order: images (1797, 1, 8, 8) float32 in [0, 1], labels (1797,) int64.

    Source: the test part of the UCI "Optical Recognition of Handwritten Digits" (Alpaydin, Kaynak 1998), whose
    pixels count 0 to 16 inked points of a 4x4 block.
    """
    pixels, labels = datasets.load_digits(return_X_y=True)  # (N, 64), (N,)
    images = torch.tensor(pixels / 16, dtype=torch.float32).view(-1, 1, 8, 8)  # (N, 1, 8, 8)
    return images, torch.tensor(labels)
