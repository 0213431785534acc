"""SentencePiece unigram language model tokenizer

Question: How can a probabilistic tokenizer pick, prune and even sample segmentations?
Source: Kudo 2018, arXiv:1804.10959, §3.2 (EM, pruning) and §3.3 (sampling with exponent α); whitespace as ▁: Kudo and
    Richardson 2018, arXiv:1808.06226. One simplification: a piece's loss is taken for its own best replacement.
Watch: The vocabulary begins too large and shrinks: EM finds probabilities, then the pieces that the likelihood misses
    least go. Every cut of a word has a probability, so the best can be found, and others sampled as training noise.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, pairwise
from typing import ClassVar, Literal

import torch
from pydantic import Field

from demos.contract import Claim, DemoParams, Lines, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.prose import read_sentences

UNSEEN, WORDS, DRAWS = 200, 200, 5_000  # sentences to test on, words for the brute force, sampled cuts
STRANGE = "  naïve café, 日本語 😀 "  # at the end of each unseen sentence: letters that are no piece, and two spaces
LONGEST, SEEDS, SHRINK = 8, 3_000, 0.7  # letters of a piece, pieces to begin with, share that a pruning keeps
UNKNOWN = 1e-12  # probability of a letter that is no piece: it stands for itself, and only where nothing else fits
Pieces = Mapping[str, float]  # each piece with its probability
Rule = Literal["loss", "count"]
History = list[tuple[int, float]]  # number of pieces and log-likelihood
Edge = tuple[int, int, float]  # a piece from letter i up to letter j, and its probability


class Params(DemoParams):
    vocab_size: int = Field(300, ge=100, le=1000, description="Pieces of the final vocabulary")
    em_rounds: int = Field(2, ge=1, le=5, description="Rounds of EM between prunings")
    alpha: float = Field(0.2, ge=0.0, le=1.0, description="Exponent of sampling: 1 the model, 0 all cuts alike")
    rule: Rule = Field("loss", description="Prune what the likelihood misses least, or what is rarest")
    keep_spaces: bool = Field(True, description="Write a space as ▁, a letter like others; else it is lost")
    word: str = Field("interpretation", min_length=1, max_length=16, description="Word to cut, and to sample cuts of")
    seed: int = Field(0, ge=0, le=9999, description="Seed of the sampled cuts")

    presets: ClassVar[Mapping[str, Preset]] = {
        "spaces lost": Preset("Without ▁ a text does not come back", {"keep_spaces": False}),
        "pruned by count": Preset("The most frequent pieces are kept: a worse model", {"rule": "count"}),
        "large": Preset("Twice the pieces: frequent words are whole", {"vocab_size": 600}),
    }


def split_words(text: str, keep_spaces: bool) -> list[str]:
    """Words, each with the ▁ before it; a further space is a word of its own. The text gets one ▁ in front."""
    return re.findall("▁[^▁]*", "▁" + text.replace(" ", "▁")) if keep_spaces else text.split()


def join(pieces: Sequence[str]) -> str:
    """The text of its pieces: ▁ is a space, and the one in front goes."""
    return "".join(pieces).replace("▁", " ").removeprefix(" ")


def lattice(word: str, pieces: Pieces) -> list[Edge]:
    """All pieces that fit somewhere into the word, those that end first in front."""
    edges = list[Edge]()
    for j in range(1, len(word) + 1):
        for i in range(max(0, j - LONGEST), j):
            if p := pieces.get(word[i:j]) or (UNKNOWN if j - i == 1 else 0.0):
                edges.append((i, j, p))
    return edges


def forward(edges: Sequence[Edge], n: int) -> list[float]:
    """Sum over all cuts of the first j letters of the product of their pieces' probabilities, for j from 0 to n."""
    total = [1.0] + [0.0] * n
    for i, j, p in edges:
        total[j] += total[i] * p
    return total


def backward(edges: Sequence[Edge], n: int) -> list[float]:
    """The same for the letters from j on."""
    total = [0.0] * n + [1.0]
    for i, j, p in reversed(edges):
        total[i] += p * total[j]
    return total


