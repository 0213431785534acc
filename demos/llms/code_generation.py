"""Writing programs that pass their tests

Question: How can a language model write code, and how is it judged by running it?
Source: Chen et al. 2021, arXiv:2107.03374, eq. (1) (pass@k); filling the middle: Bavarian et al. 2022,
  arXiv:2207.14255; sampling many and running them: Li et al. 2022, arXiv:2203.07814; Austin et al. 2021,
  arXiv:2108.07732 (programs of a few lines from a description).
Watch: no text is compared with a model answer. A program is right if it does on ten inputs what was asked for, however
  it is written. One sampled try often fails where one of ten passes; and since anything may come out of a model, the
  interpreter counts its steps and stops a program that would run for ever.
"""

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy

from demos.contract import Cell, Claim, DemoParams, Lines, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.transformer import Transformer, extend, train

VERBS = {"add": "+", "subtract": "-", "times": "*", "double": "+", "square": "*"}  # in words, and its operation
DIGITS = [str(digit) for digit in range(1, 10)]
WORDS = [*VERBS, "it", "then", "after", ":", "_", ".", *DIGITS, "dup", "+", "-", "*", "again"]
NUMBER = {word: number for number, word in enumerate(WORDS)}
PARTS = 3  # steps of a program
INPUTS, LIMIT, LARGEST = range(-3, 7), 50, 10**9  # tests; steps and size at which the interpreter stops
LENGTH = {"write": 7, "complete": 3, "fix": 7, "explain": 9}  # words of an answer, with the end
WIDTH, LAYERS, HEADS, BATCH, RATE = 64, 2, 4, 64, 4e-3
LESSONS = 3000
PROBLEMS, STRANGE = 100, 2000  # unseen problems; programs of random words for the interpreter


class Params(DemoParams):
    task: Literal["write", "complete", "fix", "explain"] = Field("write", description="What is asked of the model")
    temperature: float = Field(0.8, ge=0.1, le=1.5, description="Of sampling")
    samples: int = Field(10, ge=1, le=50, description="Tries at each problem")
    steps: int = Field(60, ge=10, le=2000, description="Training steps of 64 problems")
    seed: int = Field(0, ge=0, le=9999, description="Seed of problems, weights and tries")

    presets: ClassVar[Mapping[str, Preset]] = {
        "complete": Preset("Fill the middle: a step is missing", {"task": "complete"}),
        "fix": Preset("Repair a program in which one word is wrong", {"task": "fix"}),
        "explain": Preset("From program to words, judged by running what the words say", {"task": "explain"}),
        "one try": Preset("A single sample: no second chance", {"samples": 1}),
        "barely trained": Preset("Twenty steps: programs that run and do something else", {"steps": 20}),
    }


def execute(program: Sequence[str], x: int) -> tuple[int | None, int]:
    """Run a program on a stack that holds x: the number left, None for an error, and the steps taken (≤ LIMIT).

    A digit is pushed, "dup" doubles the top, + − * take two; "again" goes back to the start unless the top is 0.
    """
    stack, place, steps = [x], 0, 0
    while place < len(program):
        if steps == LIMIT:
            return None, steps  # would it ever end? nobody can tell, so it is stopped
        word, steps, place = program[place], steps + 1, place + 1
        if word in DIGITS:
            stack.append(int(word))
        elif word == "dup" and stack:
            stack.append(stack[-1])
        elif word == "again" and stack:
            place = 0 if stack[-1] else place
        elif word in ("+", "-", "*") and len(stack) > 1:
            b, a = stack.pop(), stack.pop()
            stack.append({"+": a + b, "-": a - b, "*": a * b}[word])
            if abs(stack[-1]) > LARGEST:
                return None, steps
        else:
            return None, steps
    return (stack[0] if len(stack) == 1 else None), steps


