"""Extractive question answering with start and end pointers

Question: How does BERT answer a question by pointing into a passage?
Source: Devlin et al. 2018, arXiv:1810.04805, §4.2–4.3 (start and end vectors, null score); Rajpurkar et al. 2016,
  arXiv:1606.05250 (SQuAD, exact match and F1); Rajpurkar et al. 2018, arXiv:1806.03822 (unanswerable questions);
  Jia & Liang 2017, arXiv:1707.07328 (a sentence put in to mislead).
Watch: two scores for each word, two softmaxes over the passage, and the best pair in the right order is the answer. But
  put in a second sentence of the kind that is asked for, and the model often points into the wrong one: it has learned
  what sort of thing answers the question more than whom the question is about.
"""

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from demos.contract import Bars, Claim, DemoParams, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.transformer import Block, start, train

KINDS = ["fashion", "film", "wine", "music", "tea", "car"]
COUNTRIES = ["china", "italy", "france", "spain", "india", "japan", "brazil", "egypt", "kenya", "peru"]
CITIES = ["shanghai", "milan", "lyon", "porto", "osaka", "cairo", "lima", "accra", "hong kong", "new delhi",
          "sao paulo", "cape town", "ho chi minh", "rio de janeiro"]  # fmt: skip
THINGS = ["museum", "bridge", "opera", "castle", "garden", "library", "tower", "theatre", "palace", "school"]
YEARS = [str(year) for year in range(1900, 1912)] + [f"may {year}" for year in range(1900, 1904)]
PEOPLE = ["ada", "grace", "emmy", "ada king", "grace hopper", "emmy noether", "marie", "marie curie", "alan", "kurt"]
CAPITALS = [f"{kind} capital of {country}" for kind in KINDS for country in COUNTRIES]
RELATIONS = [  # question, sentence, subjects, answers; {s} is the subject and {a} the answer
    ("what is the {s}", "{a} is the {s} .", CAPITALS, CITIES),
    ("when was the {s} opened", "the {s} was opened in {a} .", THINGS, YEARS),
    ("who built the {s}", "the {s} was built by {a} .", THINGS, PEOPLE),
    ("where is the {s}", "in {a} is the {s} .", THINGS, CITIES),
]
PAD = 0
WORDS = ["[PAD]", "[CLS]", "[SEP]", *sorted({
    word for asks, says, subjects, answers in RELATIONS for text in [asks, says, *subjects, *answers]
    for word in re.sub(r"\{.\}", "", text).split()
})]  # fmt: skip
ID = {word: number for number, word in enumerate(WORDS)}
QUESTIONS = {
    asks.format(s=subject): (relation, number)
    for relation, (asks, _, subjects, _) in enumerate(RELATIONS)
    for number, subject in enumerate(subjects)
}  # each with its relation and subject
SENTENCES, LENGTH = 3, 42  # of a passage; words of the longest input
TEXTS, TESTED, BATCH, RATE = 4000, 1000, 32, 3e-3
D, LAYERS, HEADS = 64, 2, 4


class Params(DemoParams):
    question: str = Field("what is the fashion capital of china", max_length=80, description="Question for the figure")
    max_answer: int = Field(4, ge=1, le=10, description="Longest answer, in words")
    unanswerable: float = Field(0.2, ge=0.0, le=0.6, description="Share of questions that the passage does not answer")
    steps: int = Field(300, ge=100, le=2000, description="Training steps of 32 questions")
    seed: int = Field(0, ge=0, le=9999, description="Seed of passages and weights")

    presets: ClassVar[Mapping[str, Preset]] = {
        "SQuAD 1.1": Preset(
            "Every question of the training has an answer: the model never declines", {"unanswerable": 0.0}
        ),
        "SQuAD 2.0": Preset("Half of the questions have no answer", {"unanswerable": 0.5}),
        "one word": Preset("Answers of one word at most: longer ones are cut", {"max_answer": 1}),
    }

    @field_validator("question")
    @classmethod
    def _is_of_this_world(cls, question: str) -> str:
        if question not in QUESTIONS:
            examples = [asks.format(s=subjects[0]) for asks, _, subjects, _ in RELATIONS]
            raise ValueError(f"ask it as one of these, of any of their subjects: {'; '.join(examples)}")
        return question


@dataclass(frozen=True)
class Passage:
    """A question and its passage as one row of words, and where the answer stands in it: (0, 0), [CLS], if nowhere."""

    words: list[str]
    answer: tuple[int, int]  # first and last word
    first: tuple[int, int]  # those of the answer that the first sentence would give

    @property
    def context(self) -> int:
        """Where the passage begins."""
        return self.words.index("[SEP]") + 1


