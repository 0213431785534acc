"""Forced choice: how often is a fake taken for real?

Question: How many votes does it take to say that one generator fools people more than another?
Source: Isola et al. 2016, arXiv:1611.07004, §4.1 (40 pairs a rater); Zhou et al. 2019 (HYPE), arXiv:1904.01121 (viewing
  time, checks, bootstrap); psychometric curve with lapses: Wichmann, Hill 2001; exact interval: Clopper, Pearson 1934.
Watch: the interval that takes 1,000 votes of 25 raters for 1,000 independent ones is too short; resampling raters
  nearly mends it. The raters are simulated (a network's evidence, noise, lapses): no human judgement is claimed.
"""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from demos.contract import Claim, DemoParams, Images, Lines, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.digits import load_digits

TRAIN, SHOWN, BATCH, STEPS = 1_000, 120, 128, 500  # digits the eye learns from, digits in the test, its training
SIGMA = 1.2  # noise of a rater of sharpness 1 who looks for one second, in logits of the eye
CROWD, STUDIES, RESAMPLES, ALPHA = 400, 2_000, 1_000, 0.05
LEVELS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
SIZES = (3, 5, 10, 25, 50, 100, 200)  # raters of a study that grows
CHECKS, NEEDED = 10, 8  # pairs with a fake that nobody can miss; how many of them an attentive rater gets right


class Params(DemoParams):
    raters: int = Field(25, ge=3, le=200, description="Simulated raters")
    trials: int = Field(40, ge=10, le=200, description="Pairs per rater")
    exposure: float = Field(1.0, ge=0.1, le=5.0, description="Viewing time in seconds, which sharpens the rater")
    corruption: float = Field(0.4, ge=0.0, le=1.0, description="Flaws put into the fake digits")
    spread: float = Field(0.6, ge=0.0, le=1.5, description="How much raters differ: deviation of log sharpness")
    careless: float = Field(0.0, ge=0.0, le=0.8, description="Share of raters who click without looking")
    seed: int = Field(0, ge=0, le=9999, description="Random seed of data, weights, raters and votes")

    presets: ClassVar[Mapping[str, Preset]] = {
        "raters alike": Preset("Votes are independent: now the exact interval keeps its promise", {"spread": 0.0}),
        "careless raters": Preset("Half of them guess: fakes look better, the checks find out", {"careless": 0.5}),
        "glance": Preset("A tenth of a second: even bad fakes pass", {"exposure": 0.1, "corruption": 0.8}),
        "close generators": Preset("Few flaws against few more: count the raters needed", {"corruption": 0.2}),
    }


@dataclass(frozen=True, slots=True)
class Crowd:
    """The people raters are drawn from: sharpness of each eye (P,), share of trials in which each only guesses (P,)."""

    sharpness: Tensor
    lapse: Tensor


