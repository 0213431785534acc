"""How narrow can the bottleneck be?

Question: How many numbers does a digit need, and are those numbers good features?
Source: Hinton, Salakhutdinov 2006, Science 313 (narrow codes against PCA, the map in the plane); Baldi, Hornik 1989,
  Neural Networks 2 (a linear autoencoder finds the PCA subspace); Kingma, Welling 2013, arXiv:1312.6114, eq. (3).
Watch: the error falls fast up to about eight numbers. A narrow curved code keeps more than PCA's flat one of the same
  size, and a linear probe reads the class from it with few labels. At 32 PCA overtakes: not width but the noise
  in its code limits the VAE. A linear autoencoder is PCA and no better.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from demos.contract import Claim, DemoParams, Images, Lines, Metric, Preset, Result, Scatter, Table, Tick, no_tick
from demos.shared.digits import load_digits

D, HIDDEN, BATCH, TRAIN = 64, 128, 128, 1_400
STEPS, LINEAR_STEPS = 500, 1_000  # training steps of one VAE and of one linear autoencoder
SIZES = (1, 2, 4, 8, 16, 32)  # numbers in the code
SIGMA = 0.1  # deviation of the VAE's Gaussian p(x | z), in units of black: small, so that the code is what limits it
LINEAR = 4  # code size at which the linear autoencoder is compared with PCA
DRAWS = 3  # sets of labelled digits over which the probe's accuracy is averaged


class Params(DemoParams):
    latent_dims: int = Field(8, ge=1, le=32, description="Code size that is looked at closely, beside 1, 2, 4 … 32")
    labels: int = Field(100, ge=20, le=1000, description="Labelled digits for the probe")
    kind: Literal["vae", "linear"] = Field("vae", description="Autoencoder whose codes are used")
    seed: int = Field(0, ge=0, le=9999, description="Seed of data, weights and sampling")

    presets: ClassVar[Mapping[str, Preset]] = {
        "plane": Preset("Two numbers: a map of the digits, and too little to tell all classes", {"latent_dims": 2}),
        "linear": Preset("Without its nonlinearities the autoencoder is PCA: nothing gained", {"kind": "linear"}),
        "few labels": Preset("Two labelled digits a class: good codes do not replace labels", {"labels": 20}),
    }


@dataclass(frozen=True, slots=True)
class PCA:
    """Principal axes U (D, D), columns by falling variance, and the mean (D,)."""

    mean: Tensor
    U: Tensor

    def encode(self, x: Tensor, d: int) -> Tensor:
        return (x - self.mean) @ self.U[:, :d]  # (N, d)

    def decode(self, z: Tensor) -> Tensor:
        return self.mean + z @ self.U[:, : z.shape[1]].T  # (N, D)


class Autoencoder(nn.Module):
    """Encoder D -> d means (and log-variances, for the VAE), decoder d -> D.

    The linear one leaves out all that bends and, as PCA does, works on digits less their mean (D,).
    """

    def __init__(self, d: int, kind: str, mean: Tensor, rng: torch.Generator) -> None:
        super().__init__()
        self.centre = mean if kind == "linear" else torch.zeros(D)
        if kind == "linear":
            self.encoder: nn.Module = nn.Linear(D, d, bias=False)
            self.decoder: nn.Module = nn.Linear(d, D, bias=False)
        else:
            self.encoder = nn.Sequential(nn.Linear(D, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 2 * d))
            self.decoder = nn.Sequential(nn.Linear(d, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, D), nn.Sigmoid())
        self.d = d
        for weight in self.parameters():
            nn.init.zeros_(weight) if weight.dim() == 1 else nn.init.kaiming_uniform_(weight, a=5**0.5, generator=rng)

    def encode(self, x: Tensor) -> Tensor:
        """The code: the mean of q(z | x) for the VAE, (B, D) -> (B, d)."""
        return self.encoder(x - self.centre)[:, : self.d]

    def decode(self, z: Tensor) -> Tensor:
        """(B, d) -> (B, D)."""
        return self.decoder(z) + self.centre

    def loss(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """Squared error an image; for the VAE the negative ELBO, eq. (3), in nats an image without a constant."""
        code = self.encoder(x - self.centre)  # (B, d) or (B, 2d)
        if code.shape[1] == self.d:
            return (x - self.decode(code)).square().sum(dim=1).mean()
        mu, logvar = code.chunk(2, dim=1)  # (B, d) each
        z = mu + (0.5 * logvar).exp() * torch.randn(mu.shape, generator=rng)  # (B, d)
        kl = -0.5 * (1 + logvar - mu.square() - logvar.exp()).sum(dim=1)  # (B,)
        return ((x - self.decode(z)).square().sum(dim=1) / (2 * SIGMA**2) + kl).mean()


def fit_pca(x: Tensor) -> PCA:
    """Eigenvectors of the covariance of x (N, D)."""
    mean = x.mean(dim=0)
    _, vectors = np.linalg.eigh((x - mean).T.cov(correction=0).double().numpy())  # (D, D), variance rising
    return PCA(mean, torch.tensor(vectors[:, ::-1].copy()).float())


def largest_angle(a: Tensor, b: Tensor) -> float:
    """Largest principal angle in degrees between the spaces that the columns of a, b (D, d) span."""
    q, p = (np.linalg.qr(m.double().numpy())[0] for m in (a, b))  # (D, d) each, orthonormal
    cosine = np.linalg.svd(q.T @ p, compute_uv=False).min()
    return float(np.degrees(np.arccos(min(cosine, 1.0))))


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()


def train(d: int, kind: str, x: Tensor, seed: int, tick: Callable[[float, str, float], None]) -> Autoencoder:
    """Train one autoencoder on digits x (N, D)."""
    rng = torch.Generator().manual_seed(2 * seed)
    model = Autoencoder(d, kind, x.mean(dim=0), rng)
    steps = LINEAR_STEPS if kind == "linear" else STEPS
    adam = torch.optim.Adam(model.parameters(), fused=True)
    rate = torch.optim.lr_scheduler.OneCycleLR(adam, max_lr=1e-2 if kind == "linear" else 8e-3, total_steps=steps)
    for step in range(1, steps + 1):
        loss = model.loss(x[torch.randint(len(x), (BATCH,), generator=rng)], rng)
        descend(adam, loss)
        rate.step()
        if step % 50 == 0:
            tick(step / steps, f"{kind}, {d} numbers, step {step}", loss.item())
    return model


def fit_probe(features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Logistic regression: weights (d, 10), biases (10,) that minimise Σ cross-entropy + ½ ‖weights‖², by L-BFGS."""
    W = torch.zeros(features.shape[1], 10, requires_grad=True)
    b = torch.zeros(10, requires_grad=True)
    optimizer = torch.optim.LBFGS([W, b], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> float:
        optimizer.zero_grad()
        loss = F.cross_entropy(features @ W + b, labels, reduction="sum") + 0.5 * W.square().sum()
        torch.autograd.backward(loss)
        return loss.item()

    optimizer.step(closure)  # pyright: ignore[reportUnknownMemberType]
    return W.detach(), b.detach()


def probe(train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], labels: int, seed: int) -> float:
    """Accuracy on test features (N, d), with classes (N,), of probes that saw `labels` of the training digits."""
    dice = torch.Generator().manual_seed(2 * seed + 1)  # the same digits for all features
    (known, y), (unknown, truth) = train, test
    mean, std = known.mean(dim=0), known.std(dim=0).clamp(min=1e-3)  # needs no labels, so all digits give it
    right = list[float]()
    for _ in range(DRAWS):
        chosen = torch.randperm(len(known), generator=dice)[:labels]
        W, b = fit_probe((known[chosen] - mean) / std, y[chosen])
        right.append((((unknown - mean) / std @ W + b).argmax(dim=1) == truth).double().mean().item())
    return sum(right) / DRAWS


