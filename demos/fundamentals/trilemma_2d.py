"""Five families on one data set: quality, coverage, speed

Question: Which of good samples, full coverage and fast sampling does each family of generative models give up?
Source: the trilemma: Xiao, Kreis, Vahdat 2021, arXiv:2112.07804, §1 and fig. 1; EM: Dempster, Laird, Rubin 1977; VAE:
  Kingma, Welling 2013, arXiv:1312.6114, eq. (10); GAN: Goodfellow et al. 2014, arXiv:1406.2661, §3; RealNVP: Dinh et
  al. 2016, arXiv:1605.08803, eq. (3) and (9); DDPM: Ho et al. 2020, arXiv:2006.11239, eq. (14); DDIM's step:
  Song et al. 2020, arXiv:2010.02502, eq. (12).
Watch: the VAE and the flow put samples between the 25 modes, the GAN leaves modes out, diffusion is sharp and complete
  and pays with a hundred network passes for a sample. Allow it four passes and both are gone.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import softplus

from demos.contract import Bars, Claim, DemoParams, Metric, Preset, Result, Scatter, Table, Tick, no_tick
from demos.shared.ddpm import descend, jump, make_schedule, step_back, train, visits
from demos.shared.perceptron import perceptron

SPACING, STD, BATCH, WIDTH, JUDGED = 0.4, 0.03, 256, 128, 4000  # modes 13 deviations apart, all within [-1, 1]
NEAR = 4 * STD  # from a mode: on it
GRID = SPACING * torch.cartesian_prod(*[torch.arange(-2.0, 3.0)] * 2)  # (25, 2)
SPEED = {"mixture": 25, "VAE": 400, "GAN": 300, "flow": 250, "diffusion": 600}  # steps in a second of a slow core
YEAR = {"mixture": 1977, "VAE": 2013, "GAN": 2014, "flow": 2016, "diffusion": 2020}
COMPONENTS = 10  # of the mixture: nobody tells it that there are 25 modes
T = 100
ALPHA_BAR = make_schedule(T)  # (T + 1,)

Model = tuple[Callable[[int], Tensor], nn.Module]  # draws n samples (n, 2); the module whose calls are its passes


class Params(DemoParams):
    families: Literal["all", "vae+gan", "gan+diffusion", "flow+diffusion"] = Field("all", description="Trained ones")
    train_seconds: float = Field(2.0, ge=1.0, le=6.0, description="Training of each family, in seconds of a slow core")
    passes: int = Field(100, ge=1, le=T, description="Network passes of diffusion for a sample")
    order: Literal["trilemma", "year"] = Field("trilemma", description="Sort by what is given up, or by year")
    seed: int = Field(0, ge=0, le=9999, description="Seed of data, weights and sampling")

    presets: ClassVar[Mapping[str, Preset]] = {
        "hasty diffusion": Preset("Four passes: fast, but neither sharp nor complete", {"passes": 4}),
        "history": Preset("The table in the order of invention", {"order": "year"}),
    }


def draw_data(n: int, rng: torch.Generator) -> Tensor:
    """Points of the 25 Gaussians, each as likely, (n, 2)."""
    return GRID[torch.randint(25, (n,), generator=rng)] + STD * torch.randn(n, 2, generator=rng)


class Waves(nn.Module):
    """Inputs (N, d) beside their sines and cosines, (N, 9 d): without them small networks blur everything."""

    def forward(self, x: Tensor) -> Tensor:
        angles = (x[:, :, None] * torch.tensor([2.0, 4, 8, 16])).flatten(1)  # (N, 4 d)
        return torch.cat([x, angles.sin(), angles.cos()], dim=1)


def network(inputs: int, outputs: int, rng: torch.Generator) -> nn.Sequential:
    """Waves of the inputs, then two hidden layers: (N, inputs) -> (N, outputs)."""
    return nn.Sequential(Waves(), perceptron([9 * inputs, WIDTH, WIDTH, outputs], nn.SiLU, rng))


def log_normal(x: Tensor, mean: Tensor, covariance: Tensor) -> Tensor:
    """log N(x; mean, covariance) of points (N, 2) under K Gaussians, (K, 2) and (K, 2, 2): (N, K)."""
    gap = x[:, None] - mean  # (N, K, 2)
    far = torch.einsum("nki,kij,nkj->nk", gap, covariance.inverse(), gap)
    return -far / 2 - torch.logdet(covariance) / 2 - math.log(2 * math.pi)


def expect_maximise(x: Tensor, mean: Tensor, rounds: int) -> tuple[Tensor, Tensor, Tensor]:
    """EM on points (N, 2) from means (K, 2): shares (K,), means, covariances (K, 2, 2)."""
    share, covariance = torch.full((len(mean),), 1 / len(mean)), x.T.cov().expand(len(mean), 2, 2)
    for _ in range(rounds):
        belongs = (share.log() + log_normal(x, mean, covariance)).softmax(dim=1)  # (N, K): the E step
        weight = belongs.sum(dim=0)
        share, mean = weight / len(x), belongs.T @ x / weight[:, None]
        gap = x[:, None] - mean
        covariance = torch.einsum("nk,nki,nkj->kij", belongs, gap, gap) / weight[:, None, None] + 1e-6 * torch.eye(2)
    return share, mean, covariance


def fit_mixture(steps: int, rng: torch.Generator, tick: Tick) -> Model:
    """A Gaussian mixture by EM, a round a step. It has no network: its passes are none."""
    tick(0, "EM")
    share, mean, covariance = expect_maximise(draw_data(2000, rng), draw_data(COMPONENTS, rng), rounds=steps)
    root = torch.tensor(np.linalg.cholesky(covariance.numpy()))  # (K, 2, 2)

    def draw(n: int) -> Tensor:
        k = torch.multinomial(share, n, replacement=True, generator=rng)
        return mean[k] + (root[k] @ torch.randn(n, 2, 1, generator=rng)).squeeze(2)

    return draw, nn.Identity()


def fit_vae(steps: int, rng: torch.Generator, tick: Tick) -> Model:
    """Encoder to a latent of 2 numbers, decoder to the mean of x, whose deviation is learned too."""
    encoder, decoder = network(2, 4, rng), network(2, 2, rng)
    log_sigma = nn.Parameter(torch.zeros(()))
    parts = nn.ModuleList([encoder, decoder])
    parts.register_parameter("log_sigma", log_sigma)

    def loss() -> Tensor:
        x = draw_data(BATCH, rng)
        mu, log_var = encoder(x).chunk(2, dim=1)
        z = mu + (log_var / 2).exp() * torch.randn(BATCH, 2, generator=rng)
        kl = (mu.square() + log_var.exp() - 1 - log_var).sum(dim=1) / 2
        nll = ((x - decoder(z)) / log_sigma.exp()).square().sum(dim=1) / 2 + 2 * log_sigma
        return (nll + kl).mean()  # minus eq. (10), but for a constant

    train(parts, loss, steps, tick)

    def draw(n: int) -> Tensor:
        mean = decoder(torch.randn(n, 2, generator=rng))
        return mean + log_sigma.exp() * torch.randn(n, 2, generator=rng)

    return draw, decoder


def fit_gan(steps: int, rng: torch.Generator, tick: Tick) -> Model:
    """The generator's loss is −log D(G(z)), which does not saturate."""
    G, D = perceptron([2, WIDTH, WIDTH, 2], nn.ReLU, rng), network(2, 1, rng)  # with waves G would be less sharp
    adam_g, adam_d = (torch.optim.Adam(net.parameters(), 1e-3, betas=(0.5, 0.999), fused=True) for net in (G, D))
    for step in range(1, steps + 1):
        fake, real = G(torch.randn(BATCH, 2, generator=rng)), draw_data(BATCH, rng)
        descend(D, adam_d, softplus(-D(real)).mean() + softplus(D(fake.detach())).mean())
        loss = softplus(-D(fake)).mean()
        descend(G, adam_g, loss)
        if step % 20 == 0:
            tick(step / steps, f"step {step}", loss=loss.item())
    return lambda n: G(torch.randn(n, 2, generator=rng)), G


