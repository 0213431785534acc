"""Walking through latent space

Question: Why does the straight line between two codes of a VAE give digits, and the line between two images not?
Source: Kingma, Welling 2013, arXiv:1312.6114, eq. (3), eq. (10) and appendix B; White 2016, arXiv:1609.04468, §2.1
  (spherical interpolation, after Shoemake 1985).
Watch: half-way between two digits the decoder draws what is nearer to real ones, and more of one class, than the
  cross-fade, which shows both at once. The plain autoencoder copies better, but its midpoints are no more of one class
  than a cross-fade's, and N(0, I) falls where nothing was trained.
"""

from collections.abc import Callable, Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from demos.contract import Claim, DemoParams, Images, Lines, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.digits import load_digits

D, LATENT, HIDDEN, BATCH, TRAIN = 64, 8, 256, 128, 1_400
SIGMA = 0.25  # deviation of the decoder's Gaussian p(x | z), in units of black
PAIRS, FINE, DRAWS, NEIGHBOURS = 200, 21, 500, 10  # paths measured, points on each; prior draws; real digits that judge

Path = Callable[[Tensor, Tensor, Tensor], Tensor]


class Params(DemoParams):
    method: Literal["lerp", "slerp", "pixel"] = Field("lerp", description="Line in z, great circle in z, line in x")
    steps_between: int = Field(9, ge=3, le=21, description="Points on the paths that are drawn")
    model: Literal["vae", "autoencoder"] = Field("vae", description="Model whose space is walked")
    train_steps: int = Field(700, ge=100, le=3000, description="Training steps of each model")
    seed: int = Field(0, ge=0, le=9999, description="Seed of data, weights and sampling")

    presets: ClassVar[Mapping[str, Preset]] = {
        "cross-fade": Preset("The line between the images: half-way both digits show through", {"method": "pixel"}),
        "great circle": Preset("Slerp: the code keeps its length instead of cutting the corner", {"method": "slerp"}),
        "autoencoder": Preset("No KL, no noise: half-way between two digits is neither", {"model": "autoencoder"}),
    }  # fmt: skip


class Coder(nn.Module):
    """Encoder 64 -> d means and d log-variances, decoder d -> 64; an autoencoder uses the means alone."""

    def __init__(self, rng: torch.Generator) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(D, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 2 * LATENT))
        self.decoder = nn.Sequential(nn.Linear(LATENT, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, D), nn.Sigmoid())
        for weight in self.parameters():
            nn.init.zeros_(weight) if weight.dim() == 1 else nn.init.kaiming_uniform_(weight, a=5**0.5, generator=rng)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of q(z | x): (B, 64) -> (B, d) each."""
        mu, logvar = self.encoder(x).chunk(2, dim=1)
        return mu, logvar

    def decode(self, z: Tensor) -> Tensor:
        """Mean of p(x | z): (…, d) -> (…, 64)."""
        return self.decoder(z)


def vae_loss(model: Coder, x: Tensor, rng: torch.Generator) -> Tensor:
    """Negative ELBO (eq. 3) in nats an image, without a constant."""
    mu, logvar = model.encode(x)
    z = mu + (0.5 * logvar).exp() * torch.randn(mu.shape, generator=rng)  # (B, d), eq. (10)
    kl = -0.5 * (1 + logvar - mu.square() - logvar.exp()).sum(dim=1)  # (B,), appendix B
    return ((x - model.decode(z)).square().sum(dim=1) / (2 * SIGMA**2) + kl).mean()


def autoencoder_loss(model: Coder, x: Tensor) -> Tensor:
    """The first term alone, and no noise on the code."""
    return ((x - model.decode(model.encode(x)[0])).square().sum(dim=1) / (2 * SIGMA**2)).mean()


def lerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """The straight line: a, b (N, d), t (T,) -> (N, T, d)."""
    return a[:, None] + t[:, None] * (b - a)[:, None]


def slerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """[sin((1 − t)θ) a + sin(tθ) b] / sin θ with θ the angle between a and b: (N, d), (N, d), (T,) -> (N, T, d)."""
    theta = nn.functional.cosine_similarity(a, b, dim=1).clamp(-1 + 1e-7, 1 - 1e-7).acos()[:, None]  # (N, 1)
    from_a, from_b = ((1 - t) * theta).sin() / theta.sin(), (t * theta).sin() / theta.sin()  # (N, T) each
    return from_a[..., None] * a[:, None] + from_b[..., None] * b[:, None]


def length(v: Tensor) -> Tensor:
    return v.square().sum(dim=-1).sqrt()  # (…, n) -> (…)


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()


def train(name: str, x: Tensor, params: Params, tick: Callable[[float, str, float], None]) -> Coder:
    """Train one of the two models on digits x (N, 64); both see the same batches."""
    rng = torch.Generator().manual_seed(2 * params.seed)
    model = Coder(rng)
    order = torch.Generator().manual_seed(2 * params.seed)  # of batches, so that the VAE's noise does not change them
    adam = torch.optim.Adam(model.parameters(), fused=True)
    rate = torch.optim.lr_scheduler.OneCycleLR(adam, max_lr=5e-3, total_steps=params.train_steps)
    for step in range(1, params.train_steps + 1):
        batch = x[torch.randint(len(x), (BATCH,), generator=order)]
        loss = vae_loss(model, batch, rng) if name == "vae" else autoencoder_loss(model, batch)
        descend(adam, loss)
        rate.step()
        if step % 20 == 0:
            tick(step / params.train_steps, f"{name}, step {step}", loss.item())
    return model


def judge(pictures: Tensor, real: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Distance (N,) of pictures (N, 64) to the nearest real digit, and how far their ten nearest agree on a class.

    The agreement (N,) is the share of the commonest class, 0.1 to 1.
    """
    distance, nearest = torch.cdist(pictures, real).topk(NEIGHBOURS, largest=False)  # (N, 10) each, nearest first
    votes = nn.functional.one_hot(labels[nearest], 10).sum(dim=1)  # (N, 10)
    return distance[:, 0], votes.amax(dim=1) / NEIGHBOURS


