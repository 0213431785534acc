"""Confident errors: what a model does not know

Question: Why do language models state false things fluently, and can they know it?
Source: Kalai and Vempala 2023, arXiv:2311.14648 (a calibrated model invents about as often as facts stand only once in
  its text); Guo et al. 2017, arXiv:1706.04599, eq. (3) (calibration error); Manakul et al. 2023, arXiv:2303.08896
  (samples of something invented disagree).
Watch: asked about a person it never read of, the model names a city as fluently as for one that it knows: form is
  learned from everybody, content from that person alone. What changed after the cutoff is answered as it was, and with
  full confidence. A threshold on confidence helps against the first error and never against the second.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy

from demos.contract import Bars, Cell, Claim, DemoParams, Lines, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.transformer import Transformer, train

FIRST, LAST, CITIES = 24, 24, 48  # first names, family names, cities
YEARS = range(2021, 2027)  # in one of which each city gets a new mayor
LIVES, MAYOR, OF, UNKNOWN = range(FIRST + LAST + CITIES, FIRST + LAST + CITIES + 4)
WORDS = FIRST + LAST + CITIES + 4
PEOPLE = 60  # of each kind
COMMON = 5  # times that each mayor and each "unknown" is written
D, LAYERS, HEADS, BATCH, RATE = 64, 2, 2, 16, 3e-3


class Params(DemoParams):
    frequency: int = Field(5, ge=1, le=50, description="Times that a common fact stands in the training text")
    abstain_below: float = Field(0.5, ge=0.0, le=1.0, description="Confidence below which the model says nothing")
    cutoff: int = Field(2023, ge=2020, le=2026, description="Last year that the training text knows of")
    idk_training: bool = Field(False, description='Train on "unknown" for people of whom nothing is known')
    steps: int = Field(400, ge=100, le=1500, description="Training steps")
    seed: int = Field(0, ge=0, le=9999, description="Seed of facts, weights and batches")

    presets: ClassVar[Mapping[str, Preset]] = {
        "taught to say unknown": Preset("Having seen it said, the model says it of strangers", {"idk_training": True}),
        "nothing is common": Preset("All facts stand there once: none is recalled surely", {"frequency": 1}),
        "never silent": Preset("A threshold of 0 answers everything and gains nothing", {"abstain_below": 0.0}),
        "up to date": Preset("Text up to this year leaves no old answers", {"cutoff": 2026}),
    }


@dataclass(frozen=True, slots=True)
class Facts:
    """Questions (N, 3) and answers (N,), as word numbers."""

    questions: Tensor
    answers: Tensor

    def lines(self, times: int) -> Tensor:
        """The text that states each fact so many times, (N · times, 4)."""
        return torch.cat([self.questions, self.answers[:, None]], dim=1).repeat(times, 1)


@dataclass(frozen=True, slots=True)
class World:
    """People by the times that they are written of, people of whom nothing is known, and the cities' mayors."""

    people: Mapping[str, tuple[int, Facts]]
    nobody: Facts
    old_mayors: Facts
    new_mayors: Facts
    changed: Tensor  # year of the change, (CITIES,)


