"""Bag of words: counts, and what they lose

Question: How far does counting words go, and what does it throw away?
Source: Harris 1954, "Distributional structure"; TF–IDF: Salton and Buckley 1988, "Term-weighting approaches in
  automatic text retrieval", in the smoothed form of scikit-learn.
Watch: Topics are told by counts alone. Who bit whom is not: both orders are one vector, so accuracy is exactly chance,
  until pairs of words become columns (preset "bigrams"). And to a count, a synonym is a stranger.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from demos.contract import Bars, Claim, DemoParams, Metric, Preset, Result, Table, Tick, no_tick

TOPICS = {
    "cars": "car automobile engine wheel brake road driver tyre fuel garage cheap inexpensive",
    "food": "soup bread cheese oven recipe salt kitchen dinner taste pepper cook sauce",
    "music": "guitar song melody drum concert singer rhythm chord band piano stage tune",
    "sea": "boat wave sail harbour fish anchor storm island captain shore tide net",
}
FILLER, BEASTS, PEOPLE, VERBS = (
    words.split()
    for words in (
        "the a of and to in it was is with for on we they had very",
        "dog cat horse goose snake wolf",
        "man boy king nurse baker thief",
        "bites sees follows hears",
    )
)
TRAINING, TEST = 400, 200  # documents, and pairs of sentences


class Params(DemoParams):
    weighting: Literal["binary", "count", "tfidf"] = Field("count", description="What a cell holds")
    min_count: int = Field(1, ge=1, le=10, description="Documents that a column must occur in")
    ngrams: int = Field(1, ge=1, le=3, description="Longest run of words that is a column")
    seed: int = Field(0, ge=0, le=9999, description="Seed of the generated texts")

    presets: ClassVar[Mapping[str, Preset]] = {
        "bigrams": Preset("Pairs of words as columns: some order is kept, and the vocabulary explodes", {"ngrams": 2}),
        "tfidf": Preset("Words that stand everywhere get the smallest weight", {"weighting": "tfidf"}),
        "rare-words-cut": Preset("Only words of ten documents or more", {"min_count": 10}),
    }  # fmt: skip


def terms(text: str, longest: int) -> list[str]:
    """Lower-case words of a text, and its runs of up to `longest` words."""
    words = text.lower().split()
    return [" ".join(words[i : i + n]) for n in range(1, longest + 1) for i in range(len(words) - n + 1)]


class Bag:
    """A vocabulary, one column for each term in order of the alphabet, and the vectors it makes of texts."""

    def __init__(self, texts: Sequence[str], params: Params) -> None:
        self.params = params
        documents = Counter(term for text in texts for term in set(terms(text, params.ngrams)))
        self.columns = sorted(term for term, count in documents.items() if count >= params.min_count)
        self.number = {term: i for i, term in enumerate(self.columns)}
        inside = torch.tensor([documents[term] for term in self.columns], dtype=torch.float64)  # (V,)
        self.idf = ((1 + len(texts)) / (1 + inside)).log() + 1  # (V,); 1 for a term that is in every document

    def vectors(self, texts: Sequence[str]) -> Tensor:
        """One row per text, (N, V): counts, or 0 and 1, or counts times idf in rows of length 1."""
        rows = torch.zeros(len(texts), len(self.columns), dtype=torch.float64)
        for row, text in enumerate(texts):
            for term in terms(text, self.params.ngrams):
                if term in self.number:  # a term that training lacks has no column
                    rows[row, self.number[term]] += 1
        if self.params.weighting == "binary":
            return rows.clamp(max=1)
        if self.params.weighting == "count":
            return rows
        weighted = rows * self.idf
        return weighted / weighted.square().sum(dim=1, keepdim=True).sqrt().clamp(min=1e-12)


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Take one step down the gradient of the loss."""
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()


def accuracy(training: tuple[list[str], Tensor], test: tuple[list[str], Tensor], params: Params) -> float:
    """Share of the test texts that a linear classifier on bag vectors labels right. Labels (N,)."""
    bag = Bag(training[0], params)
    x, labels = bag.vectors(training[0]), training[1]
    weight = torch.zeros(x.shape[1], int(labels.max()) + 1, dtype=torch.float64, requires_grad=True)  # (V, classes)
    adam = torch.optim.Adam([weight], lr=0.1)
    for _ in range(150):
        descend(adam, torch.nn.functional.cross_entropy(x @ weight, labels) + 1e-4 * weight.square().sum())
    return ((bag.vectors(test[0]) @ weight).argmax(dim=1) == test[1]).double().mean().item()


