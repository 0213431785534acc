"""GloVe and fastText: global counts and subwords

Question: What do global co-occurrence counts and character n-grams add?
Source: Pennington et al. 2014, "GloVe", doi:10.3115/v1/D14-1162, eq. (8) and (9); Bojanowski et al. 2016 (fastText),
  arXiv:1607.04606, §3.2; negative sampling as a sum over counts: Levy and Goldberg 2014, eq. (3).
Watch: both models read one table of counts, never the text again. GloVe's products follow the log counts. fastText has
  a vector for "walks", which the text lacks, near "walk"; without n-grams (preset) none, as in any table of words.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, normalize

from demos.contract import Bars, Claim, DemoParams, Metric, Preset, Result, Scatter, Table, Tick, no_tick
from demos.shared.transformer import descend

STEMS = """walk road hill, paint wall canvas, cook soup dinner, clean floor window, climb tree rock, plant seed garden,
print paper book, wash shirt dish, jump rope fence, sail boat lake, hunt deer forest, pick apple flower"""
TOPICS = {entry.split()[0]: entry.split()[1:] for entry in STEMS.split(",")}  # each stem with two words of its own
FORMS = {  # endings, and sentences in which they occur
    "": ["they * the X today", "we often * near the X"], "s": ["he * the X today", "she * near the X"],
    "ed": ["yesterday they * the X", "he once * near the X"], "ing": ["she is * the X now", "they are * near the X"],
    "er": ["a * of the X came", "the best * has a X"],
}  # fmt: skip
SENTENCES, WINDOW, NEGATIVES, BATCHES = 4000, 4, 5, 20


class Params(DemoParams):
    model: Literal["glove", "fasttext"] = Field("glove", description="Whose vectors the table of neighbours shows")
    dim: int = Field(24, ge=4, le=100, description="Numbers in a vector")
    x_max: float = Field(50.0, ge=1.0, le=200.0, description="Count from which a pair has full weight in GloVe")
    min_n: int = Field(3, ge=2, le=4, description="Letters of fastText's shortest n-grams")
    max_n: int = Field(5, ge=3, le=6, description="Letters of its longest; fewer than min_n: no n-grams")
    epochs: int = Field(30, ge=5, le=100, description="Passes over the table of counts")
    seed: int = Field(0, ge=0, le=9999, description="Seed of text and vectors")

    presets: ClassVar[Mapping[str, Preset]] = {
        "fasttext": Preset("Neighbours of words that the text lacks", {"model": "fasttext"}),
        "no n-grams": Preset("Whole words only: unseen ones have no vector",
                             {"model": "fasttext", "min_n": 4, "max_n": 3}),
        "four dimensions": Preset("Too few numbers to keep twelve stems apart", {"dim": 4}),
    }  # fmt: skip


def left_out(number: int, stem: str) -> str:
    """The one form of a stem that the text never has."""
    return stem + list(FORMS)[1 + number % (len(FORMS) - 1)]


def write_text(rng: torch.Generator) -> list[list[str]]:
    """Sentences with some form of a stem and a word of its topic; each stem lacks one form."""
    unseen = {left_out(number, stem) for number, stem in enumerate(TOPICS)}
    text = list[list[str]]()
    draws = torch.stack([torch.randint(n, (SENTENCES,), generator=rng) for n in (len(TOPICS), len(FORMS), 2, 2)], dim=1)
    choices: list[list[int]] = draws.numpy().tolist()
    for stem_at, ending_at, sentence, topic in choices:
        stem, ending = list(TOPICS)[stem_at], list(FORMS)[ending_at]
        if stem + ending not in unseen:
            pattern = FORMS[ending][sentence]
            text.append(pattern.replace("*", stem + ending).replace("X", TOPICS[stem][topic]).split())
    return text


def count_pairs(text: Sequence[Sequence[int]], words: int) -> Tensor:
    """X (V, V): how often j stands within the window of i, a pair d words apart counting 1/d (GloVe, §4.2)."""
    flat = torch.tensor([word for sentence in text for word in sentence])
    owner = torch.tensor([i for i, sentence in enumerate(text) for _ in sentence])
    X = torch.zeros(words, words, dtype=torch.double)
    for distance in range(1, WINDOW + 1):
        i, j = flat[:-distance], flat[distance:]
        same = owner[:-distance] == owner[distance:]
        once = torch.zeros_like(X).index_put(
            (i[same], j[same]), torch.tensor(1 / distance, dtype=torch.double), accumulate=True
        )
        X.add_(once + once.T)
    return X


def count_slowly(text: Sequence[Sequence[int]], words: int) -> Tensor:
    """The same by its definition, pair by pair."""
    X = torch.zeros(words, words, dtype=torch.double)
    for sentence in text:
        for i, a in enumerate(sentence):
            for j, b in enumerate(sentence):
                if 0 < abs(i - j) <= WINDOW:
                    X[a, b] += 1 / abs(i - j)
    return X


def weight(X: Tensor, x_max: float) -> Tensor:
    """f of eq. (9): rare pairs count less, frequent ones no more than 1."""
    return (X / x_max).pow(0.75).clamp(max=1)


def fit(
    weights: Sequence[nn.Parameter], objective: Callable[[Tensor, Tensor], Tensor], pairs: Tensor, rate: float,
    epochs: int, rng: torch.Generator, report: Callable[[float, float], None],
) -> None:  # fmt: skip
    """Adam on the mean objective(i, j) of pairs (P, 2), some at a time, at a rate that falls to 0."""
    adam = torch.optim.Adam(weights, lr=rate)
    for epoch in range(epochs):
        loss = torch.tensor(0.0)
        for some in torch.randperm(len(pairs), generator=rng).chunk(BATCHES):
            loss = objective(*pairs[some].T).mean()
            descend(weights, adam, loss)
        adam.param_groups[0]["lr"] = rate * (1 - (epoch + 1) / epochs)
        report((epoch + 1) / epochs, loss.item())


def glove(
    X: Tensor, dim: int, params: Params, rng: torch.Generator, report: Callable[[float, float], None]
) -> tuple[Tensor, Tensor]:
    """Eq. (8). Vectors w + w̃ (V, d), and what the model says of every log count (V, V); of dim 0: by biases alone."""
    V = len(X)
    w, w_context = (nn.Parameter(0.1 * torch.randn(V, dim, generator=rng)) for _ in range(2))
    b, b_context = (nn.Parameter(torch.zeros(V)) for _ in range(2))

    def objective(i: Tensor, j: Tensor) -> Tensor:
        said = (w[i] * w_context[j]).sum(dim=1) + b[i] + b_context[j]
        return weight(X[i, j], params.x_max) * (said - X[i, j].log()).square()

    fit([w, w_context, b, b_context], objective, X.nonzero(), 0.05, params.epochs, rng, report)
    return (w + w_context).detach(), (w @ w_context.T + b[:, None] + b_context).detach()


def grams(word: str, params: Params) -> list[str]:
    """The word itself and its n-grams, with < and > at its ends: where -> <where>, <wh, whe, her, ere, re>, …"""
    marked = f"<{word}>"
    pieces = [marked[at : at + n] for n in range(params.min_n, params.max_n + 1) for at in range(len(marked) - n + 1)]
    return [marked, *(piece for piece in pieces if piece != marked)]


def fasttext(
    X: Tensor, words: Sequence[str], params: Params, rng: torch.Generator, report: Callable[[float, float], None]
) -> Callable[[str], Tensor]:
    """Skip-gram, its negative samples as an expectation over the counts; a word's vector is the sum of its n-grams'."""
    row = {gram: i for i, gram in enumerate(sorted({gram for word in words for gram in grams(word, params)}))}
    has = torch.zeros(len(words), len(row))  # (V, G); the paper hashes n-grams to 2 million rows instead
    for i, word in enumerate(words):
        for gram in grams(word, params):
            has[i, row[gram]] += 1
    z = nn.Parameter(0.1 * torch.randn(len(row), params.dim, generator=rng))  # n-gram vectors
    u = nn.Parameter(torch.zeros(len(words), params.dim))  # context vectors
    noise = X.sum(dim=1) ** 0.75 / (X.sum(dim=1) ** 0.75).sum()  # (V,)
    noisy = NEGATIVES * X.sum(dim=1, keepdim=True) * noise  # (V, V): how often c is drawn as noise for w

    def objective(i: Tensor, j: Tensor) -> Tensor:
        score = ((has @ z)[i] * u[j]).sum(dim=1)
        return -(X[i, j] * logsigmoid(score) + noisy[i, j] * logsigmoid(-score)) / X.mean()

    fit([z, u], objective, torch.ones_like(X).nonzero(), 0.03, params.epochs, rng, report)

    def vector(word: str) -> Tensor:
        """The sum over those n-grams of a word that training has met; 0 if there are none."""
        return z.detach()[[row[gram] for gram in grams(word, params) if gram in row]].sum(dim=0)

    return vector


def explained(said: Tensor, X: Tensor, x_max: float) -> float:
    """Correlation of the model's log counts with the true ones, over pairs that occur, each weighted by f."""
    there = X > 0
    f, a, b = weight(X[there], x_max), said[there], X[there].log()
    a, b = a - (f * a).sum() / f.sum(), b - (f * b).sum() / f.sum()
    return ((f * a * b).sum() / ((f * a * a).sum() * (f * b * b).sum()).sqrt()).item()


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng = torch.Generator().manual_seed(params.seed)
    text = write_text(rng)
    words = sorted({word for sentence in text for word in sentence})
    number = {word: i for i, word in enumerate(words)}
    numbers = [[number[word] for word in sentence] for sentence in text]
    counts = count_pairs(numbers, len(words))
    gap = (counts - count_slowly(numbers, len(words))).abs().max().item()
    X = counts.float()
    rows, said = glove(X, params.dim, params, rng, lambda done, loss: tick(0.3 * done, "GloVe", loss=loss))
    _, by_biases = glove(X, 0, params, rng, lambda done, loss: tick(0.3 + 0.2 * done, "biases alone", loss=loss))
    vector = fasttext(X, words, params, rng, lambda done, loss: tick(0.5 + 0.5 * done, "fastText", loss=loss))

    r, r_biases = explained(said, X, params.x_max), explained(by_biases, X, params.x_max)
    stems = normalize(torch.stack([vector(stem) for stem in TOPICS]))  # (12, d)
    unseen = [left_out(i, stem) for i, stem in enumerate(TOPICS)]
    cosines = [stems @ normalize(vector(word), dim=0) for word in unseen]
    own = [cosine[i].item() for i, cosine in enumerate(cosines)]
    best = [cosine[torch.arange(len(stems)) != i].max().item() for i, cosine in enumerate(cosines)]
    found = sum(a > b for a, b in zip(own, best, strict=True)) / len(own)

    table = normalize(rows if params.model == "glove" else torch.stack([vector(word) for word in words]))

    def neighbours(word: str) -> str:
        known = rows[number[word]] if word in number else torch.zeros(params.dim)
        of = known if params.model == "glove" else vector(word)
        order: list[int] = (table @ normalize(of, dim=0)).argsort(descending=True).numpy().tolist()
        return ", ".join([words[i] for i in order if words[i] != word][:4]) if of.any() else "no vector"

    i, j = X.nonzero().T
    some = torch.randperm(len(i), generator=rng)[:400]
    points = torch.stack([X[i, j].log(), said[i, j]], dim=1)[some].numpy()
    asked = ["walk", "painter", "soup", *unseen[:4], "walkable", "sailboat", "xyz"]
    return Result(
        metrics=[
            Metric("weighted correlation with the log counts", r),
            Metric("by biases alone", r_biases),
            Metric("unseen words at their stem", found),
            Metric("words", len(words)),
        ],
        claims=[
            Claim("GloVe follows the log counts: weighted correlation of what it says with them", r, ">=", 0.9),
            Claim("Its vectors say what the words' frequencies do not: variance left, over that of biases alone",
                  (1 - r**2) / (1 - r_biases**2), "<=", 0.1),
            Claim("Rare pairs count less: f of a sixteenth of x_max, distance from 1/8",
                  abs(weight(torch.tensor(params.x_max / 16), params.x_max).item() - 1 / 8), "<=", 1e-6),
            Claim("The table of counts is right: largest difference from counting pair by pair", gap, "<=", 1e-9),
            Claim("fastText knows words that it never read: share of unseen forms nearest to their own stem",
                  found, ">=", 0.7),
        ],
        figures=[
            Scatter("Fit of the counts", "log count", "w·w̃ + b + b̃",
                    {"pairs": [(float(x), float(y)) for x, y in points]}),
            Bars("Words never read", "word", "cosine", unseen,
                 {"with its own stem": own, "with the nearest other": best}),
        ],
        tables=[
            Table(f"Nearest words, {params.model}", ["word", "in the text", "nearest by cosine"],
                  [[word, "yes" if word in number else "no", neighbours(word)] for word in asked]),
        ],
    )  # fmt: skip
