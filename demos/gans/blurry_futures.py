"""Two futures: L1, L2 and the adversarial loss

Question: Why does a squared error blur what cannot be predicted, and what does a GAN do instead?
Source: Mathieu, Couprie, LeCun 2015, arXiv:1511.05440, §3; Isola et al. 2016, arXiv:1611.07004, eq. (1), (3), (4);
  gradient penalty R1: Mescheder et al. 2018, arXiv:1801.04406, eq. (9).
Watch: a ball falls on a peg and bounces left or right. L2 draws both balls at half brightness; to L1, at even odds, any
  grey is as good. The GAN draws one whole ball, now here, now there. Without noise it cannot choose anew, and a heavy
  L1 beside it makes it give up the choice as well.
"""

import itertools
from collections.abc import Mapping
from functools import partial
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import l1_loss, mse_loss, softplus

from demos.contract import Bars, Claim, DemoParams, Images, Lines, Metric, Preset, Result, Tick, no_tick
from demos.shared.perceptron import perceptron

SIZE, PEGS = 10, (3, 4, 5, 6)  # pixels a side; columns of the peg, each a past of its own
BALL = torch.tensor([[0.5, 1.0, 0.5], [1.0, 1.0, 1.0], [0.5, 1.0, 0.5]])
WIDTH, NOISE, BATCH, DRAWS = 96, 8, 64, 100  # hidden units; numbers in z; futures drawn for each past
R1, ODDS = 0.1, 0.6  # weight of the penalty; share of white in the pixel of the claims, black else
LEAKY = partial(nn.LeakyReLU, 0.2)  # no sigmoid at the end of a network: L1 would die in its tails
LOSSES = ("l2", "l1", "gan", "l1+gan")


class Params(DemoParams):
    loss: Literal["l1", "l2", "gan", "l1+gan", "all"] = Field("all", description="Loss whose predictions lead")
    p_left: float = Field(0.5, ge=0.1, le=0.9, description="Probability that the ball goes left")
    weight: float = Field(20.0, ge=0.0, le=100.0, description="Weight of L1 beside the adversarial loss")
    noise: bool = Field(True, description="Give the generators noise z")
    steps: int = Field(800, ge=100, le=2000, description="Training steps")
    seed: int = Field(0, ge=0, le=9999, description="Random seed of data, weights and sampling")

    presets: ClassVar[Mapping[str, Preset]] = {
        "no noise": Preset("Without z one past has one future: sharp, and always the same", {"noise": False}),
        "light L1": Preset("L1 + GAN draws both futures again, less cleanly", {"weight": 1.0, "loss": "l1+gan"}),
        "unequal odds": Preset("Left in 60 of 100 falls: L1 draws the left ball alone", {"p_left": 0.6, "loss": "l1"}),
    }


def draw_frame(row: int, column: Tensor, peg: Tensor) -> Tensor:
    """Frames (N, SIZE²) with a ball around (row, column) and a dim peg under where it fell; column, peg (N,)."""
    frame, n = torch.zeros(len(peg), SIZE, SIZE), torch.arange(len(peg))
    frame[n, 6, peg] = 0.5
    for dy, dx in itertools.product((-1, 0, 1), repeat=2):
        frame[n, row + dy, column + dx] = BALL[dy + 1, dx + 1]
    return frame.flatten(1)


