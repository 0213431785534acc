"""Before BERT: LSTM language-model pre-training

Question: What did semi-supervised sequence learning and ELMo-style training achieve, and where did they stop?
Source: Dai and Le 2015, arXiv:1511.01432 (language model first, then a classifier from its weights); Howard and Ruder
  2018 (ULMFiT), arXiv:1801.06146; words that see themselves: Devlin et al. 2018 (BERT), arXiv:1810.04805, §3.1.
Watch: text without labels teaches which words go together, so sixty labels go a long way. Each kind of context has a
  least possible loss, known exactly here; the deep two-sided model falls below its own, for it reads the answer.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, scaled_dot_product_attention

from demos.contract import Bars, Claim, DemoParams, Lines, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.transformer import start, train

TOPICS, WORDS, FILLERS, LENGTH = 4, 40, 8, 6  # topics, words of each, words of none, words of a sentence
START, END, VOCABULARY = TOPICS * WORDS + FILLERS, TOPICS * WORDS + FILLERS + 1, TOPICS * WORDS + FILLERS + 2
P_FILLER, D, BATCH, RATE = 0.4, 64, 64, 1e-2
GENTLE = 3e-3  # rate for weights that know something already, lest they forget it
TUNING, TUNING_BATCH, DRAWS, TESTED = 40, 32, 3, 1000  # steps of a classifier, repeats, test sentences
LABELS = (20, 200, 1000)  # points of the figure
Direction = Literal["forward", "backward", "both-shallow", "both-deep"]
DIRECTIONS: list[Direction] = ["forward", "backward", "both-shallow", "both-deep"]


class Params(DemoParams):
    labelled: int = Field(60, ge=20, le=1000, description="Labelled sentences")
    pretrain: bool = Field(True, description="Start the classifier from the language model's weights")
    direction: Direction = Field("forward", description="Context that the language model of the classifier uses")
    steps: int = Field(150, ge=50, le=1500, description="Training steps of each language model")
    seed: int = Field(0, ge=0, le=9999, description="Seed of sentences and weights")

    presets: ClassVar[Mapping[str, Preset]] = {
        "from scratch": Preset("Nothing is gained, and twenty labels are too few", {"pretrain": False}),
        "both-deep": Preset("Able to copy its input, it learns less: twenty labels are too few",
                            {"direction": "both-deep"}),
        "many labels": Preset("With a thousand labels nothing is gained any more", {"labelled": 1000}),
    }  # fmt: skip


def word_probabilities() -> Tensor:
    """p(word | topic), (TOPICS, words without the marks): a filler with P_FILLER, else a word of the topic."""
    of_topic = torch.eye(TOPICS).repeat_interleave(WORDS, dim=1) * (1 - P_FILLER) / WORDS
    return torch.cat([of_topic, torch.full((TOPICS, FILLERS), P_FILLER / FILLERS)], dim=1)


def write(n: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Sentences (n, LENGTH) and their topics (n,): given its topic the words of a sentence are independent."""
    topic = torch.arange(n) % TOPICS  # as many of each
    return torch.multinomial(word_probabilities()[topic], LENGTH, replacement=True, generator=rng), topic


def least_loss(words: Tensor, sees: Tensor) -> float:
    """Mean −log p(word t | words it may see) of the source itself. sees (LENGTH, LENGTH): row t sees column s."""
    log_p = word_probabilities().T.clamp(min=1e-30).log()[words]  # (B, n, TOPICS)
    posterior = torch.einsum("ts,bsk->btk", sees.float(), log_p).log_softmax(dim=-1)  # Bayes, all topics alike before
    return -(posterior + log_p).logsumexp(dim=-1).mean().item()


