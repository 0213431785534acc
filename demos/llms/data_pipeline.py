"""From raw web text to training tokens

Question: What is thrown away before a model sees the data, and does it matter?
Source: Broder 1997, doi:10.1109/SEQUEN.1997.666900 (MinHash); Lee et al. 2021, arXiv:2107.06499, §4.2 and appendix A
  (near-duplicates by bands of hashes); Raffel et al. 2019, arXiv:1910.10683, §2.2 (rules); Brown et al. 2020,
  arXiv:2005.14165, appendix A (a quality classifier); Penedo et al. 2023, arXiv:2306.01116 (a whole pipeline).
Watch: the funnel: less than half of the raw pages is left. At equal tokens the rest teaches more, since raw text spends
  them on advertisements, noise, and the same page again. A mixture of code alone (preset) teaches none of it.
"""

import itertools
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from demos.contract import Bars, Cell, Claim, DemoParams, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.grammar import draw_text, spell
from demos.shared.judge import descend

PAGES, COPIES, BOOKS, PROGRAMS = 500, 120, 30, 60  # web pages, near-copies among them, books, pieces of code
TOKENS, TESTED, LABELLED = 12_000, 4000, 200  # of each training; sentences held out; pages that somebody has judged
SHINGLE, ROWS = 3, 4  # words of a shingle; hashes in a band
PRIME = 2**31 - 1
ADS, FOREIGN, CODE = (text.split() for text in (
    "buy now cheap best offer click here free win prize deal order today save money shop",
    "der die das und ist nicht ein hund katze sieht alten jungen laufen haus baum schnell heute",
    "def return x y = + ( ) : if else for in range print self import",
))  # fmt: skip
MAIL, CALL = r"[\w.]+@[\w.]+\w", r"\+?\d[\d-]{6,}\d"
PERSONAL = re.compile(rf"{MAIL}|{CALL}|\b(?:dr|mr|mrs)\. [a-z]+")
COMMON = {"the", "that", "is", "of", "a"}  # words of English that stand in nearly every sentence
END = "<end>"


class Params(DemoParams):
    jaccard: float = Field(
        0.7, ge=0.3, le=0.95, description="Share of common shingles from which pages are near-copies"
    )
    quality_min: float = Field(0.5, ge=0.0, le=1.0, description="Score that a page must have from the classifier")
    hashes: int = Field(128, ge=16, le=512, description="MinHash functions; they are grouped in bands of four")
    scrub: bool = Field(True, description="Take out mail addresses, telephone numbers and names after titles")
    web: float = Field(0.6, ge=0.0, le=1.0, description="Weight of cleaned web pages in the mixture")
    books: float = Field(0.2, ge=0.0, le=1.0, description="Weight of books")
    code: float = Field(0.2, ge=0.0, le=1.0, description="Weight of code")
    seed: int = Field(0, ge=0, le=9999, description="Seed of the documents and the hashes")

    presets: ClassVar[Mapping[str, Preset]] = {
        "no cuts": Preset("Advertisements and noise stay, and addresses", {"quality_min": 0.0, "scrub": False}),
        "few hashes": Preset("Sixteen hashes estimate badly, and copies slip through", {"hashes": 16}),
        "code alone": Preset("Clean, and about something else", {"web": 0.0, "books": 0.0, "code": 1.0}),
    }

    @model_validator(mode="after")
    def _something_is_mixed(self) -> "Params":
        if not self.web + self.books + self.code:
            raise ValueError("web, books and code cannot all be 0")
        return self


@dataclass(frozen=True, slots=True)
class Page:
    """A document: its words, what it really is, and the page of which it is a near-copy."""

    words: list[str]
    kind: str
    copy_of: int | None = None


