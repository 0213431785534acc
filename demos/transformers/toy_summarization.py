"""Summarising generated reports, scored with ROUGE

Question: How does a sequence-to-sequence model keep what matters and drop the rest?
Source: Rush et al. 2015, arXiv:1509.00685 (summaries written by a network that attends); Lewis et al. 2019,
  arXiv:1910.13461 (BART: encoder and decoder); ROUGE: Lin 2004, aclanthology.org/W04-1013, §2 and §3.
Watch: a report hides what, where and when among filler, in any order. The summary's attention goes to those words and
  passes over the rest. The first sentence, hard to beat on news, is a poor summary here: anything may stand first.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from demos.contract import Bars, Claim, DemoParams, Heatmap, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.seq2seq import BEGIN, END, PAD, EncoderDecoder, write
from demos.shared.transformer import train

EVENTS = ["fire", "flood", "storm", "strike", "theft", "parade"]
PLACES = ["bern", "oslo", "lima", "cairo", "kyoto", "quito", "turin", "ghent"]
DAYS = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
PEOPLE = ["anna", "boris", "carla", "david", "elena", "farid"]
FACTS = {"event": "there was a {event} .", "place": "it was in {place} .", "day": "it came on {day} ."}
FILLER = [  # places and days of the filler are those of other things
    "{person} heard of it .", "the police came from {place} .", "they will meet on {day} .", "a {event} came to mind .",
    "nobody was hurt .",
]  # fmt: skip
SUMMARY = "{event} in {place} on {day}"
SLOTS = {"event": EVENTS, "place": PLACES, "day": DAYS, "person": PEOPLE}
ENTITIES = {*EVENTS, *PLACES, *DAYS, *PEOPLE}
D, BATCH, RATE, TESTED = 64, 32, 4e-3, 200


class Params(DemoParams):
    filler: int = Field(3, ge=0, le=8, description="Filler sentences in a report, beside its three facts")
    steps: int = Field(500, ge=100, le=3000, description="Training steps")
    read_report: bool = Field(True, description="Let the writer read the report; otherwise it makes one up")
    seed: int = Field(0, ge=0, le=9999, description="Seed of reports and weights")

    presets: ClassVar[Mapping[str, Preset]] = {
        "made up": Preset("Without the report: well written, and about nothing that happened", {"read_report": False}),
        "much filler": Preset("Eight sentences to drop: some places and days are the filler's", {"filler": 8}),
    }


@dataclass(frozen=True, slots=True)
class Report:
    """Its sentences, word by word, and what a reader should be told."""

    sentences: Sequence[Sequence[str]]
    summary: Sequence[str]

    @property
    def words(self) -> list[str]:
        """The whole text."""
        return [word for sentence in self.sentences for word in sentence]


def compose(filler: int, rng: torch.Generator) -> Report:
    """A report of one event: its facts and some filler, in random order."""

    def pick(words: Sequence[str]) -> str:
        return words[int(torch.randint(len(words), (), generator=rng))]

    def fill(template: str) -> str:
        return template.format(**{slot: pick(words) for slot, words in SLOTS.items()})

    truth = {slot: pick(words) for slot, words in SLOTS.items()}
    texts = [template.format(**truth) for template in FACTS.values()]
    texts += [fill(pick(FILLER)) for _ in range(filler)]
    order: list[int] = torch.randperm(len(texts), generator=rng).numpy().tolist()
    return Report([texts[place].split() for place in order], SUMMARY.format(**truth).split())


def f_measure(right: int, output: int, reference: int) -> float:
    """Harmonic mean of precision and recall."""
    return 2 * right / (output + reference) if right else 0.0


def rouge_n(output: Sequence[str], reference: Sequence[str], n: int) -> float:
    """F of the runs of n words that both have, clipped (§2)."""
    runs, wanted = (
        Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1)) for words in (output, reference)
    )
    return f_measure((runs & wanted).total(), runs.total(), wanted.total())


def rouge_l(output: Sequence[str], reference: Sequence[str]) -> float:
    """F of the longest common subsequence: same order, gaps allowed (§3)."""
    longest = [0] * (len(reference) + 1)  # of the output so far and the first j words of the reference
    for word in output:
        before = longest.copy()
        for j, wanted in enumerate(reference, start=1):
            longest[j] = before[j - 1] + 1 if word == wanted else max(before[j], longest[j - 1])
    return f_measure(longest[-1], len(output), len(reference))


def scores(outputs: Sequence[Sequence[str]], reports: Sequence[Report]) -> dict[str, float]:
    """Mean ROUGE-1, -2 and -L over reports."""
    pairs = [(output, report.summary) for output, report in zip(outputs, reports, strict=True)]
    return {
        "ROUGE-1": sum(rouge_n(*pair, 1) for pair in pairs) / len(pairs),
        "ROUGE-2": sum(rouge_n(*pair, 2) for pair in pairs) / len(pairs),
        "ROUGE-L": sum(rouge_l(*pair) for pair in pairs) / len(pairs),
    }


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng = torch.Generator().manual_seed(params.seed)
    known = " ".join([*FACTS.values(), *FILLER, SUMMARY]).split()
    plain = sorted({word for word in known if "{" not in word})
    vocabulary = ["<pad>", "<begin>", "<end>", *plain, *sorted(ENTITIES)]
    number = {word: index for index, word in enumerate(vocabulary)}
    length = 6 * (len(FACTS) + params.filler)  # no sentence is longer than six words

    def tensors(reports: Sequence[Report]) -> tuple[Tensor, Tensor]:
        """Words of reports (N, length), padded, and of summaries between <begin> and <end> (N, 7)."""
        texts = [[number[word] for word in report.words] if params.read_report else [END] for report in reports]
        sources = [text + [PAD] * (length - len(text)) for text in texts]
        targets = [[BEGIN, *(number[word] for word in report.summary), END] for report in reports]
        return torch.tensor(sources), torch.tensor(targets)

    model = EncoderDecoder(len(vocabulary), length, D, 1, 4, rng)

    def loss() -> Tensor:
        return model.loss(*tensors([compose(params.filler, rng) for _ in range(BATCH)]))

    def report_step(step: int, value: float) -> None:
        if step % 20 == 0:
            tick(0.95 * step / params.steps, f"step {step}", loss=value)

    train(model, loss, params.steps, RATE, report_step)
    test = [compose(params.filler, rng) for _ in range(TESTED)]
    source, target = tensors(test)
    written: list[list[int]] = write(model, source, target.shape[1]).numpy().tolist()
    outputs = [[vocabulary[word] for word in row if word > END] for row in written]
    ours, lead = scores(outputs, test), scores([report.sentences[0] for report in test], test)
    told = [(word in report.words, word in report.summary) for output, report in zip(outputs, test, strict=True)
            for word in output if word in ENTITIES]  # fmt: skip
    faithful, right = (sum(kinds) / max(1, len(told)) for kinds in zip(*(told or [(False, False)]), strict=True))

    with torch.no_grad():
        one = source[:1]
        _, read = model.decode(target[:1, :-1], model.encode(one), one != PAD)  # (1, 6, length)
    weights: list[list[float]] = read[0].numpy().tolist()
    first, columns = test[0], test[0].words
    return Result(
        metrics=[
            Metric("rouge", ours["ROUGE-L"], "ROUGE-L"),
            Metric("rouge-1", ours["ROUGE-1"]),
            Metric("rouge-2", ours["ROUGE-2"]),
            Metric("rouge of the first sentence", lead["ROUGE-L"], "ROUGE-L"),
            Metric("names from the report", faithful, "share"),
            Metric("names that are right", right, "share"),
        ],
        claims=[
            Claim("It beats the first sentence: ROUGE-L, less that of the first sentence",
                  ours["ROUGE-L"] - lead["ROUGE-L"], ">=", 0.5),
            Claim("It invents nothing: share of its names that are in the report", faithful, ">=", 0.95),
            Claim("It tells the event's facts from the filler's: share of its names that are right",
                  right, ">=", 0.9),
        ],
        figures=[
            Heatmap("Copied from: the report's words that each word was read from", x="report", y="summary",
                    values=[row[: len(columns)] for row in weights], row_labels=[*first.summary, "<end>"],
                    column_labels=columns),
            Bars("ROUGE on unseen reports", x="score", y="F", labels=list(ours),
                 series={"model": list(ours.values()), "first sentence": list(lead.values())}),
        ],
        tables=[
            Table("Unseen reports", ["report", "reference", "summary"], [
                [" ".join(report.words), " ".join(report.summary), " ".join(output)]
                for report, output in zip(test[:5], outputs, strict=False)
            ]),
        ],
    )  # fmt: skip
