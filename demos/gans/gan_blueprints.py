"""The published networks at full size, without weights

Question: How large are the original DCGAN, Pix2Pix, CycleGAN and StyleGAN, layer by layer?
Source: the generators of Radford, Metz, Chintala 2015, arXiv:1511.06434, fig. 1; Isola et al. 2016, arXiv:1611.07004,
  appendix 6.1.1; Zhu et al. 2017, arXiv:1703.10593, appendix 7.2; Karras, Laine, Aila 2018, arXiv:1812.04948, fig. 1;
  where a paper leaves a choice open, its authors' code.
Watch: parameters sit where channels are many, work where pixels are many: up to 32x32 StyleGAN has most of its weights,
  from 64x64 on most of its work. Change blocks or resolution and the published sizes are missed. All stands on torch's
  "meta" device: every shape is computed, no number is.
"""

import itertools
import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from demos.contract import Bars, Claim, DemoParams, Lines, Metric, Preset, Result, Table, Tick, no_tick


class Params(DemoParams):
    network: Literal["dcgan", "pix2pix", "cyclegan", "stylegan"] = Field("cyclegan", description="Generator shown")
    blocks: int = Field(9, ge=1, le=12, description="Residual blocks of the CycleGAN generator")
    resolution: Literal["64", "128", "256", "512", "1024"] = Field("1024", description="Image side of StyleGAN")
    layer: int = Field(1, ge=1, le=30, description="Layer shown in detail (the last one if there are fewer)")
    seed: int = Field(0, ge=0, le=9999, description="Seed; changes nothing, as nothing is drawn here")

    presets: ClassVar[Mapping[str, Preset]] = {
        "six blocks": Preset("The size for 128-pixel images: 3.5 million fewer, so the count is missed", {"blocks": 6}),
        "small faces": Preset(
            "StyleGAN for 256 pixels has 14 layers, not 18, and nearly all the weights",
            {"network": "stylegan", "resolution": "256"},
        ),
        "inside a residual block": Preset("Two padded 3x3 convolutions, one ReLU, a sum", {"layer": 4}),
    }


def dcgan() -> nn.Module:
    """z (B, 100) -> image (B, 3, 64, 64)."""

    def up(c_in: int, c: int) -> nn.Module:  # 5x5, fractionally strided: twice the side
        return nn.ConvTranspose2d(c_in, c, 5, stride=2, padding=2, output_padding=1, bias=False)

    layers: dict[str, nn.Module] = {
        "project": nn.Sequential(
            nn.Linear(100, 16_384, bias=False), nn.BatchNorm1d(16_384), nn.ReLU(), nn.Unflatten(1, (1024, 4, 4))
        )
    }
    for c in (512, 256, 128):
        layers[f"up to {c}"] = nn.Sequential(up(2 * c, c), nn.BatchNorm2d(c), nn.ReLU())
    layers["up to 3"] = nn.Sequential(up(128, 3), nn.Tanh())
    return nn.Sequential(OrderedDict(layers))


class UNet(nn.Module):
    """Pix2Pix: image (B, 3, 256, 256) -> image; each decoder layer also reads the encoder's map of its size."""

    def __init__(self) -> None:
        super().__init__()
        widths = [3, 64, 128, 256, 512, 512, 512, 512, 512]
        for n, (c_in, c) in enumerate(itertools.pairwise(widths), start=1):
            steps = [nn.LeakyReLU(0.2), nn.Conv2d(c_in, c, 4, stride=2, padding=1, bias=False), nn.BatchNorm2d(c)]
            # no norm in the first layer, as the paper says, nor in the last: a map of one pixel has no statistics
            self.add_module(f"e{n}", nn.Sequential(*{1: steps[1:2], 8: steps[:2]}.get(n, steps)))
        for n in range(8, 0, -1):
            c_in, c = widths[n] * (1 if n == 8 else 2), widths[n - 1]
            up = nn.ConvTranspose2d(c_in, c, 4, stride=2, padding=1, bias=n == 1)
            after = [nn.Tanh()] if n == 1 else [nn.BatchNorm2d(c), *([nn.Dropout()] if n in (5, 6, 7) else [])]
            self.add_module(f"d{n}", nn.Sequential(nn.ReLU(), up, *after))

    def forward(self, x: Tensor) -> Tensor:
        maps = [x]
        for n in range(1, 9):
            maps.append(self.get_submodule(f"e{n}")(maps[-1]))  # (B, c, 256 / 2ⁿ, 256 / 2ⁿ)
        h = self.get_submodule("d8")(maps[8])  # (B, 512, 2, 2)
        for n in range(7, 0, -1):
            h = self.get_submodule(f"d{n}")(torch.cat([h, maps[n]], dim=1))
        return h


