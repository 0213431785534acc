"""From words to an image embedding and on

Question: Why put a prior between text and image embeddings?
Source: Ramesh et al. 2022 (DALL·E 2), arXiv:2204.06125, §2 (P(x | y) = P(x | z_i) P(z_i | y)), §2.2 and eq. (2) (the
  prior predicts z_i itself), figure 8 (decoding text embeddings directly); CLIP: Radford et al. 2021, arXiv:2103.00020.
Watch: a caption has one text embedding, and there are many pictures of it. CLIP puts them in the same direction, not in
  the same place. The prior draws one of the image embeddings that the caption may have, and the decoder makes a picture
  of it; fed with the text embedding instead, it falls back on the few pictures that are nearest to it.
"""

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn import functional as F

from demos.contract import Bars, Claim, DemoParams, Images, Lines, Metric, Preset, Result, Scatter, Table, Tick, no_tick
from demos.shared.ddpm import T, jump, make_schedule, step_back, train, visits
from demos.shared.shapes import COLOURS, SHAPES, draw_shapes, recognise, to_rows

D, BATCH, DROPPED, KEPT, EACH = 16, 128, 0.1, 3_000, 20  # size of embeddings; KEPT pictures of the decoder
BLUR, SURE = 0.1, 3000.0  # of the decoder: deviation around each kept picture; how sharply an embedding tells pictures
NAMES = [f"{colour} {shape}" for colour in COLOURS for shape in SHAPES]  # 12 captions, which leave the side open
ALPHA_BAR = make_schedule()


class Params(DemoParams):
    prompt: str = Field("red disc", max_length=20, description="Caption: a colour and a shape")
    route: Literal["prior", "direct"] = Field("prior", description="Decode a sampled embedding, or the text's")
    guidance: float = Field(1.0, ge=0.0, le=8.0, description="Guidance of the prior: 0 ignores the words, 1 is none")
    steps: int = Field(600, ge=50, le=2000, description="Training steps of CLIP and of the prior")
    seed: int = Field(0, ge=0, le=9999, description="Seed of data, weights and noise")

    presets: ClassVar[Mapping[str, Preset]] = {
        "direct": Preset("The text embedding itself is decoded", {"route": "direct"}),
        "no caption": Preset("Scale 0: the prior draws the embedding of any picture", {"guidance": 0.0}),
        "strong guidance": Preset("Surer of the caption, fewer of its pictures", {"guidance": 6.0}),
    }

    @field_validator("prompt")
    @classmethod
    def _is_a_caption(cls, prompt: str) -> str:
        if prompt not in NAMES:
            raise ValueError(f"one of {', '.join(NAMES)}")
        return prompt