def draw_world(frequency: int, rng: torch.Generator) -> World:
    """Each person's city and each city's mayors are drawn at random: nothing about them can be worked out."""
    names = torch.randperm(FIRST * LAST, generator=rng)[: 5 * PEOPLE]
    homes = FIRST + LAST + torch.randint(CITIES, (5 * PEOPLE,), generator=rng)
    lives = torch.full_like(names, LIVES)
    asked = torch.stack([names // LAST, FIRST + names % LAST, lives], dim=1)  # "Ann Bell lives-in"
    kinds = {"unseen": 0, "once": 1, "twice": 2, "common": frequency}
    people = {kind: (times, Facts(asked[n * PEOPLE : (n + 1) * PEOPLE], homes[n * PEOPLE : (n + 1) * PEOPLE]))
              for n, (kind, times) in enumerate(kinds.items())}  # fmt: skip
    nobody = Facts(asked[4 * PEOPLE :], torch.full((PEOPLE,), UNKNOWN))
    cities = FIRST + LAST + torch.arange(CITIES)
    office = torch.stack([torch.full_like(cities, MAYOR), torch.full_like(cities, OF), cities], dim=1)
    old = torch.randint(LAST, (CITIES,), generator=rng)
    new = (old + torch.randint(1, LAST, (CITIES,), generator=rng)) % LAST
    changed = YEARS[0] + torch.arange(CITIES) % len(YEARS)
    return World(people, nobody, Facts(office, FIRST + old), Facts(office, FIRST + new), changed)


def write_text(world: World, params: Params) -> Tensor:
    """All lines (N, 4) that the model reads: people, and each mayor who was in office at the cutoff."""
    at_cutoff = torch.where(world.changed <= params.cutoff, world.new_mayors.answers, world.old_mayors.answers)
    lines = [facts.lines(times) for times, facts in world.people.values()]
    lines.append(Facts(world.old_mayors.questions, at_cutoff).lines(COMMON))
    if params.idk_training:
        lines.append(world.nobody.lines(COMMON))
    return torch.cat(lines)


def train_model(text: Tensor, params: Params, rng: torch.Generator, tick: Tick) -> Transformer:
    """Next-word prediction on random lines."""
    model = Transformer(WORDS, 4, D, LAYERS, HEADS, rng, causal=True)

    def loss() -> Tensor:
        lines = text[torch.randint(len(text), (BATCH,), generator=rng)]
        return cross_entropy(model(lines[:, :-1]).flatten(0, 1), lines[:, 1:].flatten())

    def report(step: int, value: float) -> None:
        if step % 10 == 0:
            tick(step / params.steps, f"step {step}", loss=value)

    train(model, loss, params.steps, RATE, report)
    return model


@dataclass(frozen=True, slots=True)
class Said:
    """The likeliest answers (N,), their probability, whether they are right, and whether two samples would agree."""

    answers: Tensor
    confidence: Tensor
    right: Tensor
    agreement: Tensor  # Σ p²


@torch.no_grad()
def ask(model: Transformer, facts: Facts) -> Said:
    p = model(facts.questions)[:, -1].softmax(dim=1)  # (N, WORDS)
    confidence, answers = p.max(dim=1)
    return Said(answers, confidence, answers == facts.answers, (p**2).sum(dim=1))


def reliability(confidence: Tensor, right: Tensor, bins: int = 5) -> tuple[list[float], list[float], float]:
    """Mean confidence and share right in each bin that is not empty, and the calibration error (Guo et al., eq. 3)."""
    place = (confidence * bins).long().clamp(max=bins - 1)
    held = [place == n for n in range(bins) if (place == n).any()]
    sure = [confidence[some].mean().item() for some in held]
    share = [right[some].float().mean().item() for some in held]
    weights = [some.float().mean().item() for some in held]
    return sure, share, sum(w * abs(a - b) for w, a, b in zip(weights, sure, share, strict=True))


def spell(words: Sequence[int]) -> str:
    """Word numbers as text: F3 L7 lives in C12."""
    special = {LIVES: "lives in", MAYOR: "mayor", OF: "of", UNKNOWN: "unknown"}
    kinds = [("F", 0)] * FIRST + [("L", FIRST)] * LAST + [("C", FIRST + LAST)] * CITIES
    return " ".join(special[w] if w in special else f"{kinds[w][0]}{w - kinds[w][1]}" for w in words)


def mean(values: Tensor) -> float:
    """Their mean, 0 if there are none."""
    return values.float().mean().item() if len(values) else 0.0


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng = torch.Generator().manual_seed(params.seed)
    world = draw_world(params.frequency, rng)
    model = train_model(write_text(world, params), params, rng, tick)

    said = {kind: ask(model, facts) for kind, (_, facts) in world.people.items()}
    share = {kind: mean(each.right) for kind, each in said.items()}
    unseen = said["unseen"]
    well_formed = mean((unseen.answers >= FIRST + LAST) & (unseen.answers < FIRST + LAST + CITIES))
    confidence = torch.cat([each.confidence for each in said.values()])
    right = torch.cat([each.right for each in said.values()])
    answered = confidence >= params.abstain_below
    sure, correct, error = reliability(confidence, right)

    today = ask(model, world.new_mayors)
    stale = world.changed > params.cutoff
    follows_old = mean((today.answers == world.old_mayors.answers)[stale])
    by_year = [mean(today.right[world.changed == year]) for year in YEARS]
    rows: list[list[Cell]] = []
    shown = [(kind, facts, said[kind]) for kind, (_, facts) in world.people.items()]
    for kind, facts, each in [*shown, ("mayors of today", world.new_mayors, today)]:
        for n in range(CITIES - 3, CITIES):
            question: list[int] = facts.questions[n].numpy().tolist()
            rows.append([kind, spell(question), spell([int(each.answers[n])]), round(float(each.confidence[n]), 2),
                         spell([int(facts.answers[n])])])  # fmt: skip
    return Result(
        metrics=[
            Metric("accuracy on common facts", share["common"]),
            Metric("accuracy on facts seen once", share["once"]),
            Metric("accuracy on unseen facts", share["unseen"]),
            Metric("confidence on unseen facts", mean(unseen.confidence)),
            Metric("confidence in old answers", mean(today.confidence[stale])),
            Metric("two samples agree, common facts", mean(said["common"].agreement)),
            Metric("two samples agree, unseen facts", mean(unseen.agreement)),
            Metric("calibration error", error),
            Metric("precision", mean(right[answered])),
            Metric("share answered", mean(answered)),
        ],
        claims=[
            Claim("Common facts are recalled: accuracy", share["common"], ">=", 0.95),
            Claim("Rare ones less: accuracy on common facts, less that on facts seen once",
                  share["common"] - share["once"], ">=", 0.2),
            Claim("Strangers get an answer of the right form: share that is a city", well_formed, ">=", 0.9),
            Claim("It is made up: share of strangers' cities that is right", share["unseen"], "<=", 0.2),
            Claim("What changed after the cutoff is answered as it was: share", follows_old, ">=", 0.8),
            Claim("Silence below the threshold raises precision: gain over answering everything",
                  mean(right[answered]) - mean(right), ">=", 0.2),
            Claim("That is no cure for what is out of date: share of old answers that pass the threshold",
                  mean((today.confidence >= params.abstain_below)[stale]), ">=", 0.8),
        ],
        figures=[
            Lines("Reliability: is an answer right as often as the model is sure of it?", x="confidence",
                  y="share right", at=sure, series={"model": correct, "perfect": sure}),
            Bars("Frequency: how often a fact was in the text", x="fact", y="share", labels=[
                f"{kind} ({times}×)" for kind, (times, _) in world.people.items()], series={
                "right": list(share.values()), "confidence": [mean(each.confidence) for each in said.values()]}),
            Bars(f"Mayors of today, text up to {params.cutoff}", x="year of the last change", y="share right",
                 labels=[str(year) for year in YEARS], series={"right": by_year}),
        ],
        tables=[Table("Answers", ["fact", "question", "answer", "confidence", "truth"], rows)],
    )  # fmt: skip
