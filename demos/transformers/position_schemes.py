"""Position information: none, sinusoidal, learned, relative

Question: What breaks without positions, and which scheme survives longer sequences than it was trained on?
Source: Vaswani et al. 2017, arXiv:1706.03762, §3.5 (sinusoidal); Devlin et al. 2018, arXiv:1810.04805 (learned rows);
  Raffel et al. 2019, arXiv:1910.10683, §2.1 (T5: a bias per bucket of distances); Press et al. 2021, arXiv:2108.12409
  (ALiBi: a fixed slope; here half of the heads look left and half look right, for text that is read both ways).
Watch: "Which came first, a or b?" Without positions a text and its copy with a and b exchanged are one bag of words:
  half of the answers are wrong. All other schemes solve the trained lengths. Beyond them the places of learned rows
  mean nothing, while a distance far away still says left or right, until too many words share the attention.
"""

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from demos.contract import Bars, Claim, DemoParams, Heatmap, Lines, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.transformer import start, train

A, B, WORDS = 0, 1, 6  # the two words asked about; four others fill the text
WIDTH, HEADS, BATCH, PAIRS = 64, 4, 64, 250  # PAIRS of texts are tested at each length: 500 questions
SHORTEST, LONGEST = 4, 128  # words of a text
RATE = 5e-3
BUCKETS, FAR = 16, 8  # T5: buckets of distances, half of them a side; from FAR words on all distances are one bucket

Scheme = Literal["none", "sinusoidal", "learned", "relative", "alibi"]
SCHEMES: tuple[Scheme, ...] = ("none", "sinusoidal", "learned", "relative", "alibi")


class Params(DemoParams):
    train_len: int = Field(16, ge=10, le=32, description="Longest training text, in words")
    test_len: int = Field(48, ge=16, le=LONGEST, description="Length of the longer texts of the test")
    steps: int = Field(250, ge=50, le=1000, description="Training steps of each scheme, 64 texts a step")
    seed: int = Field(0, ge=0, le=9999, description="Seed of texts and weights")

    presets: ClassVar[Mapping[str, Preset]] = {
        "nothing longer": Preset("Tested at the trained length, learned rows are as good: the lead is gone",
                                 {"test_len": 16}),
        "much longer": Preset("At eight times the trained length T5's lead can vanish too, while ALiBi holds",
                              {"test_len": 128}),
        "too few steps": Preset("No scheme has learned what its positions say", {"steps": 50}),
    }  # fmt: skip


def draw_texts(n: int, length: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """2n texts (2n, length) with one a and one b each, and whether a is first (2n,); the second n exchange a and b."""
    texts = torch.randint(2, WORDS, (n, length), generator=rng)
    places = torch.rand(n, length, generator=rng).argsort(dim=1)[:, :2]  # (n, 2): two places, in any order
    texts.scatter_(1, places, torch.tensor([A, B]).expand(n, 2))
    first = places[:, 0] < places[:, 1]
    exchanged = texts.clone().scatter_(1, places, torch.tensor([B, A]).expand(n, 2))
    return torch.cat([texts, exchanged]), torch.cat([first, ~first])


def sinusoids(places: Tensor, width: int) -> Tensor:
    """Vaswani et al. §3.5: sines and cosines of wavelengths from 2π to 10000·2π. (T,) -> (T, width)."""
    angle = places[:, None] / 10_000 ** (torch.arange(0, width, 2) / width)  # (T, width/2)
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)


def bucket(distance: Tensor, buckets: int, far: int) -> Tensor:
    """T5's bucket of distance = key's place − query's: half for keys to the right; small distances have their own,
    larger ones share by their logarithm, and all from `far` on share the last."""
    half = buckets // 2
    exact, size = half // 2, distance.abs()
    shared = exact + (size.clamp(min=1) / exact).log() / math.log(far / exact) * (half - exact)
    return half * (distance > 0) + torch.where(size < exact, size, shared.long().clamp(max=half - 1))


