"""A prompt laboratory: instructions, examples, format, role

Question: Which parts of a prompt actually change what a model does?
Source: Radford et al. 2019 (GPT-2: a task named in the text, no weights changed); Brown et al. 2020 (GPT-3),
  arXiv:2005.14165, §2 (zero, one and few examples); Wei et al. 2022 (FLAN), arXiv:2109.01652 (instructions).
Watch: one set of weights copies, reverses, counts and extracts, and only the prompt says which. A vague instruction
  leaves it guessing, and examples win back much of what it lost. Format and role change the form of the answer. And no
  wording replaces a fact that is missing.
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

TASKS = ["copy", "reverse", "upper", "count", "extract"]
LETTERS, DIGITS = list("abcde"), list("0123456789")
UPPER = [letter.upper() for letter in LETTERS]
OPEN, CLOSE, END = "<answer>", "</answer>", "[end]"
SIGNS = [END, OPEN, CLOSE, ":", ";", ".", "by", "do", "tagged", "teacher", "terse", "fact", "what", "is", "now"]
WORDS = [*SIGNS, *TASKS, *LETTERS, *UPPER, *DIGITS]
ID = {word: number for number, word in enumerate(WORDS)}
MOST_EXAMPLES, PROMPT, SAID = 4, 40, 10  # of a prompt; words of a text; words that are generated
D, LAYERS, HEADS, BATCH, RATE = 64, 2, 4, 24, 4e-3
TEXTS, CASES = 12_000, 16  # of the training; of each task in a row of the ablation


@dataclass(frozen=True)
class Prompt:
    """The parts of a prompt that can be switched on and off."""

    instruction: str = "clear"  # none, vague or clear
    examples: int = 0
    output_format: str = "plain"  # plain or tagged
    role: str = "none"  # none, teacher or terse
    context_given: bool = True


class Params(DemoParams):
    instruction: Literal["none", "vague", "clear"] = Field(
        "clear", description='No instruction, "do", or the task\'s name'
    )
    examples: int = Field(0, ge=0, le=4, description="Worked examples in the prompt")
    output_format: Literal["plain", "tagged"] = Field("plain", description="Ask for <answer> … </answer>")
    role: Literal["none", "teacher", "terse"] = Field("none", description="Who the model is to be")
    context_given: bool = Field(True, description="Give the fact that a question is about")
    steps: int = Field(700, ge=100, le=3000, description="Training steps of the one model")
    seed: int = Field(0, ge=0, le=9999, description="Seed of texts and weights")

    presets: ClassVar[Mapping[str, Preset]] = {
        "vague": Preset('"do": the model has to guess which of five tasks is meant', {"instruction": "vague"}),
        "vague, with examples": Preset(
            "Three examples say what the instruction does not", {"instruction": "vague", "examples": 3}
        ),
        "tagged": Preset("Answers that a program can read", {"output_format": "tagged"}),
        "teacher": Preset("The answer comes with the name of what was done", {"role": "teacher"}),
        "no context": Preset("A question about a fact that is not given", {"context_given": False}),
    }

    def prompt(self) -> Prompt:
        return Prompt(self.instruction, self.examples, self.output_format, self.role, self.context_given)


def solve(task: str, given: Sequence[str]) -> list[str]:
    """The right answer: count the a's, extract the digit, or change all items."""
    match task:
        case "reverse":
            return list(reversed(given))
        case "upper":
            return [item.upper() for item in given]
        case "count":
            return [str(given.count("a"))]
        case "extract":
            return [item for item in given if item in DIGITS]
        case _:
            return list(given)


def draw(choices: Sequence[str], rng: torch.Generator) -> str:
    return choices[int(torch.randint(len(choices), (), generator=rng))]


def draw_input(rng: torch.Generator) -> list[str]:
    """Two letters and a digit; every third letter is an a, so that there is something to count."""
    items = [draw([*LETTERS, "a", "a"], rng), draw([*LETTERS, "a", "a"], rng)]
    items.insert(int(torch.randint(3, (), generator=rng)), draw(DIGITS, rng))
    return items


