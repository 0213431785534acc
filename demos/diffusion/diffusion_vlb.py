"""A diffusion model is a deep VAE

Question: How does the likelihood bound split over time, and what does the simplified loss throw away?
Source: Ho, Jain, Abbeel 2020, arXiv:2006.11239, eq. (2) to (7), (12), (14), σ_t² = β_t of §3.2; the hierarchical VAE:
  Luo 2022, arXiv:2208.11970, §3; more layers, tighter bound: Kingma et al. 2021, arXiv:2107.00630, §4.3 and app. F.
Watch: the bound is a sum over T latent layers. With the exact denoiser of Gaussian data what is left of its gap to the
  true likelihood is the price of finite steps, and goes as 1 / T.
"""

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, kl_divergence

from demos.contract import Bars, Claim, DemoParams, Lines, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.perceptron import perceptron

SPECTRUM = (1.4, 0.2)  # variances of the Gaussian data along their axes, which lie at 30° to the coordinates
STD, WIDTH, BATCH, CHAINS = 0.15, 64, 256, 2_000
COUNTS = [5, 10, 20, 50, 100, 200, 400]  # numbers of layers for the curve of the gap


class Params(DemoParams):
    timesteps: int = Field(100, ge=5, le=1000, description="Number of latent layers T")
    objective: Literal["simple", "vlb"] = Field("simple", description="Training loss: eq. (14), or the bound itself")
    data: Literal["gaussian", "moons"] = Field("gaussian", description="A Gaussian, or a mixture along two moons")
    steps: int = Field(800, ge=100, le=3000, description="Training steps")
    noise: float = Field(1.0, ge=0.05, le=1.0, description="Factor of all β: below 1 the last latent is not yet noise")
    seed: int = Field(0, ge=0, le=9999, description="Seed of data, weights and noise")

    presets: ClassVar[Mapping[str, Preset]] = {
        "too little noise": Preset("The last latent still knows the data: the prior is the wrong one", {"noise": 0.2}),
        "five layers": Preset("Five large strides: a loose bound", {"timesteps": 5}),
        "trained on the bound": Preset("The same terms with their weights: about the same bound", {"objective": "vlb"}),
        "moons": Preset("Data whose denoiser is not linear", {"data": "moons", "steps": 2000}),
    }


def make_schedule(T: int, noise: float) -> tuple[Tensor, Tensor]:
    """β_1 … β_T at 1 … T and ᾱ_0 … ᾱ_T, (T + 1,) each, float64, β_0 = 0; linear, any T ending in the same noise."""
    betas = (torch.linspace(1e-4, 0.02, T, dtype=torch.float64) * 1000 / T * noise).clamp(max=0.999)
    betas = torch.cat([torch.zeros(1, dtype=torch.float64), betas])
    return betas, torch.cumprod(1 - betas, dim=0)


