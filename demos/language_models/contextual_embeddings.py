""" "bank" by the river and "bank" with money: ELMo

Question: Why does one vector per word not suffice?
Source: Peters et al. 2018 (ELMo), arXiv:1802.05365, §3.1 (two language models), eq. (1) (mix of layers); the cell:
  Hochreiter and Schmidhuber 1997 with the forget gate of Gers et al. 2000.
Watch: no label says that "bank" has two senses. The language model has to know of what a sentence speaks to guess its
  next word, and so its vector of "bank" tells. Layer 0 is the table of words: one point, whatever stands around it.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from demos.contract import Bars, Claim, DemoParams, Metric, Preset, Result, Scatter, Table, Tick, no_tick
from demos.shared.transformer import train

SENSES = {
    "bank": ("river water shore boat", "money loan account cash"),
    "bat": ("cave wings night insect", "ball player team game"),
    "spring": ("flowers april garden warm", "metal coil mattress steel"),
    "light": ("lamp sun bright window", "heavy weight carry feather"),
}  # each word with what is spoken of around either of its senses
FILLERS = ["the", "a", "near", "with", "some", "old"]
CLUES = {word: [sense.split() for sense in senses] for word, senses in SENSES.items()}
SPOKEN = [clue for senses in CLUES.values() for sense in senses for clue in sense]
VOCABULARY = ["<s>", "</s>", *SENSES, *SPOKEN, *FILLERS]
CLUE_IDS = torch.tensor([[[VOCABULARY.index(c) for c in sense] for sense in senses] for senses in CLUES.values()])
SIDE, P_CLUE = 4, 0.5  # words on each side of the ambiguous one; how many of them are clues
AT = 1 + SIDE  # where it stands
D, BATCH, RATE, LABELLED, TESTED = 32, 64, 1e-2, 200, 400


class Params(DemoParams):
    word: Literal["bank", "bat", "spring", "light"] = Field("bank", description="Word of two senses")
    layer: Literal["0", "1", "2", "mix"] = Field("mix", description="Vectors used: words, a biLSTM layer, or eq. (1)")
    steps: int = Field(200, ge=50, le=1500, description="Training steps of the language models")
    seed: int = Field(0, ge=0, le=9999, description="Seed of sentences and weights")

    presets: ClassVar[Mapping[str, Preset]] = {
        "static": Preset("Layer 0, the table of words: both senses are one point", {"layer": "0"}),
        "spring": Preset("Another word of two senses", {"word": "spring"}),
    }


def write(n: int, word: str | None, clues: str, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Sentences (n, 11) around a word (None: any of the four), clues on "both" sides or "right", and its sense (n,)."""
    which = torch.randint(len(SENSES), (n,), generator=rng)
    if word is not None:
        which = torch.full((n,), list(SENSES).index(word))
    sense = torch.randint(2, (n,), generator=rng)
    spoken = CLUE_IDS[which, sense].gather(1, torch.randint(4, (n, 2 * SIDE), generator=rng))
    filler = len(VOCABULARY) - len(FILLERS) + torch.randint(len(FILLERS), (n, 2 * SIDE), generator=rng)
    is_clue = torch.rand(n, 2 * SIDE, generator=rng) < P_CLUE
    if clues == "right":
        is_clue[:, :SIDE] = False
    around = torch.where(is_clue, spoken, filler)
    start, end = torch.zeros(n, 1, dtype=torch.long), torch.ones(n, 1, dtype=torch.long)
    return torch.cat([start, around[:, :SIDE], 2 + which[:, None], around[:, SIDE:], end], dim=1), sense