def map_of_digits(title: str, z: Tensor, y: Tensor) -> Scatter:
    """Codes z (N, 2), one series for each class."""
    return Scatter(title, "z0", "z1", {str(digit): z[y == digit].numpy().tolist() for digit in range(10)})


def run(params: Params, tick: Tick = no_tick) -> Result:
    images, labels = load_digits()
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(params.seed))
    x, y = images[order[:TRAIN]].flatten(1), labels[order[:TRAIN]]  # (1400, 64), (1400,)
    x_test, y_test = images[order[TRAIN:]].flatten(1), labels[order[TRAIN:]]  # (397, 64), (397,): never trained on
    pca = fit_pca(x)
    sizes = sorted({*SIZES, params.latent_dims})
    jobs = [(LINEAR, "linear"), *((d, params.kind) for d in sizes)]
    models = [
        train(d, kind, x, params.seed, lambda f, message, loss, n=n: tick((n + f) / len(jobs), message, loss=loss))
        for n, (d, kind) in enumerate(jobs)
    ]
    linear, coders = models[0], dict(zip(sizes, models[1:], strict=True))

    with torch.no_grad():
        copies = {d: coder.decode(coder.encode(x_test)) for d, coder in coders.items()}  # (397, 64) each
        codes = {d: (coder.encode(x), coder.encode(x_test)) for d, coder in coders.items()}
        linear_mse = (x - linear.decode(linear.encode(x))).square().mean().item()
        angle = largest_angle(next(linear.decoder.parameters()).detach(), pca.U[:, :LINEAR])
    flat = {d: pca.decode(pca.encode(x_test, d)) for d in sizes}  # (397, 64) each
    error = {d: (x_test - copies[d]).square().mean().item() for d in sizes}
    error_pca = {d: (x_test - flat[d]).square().mean().item() for d in sizes}
    pca_mse = (x - pca.decode(pca.encode(x, LINEAR))).square().mean().item()
    variance = (x_test - pca.mean).square().mean().item()

    def accuracy(known: Tensor, unknown: Tensor) -> float:
        return probe((known, y), (unknown, y_test), params.labels, params.seed)

    read = {d: accuracy(*codes[d]) for d in sizes}
    read_pca = {d: accuracy(pca.encode(x, d), pca.encode(x_test, d)) for d in sizes}
    read_pixels = accuracy(x, x_test)
    chosen = params.latent_dims
    shown = torch.stack([(y_test == digit).nonzero()[0, 0] for digit in range(10)])  # (10,): one of each class
    grid = torch.stack([x_test[shown], copies[chosen][shown], flat[chosen][shown].clamp(0, 1)]).view(3, 10, 8, 8)
    name = "VAE" if params.kind == "vae" else "linear autoencoder"
    maps = [
        map_of_digits(f"Digits never trained on in two numbers, {name}", codes[2][1], y_test),
        map_of_digits("The same digits on the first two principal axes", pca.encode(x_test, 2), y_test),
    ]
    figures = [
        Lines(
            "Reconstruction error on digits never trained on", "numbers in the code", "share of the variance", sizes,
            {name: [error[d] / variance for d in sizes], "PCA": [error_pca[d] / variance for d in sizes]}, log="x",
        ),
        Images(
            f"Through {chosen} numbers and back", grid.clamp(0, 1).numpy().tolist(), ["digit", name, "PCA"]
        ),
        *maps,
        Lines(
            f"A linear probe with {params.labels} labels", "numbers in the code", "accuracy", sizes,
            {
                f"{name} codes": [read[d] for d in sizes], "PCA": [read_pca[d] for d in sizes],
                "all 64 pixels": [read_pixels] * len(sizes),
            },
            log="x",
        ),
    ]  # fmt: skip
    return Result(
        metrics=[
            Metric("reconstruction error at your size", error[chosen] / variance, "of the variance"),
            Metric("reconstruction error of PCA at your size", error_pca[chosen] / variance, "of the variance"),
            Metric("probe accuracy at your size", read[chosen]),
            Metric("probe accuracy of PCA at your size", read_pca[chosen]),
            Metric("probe accuracy on pixels", read_pixels),
        ],
        figures=[*maps, *figures[:2], figures[-1]] if chosen == 2 else figures,
        tables=[
            Table(
                f"Error and accuracy of a probe with {params.labels} labels",
                ["numbers", f"error, {name}", "error, PCA", f"probe, {name}", "probe, PCA", "probe, pixels"],
                [[d, error[d] / variance, error_pca[d] / variance, read[d], read_pca[d], read_pixels] for d in sizes],
            )
        ],
        claims=[
            Claim("A linear autoencoder finds the PCA subspace: largest angle in degrees", angle, "<=", 5.0),
            Claim("and its error, on its own data: over PCA's", linear_mse / pca_mse, "<=", 1.02),
            Claim("which nothing flat goes below: over PCA's", linear_mse / pca_mse, ">=", 0.9999),
            Claim("A wider code copies better: 4 numbers over 1", error[4] / error[1], "<=", 0.7),
            Claim("A wider code copies better: 16 numbers over 4", error[16] / error[4], "<=", 0.7),
            Claim("Two curved numbers keep more than PCA's two: error over PCA's", error[2] / error_pca[2], "<=", 0.9),
            Claim("A probe with your labels reads the digit from your code: accuracy", read[chosen], ">=", 0.75),
        ],
    )  # fmt: skip