def compiled(instruction: Sequence[str]) -> list[str]:
    """The program of "add 3 then double it then …", or, told backwards, "… after double it after add 3"; [] if none."""
    parts = [tuple(instruction[start : start + 2]) for start in range(0, 3 * PARTS, 3)]
    links = list(instruction[2::3])
    if len(instruction) != 3 * PARTS - 1 or links not in (["then"] * (PARTS - 1), ["after"] * (PARTS - 1)):
        return []
    program = list[str]()
    for verb, on in parts if links[0] == "then" else reversed(parts):
        if verb not in VERBS or (on == "it") != (verb in ("double", "square")) or on not in ("it", *DIGITS):
            return []
        program += ["dup" if on == "it" else on, VERBS[verb]]
    return program


def pick(words: Sequence[str], rng: torch.Generator) -> str:
    return words[int(torch.randint(len(words), (), generator=rng))]


def pose(unseen: bool, rng: torch.Generator) -> list[str]:
    """An instruction of three steps. Those that are kept from training are told by a remainder: a fifth of all."""
    while True:
        verbs = [pick(list(VERBS), rng) for _ in range(PARTS)]
        parts = [[verb, "it" if verb in ("double", "square") else pick(DIGITS, rng)] for verb in verbs]
        link = pick(["then", "after"], rng)
        words = [word for part in parts for word in (*part, link)][:-1]
        order = compiled(words)  # the same steps in the other wording are kept out with them
        if (sum((place + 1) * NUMBER[word] for place, word in enumerate(order)) % 5 == 0) == unseen:
            return words


def prompt(task: str, instruction: list[str], rng: torch.Generator) -> tuple[list[str], list[str], list[str]]:
    """What the model reads and what it is to write, and the program with its gap or its fault (where there is one)."""
    program = compiled(instruction)
    if task == "write":
        return [*instruction, ":"], [*program, "."], []
    if task == "explain":
        parts = [spoken(program[part : part + 2]) for part in range(0, 2 * PARTS, 2)]
        told = [word for part in parts for word in (*part, "then")][:-1]
        return [*program, ":"], [*told, "."], []
    start = 2 * int(torch.randint(PARTS, (), generator=rng))
    if task == "complete":
        gap = [*program[:start], "_", "_", *program[start + 2 :]]
        return [*instruction, ":", *gap, ":"], [*program[start : start + 2], "."], gap
    spot = start + int(torch.randint(2, (), generator=rng))
    other = [word for word in WORDS[WORDS.index("1") :] if word != program[spot]]
    fault = [*program[:spot], pick(other, rng), *program[spot + 1 :]]
    return [*instruction, ":", *fault, ":"], [*program, "."], fault


def spoken(step: Sequence[str]) -> list[str]:
    """The two words for a step of a program."""
    on, operation = step
    if on == "dup":
        return ["double" if operation == "+" else "square", "it"]
    return [{"+": "add", "-": "subtract", "*": "times"}[operation], on]


def teach(params: Params, rng: torch.Generator, tick: Tick) -> Transformer:
    """A model that learned to answer the prompts of its task, from LESSONS that were posed beforehand."""
    lessons = [prompt(params.task, pose(False, rng), rng)[:2] for _ in range(LESSONS)]
    asked, said = (torch.tensor([[NUMBER[word] for word in text[side]] for text in lessons]) for side in (0, 1))
    model = Transformer(len(WORDS), asked.shape[1] + said.shape[1], WIDTH, LAYERS, HEADS, rng, causal=True)

    def loss() -> Tensor:
        some = torch.randint(LESSONS, (BATCH,), generator=rng)
        logits = model(torch.cat([asked[some], said[some, :-1]], dim=1))[:, asked.shape[1] - 1 :]
        return cross_entropy(logits.flatten(0, 1), said[some].flatten())

    train(model, loss, params.steps, RATE,
          lambda step, value: tick(0.1 + 0.6 * step / params.steps, "training", loss=value))  # fmt: skip
    return model


def program_of(task: str, answer: list[str], flawed: list[str]) -> list[str]:
    """The program that an answer stands for: itself, or with the gap filled, or what its words compile to."""
    if task == "explain":
        return compiled(answer)
    if task == "complete":
        start = flawed.index("_")
        return [*flawed[:start], *answer, *flawed[start + 2 :]]
    return answer