class LSTM(nn.Module):
    """One layer, read from the left: h and c at t need those at t − 1."""

    def __init__(self, inputs: int, d: int) -> None:
        super().__init__()
        self.read, self.recur = nn.Linear(inputs, 4 * d), nn.Linear(d, 4 * d, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, n, inputs) -> h (B, n, d)."""
        h = c = x.new_zeros(len(x), self.recur.in_features)
        states = list[Tensor]()
        for read in self.read(x).unbind(dim=1):  # W x of all words at once; the rest only one after the other
            i, f, g, o = (read + self.recur(h)).chunk(4, dim=1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            states.append(h)
        return torch.stack(states, dim=1)


def scan(layer: nn.ModuleDict, x: Tensor) -> dict[str, Tensor]:
    """The states of each of a layer's directions, at every word of x (B, n, inputs)."""
    return {name: lstm(x) if name == "ahead" else lstm(x.flip(1)).flip(1) for name, lstm in layer.items()}


class LanguageModel(nn.Module):
    """Predicts each word from the state before it, from the state after it, or from both."""

    def __init__(self, direction: Direction, rng: torch.Generator) -> None:
        super().__init__()
        self.deep = direction == "both-deep"
        self.words = nn.Embedding(VOCABULARY, D)
        names = {"forward": ["ahead"], "backward": ["back"]}.get(direction, ["ahead", "back"])
        self.below = nn.ModuleDict({name: LSTM(D, D) for name in names if self.deep})
        self.top = nn.ModuleDict({name: LSTM(2 * D if self.deep else D, D) for name in names})
        self.out = nn.Linear(len(names) * D, D)
        self.topic = nn.Linear(len(names) * D, TOPICS)
        start(self, rng)

    def states(self, words: Tensor) -> dict[str, Tensor]:
        """The top layer of each direction over <s> words </s>, (B, n + 2, D) each."""
        x = self.words(nn.functional.pad(nn.functional.pad(words, (1, 0), value=START), (0, 1), value=END))
        if self.deep:  # now each state has read all words, also the one that its neighbour is to predict
            x = torch.cat(list(scan(self.below, x).values()), dim=2)
        return scan(self.top, x)

    def loss(self, words: Tensor) -> Tensor:
        """Mean −log p of each word (B, n), from the state at t − 1 going ahead and at t + 1 going back."""
        beside = {"ahead": slice(None, -2), "back": slice(2, None)}
        near = torch.cat([h[:, beside[name]] for name, h in self.states(words).items()], dim=2)
        return cross_entropy((self.out(near) @ self.words.weight.T).flatten(0, 1), words.flatten())

    def classify(self, words: Tensor) -> Tensor:
        """Logits of the topics (B, TOPICS), from the last state of each direction."""
        last = [h[:, -1 if name == "ahead" else 0] for name, h in self.states(words).items()]
        return self.topic(torch.cat(last, dim=1))


def pretrain(direction: Direction, steps: int, rng: torch.Generator, tick: Tick, begin: float) -> LanguageModel:
    """A language model of this context, trained on sentences without their topics, new ones at each step."""
    model = LanguageModel(direction, rng)

    def report(step: int, loss: float) -> None:
        if step % 20 == 0:
            tick(begin + step / steps / 6, f"{direction}, step {step}", loss=loss)

    train(model, lambda: model.loss(write(BATCH, rng)[0]), steps, RATE, report)
    return model


def tune(weights: Mapping[str, Tensor] | None, direction: Direction, labelled: int, seed: int) -> float:
    """Accuracy of a classifier tuned on labelled sentences, all its weights, from these or from random ones."""
    rng = torch.Generator().manual_seed(seed)
    model = LanguageModel(direction, rng)
    if weights:
        model.load_state_dict(weights)
    words, topic = write(labelled, rng)

    def loss() -> Tensor:
        some = torch.randint(labelled, (TUNING_BATCH,), generator=rng)
        return cross_entropy(model.classify(words[some]), topic[some])

    train(model, loss, TUNING, GENTLE if weights else RATE, lambda _step, _loss: None)
    new, truth = write(TESTED, rng)
    with torch.no_grad():
        return (model.classify(new).argmax(dim=1) == truth).float().mean().item()


