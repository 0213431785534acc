"""Open weights: save, share, resume

Question: Does a saved model do the same elsewhere, and can training go on as if never stopped?
Source: Rombach et al. 2021, arXiv:2112.10752, whose weights are such a file; the file format is safetensors' (8 bytes
  length, JSON header, raw numbers); Adam: Kingma, Ba 2014, arXiv:1412.6980, algorithm 1; merging: Wortsman et al. 2022,
  arXiv:2203.05482, §2; DDPM: Ho, Jain, Abbeel 2020, arXiv:2006.11239, eq. (14); DDIM: arXiv:2010.02502, eq. (12).
Watch: training cut in two ends in the same weights, bit for bit, if everything it needs was saved. Leave out Adam's
  moments or the random state and it ends elsewhere. Copies fine-tuned from one model can be averaged, strangers cannot.
"""

import hashlib
import json
import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from demos.contract import Claim, DemoParams, Lines, Metric, Preset, Result, Scatter, Table, Tick, no_tick
from demos.shared.plane import MODES, STD, draw_ring

T, BATCH, WIDTH, DECAY = 100, 256, 96, 0.98
RATE, TUNED, TUNING_RATE = 4e-3, 60, 1e-3  # of training; steps and rate of fine-tuning
ALPHA_BAR = torch.cat([torch.ones(1), torch.cumprod(1 - torch.linspace(1e-3, 0.1, T), dim=0)])  # (T + 1,), ᾱ_0 = 1
DTYPES = {"F32": torch.float32, "I64": torch.int64, "U8": torch.uint8}  # safetensors' names
SHARES = [n / 10 for n in range(11)]


class Params(DemoParams):
    stop: int = Field(100, ge=10, le=400, description="Step at which training is cut")
    steps: int = Field(200, ge=20, le=800, description="All steps; the cut comes before the last one")
    merge: float = Field(0.5, ge=0.0, le=1.0, description="Share of the second copy in the merge")
    restore: Literal["everything", "no random state", "no optimizer", "weights"] = Field(
        "everything", description="What training takes from the file when it goes on"
    )
    seed: int = Field(0, ge=0, le=9999, description="Seed of data, weights and noise")

    presets: ClassVar[Mapping[str, Preset]] = {
        "no optimizer": Preset("Adam starts anew without its moments: other weights", {"restore": "no optimizer"}),
        "no random state": Preset("Other batches and noise: other weights", {"restore": "no random state"}),
        "weights alone": Preset("What a published file allows: to use and to fine-tune", {"restore": "weights"}),
    }


class Denoiser(nn.Module):
    """ε_θ(x_t, t) of points in the plane: (N, 2), (N,) -> (N, 2)."""

    def __init__(self, rng: torch.Generator) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(22, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH), nn.SiLU(), nn.Linear(WIDTH, 2)
        )  # fmt: skip
        for weight in self.parameters():
            nn.init.zeros_(weight) if weight.dim() == 1 else nn.init.kaiming_uniform_(weight, a=5**0.5, generator=rng)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        phases = torch.cat([x, 2 * x, 4 * x, math.pi * t[:, None] / T * torch.tensor([0.5, 1, 2, 4])], dim=1)  # (N, 10)
        return self.layers(torch.cat([x, phases.sin(), phases.cos()], dim=1))


def loss(model: nn.Module, x_0: Tensor, rng: torch.Generator) -> Tensor:
    """‖ε − ε_θ(√ᾱ x_0 + √(1 − ᾱ) ε, t)‖², eq. (14): mean over points (N, 2), t and ε drawn."""
    t = torch.randint(1, T + 1, (len(x_0),), generator=rng)
    a, eps = ALPHA_BAR[t][:, None], torch.randn(x_0.shape, generator=rng)
    return nn.functional.mse_loss(model(a.sqrt() * x_0 + (1 - a).sqrt() * eps, t), eps)


@torch.no_grad()
def sample(model: nn.Module, x: Tensor, steps: int = 20) -> Tensor:
    """Noise x_T (N, 2) to x_0 by DDIM with η = 0, eq. (12): what the model draws, free of chance."""
    for n in range(steps):
        t, s = T - T * n // steps, T - T * (n + 1) // steps
        a, b = ALPHA_BAR[t], ALPHA_BAR[s]
        eps = model(x, torch.full((len(x),), t))
        x = b.sqrt() * (x - (1 - a).sqrt() * eps) / a.sqrt() + (1 - b).sqrt() * eps
    return x


