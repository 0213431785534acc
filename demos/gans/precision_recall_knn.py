"""Precision and recall for generators

Question: Is a bad score a lack of quality or a lack of variety?
Source: Kynkäänniemi et al. 2019, arXiv:1904.06991, eq. (1) and (2), k = 3 as in §3; the two numbers go back to Sajjadi
  et al. 2018, arXiv:1806.00035; density and coverage: Naeem et al. 2020, arXiv:2002.09797, §3; truncation: Karras et
  al. 2018, arXiv:1812.04948, appendix B.
Watch: a collapsed generator keeps precision and loses recall, a noisy one the reverse; truncation trades one for the
  other. Ten lone real points, each with a huge ball, are enough to call noise precise.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from demos.contract import Bars, Claim, DemoParams, Images, Lines, Metric, Preset, Result, Scatter, Table, Tick, no_tick
from demos.shared.plane import MODES, STD, draw_ring

Case = Literal["good", "collapsed", "noisy", "truncated"]
CASES: tuple[Case, ...] = ("good", "collapsed", "noisy", "truncated")
KEPT, NOISE, SPREAD = 2, 4.0, 1.5  # modes that survive the collapse; deviations of noisy and untruncated, in STD
PSIS = (1.0, 0.8, 0.6, 0.4, 0.2)
SIDE, PIXELS = 2.6, 56  # the part of the plane that is shown, from -SIDE to SIDE, and its pixels a side


class Params(DemoParams):
    k: int = Field(3, ge=1, le=20, description="Neighbours that set the radius of a ball")
    case: Case = Field("collapsed", description="Generator imitated")
    samples: int = Field(1000, ge=100, le=3000, description="Points per set")
    psi: float = Field(0.5, ge=0.1, le=1.0, description="Truncation of the case truncated: 1 is none")
    outliers: int = Field(0, ge=0, le=30, description="Lone real points, anywhere in the picture")
    seed: int = Field(0, ge=0, le=9999, description="Random seed of all points")

    presets: ClassVar[Mapping[str, Preset]] = {
        "noisy": Preset("Every mode is there, most samples are off: precision falls, recall stays", {"case": "noisy"}),
        "outliers": Preset(
            "Few lone real points, huge balls: noise passes for precise, density does not fall for it",
            {"case": "noisy", "outliers": 30},
        ),
        "balls too large": Preset(
            "Few points and far neighbours: balls bridge the modes, and every noisy sample lies in one",
            {"case": "noisy", "samples": 100, "k": 20},
        ),
    }


@dataclass(frozen=True, slots=True)
class Scores:
    """Precision and recall (Kynkäänniemi et al.), density and coverage (Naeem et al.) of one generator."""

    precision: float
    recall: float
    density: float
    coverage: float


def distances(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distances (A, B) of a (A, d) and b (B, d), exact: the fast product form loses small ones."""
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def radii(features: Tensor, k: int) -> Tensor:
    """Distance of each feature (N, d) to its k-th nearest other one, (N,): ‖φ' - NN_k(φ', Φ)‖ of eq. (1)."""
    return distances(features, features).kthvalue(k + 1, dim=1).values  # the nearest is the point itself


def in_balls(points: Tensor, centres: Tensor, radius: Tensor) -> Tensor:
    """Which points (M, d) lie in which balls, (M, N); f(φ, Φ) of eq. (1) is whether a row has any."""
    return distances(points, centres) <= radius


def score(real: Tensor, fake: Tensor, k: int) -> Scores:
    """All four numbers for features real (N, d), fake (M, d)."""
    accepted = in_balls(fake, real, radii(real, k))  # (M, N): fake j in the ball of real i
    covered = in_balls(real, fake, radii(fake, k))  # (N, M)
    return Scores(
        precision=accepted.any(dim=1).double().mean().item(),  # eq. (2), left
        recall=covered.any(dim=1).double().mean().item(),  # eq. (2), right
        density=accepted.double().sum().item() / (k * len(fake)),  # counts balls, so one huge ball adds little
        coverage=accepted.any(dim=0).double().mean().item(),  # real balls with a fake in them
    )


def generate(case: Case, n: int, psi: float, rng: torch.Generator) -> Tensor:
    """Samples (n, 2) of an imitated generator: a mode of the ring plus deviation times z."""
    z, mode = torch.randn(n, 2, generator=rng), torch.randint(8, (n,), generator=rng)  # (n, 2), (n,)
    match case:
        case "good":
            x = MODES[mode] + STD * z
        case "collapsed":
            x = MODES[mode % KEPT] + STD * z
        case "noisy":
            x = MODES[mode] + NOISE * STD * z
        case "truncated":  # z pulled to its mean by psi; the generator itself strays too far from its modes
            x = MODES[mode] + SPREAD * STD * (psi * z)
    return x.double()


def draw_real(n: int, outliers: int, rng: torch.Generator) -> Tensor:
    """Points of the ring (n, 2), the first few of them replaced by lone ones."""
    real = draw_ring(n, rng)
    real[:outliers] = SIDE * (2 * torch.rand(outliers, 2, generator=rng) - 1)
    return real.double()