class LSTM(nn.Module):
    """One layer, read from left to right: the state at t needs the state at t − 1."""

    def __init__(self, d: int, rng: torch.Generator) -> None:
        super().__init__()
        bound = d**-0.5
        self.weight = nn.Parameter((2 * torch.rand(4 * d, 2 * d, generator=rng) - 1) * bound)  # [W_x, W_h]
        self.bias = nn.Parameter((2 * torch.rand(4 * d, generator=rng) - 1) * bound)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, n, d) -> h (B, n, d)."""
        h = c = torch.zeros_like(x[:, 0])  # (B, d)
        states = list[Tensor]()
        for x_t in x.unbind(dim=1):
            i, f, g, o = (torch.cat([x_t, h], dim=1) @ self.weight.T + self.bias).chunk(4, dim=1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            states.append(h)
        return torch.stack(states, dim=1)


class BiLM(nn.Module):
    """Two language models over one table of words, two layers each: one reads forward, the other backward."""

    def __init__(self, rng: torch.Generator) -> None:
        super().__init__()
        self.words = nn.Embedding(len(VOCABULARY), D)
        nn.init.normal_(self.words.weight, std=D**-0.5, generator=rng)
        self.forward_layers = nn.ModuleList(LSTM(D, rng) for _ in range(2))
        self.backward_layers = nn.ModuleList(LSTM(D, rng) for _ in range(2))

    def layers(self, words: Tensor) -> tuple[Tensor, Tensor]:
        """Layers 0, 1, 2 of either direction at every word of (B, n): two (3, B, n, d)."""
        ahead, back = [self.words(words)], [self.words(words).flip(1)]
        for of, stack in ((ahead, self.forward_layers), (back, self.backward_layers)):
            for number, lstm in enumerate(stack):
                of.append(lstm(of[-1]) + (of[-1] if number else 0))  # a residual between the layers, as in the paper
        return torch.stack(ahead), torch.stack(back).flip(2)

    def loss(self, words: Tensor) -> Tensor:
        """Mean −log p of the next word from the left, and of the one before from the right, (§3.1)."""
        ahead, back = self.layers(words)
        table = self.words.weight.T
        forward = cross_entropy((ahead[-1, :, :-1] @ table).flatten(0, 1), words[:, 1:].flatten())
        backward = cross_entropy((back[-1, :, 1:] @ table).flatten(0, 1), words[:, :-1].flatten())
        return (forward + backward) / 2


def learn_mix(layers: Tensor, sense: Tensor) -> Tensor:
    """Weights s (3,) of eq. (1), learned with a linear classifier of the senses over the mix of layers (3, N, 2d)."""
    s, head = nn.Parameter(torch.zeros(3)), nn.Linear(layers.shape[-1], 2)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    module = nn.ParameterList([s, *head.parameters()])
    train(module, lambda: cross_entropy(head(mix(layers, s.softmax(0))), sense), 50, 3e-2, lambda _step, _loss: None)
    return s.detach().softmax(dim=0)


def mix(layers: Tensor, s: Tensor) -> Tensor:
    """Eq. (1) with γ = 1: Σⱼ sⱼ hⱼ, (N, 2d)."""
    return (s[:, None, None] * layers).sum(dim=0)


def accuracy(known: Tensor, sense: Tensor, new: Tensor, truth: Tensor) -> float:
    """Share of new vectors (M, d) nearer to the mean of known ones (N, d) of their own sense."""
    centroids = torch.stack([known[sense == k].mean(dim=0) for k in range(2)])
    gaps = (new[:, None] - centroids).square().sum(dim=2)  # (M, 2)
    return (gaps.argmin(dim=1) == truth).float().mean().item()


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng = torch.Generator().manual_seed(params.seed)
    model = BiLM(rng)
    train(
        model, lambda: model.loss(write(BATCH, None, "both", rng)[0]), params.steps, RATE,
        lambda step, loss: tick(step / params.steps, f"step {step}", loss=loss),
    )  # fmt: skip

    @torch.no_grad()
    def vectors(n: int, clues: str) -> tuple[Tensor, Tensor, Tensor]:
        """Layers of the word in n sentences, both directions (3, n, 2d) and forward alone (3, n, d), and its sense."""
        words, sense = write(n, params.word, clues, rng)
        ahead, back = model.layers(words)
        return torch.cat([ahead, back], dim=-1)[:, :, AT], ahead[:, :, AT], sense

    known, _, sense = vectors(LABELLED, "both")
    new, _, truth = vectors(TESTED, "both")
    s = learn_mix(known, sense)
    weights = {"0": torch.eye(3)[0], "1": torch.eye(3)[1], "2": torch.eye(3)[2], "mix": s}
    scores = {name: accuracy(mix(known, w), sense, mix(new, w), truth) for name, w in weights.items()}
    right, right_ahead, right_sense = vectors(LABELLED, "right")  # nothing on the left tells the sense
    late, late_ahead, late_truth = vectors(TESTED, "right")
    late_scores = {name: accuracy(mix(right, w), right_sense, mix(late, w), late_truth) for name, w in weights.items()}
    forward = accuracy(right_ahead[2], right_sense, late_ahead[2], late_truth)

    chosen = weights[params.layer]
    shown = mix(new, chosen)[:150]
    moved = (mix(new, weights["0"]) - mix(new, weights["0"])[:1]).abs().max().item()
    centred = (shown - shown.mean(dim=0)).numpy()
    static = (new[0, 0] - shown.mean(dim=0)).numpy()  # (2d,): the word's row of the table, twice
    axes = np.linalg.svd(centred, full_matrices=False)[2][:2]  # the two principal ones, (2, 2d)
    points: list[tuple[float, float]] = [(float(x), float(y)) for x, y in centred @ axes.T]
    static_point = float(static @ axes[0]), float(static @ axes[1])
    kinds: list[int] = truth.numpy().tolist()
    names = [f"{params.word}: {', '.join(clues[:2])}" for clues in CLUES[params.word]]
    words, meant = write(6, params.word, "both", rng)
    rows: list[list[int]] = words[:, 1:-1].numpy().tolist()
    senses: list[int] = meant.numpy().tolist()
    return Result(
        metrics=[
            Metric("sense-accuracy", scores[params.layer]),
            Metric("sense-accuracy of the static vector", scores["0"]),
            Metric("clue to the right, both directions", late_scores[params.layer]),
            Metric("clue to the right, forward alone", forward),
        ],
        claims=[
            Claim("The static vector is the same in every sentence: largest difference", moved, "==", 0.0),
            Claim("So it cannot tell the senses: accuracy", scores["0"], "<=", 0.6),
            Claim("Vectors in context can: accuracy of the chosen layer", scores[params.layer], ">=", 0.9),
            Claim("With the clue to the right the forward model is blind: accuracy", forward, "<=", 0.65),
            Claim("And both directions are not: accuracy of the chosen layer", late_scores[params.layer], ">=", 0.9),
        ],
        figures=[
            Scatter(f"Vectors of “{params.word}” in 150 sentences, layer {params.layer}",
                    "first principal axis", "second principal axis",
                    {name: [point for point, kind in zip(points, kinds, strict=False) if kind == k]
                     for k, name in enumerate(names)} | {"the static vector, always": [static_point]}),
            Bars("Senses told apart", "layer", "accuracy", [*weights, "forward, layer 2"], {
                "clues on both sides": [*scores.values(), accuracy(
                    known[2, :, :D], sense, new[2, :, :D], truth)],
                "clues to the right": [*late_scores.values(), forward],
            }),
        ],
        tables=[
            Table("Layers", ["layer", "weight in the mix", "accuracy", "accuracy, clue to the right"], [
                *([f"{k}, {'words' if k == 0 else 'biLSTM'}", s[k].item(), scores[str(k)], late_scores[str(k)]]
                  for k in range(3)),
                ["mix", 1.0, scores["mix"], late_scores["mix"]],
            ]),
            Table("Sentences", ["sense", "sentence"], [
                [names[k], " ".join(VOCABULARY[word] for word in row)] for row, k in zip(rows, senses, strict=True)
            ]),
        ],
    )  # fmt: skip
