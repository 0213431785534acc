"""Self-supervised pre-training of a ViT by filling in patches

Question: Can a ViT learn useful features without labels?
Source: He et al. 2021 (MAE), arXiv:2111.06377, §3 (masking, encoder of visible patches, decoder, loss on hidden ones).
Watch: half of the patches of a grainy digit are hidden; to paint them the network has to know what digits look like.
  Grain cannot be foreseen, so it is left out. A linear classifier then reads the digit from the features better than
  from those of random weights, and than from the pixels. Ask for the visible patches (preset) and it learns to copy.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import fold, one_hot, unfold
from torch.utils.flop_counter import FlopCounterMode

from demos.contract import Claim, DemoParams, Images, Lines, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.digits import load_digits
from demos.shared.transformer import Block, start, train

SIDE, PATCH, N, VALUES = 8, 2, 16, 4  # pixels of an image and of a patch; patches of an image; pixels of a patch
D, HEADS, D_DECODER = 96, 4, 32  # encoder and decoder have one block each
GRAIN, TRAINED, BATCH, RATE = 0.2, 1400, 64, 5e-3  # ink is 1; images without labels, the other 397 are the test
DRAWS, RIDGE = 5, 1.0  # sets of labelled images that an accuracy is the mean of; penalty of the probe, per image


class Params(DemoParams):
    mask_ratio: float = Field(0.5, ge=0.1, le=0.9, description="Share of patches that are hidden")
    epochs: int = Field(18, ge=1, le=100, description="Passes over 1,400 images without labels")
    labels: int = Field(100, ge=20, le=1000, description="Labelled images that the linear classifier learns from")
    target: Literal["hidden", "visible"] = Field("hidden", description="Patches whose pixels are asked for")
    seed: int = Field(0, ge=0, le=9999, description="Seed of grain, split, weights, masks and labelled images")

    presets: ClassVar[Mapping[str, Preset]] = {
        "copy": Preset("Asked for what it sees: copying needs no knowledge of digits", {"target": "visible"}),
        "hide nearly all": Preset("Two patches tell too little of the others", {"mask_ratio": 0.9}),
        "many labels": Preset("Where labels are plenty, random features do as well", {"labels": 1000}),
    }


class Data(NamedTuple):
    """Patches of grainy images and of the clean ones, (1797, N, VALUES) in about [-1, 1], and labels (1797,)."""

    patches: Tensor
    clean: Tensor
    labels: Tensor


def load(rng: torch.Generator) -> Data:
    """All digits in a random order; the grain of an image never changes."""
    images, labels = load_digits()
    order = torch.randperm(len(images), generator=rng)
    clean = images[order]
    grainy = clean + GRAIN * torch.randn(clean.shape, generator=rng)
    patches, clean = (unfold(2 * x - 0.6, PATCH, stride=PATCH).mT.contiguous() for x in (grainy, clean))  # mean: near 0
    return Data(patches, clean, labels[order])


def hide(n: int, ratio: float, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Numbers of visible patches (n, (1 − ratio) N) and of hidden ones (n, ratio N), at random in each image."""
    order = torch.rand(n, N, generator=rng).argsort(dim=1)
    kept = round((1 - ratio) * N)
    return order[:, :kept], order[:, kept:]


def take(x: Tensor, which: Tensor) -> Tensor:
    """Rows `which` (n, k) of each x (n, N, d): (n, k, d)."""
    return x.gather(1, which[..., None].expand(-1, -1, x.shape[2]))


class MAE(nn.Module):
    """An encoder of visible patches alone, and a light decoder that adds a mask token for each hidden one."""

    def __init__(self, rng: torch.Generator) -> None:
        super().__init__()
        self.project, self.cls, self.places = nn.Linear(VALUES, D), nn.Embedding(1, D), nn.Embedding(N + 1, D)
        self.encoder, self.norm = Block(D, HEADS), nn.LayerNorm(D)
        self.narrow, self.mask_token = nn.Linear(D, D_DECODER), nn.Embedding(1, D_DECODER)
        self.decoder_places = nn.Embedding(N + 1, D_DECODER)
        self.decoder, self.decoder_norm = Block(D_DECODER, HEADS), nn.LayerNorm(D_DECODER)
        self.pixels = nn.Linear(D_DECODER, VALUES)
        start(self, rng)
        for table in (self.places, self.decoder_places):  # as large as the tokens that they are added to
            nn.init.normal_(table.weight, generator=rng)

    def encode(self, patches: Tensor, visible: Tensor) -> Tensor:
        """patches (n, N, VALUES), visible (n, k) -> features of [CLS] and the visible ones (n, 1 + k, D)."""
        tokens = take(self.project(patches) + self.places.weight[1:], visible)  # the others go no further
        cls = (self.cls.weight + self.places.weight[:1]).expand(len(patches), 1, D)
        return self.norm(self.encoder(torch.cat([cls, tokens], dim=1)))

    def decode(self, features: Tensor, visible: Tensor) -> Tensor:
        """Features (n, 1 + k, D) back in their places, a mask token in all others -> pixels (n, N, VALUES)."""
        x = self.narrow(features)
        at = visible[..., None].expand(-1, -1, D_DECODER)
        whole = self.mask_token.weight.expand(len(x), N, D_DECODER).scatter(1, at, x[:, 1:])
        x = torch.cat([x[:, :1], whole], dim=1) + self.decoder_places.weight
        return self.pixels(self.decoder_norm(self.decoder(x)))[:, 1:]

    def features(self, patches: Tensor) -> Tensor:
        """All patches visible, one vector for each image: (n, N D)."""
        with torch.no_grad():
            return self.encode(patches, torch.arange(N).expand(len(patches), N))[:, 1:].flatten(1)


