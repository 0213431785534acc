"""Stable Diffusion v1 at full size, without weights

Question: What exactly goes in and out of each part, and where are the 1.07 billion parameters?
Source: Rombach et al. 2021, arXiv:2112.10752, §3, §E.1 and §G, with the released v1 configuration; residual blocks: Ho
  et al. 2020, arXiv:2006.11239; text encoder: Radford et al. 2021, arXiv:2103.00020, §2.4 (CLIP ViT-L/14).
Watch: 3x512x512 pixels become 4x64x64 latents; words enter each of the U-Net's 16 cross-attentions as 77x768. The
  networks stand on torch's "meta" device: every shape is computed, no number is. Their names of weights are those of
  diffusers and transformers, so that the published files fit.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from demos.contract import Bars, Claim, DemoParams, Metric, Preset, Result, Table, Tick, no_tick

SCALE = 0.18215  # latents are multiplied by it, so that their deviation is about 1
TITLES = {"vae": "VAE", "unet": "U-Net", "text": "Text encoder"}


class Params(DemoParams):
    part: Literal["vae", "unet", "text", "all"] = Field("all", description="Network shown")
    image_size: Literal["256", "512", "768", "1024"] = Field("512", description="Image side of the tables and figures")
    show: Literal["shapes", "parameters"] = Field("shapes", description="Table and figure that lead")
    seed: int = Field(0, ge=0, le=9999, description="Seed; changes nothing, as nothing is drawn here")

    presets: ClassVar[Mapping[str, Preset]] = {
        "parameters": Preset("Where the weights are, block by block", {"show": "parameters"}),
        "a thousand pixels": Preset("Larger tensors, the same weights", {"image_size": "1024", "part": "unet"}),
    }


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int, mask: Tensor | None = None) -> Tensor:
    """softmax(q kᵀ / √d + mask) v in each head. q (B, N, c), k and v (B, M, c) -> (B, N, c)."""
    q, k, v = (x.reshape(*x.shape[:2], heads, -1).transpose(1, 2) for x in (q, k, v))  # (B, heads, N or M, d)
    scores = q @ k.mT / math.sqrt(q.shape[-1])  # (B, heads, N, M)
    return ((scores if mask is None else scores + mask).softmax(dim=-1) @ v).transpose(1, 2).flatten(2)


class Attention(nn.Module):
    """Positions read positions of `source`: (B, N, c), (B, M, c_source) -> (B, N, c)."""

    def __init__(self, c: int, c_source: int, heads: int) -> None:
        super().__init__()
        self.heads, self.to_q = heads, nn.Linear(c, c, bias=False)
        self.to_k, self.to_v = (nn.Linear(c_source, c, bias=False) for _ in range(2))
        self.to_out = nn.Sequential(nn.Linear(c, c))

    def forward(self, x: Tensor, source: Tensor) -> Tensor:
        return self.to_out(attend(self.to_q(x), self.to_k(source), self.to_v(source), self.heads))


class PixelAttention(nn.Module):
    """The VAE's attention, one head among all positions of a map (B, c, h, w)."""

    def __init__(self, c: int, groups: int) -> None:
        super().__init__()
        self.group_norm = nn.GroupNorm(groups, c, eps=1e-6)
        self.to_q, self.to_k, self.to_v = (nn.Linear(c, c) for _ in range(3))
        self.to_out = nn.Sequential(nn.Linear(c, c))

    def forward(self, x: Tensor) -> Tensor:
        h = self.group_norm(x).flatten(2).mT  # (B, h·w, c)
        return x + self.to_out(attend(self.to_q(h), self.to_k(h), self.to_v(h), heads=1)).mT.view(x.shape)