class Training:
    """A run of training: weights, their moving average, Adam's moments, the step, and the state of chance."""

    def __init__(self, seed: int) -> None:
        self.rng = torch.Generator().manual_seed(seed)
        self.model = Denoiser(self.rng)
        self.average = {name: weight.clone() for name, weight in self.model.state_dict().items()}
        self.adam = torch.optim.Adam(self.model.parameters(), lr=RATE)
        self.step = 0

    def advance(self, until: int, steps: int) -> list[float]:
        """Train up to a step of all `steps` and return the losses on the way; the rate falls as a cosine."""
        losses: list[float] = []
        while self.step < until:
            self.adam.param_groups[0]["lr"] = RATE * (1 + math.cos(math.pi * self.step / steps)) / 2
            losses.append(descend(self.adam, loss(self.model, draw_ring(BATCH, self.rng), self.rng)))
            for name, weight in self.model.state_dict().items():
                self.average[name].lerp_(weight, 1 - DECAY)  # as Stable Diffusion's `model_ema`
            self.step += 1
        return losses

    def state(self) -> dict[str, Tensor]:
        """All of it as named tensors."""
        moments = self.adam.state_dict()["state"]  # of weight number i: step, exp_avg (m), exp_avg_sq (v)
        return {
            **{f"model.{name}": weight for name, weight in self.model.state_dict().items()},
            **{f"ema.{name}": weight for name, weight in self.average.items()},
            **{f"adam.{i}.{name}": value for i, of in moments.items() for name, value in of.items()},
            "step": torch.tensor(self.step),
            "random": self.rng.get_state(),
        }

    def take(self, state: Mapping[str, Tensor], restore: str) -> None:
        """Become the run that was saved, or that part of it."""

        def part(prefix: str) -> dict[str, Tensor]:
            return {
                name.removeprefix(prefix): value.clone() for name, value in state.items() if name.startswith(prefix)
            }

        self.model.load_state_dict(part("model."))
        self.average, self.step = part("ema."), int(state["step"])
        if restore in ("everything", "no random state"):
            moments: dict[int, dict[str, Tensor]] = {}
            for name, value in part("adam.").items():
                i, _, moment = name.partition(".")
                moments.setdefault(int(i), {})[moment] = value
            self.adam.load_state_dict({"state": moments, "param_groups": self.adam.state_dict()["param_groups"]})
        if restore in ("everything", "no optimizer"):
            self.rng.set_state(state["random"])


def descend(optimizer: torch.optim.Optimizer, value: Tensor) -> float:
    """Take one step down the gradient of a loss and return the loss."""
    optimizer.zero_grad()
    torch.autograd.backward(value)
    optimizer.step()
    return value.item()


def to_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """A safetensors file: length of the header (8 bytes, little-endian), the header as JSON, then the numbers.

    The order is a rule (widest type first, then by name), so that equal tensors give equal bytes. Nothing in the file
    can run, unlike in a pickle.
    """
    order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header, body = dict[str, object](), b""
    for name in order:
        data = tensors[name].contiguous().numpy().tobytes()
        dtype = next(key for key, value in DTYPES.items() if value == tensors[name].dtype)
        place = [len(body), len(body) + len(data)]
        header[name] = {"dtype": dtype, "shape": list(tensors[name].shape), "data_offsets": place}
        body += data
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)  # so that the numbers start at a multiple of 8
    return len(head).to_bytes(8, "little") + head + body


def from_bytes(file: bytes) -> dict[str, Tensor]:
    """The tensors of a safetensors file."""
    start = 8 + int.from_bytes(file[:8], "little")
    tensors: dict[str, Tensor] = {}
    for name, of in json.loads(file[8:start]).items():
        begin, end = of["data_offsets"]
        data = bytearray(file[start + begin : start + end])
        tensors[name] = torch.frombuffer(data, dtype=DTYPES[of["dtype"]]).view(of["shape"])
    return tensors