def write(asked: int, subject: int, answer: int | None, rival: bool, rng: torch.Generator) -> Passage:
    """ "[CLS] question [SEP] three sentences [SEP]", each sentence of another relation and in random order.

    answer None leaves out the sentence that answers. A rival sentence tells the like of another subject.
    """
    asks, _, subjects, _ = RELATIONS[asked]
    facts = [] if answer is None else [(asked, subject, answer)]
    order: list[int] = torch.randperm(len(RELATIONS), generator=rng).numpy().tolist()
    order.remove(asked)
    for relation in [asked, *order] if rival else order:
        _, _, about, answers = RELATIONS[relation]
        other = (subject + 1 + draw(len(about) - 1, rng)) % len(about)  # another subject
        facts.append((relation, other, draw(len(answers), rng)))
    words = ["[CLS]", *asks.format(s=subjects[subject]).split(), "[SEP]"]
    spans = list[tuple[int, int]]()
    gold = (0, 0)
    places: list[int] = torch.randperm(SENTENCES, generator=rng).numpy().tolist()
    for place in places:
        relation, about, said = facts[place]
        _, says, subjects, answers = RELATIONS[relation]
        before, after = says.replace("{s}", subjects[about]).split("{a}")
        words += before.split()
        spans.append((len(words), len(words) + len(answers[said].split()) - 1))
        words += [*answers[said].split(), *after.split()]
        if place == 0 and answer is not None:
            gold = spans[-1]
    return Passage([*words, "[SEP]"], gold, spans[0])


def draw(below: int, rng: torch.Generator) -> int:
    return int(torch.randint(below, (), generator=rng))


def write_many(n: int, unanswerable: float, rng: torch.Generator, *, rival: bool, unseen: bool) -> list[Passage]:
    """n of them. A fifth of all facts are unseen: those are asked in tests only, and only those."""
    passages = list[Passage]()
    while len(passages) < n:
        asked = draw(len(RELATIONS), rng)
        _, _, subjects, answers = RELATIONS[asked]
        subject, answer = draw(len(subjects), rng), draw(len(answers), rng)
        if ((subject + answer) % 5 == 0) == unseen:
            none = torch.rand((), generator=rng) < unanswerable
            passages.append(write(asked, subject, None if none else answer, rival, rng))
    return passages


def encode(passages: Sequence[Passage]) -> tuple[Tensor, Tensor]:
    """Words and segments (n, LENGTH): 0 for the question, 1 for the passage; padded with zeros."""
    words = torch.full((len(passages), LENGTH), PAD)
    segments = torch.zeros_like(words)
    for row, passage in enumerate(passages):
        words[row, : len(passage.words)] = torch.tensor([ID[word] for word in passage.words])
        segments[row, passage.context :] = 1
    return words, segments


class Reader(nn.Module):
    """A miniature BERT whose only new weights are two vectors, S and E of §4.2: one score a word from each."""

    def __init__(self, rng: torch.Generator) -> None:
        super().__init__()
        self.words, self.positions = nn.Embedding(len(WORDS), D), nn.Embedding(LENGTH, D)
        self.segments = nn.Embedding(2, D)
        self.blocks = nn.ModuleList(Block(D, HEADS) for _ in range(LAYERS))
        self.norm, self.pointers = nn.LayerNorm(D), nn.Linear(D, 2)
        start(self, rng)

    def forward(self, words: Tensor, segments: Tensor) -> Tensor:
        """Scores (n, 2, LENGTH) of each word to be the answer's first and last; −∞ for padding."""
        x = self.words(words) + self.positions.weight + self.segments(segments)
        real = words != PAD
        for block in self.blocks:
            x = block(x, real[:, None, None])
        return self.pointers(self.norm(x)).masked_fill(~real[:, :, None], -torch.inf).transpose(1, 2)


def point(scores: Tensor, context: int, max_answer: int) -> tuple[int, int]:
    """Best first and last word of a passage's scores (2, LENGTH), or (0, 0) where [CLS] scores higher (§4.3).

    The sum of both scores counts, over pairs in order that lie in the passage and span at most max_answer words.
    """
    total = scores[0][:, None] + scores[1]  # (first, last)
    places = torch.arange(LENGTH)
    span = places - places[:, None]  # last − first
    valid = (span >= 0) & (span < max_answer) & (places[:, None] >= context)
    best = int(total.masked_fill(~valid, -torch.inf).argmax())
    first, last = divmod(best, LENGTH)
    return (first, last) if total[first, last] > total[0, 0] else (0, 0)


