"""Scaling laws on a toy language

Question: Does loss really fall as a power of model size, data and compute?
Source: Kaplan et al. 2020, arXiv:2001.08361, eq. (1.1)–(1.2); Hoffmann et al. 2022 (Chinchilla), arXiv:2203.15556,
  eq. (2)–(4), with the coefficients of Besiroglu et al. 2024, arXiv:2404.10102, table 1, who fitted its data anew.
Watch: on double-logarithmic axes the loss above the entropy of the source falls along a line, as tokens or as width
  grow. Too little of either (presets) and the other one buys nothing more.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from demos.contract import Claim, DemoParams, Lines, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.judge import descend
from demos.shared.perceptron import perceptron

WORDS, TEACHER, SHARPNESS = 40, 200, 12.0  # vocabulary; hidden units of the source; how decided it is
CHAINS, BATCH, RATE, LOOK = 250, 250, 1e-2, 25  # texts drawn side by side; training; steps between two looks
RUNS = 4  # sizes along each axis: tokens by factors of 4, widths by factors of 2
BUDGETS = [1e21, 1e22, 5.76e23, 1e25]  # FLOPs; the third is Gopher's and Chinchilla's
E, A, B, ALPHA, BETA = 1.8172, 482.01, 2085.43, 0.3478, 0.3658  # L = E + A / N^α + B / D^β, in nats a token


class Params(DemoParams):
    data_tokens: int = Field(
        64_000, ge=4_000, le=500_000, description="Most training tokens; other runs have a 4th, 16th and 64th"
    )
    width: int = Field(64, ge=8, le=256, description="Largest hidden width; other runs have a half, 4th and 8th of it")
    steps: int = Field(400, ge=50, le=2000, description="Training steps of each run; the best look at the loss counts")
    seed: int = Field(0, ge=0, le=9999, description="Seed of the source, its text and the weights")

    presets: ClassVar[Mapping[str, Preset]] = {
        "too little text": Preset(
            "4,000 tokens: a wider model learns them by heart, and nothing more", {"data_tokens": 4000}
        ),
        "too small a model": Preset("Width 8: more text brings next to nothing", {"width": 8}),
    }


def make_source(rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """A language in which two words decide the odds of the next: p (V, V, V), and how frequent the pairs are (V, V)."""
    pairs = torch.cartesian_prod(torch.arange(WORDS), torch.arange(WORDS))
    teacher = perceptron([2 * WORDS, TEACHER, WORDS], nn.Tanh, rng)
    with torch.no_grad():
        p = (SHARPNESS * teacher(encode(pairs))).softmax(dim=1).view(WORDS, WORDS, WORDS).double()
    often = torch.full((WORDS, WORDS), 1 / WORDS**2).double()
    for _ in range(200):
        often = torch.einsum("ab,abc->bc", often, p)  # after one more word
    return p, often


def encode(pairs: Tensor) -> Tensor:
    """Two words as one-hot rows: (n, 2) -> (n, 2V)."""
    return one_hot(pairs, WORDS).flatten(1).float()


def draw_text(p: Tensor, often: Tensor, tokens: int, rng: torch.Generator) -> Tensor:
    """Triples of neighbouring words (tokens, 3), from texts that are drawn side by side."""
    start = torch.multinomial(often.flatten(), CHAINS, replacement=True, generator=rng)
    text = [start // WORDS, start % WORDS]
    for _ in range(math.ceil(tokens / CHAINS)):
        text.append(torch.multinomial(p[text[-2], text[-1]], 1, generator=rng)[:, 0])
    words = torch.stack(text, dim=1)  # (chains, length)
    return words.unfold(1, 3, 1).reshape(-1, 3)[:tokens]


def true_loss(model: nn.Module, p: Tensor, often: Tensor) -> float:
    """The model's cross-entropy on the source, summed over all its pairs: there is no noise of a test set."""
    pairs = torch.cartesian_prod(torch.arange(WORDS), torch.arange(WORDS))
    with torch.no_grad():
        log_q = model(encode(pairs)).log_softmax(dim=1).double().view(WORDS, WORDS, WORDS)
    return -torch.einsum("ab,abc,abc->", often, p, log_q).item()


def entropy(p: Tensor, often: Tensor) -> float:
    """That of the source in nats a word: what the best model would lose."""
    return -torch.einsum("ab,abc,abc->", often, p, p.log()).item()


