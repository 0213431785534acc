"""Token embeddings: from ids to meaning-bearing vectors

Question: How does a lookup table come to place related tokens together?
Source: Bengio et al. 2003, JMLR 3 (one table, learned by predicting the next word); tied output: Press, Wolf 2016,
  arXiv:1608.05859, and Vaswani et al. 2017, arXiv:1706.03762, §3.4.
Watch: the table starts as noise (steps 0, preset) and nobody tells it what a noun is. Words that the same words follow
  are pulled the same way, and so they end beside each other.
"""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize, one_hot

from demos.contract import Claim, DemoParams, Lines, Metric, Preset, Result, Scatter, Table, Tick, no_tick
from demos.shared.grammar import CLASSES, ID, TAG, WORDS, draw_text
from demos.shared.judge import descend

SENTENCES, BATCH, RATE = 6000, 256, 1e-2
KINDS = {"adjectives": "a", "nouns": "n", "plural nouns": "N", "verbs": "vi", "plural verbs": "VI", "countries": "x",
         "capitals": "y"}  # classes of more than one word, by the letters of the grammar  # fmt: skip
SHOWN = ["dog", "cats", "sees", "bark", "old", "france", "paris"]


class Params(DemoParams):
    dim: int = Field(32, ge=2, le=256, description="Numbers in each token's row")
    steps: int = Field(400, ge=0, le=2000, description="Training steps of 256 words; 0 shows the table before")
    tied: bool = Field(True, description="Use the table once more as the weights of the output")
    seed: int = Field(0, ge=0, le=9999, description="Seed of text and weights")

    presets: ClassVar[Mapping[str, Preset]] = {
        "before training": Preset("Random rows: neighbours by chance", {"steps": 0}),
        "two numbers": Preset("No room for so many kinds of words", {"dim": 2}),
        "untied": Preset("A second table for the output: twice the numbers", {"tied": False}),
    }


class NextWord(nn.Module):
    """The rows of two words, a hidden layer, and a score for each word of the vocabulary: (B, 2) -> (B, V)."""

    def __init__(self, dim: int, tied: bool, rng: torch.Generator) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(len(WORDS), dim, generator=rng) / dim**0.5)  # (V, d)
        self.output = self.table if tied else nn.Parameter(torch.randn(len(WORDS), dim, generator=rng) / dim**0.5)
        self.hidden = nn.Parameter(torch.randn(2 * dim, dim, generator=rng) / (2 * dim) ** 0.5)
        self.bias = nn.Parameter(torch.zeros(len(WORDS)))

    def forward(self, words: Tensor) -> Tensor:
        rows = look_up(self.table, words).flatten(1)  # (B, 2d)
        return torch.tanh(rows @ self.hidden) @ self.output.T + self.bias


def look_up(table: Tensor, words: Tensor) -> Tensor:
    """The rows of some words, (…,) -> (…, d): picked by their numbers, nothing is multiplied."""
    return table[words]


def multiply(table: Tensor, words: Tensor) -> Tensor:
    """The same as a product: each word as a row of V zeros and a 1, times the table."""
    return one_hot(words, len(table)).to(table.dtype) @ table


def neighbours(table: Tensor) -> Tensor:
    """For each word all words by the cosine of their rows, nearest first, itself left out: (V, V − 1)."""
    unit = normalize(table)
    cosine = unit @ unit.T - 3 * torch.eye(len(table))
    return cosine.argsort(dim=1, descending=True)[:, :-1]


def purity(table: Tensor) -> float:
    """Share of words whose nearest other word is of their own kind, over the kinds of more than one word."""
    kind = {word: name for name, letters in KINDS.items() for letter in letters for word in CLASSES[letter]}
    nearest: list[int] = neighbours(table)[:, 0].numpy().tolist()
    return sum(kind.get(WORDS[nearest[ID[word]]]) == name for word, name in kind.items()) / len(kind)


def rows_moved(model: NextWord, words: Tensor, following: Tensor) -> Tensor:
    """Size of the gradient at each row of the lookup table, (V,)."""
    (gradient,) = torch.autograd.grad(cross_entropy(model(words), following), model.table)
    return gradient.abs().sum(dim=1)


def plane(table: Tensor) -> list[tuple[float, float]]:
    """The rows along their two principal axes, one point for each word."""
    centred = (table - table.mean(dim=0)).numpy()
    axes = np.linalg.svd(centred, full_matrices=False)[2][:2]  # (2, d)
    return [(float(x), float(y)) for x, y in centred @ axes.T]


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng = torch.Generator().manual_seed(params.seed)
    text = draw_text(SENTENCES, True, rng)  # (M,)
    model = NextWord(params.dim, params.tied, rng)
    before = model.table.detach().clone()
    adam = torch.optim.Adam(model.parameters(), lr=RATE, fused=True)
    at, losses = list[int](), list[float]()
    for step in range(params.steps):
        adam.param_groups[0]["lr"] = RATE * (1 - step / params.steps)
        place = torch.randint(len(text) - 2, (BATCH,), generator=rng)
        loss = cross_entropy(model(torch.stack([text[place], text[place + 1]], dim=1)), text[place + 2])
        descend(adam, loss)
        if step % 20 == 0:
            at.append(step)
            losses.append(loss.item())
            tick(step / params.steps, "next word", loss=loss.item())

    table = model.table.detach()
    words = torch.arange(len(WORDS))
    apart = (look_up(table, words) - multiply(table, words)).abs().max().item()
    few = text[:16].view(8, 2)
    untied = NextWord(params.dim, False, rng)
    moved = rows_moved(untied, few, text[2:17:2])
    asked = torch.zeros(len(WORDS), dtype=torch.bool).index_fill(0, few.flatten(), True)
    spots = plane(table)
    tables = 1 if params.tied else 2
    held = sum(weight.numel() for weight in {model.table, model.output})
    near = neighbours(table)
    return Result(
        metrics=[
            Metric("nearest word of the same kind", purity(table)),
            Metric("the same before training", purity(before)),
            Metric("numbers in the table", table.numel()),
            Metric("numbers in table and output", held),
            Metric("last loss", losses[-1] if losses else cross_entropy(model(few), text[2:17:2]).item(), "nats"),
        ],
        claims=[
            Claim("Looking up is a product with one-hot rows: largest difference", apart, "==", 0.0),
            Claim("Words of one kind become neighbours: share of words whose nearest is of their kind",
                  purity(table), ">=", 0.8),
            Claim("They were not before: share", purity(before), "<=", 0.5),
            Claim("Only rows of words in the batch are moved: gradient of all others",
                  moved[~asked].sum().item(), "==", 0.0),
            Claim("And those rows are: least gradient of a word in the batch", moved[asked].min().item(), ">=", 1e-9),
            Claim("Every word has a row of the same length: numbers in the table, less words times width",
                  held - tables * len(WORDS) * params.dim, "==", 0),
        ],
        figures=[
            Scatter("Map of the words", "first principal axis", "second principal axis", {
                name: [spots[ID[word]] for letter in letters for word in CLASSES[letter]]
                for name, letters in KINDS.items()
            }),
            Lines("Loss", "step", "nats", at, {"next word": losses}),
        ],
        tables=[
            Table("Nearest words", ["word", "class", "nearest by cosine"], [
                [word, TAG[word], ", ".join(WORDS[int(number)] for number in near[ID[word], :5])] for word in SHOWN
            ]),
            Table("Rows", ["word", "number", f"first numbers of {params.dim}"], [
                [word, ID[word], " ".join(f"{value:.2f}" for value in table[ID[word], :6].numpy())] for word in SHOWN
            ]),
        ],
    )  # fmt: skip
