"""word2vec: skip-gram and CBOW with negative sampling

Question: How do words that keep the same company come to have close vectors and even arithmetic?
Source: Mikolov et al. 2013, arXiv:1301.3781 (CBOW, skip-gram, windows of random width, analogies) and arXiv:1310.4546,
  eq. (4) (negative sampling), eq. (5) (subsampling), §2.2 (noise ∝ count^¾).
Watch: no label says that king and queen are alike or what Paris is to France; the map and the analogies come from
  neighbours alone. Without negative samples (preset) the loss falls to 0 and little is learned; so with 4 dimensions.
"""

import itertools
import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, normalize

from demos.contract import Claim, DemoParams, Lines, Metric, Preset, Result, Scatter, Table, Tick, no_tick
from demos.shared.transformer import descend

ROLES = """king queen throne crown, man woman house coat, boy girl school toys, father mother children dinner,
prince princess castle ball, actor actress stage film, waiter waitress menu tray, wizard witch spell potion"""
LANDS = """france paris wine cheese, italy rome pasta opera, germany berlin beer cars, japan tokyo sushi temples,
spain madrid olives guitars, russia moscow snow ballet, egypt cairo pyramids cotton, china beijing tea silk"""
TEMPLATES = {  # which column of ROLES or LANDS: 0 he and 1 she, or 0 country and 1 capital; T one of its two topics
    0: ["he said the * left his T", "his T made the * smile at him", "the * who lost his T thanked him",
        "they exported T from * across the border", "the land of * with its T and army", "all * and its border grew T"],
    1: ["she said the * left her T", "her T made the * smile at her", "the * who lost her T thanked her",
        "we walked streets in * where T abound", "the mayor of * and its T museum", "all * and its streets like T"],
}  # fmt: skip
ROWS = {name: [entry.split() for entry in text.split(",")] for name, text in (("roles", ROLES), ("lands", LANDS))}
KINDS = {
    "his": [row[0] for row in ROWS["roles"]], "hers": [row[1] for row in ROWS["roles"]],
    "countries": [row[0] for row in ROWS["lands"]], "capitals": [row[1] for row in ROWS["lands"]],
}  # fmt: skip
ANALOGIES = [(a, b, c, d) for rows in ROWS.values() for (a, b, *_), (c, d, *_) in itertools.permutations(rows, 2)]
SENTENCES, BATCH, RATE = 6000, 256, 0.01
SUBSAMPLE, NOISE_POWER = 0.01, 0.75  # t of eq. (5), as large as a vocabulary of 100 words asks for; the ¾ of §2.2


class Params(DemoParams):
    model: Literal["skip-gram", "cbow"] = Field("skip-gram", description="What predicts: the centre, or its neighbours")
    dim: int = Field(24, ge=4, le=100, description="Numbers in a word's vector")
    window: int = Field(3, ge=1, le=8, description="Most neighbours on each side")
    negatives: int = Field(5, ge=0, le=20, description="Noise words k for each true neighbour")
    epochs: int = Field(4, ge=1, le=20, description="Passes over the text")
    seed: int = Field(0, ge=0, le=9999, description="Seed of text, vectors and noise")

    presets: ClassVar[Mapping[str, Preset]] = {
        "no negatives": Preset(
            "A yes to every pair costs nothing: the loss reaches 0, and analogies are lost", {"negatives": 0}
        ),
        "four dimensions": Preset("Too few for roles, sexes and lands at once: analogies are lost", {"dim": 4}),
        "cbow": Preset("The average of the neighbours predicts the middle word", {"model": "cbow"}),
        "window 1": Preset("Next neighbours alone: what stands in the same place of a sentence", {"window": 1}),
    }


def write_text(rng: torch.Generator) -> list[list[str]]:
    """Sentences: a template for a role or a land, the word, and one of its two topics."""
    text = list[list[str]]()
    draws = torch.stack([torch.randint(n, (SENTENCES,), generator=rng) for n in (2, 8, 2, 3, 2)], dim=1)  # (S, 5)
    choices: list[list[int]] = draws.numpy().tolist()
    for land, number, column, form, topic in choices:
        row = ROWS["lands" if land else "roles"][number]
        template = TEMPLATES[column][3 * land + form]
        text.append(template.replace("*", row[column]).replace("T", row[2 + topic]).split())
    return text


