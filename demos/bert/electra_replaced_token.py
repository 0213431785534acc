"""ELECTRA: tell real words from plausible fakes

Question: Why is detecting replaced tokens a more efficient lesson than filling blanks?
Source: Clark et al. 2020, arXiv:2003.10555, §2 (both networks and losses), §3.2 (a small generator), §3.5 (efficiency).
  Here the generator has word vectors of its own, where the paper shares them.
Watch: filling blanks learns at the few hidden words of a text, telling fakes at every one. At equal compute a linear
  classifier on what the detector sees tells better which texts make sense (on another question, such as which words
  can stand for each other, the blank filler would win). The generator has to be weak: one as large as the detector
  (preset) draws words that fit, and leaves few fakes that anybody could tell.
"""

from collections.abc import Callable, Mapping
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, gelu

from demos.contract import Cell, Claim, DemoParams, Lines, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.transformer import start, train

SCENES = [[slot.split() for slot in scene.split(",")] for scene in (
    "chef cook, boils fries, soup rice, kitchen canteen", "nurse doctor, treats heals, patient wound, clinic ward",
    "pilot captain, flies lands, plane jet, airport runway", "farmer peasant, ploughs sows, field soil, farm village",
    "judge lawyer, hears settles, case claim, court tribunal", "actor singer, plays performs, role song, stage theatre",
    "miner digger, drills digs, coal ore, pit tunnel", "painter artist, paints draws, portrait mural, studio gallery",
    "baker miller, bakes kneads, bread dough, bakery mill", "sailor skipper, steers moors, boat ferry, harbour dock",
    "teacher tutor, teaches marks, pupil essay, school college", "tailor weaver, sews cuts, coat cloth, shop workshop",
    "guard warden, watches locks, prisoner gate, prison jail", "clerk teller, counts lends, money loan, bank vault",
    "priest monk, blesses chants, altar psalm, church abbey", "barber stylist, shaves combs, beard hair, salon parlour",
)]  # fmt: skip  # for each scene: who, does, what, where; two words for each
MASK, CLS, THE, AT, STOP = range(5)
WORDS = ["[MASK]", "[CLS]", "the", "at", ".", *(word for scene in SCENES for slot in scene for word in slot)]
V, LENGTH, SLOTS = len(WORDS), 10, [2, 3, 5, 8]  # where the four words of a scene stand
D, HEADS, LAYERS = 32, 4, 2  # of the detector and of the encoder that fills blanks; the generator has one layer
HIDDEN, BATCH, RATE, TESTED, LABELLED, LOOKS = 0.15, 64, 4e-3, 1000, 200, 10


class Params(DemoParams):
    generator_fraction: float = Field(0.25, ge=0.1, le=1.0, description="Width of the generator over the detector's")
    disc_weight: float = Field(20.0, ge=1.0, le=100.0, description="Weight λ of the detector's loss")
    steps: int = Field(250, ge=50, le=1000, description="Steps of 64 texts; the blank filler gets the same compute")
    seed: int = Field(0, ge=0, le=9999, description="Seed of texts, blanks, fakes and weights")

    presets: ClassVar[Mapping[str, Preset]] = {
        "strong generator": Preset("Its words fit so well that most fakes cannot be told", {"generator_fraction": 1.0}),
    }


def tell(scene: Tensor, which: Tensor) -> Tensor:
    """Texts "[CLS] the chef boils the soup at the kitchen ." (n, 10) of scenes (n,), either word of four (n, 4)."""
    words = torch.tensor([CLS, THE, 0, 0, THE, 0, AT, THE, 0, STOP]).repeat(len(scene), 1)
    words[:, SLOTS] = STOP + 1 + (4 * scene[:, None] + torch.arange(4)) * 2 + which
    return words


def draw_texts(n: int, rng: torch.Generator) -> Tensor:
    return tell(torch.randint(len(SCENES), (n,), generator=rng), torch.randint(2, (n, 4), generator=rng))


