"""The plain diffusion recipe: a schedule of noise, the ε-loss, and DDIM's sampler.

Source: Ho, Jain, Abbeel 2020, arXiv:2006.11239, eq. (4), (14) and Algorithm 1; Song, Meng, Ermon 2020,
  arXiv:2010.02502, eq. (12) and (16); velocity: Salimans, Ho 2022, arXiv:2202.00512, appendix D.

Shared by demos that use a trained denoiser for something. Here ᾱ_0 = 1, so x_0 is data and x_T is nearly noise.
"""

import itertools
from collections.abc import Callable

import torch
from torch import Tensor, nn

from demos.contract import Tick

T, EMA, TOP_RATE = 200, 0.97, 1e-2  # noise levels, decay of the averaged weights, highest learning rate


def make_schedule(levels: int = T) -> Tensor:
    """ᾱ_0 … ᾱ_T, (T + 1,), for β rising in a line from 0.1 / T to 20 / T: Ho's 10⁻⁴ to 0.02 when T is 1,000."""
    betas = torch.linspace(0.1 / levels, 20 / levels, levels, dtype=torch.float64)
    return torch.cat([torch.ones(1), torch.cumprod(1 - betas, dim=0).float()])


def jump(x0: Tensor, eps: Tensor, alpha_bar_t: Tensor) -> Tensor:
    """x_t = √ᾱ_t x_0 + √(1 − ᾱ_t) ε, DDPM eq. (4). x0, eps (B, …); alpha_bar_t (B,) or one number for all."""
    a = alpha_bar_t.view(-1, *[1] * (x0.dim() - 1))  # (B, 1, …)
    return a.sqrt() * x0 + (1 - a).sqrt() * eps


def velocity(x0: Tensor, eps: Tensor, alpha_bar_t: Tensor) -> Tensor:
    """v = √ᾱ_t ε − √(1 − ᾱ_t) x_0, another thing to predict; shapes as in `jump`.

    At high noise it asks for x_0 itself, so a network that is shown a condition learns to use it within few steps.
    """
    return jump(eps, -x0, alpha_bar_t)


def noise_of(x: Tensor, v: Tensor, alpha_bar_t: Tensor) -> Tensor:
    """The noise ε = √(1 − ᾱ_t) x_t + √ᾱ_t v that a predicted velocity means; shapes as in `jump`."""
    return jump(v, x, alpha_bar_t)


def step_back(x: Tensor, eps: Tensor, a: Tensor, b: Tensor, noise: Tensor | None = None) -> Tensor:
    """From x_t with ᾱ_t = a to a less noisy x with ᾱ = b, given the predicted noise; x, eps, noise (B, …).

    DDIM eq. (12): without `noise` σ = 0, with it η = 1 in eq. (16), which is DDPM's step. Data lie in [-1, 1], so the
    predicted x_0 is clipped to it, and ε made to agree.
    """
    x0 = ((x - (1 - a).sqrt() * eps) / a.sqrt()).clamp(-1, 1)
    eps = (x - a.sqrt() * x0) / (1 - a).sqrt()
    if noise is None:
        return b.sqrt() * x0 + (1 - b).sqrt() * eps
    variance = (1 - b) / (1 - a) * (1 - a / b)
    return b.sqrt() * x0 + (1 - b - variance).clamp(min=0).sqrt() * eps + variance.sqrt() * noise


def visits(start: int, passes: int) -> list[tuple[int, int]]:
    """Pairs (t, next t) from `start` down to 0 in `passes` strides, or one for each t where there are fewer."""
    passes = min(start, passes)
    return list(itertools.pairwise(round(start - start * n / passes) for n in range(passes + 1)))


def descend(network: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Take one step down the gradient, clipped to norm 1."""
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()


def train(
    network: nn.Module, draw_loss: Callable[[], Tensor], steps: int, tick: Tick, part: tuple[float, float] = (0.0, 1.0)
) -> list[float]:
    """Train on a loss drawn anew for each step; the losses. The network ends with its averaged weights.

    `part` is where this training starts and ends in the progress of the whole run.
    """
    average = [weight.detach().clone() for weight in network.parameters()]
    adam = torch.optim.Adam(network.parameters(), fused=True)
    rate = torch.optim.lr_scheduler.OneCycleLR(adam, max_lr=TOP_RATE, total_steps=steps)
    losses = list[float]()
    for step in range(1, steps + 1):
        loss = draw_loss()
        descend(network, adam, loss)
        rate.step()
        with torch.no_grad():
            for slow, weight in zip(average, network.parameters(), strict=True):
                slow.lerp_(weight, 1 - EMA)
        losses.append(loss.item())
        if step % 10 == 0:
            tick(part[0] + (part[1] - part[0]) * step / steps, f"training step {step}", loss=sum(losses[-10:]) / 10)
    with torch.no_grad():
        for slow, weight in zip(average, network.parameters(), strict=True):
            weight.copy_(slow)
    return losses