class Flow(nn.Module):
    """RealNVP with 8 affine couplings, the two coordinates in turn."""

    def __init__(self, rng: torch.Generator) -> None:
        super().__init__()
        self.nets = nn.ModuleList(perceptron([1, 64, 64, 2], nn.SiLU, rng) for _ in range(8))

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """z (N, 2) of x (N, 2), and log |det ∂z/∂x| (N,)."""
        total = x.new_zeros(len(x))
        for net in self.nets:
            kept, moved = x.chunk(2, dim=1)
            s, t = net(kept).chunk(2, dim=1)  # (N, 1) each
            s = 2 * s.tanh()
            x, total = torch.cat([moved * s.exp() + t, kept], dim=1), total + s[:, 0]
        return x, total

    def forward(self, z: Tensor) -> Tensor:
        """x of z: the inverse of `encode`, one pass."""
        for net in reversed(self.nets):
            moved, kept = z.chunk(2, dim=1)
            s, t = net(kept).chunk(2, dim=1)
            z = torch.cat([kept, (moved - t) * (-2 * s.tanh()).exp()], dim=1)
        return z


def fit_flow(steps: int, rng: torch.Generator, tick: Tick) -> Model:
    """Trained on its exact log-density, eq. (3)."""
    flow = Flow(rng)

    def loss() -> Tensor:
        z, log_det = flow.encode(draw_data(BATCH, rng))
        return (z.square().sum(dim=1) / 2 - log_det).mean()

    train(flow, loss, steps, tick)
    return lambda n: flow(torch.randn(n, 2, generator=rng)), flow


