"""KL divergence: formula, sampling, and the two directions

Question: Is the closed-form KL in every VAE and DDPM loss right, and what does the direction of KL do?
Source: Kullback, Leibler 1951; Kingma, Welling 2013, arXiv:1312.6114, §2.3, §2.4 and appendix B; Williams 1992 (score
  function); Bishop 2006, Pattern Recognition and Machine Learning, §10.1.2 (direction).
Watch: the Monte-Carlo estimate closing in on the formula, one Gaussian that must cover two modes or choose one, and
  how much noisier the score-function gradient is than the reparameterised one.
"""

import math
from collections.abc import Callable, Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from demos.contract import Claim, DemoParams, Lines, Metric, Preset, Result, Table, Tick, no_tick

F64 = torch.float64  # so that what is left of a difference is a mistake in the formula
MODES, MODE_STD = (-2.0, 2.0), 0.5  # the target of the fits: two equal modes, eight of their deviations apart
FIT_STEPS, FIT_BATCH = 400, 256


class Params(DemoParams):
    dim: int = Field(4, ge=1, le=64, description="Dimension of the Gaussians")
    samples: int = Field(100_000, ge=100, le=500_000, description="Monte-Carlo samples")
    direction: Literal["forward", "reverse", "both"] = Field("both", description="Fit to the two modes that is drawn")
    estimator: Literal["reparam", "score"] = Field("reparam", description="Gradient estimator that this run uses")
    seed: int = Field(0, ge=0, le=9999, description="Seed of the Gaussians and of all samples")

    presets: ClassVar[Mapping[str, Preset]] = {
        "few-samples": Preset("A hundred samples may miss by more than 2 %: try other seeds", {"samples": 100}),
        "score-function": Preset("Without the reparameterisation trick gradients are noise", {"estimator": "score"}),
        "cover": Preset("Forward KL spreads q over both modes and what lies between", {"direction": "forward"}),
        "choose": Preset("Reverse KL puts q on one mode and forgets the other", {"direction": "reverse"}),
    }


def kl_diagonal(mu1: Tensor, std1: Tensor, mu2: Tensor, std2: Tensor) -> Tensor:
    """KL(N(mu1, std1²) ‖ N(mu2, std2²)) in nats, all (…, d) -> (…); with mu2 = 0, std2 = 1 the KL term of a VAE."""
    return (torch.log(std2 / std1) + (std1**2 + (mu1 - mu2) ** 2) / (2 * std2**2) - 0.5).sum(dim=-1)


def kl_full(mu1: Tensor, cov1: Tensor, mu2: Tensor, cov2: Tensor) -> Tensor:
    """The same with full covariances: mu (d,), cov (d, d) -> ()."""
    gap = mu2 - mu1  # (d,)
    precision2 = cov2.inverse()  # Σ₂⁻¹ (d, d)
    return 0.5 * (
        (precision2 @ cov1).trace() + gap @ precision2 @ gap - len(gap) + torch.logdet(cov2) - torch.logdet(cov1)
    )


def log_normal(z: Tensor, mu: Tensor | float, std: Tensor | float) -> Tensor:
    """log N(z; mu, std²) with z (S, d) -> (S,)."""
    std = torch.as_tensor(std, dtype=z.dtype)
    return (-((z - mu) ** 2) / (2 * std**2) - torch.log(std) - 0.5 * math.log(2 * math.pi)).sum(dim=-1)


def log_prior(z: Tensor) -> Tensor:
    return log_normal(z, 0.0, 1.0)  # (S, d) -> (S,)


def log_two_modes(z: Tensor) -> Tensor:
    each = torch.stack([log_normal(z, mode, MODE_STD) for mode in MODES])  # (2, S)
    return torch.logsumexp(each, dim=0) - math.log(len(MODES))  # (S,)


