"""Training mode and inference mode

Question: What is different when a network generates: dropout, batch statistics, instance statistics, batch size?
Source: dropout: Srivastava et al. 2014 (JMLR 15), §4; batch norm: Ioffe, Szegedy 2015, arXiv:1502.03167, alg. 1, 2;
    instance norm: Ulyanov et al. 2016, arXiv:1607.08022, eq. (3); both kept on at test time: Isola et al. 2016,
    arXiv:1611.07004, §3.3 (pix2pix); dropout as uncertainty: Gal, Ghahramani 2015, arXiv:1506.02142.
Watch: In eval mode two runs agree exactly. Keep training mode on and they do not: dropout draws anew, and with batch
    norm an image's output depends on those beside it. That is pix2pix's recipe; GPT's layer norm looks at one token.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from demos.contract import Bars, Claim, DemoParams, Lines, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.digits import load_digits

CHANNELS, EPS, MOMENTUM, PASSES = 16, 1e-5, 0.1, 200
Mode = Literal["train", "eval", "dropout-on"]
Norm = Literal["batch", "instance", "layer"]
MODES: tuple[Mode, ...] = ("train", "eval", "dropout-on")
NORMS: tuple[Norm, ...] = ("batch", "instance", "layer")


class Params(DemoParams):
    mode: Mode = Field("eval", description="Mode at inference; dropout-on is eval with dropout left on")
    norm: Norm = Field("layer", description="Normalisation of the network")
    batch_size: int = Field(1, ge=1, le=10, description="Images generated together")
    p: float = Field(0.5, ge=0.0, le=0.9, description="Share of activations that dropout zeroes")
    seed: int = Field(0, ge=0, le=9999, description="Seed of weights and dropout")

    presets: ClassVar[Mapping[str, Preset]] = {
        "training mode left on": Preset("Batch mates leak in and dropout draws: both claims on the chosen setting fail",
                                        {"mode": "train", "norm": "batch", "batch_size": 8}),
        "dropout left on": Preset("Two runs differ, though no image sees another", {"mode": "dropout-on"}),
        "batch norm, eval": Preset("Stored statistics: an image is alone again", {"norm": "batch", "batch_size": 8}),
    }  # fmt: skip


def dropout(x: Tensor, p: float, rng: torch.Generator) -> Tensor:
    """Zero each activation with chance p and scale the others up, so that the expected value stays."""
    kept = torch.rand(x.shape, generator=rng, dtype=x.dtype) >= p
    return x * kept / (1 - p)


def standardise(x: Tensor, over: tuple[int, ...]) -> Tensor:
    """x (B, C, H, W) less its mean over some axes, divided by its deviation over them."""
    centred = x - x.mean(dim=over, keepdim=True)
    return centred * (centred.square().mean(dim=over, keepdim=True) + EPS).rsqrt()


AXES: dict[Norm, tuple[int, ...]] = {
    "batch": (0, 2, 3),  # a channel over all images of the batch
    "instance": (2, 3),  # a channel of one image
    "layer": (1, 2, 3),  # all of one image
}


class Generator(nn.Module):
    """Convolution, norm, ReLU, dropout, convolution: image (B, 1, 8, 8) -> image (B, 1, 8, 8)."""

    def __init__(self, norm: Norm, p: float, rng: torch.Generator) -> None:
        super().__init__()
        self.norm: Norm = norm
        self.p = p
        self.first, self.last = nn.Conv2d(1, CHANNELS, 3, padding=1), nn.Conv2d(CHANNELS, 1, 3, padding=1)
        for weight in self.parameters():
            nn.init.normal_(weight, std=0.3, generator=rng)
        self.mean, self.var = nn.Buffer(torch.zeros(CHANNELS)), nn.Buffer(torch.ones(CHANNELS))  # batch norm's memory

    def learn_statistics(self, images: Tensor) -> None:
        """What training does beside the gradients: running averages of each channel's mean and variance."""
        for batch in torch.split(images, 32):
            h = self.first(batch)
            self.mean += MOMENTUM * (h.mean(dim=(0, 2, 3)) - self.mean)
            self.var += MOMENTUM * (h.var(dim=(0, 2, 3)) - self.var)

    def forward(self, images: Tensor, mode: Mode, rng: torch.Generator) -> Tensor:
        h = self.first(images)  # (B, C, 8, 8)
        if self.norm == "batch" and mode != "train":
            h = (h - self.mean[:, None, None]) * (self.var[:, None, None] + EPS).rsqrt()
        else:
            h = standardise(h, AXES[self.norm])
        h = h.relu()
        return self.last(h if mode == "eval" else dropout(h, self.p, rng))


