"""Retrieval-augmented answering as a small chain

Question: How does retrieved text cure stale and missing knowledge?
Source: Lewis et al. 2020, arXiv:2005.11401 (retrieve, then generate); BM25: Robertson & Zaragoza 2009,
  doi:10.1561/1500000019, §3.4; dense retrieval: Karpukhin et al. 2020, arXiv:2004.04906, eqs. (1), (2); a reader that
  points at its answer: Vinyals et al. 2015, arXiv:1506.03134.
Watch: asked from memory, a model knows what it was trained on and nothing else, and repeats facts that have changed.
  The chain (prompt, retriever, reader, parser) answers from the passages that it finds, so a new passage is enough.
  BM25 matches words: where the question says it in other words, it guesses among an entity's passages, and the dense
  retriever, which learned what means the same, does not.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from demos.contract import Bars, Claim, DemoParams, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.perceptron import perceptron
from demos.shared.transformer import start, train

SYLLABLES = ["ka", "lo", "mi", "ru", "ze", "to", "va", "ne"]
NAMES = [one + two for one in SYLLABLES for two in SYLLABLES]  # 64 invented names
ENTITIES, VALUES = NAMES[:40], [f"{name}n" for name in NAMES[:40]]
RELATIONS = {"capital": "seat", "river": "stream", "leader": "head", "food": "dish"}  # as in passages: in other words
FACTS = [(entity, relation) for entity in ENTITIES for relation in RELATIONS]  # 160
FILLER = ["<pad>", "the", "of", "is", "what", "now", "?"]
WORDS = [*FILLER, *RELATIONS, *RELATIONS.values(), *ENTITIES, *VALUES]
NUMBER = {word: number for number, word in enumerate(WORDS)}
UNSEEN, CHANGED = 40, 40  # facts kept out of training; facts trained on that change afterwards
K1, B = 1.2, 0.75  # of BM25
WIDTH, BATCH, RATE = 48, 128, 1e-2


class Params(DemoParams):
    retriever: Literal["none", "bm25", "dense"] = Field("bm25", description="How passages are found; none: from memory")
    top_k: int = Field(2, ge=1, le=5, description="Passages that the reader sees")
    update_index: bool = Field(True, description="Replace the passages of facts that changed after the training")
    steps: int = Field(300, ge=100, le=1500, description="Training steps of the reader, and of what is set beside it")
    seed: int = Field(0, ge=0, le=9999, description="Seed of facts, weights and batches")

    presets: ClassVar[Mapping[str, Preset]] = {
        "from memory": Preset("No retrieval: unseen facts are guessed, changed ones are stale", {"retriever": "none"}),
        "stale index": Preset("Passages are not replaced: the chain quotes what was", {"update_index": False}),
        "dense": Preset("Vectors that learned what means the same", {"retriever": "dense"}),
        "one passage": Preset("The reader sees the best passage alone", {"top_k": 1}),
    }


def passage(fact: tuple[str, str], value: str) -> list[str]:
    """What the index holds of a fact: "the river of kalo is mizen now"."""
    entity, relation = fact
    return ["the", relation, "of", entity, "is", value, "now"]


def question(fact: tuple[str, str], reworded: bool = False) -> list[str]:
    """The prompt: "what is the river of kalo ?", or "… stream …"."""
    entity, relation = fact
    return ["what", "is", "the", RELATIONS[relation] if reworded else relation, "of", entity, "?"]


def numbers(texts: Sequence[Sequence[str]]) -> Tensor:
    """Word numbers (n, 7); every text here has seven words."""
    return torch.tensor([[NUMBER[word] for word in text] for text in texts])


def bm25(asked: Sequence[str], index: Sequence[Sequence[str]]) -> Tensor:
    """The score of each passage, (N,): Σ_w idf(w) · tf (k₁ + 1) / (tf + k₁ (1 − b + b |passage| / mean length))."""
    average = sum(map(len, index)) / len(index)
    scores = torch.zeros(len(index), dtype=torch.float64)
    for word in set(asked):
        counts = torch.tensor([text.count(word) for text in index], dtype=torch.float64)
        holders = int((counts > 0).sum())
        idf = math.log(1 + (len(index) - holders + 0.5) / (holders + 0.5))
        length = torch.tensor([len(text) / average for text in index], dtype=torch.float64)
        scores += idf * counts * (K1 + 1) / (counts + K1 * (1 - B + B * length))
    return scores


class Dense(nn.Module):
    """Two encoders, each the sum of its word vectors; a passage's score is the product with the question's vector."""

    def __init__(self, rng: torch.Generator) -> None:
        super().__init__()
        self.asked, self.told = nn.Embedding(len(WORDS), WIDTH), nn.Embedding(len(WORDS), WIDTH)
        start(self, rng)

    def forward(self, asked: Tensor, told: Tensor) -> Tensor:
        """Questions (n, 7), passages (N, 7) -> scores (n, N)."""
        return self.asked(asked).sum(dim=1) @ self.told(told).sum(dim=1).T


class Reader(nn.Module):
    """Points at a word of the passages: how well its passage fits the question, how much it looks like an answer."""

    def __init__(self, rng: torch.Generator) -> None:
        super().__init__()
        self.fit = Dense(rng)
        self.kind = nn.Embedding(len(WORDS), 1)
        nn.init.zeros_(self.kind.weight)  # no word looks like an answer before any was seen

    def forward(self, asked: Tensor, told: Tensor) -> Tensor:
        """Questions (n, 7), their passages (n, k, 7) -> logits of every word of these, (n, k · 7)."""
        fit = self.fit.asked(asked).sum(dim=1)[:, None] * self.fit.told(told).sum(dim=2)  # (n, k, d)
        return (fit.sum(dim=2)[:, :, None] + self.kind(told)[..., 0]).flatten(1)


def bag(asked: Tensor) -> Tensor:
    """Which words are in questions (n, 7): (n, V), what the model that answers from memory reads."""
    return torch.zeros(len(asked), len(WORDS)).scatter(1, asked, 1.0)


@dataclass(frozen=True, slots=True)
class World:
    """What was so at training time and what is so now, value by fact; facts trained on, and those never seen."""

    before: list[str]
    now: list[str]
    taught: list[int]
    unseen: list[int]
    changed: list[int]


def settle(rng: torch.Generator) -> World:
    """A world at random: every fact has a value, UNSEEN are kept out of training, CHANGED get another value later."""
    drawn: list[int] = torch.randint(len(VALUES), (len(FACTS),), generator=rng).numpy().tolist()
    order: list[int] = torch.randperm(len(FACTS), generator=rng).numpy().tolist()
    shift: list[int] = torch.randint(1, len(VALUES), (len(FACTS),), generator=rng).numpy().tolist()
    unseen, taught = order[:UNSEEN], order[UNSEEN:]
    changed = taught[:CHANGED]
    before = [VALUES[value] for value in drawn]
    now = [VALUES[(value + shift[fact] * (fact in changed)) % len(VALUES)] for fact, value in enumerate(drawn)]
    return World(before, now, taught, unseen, changed)


def teach(world: World, params: Params, tick: Tick) -> tuple[nn.Module, Dense, Reader]:
    """The three models, from the facts that were known at training time and from both wordings of a question."""
    rng = torch.Generator().manual_seed(params.seed)
    memory = perceptron([len(WORDS), 4 * WIDTH, len(WORDS)], nn.ReLU, rng)  # knows what its weights hold
    dense, reader = Dense(rng), Reader(rng)
    taught = torch.tensor(world.taught)
    asked = torch.stack([numbers([question(fact, reworded) for fact in FACTS]) for reworded in (False, True)])
    told = numbers([passage(fact, value) for fact, value in zip(FACTS, world.before, strict=True)])  # (160, 7)
    values = torch.tensor([NUMBER[value] for value in VALUES])

    def draw(n: int) -> tuple[Tensor, Tensor]:
        """Facts known (n,), and questions about them (n, 7)."""
        facts = taught[torch.randint(len(taught), (n,), generator=rng)]
        return facts, asked[torch.randint(2, (n,), generator=rng), facts]

    def recall() -> Tensor:
        facts, questions = draw(BATCH)
        return nn.functional.cross_entropy(memory(bag(questions)), told[facts, 5])

    def retrieve() -> Tensor:  # eq. (2): its own passage against those of the other questions in the batch
        facts = taught[torch.randperm(len(taught), generator=rng)[: BATCH // 2]]
        questions = asked[torch.randint(2, (len(facts),), generator=rng), facts]
        return nn.functional.cross_entropy(dense(questions, told[facts]), torch.arange(len(facts)))

    def read() -> Tensor:  # values are drawn anew each time, so that nothing but the passage can tell them
        facts, questions = draw(BATCH)
        entity, relation = facts // 4 * 4, facts % 4
        rivals = torch.stack([  # passages of the same entity, of the same relation, and any
            entity + (relation + torch.randint(1, 4, (BATCH,), generator=rng)) % 4,
            (facts + 4 * torch.randint(1, len(ENTITIES), (BATCH,), generator=rng)) % len(FACTS),
            taught[torch.randint(len(taught), (BATCH,), generator=rng)],
        ], dim=1)  # fmt: skip
        shown = told[torch.cat([facts[:, None], rivals], dim=1)].clone()  # (n, 4, 7)
        shown[:, :, 5] = values[torch.randint(len(values), shown.shape[:2], generator=rng)]
        return nn.functional.cross_entropy(reader(questions, shown), torch.full((BATCH,), 5))

    for done, (name, model, loss) in enumerate(
        (("memory", memory, recall), ("dense retriever", dense, retrieve), ("reader", reader, read))
    ):
        tick(done / 4, f"training: {name}")
        train(model, loss, params.steps, RATE, lambda _step, _value: None)
    return memory, dense, reader


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, the passage that it was read from (−1: from memory), and the passages found, best first."""

    text: str
    source: int
    found: list[int]


