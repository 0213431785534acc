"""Searching over thoughts: reach the target number

Question: What can search add to a model's first guess?
Source: Yao et al. 2023 (Tree of Thoughts), arXiv:2305.10601, §3, Algorithm 1 (breadth-first search), §4.1 (Game of 24);
  a network that reads a set: Zaheer et al. 2017 (Deep Sets), arXiv:1703.06114, eq. (2).
Watch: a thought combines two of the numbers left. The network that judges thoughts is often wrong about the best one
  and seldom about the best five: what greedy play throws away at the first step, a beam still holds.
"""

import itertools
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import cache
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from demos.contract import Bars, Claim, DemoParams, Lines, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.perceptron import perceptron

NUMBERS, HIGHEST = 4, 9  # a puzzle is four numbers from 1 to 9
LOWEST_KNOWN, HIGHEST_KNOWN = -20, 60  # numbers that the network tells apart
WIDTH, BATCH = 64, 512

State = tuple[Fraction, ...]  # the numbers that are left, ascending


class Params(DemoParams):
    breadth: int = Field(5, ge=1, le=20, description="States that are kept on each level")
    target: int = Field(24, ge=1, le=50, description="Number to reach")
    steps: int = Field(300, ge=0, le=1000, description="Training steps of the network that judges states")
    seed: int = Field(0, ge=0, le=9999, description="Seed of the split into puzzles to learn from and to solve")

    presets: ClassVar[Mapping[str, Preset]] = {
        "no search": Preset("Breadth 1 is greedy play: nothing is gained", {"breadth": 1}),
        "judged by nobody": Preset(
            "Search is as good as the judge: an untrained one keeps the wrong states", {"steps": 0}
        ),
        "wide": Preset("Twenty states a level: nearly all that can be solved", {"breadth": 20}),
    }


@cache
def thoughts(state: State) -> Mapping[State, str]:
    """The states one step on, each with the step: two of the numbers make one, by +, ×, − or ÷."""
    reached: dict[State, str] = {}
    for i, j in itertools.combinations(range(len(state)), 2):
        a, b = state[i], state[j]
        rest = [number for k, number in enumerate(state) if k not in (i, j)]
        results = [(a + b, f"{a} + {b}"), (a * b, f"{a} × {b}"), (a - b, f"{a} − {b}"), (b - a, f"{b} − {a}")]
        results += [(a / b, f"{a} ÷ {b}")] if b else []
        results += [(b / a, f"{b} ÷ {a}")] if a else []
        for result, step in results:
            reached.setdefault(tuple(sorted([*rest, result])), f"{step} = {result}")
    return reached


@cache
def solvable(state: State, target: int) -> bool:
    """Whether some steps lead from a state to the target: exhaustive, with exact fractions."""
    if len(state) == 1:
        return state[0] == target
    return any(solvable(reached, target) for reached in thoughts(state))


def encode(states: Sequence[State]) -> Tensor:
    """How often each known number is left in a state, and how many others: (N, 82). The order says nothing."""
    counts = torch.zeros(len(states), HIGHEST_KNOWN - LOWEST_KNOWN + 2)
    for row, state in enumerate(states):
        for number in state:
            known = number.denominator == 1 and LOWEST_KNOWN <= number <= HIGHEST_KNOWN
            counts[row, int(number) - LOWEST_KNOWN if known else -1] += 1
    return counts


def train(puzzles: Sequence[State], params: Params, tick: Tick) -> nn.Sequential:
    """Learn to tell which states can still reach the target, from all states of some puzzles: ρ(Σ φ(x)) of Deep Sets.

    The first layer's columns are φ of each number, so its product with the counts is the sum over the set.
    """
    rng = torch.Generator().manual_seed(2 * params.seed + 1)
    model = perceptron([HIGHEST_KNOWN - LOWEST_KNOWN + 2, WIDTH, WIDTH, 1], nn.ReLU, rng)
    threes = dict.fromkeys(state for puzzle in puzzles for state in thoughts(puzzle))
    states = [*threes, *dict.fromkeys(two for three in threes for two in thoughts(three))]
    x = encode(states)
    y = torch.tensor([[float(solvable(state, params.target))] for state in states])  # (N, 1)
    adam = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.1, fused=True)
    for step in range(params.steps):
        some = torch.randint(len(states), (BATCH,), generator=rng)
        loss = nn.functional.binary_cross_entropy_with_logits(model(x[some]), y[some])
        descend(adam, loss)
        if step % 20 == 0:
            tick(0.8 * step / params.steps, f"step {step}", loss=loss.item())
    return model


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Take one step down the gradient of the loss."""
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()


@torch.no_grad()
def judge(model: nn.Module, states: Sequence[State]) -> list[float]:
    """Logit of each state's chance to reach the target."""
    return model(encode(states))[:, 0].numpy().tolist()


