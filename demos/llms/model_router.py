"""A router between a fast and a thinking model

Question: When is slow thinking worth its price?
Source: routers from preferences: Ong et al. 2024 (RouteLLM), arXiv:2406.18665; cascades by price: Chen et al. 2023
  (FrugalGPT), arXiv:2305.05176; learning from switches and measured correctness: OpenAI 2025, GPT-5 system card, §1.
Watch: the fast model answers a long sum at once and guesses; the thinking one writes every partial sum, and is paid by
  the word. The router learns where the first is wrong: most of the second's accuracy, at two thirds of its price.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, one_hot

from demos.contract import Cell, Claim, DemoParams, Lines, Metric, Preset, Result, Scatter, Table, Tick, no_tick
from demos.shared.judge import descend
from demos.shared.perceptron import perceptron

LONGEST, NOTHING = 6, 10  # digits of a sum; the mark of an empty place
EASY, HARD = 2, 5  # at most so many digits are easy, at least so many hard
PRICES = {"nano": 0.2, "mini": 0.5, "main": 1.0, "thinking": 1.0}  # for each word that a model writes
PLAN, WORDS = 4, 12  # words that thinking begins with; other words of a request, which say nothing of its difficulty
HIDDEN = {"nano": 8, "mini": 32, "main": 128}  # units of the models that answer at once
STEPS, BATCH, RATE = 500, 256, 1e-2
TESTED, BLOCK, DEEP_SHARE = 4000, 10, 0.5  # test requests; requests between updates; share sent deep at fixed cost
SWITCHES, WHIMS = 0.6, 0.05  # how often users change the model after a wrong answer, and after a right one


class Params(DemoParams):
    threshold: float = Field(
        0.5, ge=0.0, le=1.0, description="Highest chance of an error at which a model is sent the request"
    )
    signal: Literal["complexity", "correctness", "user-switch"] = Field(
        "correctness", description="What the router learns from: rules of difficulty, checked answers, or switches"
    )
    variants: int = Field(2, ge=2, le=4, description="Models on offer: main and thinking, then mini, then nano")
    requests: int = Field(400, ge=100, le=2000, description="Requests that the router learns from")
    seed: int = Field(0, ge=0, le=9999, description="Seed of the models and the requests")

    presets: ClassVar[Mapping[str, Preset]] = {
        "all to the fast model": Preset("Cheap, and wrong on every long sum", {"threshold": 1.0}),
        "all to the thinking model": Preset("Right, at the full price", {"threshold": 0.0}),
        "users' switches": Preset("A noisy signal, which nobody has to pay for", {"signal": "user-switch"}),
        "four models": Preset("Small models take what is easy for them", {"variants": 4}),
    }


class Requests:
    """Sums modulo ten of 1 to 6 digits, written as text; some users add "think hard", for long sums more often."""

    def __init__(self, n: int, rng: torch.Generator) -> None:
        self.length = torch.randint(1, LONGEST + 1, (n,), generator=rng)  # (n,)
        digits = torch.randint(10, (n, LONGEST), generator=rng)
        inside = torch.arange(LONGEST) < self.length[:, None]
        self.digits = torch.where(inside, digits, NOTHING)  # (n, 6)
        self.answer = (digits * inside).sum(dim=1) % 10
        self.asks_to_think = torch.rand(n, generator=rng) < 0.08 * self.length
        self.words = (torch.rand(n, WORDS, generator=rng) < 0.3).float()

    @property
    def signs(self) -> Tensor:
        """What a router sees before any model has run, (n, 16): length, its square, plea, a constant, other words."""
        length = self.length.float() / LONGEST
        own = torch.stack([length, length**2, self.asks_to_think.float(), torch.ones_like(length)], dim=1)
        return torch.cat([own, self.words], dim=1)


def train_fast(hidden: int, rng: torch.Generator) -> nn.Sequential:
    """A model that reads all digits and answers at once: (n, 66) -> (n, 10)."""
    model = perceptron([LONGEST * (NOTHING + 1), hidden, 10], nn.ReLU, rng)
    adam = torch.optim.Adam(model.parameters(), lr=RATE, fused=True)
    for step in range(STEPS):
        adam.param_groups[0]["lr"] = RATE * (1 - step / STEPS)
        asked = Requests(BATCH, rng)
        descend(adam, cross_entropy(model(encode(asked.digits)), asked.answer))
    return model


def encode(digits: Tensor) -> Tensor:
    """Digits (n, 6) as one-hot places, (n, 66)."""
    return one_hot(digits, NOTHING + 1).flatten(1).float()


def train_step(rng: torch.Generator) -> nn.Sequential:
    """A model that adds one digit to what it has written so far: (n, 20) -> (n, 10)."""
    model = perceptron([20, 64, 10], nn.ReLU, rng)
    adam = torch.optim.Adam(model.parameters(), lr=RATE, fused=True)
    for _ in range(200):
        a, b = torch.randint(10, (2, BATCH), generator=rng)
        descend(adam, cross_entropy(model(torch.cat([one_hot(a, 10), one_hot(b, 10)], dim=1).float()), (a + b) % 10))
    return model


@torch.no_grad()
def think(model: nn.Sequential, digits: Tensor) -> Tensor:
    """Write the sum digit by digit: every partial sum is read again at the next step, (n, 6) -> (n,)."""
    total = torch.zeros(len(digits), dtype=torch.long)
    for place in range(digits.shape[1]):
        there = digits[:, place] != NOTHING
        pair = torch.cat([one_hot(total, 10), one_hot(digits[:, place] % 10, 10)], dim=1).float()
        total = torch.where(there, model(pair).argmax(dim=1), total)
    return total


def learn(signs: Tensor, signal: Tensor) -> Tensor:
    """Logistic regression of a signal (n,) on what the router sees (n, 16): weights (16,), a little drawn to zero."""
    weights = nn.Parameter(torch.zeros(signs.shape[1]))
    newton = torch.optim.LBFGS([weights], max_iter=50)

    def loss() -> Tensor:
        newton.zero_grad()
        value = (
            binary_cross_entropy_with_logits(signs @ weights, signal, reduction="sum") + 0.05 * weights.square().sum()
        )
        torch.autograd.backward(value)
        return value

    newton.step(loss)  # pyright: ignore[reportUnknownMemberType] (torch leaves it untyped)
    return weights.detach()


def route(error: Mapping[str, Tensor], threshold: float) -> list[str]:
    """For each request the cheapest model whose chance of an error is at most the threshold; else the thinking one.

    `error` has the chance (n,) by model, the cheapest model first.
    """
    chosen = ["thinking"] * len(next(iter(error.values())))
    for name in reversed(list(error)):
        fits: list[bool] = (error[name] <= threshold).numpy().tolist()
        chosen = [name if fit else before for fit, before in zip(fits, chosen, strict=True)]
    return chosen


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng = torch.Generator().manual_seed(params.seed)
    fast = list(HIDDEN)[4 - params.variants :]  # the cheapest first
    models = {name: train_fast(HIDDEN[name], rng) for name in fast}
    tick(0.5, "fast models")
    stepper = train_step(rng)
    past, test = Requests(params.requests, rng), Requests(TESTED, rng)

    def right(requests: Requests) -> dict[str, Tensor]:
        with torch.no_grad():
            said = {name: model(encode(requests.digits)).argmax(dim=1) for name, model in models.items()}
        said["thinking"] = think(stepper, requests.digits)
        return {name: guess == requests.answer for name, guess in said.items()}

    was_right, is_right = right(past), right(test)
    cost = {name: torch.full((TESTED,), PRICES[name]) for name in fast} | {
        "thinking": (PLAN + test.length) * PRICES["thinking"]
    }
    luck = torch.rand(params.requests, generator=rng)

    def signal(name: str) -> Tensor:
        """What is taken for an error of a model in the past, (requests,)."""
        if params.signal == "complexity":
            return ((past.length > EASY) | past.asks_to_think).float()
        wrong = ~was_right[name]
        return (wrong if params.signal == "correctness" else luck < torch.where(wrong, SWITCHES, WHIMS)).float()

    def chance_of_error(name: str, seen: int) -> Tensor:
        weights = learn(past.signs[:seen], signal(name)[:seen])
        return torch.sigmoid(test.signs @ weights)

    error = {name: chance_of_error(name, params.requests) for name in fast}
    chosen = route(error, params.threshold)
    names = [*fast, "thinking"]
    picks = torch.tensor([names.index(name) for name in chosen])
    rows = torch.arange(TESTED)
    routed_right = torch.stack([is_right[name] for name in names])[picks, rows].float()
    routed_cost = torch.stack([cost[name] for name in names])[picks, rows].mean().item()
    alone = {name: (cost[name].mean().item(), is_right[name].float().mean().item()) for name in names}

    def mixed(spent: float) -> float:
        """Accuracy of a coin between main and thinking that spends as much as this."""
        (low, poor), (high, good) = alone["main"], alone["thinking"]
        return poor + (good - poor) * min(1.0, max(0.0, (spent - low) / (high - low)))

    blocks = list(range(BLOCK, params.requests + 1, BLOCK))
    curve = list[float]()  # the most doubtful half goes deep, whatever it costs the threshold
    for seen in blocks:
        doubt = chance_of_error("main", seen) + 1e-6 * torch.rand(TESTED, generator=rng)
        deep = doubt >= doubt.quantile(1 - DEEP_SHARE)
        curve.append(torch.where(deep, is_right["thinking"], is_right["main"]).float().mean().item())
    tick(1.0, "router")
    quarter = max(1, len(curve) // 4)
    accuracy, deep = routed_right.mean().item(), picks == len(fast)
    easy, hard = test.length <= EASY, test.length >= HARD
    shown: list[list[Cell]] = [
        [" + ".join(str(digit) for digit in test.digits[row].numpy().tolist() if digit != NOTHING),
         "think hard" if test.asks_to_think[row] else "", error["main"][row].item(), chosen[row],
         "right" if routed_right[row] else "wrong"]
        for row in range(10)
    ]  # fmt: skip
    return Result(
        metrics=[
            Metric("accuracy of the router", accuracy),
            Metric("cost of the router", routed_cost, "words"),
            Metric("accuracy of main", alone["main"][1]),
            Metric("accuracy of thinking", alone["thinking"][1]),
            Metric("cost of thinking", alone["thinking"][0], "words"),
        ],
        claims=[
            Claim("Choosing beats a coin: accuracy, less that of a random mix of main and thinking at equal cost",
                  accuracy - mixed(routed_cost), ">=", 0.05),
            Claim("Easy requests go to a fast model: share", (~deep)[easy].float().mean().item(), ">=", 0.8),
            Claim("Hard requests are thought about: share", deep[hard].float().mean().item(), ">=", 0.8),
            Claim("It learns on the job: accuracy at fixed cost in the last quarter, less in the first",
                  sum(curve[-quarter:]) / quarter - curve[0], ">=", 0.015),
        ],
        figures=[
            Scatter("Cost and quality", "words paid for each request", "share right",
                    {name: [point] for name, point in alone.items()} | {"router": [(routed_cost, accuracy)]}),
            Lines("Accuracy at fixed cost", "requests seen", "share right", blocks, {"router": curve}),
            Lines("By length", "digits", "share right", list(range(1, LONGEST + 1)), {
                name: [hits[test.length == n].float().mean().item() for n in range(1, LONGEST + 1)]
                for name, hits in is_right.items()
            }),
        ],
        tables=[
            Table("Routes", ["request", "plea", "chance of main's error", "sent to", "answer"], shown),
            Table("Models", ["model", "words paid", "share right", "share of requests"], [
                [name, *alone[name], (picks == number).float().mean().item()] for number, name in enumerate(names)
            ]),
        ],
    )  # fmt: skip