def passed(program: Sequence[str], wanted: Sequence[str]) -> int:
    """How many tests a program passes: inputs for which it leaves what the wanted program leaves."""
    return sum(execute(program, x)[0] == execute(wanted, x)[0] for x in INPUTS)


def runs(program: Sequence[str]) -> bool:
    return all(execute(program, x)[0] is not None for x in INPUTS)


def pass_at(k: int, tries: int, right: int) -> float:
    """Eq. (1): the chance that one of k tries drawn from `tries`, `right` of which pass, passes."""
    return 1 - math.comb(tries - right, k) / math.comb(tries, k)


def answers(model: Transformer, asked: Tensor, count: int, temperature: float, rng: torch.Generator) -> list[list[str]]:
    """What the model writes after each prompt (n, L), up to the full stop."""
    rows: list[list[int]] = extend(model, asked, count, temperature, rng)[:, asked.shape[1] :].numpy().tolist()
    texts = [[WORDS[number] for number in row] for row in rows]
    return [text[: text.index(".")] if "." in text else text for text in texts]


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng = torch.Generator().manual_seed(params.seed)
    model = teach(params, rng, tick)
    instructions = [pose(True, rng) for _ in range(PROBLEMS)]
    prompts = [prompt(params.task, instruction, rng) for instruction in instructions]
    wanted = [compiled(instruction) for instruction in instructions]
    asked = torch.tensor([[NUMBER[word] for word in told] for told, _, _ in prompts])

    def programs(copies: int, temperature: float) -> list[list[str]]:
        texts = answers(model, asked.repeat_interleave(copies, dim=0), LENGTH[params.task], temperature, rng)
        return [program_of(params.task, text, prompts[place // copies][2]) for place, text in enumerate(texts)]

    greedy = programs(1, 0.0)
    tick(0.75, "tries")
    n = params.samples
    tried = programs(n, params.temperature)
    tests = len(INPUTS)
    won = [passed(program, right) == tests for program, right in zip(greedy, wanted, strict=True)]
    wins = [
        sum(passed(program, right) == tests for program in tried[place * n : (place + 1) * n])
        for place, right in enumerate(wanted)
    ]
    curve = [sum(pass_at(k, n, right) for right in wins) / PROBLEMS for k in range(1, n + 1)]
    tick(0.9, "strange programs")
    strange = [[pick(WORDS[WORDS.index("1") :], rng) for _ in range(8)] for _ in range(STRANGE)]
    strange += [["dup", "again"], ["again"] * 3]  # two that would never end
    taken = [execute(program, 1)[1] for program in strange]
    worst = sorted(range(PROBLEMS), key=lambda place: (wins[place], place))
    rows: list[list[Cell]] = []
    for place in (*worst[:3], *worst[-3:]):
        first = tried[place * n]
        rows.append([" ".join(prompts[place][0]), " ".join(first) or "none", passed(first, wanted[place]), wins[place]])
    return Result(
        metrics=[
            Metric("pass@1, greedy", sum(won) / PROBLEMS),
            Metric("pass@1, sampled", curve[0]),
            Metric("pass with all tries", curve[-1]),
            Metric("tries that run without an error", sum(map(runs, tried)) / len(tried)),
            Metric("random programs stopped by the step limit", float(sum(steps == LIMIT for steps in taken))),
        ],
        claims=[
            Claim("The best guess runs: share of greedy answers that run without an error",
                  sum(map(runs, greedy)) / PROBLEMS, ">=", 0.95),
            Claim("It does what was asked: share of unseen problems whose best guess passes all tests",
                  sum(won) / PROBLEMS, ">=", 0.6),
            Claim("Several tries help: share with one that passes among all tries, less that of a single one",
                  curve[-1] - curve[0], ">=", 0.03),
            Claim("No program runs away: most steps that one of 2,002 strange programs took", max(taken), "<=", 50),
        ],
        figures=[
            Lines("Problems solved with k tries", "k", "pass@k", list(range(1, n + 1)), {params.task: curve}),
        ],
        tables=[
            Table(f"First of {n} tries: the three hardest problems, and three others",
                  ["prompt", "program", f"tests passed of {tests}", f"tries that pass of {n}"], rows),
        ],
    )  # fmt: skip
