"""Text to image in latent space

Question: Can an autoencoder, a text-conditioned U-Net and guidance, all small, draw what three words say?
Source: Rombach et al. 2021, arXiv:2112.10752, eq. (2) and (3), §G (scale); guidance: Ho, Salimans 2022,
  arXiv:2207.12598, eq. (6), in Stable Diffusion's count (s = 1 + w); sampler: Song et al. 2020, arXiv:2010.02502, (12).
Watch: two trainings, one after the other. The autoencoder turns 768 pixel values into 64 and is then frozen; the U-Net
  learns noise on its latents, with words that are dropped now and then. At scale 0 words are ignored, at 1 they are
  heard, at 3 they are obeyed. A bad autoencoder spoils everything after it.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from demos.contract import Claim, DemoParams, Images, Lines, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.ddpm import T, train, visits
from demos.shared.shapes import CAPTIONS, COLOURS, LABELS, captions_of, draw_shapes, recognise, to_rows
from demos.shared.words_to_shapes import ALPHA_BAR, LENGTH, WordUNet, drop, noise_loss, tokenize

C, BATCH, KL, SCALES, EACH = 96, 32, 1e-2, [0.0, 1.0, 3.0, 6.0], 5  # width of the autoencoder; EACH caption tested


class Params(DemoParams):
    prompt: str = Field("red disc left", max_length=60, description="Colour, shape, side: all three, or fewer")
    negative: str = Field("", max_length=60, description="Prompt that takes the place of the empty one")
    guidance: float = Field(3.0, ge=0.0, le=10.0, description="Guidance scale s: 0 ignores the words, 1 is none")
    sampling_steps: int = Field(20, ge=2, le=100, description="Denoising steps, two network passes each")
    vae_steps: int = Field(400, ge=20, le=2000, description="Training steps of the autoencoder")
    steps: int = Field(400, ge=50, le=3000, description="Training steps of the U-Net")
    space: Literal["latent", "pixel"] = Field("latent", description="What is diffused: 64 latent or 768 pixel values")
    view: Literal["images", "process", "training"] = Field("images", description="Figure that leads")
    wrong: float = Field(
        0.15, ge=0.0, le=0.5, description="Share of captions that are another picture's, as on the web"
    )
    seed: int = Field(0, ge=0, le=9999, description="Seed of data, weights and noise")

    presets: ClassVar[Mapping[str, Preset]] = {
        "process": Preset("Latents over the steps, and what they decode to", {"view": "process"}),
        "no guidance": Preset("Scale 1: words are heard, not always obeyed", {"guidance": 1.0}),
        "bad autoencoder": Preset("Shapes are lost in the latent, so no U-Net can draw them", {"vae_steps": 60}),
        "pixels": Preset("The same U-Net on pixels: each step costs many times more", {"space": "pixel", "steps": 150}),
    }

    @field_validator("prompt", "negative")
    @classmethod
    def _has_known_words(cls, prompt: str) -> str:
        known = {word for caption in CAPTIONS for word in caption.split()}
        if unknown := set(prompt.split()) - known:
            raise ValueError(f"no {', '.join(sorted(unknown))} in this world; it has {', '.join(sorted(known))}")
        if len(prompt.split()) > LENGTH:
            raise ValueError(f"at most {LENGTH} words")
        return prompt


class Autoencoder(nn.Module):
    """Pictures (B, 3, 16, 16) to a Gaussian over latents (B, 4, 4, 4), and back."""

    def __init__(self, rng: torch.Generator) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(3, C, 4, 4), nn.SiLU(), nn.Conv2d(C, C, 3, padding=1), nn.SiLU(), nn.Conv2d(C, 8, 1)
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(4, C, 3, padding=1), nn.SiLU(), nn.Conv2d(C, C, 3, padding=1), nn.SiLU(),
            nn.ConvTranspose2d(C, 3, 4, 4),
        )  # fmt: skip
        for weight in self.parameters():
            bound = (weight[0].numel() if weight.dim() > 1 else len(weight)) ** -0.5
            nn.init.uniform_(weight, -bound, bound, generator=rng)
        self.scale = 1.0  # of latents, so that they have deviation 1 as the noise has

    def encode(self, x: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """A draw z from the encoder's Gaussian (B, 4, 4, 4), times the scale, and KL(that ‖ N(0, I)) in nats (B,)."""
        mean, logvar = self.encoder(x).chunk(2, dim=1)
        z = mean + (0.5 * logvar).exp() * torch.randn(mean.shape, generator=rng)
        return self.scale * z, 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum(dim=(1, 2, 3))

    def decode(self, z: Tensor) -> Tensor:
        """Scaled latents to pictures."""
        return self.decoder(z / self.scale)