def search(model: nn.Module, puzzle: State, breadth: int, target: int) -> tuple[list[State] | None, list[list[State]]]:
    """Algorithm 1: think, judge, keep the best `breadth`. A solution's states, or None, and what each level kept."""
    before: dict[State, State] = {}
    kept, levels = [puzzle], list[list[State]]()
    for _ in range(len(puzzle) - 2):
        for state in kept:
            for reached in thoughts(state):
                before.setdefault(reached, state)
        reached = list(dict.fromkeys(reached for state in kept for reached in thoughts(state)))
        logits = judge(model, reached)
        kept = [reached[n] for n in sorted(range(len(reached)), key=lambda n: -logits[n])[:breadth]]
        levels.append(kept)
    goal: State = (Fraction(target),)
    for state in kept:
        if goal in thoughts(state):  # one number is left: nothing to judge, it is the target or not
            way = [goal, state]
            while way[-1] != puzzle:
                way.append(before[way[-1]])
            return way[::-1], levels
    return None, levels


def guess(model: nn.Module, puzzle: State, chains: int, target: int, rng: torch.Generator) -> bool:
    """Whether one of some chains of thought ends at the target: each step drawn by its odds, nothing taken back."""
    for _ in range(chains):
        state = puzzle
        while len(state) > 2:
            reached = list(thoughts(state))
            odds = torch.tensor(judge(model, reached)).softmax(dim=0)
            state = reached[int(torch.multinomial(odds, 1, generator=rng))]
        if (Fraction(target),) in thoughts(state):
            return True
    return False


def steps_of(way: Sequence[State]) -> list[str]:
    """The steps between the states of a solution."""
    return [thoughts(state)[reached] for state, reached in itertools.pairwise(way)]


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng = torch.Generator().manual_seed(2 * params.seed)
    numbers = [Fraction(n) for n in range(1, HIGHEST + 1)]
    puzzles = list(itertools.combinations_with_replacement(numbers, NUMBERS))
    order = [puzzles[n] for n in torch.randperm(len(puzzles), generator=rng)]
    known, new = order[: len(order) // 2], order[len(order) // 2 :]
    model = train(known, params, tick)

    widths = sorted({1, 2, 3, 5, 10, 20, params.breadth})
    solved = dict[int, list[list[State]]]()
    for done, width in enumerate(widths):
        ways = [search(model, puzzle, width, params.target)[0] for puzzle in new]
        solved[width] = [way for way in ways if way is not None]
        tick(0.8 + 0.2 * (done + 1) / len(widths), f"breadth {width}")
    possible = [puzzle for puzzle in new if solvable(puzzle, params.target)]
    share = {width: len(ways) / max(1, len(possible)) for width, ways in solved.items()}
    chained = sum(guess(model, puzzle, params.breadth, params.target, rng) for puzzle in possible)
    by_chains = chained / max(1, len(possible))
    right = [way[-1] == (params.target,) and all(b in thoughts(a) for a, b in itertools.pairwise(way))
             for ways in solved.values() for way in ways]  # fmt: skip
    gained = [way for way in solved[params.breadth] if way[0] not in {other[0] for other in solved[1]}]
    first = next(iter(gained or solved[params.breadth]), None)
    tree = search(model, first[0], params.breadth, params.target)[1][0] if first else []
    twos = [state for puzzle in possible for state in thoughts(puzzle)]
    hit = [(logit > 0) == solvable(state, params.target)
           for state, logit in zip(twos, judge(model, twos), strict=True)]  # fmt: skip
    return Result(
        metrics=[
            Metric("solved by search", share[params.breadth]),
            Metric("solved greedily", share[1]),
            Metric("solved by as many chains", by_chains),
            Metric("puzzles to solve", len(possible)),
            Metric("first thoughts judged right", sum(hit) / max(1, len(hit))),
        ],
        claims=[
            Claim("Search adds to the first guess: share solved by the beam, less greedy play",
                  share[params.breadth] - share[1], ">=", 0.15),
            Claim("Each answer is one: share of reported solutions whose steps make the target in exact fractions",
                  sum(right) / max(1, len(right)), "==", 1.0),
            Claim("A beam finds at most what an exhaustive search finds: share of it at the widest",
                  max(share.values()), "<=", 1.0),
            Claim("A wider beam helps: share solved with 20 states a level", share[20], ">=", 0.8),
        ],
        figures=[
            Lines("Puzzles solved, of those that can be", x="states kept on each level", y="share", at=widths,
                  series={"beam": [share[width] for width in widths]}, log="x"),
            Bars("First thoughts kept for one puzzle", x="numbers left", y="logit of the judge",
                 labels=[", ".join(map(str, state)) for state in tree], series={"logit": judge(model, tree)}),
        ],
        tables=[
            Table("How they were solved", ["numbers", "steps"],
                  [[" ".join(map(str, way[0])), "; ".join(steps_of(way))] for way in gained[:6]]),
            Table("The tree for one puzzle", ["first thought", "numbers left", "can reach the target"], [
                [thoughts(first[0])[state], ", ".join(map(str, state)), solvable(state, params.target)]
                for state in tree
            ] if first else []),
        ],
    )  # fmt: skip