def text(passage: Passage, span: tuple[int, int]) -> str:
    """The words between both places; nothing where they are [CLS]."""
    return "" if span == (0, 0) else " ".join(passage.words[span[0] : span[1] + 1])


def normalize(answer: str) -> list[str]:
    """As SQuAD's script does it: small letters, no punctuation, no articles."""
    letters = "".join(letter for letter in answer.lower() if letter not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", letters).split()


def exact_match(given: str, right: str) -> float:
    return float(normalize(given) == normalize(right))


def f1(given: str, right: str) -> float:
    """Harmonic mean of precision and recall over words; 1 where both are empty and 0 where one is."""
    a, b = normalize(given), normalize(right)
    if not a or not b:
        return float(a == b)
    return 2 * sum((Counter(a) & Counter(b)).values()) / (len(a) + len(b))


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng = torch.Generator().manual_seed(params.seed)
    training = write_many(TEXTS, params.unanswerable, rng, rival=False, unseen=False)
    words, segments = encode(training)
    ends = torch.tensor([passage.answer for passage in training])  # (TEXTS, 2)
    reader = Reader(rng)

    def loss() -> Tensor:
        some = torch.randint(TEXTS, (BATCH,), generator=rng)
        return cross_entropy(reader(words[some], segments[some]).flatten(0, 1), ends[some].flatten())

    train(reader, loss, params.steps, RATE, lambda step, value: tick(step / params.steps, "training", loss=value))

    @torch.no_grad()
    def answer(passages: Sequence[Passage]) -> list[str]:
        scores = reader(*encode(passages))
        return [
            text(passage, point(each, passage.context, params.max_answer))
            for each, passage in zip(scores, passages, strict=True)
        ]

    def score(passages: Sequence[Passage], given: Sequence[str]) -> tuple[float, float]:
        pairs = [(said, text(passage, passage.answer)) for said, passage in zip(given, passages, strict=True)]
        return mean([exact_match(*pair) for pair in pairs]), mean([f1(*pair) for pair in pairs])

    tests = write_many(TESTED, 0.0, rng, rival=False, unseen=True)
    silent = write_many(TESTED, 1.0, rng, rival=False, unseen=True)
    misled = write_many(TESTED, 0.0, rng, rival=True, unseen=True)
    answers = answer(tests)
    matched, overlap = score(tests, answers)
    declined = mean([float(said == "") for said in answer(silent)])
    rival, _ = score(misled, answer(misled))
    guessed, _ = score(tests, [text(passage, passage.first) for passage in tests])

    asked, subject = QUESTIONS[params.question]
    example = write(asked, subject, 0, False, rng)  # shanghai, where a city is asked for
    with torch.no_grad():
        chances = reader(*encode([example]))[0].softmax(dim=1)  # (2, LENGTH)
    shown = range(example.context, len(example.words))
    rows = [example, *tests[:4], *silent[:2], *misled[:2]]
    return Result(
        metrics=[
            Metric("exact match", matched),
            Metric("F1", overlap),
            Metric("recognised as unanswerable", declined),
            Metric("exact match beside a rival sentence", rival),
            Metric("new weights", float(sum(weight.numel() for weight in reader.pointers.parameters()))),
        ],
        claims=[
            Claim("It points to the answer: exact match on facts never asked before", matched, ">=", 0.85),
            Claim("Which guessing does not: exact match of the first sentence's answer", guessed, "<=", 0.4),
            Claim("It knows when to decline: share of unanswerable questions", declined, ">=", 0.8),
            Claim("Each softmax is over the words: largest difference of a sum from 1",
                  (chances.sum(dim=1) - 1).abs().max().item(), "<=", 1e-6),
            Claim("It reads for the sort of answer: exact match where a rival sentence offers another",
                  rival, "<=", 0.7),
        ],
        figures=[
            Bars("start-end: where the answer begins and ends", "word", "chance",
                 [f"{place} {example.words[place]}" for place in shown],
                 {"start": [chances[0, place].item() for place in shown],
                  "end": [chances[1, place].item() for place in shown]}),
        ],
        tables=[
            Table("Answers: the example, four unseen, two without, two beside a rival",
                  ["question", "passage", "given", "right"],
                  [[" ".join(passage.words[1 : passage.context - 1]), " ".join(passage.words[passage.context : -1]),
                    said or "none", text(passage, passage.answer) or "none"]
                   for passage, said in zip(rows, answer(rows), strict=True)]),
        ],
    )  # fmt: skip