def train_autoencoder(steps: int, rng: torch.Generator, tick: Tick) -> tuple[Autoencoder, list[float]]:
    """First stage: squared error and a little KL; then the scale is measured and all is frozen."""
    vae = Autoencoder(rng)

    def draw_loss() -> Tensor:
        x, _ = draw_shapes(BATCH, rng)
        z, kl = vae.encode(x, rng)
        return (vae.decode(z) - x).square().mean() + KL * kl.mean() / x[0].numel()

    losses = train(vae, draw_loss, steps, tick)
    with torch.no_grad():
        vae.scale = 1 / vae.encode(draw_shapes(500, rng)[0], rng)[0].std().item()
    vae.requires_grad_(False)
    return vae, losses


def train_unet(
    vae: Autoencoder | None, steps: int, wrong: float, rng: torch.Generator, tick: Tick
) -> tuple[WordUNet, list[float]]:
    """Second stage: eq. (3) on latents, or on pixels where there is no autoencoder. Some captions are `wrong`."""
    unet = WordUNet(4, 4, rng, width=48) if vae else WordUNet(3, 16, rng, width=24)

    def draw_loss() -> Tensor:
        x, labels = draw_shapes(2 * BATCH if vae else BATCH, rng)
        z_0 = vae.encode(x, rng)[0] if vae else x
        ids = tokenize(captions_of(labels))
        ids = torch.where(torch.rand(len(ids), 1, generator=rng) < wrong, ids.roll(1, 0), ids)
        return noise_loss(unet, z_0, unet.read(drop(ids, rng)), rng)

    return unet, train(unet, draw_loss, steps, tick)


