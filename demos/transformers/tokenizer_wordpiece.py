"""WordPiece: BERT's tokenizer from scratch

Question: How does WordPiece choose merges, and what does "##" mean?
Source: Schuster, Nakajima 2012 (ICASSP), §3; Wu et al. 2016, arXiv:1609.08144, §4.1; inputs: Devlin et al. 2018,
    arXiv:1810.04805, §3. The original trainer was never published: the score is that of the likelihood's gain.
Watch: A pair is merged if it is more frequent than its two halves let one expect, not if it is frequent: other
    first merges than BPE's. Cutting is greedy: the longest piece that fits, then the longest "##" piece, to the end.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import ClassVar, Literal

import torch
from pydantic import Field

from demos.contract import Bars, Claim, DemoParams, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.prose import read_sentences

UNSEEN, WORDS = 200, 1_000  # sentences, and words for the brute force
STRANGE = ["naïve café 😀", "Ελλάδα", "日本語", "½ × 3"]  # one of them at the end of every fourth unseen sentence
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
Pair = tuple[str, str]
Rule = Literal["likelihood", "count"]


class Params(DemoParams):
    vocab_size: int = Field(300, ge=100, le=2000, description="Pieces with the five special tokens (BERT: 30,522)")
    lowercase: bool = Field(
        True, description="Uncased, as bert-base-uncased; otherwise capitals are letters of their own"
    )
    rule: Rule = Field("likelihood", description="Merge by count(ab) / (count(a)·count(b)), or by count(ab) as BPE")
    min_count: int = Field(20, ge=1, le=200, description="Rarer pairs are not merged, however high their score")
    word: str = Field("unaffable", min_length=1, max_length=60, description="Word to split")
    seed: int = Field(0, ge=0, le=9999, description="Seed of the made-up words of the brute force")

    presets: ClassVar[Mapping[str, Preset]] = {
        "by count": Preset("BPE's rule: then nothing differs from BPE, and that claim fails", {"rule": "count"}),
        "rare pairs": Preset("The score loves pairs that occur once: pieces of little use", {"min_count": 1}),
        "cased": Preset("Capitals are letters: the same word twice in the vocabulary", {"lowercase": False}),
        "large": Preset("A larger vocabulary, fewer pieces a word", {"vocab_size": 1000, "word": "unbelievably"}),
    }


def split_words(text: str, lowercase: bool) -> list[str]:
    """BERT's first cut: at spaces and around punctuation. What it drops (spaces, case) does not come back."""
    return re.findall(r"\w+|[^\w\s]", text.lower() if lowercase else text)


def spell(word: str) -> list[str]:
    """Letters as pieces: "##" marks one that continues a word."""
    return [word[0], *(f"##{letter}" for letter in word[1:])]


def merge(pieces: Sequence[str], pair: Pair) -> list[str]:
    """Join every occurrence of the pair, from left to right; the ## of the second falls away."""
    merged = list[str]()
    for piece in pieces:
        if merged and (merged[-1], piece) == pair:
            merged[-1] += piece.removeprefix("##")
        else:
            merged.append(piece)
    return merged


def learn(
    counts: Counter[str], size: int, rule: Rule, min_count: int
) -> tuple[list[str], list[tuple[Pair, float, int]]]:
    """The vocabulary, and each merge with its score and count. `counts` says how often each word is in the text."""
    words = {word: spell(word) for word in counts}
    vocabulary = [*SPECIAL, *sorted({piece for pieces in words.values() for piece in pieces})]
    merges = list[tuple[Pair, float, int]]()
    while len(vocabulary) < size:
        single, pairs = Counter[str](), Counter[Pair]()
        for word, pieces in words.items():
            for piece in pieces:
                single[piece] += counts[word]
            for pair in pairwise(pieces):
                pairs[pair] += counts[word]

        def score(pair: Pair, pairs: Counter[Pair] = pairs, single: Counter[str] = single) -> float:
            chance = single[pair[0]] * single[pair[1]] if rule == "likelihood" else 1
            return pairs[pair] / chance

        frequent = [pair for pair, count in pairs.items() if count >= min_count]
        if not frequent:
            break
        best = max(frequent, key=lambda pair: (score(pair), pair))
        merges.append((best, score(best), pairs[best]))
        for word, pieces in words.items():
            if best[0] in pieces:
                words[word] = merge(pieces, best)
        joined = best[0] + best[1].removeprefix("##")
        if joined not in vocabulary:  # "a" + "bc" and "ab" + "c" are one piece
            vocabulary.append(joined)
    return vocabulary, merges


def encode_word(word: str, vocabulary: set[str]) -> list[str]:
    """Greedy longest match from the left. If no piece fits somewhere, the whole word is unknown."""
    pieces, start = list[str](), 0
    while start < len(word):
        mark = "##" if start else ""
        fits = (end for end in range(len(word), start, -1) if mark + word[start:end] in vocabulary)
        end = next(fits, None)  # the longest
        if end is None:
            return ["[UNK]"]
        pieces.append(mark + word[start:end])
        start = end
    return pieces