def write(task: str, prompt: Prompt, rng: torch.Generator) -> tuple[list[str], list[str], list[str]]:
    """A prompt, what the model is to say, and the bare answer.

    [role] [tagged] [instruction] (input : answer ;)* now input :
    [role] [tagged] [fact letter is digit .] what letter :
    """
    words = [prompt.role] * (prompt.role != "none") + [prompt.output_format] * (prompt.output_format == "tagged")
    if task == "fact":
        letter, answer = draw(LETTERS, rng), [draw(DIGITS, rng)]
        words += ["fact", letter, "is", *answer, "."] * prompt.context_given + ["what", letter, ":"]
        done = []
    else:
        words += {"none": [], "vague": ["do"], "clear": [task]}[prompt.instruction]
        for _ in range(prompt.examples):
            given = draw_input(rng)
            words += [*given, ":", *solve(task, given), ";"]
        given = draw_input(rng)
        words, answer, done = [*words, "now", *given, ":"], solve(task, given), [task]
    said = [OPEN, *answer, CLOSE] if prompt.output_format == "tagged" else answer
    ending = {"none": ["."], "terse": [], "teacher": [".", "by", *done]}[prompt.role]
    return words, [*said, *ending, END], answer


def draw_prompt(rng: torch.Generator) -> Prompt:
    """Any mixture of parts; the fact is always given."""
    return Prompt(
        draw(["none", "vague", "clear"], rng),
        int(torch.randint(MOST_EXAMPLES + 1, (), generator=rng)),
        draw(["plain", "tagged"], rng),
        draw(["none", "teacher", "terse"], rng),
    )


def encode(prompts: Sequence[Sequence[str]]) -> Tensor:
    """Word numbers (prompts, PROMPT), each prompt at the end of its row, after as many [end] as it takes."""
    return torch.tensor([[ID[END]] * (PROMPT - len(words)) + [ID[word] for word in words] for words in prompts])


def pad(answers: Sequence[Sequence[str]]) -> Tensor:
    """Word numbers (answers, SAID), [end] after each."""
    return torch.tensor([[ID[word] for word in said] + [ID[END]] * (SAID - len(said)) for said in answers])


def train_model(params: Params, rng: torch.Generator, tick: Tick) -> Transformer:
    """One model for all prompts; the loss is on every word of a text, up to its [end]."""
    texts = [write(draw([*TASKS, "fact"], rng), draw_prompt(rng), rng) for _ in range(TEXTS)]
    rows = torch.cat([encode([words for words, _, _ in texts]), pad([said for _, said, _ in texts])], dim=1)
    place = torch.arange(1, rows.shape[1])
    begins = PROMPT - torch.tensor([len(words) for words, _, _ in texts])[:, None]
    ends = PROMPT + torch.tensor([len(said) for _, said, _ in texts])[:, None]
    counts = (place > begins) & (place < ends)  # (TEXTS, PROMPT + SAID - 1)
    model = Transformer(len(WORDS), PROMPT + SAID, D, LAYERS, HEADS, rng, causal=True)

    def loss() -> Tensor:
        some = torch.randint(TEXTS, (BATCH,), generator=rng)
        return cross_entropy(model(rows[some, :-1])[counts[some]], rows[some, 1:][counts[some]])

    train(model, loss, params.steps, RATE, lambda step, value: tick(0.8 * step / params.steps, "training", loss=value))
    return model


@dataclass(frozen=True)
class Score:
    """Over cases of a prompt form: shares right and in the form that was asked for; mean words said."""

    accuracy: float
    parsable: float
    words: float
    example: tuple[str, str, str]  # prompt, what was said, right answer


def parse(said: Sequence[str]) -> tuple[list[str], bool]:
    """The answer in what was said, and whether it stands in tags; without tags it ends at the first full stop."""
    if said and said[0] == OPEN and CLOSE in said:
        return list(said[1 : said.index(CLOSE)]), True
    return list(said[: said.index(".")] if "." in said else said), False