def pairs_of_digits(labels: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Places of PAIRS pairs of digits of different classes, (PAIRS,) each; the first has another class for each row."""
    first, second = torch.randint(len(labels), (2, 4 * PAIRS), generator=rng)
    apart = (labels[first] != labels[second]).nonzero()[:PAIRS, 0]
    return first[apart], second[apart]


@torch.no_grad()
def walk(model: Coder, a: Tensor, b: Tensor, t: Tensor, path: Path) -> Tensor:
    """Decoded path between the codes of a and b (N, 64): (N, T, 64)."""
    return model.decode(path(model.encode(a)[0], model.encode(b)[0], t))


def run(params: Params, tick: Tick = no_tick) -> Result:
    dice = torch.Generator().manual_seed(2 * params.seed + 1)
    images, labels = load_digits()
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(params.seed))
    real, real_labels = images[order[:TRAIN]].flatten(1), labels[order[:TRAIN]]  # (1400, 64), (1400,)
    x, y = (
        images[order[TRAIN:]].flatten(1),
        labels[order[TRAIN:]],
    )  # (397, 64), (397,): ends of the paths, never trained on
    names = ("vae", "autoencoder")
    coders = {
        name: train(name, real, params, lambda f, message, loss, n=n: tick((n + f) / 2, message, loss=loss))
        for n, name in enumerate(names)
    }
    first, second = pairs_of_digits(y, dice)
    a, b, t = x[first], x[second], torch.linspace(0, 1, FINE)
    model, path = coders[params.model], slerp if params.method == "slerp" else lerp
    fade = lerp(a, b, t)  # (200, 21, 64): the line between the images
    walked = fade if params.method == "pixel" else walk(model, a, b, t, path)  # (200, 21, 64)
    with torch.no_grad():
        ends_a, ends_b = model.encode(a)[0], model.encode(b)[0]  # (200, d) each
        draws = torch.randn(DRAWS, LATENT, generator=dice)
        prior = {name: judge(coder.decode(draws), real, real_labels) for name, coder in coders.items()}
        copies = {name: (x - coder.decode(coder.encode(x)[0])).square().mean().item() for name, coder in coders.items()}
        samples = torch.stack([coders[name].decode(draws[:10]) for name in names])  # (2, 10, 64)
        codes = {name: coder.encode(x)[0] for name, coder in coders.items()}  # (397, d) each

    middle, faded = judge(walked[:, FINE // 2], real, real_labels), judge(fade[:, FINE // 2], real, real_labels)
    nearer = middle[0].median().item() / faded[0].median().item()
    change = length(walked.diff(dim=1))  # (200, 20): how far the image moves in each step
    jump = (change.amax(dim=1) / change.median(dim=1).values).median().item()
    agreement = {name: prior[name][1].mean().item() for name in names}
    ways = {"lerp": lerp, "slerp": slerp}
    norm = {name: length(way(ends_a, ends_b, t)).mean(dim=0) for name, way in ways.items()}  # (21,) each
    short = {name: (norms[FINE // 2] / ((norms[0] + norms[-1]) / 2)).item() for name, norms in norm.items()}
    unit_a, unit_b = (nn.functional.normalize(torch.randn(100, LATENT, generator=dice).double()) for _ in range(2))
    arc = slerp(unit_a, unit_b, torch.linspace(0, 1, FINE, dtype=torch.float64))  # (100, 21, d)
    off_sphere = (length(arc) - 1).abs().max().item()
    speed = length(arc.diff(dim=1))  # (100, 20)
    uneven = (speed / speed.mean(dim=1, keepdim=True) - 1).abs().max().item()

    few = torch.linspace(0, 1, params.steps_between)
    shown = slice(0, 5)
    drawn = lerp(a[shown], b[shown], few) if params.method == "pixel" else walk(model, a[shown], b[shown], few, path)
    below = lerp(a[shown], b[shown], few)  # (5, T, 64)
    grid = torch.stack([drawn, below], dim=1).view(10, params.steps_between, 8, 8)
    classes = [labelled[shown].numpy().tolist() for labelled in (y[first], y[second])]
    rows = [f"{p} to {q}, {way}" for p, q in zip(*classes, strict=True) for way in ("path", "fade")]
    near = {"this run's path": walked, "cross-fade": fade}
    distances = {
        name: judge(points.flatten(0, 1), real, real_labels)[0].view(PAIRS, FINE).median(dim=0).values.numpy().tolist()
        for name, points in near.items()
    }
    at = t.numpy().tolist()
    return Result(
        metrics=[
            Metric("knn distance", middle[0].median().item(), "image norm"),
            Metric("knn distance of the cross-fade", faded[0].median().item(), "image norm"),
            Metric("agreement at midpoints", middle[1].mean().item()),
            Metric("agreement at midpoints of the cross-fade", faded[1].mean().item()),
            Metric("largest over median step", jump),
            *(Metric(f"reconstruction error, {name}", copies[name]) for name in names),
        ],
        figures=[
            Images(
                f"Paths ({params.method}, {params.model}) and cross-fades between digits never trained on",
                grid.numpy().tolist(), rows, [f"{value:.2g}" for value in few.numpy().tolist()],
            ),
            Lines("Distance to the nearest real digit, median over paths", "t", "norm", at, distances),
            Lines(
                "Image change in each step, mean over paths", "t", "norm", at[1:],
                {
                    "this run's path": change.mean(dim=0).numpy().tolist(),
                    "cross-fade": length(fade.diff(dim=1)).mean(dim=0).numpy().tolist(),
                },
            ),
            Lines(
                "Length of the code along the path", "t", "norm of z", at,
                {name: values.numpy().tolist() for name, values in norm.items()},
            ),
            Images("Decoded draws from N(0, I)", samples.view(2, 10, 8, 8).numpy().tolist(), names),
        ],
        tables=[
            Table(
                "The two spaces",
                ["model", "reconstruction error", "deviation of codes", "agreement on draws", "distance to a digit"],
                [
                    [n, copies[n], codes[n].std(dim=0).mean().item(), agreement[n], prior[n][0].median().item()]
                    for n in names
                ],
            )
        ],
        claims=[
            Claim("Midpoints are nearer to real digits than the cross-fade's: ratio of medians", nearer, "<=", 0.94),
            Claim(
                "Their ten nearest real digits agree more on a class: gain over the cross-fade",
                middle[1].mean().item() - faded[1].mean().item(), ">=", 0.05,
            ),
            Claim("Small moves in z make small moves in x: largest step of a path over its median", jump, "<=", 2.5),
            Claim(
                "N(0, I) has holes for the plain autoencoder: agreement on the digit, VAE less autoencoder",
                agreement["vae"] - agreement["autoencoder"], ">=", 0.05,
            ),
            Claim("The line cuts the corner: length half-way over that of the ends", short["lerp"], "<=", 0.85),
            Claim("The great circle does not: length half-way over that of the ends", short["slerp"], ">=", 0.95),
            Claim("Slerp stays on the unit sphere: largest distance", off_sphere, "<=", 1e-6),
            Claim("Slerp has constant speed: largest deviation", uneven, "<=", 1e-6),
        ],
    )  # fmt: skip
