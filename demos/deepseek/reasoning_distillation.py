"""Distilling a reasoning teacher

Question: Can a small model inherit step-by-step reasoning by imitation?
Source: DeepSeek-AI 2025 (R1), arXiv:2501.12948, §2.3–2.4 (cold start, reward, rejection sampling, distilled students);
  DeepSeek-AI 2024 (V3), arXiv:2412.19437, §5.4.1; Hsieh et al. 2023, arXiv:2305.02301.
Watch: rewarded for right answers alone, the teacher looks twice more and more often. Students of one size then imitate
  it: the one that sees only its answers guesses at long sums, those that see its steps add up. They take over its
  habit, too: put a wrong step into their text, and the second look mostly mends it. A limit on the length of what is
  kept makes a student brief; but a teacher that looks twice writes few short texts, too few here to learn sums from.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy

from demos.contract import Claim, DemoParams, Lines, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.transformer import Transformer, descend, train

TERMS, MOD = 5, 7  # at most five digits 0 to 6 to add, modulo seven; a shorter sum has zeros in front
ASK, CHECK, EQUALS, END = 7, 8, 9, 10  # after the digits
SIGNS = [*"0123456", ":", "?", "=", "."]
PROBLEM, LONGEST = TERMS + 1, 16  # signs of a problem; the most that are written after it
SLIP, LOOK = 0.5, 0.65  # shares of lessons whose first pass is wrong, and that look twice
LESSONS, LESSON_STEPS = 4000, 150
TRIALS, TRIES, REWARD_RATE = 8, 192, 7e-4  # the teacher's training by reward: batches, sums in each
TEACHER, STUDENT, LAYERS, HEADS = 64, 48, 2, 4  # widths
BATCH, RATE = 64, 5e-3
TRACES, BRIEF = 1400, 12  # sums that the teacher works for its students; the shorter limit on length
TESTED = [2] * 80 + [3] * 80 + [4] * 80 + [5] * 300  # digits of the test sums


class Params(DemoParams):
    traces: Literal["answers", "raw", "filtered"] = Field("filtered", description="What the student asked for imitates")
    max_len: int = Field(24, ge=8, le=64, description="Longest trace that filtering keeps; a pass has 8 signs, two 14")
    reflection: bool = Field(True, description="The teacher may look twice: add up once more, from behind")
    style: Literal["raw", "readable"] = Field("readable", description='As the teacher writes, or ending in "= answer"')
    steps: int = Field(200, ge=100, le=1500, description="Training steps of each student, 64 traces each")
    seed: int = Field(0, ge=0, le=9999, description="Seed of problems, traces and weights")

    presets: ClassVar[Mapping[str, Preset]] = {
        "answers only": Preset("No steps to imitate: long sums are guessed", {"traces": "answers"}),
        "no second look": Preset("The teacher never checks, so the student mends nothing", {"reflection": False}),
        "brief": Preset("Only single passes are kept: too few to learn from, and no second look", {"max_len": 12}),
        "raw": Preset("Wrong traces are imitated like right ones", {"traces": "raw"}),
    }


def pose(digits: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Sums such as "0 0 4 6 1 :" of `digits` (n,) digits each, (n, PROBLEM); their running sums (n, TERMS)."""
    drawn = torch.randint(MOD, (len(digits), TERMS), generator=rng)
    drawn *= torch.arange(TERMS) >= TERMS - digits[:, None]
    return torch.cat([drawn, torch.full((len(digits), 1), ASK)], dim=1), drawn.cumsum(dim=1) % MOD


def lecture(problem: Tensor, reflection: bool, rng: torch.Generator) -> list[int]:
    """A worked sum: a pass of running sums that may slip, and mostly a second look that adds from behind."""
    slips, looks = (torch.rand(2, generator=rng) < torch.tensor([SLIP, LOOK])).numpy().tolist()
    place, shift = int(torch.randint(TERMS, (), generator=rng)), int(torch.randint(1, MOD, (), generator=rng))
    forth, back = problem[:TERMS].cumsum(dim=0) % MOD, problem[:TERMS].flip(0).cumsum(dim=0) % MOD
    said = (forth + shift * slips * (torch.arange(TERMS) >= place)) % MOD  # a slip is carried on
    words: list[int] = said.numpy().tolist()
    if reflection and looks:
        words += [CHECK, *back.numpy().tolist()]
    return [*words, END]


def pad(texts: Sequence[Sequence[int]]) -> Tensor:
    """Texts as rows (n, LONGEST), filled up with END."""
    return torch.tensor([[*text, *[END] * LONGEST][:LONGEST] for text in texts])