def measure(model: Transformer, prompt: Prompt, tasks: Sequence[str], rng: torch.Generator) -> Score:
    """Greedy answers to CASES prompts of each task."""
    right, tagged, count = 0, 0, 0
    example = ("", "", "")
    for task in tasks:
        cases = [write(task, prompt, rng) for _ in range(CASES)]
        prompts = encode([words for words, _, _ in cases])
        spoken: list[list[int]] = extend(model, prompts, SAID - 1, 0.0, rng)[:, PROMPT:].numpy().tolist()
        for (words, _, answer), numbers in zip(cases, spoken, strict=True):
            said = [WORDS[number] for number in numbers]
            said = said[: said.index(END)] if END in said else said
            given, in_tags = parse(said)
            right, tagged, count = right + (given == answer), tagged + in_tags, count + len(said)
            example = (" ".join(words), " ".join(said), " ".join(answer))
    total = len(tasks) * CASES
    return Score(right / total, tagged / total, count / total, example)


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng = torch.Generator().manual_seed(params.seed)
    model = train_model(params, rng, tick)
    forms = {
        "no instruction": Prompt("none"),
        "vague": Prompt("vague"),
        "clear": Prompt("clear"),
        "vague, 1 example": Prompt("vague", 1),
        "vague, 2 examples": Prompt("vague", 2),
        "vague, 4 examples": Prompt("vague", 4),
        "clear, 2 examples": Prompt("clear", 2),
        "clear, tagged": Prompt("clear", 0, "tagged"),
        "clear, teacher": Prompt("clear", 0, "plain", "teacher"),
        "clear, terse": Prompt("clear", 0, "plain", "terse"),
    }
    scores = dict[str, Score]()
    for name, form in forms.items():
        tick(0.8 + 0.015 * len(scores), name)
        scores[name] = measure(model, form, TASKS, rng)
    fact, no_fact = (measure(model, Prompt(context_given=given), ["fact"], rng) for given in (True, False))
    asked = measure(model, params.prompt(), TASKS, rng)
    transcripts = [measure(model, params.prompt(), [task], rng).example for task in [*TASKS, "fact"]]
    about_fact = measure(model, params.prompt(), ["fact"], rng)

    def gain(better: str, worse: str) -> float:
        return scores[better].accuracy - scores[worse].accuracy

    rows: list[list[Cell]] = [
        [name, score.accuracy, score.parsable, score.words]
        for name, score in {
            **scores, "fact given": fact, "fact missing": no_fact, "as asked": asked, "as asked, fact": about_fact,
        }.items()
    ]  # fmt: skip
    return Result(
        metrics=[
            Metric("accuracy", asked.accuracy),
            Metric("accuracy about the fact", about_fact.accuracy),
            Metric("parsable", asked.parsable),
            Metric("words said", asked.words),
        ],
        claims=[
            Claim("The prompt as asked works: share right, the lesser of tasks and facts",
                  min(asked.accuracy, about_fact.accuracy), ">=", 0.5),
            Claim("A clear instruction says what to do: gain over none", gain("clear", "no instruction"), ">=", 0.3),
            Claim("Examples say it too: gain of four under a vague instruction",
                  gain("vague, 4 examples", "vague"), ">=", 0.2),
            Claim("Asked for tags, it gives them: share", scores["clear, tagged"].parsable, ">=", 0.9),
            Claim("Not asked for them, it does not: share", scores["clear"].parsable, "<=", 0.1),
            Claim("No wording replaces a fact: loss of accuracy without it",
                  fact.accuracy - no_fact.accuracy, ">=", 0.5),
            Claim("A role changes the form: words that a teacher adds to a terse answer",
                  scores["clear, teacher"].words - scores["clear, terse"].words, ">=", 1.0),
        ],
        figures=[Bars("Ablation", "prompt", "accuracy", list(scores),
                      {"right": [each.accuracy for each in scores.values()]})],
        tables=[
            Table("Ablation", ["prompt", "right", "in tags", "words said"], rows),
            Table("Transcripts of the prompt as asked", ["prompt", "said", "right"],
                  [list(each) for each in transcripts]),
        ],
    )  # fmt: skip
