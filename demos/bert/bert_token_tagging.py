"""A tag for every token: entities, parts of speech, chunks

Question: How is named-entity recognition a classification of tokens?
Source: Devlin et al. 2018, arXiv:1810.04805, §5.3 (a word's first piece, linear layer); Ramshaw & Marcus 1995,
  arXiv:cmp-lg/9505040 (phrases as tags); Tjong Kim Sang & De Meulder 2003, arXiv:cs/0306050 (F1 of whole entities).
Watch: names that no training sentence has. Where a sentence tells what they are ("they flew to …") they get the right
  tag, where it does not ("… is famous") nothing can. If all names of the training are well known (preset), the network
  learns a list of names instead. And without B- (preset) neighbours of one type melt into one.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from demos.contract import Bars, Claim, DemoParams, Heatmap, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.transformer import Transformer, start, train

TELLING = [  # phrases of words/class with commas between choices, or a name of a type. Some words have two classes
    "tell,ask/VERB | PER | PER | called,wrote/VERB",
    "PER | shares,plans/VERB | a,the/DET flat,trip/NOUN | with/ADP | PER",
    "they/PRON | flew,moved/VERB | to/ADP | LOC | LOC",
    "shares,plans/NOUN | of/ADP | ORG | fell,rose/VERB",
    "PER | sold,bought/VERB | ORG | ORG | shares/NOUN",
    "the/DET new,flat/ADJ roof,trip/NOUN | near/ADP | LOC | is,was/VERB | late,new/ADJ",
]
BARE = ["we,they/PRON | know,like/VERB | *", "* | is,was/VERB | famous,late/ADJ"]  # * is a name, here of any type
FORMS = {"PER": "* van *", "LOC": "new *", "ORG": "* bank"}  # of an entity that is not a name alone
KNOWN = {"PER": ["ada", "alan", "emmy", "grace", "kurt", "marie"], "LOC": ["oslo", "rome", "lima", "cairo", "kyoto"],
         "ORG": ["acme", "orbis", "nordex", "ventra", "sonico"]}  # fmt: skip  # names of one piece
HEADS, TAILS = ["bal", "der", "fen", "gor", "kel", "lun", "mar", "pol"], ["##do", "##mi", "##ra", "##sk", "##ton"]
PAIRS = [f"{head} {tail}" for head in HEADS for tail in TAILS]  # names of two pieces, each for any type
RARE, NEW = PAIRS[::2], PAIRS[1::2]  # in training, and not: the same pieces, put together otherwise
PHRASES = {"NOUN": "NP", "PRON": "NP", "PROPN": "NP", "VERB": "VP", "ADP": "PP", "ADJ": "ADJP"}  # by its last word
KINDS = {"ner": list(KNOWN), "chunk": ["NP", "VP", "PP", "ADJP"], "pos": [*PHRASES, "DET", "PUNCT"]}
PIECES = ["[PAD]", "[CLS]", "[SEP]", ".",
          *sorted({*re.findall("[a-z#]+", f"{TELLING} {BARE} {FORMS} {KNOWN} {PAIRS}")})]  # fmt: skip
ID = {piece: number for number, piece in enumerate(PIECES)}
D, LAYERS, ATTENTION_HEADS, BATCH, RATE = 48, 2, 4, 32, 5e-3
PAD, IGNORED, LENGTH, TRAINED, TESTED = 0, -100, 20, 200, 40  # the last two: sentences of each frame


class Params(DemoParams):
    task: Literal["ner", "pos", "chunk"] = Field("ner", description="Entities, parts of speech, or phrases")
    scheme: Literal["io", "bio"] = Field("bio", description="Whether a first word has a tag of its own (not for pos)")
    unseen_names: float = Field(0.5, ge=0.0, le=1.0, description="Share of the test's entities that are new")
    rare_names: float = Field(0.4, ge=0.0, le=1.0, description="Share of training's entities that are not well known")
    steps: int = Field(250, ge=50, le=1000, description="Training steps of 32 sentences")
    seed: int = Field(0, ge=0, le=9999, description="Seed of sentences and weights")

    presets: ClassVar[Mapping[str, Preset]] = {
        "without B-": Preset("I- and O alone: neighbours of one type become one", {"scheme": "io"}),
        "well-known names only": Preset("A list of names is learned, and no new one is found", {"rare_names": 0.0}),
        "parts of speech": Preset("The same layer, and a class for each word", {"task": "pos"}),
    }


Span = tuple[int, int, str]  # first word, the word after the last, and what they are
Sentence = tuple[list[str], dict[str, list[Span]]]  # words, each its pieces with a space between; spans of each task


def write(frame: str, others: Sequence[str], share: float, rng: torch.Generator) -> Sentence:
    """A sentence of this frame. With this chance an entity's names are of the others instead of the known ones."""

    def draw(choices: Sequence[str]) -> str:
        return choices[int(torch.randint(len(choices), (), generator=rng))]

    words, spans = list[str](), {task: list[Span]() for task in KINDS}
    for phrase in [*frame.split(" | "), "./PUNCT"]:
        begin, kind = len(words), draw(KINDS["ner"]) if phrase == "*" else phrase
        names = others if torch.rand((), generator=rng) < share else KNOWN.get(kind, [])
        for part in (draw(["*", FORMS[phrase]]) if phrase in FORMS else phrase).split():
            choices, _, word_class = part.partition("/")
            spans["pos"].append((len(words), len(words) + 1, word_class or "PROPN"))
            words.append(draw(names if choices == "*" else choices.split(",")))
        if kind in KNOWN:
            spans["ner"].append((begin, len(words), kind))
        if (last := spans["pos"][-1][2]) in PHRASES:
            spans["chunk"].append((begin, len(words), PHRASES[last]))
    return words, spans


