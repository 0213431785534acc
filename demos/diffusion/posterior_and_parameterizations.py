"""The tractable posterior and three ways to predict it

Question: What is the exact step back when x_0 is known, and are predicting mean, noise and score the same thing?
Source: Ho, Jain, Abbeel 2020, arXiv:2006.11239, eq. (4), (6), (7), (9) to (11); v: Salimans, Ho 2022,
  arXiv:2202.00512, appendix D; score of the noisy data: Song et al. 2020, arXiv:2011.13456, eq. (7).
Watch: one prediction in five names gives one step back. As training targets the five are not alike: each weighs the
  steps in its own way, so the trained networks err at different times.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from demos.contract import Claim, DemoParams, Lines, Metric, Preset, Result, Table, Tick, no_tick

KINDS = ["noise", "mean", "score", "x0", "v"]
CENTRE, SPREAD = 1.0, 0.25  # data: half of it N(−1, 0.25²), half N(1, 0.25²), so that E[ε | x_t] is known exactly
WIDTH, BATCH, EVALUATED = 64, 256, 2_000


class Params(DemoParams):
    t: int = Field(40, ge=2, le=100, description="Step inspected (T when it is larger)")
    timesteps: int = Field(100, ge=10, le=1000, description="Number of steps T")
    parameterization: Literal["noise", "mean", "score", "x0", "v"] = Field("noise", description="What it predicts")
    steps: int = Field(500, ge=100, le=2000, description="Training steps of each of the five small networks")
    off_by_one: bool = Field(False, description="Use ᾱ_t where eq. (7) has ᾱ_(t−1): a common slip")
    seed: int = Field(0, ge=0, le=9999, description="Seed of data, noise and weights")

    presets: ClassVar[Mapping[str, Preset]] = {
        "off by one": Preset("ᾱ_t for ᾱ_(t−1): no longer Bayes' rule, nor eq. (11)", {"off_by_one": True}),
        "score": Preset(
            "The raw score is huge where σ is small, and the network learns little else", {"parameterization": "score"}
        ),
        "x0": Preset("Near the data x_0 is easy, but the noise it means is divided by σ", {"parameterization": "x0"}),
        "first steps": Preset("Near the data the step back is narrow and x_0 nearly known", {"t": 2}),
    }


@dataclass(frozen=True, slots=True)
class Step:
    """The numbers of eq. (4), (6) and (7) at one t or at many; each tensor has the shape of t."""

    beta: Tensor
    alpha_bar: Tensor
    alpha_bar_prev: Tensor

    @property
    def alpha(self) -> Tensor:
        """Share of the variance of x_{t−1} that is in x_t."""
        return 1 - self.beta

    @property
    def sigma(self) -> Tensor:
        """Deviation of the noise in x_t, √(1 − ᾱ_t)."""
        return (1 - self.alpha_bar).sqrt()

    @property
    def beta_tilde(self) -> Tensor:
        """Variance of q(x_{t−1} | x_t, x_0), eq. (7)."""
        return (1 - self.alpha_bar_prev) / (1 - self.alpha_bar) * self.beta

    @property
    def mu_weights(self) -> tuple[Tensor, Tensor]:
        """Weights of x_0 and x_t in the mean of q(x_{t−1} | x_t, x_0), eq. (7)."""
        of_x0 = self.alpha_bar_prev.sqrt() * self.beta / (1 - self.alpha_bar)
        return of_x0, self.alpha.sqrt() * (1 - self.alpha_bar_prev) / (1 - self.alpha_bar)


def steps_at(t: Tensor, T: int, off_by_one: bool = False) -> Step:
    """Linear schedule, 1e-4 to 0.02 at T = 1000 and scaled for other T, at times t (1 … T)."""
    betas = (torch.linspace(1e-4, 0.02, T, dtype=torch.float64) * 1000 / T).clamp(max=0.999)  # (T,)
    alpha_bar = torch.cat([torch.ones(1, dtype=torch.float64), torch.cumprod(1 - betas, dim=0)])  # (T + 1,), ᾱ_0 = 1
    return Step(betas[t - 1], alpha_bar[t], alpha_bar[t if off_by_one else t - 1])


def to_x0(kind: str, value: Tensor, x_t: Tensor, s: Step) -> Tensor:
    """The x_0 that a prediction of any kind means."""
    if kind == "noise":
        return (x_t - s.sigma * value) / s.alpha_bar.sqrt()  # eq. (4) solved for x_0
    if kind == "score":
        return (x_t + s.sigma**2 * value) / s.alpha_bar.sqrt()  # Tweedie's formula
    if kind == "mean":
        of_x0, of_xt = s.mu_weights
        return (value - of_xt * x_t) / of_x0  # eq. (7) solved for x_0
    if kind == "v":
        return s.alpha_bar.sqrt() * x_t - s.sigma * value
    return value


def from_x0(kind: str, x0: Tensor, x_t: Tensor, s: Step) -> Tensor:
    """A prediction of x_0 in any of the five names; with the true x_0 this is the training target."""
    eps = (x_t - s.alpha_bar.sqrt() * x0) / s.sigma
    if kind == "noise":
        return eps
    if kind == "score":
        return -eps / s.sigma
    if kind == "mean":
        of_x0, of_xt = s.mu_weights
        return of_x0 * x0 + of_xt * x_t  # eq. (7)
    if kind == "v":
        return s.alpha_bar.sqrt() * eps - s.sigma * x0
    return x0


def mean_back(kind: str, value: Tensor, x_t: Tensor, s: Step) -> Tensor:
    """Mean of x_{t−1}, from each kind by its own formula: what a sampler of that kind computes."""
    if kind == "noise":
        return (x_t - s.beta / s.sigma * value) / s.alpha.sqrt()  # eq. (11)
    if kind == "score":
        return (x_t + s.beta * value) / s.alpha.sqrt()  # eq. (11) with ε = −σ · score
    if kind == "mean":
        return value
    of_x0, of_xt = s.mu_weights
    return of_x0 * to_x0(kind, value, x_t, s) + of_xt * x_t  # eq. (7)


def bayes_on_grid(grid: Tensor, x0: float, x_t: float, s: Step) -> tuple[Tensor, Tensor, Tensor]:
    """q(x_{t−1} | x_0), q(x_t | x_{t−1}) and their product, each scaled to a density over the grid (G,)."""
    prior = torch.exp(-((grid - s.alpha_bar_prev.sqrt() * x0) ** 2) / (2 * (1 - s.alpha_bar_prev)))
    likelihood = torch.exp(-((x_t - s.alpha.sqrt() * grid) ** 2) / (2 * s.beta))  # eq. (2), as a function of x_{t−1}
    prior, likelihood, product = (d / torch.trapezoid(d, grid) for d in (prior, likelihood, prior * likelihood))
    return prior, likelihood, product


def bayes_gap(t: int, x0: float, eps: float, params: Params) -> float:
    """Distance of formula and grid in mean or variance, the larger, for one x_0 and the x_t that ε makes of it."""
    at = torch.tensor(t)
    true, s = steps_at(at, params.timesteps), steps_at(at, params.timesteps, params.off_by_one)
    x_t = true.alpha_bar.sqrt().item() * x0 + true.sigma.item() * eps
    grid = torch.linspace(-8, 8, 40_001, dtype=torch.float64)
    _, _, posterior = bayes_on_grid(grid, x0, x_t, true)
    mean = torch.trapezoid(posterior * grid, grid)
    variance = torch.trapezoid(posterior * (grid - mean) ** 2, grid)
    formula = from_x0("mean", torch.tensor(x0), torch.tensor(x_t), s)
    return max((mean - formula).abs().item(), (variance - s.beta_tilde).abs().item())


def best_noise(x_t: Tensor, s: Step) -> Tensor:
    """E[ε | x_t] = −σ ∇ log q(x_t) for the two-Gaussian data, its gradient taken by autograd; shape of x_t."""
    leaf = x_t.detach().clone().requires_grad_()
    variance = s.alpha_bar * SPREAD**2 + s.sigma**2
    logs = [-((leaf - sign * CENTRE * s.alpha_bar.sqrt()) ** 2) / (2 * variance) for sign in (-1, 1)]
    (score,) = torch.autograd.grad(torch.logaddexp(*logs).sum(), leaf)
    return -s.sigma * score


class Network(nn.Module):
    """A small perceptron of x_t and t; it does not know which of the five it predicts."""

    def __init__(self, rng: torch.Generator) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(8, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH), nn.SiLU(), nn.Linear(WIDTH, 1)
        )  # fmt: skip
        for weight in self.layers.parameters():  # torch's usual range, from a generator of our own
            bound = (8 if weight.shape[-1] == 8 else WIDTH) ** -0.5
            nn.init.uniform_(weight, -bound, bound, generator=rng)

    def forward(self, x_t: Tensor, share: Tensor) -> Tensor:
        """x_t and share = t / T, (B,) each -> (B,)."""
        waves = [f(math.pi * k * share) for k in (0.5, 1, 2) for f in (torch.sin, torch.cos)]
        return self.layers(torch.stack([x_t, share, *waves], dim=-1)).squeeze(-1)  # (B, 8) -> (B,)


def draw(n: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """x_0 of the two Gaussians and standard normal ε, (n,) each, float64."""
    sign = 2 * torch.randint(2, (n,), generator=rng) - 1
    eps = torch.randn(2, n, generator=rng, dtype=torch.float64)
    return sign * CENTRE + SPREAD * eps[0], eps[1]


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Take one step down the gradient of the loss."""
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()


