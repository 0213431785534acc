"""A style-based generator at 16x16

Question: Do early layers set the layout and late layers the colour, without anyone telling them?
Source: Karras, Laine, Aila 2018, arXiv:1812.04948, eq. (1), §2, §3.1, §3.2, appendix B; equalised learning rate: Karras
  et al. 2017, arXiv:1710.10196, §4.1; R1: Mescheder et al. 2018, arXiv:1801.04406, eq. (9).
Watch: early styles of A, late ones of B: the disc stands where A's does, in B's colour, and no label said so. Noise
  paints the grain and leaves the disc where it is; without noise one style is one picture.
"""

import copy
import itertools
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import conv2d, instance_norm, interpolate, leaky_relu, linear, softplus

from demos.contract import Claim, DemoParams, Images, Lines, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.shapes import cover

SIZE, CHANNELS, LATENT, BATCH, LAYERS = 16, 16, 32, 16, 6  # two layers each at 4x4, 8x8 and 16x16
GRAIN, GAMMA, LAZY, RATE = 0.2, 0.5, 16, 5e-3  # grain of the data; R1 and how often; learning rate
PAIRS, TESTED = 200, 400  # pairs (A, B) of the influence table; pictures of other measures


class Params(DemoParams):
    view: Literal["mixing", "noise", "truncation", "layers"] = Field("mixing", description="Which figure leads")
    crossover: int = Field(4, ge=1, le=5, description="Layers that A styles, of 6; B styles the rest")
    psi: float = Field(0.7, ge=0.0, le=1.5, description="Truncation: 1 is none, 0 is the mean style")
    psi_layers: int = Field(6, ge=1, le=6, description="Layers that are truncated, from the first")
    mixing_prob: float = Field(0.9, ge=0.0, le=1.0, description="Share of training batches with two codes")
    mapping_layers: int = Field(4, ge=1, le=8, description="Depth of the mapping network")
    noise: bool = Field(True, description="Noise inputs")
    noise_from: int = Field(16, ge=4, le=16, description="Lowest resolution that receives noise")
    steps: int = Field(900, ge=100, le=3000, description="Training steps")
    seed: int = Field(0, ge=0, le=9999, description="Random seed of data, weights and sampling")

    presets: ClassVar[Mapping[str, Preset]] = {
        "no noise": Preset("Grain is chance, and no style can make it", {"noise": False, "view": "noise"}),
        "noise from 4x4": Preset("Coarse noise too; styles place the disc", {"noise_from": 4, "view": "noise"}),
        "no mixing": Preset("Neighbouring layers may rely on each other's styles", {"mixing_prob": 0.0}),
    }


def draw_discs(n: int, rng: torch.Generator) -> Tensor:
    """Discs of any place and colour on black, with grey grain all over, (n, 3, 16, 16) around [-1, 1]."""
    x, y = 0.28 + 0.44 * torch.rand(2, n, generator=rng)
    inside = cover(torch.zeros(n), x, y, torch.full((n,), 0.22), SIZE)[:, None]  # (n, 1, 16, 16)
    colour = 0.1 + 0.9 * torch.rand(n, 3, 1, 1, generator=rng)
    return 2 * inside * colour - 1 + GRAIN * torch.randn(n, 1, SIZE, SIZE, generator=rng)