class GEGLU(nn.Module):
    """One half of a projection, gated by GELU of the other: (B, N, c) -> (B, N, 4c)."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.proj = nn.Linear(c, 8 * c)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * F.gelu(gate)


class TransformerBlock(nn.Module):
    """Self-attention, cross-attention to the words (B, M, c_words), feed-forward; (B, N, c) stays."""

    def __init__(self, c: int, c_words: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.attn1 = nn.LayerNorm(c), Attention(c, c, heads)
        self.norm2, self.attn2 = nn.LayerNorm(c), Attention(c, c_words, heads)
        self.norm3 = nn.LayerNorm(c)
        self.ff = nn.ModuleDict({"net": nn.Sequential(GEGLU(c), nn.Identity(), nn.Linear(4 * c, c))})

    def forward(self, x: Tensor, words: Tensor) -> Tensor:
        h = self.norm1(x)
        x = x + self.attn1(h, h)
        x = x + self.attn2(self.norm2(x), words)
        return x + self.ff["net"](self.norm3(x))


class Transformer(nn.Module):
    """A transformer block over the positions of a map (B, c, h, w) ("spatial transformer")."""

    def __init__(self, c: int, c_words: int, heads: int, groups: int) -> None:
        super().__init__()
        self.norm, self.proj_in = nn.GroupNorm(groups, c, eps=1e-6), nn.Conv2d(c, c, 1)
        self.transformer_blocks = nn.ModuleList([TransformerBlock(c, c_words, heads)])
        self.proj_out = nn.Conv2d(c, c, 1)

    def forward(self, x: Tensor, words: Tensor) -> Tensor:
        h = self.transformer_blocks[0](self.proj_in(self.norm(x)).flatten(2).mT, words)  # (B, h·w, c)
        return x + self.proj_out(h.mT.view(x.shape))


class Resnet(nn.Module):
    """Two 3x3 convolutions around a shortcut, the time (B, c_time) added between them."""

    def __init__(self, c_in: int, c_out: int, c_time: int, groups: int) -> None:
        super().__init__()
        eps = 1e-5 if c_time else 1e-6
        self.norm1, self.conv1 = nn.GroupNorm(groups, c_in, eps=eps), nn.Conv2d(c_in, c_out, 3, padding=1)
        self.norm2, self.conv2 = nn.GroupNorm(groups, c_out, eps=eps), nn.Conv2d(c_out, c_out, 3, padding=1)
        if c_time:
            self.time_emb_proj = nn.Linear(c_time, c_out)
        if c_in != c_out:
            self.conv_shortcut = nn.Conv2d(c_in, c_out, 1)

    def forward(self, x: Tensor, time: Tensor | None) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        if time is not None:
            h = h + self.time_emb_proj(F.silu(time))[..., None, None]
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (self.conv_shortcut(x) if hasattr(self, "conv_shortcut") else x)


class Halve(nn.Module):
    """(B, c, h, w) -> (B, c, h/2, w/2). The VAE pads only on the right and below."""

    def __init__(self, c: int, padding: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c, c, 3, stride=2, padding=padding)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x if self.conv.padding[0] else F.pad(x, (0, 1, 0, 1)))


class Double(nn.Module):
    """(B, c, h, w) -> (B, c, 2h, 2w): nearest neighbours, then a convolution."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c, c, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0))