def tags_of(task: str, scheme: str) -> list[str]:
    """All tags: for pos the classes, else O, and for each type I- and under bio B-."""
    marks = {"io": "I", "bio": "BI"}[scheme]
    return KINDS[task] if task == "pos" else ["O", *(f"{mark}-{kind}" for kind in KINDS[task] for mark in marks)]


def to_tags(spans: Sequence[Span], n: int, tags: Sequence[str]) -> list[str]:
    """A tag for each of n words: the kind itself if that is one, else I-, and at a span's first word B- if there is."""
    row = ["O"] * n
    for first, end, kind in spans:
        row[first:end] = [kind if kind in tags else f"I-{kind}"] * (end - first)
        if f"B-{kind}" in tags:
            row[first] = f"B-{kind}"
    return row


def to_spans(row: Sequence[str]) -> list[Span]:
    """The spans that tags tell: I- goes on with a span of its type that ends before it, any other tag begins one."""
    spans = list[Span]()
    for n, tag in enumerate(row):
        mark, _, kind = tag.rpartition("-")
        if mark == "I" and spans and spans[-1][1:] == (n, kind):
            spans[-1] = (spans[-1][0], n + 1, kind)
        elif tag != "O":
            spans.append((n, n + 1, kind))
    return spans


def encode(sentences: Sequence[Sentence], task: str, tags: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Pieces (N, LENGTH), and the number of each word's tag at its first piece; all other places are ignored."""
    x, y = torch.full((len(sentences), LENGTH), PAD), torch.full((len(sentences), LENGTH), IGNORED)
    for row, (words, spans) in enumerate(sentences):
        at = 1
        for word, tag in zip(words, to_tags(spans[task], len(words), tags), strict=True):
            y[row, at] = tags.index(tag)
            for piece in word.split():
                x[row, at] = ID[piece]
                at += 1
        x[row, 0], x[row, at] = ID["[CLS]"], ID["[SEP]"]
    return x, y


class Tagger(nn.Module):
    """A miniature BERT and one linear layer for all places: scores (N, LENGTH, tags) of pieces (N, LENGTH)."""

    def __init__(self, tags: int, rng: torch.Generator) -> None:
        super().__init__()
        self.encoder = Transformer(len(PIECES), LENGTH, D, LAYERS, ATTENTION_HEADS, rng, causal=False)
        self.head = nn.Linear(D, tags)
        start(self.head, rng)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder.hidden(x, (x != PAD)[:, None, None]))  # no place looks at padding