class Equalised(nn.Module):
    """Linear layer or convolution with weights from N(0, 1), scaled by He's constant in use: Adam moves all alike."""

    def __init__(self, shape: Sequence[int], rng: torch.Generator, rate: float = 1.0, stride: int = 1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(*shape, generator=rng) / rate)
        self.bias, self.rate, self.stride = nn.Parameter(torch.zeros(shape[0])), rate, stride

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.rate * (2 / self.weight[0].numel()) ** 0.5 * self.weight, self.rate * self.bias
        if weight.dim() == 2:
            return linear(x, weight, bias)
        return conv2d(x, weight, bias, stride=self.stride, padding=weight.shape[-1] // 2)


def adain(x: Tensor, y_s: Tensor, y_b: Tensor) -> Tensor:
    """Eq. (1): each map of x (B, C, H, W) takes deviation y_s and mean y_b, (B, C) each."""
    return y_s[:, :, None, None] * instance_norm(x) + y_b[:, :, None, None]


class Generator(nn.Module):
    """z -> w by the mapping network; a learned constant grows to a picture under one style w a layer and noise."""

    def __init__(self, params: Params, rng: torch.Generator) -> None:
        super().__init__()
        self.noise_from = params.noise_from if params.noise else SIZE + 1
        dense = [Equalised((LATENT, LATENT), rng, rate=0.01) for _ in range(params.mapping_layers)]
        self.mapping = nn.Sequential(*(part for layer in dense for part in (layer, nn.LeakyReLU(0.2))))
        self.constant = nn.Parameter(torch.randn(1, CHANNELS, 4, 4, generator=rng))  # ones would hold no place
        self.convs = [Equalised((CHANNELS, CHANNELS, 3, 3), rng) for _ in range(LAYERS - 1)]
        self.affine = [Equalised((2 * CHANNELS, LATENT), rng) for _ in range(LAYERS)]  # A of figure 1
        self.layers = nn.ModuleList([*self.convs, *self.affine])
        self.noise_scale = nn.Parameter(torch.full((LAYERS, CHANNELS, 1, 1), 0.1))
        self.to_rgb = Equalised((3, CHANNELS, 1, 1), rng)

    def map(self, z: Tensor) -> Tensor:
        """w (B, d) of z (B, d), which is put on the sphere first."""
        return self.mapping(z / z.square().mean(dim=1, keepdim=True).sqrt())

    def synthesise(self, styles: Tensor, rng: torch.Generator | None) -> list[Tensor]:
        """Maps after each resolution, then the picture (B, 3, 16, 16); styles (B, 6, d), noise from rng if any."""
        x = self.constant.expand(len(styles), -1, -1, -1)
        maps: list[Tensor] = []
        for i, affine in enumerate(self.affine):
            if i > 0:
                x = interpolate(x, scale_factor=2.0, mode="bilinear") if i % 2 == 0 else x
                x = self.convs[i - 1](x)
            if rng is not None and x.shape[-1] >= self.noise_from:
                x = x + self.noise_scale[i] * torch.randn(len(x), 1, *x.shape[2:], generator=rng)  # B of fig. 1
            y_s, y_b = affine(styles[:, i]).chunk(2, dim=1)  # (B, C) each
            x = adain(leaky_relu(x, 0.2), 1 + y_s, y_b)
            if i % 2 == 1:
                maps.append(x)  # 4x4, 8x8, 16x16
        return [*maps, self.to_rgb(x)]


def build_discriminator(rng: torch.Generator) -> nn.Sequential:
    """Three convolutions and one verdict: (B, 3, 16, 16) -> logits (B, 1)."""
    c = CHANNELS
    return nn.Sequential(
        Equalised((c, 3, 3, 3), rng), nn.LeakyReLU(0.2), Equalised((2 * c, c, 3, 3), rng, stride=2), nn.LeakyReLU(0.2),
        Equalised((2 * c, 2 * c, 3, 3), rng, stride=2), nn.LeakyReLU(0.2), nn.Flatten(), Equalised((1, 32 * c), rng),
    )  # fmt: skip


def r1_penalty(D: nn.Module, real: Tensor) -> Tensor:
    """Squared slope of the discriminator at real pictures, mean over the batch, halved."""
    real = real.clone().requires_grad_()
    (slope,) = torch.autograd.grad(D(real).sum(), real, create_graph=True)
    return slope.square().flatten(1).sum(dim=1).mean() / 2


def mix(w_a: Tensor, w_b: Tensor, crossover: int) -> Tensor:
    """Styles (B, 6, d): the first layers take w_a (B, d), the others w_b."""
    early = (torch.arange(LAYERS) < crossover)[:, None]  # (6, 1)
    return torch.where(early, w_a[:, None], w_b[:, None])


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Take one step down the gradient of the loss."""
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()


def train(params: Params, tick: Tick) -> Generator:
    """The generator whose weights are the running mean over training, as the paper samples it."""
    rng = torch.Generator().manual_seed(2 * params.seed)
    G, D = Generator(params, rng), build_discriminator(rng)
    mean_G = copy.deepcopy(G)
    adam_g, adam_d = (torch.optim.Adam(net.parameters(), lr=RATE, betas=(0.0, 0.99), fused=True) for net in (G, D))
    for step in range(1, params.steps + 1):
        w_a, w_b = G.map(torch.randn(2 * BATCH, LATENT, generator=rng)).chunk(2)
        two = torch.rand((), generator=rng) < params.mixing_prob
        crossover = int(torch.randint(1, LAYERS, (), generator=rng)) if two else LAYERS
        fake, real = G.synthesise(mix(w_a, w_b, crossover), rng)[-1], draw_discs(BATCH, rng)
        loss_d = softplus(D(fake.detach())).mean() + softplus(-D(real)).mean()
        if step % LAZY == 0:
            loss_d = loss_d + LAZY * GAMMA * r1_penalty(D, real)
        descend(adam_d, loss_d)
        descend(adam_g, softplus(-D(fake)).mean())
        for kept, new in zip(mean_G.parameters(), G.parameters(), strict=True):
            kept.data.lerp_(new.data, 0.02)
        if step % 20 == 0:
            tick(step / params.steps, f"step {step}", discriminator=loss_d.item())
    return mean_G


def place_and_colour(x: Tensor) -> tuple[Tensor, Tensor]:
    """Middle of what is bright in pictures (N, 3, 16, 16), in pixels (N, 2), and its mean colour (N, 3)."""
    light = (x + 1 - 3 * GRAIN).clamp(min=0).sum(dim=1)  # (N, 16, 16); grain on black does not count
    weight = light / light.sum(dim=(1, 2), keepdim=True).clamp(min=1e-6)
    at = torch.arange(SIZE) + 0.5
    return torch.stack([weight.sum(dim=1) @ at, weight.sum(dim=2) @ at], dim=1), (weight[:, None] * x).sum(dim=(2, 3))


def sliced_wasserstein(a: Tensor, b: Tensor, rng: torch.Generator) -> float:
    """Sliced 2-Wasserstein distance of pictures (N, …), over 100 random directions of length 1."""
    directions = nn.functional.normalize(torch.randn(a[0].numel(), 100, generator=rng), dim=0)
    gap = (a.flatten(1) @ directions).sort(dim=0).values - (b.flatten(1) @ directions).sort(dim=0).values
    return gap.square().mean().sqrt().item()


def show(x: Tensor) -> list[list[list[list[list[float]]]]]:
    """A figure's rows of pictures from x (rows, columns, 3, 16, 16) in [-1, 1]."""
    return (x.movedim(-3, -1) / 2 + 0.5).clamp(0, 1).numpy().tolist()


@torch.no_grad()
def run(params: Params, tick: Tick = no_tick) -> Result:
    with torch.enable_grad():
        G = train(params, tick)
    dice = torch.Generator().manual_seed(2 * params.seed + 1)
    w, w_a, w_b = (G.map(torch.randn(n, LATENT, generator=dice)) for n in (TESTED, PAIRS, PAIRS))  # (N, d) each
    centre = G.map(torch.randn(2000, LATENT, generator=dice)).mean(dim=0)  # (d,)
    real = draw_discs(TESTED, dice)  # (N, 3, 16, 16)

    def draw(styles: Tensor) -> Tensor:
        return G.synthesise(styles, dice)[-1]  # (B, 3, 16, 16), each with noise of its own

    def truncate(psi: float, layers: int) -> Tensor:
        """Styles (N, 6, d): the first layers at psi times their distance from the mean style."""
        return mix(centre + psi * (w - centre), w, layers)

    def nearer(x: Tensor, to: Tensor, than: Tensor) -> float:
        """Share of rows of x (N, k) that are nearer to the row in `to` than to that in `than`."""
        return ((x - to).square().sum(dim=1) < (x - than).square().sum(dim=1)).double().mean().item()

    (at_a, colour_a), (at_b, colour_b) = (place_and_colour(draw(mix(of, of, LAYERS))) for of in (w_a, w_b))
    mixes = [place_and_colour(draw(mix(w_a, w_b, crossover))) for crossover in range(1, LAYERS)]
    from_a, from_b = [nearer(at, at_a, at_b) for at, _ in mixes], [nearer(c, colour_b, colour_a) for _, c in mixes]

    same_style, any_style = draw(mix(w[:1], w[:1], LAYERS).expand(TESTED, -1, -1)), draw(mix(w, w, LAYERS))
    by_noise, by_style = (x.std(dim=0).mean().item() for x in (same_style, any_style))
    wander, spread = (place_and_colour(x)[0].std(dim=0).mean().item() for x in (same_style, any_style))  # pixels
    psis = (0.0, 0.3, 0.5, 0.7, 1.0)
    quiet = [G.synthesise(truncate(psi, LAYERS), None)[-1].std(dim=0).mean().item() for psi in psis]  # noise off
    truncated = draw(truncate(params.psi, params.psi_layers))

    rows, columns = w_a[:5].repeat_interleave(6, dim=0), w_b[:6].repeat(5, 1)
    grid = draw(mix(rows, columns, params.crossover)).view(5, 6, 3, SIZE, SIZE)
    top = torch.cat([-torch.ones(1, 1, 3, SIZE, SIZE), draw(mix(w_b, w_b, LAYERS)[:6])[None]], dim=1)
    left = draw(mix(w_a, w_a, LAYERS)[:5])[:, None]
    deviation = same_style.std(dim=0, keepdim=True)  # (1, 3, 16, 16)
    white = max(deviation.max().item(), 1e-6)
    *maps, picture = G.synthesise(mix(w[:5], w[:5], LAYERS), dice)
    grown = [interpolate(m.mean(dim=1, keepdim=True), size=SIZE).expand(5, 3, -1, -1) for m in (G.constant, *maps)]
    figures = {
        "mixing": Images(f"First {params.crossover} styles from the left picture, the others from the top one",
                         show(torch.cat([top, torch.cat([left, grid], dim=1)]))),
        "noise": Images(f"One style, 13 draws of noise; last, the deviation of 400 draws, white is {white:.2g}",
                        show(torch.cat([same_style[:13], 2 * deviation / white - 1]).view(2, 7, 3, SIZE, SIZE))),
        "truncation": Images(f"Eight codes over psi; last row psi {params.psi:g} in {params.psi_layers} layers",
                             show(torch.stack([*(draw(truncate(psi, LAYERS)[:8]) for psi in psis), truncated[:8]])),
                             row_labels=[*(f"psi {psi:g}" for psi in psis), "chosen"]),
        "layers": Images("Five codes: the constant, the mean map after each resolution, the picture",
                         show(torch.stack([*grown, picture])), ["constant", "4x4", "8x8", "16x16", "picture"]),
    }  # fmt: skip
    return Result(
        metrics=[
            Metric("sliced_wasserstein", sliced_wasserstein(truncated, real, dice)),
            Metric("sliced_wasserstein of more data", sliced_wasserstein(draw_discs(TESTED, dice), real, dice)),
            Metric("deviation between samples", truncated.std(dim=0).mean().item()),
            Metric("deviation over noise", by_noise),
            Metric("deviation over styles", by_style),
        ],
        claims=[
            Claim("Colour follows late styles, crossover 4: share of mixes like B", from_b[3], ">=", 0.85),
            Claim("Already at crossover 2: share of mixes like B in colour", from_b[1], ">=", 0.85),
            Claim("Position follows early styles, crossover 4: share of mixes like A", from_a[3], ">=", 0.75),
            Claim("More early styles, more of A's position: crossover 4 minus 1", from_a[3] - from_a[0], ">=", 0.1),
            Claim("Noise makes the grain: deviation of pixels over noise", by_noise, ">=", 0.04),
            Claim("And leaves the disc where it is: wander over noise by that over styles", wander / spread, "<=", 0.3),
            Claim("Psi 0 is one picture, noise off: deviation", quiet[0], "<=", 1e-6),
            Claim("Variety grows with psi: smallest step", min(b - a for a, b in itertools.pairwise(quiet)), ">", 0),
        ],
        figures=[
            figures.pop(params.view), *figures.values(),
            Images("Data and samples", show(torch.stack([real[:8], any_style[:8]])), ["data", "samples"]),
            Lines("Deviation between pictures, noise off", "psi", "deviation", psis, {"styles": quiet}),
        ],
        tables=[
            Table("What a mix takes from whom", ["styles of A", "position like A's", "colour like B's"],
                  [[f"first {k} of 6", a, b] for k, (a, b) in enumerate(zip(from_a, from_b, strict=True), start=1)]),
        ],
    )  # fmt: skip