def brute_force(word: str, vocabulary: set[str]) -> list[str]:
    """The same by trying every piece of the vocabulary at every place."""
    pieces, left = list[str](), word
    while left:
        inside = bool(pieces)
        bodies = [piece.removeprefix("##") for piece in vocabulary if piece.startswith("##") == inside]
        fitting = [body for body in bodies if left.startswith(body)]
        if not fitting:
            return ["[UNK]"]
        longest = max(fitting, key=len)
        pieces.append(("##" if inside else "") + longest)
        left = left[len(longest) :]
    return pieces


def build_inputs(a: Sequence[str], b: Sequence[str]) -> tuple[list[str], list[int]]:
    """BERT's input for two texts, and the segment of each token: 0 up to the first [SEP], then 1."""
    tokens = ["[CLS]", *a, "[SEP]", *b, "[SEP]"]
    return tokens, [0] * (len(a) + 2) + [1] * (len(b) + 1)


def run(params: Params, tick: Tick = no_tick) -> Result:
    sentences = read_sentences()
    counts = Counter(split_words(" ".join(sentences[:-UNSEEN]), params.lowercase))
    vocabulary, merges = learn(counts, params.vocab_size, params.rule, params.min_count)
    tick(0.6, "trained", merges=len(merges))
    _, by_count = learn(counts, len(vocabulary) - len(merges) + 20, "count", 1)  # BPE's first merges on the same words
    first, bpe_first = [pair for pair, *_ in merges[:20]], [pair for pair, *_ in by_count[:20]]
    tick(0.7, "compared with BPE")

    known = set(vocabulary)
    strange = [f"{some} {STRANGE[n // 4 % len(STRANGE)]}" if n % 4 == 0 else some
               for n, some in enumerate(sentences[-UNSEEN:])]  # fmt: skip
    unseen = split_words(" ".join(strange), params.lowercase)
    pieces = {word: encode_word(word, known) for word in {*unseen, *counts}}
    unknown = sum(pieces[word] == ["[UNK]"] for word in unseen) / len(unseen)
    rng = torch.Generator().manual_seed(params.seed)
    letters = "abcdefghijklmnopqrstuvwxyz"
    made_up = [
        "".join(letters[i] for i in torch.randint(26, (n,), generator=rng)) for n in range(1, 13) for _ in range(42)
    ]
    tried = [*sorted(set(unseen)), *made_up][:WORDS]
    different = sum(encode_word(word, known) != brute_force(word, known) for word in tried)
    tick(0.95, "brute force")
    whole = {word: some for word, some in pieces.items() if some != ["[UNK]"]}
    lost = sum("".join(piece.removeprefix("##") for piece in some) != word for word, some in whole.items())
    training_unknown = sum(pieces[word] == ["[UNK]"] for word in counts)
    per_letter = sum(len(pieces[word]) for word in unseen) / sum(len(word) for word in unseen)
    a, b = ([piece for word in split_words(text, params.lowercase) for piece in encode_word(word, known)]
            for text in sentences[:2])  # fmt: skip
    tokens, segments = build_inputs(a, b)
    cuts = [n for n, some in enumerate(tokens) if some == "[SEP]"]
    misplaced = [tokens[0] != "[CLS]", cuts != [len(a) + 1, len(tokens) - 1], segments.index(1) != cuts[0] + 1,
                 len(segments) != len(tokens), segments != sorted(segments)]  # fmt: skip
    word = params.word.lower() if params.lowercase else params.word
    shown = split_words(word, params.lowercase)
    return Result(
        metrics=[
            Metric("unk-rate", unknown, "of unseen words"),
            Metric("vocabulary", len(vocabulary), "pieces"),
            Metric("pieces of the word", sum(len(encode_word(some, known)) for some in shown)),
            Metric("pieces per unseen word", sum(len(pieces[some]) for some in unseen) / len(unseen)),
        ],
        claims=[
            Claim("Each piece is the longest that fits: words that brute force cuts otherwise", different, "==", 0),
            Claim("Its first 20 merges are not BPE's: shared ones", len({*first} & {*bpe_first}), "<=", 15),
            Claim("Pieces joined without ## are the word again: words that are not", lost, "==", 0),
            Claim("No word of the training text is unknown: words that are", training_unknown, "==", 0),
            Claim("Unseen words become few pieces: pieces over letters", per_letter, "<=", 0.82),
            Claim("[CLS] A [SEP] B [SEP], segments 0 then 1: parts out of place", sum(misplaced), "==", 0),
        ],
        figures=[
            Bars("Pieces of an unseen word", x="pieces", y="share of words", labels=[str(n) for n in range(1, 11)],
                 series={"WordPiece": [sum(len(pieces[some]) == n for some in unseen) / len(unseen)
                                       for n in range(1, 11)]}),
        ],
        tables=[
            Table(f"“{params.word}”, longest match step by step", ["left of the word", "longest piece"],
                  [[some[sum(len(p.removeprefix("##")) for p in cut[:n]) :], piece]
                   for some in shown for cut in [encode_word(some, known)] for n, piece in enumerate(cut)]),
            Table("First merges", ["merge", "pair", "score · 10⁶", "count", "BPE's pair"],
                  [[n + 1, " + ".join(pair), 1e6 * score, count, " + ".join(bpe_first[n])]
                   for n, (pair, score, count) in enumerate(merges[:20])]),
            Table("Two sentences as BERT's input", ["token", "segment"],
                  [[token, segment] for token, segment in zip(tokens, segments, strict=True)][:40]),
        ],
    )  # fmt: skip
