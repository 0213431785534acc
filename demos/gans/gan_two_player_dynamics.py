"""Dirac-GAN: the game in two numbers

Question: Why do two players that each descend their own loss circle around the equilibrium, and what makes them settle?
Source: Mescheder, Geiger, Nowozin 2018, arXiv:1801.04406, definition 2.1 and lemmas 2.3 to 3.4 and 4.1; the bilinear
  game and extrapolation: Gidel et al. 2018, arXiv:1802.10551, §2.3 and §3.
Watch: the path of (theta, psi) and the eigenvalues against the unit circle. Inside, the players settle; outside, they
  spiral away; on it, the bilinear game circles for ever and the non-saturating one crawls, slower and slower. R1 moves
  the eigenvalues inside, a step that is too long moves them out.
"""

import cmath
import itertools
import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from numpy.polynomial.hermite_e import hermegauss
from pydantic import Field
from torch import Tensor
from torch.nn.functional import logsigmoid

from demos.contract import Claim, DemoParams, Lines, Metric, Preset, Result, Scatter, Table, Tick, no_tick

FLOWN = 1e9  # farther out nobody is followed
STARTS = 16  # starting points, spread evenly on a circle around the equilibrium
NODES, WEIGHTS = (torch.tensor(a) for a in hermegauss(20))  # E g(N(0, 1)) = sum of weights g(nodes) / sqrt(2 pi)
UPDATES, REGULARIZERS = ("simultaneous", "alternating", "extragradient"), ("none", "r1", "instance-noise")


class Params(DemoParams):
    update: Literal["simultaneous", "alternating", "extragradient"] = Field("alternating", description="Update rule")
    regularizer: Literal["none", "r1", "instance-noise"] = Field("none", description="Stabiliser")
    loss: Literal["bilinear", "non-saturating", "wgan"] = Field(
        "non-saturating", description="Game; wgan is the bilinear one with psi clipped to [-1, 1]"
    )
    gamma: float = Field(1.0, ge=0.0, le=10.0, description="R1 weight")
    lr: float = Field(0.1, ge=0.01, le=0.5, description="Step size")
    iterations: int = Field(400, ge=50, le=2000, description="Updates")
    seed: int = Field(0, ge=0, le=9999, description="Seed of the starting angle; nothing else is random")

    presets: ClassVar[Mapping[str, Preset]] = {
        "spiral": Preset("Simultaneous updates: outwards a little each step", {"update": "simultaneous"}),
        "R1": Preset("A slope penalty on real data: the players settle", {"regularizer": "r1"}),
        "R1 without weight": Preset("gamma 0: nothing settles the game", {"regularizer": "r1", "gamma": 0.0}),
        "steps too long": Preset(
            "A strong penalty and a long step: R1 itself throws the players out",
            {"regularizer": "r1", "gamma": 10.0, "lr": 0.5},
        ),
        "clipped critic": Preset("Weight clipping bounds the orbit and settles nothing", {"loss": "wgan"}),
    }


def losses(game: str, regularizer: str, gamma: float, theta: Tensor, psi: Tensor) -> tuple[Tensor, Tensor]:
    """What generator theta and discriminator D(x) = psi x each descend, at every starting point (S,).

    Real data is the point 0, generated data the point theta (definition 2.1). D(x) is high on generated data, as in the
    paper: the discriminator climbs E f(D(fake)) + E f(-D(real)) with f(t) = log sigmoid(t), or t in the bilinear game.
    """
    f = logsigmoid if game == "non-saturating" else torch.clone
    if regularizer == "instance-noise":  # both points blurred by N(0, 1); the expectation by quadrature, exactly enough
        noise, weights = NODES[:, None], WEIGHTS[:, None] / math.sqrt(2 * math.pi)  # (20, 1)
    else:
        noise, weights = torch.zeros(1, 1, dtype=psi.dtype), torch.ones(1, 1, dtype=psi.dtype)
    fake, real = psi * (theta + noise), psi * noise  # (nodes, S)
    g_loss = -(weights * f(-fake)).sum(dim=0)  # non-saturating; psi theta in the bilinear game
    d_loss = -(weights * (f(fake) + f(-real))).sum(dim=0)
    if regularizer == "r1":
        d_loss = d_loss + gamma / 2 * psi.square()  # gamma / 2 E |grad D(x)|² on real data, and grad D = psi
    return g_loss, d_loss


