"""GAN losses and the gradients they send

Question: Which generator losses still push when the discriminator is winning?
Source: Goodfellow et al. 2014, arXiv:1406.2661, eq. (1) and §3; Arjovsky, Bottou 2017, arXiv:1701.04862, theorems 2.4
  and 2.5; Mao et al. 2016, arXiv:1611.04076, eq. (9); hinge: Lim, Ye 2017, arXiv:1705.02894; Gulrajani et al. 2017,
  arXiv:1704.00028, eq. (3).
Watch: the generator's gradient while the discriminator trains ahead. The minimax loss loses it, the non-saturating
  one keeps it, and a critic of slope one sends the same gradient from any distance.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from demos.contract import Claim, DemoParams, Lines, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.perceptron import perceptron

STD, BATCH, WIDTH, LAMBDA = 0.5, 256, 64, 10.0  # deviation of real and fake points; critic's penalty weight
NEAR, FAR, LOOKS = 1.0, 6.0, 30  # the two gaps of the claims; looks at the gradient while D trains
OPTIMA = {  # D's best answer where the densities are p (real) and q (fake); what G then minimises
    "minimax": ("log(p / q)", "2 JS(p, q) - log 4"),
    "non-saturating": ("log(p / q)", "KL(q | p) - 2 JS(p, q) + constants, by its gradient (theorem 2.5)"),
    "lsgan": ("p / (p + q)", "half the mean over q of (q / (p + q))²"),
    "hinge": ("sign(p - q)", "the total variation of p and q"),
    "wgan": ("the steepest f of slope 1", "the Wasserstein-1 distance"),
}


class Params(DemoParams):
    loss: Literal["minimax", "non-saturating", "lsgan", "hinge", "wgan"] = Field(
        "non-saturating", description="Generator loss"
    )
    gap: float = Field(4.0, ge=0.5, le=10.0, description="Distance of generated from real samples")
    d_steps: int = Field(300, ge=0, le=1000, description="Steps the discriminator trains ahead")
    seed: int = Field(0, ge=0, le=9999, description="Random seed of data, weights and sampling")

    presets: ClassVar[Mapping[str, Preset]] = {
        "minimax": Preset("D wins and the generator hears nothing", {"loss": "minimax"}),
        "least squares": Preset("Steep in D's output, but a winning D is flat around the fakes", {"loss": "lsgan"}),
        "no head start": Preset("An untrained D: both logistic losses push alike, no slope is learned", {"d_steps": 0}),
        "overlap": Preset("Real and fake mix: D cannot win, so the minimax gradient lives", {"gap": 0.5}),
        "critic": Preset("Ten units away the critic pushes as hard as from one", {"loss": "wgan", "gap": 10.0}),
    }


def d_loss(loss: str, real: Tensor, fake: Tensor) -> Tensor:
    """What D descends, from its raw outputs on real and fake points (B, 1)."""
    if loss == "lsgan":
        return ((real - 1).square().mean() + fake.square().mean()) / 2  # eq. (9) with a = 0, b = 1
    if loss == "hinge":
        return (1 - real).relu().mean() + (1 + fake).relu().mean()
    if loss == "wgan":
        return fake.mean() - real.mean()
    return nn.functional.softplus(-real).mean() + nn.functional.softplus(fake).mean()  # -eq. (1), D = sigmoid(logit)


def g_loss(loss: str, fake: Tensor) -> Tensor:
    """What G descends, from D's raw outputs on its points (B, 1): the mean."""
    if loss == "minimax":
        return -nn.functional.softplus(fake).mean()  # log(1 - D), since 1 - sigmoid(l) = exp(-softplus(l))
    if loss == "non-saturating":
        return nn.functional.softplus(-fake).mean()  # -log D
    if loss == "lsgan":
        return (fake - 1).square().mean() / 2  # eq. (9) with c = 1
    return -fake.mean()  # hinge and Wasserstein


def slope(loss: str, logit: Tensor) -> Tensor:
    """d g_loss / d (output of D) at each of the outputs (n,), by autograd."""
    leaf = logit.clone().requires_grad_()
    return torch.autograd.grad(g_loss(loss, leaf), leaf)[0] * len(logit)  # (n,); the loss is a mean over n