def far(a: Tensor, b: Tensor) -> float:
    return (a - b).abs().max().item()


@torch.no_grad()
def run(params: Params, tick: Tick = no_tick) -> Result:
    rng = torch.Generator().manual_seed(params.seed)
    images = load_digits()[0].double()  # (N, 1, 8, 8)
    models: dict[Norm, Generator] = {}
    for norm in NORMS:
        models[norm] = Generator(
            norm, params.p, torch.Generator().manual_seed(params.seed)
        ).double()  # the same weights
        models[norm].learn_statistics(images[500:])
    tick(0.3, "statistics learned")

    def generate(norm: Norm, mode: Mode, batch: Tensor, dice: int = 0) -> Tensor:
        return models[norm](batch, mode, torch.Generator().manual_seed(2**20 + dice))

    def repeat(norm: Norm, mode: Mode) -> float:
        """Difference of two runs of one batch: the only thing drawn anew is dropout."""
        batch = images[: params.batch_size]
        return far(generate(norm, mode, batch, 1), generate(norm, mode, batch, 2))

    def company(norm: Norm, mode: Mode, size: int) -> float:
        """Change of the first image's output when the images beside it are others; dropout draws the same."""
        mates, others = images[1:size], images[101 : 100 + size]
        batches = (torch.cat([images[:1], some]) for some in (mates, others))
        first, second = (generate(norm, mode, batch)[0] for batch in batches)
        return far(first, second)

    repeats = {(norm, mode): repeat(norm, mode) for norm in NORMS for mode in MODES}
    sizes = list(range(1, 11))
    mates = {norm: [company(norm, "train", size) for size in sizes] for norm in NORMS}
    one = images[:1]
    batch_one = far(generate("batch", "train", one), generate("instance", "train", one))
    dropped = torch.stack([dropout(torch.ones(1000).double(), params.p, rng) for _ in range(PASSES)])
    tick(0.7, "modes compared")

    block = nn.TransformerEncoderLayer(32, 4, 128, dropout=params.p, batch_first=True, norm_first=True).double().eval()
    for weight in block.parameters():
        nn.init.normal_(weight, std=0.2, generator=rng)
    texts = torch.randn(10, 6, 32, generator=rng).double()  # (B, T, d)
    alone = block(texts[:1])[0]
    gpt = max(far(block(texts[:size])[0], alone) for size in sizes)
    spread = torch.stack([generate(params.norm, "dropout-on", one, n) for n in range(50)]).std(dim=0).mean().item()
    chosen = company(params.norm, params.mode, params.batch_size)
    return Result(
        metrics=[
            Metric("difference of two runs, chosen setting", repeats[params.norm, params.mode]),
            Metric("change with other batch mates, chosen setting", chosen),
            Metric("spread of the output with dropout on", spread),
            Metric("mean of dropped ones", dropped.mean().item()),
        ],
        claims=[
            Claim("The chosen setting repeats itself: difference of two runs",
                  repeats[params.norm, params.mode], "==", 0),
            Claim("In it an image does not depend on its batch mates: change", chosen, "<=", 1e-6),
            Claim("Eval mode repeats with every norm: largest difference of two runs",
                  max(repeats[norm, "eval"] for norm in NORMS), "==", 0),
            Claim("With dropout left on none does: smallest difference of two runs",
                  min(repeats[norm, "dropout-on"] for norm in NORMS), ">", 0.01),
            Claim("Batch norm in training mode mixes images: change with other mates", mates["batch"][-1], ">", 1e-3),
            Claim("Instance and layer norm do not: largest change",
                  max(*mates["instance"], *mates["layer"]), "<=", 1e-6),
            Claim("For one image batch norm in training mode is instance norm: difference", batch_one, "<=", 1e-5),
            Claim("A GPT's block answers alike in batches of 1 to 10: largest difference", gpt, "<=", 1e-6),
        ],
        figures=[
            Lines("Training mode: change of one output when its mates are others", x="images in the batch",
                  y="largest change", at=sizes, series={f"{norm} norm": mates[norm] for norm in NORMS}),
            Bars("Difference of two runs of one input", x="mode", y="largest difference", labels=list(MODES),
                 series={f"{norm} norm": [repeats[norm, mode] for mode in MODES] for norm in NORMS}),
        ],
        tables=[
            Table("Repeatability", ["norm", "mode", "difference of two runs", "change with other mates, batch of 10"],
                  [[norm, mode, repeats[norm, mode], company(norm, mode, 10)] for norm in NORMS for mode in MODES]),
        ],
    )  # fmt: skip