class Encoder(nn.Module):
    """A small BERT; `fill` scores words by their own vectors, for those encoders that fill blanks."""

    def __init__(self, d: int, layers: int, rng: torch.Generator) -> None:
        super().__init__()
        self.words, self.places, self.norm = nn.Embedding(V, d), nn.Embedding(LENGTH, d), nn.LayerNorm(d)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(d, HEADS, 4 * d, 0.0, "gelu", batch_first=True) for _ in range(layers)
        )
        start(self, rng)

    def forward(self, words: Tensor) -> Tensor:
        """Vectors (B, n, d) of words (B, n)."""
        x = self.norm(self.words(words) + self.places.weight)
        for layer in self.layers:
            x = layer(x)
        return x

    def fill(self, words: Tensor, hidden: Tensor) -> Tensor:
        """Logits (N, V) of the N words that are hidden (B, n)."""
        return self(words.masked_fill(hidden, MASK))[hidden] @ self.words.weight.T


class Detector(nn.Module):
    """An encoder that says of every word whether it was replaced."""

    def __init__(self, rng: torch.Generator) -> None:
        super().__init__()
        self.encoder, self.dense, self.out = Encoder(D, LAYERS, rng), nn.Linear(D, D), nn.Linear(D, 1)
        start(self.dense, rng)
        start(self.out, rng)

    def forward(self, words: Tensor) -> Tensor:
        """Logits (B, n): above 0 it takes the word for a fake."""
        return self.out(gelu(self.dense(self.encoder(words))))[..., 0]


def hide(texts: Tensor, rng: torch.Generator) -> Tensor:
    return (torch.rand(texts.shape, generator=rng) < HIDDEN) & (texts != CLS)


