"""Classifier guidance and guidance without classifier

Question: Are the two kinds of guidance the same thing, and what does a large scale do?
Source: Dhariwal, Nichol 2021, arXiv:2105.05233, §4.1 and Algorithm 2; Ho, Salimans 2022, arXiv:2207.12598, eq. (6) and
  Algorithms 1 and 2 (our scale is their w + 1); steps: Song, Meng, Ermon 2020, arXiv:2010.02502, eq. (12).
Watch: four classes overlap. A larger scale keeps samples inside their class, narrows the cloud and pushes it out,
  beyond p(x) p(y | x)^s, which guidance is often said to sample (why not: Du et al. 2023, arXiv:2302.11552).
"""

import itertools
import math
from collections.abc import Callable, Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from demos.contract import Claim, DemoParams, Figure, Lines, Metric, Preset, Result, Scatter, Tick, no_tick
from demos.shared.perceptron import perceptron

CLASSES, STD = 4, 0.6
CENTRES = 0.85 * torch.tensor([[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]])  # class y is N(centre y, STD²)
T, PASSES, POINTS, WIDTH, BATCH, STEPS = 1000, 50, 2_000, 64, 256, 800
SCALES = [0.0, 1.0, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0]
BETAS = torch.linspace(1e-4, 0.02, T, dtype=torch.float64)
ALPHA_BAR = torch.cat([torch.ones(1), torch.cumprod(1 - BETAS, dim=0).float()])  # (T + 1,), ᾱ_0 = 1
Noise = Callable[[Tensor, int, int | None], Tensor]  # ε(x_t, t, class or none), (N, 2)
Slope = Callable[[Tensor, int, int], Tensor]  # ∇ log p(class | x_t), (N, 2)


class Params(DemoParams):
    method: Literal["classifier", "classifier-free", "both"] = Field("both", description="Guidance that is shown")
    scale: float = Field(3.0, ge=0.0, le=15.0, description="Guidance scale: 0 ignores the class, 1 is conditional")
    label: int = Field(0, ge=0, le=3, description="Class asked for")
    dropout: float = Field(0.15, ge=0.0, le=0.5, description="Share of training examples without their label")
    networks: Literal["exact", "trained"] = Field("exact", description="Exact scores, or small trained networks")
    seed: int = Field(0, ge=0, le=9999, description="Seed of start, data and weights")

    presets: ClassVar[Mapping[str, Preset]] = {
        "trained": Preset("One noise network with labels dropped, and a classifier", {"networks": "trained"}),
        "trained classifier": Preset("Its scale 1 is not exact", {"networks": "trained", "method": "classifier"}),
        "labels never dropped": Preset("It subtracts nonsense", {"networks": "trained", "dropout": 0.0}),
        "far too much": Preset("At scale 15 all samples obey, and lie where the class has none", {"scale": 15.0}),
        "no guidance": Preset("At scale 0 the class asked for is not heard", {"scale": 0.0}),
    }


def logits(x: Tensor, t: int) -> Tensor:
    """log p(x_t | y) up to a constant, exact for every class: x (N, 2) -> (N, 4)."""
    a = ALPHA_BAR[t].to(x)
    square = (x[:, None] - a.sqrt() * CENTRES.to(x)).square().sum(-1)  # (N, 4)
    return -square / (2 * (a * STD**2 + 1 - a))


def exact_noise(x: Tensor, t: int, y: int | None) -> Tensor:
    """E[ε | x_t] = −√(1 − ᾱ_t) ∇ log p(x_t | y), of one class or, without y, of their mixture."""
    a = ALPHA_BAR[t].to(x)
    gap = x[:, None] - a.sqrt() * CENTRES.to(x)  # (N, 4, 2)
    share = logits(x, t).softmax(dim=1) if y is None else torch.eye(CLASSES).to(x)[y].expand(len(x), -1)  # (N, 4)
    return (1 - a).sqrt() / (a * STD**2 + 1 - a) * (share[..., None] * gap).sum(dim=1)


def slope_of(classifier: Callable[[Tensor, int], Tensor]) -> Slope:
    """∇ log p(y | x_t) of a classifier that gives logits (N, 4), by autograd through it."""

    def slope(x: Tensor, t: int, y: int) -> Tensor:
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            return torch.autograd.grad(classifier(leaf, t).log_softmax(dim=1)[:, y].sum(), leaf)[0]

    return slope


def with_classifier(noise: Noise, slope: Slope, scale: float, y: int) -> Noise:
    """ε̂ = ε(x_t) − s √(1 − ᾱ_t) ∇ log p(y | x_t): Algorithm 2 of Dhariwal and Nichol, on the unconditional model."""
    return lambda x, t, _: noise(x, t, None) - scale * (1 - ALPHA_BAR[t].to(x)).sqrt() * slope(x, t, y)