def spoil(x: Tensor, corruption: float, rng: torch.Generator) -> Tensor:
    """Fakes (B, 64) from digits (B, 64): another digit shines through, as strong as the digit itself at 1."""
    ghost = x[torch.randperm(len(x), generator=rng)]
    return (1 - corruption / 2) * x + corruption / 2 * ghost


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Take one step down the gradient of the loss."""
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()


def train_eye(x: Tensor, rng: torch.Generator) -> nn.Module:
    """A network that tells digits from spoilt ones: (B, 64) -> logit of "real" (B, 1), the evidence a rater gets."""
    eye = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
    for weight in eye.parameters():
        nn.init.zeros_(weight) if weight.dim() == 1 else nn.init.kaiming_uniform_(weight, a=5**0.5, generator=rng)
    adam = torch.optim.Adam(eye.parameters(), lr=3e-3, fused=True)
    for _ in range(STEPS):
        real, seed = (x[torch.randint(len(x), (BATCH,), generator=rng)] for _ in range(2))
        fake = spoil(seed, torch.rand((), generator=rng).item(), rng)
        loss = nn.functional.softplus(-eye(real)).mean() + nn.functional.softplus(eye(fake)).mean()
        descend(adam, loss)
    return eye


def draw_crowd(spread: float, careless: float, rng: torch.Generator) -> Crowd:
    """CROWD people, the careless ones among them guessing in every trial, the others in up to 6 % of them."""
    sharpness = (spread * torch.randn(CROWD, generator=rng)).exp()
    lapse = 0.06 * torch.rand(CROWD, generator=rng)
    lapse[: round(careless * CROWD)] = 1.0
    return Crowd(sharpness.double(), lapse.double())


def normal_cdf(x: Tensor) -> Tensor:
    """Φ(x)."""
    return (1 + torch.erf(x / math.sqrt(2))) / 2


def fooled(real: Tensor, fake: Tensor, crowd: Crowd, exposure: float) -> Tensor:
    """How often each person takes the fake for real, (P,), over all pairs of evidence real (M,) and fake (M,).

    Both images give evidence plus noise N(0, SIGMA² / exposure), and the larger sum is called real: a psychometric
    curve lapse / 2 + (1 - lapse) Φ(d / deviation) of the difference d.
    """
    d = (fake[None, :] - real[:, None]).double().flatten()  # (M²,)
    sharp = crowd.sharpness * math.sqrt(exposure / 2) / SIGMA  # (P,); the noise of two images adds up to 2 SIGMA²
    seen = torch.stack([normal_cdf(a * d).mean() for a in sharp])  # (P,)
    return crowd.lapse / 2 + (1 - crowd.lapse) * seen


def vote(rates: Tensor, trials: int, rng: torch.Generator) -> Tensor:
    """Votes for the fake (same shape as rates), each rater seeing one pair after another."""
    votes = torch.zeros_like(rates)
    for _ in range(trials):
        votes += torch.rand(rates.shape, generator=rng) < rates
    return votes


def tails(n: int, p: float) -> tuple[Tensor, Tensor]:
    """P(X ≤ k) and P(X ≥ k) for k = 0 … n of a binomial X, (n + 1,) each."""
    k = torch.arange(n + 1, dtype=torch.float64)
    ways = math.lgamma(n + 1) - torch.lgamma(k + 1) - torch.lgamma(n - k + 1)  # log of n over k
    pmf = (ways + torch.xlogy(k, k.new_tensor(p)) + torch.xlogy(n - k, k.new_tensor(1 - p))).exp()
    return pmf.cumsum(0), pmf.flip(0).cumsum(0).flip(0)


def exact_interval(k: int, n: int) -> tuple[float, float]:
    """Clopper–Pearson: the rates that k votes of n do not refute at ALPHA / 2 on either side, by bisection."""

    def root(side: int, sign: int) -> float:  # where this tail, which grows with sign * p, is ALPHA / 2
        low, high = 0.0, 1.0
        for _ in range(50):
            p = (low + high) / 2
            above = sign * (tails(n, p)[side][k].item() - ALPHA / 2) > 0
            low, high = (low, p) if above else (p, high)
        return (low + high) / 2

    return 0.0 if k == 0 else root(1, 1), 1.0 if k == n else root(0, -1)


def rater_interval(shares: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Bootstrap over raters: shares (S, R) of each rater in each of S studies -> lower and upper ends (S,)."""
    R = shares.shape[1]
    drawn = torch.randint(R, (RESAMPLES, R), generator=rng)  # raters with replacement; all studies share the draws
    weight = torch.zeros(RESAMPLES, R).scatter_add_(1, drawn, torch.ones(RESAMPLES, R)) / R  # (RESAMPLES, R)
    means = shares.float() @ weight.T  # (S, RESAMPLES)
    return means.quantile(ALPHA / 2, dim=1), means.quantile(1 - ALPHA / 2, dim=1)


