"""FID and Inception Score from their definitions

Question: What do the two scores see, and what do they miss?
Source: Heusel et al. 2017, arXiv:1706.08500, eq. (6); Salimans et al. 2016, arXiv:1606.03498, §4; Fréchet distance of
  two Gaussians: Dowson, Landau 1982; sample bias: Bińkowski et al. 2018, arXiv:1801.01401.
Watch: one image per class, repeated, keeps the Inception Score, which never looks at real images; FID rises. Two halves
  of the real digits are some way apart too, and further with fewer images: compare FIDs of equal sets only.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from demos.contract import Claim, DemoParams, Images, Lines, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.digits import load_digits

Damage = Literal["noise", "blur", "drop-class", "one-per-class", "shift"]
DAMAGES: tuple[Damage, ...] = ("noise", "blur", "drop-class", "one-per-class", "shift")
AMOUNTS = (0.0, 0.25, 0.5, 0.75, 1.0)
SIZES, REPEATS = (50, 100, 200, 400, 800), 8  # images in each of two disjoint real sets; pairs of sets averaged
TRAIN, BATCH, STEPS = 1_000, 128, 600  # digits that the classifier learns from, and its training


class Params(DemoParams):
    damage: Damage = Field("noise", description="How the images are spoiled")
    amount: float = Field(0.3, ge=0.0, le=1.0, description="Strength; for one-per-class the share of images replaced")
    samples: int = Field(1500, ge=50, le=1797, description="Images per set")
    score: Literal["fid", "is", "both"] = Field("both", description="Score in the large figure")
    seed: int = Field(0, ge=0, le=9999, description="Random seed of data, weights and damage")

    presets: ClassVar[Mapping[str, Preset]] = {
        "one image per class": Preset(
            "Ten images, repeated: the Inception Score does not notice",
            {"damage": "one-per-class", "amount": 1.0, "score": "is"},
        ),
        "half of the classes gone": Preset(
            "Both scores see it: fewer classes in p(y), other means and covariances",
            {"damage": "drop-class", "amount": 0.5},
        ),
        "fifty images": Preset("So few that real digits are far from real digits: the floor drowns", {"samples": 50}),
    }


@dataclass(frozen=True, slots=True)
class Frechet:
    """The two terms of the distance: between means, and between covariances."""

    mean: float
    covariance: float

    @property
    def total(self) -> float:
        """d², which is what is called FID."""
        return self.mean + self.covariance


def root(C: Tensor) -> Tensor:
    """Square root (d, d) of a symmetric matrix with no negative eigenvalue, singular ones included."""
    U, values, _ = C.svd()  # of such a matrix the eigenvectors and eigenvalues
    return U @ values.sqrt().diag() @ U.T


def frechet(x: Tensor, y: Tensor) -> Frechet:
    """Eq. (6) for features x (N, d), y (M, d): ‖m - m_w‖² + Tr(C + C_w - 2 (C C_w)^½), in double precision.

    C C_w is not symmetric, but its eigenvalues are those of A Aᵀ with A = C^½ C_w^½: squared singular values of A.
    """
    x, y = x.double(), y.double()
    m, m_w, C, C_w = x.mean(dim=0), y.mean(dim=0), x.T.cov(), y.T.cov()  # (d,), (d,), (d, d), (d, d)
    cross = (root(C) @ root(C_w)).svd().S.sum()  # Tr (C C_w)^½
    return Frechet((m - m_w).square().sum().item(), (C.trace() + C_w.trace() - 2 * cross).item())


def inception_score(logits: Tensor) -> float:
    """exp of the mean over images of KL(p(y | x) ‖ p(y)), for logits (N, classes): from 1 to the number of classes."""
    log_p = logits.double().log_softmax(dim=1)  # (N, 10): log p(y | x)
    marginal = log_p.exp().mean(dim=0)  # (10,): p(y)
    return (log_p.exp() * (log_p - marginal.log())).sum(dim=1).mean().exp().item()


def draw_weights(model: nn.Module, rng: torch.Generator) -> None:
    """Give every weight torch's usual range, ±1 / √(inputs), but from a generator of our own."""
    for weight in model.parameters():
        nn.init.zeros_(weight) if weight.dim() == 1 else nn.init.kaiming_uniform_(weight, a=5**0.5, generator=rng)


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Take one step down the gradient of the loss."""
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()


class Classifier(nn.Module):
    """Stands in for Inception: 1x8x8 -> 32 features -> logits of ten classes."""

    def __init__(self, rng: torch.Generator) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 32), nn.ReLU())
        self.head = nn.Linear(32, 10)
        draw_weights(self, rng)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, 32) and logits (B, 10) of x (B, 1, 8, 8)."""
        features = self.features(x)
        return features, self.head(features)


