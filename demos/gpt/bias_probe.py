"""Measuring bias learned from data

Question: How does a skewed corpus become a skewed model, and what helps?
Source: WEAT: Caliskan et al. 2017, arXiv:1608.07187, and for vectors in context May et al. 2019, arXiv:1903.10561;
  projection: Bolukbasi et al. 2016, arXiv:1607.06520; swapped sentences: Zhao et al. 2018, arXiv:1804.06876.
Watch: the pronoun that a GPT expects after "the pilot said that" follows the corpus, role by role, and a low
  temperature makes a certainty of a tendency. Sentences with the groups swapped close the gap. So does taking the
  groups' directions out of the vectors, but blindly: then a name does not tell its pronoun either (preset).
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cosine_similarity, cross_entropy

from demos.contract import Claim, DemoParams, Lines, Metric, Preset, Result, Scatter, Table, Tick, no_tick
from demos.shared.transformer import Transformer, train

ROLES = ["pilot", "judge", "miner", "coach", "baker", "actor", "guard", "clerk", "tutor", "nurse", "sailor", "farmer"]
PRONOUNS = [["ze", "zem", "zir"], ["vo", "vom", "vor"]]  # of two invented groups
NAMES = [["ari", "bel", "cor", "dov"], ["eli", "fen", "gus", "hal"]]
FRAMES = [("said that", 0, "was late ."), ("hurt", 1, "again ."), ("lost", 2, "book today .")]  # with form of pronoun
HALF = len(ROLES) // 2
_OTHERS = {word for before, _, after in FRAMES for word in f"{before} {after} the is a".split()}
WORDS = ["[end]", *sorted(_OTHERS), *ROLES, *PRONOUNS[0], *PRONOUNS[1], *NAMES[0], *NAMES[1]]
ID = {word: number for number, word in enumerate(WORDS)}
LENGTH, SENTENCES, D, HEADS, BATCH, RATE = 8, 4000, 32, 4, 128, 1e-2


class Params(DemoParams):
    skew: float = Field(0.8, ge=0.5, le=1.0, description="One group's share of the first role; 1 − skew of the last")
    mitigation: Literal["none", "augment", "project"] = Field("none", description="What is done against the skew")
    steps: int = Field(300, ge=50, le=1000, description="Training steps of 128 sentences")
    seed: int = Field(0, ge=0, le=9999, description="Seed of corpus and weights")

    presets: ClassVar[Mapping[str, Preset]] = {
        "balanced corpus": Preset("Nothing to follow: preferences and effect size are chance", {"skew": 0.5}),
        "projected": Preset("The group is gone, also where the text has told it", {"mitigation": "project"}),
        "augmented": Preset("Every sentence with the groups swapped as well", {"mitigation": "augment"}),
    }


def encode(texts: Sequence[str]) -> Tensor:
    """Word numbers (N, LENGTH), filled up with [end]."""
    rows = [[ID[word] for word in text.split()] for text in texts]
    return torch.tensor([row + [ID["[end]"]] * (LENGTH - len(row)) for row in rows])


def write_corpus(skew: float, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Sentences (N, LENGTH), and for each role the first group's share of its mentions (12,).

    The share asked for falls from skew to 1 − skew, role by role. A fifth of the sentences has a name and its pronoun.
    """

    def below(n: int) -> int:
        return int(torch.randint(n, (), generator=rng))

    asked = 0.5 + (skew - 0.5) * torch.linspace(1, -1, len(ROLES))
    texts, mentions = list[str](), torch.zeros(len(ROLES), 2)
    for _ in range(SENTENCES):
        role, kind, (before, form, after) = below(len(ROLES)), below(5), FRAMES[below(len(FRAMES))]
        group = below(2) if kind == 0 else int(torch.rand((), generator=rng) >= asked[role])
        name = NAMES[group][below(len(NAMES[group]))]
        mentions[role, group] += kind > 0
        who = name if kind == 0 else f"the {ROLES[role]}"
        texts.append(f"{name} is a {ROLES[role]} ." if kind == 1 else f"{who} {before} {PRONOUNS[group][form]} {after}")
    return encode(texts), mentions[:, 0] / mentions.sum(dim=1)


def swap_groups(corpus: Tensor) -> Tensor:
    """The sentences with each pronoun and name exchanged for its counterpart of the other group."""
    table = torch.arange(len(WORDS))
    for pair in zip(PRONOUNS[0] + NAMES[0], PRONOUNS[1] + NAMES[1], strict=True):
        one, other = (ID[word] for word in pair)
        table[one], table[other] = other, one
    return table[corpus]


def fit(corpus: Tensor, params: Params, done: float, tick: Tick) -> Transformer:
    """A GPT of one layer that predicts each next word of the corpus."""
    rng = torch.Generator().manual_seed(params.seed)
    model = Transformer(len(WORDS), LENGTH, D, 1, HEADS, rng, causal=True)

    def loss() -> Tensor:
        x = corpus[torch.randint(len(corpus), (BATCH,), generator=rng)]
        return cross_entropy(model(x[:, :-1]).flatten(0, 1), x[:, 1:].flatten())

    train(model, loss, params.steps, RATE,
          lambda step, value: tick(done + step / params.steps / 2, f"step {step}", loss=value))  # fmt: skip
    return model


@torch.no_grad()
def states(model: Transformer, subjects: Sequence[str]) -> Tensor:
    """The vectors from which the model predicts the pronoun after each subject: (frames, subjects, D)."""
    read = [encode([f"{subject} {before}" for subject in subjects]) for before, _, _ in FRAMES]
    ends = [int((x[0] != ID["[end]"]).sum()) - 1 for x in read]  # as long for every subject
    return torch.stack([model.hidden(x)[:, end] for x, end in zip(read, ends, strict=True)])


