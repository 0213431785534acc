"""AdaIN: style is mean and variance

Question: How much of a style lives in the mean and variance of feature maps?
Source: Huang, Belongie 2017, arXiv:1703.06868, eq. (5) to (8), (11) to (14); Gram matrices: Gatys, Ecker, Bethge 2015,
  arXiv:1508.06576, eq. (3) to (7); style from w: Karras et al. 2018, arXiv:1812.04948, eq. (1); random filters are
  enough for textures: Ustyuzhaninov et al. 2016, arXiv:1606.00021.
Watch: two numbers a channel carry colour and coarseness of the style onto the content. With alpha = 0 nothing is
  carried; the Gram matrix, which AdaIN does not set, comes most of the way but not all of it.
"""

import itertools
import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from demos.contract import Bars, Claim, DemoParams, Images, Lines, Metric, Preset, Result, Table, Tick, no_tick

SIZE, CHANNELS, LATENT, SHOWN = 40, (16, 24, 32, 32), 16, 12  # pixels a side; feature maps a layer; size of w
LAMBDA, LR, EPSILON = 10.0, 0.03, 1e-8  # weight of the style loss; step of the picture's pixels; keeps σ above 0
Style = Literal["waves", "bricks", "dots", "brush"]
INKS = {  # the two colours of each texture
    "waves": ((0.05, 0.2, 0.55), (0.8, 0.95, 1.0)), "bricks": ((0.8, 0.75, 0.7), (0.65, 0.2, 0.1)),
    "dots": ((0.95, 0.8, 0.2), (0.2, 0.05, 0.3)), "brush": ((0.1, 0.35, 0.15), (0.95, 0.85, 0.5)),
}  # fmt: skip


class Params(DemoParams):
    method: Literal["adain", "gram"] = Field("adain", description="Transfer method")
    alpha: float = Field(1.0, ge=0.0, le=1.0, description="Blend of content (0) and style (1) statistics")
    layer: int = Field(2, ge=1, le=4, description="Feature layer of the content; style is taken up to it")
    steps: int = Field(150, ge=20, le=600, description="Optimisation steps of the picture")
    style: Style = Field("waves", description="Style texture")
    seed: int = Field(0, ge=0, le=9999, description="Random seed of pictures and filters")

    presets: ClassVar[Mapping[str, Preset]] = {
        "no style": Preset("Content statistics kept: the picture stays, and so does the style loss", {"alpha": 0.0}),
        "Gram matrices": Preset("Correlations of channels as well, and no AdaIN", {"method": "gram"}),
        "brush": Preset("Long strokes, of which statistics of small filters know little", {"style": "brush"}),
        "first layer": Preset("One layer of filters: hardly more than colour and contrast", {"layer": 1}),
    }


def statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation over positions of each image and channel, eq. (5) and (6): x (B, C, H, W) -> (B, C, 1, 1)."""
    mu = x.mean(dim=(2, 3), keepdim=True)
    return mu, ((x - mu).square().mean(dim=(2, 3), keepdim=True) + EPSILON).sqrt()


def normalise(x: Tensor) -> Tensor:
    """Instance norm: every channel of every image with mean 0 and deviation 1."""
    mu, sigma = statistics(x)
    return (x - mu) / sigma


def adain(x: Tensor, y: Tensor) -> Tensor:
    """Eq. (8): content features x (B, C, H, W) with the statistics of style features y (B, C, H', W')."""
    mu, sigma = statistics(y)
    return sigma * normalise(x) + mu


def styled(x: Tensor, w: Tensor, A: Tensor, b: Tensor) -> Tensor:
    """StyleGAN's AdaIN: scale and bias y = A w + b, with A (2C, d), take the place of a style's σ and μ."""
    y_s, y_b = (A @ w + b).chunk(2)  # (C,) each
    return y_s[:, None, None] * normalise(x) + y_b[:, None, None]


def gram(x: Tensor) -> Tensor:
    """Gram matrices (B, C, C) of features (B, C, H, W): correlations of channels, mean over positions."""
    flat = x.flatten(2)  # (B, C, HW)
    return flat @ flat.mT / flat.shape[2]


def draw_filters(rng: torch.Generator) -> list[Tensor]:
    """Weights of four convolutions, random and never trained: they stand in for VGG."""
    shapes = [(CHANNELS[0], 3, 5, 5), *((m, n, 3, 3) for n, m in itertools.pairwise(CHANNELS))]
    return [torch.randn(shape, generator=rng) * (2 / math.prod(shape[1:])) ** 0.5 for shape in shapes]


def features(x: Tensor, filters: list[Tensor]) -> list[Tensor]:
    """Maps after each layer of a picture x (B, 3, H, W): (B, C_i, H, W), halved after the second."""
    maps: list[Tensor] = []
    for number, kernel in enumerate(filters):
        x = nn.functional.avg_pool2d(x, 2) if number == 2 else x
        edge = kernel.shape[-1] // 2
        padded = nn.functional.pad(x, (edge, edge, edge, edge), mode="reflect")
        x = nn.functional.leaky_relu(nn.functional.conv2d(padded, kernel), 0.2)
        maps.append(x)
    return maps


def statistics_loss(maps: list[Tensor], style: list[Tensor]) -> Tensor:
    """Eq. (13): squared distances of means and deviations, over the layers."""
    pairs = [
        (a, b) for x, y in zip(maps, style, strict=True) for a, b in zip(statistics(x), statistics(y), strict=True)
    ]
    return torch.stack([(a - b).square().sum() for a, b in pairs]).sum()


def gram_loss(maps: list[Tensor], style: list[Tensor]) -> Tensor:
    """Gatys et al., eq. (4) and (5): squared distances of Gram matrices, each layer over its C²."""
    pairs = zip(maps, style, strict=True)
    return torch.stack([(gram(x) - gram(y)).square().mean() for x, y in pairs]).sum()


def draw_content(rng: torch.Generator) -> Tensor:
    """A disc, a square and a triangle in greys, (1, 3, 40, 40)."""
    y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    dx, dy = torch.randint(-2, 3, (2,), generator=rng).numpy().tolist()
    picture = torch.full((SIZE, SIZE), 0.55)
    picture[(x - 12 - dx).square() + (y - 12 - dy).square() < 64] = 0.95
    picture[(x > 22 + dx) & (x < 36 + dx) & (y > 6 - dy) & (y < 18 - dy)] = 0.1
    picture[(y > 24) & (y < 37) & ((x - 20 + dx).abs() < (y - 23))] = 0.3
    return picture.expand(1, 3, SIZE, SIZE).clone()


def draw_style(style: Style, rng: torch.Generator) -> Tensor:
    """A texture in two colours, (1, 3, 40, 40)."""
    y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    dx, dy = torch.randint(12, (2,), generator=rng).numpy().tolist()
    x, y = x + dx, y + dy
    match style:
        case "waves":
            ink = 0.5 + 0.5 * (2 * math.pi * (y / 8 + 0.2 * (2 * math.pi * x / 20).sin())).sin()
        case "bricks":
            ink = ((y % 6 > 0) & ((x + 6 * (y // 6 % 2)) % 12 > 0)).float()
        case "dots":
            ink = ((x % 8 - 3.5).square() + (y % 8 - 3.5).square() < 7).float()
        case "brush":  # noise smeared along a diagonal
            noise = torch.randn(1, 1, SIZE + 12, SIZE + 12, generator=rng)
            ink = (0.5 + 1.5 * nn.functional.conv2d(noise, torch.eye(13)[None, None] / 13)[0, 0]).clamp(0, 1)
    low, high = torch.tensor(INKS[style])[:, :, None, None]  # (3, 1, 1) each
    return (low + (high - low) * ink)[None]


def edges(picture: Tensor) -> Tensor:
    """How steep the grey picture is around each place, (H - 1, W - 1), of (1, 3, H, W)."""
    grey = picture.mean(dim=1)[0]
    return ((grey[1:, :-1] - grey[:-1, :-1]).square() + (grey[:-1, 1:] - grey[:-1, :-1]).square()).sqrt()


def correlation(a: Tensor, b: Tensor) -> float:
    """Pearson's correlation of two tensors of one shape."""
    return torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1].item()


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Take one step down the gradient of the loss."""
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()


def transfer(
    content: Tensor, style: Tensor, filters: list[Tensor], params: Params, tick: Tick
) -> tuple[Tensor, list[float]]:
    """The picture whose features are the target t of eq. (14), or the content's for Gram; and its style losses.

    Huang and Belongie train a decoder to answer at once; a picture found by descent minimises the same loss.
    """
    c, s = (features(picture, filters[: params.layer]) for picture in (content, style))
    target, loss_of = c[-1], gram_loss
    if params.method == "adain":
        target, loss_of = (1 - params.alpha) * c[-1] + params.alpha * adain(c[-1], s[-1]), statistics_loss  # eq. (14)
    first, scale = loss_of(c, s), target.var()  # both terms begin near one, whatever the filters
    x = content.clone().requires_grad_()
    adam = torch.optim.Adam([x], lr=LR)
    losses: list[float] = []
    for step in range(1, params.steps + 1):
        maps = features(x, filters[: params.layer])
        content_loss, style_loss = (maps[-1] - target).square().mean() / scale, loss_of(maps, s) / first
        descend(adam, content_loss + params.alpha * LAMBDA * style_loss)  # eq. (11)
        with torch.no_grad():
            x.clamp_(0, 1)
        losses.append(style_loss.item())
        if step % 10 == 0:
            tick(step / params.steps, f"step {step}", style_loss=losses[-1], content_loss=content_loss.item())
    return x.detach(), losses


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng, dice = (torch.Generator().manual_seed(2 * params.seed + odd) for odd in (0, 1))  # filters; pictures
    filters = draw_filters(rng)
    content, style = draw_content(dice), draw_style(params.style, dice)
    result, losses = transfer(content, style, filters, params, tick)

    c, s, r = (features(picture, filters[: params.layer]) for picture in (content, style, result))
    own = statistics_loss if params.method == "adain" else gram_loss
    left = (own(r, s) / own(c, s)).item()
    kept = correlation(edges(content), edges(result))
    x, y = c[-1].double(), s[-1].double()  # (1, C, H, W): the layer itself is checked in double precision
    out, (mu, sigma) = adain(x, y), statistics(y)
    exact = max((a - b).abs().max().item() for a, b in zip(statistics(out), (mu, sigma), strict=True))
    C = x.shape[1]
    a, b = (torch.rand(C, 1, 1, generator=rng, dtype=torch.float64) for _ in range(2))
    scale_free = (adain((a + 0.5) * x + b, y) - out).abs().max().item()
    w, A = torch.randn(LATENT, generator=rng), torch.randn(2 * C, LATENT, generator=rng) / LATENT**0.5
    bias = torch.cat([torch.ones(C), torch.zeros(C)])  # StyleGAN begins with scale 1 and bias 0
    y_s, y_b = nn.functional.linear(w.double(), A.double(), bias.double()).chunk(2)
    by_w = statistics(styled(x, w.double(), A.double(), bias.double()))
    affine = max((by_w[0].flatten() - y_b).abs().max().item(), (by_w[1].flatten() - y_s.abs()).abs().max().item())
    batch = torch.cat([x, y])  # (2, C, H, W)
    alone = (normalise(batch)[:1] - normalise(x)).abs().max().item()
    library = (normalise(x) - nn.functional.instance_norm(x, eps=EPSILON)).abs().max().item()
    gram_left = ((gram(out) - gram(y)).square().sum() / (gram(x) - gram(y)).square().sum()).item()

    def bars(what: int, name: str) -> Bars:
        maps = {"content": x, "normalised": normalise(x), "style": y, "after AdaIN": out}
        values = {of: statistics(value)[what].flatten()[:SHOWN].numpy().tolist() for of, value in maps.items()}
        labels = [str(i) for i in range(min(SHOWN, C))]
        return Bars(
            f"{name} of the channels of layer {params.layer}", x="channel", y="value", labels=labels, series=values
        )

    pictures = torch.cat([content, style, result]).permute(0, 2, 3, 1)  # (3, 40, 40, 3)
    return Result(
        metrics=[
            Metric("style_loss", left),
            Metric("content_correlation", kept),
            Metric("statistics loss of the result", (statistics_loss(r, s) / statistics_loss(c, s)).item()),
            Metric("Gram loss of the result", (gram_loss(r, s) / gram_loss(c, s)).item()),
            Metric("Gram distance that AdaIN leaves", gram_left),
        ],
        claims=[
            Claim("After AdaIN features have the style's mean and deviation: difference", exact, "<=", 1e-4),
            Claim("Scaled and shifted input channels leave its result as it is: difference", scale_free, "<=", 1e-4),
            Claim("Scale and bias from A w + b become deviation and mean: difference", affine, "<=", 1e-3),
            Claim("It is instance norm inside: difference to torch's", library, "<=", 1e-9),
            Claim("Another image in the batch changes nothing: difference", alone, "<=", 1e-9),
            Claim("The style is carried over: style loss of the result over the content's", left, "<=", 0.1),
            Claim("The content stays recognisable: correlation of edges", kept, ">=", 0.4),
            Claim("Mean and variance bring the Gram matrix along most of the way: distance left", gram_left, "<=", 0.5),
            Claim("But not all of it, correlations of channels being free", gram_left, ">=", 0.001),
        ],
        figures=[
            Images(
                f"Content, {params.style} and the result by {params.method}", [pictures.numpy().tolist()],
                column_labels=["content", "style", "result"],
            ),
            bars(0, "Means"),
            bars(1, "Deviations"),
            Lines(
                "Style loss over that of the content", x="step", y="share", at=list(range(params.steps)),
                series={params.method: losses}, log="y",
            ),
        ],
        tables=[
            Table(
                "What w sets: the first channels", ["channel", "scale y_s", "bias y_b", "new deviation", "new mean"],
                [
                    [i, y_s[i].item(), y_b[i].item(), by_w[1].flatten()[i].item(), by_w[0].flatten()[i].item()]
                    for i in range(min(SHOWN, C))
                ],
            )
        ],
    )  # fmt: skip