def counted(said: Tensor) -> Tensor:
    """Which signs (n, L) belong to a text: all up to the first END, and that."""
    ends = said == END
    return ends.cumsum(dim=1) - ends.long() == 0


def student(width: int, problems: Tensor, texts: Tensor, steps: int, seed: int) -> Transformer:
    """A model that learned to write texts (n, LONGEST) after problems (n, PROBLEM)."""
    rng = torch.Generator().manual_seed(seed)
    model = Transformer(len(SIGNS), PROBLEM + LONGEST, width, LAYERS, HEADS, rng, causal=True)
    lengths = counted(texts).sum(dim=1)

    def loss() -> Tensor:
        some = torch.randint(len(texts), (BATCH,), generator=rng)
        said = texts[some, : int(lengths[some].max())]
        logits = model(torch.cat([problems[some], said[:, :-1]], dim=1))[:, PROBLEM - 1 :]
        return cross_entropy(logits[counted(said)], said[counted(said)])

    train(model, loss, steps, RATE, lambda _step, _value: None)
    return model


@torch.no_grad()
def write(model: Transformer, begun: Tensor, rng: torch.Generator) -> Tensor:
    """Texts at temperature 1 after problems (n, PROBLEM), or after problems and a text begun: (n, LONGEST)."""
    words = torch.full((len(begun), PROBLEM + LONGEST), END)
    words[:, : begun.shape[1]] = begun
    going = torch.arange(len(begun))  # rows that have not ended
    for place in range(begun.shape[1], PROBLEM + LONGEST):
        if not len(going):
            break
        odds = model(words[going, :place])[:, -1].softmax(dim=1)
        words[going, place] = drawn = torch.multinomial(odds, 1, generator=rng)[:, 0]
        going = going[drawn != END]
    return words[:, PROBLEM:]


def result_of(said: Tensor) -> Tensor:
    """What texts (n, L) give as the answer, (n,): the last sign before END."""
    return said.gather(1, (counted(said).sum(dim=1) - 2).clamp(min=0)[:, None])[:, 0]


def reinforce(teacher: Transformer, rng: torch.Generator, tick: Tick) -> tuple[list[float], list[float]]:
    """Policy gradient: 1 for a right answer, nothing for how it was found. Share right and of second looks by batch."""
    adam = torch.optim.AdamW(teacher.parameters(), lr=REWARD_RATE)
    right, looks = list[float](), list[float]()
    for trial in range(TRIALS):
        problems, sums = pose(torch.full((TRIES,), TERMS), rng)
        said = write(teacher, problems, rng)
        earned = (result_of(said) == sums[:, -1]).float()
        advantage = (earned - earned.mean()) / (earned.std() + 1e-6)
        logits = teacher(torch.cat([problems, said[:, :-1]], dim=1))[:, PROBLEM - 1 :]
        log_p = logits.log_softmax(dim=2).gather(2, said[:, :, None])[:, :, 0] * counted(said)  # (n, LONGEST)
        descend(teacher.parameters(), adam, -(advantage * log_p.sum(dim=1)).mean())
        right.append(earned.mean().item())
        looks.append((said == CHECK).any(dim=1).float().mean().item())
        tick(0.25 + 0.1 * trial / TRIALS, f"reward, batch {trial}", right=right[-1], looks=looks[-1])
    return right, looks


def finish(said: Tensor) -> Tensor:
    """Texts (n, LONGEST) in the readable form: the answer once more after "="."""
    rows: list[list[int]] = said.numpy().tolist()
    texts = [row[: row.index(END)] if END in row else row for row in rows]
    return pad([[*text, EQUALS, text[-1], END] if text else [END] for text in texts])


@dataclass(frozen=True, slots=True)
class Score:
    """Test sums: share right by digits, mean signs, shares looked at twice, readable, right after a planted slip."""

    right: float  # share of the longest sums
    by_digits: list[float]  # share right of sums of 2, 3, 4, 5 digits
    signs: float
    looks: float
    readable: float
    mended: float


