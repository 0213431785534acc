"""Self-attention step by step: which noun does "it" point to?

Question: How do Q, K and V turn a sentence into context-aware vectors, and can attention learn what "it" refers to?
Source: Vaswani et al. 2017, arXiv:1706.03762, §3.2, eq. (1); weights as pointers: Vinyals et al. 2015,
    arXiv:1506.03134.
Watch: The row of "it": the adjective at the end, tired or wide, decides whether it looks at the animal or the street.
    Its vector must hold the adjective for that, as an earlier layer of a transformer provides: a query is made of the
    token's own vector alone. Not told, "it" asks the same whatever the sentence says, and guesses.
"""

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from demos.contract import Claim, DemoParams, Heatmap, Lines, Metric, Preset, Result, Table, Tick, no_tick

LIVING = ["animal", "dog", "cat", "horse", "boy", "girl", "bird", "child"]
THINGS = ["street", "road", "river", "bridge", "field", "lake", "wall", "park"]
FELT = ["tired", "hungry", "afraid", "sleepy", "angry", "ill"]  # only the living are so
SHAPED = ["wide", "long", "flooded", "closed", "narrow", "steep"]  # only things are so
VERBS = ["cross", "see", "leave", "reach"]
WORDS = ["the", "did", "not", "because", "it", "was", *VERBS, *LIVING, *THINGS, *FELT, *SHAPED]
ID = {word: number for number, word in enumerate(WORDS)}
TEMPLATE = ["the", "dog", "did", "not", "see", "the", "road", "because", "it", "was", "ill"]
FIRST, SECOND, IT, LENGTH, BATCH = 1, 6, 8, 11, 64  # places of the two nouns and of "it"; words; sentences a step


class Params(DemoParams):
    d_model: int = Field(32, ge=8, le=128, description="Width of the token vectors")
    d_k: int = Field(16, ge=4, le=64, description="Width of queries, keys and values")
    informed: bool = Field(True, description='Add the last word\'s vector to that of "it", as an earlier layer would')
    steps: int = Field(300, ge=0, le=1500, description="Training steps of 64 sentences (0: untrained projections)")
    sentence: str = Field("the animal did not cross the street because it was tired", max_length=200,
                          description='Sentence that is drawn: 11 known words, the ninth of them "it"')  # fmt: skip
    seed: int = Field(0, ge=0, le=9999, description="Seed of sentences and weights")

    presets: ClassVar[Mapping[str, Preset]] = {
        "not informed": Preset('"It" does not know the adjective when it asks: a guess', {"informed": False}),
        "untrained": Preset("Attention is spread by chance", {"steps": 0}),
        "wide": Preset("One other word at the end, and it looks elsewhere",
                       {"sentence": "the animal did not cross the street because it was wide"}),
    }  # fmt: skip

    @field_validator("sentence")
    @classmethod
    def _is_in_known_words(cls, sentence: str) -> str:
        words = sentence.lower().split()
        if unknown := sorted(set(words) - set(ID)):
            raise ValueError(f"unknown: {', '.join(unknown)}; the words are {' '.join(WORDS)}")
        if len(words) != LENGTH or words[IT] != "it":
            raise ValueError('write it as "the <noun> did not <verb> the <noun> because it was <adjective>"')
        return " ".join(words)


class SelfAttention(nn.Module):
    """Eq. (1): queries, keys and values are three projections of the same vectors."""

    def __init__(self, d: int, d_k: int, rng: torch.Generator) -> None:
        super().__init__()
        self.W_Q, self.W_K, self.W_V = (
            nn.Parameter(torch.randn(d, d_k, generator=rng) / math.sqrt(d)) for _ in range(3)
        )
        self.W_O = nn.Parameter(torch.randn(d_k, d, generator=rng) / math.sqrt(d_k))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """x (B, T, d) -> every matrix on the way, under its name in the paper."""
        q, k, v = x @ self.W_Q, x @ self.W_K, x @ self.W_V  # (B, T, d_k) each
        scores = q @ k.transpose(1, 2) / math.sqrt(k.shape[2])  # (B, T, T): row asks, column answers
        weights = scores.softmax(dim=2)  # each row sums to 1
        mixed = weights @ v  # (B, T, d_k): what the row read
        return {"X": x, "Q": q, "K": k, "V": v, "scores": scores, "weights": weights, "weights V": mixed,
                "output": mixed @ self.W_O}  # fmt: skip


class Reader(nn.Module):
    """Words, places and one attention layer. The row of "it" is the answer: weights as pointers."""

    def __init__(self, params: Params, rng: torch.Generator) -> None:
        super().__init__()
        d, self.informed = params.d_model, params.informed
        self.words, self.places = (nn.Parameter(torch.randn(n, d, generator=rng)) for n in (len(WORDS), LENGTH))
        self.layer = SelfAttention(d, params.d_k, rng)

    def forward(self, sentences: Tensor) -> dict[str, Tensor]:
        """sentences (B, T) -> the matrices of the layer."""
        x = self.words[sentences] + self.places  # (B, T, d)
        if self.informed:
            told = torch.zeros(LENGTH, 1).index_fill(0, torch.tensor(IT), 1.0)  # (T, 1): "it" alone
            x = x + told * self.words[sentences[:, -1:]]
        return self.layer(x)


