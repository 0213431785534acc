"""DeBERTa: content and position kept apart

Question: What is gained when attention scores content→content, content→position and position→content separately?
Source: He et al. 2020, arXiv:2006.03654, §3.1 eq. (2)–(4), §3.2, algorithm 1. The released code reads the table of
  its third term at δ(i, j) where eq. (4) has δ(j, i): the same rows, numbered backwards.
Watch: a hidden word repeats its left neighbour at odd places and the word before that one at even places. Contents
  alone do not know where "left" is; the position terms do. Which of the two is meant only the absolute place tells,
  and DeBERTa adds it as late as this, before the word is predicted.
"""

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, gelu

from demos.contract import Bars, Claim, DemoParams, Heatmap, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.transformer import start, train

WORDS = ["[MASK]", "ant", "bee", "cow", "dog", "eel", "fox", "gnu", "hen"]
MASK, LENGTH, HIDDEN = 0, 14, 3  # hidden words of each text; none of them hides what another one repeats
D, HEADS = 32, 2
BATCH, RATE, TESTED = 32, 8e-3, 500
Terms = Literal["c2c", "c2c+c2p", "c2c+c2p+p2c"]


class Params(DemoParams):
    terms: Terms = Field("c2c+c2p+p2c", description="Terms of a score: of content (c) and of position (p)")
    k: int = Field(8, ge=2, le=32, description="Relative distances are told apart up to k")
    absolute_at_end: bool = Field(True, description="Enhanced mask decoder: its queries know their absolute place")
    steps: int = Field(120, ge=50, le=1000, description="Steps of 32 texts, for each of four models")
    seed: int = Field(0, ge=0, le=9999, description="Seed of texts and weights")

    presets: ClassVar[Mapping[str, Preset]] = {
        "no absolute place": Preset("Two candidates, and a guess between them", {"absolute_at_end": False}),
        "contents alone": Preset("No position enters a score: left and right are the same", {"terms": "c2c"}),
        "short sight": Preset("With k = 2 one place back and two look alike", {"k": 2}),
        "two terms": Preset("Without position→content this task still goes", {"terms": "c2c+c2p"}),
    }