def train(kind: str, params: Params, rng: torch.Generator) -> Network:
    """Fit one network by plain mean squared error to the target of its kind at random times."""
    network, T = Network(rng), params.timesteps
    adam = torch.optim.Adam(network.parameters(), fused=True)
    rate = torch.optim.lr_scheduler.OneCycleLR(adam, max_lr=1e-2, total_steps=params.steps)
    for _ in range(params.steps):
        x0, eps = draw(BATCH, rng)
        t = torch.randint(1, T + 1, (BATCH,), generator=rng)
        s = steps_at(t, T)
        x_t = s.alpha_bar.sqrt() * x0 + s.sigma * eps
        target = from_x0(kind, x0, x_t, s).float()
        loss = (network(x_t.float(), t / T) - target).square().mean()
        descend(adam, loss)
        rate.step()
    return network


def run(params: Params, tick: Tick = no_tick) -> Result:
    T, t = params.timesteps, min(params.t, params.timesteps)
    dice = torch.Generator().manual_seed(2 * params.seed + 1)
    shown = sorted({max(1, round(T * part / 20)) for part in range(21)} | {t})  # times at which errors are read
    own, in_x0, networks, off_best = dict[str, list[float]](), dict[str, list[float]](), dict[str, Network](), 0.0
    x0, eps = draw(EVALUATED, dice)
    for done, kind in enumerate(KINDS, start=1):
        networks[kind] = train(kind, params, torch.Generator().manual_seed(2 * params.seed))  # same batches for all
        errors = list[list[float]]()
        for now in shown:
            s = steps_at(torch.full((EVALUATED,), now), T)
            x_t = s.alpha_bar.sqrt() * x0 + s.sigma * eps  # (N,)
            with torch.no_grad():
                value = networks[kind](x_t.float(), torch.full((EVALUATED,), now / T)).double()
            meant = to_x0(kind, value, x_t, s)
            excess = (from_x0("noise", meant, x_t, s) - best_noise(x_t, s)).square().mean().item()
            errors.append([(value - from_x0(kind, x0, x_t, s)).square().mean().item(),
                           (meant - x0).square().mean().item(), excess])  # fmt: skip
        own[kind], in_x0[kind], excesses = ([row[column] for row in errors] for column in range(3))
        if kind == params.parameterization:
            off_best = sum(excesses) / len(excesses)
        tick(done / len(KINDS), f"trained: {kind}", **{"own error": own[kind][-1]})

    # One batch of predictions of the chosen network at many times, in float64
    times = torch.randint(2, T + 1, (EVALUATED,), generator=dice)
    s, true = steps_at(times, T, params.off_by_one), steps_at(times, T)
    x_t = true.alpha_bar.sqrt() * x0 + true.sigma * eps  # (N,), eq. (4)
    with torch.no_grad():
        value = networks[params.parameterization](x_t.float(), times / T).double()
    meant = to_x0(params.parameterization, value, x_t, s)
    named = {kind: from_x0(kind, meant, x_t, s) for kind in KINDS}
    around = meant
    for kind in KINDS:  # noise -> mean -> score -> x0 -> v and back
        around = to_x0(kind, from_x0(kind, around, x_t, s), x_t, s)
    z = torch.randn(EVALUATED, generator=dice, dtype=torch.float64)
    back = torch.stack([mean_back(kind, named[kind], x_t, s) + s.beta_tilde.sqrt() * z for kind in KINDS])  # (5, N)
    leaf = x_t.clone().requires_grad_()
    log_q = torch.distributions.Normal(true.alpha_bar.sqrt() * x0, true.sigma).log_prob(leaf)
    (score,) = torch.autograd.grad(log_q.sum(), leaf)
    score_gap = ((from_x0("score", x0, x_t, s) - score) * true.sigma).abs().max().item()  # in units of the noise
    pairs = [(now, x0[n].item(), eps[n].item()) for now in sorted({2, t, T}) for n in range(8)]

    one = steps_at(torch.tensor(t), T)
    at = 0.8
    seen = one.alpha_bar.sqrt().item() * at + one.sigma.item() * eps[0].item()
    centre, width = at * one.alpha_bar_prev.sqrt().item(), (1 - one.alpha_bar_prev).sqrt().item()
    grid = torch.linspace(centre - 5 * width, centre + 5 * width, 321, dtype=torch.float64)
    prior, likelihood, product = bayes_on_grid(grid, at, seen, one)
    used = steps_at(torch.tensor(t), T, params.off_by_one)
    formula = torch.distributions.Normal(
        from_x0("mean", torch.tensor(at), torch.tensor(seen), used), used.beta_tilde.sqrt()
    )
    curves = {"q(x_{t−1} | x_0)": prior, "q(x_t | x_{t−1})": likelihood, "posterior on the grid": product,
              "posterior by formula": formula.log_prob(grid).exp()}  # fmt: skip
    with torch.no_grad():
        guess = networks[params.parameterization](torch.tensor([seen]).float(), torch.tensor([t / T])).double()
    here = torch.tensor([seen], dtype=torch.float64)
    first = to_x0(params.parameterization, guess, here, used)
    rows = list[list[str | float]]()
    for kind in KINDS:
        again = to_x0(kind, from_x0(kind, first, here, used), here, used)
        rows.append([kind, *(from_x0(other, again, here, used).item() for other in KINDS)])
    order = [params.parameterization, *(kind for kind in KINDS if kind != params.parameterization)]
    return Result(
        metrics=[
            Metric("posterior mean", formula.mean.item()),
            Metric("posterior variance", formula.variance.item()),
            Metric("error of its own target at your step", own[params.parameterization][shown.index(t)]),
            Metric("excess noise error", off_best),
        ],
        figures=[
            Lines(f"The step back from x_{t} = {seen:.2f} when x_0 = {at}", "x_{t−1}", "density",
                  grid.numpy().tolist(), {name: curve.numpy().tolist() for name, curve in curves.items()}),
            Lines("Error of each network in its own target", "t", "mean square", shown,
                  {kind: own[kind] for kind in order}, log="y"),
            Lines("The same errors as errors of x_0", "t", "mean square", shown,
                  {kind: in_x0[kind] for kind in order}, log="y"),
        ],
        tables=[
            Table(f"One prediction at t = {t}, named in the first column, converted into each other",
                  ["from", *KINDS], rows),
            Table("The formulas", ["predicted", "x_0 that it means", "mean of the step back"], [
                ["noise ε", "(x_t − σ ε) / √ᾱ", "(x_t − β / σ · ε) / √α, eq. (11)"],
                ["mean μ̃", "(μ̃ − c_t x_t) / c_0", "μ̃"],
                ["score s", "(x_t + σ² s) / √ᾱ", "(x_t + β s) / √α"],
                ["x_0", "x_0", "c_0 x_0 + c_t x_t, eq. (7)"],
                ["v", "√ᾱ x_t − σ v", "c_0 (√ᾱ x_t − σ v) + c_t x_t"],
            ]),
        ],
        claims=[
            Claim(
                "The formula of the posterior is Bayes' rule on a grid: largest difference of mean and variance",
                max(bayes_gap(now, x, e, params) for now, x, e in pairs), "<=", 1e-4,
            ),
            Claim(
                "Converting through all names returns the input: largest difference",
                (around - meant).abs().max().item(), "<=", 1e-6,
            ),
            Claim("The score is minus noise over deviation: largest difference to autograd", score_gap, "<=", 1e-6),
            Claim(
                "All names of one prediction give the same x_{t−1}: largest difference",
                (back - back[0]).abs().max().item(), "<=", 1e-5,
            ),
            Claim("The network comes near E[ε | x_t], known exactly here: mean square off", off_best, "<=", 0.048),
        ],
    )  # fmt: skip