def train_classifier(x: Tensor, y: Tensor, rng: torch.Generator, tick: Tick) -> Classifier:
    """The classifier after STEPS steps on real digits."""
    net = Classifier(rng)
    adam = torch.optim.Adam(net.parameters(), lr=2e-3, fused=True)
    for step in range(1, STEPS + 1):
        batch = torch.randint(len(x), (BATCH,), generator=rng)
        loss = nn.functional.cross_entropy(net(x[batch])[1], y[batch])
        descend(adam, loss)
        if step % 50 == 0:
            tick(0.7 * step / STEPS, f"classifier, step {step}", loss=loss.item())
    return net


def spoil(damage: Damage, amount: float, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
    """The images x (N, 1, 8, 8) of classes y (N,), spoiled; untouched at amount 0."""
    n = len(x)
    match damage:
        case "noise":  # of deviation `amount`, in units of black
            return (x + amount * torch.randn(x.shape, generator=rng)).clamp(0, 1)
        case "blur":  # Gaussian, of deviation 2 * amount pixels
            at = torch.arange(-4.0, 5.0)  # (9,)
            kernel = (-at.square() / (2 * max(2 * amount, 1e-3) ** 2)).softmax(dim=0)  # (9,), sums to 1
            padded = nn.functional.pad(x, (4, 4, 4, 4), mode="replicate")
            return nn.functional.conv2d(padded, torch.outer(kernel, kernel)[None, None])
        case "drop-class":  # up to nine classes, their places taken by images of the others
            kept = y >= round(9 * amount)  # (N,)
            others = x[kept][torch.randint(int(kept.sum()), (n,), generator=rng)]
            return torch.where(kept[:, None, None, None], x, others)
        case "one-per-class":  # this share of the images becomes the first one of its class
            replaced, spoiled = torch.rand(n, generator=rng) < amount, x.clone()
            for digit in range(10):
                spoiled[replaced & (y == digit)] = x[y == digit][:1]
            return spoiled
        case "shift":  # to the right by `amount` pixels
            left = nn.functional.pad(x, (1, 0, 0, 0))[..., :-1]
            return (1 - amount) * x + amount * left


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng, dice = (torch.Generator().manual_seed(2 * params.seed + odd) for odd in (0, 1))  # training; evaluation
    images, labels = load_digits()
    order = torch.randperm(len(images), generator=rng)
    images, labels = images[order], labels[order]
    net = train_classifier(images[:TRAIN], labels[:TRAIN], rng, tick)
    held_out = images[TRAIN:], labels[TRAIN:]
    x, y = images[-params.samples :], labels[-params.samples :]  # (N, 1, 8, 8), (N,)

    def judge(pictures: Tensor) -> tuple[Tensor, Tensor]:  # features (B, 32), logits (B, 10)
        with torch.no_grad():
            return net(pictures)

    real, real_logits = judge(x)

    def scores(damage: Damage, amount: float) -> tuple[Frechet, float, Tensor]:
        spoiled = spoil(damage, amount, x, y, torch.Generator().manual_seed(params.seed))  # one noise, scaled
        features, logits = judge(spoiled)
        return frechet(real, features), inception_score(logits), spoiled

    chosen, chosen_is, _ = scores(params.damage, params.amount)
    sweep = [scores(params.damage, amount) for amount in AMOUNTS]
    noise = [scores("noise", amount) for amount in AMOUNTS]
    each = {damage: scores(damage, params.amount) for damage in DAMAGES}
    repeated, repeated_is, _ = scores("one-per-class", 1.0)
    tick(0.8, "spoiled sets", fid=chosen.total, inception_score=chosen_is)
    half = params.samples // 2
    floor = frechet(real[:half], real[half : 2 * half]).total  # two real sets that share no image
    everything, _ = judge(images)  # (1797, 32)
    bias: list[float] = []
    for size in SIZES:
        pairs = [torch.randperm(len(images), generator=dice)[: 2 * size].view(2, size) for _ in range(REPEATS)]
        bias.append(sum(frechet(everything[a], everything[b]).total for a, b in pairs) / REPEATS)
    tick(1.0, "real against real", floor=floor)

    accuracy = (judge(held_out[0])[1].argmax(dim=1) == held_out[1]).double().mean().item()
    real_is = inception_score(real_logits)
    doubled = real.double().mean(dim=0).square().sum() + real.double().T.cov().trace()  # C + 4C - 2 (4 C²)^½ = C
    closed = abs(frechet(real, 2 * real.double()).total / doubled.item() - 1)
    by_amount = {"FID": [fid.total for fid, _, _ in sweep], "mean term": [fid.mean for fid, _, _ in sweep],
                 "covariance term": [fid.covariance for fid, _, _ in sweep]}  # fmt: skip
    by_is = [score for _, score, _ in sweep]
    most = max(max(by_amount["FID"]), 1e-12)
    figures = [
        ("both", Lines(f"Both scores against {params.damage}", x="amount", y="share of the largest", at=AMOUNTS,
                       series={"FID": [fid / most for fid in by_amount["FID"]],
                               "Inception Score": [score / max(by_is) for score in by_is]})),
        ("fid", Lines(f"FID and its two terms against {params.damage}", x="amount", y="distance", at=AMOUNTS,
                      series=by_amount)),
        ("is", Lines(f"Inception Score against {params.damage}", x="amount", y="score (1 to 10)", at=AMOUNTS,
                     series={"Inception Score": by_is})),
        ("", Lines("FID of real digits against real digits, by number of samples", x="images per set", y="FID",
                   at=SIZES, series={"real against real": bias, "c / N": [bias[0] * SIZES[0] / n for n in SIZES]},
                   log="xy")),
        ("", Images(f"The same digits with more {params.damage}", row_labels=[f"amount {a:g}" for a in AMOUNTS],
                    pixels=torch.stack([s[:12] for _, _, s in sweep]).view(5, 12, 8, 8).numpy().tolist())),
    ]  # fmt: skip
    return Result(
        metrics=[
            Metric("fid", chosen.total),
            Metric("mean term", chosen.mean),
            Metric("covariance term", chosen.covariance),
            Metric("inception_score", chosen_is),
            Metric("inception_score of the real set", real_is),
            Metric("fid of two real halves", floor),
        ],
        claims=[
            Claim("A set against itself has distance zero: |FID|", abs(frechet(real, real).total), "<=", 1e-6),
            Claim("Doubled features are |m|² + Tr C away: relative difference", closed, "<=", 1e-6),
            Claim("More noise, larger FID: smallest rise over five amounts, in floors",
                  min(b.total - a.total for (a, _, _), (b, _, _) in itertools.pairwise(noise)) / floor, ">=", 1),
            Claim("More noise, smaller Inception Score: smallest fall over five amounts",
                  min(a - b for (_, a, _), (_, b, _) in itertools.pairwise(noise)), ">=", 0.05),
            Claim("One image per class, repeated, keeps the Inception Score: share", repeated_is / real_is, ">=", 0.9),
            Claim("But not the FID, in units of real against real", repeated.total / floor, ">=", 10),
            Claim("Fewer images, larger FID, with nothing spoiled: at 100 over at 800", bias[1] / bias[4], ">=", 3),
            Claim("The classifier knows digits it never saw: accuracy", accuracy, ">=", 0.9),
        ],
        figures=[figure for _, figure in sorted(figures, key=lambda of: of[0] != params.score)],
        tables=[
            Table(f"Every damage at amount {params.amount:g}",
                  ["damage", "squared pixel error", "mean term", "covariance term", "FID", "Inception Score"],
                  [[damage, (spoiled - x).square().mean().item(), fid.mean, fid.covariance, fid.total, score]
                   for damage, (fid, score, spoiled) in each.items()]),
        ],
    )  # fmt: skip