def fall(peg: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Both past frames side by side (N, 2 SIZE²), and what comes next: ball on the left, on the right, (N, SIZE²)."""
    past = torch.cat([draw_frame(1, peg, peg), draw_frame(3, peg, peg)], dim=1)
    return past, draw_frame(6, peg - 2, peg), draw_frame(6, peg + 2, peg)


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Take one step down the gradient of the loss."""
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()


def discriminator_loss(D: nn.Module, past: Tensor, real: Tensor, fake: Tensor) -> Tensor:
    """Minus eq. (1) of Isola et al., plus R1: D sees the past beside the future, so a sharp ball must fit it too."""
    real = real.clone().requires_grad_()
    on_real, on_fake = D(torch.cat([past, real], dim=1)), D(torch.cat([past, fake], dim=1))  # logits (B, 1)
    (slope,) = torch.autograd.grad(on_real.sum(), real, create_graph=True)  # (B, SIZE²)
    return softplus(-on_real).mean() + softplus(on_fake).mean() + R1 / 2 * slope.square().sum(dim=1).mean()


def generator_loss(loss: str, D: nn.Module | None, weight: float, past: Tensor, real: Tensor, fake: Tensor) -> Tensor:
    """The four losses; the adversarial term is -log D(x, G(x, z)), the combined one eq. (4)."""
    if D is None:
        return mse_loss(fake, real) if loss == "l2" else l1_loss(fake, real)
    adversarial = softplus(-D(torch.cat([past, fake], dim=1))).mean()
    return adversarial + weight * l1_loss(fake, real) if loss == "l1+gan" else adversarial


def best_constant(pixels: Tensor, loss: Literal["l1", "l2"]) -> float:
    """The prediction c that gradient descent finds for pixels (N,) under one loss, with steps that shrink."""
    c = torch.full((), 0.3, requires_grad=True)
    for step in range(1, 301):
        value = (l1_loss if loss == "l1" else mse_loss)(c.expand_as(pixels), pixels)
        (slope,) = torch.autograd.grad(value, c)
        c = (c - slope / step**0.75).detach().requires_grad_()
    return c.item()


def brightness(predicted: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Brightness of the left and of the right ball in predictions (N, SIZE²), 1 for a whole ball: (N, 2)."""
    peg = torch.minimum(left, right)
    balls = torch.stack([left - peg, right - peg], dim=1)  # (N, 2, SIZE²)
    return ((balls * predicted[:, None]).sum(dim=2) / balls.square().sum(dim=2)).clamp(min=0)


def commitment(sides: Tensor) -> float:
    """Brighter ball over both, mean over predictions with brightness (N, 2): 0.5 undecided, 1 decided."""
    return (sides.amax(dim=1) / sides.sum(dim=1).clamp(min=1e-6)).mean().item()


def rarer_side(sides: Tensor) -> float:
    """Share of the side drawn less often, over the noise of one past, mean over pasts: 0.5 when both come alike."""
    share = (sides[:, 0] > sides[:, 1]).double().view(-1, DRAWS).mean(dim=1)  # (P,)
    return torch.minimum(share, 1 - share).mean().item()


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng, dice = (torch.Generator().manual_seed(2 * params.seed + odd) for odd in (0, 1))  # training; evaluation
    pegs = torch.tensor(PEGS)
    G = {loss: perceptron([2 * SIZE**2 + NOISE, WIDTH, WIDTH, SIZE**2], LEAKY, rng) for loss in LOSSES}
    D = {loss: perceptron([3 * SIZE**2, WIDTH, WIDTH, 1], LEAKY, rng) for loss in LOSSES if "gan" in loss}
    adam_g, adam_d = (
        {loss: torch.optim.Adam(net.parameters(), betas=(0.5, 0.99), fused=True) for loss, net in nets.items()}
        for nets in (G, D)
    )

    def predict(loss: str, past: Tensor, dice: torch.Generator) -> Tensor:
        z = torch.randn(len(past), NOISE, generator=dice) * params.noise  # (N, NOISE)
        return G[loss](torch.cat([past, z], dim=1))  # (N, SIZE²)

    past, left, right = fall(pegs.repeat_interleave(DRAWS))  # every past there is, DRAWS times: N rows
    at, curves = list[int](), {loss: list[float]() for loss in LOSSES}
    for step in range(1, params.steps + 1):
        seen, to_left, to_right = fall(pegs[torch.randint(len(pegs), (BATCH,), generator=rng)])
        goes_left = torch.rand(BATCH, 1, generator=rng) < params.p_left
        real = torch.where(goes_left, to_left, to_right)  # (B, SIZE²): nothing in `seen` tells which
        for loss in LOSSES:
            fake = predict(loss, seen, rng)
            if loss in D:
                descend(adam_d[loss], discriminator_loss(D[loss], seen, real, fake.detach()))
            descend(adam_g[loss], generator_loss(loss, D.get(loss), params.weight, seen, real, fake))
        if step % 40 == 0:
            at.append(step)
            with torch.no_grad():
                for loss in LOSSES:
                    curves[loss].append(commitment(brightness(predict(loss, past, dice), left, right)))
            tick(step / params.steps, f"step {step}", **{loss: curve[-1] for loss, curve in curves.items()})

    with torch.no_grad():
        drawn = {loss: predict(loss, past, dice) for loss in LOSSES}  # (N, SIZE²) each
    sides = {loss: brightness(x, left, right) for loss, x in drawn.items()}
    committed = {loss: commitment(of) for loss, of in sides.items()}
    rarer = {loss: rarer_side(of) for loss, of in sides.items()}
    to_nearer = {loss: torch.minimum((x - left).abs().mean(dim=1), (x - right).abs().mean(dim=1)).mean().item()
                 for loss, x in drawn.items()}  # fmt: skip
    mean_frame = params.p_left * left + (1 - params.p_left) * right
    off_mean = (drawn["l2"] - mean_frame).abs().mean().item()

    pixel = (torch.arange(100) < 100 * ODDS).float()  # (100,): 60 white, 40 black
    off_median = abs(best_constant(pixel, "l1") - pixel.median().item())
    off_average = abs(best_constant(pixel, "l2") - pixel.mean().item())
    shares = [0.1, 0.2, 0.3, 0.4, 0.45, 0.55, 0.6, 0.7, 0.8, 0.9]
    pixels = [(torch.arange(100) < 100 * share).float() for share in shares]
    constant, white = torch.linspace(0, 1, 41), params.p_left  # of a pixel of the left ball

    chosen = LOSSES if params.loss == "all" else (params.loss,)
    films = torch.stack([past[:8, : SIZE**2], past[:8, SIZE**2 :], *(drawn[loss][:8] for loss in chosen)])
    every = torch.stack([past[::DRAWS, SIZE**2 :], left[::DRAWS], right[::DRAWS], *(drawn[k][::DRAWS] for k in LOSSES)])
    return Result(
        metrics=[
            *([] if params.loss == "all" else [Metric("commitment", committed[params.loss])]),
            *(Metric(f"commitment of {loss}", committed[loss]) for loss in LOSSES),
            *(Metric(f"rarer side of {loss}", rarer[loss]) for loss in LOSSES),
        ],
        claims=[
            Claim("L2 predicts the mean of the two futures: mean difference a pixel", off_mean, "<=", 0.03),
            Claim("So it commits to neither: brighter ball over both", committed["l2"], "<=", 0.65),
            Claim("The GAN commits to one future: brighter ball over both", committed["gan"], ">=", 0.8),
            Claim("It draws both futures of a past: share of the rarer side", rarer["gan"], ">=", 0.15),
            Claim(
                "L1 beside it steadies the picture: distance to the nearer future over that of the GAN alone",
                to_nearer["l1+gan"] / to_nearer["gan"], "<=", 0.6,
            ),
            Claim("But L1 costs the choice: share of the rarer side", rarer["l1+gan"], "<=", 0.2),
            Claim("A pixel white in 60 of 100 pictures, L1: best constant minus the median", off_median, "<=", 0.02),
            Claim("The same pixel, L2: best constant minus the mean", off_average, "<=", 0.02),
        ],
        figures=[
            Images(
                "One past, eight draws of z", films.clamp(0, 1).view(len(films), 8, SIZE, SIZE).numpy().tolist(),
                row_labels=["past", "past", *chosen],
            ),
            Images(
                "Every past, its two futures and one prediction of each loss",
                every.clamp(0, 1).view(len(every), len(PEGS), SIZE, SIZE).numpy().tolist(),
                row_labels=["past", "left", "right", *LOSSES],
            ),
            Bars(
                "Decided, and varied?", x="loss", y="share", labels=LOSSES,
                series={"brighter ball over both": [*committed.values()], "rarer side": [*rarer.values()]},
            ),
            Lines("Brighter ball over both, in training", x="training step", y="share", at=at, series=curves),
            Lines(
                f"Expected loss of a constant for a pixel that is white with probability {white:g}",
                x="constant", y="loss", at=constant.numpy().tolist(),
                series={"L1": (white * (1 - constant) + (1 - white) * constant).numpy().tolist(),
                        "L2": (white * (1 - constant).square() + (1 - white) * constant.square()).numpy().tolist()},
            ),
            Lines(
                "Best constant, found by descent", x="share of white", y="prediction", at=shares,
                series={"L1: the median jumps": [best_constant(x, "l1") for x in pixels],
                        "L2: the mean": [best_constant(x, "l2") for x in pixels]},
            ),
        ],
    )  # fmt: skip