class Block(nn.Module):
    """Resnets, each followed by its attention where there is one, then a change of size."""

    def __init__(
        self, widths: Sequence[tuple[int, int]], c_time: int, groups: int, attentions: Sequence[nn.Module] = (),
        halve: nn.Module | None = None, double: nn.Module | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.resnets = nn.ModuleList([Resnet(c_in, c_out, c_time, groups) for c_in, c_out in widths])
        self.attentions = nn.ModuleList(attentions)
        self.downsamplers, self.upsamplers = (nn.ModuleList([m] if m else []) for m in (halve, double))

    def forward(
        self, h: Tensor, time: Tensor | None = None, words: Tensor | None = None, skips: Sequence[Tensor] = ()
    ) -> list[Tensor]:
        """The map after every step, the block's result last; `skips` are joined to its resnets' inputs, last first."""
        states: list[Tensor] = []
        for n, resnet in enumerate(self.resnets):
            h = resnet(torch.cat([h, skips[-1 - n]], dim=1) if skips else h, time)
            h = self.attentions[n](h, words) if len(self.attentions) else h
            states.append(h)
        return states + [resize(h) for resize in (*self.downsamplers, *self.upsamplers)]


class Middle(nn.Module):
    """Resnet, attention, resnet at the smallest size."""

    def __init__(self, c: int, c_time: int, groups: int, attention: nn.Module) -> None:
        super().__init__()
        self.attentions = nn.ModuleList([attention])
        self.resnets = nn.ModuleList([Resnet(c, c, c_time, groups) for _ in range(2)])

    def forward(self, h: Tensor, time: Tensor | None = None, words: Tensor | None = None) -> Tensor:
        h = self.resnets[0](h, time)
        h = self.attentions[0](h) if words is None else self.attentions[0](h, words)
        return self.resnets[1](h, time)


class TimeEmbedding(nn.Module):
    """(B, c) sines of the step -> (B, 4c)."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.linear_1, self.linear_2 = nn.Linear(c, 4 * c), nn.Linear(4 * c, 4 * c)

    def forward(self, sines: Tensor) -> Tensor:
        return self.linear_2(F.silu(self.linear_1(sines)))


class UNet(nn.Module):
    """ε_θ(z_t, t, words): (B, 4, h, w), (B,), (B, 77, 768) -> (B, 4, h, w)."""

    def __init__(
        self, widths: Sequence[int] = (320, 640, 1280, 1280), c_words: int = 768, heads: int = 8, groups: int = 32
    ) -> None:
        super().__init__()
        first, last, c_time = widths[0], len(widths) - 1, 4 * widths[0]

        def readers(n: int, level: int) -> list[Transformer]:  # all levels but the lowest read the words
            return [Transformer(widths[level], c_words, heads, groups) for _ in range(n if level < last else 0)]

        self.conv_in, self.time_embedding = nn.Conv2d(4, first, 3, padding=1), TimeEmbedding(first)
        self.down_blocks, self.up_blocks = nn.ModuleList(), nn.ModuleList()
        skips = [first]  # channels of each map that a later block takes
        for level, c in enumerate(widths):
            halve = Halve(c, padding=1) if level < last else None
            self.down_blocks.append(Block([(skips[-1], c), (c, c)], c_time, groups, readers(2, level), halve))
            skips += [c] * (3 if halve else 2)
        self.mid_block = Middle(widths[-1], c_time, groups, Transformer(widths[-1], c_words, heads, groups))
        c_in = widths[-1]
        for level, c in reversed(list(enumerate(widths))):
            joined = [(c_in + skips.pop(), c), *((c + skips.pop(), c) for _ in range(2))]
            double = Double(c) if level else None
            self.up_blocks.append(Block(joined, c_time, groups, readers(3, level), double=double))
            c_in = c
        self.conv_norm_out, self.conv_out = nn.GroupNorm(groups, first), nn.Conv2d(first, 4, 3, padding=1)

    def forward(self, z_t: Tensor, t: Tensor, words: Tensor) -> Tensor:
        half = self.conv_in.out_channels // 2
        angle = t[:, None] * torch.exp(-math.log(10_000) * torch.arange(half, device=t.device) / half)  # (B, half)
        time = self.time_embedding(torch.cat([angle.cos(), angle.sin()], dim=1))  # (B, c_time)
        skips = [self.conv_in(z_t)]
        for block in self.down_blocks:
            skips += block(skips[-1], time, words)
        h = self.mid_block(skips[-1], time, words)
        for block in self.up_blocks:
            h = block(h, time, words, skips[-3:])[-1]
            skips = skips[:-3]
        return self.conv_out(F.silu(self.conv_norm_out(h)))


class Encoder(nn.Module):
    """Image (B, 3, 8h, 8w) -> moments (B, 8, h, w), before the 1x1 convolution that ends it."""

    def __init__(self, widths: Sequence[int], groups: int) -> None:
        super().__init__()
        self.conv_in, self.down_blocks = nn.Conv2d(3, widths[0], 3, padding=1), nn.ModuleList()
        for level, (c_in, c) in enumerate(zip([widths[0], *widths], widths, strict=False)):
            halve = Halve(c, padding=0) if level < len(widths) - 1 else None
            self.down_blocks.append(Block([(c_in, c), (c, c)], 0, groups, halve=halve))
        self.mid_block = Middle(widths[-1], 0, groups, PixelAttention(widths[-1], groups))
        self.conv_norm_out = nn.GroupNorm(groups, widths[-1], eps=1e-6)
        self.conv_out = nn.Conv2d(widths[-1], 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv_in(x)
        for block in self.down_blocks:
            h = block(h)[-1]
        return self.conv_out(F.silu(self.conv_norm_out(self.mid_block(h))))


class Decoder(nn.Module):
    """Latents (B, 4, h, w), after the 1x1 convolution that begins it -> image (B, 3, 8h, 8w)."""

    def __init__(self, widths: Sequence[int], groups: int) -> None:
        super().__init__()
        self.conv_in, self.up_blocks = nn.Conv2d(4, widths[-1], 3, padding=1), nn.ModuleList()
        self.mid_block = Middle(widths[-1], 0, groups, PixelAttention(widths[-1], groups))
        falling = widths[::-1]
        for level, (c_in, c) in enumerate(zip([falling[0], *falling], falling, strict=False)):
            double = Double(c) if level < len(widths) - 1 else None
            self.up_blocks.append(Block([(c_in, c), (c, c), (c, c)], 0, groups, double=double))
        self.conv_norm_out = nn.GroupNorm(groups, widths[0], eps=1e-6)
        self.conv_out = nn.Conv2d(widths[0], 3, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        h = self.mid_block(self.conv_in(z))
        for block in self.up_blocks:
            h = block(h)[-1]
        return self.conv_out(F.silu(self.conv_norm_out(h)))


class VAE(nn.Module):
    """Images in −1…1 to latents and back, with three halvings."""

    def __init__(self, widths: Sequence[int] = (128, 256, 512, 512), groups: int = 32) -> None:
        super().__init__()
        self.encoder, self.quant_conv = Encoder(widths, groups), nn.Conv2d(8, 8, 1)
        self.post_quant_conv, self.decoder = nn.Conv2d(4, 4, 1), Decoder(widths, groups)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the latent, (B, 4, h, w) each."""
        mean, logvar = self.quant_conv(self.encoder(x)).chunk(2, dim=1)
        return mean, logvar

    def decode(self, z: Tensor) -> Tensor:
        """The image of an unscaled latent."""
        return self.decoder(self.post_quant_conv(z))


class Embeddings(nn.Module):
    """Token ids (B, L) -> vectors (B, L, c), a learned vector of the place added."""

    def __init__(self, vocabulary: int, length: int, c: int) -> None:
        super().__init__()
        self.token_embedding, self.position_embedding = nn.Embedding(vocabulary, c), nn.Embedding(length, c)

    def forward(self, ids: Tensor) -> Tensor:
        return self.token_embedding(ids) + self.position_embedding.weight[: ids.shape[1]]


class TextLayer(nn.Module):
    """Attention to earlier tokens and itself, then a feed-forward with x σ(1.702 x), each around a shortcut."""

    def __init__(self, c: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.self_attn = nn.ModuleDict({f"{name}_proj": nn.Linear(c, c) for name in ("q", "k", "v", "out")})
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(c, 4 * c), "fc2": nn.Linear(4 * c, c)})
        self.layer_norm1, self.layer_norm2 = nn.LayerNorm(c), nn.LayerNorm(c)

    def forward(self, x: Tensor) -> Tensor:
        h = self.layer_norm1(x)
        q, k, v = (self.self_attn[f"{name}_proj"](h) for name in ("q", "k", "v"))  # (B, L, c) each
        later = torch.full((x.shape[1], x.shape[1]), -math.inf, device=x.device).triu(1)  # (L, L): what comes after
        x = x + self.self_attn["out_proj"](attend(q, k, v, self.heads, later))
        h = self.mlp["fc1"](self.layer_norm2(x))
        return x + self.mlp["fc2"](h * torch.sigmoid(1.702 * h))


