"""Byte-pair encoding trained from scratch

Question: How do frequent pairs become subwords, and why is nothing ever out of vocabulary?
Source: Sennrich et al. 2015, arXiv:1508.07909, §3.2 and algorithm 1; over bytes: Radford et al. 2019 (GPT-2), §2.2.
Watch: The most frequent pair of neighbours becomes one piece, again and again: letters grow into endings, then words.
    Over letters a new one (an emoji) is unknown; over the 256 bytes nothing is, and every text comes back exactly.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import ClassVar, Literal

from pydantic import Field

from demos.contract import Claim, DemoParams, Lines, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.prose import read_sentences

UNSEEN, UNKNOWN, RECOUNTS = 200, "\N{REPLACEMENT CHARACTER}", 60  # sentences to test on; merges that are recounted
STRANGE = ["naïve café 😀", "Ελλάδα", "日本語", "½ × 3"]  # one of them at the end of every fourth unseen sentence
Pair = tuple[str, str]
Level = Literal["char", "byte"]
LEVELS: tuple[Level, ...] = ("char", "byte")


class Params(DemoParams):
    vocab_size: int = Field(400, ge=100, le=2000, description="Pieces of the final vocabulary")
    level: Level = Field("char", description="Alphabet to begin with: the text's characters or the 256 bytes")
    text: str = Field(
        "builtin", max_length=50_000, description="Training text: builtin (Python's reference) or your own"
    )
    word: str = Field("tokenization", min_length=1, max_length=60, description="Word to split")
    seed: int = Field(0, ge=0, le=9999, description="Unused: nothing here is random")

    presets: ClassVar[Mapping[str, Preset]] = {
        "bytes alone": Preset("A vocabulary of the 256 bytes has no room for merges: nothing gets shorter",
                              {"level": "byte", "vocab_size": 256}),
        "bytes": Preset("Even an emoji is only bytes", {"level": "byte", "word": "naïve café 😀"}),
        "large": Preset("Frequent words are whole pieces now", {"vocab_size": 2000}),
    }  # fmt: skip


def split_words(text: str, level: Level) -> list[str]:
    """Words with the space before them, so that nothing is lost; merges do not cross words. A byte is one character."""
    words = re.findall(r" ?\S+|\s", text)
    return [word.encode().decode("latin-1") for word in words] if level == "byte" else words


def merge(pieces: Sequence[str], pair: Pair) -> list[str]:
    """Join every occurrence of the pair, from left to right."""
    merged = list[str]()
    for piece in pieces:
        if merged and (merged[-1], piece) == pair:
            merged[-1] += piece
        else:
            merged.append(piece)
    return merged


class BPE:
    """An alphabet and the merges in the order in which they were learned."""

    def __init__(self, text: str, vocab_size: int, level: Level) -> None:
        """Algorithm 1: count pairs in the words, merge the most frequent one, repeat."""
        self.level: Level = level
        self.counts = Counter(split_words(text, level))  # a word is worked on once, whatever its count
        bytes_ = {chr(byte) for byte in range(256)}
        self.alphabet = bytes_ if level == "byte" else {letter for word in self.counts for letter in word}
        self.merges: dict[Pair, int] = {}  # pair -> how often it was there when it was merged
        ids = {piece: n for n, piece in enumerate(sorted(self.alphabet))}  # of pairs as frequent, the older pieces win
        words = {word: list(word) for word in self.counts}
        totals, where = Counter[Pair](), defaultdict[Pair, set[str]](set)
        for word, pieces in words.items():
            for pair in pairwise(pieces):
                totals[pair] += self.counts[word]
                where[pair].add(word)
        while len(self.alphabet) + len(self.merges) < vocab_size and totals:
            best, count = max(totals.items(), key=lambda item: (item[1], -ids[item[0][0]], -ids[item[0][1]]))
            if count < 2:
                break
            self.merges[best] = count
            ids.setdefault(best[0] + best[1], len(ids))
            for word in where.pop(best):  # only words that hold the pair change
                for pair in pairwise(words[word]):
                    totals[pair] -= self.counts[word]
                words[word] = merge(words[word], best)
                for pair in pairwise(words[word]):
                    totals[pair] += self.counts[word]
                    where[pair].add(word)
            totals += Counter()  # drops pairs that are gone

    def encode(self, text: str, merges: int | None = None) -> list[str]:
        """Pieces of a text by the first `merges` merges, in the order learned."""
        rank = {pair: n for n, pair in enumerate(list(self.merges)[:merges])}
        known: dict[str, list[str]] = {}
        tokens = list[str]()
        for word in split_words(text, self.level):
            if word not in known:
                pieces = [letter if letter in self.alphabet else UNKNOWN for letter in word]
                while here := [pair for pair in pairwise(pieces) if pair in rank]:
                    pieces = merge(pieces, min(here, key=rank.__getitem__))
                known[word] = pieces
            tokens += known[word]
        return tokens

    def decode(self, tokens: Sequence[str]) -> str:
        text = "".join(tokens)
        return text.encode("latin-1").decode() if self.level == "byte" else text


def most_missed(bpe: BPE, every: int = 1) -> int:
    """Replay the merges on the whole text and count all pairs anew before every n-th of them: by how much was the
    merged pair short of the most frequent one?"""
    words, missed = {word: list(word) for word in bpe.counts}, 0
    for n, (best, count) in enumerate(bpe.merges.items()):
        if n % every == 0:
            totals = Counter[Pair]()
            for word, pieces in words.items():
                for pair in pairwise(pieces):
                    totals[pair] += bpe.counts[word]
            missed = max(missed, max(totals.values()) - count)
        words = {word: merge(pieces, best) if best[0] in pieces else pieces for word, pieces in words.items()}
    return missed


def readable(pieces: Sequence[str], level: Level) -> str:
    """Pieces side by side, a leading space shown, bytes that are no character in hexadecimal."""

    def show(piece: str) -> str:
        try:
            text = piece.encode("latin-1").decode() if level == "byte" else piece
        except UnicodeDecodeError:
            text = "".join(letter if letter.isascii() else f"<{ord(letter):02X}>" for letter in piece)
        return text.replace(" ", "␣")

    return " · ".join(map(show, pieces))


def run(params: Params, tick: Tick = no_tick) -> Result:
    sentences = read_sentences()
    unseen = sentences[-UNSEEN:]
    text = " ".join(sentences[:-UNSEEN]) if params.text == "builtin" else params.text
    strange = [f"{some} {STRANGE[n // 4 % len(STRANGE)]}" if n % 4 == 0 else some for n, some in enumerate(unseen)]
    models: dict[Level, BPE] = {}
    restored = dict[Level, float]()
    for level in LEVELS:
        models[level] = BPE(text, params.vocab_size, level)
        back = [models[level].decode(models[level].encode(some)) == some for some in strange]
        restored[level] = sum(back) / len(back)
        tick(0.4 * len(models), f"trained on {level}s")

    bpe, plain = models[params.level], " ".join(unseen)
    made = len(bpe.merges)
    counts = list(bpe.merges.values())
    missed = most_missed(bpe, every=max(1, made // RECOUNTS))
    sizes = sorted({*range(0, made, max(1, made // 12)), made})
    tokens = [len(bpe.encode(plain, n)) for n in sizes]
    rise = max((after - before for before, after in pairwise(tokens)), default=0)
    steps = [n for n in range(made + 1) if n == 0 or bpe.encode(params.word, n) != bpe.encode(params.word, n - 1)]
    longest = sorted((pair[0] + pair[1] for pair in bpe.merges), key=len, reverse=True)[:10]
    return Result(
        metrics=[
            Metric("vocabulary", len(bpe.alphabet) + made, "pieces"),
            Metric("alphabet", len(bpe.alphabet), "pieces"),
            Metric("tokens per character of unseen text", tokens[-1] / len(plain)),
            Metric("characters per token", len(plain) / tokens[-1]),
            Metric("pieces of the word", len(bpe.encode(params.word))),
        ],
        claims=[
            Claim("Over bytes every unseen sentence comes back exactly: share", restored["byte"], "==", 1.0),
            Claim("Over characters those with a new one do not: share that comes back", restored["char"], "<=", 0.9),
            Claim("Each merge is the most frequent pair of its time: most a recount has above it", missed, "==", 0),
            Claim("The vocabulary shortens unseen text: its tokens over those of the alphabet",
                  tokens[-1] / tokens[0], "<=", 0.75),
            Claim("More merges never mean more tokens: largest rise", rise, "<=", 0),
        ],
        figures=[
            Lines("Compression of unseen text", x="vocabulary", y="tokens per character",
                  at=[len(bpe.alphabet) + n for n in sizes], series={params.level: [n / len(plain) for n in tokens]}),
            Lines("How frequent the pair was", x="merge", y="count when merged", log="y", at=list(range(1, made + 1)),
                  series={"count": counts}),
        ],
        tables=[
            Table(f"“{params.word}” as merges are applied", ["merges applied", "last one", "pieces"],
                  [[n, "none" if n == 0 else readable(list(bpe.merges)[n - 1], bpe.level),
                    readable(bpe.encode(params.word, n), bpe.level)] for n in steps]),
            Table("The first merges", ["merge", "pair", "count"],
                  [[n, readable(pair, bpe.level), count]
                   for n, (pair, count) in enumerate(list(bpe.merges.items())[:20], start=1)]),
            Table("The longest pieces", ["piece"], [[readable([piece], bpe.level)] for piece in longest]),
        ],
    )  # fmt: skip