def alibi(distance: Tensor, heads: int) -> Tensor:
    """−slope·|distance| for each head, slopes 2⁻⁴ and 2⁻⁸ a side if heads = 4; the other side is hidden. (h, T, T)."""
    slopes = 2 ** (-8 * torch.arange(1, heads // 2 + 1) / (heads // 2))  # (h/2,)
    bias = -slopes[:, None, None] * distance.abs()  # (h/2, T, T)
    return torch.cat([bias.masked_fill(distance > 0, -math.inf), bias.masked_fill(distance < 0, -math.inf)])


class Reader(nn.Module):
    """One layer of attention that reads a text in both directions and answers at the place of a: is b behind me?"""

    def __init__(self, scheme: Scheme, rng: torch.Generator) -> None:
        super().__init__()
        self.scheme: Scheme = scheme
        self.words, self.rows = nn.Embedding(WORDS, WIDTH), nn.Embedding(LONGEST, WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, 1)
        start(self, rng)
        self.bias = nn.Embedding(BUCKETS, HEADS)  # T5: one number for each bucket and head
        nn.init.zeros_(self.bias.weight)

    def place(self, embedded: Tensor, places: Tensor) -> Tensor:
        """Absolute schemes add a vector for the place of each word: (N, T, d) in, (N, T, d) out."""
        if self.scheme == "sinusoidal":
            return embedded + sinusoids(places, WIDTH)
        return embedded + self.rows(places) if self.scheme == "learned" else embedded

    def score_bias(self, places: Tensor) -> Tensor:
        """Relative schemes add a number to the score of each pair, by distance: (h, T, T)."""
        distance = places[None, :] - places[:, None]  # (T, T): key − query
        if self.scheme == "relative":
            return self.bias(bucket(distance, BUCKETS, FAR)).permute(2, 0, 1)
        return alibi(distance, HEADS) if self.scheme == "alibi" else torch.zeros(HEADS, *distance.shape)

    def forward(self, texts: Tensor, shift: int = 0) -> Tensor:
        """Logits (N,) of "a came first" for texts (N, T) whose first word stands at place `shift`."""
        N, T = texts.shape
        places = torch.arange(T) + shift
        x = self.place(self.words(texts), places)  # (N, T, d)
        at = (texts == A).nonzero()[:, 1]  # (N,): a stands in each text once; only its row of the layer is needed
        q, k, v = self.qkv(x).view(N, T, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)  # (N, h, T, d/h) each
        asked = q[torch.arange(N), :, at].unsqueeze(2)  # (N, h, 1, d/h)
        scores = asked @ k.transpose(2, 3) / math.sqrt(WIDTH // HEADS)  # (N, h, 1, T)
        weights = (scores + self.score_bias(places)[:, at].transpose(0, 1).unsqueeze(2)).softmax(dim=3)
        at_a = x[torch.arange(N), at] + self.out((weights @ v).flatten(1))  # (N, d)
        return self.down(self.up(at_a).relu())[:, 0]


@torch.no_grad()
def accuracy(model: Reader, length: int, seed: int) -> float:
    """Share of right answers on texts of this length, the same texts for every scheme."""
    texts, first = draw_texts(PAIRS, length, torch.Generator().manual_seed(seed))
    return ((model(texts) > 0) == first).float().mean().item()


@torch.no_grad()
def moved(model: Reader, length: int, seed: int) -> float:
    """Largest change of a logit when the whole text moves by as many places as it has words."""
    texts, _ = draw_texts(PAIRS, length, torch.Generator().manual_seed(seed))
    return (model(texts, shift=length) - model(texts)).abs().max().item()


def run(params: Params, tick: Tick = no_tick) -> Result:
    models: dict[Scheme, Reader] = {}
    for number, scheme in enumerate(SCHEMES):
        rng = torch.Generator().manual_seed(2 * params.seed)  # the same texts and first weights for every scheme
        model = models[scheme] = Reader(scheme, rng)

        def loss(model: Reader = model, rng: torch.Generator = rng) -> Tensor:
            length = int(torch.randint(SHORTEST, params.train_len + 1, (1,), generator=rng))
            texts, first = draw_texts(BATCH // 2, length, rng)
            return nn.functional.binary_cross_entropy_with_logits(model(texts), first.float())

        def report(step: int, value: float, number: int = number, scheme: Scheme = scheme) -> None:
            if step % 10 == 0:
                tick((number + step / params.steps) / len(SCHEMES), f"{scheme}, step {step}", loss=value)

        train(model, loss, params.steps, RATE, report)

    seed = 2 * params.seed + 1
    inside = {scheme: accuracy(model, params.train_len, seed) for scheme, model in models.items()}
    longer = {scheme: accuracy(model, params.test_len, seed) for scheme, model in models.items()}
    lengths = [8, 12, 16, 24, 32, 48, 64, 96]
    shifted = {scheme: moved(model, params.train_len, seed) for scheme, model in models.items()}
    learned, embedded = models["learned"], torch.zeros(1, params.train_len, WIDTH)
    wider = learned.place(embedded, torch.arange(params.train_len)).shape[-1] - embedded.shape[-1]
    rows = nn.functional.normalize(learned.rows.weight.detach()[: params.train_len + 8], dim=1)  # (T, d)
    return Result(
        metrics=[
            Metric("accuracy", longer["relative"]),
            *(Metric(f"accuracy of {scheme} at the longer length", longer[scheme]) for scheme in SCHEMES),
            Metric("lead of relative over learned at the longer length", longer["relative"] - longer["learned"]),
        ],
        claims=[
            Claim("Without positions order is invisible: accuracy", inside["none"], "<=", 0.55),
            Claim("With positions the trained length is solved: accuracy of the worst of four schemes",
                  min(inside[scheme] for scheme in SCHEMES[1:]), ">=", 0.95),
            Claim("A relative bias survives longer texts: accuracy less that of learned rows",
                  longer["relative"] - longer["learned"], ">=", 0.2),
            Claim("Distances do not change when the text moves: largest change of a logit, relative and ALiBi",
                  max(shifted["relative"], shifted["alibi"]), "<=", 1e-4),
            Claim("Positions are added, not appended: numbers by which a vector grows", wider, "==", 0),
        ],
        figures=[
            Lines("Accuracy by length of the text", x="words", y="accuracy", at=lengths, log="x", series={
                scheme: [accuracy(model, length, seed) for length in lengths] for scheme, model in models.items()
            }),
            Bars(f"Answers beyond the trained {params.train_len} words", x="scheme", y="accuracy", labels=SCHEMES,
                 series={f"{params.train_len} words": list(inside.values()),
                         f"{params.test_len} words": list(longer.values())}),
            Heatmap("Cosine of learned position rows: the last 8 never met a training text", x="place", y="place",
                    values=(rows @ rows.T).numpy().tolist()),
        ],
        tables=[
            Table("Accuracy", ["scheme", f"at {params.train_len} words", f"at {params.test_len} words",
                               "largest change of a logit if the text moves"],
                  [[scheme, inside[scheme], longer[scheme], shifted[scheme]] for scheme in SCHEMES]),
        ],
    )  # fmt: skip
