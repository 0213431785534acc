"""Which noise levels deserve the weight?

Question: What do time-dependent weights of the loss trade between rough content and fine detail?
Source: Ho et al. 2020, arXiv:2006.11239, eq. (12), (14); P2: Choi et al. 2022, arXiv:2204.00227, §3; min-SNR: Hang
  et al. 2023, arXiv:2303.09556, §3.4; the model predicts v: Salimans, Ho 2022, arXiv:2202.00512.
Watch: one small model, four weights. It is linear in what it learns, so each weighting's best fit is solved for and
  nothing but the weights differs. The bound's weights win at low noise, where detail is made, and lose at high noise,
  where content is decided; P2's do the opposite.
"""

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from demos.contract import Claim, DemoParams, Images, Lines, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.ddpm import jump, make_schedule, noise_of, step_back, velocity, visits
from demos.shared.digits import load_digits

T, TESTED, PASSES = 1000, 297, 50
KINDS = ["simple", "vlb", "p2", "min-snr"]
ALPHA_BAR = make_schedule(T)  # (T + 1,), ᾱ_0 = 1
SNR = (ALPHA_BAR[1:] / (1 - ALPHA_BAR[1:])).double()  # (T,), at t = 1 … T: from 10,000 down to 0.00004
# Times at which errors are read; below 10 no model sees the noise
LEVELS = [10, 14, 20, 30, 40, 60, 80, 110, 150, 200, 250, 300, 400, 500, 600, 700, 800, 900, 1000]


class Params(DemoParams):
    weighting: Literal["simple", "vlb", "p2", "min-snr", "compare"] = Field("compare", description="What is shown")
    gamma: float = Field(5.0, ge=0.5, le=20.0, description="Bound of min-SNR; a fifth of it is the exponent of P2")
    features: int = Field(192, ge=16, le=512, description="Random features, the size of the model")
    examples: int = Field(20_000, ge=5_000, le=50_000, description="Noisy digits that each model is fitted to")
    seed: int = Field(0, ge=0, le=9999, description="Seed of data, features and sampling")

    presets: ClassVar[Mapping[str, Preset]] = {
        "strong": Preset("P2 with exponent 4 gives up detail; min-SNR at 20 cuts hardly anything", {"gamma": 20.0}),
        "mild": Preset("P2 with exponent 0.1 trades little, min-SNR at 0.5 is nearly the x_0 loss", {"gamma": 0.5}),
    }


def weights(kind: str, gamma: float) -> Tensor:
    """What the squared noise error counts at t = 1 … T, scaled to mean 1, (T,)."""
    if kind == "vlb":
        alpha = (ALPHA_BAR[1:] / ALPHA_BAR[:-1]).double()
        weight = (1 - alpha) / (2 * alpha * (1 - ALPHA_BAR[1:]))  # β² / (2 σ² α (1 − ᾱ)), eq. (12), with σ² = β
    elif kind == "p2":
        weight = (1 + SNR) ** -(gamma / 5)  # 1 / (k + SNR)^γ with k = 1
    elif kind == "min-snr":
        weight = SNR.clamp(max=gamma) / SNR  # min(SNR, γ) on the x_0 error, which is the noise error / SNR
    else:
        weight = torch.ones_like(SNR)  # eq. (14)
    return weight / weight.mean()


def min_snr_of_x0(guess: Tensor, x_t: Tensor, x0: Tensor, t: Tensor, gamma: float) -> Tensor:
    """Min-SNR as its paper has it, on the x_0 that noise predictions (B, 64) mean: mean of min(SNR, γ) ‖x_0 − x̂_0‖²."""
    a = ALPHA_BAR[t][:, None].double()
    meant = (x_t - (1 - a).sqrt() * guess) / a.sqrt()
    return (SNR[t - 1].clamp(max=gamma) * (meant - x0).square().mean(dim=1)).mean()


class Denoiser:
    """ε_θ(x_t, t) through v = W φ(x_t, t): φ is fixed, random and not linear, W is fitted."""

    def __init__(self, params: Params, rng: torch.Generator) -> None:
        self.mix = torch.randn(64 + 8, params.features, generator=rng) * 72**-0.5 * 2
        self.fitted = torch.zeros(params.features + 64 + 9, 64)

    def phi(self, x: Tensor, t: Tensor) -> Tensor:
        """x (B, 64), t (B,) -> (B, features + 73)."""
        waves = [f(math.pi * k * t[:, None] / T) for k in (0.5, 1, 2, 4) for f in (torch.sin, torch.cos)]
        seen = torch.cat([x, *waves], dim=1)  # (B, 72)
        return torch.cat([torch.nn.functional.silu(seen @ self.mix), seen, torch.ones(len(x), 1)], dim=1)

    def fit(self, x0: Tensor, eps: Tensor, t: Tensor, weight: Tensor) -> None:
        """Minimise Σ weight ‖ε − ε̂‖², where ε − ε̂ = √ᾱ (v − W φ): weighted least squares, solved once."""
        a = ALPHA_BAR[t]
        phi, v = self.phi(jump(x0, eps, a), t).double(), velocity(x0, eps, a).double()  # (N, F), (N, 64)
        weighted = phi * (weight / weight.sum() * a)[:, None]
        gram = weighted.T @ phi + 1e-6 * torch.eye(phi.shape[1])  # (F, F); the ridge keeps it solvable
        self.fitted = torch.tensor(np.linalg.solve(gram.numpy(), (weighted.T @ v).numpy()), dtype=torch.float32)

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """Predicted noise (B, 64)."""
        return noise_of(x, self.phi(x, t) @ self.fitted, ALPHA_BAR[t])


