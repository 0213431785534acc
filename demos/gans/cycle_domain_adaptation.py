"""Domain adaptation by translation

Question: Can a classifier be carried to a new domain that has images but no labels?
Source: Hoffman et al. 2017 (CyCADA), arXiv:1711.03213, §3 (pixel-level adaptation); Zhu et al. 2017, arXiv:1703.10593,
  eq. (1) to (3), least squares as in §4.
Watch: a CycleGAN learns to redraw labelled digits in the look of the target, and a classifier trained on what it drew
  reads the target itself. Without the critics nothing tells the target's look, and the gain is gone.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, l1_loss

from demos.contract import Bars, Claim, DemoParams, Images, Lines, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.digits import load_digits

PILE, BATCH, CHANNELS = 700, 32, 16  # digits in each pile, source and target; a batch of each; feature maps
INK, PAPER = (0.95, 0.8, 0.2), (0.55, 0.25, 0.6)  # of the tinted domain
Target = Literal["inverted", "tinted", "noisy"]


class Params(DemoParams):
    target: Target = Field("inverted", description="Look of the target domain")
    lambda_cycle: float = Field(10.0, ge=0.0, le=20.0, description="Weight of both cycle losses")
    semantic: bool = Field(True, description="The classifier's loss on translations also trains the translator")
    critics: bool = Field(True, description="Train against critics of both domains")
    steps: int = Field(400, ge=100, le=1500, description="Training steps")
    seed: int = Field(0, ge=0, le=9999, description="Random seed of split, weights and batches")

    presets: ClassVar[Mapping[str, Preset]] = {
        "no critics": Preset("Nothing says what the target looks like: no gain", {"critics": False}),
        "no semantic loss": Preset("Hardly a loss here: a change of look alone keeps the label", {"semantic": False}),
        "no cycle loss": Preset("Yellow ink on purple paper, and a digit does not come back from there",
                                {"lambda_cycle": 0.0, "target": "tinted"}),
        "noisy": Preset("Fresh noise cannot be computed: look missed, little to gain", {"target": "noisy"}),
    }  # fmt: skip


def draw_in_target(x: Tensor, target: Target, rng: torch.Generator) -> Tensor:
    """Digits (N, 1, 8, 8) in the look of the target, (N, 3, 8, 8): what the translator has to find out."""
    match target:
        case "inverted":
            return (1 - x).expand(-1, 3, -1, -1)
        case "tinted":
            ink, paper = (torch.tensor(colour)[:, None, None] for colour in (INK, PAPER))  # (3, 1, 1)
            return x * ink + (1 - x) * paper
        case "noisy":
            return (0.6 * x + 0.4 * torch.rand(x.shape, generator=rng)).expand(-1, 3, -1, -1)


def draw_weights(model: nn.Sequential, rng: torch.Generator) -> nn.Sequential:
    """He's start from a generator of our own, biases 0."""
    for weight in model.parameters():
        nn.init.zeros_(weight) if weight.dim() == 1 else nn.init.kaiming_normal_(weight, a=0.2, generator=rng)
    return model


def build_translator(rng: torch.Generator) -> nn.Sequential:
    """Three small convolutions: a new look, and hardly a way to move strokes. (B, 3, 8, 8) -> (B, 3, 8, 8)."""
    return draw_weights(nn.Sequential(
        nn.Conv2d(3, CHANNELS, 3, padding=1), nn.ReLU(), nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1), nn.ReLU(),
        nn.Conv2d(CHANNELS, 3, 3, padding=1), nn.Sigmoid(),
    ), rng)  # fmt: skip


def build_critic(rng: torch.Generator) -> nn.Sequential:
    """One score for a picture: (B, 3, 8, 8) -> (B, 1)."""
    return draw_weights(nn.Sequential(
        nn.Conv2d(3, CHANNELS, 3, padding=1), nn.LeakyReLU(0.2),
        nn.Conv2d(CHANNELS, 2 * CHANNELS, 4, stride=2, padding=1), nn.LeakyReLU(0.2),  # (B, 32, 4, 4)
        nn.Flatten(), nn.Linear(32 * CHANNELS, 1),
    ), rng)  # fmt: skip


