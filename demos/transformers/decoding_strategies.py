"""Greedy, beam, top-k and nucleus decoding

Question: How do the ways to read text off a model's probabilities differ in likelihood and variety?
Source: Holtzman et al. 2019, arXiv:1904.09751, §3.1, eq. (2), (3); top-k: Fan et al. 2018, arXiv:1805.04833, §5.4; beam
    search as in Vaswani et al. 2017, arXiv:1706.03762, §6.1, without a length penalty, for all texts are of one length.
Watch: The likeliest text is the dullest: greedy falls into a loop, beam search finds text likelier still. Sampling is
    varied and less likely; top-k and nucleus cut off the tail. At p near 0 nucleus is greedy and loops as well.

The model is a table of p(word | two words before), counted from a small grammar: every decoder can be checked exactly.
"""

from collections.abc import Callable, Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from demos.contract import Bars, Claim, DemoParams, Metric, Preset, Result, Scatter, Table, Tick, no_tick
from demos.shared.grammar import ID, WORDS, draw_text, spell

TEXTS, LENGTH, SHORT = 24, 60, 3  # texts of each decoder, words in a text, words where all V³ continuations are tried
V = len(WORDS)
Strategy = Literal["greedy", "beam", "top_k", "nucleus", "sample"]
STRATEGIES: tuple[Strategy, ...] = ("greedy", "beam", "top_k", "nucleus", "sample")


class Params(DemoParams):
    strategy: Strategy = Field("nucleus", description="Decoder shown in detail")
    beam_width: int = Field(4, ge=1, le=16, description="Beams")
    k: int = Field(5, ge=1, le=50, description="Candidates that top-k keeps")
    p: float = Field(0.9, ge=0.05, le=1.0, description="Mass that nucleus keeps")
    temperature: float = Field(1.0, ge=0.1, le=3.0, description="Divisor of the logits before sampling")
    seed: int = Field(0, ge=0, le=9999, description="Seed of text, prompts and sampling")

    presets: ClassVar[Mapping[str, Preset]] = {
        "p near 0": Preset("One candidate is left: nucleus loops like greedy, no variety", {"p": 0.05}),
        "cold": Preset("A low temperature: likelier text, and less of it is new", {"temperature": 0.3}),
        "hot": Preset("A high temperature: varied, and words that do not follow", {"temperature": 3.0}),
        "one beam": Preset("Beam search of width 1 is greedy: nothing gained", {"strategy": "beam", "beam_width": 1}),
    }


class Trigrams:
    """log p(word | two words before) as a table (V, V, V), mixed from counts of three, two and one words."""

    def __init__(self, text: Tensor) -> None:
        triples = text.unfold(0, 3, 1)  # (M, 3)
        counts = torch.zeros(V, V, V).index_put_(tuple(triples.T), torch.tensor(1.0), accumulate=True).double()
        one, two = counts.sum(dim=(0, 1)) + 1, counts.sum(dim=0)  # (V,), (V, V)
        p1 = one / one.sum()
        p2 = (two + 2 * p1) / (two.sum(dim=1, keepdim=True) + 2)  # each order leans on the one below: (V, V)
        self.log_p = ((counts + 2 * p2) / (counts.sum(dim=2, keepdim=True) + 2)).log()  # (V, V, V)

    def __call__(self, words: Tensor) -> Tensor:
        """words (N, T) -> log p of the next word (N, V)."""
        return self.log_p[words[:, -2], words[:, -1]]

    def score(self, words: Tensor, prompt: int) -> Tensor:
        """Mean log p of the words behind the prompt, (N,)."""
        at = range(prompt, words.shape[1])
        return torch.stack([self(words[:, :t]).gather(1, words[:, t : t + 1])[:, 0] for t in at]).mean(dim=0)


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """Logits (N, V) with all but the k largest at -∞."""
    top = logits.topk(k)  # of equal ones not all: k is k
    return torch.full_like(logits, -torch.inf).scatter(1, top.indices, top.values)


def keep_nucleus(logits: Tensor, p: float) -> Tensor:
    """Logits (N, V) of the smallest set of words whose probabilities sum to p or more, eq. (2); the others at -∞."""
    sorted_p, order = logits.softmax(dim=1).sort(dim=1)  # the least likely first, whose sums are exact
    drop = torch.zeros_like(logits, dtype=torch.bool).scatter(1, order, sorted_p.cumsum(dim=1) <= 1 - p)
    return logits.masked_fill(drop, -torch.inf)


def warp(logits: Tensor, strategy: Strategy, params: Params) -> Tensor:
    """What the decoder draws from: the model's logits (N, V), sharpened or flattened, then cut."""
    if strategy == "greedy":
        return keep_top_k(logits, 1)
    logits = logits / params.temperature
    if strategy == "top_k":
        return keep_top_k(logits, params.k)
    return keep_nucleus(logits, params.p) if strategy == "nucleus" else logits


def sample(
    model: Trigrams, words: Tensor, length: int, strategy: Strategy, params: Params, rng: torch.Generator
) -> Tensor:
    """Draw word after word: (N, T) -> (N, T + length). Greedy draws from one candidate."""
    for _ in range(length):
        p = warp(model(words), strategy, params).softmax(dim=1)
        words = torch.cat([words, torch.multinomial(p, 1, generator=rng)], dim=1)
    return words