def expect(counts: Mapping[str, int], pieces: Pieces) -> tuple[dict[str, float], float]:
    """E-step: how often each piece is expected in the text, over all cuts of all words, and the log-likelihood."""
    expected, log_likelihood = dict.fromkeys(pieces, 0.0), 0.0
    for word, count in counts.items():
        edges, n = lattice(word, pieces), len(word)
        before, after = forward(edges, n), backward(edges, n)
        log_likelihood += count * math.log(before[n])
        for i, j, p in edges:
            expected[word[i:j]] += count * before[i] * p * after[j] / before[n]
    return expected, log_likelihood


def normalize(weights: Mapping[str, float]) -> dict[str, float]:
    """M-step: probabilities in proportion to expected counts."""
    total = sum(weights.values())
    return {piece: weight / total for piece, weight in weights.items()}


def viterbi(word: str, edges: Sequence[Edge]) -> list[str]:
    """The most probable cut of a word with this lattice."""
    best: list[tuple[float, int]] = [(0.0, 0)] + [(-math.inf, 0)] * len(word)  # log p of the first j letters, last i
    for i, j, p in edges:
        best[j] = max(best[j], (best[i][0] + math.log(p), i))
    cut, j = list[str](), len(word)
    while j > 0:
        i = best[j][1]
        cut.insert(0, word[i:j])
        j = i
    return cut


def log_p(cut: Sequence[str], pieces: Pieces) -> float:
    """Log-probability of a cut: its pieces are independent, that is the unigram model."""
    return sum(math.log(pieces.get(piece) or UNKNOWN) for piece in cut)


def all_cuts(word: str, pieces: Pieces) -> Iterator[list[str]]:
    """Every cut into known pieces and single letters, by brute force."""
    if not word:
        yield []
    for j in range(1, min(len(word), LONGEST) + 1):
        if j == 1 or word[:j] in pieces:
            yield from ([word[:j], *rest] for rest in all_cuts(word[j:], pieces))


def sample(word: str, pieces: Pieces, alpha: float, rng: torch.Generator) -> list[str]:
    """A cut drawn in proportion to its probability^α: sums from the left, then piece by piece from the right."""
    edges = [(i, j, p**alpha) for i, j, p in lattice(word, pieces)]
    total, cut, end = forward(edges, len(word)), list[str](), len(word)
    while end > 0:
        last = [(i, total[i] * p) for i, j, p in edges if j == end]
        chosen = torch.multinomial(torch.tensor([weight for _, weight in last]), 1, generator=rng).item()
        i = last[int(chosen)][0]
        cut.insert(0, word[i:end])
        end = i
    return cut


def prune(pieces: Pieces, expected: Mapping[str, float], size: int, rule: Rule) -> dict[str, float]:
    """Keep letters, and those pieces without which the likelihood would fall most (or the frequent), `size` in all."""
    loss = dict[str, float]()
    for piece in pieces:
        if len(piece) > 1:
            others = [edge for edge in lattice(piece, pieces) if edge[:2] != (0, len(piece))]
            worth = log_p([piece], pieces) - log_p(viterbi(piece, others), pieces)  # nats per use
            loss[piece] = expected[piece] * (worth if rule == "loss" else 1)
    letters = [piece for piece in pieces if len(piece) == 1]
    kept = sorted(loss, key=lambda piece: (-loss[piece], piece))[: max(0, size - len(letters))]
    return normalize({piece: expected[piece] for piece in [*letters, *kept]})


def seed_pieces(counts: Mapping[str, int]) -> dict[str, float]:
    """All letters, and the substrings of words that cover most of the text."""
    found = Counter[str]()
    for word, count in counts.items():
        for i, j in combinations(range(len(word) + 1), 2):
            if j - i <= LONGEST:
                found[word[i:j]] += count
    letters = [piece for piece in found if len(piece) == 1]
    longer = sorted((piece for piece in found if len(piece) > 1), key=lambda piece: (-len(piece) * found[piece], piece))
    return normalize({piece: found[piece] for piece in [*letters, *longer[:SEEDS]]})