def build_classifier(rng: torch.Generator) -> nn.Sequential:
    """Logits of ten digits: (B, 3, 8, 8) -> (B, 10)."""
    return draw_weights(nn.Sequential(nn.Flatten(), nn.Linear(192, 64), nn.ReLU(), nn.Linear(64, 10)), rng)


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Take one step down the gradient of the loss."""
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()


def fit_classifier(x: Tensor, labels: Tensor, rng: torch.Generator) -> nn.Sequential:
    """A classifier trained on pictures (N, 3, 8, 8) and their labels (N,)."""
    f = build_classifier(rng)
    adam = torch.optim.Adam(f.parameters(), lr=3e-3, fused=True)
    for _ in range(300):
        batch = torch.randint(len(x), (64,), generator=rng)
        descend(adam, cross_entropy(f(x[batch]), labels[batch]))
    return f


@torch.no_grad()
def accuracy(f: nn.Module, x: Tensor, labels: Tensor) -> float:
    """Share of pictures (N, 3, 8, 8) whose label f gets right."""
    return (f(x).argmax(dim=1) == labels).double().mean().item()


@dataclass(frozen=True, slots=True)
class Adapted:
    """G: source -> target, F: target -> source, the classifier f of targets, and the losses over training."""

    G: nn.Sequential
    F: nn.Sequential
    f: nn.Sequential
    at: list[int]
    curves: dict[str, list[float]]


def train(params: Params, xs: Tensor, ys: Tensor, xt: Tensor, rng: torch.Generator, tick: Tick = no_tick) -> Adapted:
    """CycleGAN between xs (N, 3, 8, 8) and xt, and a classifier that learns from translations G(x) with labels ys."""
    G, F, D_S, D_T = build_translator(rng), build_translator(rng), build_critic(rng), build_critic(rng)
    f = build_classifier(rng)
    adam, adam_d = (
        torch.optim.Adam(itertools.chain.from_iterable(net.parameters() for net in nets), lr=1e-3, betas=(0.5, 0.999),
                         fused=True)
        for nets in ((G, F, f), (D_S, D_T))
    )  # fmt: skip
    at, curves = list[int](), {"cycle": list[float](), "adversarial": list[float](), "classifier": list[float]()}
    for step in range(1, params.steps + 1):
        mine, theirs = (torch.randint(PILE, (BATCH,), generator=rng) for _ in range(2))
        x, y = xs[mine], xt[theirs]
        fake_y, fake_x = G(x), F(y)
        adversarial = (D_T(fake_y) - 1).square().mean() + (D_S(fake_x) - 1).square().mean()
        cycle = l1_loss(F(fake_y), x) + l1_loss(G(fake_x), y)
        task = cross_entropy(f(fake_y if params.semantic else fake_y.detach()), ys[mine])  # labels are kept
        descend(adam, params.critics * adversarial + params.lambda_cycle * cycle + task)
        on_real = (D_T(y) - 1).square().mean() + (D_S(x) - 1).square().mean()
        descend(adam_d, on_real + D_T(fake_y.detach()).square().mean() + D_S(fake_x.detach()).square().mean())
        if step % 20 == 0:
            at.append(step)
            for curve, value in zip(curves.values(), (cycle, adversarial, task), strict=True):
                curve.append(value.item())
            tick(step / params.steps, f"step {step}", cycle=cycle.item(), classifier=task.item())
    return Adapted(G, F, f, at, curves)


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng = torch.Generator().manual_seed(params.seed)
    digits, labels = load_digits()
    order = torch.randperm(len(digits), generator=rng)
    source, target, test = order[:PILE], order[PILE : 2 * PILE], order[2 * PILE :]  # three piles of different digits
    xs, ys = digits[source].expand(-1, 3, -1, -1), labels[source]  # (700, 3, 8, 8), (700,)
    xt = draw_in_target(digits[target], params.target, rng)  # (700, 3, 8, 8): its labels serve the oracle alone
    unseen, truth = draw_in_target(digits[test], params.target, rng), labels[test]  # (397, 3, 8, 8), (397,)
    only_source, oracle = fit_classifier(xs, ys, rng), fit_classifier(xt, labels[target], rng)
    model = train(params, xs, ys, xt, rng, tick)
    with torch.no_grad():
        translated, returned = model.G(xs), model.F(model.G(xs))  # (700, 3, 8, 8)
    wanted = draw_in_target(digits[source], params.target, rng)  # what nobody told the translator
    untouched, missed = l1_loss(xs, wanted).item(), l1_loss(translated, wanted).item()
    left_over = missed / untouched
    before, adapted, best = (accuracy(net, unseen, truth) for net in (only_source, model.f, oracle))
    shown = torch.stack([(ys == digit).nonzero()[0, 0] for digit in range(10)])  # (10,): one source digit of each class
    rows = [picture[shown].permute(0, 2, 3, 1) for picture in (xs, translated, wanted, returned)]  # (10, 8, 8, 3)
    return Result(
        metrics=[
            Metric("target accuracy, source only", before),
            Metric("target accuracy, adapted", adapted),
            Metric("target accuracy, with target labels", best),
            Metric("L1 of translation and hidden counterpart", missed),
            Metric("L1 of digit and hidden counterpart", untouched),
        ],
        claims=[
            Claim("Adaptation raises accuracy on the target: gain", adapted - before, ">=", 0.4),
            Claim("It does not beat training with target labels: lead over it", adapted - best, "<=", 0.02),
            Claim("Nobody showed it, and the translator finds the target's look: L1 to it over the digit's", left_over,
                  "<=", 0.4),
            Claim("Round trips return the digit: mean L1", l1_loss(returned, xs).item(), "<=", 0.08),
        ],
        figures=[
            Images(
                f"Source digits and their translations: {params.target}", torch.stack(rows).numpy().tolist(),
                row_labels=["source", "translation", "hidden counterpart", "and back"],
            ),
            Bars(
                "Accuracy on the target", x="trained on", y="share right",
                labels=["source", "translations", "target with labels"], series={"accuracy": [before, adapted, best]},
            ),
            Lines("Losses", x="training step", y="loss", at=model.at, series=model.curves),
        ],
        tables=[
            Table("Who reads the target", ["trained on", "labels used", "accuracy"],
                  [["source digits", "source", before], ["translated source digits", "source", adapted],
                   ["target digits", "target", best]]),
        ],
    )  # fmt: skip