def train(text: Tensor, width: int, steps: int, p: Tensor, often: Tensor, rng: torch.Generator) -> tuple[float, int]:
    """The least loss of one run, as early stopping would find it, and the model's number of weights."""
    model = perceptron([2 * WORDS, width, WORDS], nn.Tanh, rng)
    adam = torch.optim.Adam(model.parameters(), lr=RATE, fused=True)
    losses = [true_loss(model, p, often)]
    for step in range(steps):
        adam.param_groups[0]["lr"] = RATE * (1 - step / steps)
        some = text[torch.randint(len(text), (BATCH,), generator=rng)]
        descend(adam, cross_entropy(model(encode(some[:, :2])), some[:, 2]))
        if (step + 1) % LOOK == 0:
            losses.append(true_loss(model, p, often))
    return min(losses), sum(weight.numel() for weight in model.parameters())


def power_law(sizes: Sequence[float], excess: Sequence[float]) -> tuple[float, float]:
    """Exponent of excess ∝ size^−exponent by least squares on logarithms, and the share of variance explained."""
    x, y = (torch.tensor(values, dtype=torch.double).log() for values in (sizes, excess))
    x, y = x - x.mean(), y - y.mean()
    slope = (x @ y / (x @ x)).item()
    return -slope, 1 - ((y - slope * x) @ (y - slope * x) / (y @ y)).item()


def compute_optimal(flops: float) -> tuple[float, float]:
    """Eq. (4) of Chinchilla: parameters N and tokens D with 6·N·D = flops at which E + A/N^α + B/D^β is least."""
    g = (ALPHA * A / (BETA * B)) ** (1 / (ALPHA + BETA))
    n = g * (flops / 6) ** (BETA / (ALPHA + BETA))
    return n, flops / 6 / n


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng = torch.Generator().manual_seed(params.seed)
    p, often = make_source(rng)
    text, floor = draw_text(p, often, params.data_tokens, rng), entropy(p, often)
    tokens = [params.data_tokens // 4**back for back in reversed(range(RUNS))]
    widths = [max(1, params.width // 2**back) for back in reversed(range(RUNS))]
    loss, weights = dict[tuple[int, int], float](), dict[int, int]()
    plan = [*((width, tokens[-1]) for width in widths), *((widths[-1], count) for count in tokens[:-1])]
    for number, (width, count) in enumerate(plan):
        loss[width, count], weights[width] = train(text[:count], width, params.steps, p, often, rng)
        tick(number / len(plan), f"width {width}, {count:,} tokens", loss=loss[width, count])
    by_width = [loss[width, tokens[-1]] - floor for width in widths]
    by_tokens = [loss[widths[-1], count] - floor for count in tokens]
    size = [float(weights[width]) for width in widths]
    of_size, straight_size = power_law(size, by_width)
    of_tokens, straight = power_law([float(count) for count in tokens], by_tokens)
    optimal = {budget: compute_optimal(budget) for budget in BUDGETS}
    n, d = optimal[5.76e23]
    return Result(
        metrics=[
            Metric("exponent of data", of_tokens),
            Metric("exponent of size", of_size),
            Metric("straightness over size", straight_size),
            Metric("entropy of the source", floor, "nats"),
            Metric("least loss", min(loss.values()), "nats"),
        ],
        claims=[
            Claim("Wider is better: largest rise of the loss from one width to the next, in nats",
                  max(b - a for a, b in pairwise(by_width)), "<=", 0.02),
            Claim("More text is better: loss of the shortest text, less that of the longest",
                  by_tokens[0] - by_tokens[-1], ">=", 0.115),
            Claim("A larger model is better: loss of the narrowest, less that of the widest",
                  by_width[0] - by_width[-1], ">=", 0.035),
            Claim("Nobody is better than the source: least loss above its entropy",
                  min(loss.values()) - floor, ">=", 0.0),
            Claim("It is a power of the text: variance of the logarithm that a line explains", straight, ">=", 0.9),
            Claim("So large budgets are planned: tokens for each parameter, at that of Chinchilla", d / n, "<=", 40.0),
            Claim("And not too few of them: the same", d / n, ">=", 10.0),
        ],
        figures=[
            Lines("Excess loss and text", "log10 tokens", "log10 nats", [math.log10(count) for count in tokens],
                  {f"width {widths[-1]}": [math.log10(excess) for excess in by_tokens]}),
            Lines("Excess loss and size", "log10 weights", "log10 nats", [math.log10(each) for each in size],
                  {f"{tokens[-1]:,} tokens": [math.log10(excess) for excess in by_width]}),
        ],
        tables=[
            Table("Runs", ["width", "weights", "tokens", "loss", "above the entropy"],
                  [[width, weights[width], count, value, value - floor] for (width, count), value in loss.items()]),
            Table("Compute-optimal by the published fit", ["FLOPs", "parameters", "tokens", "tokens for each"],
                  [[f"{budget:.3g}", f"{n:.3g}", f"{d:.3g}", d / n] for budget, (n, d) in optimal.items()]),
        ],
    )  # fmt: skip