def critic_in_the_plane(rng: torch.Generator) -> nn.Sequential:
    """D in the plane: 2 -> 64 -> 64 -> 1, no squashing at the end.

    On a line a critic could be caught at slope -1: the penalty bars its way through 0, and in the plane it turns round.
    """
    return perceptron([2, WIDTH, WIDTH, 1], lambda: nn.LeakyReLU(0.2), rng)


def penalty(D: nn.Module, real: Tensor, fake: Tensor, rng: torch.Generator) -> Tensor:
    """Gradient penalty: how far the slope of D is from one between real and fake points (B, 2)."""
    t = torch.rand(len(real), 1, generator=rng)  # (B, 1)
    x = (t * real + (1 - t) * fake).requires_grad_()
    (gradient,) = torch.autograd.grad(D(x).sum(), x, create_graph=True)  # (B, 2)
    return (gradient.square().sum(dim=1).sqrt() - 1).square().mean()


def generator_gradient(loss: str, D: nn.Module, gap: float, z: Tensor) -> Tensor:
    """d loss / d theta, (2,), of the generator x = theta + STD z at theta = (gap, 0), for noise z (n, 2).

    Real points lie around (0, 0), so a first number above 0 sends the generator their way.
    """
    theta = torch.tensor([gap, 0.0], requires_grad=True)
    return torch.autograd.grad(g_loss(loss, D(theta + STD * z)), theta)[0]


