"""The U-Net taken apart

Question: What does each part of the denoising U-Net contribute?
Source: Ronneberger, Fischer, Brox 2015, arXiv:1505.04597, §2; Ho et al. 2020, arXiv:2006.11239, Appendix B; contexts by
  cross-attention: Rombach et al. 2021, arXiv:2112.10752, §3.3.
Watch: sizes halve on the way down, and every stored map comes back on the way up. Take parts out one by one: without
  skips detail must pass the bottleneck, without attention a pixel sees only its neighbourhood.
"""

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from demos.contract import Claim, DemoParams, Heatmap, Images, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.ddpm import T, jump, make_schedule, train
from demos.shared.digits import load_digits

CHANNELS, GROUPS, BATCH, TESTED = 8, 4, 32, 297
ALPHA_BAR = make_schedule()  # (T + 1,)
WIDE = 80  # side of the image on which influence is measured; a U-Net takes any size


class Params(DemoParams):
    skips: bool = Field(True, description="Skip connections from the way down to the way up")
    attention: bool = Field(True, description="Self-attention at the lowest resolution")
    time: bool = Field(True, description="Time input")
    context: bool = Field(False, description="Cross-attention to a context, here the digit's label")
    block: Literal["down", "middle", "up", "all"] = Field("all", description="Part whose maps are shown")
    steps: int = Field(150, ge=10, le=600, description="Training steps of each network compared")
    seed: int = Field(0, ge=0, le=9999, description="Seed of data and weights")

    presets: ClassVar[Mapping[str, Preset]] = {
        "no skips": Preset("All detail has to pass the bottleneck, and the loss rises", {"skips": False}),
        "no attention": Preset("A pixel is reached by its neighbourhood alone", {"attention": False}),
        "no time": Preset("The network is not told how much noise there is", {"time": False}),
    }


class Norm(nn.Module):
    """Group norm whose statistics can be held fixed, for through them each pixel reaches all others a little."""

    held = False

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        groups = x.view(len(x), GROUPS, -1, *x.shape[2:])  # (B, G, C / G, H, W)
        source = groups.detach() if self.held else groups
        variance, mean = torch.var_mean(source, dim=(2, 3, 4), correction=0, keepdim=True)
        normal = ((groups - mean) / (variance + 1e-5).sqrt()).view(x.shape)
        return normal * self.weight[:, None, None] + self.bias[:, None, None]


class ResBlock(nn.Module):
    """Normalise, activate, convolve, twice; in between the time is added to every channel; the input is added last."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = Norm(inputs), nn.Conv2d(inputs, outputs, 3, padding=1)
        self.time = nn.Linear(4 * CHANNELS, outputs)
        self.norm2, self.conv2 = Norm(outputs), nn.Conv2d(outputs, outputs, 3, padding=1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, vector: Tensor) -> Tensor:
        """x (B, inputs, H, W), vector (B, 4C) -> (B, outputs, H, W)."""
        h = self.conv1(nn.functional.silu(self.norm1(x))) + self.time(nn.functional.silu(vector))[:, :, None, None]
        return self.shortcut(x) + self.conv2(nn.functional.silu(self.norm2(h)))


class Attention(nn.Module):
    """Every pixel asks all pixels, or, with a context, all tokens of the context."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = Norm(channels)
        self.q, self.k, self.v, self.out = (nn.Linear(channels, channels) for _ in range(4))

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """x (B, C, H, W), context (B, N, C) -> (B, C, H, W)."""
        pixels = self.norm(x).flatten(2).transpose(1, 2)  # (B, HW, C)
        source = pixels if context is None else context
        q, k, v = self.q(pixels), self.k(source), self.v(source)
        weights = (q @ k.transpose(1, 2) / math.sqrt(q.shape[2])).softmax(dim=2)  # (B, HW, N)
        return x + self.out(weights @ v).transpose(1, 2).reshape(x.shape)


