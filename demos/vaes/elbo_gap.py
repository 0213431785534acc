"""The ELBO against the exact log-likelihood

Question: How far below log p(x) is the ELBO, and what closes the gap?
Source: Kingma, Welling 2013, arXiv:1312.6114, eq. (1) to (3); Burda, Grosse, Salakhutdinov 2015, arXiv:1509.00519, §3
  and theorem 1 (importance-weighted bound L_k); Tipping, Bishop 1999, Probabilistic Principal Component Analysis, §3
  (posterior and maximum likelihood); Lucas et al. 2019, arXiv:1911.02469 (linear VAE).
Watch: the ELBO rises under log p(x), and what separates them is KL(q ‖ p(z | x)) at every step. The gap closes with
  a better encoder or with more importance samples; an encoder that cannot be precise keeps it and spoils the decoder.
"""

import math
from collections.abc import Callable, Mapping
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, kl_divergence

from demos.contract import Claim, DemoParams, Lines, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.digits import load_digits

cholesky: Callable[[Tensor], Tensor] = torch.linalg.cholesky  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
F64 = torch.float64  # so that what is left of a difference is a mistake in a formula
D, BATCH, STEPS, EVERY = 64, 128, 1_500, 25  # pixels; digits a step; training steps; steps between two looks
SHOWN, DRAWS, COUNTS = 300, 256, (1, 2, 4, 8, 16, 32, 64, 128, 256)  # digits and samples of the importance bounds


class Params(DemoParams):
    k: int = Field(1, ge=1, le=256, description="Importance samples in the bound that is trained; 1 is the ELBO")
    encoder: Literal["learned", "exact", "crippled"] = Field(
        "learned",
        description="q(z | x): learned, the exact posterior, or learned with its variance held at the prior's",
    )
    latent_dim: int = Field(3, ge=1, le=8, description="Latent dimension d")
    seed: int = Field(0, ge=0, le=9999, description="Seed of weights, batches and samples")

    presets: ClassVar[Mapping[str, Preset]] = {
        "exact posterior": Preset("No gap at any step: every sample gives log p(x) itself", {"encoder": "exact"}),
        "crippled": Preset("A code that may not be precise: nats of gap, and a worse model", {"encoder": "crippled"}),
        "crippled, 64 samples": Preset(
            "Importance samples make up for much of the bad encoder", {"encoder": "crippled", "k": 64}
        ),
    }  # fmt: skip