def convolve(c_in: int, c: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    """CycleGAN's convolutions: borders are mirrored, but zeros where it halves."""
    pad = kernel // 2
    if stride > 1:
        return [nn.Conv2d(c_in, c, kernel, stride, pad)]
    return [nn.ReflectionPad2d(pad), nn.Conv2d(c_in, c, kernel)]


class Residual(nn.Module):
    """x + f(x), (B, c, h, w). No ReLU at the end: the sum may go down as well as up."""

    def __init__(self, c: int) -> None:
        super().__init__()
        inner = [*convolve(c, c, 3), nn.InstanceNorm2d(c), nn.ReLU()]
        self.f = nn.Sequential(*inner, *convolve(c, c, 3), nn.InstanceNorm2d(c))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.f(x)


def cyclegan(blocks: int) -> nn.Module:
    """Image (B, 3, 256, 256) -> image; names as in the paper: c7s1-k, dk, Rk, uk with k filters."""
    layers: dict[str, nn.Module] = {
        "c7s1-64": nn.Sequential(*convolve(3, 64, 7), nn.InstanceNorm2d(64), nn.ReLU()),
        "d128": nn.Sequential(*convolve(64, 128, 3, stride=2), nn.InstanceNorm2d(128), nn.ReLU()),
        "d256": nn.Sequential(*convolve(128, 256, 3, stride=2), nn.InstanceNorm2d(256), nn.ReLU()),
    }
    for n in range(1, blocks + 1):
        layers[f"R256 ({n})"] = Residual(256)
    for c in (128, 64):
        up = nn.ConvTranspose2d(2 * c, c, 3, stride=2, padding=1, output_padding=1)
        layers[f"u{c}"] = nn.Sequential(up, nn.InstanceNorm2d(c), nn.ReLU())
    layers["c7s1-3"] = nn.Sequential(*convolve(64, 3, 7), nn.Tanh())
    return nn.Sequential(OrderedDict(layers))


class Constant(nn.Module):
    """The learned start of synthesis, the same for every image: (1, 512, 4, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.ones(1, 512, 4, 4))

    def forward(self) -> Tensor:
        return self.value


class Blur(nn.Module):
    """Each channel of (B, c, h, w) smoothed by the fixed filter [1, 2, 1] both ways."""

    def forward(self, x: Tensor) -> Tensor:
        taps = torch.tensor([1.0, 2.0, 1.0], device=x.device)
        return F.conv2d(x, taps.outer(taps).expand(x.shape[1], 1, 3, 3) / 16, padding=1, groups=x.shape[1])


class NoiseAndBias(nn.Module):
    """One noise value for each pixel of (B, c, h, w), scaled for each channel, and a bias."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.scale, self.bias = nn.Parameter(torch.zeros(c, 1, 1)), nn.Parameter(torch.zeros(c, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.scale * torch.randn_like(x[:, :1]) + self.bias


class StyledLayer(nn.Module):
    """Convolution but in the first layer, noise, bias, LeakyReLU, then AdaIN by w: (B, c_in, h, w), (B, 512)."""

    def __init__(self, c_in: int, c: int, up: bool) -> None:
        super().__init__()
        steps: list[nn.Module] = [nn.Upsample(scale_factor=2)] if up else []
        steps += [nn.Conv2d(c_in, c, 3, padding=1, bias=False)] if c_in else []
        steps += [Blur()] if up else []
        self.steps = nn.Sequential(*steps, NoiseAndBias(c), nn.LeakyReLU(0.2), nn.InstanceNorm2d(c))
        self.style = nn.Linear(512, 2 * c)  # the learned affine transform A

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        scale, shift = self.style(w)[..., None, None].chunk(2, dim=1)  # (B, c, 1, 1) each
        return (1 + scale) * self.steps(x) + shift  # eq. (1); the affine output is read as scale - 1


class StyleGAN(nn.Module):
    """z (B, 512) -> image (B, 3, R, R): eight mapping layers, two synthesis layers for each resolution from 4 to R."""

    def __init__(self, resolution: int) -> None:
        super().__init__()
        sides = [2**k for k in range(2, int(math.log2(resolution)) + 1)]
        self.mapping, self.synthesis = [f"f{n}" for n in range(1, 9)], list[str]()
        for name in self.mapping:
            self.add_module(name, nn.Sequential(nn.Linear(512, 512), nn.LeakyReLU(0.2)))
        self.constant = Constant()
        c_in = 0
        for side in sides:
            c = min(512, 16_384 // side)
            for part, source in (("a", c_in), ("b", c)):
                self.synthesis.append(f"{side}x{side} {part}")
                self.add_module(self.synthesis[-1], StyledLayer(source, c, up=part == "a" and side > 4))
            c_in = c
        self.to_rgb = nn.Conv2d(c_in, 3, 1)
        # each resolution had its own 1x1 convolution to RGB while the network grew; they are still counted
        self.to_rgb_while_growing = nn.ModuleList(nn.Conv2d(min(512, 16_384 // side), 3, 1) for side in sides[:-1])

    def forward(self, z: Tensor) -> Tensor:
        w = z * z.square().mean(dim=1, keepdim=True).add(1e-8).rsqrt()
        for name in self.mapping:
            w = self.get_submodule(name)(w)  # (B, 512)
        h = self.constant()
        for name in self.synthesis:
            h = self.get_submodule(name)(h, w)  # (B, c, side, side)
        return self.to_rgb(h)


def size(net: nn.Module) -> int:
    """Number of parameters."""
    return sum(weight.numel() for weight in net.parameters())


@dataclass(frozen=True, slots=True)
class Step:
    """One step inside a layer: output shape without batch, parameters, multiplications of weights for one image."""

    kind: str
    out: Sequence[int]
    parameters: int
    work: int


def trace(net: nn.Module, x: Tensor) -> tuple[dict[str, list[Step]], Tensor]:
    """Send x through a network: the steps inside each of its layers, in the order of use, and the output."""
    layers: dict[str, list[Step]] = {}

    def watch(name: str, step: nn.Module) -> None:
        def note(_: nn.Module, given: Sequence[Tensor], out: Tensor) -> None:
            kind, work = type(step).__name__, 0
            if isinstance(step, nn.Linear):
                work = step.weight.numel()
            if isinstance(step, nn.Conv2d | nn.ConvTranspose2d):
                kind += f" {step.kernel_size[0]}x{step.kernel_size[1]}" + ("" if step.stride[0] == 1 else ", stride 2")
                # a weight meets every output position; of a transposed convolution every input position
                work = step.weight.numel() * (out if isinstance(step, nn.Conv2d) else given[0])[0, 0].numel()
            layers.setdefault(name, []).append(Step(kind, out.shape[1:], size(step), work))

        step.register_forward_hook(note)

    for name, layer in net.named_children():
        for module in layer.modules():
            if not list(module.children()):
                watch(name, module)
    return layers, net.eval()(x)


def show(sizes: Sequence[int]) -> str:
    return "x".join(map(str, sizes))


def run(params: Params, tick: Tick = no_tick) -> Result:
    side = int(params.resolution)
    with torch.device("meta"):
        stylegan, six, image = StyleGAN(side), cyclegan(6), torch.zeros(1, 3, 256, 256)
        nets = {"dcgan": dcgan(), "pix2pix": UNet(), "cyclegan": cyclegan(params.blocks), "stylegan": stylegan}
        inputs = {"dcgan": torch.zeros(1, 100), "pix2pix": image, "cyclegan": image, "stylegan": torch.zeros(1, 512)}
        traces = {name: trace(net, inputs[name]) for name, net in nets.items()}
    tick(0.9, "every network built and passed")
    work = {name: sum(step.work for steps in layers.values() for step in steps) for name, (layers, _) in traces.items()}
    net, layers = nets[params.network], traces[params.network][0]
    weights = [sum(step.parameters for step in steps) for steps in layers.values()]
    products = [sum(step.work for step in steps) for steps in layers.values()]
    ends = [steps[-1].out for steps in layers.values()]
    kinds = ["; ".join(step.kind for step in steps if step.work) or steps[-1].kind for steps in layers.values()]
    columns = zip(layers, kinds, map(show, ends), weights, [n / 1e6 for n in products], strict=True)
    rows = [[n, *row] for n, row in enumerate(columns, start=1)]
    idle = {name: size(child) for name, child in net.named_children() if name not in layers}
    rows += [[n, name, "not used once grown", "", idle[name], 0.0] for n, name in enumerate(idle, len(layers) + 1)]
    chosen = min(params.layer, len(layers))
    name = list(layers)[chosen - 1]
    expected = {"dcgan": 64, "pix2pix": 256, "cyclegan": 256, "stylegan": side}
    right = sum(traces[name][1].shape == (1, 3, side, side) for name, side in expected.items())
    return Result(
        metrics=[
            Metric("parameters", size(net)),
            Metric("multiplications for one image", work[params.network] / 1e9, "billions"),
        ],
        claims=[
            Claim("CycleGAN's generator has the published nine-block size: parameters",
                  size(nets["cyclegan"]), "==", 11378179),
            Claim("With six blocks it has the published size too: parameters", size(six), "==", 7837699),
            Claim("StyleGAN's generator has the size that its code prints at 1024x1024: parameters",
                  size(stylegan), "==", 26219627),
            Claim("Its synthesis network is 18 layers deep: layers", len(stylegan.synthesis), "==", 18),
            Claim("Its mapping network is 8 layers deep: layers", len(stylegan.mapping), "==", 8),
            Claim("Synthesis starts from 512x4x4 learned numbers: how many", size(stylegan.constant), "==", 8192),
            Claim("Every network gives a colour image of the stated size: networks that do", right, "==", 4),
        ],
        tables=[
            Table(f"Generator of {params.network}, layer by layer",
                  ["no.", "layer", "steps with weights", "output", "parameters", "million multiplications"], rows),
            Table(f"Layer {chosen}, {name}, step by step", ["step", "output", "parameters"],
                  [[step.kind, show(step.out), step.parameters] for step in layers[name]]),
            Table("The four generators",
                  ["network", "input", "output", "layers", "parameters", "billion multiplications"],
                  [[name, show(inputs[name].shape[1:]), show(out.shape[1:]), len(layers), size(nets[name]),
                    work[name] / 1e9] for name, (layers, out) in traces.items()]),
        ],
        figures=[
            Lines("Resolution and channels along the network", x="layer", y="count", at=list(range(1, len(ends) + 1)),
                  series={"side in pixels": [out[-1] if len(out) == 3 else 1 for out in ends],
                          "channels": [out[0] for out in ends]}, log="y"),
            Bars("Where the parameters are, and where the work", x="", y="% of the network", labels=list(layers),
                 series={"parameters": [100 * n / sum(weights) for n in weights],
                         "multiplications": [100 * n / sum(products) for n in products]}),
        ],
    )  # fmt: skip