def draw_data(name: str, n: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Points (n, 2) and their exact log-densities (n,), in nats; float64."""
    eps = torch.randn(n, 2, generator=rng, dtype=torch.float64)
    if name == "gaussian":
        turn = torch.tensor([[math.cos(math.pi / 6), 0.5], [-0.5, math.cos(math.pi / 6)]], dtype=torch.float64)
        spectrum = torch.tensor(SPECTRUM, dtype=torch.float64)
        return eps * spectrum.sqrt() @ turn, (-(eps**2) / 2 - (2 * math.pi * spectrum).log() / 2).sum(dim=1)
    angle = (torch.arange(64, dtype=torch.float64) + 0.5) * math.pi / 64
    upper = torch.stack([angle.cos() - 0.5, angle.sin() - 0.25], dim=1)
    centres = 1.2 * torch.cat([upper, -upper])  # (128, 2)
    x = centres[torch.randint(128, (n,), generator=rng)] + STD * eps
    squares = (x[:, None] - centres).square().sum(dim=2)  # (n, 128)
    return x, (-squares / (2 * STD**2)).logsumexp(dim=1) - math.log(128 * 2 * math.pi * STD**2)


class Network(nn.Module):
    """ε_θ(x_t, t): the one network that is the decoder between every two layers."""

    def __init__(self, T: int, rng: torch.Generator) -> None:
        super().__init__()
        self.T = T
        self.layers = perceptron([16, WIDTH, WIDTH, 2], nn.SiLU, rng)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """x (B, 2) and t (B,) -> predicted noise (B, 2), float32 inside."""
        share = t / self.T  # (B,)
        of_t = torch.stack([f(math.pi * k * share) for k in (0.5, 1, 2, 4) for f in (torch.sin, torch.cos)], dim=1)
        z = x.float()
        return self.layers(torch.cat([z, z.sin(), z.cos(), (2 * z).sin(), of_t], dim=1)).to(
            x.dtype
        )  # (B, 16) -> (B, 2)


def weight(t: Tensor, betas: Tensor, alpha_bar: Tensor) -> Tensor:
    """What the bound multiplies ‖ε − ε_θ‖² with at t: β² / (2 σ² α (1 − ᾱ)) of eq. (12), where σ² = β."""
    return betas[t] / (2 * (1 - betas[t]) * (1 - alpha_bar[t]))


def mean_back(x: Tensor, eps: Tensor, t: int, betas: Tensor, alpha_bar: Tensor) -> Tensor:
    """μ_θ(x_t, t) of eq. (11), (B, 2)."""
    return (x - betas[t] / (1 - alpha_bar[t]).sqrt() * eps) / (1 - betas[t]).sqrt()


def prior_term(x0: Tensor, alpha_bar: Tensor) -> Tensor:
    """L_T = KL(q(x_T | x_0) ‖ N(0, I)) in nats, (B,): nothing in it is trained."""
    a = alpha_bar[-1]
    return 0.5 * (a * x0**2 - a - (1 - a).log()).sum(dim=1)


def step_term(x0: Tensor, x_t: Tensor, eps_hat: Tensor, t: int, betas: Tensor, alpha_bar: Tensor) -> Tensor:
    """Term of layer t in nats, (B,): L_(t−1) = KL(q(x_(t−1) | x_t, x_0) ‖ p_θ(x_(t−1) | x_t)), or L_0 at t = 1."""
    beta, a, b = betas[t], alpha_bar[t], alpha_bar[t - 1]
    mu = mean_back(x_t, eps_hat, t, betas, alpha_bar)
    if t == 1:
        return ((x0 - mu) ** 2 / (2 * beta) + (2 * math.pi * beta).log() / 2).sum(dim=1)  # −log p_θ(x_0 | x_1)
    mu_tilde = b.sqrt() * beta / (1 - a) * x0 + (1 - beta).sqrt() * (1 - b) / (1 - a) * x_t  # eq. (7)
    ratio = (1 - b) / (1 - a)  # β̃ / β: both Gaussians are round, with variances β̃ and β
    return (0.5 * (ratio - 1 - ratio.log()) + (mu_tilde - mu) ** 2 / (2 * beta)).sum(dim=1)


def exact_terms(variance: float, betas: Tensor, alpha_bar: Tensor) -> Tensor:
    """L_0 … L_T in expectation for N(0, variance) on a line with its exact denoiser, (T + 1,), nats."""
    beta, a, b = betas[1:], alpha_bar[1:], alpha_bar[:-1]
    error = a * variance / (a * variance + 1 - a)  # E(ε − E[ε | x_t])², (T,)
    ratio = (1 - b[1:]) / (1 - a[1:])
    layers = 0.5 * (ratio - 1 - ratio.log()) + weight(torch.arange(2, len(betas)), betas, alpha_bar) * error[1:]
    first = 0.5 * (2 * math.pi * beta[0]).log() + weight(torch.tensor(1), betas, alpha_bar) * error[0]
    last = 0.5 * (a[-1] * variance - a[-1] - (1 - a[-1]).log())
    return torch.cat([first[None], layers, last[None]])


def joint_gap(variance: float, betas: Tensor, alpha_bar: Tensor) -> float:
    """KL(q(x_0 … x_T) ‖ p(x_0 … x_T)) of the same model from the two joint Gaussians, by torch: the gap in one piece.

    It uses neither terms nor eq. (7): q's covariances come from eq. (2), p's from running the exact decoder down.
    """
    T = len(betas) - 1
    own = alpha_bar * variance + 1 - alpha_bar  # (T + 1,), variance of x_t
    lower = (alpha_bar[:, None] / alpha_bar[None, :]).sqrt() * own[None, :]  # cov(x_s, x_t) with s >= t
    q = torch.tril(lower) + torch.tril(lower, -1).T  # (T + 1, T + 1)
    p = torch.zeros_like(q)
    p[T, T] = 1.0
    for t in range(T, 0, -1):  # x_(t−1) = k x_t + √β noise
        k = (1 - betas[t] / own[t]) / (1 - betas[t]).sqrt()  # μ_θ is linear: ε* = √(1 − ᾱ) x_t / own
        p[t - 1, t:] = p[t:, t - 1] = k * p[t, t:]
        p[t - 1, t - 1] = k**2 * p[t, t] + betas[t]
    zero = torch.zeros(T + 1, dtype=torch.float64)
    return kl_divergence(MultivariateNormal(zero, q), MultivariateNormal(zero, p)).item()


def exact_gap(T: int, noise: float) -> float:
    """Bound minus entropy of the Gaussian data with the exact denoiser and T layers, nats."""
    schedule = make_schedule(T, noise)
    return sum(exact_terms(v, *schedule).sum().item() - 0.5 * math.log(2 * math.pi * math.e * v) for v in SPECTRUM)


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Take one step down the gradient of the loss."""
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()


@torch.no_grad()
def along_chains(network: Network, x0: Tensor, betas: Tensor, alpha_bar: Tensor, dice: torch.Generator) -> Tensor:
    """log q(x_1 … x_T | x_0) − log p_θ(x_0 … x_T) on one chain for each x_0, (B,): eq. (3) with no KL worked out."""
    total, x = torch.zeros(len(x0), dtype=torch.float64), x0
    for t in range(1, len(betas)):
        beta = betas[t]
        eps = torch.randn(x.shape, generator=dice, dtype=torch.float64)
        ahead = (1 - beta).sqrt() * x + beta.sqrt() * eps  # eq. (2)
        mu = mean_back(ahead, network(ahead, torch.full((len(x),), t)), t, betas, alpha_bar)
        total += (((x - mu) ** 2 / beta - eps**2) / 2).sum(dim=1)  # both have variance β: the constants cancel
        x = ahead
    return total + (x**2 / 2 + math.log(2 * math.pi) / 2).sum(dim=1)


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng, dice = (torch.Generator().manual_seed(2 * params.seed + odd) for odd in (0, 1))  # training; evaluation
    T = params.timesteps
    betas, alpha_bar = make_schedule(T, params.noise)
    weights = weight(torch.arange(1, T + 1), betas, alpha_bar)  # (T,)
    network = Network(T, rng)
    adam = torch.optim.Adam(network.parameters(), fused=True)
    rate = torch.optim.lr_scheduler.OneCycleLR(adam, max_lr=1e-2, total_steps=params.steps)
    for step in range(1, params.steps + 1):
        x0, _ = draw_data(params.data, BATCH, rng)
        t = torch.randint(1, T + 1, (BATCH,), generator=rng)
        eps = torch.randn(BATCH, 2, generator=rng, dtype=torch.float64)
        x_t = alpha_bar[t].sqrt()[:, None] * x0 + (1 - alpha_bar[t]).sqrt()[:, None] * eps  # eq. (4)
        errors = (eps - network(x_t, t)).square().sum(dim=1)  # (B,)
        loss = errors.mean() if params.objective == "simple" else (T * weights[t - 1] * errors).mean()
        descend(adam, loss)
        rate.step()
        if step % 50 == 0:
            tick(0.6 * step / params.steps, f"step {step}", loss=loss.item())

    rows = min(4_000, 400_000 // T)
    x0, log_density = draw_data(params.data, rows, dice)
    total, layers, noise_errors = prior_term(x0, alpha_bar), list[float](), list[float]()
    prior_kl = total.mean().item()
    for now in range(1, T + 1):
        eps = torch.randn(rows, 2, generator=dice, dtype=torch.float64)
        x_t = alpha_bar[now].sqrt() * x0 + (1 - alpha_bar[now]).sqrt() * eps
        with torch.no_grad():
            eps_hat = network(x_t, torch.full((rows,), now))
        term = step_term(x0, x_t, eps_hat, now, betas, alpha_bar)
        layers.append(term.mean().item())
        noise_errors.append((eps - eps_hat).square().sum(dim=1).mean().item())
        total = total + term  # (rows,)
        if now % max(1, T // 10) == 0:
            tick(0.6 + 0.25 * now / T, f"term of layer {now}", bound=total.mean().item())
    chains = min(CHAINS, rows)
    direct = along_chains(network, x0[:chains], betas, alpha_bar, dice) - total[:chains]  # (chains,)
    off = direct.mean().abs().item() / (direct.std().item() / math.sqrt(chains))
    bound, gap = total.mean().item(), (total + log_density).mean().item()

    pieces = sum(exact_terms(v, betas, alpha_bar).sum().item() for v in SPECTRUM)
    entropy = sum(0.5 * math.log(2 * math.pi * math.e * v) for v in SPECTRUM)
    whole = entropy + sum(joint_gap(v, betas, alpha_bar) for v in SPECTRUM)
    gaps = {n: exact_gap(n, params.noise) for n in COUNTS}
    groups = torch.arange(1, T + 1).tensor_split(min(T, 100))  # at most a hundred bars
    names = [str(int(g[0])) if len(g) == 1 else f"{int(g[0])}–{int(g[-1])}" for g in groups]
    bars = [sum(layers[int(n) - 1] for n in g) for g in groups]
    steps = list(range(1, T + 1))
    bits = 2 * math.log(2)  # nats in one bit for each of the two dimensions
    return Result(
        metrics=[
            Metric("bound", bound / bits, "bits/dim"),
            Metric("negative log-likelihood", -log_density.mean().item() / bits, "bits/dim"),
            Metric("gap", gap, "nats"),
            Metric("gap with the exact denoiser of the Gaussian", exact_gap(T, params.noise), "nats"),
            Metric("prior_kl", prior_kl, "nats"),
        ],
        figures=[
            Bars("The bound, layer by layer (layer 1 is −log p(x_0 | x_1))", "t", "nats", [*names, "prior"],
                 {"term": [*bars, prior_kl]}),
            Lines("The terms and the simple loss", "t", "nats; squared error", steps[1:],
                  {"term of the bound": layers[1:], "‖ε − ε̂‖²": noise_errors[1:]}, log="y"),
            Lines("What the noise error is multiplied with", "t", "weight over its mean", steps,
                  {"bound": (weights / weights.mean()).numpy().tolist(), "simple loss": [1.0] * T}, log="y"),
            Lines("Gap of the bound with the exact denoiser, Gaussian data", "layers T", "nats", COUNTS,
                  {"gap": list(gaps.values())}, log="xy"),
        ],
        tables=[
            Table("The same model in the words of a VAE", ["part", "here", "number"], [
                ["latent layers", "x_1 … x_T", T],
                ["numbers in each latent", "as many as in the data", x0.shape[1]],
                ["weights of the encoder", "q adds noise, nothing is trained", 0],
                ["weights of the decoder", "one network for all layers, t is its input",
                 sum(w.numel() for w in network.parameters())],
                ["KL of the last latent to the prior", "L_T, nats", prior_kl],
                ["sum of the KL of layers 2 … T", "L_1 … L_(T−1), nats", sum(layers[1:])],
                ["reconstruction", "L_0, nats", layers[0]],
                ["negative bound", "their sum, nats", bound],
                ["negative log-likelihood", "exact, nats", -log_density.mean().item()],
            ]),
        ],
        claims=[
            Claim(
                "With the exact denoiser the terms add up to entropy + KL of the joint laws: relative difference",
                abs(pieces - whole) / abs(whole), "<=", 1e-6,
            ),
            Claim(
                "The terms of the trained network add up to eq. (3) along chains: difference in standard errors",
                off, "<=", 4.0,
            ),
            Claim("The bound is above the exact negative log-likelihood: gap in nats", gap, ">=", -0.01),
            Claim("Training comes near: gap in nats", gap, "<=", 0.3),
            Claim(
                "With the exact denoiser the gap shrinks as T grows: gap at 400 over gap at 50",
                gaps[400] / gaps[50], "<=", 0.4,
            ),
            Claim("The last latent carries nothing: prior KL in nats", prior_kl, "<=", 0.02),
        ],
    )  # fmt: skip