@dataclass(frozen=True, slots=True)
class Chain:
    """Prompt, retriever, reader and parser over an index of passages, which may change without any training."""

    retriever: str
    top_k: int
    index: list[list[str]]
    memory: nn.Module
    dense: Dense
    reader: Reader

    @torch.no_grad()
    def ask(self, prompt: Sequence[str]) -> Answer:
        asked = numbers([prompt])
        if self.retriever == "none":
            return Answer(WORDS[int(self.memory(bag(asked)).argmax())], -1, [])
        told = numbers(self.index)
        scores = bm25(prompt, self.index) if self.retriever == "bm25" else self.dense(asked, told)[0]
        found: list[int] = scores.argsort(descending=True, stable=True)[: self.top_k].numpy().tolist()
        place = int(self.reader(asked, told[found][None]).argmax())
        source = found[place // told.shape[1]]
        return Answer(self.index[source][place % told.shape[1]], source, found)


def share(hits: Sequence[bool]) -> float:
    return sum(hits) / len(hits)


def run(params: Params, tick: Tick = no_tick) -> Result:
    world = settle(torch.Generator().manual_seed(params.seed + 10_000))
    models = teach(world, params, tick)
    values = world.now if params.update_index else world.before
    index = [passage(fact, value) for fact, value in zip(FACTS, values, strict=True)]
    chains = {name: Chain(name, params.top_k, index, *models) for name in ("none", "bm25", "dense")}
    tick(0.8, "answers")
    lasting = [fact for fact in world.taught if fact not in world.changed]
    groups = {"unseen": world.unseen, "changed": world.changed, "unchanged": lasting}
    answers = {
        (name, reworded): [chain.ask(question(fact, reworded)) for fact in FACTS]
        for name, chain in chains.items() for reworded in (False, True)
    }  # fmt: skip
    right = {key: [each.text == world.now[fact] for fact, each in enumerate(given)] for key, given in answers.items()}

    def accuracy(name: str, group: Sequence[int], reworded: bool = False) -> float:
        return share([right[name, reworded][fact] for fact in group])

    everything = range(len(FACTS))
    chosen = answers[params.retriever, False]
    cited = [each.source == fact for fact, each in enumerate(chosen) if each.text == world.now[fact]]
    stale = share([answers["none", False][fact].text == world.before[fact] for fact in world.changed])
    found = {
        (name, reworded): share([fact in answers[name, reworded][fact].found for fact in everything])
        for name in ("bm25", "dense") for reworded in (False, True)
    }  # fmt: skip
    shown = [world.unseen[0], world.changed[0], lasting[0]]
    return Result(
        metrics=[
            Metric("accuracy", accuracy(params.retriever, everything)),
            Metric("accuracy from memory", accuracy("none", everything)),
            Metric("accuracy on unseen facts", accuracy(params.retriever, world.unseen)),
            Metric("accuracy on changed facts", accuracy(params.retriever, world.changed)),
            Metric("changed facts answered with the old value, from memory", stale),
        ],
        claims=[
            Claim("The chain knows what was never trained on: share of unseen facts right",
                  accuracy(params.retriever, world.unseen), ">=", 0.85),
            Claim("Memory does not: share of unseen facts right", accuracy("none", world.unseen), "<=", 0.2),
            Claim("Changed facts need no training: share right", accuracy(params.retriever, world.changed), ">=", 0.85),
            Claim("Right answers name their source: share read from the fact's own passage",
                  share(cited) if cited else 0.0, ">=", 0.95),
            Claim("Other words need a dense retriever: reworded questions whose passage it finds, less those of BM25",
                  found["dense", True] - found["bm25", True], ">=", 0.2),
        ],
        figures=[
            Bars("Right answers", x="facts", y="share right", labels=list(groups), series={
                name: [accuracy(name, group) for group in groups.values()] for name in chains}),
            Bars(f"Questions whose passage is among the {params.top_k} found", x="retriever", y="share",
                 labels=["bm25", "dense"], series={
                     wording: [found[name, reworded] for name in ("bm25", "dense")]
                     for wording, reworded in (("as in the passage", False), ("in other words", True))}),
        ],
        tables=[
            Table("The chain", ["prompt", "passages", "answer", "source", "so it is", "from memory"], [
                [" ".join(question(FACTS[fact])),
                 "; ".join(" ".join(index[number]) for number in chosen[fact].found) or "none", chosen[fact].text,
                 " ".join(index[chosen[fact].source]) if chosen[fact].source >= 0 else "none", world.now[fact],
                 answers["none", False][fact].text] for fact in shown
            ]),
        ],
    )  # fmt: skip