def depth(node: Any, known: dict[Any, int]) -> int:
    """Operations on the longest chain that leads to this node of autograd's graph: each waits for the one before."""
    if node not in known:
        before = (depth(other, known) for other, _ in node.next_functions if other is not None)
        known[node] = 1 + max(before, default=0)
    return known[node]


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng = torch.Generator().manual_seed(params.seed)
    test, _ = write(TESTED, rng)
    models = dict[Direction, LanguageModel]()
    for number, direction in enumerate(DIRECTIONS):
        models[direction] = pretrain(direction, params.steps, rng, tick, number / 6)
    with torch.no_grad():
        losses = {direction: model.loss(test).item() for direction, model in models.items()}

    around = ~torch.eye(LENGTH, dtype=torch.bool)
    sees = {"forward": around.tril(), "backward": around.triu(), "both-shallow": around, "both-deep": around}
    least = {direction: least_loss(test, mask) for direction, mask in sees.items()}
    excess = {direction: losses[direction] - least[direction] for direction in DIRECTIONS}

    counts = sorted({*LABELS, params.labelled})  # the first is 20
    learned = models[params.direction].state_dict() if params.pretrain else None
    starts = {f"language model, {params.direction}" if params.pretrain else "random again": learned, "random": None}
    scores: dict[str, list[float]] = {name: [] for name in starts}
    for number, labelled in enumerate(counts):
        for name, weights in starts.items():
            draws = [tune(weights, params.direction, labelled, DRAWS * params.seed + draw) for draw in range(DRAWS)]
            scores[name].append(sum(draws) / DRAWS)
        tick((4 + 2 * (number + 1) / len(counts)) / 6, f"{labelled} labels", accuracy=next(iter(scores.values()))[-1])
    ours, scratch = (values[counts.index(params.labelled)] for values in scores.values())
    text, lstm = torch.zeros(1, 16, D, requires_grad=True), LSTM(D, D)
    lengths = [1, 2, 4, 8, 16]  # words up to the one whose vector is asked for
    prefixes = [text[:, :n] for n in lengths]
    chains = {"LSTM": [depth(lstm(x)[0, -1].grad_fn, {}) for x in prefixes]}
    chains["attention"] = [depth(scaled_dot_product_attention(x, x, x)[0, -1].grad_fn, {}) for x in prefixes]
    return Result(
        metrics=[
            Metric("accuracy", ours),
            Metric("accuracy from scratch", scratch),
            Metric("loss of the forward model", losses["forward"], "nats a word"),
            Metric("least loss of any forward model", least["forward"], "nats a word"),
            Metric("loss of the deep two-sided model", losses["both-deep"], "nats a word"),
        ],
        claims=[
            Claim("Text without labels helps: accuracy gained over a random start", ours - scratch, ">=", 0.06),
            Claim("It learned what words are about: accuracy from twenty labels",
                  next(iter(scores.values()))[0], ">=", 0.94),
            Claim("The forward model learns its source: nats a word above the least possible",
                  excess["forward"], "<=", 0.15),
            Claim("Two directions joined at the end cannot cheat: nats a word above their least",
                  excess["both-shallow"], ">=", -0.02),
            Claim("A deep two-sided model reads the answer: nats a word left", losses["both-deep"], "<=", 0.05),
            Claim("An LSTM reads one word after the other: longest chain of operations, 16 words over 4",
                  chains["LSTM"][-1] / chains["LSTM"][2], ">=", 3),
        ],
        figures=[
            Lines("Classifier of topics on new sentences", x="labelled sentences", y="accuracy", at=counts,
                  series=scores, log="x"),
            Bars("Loss of each kind of context, and the least that it allows", x="context", y="nats a word",
                 labels=DIRECTIONS, series={"model": list(losses.values()), "least possible": list(least.values())}),
            Lines("Operations that must wait for each other", x="words", y="longest chain", at=lengths, series=chains),
        ],
        tables=[
            Table("Leakage: loss of predicting each word, nats", ["context", "model", "least possible", "above it"],
                  [[name, losses[name], least[name], excess[name]] for name in DIRECTIONS]),
        ],
    )  # fmt: skip
