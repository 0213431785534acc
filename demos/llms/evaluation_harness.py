"""An evaluation harness: perplexity, exact match, choices, pass@k, win rate

Question: How are models scored, and how sure is a score?
Source: choices by likelihood: Hendrycks et al. 2020 (MMLU), arXiv:2009.03300; exact match: Cobbe et al. 2021 (GSM8K),
  arXiv:2110.14168; pass@k: Chen et al. 2021, arXiv:2107.03374, eq. (1); ratings from battles: Chiang et al. 2024,
  arXiv:2403.04132, §4; length control: Dubois et al. 2024 (AlpacaEval 2), arXiv:2404.04475.
Watch: three models of one kind answer held-out sums in one of two alphabets, which examples in the prompt show. Each
  score has an interval. A contaminated model looks better on the test, and on nothing else.
"""

import itertools
import math
from collections.abc import Callable, Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from demos.contract import Bars, Claim, DemoParams, Figure, Lines, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.perceptron import perceptron

VOCABULARY = "0123456789abcdefghij+=; "  # letters are the second alphabet for digits; the blank pads
LINE, SHOWN, TOP = 9, 2, 50  # "17+25=42;" or "17+25=ec;"; lines before it that a model sees; numbers are below TOP
WINDOW, TEST, KNOWN = (SHOWN + 1) * LINE, 500, 700  # tokens that are seen; sums of the test, and of the training
SIZES = {"small": 12, "medium": 40, "large": 160}  # hidden width
STEPS, BATCH, RESAMPLES, LEAKED = 400, 256, 1000, 100
STRENGTHS, VERBOSITY = torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0]), torch.tensor([0.3, -0.6, 0.6, -0.3, 0.0])
GAMES, LENGTH_BIAS = 2_000, 1.5  # battles of five players; log-odds that the judge gives for a unit of length


class Params(DemoParams):
    suite: Literal["all", "choice", "math", "code", "judge", "perplexity"] = Field("all", description="Suite shown")
    n: int = Field(100, ge=20, le=TEST, description="Items of each suite")
    shots: int = Field(2, ge=0, le=8, description="Examples in the prompt; the models see the last two")
    k: int = Field(5, ge=1, le=20, description="Tries of pass@k")
    samples: int = Field(20, ge=1, le=50, description="Answers sampled for each problem of pass@k")
    contaminated: bool = Field(False, description="Put the test items into the training of all three models")
    seed: int = Field(0, ge=0, le=9999, description="Seed of items, weights, samples and battles")

    presets: ClassVar[Mapping[str, Preset]] = {
        "contaminated": Preset("All models have seen the items: scores rise on these alone", {"contaminated": True}),
        "no examples": Preset("Nothing says which alphabet is asked for: right sums count as wrong", {"shots": 0}),
        "few items": Preset("Twenty items: intervals wider than the gaps between models", {"n": 20}),
    }