def score(model: Transformer, seed: int) -> tuple[Score, list[list[str]]]:
    """The score, and two transcripts: one of the longest sums, and one that goes on from a planted mistake."""
    rng = torch.Generator().manual_seed(seed)
    digits = torch.tensor(TESTED)
    problems, sums = pose(digits, rng)
    said = write(model, problems, rng)
    right = (result_of(said) == sums[:, -1]).float()
    length = counted(said).sum(dim=1)
    neat = said.gather(1, (length - 3).clamp(min=0)[:, None])[:, 0] == EQUALS
    long = problems[digits == TERMS][:200]
    truth = sums[digits == TERMS][:200]
    wrong = (truth[:, 1] + torch.randint(1, MOD, (len(truth),), generator=rng)) % MOD
    planted = write(model, torch.cat([long, truth[:, :1], wrong[:, None]], dim=1), rng)
    looks, mended = (said == CHECK).any(dim=1), result_of(planted) == truth[:, -1]
    shares = [each.float().mean().item() for each in (looks, neat, mended)]
    by_digits = [right[digits == n].mean().item() for n in range(2, TERMS + 1)]
    shown = [[spell(long[0]), spell(text[0]), spell(truth[0, -1:])] for text in (said[digits == TERMS], planted)]
    return Score(by_digits[-1], by_digits, length.float().mean().item(), *shares), shown


def spell(words: Tensor) -> str:
    """Signs (L,) up to the first END."""
    signs: list[int] = words.numpy().tolist()
    return " ".join(SIGNS[sign] for sign in signs).split(" .")[0]


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng = torch.Generator().manual_seed(params.seed)
    problems, _ = pose(torch.randint(2, TERMS + 1, (LESSONS,), generator=rng), rng)
    lessons = pad([lecture(problem, params.reflection, rng) for problem in problems])
    teacher = student(TEACHER, problems, lessons, LESSON_STEPS, params.seed)
    climb, looks = reinforce(teacher, rng, tick)

    problems, sums = pose(torch.randint(2, TERMS + 1, (TRACES,), generator=rng), rng)
    said = write(teacher, problems, rng)
    right = result_of(said) == sums[:, -1]
    texts = finish(said) if params.style == "readable" else said
    length = counted(texts).sum(dim=1)
    answers = pad([[EQUALS, answer, END] for answer in result_of(said).numpy().tolist()])
    kept = {
        "answers": (right, answers),
        "raw": (torch.ones_like(right), texts),
        "filtered": (right & (length <= params.max_len), texts),
        "brief": (right & (length <= BRIEF), texts),
    }
    scores, rows = dict[str, Score](), list[list[str]]()
    for done, (name, (keep, shown)) in enumerate(kept.items()):
        tick(0.4 + 0.15 * done, f"student: {name}")
        model = student(STUDENT, problems[keep], shown[keep], params.steps, params.seed)
        scores[name], transcripts = score(model, params.seed + 10_000)
        rows += [[name, *row] for row in transcripts]
    chosen = scores[params.traces]
    used, _ = kept[params.traces]
    return Result(
        metrics=[
            Metric("accuracy", chosen.right),
            Metric("accuracy of the student of answers", scores["answers"].right),
            Metric("accuracy of the student of raw traces", scores["raw"].right),
            Metric("mean length", chosen.signs, "signs"),
            Metric("share that looks twice", chosen.looks),
            Metric("share readable", chosen.readable),
            Metric("traces kept", float(used.sum()), f"of {TRACES}"),
        ],
        claims=[
            Claim("Steps carry over: share of five-digit sums right, less that of the student of answers",
                  chosen.right - scores["answers"].right, ">=", 0.35),
            Claim("What the student imitates is right: share of its texts with the right answer",
                  right[used].float().mean().item(), ">=", 1.0),
            Claim("The habit is inherited: share of right answers after a planted wrong step",
                  chosen.mended, ">=", 0.28),
            Claim("A limit of 12 signs makes it brief: mean length, over that of the student asked for",
                  scores["brief"].signs / chosen.signs, "<=", 0.8),
            Claim("Reward for answers teaches to look twice: share that does in the last three batches, less the first",
                  sum(looks[-3:]) / 3 - looks[0], ">=", 0.06),
        ],
        figures=[
            Lines("The teacher under reward", "batch", "share", list(range(TRIALS)),
                  {"right": climb, "looks twice": looks}),
            Lines("Right answers and length of the sum", "digits", "share right", list(range(2, TERMS + 1)),
                  {name: each.by_digits for name, each in scores.items()}),
        ],
        tables=[
            Table("Students", ["imitates", "traces", "right", "mean signs", "looks twice", "readable", "mended"], [
                [name, int(kept[name][0].sum()), round(each.right, 3), round(each.signs, 1), round(each.looks, 3),
                 round(each.readable, 3), round(each.mended, 3)] for name, each in scores.items()
            ]),
            Table("Transcripts: a sum, and the same with its second step planted wrong",
                  ["student", "sum", "writes", "right"], rows),
        ],
    )  # fmt: skip
