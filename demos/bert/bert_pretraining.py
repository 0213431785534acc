"""BERT in miniature: masked words and next sentences

Question: What can a model learn by filling blanks from both sides?
Source: Devlin et al. 2018, arXiv:1810.04805, §3.1 (both objectives), appendix A.1–A.2 (masks, pairs, heads).
Watch: "she went to the [MASK] to buy milk": only what stands to the right tells the place. A model that sees both sides
  fills it; the same model that sees the left side only (control, and preset) stays at one in five, however long it
  trains. The next sentence is told apart at the same time, from the vector of [CLS].
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, gelu, scaled_dot_product_attention

from demos.contract import Bars, Claim, DemoParams, Lines, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.transformer import start, train

PLACES = {  # what is done there, and whom one meets
    "store": (["buy milk", "buy bread", "sell eggs"], "clerk"),
    "library": (["read books", "read papers", "borrow novels"], "librarian"),
    "park": (["play ball", "play tag", "feed ducks"], "gardener"),
    "school": (["learn maths", "learn music", "take tests"], "teacher"),
    "pool": (["swim laps", "take dives", "learn strokes"], "coach"),
}
PEOPLE = ["she", "he", "they", "we"]
DEEDS = [(place, deed) for place, (deeds, _) in PLACES.items() for deed in deeds]
PAD, CLS, SEP, MASK = range(4)
GLUE = ["went", "to", "the", "there", "met", "."]
WORDS = ["[PAD]", "[CLS]", "[SEP]", "[MASK]", *GLUE, *PEOPLE, *PLACES, *(guide for _, guide in PLACES.values()),
         *sorted({word for _, deed in DEEDS for word in deed.split()})]  # fmt: skip
ID = {word: number for number, word in enumerate(WORDS)}
LENGTH, BLANK = 18, 5  # words of a pair, and where the first sentence names its place
D, LAYERS, HEADS = 48, 2, 4
TEXTS, TESTED, BATCH, RATE = 4000, 500, 64, 4e-3
P_MASK, P_RANDOM = 0.8, 0.1  # of the chosen words; the others are kept
IGNORED = -100


class Params(DemoParams):
    steps: int = Field(400, ge=100, le=2000, description="Steps of 64 pairs, for each of the two models")
    mask_rate: float = Field(0.15, ge=0.05, le=0.8, description="Share of words that are to be predicted")
    nsp: bool = Field(True, description="Also learn whether the second sentence follows the first")
    causal: bool = Field(False, description="Let every word see its left side only")
    sentence: str = Field("she went to the [MASK] to buy milk", max_length=80, description="A sentence with a [MASK]")
    seed: int = Field(0, ge=0, le=9999, description="Seed of texts, masks and weights")

    presets: ClassVar[Mapping[str, Preset]] = {
        "left side only": Preset("The place stays a guess: what tells it comes later", {"causal": True}),
        "no next sentence": Preset("Only masked words are learned: [CLS] says nothing about pairs", {"nsp": False}),
        "half masked": Preset("So much is hidden that what tells the place is often hidden too", {"mask_rate": 0.5}),
    }

    @field_validator("sentence")
    @classmethod
    def _has_one_blank(cls, sentence: str) -> str:
        words = sentence.split()
        strange = [word for word in words if word not in WORDS]
        if strange or words.count("[MASK]") != 1 or len(words) > LENGTH - 3:
            problem = f"unknown: {', '.join(strange)}" if strange else f"at most {LENGTH - 3} words, one of them [MASK]"
            raise ValueError(f"{problem}. It knows: {' '.join(WORDS[MASK:])}")
        return sentence


@dataclass(frozen=True)
class Pairs:
    """n pairs "[CLS] A [SEP] B [SEP]": words and segments (n, LENGTH), and whether B follows A (n,)."""

    words: Tensor
    segments: Tensor
    follows: Tensor


def draw_pairs(n: int, rng: torch.Generator, share: float = 0.5) -> Pairs:
    """Stories of two sentences; of all but a share of them, B belongs to a story of another place."""
    rows = list[list[int]]()
    follows = torch.rand(n, generator=rng) < share
    for true_pair in follows:
        deed, person, other = (int(torch.randint(count, (), generator=rng)) for count in (len(DEEDS), len(PEOPLE), 12))
        place, what = DEEDS[deed]
        second = place if true_pair else [name for name, _ in DEEDS if name != place][other]
        who = PEOPLE[person]
        text = f"[CLS] {who} went to the {place} to {what} . [SEP] there {who} met the {PLACES[second][1]} . [SEP]"
        rows.append([ID[word] for word in text.split()])
    words = torch.tensor(rows)
    segments = (words == SEP).cumsum(dim=1) - (words == SEP).long() > 0  # 0 up to the first [SEP], then 1
    return Pairs(words, segments.long(), follows.long())


def corrupt(words: Tensor, rate: float, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """What is read (n, LENGTH), and targets: the word where it was chosen, IGNORED elsewhere. Appendix A.1."""
    chosen = (torch.rand(words.shape, generator=rng) < rate) & (words > MASK)
    lot = torch.rand(words.shape, generator=rng)
    other = torch.randint(MASK + 1, len(WORDS), words.shape, generator=rng)
    read = torch.where(lot < P_MASK, MASK, torch.where(lot < P_MASK + P_RANDOM, other, words))
    return torch.where(chosen, read, words), words.masked_fill(~chosen, IGNORED)


class Block(nn.Module):
    """Attention and a GELU network; each output is added to its input and normed afterwards (post-norm)."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(D, D) for _ in range(4))
        self.up, self.down = nn.Linear(D, 4 * D), nn.Linear(4 * D, D)
        self.norm1, self.norm2 = nn.LayerNorm(D), nn.LayerNorm(D)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        q, k, v = (part(x).unflatten(2, (HEADS, -1)).transpose(1, 2) for part in (self.q, self.k, self.v))
        x = self.norm1(x + self.out(scaled_dot_product_attention(q, k, v, mask).transpose(1, 2).flatten(2)))
        return self.norm2(x + self.down(gelu(self.up(x))))