def subsample(tokens: Tensor, counts: Tensor, rng: torch.Generator) -> Tensor:
    """Which tokens (M,) stay: a word of frequency f is dropped with probability 1 − √(t / f), eq. (5)."""
    keep = (SUBSAMPLE / (counts / counts.sum())).sqrt()  # (V,), above 1 for rare words
    return torch.rand(len(tokens), generator=rng) < keep[tokens]


def windows(tokens: Tensor, sentence: Tensor, window: int, rng: torch.Generator) -> Tensor:
    """Each token's neighbours in its own sentence, within a width drawn from 1 to `window`: (M, 2·window), or −1."""
    width = torch.randint(1, window + 1, tokens.shape, generator=rng)  # near words are met more often than far ones
    columns = list[Tensor]()
    for offset in (*range(-window, 0), *range(1, window + 1)):
        there = torch.arange(len(tokens)) + offset
        inside = there.clamp(0, len(tokens) - 1)
        valid = (there == inside) & (sentence[inside] == sentence) & (width >= abs(offset))
        columns.append(torch.where(valid, tokens[inside], -1))
    return torch.stack(columns, dim=1)


def loss(h: Tensor, u: Tensor, noise: Tensor) -> Tensor:
    """Eq. (4): −log σ(u·h) − Σₖ log σ(−nₖ·h) of each row. h (B, d) predicts u (B, d) among noise n (B, k, d)."""
    return -logsigmoid((u * h).sum(dim=1)) - logsigmoid(-(noise @ h[:, :, None])[:, :, 0]).sum(dim=1)


def train(
    tokens: Tensor, sentence: Tensor, params: Params, rng: torch.Generator, tick: Tick
) -> tuple[Tensor, Tensor, list[float]]:
    """Word vectors v and context vectors u, (V, d) each, and the loss along the way."""
    counts = tokens.bincount().double()  # (V,)
    words = len(counts)
    v = nn.Parameter((torch.rand(words, params.dim, generator=rng) - 0.5) / params.dim)
    u = nn.Parameter(torch.zeros(words, params.dim))
    odds = counts**NOISE_POWER
    adam = torch.optim.Adam([v, u], lr=RATE, fused=True)
    losses = list[float]()
    for epoch in range(params.epochs):
        kept = subsample(tokens, counts, rng)
        centre, context = tokens[kept], windows(tokens[kept], sentence[kept], params.window, rng)
        row, column = (context >= 0).nonzero(as_tuple=True)
        if params.model == "cbow":
            row = (context >= 0).any(dim=1).nonzero()[:, 0]  # one example a centre that has a neighbour
        order = torch.randperm(len(row), generator=rng)
        for at in range(0, len(order), BATCH):
            some = order[at : at + BATCH]
            if params.model == "skip-gram":  # the centre predicts each neighbour
                h, target = v[centre[row[some]]], context[row[some], column[some]]
            else:  # the mean of its neighbours predicts the centre
                near = context[row[some]]
                there = (near >= 0)[:, :, None]  # (B, 2·window, 1)
                h, target = (v[near.clamp(min=0)] * there).sum(dim=1) / there.sum(dim=1), centre[row[some]]
            noise = torch.multinomial(odds.expand(len(some), words), params.negatives or 1, True, generator=rng)
            value = loss(h, u[target], u[noise[:, : params.negatives]]).mean()
            done = (epoch + at / len(order)) / params.epochs
            adam.param_groups[0]["lr"] = RATE * (1 - done)
            descend([v, u], adam, value)
            losses.append(value.item())
        tick((epoch + 1) / params.epochs, f"epoch {epoch + 1}", loss=losses[-1])
    return v.detach(), u.detach(), losses


def check_loss(v: Tensor, u: Tensor, k: int, rng: torch.Generator) -> tuple[float, float]:
    """Largest difference of the loss from eq. (4) in plain numbers, and of its gradient in h from slopes measured."""

    def written_out(h: list[float], target: list[float], noise: list[list[float]]) -> float:
        def sigma(a: list[float], sign: int) -> float:
            return 1 / (1 + math.exp(-sign * sum(x * y for x, y in zip(a, h, strict=True))))

        return -math.log(sigma(target, 1)) - sum(math.log(sigma(n, -1)) for n in noise)

    rows = torch.randint(len(v), (10, 2 + k), generator=rng)
    h, target, noise = v[rows[:, 0]].double().requires_grad_(), u[rows[:, 1]].double(), u[rows[:, 2:]].double()
    values = loss(h, target, noise)
    plain = [written_out(*(x.detach().numpy().tolist() for x in row)) for row in zip(h, target, noise, strict=True)]
    (gradient,) = torch.autograd.grad(values.sum(), h)  # (10, d)
    step = 1e-6 * torch.eye(h.shape[1], dtype=torch.double)[:, None]  # (d, 1, d)
    slopes = torch.stack([loss(h + e, target, noise) - loss(h - e, target, noise) for e in step], dim=1) / 2e-6
    return (values - torch.tensor(plain, dtype=torch.double)).abs().max().item(), (gradient - slopes).abs().max().item()