class LinearVAE(nn.Module):
    """p(z) = N(0, I), p(x | z) = N(W z + b, σ² I); q(z | x) = N(mu(x), L Lᵀ), with one L for every x."""

    def __init__(self, d: int, encoder: str, rng: torch.Generator) -> None:
        super().__init__()
        self.encoder = encoder
        self.W = nn.Parameter(0.1 * torch.randn(D, d, generator=rng, dtype=F64))
        self.b = nn.Parameter(torch.zeros(D, dtype=F64))
        self.log_sigma = nn.Parameter(torch.zeros((), dtype=F64))
        self.V = nn.Parameter(0.1 * torch.randn(d, D, generator=rng, dtype=F64))
        self.c = nn.Parameter(torch.zeros(d, dtype=F64))
        self.log_s = nn.Parameter(torch.zeros(d, dtype=F64))

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (B, d) and Cholesky factor L (d, d) of q(z | x)."""
        if self.encoder == "exact":
            return self.posterior(x)
        std = self.log_s.exp() if self.encoder == "learned" else torch.ones_like(self.log_s)
        return x @ self.V.T + self.c, std.diag()

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (B, d) and Cholesky factor (d, d) of p(z | x) = N(M⁻¹ Wᵀ(x − b), σ² M⁻¹), M = WᵀW + σ² I."""
        sigma2 = (2 * self.log_sigma).exp()
        M = self.W.T @ self.W + sigma2 * torch.eye(self.W.shape[1], dtype=F64)  # (d, d)
        return (x - self.b) @ self.W @ M.inverse(), cholesky(sigma2 * M.inverse())

    def log_p(self, x: Tensor) -> Tensor:
        """Exact log p(x) = log N(x; b, W Wᵀ + σ² I): (B, D) -> (B,)."""
        C = self.W @ self.W.T + (2 * self.log_sigma).exp() * torch.eye(D, dtype=F64)  # (D, D)
        distance = ((x - self.b) @ C.inverse() * (x - self.b)).sum(dim=1)  # (B,)
        return -0.5 * (D * math.log(2 * math.pi) + torch.logdet(C) + distance)

    def log_joint(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x | z) + log p(z): x (B, D), z (k, B, d) -> (k, B)."""
        squares = (x - z @ self.W.T - self.b).square().sum(dim=-1)  # (k, B)
        log_x_given_z = -squares / (2 * (2 * self.log_sigma).exp()) - D * (self.log_sigma + 0.5 * math.log(2 * math.pi))
        return log_x_given_z - 0.5 * z.square().sum(dim=-1) - 0.5 * z.shape[-1] * math.log(2 * math.pi)


def elbo(vae: LinearVAE, x: Tensor, mu: Tensor, L: Tensor) -> Tensor:
    """E_q[log p(x | z)] − KL(q ‖ p(z)), eq. (3), without sampling: q = N(mu, L Lᵀ) -> (B,)."""
    sigma2, S = (2 * vae.log_sigma).exp(), L @ L.T  # (), (d, d)
    squares = (x - mu @ vae.W.T - vae.b).square().sum(dim=1) + (vae.W @ S @ vae.W.T).trace()  # (B,), mean under q
    reconstruction = -squares / (2 * sigma2) - 0.5 * D * (2 * math.pi * sigma2).log()  # (B,)
    kl = 0.5 * (S.trace() + mu.square().sum(dim=1) - len(S)) - L.diag().log().sum()  # (B,)
    return reconstruction - kl


def log_weights(vae: LinearVAE, x: Tensor, mu: Tensor, L: Tensor, k: int, rng: torch.Generator) -> Tensor:
    """log w_i = log p(x, z_i) − log q(z_i | x) for k draws z_i ~ N(mu, L Lᵀ), reparameterised: (k, B)."""
    noise = torch.randn(k, *mu.shape, generator=rng, dtype=F64)  # (k, B, d)
    log_q = -0.5 * (noise.square().sum(dim=-1) + len(L) * math.log(2 * math.pi)) - L.diag().log().sum()  # (k, B)
    return vae.log_joint(x, mu + noise @ L.T) - log_q


def importance_bound(log_w: Tensor) -> Tensor:
    """log (1/k) Σ w_i, an unbiased draw of L_k(x): (k, …) -> (…)."""
    return torch.logsumexp(log_w, dim=0) - math.log(len(log_w))


def best_log_likelihood(x: Tensor, d: int) -> float:
    """Mean log p(x) of probabilistic PCA at its maximum likelihood, from the eigenvalues λ of the covariance alone.

    σ² is the mean of the D − d smallest, and W Wᵀ + σ² I keeps the d largest.
    """
    kept = np.linalg.eigvalsh(x.T.cov(correction=0).numpy())[::-1].copy()  # (D,), largest first
    kept[d:] = kept[d:].mean()
    return -0.5 * (D * math.log(2 * math.pi) + float(np.log(kept).sum()) + D)


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng, dice = (torch.Generator().manual_seed(2 * params.seed + odd) for odd in (0, 1))  # training; evaluation
    x = load_digits()[0].flatten(1).to(F64)  # (1797, 64)
    some = x[torch.randperm(len(x), generator=dice)[:SHOWN]]  # (300, 64): for bounds that need samples
    best = best_log_likelihood(x, params.latent_dim)
    vae = LinearVAE(params.latent_dim, params.encoder, rng)
    adam = torch.optim.Adam(vae.parameters(), fused=True)
    rate = torch.optim.lr_scheduler.OneCycleLR(adam, max_lr=0.02, total_steps=STEPS)
    at, curves, lowest = list[int](), list[list[float]](), math.inf
    for step in range(1, STEPS + 1):
        batch = x[torch.randint(len(x), (BATCH,), generator=rng)]
        log_w = log_weights(vae, batch, *vae.encode(batch), params.k, rng)  # (k, B)
        descend(adam, -importance_bound(log_w).mean())
        rate.step()
        if step % EVERY == 0:
            with torch.no_grad():
                log_p, below = vae.log_p(x), elbo(vae, x, *vae.encode(x))  # (1797,) each
                iw = importance_bound(log_weights(vae, some, *vae.encode(some), 64, dice)) - vae.log_p(some)  # (300,)
            at.append(step)
            curves.append([log_p.mean().item(), below.mean().item(), (log_p.mean() + iw.mean()).item()])
            lowest = min(lowest, (log_p - below).min().item())
            tick(step / STEPS, f"step {step}", **{"log p": curves[-1][0], "ELBO": curves[-1][1]})

    with torch.no_grad():
        log_p, (mu, L), (exact, root) = vae.log_p(x), vae.encode(x), vae.posterior(x)
        gap = log_p - elbo(vae, x, mu, L)  # (1797,)
        kl = kl_divergence(MultivariateNormal(mu, scale_tril=L), MultivariateNormal(exact, scale_tril=root))  # (1797,)
        gap_exact = log_p - elbo(vae, x, exact, root)
        gap_wide = log_p - elbo(vae, x, exact, 2 * root)
        mean, factor = vae.posterior(some)
        ours = log_weights(vae, some, *vae.encode(some), DRAWS, dice) - vae.log_p(some)  # (256, 300): log w / p(x)
        wide = log_weights(vae, some, mean, 2 * factor, DRAWS, dice) - vae.log_p(some)
        trained = importance_bound(log_weights(vae, some, *vae.encode(some), params.k, dice)) - vae.log_p(
            some
        )  # (300,)
    by_k = {  # each k cuts the same 256 draws into 256 / k sets
        name: [-importance_bound(log_w.view(DRAWS // k, k, SHOWN).transpose(0, 1)).mean().item() for k in COUNTS]
        for name, log_w in (("this run's encoder", ours), ("posterior twice too wide", wide))
    }
    w = wide.exp().flatten()  # (76800,): mean 1 where w estimates p(x) without bias
    off = ((w.mean() - 1) / (w.std() / math.sqrt(len(w)))).abs().item()
    left = by_k["posterior twice too wide"][COUNTS.index(64)] / gap_wide.mean().item()
    shortfall = best - log_p.mean().item()
    gaps = [max(row[0] - row[1], 1e-12) for row in curves]
    late = len(at) // 5  # before it the bounds climb so far that no gap is to be seen
    log_p_curve, elbo_curve, iw_curve = torch.tensor(curves, dtype=F64)[late:].T.numpy().tolist()
    return Result(
        metrics=[
            Metric("gap", gap.mean().item(), "nats"),
            Metric("KL(q ‖ posterior)", kl.mean().item(), "nats"),
            Metric("ELBO", (log_p - gap).mean().item(), "nats/image"),
            Metric("bound with k samples", (log_p.mean() + trained.mean()).item(), "nats/image"),
            Metric("log p(x)", log_p.mean().item(), "nats/image"),
            Metric("log p(x) at the maximum likelihood", best, "nats/image"),
        ],
        figures=[
            Lines(
                "Bounds under log p(x) over training", "step", "nats an image", at[late:],
                {
                    "log p(x)": log_p_curve, "ELBO": elbo_curve, "bound of 64 samples": iw_curve,
                    "maximum likelihood": [best] * len(log_p_curve),
                },
            ),
            Lines("Gap log p(x) − ELBO over training", "step", "nats", at, {"gap": gaps}, log="y"),
            Lines("Gap of the importance-weighted bound", "samples k", "nats", COUNTS, by_k, log="x"),
        ],
        tables=[
            Table(
                "Three encoders under the decoder of this run (nats an image)",
                ["q(z | x)", "log p(x)", "ELBO", "gap"],
                [
                    [name, log_p.mean().item(), (log_p - below).mean().item(), below.mean().item()]
                    for name, below in (
                        ("this run's", gap), ("exact posterior", gap_exact), ("exact mean, twice too wide", gap_wide)
                    )
                ],
            )
        ],
        claims=[
            Claim("The ELBO never exceeds log p(x): smallest gap of any digit at any step", lowest, ">=", -1e-6),
            Claim(
                "The gap is KL(q ‖ p(z | x)) as torch.distributions has it: largest difference",
                (gap - kl).abs().max().item(), "<=", 1e-6,
            ),
            Claim("With the exact posterior the gap vanishes: largest", gap_exact.abs().max().item(), "<=", 1e-6),
            Claim("This run's encoder closes the gap: nats left", gap.mean().item(), "<=", 0.05),
            Claim("The model reaches the maximum likelihood of probabilistic PCA: nats below", shortfall, "<=", 0.05),
            Claim("64 importance samples close the gap of a posterior twice too wide: share left", left, "<=", 0.05),
            Claim("Importance weights average to p(x): distance in standard errors", off, "<=", 4.0),
        ],
    )  # fmt: skip