def replace(texts: Tensor, hidden: Tensor, logits: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Texts with a word drawn from the generator in each hidden place, and where that is another word, bool."""
    drawn = torch.multinomial(logits.softmax(dim=1), 1, generator=rng)[:, 0]  # no gradient goes through a draw
    read = texts.masked_scatter(hidden, drawn)
    return read, read != texts  # a right guess is no fake


def spoil(texts: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Texts (n, 10) of which about half have one word of another scene, and which make sense still, bool (n,)."""
    n, rows = len(texts), torch.arange(len(texts))
    spoilt = torch.rand(n, generator=rng) < 0.5
    place = torch.tensor(SLOTS)[torch.randint(len(SLOTS), (n,), generator=rng)]
    away = 8 * torch.randint(1, len(SCENES), (n,), generator=rng)  # a scene has eight words, in the order of SLOTS
    words, number = texts.clone(), texts[rows, place] - STOP - 1
    words[rows, place] = STOP + 1 + (number + spoilt * away) % (8 * len(SCENES))
    return words, ~spoilt


@torch.no_grad()
def probe(encoder: Encoder, seed: int) -> float:
    """Which unseen texts make sense, share told by a linear classifier on mean vectors of 200 labelled ones."""
    rng = torch.Generator().manual_seed(seed)
    words, sense = spoil(draw_texts(LABELLED + TESTED, rng), rng)
    x = encoder(words).mean(dim=1).double()
    x = torch.cat([x - x.mean(dim=0), torch.ones(len(x), 1).double()], dim=1).numpy()  # (n, d + 1)
    label = 2 * sense.numpy() - 1
    known, answers = x[:LABELLED], label[:LABELLED]
    weights = np.linalg.solve(known.T @ known + 0.01 * np.eye(x.shape[1]), known.T @ answers)  # ridge regression
    return float(((x[LABELLED:] @ weights > 0) == (label[LABELLED:] > 0)).mean())


class Electra(nn.Module):
    """Generator and detector, trained together; afterwards only the detector is kept."""

    def __init__(self, fraction: float, rng: torch.Generator) -> None:
        super().__init__()
        self.generator = Encoder(max(HEADS, int(D * fraction) // HEADS * HEADS), 1, rng)
        self.detector = Detector(rng)

    def losses(self, texts: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Of the generator, in its blanks, and of the detector, at every word."""
        hidden = hide(texts, rng)
        logits = self.generator.fill(texts, hidden)
        read, fakes = replace(texts, hidden, logits, rng)
        filling = cross_entropy(logits, texts[hidden])
        return filling, binary_cross_entropy_with_logits(self.detector(read), fakes.float())


def cost(*encoders: Encoder) -> int:
    """Multiply-adds for each word that is read, about: one for each weight of the layers."""
    return sum(weight.numel() for encoder in encoders for weight in encoder.layers.parameters())


def pretrain(
    model: nn.Module, encoder: Encoder, loss: Callable[[], Tensor], steps: int, report: Callable[[float, float], None]
) -> list[float]:
    """Train on `loss`; what `probe` gives at LOOKS moments on the way, the first before any step."""
    seen = [probe(encoder, 0)]

    def look(step: int, value: float) -> None:
        report(step / steps / 2, value)
        if (step + 1) * LOOKS // steps > step * LOOKS // steps:
            seen.append(probe(encoder, 0))

    train(model, loss, steps, RATE, look)
    return seen


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng = torch.Generator().manual_seed(params.seed)
    electra, filler = Electra(params.generator_fraction, rng), Encoder(D, LAYERS, rng)
    detector, generator = electra.detector, electra.generator
    price = cost(generator, detector.encoder) / cost(filler)  # of a step of both, in steps of the blank filler

    def fill_and_detect() -> Tensor:
        filling, detecting = electra.losses(draw_texts(BATCH, rng), rng)
        return filling + params.disc_weight * detecting

    def fill_only() -> Tensor:
        texts = draw_texts(BATCH, rng)
        hidden = hide(texts, rng)
        return cross_entropy(filler.fill(texts, hidden), texts[hidden])

    known = pretrain(electra, detector.encoder, fill_and_detect, params.steps,
                     lambda fraction, loss: tick(fraction, "generator and detector", loss=loss))  # fmt: skip
    known_filler = pretrain(filler, filler, fill_only, round(price * params.steps),
                            lambda fraction, loss: tick(0.5 + fraction, "blank filler", loss=loss))  # fmt: skip

    texts = draw_texts(TESTED, rng)
    hidden = hide(texts, rng)
    with torch.no_grad():
        guesses = generator.fill(texts, hidden)
        filled = (filler.fill(texts, hidden).argmax(dim=1) == texts[hidden]).float().mean().item()
    read, fakes = replace(texts, hidden, guesses, rng)
    logits: Tensor = detector(read)
    (grad,) = torch.autograd.grad(binary_cross_entropy_with_logits(logits, fakes.float()), logits)
    electra.zero_grad()
    torch.autograd.backward(electra.losses(texts, rng)[1])
    called = logits > 0
    f1 = 2 * (called & fakes).sum().item() / (called.sum() + fakes.sum()).item()
    gain = ((called == fakes).float().mean() - (~fakes).float().mean()).item()
    taught, pulled = (grad != 0).float().mean().item(), sum(w.grad is not None for w in generator.parameters())
    mislabelled = (fakes & (read == texts)).sum().item()
    lead = known[-1] - known_filler[-1]
    guessed = hidden & ~fakes  # the generator drew the true word
    rows = list[list[Cell]]()
    for row, place in (fakes[:40] | guessed[:40]).nonzero().numpy().tolist()[:12]:
        rows.append([" ".join(WORDS[int(word)] for word in read[row, 1:]), WORDS[int(texts[row, place])],
                     WORDS[int(read[row, place])], "fake" if fakes[row, place] else "original",
                     logits[row, place].sigmoid().item()])  # fmt: skip
    computed = [price * params.steps * look / LOOKS for look in range(LOOKS + 1)]
    return Result(
        metrics=[
            Metric("F1 on replaced words", f1),
            Metric("share of fakes", fakes.float().mean().item()),
            Metric("blanks that the generator draws right", guessed.sum().item() / hidden.sum().item()),
            Metric("blanks that the blank filler fills right", filled),
            Metric("sense told, ELECTRA", known[-1]),
            Metric("sense told, blank filler", known_filler[-1]),
            Metric("cost of a step over one of the blank filler", price),
        ],
        claims=[
            Claim("Every word teaches the detector: share of scores with a gradient", taught, "==", 1.0),
            Claim("Blanks teach at few: share of words that are hidden", hidden.float().mean().item(), "<=", 0.2),
            Claim("A right guess is no fake: such words labelled fake", mislabelled, "==", 0),
            Claim("The detector's loss leaves the generator alone: weights with a gradient", pulled, "==", 0),
            Claim("It finds the fakes: F1 on unseen texts", f1, ">=", 0.7),
            Claim("It beats calling all words original: gain in accuracy", gain, ">=", 0.01),
            Claim("More is learned at equal compute: sense told, less by the blank filler", lead, ">=", 0.05),
        ],
        figures=[
            Lines("Probe: which texts make sense, told by a linear classifier", "compute, in steps of the blank filler",
                  "share of unseen texts", computed, {"ELECTRA": known, "blank filler": known_filler}),
        ],
        tables=[Table("Fakes", ["text as read", "was", "drawn", "label", "probability of a fake"], rows)],
    )  # fmt: skip