def manifold_picture(centres: Tensor, k: int) -> list[list[float]]:
    """The union of the balls in the plane, y upwards: 1 inside, 0 outside."""
    axis = torch.linspace(-SIDE, SIDE, PIXELS, dtype=torch.float64)
    y, x = torch.meshgrid(axis.flip(0), axis, indexing="ij")  # (P, P) each
    inside = in_balls(torch.stack([x, y], dim=-1).view(-1, 2), centres, radii(centres, k)).any(dim=1)
    return inside.double().view(PIXELS, PIXELS).numpy().tolist()


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng = torch.Generator().manual_seed(params.seed)
    k, n = params.k, params.samples
    real = draw_real(n, params.outliers, rng)  # (N, 2); the points are their own features, so that they can be seen
    fakes, scores = dict[str, Tensor](), dict[str, Scores]()
    for number, case in enumerate(CASES, start=1):
        fakes[case] = generate(case, n, params.psi, rng)
        scores[case] = score(real, fakes[case], k)
        tick(number / 9, case, precision=scores[case].precision, recall=scores[case].recall)
    sweep: list[Scores] = []
    for number, psi in enumerate(PSIS, start=5):
        sweep.append(score(real, generate("truncated", n, psi, rng), k))
        tick(number / 9, f"psi = {psi:g}", precision=sweep[-1].precision, recall=sweep[-1].recall)
    precision, recall = [s.precision for s in sweep], [s.recall for s in sweep]  # no truncation first
    steps = range(1, len(PSIS))

    line_real, line_fake = torch.tensor([[0.0], [1], [2], [10]]), torch.tensor([[1.125], [1.25], [1.375]])
    line = score(line_real, line_fake, 1)
    # radii 1, 1, 1, 8 and ⅛, ⅛, ⅛: the balls of 1 and 2 hold all three fakes, and of the real only 1 is covered
    by_hand = max(
        abs(line.precision - 1), abs(line.recall - 1 / 4), abs(line.density - 2), abs(line.coverage - 2 / 4)
    )  # fmt: skip

    chosen, fake = scores[params.case], fakes[params.case]
    accepted = in_balls(fake, real, radii(real, k)).any(dim=1)  # (N,)
    missed = ~in_balls(real, fake, radii(fake, k)).any(dim=1)  # (N,)
    points = {"real": real[~missed], "real, missed": real[missed],
              "generated, accepted": fake[accepted], "generated, rejected": fake[~accepted]}  # fmt: skip
    figures = [
        ("manifolds", Scatter(
            f"Real and generated points: {params.case}", x="x", y="y",
            series={name: cloud[:300].numpy().tolist() for name, cloud in points.items()},
        )),
        ("manifolds", Images(
            f"Balls that reach the {k}. neighbour: the two manifolds",
            [[manifold_picture(real, k), manifold_picture(fake, k)]],
            column_labels=["real: precision asks here", "generated: recall asks here"],
        )),
        ("cases", Bars(
            "Four generators", x="generator", y="share", labels=list(CASES),
            series={"precision": [scores[case].precision for case in CASES],
                    "recall": [scores[case].recall for case in CASES]},
        )),
        ("truncation", Lines(
            "Precision and recall over truncation", x="psi (1: none)", y="share", at=PSIS,
            series={"precision": precision, "recall": recall},
        )),
        ("truncation", Scatter(
            "Precision against recall over truncation", x="recall", y="precision",
            series={f"psi = {psi:g}": [(s.recall, s.precision)] for psi, s in zip(PSIS, sweep, strict=True)},
        )),
    ]  # fmt: skip
    lead = "truncation" if params.case == "truncated" else "manifolds"
    return Result(
        metrics=[
            Metric("precision", chosen.precision),
            Metric("recall", chosen.recall),
            Metric("density", chosen.density),
            Metric("coverage", chosen.coverage),
        ],
        claims=[
            Claim("A generator of two modes in eight is precise: precision", scores["collapsed"].precision, ">=", 0.85),
            Claim("It lacks variety: recall", scores["collapsed"].recall, "<=", 0.4),
            Claim("A noisy generator is not precise: precision", scores["noisy"].precision, "<=", 0.6),
            Claim("It covers the data all the same: recall", scores["noisy"].recall, ">=", 0.85),
            Claim(
                "Fresh draws of the data score high on both: the lower of the two",
                min(scores["good"].precision, scores["good"].recall), ">=", 0.85,
            ),
            Claim(
                "Truncation never costs precision: largest fall from one psi to the next",
                max(precision[i - 1] - precision[i] for i in steps), "<=", 0.03,
            ),
            Claim(
                "It never adds variety: largest rise of recall",
                max(recall[i] - recall[i - 1] for i in steps), "<=", 0.03,
            ),
            Claim("From psi = 1 to 0.2 precision gains", precision[-1] - precision[0], ">=", 0.05),
            Claim("From psi = 1 to 0.2 recall loses", recall[0] - recall[-1], ">=", 0.4),
            Claim("Four real and three generated points on a line, counted by hand: difference", by_hand, "<=", 1e-9),
        ],
        figures=[figure for _, figure in sorted(figures, key=lambda of: of[0] != lead)],
        tables=[
            Table(
                "The four numbers of each generator", ["generator", "precision", "recall", "density", "coverage"],
                [[case, s.precision, s.recall, s.density, s.coverage] for case, s in scores.items()],
            )
        ],
    )  # fmt: skip