def score(gold: Sequence[Sequence[Span]], found: Sequence[Sequence[Span]]) -> tuple[float, float, float]:
    """Precision, recall and F1 of sentences' spans: one is right if both borders and the type are."""
    hits = sum(len({*g} & {*f}) for g, f in zip(gold, found, strict=True))
    asked, told = sum(map(len, gold)), sum(map(len, found))
    return hits / max(1, told), hits / max(1, asked), 2 * hits / max(1, told + asked)


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng = torch.Generator().manual_seed(params.seed)
    task, frames, tags = params.task, TELLING + BARE, tags_of(params.task, params.scheme)
    pieces, labels = encode([write(frame, RARE, params.rare_names, rng) for frame in frames * TRAINED], task, tags)
    model = Tagger(len(tags), rng)

    def loss() -> Tensor:
        some = torch.randint(len(pieces), (BATCH,), generator=rng)
        return cross_entropy(model(pieces[some]).transpose(1, 2), labels[some], ignore_index=IGNORED)

    train(model, loss, params.steps, RATE, lambda step, value: tick(step / params.steps, f"step {step}", loss=value))

    @torch.no_grad()
    def test(frames: list[str], unseen: float) -> tuple[Tensor, list[list[Span]], list[list[Span]]]:
        """New sentences: their pieces, gold and likeliest tags (3, N, LENGTH), gold spans, and those found."""
        sentences = [write(frame, NEW, unseen, rng) for frame in frames * TESTED]
        x, y = encode(sentences, task, tags)
        best = model(x).argmax(dim=2)
        rows = [[tags[int(n)] for n in row[told != IGNORED]] for row, told in zip(best, y, strict=True)]
        return torch.stack([x, y, best]), [spans[task] for _, spans in sentences], list(map(to_spans, rows))

    bars = {name: [score(*test(some, unseen)[1:])[2] for some in (TELLING, BARE, frames)]
            for name, unseen in (("known names", 0.0), ("new names", 1.0))}  # fmt: skip
    (x, y, best), gold, found = test(frames, params.unseen_names)
    pairs = [(a in f, b in f) for g, f in zip(gold, found, strict=True)
             for a, b in pairwise(g) if a[1:] == (b[0], b[2])]  # fmt: skip  # neighbours of one type
    counts = torch.stack([best[y == tag].bincount(minlength=len(tags)) for tag in range(len(tags))])
    shown: list[list[int]] = torch.stack([x, y, best], dim=2)[: len(frames) : 2].flatten(0, 1).numpy().tolist()
    return Result(
        metrics=[*(Metric(*pair) for pair in zip(("precision", "recall", "f1"), score(gold, found), strict=True)),
                 Metric("spans found, for each of the gold ones", sum(map(len, found)) / sum(map(len, gold))),
                 Metric("f1 of new names where the sentence does not tell", bars["new names"][1])],
        claims=[
            Claim("Known names are found: F1 of whole spans", bars["known names"][2], ">=", 0.95),
            Claim("New names are found by what stands around them: F1", bars["new names"][2], ">=", 0.7),
            Claim("Neighbours of one type stay two: share of pairs found whole", pairs.count((True, True)) / len(pairs),
                  ">=", 0.75),
        ],
        figures=[
            Bars("Spans found in new sentences", "what the sentence tells", "F1",
                 ["the type of its names", "nothing of it", "all sentences"], bars),
            Heatmap("Confusion: share of a tag's words", "predicted", "gold",
                    (counts / counts.sum(dim=1, keepdim=True).clamp(min=1)).numpy().tolist(), tags, tags),
        ],
        tables=[
            Table("Tagged pieces of new sentences", ["piece", "gold", "predicted"],
                  [[PIECES[piece], *((tags[tag], tags[guess]) if tag != IGNORED else ("", "ignored"))]
                   for piece, tag, guess in shown if piece != PAD]),
        ],
    )  # fmt: skip