def surrogate(mu: Tensor, std: Tensor, noise: Tensor, log_p: Callable[[Tensor], Tensor], estimator: str) -> Tensor:
    """Values (S,) whose gradients in mu, std estimate those of KL(N(mu, std²) ‖ p); mu, std, noise (S, d) or (d,)."""
    z = mu + std * noise  # (S, d); the reparameterisation trick, §2.4: the gradient flows through the sample
    if estimator == "reparam":
        return log_normal(z, mu, std) - log_p(z)
    log_q = log_normal(z.detach(), mu, std)  # the sample is only observed …
    return (log_q - log_p(z)).detach() * log_q  # … and its value weighs ∇ log q


def gradients(mu: Tensor, std: Tensor, noise: Tensor, estimator: str) -> Tensor:
    """One estimate of ∂KL(N(mu, std²) ‖ N(0, I))/∂mu from each row of noise (S, d) -> (S, d)."""
    each = mu.expand_as(noise).clone().requires_grad_()  # (S, d); a mu of its own for every sample
    (gradient,) = torch.autograd.grad(surrogate(each, std, noise, log_prior, estimator).sum(), each)
    return gradient


def descend(loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()


def fit(direction: str, estimator: str, rng: torch.Generator, tick: Tick = no_tick) -> tuple[float, float]:
    """Fit one Gaussian q to the two modes by gradient descent on KL(p ‖ q) or KL(q ‖ p); its mean and deviation."""
    start = 0.2 if direction == "forward" else 0.6  # of the whole run
    mu = torch.randn(1, generator=rng, dtype=F64).requires_grad_()
    # Narrow: from a wide start reverse KL stays in a second, worse minimum that covers both modes.
    log_std = torch.full((1,), -1.0, dtype=F64, requires_grad=True)
    optimizer = torch.optim.Adam([mu, log_std], lr=0.05)
    for step in range(FIT_STEPS):
        noise = torch.randn(FIT_BATCH, 1, generator=rng, dtype=F64)  # (S, 1)
        if direction == "forward":  # KL(p ‖ q) = const − E_p log q: maximum likelihood on samples of p
            mode = torch.tensor(MODES, dtype=F64)[torch.randint(len(MODES), (FIT_BATCH, 1), generator=rng)]
            loss = -log_normal(mode + MODE_STD * noise, mu, log_std.exp()).mean()
        else:  # KL(q ‖ p) = E_q[log q − log p]
            loss = surrogate(mu, log_std.exp(), noise, log_two_modes, estimator).mean()
        descend(loss, optimizer)
        if step % 20 == 19:
            width = {f"deviation, {direction}": log_std.exp().item()}
            tick(start + 0.4 * (step + 1) / FIT_STEPS, f"fitting q by {direction} KL", **width)
    return mu.item(), log_std.exp().item()


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng = torch.Generator().manual_seed(params.seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng, dtype=F64)

    d = params.dim
    mu, std, mu2 = normal(d), torch.exp(0.4 * normal(d) - 1), normal(d)  # (d,) each, as an encoder might say
    zero, one = torch.zeros(d, dtype=F64), torch.ones(d, dtype=F64)
    cov1, cov2 = (a @ a.T / d + 0.5 * torch.eye(d, dtype=F64) for a in (normal(d, d), normal(d, d)))  # (d, d)

    closed = kl_diagonal(mu, std, zero, one)
    z = mu + std * normal(params.samples, d)  # (S, d)
    ratio = log_normal(z, mu, std) - log_prior(z)  # (S,); its mean is the KL
    counts = [n for n in (10, 30, 100, 300, 1000, 3000, 10_000, 30_000, 100_000, 300_000) if n < params.samples]
    counts.append(params.samples)
    tick(0.1, "Monte Carlo", **{"Monte-Carlo KL": ratio.mean().item()})

    full, equal = kl_full(mu, cov1, mu2, cov2), kl_diagonal(mu, std, mu2, std)
    distance = 0.5 * (((mu - mu2) / std) ** 2).sum()  # what DDPM's loss makes of it: eq. (8) of arXiv:2006.11239
    torch_diagonal = kl_divergence(Normal(mu, std), Normal(zero, one)).sum()
    torch_full = kl_divergence(MultivariateNormal(mu, cov1), MultivariateNormal(mu2, cov2))
    library_gap = max((closed - torch_diagonal).abs().item(), (full - torch_full).abs().item())
    pairs = kl_diagonal(normal(100, d), normal(100, d).exp(), normal(100, d), normal(100, d).exp())  # (100,)

    noise = normal(min(params.samples, 20_000), d)  # (S, d)
    slopes = {name: gradients(mu, std, noise, name) for name in ("reparam", "score")}  # (S, d)
    exact = mu  # ∂KL/∂mu of the closed form
    bias = max(((g.mean(0) - exact) / (g.std(0) / math.sqrt(len(g)))).abs().max().item() for g in slopes.values())
    variance = {name: g.var(dim=0).mean().item() for name, g in slopes.items()}
    tick(0.2, "gradients")

    fits = {name: fit(name, params.estimator, rng, tick) for name in ("forward", "reverse")}
    widths = fits["forward"][1] / fits["reverse"][1]
    x = torch.linspace(-6, 6, 121, dtype=F64)[:, None]  # (121, 1)
    shown = [name for name in fits if params.direction in (name, "both")]
    densities = {"two modes p": log_two_modes(x).exp().numpy().tolist()}
    densities |= {f"q by {name} KL": log_normal(x, *fits[name]).exp().numpy().tolist() for name in shown}

    estimates = [ratio[:n].mean().item() for n in counts]
    sampled = (estimates[-1] / closed - 1).abs().item()
    scaled = (equal - distance).abs().item()
    to_itself = kl_diagonal(mu, std, mu, std).abs().item()
    noisier = variance["score"] / variance[params.estimator]
    curves = {"Monte Carlo": estimates, "closed form": [closed.item()] * len(counts)}
    return Result(
        metrics=[
            Metric("KL, closed form", closed.item(), "nats"),
            Metric("KL, Monte Carlo", estimates[-1], "nats"),
            *(Metric(f"deviation of q by {name} KL", fits[name][1]) for name in shown),
        ],
        figures=[
            Lines("KL to the prior by sampling", "samples", "nats", counts, curves, log="x"),
            Lines("One Gaussian for two modes", "x", "density", x[:, 0].numpy().tolist(), densities),
        ],
        tables=[
            Table(
                "The formula against other ways to the same number (nats)",
                ["case", "closed form", "other way", "value"],
                [
                    ["diagonal, to N(0, I)", closed.item(), "Monte Carlo", estimates[-1]],
                    ["diagonal, to N(0, I)", closed.item(), "torch.distributions", torch_diagonal.item()],
                    ["full covariances", full.item(), "torch.distributions", torch_full.item()],
                    ["equal variances", equal.item(), "½ Σ (Δμ / σ)²", distance.item()],
                ],
            ),
            Table(
                "Variance of one gradient sample, ∂KL/∂μ",
                ["estimator", "variance", "of the reparameterised one"],
                [[name, value, value / variance["reparam"]] for name, value in variance.items()],
            ),
        ],
        claims=[
            Claim("Closed form and Monte Carlo agree: relative error", sampled, "<=", 0.02),
            Claim("Same as torch.distributions, diagonal and full: largest difference", library_gap, "<=", 1e-5),
            Claim("Equal variances leave the scaled distance of the means: difference", scaled, "<=", 1e-9),
            Claim("KL(p ‖ p) is zero", to_itself, "<=", 1e-6),
            Claim("KL is never negative: least of 100 random pairs", pairs.min().item(), ">=", 0.0),
            Claim("Forward KL covers both modes, reverse KL picks one: ratio of deviations", widths, ">=", 2.0),
            Claim("Both estimators aim at the exact gradient: largest distance in standard errors", bias, "<=", 5.0),
            Claim("The score function's gradients are noisier than this run's: ratio of variances", noisier, ">=", 5.0),
        ],
    )