def nearest(v: Tensor, to: Tensor) -> Tensor:
    """Words by the cosine of their vectors with `to` (d,), nearest first."""
    return (normalize(v) @ to).argsort(descending=True)


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng = torch.Generator().manual_seed(params.seed)
    text = write_text(rng)
    vocabulary = sorted({word for words in text for word in words})
    number = {word: i for i, word in enumerate(vocabulary)}
    tokens = torch.tensor([number[word] for words in text for word in words])  # (M,)
    sentence = torch.tensor([i for i, words in enumerate(text) for _ in words])  # (M,)
    v, u, losses = train(tokens, sentence, params, rng, tick)
    unit = normalize(v)

    answers = list[tuple[str, int]]()  # to a : b = c : ?, the first answer, and the rank of the right one
    for a, b, c, d in ANALOGIES:
        order: list[int] = nearest(v, unit[number[b]] - unit[number[a]] + unit[number[c]]).numpy().tolist()
        words = [vocabulary[i] for i in order if vocabulary[i] not in (a, b, c)]
        answers.append((words[0], words.index(d) + 1))
    first = sum(rank == 1 for _, rank in answers) / len(answers)
    groups = [KINDS["his"] + KINDS["hers"], KINDS["countries"], KINDS["capitals"]]
    members = torch.tensor([number[word] for group in groups for word in group])
    kind = torch.tensor([i for i, group in enumerate(groups) for _ in group])
    cosine, same = unit[members] @ unit[members].T, kind[:, None] == kind
    within, across = cosine[same & ~torch.eye(len(kind)).bool()].mean().item(), cosine[~same].mean().item()
    used = v[tokens]  # (M, d): the vector of every word of the text, in its place
    places = [used[tokens == word] for word in range(len(v))]
    spread = max((place.amax(dim=0) - place.amin(dim=0)).max().item() for place in places)
    by_formula, by_slope = check_loss(v, u, params.negatives, rng)

    centred = v[members] - v[members].mean(dim=0)
    axes = np.linalg.svd(centred.numpy(), full_matrices=False)[2][:2]  # the two principal ones, (2, d)
    points: list[tuple[float, float]] = [(float(x), float(y)) for x, y in centred.numpy() @ axes.T]
    at = dict(zip(members.numpy().tolist(), points, strict=True))
    every = max(1, len(losses) // 200)
    return Result(
        metrics=[
            Metric("analogies in first place", first),
            Metric("mean cosine within a kind", within),
            Metric("mean cosine across kinds", across),
            Metric("last loss", losses[-1], "nats"),
        ],
        claims=[
            Claim("Words used alike lie together: mean cosine within a kind, less across kinds",
                  within - across, ">=", 0.3),
            Claim("Differences of vectors mean something: share of analogies with the right word first",
                  first, ">=", 0.7),
            Claim("A word has one vector in all sentences: largest difference over its places", spread, "==", 0.0),
            Claim("The loss is that of eq. (4): largest difference from it in plain numbers", by_formula, "<=", 1e-6),
            Claim("Its gradient is its slope: largest difference from finite differences", by_slope, "<=", 1e-4),
        ],
        figures=[
            Scatter("Map of the words", "first principal axis", "second principal axis",
                    {name: [at[number[word]] for word in words] for name, words in KINDS.items()}),
            Lines("Loss", "step", "nats", list(range(0, len(losses), every)), {"loss": losses[::every]}),
        ],
        tables=[
            Table("Nearest words", ["word", "nearest by cosine"], [
                [word, ", ".join(vocabulary[i] for i in nearest(v, unit[number[word]])[1:6])]
                for word in ("king", "queen", "france", "paris", "crown", "wine", "she")
            ]),
            Table("Analogies", ["asked", "found", "rank of the right word"], [
                [f"{c} − {a} + {b}", found, rank]
                for (a, b, c, _), (found, rank) in zip(ANALOGIES, answers, strict=True) if c in ("king", "france")
            ]),
        ],
    )  # fmt: skip