def learn(counts: Mapping[str, int], size: int, em_rounds: int, rule: Rule, tick: Tick) -> tuple[Pieces, History]:
    """The pieces, and the history: before any round, after each of EM, and after each pruning."""
    pieces, history = seed_pieces(counts), History()
    while True:
        expected, value = expect(counts, pieces)
        history.append((len(pieces), value))
        for _ in range(em_rounds):
            pieces = normalize(expected)
            expected, value = expect(counts, pieces)
            history.append((len(pieces), value))
        tick(0.6 * size / len(pieces), f"{len(pieces)} pieces", log_likelihood=value)
        if len(pieces) <= size:
            return pieces, history
        pieces = prune(pieces, expected, max(size, int(SHRINK * len(pieces))), rule)


def run(params: Params, tick: Tick = no_tick) -> Result:
    sentences = read_sentences()
    counts = Counter(word for text in sentences[:-UNSEEN] for word in split_words(text, params.keep_spaces))
    pieces, history = learn(counts, params.vocab_size, params.em_rounds, params.rule, tick)
    _, by_count = learn(counts, params.vocab_size, params.em_rounds, "count", no_tick)
    letters = sum(len(word) * count for word, count in counts.items())
    per_letter, frequent = ([value / letters for _, value in values] for values in (history, by_count))  # nats
    gains = [(after - before) / letters for (some, before), (same, after) in pairwise(history) if some == same]

    unseen = {text: split_words(text, params.keep_spaces) for text in (some + STRANGE for some in sentences[-UNSEEN:])}
    cuts = {word: viterbi(word, lattice(word, pieces)) for words in unseen.values() for word in words}
    back = {text: join([piece for word in words for piece in cuts[word]]) for text, words in unseen.items()}
    changed = sum(text != came for text, came in back.items())
    short = [word for word in sorted(cuts) if 4 <= len(word) <= 10][:WORDS]
    by_force = {word: [log_p(cut, pieces) for cut in all_cuts(word, pieces)] for word in short}
    worse = sum(max(scores) - log_p(cuts[word], pieces) > 1e-9 for word, scores in by_force.items())
    exact = {word: math.fsum(map(math.exp, scores)) for word, scores in by_force.items()}
    gap = max(abs(forward(lattice(word, pieces), len(word))[-1] / total - 1) for word, total in exact.items())
    tick(0.9, "brute force")

    word = ("▁" if params.keep_spaces else "") + params.word
    ranked = sorted(all_cuts(word, pieces), key=lambda cut: -log_p(cut, pieces))
    model, smooth = (normalize({" ".join(cut): math.exp(power * log_p(cut, pieces)) for cut in ranked})
                     for power in (1.0, params.alpha))  # fmt: skip
    rng = torch.Generator().manual_seed(params.seed)
    drawn = Counter(" ".join(sample(word, pieces, params.alpha, rng)) for _ in range(DRAWS))
    off = max(abs(drawn[cut] / DRAWS - p) for cut, p in smooth.items())
    return Result(
        metrics=[
            Metric("log-likelihood", per_letter[-1], "nats a letter"),
            Metric("pieces per unseen word", sum(len(cut) for cut in cuts.values()) / len(cuts)),
            Metric("probability of the best cut", next(iter(model.values()))),
            Metric("different cuts in 5,000 samples", len(drawn)),
        ],
        claims=[
            Claim("EM never lowers the likelihood of a vocabulary: least gain, nats a letter", min(gains), ">=", -1e-9),
            Claim("The pieces kept are those that matter: nats a letter over keeping the most frequent",
                  per_letter[-1] - frequent[-1], ">=", 0.01),
            Claim("Viterbi finds the best cut: short words that brute force cuts better", worse, "==", 0),
            Claim("The forward sum is that over all cuts: largest relative difference", gap, "<=", 1e-9),
            Claim("With ▁ every text comes back, spaces too: texts that do not", changed, "==", 0),
            Claim("Samples follow probability^α: largest difference in share of a cut", off, "<=", 0.03),
        ],
        figures=[
            Lines("Log-likelihood: up with EM, down where pieces are pruned", x="round of EM", y="nats a letter",
                  at=list(range(1, len(history) + 1)), series={"chosen rule": per_letter, "pruned by count": frequent}),
        ],
        tables=[
            Table(f"Cuts of “{params.word}”", ["cut", "probability", f"with α = {params.alpha:g}", "share of samples"],
                  [[cut, p, smooth[cut], drawn[cut] / DRAWS] for cut, p in list(model.items())[:8]]),
        ],
    )  # fmt: skip
