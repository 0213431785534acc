"""The pipeline, step by step against the library

Question: Is text to image really only: encode words, draw noise, loop, decode?
Source: Rombach et al. 2021, arXiv:2112.10752, eq. (2), §3.3 and §G (scale of latents); guidance: Ho, Salimans 2022,
  arXiv:2207.12598, eq. (6); DDPM: Ho et al. 2020, arXiv:2006.11239, eq. (7); DDIM: Song et al. 2020, arXiv:2010.02502,
  eq. (12); PLMS: Liu et al. 2022, arXiv:2202.09778, §3; the check in σ: Karras et al. 2022, arXiv:2206.00364, §2.
Watch: every tensor from prompt to pixels. The networks are small and untrained, so that pictures mean nothing and each
  number can still be checked: here against the same run written in other coordinates, in the tests against the
  pipeline of diffusers. Plant a fault and find the first row whose deviation looks wrong.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from demos.contract import Bars, Claim, DemoParams, Images, Lines, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.shapes import COLOURS, SHAPES, SIDES, captions_of, draw_shapes

T, LENGTH, C, BATCH, SIDE = 1000, 77, 32, 8, 32  # steps of training; tokens; width; pictures trained on; their side
BETAS = torch.linspace(0.00085**0.5, 0.012**0.5, T, dtype=torch.float64).square()  # "scaled linear", as in v1
ALPHA_BAR = torch.cumprod(1 - BETAS, dim=0).float()  # (T,), at t = 0 … 999
WORDS = ["<start>", "<end>", *COLOURS, *SHAPES, *SIDES]
Sampler = Literal["ddim", "pndm", "ddpm"]


class Params(DemoParams):
    mode: Literal["generate", "train"] = Field("generate", description="What leads: generation, or one training step")
    steps: int = Field(10, ge=1, le=50, description="Denoising steps")
    guidance: float = Field(7.5, ge=1.0, le=15.0, description="Guidance scale; at 1 the library skips the second pass")
    scheduler: Sampler = Field("ddim", description="Scheduler")
    fault: Literal["none", "not scaled back", "prompts swapped", "time as index"] = Field(
        "none", description="Mistake planted in the loop"
    )
    seed: int = Field(0, ge=0, le=9999, description="Seed of weights, pictures and noise")

    presets: ClassVar[Mapping[str, Preset]] = {
        "training step": Preset("The other half: one step of training with every tensor", {"mode": "train"}),
        "no guidance": Preset("At scale 1 one pass is enough, so the claim on two passes fails", {"guidance": 1.0}),
        "not scaled back": Preset("The decoder gets latents that are too small", {"fault": "not scaled back"}),
        "prompts swapped": Preset("Guided away from the prompt", {"fault": "prompts swapped"}),
        "time as index": Preset("The U-Net is told 0, 1, 2, … instead of 901, 801, …", {"fault": "time as index"}),
    }  # fmt: skip


class TextEncoder(nn.Module):
    """Stand-in for CLIP: ids (B, 77) -> one vector for each (B, 77, C)."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.places, self.norm = nn.Embedding(len(WORDS), C), nn.Embedding(LENGTH, C), nn.LayerNorm(C)

    def forward(self, ids: Tensor) -> Tensor:
        return self.norm(self.tokens(ids) + self.places.weight)