def draw_texts(n: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Whole texts (n, LENGTH), and which of their words are hidden, bool; places count from 0."""
    texts = torch.randint(MASK + 1, len(WORDS), (n, LENGTH), generator=rng)
    hidden = torch.zeros(n, LENGTH, dtype=torch.bool)
    rows, place = torch.arange(n), torch.ones(n, dtype=torch.long)
    for number in range(HIDDEN):
        place = place + torch.randint(1 if number == 0 else 3, 5, (n,), generator=rng)
        texts[rows, place] = texts[rows, place - 2 + place % 2]
        hidden[rows, place] = True
    return texts, hidden


def delta(n: int, k: int) -> Tensor:
    """δ(i, j), (n, n): the row of the table of distances for i − j, which is cut to −k … k − 1. Eq. (3)."""
    place = torch.arange(n)
    return (place[:, None] - place + k).clamp(0, 2 * k - 1)


class Disentangled(nn.Module):
    """A layer whose scores have a term for contents and one for each mixture of content and relative position."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out, self.q_r, self.k_r = (nn.Linear(D, D, bias=False) for _ in range(6))
        self.up, self.down = nn.Linear(D, 4 * D), nn.Linear(4 * D, D)
        self.norm1, self.norm2 = nn.LayerNorm(D), nn.LayerNorm(D)

    def terms(self, asking: Tensor, x: Tensor, table: Tensor) -> dict[str, Tensor]:
        """The terms of eq. (4), (B, heads, n, n) each, of queries and keys (B, n, D) and a table (2k, D)."""
        q, k = split(self.q(asking)), split(self.k(x))  # (B, heads, n, d)
        q_r, k_r = split(self.q_r(table)), split(self.k_r(table))  # (heads, 2k, d)
        at = delta(x.shape[1], len(table) // 2).expand(*q.shape[:3], -1)  # (B, heads, n, n)
        return {
            "c2c": q @ k.mT,
            "c2p": (q @ k_r.mT).gather(3, at),  # [i, j] = q_i · k_r[δ(i, j)]; 2k products for each i, then picked
            "p2c": (k @ q_r.mT).gather(3, at).mT,  # [j, i] = k_j · q_r[δ(j, i)], transposed
        }

    def scores(self, asking: Tensor, x: Tensor, table: Tensor, names: list[str]) -> Tensor:
        """(B, heads, n, n). A sum of m terms has m times the variance of one, hence √(m·d); m = 3 in the paper."""
        terms = self.terms(asking, x, table)
        return torch.stack([terms[name] for name in names]).sum(dim=0) / math.sqrt(len(names) * D / HEADS)

    def forward(self, asking: Tensor, x: Tensor, table: Tensor, names: list[str]) -> Tensor:
        """(B, n, D): queries come from `asking`, keys and values from x; in the encoder both are the same."""
        weights = self.scores(asking, x, table, names).softmax(dim=3)
        mixed = (weights @ split(self.v(x))).transpose(1, 2).flatten(2)
        x = self.norm1(asking + self.out(mixed))
        return self.norm2(x + self.down(gelu(self.up(x))))


def split(x: Tensor) -> Tensor:
    """(…, n, D) -> (…, heads, n, d)."""
    return x.view(*x.shape[:-1], HEADS, -1).transpose(-3, -2)


class Deberta(nn.Module):
    """One layer on relative positions, and the enhanced mask decoder: a last layer that is used twice."""

    def __init__(self, terms: str, absolute: bool, k: int, rng: torch.Generator) -> None:
        super().__init__()
        self.names, self.absolute = terms.split("+"), absolute
        self.words, self.norm = nn.Embedding(len(WORDS), D), nn.LayerNorm(D)
        self.table, self.places = nn.Embedding(2 * k, D), nn.Embedding(LENGTH, D)
        self.layer, self.decoder = Disentangled(), Disentangled()
        start(self, rng)

    def forward(self, words: Tensor) -> Tensor:
        """Logits (B, n, V) of the word at each place."""
        x = self.norm(self.words(words))
        x = self.layer(x, x, self.table.weight, self.names)
        asking = x + self.places.weight if self.absolute else x  # §3.2: absolute places enter here alone
        for _ in range(2):
            asking = self.decoder(asking, x, self.table.weight, self.names)
        return asking @ self.words.weight.T


def pretrain(terms: str, absolute: bool, params: Params, tick: Tick, begin: float) -> Deberta:
    rng = torch.Generator().manual_seed(params.seed)
    model = Deberta(terms, absolute, params.k, torch.Generator().manual_seed(params.seed + 1))

    def loss() -> Tensor:
        texts, hidden = draw_texts(BATCH, rng)
        return cross_entropy(model(texts.masked_fill(hidden, MASK))[hidden], texts[hidden])

    def report(step: int, value: float) -> None:
        tick(begin + step / params.steps / 5, f"{terms}, {'with' if absolute else 'without'} places", loss=value)

    train(model, loss, params.steps, RATE, report)
    return model


@torch.no_grad()
def accuracy(model: Deberta, texts: Tensor, hidden: Tensor) -> float:
    """Share of the hidden words that are the likeliest of all."""
    return (model(texts.masked_fill(hidden, MASK)).argmax(dim=2) == texts)[hidden].float().mean().item()


def scores_by_loops(layer: Disentangled, x: Tensor, table: Tensor, names: list[str]) -> Tensor:
    """What `scores` gives for one text x (n, D), (heads, n, n), number by number as eq. (4) is written."""
    n, k = len(x), len(table) // 2
    q, key, q_r, k_r = (split(part) for part in (layer.q(x), layer.k(x), layer.q_r(table), layer.k_r(table)))
    scores = torch.zeros(HEADS, n, n)
    for i in range(n):
        for j in range(n):
            there, back = (0 if d <= -k else 2 * k - 1 if d >= k else d + k for d in (i - j, j - i))
            parts = {"c2c": (q[:, i], key[:, j]), "c2p": (q[:, i], k_r[:, there]), "p2c": (key[:, j], q_r[:, back])}
            for name in names:
                scores[:, i, j] += (parts[name][0] * parts[name][1]).sum(dim=1)
    return scores / math.sqrt(len(names) * D / HEADS)


def change_when_moved(model: Deberta, text: Tensor, places_at_input: bool) -> float:
    """Largest change of the first layer's scores among six words when they stand five places further right."""
    blocks = list[Tensor]()
    for at in (1, 6):
        words = text.clone()
        words[at : at + 6] = text[:6]
        x = model.norm(model.words(words)) + places_at_input * model.places.weight
        scores = model.layer.scores(x[None], x[None], model.table.weight, model.names)[0]  # (heads, n, n)
        blocks.append(scores[:, at : at + 6, at : at + 6])
    return (blocks[0] - blocks[1]).abs().max().item()


def run(params: Params, tick: Tick = no_tick) -> Result:
    full: Terms = "c2c+c2p+p2c"
    chosen = params.terms, params.absolute_at_end
    compared = dict.fromkeys([chosen, ("c2c", True), ("c2c+c2p", True), (full, True), (full, False)])  # each once
    arms = {arm: pretrain(*arm, params, tick, number / len(compared)) for number, arm in enumerate(compared)}
    texts, hidden = draw_texts(TESTED, torch.Generator().manual_seed(params.seed + 10_000))
    found = {arm: accuracy(model, texts, hidden) for arm, model in arms.items()}
    model = arms[chosen]
    with torch.no_grad():
        read = texts[0].masked_fill(hidden[0], MASK)
        x, table = model.norm(model.words(read)), model.table.weight
        gap = (model.layer.scores(x[None], x[None], table, model.names)[0]
               - scores_by_loops(model.layer, x, table, model.names)).abs().max().item()  # fmt: skip
        still, moved = (change_when_moved(model, texts[0], places) for places in (False, True))
        encoded = model.layer(x[None], x[None], table, model.names)
        asking = encoded + model.places.weight if model.absolute else encoded
        terms = model.decoder.terms(asking, encoded, table)
    names = {"c2c": "content→content", "c2p": "content→position", "p2c": "position→content"}
    labels = [f"{place} {WORDS[int(word)]}" for place, word in enumerate(read)]
    rows = [[terms_of, "yes" if absolute else "no", share] for (terms_of, absolute), share in found.items()]
    return Result(
        metrics=[
            Metric("accuracy", found[chosen]),
            Metric("accuracy without absolute places", found[full, False]),
            Metric("accuracy of contents alone", found["c2c", True]),
            Metric("accuracy without position→content", found["c2c+c2p", True]),
        ],
        claims=[
            Claim("It finds the hidden words: share", found[chosen], ">=", 0.8),
            Claim("Without absolute places it guesses one of two: share", found[full, False], "<=", 0.75),
            Claim("Contents alone do not know left from right: share", found["c2c", True], "<=", 0.7),
            Claim("Scores are sums of terms over √(3d): largest difference from loops", gap, "<=", 1e-5),
            Claim("Five places further on a phrase has the same scores: largest change", still, "<=", 1e-5),
            Claim("Places added at the input, as in BERT, would change them: largest change", moved, ">=", 0.1),
        ],
        figures=[
            *(Heatmap(f"{names[name]}: what the decoder asks of a text, head 1", "read", "asking",
                      (terms[name][0, 0] / math.sqrt(len(model.names) * D / HEADS)).numpy().tolist(), labels, labels)
              for name in model.names),
            Bars("Hidden words found", "terms, absolute places at the end", "share",
                 [f"{terms_of}, {absolute}" for terms_of, absolute, _ in rows], {"share": list(found.values())}),
        ],
        tables=[Table("Ablation", ["terms", "absolute places", "hidden words found"], rows)],
    )  # fmt: skip