def gap(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> float:
    """Largest difference of two sets of weights."""
    return max((a[name] - b[name]).abs().max().item() for name in a)


def with_weights(weights: Mapping[str, Tensor]) -> Denoiser:
    """A new model of these weights."""
    model = Denoiser(torch.Generator().manual_seed(0))
    model.load_state_dict(dict(weights))
    return model


def fine_tune(weights: Mapping[str, Tensor], modes: Tensor, rng: torch.Generator) -> dict[str, Tensor]:
    """Weights after some steps on these modes (K, 2) of the ring alone."""
    model = with_weights(weights)
    adam = torch.optim.Adam(model.parameters(), lr=TUNING_RATE)
    for _ in range(TUNED):
        x_0 = modes[torch.randint(len(modes), (BATCH,), generator=rng)] + STD * torch.randn(BATCH, 2, generator=rng)
        descend(adam, loss(model, x_0, rng))
    return model.state_dict()


def merged(a: Mapping[str, Tensor], b: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """(1 − share) a + share b, weight by weight: a soup of two."""
    return {name: (1 - share) * a[name] + share * b[name] for name in a}


def run(params: Params, tick: Tick = no_tick) -> Result:
    steps, stop = params.steps, min(params.stop, params.steps - 1)
    whole, cut, elsewhere = Training(params.seed), Training(params.seed), Training(params.seed + 10_000)
    losses = whole.advance(steps, steps)
    tick(0.3, "trained in one go", loss=losses[-1])
    before = cut.advance(stop, steps)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint.safetensors"
        path.write_bytes(to_bytes(cut.state()))
        elsewhere.take(from_bytes(path.read_bytes()), params.restore)  # another object, another start
    after = elsewhere.advance(steps, steps)
    tick(0.6, f"trained with a cut at step {stop}", loss=after[-1])

    ends = [run.model.state_dict() for run in (whole, elsewhere)]
    resumed = max(gap(*ends), gap(whole.average, elsewhere.average))
    weights = whole.average  # what is shared and used: the average
    file = to_bytes(weights)
    digest = hashlib.sha256(file).hexdigest()
    again = hashlib.sha256(to_bytes({name: weights[name].clone() for name in reversed(list(weights))})).hexdigest()
    flipped = bytearray(file)
    flipped[-1] ^= 1
    other = hashlib.sha256(flipped).hexdigest()
    differing = (int(digest, 16) ^ int(other, 16)).bit_count()
    dice = torch.Generator().manual_seed(params.seed + 20_000)  # evaluation
    noise, ring = torch.randn(500, 2, generator=dice), draw_ring(4_000, dice)
    here, there = sample(with_weights(weights), noise), sample(with_weights(from_bytes(file)), noise)
    redrawn = (here - there).abs().max().item()

    stranger = Training(params.seed + 30_000)
    stranger.advance(steps, steps)
    tick(0.85, "a stranger trained on the same data")
    copy_a, copy_b = (fine_tune(weights, modes, dice) for modes in (MODES[:4], MODES[4:]))
    tick(1.0, "two copies fine-tuned on a half of the ring each")

    @torch.no_grad()
    def on_ring(of: Mapping[str, Tensor]) -> float:
        return loss(with_weights(of), ring, torch.Generator().manual_seed(params.seed + 40_000)).item()

    of_copies = [on_ring(merged(copy_a, copy_b, share)) for share in SHARES]
    of_strangers = [on_ring(merged(weights, stranger.average, share)) for share in SHARES]
    at_ends = max(gap(merged(copy_a, copy_b, 0.0), copy_a), gap(merged(copy_a, copy_b, 1.0), copy_b))
    soup = merged(copy_a, copy_b, params.merge)
    state = whole.state()
    return Result(
        metrics=[
            Metric("size of the weights", len(file), "bytes"),
            Metric("size of the checkpoint", len(to_bytes(state)), "bytes"),
            Metric("difference after resuming", resumed),
            Metric("loss of the model on the ring", on_ring(weights)),
            Metric("loss of the merged model on the ring", on_ring(soup)),
        ],
        claims=[
            Claim("Loaded weights draw the same points: largest difference", redrawn, "==", 0),
            Claim("Resumed training ends in the same weights: largest difference", resumed, "==", 0),
            Claim("Equal weights give equal files: bits of their hashes that differ",
                  (int(digest, 16) ^ int(again, 16)).bit_count(), "==", 0),
            Claim("One flipped bit gives another hash: bits of 256 that differ", differing, ">=", 80),
            Claim("At share 0 and 1 the merge is one of the copies: largest difference", at_ends, "==", 0),
            Claim("Half and half beats both copies on the whole ring: loss over the better one's",
                  of_copies[5] / min(of_copies[0], of_copies[-1]), "<=", 0.88),
            Claim("Strangers do not merge: loss half-way over the worse one's",
                  of_strangers[5] / max(of_strangers[0], of_strangers[-1]), ">=", 1.5),
        ],
        figures=[
            Lines("Training loss with and without the cut", "step", "loss", list(range(1, steps + 1)),
                  {"in one go": losses, f"cut at step {stop}": [*before, *after]}),
            Lines("Loss of merged models on the whole ring", "share of the second", "loss", SHARES,
                  {"two copies of one model": of_copies, "two strangers": of_strangers}),
            Scatter("The same points from the file", "x", "y",
                    {"before saving": here[:200].numpy().tolist(), "loaded": there[:200].numpy().tolist()}),
        ],
        tables=[
            Table(
                "The checkpoint", ["name", "shape", "type", "bytes", "SHA-256 begins"],
                [
                    [name, "x".join(map(str, value.shape)) or "one number", str(value.dtype).removeprefix("torch."),
                     value.nbytes, hashlib.sha256(value.contiguous().numpy().tobytes()).hexdigest()[:12]]
                    for name, value in state.items()
                ],
            ),
            Table("The shared file of weights", ["part", "value"],
                  [["bytes", len(file)], ["numbers", sum(value.numel() for value in weights.values())],
                   ["SHA-256", digest], ["SHA-256 with the last bit flipped", other]]),
        ],
    )  # fmt: skip
