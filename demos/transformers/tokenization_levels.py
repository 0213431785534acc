"""Words, subwords or characters?

Question: What does each tokenization level cost in sequence length, vocabulary and unknown words?
Source: Mielke et al. 2021, arXiv:2112.10508, §2–6 (the levels); Sennrich et al. 2015, arXiv:1508.07909, algorithm 1
  (subwords); Zipf 1935; a fair score over levels: Cotterell et al. 2018, arXiv:1806.03743, §3.1 (bits per character).
Watch: the same text is short in words and long in characters, and the vocabulary goes the other way. Half of all words
  occur once: a word level must call some of them unknown (raise min_count), the other two never have to.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import ClassVar, Literal

import torch
from pydantic import Field

from demos.contract import Bars, Claim, DemoParams, Lines, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.prose import read_sentences

UNSEEN = 200  # sentences that no vocabulary is made of
UNKNOWN = "[UNK]"
LETTERS = [chr(code) for code in range(32, 127)]  # printable ASCII, all that this text is made of
TRUST = 0.75  # weight of the pair in the model of neighbours; the rest goes to how frequent a token is
Level = Literal["word", "subword", "character"]
LEVELS: tuple[Level, ...] = ("word", "subword", "character")


class Params(DemoParams):
    level: Level = Field("subword", description="Level that the example shows")
    min_count: int = Field(2, ge=1, le=10, description="Words that are rarer in the training text are unknown")
    vocab_size: int = Field(400, ge=100, le=2000, description="Pieces of the subword vocabulary")
    seed: int = Field(0, ge=0, le=9999, description="Which sentences are held out")

    presets: ClassVar[Mapping[str, Preset]] = {
        "rare words cut": Preset(
            "Words met fewer than five times are unknown: shorter list, more [UNK]", {"min_count": 5}
        ),
        "many pieces": Preset("With 2,000 pieces the common words are whole again", {"vocab_size": 2000}),
    }


def split_sentences(text: str) -> list[str]:
    """Where a full stop, question or exclamation mark is followed by a space and a capital."""
    return re.split(r"(?<=[.?!]) (?=[A-Z])", text)


def split_words(sentence: str) -> list[str]:
    """Words and single signs; the space before a word belongs to it, so that nothing is lost."""
    return re.findall(r" ?\w+| ?[^\w\s]", sentence)


def learn_merges(words: Counter[str], vocab_size: int) -> list[tuple[str, str]]:
    """Byte-pair encoding: join the most frequent pair of neighbours inside words until the vocabulary is full."""
    pieces = {word: list(word) for word in words}
    room = max(0, vocab_size - len(LETTERS))
    merges = list[tuple[str, str]]()
    for _ in range(room):
        pairs = Counter[tuple[str, str]]()
        for word, parts in pieces.items():
            for pair in pairwise(parts):
                pairs[pair] += words[word]
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        for word, parts in pieces.items():
            if best[0] in parts:
                pieces[word] = join(parts, best)
    return merges


def join(parts: Sequence[str], pair: tuple[str, str]) -> list[str]:
    """Join every occurrence of a pair, from left to right."""
    joined = list[str]()
    for part in parts:
        if joined and (joined[-1], part) == pair:
            joined[-1] += part
        else:
            joined.append(part)
    return joined


class Tokenizer:
    """A level with its vocabulary: numbers by token, 0 for the unknown."""

    def __init__(self, level: Level, sentences: Sequence[str], params: Params) -> None:
        words = Counter(word for sentence in sentences for word in split_words(sentence))
        self.level: Level = level
        self.merges = learn_merges(words, params.vocab_size) if level == "subword" else []
        self.pieces: dict[str, list[str]] = {}
        kept = {
            "word": sorted(word for word, count in words.items() if count >= params.min_count),
            "subword": [*LETTERS, *dict.fromkeys(a + b for a, b in self.merges)],
            "character": LETTERS,
        }[level]
        self.number = {token: i for i, token in enumerate([UNKNOWN, *dict.fromkeys(kept)])}

    def cut(self, sentence: str) -> list[str]:
        """The tokens of a sentence, spelled, whether the vocabulary has them or not."""
        words = split_words(sentence)
        if self.level == "word":
            return words
        if self.level == "character":
            return [letter for word in words for letter in word]
        for word in set(words) - set(self.pieces):
            parts = list(word)
            for pair in self.merges:  # in the order learned
                parts = join(parts, pair)
            self.pieces[word] = parts
        return [part for word in words for part in self.pieces[word]]

    def encode(self, sentence: str) -> list[int]:
        """Numbers of the tokens; 0 for what the vocabulary lacks."""
        return [self.number.get(token, 0) for token in self.cut(sentence)]

    def decode(self, numbers: Sequence[int]) -> str:
        """The text again, with [UNK] where it was not known."""
        tokens = list(self.number)
        return "".join(tokens[number] for number in numbers)


class Neighbours:
    """p(token | the one before) = TRUST · share of the pair + (1 − TRUST) · share of the token, from counts."""

    def __init__(self, rows: Sequence[Sequence[int]], size: int) -> None:
        self.single = torch.ones(size + 1, dtype=torch.double)  # one of each, so that nothing is impossible
        self.pairs = torch.zeros(size + 1, size + 1, dtype=torch.double)
        for row in rows:
            numbers = torch.tensor([size, *row])  # `size` marks the beginning
            self.single += numbers[1:].bincount(minlength=size + 1)
            self.pairs.index_put_(
                (numbers[:-1], numbers[1:]), torch.ones(len(row), dtype=torch.double), accumulate=True
            )
        self.size = size

    def bits(self, row: Sequence[int]) -> float:
        """−log₂ p of a row of tokens."""
        numbers = torch.tensor([self.size, *row])
        before, after = numbers[:-1], numbers[1:]
        p = (1 - TRUST) * self.single[after] / self.single.sum()
        seen = self.pairs[before].sum(dim=1)
        p += torch.where(seen > 0, TRUST * self.pairs[before, after] / seen.clamp(min=1), TRUST * p / (1 - TRUST))
        return -p.log2().sum().item()


def bits_per_character(tokenizer: Tokenizer, spelling: Tokenizer, train: Sequence[str], test: Sequence[str]) -> float:
    """Bits that a level needs for unseen text, by character. What is unknown has to be spelled besides."""
    model = Neighbours([tokenizer.encode(sentence) for sentence in train], len(tokenizer.number))
    letters = Neighbours([spelling.encode(sentence) for sentence in train], len(spelling.number))
    bits = sum(model.bits(tokenizer.encode(sentence)) for sentence in test)
    unknown = [token for sentence in test for token in tokenizer.cut(sentence) if token not in tokenizer.number]
    bits += sum(letters.bits([spelling.number.get(letter, 0) for letter in token]) for token in unknown)
    return bits / sum(len("".join(split_words(sentence))) for sentence in test)


def run(params: Params, tick: Tick = no_tick) -> Result:
    sentences = split_sentences(" ".join(read_sentences()))
    order: list[int] = torch.randperm(
        len(sentences), generator=torch.Generator().manual_seed(params.seed)
    ).numpy().tolist()  # fmt: skip
    test, train = ([sentences[i] for i in part] for part in (order[:UNSEEN], order[UNSEEN:]))
    tokenizers = dict[Level, Tokenizer]()
    for number, level in enumerate(LEVELS):
        tick(number / 4, f"vocabulary of the {level} level")
        tokenizers[level] = Tokenizer(level, train, params)
    rows = {level: [each.encode(sentence) for sentence in test] for level, each in tokenizers.items()}
    length = {level: sum(map(len, each)) / len(test) for level, each in rows.items()}
    unknown = {level: sum(row.count(0) for row in each) / sum(map(len, each)) for level, each in rows.items()}
    size = {level: len(each.number) - 1 for level, each in tokenizers.items()}
    tick(0.75, "bits per character")
    bits = {level: bits_per_character(each, tokenizers["character"], train, test) for level, each in tokenizers.items()}
    counts = sorted(Counter(word for sentence in train for word in split_words(sentence)).values(), reverse=True)
    ranks = sorted({round(1.15**step) for step in range(60)} & set(range(1, len(counts) + 1)))
    back = [
        each.decode(each.encode(sentence)) == "".join(split_words(sentence))
        for level, each in tokenizers.items()
        for sentence in test
        if level != "word" or 0 not in each.encode(sentence)
    ]
    order_of = {name: [values[level] for level in LEVELS] for name, values in (("length", length), ("size", size))}
    ratio = min(min(b / a for a, b in pairwise(order_of["length"])), min(a / b for a, b in pairwise(order_of["size"])))
    example = tokenizers[params.level].cut(test[0])
    return Result(
        metrics=[
            Metric("tokens per sentence", length[params.level]),
            Metric("vocabulary", size[params.level]),
            Metric("unknown rate", unknown[params.level]),
            Metric("bits per character", bits[params.level], "bits"),
            Metric("words met once", counts.count(1) / len(counts)),
        ],
        claims=[
            Claim("Length and vocabulary go opposite ways: least factor between neighbouring levels", ratio, ">=", 1.2),
            Claim("The word level has unknowns in unseen text: rate", unknown["word"], ">=", 0.01),
            Claim("Subwords and characters have none: rate", unknown["subword"] + unknown["character"], "==", 0.0),
            Claim("Numbers lead back to the text where nothing is unknown: share of sentences",
                  sum(back) / len(back), "==", 1.0),
        ],
        figures=[
            Lines("Zipf: few words are frequent", "log10 of the rank", "log10 of the count",
                  [math.log10(rank) for rank in ranks], {"words": [math.log10(counts[rank - 1]) for rank in ranks]}),
            Bars("Bits per character of unseen text", "", "bits", list(LEVELS), {"neighbours": list(bits.values())}),
        ],
        tables=[
            Table("Levels", ["level", "vocabulary", "tokens per sentence", "unknown rate", "bits per character"],
                  [[level, size[level], length[level], unknown[level], bits[level]] for level in LEVELS]),
            Table("Example", ["sentence", f"as {params.level}s", "tokens"],
                  [[test[0], "|".join(token if token in tokenizers[params.level].number else f"{token} {UNKNOWN}"
                                      for token in example), len(example)]]),
        ],
    )  # fmt: skip