class Game:
    """The chosen game, seen as a field: where each player is pushed, and where a round of play takes both."""

    def __init__(self, loss: str, regularizer: str, gamma: float, h: float) -> None:
        self.loss, self.regularizer, self.gamma, self.h = loss, regularizer, gamma, h

    def field(self, x: Tensor) -> Tensor:
        """v (2, S) at x = (theta, psi), (2, S): minus the gradient of each player's own loss in their own number."""
        graph = x.requires_grad  # only the Jacobian of a round asks for a second derivative
        x = x if graph else x.detach().requires_grad_()
        g_loss, d_loss = losses(self.loss, self.regularizer, self.gamma, x[0], x[1])
        (dg,) = torch.autograd.grad(g_loss.sum(), x, create_graph=graph, retain_graph=True)
        (dd,) = torch.autograd.grad(d_loss.sum(), x, create_graph=graph)
        return torch.stack([-dg[0], -dd[1]])

    def round(self, update: str, x: Tensor) -> Tensor:
        """The point (2, S) after one update of both players."""
        if update == "simultaneous":
            after = x + self.h * self.field(x)
        elif update == "alternating":  # the generator moves, then the discriminator answers to where it now is
            half = x + self.h * self.field(x) * torch.tensor([[1.0], [0.0]])
            after = half + self.h * self.field(half) * torch.tensor([[0.0], [1.0]])
        else:  # extragradient: look ahead, then step from where you were with the slope found there
            after = x + self.h * self.field(x + self.h * self.field(x))
        return torch.stack([after[0], after[1].clamp(-1, 1)]) if self.loss == "wgan" else after

    def play(self, update: str, x: Tensor, iterations: int) -> Tensor:
        """All points (iterations + 1, 2, S) from the start x on."""
        path = [x]
        for _ in range(iterations):
            path.append(self.round(update, path[-1]).detach().clamp(-FLOWN, FLOWN))
        return torch.stack(path)

    def linearised(self, update: str) -> Tensor:
        """Jacobian (2, 2) of a round at the equilibrium, by autograd."""

        def one(x: Tensor) -> Tensor:
            return self.round(update, x[:, None])[:, 0]

        start = torch.zeros(2, dtype=torch.float64, requires_grad=True)
        after = one(start)
        return torch.stack([torch.autograd.grad(value, start, retain_graph=True)[0] for value in after])

    def closed_form(self, update: str) -> Tensor:
        """The same Jacobian (2, 2) by hand, from lemmas 2.3, 3.2 and 4.1 with sigma = 1."""
        f1, f2 = (0.5, -0.25) if self.loss == "non-saturating" else (1.0, 0.0)  # f'(0), f''(0)
        d = {"none": 0.0, "r1": -self.gamma, "instance-noise": 2 * f2}[self.regularizer]
        J = torch.tensor([[0.0, -f1], [f1, d]], dtype=torch.float64)  # of the field
        eye, h = torch.eye(2, dtype=torch.float64), self.h
        if update == "simultaneous":
            return eye + h * J
        if update == "extragradient":
            return eye + h * J + h**2 * J @ J
        first, second = torch.diag(torch.tensor([1.0, 0.0])).double(), torch.diag(torch.tensor([0.0, 1.0])).double()
        return (eye + h * second @ J) @ (eye + h * first @ J)


def eigenvalues(jacobian: Tensor) -> tuple[complex, complex]:
    """Both eigenvalues of a 2x2 matrix, from its trace and determinant."""
    (a, b), (c, d) = jacobian.numpy().tolist()
    root = cmath.sqrt((a - d) ** 2 / 4 + b * c)
    return (a + d) / 2 + root, (a + d) / 2 - root


def radius(jacobian: Tensor) -> float:
    """Largest modulus of the eigenvalues."""
    return max(abs(value) for value in eigenvalues(jacobian))


def distances(path: Tensor) -> Tensor:
    """Root mean square distance of all starting points from the equilibrium over time, (iterations + 1,)."""
    return path.square().sum(dim=1).mean(dim=1).sqrt()


def verdict(factor: float, tolerance: float) -> str:
    """What growth by this factor means."""
    return "orbits" if abs(math.log(max(factor, 1e-300))) <= tolerance else "settles" if factor < 1 else "diverges"


def pairs(points: Tensor) -> list[tuple[float, float]]:
    """Points (n, 2) as figures want them."""
    return [(x.item(), y.item()) for x, y in points]