def classifier_free(noise: Noise, scale: float, y: int) -> Noise:
    """ε̂ = ε(x_t) + s (ε(x_t, y) − ε(x_t)): eq. (6) of Ho and Salimans with s = w + 1, two passes of one network."""
    return lambda x, t, _: noise(x, t, None) + scale * (noise(x, t, y) - noise(x, t, None))


@torch.no_grad()
def sample(noise: Noise, x: Tensor) -> Tensor:
    """DDIM with η = 0 in PASSES steps from x_T (N, 2): the same start gives the same sample."""
    for t, s in itertools.pairwise([T - T * n // PASSES for n in range(PASSES + 1)]):
        a, b = ALPHA_BAR[t], ALPHA_BAR[s]
        eps = noise(x, t, None)
        x = b.sqrt() * (x - (1 - a).sqrt() * eps) / a.sqrt() + (1 - b).sqrt() * eps
    return x


def inputs(x: Tensor, t: int | Tensor, y: int | Tensor | None) -> Tensor:
    """What a network reads: x (N, 2), the time, and the class or "none", which is a fifth label: (N, 14)."""
    share = torch.as_tensor(t).expand(len(x))[:, None] / T
    label = nn.functional.one_hot(torch.as_tensor(CLASSES if y is None else y).expand(len(x)), CLASSES + 1)
    waves = [f(math.pi * k * share) for k in (0.5, 1, 2) for f in (torch.sin, torch.cos)]
    return torch.cat([x, share, *waves, label], dim=1)


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Take one step down the gradient of the loss."""
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()


def train(dropout: float, rng: torch.Generator, tick: Tick) -> tuple[Noise, Slope]:
    """Fit the noise network, which sees labels or none, and the classifier of noisy points, on the same batches."""
    inner = [2 + 7 + CLASSES + 1, WIDTH, WIDTH]
    network, classifier = (perceptron([*inner, outputs], nn.SiLU, rng) for outputs in (2, CLASSES))
    adam = torch.optim.Adam([*network.parameters(), *classifier.parameters()], fused=True)
    rate = torch.optim.lr_scheduler.OneCycleLR(adam, max_lr=1e-2, total_steps=STEPS)
    for step in range(1, STEPS + 1):
        y, t = torch.randint(CLASSES, (BATCH,), generator=rng), torch.randint(1, T + 1, (BATCH,), generator=rng)
        eps, z = torch.randn(2, BATCH, 2, generator=rng)
        a = ALPHA_BAR[t][:, None]  # (B, 1)
        x = a.sqrt() * (CENTRES[y] + STD * z) + (1 - a).sqrt() * eps
        heard = torch.where(torch.rand(BATCH, generator=rng) < dropout, CLASSES, y)  # Ho and Salimans, Algorithm 1
        of_noise = (network(inputs(x, t, heard)) - eps).square().mean()
        of_classifier = nn.functional.cross_entropy(classifier(inputs(x, t, None)), y)
        descend(adam, of_noise + of_classifier)  # they share no weight
        rate.step()
        if step % 50 == 0:
            tick(0.5 * step / STEPS, f"training step {step}", noise=of_noise.item(), classifier=of_classifier.item())
    network.requires_grad_(False)
    return lambda x, t, y: network(inputs(x, t, y)), slope_of(lambda x, t: classifier(inputs(x, t, None)))


def measure(x: Tensor, y: int) -> tuple[float, float, float]:
    """Of a cloud (N, 2): share in class y by the exact classifier, deviation and way from the centre over STD."""
    share, away = (logits(x, 0).argmax(dim=1) == y).float().mean(), (x.mean(dim=0) - CENTRES[y]).square().sum().sqrt()
    return share.item(), x.var(dim=0).mean().sqrt().item() / STD, away.item() / STD


def sharpened(scale: float, y: int) -> float:
    """How far the mean of p(x) p(y | x)^s, summed over a grid, lies from the centre of class y, over STD."""
    side = torch.linspace(-5, 5, 201)
    grid = torch.cartesian_prod(side, side)
    each = logits(grid, 0)  # (201², 4)
    weight = (each.logsumexp(dim=1) + scale * each.log_softmax(dim=1)[:, y]).softmax(dim=0)
    return (weight @ grid - CENTRES[y]).square().sum().sqrt().item() / STD


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng, dice = (torch.Generator().manual_seed(2 * params.seed + odd) for odd in (0, 1))  # training; evaluation
    noise, slope = train(params.dropout, rng, tick) if params.networks == "trained" else (exact_noise, slope_of(logits))
    y, scale, start = params.label, params.scale, torch.randn(POINTS, 2, generator=dice)
    kinds = [kind for kind in ("classifier", "classifier-free") if params.method in (kind, "both")]
    clouds, measured = dict[float, Tensor](), dict[float, tuple[float, float, float]]()
    scales = sorted({*SCALES, scale})

    def guide(name: str, at: float) -> Noise:
        return with_classifier(noise, slope, at, y) if name == "classifier" else classifier_free(noise, at, y)

    for at in scales:
        clouds[at] = sample(guide(kinds[-1], at), start)
        measured[at] = measure(clouds[at], y)
        tick(0.5 + 0.4 * len(clouds) / len(scales), f"scale {at:g}", accuracy=measured[at][0])
    accuracy, spread, away = ({at: row[column] for at, row in measured.items()} for column in range(3))
    plain, free = sample(lambda x, t, _: noise(x, t, y), start), sample(noise, start)
    off_ends = torch.stack([clouds[1.0] - plain, clouds[0.0] - free]).abs().max().item()

    data = CENTRES[torch.arange(POINTS) % CLASSES] + STD * torch.randn(POINTS, 2, generator=dice)
    grid = torch.cartesian_prod(*[torch.linspace(-2.5, 2.5, 11)] * 2)  # (121, 2)
    between, off, fields = 0.0, 0.0, list[Figure]()
    for t in (100, 300, 600):
        of_both = [with_classifier(exact_noise, slope_of(logits), scale, y)(grid.double(), t, None),
                   classifier_free(exact_noise, scale, y)(grid.double(), t, None)]  # fmt: skip
        between = max(between, (of_both[0] - of_both[1]).abs().max().item())
        x_t = ALPHA_BAR[t].sqrt() * data + (1 - ALPHA_BAR[t]).sqrt() * start
        off = max(off, (noise(x_t, t, None) - exact_noise(x_t, t, None)).square().mean().sqrt().item())
        guided = guide(kinds[-1], scale)(grid, t, None)
        arrows = {"no class": noise(grid, t, None), "class": noise(grid, t, y), "guided": guided}
        moved = {name: (grid - 0.25 * arrow).numpy().tolist() for name, arrow in arrows.items()}
        title = f"Where −ε̂ moves a grid of points, drawn at a quarter, t = {t}"
        fields.append(Scatter(title, "x", "y", {"grid": grid.numpy().tolist(), **moved}))
    shown = {kind: sample(guide(kind, scale), start) for kind in kinds}
    meant = {at: sharpened(at, y) for at in scales}
    narrowed, overshoot = spread[scale] / spread[1.0], away[3.0] / meant[3.0]
    return Result(
        metrics=[
            Metric("accuracy", accuracy[scale]),
            Metric("spread", narrowed),
            Metric("distance from the class centre", away[scale], "deviations"),
        ],
        figures=[
            Scatter("Samples over scale, from the same noise", "x", "y",
                    {"no class": free[:200].numpy().tolist(),
                     **{f"scale {at:g}": clouds[at][:200].numpy().tolist() for at in sorted({1.0, 3.0, scale})}}),
            Scatter(f"Samples of each guidance at scale {scale:g}", "x", "y",
                    {name: cloud[:300].numpy().tolist() for name, cloud in shown.items()}),
            *fields,
            Lines("What the scale does", "scale", "share, and spread relative to scale 1", scales,
                  {"accuracy": list(accuracy.values()), "spread": [width / spread[1.0] for width in spread.values()]}),
            Lines("Where the samples go", "scale", "deviations from the class centre", scales,
                  {"guided samples": list(away.values()), "p(x) p(y | x)^s": list(meant.values())}),
        ],
        claims=[
            Claim("With exact scores both guidances give the same arrows: largest difference", between, "<=", 1e-4),
            Claim("Scale 1 is conditional sampling, scale 0 has no class: largest difference", off_ends, "<=", 1e-4),
            Claim("The noise prediction without label is right: root mean square off", off, "<=", 0.3),
            Claim("From scale 0 to 1 more samples obey: rise of their share", accuracy[1.0] - accuracy[0.0], ">=", 0.3),
            Claim("From scale 1 to 3 more again: rise", accuracy[3.0] - accuracy[1.0], ">=", 0.07),
            Claim("At the chosen scale nearly all obey: share", accuracy[scale], ">=", 0.95),
            Claim("More scale, less spread: that at the chosen scale over that at 1", narrowed, "<=", 0.8),
            Claim("The cloud still lies over its class: distance of centres in deviations", away[scale], "<=", 2.2),
            Claim("It goes beyond p(x) p(y | x)^s: way from the centre at scale 3 over that", overshoot, ">=", 2.0),
        ],
    )  # fmt: skip
