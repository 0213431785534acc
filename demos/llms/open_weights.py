"""Open weights: run, inspect, quantise, change — against an API

Question: What can you do with weights on your own disk that an API does not allow?
Source: open weights: Touvron et al. 2023 (LLaMA), arXiv:2302.13971; block-wise rounding: Dettmers et al. 2022
  (LLM.int8()), arXiv:2208.07339, §2, in blocks like those of llama.cpp's Q8_0; the file format is safetensors' (8 bytes
  length, JSON header, raw numbers); the model: Bengio et al. 2003, https://jmlr.org/papers/v3/bengio03a.html.
Watch: the table of what is possible, each line tried and not looked up. Eight bits a weight cost nothing and four
  little; with one scale for a whole matrix, or with two bits, the model breaks.
"""

import json
import math
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from demos.contract import Bars, Claim, DemoParams, Lines, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.grammar import ID, WORDS, draw_text, spell
from demos.shared.perceptron import perceptron

CONTEXT, EMBEDDING, WIDTH = 8, 32, 128
STEPS, BATCH, HELD_OUT = 800, 512, 4_000
MONTH = 10_000 * 500  # tokens of a month: ten thousand requests of 500 tokens
PROMPT = "the capital of france is"
WIDTHS = (2, 3, 4, 5, 6, 8, 16)  # bits of the curve


class Params(DemoParams):
    bits: int = Field(4, ge=2, le=16, description="Bits of a quantised weight")
    block: int = Field(32, ge=8, le=128, description="Weights that share one scale of 16 bits")
    access: Literal["weights", "api"] = Field("weights", description="What you hold: the file, or access to an API")
    price_per_million: float = Field(2.0, ge=0.0, le=100.0, description="Price of a million tokens at the API, in $")
    seed: int = Field(0, ge=0, le=9999, description="Seed of text and weights")

    presets: ClassVar[Mapping[str, Preset]] = {
        "only an API": Preset("Text in, text out: the other five are refused", {"access": "api"}),
        "two bits": Preset("Four values are too few: the perplexity shows it", {"bits": 2}),
        "eight bits": Preset("No loss that could be measured, at 8.5 bits a weight", {"bits": 8}),
    }


class LanguageModel(nn.Module):
    """The next word from the eight before it: 108 words, 67,000 weights."""

    def __init__(self, rng: torch.Generator) -> None:
        super().__init__()
        self.embedding = nn.Embedding(len(WORDS), EMBEDDING)
        nn.init.normal_(self.embedding.weight, generator=rng)
        self.layers = perceptron([CONTEXT * EMBEDDING, WIDTH, WIDTH, len(WORDS)], nn.ReLU, rng)

    def forward(self, before: Tensor) -> Tensor:
        """before (N, 8) -> logits (N, 108)."""
        return self.layers(self.embedding(before).flatten(1))


def train(model: LanguageModel, text: Tensor, steps: int, rng: torch.Generator, tick: Tick) -> None:
    """Teach a model to go on with a text (M,)."""
    adam = torch.optim.Adam(model.parameters(), lr=3e-3, fused=True)
    windows = text.unfold(0, CONTEXT + 1, 1)  # (M - 8, 9)
    for step in range(steps):
        some = windows[torch.randint(len(windows), (BATCH,), generator=rng)]
        loss = nn.functional.cross_entropy(model(some[:, :-1]), some[:, -1])
        descend(adam, loss)
        if step % 50 == 0:
            tick(0.8 * step / steps, f"training, step {step}", loss=loss.item())


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Take one step down the gradient of the loss."""
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()


@torch.no_grad()
def perplexity(model: nn.Module, text: Tensor) -> float:
    """exp of the mean loss of a word, over a text (M,)."""
    windows = text.unfold(0, CONTEXT + 1, 1)
    return math.exp(nn.functional.cross_entropy(model(windows[:, :-1]), windows[:, -1]).item())


# On disk


def save(weights: Mapping[str, Tensor], path: Path) -> None:
    """Write float32 tensors as safetensors has them: the header says where each one lies in the bytes that follow."""
    header, bodies, at = dict[str, object](), list[bytes](), 0
    for name, tensor in weights.items():
        bodies.append(tensor.detach().numpy().tobytes())
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [at, at + len(bodies[-1])]}
        at += len(bodies[-1])
    head = json.dumps(header).encode()
    path.write_bytes(len(head).to_bytes(8, "little") + head + b"".join(bodies))


def load(path: Path) -> dict[str, Tensor]:
    """Read what `save` wrote."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    weights = dict[str, Tensor]()
    for name, about in json.loads(data[8:start]).items():
        low, high = about["data_offsets"]
        flat = torch.frombuffer(bytearray(data[start + low : start + high]), dtype=torch.float32)
        weights[name] = flat.view(about["shape"])
    return weights