def lines(a: Tensor, b: Tensor, alphabet: Tensor) -> Tensor:
    """Sums as tokens, (N, 9): two digits, "+", two digits, "=", the answer in digits (0) or letters (1), ";"."""
    answer = a + b
    plus, equals, end = (torch.full_like(a, VOCABULARY.index(sign)) for sign in "+=;")
    shift = 10 * alphabet
    return torch.stack([a // 10, a % 10, plus, b // 10, b % 10, equals,
                        answer // 10 + shift, answer % 10 + shift, end], dim=1)  # fmt: skip


def prompts(pairs: Tensor, alphabet: Tensor, shots: int, examples: Tensor, rng: torch.Generator) -> Tensor:
    """The last lines that a model sees, (N, 27): examples in the asked alphabet, then the sum of pairs (N, 2)."""
    n = len(pairs)
    shown = torch.full((n, WINDOW), VOCABULARY.index(" "))
    shown[:, -LINE:] = lines(pairs[:, 0], pairs[:, 1], alphabet)
    for place in range(min(shots, SHOWN)):
        some = examples[torch.randint(len(examples), (n,), generator=rng)]
        start = (SHOWN - 1 - place) * LINE
        shown[:, start : start + LINE] = lines(some[:, 0], some[:, 1], alphabet)
    return shown


class Reader(nn.Module):
    """A feed-forward language model: the next token from the 24 before it (Bengio et al. 2003)."""

    def __init__(self, width: int, rng: torch.Generator) -> None:
        super().__init__()
        self.embedding = nn.Embedding(len(VOCABULARY), 8)
        nn.init.normal_(self.embedding.weight, generator=rng)
        self.layers = perceptron([8 * (WINDOW - 3), width, width, len(VOCABULARY)], nn.ReLU, rng)

    def forward(self, before: Tensor) -> Tensor:
        """before (N, 24) -> logits of the next token (N, 24 tokens)."""
        return self.layers(self.embedding(before).flatten(1))


def answer_steps(shown: Tensor) -> list[tuple[Tensor, Tensor]]:
    """What precedes each digit of the answer (N, 24), and that digit (N,)."""
    size = WINDOW - 3
    return [(shown[:, place - size : place], shown[:, place]) for place in (WINDOW - 3, WINDOW - 2)]


def train(width: int, pairs: Tensor, leaked: Tensor, seed: int, tick: Callable[[float], None]) -> Reader:
    """Train a model on the answers of sums with 0, 1 or 2 examples before them; leaked items come in the last third."""
    rng = torch.Generator().manual_seed(2 * seed + 1)
    model = Reader(width, rng)
    adam = torch.optim.Adam(model.parameters(), lr=4e-3, fused=True)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(adam, STEPS)
    for step in range(STEPS):
        source = leaked if len(leaked) and step > STEPS * 2 // 3 else pairs
        some = source[torch.randint(len(source), (BATCH,), generator=rng)]
        alphabet = torch.randint(2, (BATCH,), generator=rng)
        shown = prompts(some, alphabet, step % 3, pairs, rng)
        before, digit = (torch.cat(part) for part in zip(*answer_steps(shown), strict=True))
        loss = nn.functional.cross_entropy(model(before), digit)
        adam.zero_grad()
        torch.autograd.backward(loss)
        adam.step()  # pyright: ignore[reportUnknownMemberType]
        rate.step()
        if step % 50 == 0:
            tick(step / STEPS)
    return model


# The scores


@torch.no_grad()
def log_likelihood(model: nn.Module, shown: Tensor) -> Tensor:
    """log p of the answer that stands in each prompt, (N,)."""
    steps = answer_steps(shown)
    return sum((model(x).log_softmax(1).gather(1, y[:, None])[:, 0] for x, y in steps), torch.zeros(len(shown)))


def perplexity(log_p: Tensor, tokens: int) -> float:
    """exp of the mean negative log-likelihood of a token."""
    return math.exp(-log_p.double().sum().item() / tokens)


@torch.no_grad()
def answers(model: nn.Module, shown: Tensor, rng: torch.Generator | None = None) -> Tensor:
    """The two tokens that a model writes, (N, 2): the most probable ones, or sampled where there is a generator."""
    written = shown.clone()
    for place, (before, _) in zip((WINDOW - 3, WINDOW - 2), answer_steps(written), strict=True):
        p = model(before).softmax(dim=1)  # `before` is a view: the second step reads what the first one wrote
        written[:, place] = p.argmax(1) if rng is None else torch.multinomial(p, 1, generator=rng)[:, 0]
    return written[:, -3:-1]


def exact(written: Tensor, shown: Tensor) -> Tensor:
    """Whether an answer (…, 2) is the prompt's own, alphabet included, (…,)."""
    return (written == shown[:, -3:-1]).all(dim=-1).float()


def chosen_right(model: nn.Module, pairs: Tensor, alphabet: Tensor, shown: Tensor) -> Tensor:
    """Whether the right one of four answers is the most likely, (N,): the others are off by 1, 10 and 11."""
    right = pairs.sum(dim=1)
    offered = torch.stack([right, (right + 1) % 99, (right + 10) % 99, (right + 11) % 99], dim=1)  # (N, 4)
    log_p = torch.empty(offered.shape)
    for place in range(4):
        candidate = shown.clone()
        candidate[:, -3] = offered[:, place] // 10 + 10 * alphabet
        candidate[:, -2] = offered[:, place] % 10 + 10 * alphabet
        log_p[:, place] = log_likelihood(model, candidate)
    return (log_p.argmax(dim=1) == 0).float()


def pass_at_k(right: int, samples: int, k: int) -> float:
    """Eq. (1): the chance that one of k answers, drawn without replacement from the samples, is right."""
    return 1 - math.comb(samples - right, k) / math.comb(samples, k)


def interval(scores: Tensor, rng: torch.Generator) -> tuple[float, float, float]:
    """Mean of the items' scores (N,), and its 95 % bootstrap interval."""
    means = scores[torch.randint(len(scores), (RESAMPLES, len(scores)), generator=rng)].mean(dim=1)
    low, high = torch.quantile(means, torch.tensor([0.025, 0.975])).numpy().tolist()
    return scores.mean().item(), low, high


def ratings(first: Tensor, second: Tensor, won: Tensor, features: Tensor | None = None) -> Tensor:
    """Bradley–Terry strengths (players,) of battles (N,), centred: logistic regression, by gradient ascent.

    `features` (N,), such as a difference in length, get a weight of their own, and so do not count as strength.
    """
    players = int(torch.maximum(first, second).max()) + 1
    x = (nn.functional.one_hot(first, players) - nn.functional.one_hot(second, players)).double()  # (N, players)
    x = x if features is None else torch.cat([x, features.double()[:, None]], dim=1)
    w = torch.zeros(x.shape[1], dtype=torch.float64)
    for _ in range(1_000):
        w = w + 4 * x.T @ (won.double() - torch.sigmoid(x @ w)) / len(x)  # the mean log-likelihood's gradient
    return w[:players] - w[:players].mean()


def battles(rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Two players, who won, and how much longer the first answer was (N,): a judge that likes length decides."""
    first = torch.randint(len(STRENGTHS), (GAMES,), generator=rng)
    second = (first + torch.randint(1, len(STRENGTHS), (GAMES,), generator=rng)) % len(STRENGTHS)
    longer = VERBOSITY[first] - VERBOSITY[second] + torch.randn(GAMES, generator=rng)
    odds = STRENGTHS[first] - STRENGTHS[second] + LENGTH_BIAS * longer
    return first, second, (torch.rand(GAMES, generator=rng) < odds.sigmoid()).double(), longer


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng, dice = (torch.Generator().manual_seed(2 * params.seed + odd) for odd in (0, 1))  # items; resampling
    grid = torch.cartesian_prod(torch.arange(TOP), torch.arange(TOP))  # all sums, (2500, 2)
    order = grid[torch.randperm(len(grid), generator=rng)]
    test, fresh, known = order[:TEST], order[TEST : 2 * TEST], order[2 * TEST : 2 * TEST + KNOWN]
    models, nothing = dict[str, Reader](), test[:0]
    jobs = {name: (width, test[:LEAKED] if params.contaminated else nothing) for name, width in SIZES.items()}
    counterpart = "clean" if params.contaminated else "leaked"  # of the large model
    jobs[counterpart] = (SIZES["large"], nothing if params.contaminated else test[:LEAKED])
    for number, (name, (width, leaked)) in enumerate(jobs.items()):

        def report(fraction: float, number: int = number, name: str = name) -> None:
            tick((number + fraction) / (len(jobs) + 1), f"training {name}")

        models[name] = train(width, known, leaked, params.seed, report)

    models.setdefault("clean", models["large"])
    models.setdefault("leaked", models["large"])

    pairs, alphabet = test[: params.n], torch.randint(2, (params.n,), generator=rng)
    shown = prompts(pairs, alphabet, params.shots, known, rng)
    scores: dict[str, dict[str, Tensor]] = {
        suite: {} for suite in ("choice", "math", "code", "perplexity")
    }  # (n,) each
    tries = dict[str, list[int]]()
    for name in SIZES:
        model = models[name]
        scores["choice"][name] = chosen_right(model, pairs, alphabet, shown)
        scores["math"][name] = exact(answers(model, shown), shown)
        sampled = [exact(answers(model, shown, rng), shown) for _ in range(params.samples)]
        tries[name] = torch.stack(sampled).sum(dim=0).long().numpy().tolist()  # right ones of each problem, (n,)
        k = min(params.k, params.samples)
        scores["code"][name] = torch.tensor([pass_at_k(right, params.samples, k) for right in tries[name]])
        scores["perplexity"][name] = log_likelihood(model, shown) / 2
    medium = scores["perplexity"]["medium"]  # the judge prefers the model that holds the right answer for likelier
    scores["judge"] = {name: 0.5 + 0.5 * (log_p - medium).sign() for name, log_p in scores["perplexity"].items()}

    tables: list[list[str | float]] = []
    violations = 0
    for suite in ("choice", "math", "code", "judge", "perplexity"):
        found = {name: interval(value, dice) for name, value in scores[suite].items()}
        for smaller, larger in itertools.pairwise(SIZES):
            violations += found[larger][2] < found[smaller][1]
        if params.suite in ("all", suite):
            for name, (mean, low, high) in found.items():
                if suite == "perplexity":
                    mean, low, high = math.exp(-mean), math.exp(-high), math.exp(-low)
                tables.append([suite, name, round(mean, 3), f"{low:.3f} to {high:.3f}"])

    # Contamination: the items that may have leaked beside fresh ones of the same kind, which nobody has trained on.
    rates, excess = dict[str, tuple[float, float]](), dict[str, float]()
    for name in ("clean", "leaked"):
        asked = [prompts(items, torch.arange(len(items)) % 2, SHOWN, known, rng) for items in (test[:LEAKED], fresh)]
        on_test, on_fresh = (exact(answers(models[name], seen), seen).mean().item() for seen in asked)
        p = (LEAKED * on_test + len(fresh) * on_fresh) / (LEAKED + len(fresh))
        rates[name] = on_test, on_fresh
        excess[name] = (on_test - on_fresh) / math.sqrt(p * (1 - p) * (1 / LEAKED + 1 / len(fresh)))
    first, second, won, longer = battles(rng)
    fitted = {"plain": ratings(first, second, won), "length controlled": ratings(first, second, won, longer)}
    error = {name: (strength - STRENGTHS).abs().max().item() for name, strength in fitted.items()}

    some = [(right, samples, k) for samples in (6, 8) for right in range(samples + 1) for k in range(1, samples + 1)]
    enumerated = [
        sum(min(chosen) < right for chosen in itertools.combinations(range(samples), k)) / math.comb(samples, k)
        for right, samples, k in some
    ]
    worst = max(abs(pass_at_k(*one) - other) for one, other in zip(some, enumerated, strict=True))
    blank = Reader(4, torch.Generator()).double()
    for weight in blank.layers.parameters():
        nn.init.zeros_(weight)
    uniform = perplexity(log_likelihood(blank, shown), 2 * params.n)
    by_shots = [prompts(fresh, torch.arange(TEST) % 2, shots, known, rng) for shots in range(SHOWN + 1)]
    exact_large = [exact(answers(models["clean"], seen), seen).mean().item() for seen in by_shots]
    ks = list(range(1, params.samples + 1))
    figures: dict[str, Figure] = {
        "code": Lines("pass@k", x="tries k", y="chance that one is right", at=ks, series={
            name: [sum(pass_at_k(right, params.samples, k) for right in tries[name]) / params.n for k in ks]
            for name in SIZES
        }),
        "judge": Bars("Ratings of five players by 2,000 battles", x="player", y="strength, log-odds",
                      labels=[f"planted {s:g}, length {v:+g}"
                              for s, v in zip(STRENGTHS.numpy().tolist(), VERBOSITY.numpy().tolist(), strict=True)],
                      series={"planted": STRENGTHS.numpy().tolist()}
                      | {name: strength.numpy().tolist() for name, strength in fitted.items()}),
        "math": Bars("Exact match by examples in the prompt, large model", x="examples", y="share right",
                     labels=["0", "1", "2"], series={"exact match": exact_large}),
    }  # fmt: skip
    written = answers(models["large"], shown)
    return Result(
        metrics=[
            *(Metric(f"exact match, {name}", scores["math"][name].mean().item()) for name in SIZES),
            *(Metric(f"perplexity, {name}", perplexity(2 * scores["perplexity"][name], 2 * params.n))
              for name in SIZES),
            Metric("exact match on leaked items", rates["leaked"][0]),
            Metric("the same model on fresh items", rates["leaked"][1]),
            Metric("rating error without length control", error["plain"], "log-odds"),
            Metric("rating error with length control", error["length controlled"], "log-odds"),
        ],
        claims=[
            Claim("pass@k is what counting all subsets gives: greatest difference", worst, "<=", 1e-9),
            Claim("A model that knows nothing has the perplexity of the vocabulary: difference",
                  abs(uniform - len(VOCABULARY)), "<=", 1e-6),
            Claim("Larger is not worse beyond its interval: suites and neighbours where it is", violations, "==", 0),
            Claim("Examples say what is asked for: exact match with two, less without any",
                  exact_large[SHOWN] - exact_large[0], ">=", 0.2),
            Claim("Leaked items inflate the score: exact match on them, less on fresh ones",
                  rates["leaked"][0] - rates["leaked"][1], ">=", 0.1),
            Claim("Fresh items give it away: standard errors by which the leaked model is better on the test",
                  excess["leaked"], ">=", 3.0),
            Claim("A clean model raises no alarm: standard errors by which it is better on the test",
                  excess["clean"], "<=", 3.0),
            Claim("Ratings recover the planted order, length aside: neighbours in the wrong order",
                  (fitted["length controlled"].diff() <= 0).sum().item(), "==", 0),
            Claim("A judge that likes length misleads plain ratings: error with control over without",
                  error["length controlled"] / error["plain"], "<=", 0.5),
        ],
        figures=[figure for suite, figure in figures.items() if params.suite in ("all", suite)],
        tables=[
            Table("Leaderboard", ["suite", "model", "score", "95 % interval"], tables),
            Table("Items", ["prompt", "answer of the large model", "verdict"], [
                ["".join(VOCABULARY[token] for token in row[:-3]).strip(),
                 "".join(VOCABULARY[token] for token in said), bool(verdict)]
                for row, said, verdict in zip(shown[:8].numpy().tolist(), written[:8].numpy().tolist(),
                                              exact(written, shown)[:8].numpy().tolist(), strict=True)
            ]),
        ],
    )  # fmt: skip
