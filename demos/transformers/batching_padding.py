"""Mini-batches, padding masks and length bucketing

Question: What does padding waste, and how do you prove that it never changes the answer?
Source: Vaswani et al. 2017, arXiv:1706.03762, §5.1 (batches of similar length); McCandlish et al. 2018,
    arXiv:1812.06162, §2.2 (gradient noise falls as 1/B).
Watch: With the mask a sentence's outputs are the same alone and in any padded batch; take the mask away and they move.
    Sorting by length before batching saves most of the padding. The noise of a mini-batch's gradient falls as 1/B.
"""

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from demos.contract import Bars, Claim, DemoParams, Heatmap, Lines, Metric, Preset, Result, Table, Tick, no_tick

SENTENCES, LONGEST, VOCABULARY, WIDTH, HEADS = 2_048, 64, 50, 16, 2  # LONGEST: what static padding always pads to
PAD, POOL, DRAWS = 0, 8, 200  # bucketing sorts POOL batches at a time; mini-batches for each point of the noise
Strategy = Literal["static", "dynamic", "bucketed"]
STRATEGIES: tuple[Strategy, ...] = ("static", "dynamic", "bucketed")


class Params(DemoParams):
    batch_size: int = Field(32, ge=1, le=256, description="Sentences in a batch")
    strategy: Strategy = Field("dynamic", description="Pad to a fixed length, to the batch's longest, or sort before")
    mask: bool = Field(True, description="Hide padding from attention and from the loss")
    seed: int = Field(0, ge=0, le=9999, description="Seed of sentences and weights")

    presets: ClassVar[Mapping[str, Preset]] = {
        "no mask": Preset("Padding is attended to: outputs depend on the company a sentence keeps", {"mask": False}),
        "bucketed": Preset("Sentences of one length together: little is wasted", {"strategy": "bucketed"}),
        "batches of one": Preset("No company, no padding, nothing for bucketing to save", {"batch_size": 1}),
    }


def draw_lengths(n: int, rng: torch.Generator) -> Tensor:
    """Lengths (n,) with a long tail, as sentences have: exp of a normal, between 3 and LONGEST words."""
    return (2.6 + 0.6 * torch.randn(n, generator=rng)).exp().round().clamp(3, LONGEST).long()


def make_batches(lengths: Tensor, size: int, strategy: Strategy, rng: torch.Generator) -> list[Tensor]:
    """Which sentences go together: random ones, or in pools of POOL batches those of similar length."""
    order = torch.randperm(len(lengths), generator=rng)
    if strategy == "bucketed":
        pools = torch.split(order, POOL * size)  # sorting all at once would leave nothing to chance
        order = torch.cat([pool[lengths[pool].argsort()] for pool in pools])
    return list(torch.split(order, size))


def pad(sentences: Sequence[Tensor], strategy: Strategy) -> Tensor:
    """Sentences (n_i,) -> one tensor (B, T), filled up with PAD on the right."""
    T = LONGEST if strategy == "static" else max(map(len, sentences))
    batch = torch.full((len(sentences), T), PAD)
    for row, sentence in zip(batch, sentences, strict=True):
        row[: len(sentence)] = sentence
    return batch