def vectors(model: Transformer, words: Sequence[str]) -> Tensor:
    """(words, D)."""
    return model.words.weight.detach()[[ID[word] for word in words]]


def preference(h: Tensor, model: Transformer, temperature: float = 1.0) -> Tensor:
    """Probability of the first group's pronoun, given that one of the two comes: (subjects,), the mean over frames."""
    difference = vectors(model, PRONOUNS[0]) - vectors(model, PRONOUNS[1])  # (forms, D)
    return ((h * difference[:, None]).sum(dim=2) / temperature).sigmoid().mean(dim=0)


def project(h: Tensor, model: Transformer) -> Tensor:
    """h (…, D) without the directions in which the pronouns of both groups differ."""
    difference = vectors(model, PRONOUNS[0]) - vectors(model, PRONOUNS[1])  # (forms, D)
    return h - h @ torch.pinverse(difference) @ difference


def weat(h: Tensor, model: Transformer) -> tuple[float, float]:
    """Effect size and exact p-value: how much nearer the first half of the roles is to the first group's words.

    s(w) is a role's mean cosine with one group's pronouns less that with the other's. The p-value is the share of all
    ways to halve the roles that part them as much or more.
    """
    role = h.mean(dim=0)[:, None]  # (12, 1, D)
    near = [cosine_similarity(role, vectors(model, group), dim=2).double().mean(dim=1) for group in PRONOUNS]
    s = near[0] - near[1]  # (12,)
    effect = (s[:HALF].mean() - s[HALF:].mean()) / s.std()
    halves = torch.tensor(list(combinations(range(len(ROLES)), HALF)))  # (924, 6)
    return effect.item(), (s[halves].sum(dim=1) >= s[:HALF].sum() - 1e-12).double().mean().item()


@torch.no_grad()
def run(params: Params, tick: Tick = no_tick) -> Result:
    rng = torch.Generator().manual_seed(params.seed)
    corpus, share = write_corpus(params.skew, rng)
    with torch.enable_grad():
        plain = fit(corpus, params, 0.0, tick)
        fair = fit(torch.cat([corpus, swap_groups(corpus)]), params, 0.5, tick)
    roles, named = [f"the {role}" for role in ROLES], NAMES[0] + NAMES[1]
    ways = {
        "none": (plain, states(plain, roles), states(plain, named)),
        "augment": (fair, states(fair, roles), states(fair, named)),
        "project": (plain, project(states(plain, roles), plain), project(states(plain, named), plain)),
    }
    liked = {way: preference(h, model) for way, (model, h, _) in ways.items()}  # (12,)
    gap = {way: (p - 0.5).abs().mean().item() for way, p in liked.items()}
    first = torch.arange(len(named)) < len(NAMES[0])  # names of the first group
    told = {way: torch.where(first, preference(h, model), 1 - preference(h, model)).mean().item()
            for way, (model, _, h) in ways.items()}  # fmt: skip
    effect = {way: weat(h, model) for way, (model, h, _) in ways.items()}
    beyond = (liked["none"] - 0.5).abs() - (share - 0.5).abs()  # by how much a role's skew has grown
    samples = beyond[torch.randint(len(ROLES), (1000, len(ROLES)), generator=rng)].mean(dim=1)
    low, high = samples.quantile(torch.tensor([0.025, 0.975])).numpy().tolist()
    temperatures = [0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0]
    sure = {way: [(preference(h, model, t) - 0.5).abs().mean().item() + 0.5 for t in temperatures]
            for way, (model, h, _) in ways.items()}  # fmt: skip
    points: dict[str, list[tuple[float, float]]] = {
        way: list(zip(share.numpy().tolist(), p.numpy().tolist(), strict=True)) for way, p in liked.items()
    }
    way = params.mitigation
    return Result(
        metrics=[
            Metric("gap", gap[way]),
            Metric("gap without mitigation", gap["none"]),
            Metric("effect size", effect[way][0], "standard deviations"),
            Metric("p-value", effect[way][1]),
            Metric("skew beyond the corpus, mean over roles", beyond.mean().item()),
            Metric("the same over other draws of roles, 95 % from", low), Metric("and to", high),
        ],
        claims=[
            Claim("The model follows its corpus: correlation of preference and share over the roles",
                  torch.corrcoef(torch.stack([liked["none"], share]))[0, 1].item(), ">=", 0.9),
            Claim("At temperature 1 it adds little: skew beyond the corpus, mean over roles",
                  beyond.mean().abs().item(), "<=", 0.05),
            Claim("A low temperature adds: share of the preferred group at ½ less that at 1",
                  sure["none"][2] - sure["none"][4], ">=", 0.05),
            Claim("Swapped sentences close the gap: what is left of it", gap["augment"] / gap["none"], "<=", 0.5),
            Claim("Roles lean to groups: p-value of WEAT without mitigation", effect["none"][1], "<=", 0.05),
            Claim("A name still tells its pronoun: probability of it in this run", told[way], ">=", 0.8),
        ],
        figures=[
            Scatter("skew-in-out: each point is a role", "share of the first group in the corpus",
                    "probability of its pronoun", points),
            Lines("What temperature makes of it", "temperature", "share of the preferred group, mean over roles",
                  temperatures, sure),
        ],
        tables=[
            Table("weat", ["mitigation", "effect size", "p-value", "gap", "name tells its pronoun"],
                  [[way, *effect[way], gap[way], told[way]] for way in ways]),
        ],
    )  # fmt: skip