class CLIP(nn.Module):
    """Pictures (N, 3, 8, 8) and captions (N,) of `NAMES` to unit vectors (N, D)."""

    def __init__(self, rng: torch.Generator) -> None:
        super().__init__()
        self.image = nn.Sequential(nn.Flatten(), nn.Linear(192, 128), nn.SiLU(), nn.Linear(128, D))
        self.colour, self.shape = nn.Embedding(len(COLOURS), D), nn.Embedding(len(SHAPES), D)
        start(self, rng)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def encode_images(self, x: Tensor) -> Tensor:
        return F.normalize(self.image(x), dim=1)

    def encode_texts(self, captions: Tensor) -> Tensor:
        """A sum over the two words, as of length 1."""
        return F.normalize(self.colour(captions // 3) + self.shape(captions % 3), dim=1)


class Prior(nn.Module):
    """z_i from a noisy one (N, D), its time (N,) and a text embedding (N, D), which is 0 where none is given."""

    def __init__(self, rng: torch.Generator) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(2 * D + 8, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU(), nn.Linear(128, D)
        )
        start(self, rng)

    def forward(self, z: Tensor, t: Tensor, text: Tensor) -> Tensor:
        angles = math.pi * t[:, None] * torch.tensor([0.5, 1, 2, 4])  # (N, 4)
        return self.layers(torch.cat([z, math.sqrt(D) * text, angles.sin(), angles.cos()], dim=1))


def start(net: nn.Module, rng: torch.Generator) -> None:
    """Draw weights from a generator of our own; biases start at 0."""
    for weight in net.parameters():
        nn.init.normal_(weight, std=weight.shape[-1] ** -0.5 if weight.dim() > 1 else 0.0, generator=rng)


def contrastive_loss(images: Tensor, texts: Tensor, scale: Tensor) -> Tensor:
    """CLIP's: mean cross-entropy of each picture's own caption and of each caption's own picture."""
    logits = scale * images @ texts.T
    return -(2 * logits.diagonal() - logits.logsumexp(dim=1) - logits.logsumexp(dim=0)).mean() / 2


def train_clip(x: Tensor, captions: Tensor, steps: int, rng: torch.Generator, tick: Tick) -> CLIP:
    """On pictures (K, 3, 8, 8) and their captions (K,)."""
    clip = CLIP(rng)

    def draw_loss() -> Tensor:
        batch = torch.randint(len(x), (BATCH,), generator=rng)
        return contrastive_loss(clip.encode_images(x[batch]), clip.encode_texts(captions[batch]), clip.log_scale.exp())

    train(clip, draw_loss, steps, tick)
    return clip.requires_grad_(False)


def train_prior(
    images: Tensor, texts: Tensor, steps: int, rng: torch.Generator, tick: Tick
) -> tuple[Prior, list[float]]:
    """Eq. (2): ‖z_i − f(z_i^(t), t, y)‖² on pairs of embeddings (K, D), times √D: coordinates of deviation near 1."""
    prior = Prior(rng)

    def draw_loss() -> Tensor:
        batch = torch.randint(len(images), (2 * BATCH,), generator=rng)
        z, text = math.sqrt(D) * images[batch], texts[batch]
        text = text * (torch.rand(len(z), 1, generator=rng) >= DROPPED)
        t = torch.randint(1, T + 1, (len(z),), generator=rng)
        z_t = jump(z, torch.randn(z.shape, generator=rng), ALPHA_BAR[t])
        return (prior(z_t, t / T, text) - z).square().mean()

    return prior, train(prior, draw_loss, steps, tick)


@torch.no_grad()
def sample_prior(prior: Prior, text: Tensor, z: Tensor, scale: float, passes: int = 25) -> Tensor:
    """Image embeddings (N, D) of length 1 that text embeddings (N, D) may have, by DDIM from noise z."""
    for t, s in visits(T, passes):
        time = torch.full((len(z),), t / T)
        free, told = prior(z, time, torch.zeros_like(text)), prior(z, time, text)
        z_0 = free + scale * (told - free)
        a, b = ALPHA_BAR[t], ALPHA_BAR[s]
        z = b.sqrt() * z_0 + (1 - b).sqrt() * (z - a.sqrt() * z_0) / (1 - a).sqrt()
    return F.normalize(z, dim=1)


@torch.no_grad()
def decode(e: Tensor, kept: Tensor, embedded: Tensor, x: Tensor, passes: int = 25) -> Tensor:
    """Pictures of embeddings e (N, D) by DDIM from noise x (N, 3, 8, 8), with the exact denoiser.

    It knows the `kept` pictures (K, 3, 8, 8), each blurred, and how likely each has such an embedding:
    p(x | e) ∝ p(x) exp(SURE · e·z(x)), embedded (K, D). A trained decoder approximates it.
    """
    likely = SURE * e @ embedded.T  # (N, K)
    for t, s in visits(T, passes):
        a, b = ALPHA_BAR[t], ALPHA_BAR[s]
        variance = a * BLUR**2 + 1 - a
        centres = a.sqrt() * kept.flatten(1)
        share = (likely - torch.cdist(x.flatten(1), centres).square() / (2 * variance)).softmax(dim=1)
        eps = (1 - a).sqrt() / variance * (x - (share @ centres).view(x.shape))
        x = step_back(x, eps, a, b)
    return x


def nearest(a: Tensor, b: Tensor) -> Tensor:
    """Distance of each of a (N, D) to the nearest of b (M, D), (N,)."""
    return torch.cdist(a, b).amin(dim=1)


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng, dice = (torch.Generator().manual_seed(2 * params.seed + odd) for odd in (0, 1))  # training; evaluation

    def part(start: float, name: str) -> Tick:
        return lambda fraction, message, **live: tick(start + 0.4 * fraction, f"{name}: {message}", **live)

    kept, labels = draw_shapes(KEPT, rng, 8)
    of_kept = 3 * labels[:, 0] + labels[:, 1]
    clip = train_clip(kept, of_kept, params.steps, rng, part(0.0, "CLIP"))
    embedded = clip.encode_images(kept)
    prior, losses = train_prior(embedded, clip.encode_texts(of_kept), params.steps, rng, part(0.4, "prior"))
    captions = torch.arange(12).repeat(EACH)  # (N,)
    texts = clip.encode_texts(captions)
    sides = torch.randint(2, (len(captions),), generator=dice)
    real, _ = draw_shapes(len(captions), dice, 8, torch.stack([captions // 3, captions % 3, sides], dim=1))
    images = clip.encode_images(real)  # of pictures that nothing was trained on
    z_T = torch.randn(len(captions), D, generator=dice)
    x_T = torch.randn(len(captions), 3, 8, 8, generator=dice)
    sampled = sample_prior(prior, texts, z_T, params.guidance)
    made = {
        "prior": decode(sampled, kept, embedded, x_T),
        "direct": decode(texts, kept, embedded, x_T),
        "true embedding": decode(images, kept, embedded, x_T),
    }
    tick(1.0, "decoded")

    def obeyed(x: Tensor) -> float:
        """Share of pictures with the colour and the shape of their captions."""
        told, _ = recognise(x)
        return (3 * told[:, 0] + told[:, 1] == captions).double().mean().item()

    def variety(x: Tensor) -> float:
        """Deviation of a pixel among the pictures of one caption."""
        return x.view(EACH, 12, -1).std(dim=0).mean().item()

    distance = {name: nearest(e, embedded).mean().item()
                for name, e in (("text", texts), ("sampled", sampled), ("new picture", images))}  # fmt: skip
    aligned = ((images @ clip.encode_texts(torch.arange(12)).T).argmax(dim=1) == captions).double().mean().item()
    returned = ((made["true embedding"] - real).square().mean() / real.var()).item()
    chosen = NAMES.index(params.prompt)
    mine = captions == chosen
    axes = torch.tensor(np.linalg.svd((images - images.mean(dim=0)).numpy(), full_matrices=False)[2][:2].tolist())
    clouds = {"pictures": images, f"pictures of {params.prompt}": images[mine],
              f"sampled for {params.prompt}": sampled[mine], "captions": texts[:12],
              f"caption {params.prompt}": texts[chosen : chosen + 1]}  # fmt: skip
    shown = {"real pictures": real, **made}
    return Result(
        metrics=[
            Metric("obeyed", obeyed(made[params.route]), "share of images with colour and shape as asked"),
            Metric("gap", (images - texts).square().sum(dim=1).sqrt().mean().item(), "distance of a pair's embeddings"),
            Metric("variety of your route", variety(made[params.route]), "deviation of a pixel"),
            Metric("variety of real pictures", variety(real), "deviation of a pixel"),
        ],
        claims=[
            Claim("Words and pictures are aligned: share of new pictures nearest to their caption of 12", aligned,
                  ">=", 0.9),
            Claim("Yet a text embedding is no picture's: distance to the nearest over that of a new picture",
                  distance["text"] / distance["new picture"], ">=", 3),
            Claim("Sampled embeddings are nearer to true ones than text embeddings are: ratio",
                  distance["sampled"] / distance["text"], "<=", 0.5),
            Claim("Pictures from the prior obey the words: share, chance 1 in 12", obeyed(made["prior"]), ">=", 0.6),
            Claim("They differ among themselves as decoded text embeddings do not: variety over theirs",
                  variety(made["prior"]) / variety(made["direct"]), ">=", 1.09),
            Claim("The decoder returns the picture of a true embedding: error over the variance", returned, "<=", 0.25),
        ],
        figures=[
            Images(f'"{params.prompt}": real pictures, and decoded from',
                   [to_rows(of[mine][:10]) for of in (real, made["prior"], made["direct"], made["true embedding"])],
                   ["real", "prior", "text itself", "embeddings of the real"]),
            Scatter("Embeddings in the plane of the pictures' two main axes", "first axis", "second axis",
                    {name: ((e - images.mean(dim=0)) @ axes.T).numpy().tolist() for name, e in clouds.items()}),
            Bars("How much the pictures of one caption differ", "", "deviation of a pixel", list(shown),
                 {"variety": [variety(of) for of in shown.values()]}),
            Lines("Training the prior", "step", "squared error of the embedding", list(range(1, len(losses) + 1)),
                  {"prior": losses}, log="y"),
        ],
        tables=[
            Table("What is decoded", ["embedding", "distance to the nearest true one", "obeyed", "variety"],
                  [["of the caption", distance["text"], obeyed(made["direct"]), variety(made["direct"])],
                   ["sampled by the prior", distance["sampled"], obeyed(made["prior"]), variety(made["prior"])],
                   ["of a new picture", distance["new picture"], obeyed(made["true embedding"]),
                    variety(made["true embedding"])]]),
        ],
    )  # fmt: skip