def draw_pages(draws: random.Random, rng: torch.Generator) -> list[Page]:
    """Raw web pages: prose, advertisements, another language and noise; personal data in some; near-copies last."""
    prose = " ".join(spell(draw_text(PAGES * 6, False, rng))).split(" . ")
    pages = list[Page]()
    for number in range(PAGES):
        kind = draws.choices(["prose", "advert", "foreign", "noise"], [0.55, 0.2, 0.12, 0.13])[0]
        words: list[str] = [*" . ".join(prose[5 * number : 5 * number + 5]).split(), "."]
        if kind == "advert":
            words = [draws.choice(ADS) if draws.random() < 0.7 else word for word in words]
        elif kind == "foreign":
            words = draws.choices(FOREIGN, k=len(words))
        elif kind == "noise":
            draws.shuffle(words)
        if draws.random() < 0.2:
            who = draws.choice(["ann", "bob", "eve"])
            words += (
                f"write to {who}.smith@mail.example or call 555-01{draws.randint(1000, 9999)} for dr. {who}".split()
            )
        pages.append(Page(words, kind))
    for _ in range(COPIES):
        of = draws.randrange(PAGES)
        words = [*pages[of].words]
        for place in draws.sample(range(len(words)), max(1, len(words) // 40)):
            words[place] = draws.choice(ADS)
        pages.append(Page(words, pages[of].kind, of))
    return pages


def shingles(words: Sequence[str]) -> set[int]:
    """Numbers for all runs of three words."""
    runs = (" ".join(words[i : i + SHINGLE]) for i in range(max(1, len(words) - SHINGLE + 1)))
    return {int.from_bytes(run.encode()[-24:], "big") % PRIME for run in runs}


def minhash(sets: Sequence[set[int]], hashes: int, rng: torch.Generator) -> Tensor:
    """The least value of each hash function a·x + b mod p over each set: (sets, hashes).

    Two sets agree in one function with the chance of their Jaccard similarity |A ∩ B| / |A ∪ B|.
    """
    a, b = torch.randint(1, PRIME, (2, hashes), generator=rng)
    return torch.stack([
        ((a * torch.tensor(sorted(each))[:, None] + b) % PRIME).amin(dim=0) for each in sets
    ])  # fmt: skip


def jaccard(one: set[int], other: set[int]) -> float:
    """|A ∩ B| / |A ∪ B|, counted."""
    return len(one & other) / len(one | other)


def near_copies(signatures: Tensor, threshold: float) -> list[int | None]:
    """For each page the first earlier one that is much like it, or None. Only pages that share a band are compared."""
    found: list[int | None] = [None] * len(signatures)
    buckets: dict[tuple[int, ...], list[int]] = {}
    for number, signature in enumerate(signatures):
        bands = signature.view(-1, ROWS).numpy().tolist()
        keys = [(band, *values) for band, values in enumerate(bands)]
        for other in sorted({each for key in keys for each in buckets.get(key, ())}):
            if (signature == signatures[other]).float().mean().item() >= threshold:
                found[number] = other
                break
        else:  # a copy is found by its first page, it needs no entry of its own
            for key in keys:
                buckets.setdefault(key, []).append(number)
    return found


class Quality(nn.Module):
    """A linear classifier of the words and word pairs of a page, learned from judged pages: good prose or not."""

    def __init__(self, texts: Sequence[Sequence[str]], good: Tensor) -> None:
        super().__init__()
        known = sorted({feature for words in texts for feature in self.features(words)})
        self.number = {feature: i for i, feature in enumerate(known)}
        self.layer = nn.Linear(len(known), 1)
        nn.init.zeros_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)
        x = self.encode(texts)
        adam = torch.optim.Adam(self.parameters(), lr=0.05, weight_decay=1e-4, fused=True)
        for _ in range(100):
            descend(adam, binary_cross_entropy_with_logits(self.layer(x)[:, 0], good))

    @staticmethod
    def features(words: Sequence[str]) -> list[str]:
        """Words, and neighbours: noise has the right words in the wrong order."""
        return [*words, *(f"{a} {b}" for a, b in itertools.pairwise(words))]

    def encode(self, texts: Sequence[Sequence[str]]) -> Tensor:
        """Share of each known feature, (N, features)."""
        x = torch.zeros(len(texts), len(self.number))
        for row, words in enumerate(texts):
            found = self.features(words)
            for feature in found:
                if feature in self.number:
                    x[row, self.number[feature]] += 10 / len(found)
        return x

    @torch.no_grad()
    def forward(self, texts: Sequence[Sequence[str]]) -> Tensor:
        return torch.sigmoid(self.layer(self.encode(texts))[:, 0])


def pack(documents: Sequence[Sequence[str]], number: Mapping[str, int]) -> Tensor:
    """All documents in one row of token numbers, each followed by the mark of its end."""
    return torch.tensor([number[word] for words in documents for word in (*words, END)])


def unpack(tokens: Tensor, number: Mapping[str, int]) -> list[list[str]]:
    """The documents again."""
    words = list(number)
    text = [words[int(token)] for token in tokens]
    ends = [place for place, word in enumerate(text) if word == END]
    return [text[begin + 1 : end] for begin, end in zip([-1, *ends], ends, strict=False)]


def held_out_loss(train: Tensor, test: Tensor, size: int) -> float:
    """Nats a word on the test text of a model of neighbours, p = ¾ share of the pair + ¼ share of the word."""
    single = torch.ones(size) + train.bincount(minlength=size)
    pairs = torch.zeros(size, size).index_put_((train[:-1], train[1:]), torch.ones(len(train) - 1), accumulate=True)
    alone = (single / single.sum())[test[1:]]
    seen = pairs[test[:-1]].sum(dim=1)
    paired = torch.where(seen > 0, pairs[test[:-1], test[1:]] / seen.clamp(min=1), alone)
    return -(0.75 * paired + 0.25 * alone).log().mean().item()


def mix(
    sources: Mapping[str, Sequence[list[str]]], weights: Mapping[str, float], draws: random.Random
) -> list[list[str]]:
    """Documents drawn from the sources by weight, until there are enough tokens; a source may be read again."""
    names = [name for name, weight in weights.items() if weight and sources[name]]
    spent, taken = dict.fromkeys(names, 0), list[list[str]]()
    while names and sum(spent.values()) < TOKENS:
        behind = min(names, key=lambda name: spent[name] / weights[name])
        taken.append(draws.choice(sources[behind]))
        spent[behind] += len(taken[-1]) + 1
    return taken


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng, draws = torch.Generator().manual_seed(params.seed), random.Random(params.seed)
    pages = draw_pages(draws, rng)
    judged, good = draw_pages(draws, rng)[:LABELLED], "prose"
    tick(0.2, "documents")
    classifier = Quality([page.words for page in judged], torch.tensor([float(page.kind == good) for page in judged]))
    english = [len(COMMON.intersection(page.words)) >= 2 for page in pages]
    score = classifier([page.words for page in pages])
    tick(0.5, "quality")
    sets = [shingles(page.words) for page in pages]
    signatures = minhash(sets, params.hashes // ROWS * ROWS, rng)
    copies = near_copies(signatures, params.jaccard)
    tick(0.8, "near-copies")

    reasons: list[str] = []
    for number in range(len(pages)):
        reason = "" if english[number] else "another language"
        reason = reason or ("" if score[number] >= params.quality_min else "low quality")
        reasons.append(reason or ("" if copies[number] is None else "near-copy"))
    kept = [page.words for page, reason in zip(pages, reasons, strict=True) if not reason]
    clean = [PERSONAL.sub("", " ".join(words)).split() if params.scrub else words for words in kept]
    left = sum(len(PERSONAL.findall(" ".join(words))) for words in clean)

    sources: dict[str, Sequence[list[str]]] = {
        "web": clean,
        "books": [spell(draw_text(60, False, rng)) for _ in range(BOOKS)],
        "code": [draws.choices(CODE, k=80) for _ in range(PROGRAMS)],
    }
    mixed = mix(sources, {"web": params.web, "books": params.books, "code": params.code}, draws)
    raw = mix({"web": [page.words for page in pages]}, {"web": 1.0}, draws)
    test = [spell(draw_text(TESTED, False, rng))]
    vocabulary = sorted({word for documents in (mixed, raw, test) for words in documents for word in words} | {END})
    number_of = {word: number for number, word in enumerate(vocabulary)}
    loss = {
        name: held_out_loss(pack(documents, number_of)[:TOKENS], pack(test, number_of), len(vocabulary))
        for name, documents in (("raw", raw), ("cleaned and mixed", mixed))
    }

    planted = [number for number, page in enumerate(pages) if page.copy_of is not None
               and jaccard(sets[number], sets[page.copy_of]) >= params.jaccard]  # fmt: skip
    fresh = [number for number, page in enumerate(pages) if page.copy_of is None]
    recall = sum(copies[number] is not None for number in planted) / max(1, len(planted))
    wrongly = sum(copies[number] is not None for number in fresh) / len(fresh)
    some = [(draws.randrange(PAGES), PAGES + draws.randrange(COPIES)) for _ in range(150)]
    some += [(pages[number].copy_of or 0, number) for number in planted[:50]]
    gaps = [(signatures[a] == signatures[b]).float().mean().item() - jaccard(sets[a], sets[b]) for a, b in some]
    stages: list[tuple[str, list[str]]] = [("raw pages", []), ("another language", ["another language"]),
                                           ("low quality", ["low quality"]), ("near-copy", ["near-copy"])]  # fmt: skip
    funnel, out = list[list[Cell]](), set[str]()
    for stage, removed in stages:
        out |= {*removed}
        rest = [page.words for page, reason in zip(pages, reasons, strict=True) if reason not in out or not reason]
        funnel.append([stage if not out else f"without {stage}", len(rest), sum(map(len, rest))])
    funnel.append(["personal data taken out", len(clean), sum(map(len, clean))])
    shown = [[reason or "kept", page.kind, score[number].item(), " ".join(page.words[:12]) + " …"]
             for number, (page, reason) in enumerate(zip(pages, reasons, strict=True)) if number % 50 == 7]  # fmt: skip
    return Result(
        metrics=[
            Metric("held-out", loss["cleaned and mixed"], "nats"),
            Metric("held-out of raw text", loss["raw"], "nats"),
            Metric("pages kept", len(kept) / len(pages)),
            Metric("near-copies found", recall),
            Metric("personal data left", left),
        ],
        claims=[
            Claim("MinHash estimates the overlap: mean distance from the exact Jaccard similarity",
                  sum(map(abs, gaps)) / len(gaps), "<=", 0.05),
            Claim("Near-copies are found: share of the planted ones above the threshold", recall, ">=", 0.95),
            Claim("Other pages are left alone: share taken for copies", wrongly, "<=", 0.01),
            Claim("No personal data is left: addresses, numbers and names", left, "==", 0),
            Claim("Cleaned text teaches more: nats saved on held-out text at equal tokens",
                  loss["raw"] - loss["cleaned and mixed"], ">=", 0.05),
            Claim("Packing loses nothing: documents that come back changed",
                  sum(a != b for a, b in zip(unpack(pack(mixed, number_of), number_of), mixed, strict=True)), "==", 0),
        ],
        figures=[Bars("Held-out text", "", "nats a word", list(loss), {"loss": list(loss.values())})],
        tables=[
            Table("Funnel", ["step", "documents", "words"], funnel),
            Table("Examples", ["verdict", "really", "quality", "text"], shown),
        ],
    )  # fmt: skip