def variance_of_one(rates: Tensor, trials: int) -> float:
    """Variance of one rater's share: raters differ, and each votes only so often. A study's is this over its raters."""
    return (rates.var(correction=0) + (rates * (1 - rates)).mean() / trials).item()


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng, dice = (torch.Generator().manual_seed(2 * params.seed + odd) for odd in (0, 1))  # training; raters and votes
    images, _ = load_digits()
    x = images[torch.randperm(len(images), generator=rng)].view(-1, 64)  # (1797, 64)
    eye = train_eye(x[:TRAIN], rng)
    tick(0.2, "the eye is trained")
    shown, crowd = x[TRAIN : TRAIN + SHOWN], draw_crowd(params.spread, params.careless, dice)  # (120, 64): never seen

    def rates_at(corruption: float, exposure: float) -> Tensor:  # (P,)
        fakes = spoil(shown, corruption, torch.Generator().manual_seed(params.seed))  # one ghost for every level
        with torch.no_grad():
            return fooled(eye(shown)[:, 0], eye(fakes)[:, 0], crowd, exposure)

    other = params.corruption + (0.1 if params.corruption <= 0.9 else -0.1)  # the generator it is compared with
    wanted = {*LEVELS, params.corruption, other}
    rates: dict[float, Tensor] = {}
    for number, level in enumerate(sorted(wanted), start=1):
        rates[level] = rates_at(level, params.exposure)
        tick(0.2 + 0.5 * number / len(wanted), f"corruption {level:g}", rate=rates[level].mean().item())
    truth = {level: rate.mean().item() for level, rate in rates.items()}
    n, p, p_other = params.raters * params.trials, truth[params.corruption], truth[other]

    people = torch.randint(CROWD, (params.raters,), generator=dice)  # (R,)
    voted = {level: vote(rates[level][people], params.trials, dice) for level in rates}  # (R,) each
    share = {level: (votes.sum() / n).item() for level, votes in voted.items()}
    right = CHECKS - vote(crowd.lapse[people] / 2, CHECKS, dice)  # (R,)
    kept = right >= NEEDED
    votes = voted[params.corruption]
    checked = (votes[kept].sum() / (kept.sum() * params.trials)).item()  # NaN when nobody is left
    low, high = exact_interval(int(votes.sum()), n)
    low_raters, high_raters = (end.item() for end in rater_interval(votes[None] / params.trials, dice))

    someone = rates[params.corruption][torch.randint(CROWD, (STUDIES, params.raters), generator=dice)]  # (S, R)
    studies = vote(someone, params.trials, dice)  # (S, R)
    ends = rater_interval(studies / params.trials, dice)
    covered_raters = ((ends[0] <= p) & (p <= ends[1])).double().mean().item()
    below, above = tails(n, p)
    accepts = (below >= ALPHA / 2) & (above >= ALPHA / 2)  # (n + 1,): the counts whose exact interval contains p
    covered_exact = accepts[studies.sum(dim=1).long()].double().mean().item()
    covered_alike = (below - torch.cat([below.new_zeros(1), below[:-1]]))[accepts].sum().item()  # a binomial study
    tick(0.85, "two thousand studies", coverage=covered_raters)

    one, one_other = (variance_of_one(rates[level], params.trials) for level in (params.corruption, other))
    enough = max(3, math.ceil(1.96**2 * (one + one_other) / (p - p_other) ** 2))  # 1.96 standard errors of a difference
    apart = (p - p_other) / math.sqrt((one + one_other) / enough)  # in standard errors: 1.96 but for rounding
    enough_shown = min(enough, 1_000)
    drawn = [
        vote(rates[level][torch.randint(CROWD, (500, enough_shown), generator=dice)], params.trials, dice).mean(dim=1)
        for level in (params.corruption, other)
    ]  # (500,) each
    gap = (drawn[0] - drawn[1]) / params.trials * (1 if p > p_other else -1)
    told = (gap > 1.96 * math.sqrt((one + one_other) / enough_shown)).double().mean().item()
    expected = normal_cdf(torch.tensor(abs(apart) * math.sqrt(enough_shown / enough) - 1.96)).item()

    curves: dict[str, list[float]] = {}
    for name, level in (("chosen", params.corruption), ("next", other)):
        long = rates[level][torch.randint(CROWD, (SIZES[-1],), generator=dice)]
        shares = vote(long, params.trials, dice) / params.trials  # (200,)
        both = [rater_interval(shares[None, :size], dice) for size in SIZES]
        curves |= {f"{name} ({level:g}): lower": [a.item() for a, _ in both],
                   f"{name} ({level:g}): upper": [b.item() for _, b in both]}  # fmt: skip
    quick = rates_at(params.corruption, params.exposure / 4).mean().item()
    falls = [truth[a] - truth[b] for a, b in itertools.pairwise(LEVELS[:5])]
    zeros = exact_interval(0, n)[1] - (1 - (ALPHA / 2) ** (1 / n))  # no vote at all: (1 - p)^n = ALPHA / 2
    fakes = spoil(shown, params.corruption, torch.Generator().manual_seed(params.seed))
    error = math.sqrt(variance_of_one(rates[0.0], params.trials) / params.raters)
    return Result(
        metrics=[
            Metric("fooling_rate", share[params.corruption]),
            Metric("fooling rate of the whole crowd", p),
            Metric("fooling rate, raters who pass the checks", checked),
            Metric("width of the exact interval", high - low),
            Metric("width of the interval over raters", high_raters - low_raters),
            Metric("raters needed to tell 0.1 more corruption", enough, "raters each"),
        ],
        claims=[
            Claim("Undamaged copies are chosen half of the time: distance", abs(truth[0.0] - 0.5), "<=", 1e-6),
            Claim("So they are in the vote: distance in standard errors", abs(share[0.0] - 0.5) / error, "<=", 4),
            Claim("More corruption fools less: smallest fall of the rate over five levels", min(falls), ">=", 0.01),
            Claim("Fakes as bad as can be are seen: fooling rate", share[1.0], "<=", 0.27),
            Claim("A quarter of the viewing time fools more: rise of the rate", quick - p, ">=", 0.02),
            Claim("Resampling raters, the 95 % interval contains the true rate", covered_raters, ">=", 0.9),
            Claim("The exact interval takes votes for independent: it does so less often", covered_exact, "<=", 0.91),
            Claim("Were all raters alike, it would do so at least as often as it says", covered_alike, ">=", 0.95),
            Claim("The exact interval of no vote ends at 1 - 0.025^(1/n): difference", abs(zeros), "<=", 1e-9),
            Claim("With the raters needed, studies tell generators apart as predicted: difference",
                  abs(told - expected), "<=", 0.1),
        ],
        figures=[
            Lines("Fooling rate against corruption", "corruption", "share of fakes taken for real", LEVELS,
                  {"vote": [share[level] for level in LEVELS], "crowd": [truth[level] for level in LEVELS]}),
            Lines("95 % interval against number of votes, two generators", "votes", "share of fakes taken for real",
                  [size * params.trials for size in SIZES], curves, log="x"),
            Images("What the raters see", torch.stack([shown[:12], fakes[:12]]).view(2, 12, 8, 8).numpy().tolist(),
                   row_labels=["real", f"fake, corruption {params.corruption:g}"]),
        ],
        tables=[
            Table("Votes and lapse checks per rater",
                  ["rater", "sharpness", "lapses", f"fakes taken for real, of {params.trials}",
                   f"checks passed, of {CHECKS}", "kept"],
                  [[i + 1, crowd.sharpness[person].item(), crowd.lapse[person].item(), int(votes[i]), int(right[i]),
                    bool(kept[i])] for i, person in enumerate(people)]),
            Table("Intervals for the fooling rate",
                  ["method", "lower", "upper", "share of 2,000 studies that contain the truth"],
                  [["exact, votes independent", low, high, covered_exact],
                   ["bootstrap over raters", low_raters, high_raters, covered_raters]]),
        ],
    )  # fmt: skip