def size(gradient: Tensor) -> float:
    """Length of a gradient (2,)."""
    return gradient.square().sum().sqrt().item()


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Take one step down the gradient of the loss."""
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()


def train_ahead(loss: str, gap: float, params: Params, tick: Tick) -> tuple[nn.Module, list[Mapping[str, Tensor]]]:
    """D trained for d_steps against a generator that stands still, and on the way the gradient that G would get.

    The two logistic losses share their D, so they are looked at together.
    """
    rng, dice = (torch.Generator().manual_seed(2 * params.seed + odd) for odd in (0, 1))  # training; evaluation
    z = torch.randn(1_000, 2, generator=dice)  # the points whose mean gradient is reported
    names = ["minimax", "non-saturating"] if loss == "non-saturating" else [loss]
    centres = torch.tensor([[[0.0, 0.0]], [[gap, 0.0]]])  # (2, 1, 2): of real and fake points
    D = critic_in_the_plane(rng)
    adam = torch.optim.Adam(D.parameters(), lr=2e-3, fused=True)
    looks: list[Mapping[str, Tensor]] = [{name: generator_gradient(name, D, gap, z) for name in names}]
    for look in range(1, LOOKS + 1):
        for _ in range(look * params.d_steps // LOOKS - (look - 1) * params.d_steps // LOOKS):
            real, fake = STD * torch.randn(2, BATCH, 2, generator=rng) + centres  # (B, 2) each
            objective = d_loss(loss, D(real), D(fake))
            if loss == "wgan":
                objective = objective + LAMBDA * penalty(D, real, fake, rng)
            descend(adam, objective)
        looks.append({name: generator_gradient(name, D, gap, z) for name in names})
        tick(look / LOOKS, f"{loss} at gap {gap:g}", gradient=size(looks[-1][names[-1]]))
    return D, looks


def run(params: Params, tick: Tick = no_tick) -> Result:
    cases = [(name, params.gap) for name in ("non-saturating", "lsgan", "hinge", "wgan")]
    cases += [("non-saturating", NEAR), ("non-saturating", FAR), ("wgan", NEAR), ("wgan", FAR)]

    def part(number: int) -> Tick:
        def report(fraction: float, message: str, **live: float) -> None:
            tick((number + fraction) / len(cases), message, **live)

        return report

    trained: list[tuple[nn.Module, list[Mapping[str, Tensor]]]] = []
    for number, (name, gap) in enumerate(cases):
        trained.append(train_ahead(name, gap, params, part(number)))
    curves = {name: [size(look[name]) for look in looks] for _, looks in trained[:4] for name in looks[0]}
    at_gap = [{name: size(look) for name, look in looks[-1].items()} for _, looks in trained[4:]]
    ends = {name: values[-1] for name, values in curves.items()}

    logit = torch.linspace(-8, 8, 161, dtype=torch.float64)  # (161,)
    slopes = {name: slope(name, logit) for name in OPTIMA}
    error = (slopes["minimax"] + logit.sigmoid()).abs().max().item()
    at_6 = int((logit + 6).abs().argmin())  # where D says fake with probability 0.9975
    sure = {name: value[at_6].abs().item() for name, value in slopes.items()}
    values = {name: [g_loss(name, value).item() for value in logit] for name in OPTIMA}
    near, far = at_gap[2]["wgan"], at_gap[3]["wgan"]
    critic = max(near, far) / min(near, far)

    family = "non-saturating" if params.loss == "minimax" else params.loss  # the D that this loss plays against
    D, looks = trained[[name for name, _ in cases].index(family)]
    towards = looks[-1][params.loss][0].item()
    x = torch.linspace(-3 * STD, params.gap + 3 * STD, 121)  # (121,): from behind the real points to behind the fakes
    points = torch.stack([x, torch.zeros_like(x)], dim=1).requires_grad_()  # (121, 2), along the line between them
    output = D(points)  # (121, 2)
    (gradient,) = torch.autograd.grad(g_loss(params.loss, output) * len(x), points)  # (121, 2)
    rows = [
        [name, *OPTIMA[name], *(slopes[name][n].item() for n in (at_6, 80, 160 - at_6)), ends[name]] for name in OPTIMA
    ]
    return Result(
        metrics=[
            Metric("generator gradient before D trains", curves[params.loss][0]),
            Metric("generator gradient after D trained ahead", ends[params.loss]),
            Metric("minimax over non-saturating gradient", ends["minimax"] / ends["non-saturating"]),
            Metric("Wasserstein gradient at gap 1", near),
            Metric("Wasserstein gradient at gap 6", far),
        ],
        figures=[
            Lines("Gradient of the loss at one fake", "output of D (logit)", "d loss / d logit", logit.numpy().tolist(),
                  {name: value.numpy().tolist() for name, value in slopes.items()}),
            Lines("Generator loss of one fake", "output of D (logit)", "loss", logit.numpy().tolist(), values),
            Lines(f"Gradient that reaches the generator, {params.gap:g} away", "steps D trained ahead",
                  "|d loss / d theta|", [look * params.d_steps // LOOKS for look in range(LOOKS + 1)],
                  curves, log="y"),
            Lines(f"What {params.loss} does to a sample at x: real points at 0, fakes at {params.gap:g}",
                  "first coordinate of x", "D; push", x.numpy().tolist(),
                  {"output of D": output.detach().flatten().numpy().tolist(),
                   "push on the sample": (-gradient[:, 0]).numpy().tolist()}),
        ],
        tables=[
            Table("The losses and their optima",
                  ["generator loss", "D's best output", "G then minimises", "slope at -6", "slope at 0", "slope at 6",
                   "gradient after D trained"], rows),
        ],
        claims=[
            Claim("The minimax gradient on a fake logit is -sigmoid(logit): largest error", error, "<=", 1e-6),
            Claim("It vanishes where D is sure: its size at logit -6", sure["minimax"], "<=", 0.01),
            Claim("The non-saturating gradient stays near one there", sure["non-saturating"], ">=", 0.99),
            Claim("D trained ahead: minimax over non-saturating generator gradient",
                  ends["minimax"] / ends["non-saturating"], "<=", 0.05),
            Claim("The chosen loss still pushes towards the data once D is ahead: gradient", towards, ">=", 0.3),
            Claim("The minimax gradient dies with distance: at gap 6 over gap 1",
                  at_gap[1]["minimax"] / max(at_gap[0]["minimax"], 1e-30), "<=", 0.1),
            Claim("A critic of bounded slope does not: larger over smaller one at gaps 1 and 6", critic, "<=", 1.5),
            Claim("Its slope is 1 + gap / 2λ, where penalty and gain balance: distance from 1.3 at gap 6",
                  abs(far - (1 + FAR / (2 * LAMBDA))), "<=", 0.1),
        ],
    )  # fmt: skip