def fit_diffusion(steps: int, rng: torch.Generator, tick: Tick, passes: int) -> Model:
    """ε_θ(x_t, t / T), sampled by DDIM in `passes` steps."""
    eps_theta = network(3, 2, rng)

    def predict(x: Tensor, t: Tensor) -> Tensor:
        return eps_theta(torch.cat([x, t[:, None] / T], dim=1))  # (N, 2)

    def loss() -> Tensor:
        x, t = draw_data(BATCH, rng), torch.randint(1, T + 1, (BATCH,), generator=rng)
        eps = torch.randn(BATCH, 2, generator=rng)
        return (predict(jump(x, eps, ALPHA_BAR[t]), t) - eps).square().mean()  # eq. (14)

    train(eps_theta, loss, steps, tick)

    def draw(n: int) -> Tensor:
        x = torch.randn(n, 2, generator=rng)
        for t, s in visits(T, passes):
            x = step_back(x, predict(x, torch.full((n,), t)), ALPHA_BAR[t], ALPHA_BAR[s])
        return x

    return draw, eps_theta


def judge(x: Tensor) -> tuple[float, int]:
    """Share of x (N, 2) on a mode, and how many of 25 modes have a quarter of their due share in the cell around."""
    distance, nearest = torch.cdist(x, GRID).min(dim=1)
    cells = torch.bincount(nearest, minlength=25) / len(x)  # (25,)
    return (distance < NEAR).float().mean().item(), int((cells >= 0.25 / 25).sum())


@torch.no_grad()
def sample(draw: Callable[[int], Tensor], network: nn.Module) -> tuple[Tensor, int]:
    """JUDGED samples (N, 2), and how often the network was called for them."""
    calls = list[int]()

    def count(*_: object) -> None:
        calls.append(1)

    hook = network.register_forward_hook(count)
    x = draw(JUDGED)
    hook.remove()
    return x, len(calls)


def run(params: Params, tick: Tick = no_tick) -> Result:
    fits = {"mixture": fit_mixture, "VAE": fit_vae, "GAN": fit_gan, "flow": fit_flow,
            "diffusion": partial(fit_diffusion, passes=params.passes)}  # fmt: skip
    chosen = [name for name in fits if params.families == "all" or name.lower() in params.families.split("+")]
    clouds, near, modes, passes = dict[str, Tensor](), *(dict[str, float]() for _ in range(3))

    def part(done: int, name: str) -> Tick:
        return lambda fraction, message, **live: tick((done + fraction) / len(chosen), f"{name}: {message}", **live)

    for done, name in enumerate(chosen):
        rng = torch.Generator().manual_seed(params.seed)
        clouds[name], passes[name] = sample(
            *fits[name](round(params.train_seconds * SPEED[name]), rng, part(done, name))
        )
        near[name], modes[name] = judge(clouds[name])

    data = draw_data(JUDGED, torch.Generator().manual_seed(params.seed + 1))
    corners = {
        name: {"quality": near[name], "coverage": modes[name] / 25, "speed": 1 - math.log10(max(passes[name], 1)) / 2}
        for name in chosen
    }
    given_up = {name: min(values, key=lambda corner: values[corner]) for name, values in corners.items()}
    rows = [[name, YEAR[name], near[name], modes[name], passes[name], given_up[name]] for name in chosen]
    rows.sort(key=lambda row: row[1 if params.order == "year" else 5])

    def of(table: dict[str, float], name: str) -> float:
        return table.get(name, math.nan)

    claims = [
        Claim("Diffusion pays with speed: network passes for a sample", of(passes, "diffusion"), ">=", 50),
        Claim("VAE, GAN and flow take one: most passes",
              max((passes[name] for name in chosen if name in ("VAE", "GAN", "flow")), default=math.nan), "<=", 1),
        Claim("Diffusion holds the modes: how many of 25", of(modes, "diffusion"), ">=", 24),
        Claim("The GAN leaves modes out: how many less than diffusion",
              of(modes, "diffusion") - of(modes, "GAN"), ">=", 10),
        Claim("But its samples are sharper than the VAE's: share on a mode, GAN minus VAE",
              of(near, "GAN") - of(near, "VAE"), ">=", 0.3),
        Claim("The VAE holds the modes: how many of 25", of(modes, "VAE"), ">=", 24),
        Claim("And puts samples between them: share on a mode, diffusion minus VAE",
              of(near, "diffusion") - of(near, "VAE"), ">=", 0.25),
        Claim("So does the flow: share on a mode, diffusion minus flow",
              of(near, "diffusion") - of(near, "flow"), ">=", 0.2),
    ]  # fmt: skip
    return Result(
        metrics=[
            *(Metric(f"near_mode_share, {name}", near[name]) for name in chosen),
            Metric("near_mode_share, data", judge(data)[0]),
            Metric("near_mode_share of a flat cloud over the grid", math.pi * NEAR**2 / SPACING**2),
        ],
        claims=[claim for claim in claims if not math.isnan(claim.measured)],  # of families that were trained
        figures=[
            *(Scatter(f"{name}: samples", "x", "y", {name: x[:500].numpy().tolist()}) for name, x in clouds.items()),
            Scatter("Data", "x", "y", {"data": data[:500].numpy().tolist()}),
            Bars("The three corners: share on a mode, share of modes, 1 less half the power of ten of passes",
                 "corner", "0 to 1", ["quality", "coverage", "speed"],
                 {name: list(values.values()) for name, values in corners.items()}),
        ],
        tables=[Table("Trilemma", ["family", "year", "share on a mode", "modes of 25", "passes", "gives up"], rows)],
    )  # fmt: skip
