"""From n-grams to GPT: half a century on one test set

Question: How much did each generation of language models gain on the same text?
Source: Shannon 1948 (n-grams); Bengio et al. 2003 (feed-forward); Mikolov et al. 2010 (recurrent; an LSTM here);
  Vaswani et al. 2017, arXiv:1706.03762, and Radford et al. 2018 (GPT).
Watch: each step sees more of the past: no word, two, four, all of them. Perplexity falls with it towards that of the
  source, which no model can beat. Whether "the dogs that the cat sees" bark or barks, a trigram cannot know.
"""

import itertools
import math
from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from demos.contract import Bars, Cell, Claim, DemoParams, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.grammar import CLASSES, ID, LONGEST, WORDS, draw_text, parses, source_entropy, spell
from demos.shared.transformer import Transformer, start, train

V = WORDS.index("france")  # the grammar without its facts: their words come last
STOP, WINDOW, BATCH, HELD_OUT, SAMPLES = ID["."], 32, 32, 6000, 200  # 6000 sentences are 45,000 words
BACK, D = 4, 48  # words that the feed-forward model sees; width of LSTM and GPT

Model = Callable[[Tensor], Tensor]  # words (B, n) -> log-probabilities, up to a constant, of the next (B, n, V)


class Params(DemoParams):
    steps: int = Field(250, ge=50, le=1000, description="Training steps of each neural model, 32 windows of 32 words")
    tokens: int = Field(60_000, ge=5000, le=200_000, description="Words of training text, about")
    seed: int = Field(0, ge=0, le=9999, description="Seed of text, weights and samples")

    presets: ClassVar[Mapping[str, Preset]] = {
        "little text": Preset("A tenth of the text: networks learn it by heart", {"tokens": 6000}),
        "stopped early": Preset("After 50 steps the GPT does not yet agree over a clause", {"steps": 50}),
    }


def count(text: Tensor) -> tuple[Model, Model]:
    """Unigram and trigram of a text (M,): counts, each order smoothed by two counts spread as the shorter one says."""
    pairs, triples = torch.zeros(V, V), torch.zeros(V, V, V)
    pairs.index_put_((text[:-1], text[1:]), torch.tensor(1.0), accumulate=True)
    triples.index_put_((text[:-2], text[1:-1], text[2:]), torch.tensor(1.0), accumulate=True)
    one = (text.bincount(minlength=V) + 0.1) / (len(text) + 0.1 * V)  # (V,)
    two = (pairs + 2 * one) / (pairs.sum(dim=1, keepdim=True) + 2)  # (V, V): p(second | first)
    three = (triples + 2 * two) / (triples.sum(dim=2, keepdim=True) + 2)  # (V, V, V)

    def unigram(words: Tensor) -> Tensor:
        return one.log().expand(*words.shape, V)

    def trigram(words: Tensor) -> Tensor:
        before = nn.functional.pad(words, (1, 0), value=STOP)[:, :-1]
        return three[before, words].log()

    return unigram, trigram


class FeedForward(nn.Module):
    """Bengio et al.: the vectors of the last four words, side by side, through one tanh layer."""

    def __init__(self, rng: torch.Generator) -> None:
        super().__init__()
        self.words, self.hidden, self.out = nn.Embedding(V, 16), nn.Linear(BACK * 16, 64), nn.Linear(64, V)
        start(self, rng)

    def forward(self, words: Tensor) -> Tensor:
        last = nn.functional.pad(words, (BACK - 1, 0), value=STOP).unfold(1, BACK, 1)  # (B, n, 4)
        return self.out(self.hidden(self.words(last).flatten(2)).tanh())


class Recurrent(nn.Module):
    """One LSTM layer: all of the past in one state."""

    def __init__(self, rng: torch.Generator) -> None:
        super().__init__()
        self.words, self.lstm, self.out = nn.Embedding(V, D), nn.LSTM(D, D, batch_first=True), nn.Linear(D, V)
        start(self, rng)

    def forward(self, words: Tensor) -> Tensor:
        return self.out(self.lstm(self.words(words))[0])