class UNet(nn.Module):
    """Stand-in for the U-Net: z_t (B, 4, h, w), times (B,), words (B, 77, C) -> predicted noise (B, 4, h, w).

    To an untrained network that reads the words it adds what would be best if latents were N(0, I), so that z keeps
    deviation 1 all the way as with a trained one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.time, self.leave = (
            nn.Conv2d(4, C, 3, padding=1),
            nn.Linear(C, C),
            nn.Conv2d(C, 4, 3, padding=1),
        )
        self.q, self.k, self.v = nn.Linear(C, C), nn.Linear(C, C), nn.Linear(C, C)

    def forward(self, z_t: Tensor, t: Tensor, words: Tensor) -> Tensor:
        angle = t[:, None] * torch.logspace(0, -4, C // 2)  # (B, C / 2)
        h = self.enter(z_t) + self.time(torch.cat([angle.cos(), angle.sin()], dim=1))[..., None, None]
        scores = self.q(h.flatten(2).mT) @ self.k(words).mT / math.sqrt(C)  # (B, h·w, 77): each place asks each word
        h = h + (scores.softmax(dim=-1) @ self.v(words)).mT.view(h.shape)  # what the words answer is added
        return (1 - ALPHA_BAR[t])[:, None, None, None].sqrt() * z_t + self.leave(nn.functional.silu(h))


class VAE(nn.Module):
    """Stand-in for the autoencoder: pictures (B, 3, 8h, 8w) in −1…1 to latents (B, 4, h, w) and back."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Conv2d(16, 8, 3, 2, 1)
        self.encoder = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1), nn.SiLU(), nn.Conv2d(16, 16, 3, 2, 1), nn.SiLU(), self.last
        )
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(4, 16, 4, 2, 1), nn.SiLU(), nn.ConvTranspose2d(16, 16, 4, 2, 1), nn.SiLU(),
            nn.ConvTranspose2d(16, 3, 4, 2, 1),
        )  # fmt: skip

    def encode(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """A draw from the encoder's Gaussian; the second half of its channels is the log-variance."""
        mean, logvar = self.encoder(x).chunk(2, dim=1)
        return mean + (0.5 * logvar).exp() * torch.randn(mean.shape, generator=rng)


@dataclass(frozen=True, slots=True)
class Parts:
    """What a pipeline is made of, as functions, so that the tests can put those of diffusers in."""

    text: Callable[[Tensor], Tensor]
    unet: Callable[[Tensor, Tensor, Tensor], Tensor]
    decode: Callable[[Tensor], Tensor]
    scale: float  # latents are multiplied by it after encoding, divided by it before decoding


@dataclass(slots=True)
class Trace:
    """Rows of the table, one for each tensor, and the coefficients of each step."""

    rows: list[list[str | float]]
    steps: list[list[str | float]]
    passes: int = 0

    def note(self, name: str, x: Tensor) -> Tensor:
        """Write the row of a tensor and hand it on."""
        values, shape = x.detach().double(), "x".join(map(str, x.shape)) or "one number"
        self.rows.append([name, shape, values.mean().item(), values.std(correction=0).item()])
        return x


def tokenize(prompt: str) -> list[int]:
    """Start, the words, end, and end again up to 77, as CLIP pads."""
    ids = [0, *(WORDS.index(word) for word in prompt.split()), 1]
    return ids + [1] * (LENGTH - len(ids))


def plan(scheduler: Sampler, steps: int) -> list[tuple[int, int, int]]:
    """For each pass of the loop: the time t at which the U-Net looks, and the step, from which time to which.

    Times are those of Stable Diffusion v1 ("leading", offset 1). PLMS makes its first step twice, the second time with
    the noise predicted at its end, because its formula needs a past.
    """
    stride = T // steps
    rows = [(t, t, t - stride) for t in range(stride * (steps - 1) + 1, 0, -stride)]
    repeated = [(rows[1][0], rows[0][0], rows[1][0])] if scheduler == "pndm" and steps > 1 else []
    return [rows[0], *repeated, *rows[1:]]


def alpha_bar(t: int, scheduler: Sampler) -> Tensor:
    """ᾱ_t; the last step ends at t = 0 for DDIM and PLMS, and free of noise for DDPM."""
    return ALPHA_BAR[max(t, 0)] if t >= 0 or scheduler != "ddpm" else torch.ones(())


def coefficients(scheduler: Sampler, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A, B, C of the step z' = A z + B ε̂ + C noise that takes ᾱ from a up to b."""
    if scheduler == "ddpm":
        alpha = a / b  # of the stride
        return alpha.rsqrt(), -(1 - alpha) / (alpha * (1 - a)).sqrt(), ((1 - b) / (1 - a) * (1 - alpha)).sqrt()  # (7)
    return (b / a).sqrt(), (1 - b).sqrt() - (b / a * (1 - a)).sqrt(), torch.zeros(())  # (12) with σ = 0


def blend(eps: Tensor, past: list[Tensor], scheduler: Sampler, again: bool) -> Tensor:
    """The noise that the step uses: ε̂, or for PLMS a fourth-order Adams–Bashforth mean of it and up to three before."""
    if scheduler != "pndm":
        return eps
    if again:
        return (eps + past[-1]) / 2
    past.append(eps)
    weights = {1: [1.0], 2: [3 / 2, -1 / 2], 3: [23 / 12, -16 / 12, 5 / 12]}
    latest = weights.get(len(past), [55 / 24, -59 / 24, 37 / 24, -9 / 24])
    return torch.stack([w * e for w, e in zip(latest, reversed(past), strict=False)]).sum(dim=0)


@torch.no_grad()
def generate(
    parts: Parts, ids: Tensor, z_T: Tensor, noise: Tensor, params: Params, trace: Trace
) -> tuple[Tensor, list[Tensor]]:
    """Text to image. ids (2, 77): negative prompt, prompt; z_T (1, 4, h, w); noise (passes, 1, 4, h, w).

    Returns the image (1, 3, 8h, 8w) in [0, 1] and the latent before and after every step.
    """
    guided = params.guidance > 1
    words = trace.note("words of the negative prompt and the prompt", parts.text(ids if guided else ids[1:]))
    steps = plan(params.scheduler, params.steps)
    latents = {steps[0][0]: trace.note(f"z at t = {steps[0][0]}: noise times the first deviation, 1", z_T)}
    path, past = [z_T], list[Tensor]()  # latents by step; noises that PLMS remembers
    for n, (t, start, end) in enumerate(steps):
        told = torch.full((len(words),), n if params.fault == "time as index" else t)
        eps = parts.unet(torch.cat([latents[t]] * len(words)), told, words)  # both prompts in one batch
        trace.passes += len(words)
        if guided:
            eps_n, eps_c = reversed(eps.chunk(2)) if params.fault == "prompts swapped" else eps.chunk(2)
            trace.note(f"t = {t}: noise predicted for the negative prompt", eps_n)
            trace.note(f"t = {t}: noise predicted for the prompt", eps_c)
            eps = eps_n + params.guidance * (eps_c - eps_n)
        trace.note(f"t = {t}: noise used", eps)
        a, b = alpha_bar(start, params.scheduler), alpha_bar(end, params.scheduler)
        A, B, C_ = coefficients(params.scheduler, a, b)
        latents[end] = A * latents[start] + B * blend(eps, past, params.scheduler, t != start) + C_ * noise[n]
        trace.steps.append([f"{start} to {max(end, 0)}", a.item(), A.item(), B.item(), C_.item()])
        path.append(trace.note(f"z at t = {max(end, 0)}", latents[end]))
    z_0 = path[-1] if params.fault == "not scaled back" else path[-1] / parts.scale
    pixels = trace.note("decoded", parts.decode(trace.note("z divided by the scale", z_0)))
    return trace.note("image, pixels / 2 + 0.5 cut to 0…1", (pixels / 2 + 0.5).clamp(0, 1)), path


@torch.no_grad()
def generate_in_sigma(parts: Parts, ids: Tensor, z_T: Tensor, noise: Tensor, params: Params) -> Tensor:
    """The same image by k-diffusion's way: y = z / √ᾱ, σ = √(1/ᾱ − 1), Euler steps dy = ε dσ, a pass for each prompt.

    DDPM is its "ancestral" form: step down past the goal σ to σ²/σ_start, then add noise up to it.
    """
    words = parts.text(ids)
    steps, past = plan(params.scheduler, params.steps), list[Tensor]()
    y = {steps[0][0]: z_T / alpha_bar(steps[0][0], params.scheduler).sqrt()}
    for n, (t, start, end) in enumerate(steps):
        sigma = {time: (1 / alpha_bar(time, params.scheduler) - 1).sqrt() for time in (t, start, end)}
        z_t = y[t] / (1 + sigma[t].square()).sqrt()
        eps_n, eps_c = (parts.unet(z_t, torch.tensor([t]), words[n : n + 1]) for n in (0, 1))
        eps = blend((1 - params.guidance) * eps_n + params.guidance * eps_c, past, params.scheduler, t != start)
        down = sigma[end].square() / sigma[start] if params.scheduler == "ddpm" else sigma[end]
        y[end] = y[start] + (down - sigma[start]) * eps + (sigma[end].square() - down.square()).sqrt() * noise[n]
    end = steps[-1][2]
    return (parts.decode(y[end] * alpha_bar(end, params.scheduler).sqrt() / parts.scale) / 2 + 0.5).clamp(0, 1)


def training_step(
    x: Tensor, ids: Tensor, nets: tuple[TextEncoder, UNet, VAE], scale: float, rng: torch.Generator, trace: Trace
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Eq. (2), up to the backward pass: pictures x (B, 3, H, W), ids (B, 77) -> loss, ε̂, ε and the times t."""
    text, unet, vae = nets
    with torch.no_grad():  # the frozen parts
        z_0 = trace.note("z_0: encoded, drawn, times the scale", scale * vae.encode(trace.note("pictures", x), rng))
        words = trace.note("words", text(ids))
    t = torch.randint(T, (len(x),), generator=rng)
    eps = trace.note("ε: the noise drawn", torch.randn(z_0.shape, generator=rng))
    a = ALPHA_BAR[trace.note("t, from 0 … 999, one for each picture", t)][:, None, None, None]
    z_t = trace.note("z_t = √ᾱ_t z_0 + √(1 − ᾱ_t) ε", a.sqrt() * z_0 + (1 - a).sqrt() * eps)
    predicted = trace.note("ε̂: the U-Net's prediction from z_t, t and words", unet(z_t, t, words))
    trace.note("ε̂ − ε", predicted - eps)
    loss = trace.note("loss: mean of (ε̂ − ε)² over latent values", (predicted - eps).square().mean())
    return loss, predicted, eps, t


def channels(latents: Sequence[Tensor]) -> list[list[list[list[float]]]]:
    """Latents (1, 4, h, w) as a grid of pictures: a row for each channel, −3…3 from black to white."""
    return (torch.cat(list(latents)).transpose(0, 1) / 6 + 0.5).clamp(0, 1).numpy().tolist()


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng = torch.Generator().manual_seed(params.seed)
    nets = TextEncoder(), UNet(), VAE()
    text, unet, vae = nets
    for weight in (weight for net in nets for name, weight in net.named_parameters() if "norm" not in name):
        nn.init.normal_(weight, std=math.prod(weight.shape[1:]) ** -0.5 if weight.dim() > 1 else 0.1, generator=rng)
    with torch.no_grad():
        unet.leave.weight.mul_(0.3)  # what is untrained only disturbs
        # as in Stable Diffusion latents spread far before scaling, and the encoder is nearly sure of them
        vae.last.weight[:4].mul_(12)
        vae.last.get_parameter("bias")[4:].sub_(8)
    x, labels = draw_shapes(BATCH, rng, SIDE)
    with torch.no_grad():
        scale = 1 / vae.encode(x, rng).std().item()  # §G: measured once, on the first batch
    parts = Parts(text, unet, vae.decoder, scale)
    ids = torch.tensor([tokenize(""), tokenize("red disc left")])
    passes = len(plan(params.scheduler, params.steps))

    def draw(seed: int) -> tuple[Tensor, Tensor]:
        dice = torch.Generator().manual_seed(seed)
        shape = (1, 4, SIDE // 8, SIDE // 8)
        return torch.randn(shape, generator=dice), torch.randn(passes, *shape, generator=dice)

    trace = Trace([], [])
    trace.note("ids of the negative prompt and the prompt", ids)
    image, path = generate(parts, ids, *draw(params.seed), params, trace)
    tick(0.4, "generated")
    again, _ = generate(parts, ids, *draw(params.seed), params, Trace([], []))
    other, _ = generate(parts, ids, *draw(params.seed + 1), params, Trace([], []))
    difference = (image - generate_in_sigma(parts, ids, *draw(params.seed), params)).abs().max().item()
    tick(0.8, "generated again in σ", difference=difference)

    training = Trace([], [])
    captioned = torch.tensor([tokenize(caption) for caption in captions_of(labels)])
    loss, predicted, eps, t = training_step(x, captioned, nets, scale, rng, training)
    (gradient,) = torch.autograd.grad(loss, predicted, retain_graph=True)
    torch.autograd.backward(loss)
    by_hand = 2 * (predicted - eps).detach() / (BATCH * 4 * (SIDE // 8) ** 2)  # n latent values, not pixels
    gradients = {
        name: [weight.grad is not None for weight in net.parameters()]
        for name, net in zip(("text encoder", "U-Net", "autoencoder"), nets, strict=True)
    }
    with torch.no_grad():
        z_0 = scale * vae.encode(x[:1], rng)
    one_eps = torch.randn(z_0.shape, generator=rng)
    at = [0, 100, 300, 500, 700, 999]
    noised = [ALPHA_BAR[s].sqrt() * z_0 + (1 - ALPHA_BAR[s]).sqrt() * one_eps for s in at]
    tick(1.0, "one training step", loss=loss.item())

    deviations = {name: [row[n] for row in trace.steps] for n, name in ((2, "A, of z"), (3, "B, of the noise"))}
    generation = [
        Table("Generation: every tensor in order", ["tensor", "shape", "mean", "deviation"], trace.rows),
        Table("Scheduler: z' = A z + B ε̂ + C noise", ["t", "ᾱ_t", "A", "B", "C"], trace.steps),
    ]
    one_step = [
        Table("Training: every tensor in order", ["tensor", "shape", "mean", "deviation"], training.rows),
        Table("Who receives a gradient", ["part", "parameters", "tensors with a gradient", "of"],
              [[name, sum(weight.numel() for weight in net.parameters()), sum(gradients[name]), len(gradients[name])]
               for name, net in zip(gradients, nets, strict=True)]),
    ]  # fmt: skip
    shown = path[:: max(1, len(path) // 10)]
    figures = [
        [
            Images("Latent after every step (or every few), a row for each channel", channels(shown),
                   ["channel 1", "2", "3", "4"]),
            Lines("What the scheduler does with z and the noise", "step", "coefficient", list(range(1, passes + 1)),
                  {name: [float(value) for value in of] for name, of in deviations.items()}),
        ],
        [
            Images("One z_0 with more and more of one noise, a row for each channel", channels(noised),
                   ["channel 1", "2", "3", "4"], [f"t = {s}" for s in at]),
            Bars("Each picture of the batch has its own t", "picture", "t", [str(n + 1) for n in range(BATCH)],
                 {"t": t.numpy().tolist()}),
        ],
    ]  # fmt: skip
    first = params.mode == "train"
    return Result(
        metrics=[
            Metric("difference", difference),
            Metric("U-Net passes", trace.passes),
            Metric("scale of the latents", scale),
            Metric("loss", loss.item()),
        ],
        claims=[
            Claim("The loop gives the image of the same run in σ: largest difference", difference, "<=", 1e-4),
            Claim("Guidance asks the U-Net twice at each time: predictions over times", trace.passes / passes, "==", 2),
            Claim("The loss is the mean squared error over latent values: its gradient at ε̂ less 2 (ε̂ − ε) / n",
                  (gradient - by_hand).abs().max().item(), "<=", 1e-7),
            Claim("Text encoder and autoencoder stay as they are: tensors with a gradient",
                  sum(gradients["text encoder"]) + sum(gradients["autoencoder"]), "==", 0),
            Claim("The U-Net learns: share of its tensors with a gradient",
                  sum(gradients["U-Net"]) / len(gradients["U-Net"]), "==", 1),
            Claim("Same seed, same image: largest difference", (image - again).abs().max().item(), "==", 0),
            Claim("Other seed, other image: mean difference", (image - other).abs().mean().item(), ">=", 0.005),
        ],
        figures=[*figures[first], *figures[not first]],
        tables=[*one_step, *generation] if first else [*generation, *one_step],
    )  # fmt: skip
