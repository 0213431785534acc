"""Two ways to know a digit: p(x, y) and p(y | x).

Question: What can a model that learned p(x | y) do that a classifier which learned only p(y | x) cannot, and what does
    it cost in accuracy?
Source: Ng, Jordan 2001, "On discriminative vs. generative classifiers" (NIPS 14), §2, with Gaussian mixtures in the
    place of naive Bayes; mixtures: Bishop 2006, eq. (9.14); softmax regression: eq. (4.104), (4.108).
Watch: Only p(x, y) draws digits and calls noise unlikely; p(y | x) is sure of images that are no digits. The price: to
    know more it must fit more numbers, so with few labels it is behind; with many the two meet.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from demos.contract import Bars, Claim, DemoParams, Images, Lines, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.digits import load_digits

CLASSES, PIXELS, TRAIN, STEPS = 10, 64, 1_400, 300
SIZES = (50, 100, 200, 400, 800)  # training sizes of the curve, below the chosen one
DRAWN, NOISE = 50, 1_000  # samples of each class, images of white noise


class Params(DemoParams):
    train_size: int = Field(1200, ge=50, le=TRAIN, description="Labelled digits used for training")
    components: int = Field(3, ge=1, le=8, description="Gaussian components per class")
    least_deviation: float = Field(0.1, ge=0.001, le=0.5, description="Least deviation of a pixel, black being 1")
    mode: Literal["compare", "generate", "classify"] = Field("compare", description="Which figure leads")
    seed: int = Field(0, ge=0, le=9999, description="Seed of data, weights and sampling")

    presets: ClassVar[Mapping[str, Preset]] = {
        "fifty labels": Preset(
            "Five digits of each class: too few for that many Gaussians, and samples copy them", {"train_size": 50}
        ),
        "one Gaussian": Preset(
            "Each class is one blurred mean digit, drawn well enough, told apart less well", {"components": 1}
        ),
        "spikes": Preset(
            "Pixels that never vary get nearly no deviation: one stray dot of ink outweighs the rest of a digit",
            {"least_deviation": 0.001, "train_size": 200},
        ),
    }


@dataclass(frozen=True, slots=True)
class Generative:
    """p(x | y) as a mixture of K Gaussians for each class, diagonal covariance, and p(y). Float64."""

    log_prior: Tensor  # (10,): log p(y)
    logits: Tensor  # (10, K): of the weights pi
    mu: Tensor  # (10, K, 64)
    s: Tensor  # (10, K, 64): sigma² = least² + exp(s)
    least: float

    @property
    def var(self) -> Tensor:
        return self.least**2 + self.s.exp()

    def log_likelihood(self, x: Tensor) -> Tensor:
        """log p(x | y) = log Σ_k π_yk N(x; μ_yk, σ²_yk), Bishop (9.14). x (N, 64) -> (N, 10), in nats."""
        mu, var = self.mu.flatten(0, 1), self.var.flatten(0, 1)  # (10 K, 64) each
        square = x.square() @ (1 / var).T - 2 * x @ (mu / var).T + (mu.square() / var).sum(dim=1)  # (N, 10 K)
        log_normal = -0.5 * (square + (2 * math.pi * var).log().sum(dim=1))  # (N, 10 K)
        return (self.logits.log_softmax(dim=1) + log_normal.view(-1, *self.logits.shape)).logsumexp(dim=2)

    def log_joint(self, x: Tensor) -> Tensor:
        """log p(x, y) for every class: (N, 64) -> (N, 10). Its softmax is Bayes' rule, its logsumexp log p(x)."""
        return self.log_prior + self.log_likelihood(x)

    def draw(self, y: Tensor, rng: torch.Generator) -> Tensor:
        """One x ~ p(x | y) for each class in y (N,): first a component, then its Gaussian; (N, 64)."""
        k = torch.multinomial(self.logits.softmax(dim=1)[y], 1, generator=rng)[:, 0]  # (N,)
        noise = torch.randn(len(y), PIXELS, generator=rng, dtype=self.mu.dtype)
        return self.mu[y, k] + self.var[y, k].sqrt() * noise


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Take one step down the gradient of the loss."""
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()


def fit_generative(x: Tensor, y: Tensor, components: int, least: float, rng: torch.Generator) -> Generative:
    """Ascend the mean of log p(x, y) over x (N, 64), y (N,); each component starts at a digit of its class."""
    members = [x[y == label] for label in range(CLASSES)]
    mu = torch.stack([m[torch.randint(len(m), (components,), generator=rng)] for m in members])  # (10, K, 64)
    s = torch.full_like(mu, 2 * math.log(0.3))  # wide at first, or the first component to fit takes all
    logits = mu.new_zeros(CLASSES, components)
    prior = y.bincount(minlength=CLASSES).to(x.dtype) / len(y)  # the maximum in closed form
    weights = [weight.requires_grad_() for weight in (logits, mu, s)]
    model = Generative(prior.log(), logits, mu, s, least)
    adam = torch.optim.Adam(weights, lr=0.05)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(adam, STEPS)
    for _ in range(STEPS):
        descend(adam, -model.log_joint(x).gather(1, y[:, None]).mean())
        rate.step()
    return Generative(prior.log(), logits.detach(), mu.detach(), s.detach(), least)


def fit_discriminative(x: Tensor, y: Tensor) -> nn.Linear:
    """Softmax regression: ascend Σ log p(y | x) - |W|² / 2, the weight decay that scikit-learn has by default."""
    model = nn.Linear(PIXELS, CLASSES, dtype=x.dtype)
    for weight in model.parameters():
        nn.init.zeros_(weight)  # the loss is convex: any start leads to the same place
    adam = torch.optim.Adam(model.parameters(), lr=0.2, betas=(0.9, 0.9))  # 0.999 remembers the first slopes too long
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(adam, STEPS)
    for _ in range(STEPS):
        loss = nn.functional.cross_entropy(model(x), y) + model.weight.square().sum() / (2 * len(x))
        descend(adam, loss)
        rate.step()
    return model.requires_grad_(False)


def balanced_order(labels: Tensor, rng: torch.Generator) -> Tensor:
    """All indices (N,) in random order, but the classes taking turns, so that a few digits hold every class."""
    order = torch.randperm(len(labels), generator=rng)
    turn = nn.functional.one_hot(labels[order]).cumsum(dim=0).gather(1, labels[order, None])[:, 0]  # (N,)
    return order[turn.argsort(stable=True)]


def right(scores: Tensor, y: Tensor) -> float:
    """Share of rows of scores (N, 10) that are largest at y (N,)."""
    return (scores.argmax(dim=1) == y).double().mean().item()


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng, dice = (torch.Generator().manual_seed(2 * params.seed + odd) for odd in (0, 1))  # training; evaluation
    images, labels = load_digits()
    images = images.flatten(1).double()  # (1797, 64)
    order = torch.randperm(len(images), generator=rng)
    test, pool = order[TRAIN:], order[:TRAIN]
    pool = pool[balanced_order(labels[pool], rng)]
    x, y = images[test], labels[test]  # (397, 64), (397,): never trained on

    sizes = [*(size for size in SIZES if size < params.train_size), params.train_size]
    curves: dict[str, list[float]] = {"p(x, y)": [], "p(y | x)": []}
    fits: list[tuple[Generative, nn.Linear]] = []
    for done, size in enumerate(sizes, start=1):
        few = pool[:size]
        generative = fit_generative(images[few], labels[few], params.components, params.least_deviation, rng)
        classifier = fit_discriminative(images[few], labels[few])
        fits.append((generative, classifier))
        curves["p(x, y)"].append(right(generative.log_joint(x), y))
        curves["p(y | x)"].append(right(classifier(x), y))
        tick(done / len(sizes), f"{size} digits", **{name: curve[-1] for name, curve in curves.items()})

    generative, classifier = fits[-1]
    asked = torch.arange(CLASSES).repeat_interleave(DRAWN)  # (500,)
    drawn = generative.draw(asked, dice)  # (500, 64)
    noise = torch.randint(2, (NOISE, PIXELS), generator=dice).to(x.dtype)  # (1000, 64): each pixel black or white
    seen = images[pool[: params.train_size]]
    log_p = {  # log p(x) = log Σ_y p(x, y), nats an image
        name: generative.log_joint(some).logsumexp(dim=1)
        for name, some in {"training digits": seen, "test digits": x, "samples": drawn, "noise": noise}.items()
    }
    sure = {name: classifier(some).softmax(dim=1).amax(dim=1) for name, some in {"test": x, "noise": noise}.items()}
    over = (sure["noise"] > 0.9).double().mean().item()
    parts = Independent(Normal(generative.mu, generative.var.sqrt()), 1)
    mixture: Any = MixtureSameFamily(Categorical(logits=generative.logits), parts)
    reference: Tensor = mixture.log_prob(x[:, None])  # (397, 10)
    gap = ((generative.log_likelihood(x) - reference) / reference).abs().max().item()

    edges = torch.linspace(0, 1, 11, dtype=x.dtype)  # (11,)
    bins = {name: torch.histogram(p, edges).hist / len(p) for name, p in sure.items()}
    templates = classifier.weight / (2 * classifier.weight.abs().max()) + 0.5  # (10, 64): grey is no evidence
    figures = [
        ("compare", Lines(
            "Test accuracy by training size", x="labelled digits", y="share right", at=sizes, series=curves, log="x"
        )),
        ("generate", Images(
            "Digits drawn from p(x | y), a row for each class",
            drawn.view(CLASSES, DRAWN, 8, 8)[:, :10].clamp(0, 1).numpy().tolist(),
            row_labels=[str(label) for label in range(CLASSES)],
        )),
        ("classify", Bars(
            "How sure p(y | x) is", x="largest p(y | x)", y="share of images",
            labels=[f"{low:.1f} to {low + 0.1:.1f}" for low in edges[:-1].numpy().tolist()],
            series={"test digits": bins["test"].numpy().tolist(), "white noise": bins["noise"].numpy().tolist()},
        )),
        ("classify", Images(
            "All that p(y | x) knows of x: its weights, bright for and dark against the class",
            [templates.view(CLASSES, 8, 8).numpy().tolist()], column_labels=[str(label) for label in range(CLASSES)],
        )),
    ]  # fmt: skip
    return Result(
        metrics=[
            Metric("log_likelihood", log_p["test digits"].mean().item(), "nats/image"),
            Metric("accuracy, p(x, y)", curves["p(x, y)"][-1]),
            Metric("accuracy, p(y | x)", curves["p(y | x)"][-1]),
            Metric("noise images of which p(y | x) is over 0.9 sure", over),
        ],
        claims=[
            Claim(
                "Digits drawn for class y are recognised as y by the classifier, which never met the generative model",
                right(classifier(drawn), asked), ">=", 0.85,
            ),
            Claim("Bayes' rule on p(x | y) p(y) classifies test digits", curves["p(x, y)"][-1], ">=", 0.9),
            Claim(
                "With all labels it costs little accuracy: that of p(x, y) minus that of p(y | x)",
                curves["p(x, y)"][-1] - curves["p(y | x)"][-1], ">=", -0.02,
            ),
            Claim(
                "Every test digit is likelier than every noise image: smallest difference of log p(x) in nats",
                (log_p["test digits"].min() - log_p["noise"].max()).item(), ">", 0,
            ),
            Claim("The classifier is over 0.9 sure of noise images: share", over, ">=", 0.05),
            Claim("log p(x | y) is that of torch.distributions: largest relative difference", gap, "<=", 1e-9),
        ],
        figures=[figure for _, figure in sorted(figures, key=lambda of: of[0] != params.mode)],
        tables=[
            Table(
                "log p(x) in nats an image", ["images", "lowest", "mean", "highest"],
                [[name, p.min().item(), p.mean().item(), p.max().item()] for name, p in log_p.items()],
            )
        ],
    )  # fmt: skip