def quantise(weight: Tensor, bits: int, block: int) -> tuple[Tensor, Tensor]:
    """Integers (n, block) and a scale for each block (n, 1): w ≈ scale · integer, |integer| < 2^(bits - 1).

    The scale is the block's largest |w| over the largest integer, rounded up to a bfloat16, since with
    many bits it gets too small for llama.cpp's float16. Zeros fill the last block.
    """
    largest = 2 ** (bits - 1) - 1
    flat = nn.functional.pad(weight.flatten(), (0, -weight.numel() % block)).view(-1, block)
    scale = (flat.abs().amax(dim=1, keepdim=True) / largest * (1 + 2**-7)).bfloat16().float()
    return torch.where(scale > 0, flat / scale, 0).round(), scale


def rounded(weight: Tensor, bits: int, block: int) -> Tensor:
    """A weight as it is after quantising."""
    integers, scale = quantise(weight, bits, block)
    return (integers * scale).flatten()[: weight.numel()].view(weight.shape)


def quantised(model: LanguageModel, bits: int, block: int) -> tuple[LanguageModel, int]:
    """A copy with rounded matrices, as llama.cpp has it vectors stay float32; and its bytes."""
    weights, size = dict[str, Tensor](), 0
    for name, weight in model.state_dict().items():
        is_matrix = weight.dim() > 1
        weights[name] = rounded(weight, bits, block) if is_matrix else weight
        blocks = -(-weight.numel() // block)
        size += blocks * (bits * block + 16) // 8 if is_matrix else 4 * weight.numel()
    copy = LanguageModel(torch.Generator())
    copy.load_state_dict(weights)
    return copy, size


# Two kinds of access


@dataclass
class Local:
    """Weights in hand: the model itself. `requests` counts what left the machine."""

    model: LanguageModel
    requests: int = 0

    def complete(self, prompt: str, words: int = 1) -> str:
        """Go on with a prompt, the likeliest word each time."""
        numbers = [ID[word] for word in prompt.split()]
        for _ in range(words):
            padded = [ID["."]] * CONTEXT + numbers
            with torch.no_grad():
                numbers.append(int(self.model(torch.tensor([padded[-CONTEXT:]])).argmax()))
        return " ".join(spell(torch.tensor(numbers[-words:])))


@dataclass
class API:
    """Text in, text out, and a bill. In earnest the wall is a network; here it is what the object does not have."""

    complete_there: Callable[[str, int], str]
    requests: int = 0

    def complete(self, prompt: str, words: int = 1) -> str:
        """Send a prompt; whoever holds the weights goes on with it."""
        self.requests += 1
        return self.complete_there(prompt, words)


def without_requests(holder: Local | API) -> None:
    """Complete a prompt, or raise ConnectionError where that takes a request."""
    before = holder.requests
    holder.complete(PROMPT)
    if holder.requests > before:
        raise ConnectionError("the prompt has left the machine")


def take_a_step(model: LanguageModel) -> None:
    """One step of fine-tuning on a new sentence."""
    sentence = [ID[word] for word in ("the", "old", "dog", "sleeps", ".")]
    train(model, torch.tensor(sentence * 2), 1, torch.Generator().manual_seed(0), no_tick)


def unsay(model: LanguageModel, word: str) -> None:
    """Change one number, so that the model never says a word again: the bias of its logit."""
    with torch.no_grad():
        dict(model.named_parameters())["layers.4.bias"][ID[word]] -= 100


def model_of(holder: Local | API) -> LanguageModel:
    """The model that it holds. Raises KeyError where it holds none."""
    return vars(holder)["model"]


ONE = torch.tensor([[ID["."]] * CONTEXT])
ATTEMPTS: Mapping[str, Callable[[Local | API], object]] = {
    "text": lambda holder: holder.complete(PROMPT),
    "logits": lambda holder: model_of(holder)(ONE),
    "hidden states": lambda holder: model_of(holder).embedding(ONE),
    "fine-tuning": lambda holder: take_a_step(model_of(holder)),
    "editing": lambda holder: unsay(model_of(holder), "cats"),
    "offline, private": without_requests,
}


def possible(holder: Local | API) -> dict[str, bool]:
    """Try everything: what does not raise is possible."""
    found = dict[str, bool]()
    for name, attempt in ATTEMPTS.items():
        try:
            attempt(holder)
        except (KeyError, ConnectionError):
            found[name] = False
        else:
            found[name] = True
    return found


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng = torch.Generator().manual_seed(params.seed)
    text, held_out = draw_text(6_000, True, rng), draw_text(HELD_OUT // 8, True, rng)
    model = LanguageModel(rng)
    train(model, text, STEPS, rng, tick)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        save(model.state_dict(), path)
        on_disk = path.stat().st_size
        loaded = LanguageModel(torch.Generator())
        loaded.load_state_dict(load(path))
    windows = held_out.unfold(0, CONTEXT + 1, 1)[:, :-1]
    with torch.no_grad():
        changed = (loaded(windows) - model(windows)).abs().max().item()

    base = perplexity(loaded, held_out)
    curve = {block: [perplexity(quantised(loaded, bits, block)[0], held_out) for bits in WIDTHS]
             for block in (params.block, 2**20)}  # fmt: skip
    chosen, size = quantised(loaded, params.bits, params.block)
    loss = perplexity(chosen, held_out) / base - 1
    eight = curve[params.block][WIDTHS.index(8)] / base - 1
    worst = 0.0
    for weight in loaded.state_dict().values():
        integers, scale = quantise(weight, params.bits, params.block)
        flat = nn.functional.pad(weight.flatten(), (0, -weight.numel() % params.block)).view(integers.shape)
        worst = max(worst, ((flat - integers * scale).abs() / scale.clamp(min=1e-30)).max().item())
    tick(0.9, "quantised")

    mine = Local(loaded)
    before = mine.complete(PROMPT)
    edited = LanguageModel(torch.Generator())
    edited.load_state_dict(loaded.state_dict())
    unsay(edited, before)
    after = Local(edited).complete(PROMPT)
    api = API(Local(model).complete)
    able = {"weights": possible(Local(edited)), "api": possible(api)}
    bill = MONTH / 1e6 * params.price_per_million
    matrices = sum(weight.numel() for weight in loaded.state_dict().values() if weight.dim() > 1)
    per_weight = 8 * (size - 4 * sum(w.numel() for w in loaded.state_dict().values() if w.dim() == 1)) / matrices
    return Result(
        metrics=[
            Metric("perplexity, 32 bits", base),
            Metric(f"perplexity, {params.bits} bits", (1 + loss) * base),
            Metric("bytes on disk, 32 bits", on_disk, "B"),
            Metric(f"bytes, {params.bits} bits", size, "B"),
            Metric("bits a weight, scales included", per_weight, "bit"),
            Metric("bill of a month at the API", bill, "$"),
        ],
        claims=[
            Claim("Saved and loaded weights are the model: greatest change of a logit", changed, "==", 0.0),
            Claim("Rounding moves a weight by half a step at most: greatest move in steps", worst, "<=", 0.5001),
            Claim("Eight bits cost nothing: perplexity above that of 32 bits, as a share", eight, "<=", 0.01),
            Claim("The bits asked for cost little: perplexity above that of 32 bits, as a share", loss, "<=", 0.1),
            Claim("What you hold allows everything: attempts that were refused",
                  sum(not ok for ok in able[params.access].values()), "==", 0),
            Claim("An API gives text alone: attempts that it allows", sum(able["api"].values()), "==", 1),
            Claim("One number of the file changes the answer: same words after the edit", float(before == after),
                  "==", 0.0),
        ],
        figures=[
            Lines("Perplexity by bits of a weight", x="bits", y="perplexity on held-out text", at=WIDTHS,
                  series={f"blocks of {params.block}": curve[params.block], "one scale for a matrix": curve[2**20],
                          "32 bits": [base] * len(WIDTHS)}),
            Bars("Bytes of the model", x="bits", y="bytes", labels=[*map(str, WIDTHS), "32"],
                 series={"size": [*(quantised(loaded, bits, params.block)[1] for bits in WIDTHS), on_disk]}),
        ],
        tables=[
            Table("What is possible, tried", ["", "weights", "API"],
                  [[name, *("yes" if able[kind][name] else "no" for kind in ("weights", "api"))] for name in ATTEMPTS]),
            Table("The bill of a month", ["tokens", "API, $", "weights, $"],
                  [[f"{MONTH * times:,}", round(bill * times, 2), 0.0] for times in (1, 10, 100)]),
            Table("One number changed", ["prompt", "before", "after"], [[PROMPT, before, after]]),
        ],
    )  # fmt: skip
