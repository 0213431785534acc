"""BERT's input: token + segment + position

Question: What are the three embeddings, and what do [CLS], [SEP] and [MASK] do?
Source: Devlin et al. 2018, arXiv:1810.04805, §3 and figure 2; word pieces: Wu et al. 2016, arXiv:1609.08144, §4.1.
Watch: Three tables, three lookups, one sum. The same words with swapped segments are another input, and without
  position rows word order is lost. Every output sees every token; with a causal mask (preset "causal") [CLS], which
  stands first, would see nothing but itself.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import gelu, layer_norm, one_hot

from demos.contract import Claim, DemoParams, Heatmap, Metric, Preset, Result, Table, Tick, no_tick

HEADS, EPS, SHOWN = 4, 1e-12, 24  # SHOWN: numbers of each vector in the figures
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WHOLE = "my dog is cute he she it likes like play the store had milk barks loud a cat sleeps went to man bought of"
PIECES = "##ing ##ly ##s ##ed ##er"
LETTERS = "abcdefghijklmnopqrstuvwxyz"  # each as a word and as a piece, so that every word can be cut
VOCABULARY = list(dict.fromkeys([*SPECIAL, *WHOLE.split(), *PIECES.split(), *LETTERS, *(f"##{c}" for c in LETTERS)]))
ID = {piece: number for number, piece in enumerate(VOCABULARY)}


class Params(DemoParams):
    sentence_a: str = Field("my dog is cute", description="First sentence; [MASK] may stand for a word")
    sentence_b: str = Field("he likes playing", description="Second sentence, or nothing")
    max_len: int = Field(32, ge=8, le=512, description="Rows of the position table: longest input (BERT: 512)")
    hidden: int = Field(64, ge=16, le=256, description="Width, cut to a multiple of 4 (BERT: 768)")
    layers: int = Field(2, ge=1, le=12, description="Encoder layers (BERT: 12)")
    causal: bool = Field(False, description="Let each token see only those before it, as GPT does")
    seed: int = Field(0, ge=0, le=9999, description="Seed of the weights")

    presets: ClassVar[Mapping[str, Preset]] = {
        "causal": Preset("GPT's mask: [CLS] no longer hears the rest", {"causal": True}),
        "one-sentence": Preset("[CLS] text [SEP], all of segment 0", {"sentence_b": ""}),
        "masked": Preset("A word hidden behind [MASK]", {"sentence_a": "my dog is [MASK]"}),
        "too-long": Preset("Eight rows of positions: the pair is cut", {"max_len": 8}),
    }  # fmt: skip


def word_pieces(word: str) -> list[str]:
    """The longest piece of the vocabulary that begins the word, then the longest that goes on, and so on."""
    if word in SPECIAL:
        return [word]
    pieces, start = list[str](), 0
    while start < len(word):
        ends = range(len(word), start, -1)
        found = next((p for end in ends if (p := "##" * (start > 0) + word[start:end]) in ID), None)
        if found is None:
            return ["[UNK]"]
        pieces.append(found)
        start += len(found.removeprefix("##"))
    return pieces


def tokenize(text: str) -> list[str]:
    """Lower-case word pieces of a text; signs that are no letters stand alone."""
    words = re.findall(r"\[MASK\]|\w+|[^\w\s]", re.sub(r"(?<!\[)\b\w+", lambda word: word[0].lower(), text))
    return [piece for word in words for piece in word_pieces(word)]


def pack(a: Sequence[str], b: Sequence[str], max_len: int) -> tuple[list[str], list[int], int]:
    """[CLS] A [SEP] B [SEP] with a segment for each token, and how many tokens were cut, from the longer end first."""
    a, b, cut = list(a), list(b), 0
    while len(a) + len(b) + (3 if b else 2) > max_len:
        (a if len(a) > len(b) else b).pop()
        cut += 1
    tokens, segments = ["[CLS]", *a, "[SEP]"], [0] * (len(a) + 2)
    return ([*tokens, *b, "[SEP]"], segments + [1] * (len(b) + 1), cut) if b else (tokens, segments, cut)


class InputTooLong(ValueError):
    """An input has more tokens than the position table has rows."""


class Encoder:
    """BERT with random weights: the three tables, layers with the norm after each residual, and no decoder."""

    def __init__(self, params: Params, rng: torch.Generator) -> None:
        self.d, self.causal = params.hidden // HEADS * HEADS, params.causal

        def matrix(rows: int, columns: int) -> Tensor:
            return torch.randn(rows, columns, generator=rng) / math.sqrt(columns)

        self.tokens, self.segments = matrix(len(VOCABULARY), self.d), matrix(2, self.d)
        self.positions = matrix(params.max_len, self.d)
        shapes = {"q": (1, 1), "k": (1, 1), "v": (1, 1), "o": (1, 1), "up": (4, 1), "down": (1, 4)}  # (out, in) / d
        self.layers = [
            {name: matrix(out * self.d, into * self.d) for name, (out, into) in shapes.items()}
            for _ in range(params.layers)
        ]

    def normed(self, x: Tensor) -> Tensor:
        return layer_norm(x, (self.d,), eps=EPS)

    def embed(self, ids: Tensor, segments: Tensor, positions: Tensor | None = None) -> Tensor:
        """LayerNorm(token + segment + position), (T, d), for ids and segments (T,). Figure 2."""
        if len(ids) > len(self.positions):
            raise InputTooLong(f"{len(ids)} tokens, but only {len(self.positions)} positions")
        rows = self.positions[: len(ids)] if positions is None else positions
        return self.normed(self.tokens[ids] + self.segments[segments] + rows)

    def encode(self, x: Tensor, real: Tensor | None = None) -> Tensor:
        """Outputs (T, d) for embeddings x (T, d); `real` (T,) tells tokens from padding."""
        hidden_from = torch.zeros(len(x), len(x), dtype=torch.bool) if real is None else ~real.expand(len(x), -1)
        if self.causal:
            hidden_from = hidden_from | torch.ones_like(hidden_from).triu(1)
        for W in self.layers:
            q, k, v = ((x @ W[name].T).view(len(x), HEADS, -1).transpose(0, 1) for name in "qkv")  # (n, T, d / n)
            scores = (q @ k.mT / math.sqrt(q.shape[2])).masked_fill(hidden_from, -math.inf)  # (n, T, T)
            x = self.normed(x + (scores.softmax(dim=-1) @ v).transpose(0, 1).flatten(1) @ W["o"].T)
            x = self.normed(x + gelu(x @ W["up"].T) @ W["down"].T)
        return x


def refusals(encoder: Encoder, max_len: int) -> int:
    """How many of an input of max_len and one of max_len + 1 tokens are refused."""
    refused = 0
    for length in (max_len, max_len + 1):
        try:
            encoder.embed(torch.zeros(length, dtype=torch.long), torch.zeros(length, dtype=torch.long))
        except InputTooLong:
            refused += 1
    return refused


def run(params: Params, tick: Tick = no_tick) -> Result:
    encoder = Encoder(params, torch.Generator().manual_seed(params.seed))
    tokens, segment_list, cut = pack(tokenize(params.sentence_a), tokenize(params.sentence_b), params.max_len)
    ids, segments = torch.tensor([ID[token] for token in tokens]), torch.tensor(segment_list)  # (T,) each
    n = len(ids)
    embedded = encoder.embed(ids, segments)
    output = encoder.encode(embedded)
    tick(0.5, "encoded", tokens=n)

    parts = {
        "token": one_hot(ids, len(VOCABULARY)).float() @ encoder.tokens,  # (T, d): a lookup is this product
        "segment": one_hot(segments, 2).float() @ encoder.segments,
        "position": torch.eye(n, params.max_len) @ encoder.positions,
    }
    total = sum(parts.values(), torch.zeros(n, encoder.d))
    deviation = total.var(dim=1, unbiased=False, keepdim=True).sqrt()
    sum_gap = ((total - total.mean(dim=1, keepdim=True)) / deviation - embedded).abs().max().item()
    separators = (ids == ID["[SEP]"]).cumsum(dim=0) - (ids == ID["[SEP]"]).long()  # (T,), how many stand before
    wrong = int((separators != segments).sum())
    swapped = (encoder.encode(encoder.embed(ids, 1 - segments)) - output).abs().max().item()
    other = ids.clone()
    other[-1] = ID["[PAD]"]
    heard = (encoder.encode(encoder.embed(other, segments))[0] - output[0]).abs().max().item()
    order = torch.arange(n)
    order[[1, 2]] = order[[2, 1]]  # the first two words change places
    nowhere = torch.zeros(n, encoder.d)
    bare, bare_swapped = (encoder.encode(encoder.embed(ids[o], segments[o], nowhere)) for o in (order.sort()[0], order))
    lost = (bare_swapped - bare[order]).abs().max().item()
    kept = (encoder.encode(encoder.embed(ids[order], segments[order])) - output[order]).abs().max().item()
    pad = min(4, params.max_len - n)
    padded, more = torch.cat([ids, torch.zeros(pad, dtype=torch.long)]), torch.cat([segments, torch.zeros(pad).long()])
    padding = (encoder.encode(encoder.embed(padded, more), padded != 0)[:n] - output).abs().max().item()
    refused = refusals(encoder, params.max_len)
    names = [f"{i} {token}" for i, token in enumerate(tokens)]
    return Result(
        metrics=[
            Metric("tokens", n),
            Metric("tokens cut", cut),
            Metric("change of [CLS] when the last token changes", heard),
        ],
        claims=[
            Claim("The embedding is LayerNorm(token + segment + position): largest difference", sum_gap, "<=", 1e-5),
            Claim("Segment 0 ends with the first [SEP]: tokens of a wrong segment", wrong, "==", 0),
            Claim("Swapped segments are another input: largest change of the output", swapped, ">=", 1e-3),
            Claim("The position table ends: inputs refused of max_len and max_len + 1", refused, "==", 1),
            Claim("Every output hears every token: change of [CLS] with the last one", heard, ">=", 1e-3),
            Claim("Position rows make order count: change of the words' outputs when two swap", kept, ">=", 1e-3),
            Claim("Without them order is lost: change when two swap", lost, "<=", 1e-5),
            Claim("Padding is not heard: largest change of the output", padding, "<=", 1e-5),
        ],
        figures=[
            Heatmap(f"{name}, first {SHOWN} numbers", "number", "token", part[:, :SHOWN].numpy().tolist(), names)
            for name, part in {**parts, "LayerNorm of their sum": embedded}.items()
        ],
        tables=[
            Table("Inputs", ["position", "token", "id", "segment"],
                  [[i, token, ID[token], segment_list[i]] for i, token in enumerate(tokens)]),
        ],
    )  # fmt: skip
