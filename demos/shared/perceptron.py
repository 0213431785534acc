"""A multilayer perceptron that a demo's own random generator starts.

Shared by demos in which the network is any function that can be learned, and not the point.
"""

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import nn


def perceptron(sizes: Sequence[int], activation: Callable[[], nn.Module], rng: torch.Generator) -> nn.Sequential:
    """Linear layers from sizes[0] inputs to sizes[-1] outputs, an activation between every two.

    Weights and biases start as torch starts them, U(±1 / √inputs), and are drawn from `rng`.
    """
    layers = list[nn.Module]()
    for inputs, outputs in itertools.pairwise(sizes):
        layer = nn.Linear(inputs, outputs)
        for weight in layer.parameters():
            nn.init.uniform_(weight, -(inputs**-0.5), inputs**-0.5, generator=rng)
        layers += [layer, activation()]
    return nn.Sequential(*layers[:-1])
