"""Chain of thought and self-consistency

Question: Why does writing the steps down make a small model right?
Source: Wei et al. 2022, arXiv:2201.11903 (chain of thought); Nye et al. 2021, arXiv:2112.00114 (scratchpads); Wang et
  al. 2022, arXiv:2203.11171 (self-consistency: sample chains and vote).
Watch: the same network, data and number of steps. Asked for the sum at once it has to add five digits in one pass and
  mostly guesses; asked for the running sums it adds two at a time, and is right. Sampled hot, a chain goes wrong in a
  step here or there, each chain in another one, and a vote over nine is right more often than one.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy

from demos.contract import Cell, Claim, DemoParams, Lines, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.transformer import Transformer, extend, train

EQUALS, BLANK, END = 10, 11, 12  # after the digits
SIGNS = [*"0123456789", "=", "·", "."]
D, LAYERS, HEADS, BATCH, RATE = 64, 2, 4, 128, 4e-3
TESTED, AIM = 300, 0.6  # problems; how often a single chain is to be right, where temperature is 0


class Params(DemoParams):
    terms: int = Field(5, ge=2, le=8, description="Digits to add, modulo ten")
    mode: Literal["direct", "steps"] = Field("steps", description="The answer at once, or the running sums first")
    samples: int = Field(9, ge=1, le=33, description="Chains that vote")
    temperature: float = Field(0.0, ge=0.0, le=5.0, description="Of sampling; 0: so hot that one chain in 0.6 is right")
    steps: int = Field(250, ge=100, le=2000, description="Training steps of 128 problems, for each mode")
    seed: int = Field(0, ge=0, le=9999, description="Seed of problems, weights and chains")

    presets: ClassVar[Mapping[str, Preset]] = {
        "direct": Preset("No steps: five digits in one pass", {"mode": "direct"}),
        "one vote": Preset("A single sampled chain: nothing averages its errors out", {"samples": 1}),
        "seven terms": Preset("A longer sum: a longer chain, each step as easy", {"terms": 7}),
    }


def pose(n: int, digits: int, terms: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """n problems of `digits` digits, (n, terms + 1) with blanks up to the "=", and their running sums (n, digits)."""
    drawn = torch.randint(10, (n, digits), generator=rng)
    blanks = torch.full((n, terms - digits), BLANK)
    return torch.cat([drawn, blanks, torch.full((n, 1), EQUALS)], dim=1), drawn.cumsum(dim=1) % 10


def answer(sums: Tensor, mode: str) -> Tensor:
    """What is to be written after the "=": all running sums or the last alone, and the end."""
    shown = sums if mode == "steps" else sums[:, -1:]
    return torch.cat([shown, torch.full((len(sums), 1), END)], dim=1)


def teach(mode: str, params: Params, tick: Tick) -> Transformer:
    """A model that learned to answer sums of two digits and more, one length in each batch."""
    rng = torch.Generator().manual_seed(params.seed)
    model = Transformer(len(SIGNS), 2 * params.terms + 2, D, LAYERS, HEADS, rng, causal=True)

    def loss() -> Tensor:
        digits = int(torch.randint(2, params.terms + 1, (), generator=rng))
        problem, sums = pose(BATCH, digits, params.terms, rng)
        said = answer(sums, mode)
        logits = model(torch.cat([problem, said[:, :-1]], dim=1))[:, params.terms :]  # from the "=" on
        return cross_entropy(logits.flatten(0, 1), said.flatten())

    done = 0.4 * (mode == "steps")  # direct answers are learned first
    train(model, loss, params.steps, RATE,
          lambda step, value: tick(done + 0.4 * step / params.steps, f"training: {mode}", loss=value))  # fmt: skip
    return model


def write(model: Transformer, problem: Tensor, count: int, temperature: float, rng: torch.Generator) -> Tensor:
    """`count` signs after each problem (n, terms + 1): (n, count)."""
    return extend(model, problem, count, temperature, rng)[:, problem.shape[1] :]


def accuracy(model: Transformer, mode: str, digits: int, terms: int, rng: torch.Generator) -> float:
    """Share of TESTED problems whose greedy answer is right."""
    problem, sums = pose(TESTED, digits, terms, rng)
    count = digits if mode == "steps" else 1
    return (write(model, problem, count, 0.0, rng)[:, -1] == sums[:, -1]).float().mean().item()


def vote(answers: Sequence[int]) -> int:
    """The most frequent answer; of several, the one that came first."""
    return Counter(answers).most_common(1)[0][0]


def heat(model: Transformer, problem: Tensor, right: Tensor, digits: int, rng: torch.Generator) -> float:
    """The temperature at which one chain in AIM is right, by halving an interval."""
    low, high = 0.2, 8.0
    for _ in range(12):
        middle = (low + high) / 2
        share = (write(model, problem, digits, middle, rng)[:, -1] == right).float().mean().item()
        low, high = (middle, high) if share > AIM else (low, middle)
    return (low + high) / 2


@torch.no_grad()
def right_step(model: Transformer, problem: Tensor, sums: Tensor, temperature: float) -> float:
    """Chance that a step is right where those before it are: mean over problems and steps."""
    terms = problem.shape[1] - 1
    logits = model(torch.cat([problem, sums[:, :-1]], dim=1))[:, terms:]  # (n, digits, signs)
    return (logits / temperature).softmax(dim=2).gather(2, sums[:, :, None]).mean().item()


def spell(signs: Sequence[int]) -> str:
    return " ".join(SIGNS[sign] for sign in signs)


def mark(chain: Sequence[int], sums: Sequence[int]) -> str:
    """The chain, with a mark after its first step that is wrong in itself or follows from nothing right."""
    wrong = next((place for place, (said, right) in enumerate(zip(chain, sums, strict=True)) if said != right), None)
    return " ".join(f"{SIGNS[said]}(!)" if place == wrong else SIGNS[said] for place, said in enumerate(chain))


def run(params: Params, tick: Tick = no_tick) -> Result:
    models = {mode: teach(mode, params, tick) for mode in ("direct", "steps")}
    rng = torch.Generator().manual_seed(params.seed + 10_000)
    lengths = list(range(2, params.terms + 1))
    score = {mode: [accuracy(model, mode, n, params.terms, rng) for n in lengths] for mode, model in models.items()}
    model = models["steps"]
    problem, sums = pose(TESTED, params.terms, params.terms, rng)
    right: list[int] = sums[:, -1].numpy().tolist()
    temperature = params.temperature or heat(model, problem, sums[:, -1], params.terms, rng)
    most = max(params.samples, 15)
    chains = torch.stack([write(model, problem, params.terms, temperature, rng) for _ in range(most)])
    tick(0.95, "chains")
    answers: list[list[int]] = chains[:, :, -1].T.numpy().tolist()  # of each problem, its chains' answers

    def voted(count: int) -> float:
        return sum(vote(each[:count]) == truth for each, truth in zip(answers, right, strict=True)) / TESTED

    single = (chains[:, :, -1] == sums[:, -1]).float().mean().item()
    step = right_step(model, problem, sums, temperature)
    counts = [count for count in range(1, most + 1) if count % 2]
    asked = score[params.mode][-1]
    rows: list[list[Cell]] = []
    for place in range(4):
        paths: list[list[int]] = chains[:3, place].numpy().tolist()
        truth: list[int] = sums[place].numpy().tolist()
        told = "; ".join(mark(path, truth) for path in paths)
        winner = vote(answers[place][: params.samples])
        rows.append([spell(problem[place].numpy().tolist()), told, SIGNS[winner], SIGNS[right[place]]])
    return Result(
        metrics=[
            Metric("accuracy", asked),
            Metric("accuracy of direct answers", score["direct"][-1]),
            Metric("accuracy with steps", score["steps"][-1]),
            Metric("temperature of the chains", temperature),
            Metric("one chain right", single),
            Metric("vote right", voted(params.samples)),
        ],
        claims=[
            Claim("As asked, it answers rightly: share of sums", asked, ">=", 0.95),
            Claim("At once it cannot: share of direct answers that are right", score["direct"][-1], "<=", 0.3),
            Claim("A vote beats a single chain: share right by vote, less that of one",
                  voted(params.samples) - single, ">=", 0.1),
            Claim("Errors compound: share of right chains apart from that of right steps to their number",
                  abs(single - step**params.terms), "<=", 0.1),
        ],
        figures=[
            Lines("Right answers and length of the sum", "digits", "share right", lengths, score),
            Lines("Right answers by vote", "chains", "share right", counts,
                  {"vote": [voted(count) for count in counts]}),
        ],
        tables=[Table("Three chains of a problem, first wrong step marked", ["sum", "chains", "vote", "right"], rows)],
    )  # fmt: skip