def draw_sentences(n: int, held_out: bool, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Sentences (n, T) and the place of the noun meant, (n,). A fifth of the pairs of nouns is kept for the test."""
    kept = [(a, b) for a in range(8) for b in range(8) if ((a + 3 * b) % 5 == 0) == held_out]
    pairs = torch.tensor(kept)[torch.randint(len(kept), (n,), generator=rng)]  # (n, 2): which living, which thing
    living, thing = (torch.tensor([ID[word] for word in some])[pairs[:, m]] for m, some in enumerate((LIVING, THINGS)))
    swapped, shaped = (torch.rand(n, generator=rng) < 0.5 for _ in range(2))  # thing first? "it" is the thing?

    def pick(words: Sequence[str]) -> Tensor:
        return torch.tensor([ID[word] for word in words])[torch.randint(len(words), (n,), generator=rng)]

    template = torch.tensor([ID[word] for word in TEMPLATE])
    sentences = template.repeat(n, 1)  # (n, T)
    sentences[:, FIRST], sentences[:, SECOND] = torch.where(swapped, thing, living), torch.where(swapped, living, thing)
    sentences[:, 4] = pick(VERBS)
    sentences[:, -1] = torch.where(shaped, pick(SHAPED), pick(FELT))
    return sentences, torch.where(swapped == shaped, FIRST, SECOND)


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Take one step down the gradient of the loss."""
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()


@torch.no_grad()
def pointing(model: Reader, sentences: Tensor, places: Tensor) -> tuple[float, float]:
    """How often the strongest weight of "it" is on the noun meant, and its mean weight there."""
    row = model(sentences)["weights"][:, IT]  # (B, T)
    on_noun = row.gather(1, places[:, None])
    return (row.argmax(dim=1) == places).float().mean().item(), on_noun.mean().item()


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng, dice = (torch.Generator().manual_seed(2 * params.seed + odd) for odd in (0, 1))  # training; evaluation
    model, held_out = Reader(params, rng), draw_sentences(1000, True, dice)
    untrained, _ = pointing(model, *held_out)
    adam = torch.optim.Adam(
        [model.words, model.places, model.layer.W_Q, model.layer.W_K], fused=True
    )  # V: no part in it
    rate = torch.optim.lr_scheduler.OneCycleLR(adam, max_lr=1e-2, total_steps=params.steps + 1)
    losses = list[float]()
    for step in range(1, params.steps + 1):
        sentences, places = draw_sentences(BATCH, False, rng)
        loss = nn.functional.cross_entropy(model(sentences)["scores"][:, IT], places)  # -log of the weight wanted
        descend(adam, loss)
        rate.step()
        losses.append(loss.item())
        if step % 10 == 0:
            tick(step / params.steps, f"step {step}", loss=losses[-1])

    accuracy, weight = pointing(model, *held_out)
    words = params.sentence.split()
    with torch.no_grad():
        seen = model(torch.tensor([[ID[word] for word in words]]))
        A, V = seen["weights"][0], seen["V"][0]  # (T, T), (T, d_k)
        looped = torch.stack(
            [sum((A[i, j] * V[j] for j in range(LENGTH)), torch.zeros(params.d_k)) for i in range(LENGTH)]
        )
        loop_gap = (looped - seen["weights V"][0]).abs().max().item()
        rows_off, least = (A.sum(dim=1) - 1).abs().max().item(), A.min().item()
        x, order = torch.randn(1, LENGTH, params.d_model, generator=dice), torch.randperm(LENGTH, generator=dice)
        moved = (model.layer(x[:, order])["output"] - model.layer(x)["output"][:, order]).abs().max().item()

    def short(vector: Tensor) -> str:
        return ", ".join(f"{value:.2f}" for value in vector[:6].numpy()) + (", …" if len(vector) > 6 else "")

    return Result(
        metrics=[
            Metric("coreference-accuracy", accuracy),
            Metric("weight on the noun meant, held-out sentences", weight),
            Metric("coreference-accuracy before training", untrained),
            Metric("weight from it to the first noun of your sentence", A[IT, FIRST].item()),
            Metric("weight from it to the second", A[IT, SECOND].item()),
        ],
        claims=[
            Claim("Every row of weights sums to 1: largest distance", rows_off, "<=", 1e-6),
            Claim("No weight is negative: smallest", least, ">=", 0),
            Claim("The output is Σ weight · value, added up in a loop: largest difference", loop_gap, "<=", 1e-5),
            Claim("A layer itself knows no order, tokens permuted give outputs permuted: largest difference",
                  moved, "<=", 1e-5),
            Claim("In pairs of nouns never seen, it looks at the noun meant: share", accuracy, ">=", 0.95),
            Claim("… and hardly elsewhere: mean weight there", weight, ">=", 0.7),
            Claim("Untrained projections do not: share", untrained, "<=", 0.7),
        ],
        figures=[
            Heatmap("Attention", x="word looked at", y="word that looks", values=A.numpy().tolist(),
                    row_labels=words, column_labels=words),
            *([Lines("Pointing at the noun meant", x="training step", y="nats", at=list(range(1, params.steps + 1)),
                     series={"loss": losses, "one of the two nouns at random": [math.log(2)] * params.steps})]
              if params.steps else []),
        ],
        tables=[
            Table('From X to the output for "it"', ["matrix", "shape", 'row of "it"'],
                  [[name, str(tuple(matrix[0].shape)), short(matrix[0, IT])] for name, matrix in seen.items()]),
            Table("Weight matrices", ["matrix", "shape"],
                  [[name, str(tuple(some.shape))] for name, some in model.layer.named_parameters()]),
            Table('What "it" looks at', ["word", "weight"],
                  [[f"{n + 1}: {word}", A[IT, n].item()] for n, word in enumerate(words)]),
        ],
    )  # fmt: skip