class Reader(nn.Module):
    """One encoder layer over word and place vectors; it is asked for the next word's class of every word."""

    def __init__(self, mask: bool, rng: torch.Generator) -> None:
        super().__init__()
        self.mask = mask
        self.words, self.places = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(LONGEST, WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        for name, weight in self.named_parameters():
            if "norm" not in name:
                nn.init.normal_(weight, std=WIDTH**-0.5, generator=rng)

    def forward(self, batch: Tensor) -> Tensor:
        """batch (B, T) -> vectors (B, T, d)."""
        B, T = batch.shape
        x = self.words(batch) + self.places.weight[:T]
        q, k, v = self.qkv(x).view(B, T, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)  # (B, h, T, d/h) each
        scores = q @ k.transpose(2, 3) / math.sqrt(WIDTH // HEADS)  # (B, h, T, T)
        if self.mask:
            scores = scores.masked_fill((batch == PAD)[:, None, None, :], -math.inf)  # no query looks at padding
        mixed = (scores.softmax(dim=3) @ v).transpose(1, 2).reshape(B, T, WIDTH)
        x = self.norm1(x + self.out(mixed))
        return self.norm2(x + self.down(self.up(x).relu()))


def waste(lengths: Tensor, size: int, strategy: Strategy, rng: torch.Generator) -> tuple[float, float]:
    """Share of padding among all tokens of an epoch, and attention scores T² an epoch over those that are needed."""
    batches = make_batches(lengths, size, strategy, rng)
    wide = [LONGEST if strategy == "static" else int(lengths[batch].max()) for batch in batches]
    tokens = sum(T * len(batch) for T, batch in zip(wide, batches, strict=True))
    scores = sum(T * T * len(batch) for T, batch in zip(wide, batches, strict=True))
    return 1 - int(lengths.sum()) / tokens, scores / int(lengths.square().sum())


def gradients_of_each(model: Reader, sentences: Sequence[Tensor], targets: Tensor) -> Tensor:
    """The loss's gradient for each sentence on its own, (N, weights): its mean vector should score the target."""
    rows = list[Tensor]()
    for sentence, target in zip(sentences, targets, strict=True):
        logits = model(sentence[None])[0].mean(dim=0) @ model.words.weight.T  # (V,)
        loss = nn.functional.cross_entropy(logits, target)
        rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))]))
    return torch.stack(rows)


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng, dice = (torch.Generator().manual_seed(2 * params.seed + odd) for odd in (0, 1))
    lengths = draw_lengths(SENTENCES, rng)
    sentences = [torch.randint(1, VOCABULARY, (int(n),), generator=rng) for n in lengths]
    model = Reader(params.mask, rng).double()  # so that rounding does not pass for an effect of padding
    members = make_batches(lengths, params.batch_size, params.strategy, dice)[0]
    company = [sentences[i] for i in members]
    together = pad([*company, torch.ones(LONGEST).long()], params.strategy)  # the last one makes all others padded
    with torch.no_grad():
        outputs = model(together)  # (B + 1, T, d)
        alone = [model(some[None])[0] for some in company]  # (n_i, d) each
    gaps = [(outputs[row, : len(some)] - some).abs().max().item() for row, some in enumerate(alone)]
    tick(0.3, "alone and in company")

    wasted = {name: waste(lengths, params.batch_size, name, dice) for name in STRATEGIES}
    each = gradients_of_each(model, sentences[:512], torch.randint(1, VOCABULARY, (512,), generator=dice))  # (N, P)
    tick(0.8, "gradients")
    sizes = [1, 2, 4, 8, 16, 32, 64, 128, 256]
    mean = each.mean(dim=0)  # (P,)
    noise = list[float]()
    for B in sizes:
        drawn = torch.randint(len(each), (DRAWS, B), generator=dice)
        estimates = torch.stack([each[some].mean(dim=0) for some in drawn])  # (DRAWS, P)
        noise.append((estimates - mean).square().sum(dim=1).mean().item())
    logs = torch.tensor([sizes, noise], dtype=torch.float64).log()
    slope = (logs.cov()[0, 1] / logs[0].var()).item()
    return Result(
        metrics=[
            Metric("padding", wasted[params.strategy][0], "of all tokens"),
            Metric("attention scores computed per score needed", wasted[params.strategy][1]),
            Metric("batch at which noise equals signal", noise[0] / mean.square().sum().item(), "sentences"),
        ],
        claims=[
            Claim("A sentence gives the same alone and in a padded batch: largest difference", max(gaps), "<=", 1e-5),
            Claim("Bucketing wastes less than static padding: its padding over static's",
                  wasted["bucketed"][0] / wasted["static"][0], "<=", 0.5),
            Claim("… and less than dynamic padding: its padding over dynamic's",
                  wasted["bucketed"][0] / max(wasted["dynamic"][0], 1e-9), "<=", 0.5),
            Claim("Gradient noise falls as 1/B: slope on log axes, not below", slope, ">=", -1.2),
            Claim("Gradient noise falls as 1/B: slope on log axes, not above", slope, "<=", -0.8),
        ],
        figures=[
            Lines("Noise of a mini-batch's gradient", x="batch size", y="E‖g_B - g‖²", log="xy", at=sizes,
                  series={"measured": noise, "‖g‖², the signal": [mean.square().sum().item()] * len(sizes),
                          "1/B": [noise[0] / B for B in sizes]}),
            Bars("Padding", x="strategy", y="share of all tokens", labels=list(STRATEGIES),
                 series={"padding": [wasted[name][0] for name in STRATEGIES]}),
            Heatmap("A batch: 1 is a word, 0 padding", x="place", y="sentence",
                    values=(pad(company, params.strategy)[:32] != PAD).int().numpy().tolist()),
        ],
        tables=[
            Table(f"An epoch of {SENTENCES} sentences", ["strategy", "padding", "scores computed per score needed"],
                  [[name, *wasted[name]] for name in STRATEGIES]),
        ],
    )  # fmt: skip