def cut(text: Tensor) -> Tensor:
    """Windows (N, 33) of a text (M,): 32 words to read, and the one that follows each."""
    return text[: (len(text) - 1) // WINDOW * WINDOW + 1].unfold(0, WINDOW + 1, WINDOW)


@torch.no_grad()
def perplexity(model: Model, windows: Tensor) -> float:
    """Of the second halves of windows (N, 33): there every model has its whole past before it."""
    log_p = torch.cat([model(part[:, :-1]).log_softmax(dim=2) for part in torch.split(windows, 256)])  # (N, 32, V)
    chosen = log_p.gather(2, windows[:, 1:, None])[:, WINDOW // 2 :]
    return math.exp(-chosen.mean().item())


@torch.no_grad()
def agreement(model: Model) -> float:
    """Share of all 96 "the dogs that the cat sees …" after which verbs of the subject's number are the likelier."""
    right = list[bool]()
    verbs = {number: [ID[word] for letter in letters for word in CLASSES[letter]]
             for number, letters in (("n", "vi"), ("N", "VI"))}  # fmt: skip
    for subject, other, verb in (("n", "N", "V"), ("N", "n", "v")):
        choices = itertools.product(CLASSES[subject], CLASSES[other], CLASSES[verb])
        texts = [f". the {a} that the {b} {c}".split() for a, b, c in choices]
        p = model(torch.tensor([[ID[word] for word in text] for text in texts]))[:, -1].softmax(dim=1)
        right += (p[:, verbs[subject]].sum(dim=1) > p[:, verbs[other]].sum(dim=1)).numpy().tolist()
    return sum(right) / len(right)


@torch.no_grad()
def write(model: Model, n: int, rng: torch.Generator) -> list[list[str]]:
    """Sentences drawn word by word, cut after as many words as the longest has."""
    words = torch.full((n, 1), STOP)
    for _ in range(LONGEST + 1):
        p = model(words)[:, -1].softmax(dim=1)
        words = torch.cat([words, torch.multinomial(p, 1, generator=rng)], dim=1)
    rows = [spell(row[1:]) for row in words]
    return [row[: row.index(".") + 1] if "." in row else row for row in rows]


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng = torch.Generator().manual_seed(params.seed)
    text = draw_text(round(params.tokens / 7.5), False, rng)
    windows, held_out = cut(text), cut(draw_text(HELD_OUT, False, rng))
    unigram, trigram = count(text)
    networks = {
        "feed-forward, 2003": (FeedForward(rng), 1e-2),
        "LSTM, 2010": (Recurrent(rng), 1e-2),
        "GPT, 2018": (Transformer(V, WINDOW, D, 2, 4, rng, causal=True), 5e-3),
    }
    for number, (name, (network, rate)) in enumerate(networks.items()):

        def loss(network: nn.Module = network) -> Tensor:
            some = windows[torch.randint(len(windows), (BATCH,), generator=rng)]
            return cross_entropy(network(some[:, :-1]).flatten(0, 1), some[:, 1:].flatten())

        def on_step(step: int, value: float, name: str = name, number: int = number) -> None:
            tick((number + step / params.steps) / len(networks), name, loss=value)

        train(network, loss, params.steps, rate, on_step)

    ladder: dict[str, Model] = {"unigram, 1948": unigram, "trigram, 1948": trigram}
    ladder |= {name: network for name, (network, _) in networks.items()}
    floor = math.exp(source_entropy(facts=False))
    found = {name: perplexity(model, held_out) for name, model in ladder.items()}
    agrees = {name: agreement(model) for name, model in ladder.items()}
    samples = {name: write(model, SAMPLES, rng) for name, model in ladder.items()}
    parsed = {name: sum(map(parses, rows)) / len(rows) for name, rows in samples.items()}
    one, three, feed, lstm, gpt = found.values()
    rows: list[list[Cell]] = [[name, found[name], parsed[name], agrees[name]] for name in ladder]
    return Result(
        metrics=[
            *(Metric(f"perplexity of {name}", value) for name, value in found.items()),
            Metric("perplexity of the source", floor),
        ],
        claims=[
            Claim("Two words of context say much: perplexity of the trigram over the unigram's",
                  three / one, "<=", 0.5),
            Claim("Learned vectors beat counts: perplexity of the feed-forward model over the trigram's",
                  feed / three, "<=", 0.9),
            Claim("A state without an end beats four words: perplexity of the LSTM over the feed-forward model's",
                  lstm / feed, "<=", 0.99),
            Claim("GPT is no worse: its perplexity over the LSTM's", gpt / lstm, "<=", 1.03),
            Claim("None beats the source: least perplexity over the source's", min(found.values()) / floor, ">=", 0.99),
            Claim("GPT agrees over a clause: share of verbs right", agrees["GPT, 2018"], ">=", 0.95),
            Claim("The trigram cannot: share of verbs right", agrees["trigram, 1948"], "<=", 0.8),
        ],
        figures=[
            Bars("Perplexity on the same held-out text", "", "perplexity", [*found, "the source itself"],
                 {"perplexity": [*found.values(), floor]}),
            Bars("What each model has grasped", "", "share", list(ladder),
                 {"samples that parse": list(parsed.values()), "verbs right over a clause": list(agrees.values())}),
        ],
        tables=[
            Table("Capability", ["model", "perplexity", "samples that parse", "verbs right over a clause"], rows),
            Table("A sample of each", ["model", "text"],
                  [[name, " ".join(sentences[0])] for name, sentences in samples.items()]),
        ],
    )  # fmt: skip
