"""Reason and act: a model that calls tools

Question: How does a language model use a calculator or a lookup it does not contain?
Source: Yao et al. 2022, arXiv:2210.03629 (thought, action, observation); Schick et al. 2023, arXiv:2302.04761 (calls
  written as text, results put back into it).
Watch: both models see the same questions in training. The one that answers from its weights knows the prices of that
  time and the sums it met. The other learned to write a call and to read what comes back: larger sums and new prices
  are no harder for it, and a changed table changes its answers without any training.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy

from demos.contract import Bars, Cell, Claim, DemoParams, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.transformer import Transformer, extend, train

GOODS = ["tea", "oil", "rice", "salt", "wool", "silk", "coal", "corn", "milk", "wine", "soap", "rope"]
THOUGHTS = {"look": "unknown:", "calculate": "add:", "say": "known:"}  # the thought before each kind of action
WORDS = [*"0123456789", "+", "?", "_", "price", *THOUGHTS, *THOUGHTS.values(), *GOODS]
NUMBER = {word: number for number, word in enumerate(WORDS)}
ASKED, ACT, SEEN = 6, 7, 2  # words of a question, of a thought with its action, and of an observation
KINDS = ["sum", "price", "sum of prices"]
TAUGHT, LARGEST = 79, 99  # sums up to 79 are in training; tests ask for larger ones
WIDTH, LAYERS, HEADS, BATCH, RATE, LESSONS, TESTED = 64, 2, 4, 48, 4e-3, 1500, 100


class Params(DemoParams):
    tools: Literal["none", "calculator", "lookup", "both"] = Field("both", description="Tools that are offered")
    max_turns: int = Field(4, ge=1, le=8, description="Actions until the loop is ended, the answer among them")
    steps: int = Field(280, ge=100, le=2000, description="Training steps of 48 transcripts, for each model")
    seed: int = Field(0, ge=0, le=9999, description="Seed of tables, questions and weights")

    presets: ClassVar[Mapping[str, Preset]] = {
        "no tools": Preset("All from the weights: larger sums and new prices are guessed", {"tools": "none"}),
        "calculator": Preset("Sums alone", {"tools": "calculator"}),
        "lookup": Preset("Prices alone", {"tools": "lookup"}),
        "two turns": Preset("The loop ends before the sum of two prices is known", {"max_turns": 2}),
    }


@dataclass(frozen=True, slots=True)
class Task:
    """A question in words, the actions that answer it, what each lets one see, and the right answer."""

    kind: str
    words: list[str]
    actions: list[list[str]]
    seen: list[list[str]]
    answer: int


def two(value: int) -> list[str]:
    """A number as two digits."""
    return list(f"{value:02d}")


def act(verb: str, *words: str) -> list[str]:
    """A thought and an action, ACT words."""
    return [THOUGHTS[verb], verb, *words, *["_"] * (ACT - 2 - len(words))]


def draw(high: int, rng: torch.Generator) -> int:
    return int(torch.randint(high, (), generator=rng))


def pose(kind: str, table: Mapping[str, int], large: bool, rng: torch.Generator) -> Task:
    """A question about two numbers, of which a large one has a sum over TAUGHT, or about prices in the table."""
    first, second = GOODS[draw(len(GOODS), rng)], GOODS[draw(len(GOODS), rng)]
    if kind == "price":
        value = table[first]
        return Task(kind, ["price", first, "?", "_", "_", "_"],
                    [act("look", first), act("say", *two(value))], [two(value)], value)  # fmt: skip
    if kind == "sum of prices":
        a, b = table[first], table[second]
        words, looks = ["price", first, "+", "price", second, "?"], [act("look", first), act("look", second)]
    else:
        total = TAUGHT + 1 + draw(LARGEST - TAUGHT, rng) if large else draw(TAUGHT + 1, rng)
        a = draw(total + 1, rng)
        b, looks = total - a, list[list[str]]()
        words = [*two(a), "+", *two(b), "?"]
    actions = [*looks, act("calculate", *two(a), "+", *two(b)), act("say", *two(a + b))]
    return Task(kind, words, actions, [two(value) for value in ((a, b, a + b) if looks else (a + b,))], a + b)


def observe(action: Sequence[str], table: Mapping[str, int], tools: str) -> list[str]:
    """What a tool returns, in two words; "_ _" where it is not offered or the action is malformed."""
    verb, *words = action[1:]
    if verb == "look" and tools in ("lookup", "both") and words[0] in table and words[1:] == ["_"] * 4:
        return two(table[words[0]])
    digits = [*words[:2], *words[3:]]
    if verb == "calculate" and tools in ("calculator", "both") and words[2] == "+" and all(map(str.isdigit, digits)):
        return two((int("".join(words[:2])) + int("".join(words[3:]))) % 100)
    return ["_", "_"]


def teach(tools: bool, table: Mapping[str, int], params: Params, tick: Tick) -> Transformer:
    """A model of transcripts. With tools every lesson has a table of its own; without, `table` holds and is learned."""
    rng = torch.Generator().manual_seed(params.seed)
    lessons = dict[str, tuple[Tensor, Tensor]]()
    for kind in KINDS:
        rows, counts = list[list[int]](), list[bool]()
        for _ in range(LESSONS):
            task = pose(kind, prices(rng, 100 if kind == "price" else 50) if tools else table, False, rng)
            words, counts = list(task.words), [False] * ASKED
            for action, seen in zip(task.actions if tools else task.actions[-1:], [*task.seen, []], strict=False):
                words, counts = [*words, *action], counts + [True] * ACT
                if tools and action[1] != "say":
                    words, counts = [*words, *seen], counts + [False] * SEEN  # a tool writes this, not the model
            rows.append([NUMBER[word] for word in words])
        lessons[kind] = torch.tensor(rows), torch.tensor(counts)
    model = Transformer(len(WORDS), ASKED + 8 * (ACT + SEEN), WIDTH, LAYERS, HEADS, rng, causal=True)

    def loss() -> Tensor:
        rows, counts = lessons[KINDS[draw(len(KINDS), rng)]]
        some = rows[torch.randint(LESSONS, (BATCH,), generator=rng)]
        return cross_entropy(model(some[:, :-1])[:, counts[1:]].flatten(0, 1), some[:, counts].flatten())

    done = 0.45 * tools
    train(model, loss, params.steps, RATE,
          lambda step, value: tick(done + 0.45 * step / params.steps, "training", loss=value))  # fmt: skip
    return model


def prices(rng: torch.Generator, high: int = 50) -> dict[str, int]:
    """A table at random, of prices under `high`; two under 50 add up to two digits."""
    drawn: list[int] = torch.randint(high, (len(GOODS),), generator=rng).numpy().tolist()
    return dict(zip(GOODS, drawn, strict=True))


@dataclass(frozen=True, slots=True)
class Transcript:
    """The turns, each an action and what came back, and the answer (−1 if there is none)."""

    turns: list[tuple[list[str], list[str]]]
    answer: int


def loop(
    model: Transformer, tasks: Sequence[Task], table: Mapping[str, int], tools: str, max_turns: int
) -> list[Transcript]:
    """Thought, action, observation, again and again, until the model says its answer or max_turns are over.

    All tasks take their turns together; one that has its answer is not written on.
    """
    texts = [[NUMBER[word] for word in task.words] for task in tasks]
    found = [Transcript([], -1) for _ in tasks]
    going = list(range(len(tasks)))
    for _ in range(max_turns):
        if not going:
            break
        asked = torch.tensor([texts[place] for place in going])
        rows: list[list[int]] = extend(model, asked, ACT, 0.0, torch.Generator())[:, -ACT:].numpy().tolist()
        for place, row in zip(list(going), rows, strict=True):
            action = [WORDS[number] for number in row]
            if action[1] == "say":
                digits = "".join(action[2:4])
                found[place] = Transcript([*found[place].turns, (action, [])], int(digits) if digits.isdigit() else -1)
                going.remove(place)
            else:
                seen = observe(action, table, tools)
                found[place] = Transcript([*found[place].turns, (action, seen)], -1)
                texts[place] = [*texts[place], *row, *(NUMBER[word] for word in seen)]
    return found


def spell(words: Sequence[str]) -> str:
    return " ".join(word for word in words if word != "_")


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng = torch.Generator().manual_seed(params.seed + 10_000)
    old, new = prices(rng), prices(rng)
    alone, agent = teach(False, old, params, tick), teach(True, old, params, tick)
    tasks = {kind: [pose(kind, new, True, rng) for _ in range(TESTED)] for kind in KINDS}
    served = {"calculator": KINDS[:1], "lookup": KINDS[1:2]}.get(params.tools, KINDS)

    def right(found: Sequence[Transcript], asked: Sequence[Task]) -> float:
        return sum(one.answer == task.answer for one, task in zip(found, asked, strict=True)) / len(asked)

    by_hand = {kind: loop(alone, asked, new, "none", 1) for kind, asked in tasks.items()}
    by_tool = {kind: loop(agent, asked, new, params.tools, params.max_turns) for kind, asked in tasks.items()}
    used = by_hand if params.tools == "none" else by_tool
    accuracy = sum(right(used[kind], tasks[kind]) for kind in served) / len(served)
    without = sum(right(by_hand[kind], tasks[kind]) for kind in served) / len(served)
    tick(0.95, "a changed table")
    moved = {good: (price + 7) % 50 for good, price in new.items()}
    again = loop(agent, tasks["price"], moved, params.tools, params.max_turns)
    follows = sum(one.answer == moved[task.words[1]] for one, task in zip(again, tasks["price"], strict=True)) / TESTED
    wild = Transformer(len(WORDS), ASKED + 8 * (ACT + SEEN), WIDTH, LAYERS, HEADS, rng, causal=True)
    turns = [len(one.turns) for one in loop(wild, tasks["sum"], new, "both", params.max_turns)]
    rows: list[list[Cell]] = []
    for kind in KINDS:
        told = [
            spell(action) + (f" → {spell(seen) or 'refused'}" if seen else "") for action, seen in used[kind][0].turns
        ]
        rows.append([spell(tasks[kind][0].words), "; ".join(told), used[kind][0].answer, tasks[kind][0].answer])
    return Result(
        metrics=[
            Metric("accuracy", accuracy),
            Metric("accuracy without tools", without),
            Metric("answers that follow a changed table", follows),
            Metric("most turns of an untrained model", float(max(turns))),
        ],
        claims=[
            Claim("With tools larger sums and new prices are no harder: share right", accuracy, ">=", 0.85),
            Claim("From the weights they are guessed: share right of the same questions", without, "<=", 0.3),
            Claim("A changed table changes the answers, with no training: share that follow it", follows, ">=", 0.95),
            Claim("The loop ends, whatever a model writes: turns of an untrained one beyond the limit",
                  max(turns) - params.max_turns, "<=", 0),
        ],
        figures=[
            Bars("Right answers", x="question", y="share right", labels=KINDS, series={
                "from the weights": [right(by_hand[kind], tasks[kind]) for kind in KINDS],
                f"with tools: {params.tools}": [right(by_tool[kind], tasks[kind]) for kind in KINDS]}),
        ],
        tables=[Table("Transcripts: thought, action → observation", ["question", "turns", "answer", "right"], rows)],
    )  # fmt: skip
