"""Machine translation on a synthetic language, scored with BLEU

Question: Can a small transformer learn reordering and agreement, and what does BLEU measure?
Source: Vaswani et al. 2017, arXiv:1706.03762 (encoder and decoder); BLEU: Papineni et al. 2002,
  doi:10.3115/1073083.1073135, §2; beam search: Sutskever et al. 2014, arXiv:1409.3215, §3.2.
Watch: English order is subject, verb, object; the invented language puts the verb last, the adjective after its noun,
  and marks case and number by endings. A dictionary gets the words and none of that; BLEU counts runs of right words.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from demos.contract import Bars, Claim, DemoParams, Heatmap, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.seq2seq import END, PAD, EncoderDecoder, write
from demos.shared.transformer import train

NOUNS = {"dog": "kel", "cat": "mir", "bird": "pav", "boy": "tol", "girl": "sen", "horse": "gur", "king": "dar"}
ADJECTIVES = {"old": "bres", "young": "fil", "big": "grom", "small": "tik", "red": "rul", "wise": "sof"}
VERBS = {"see": "vid", "chase": "hant", "like": "lub", "find": "trov", "help": "pom", "follow": "sek"}
ADVERBS = {"today": "nun", "often": "oft", "here": "tam", "quickly": "rap"}
CASES = {"subject": ("a", "ai"), "object": ("o", "oi")}  # endings of singular and plural, on nouns and adjectives
VERB_ENDINGS = ("et", "en")  # the verb agrees with the number of the subject
P_ADJECTIVE, P_PLURAL, P_ADVERB = 0.5, 0.5, 0.5
D, BATCH, RATE, TESTED, LONGEST = 64, 16, 3e-3, 200, 10  # no sentence is longer than 10 words in either language


class Params(DemoParams):
    steps: int = Field(500, ge=100, le=3000, description="Training steps")
    beam_width: int = Field(1, ge=1, le=8, description="Beams of the search; 1 is greedy")
    train_pairs: int = Field(4000, ge=500, le=20_000, description="Sentence pairs to learn from")
    read_source: bool = Field(True, description="Let the decoder read the source; otherwise it writes blindly")
    seed: int = Field(0, ge=0, le=9999, description="Seed of sentences and weights")

    presets: ClassVar[Mapping[str, Preset]] = {
        "blind": Preset("Without the source: well-formed sentences that say something else", {"read_source": False}),
        "few pairs": Preset("Five hundred pairs are enough, so regular is the language", {"train_pairs": 500}),
        "beam of four": Preset("A wider search, the same model", {"beam_width": 4}),
    }


@dataclass(frozen=True, slots=True)
class Pair:
    """A sentence in both languages."""

    english: tuple[str, ...]
    invented: tuple[str, ...]


def compose(rng: torch.Generator) -> Pair:
    """Draw a sentence: subject, verb, object and perhaps an adverb, in English order and in that of the other."""

    def pick(words: Mapping[str, str]) -> tuple[str, str]:
        return list(words.items())[int(torch.randint(len(words), (), generator=rng))]

    def chance(p: float) -> bool:
        return torch.rand((), generator=rng).item() < p

    def noun_phrase(case: str, plural: bool) -> tuple[list[str], list[str]]:
        noun, stem = pick(NOUNS)
        ending = CASES[case][plural]
        adjectives = [pick(ADJECTIVES)] if chance(P_ADJECTIVE) else []
        english = ["the", *(adjective for adjective, _ in adjectives), noun + "s" * plural]
        return english, [stem + ending, *(other + ending for _, other in adjectives)]

    plural = chance(P_PLURAL)
    subject, agent = noun_phrase("subject", plural)
    goal, patient = noun_phrase("object", chance(P_PLURAL))
    verb, stem = pick(VERBS)
    adverbs = [pick(ADVERBS)] if chance(P_ADVERB) else []
    return Pair(
        (*subject, verb + "s" * (not plural), *goal, *(adverb for adverb, _ in adverbs)),
        (*agent, *patient, *(other for _, other in adverbs), stem + VERB_ENDINGS[plural]),
    )


def word_for_word(english: Sequence[str]) -> tuple[str, ...]:
    """A dictionary's translation: each word in its place, nouns and adjectives as subjects, singular or plural."""
    forms = {"the": ""} | ADVERBS
    forms |= {adjective: stem + "a" for adjective, stem in ADJECTIVES.items()}
    for number, (noun_end, verb_end) in enumerate((("", "s"), ("s", ""))):
        forms |= {noun + noun_end: stem + CASES["subject"][number] for noun, stem in NOUNS.items()}
        forms |= {verb + verb_end: stem + VERB_ENDINGS[number] for verb, stem in VERBS.items()}
    return tuple(form for word in english if (form := forms[word]))


def other_number(verb: str) -> str:
    """A verb with the wrong ending."""
    singular, plural = VERB_ENDINGS
    return verb[:-2] + (plural if verb.endswith(singular) else singular)