def beam_search(model: Callable[[Tensor], Tensor], prompt: Tensor, width: int, length: int) -> Tensor:
    """The likeliest text found by keeping the `width` likeliest beginnings at each word: (1, T) -> (1, T + length)."""
    beams, log_p = prompt, torch.zeros(1).double()  # (n, T), (n,)
    for _ in range(length):
        longer = log_p[:, None] + model(beams)  # (n, V): every beam with every word
        log_p, at = longer.flatten().topk(min(width, longer.numel()))
        beams = torch.cat([beams[at // V], at[:, None] % V], dim=1)
    return beams[:1]


def distinct_2(words: Tensor) -> float:
    """Different pairs of neighbours over all pairs, within a text of (N, T), on average."""
    pairs = words[:, :-1] * V + words[:, 1:]  # (N, T - 1)
    return sum(len(set(row)) for row in pairs.numpy().tolist()) / pairs.numel()


def repetition(words: Tensor) -> float:
    """Share of runs of four words that stood in the same text before."""
    runs = words.unfold(1, 4, 1).numpy().tolist()  # (N, T - 3, 4)
    return 1 - sum(len({tuple(run) for run in text}) for text in runs) / sum(map(len, runs))


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng, dice = (torch.Generator().manual_seed(2 * params.seed + odd) for odd in (0, 1))  # the model; the decoders
    model = Trigrams(draw_text(4_000, True, rng))
    prompts = draw_text(200, True, dice).unfold(0, 2, 1)[:: 200 // TEXTS][:TEXTS]  # (N, 2): two words from anywhere
    texts: dict[Strategy, Tensor] = {}
    for strategy in STRATEGIES:
        if strategy == "beam":
            texts[strategy] = torch.cat([beam_search(model, row[None], params.beam_width, LENGTH) for row in prompts])
        else:
            texts[strategy] = sample(model, prompts, LENGTH, strategy, params, dice)
        tick(0.18 * len(texts), strategy)
    log_p = {name: model.score(words, 2).mean().item() for name, words in texts.items()}
    distinct = {name: distinct_2(words[:, 2:]) for name, words in texts.items()}
    repeated = {name: repetition(words[:, 2:]) for name, words in texts.items()}

    one_beam = torch.cat([beam_search(model, row[None], 1, LENGTH) for row in prompts])
    differ = int((one_beam != texts["greedy"]).sum())
    shortfalls = list[float]()
    for a, b in prompts[:8]:  # all V³ continuations of three words: log p(x) + log p(y | x) + log p(z | x, y)
        best = (model.log_p[a, b][:, None, None] + model.log_p[b][:, :, None] + model.log_p).max().item()
        found = beam_search(model, torch.stack([a, b])[None], V * V, SHORT)
        shortfalls.append(abs(best - SHORT * model.score(found, 2).item()))
    logits = 3 * torch.randn(500, V, generator=dice)
    kept = keep_nucleus(logits, params.p)
    mass = torch.where(kept.isfinite(), logits.softmax(dim=1), 0.0)  # (500, V)
    least = torch.where(mass > 0, mass, 1.0).amin(dim=1)  # of the words kept
    wrong = ((mass.sum(dim=1) < params.p - 1e-6) | (mass.sum(dim=1) - least >= params.p + 1e-6)).sum().item()

    sharp, flat = ["of", "france"], ["that", "the"]  # what follows is nearly certain; what follows is open
    figures = list[Bars]()
    for words in (sharp, flat):
        logits = model(torch.tensor([[ID[word] for word in words]]))  # (1, V)
        after = warp(logits, params.strategy, params).softmax(dim=1)[0]
        likely = logits[0].topk(12).indices
        figures.append(
            Bars(
                f"After “… {' '.join(words)}”: what {params.strategy} draws from", x="next word", y="probability",
                labels=spell(likely), series={"model": logits[0].exp()[likely].numpy().tolist(),
                                              "kept": after[likely].numpy().tolist()},
            )
        )  # fmt: skip
    return Result(
        metrics=[
            Metric("distinct-2", distinct[params.strategy], "of all pairs"),
            Metric("mean log-probability", log_p[params.strategy], "nats a word"),
            Metric("repetition", repeated[params.strategy], "of runs of four"),
        ],
        claims=[
            Claim("Beam search finds likelier text than greedy: gain in nats a word",
                  log_p["beam"] - log_p["greedy"], ">", 0),
            Claim("A beam of one is greedy: words that differ", differ, "==", 0),
            Claim("A beam of V² finds the best of all V³ short continuations: shortfall in nats",
                  max(shortfalls), "<=", 1e-5),
            Claim("The nucleus is the smallest set of mass p: of 500 distributions wrong", wrong, "==", 0),
            Claim("Nucleus text is more varied than greedy's: its distinct-2 over greedy's",
                  distinct["nucleus"] / distinct["greedy"], ">=", 1.5),
        ],
        figures=[
            *figures,
            Scatter("Likelihood against variety", x="mean log-probability in nats a word", y="distinct-2",
                    series={name: [(log_p[name], distinct[name])] for name in STRATEGIES}),
        ],
        tables=[
            Table("Decoders on one model", ["decoder", "mean log-probability", "distinct-2", "repetition"],
                  [[name, log_p[name], distinct[name], repeated[name]] for name in STRATEGIES]),
            Table("The first text of each", ["decoder", "text"],
                  [[name, " ".join(spell(texts[name][0, :32]))] for name in STRATEGIES]),
        ],
    )  # fmt: skip
