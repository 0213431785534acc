"""Pix2Pix on drawn pairs

Question: Can one network and one loss learn any paired translation: edges to object, labels to scene, night to day?
Source: Isola et al. 2016, arXiv:1611.07004, eq. (1), (3), (4), §3.2; U-Net: Ronneberger et al. 2015, arXiv:1505.04597.
Watch: input, output and target of pairs never seen. Without skip connections all must pass the bottleneck, and outlines
  are lost. Give the network another picture's input: a fine output, and the wrong one.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import l1_loss, softplus

from demos.contract import Claim, DemoParams, Images, Lines, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.scenes import CLASSES, World, draw_labels, paint_photo

BATCH, TESTED = 8, 100
WIDTHS = (16, 32, 48, 48, 48)  # channels of the U-Net's maps, each half as large as the one before
Task = Literal["labels", "facades", "map", "aerial", "colorize", "edges", "sketch", "night", "thermal", "inpaint"]
WORLDS: dict[Task, World] = {
    "labels": "street", "night": "street", "inpaint": "street", "facades": "facade", "map": "city", "aerial": "city",
    "edges": "shapes", "sketch": "shapes", "colorize": "shapes", "thermal": "shapes",
}  # fmt: skip
FLAT = torch.tensor([[0.0, 0.0, 0.0], [0.9, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.2, 0.9], [0.9, 0.9, 0.1]])  # labels
NIGHT = torch.tensor([0.2, 0.2, 0.4])  # what is left of red, green and blue


class Params(DemoParams):
    task: Task = Field("edges", description="Paired task, drawn procedurally")
    skips: bool = Field(True, description="Skip connections in the U-Net")
    lambda_l1: float = Field(100.0, ge=0.0, le=200.0, description="Weight of L1")
    adversarial: bool = Field(True, description="Use the PatchGAN loss")
    steps: int = Field(360, ge=50, le=1500, description="Training steps, and as many of the control without skips")
    seed: int = Field(0, ge=0, le=9999, description="Random seed of pairs and weights")

    presets: ClassVar[Mapping[str, Preset]] = {
        "no skips": Preset("Every outline has to pass the bottleneck: as bad as the control", {"skips": False}),
        "GAN alone": Preset("Nothing ties an output to its target but the critic", {"lambda_l1": 0.0}),
        "labels to scene": Preset("A label map becomes a street", {"task": "labels"}),
        "day to night": Preset("Dark sky, lit windows", {"task": "night"}),
    }


def draw_pairs(task: Task, n: int, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs and targets (n, 3, 32, 32) in [0, 1], and the class of each pixel (n, 32, 32)."""
    labels = draw_labels(WORLDS[task], n, rng)
    photo = paint_photo(WORLDS[task], labels)
    outline = torch.zeros_like(labels, dtype=torch.bool)
    outline[:, :, 1:] |= labels[:, :, 1:] != labels[:, :, :-1]
    outline[:, 1:] |= labels[:, 1:] != labels[:, :-1]

    def grey(of: Tensor) -> Tensor:
        return of.float()[:, None].expand(-1, 3, -1, -1)  # (n, 3, 32, 32)

    flat = FLAT[labels].permute(0, 3, 1, 2)  # (n, 3, 32, 32)
    match task:
        case "labels" | "facades" | "map":
            return flat, photo, labels
        case "aerial":
            return photo, flat, labels
        case "edges":
            return grey(~outline), photo, labels
        case "sketch":  # a third of the line is missing, the rest trembles
            moved, kept = torch.rand(2, *labels.shape, generator=rng)  # (n, 32, 32) each
            trembling = torch.where(moved < 0.5, outline, outline.roll(1, dims=2))
            return grey(~(trembling & (kept < 0.7))), photo, labels
        case "colorize":
            return grey(0.8 - 0.4 * (labels > 0)), photo, labels
        case "thermal":
            return nn.functional.avg_pool2d(grey(labels / 3), 3, stride=1, padding=1), photo, labels
        case "night":  # windows and lamps are lit
            lit = torch.tensor([name in ("house", "lamp") for name in CLASSES["street"]])[labels]
            dark = photo * torch.where(lit[:, None], torch.tensor(0.9), NIGHT[:, None, None])
            return photo, dark, labels
        case "inpaint":
            corner = torch.randint(4, 16, (2, n, 1), generator=rng)
            rows, columns = ((torch.arange(32) - corner) // 12 == 0).unbind()  # (n, 32) each: 12 of them
            return torch.where((rows[:, :, None] & columns[:, None])[:, None], 0.5, photo), photo, labels


def block(inputs: int, outputs: int, up: bool, norm: bool = True) -> nn.Sequential:
    """One convolution that halves or doubles the side. Batch norm takes the batch's own statistics, in tests too."""
    layer = nn.ConvTranspose2d if up else nn.Conv2d
    parts: list[nn.Module] = [layer(inputs, outputs, 4, stride=2, padding=1)]
    if norm:
        parts.append(nn.BatchNorm2d(outputs, track_running_stats=False))
    return nn.Sequential(*parts, nn.ReLU() if up else nn.LeakyReLU(0.2))


class UNet(nn.Module):
    """Five blocks down to 1x1, five up; a skip hands the map of one size across. (B, 3, 32, 32) -> the same, [0, 1]."""

    def __init__(self, skips: bool, rng: torch.Generator) -> None:
        super().__init__()
        self.skips, a = skips, 2 if skips else 1
        sizes = list(itertools.pairwise((3, *WIDTHS)))  # (3, 16), (16, 32), …
        self.downs: Sequence[nn.Module] = [
            block(n, m, up=False, norm=0 < i < len(sizes) - 1) for i, (n, m) in enumerate(sizes)
        ]
        self.ups: Sequence[nn.Module] = [
            block(m if i == 0 else a * m, n, up=True) for i, (n, m) in enumerate(reversed(sizes[1:]))]  # fmt: skip
        self.last = nn.Sequential(nn.ConvTranspose2d(a * WIDTHS[0], 3, 4, stride=2, padding=1), nn.Sigmoid())
        self.blocks = nn.ModuleList([*self.downs, *self.ups])
        draw_weights(self, rng)

    def forward(self, x: Tensor) -> Tensor:
        maps: list[Tensor] = []
        for down in self.downs:
            x = down(x)
            maps.append(x)  # sides 16, 8, 4, 2, 1
        for up, across in zip(self.ups, reversed(maps[:-1]), strict=True):
            x = up(x)
            x = torch.cat([x, across], dim=1) if self.skips else x
        return self.last(x)


def draw_weights(net: nn.Module, rng: torch.Generator) -> None:
    """He's start for kernels, from a generator of our own; batch norm and biases keep 1 and 0."""
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(layer.weight, a=0.2, generator=rng)
            nn.init.zeros_(layer.get_parameter("bias"))


def build_discriminator(rng: torch.Generator) -> nn.Sequential:
    """PatchGAN: one verdict for each patch of input and output side by side, (B, 6, 32, 32) -> (B, 1, 8, 8)."""
    D = nn.Sequential(block(6, 16, up=False, norm=False), block(16, 32, up=False), nn.Conv2d(32, 1, 3, padding=1))
    draw_weights(D, rng)
    return D


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Take one step down the gradient of the loss."""
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()


def train(params: Params, skips: bool, tick: Tick, done: float) -> tuple[UNet, list[int], dict[str, list[float]]]:
    """Eq. (4): the generator, and its losses over training."""
    rng = torch.Generator().manual_seed(2 * params.seed)
    G, D = UNet(skips, rng), build_discriminator(rng)
    adam_g = torch.optim.Adam(G.parameters(), lr=2e-3, betas=(0.5, 0.999), fused=True)
    adam_d = torch.optim.Adam(D.parameters(), lr=5e-4, betas=(0.5, 0.999), fused=True)
    at, curves = list[int](), {"L1": list[float](), "adversarial": list[float](), "critic": list[float]()}
    for step in range(1, params.steps + 1):
        x, y, _ = draw_pairs(params.task, BATCH, rng)
        fake = G(x)
        critic = adversarial = torch.zeros(())
        if params.adversarial:
            on_real, on_fake = D(torch.cat([x, y], dim=1)), D(torch.cat([x, fake.detach()], dim=1))  # (B, 1, 8, 8)
            critic = (softplus(-on_real).mean() + softplus(on_fake).mean()) / 2  # halved, §3.3: D learns more slowly
            descend(adam_d, critic)
            adversarial = softplus(-D(torch.cat([x, fake], dim=1))).mean()
        l1 = l1_loss(fake, y)
        descend(adam_g, adversarial + params.lambda_l1 * l1)
        if step % 10 == 0:
            at.append(step)
            for curve, value in zip(curves.values(), (l1, adversarial, critic), strict=True):
                curve.append(value.item())
            tick(done + 0.5 * step / params.steps, f"skips {skips}, step {step}", L1=curves["L1"][-1])
    return G, at, curves


def read_classes(picture: Tensor, colours: Tensor) -> Tensor:
    """The class whose colour (K, 3) is nearest to each pixel of pictures (n, 3, H, W): (n, H, W)."""
    return torch.cdist(picture.permute(0, 2, 3, 1).flatten(0, 2), colours).argmin(dim=1).view(len(picture), 32, 32)


def run(params: Params, tick: Tick = no_tick) -> Result:
    G, at, curves = train(params, params.skips, tick, done=0.0)
    control, _, control_curves = train(params, False, tick, done=0.5)
    x, y, labels = draw_pairs(params.task, TESTED, torch.Generator().manual_seed(2 * params.seed + 1))
    with torch.no_grad():
        out, without, shuffled = G(x), control(x), G(x.roll(1, dims=0))  # (N, 3, 32, 32) each
    l1, l1_without, l1_shuffled = (l1_loss(picture, y).item() for picture in (out, without, shuffled))
    l1_constant = l1_loss(y.median(dim=0).values.expand_as(y), y).item()  # the median is the constant with least L1
    names = CLASSES[WORLDS[params.task]]
    colours = torch.stack([y.permute(0, 2, 3, 1)[labels == k].mean(dim=0) for k in range(len(names))])  # (K, 3)
    right = read_classes(out, colours) == labels  # (N, H, W)
    rows = [picture[:6].permute(0, 2, 3, 1) for picture in (x, out, y, without, shuffled)]  # (6, H, W, 3) each
    return Result(
        metrics=[
            Metric("l1", l1),
            Metric("l1 of the best constant image", l1_constant),
            Metric("l1 without skips", l1_without),
            Metric("l1 for another picture's input", l1_shuffled),
            Metric("label accuracy", right.double().mean().item()),
            Metric("label accuracy beyond class 0", right[labels > 0].double().mean().item()),
        ],
        claims=[
            Claim("Unseen pairs are translated: L1 over that of the best constant image", l1 / l1_constant, "<=", 0.6),
            Claim("Output colours tell the class: pixels read right", right.double().mean().item(), ">=", 0.9),
            Claim("The network without skips does worse: its L1 over this one's", l1_without / l1, ">=", 1.15),
            Claim("Each input has its own target: L1 for another input over L1", l1_shuffled / l1, ">=", 2),
        ],
        figures=[
            Images(
                f"Pairs never seen: {params.task}", torch.stack(rows).clamp(0, 1).numpy().tolist(),
                row_labels=["input", "output", "target", "without skips", "for another input"],
            ),
            Lines(
                "L1 to the target", x="training step", y="L1", at=at, log="y",
                series={"chosen setting": curves["L1"], "no skips": control_curves["L1"]},
            ),
            Lines(
                "The game", x="training step", y="nats", at=at,
                series={"generator's adversarial loss": curves["adversarial"], "critic's loss": curves["critic"]},
            ),
        ],
        tables=[
            Table("Pixels read right, by class", ["class", "share of the picture", "read right"],
                  [[name, (labels == k).double().mean().item(), right[labels == k].double().mean().item()]
                   for k, name in enumerate(names)]),
        ],
    )  # fmt: skip