def sample(network: Denoiser, x: Tensor) -> Tensor:
    """DDIM without noise in PASSES steps: x_T (N, 64) -> x_0."""
    for t, s in visits(T, PASSES):
        x = step_back(x, network(x, torch.full((len(x),), t)), ALPHA_BAR[t], ALPHA_BAR[s])
    return x


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng, dice = (torch.Generator().manual_seed(2 * params.seed + odd) for odd in (0, 1))  # fitting; evaluation
    digits = 2 * load_digits()[0].flatten(1) - 1  # (1797, 64) in [-1, 1]
    digits = digits[torch.randperm(len(digits), generator=dice)]
    x0, seen = digits[:TESTED], digits[TESTED:]
    n = params.examples
    t = ((T + 1) ** torch.rand(n, generator=rng, dtype=torch.float64)).long()  # log-uniform, so that every model sees
    rarity = 1 / (1 + 1 / t.double()).log()  # enough of low noise; each example counts the more, the rarer its t
    clean, noise = seen[torch.randint(len(seen), (n,), generator=rng)], torch.randn(n, 64, generator=rng)
    eps, start = torch.randn(TESTED, 64, generator=dice), torch.randn(10, 64, generator=dice)
    models, errors = dict[str, Denoiser](), dict[str, list[float]]()
    for kind in KINDS:
        models[kind] = Denoiser(params, torch.Generator().manual_seed(params.seed))  # the same features for all
        models[kind].fit(clean, noise, t, weights(kind, params.gamma)[t - 1] * rarity)
        tests = [(torch.full((TESTED,), level), jump(x0, eps, ALPHA_BAR[level])) for level in LEVELS]
        errors[kind] = [(models[kind](x_t, level) - eps).square().mean().item() for level, x_t in tests]
        tick(0.9 * len(models) / len(KINDS), f"fitted with weights: {kind}")
    ratio = {kind: [e / s for e, s in zip(errors[kind], errors["simple"], strict=True)] for kind in KINDS}

    def over_simple(kind: str, low: float, high: float) -> float:
        """Error over that of simple, geometric mean over the levels with an SNR between low and high."""
        logs = [math.log(r) for r, level in zip(ratio[kind], LEVELS, strict=True) if low <= SNR[level - 1] <= high]
        return math.exp(sum(logs) / len(logs))

    detail = {kind: over_simple(kind, 3, math.inf) for kind in KINDS}
    kept = detail["min-snr"] / detail["p2"]
    content = {kind: over_simple(kind, 0, 0.1) for kind in KINDS}
    some = torch.randint(1, T + 1, (TESTED,), generator=dice)
    x_t, a = jump(x0, eps, ALPHA_BAR[some]), ALPHA_BAR[some][:, None].double()
    guess = models["simple"](x_t, some).double()
    of_x0 = ((x_t - (1 - a).sqrt() * guess) / a.sqrt() - x0).square().mean()  # the plain x_0 loss
    to_noise = (min_snr_of_x0(guess, x_t, x0, some, 1e9) / (guess - eps).square().mean() - 1).abs().item()
    to_x0 = (min_snr_of_x0(guess, x_t, x0, some, 1e-9) / (1e-9 * of_x0) - 1).abs().item()
    shown = KINDS if params.weighting == "compare" else list(dict.fromkeys(["simple", params.weighting]))
    curves = {kind: weights(kind, params.gamma) for kind in shown}
    at = list(range(0, T, 20))
    pictures = [((sample(models[kind], start) + 1) / 2).clamp(0, 1).view(10, 8, 8).numpy().tolist() for kind in shown]
    return Result(
        metrics=[
            *(Metric(f"error at low noise over simple's, {kind}", detail[kind]) for kind in KINDS[1:]),
            *(Metric(f"error at high noise over simple's, {kind}", content[kind]) for kind in KINDS[1:]),
        ],
        figures=[
            Lines("Weight of the noise error over noise", "log10 of SNR", "weight (mean 1)",
                  SNR[at].log10().numpy().tolist(), {k: w[at].numpy().tolist() for k, w in curves.items()}, log="y"),
            Lines("Weight of the noise error over time", "t", "weight (mean 1)", [n + 1 for n in at],
                  {kind: w[at].numpy().tolist() for kind, w in curves.items()}, log="y"),
            Lines("Denoising error over that of the simple loss", "t", "ratio", LEVELS,
                  {kind: ratio[kind] for kind in shown}, log="x"),
            Images("Samples from the same noise", pictures, shown),
        ],
        tables=[
            Table("Error over that of the simple loss", ["weights", "detail: SNR > 3", "content: SNR < 0.1"],
                  [[kind, detail[kind], content[kind]] for kind in KINDS]),
        ],
        claims=[
            Claim("Min-SNR that cuts nothing off is the plain noise loss: relative difference", to_noise, "<=", 1e-4),
            Claim("Min-SNR that cuts all off is the plain x_0 loss: relative difference", to_x0, "<=", 1e-4),
            Claim("The bound buys detail: error at low noise over P2's", detail["vlb"] / detail["p2"], "<=", 0.92),
            Claim("and pays with content: error at high noise over P2's", content["vlb"] / content["p2"], ">=", 1.75),
            Claim("Min-SNR gains content: error at high noise over simple's", content["min-snr"], "<=", 0.93),
            Claim("and loses less detail than P2: error at low noise over P2's", kept, "<=", 0.98),
        ],
    )  # fmt: skip