def pretrain(data: Data, params: Params, rng: torch.Generator, tick: Tick) -> MAE:
    """A trained model. It never sees a label."""
    model = MAE(rng)
    steps = params.epochs * -(-TRAINED // BATCH)

    def loss() -> Tensor:
        x = data.patches[torch.randint(TRAINED, (BATCH,), generator=rng)]
        visible, hidden = hide(BATCH, params.mask_ratio, rng)
        asked = hidden if params.target == "hidden" else visible
        painted = model.decode(model.encode(x, visible), visible)
        return (take(painted, asked) - take(x, asked)).square().mean()

    def after(step: int, value: float) -> None:
        if step % 20 == 0:
            tick(0.9 * step / steps, f"step {step}", loss=value)

    train(model, loss, steps, RATE, after)
    return model


def probe(features: Tensor, labels: Tensor, count: int, rng: torch.Generator) -> float:
    """Accuracy on the test of ridge regression onto one-hot labels, learned from `count` images; mean of some draws."""
    scores = list[float]()
    for _ in range(DRAWS):
        chosen = torch.randperm(TRAINED, generator=rng)[:count]
        mean, spread = features[chosen].mean(dim=0), features[chosen].std(dim=0) + 1e-3
        x = nn.functional.pad((features - mean) / spread, (0, 1), value=1.0).double()  # a last column of ones
        A, y = x[chosen], one_hot(labels[chosen], 10).double()
        kernel = A @ A.T + RIDGE * count * torch.eye(count)  # as many unknowns as images, not as features
        said = (x[TRAINED:] @ A.T @ kernel.inverse() @ y).argmax(dim=1)
        scores.append((said == labels[TRAINED:]).float().mean().item())
    return sum(scores) / DRAWS


def count_flops(model: MAE, patches: Tensor, visible: Tensor) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.encode(patches, visible)
    return counter.get_total_flops()


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng = torch.Generator().manual_seed(params.seed)
    data = load(rng)
    untrained = MAE(torch.Generator().manual_seed(params.seed))
    model = pretrain(data, params, rng, tick)

    x, clean = data.patches[TRAINED:], data.clean[TRAINED:]
    visible, hidden = hide(len(x), params.mask_ratio, rng)
    with torch.no_grad():
        painted = model.decode(model.encode(x, visible), visible)
        changed = x.scatter(1, hidden[..., None].expand(-1, -1, VALUES), 7.0)  # anything else
        leak = (model.encode(changed, visible) - model.encode(x, visible)).abs().max().item()
    guess = data.patches[:TRAINED].mean(dim=0).expand_as(x)  # the mean image
    error, of_mean = (take(y - clean, hidden).square().mean().item() for y in (painted, guess))
    seen = count_flops(model, x, visible) / count_flops(model, x, torch.arange(N).expand(len(x), N))

    inputs = {"pre-trained": model.features(data.patches), "random weights": untrained.features(data.patches),
              "pixels": data.patches.flatten(1)}  # fmt: skip
    sizes = sorted({20, 100, 400, params.labels})
    score = {
        name: [probe(of, data.labels, count, torch.Generator().manual_seed(count)) for count in sizes]
        for name, of in inputs.items()
    }
    asked = {name: scores[sizes.index(params.labels)] for name, scores in score.items()}

    masked = x.scatter(1, hidden[..., None].expand(-1, -1, VALUES), 0.2)  # grey
    rows = [fold(y[:8].mT, SIDE, PATCH, stride=PATCH)[:, 0] for y in (masked, painted, x, clean)]
    return Result(
        metrics=[
            Metric("probe-accuracy", asked["pre-trained"]),
            Metric("probe accuracy, random weights", asked["random weights"]),
            Metric("probe accuracy, pixels", asked["pixels"]),
            Metric("tokens that the encoder reads", 1 + visible.shape[1]),
        ],
        claims=[
            Claim("It paints what is hidden: squared error over that of the mean image", error / of_mean, "<=", 0.87),
            Claim("Hidden patches do not reach the encoder: its largest change when they change", leak, "<=", 0),
            Claim("So it has less to do: its operations, over those on whole images", seen, "<=", 0.6),
            Claim("Features help without a label: probe's accuracy, less that on random weights",
                  asked["pre-trained"] - asked["random weights"], ">=", 0.05),
            Claim("They are better than what it was given: the same, less that on pixels",
                  asked["pre-trained"] - asked["pixels"], ">=", 0.01),
        ],
        figures=[
            Images("Digits that it never saw", [((y + 0.6) / 2).clamp(0, 1).numpy().tolist() for y in rows],
                   ["shown to it", "painted", "before hiding", "without grain"]),
            Lines("A linear classifier on features", "labelled images", "share right", sizes, score, log="x"),
        ],
        tables=[
            Table("Share of 397 unseen digits right", ["labelled images", *score],
                  [[count, *(scores[n] for scores in score.values())] for n, count in enumerate(sizes)]),
        ],
    )  # fmt: skip