def run(params: Params, tick: Tick = no_tick) -> Result:
    h, n = params.lr, params.iterations
    angle = 2 * math.pi * torch.rand(1, generator=torch.Generator().manual_seed(params.seed), dtype=torch.float64)
    turn = angle + 2 * math.pi * torch.arange(STARTS) / STARTS  # (S,)
    start = torch.stack([turn.cos(), turn.sin()])  # (2, S), at distance 1

    game, bilinear = Game(params.loss, params.regularizer, params.gamma, h), Game("bilinear", "none", 0.0, h)
    paths = {update: game.play(update, start, n) for update in UPDATES}
    plain = {update: distances(bilinear.play(update, start, n)) for update in UPDATES}
    settled = distances(Game("non-saturating", "r1", params.gamma, h).play(params.update, start, n))
    tick(0.3, "games played", distance=distances(paths[params.update])[-1].item())

    rows = list[list[str | float]]()
    gaps = list[float]()
    cases = list(itertools.product(("bilinear", "non-saturating"), REGULARIZERS, UPDATES))
    for done, (loss, regularizer, update) in enumerate(cases, start=1):
        case = Game(loss, regularizer, params.gamma, h)
        jacobian = case.linearised(update)
        gaps.append((jacobian - case.closed_form(update)).abs().max().item())
        path = distances(case.play(update, 1e-3 * start, n))  # so near that the game is as good as linear
        factor = (path[-1] / path[0]).item()
        rows.append([loss, regularizer, update, radius(jacobian), factor, verdict(radius(jacobian), 1e-9),
                     verdict(factor, 0.02)])  # fmt: skip
        tick(0.3 + 0.7 * done / len(cases), f"{loss}, {regularizer}, {update}", radius=radius(jacobian))
    disagree = sum(row[5] != row[6] for row in rows)

    path = paths[params.update][:, :, 0]  # (n + 1, 2), the first starting point
    distance = {update: distances(each) for update, each in paths.items()}
    growth = (plain["simultaneous"][-1] / plain["simultaneous"][0]).item() ** (1 / n)
    expected = math.sqrt(1 + h**2)
    orbit = (plain["alternating"].max() / plain["alternating"].min()).item()
    g_loss, d_loss = losses(params.loss, params.regularizer, params.gamma, path[:, 0], path[:, 1])  # (n + 1,) each
    spectra = {update: eigenvalues(game.linearised(update)) for update in UPDATES}
    circle = [(math.cos(a * math.pi / 60), math.sin(a * math.pi / 60)) for a in range(121)]
    steps = list(range(n + 1))
    return Result(
        metrics=[
            Metric("distance", (distance[params.update][-1] / distance[params.update][0]).item(), "of the start"),
            Metric("spectral_radius", radius(game.linearised(params.update))),
            Metric("growth of simultaneous updates on the bilinear game", growth, "per step"),
            Metric("orbit of alternating updates on the bilinear game", orbit, "largest over smallest distance"),
        ],
        figures=[
            Scatter("Path of the two players", x="generator theta", y="discriminator psi",
                    series={f"{params.update}, {params.loss}, {params.regularizer}": pairs(path),
                            "equilibrium": [(0.0, 0.0)]}),
            Scatter("Eigenvalues of a round at the equilibrium", x="real part", y="imaginary part", series={
                "unit circle": circle,
                **{update: [(e.real, e.imag) for e in spectra[update]] for update in UPDATES},
            }),
            Lines("Distance to the equilibrium in the chosen game", x="update", y="root mean square over 16 starts",
                  at=steps, series={update: d.numpy().tolist() for update, d in distance.items()}),
            Lines("Both losses along the path", x="update", y="loss", at=steps,
                  series={"generator": g_loss.numpy().tolist(), "discriminator": d_loss.numpy().tolist()}),
        ],
        tables=[
            Table("What the spectral radius says and what the players do",
                  ["game", "stabiliser", "update", "spectral radius", "distance, end over start",
                   "predicted", "played"], rows),
        ],
        claims=[
            Claim("Simultaneous updates on the bilinear game grow by √(1 + lr²) a step: relative error of the excess",
                  abs((growth - 1) / (expected - 1) - 1), "<=", 1e-6),
            Claim("Alternating updates circle there: largest over smallest distance on the way", orbit, "<=", 1.2),
            Claim("Extragradient closes in on the equilibrium there: final over first distance",
                  (plain["extragradient"][-1] / plain["extragradient"][0]).item(), "<=", 0.2),
            Claim("With R1 the non-saturating Dirac-GAN settles: final over first distance",
                  (settled[-1] / settled[0]).item(), "<=", 0.05),
            Claim("The spectral radius predicts all 18 cases, settles, orbits or diverges: cases it gets wrong",
                  disagree, "==", 0),
            Claim("The Jacobian of each round is the closed form: largest difference", max(gaps), "<=", 1e-9),
        ],
    )  # fmt: skip