@torch.no_grad()
def sample(
    unet: WordUNet, prompts: list[str], negative: str, scale: float, z: Tensor, steps: int
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """DDIM from noise z (B, c, h, w): after every step the latent, and the noise predicted without and with words."""
    words, without = unet.read(tokenize(prompts)), unet.read(tokenize([negative] * len(prompts)))
    path = list[tuple[Tensor, Tensor, Tensor]]()
    for t, s in visits(T, steps):
        eps_n, eps_c = unet(torch.cat([z, z]), torch.full((2 * len(z),), t / T), torch.cat([without, words])).chunk(2)
        eps = eps_n + scale * (eps_c - eps_n)
        a, b = ALPHA_BAR[t], ALPHA_BAR[s]
        z = b.sqrt() * (z - (1 - a).sqrt() * eps) / a.sqrt() + (1 - b).sqrt() * eps
        path.append((z, eps_n, eps_c))
    return path


def channels(latents: list[Tensor]) -> list[list[list[list[float]]]]:
    """Latents (c, h, w) as a grid of grey pictures, a row for each channel, −3…3 from black to white."""
    return (torch.stack(latents, dim=1) / 6 + 0.5).clamp(0, 1).numpy().tolist()


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng, dice = (torch.Generator().manual_seed(2 * params.seed + odd) for odd in (0, 1))  # training; evaluation

    def part(start: float, share: float, name: str) -> Tick:
        return lambda fraction, message, **live: tick(start + share * fraction, f"{name}: {message}", **live)

    vae, losses = train_autoencoder(params.vae_steps, rng, part(0.0, 0.35, "autoencoder"))
    before = [weight.clone() for weight in vae.parameters()]
    latent = params.space == "latent"
    unet, noise_losses = train_unet(vae if latent else None, params.steps, params.wrong, rng, part(0.35, 0.5, "U-Net"))
    moved = max((a - b).abs().max().item() for a, b in zip(before, vae.parameters(), strict=True))
    shape = (4, 4, 4) if latent else (3, 16, 16)

    @torch.no_grad()
    def pictures(z: Tensor) -> Tensor:
        return vae.decode(z) if latent else z

    prompts = CAPTIONS * EACH
    start = torch.randn(len(prompts), *shape, generator=dice)
    labels = LABELS.repeat(EACH, 1)
    made = dict[float, Tensor]()
    for scale in sorted({*SCALES, params.guidance}):
        path = sample(unet, prompts, params.negative, scale, start, params.sampling_steps)
        made[scale] = pictures(path[-1][0])
        tick(0.85 + 0.15 * len(made) / 5, f"drawn at scale {scale:g}")
    right = {scale: (recognise(x)[0] == labels).double() for scale, x in made.items()}  # (N, 3) each
    obeyed = {scale: of.prod(dim=1).mean().item() for scale, of in right.items()}
    by_caption = right[params.guidance].prod(dim=1).view(EACH, 24).mean(dim=0).numpy().tolist()

    x, known = draw_shapes(480, dice)
    with torch.no_grad():
        back = vae.decode(vae.encode(x, dice)[0])
    kept = (recognise(back)[0][:, 1] == known[:, 1]).double().mean().item()
    words = params.prompt.split()
    swapped = [COLOURS[(COLOURS.index(word) + 1) % 4] if word in COLOURS else word for word in words]
    pair = [params.prompt] * 8 + [" ".join(swapped)] * 8
    path = sample(unet, pair, params.negative, params.guidance, start[:8].repeat(2, 1, 1, 1), params.sampling_steps)
    final = pictures(path[-1][0])
    shown = [0, *range(len(path) // 10, len(path), max(1, len(path) // 10))] if len(path) > 10 else range(len(path))
    along = [path[n] for n in shown]
    names = [f"step {n + 1}" for n in shown]
    figures = {
        "images": [
            Images(f'"{params.prompt}" from eight noises, and another colour from the same', [to_rows(final[:8]),
                   to_rows(final[8:])], [params.prompt or "no words", " ".join(swapped) or "no words"]),
            Images("All 24 captions", [to_rows(made[params.guidance][n : n + 6]) for n in range(0, 24, 6)],
                   COLOURS, [" ".join(caption.split()[1:]) for caption in CAPTIONS[:6]]),
        ],
        "process": [
            Images("What is diffused, a row for each channel", channels([z[0] for z, _, _ in along]),
                   [f"channel {n + 1}" for n in range(shape[0])], names),
            Images("The same as pictures", [to_rows(torch.cat([pictures(z[:1]) for z, _, _ in along]))], [], names),
            Images("Predicted noise, first channel: without words, with words, their difference", [
                channels([eps_n[0, :1] for _, eps_n, _ in along])[0],
                channels([eps_c[0, :1] for _, _, eps_c in along])[0],
                channels([3 * (eps_c - eps_n)[0, :1] for _, eps_n, eps_c in along])[0],
            ], ["without", "with", "3 times the difference"], names),
        ],
        "training": [
            Lines("First the autoencoder", "step", "squared error and KL", list(range(1, len(losses) + 1)),
                  {"loss": losses}, log="y"),
            Lines("Then the U-Net", "step", "squared error of the noise", list(range(1, len(noise_losses) + 1)),
                  {"loss": noise_losses}, log="y"),
        ],
    }  # fmt: skip
    return Result(
        metrics=[
            Metric("obeyed", obeyed[params.guidance], "share of images with colour, shape and side as asked"),
            *(Metric(f"obeyed at scale {scale:g}", obeyed[scale], "share") for scale in SCALES),
            Metric("values denoised", start[0].numel()),
            Metric("scale of the latents", vae.scale),
        ],
        claims=[
            Claim("At scale 3 all three words are obeyed: share of images, chance 1 in 24", obeyed[3.0], ">=", 0.7),
            Claim("Guidance raises obedience: share at scale 3 less that at 1", obeyed[3.0] - obeyed[1.0], ">=", 0.03),
            Claim("At scale 0 the words are ignored: share", obeyed[0.0], "<=", 0.15),
            Claim("The decoder returns the picture: squared error over the variance",
                  ((back - x).square().mean() / x.var()).item(), "<=", 0.15),
            Claim("Shapes survive the autoencoder: share told right", kept, ">=", 0.85),
            Claim("The autoencoder does not change while the U-Net trains: largest difference", moved, "==", 0),
        ],
        figures=[*figures.pop(params.view), *(figure for rest in figures.values() for figure in rest)],
        tables=[
            Table("Obeyed at each scale", ["scale", "all three", "colour", "shape", "side"],
                  [[scale, obeyed[scale], *of.mean(dim=0).numpy().tolist()] for scale, of in right.items()]),
            Table(f"Obeyed at scale {params.guidance:g}, {EACH} images a caption", ["caption", "share"],
                  [[caption, share] for caption, share in zip(CAPTIONS, by_caption, strict=True)]),
        ],
    )  # fmt: skip