def draw(words: Sequence[str], n: int, rng: torch.Generator) -> list[str]:
    """n of the words, each as likely each time."""
    return [words[int(i)] for i in torch.randint(len(words), (n,), generator=rng).numpy()]


def shuffle(words: Sequence[str], rng: torch.Generator) -> str:
    """The words in random order, as a text."""
    return " ".join(words[int(i)] for i in torch.randperm(len(words), generator=rng).numpy())


def topic_texts(n: int, rng: torch.Generator) -> tuple[list[str], Tensor]:
    """Texts of 14 words, five of them from the topic, the rest common to all; labels (n,)."""
    labels = torch.randint(len(TOPICS), (n,), generator=rng)
    topics = [words.split() for words in TOPICS.values()]
    return [shuffle(["the", *draw(topics[int(i)], 5, rng), *draw(FILLER, 8, rng)], rng) for i in labels.numpy()], labels


def who_bit_whom(pairs: int, rng: torch.Generator) -> tuple[list[str], Tensor]:
    """Each pair of nouns in both orders, "the dog bites the man", "the man bites the dog"; label 1: the beast acts."""
    texts: list[str] = []
    beasts, verbs, people = draw(BEASTS, pairs, rng), draw(VERBS, pairs, rng), draw(PEOPLE, pairs, rng)
    for beast, verb, person in zip(beasts, verbs, people, strict=True):
        texts += [f"the {beast} {verb} the {person}", f"the {person} {verb} the {beast}"]
    return texts, torch.tensor([1, 0]).repeat(pairs)


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng = torch.Generator().manual_seed(params.seed)
    training, test = topic_texts(TRAINING, rng), topic_texts(TRAINING, rng)
    actions, unseen = who_bit_whom(TEST, rng), who_bit_whom(TEST, rng)
    topic = accuracy(training, test, params)
    tick(0.3, "topics", accuracy=topic)
    order = accuracy(actions, unseen, params)
    tick(0.6, "who bit whom", accuracy=order)
    pairs = params.model_copy(update={"ngrams": max(2, params.ngrams), "min_count": 1})
    order_pairs = accuracy(actions, unseen, pairs)

    bag = Bag(training[0], params)
    matrix = bag.vectors(training[0])  # (N, V)
    shuffled = [shuffle(text.split(), rng) for text in training[0]]
    moved = (bag.vectors(shuffled) - matrix).abs().max().item()
    alike = bag.vectors(["cheap car", "inexpensive automobile", "cheese soup", "cheap cheese car"])  # (4, V)
    unit = alike / alike.square().sum(dim=1, keepdim=True).sqrt()
    cosine = (unit @ unit.T).numpy().tolist()
    zeros = (matrix == 0).double().mean().item()
    inside = (matrix > 0).sum(dim=0)  # (V,), documents of each column
    most = inside.argsort(descending=True, stable=True)
    shown = [int(i) for i in torch.cat([most[:5], most[len(most) // 2 :][:5]])]  # common columns, and middling ones
    return Result(
        metrics=[
            Metric("accuracy", topic),
            Metric("accuracy where order matters", order),
            Metric("columns", len(bag.columns)),
            Metric("share of cells that are 0", zeros),
        ],
        claims=[
            Claim("A text and its shuffle are one vector: largest difference", moved, "<=", 1e-12),
            Claim("Counts tell topics: accuracy on unseen texts", topic, ">=", 0.95),
            Claim("They cannot tell who bit whom: accuracy", order, "<=", 0.55),
            Claim("Pairs of words as columns can: accuracy", order_pairs, ">=", 0.95),
            Claim('"cheap car" and "inexpensive automobile" share nothing: cosine', cosine[0][1], "==", 0),
            Claim("Most cells of the matrix are empty: share of zeros", zeros, ">=", 0.6),
        ],
        figures=[
            Bars("Accuracy on unseen texts", "task", "share right", ["topic", "who bit whom", "the same, with pairs"],
                 {params.weighting: [topic, order, order_pairs], "chance": [1 / len(TOPICS), 0.5, 0.5]}),
        ],
        tables=[
            Table("Matrix: documents by words, ten of the columns", ["document", *(bag.columns[i] for i in shown)], [
                [text[:24] + " …", *(round(float(value), 3) for value in matrix[row, shown])]
                for row, text in enumerate(training[0][:5])
            ]),
            Table("Columns", ["term", "in documents", "idf"], [
                [bag.columns[i], int(inside[i]), bag.idf[i].item()] for i in shown
            ]),
            Table("Cosine with cheap car", ["text", "cosine"], [
                ["inexpensive automobile", cosine[0][1]], ["cheese soup", cosine[0][2]],
                ["cheap cheese car", cosine[0][3]],
            ]),
        ],
    )  # fmt: skip