class Bert(nn.Module):
    """The encoder with both heads of pre-training."""

    def __init__(self, causal: bool, rng: torch.Generator) -> None:
        super().__init__()
        self.causal = causal
        self.words, self.positions = nn.Embedding(len(WORDS), D), nn.Embedding(LENGTH, D)
        self.segments, self.norm = nn.Embedding(2, D), nn.LayerNorm(D)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.transform, self.transform_norm = nn.Linear(D, D), nn.LayerNorm(D)
        self.word_bias = nn.Linear(1, len(WORDS))  # only its bias is used: the matrix is that of the words
        self.pooler, self.next_sentence = nn.Linear(D, D), nn.Linear(D, 2)
        start(self, rng)

    def forward(self, words: Tensor, segments: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the word at each place (B, n, V), and of NotNext and IsNext (B, 2), of words (B, n)."""
        n = words.shape[1]
        x = self.norm(self.words(words) + self.positions.weight[:n] + self.segments(segments))
        mask = (words != PAD)[:, None, None]  # (B, 1, 1, n)
        if self.causal:
            mask = mask & torch.ones(n, n, dtype=torch.bool).tril()
        for block in self.blocks:
            x = block(x, mask)
        filled = self.transform_norm(gelu(self.transform(x))) @ self.words.weight.T + self.word_bias.bias
        reads_all = x[:, -1] if self.causal else x[:, 0]  # the only token of a causal model that has seen B
        return filled, self.next_sentence(torch.tanh(self.pooler(reads_all)))


def pretrain(params: Params, causal: bool, tick: Tick) -> tuple[Bert, list[float], list[float]]:
    """A model and its two losses: of masked words, and of next sentences (none without that objective)."""
    rng = torch.Generator().manual_seed(params.seed)  # the same texts and first weights for both models
    pairs, model = draw_pairs(TEXTS, rng), Bert(causal, rng)
    masked, following = list[float](), list[float]()

    def loss() -> Tensor:
        some = torch.randint(TEXTS, (BATCH,), generator=rng)
        read, targets = corrupt(pairs.words[some], params.mask_rate, rng)
        filled, follows = model(read, pairs.segments[some])
        words = cross_entropy(filled.flatten(0, 1), targets.flatten(), ignore_index=IGNORED)
        masked.append(words.item())
        if not params.nsp:
            return words
        pair = cross_entropy(follows, pairs.follows[some])
        following.append(pair.item())
        return words + pair

    train(model, loss, params.steps, RATE, lambda step, value: tick(step / params.steps, "training", loss=value))
    return model, masked, following


@torch.no_grad()
def place_accuracy(model: Bert, pairs: Pairs) -> float:
    """Share of pairs in which the hidden place of the first sentence is the likeliest of all words."""
    read = pairs.words.clone()
    read[:, BLANK] = MASK
    return (model(read, pairs.segments)[0][:, BLANK].argmax(dim=1) == pairs.words[:, BLANK]).float().mean().item()


@torch.no_grad()
def pair_accuracy(model: Bert, pairs: Pairs) -> float:
    return (model(pairs.words, pairs.segments)[1].argmax(dim=1) == pairs.follows).float().mean().item()


@torch.no_grad()
def fill(model: Bert, sentence: str) -> list[tuple[str, float]]:
    """The five likeliest words for the blank, and their probabilities."""
    words = torch.tensor([[CLS, *(ID[word] for word in sentence.split()), ID["."], SEP]])
    filled, _ = model(words, torch.zeros_like(words))
    best = filled[0][words[0] == MASK][0].softmax(dim=0).topk(5)
    return [(WORDS[int(word)], p.item()) for word, p in zip(best.indices, best.values, strict=True)]


def halves(tick: Tick, first: bool) -> Tick:
    """The progress of one of two trainings, as progress of the whole."""

    def report(fraction: float, message: str, **live: float) -> None:
        tick(fraction / 2 if first else 0.5 + fraction / 2, message, **live)

    return report


def run(params: Params, tick: Tick = no_tick) -> Result:
    model, masked, following = pretrain(params, params.causal, halves(tick, True))
    control = model if params.causal else pretrain(params, True, halves(tick, False))[0]
    rng = torch.Generator().manual_seed(params.seed + 10_000)
    tests, misleading = draw_pairs(TESTED, rng), draw_pairs(TESTED, rng, share=0.0)
    right, left_only = place_accuracy(model, misleading), place_accuracy(control, misleading)
    told = pair_accuracy(model, tests)
    with torch.no_grad():
        read, targets = corrupt(tests.words, params.mask_rate, rng)
        filled, follows = model(read, tests.segments)
        chosen = targets != IGNORED
        hits = (filled.argmax(dim=2) == targets)[chosen].float().mean().item()
        log_p = filled.log_softmax(dim=2).gather(2, targets.clamp(min=0)[:, :, None])[:, :, 0]  # (n, LENGTH)
        by_hand = -log_p[chosen].mean()
        gap = (by_hand - cross_entropy(filled.flatten(0, 1), targets.flatten(), ignore_index=IGNORED)).abs().item()
        chances = follows[:6].softmax(dim=1)[:, 1]  # of six pairs, for the table
    answers = fill(model, params.sentence)
    steps = list(range(1, params.steps + 1))
    return Result(
        metrics=[
            Metric("accuracy", right),
            Metric("accuracy of the left-only control", left_only),
            Metric("masked words filled in", hits),
            Metric("pairs told apart", told),
        ],
        claims=[
            Claim("A place that only the right side tells is filled in: share, where the next sentence misleads",
                  right, ">=", 0.95),
            Claim("Who sees the left side only has to guess: the same of the causal control", left_only, "<=", 0.35),
            Claim("It tells a next sentence from another: share of unseen pairs", told, ">=", 0.95),
            Claim("The loss is that of the chosen words alone: difference from the mean over them", gap, "<=", 1e-6),
        ],
        figures=[
            Lines("Loss", "step", "nats", steps,
                  {"masked words": masked} | ({"next sentence": following} if params.nsp else {})),
            Bars("Words for the blank", "word", "probability", [word for word, _ in answers],
                 {params.sentence: [p for _, p in answers]}),
        ],
        tables=[
            Table("Words for the blank", ["word", "probability"], [[word, p] for word, p in answers]),
            Table("Pairs", ["pair", "is", "probability of IsNext"],
                  [[" ".join(WORDS[int(word)] for word in words), "IsNext" if label else "NotNext", p]
                   for words, label, p in zip(tests.words, tests.follows, chances.numpy().tolist(), strict=False)]),
        ],
    )  # fmt: skip