class TextEncoder(nn.Module):
    """CLIP ViT-L/14's text model: token ids (B, 77) -> one vector for each token (B, 77, 768)."""

    def __init__(self, c: int = 768, layers: int = 12, heads: int = 12, vocabulary: int = 49_408) -> None:
        super().__init__()
        self.embeddings = Embeddings(vocabulary, 77, c)
        self.encoder = nn.ModuleDict({"layers": nn.Sequential(*(TextLayer(c, heads) for _ in range(layers)))})
        self.final_layer_norm = nn.LayerNorm(c)

    def forward(self, ids: Tensor) -> Tensor:
        return self.final_layer_norm(self.encoder["layers"](self.embeddings(ids)))


def blocks(net: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The named blocks of a network: its children, with lists, encoder and decoder opened."""
    for name, child in net.named_children():
        if isinstance(child, nn.ModuleList | nn.ModuleDict | nn.Sequential | Encoder | Decoder):
            yield from blocks(child, f"{prefix}{name}.")
        else:
            yield prefix + name, child


def size(net: nn.Module) -> int:
    """Number of parameters."""
    return sum(weight.numel() for weight in net.parameters())


def shape(x: Tensor) -> str:
    """Size of one of the batch, such as 4x64x64."""
    return "x".join(map(str, x.shape[1:])) or "1"


class Trace:
    """What went in and out of every block of three networks when one image of a size passed through them."""

    def __init__(self, vae: VAE, unet: UNet, text: TextEncoder, side: int) -> None:
        self.rows: dict[str, list[tuple[str, str, str, int]]] = {}  # of each part: block, in, out, values that leave
        nets = {"vae": vae, "unet": unet, "text": text}
        hooks = [
            block.register_forward_hook(self.note(part, name)) for part in nets for name, block in blocks(nets[part])
        ]
        with torch.device("meta"):
            self.ids, self.x = torch.zeros(1, 77, dtype=torch.long), torch.zeros(1, 3, side, side)
            self.words = text(self.ids)
            self.mean, logvar = vae.encode(self.x)
            z_0 = SCALE * (self.mean + (0.5 * logvar).exp() * torch.randn_like(self.mean))
            self.eps = unet(z_0, torch.ones(1), self.words)
            self.image = vae.decode(self.eps / SCALE)
        for hook in hooks:
            hook.remove()

    def note(self, part: str, name: str) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        """A hook that writes the row of one block."""

        def write(_: nn.Module, given: Sequence[Tensor | list[Tensor] | None], result: Tensor | list[Tensor]) -> None:
            out = result[-1] if isinstance(result, list) else result
            inputs: list[Tensor] = []
            for value in given:  # the map, the time, the words, and the skips that an upper block takes, last first
                inputs += [] if value is None else [value] if isinstance(value, Tensor) else value[::-1]
            row = (name, ", ".join(shape(x) for x in inputs), shape(out), out[0].numel())
            self.rows.setdefault(part, []).append(row)

        return write


def run(params: Params, tick: Tick = no_tick) -> Result:
    with torch.device("meta"):
        vae, unet, text = VAE(), UNet(), TextEncoder()
    nets = {"vae": vae, "unet": unet, "text": text}
    tick(0.5, "networks built")
    at_512 = Trace(vae, unet, text, 512)
    side = int(params.image_size)
    seen = at_512 if side == 512 else Trace(vae, unet, text, side)
    tick(1.0, "one image traced")
    shown = [params.part] if params.part != "all" else list(nets)
    total = sum(map(size, nets.values()))
    readers = sum(isinstance(m, Attention) and m.to_k.in_features == 768 for m in unet.modules())
    flow = [
        ["prompt", f"{shape(seen.ids)} token ids", "text encoder"],
        ["text encoder", f"{shape(seen.words)} words", f"{readers} cross-attentions of the U-Net"],
        ["image, −1…1 (training, image to image)", shape(seen.x), "VAE encoder"],
        ["VAE encoder", f"{shape(seen.mean)} mean, as much log-variance; a draw times {SCALE}", "noising"],
        ["noise, or the step before", f"{shape(seen.mean)} noisy latent z_t", "U-Net"],
        ["step number t", "1, as 320 sines and cosines", "time embedding, every resnet of the U-Net"],
        ["U-Net", f"{shape(seen.eps)} predicted noise", "scheduler, back to the U-Net or on"],
        ["scheduler", f"{shape(seen.eps)} latent z_0 divided by {SCALE}", "VAE decoder"],
        ["VAE decoder", shape(seen.image), "image"],
    ]
    tables = [("shapes", Table(f"Flow of a {side}x{side} image", ["from", "tensor", "to"], flow))]
    figures: list[tuple[str, Bars]] = []
    for part in shown:
        rows = seen.rows[part]
        counts = {name: size(block) for name, block in blocks(nets[part])}
        columns = ["block", "parameters", f"share of {TITLES[part]}"]
        tables += [
            ("shapes", Table(f"{TITLES[part]}: in and out", ["block", "in", "out"], [list(row[:3]) for row in rows])),
            ("parameters", Table(f"{TITLES[part]}: parameters", columns,
                                 [[name, n, n / size(nets[part])] for name, n in counts.items()])),
        ]  # fmt: skip
        figures += [
            ("shapes", Bars(f"{TITLES[part]}: values that leave each block", "", "values", [row[0] for row in rows],
                            {"values": [row[3] for row in rows]})),
            ("parameters", Bars(f"{TITLES[part]}: parameters", "", "millions", list(counts),
                                {"parameters": [n / 1e6 for n in counts.values()]})),
        ]  # fmt: skip
    words_fit, noise_fits = (int(fits) for fits in (shape(at_512.words) == "77x768", shape(at_512.eps) == "4x64x64"))
    ends = [shape(at_512.mean) == "4x64x64", shape(at_512.image) == "3x512x512"]
    return Result(
        metrics=[
            Metric("parameters", total),
            *(Metric(f"parameters, {TITLES[part]}", size(net)) for part, net in nets.items()),
            Metric("values of the image over values of its latent", seen.x.numel() / seen.mean.numel()),
        ],
        claims=[
            Claim("A 3x512x512 image gives a 4x64x64 latent and back: shapes that are so", sum(ends), "==", 2),
            Claim("77 tokens give 77 vectors of 768: outputs that are so", words_fit, "==", 1),
            Claim("4x64x64 latents, a time and 77x768 words give 4x64x64: outputs that are so",
                  noise_fits, "==", 1),
            Claim("Cross-attentions of the U-Net that read vectors of 768", readers, "==", 16),
            Claim("Parameters of the U-Net", size(nets["unet"]), "==", 859520964),
            Claim("Parameters of the VAE", size(nets["vae"]), "==", 83653863),
            Claim("Parameters of the text encoder", size(nets["text"]), "==", 123060480),
        ],
        figures=[figure for _, figure in sorted(figures, key=lambda of: of[0] != params.show)],
        tables=[table for _, table in sorted(tables, key=lambda of: of[0] != params.show)],
    )  # fmt: skip