def ngrams(words: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    """How often each run of n words occurs."""
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def bleu(outputs: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> float:
    """Corpus BLEU of 0 to 100: geometric mean of n-gram precisions, n = 1 to 4, times the brevity penalty."""
    log_precision = 0.0
    for n in range(1, 5):
        runs = [(ngrams(out, n), ngrams(ref, n)) for out, ref in zip(outputs, references, strict=True)]
        right = sum((out & ref).total() for out, ref in runs)  # clipped: no run counts more often than in the reference
        written = sum(out.total() for out, _ in runs)
        if right == 0:
            return 0.0
        log_precision += math.log(right / written) / 4
    length, wanted = (sum(map(len, texts)) for texts in (outputs, references))
    return 100 * math.exp(log_precision + min(0.0, 1 - wanted / length))


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng = torch.Generator().manual_seed(params.seed)
    pairs = [compose(rng) for _ in range(params.train_pairs)]
    known, test = {pair.english for pair in pairs}, list[Pair]()
    while len(test) < TESTED:
        if (pair := compose(rng)).english not in known:
            test.append(pair)
    vocabulary = ["<pad>", "<begin>", "<end>", *sorted({*chain(*(pair.english + pair.invented for pair in pairs))})]
    number = {word: index for index, word in enumerate(vocabulary)}

    def tensors(some: Sequence[Pair]) -> tuple[Tensor, Tensor]:
        """Sources and targets (N, LONGEST + 2) each, padded; a target stands between <begin> and <end>."""
        sources = [[number[word] for word in pair.english] if params.read_source else [END] for pair in some]
        targets = [[1, *(number[word] for word in pair.invented), END] for pair in some]
        padded = [[row + [PAD] * (LONGEST + 2 - len(row)) for row in rows] for rows in (sources, targets)]
        return torch.tensor(padded[0]), torch.tensor(padded[1])

    sources, targets = tensors(pairs)
    model = EncoderDecoder(len(vocabulary), LONGEST + 2, D, 1, 4, rng)

    def loss() -> Tensor:
        some = torch.randint(len(pairs), (BATCH,), generator=rng)
        return model.loss(sources[some], targets[some])

    def report(step: int, value: float) -> None:
        if step % 20 == 0:
            tick(0.95 * step / params.steps, f"step {step}", loss=value)

    train(model, loss, params.steps, RATE, report)
    source, target = tensors(test)
    written: list[list[int]] = write(model, source, LONGEST + 1, params.beam_width).numpy().tolist()
    outputs = [[vocabulary[word] for word in row if word > END] for row in written]
    references = [pair.invented for pair in test]
    score = bleu(outputs, references)
    dictionary = bleu([word_for_word(pair.english) for pair in test], references)
    verbs = {stem + ending for stem in VERBS.values() for ending in VERB_ENDINGS}
    verb_last = sum(len(out) > 0 and out[-1] in verbs for out in outputs) / TESTED
    whole = sum(tuple(out) == ref for out, ref in zip(outputs, references, strict=True)) / TESTED

    spoiled = {  # what BLEU makes of the references themselves, spoiled in one way each
        "dictionary, word for word": dictionary,
        "one word left out": bleu([ref[1:] for ref in references], references),
        "verb first": bleu([(ref[-1], *ref[:-1]) for ref in references], references),
        "verb's number wrong": bleu([(*ref[:-1], other_number(ref[-1])) for ref in references], references),
        "first half only": bleu([ref[: len(ref) // 2 + 1] for ref in references], references),
        "the model": score,
    }
    with torch.no_grad():
        longest = max(range(TESTED), key=lambda n: len(test[n].english))
        one = source[longest, None]  # (1, LONGEST + 2)
        _, read = model.decode(target[longest, None, :-1], model.encode(one), one != PAD)
    weights: list[list[float]] = read[0].numpy().tolist()
    rows, columns = [*test[longest].invented, "<end>"], test[longest].english
    return Result(
        metrics=[
            Metric("bleu", score),
            Metric("bleu of a dictionary", dictionary),
            Metric("verb last", verb_last, "of sentences"),
            Metric("whole sentences right", whole, "of sentences"),
        ],
        claims=[
            Claim("It translates sentences that it has never seen: BLEU", score, ">=", 80),
            Claim("A dictionary does not, for order and endings are missing: BLEU word for word", dictionary, "<=", 20),
            Claim("Its verbs stand last: share of sentences", verb_last, ">=", 0.95),
            Claim("BLEU punishes what is left out: references cut short", spoiled["first half only"], "<=", 80),
        ],
        figures=[
            Heatmap("Where each word was read from (attention)", x="English", y="translation",
                    values=[row[: len(columns)] for row in weights[: len(rows)]], row_labels=rows,
                    column_labels=columns),
            Bars("What BLEU sees: references, spoiled in one way each", x="output", y="BLEU", labels=list(spoiled),
                 series={"BLEU": list(spoiled.values())}),
        ],
        tables=[
            Table("Translations of unseen sentences", ["source", "reference", "output"], [
                [" ".join(pair.english), " ".join(pair.invented), " ".join(out)]
                for pair, out in zip(test[:8], outputs, strict=False)
            ]),
        ],
    )  # fmt: skip