class UNet(nn.Module):
    """ε_θ(x_t, t): two resolutions, C and 2C channels, one residual block per level down and two up, as DDPM has it."""

    def __init__(self, params: Params, rng: torch.Generator) -> None:
        super().__init__()
        C, self.params = CHANNELS, params
        self.mlp = nn.Sequential(nn.Linear(C, 4 * C), nn.SiLU(), nn.Linear(4 * C, 4 * C))
        self.down_conv, self.down_shrink = nn.Conv2d(1, C, 3, padding=1), nn.Conv2d(C, C, 3, stride=2, padding=1)
        self.down_block1, self.down_block2 = ResBlock(C, C), ResBlock(C, 2 * C)
        self.middle_block1, self.middle_block2 = ResBlock(2 * C, 2 * C), ResBlock(2 * C, 2 * C)
        self.middle_attention, self.middle_cross = Attention(2 * C), Attention(2 * C)
        S = C if params.skips else 0  # channels that a skip adds
        self.up_block1, self.up_block2 = ResBlock(2 * C + 2 * S, 2 * C), ResBlock(2 * C + S, 2 * C)
        self.up_block3, self.up_block4 = ResBlock(2 * C + S, C), ResBlock(C + S, C)
        self.up_grow, self.up_conv = nn.Conv2d(2 * C, 2 * C, 3, padding=1), nn.Conv2d(C, 1, 3, padding=1)
        self.labels, self.norm = nn.Embedding(10, 2 * C), Norm(C)
        for name, weight in self.named_parameters():
            if weight.dim() > 1:  # a block starts as the identity: its last convolution is zero
                nn.init.kaiming_uniform_(weight, a=5**0.5, generator=rng)
                weight.data *= not name.endswith("conv2.weight")
            elif name.endswith("bias"):
                nn.init.zeros_(weight)

    def forward(self, x: Tensor, t: Tensor, label: Tensor) -> dict[str, Tensor]:
        """The map that each part makes, by the part's name; x (B, 1, H, W), t and label (B,)."""
        omega = torch.exp(-math.log(10_000) * torch.arange(CHANNELS // 2) / (CHANNELS // 2))
        angle = t[:, None] * omega * self.params.time
        e = self.mlp(torch.cat([angle.cos(), angle.sin()], dim=1))  # (B, 4C), added in every residual block
        maps = {"down_conv": self.down_conv(x)}  # (B, C, H, W)
        maps["down_block1"] = self.down_block1(maps["down_conv"], e)
        maps["down_shrink"] = self.down_shrink(maps["down_block1"])  # (B, C, H/2, W/2)
        h = maps["down_block2"] = self.down_block2(maps["down_shrink"], e)  # (B, 2C, H/2, W/2)
        h = maps["middle_block1"] = self.middle_block1(h, e)
        if self.params.attention:
            h = maps["middle_attention"] = self.middle_attention(h)
        if self.params.context:
            h = maps["middle_cross"] = self.middle_cross(h, self.labels(label)[:, None])  # a context of one token
        h = maps["middle_block2"] = self.middle_block2(h, e)

        def join(stored: str) -> Tensor:
            return torch.cat([h, maps[stored]], dim=1) if self.params.skips else h

        h = maps["up_block1"] = self.up_block1(join("down_block2"), e)
        h = maps["up_block2"] = self.up_block2(join("down_shrink"), e)
        h = maps["up_grow"] = self.up_grow(nn.functional.interpolate(h, scale_factor=2.0))  # (B, 2C, H, W)
        h = maps["up_block3"] = self.up_block3(join("down_block1"), e)  # (B, C, H, W)
        h = maps["up_block4"] = self.up_block4(join("down_conv"), e)
        maps["up_conv"] = self.up_conv(nn.functional.silu(self.norm(h)))  # (B, 1, H, W)
        return maps


def fit(params: Params, digits: Tensor, labels: Tensor, tick: Tick) -> UNet:
    """Train one network; all start alike and see the same batches."""
    rng, draws = (torch.Generator().manual_seed(2 * params.seed) for _ in range(2))
    network = UNet(params, rng)

    def draw_loss() -> Tensor:
        chosen = torch.randint(len(digits), (BATCH,), generator=draws)
        t, eps = torch.randint(1, T + 1, (BATCH,), generator=draws), torch.randn(BATCH, 1, 8, 8, generator=draws)
        return (network(jump(digits[chosen], eps, ALPHA_BAR[t]), t, labels[chosen])["up_conv"] - eps).square().mean()

    train(network, draw_loss, params.steps, tick)
    return network


def influence(network: UNet, x: Tensor) -> Tensor:
    """|∂ middle pixel of the output / ∂ pixel| for an image (1, 1, H, W), statistics of norms held fixed: (H, W)."""
    for module in network.modules():
        if isinstance(module, Norm):
            module.held = True
    leaf = x.clone().requires_grad_()
    output = network(leaf, torch.tensor([T // 2]), torch.tensor([0]))["up_conv"]
    (gradient,) = torch.autograd.grad(output[0, 0, x.shape[2] // 2, x.shape[3] // 2], leaf)
    return gradient[0, 0].abs()


def run(params: Params, tick: Tick = no_tick) -> Result:
    dice = torch.Generator().manual_seed(2 * params.seed + 1)
    order = torch.randperm(1797, generator=dice)
    images, labels = (part[order] for part in load_digits())
    t, eps = torch.randint(1, T + 1, (TESTED,), generator=dice), torch.randn(TESTED, 1, 8, 8, generator=dice)
    x_t, label = jump(2 * images[:TESTED] - 1, eps, ALPHA_BAR[t]), labels[:TESTED]
    parts = {f"without {part}": params.model_copy(update={part: False}) for part in ("skips", "attention", "time")}
    variants = {"this run": params, **parts}
    networks, loss = dict[Params, UNet](), dict[str, float]()
    for name, variant in variants.items():
        if variant not in networks:
            networks[variant] = fit(variant, 2 * images[TESTED:] - 1, labels[TESTED:], tick)
        with torch.no_grad():
            loss[name] = (networks[variant](x_t, t, label)["up_conv"] - eps).square().mean().item()

    network = networks[params]
    with torch.no_grad():
        maps = network(x_t[:1], t[:1], label[:1])
        fresh = UNet(params, torch.Generator().manual_seed(params.seed))
        h, e = torch.randn(1, 2 * CHANNELS, 4, 4, generator=dice), torch.randn(1, 4 * CHANNELS, generator=dice)
        moved = max((block(h, e) - h).abs().max().item() for block in (fresh.middle_block1, fresh.middle_block2))
    pairs = (("up_block1", "down_block2"), ("up_block3", "down_block1"), ("up_block4", "down_conv"))
    odd = sum(maps[up].shape != maps[down].shape for up, down in pairs)
    wide = torch.randn(1, 1, WIDE, WIDE, generator=dice)
    reached, alone = (influence(networks[variant], wide) for variant in (params, parts["without attention"]))
    share, share_without = ((pixels > 0).float().mean().item() for pixels in (reached, alone))
    rise = loss["without skips"] / loss["this run"]
    shown = {name: part for name, part in maps.items() if params.block == "all" or name.startswith(params.block)}
    size = torch.stack([nn.functional.interpolate(part.abs().mean(1, True), size=8)[0, 0] for part in shown.values()])
    size = (size / size.amax(dim=(1, 2), keepdim=True)).numpy().tolist()  # (parts, 8, 8), small maps enlarged
    return Result(
        metrics=[
            Metric("parameters", sum(weight.numel() for weight in network.parameters())),
            Metric("loss", loss["this run"]),
            Metric("share of pixels that reach the middle", share),
        ],
        figures=[
            Images("What each part makes of one digit: mean size over channels", [size], ["size"], list(shown)),
            Heatmap(f"log10 of influence on the middle pixel of {WIDE} x {WIDE}, every second one", "x", "y",
                    reached.clamp(min=1e-12).log10()[::2, ::2].numpy().tolist()),
        ],
        tables=[
            Table("The parts in order", ["part", "channels", "size", "parameters"], [
                [name, part.shape[1], f"{part.shape[2]} x {part.shape[3]}",
                 sum(weight.numel() for weight in getattr(network, name).parameters())] for name, part in shown.items()
            ]),
            Table("Denoising loss with and without a part", ["network", "loss", "over this run's"],
                  [[name, value, value / loss["this run"]] for name, value in loss.items()]),
        ],
        claims=[
            Claim("The way up returns the shapes of the way down: maps that differ", odd, "==", 0),
            Claim("A new residual block is the identity, its last convolution being zero: change", moved, "<=", 1e-6),
            Claim("Without skips the denoising loss is higher: over this run's", rise, ">=", 1.05),
            Claim("With attention every pixel reaches the middle one: share", share, "==", 1),
            Claim("Without it only a neighbourhood does: share", share_without, "<=", 0.8),
        ],
    )  # fmt: skip
