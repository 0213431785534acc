"""Which word draws which pixel

Question: How do words reach pixels, and can you see it?
Source: Vaswani et al. 2017, arXiv:1706.03762, eq. (1), as Rombach et al. 2021, arXiv:2112.10752, §3.3 put it into the
  U-Net; maps kept while a word is swapped: Hertz et al. 2022 (Prompt-to-Prompt), arXiv:2208.01626, algorithm 1.
Watch: each place of the picture shares out one unit of attention among the words of the caption; what it collects is
  added to its features. Maps are not masks: look where each word is read. Swap a word while the maps are kept, and only
  what it answers changes, not where it is asked.
"""

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor
from torch.nn import functional as F

from demos.contract import Claim, DemoParams, Heatmap, Images, Lines, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.ddpm import T, step_back, visits
from demos.shared.shapes import COLOURS, SHAPES, SIDES, to_rows
from demos.shared.words_to_shapes import (
    ALPHA_BAR,
    LENGTH,
    SIZE,
    WORDS,
    CrossAttention,
    WordUNet,
    sample,
    tokenize,
    train_words,
)

PASSES, PICTURES, SCALE = 20, 8, 2.0
KINDS = [COLOURS, SHAPES, SIDES]


class Params(DemoParams):
    prompt: str = Field("red disc left", max_length=40, description="Caption: colour, shape, side")
    swap: str = Field("", max_length=10, description="Word that replaces its kind; empty: ring")
    heads: int = Field(4, ge=1, le=8, description="Attention heads, cut to a power of two")
    steps: int = Field(300, ge=50, le=2000, description="Training steps")
    block: Literal["low", "high"] = Field("low", description="Resolution of the maps shown: 4x4 or 8x8")
    answers: bool = Field(True, description="Add what the words answer to the features")
    seed: int = Field(0, ge=0, le=9999, description="Seed of data, weights and noise")

    presets: ClassVar[Mapping[str, Preset]] = {
        "high": Preset("Maps at the full resolution", {"block": "high"}),
        "another colour": Preset("Maps kept, the colour swapped", {"swap": "blue"}),
        "one head": Preset("All questions in one table", {"heads": 1}),
        "no answers": Preset("Nothing is added: words cannot matter", {"answers": False}),
    }

    @field_validator("prompt")
    @classmethod
    def _is_a_caption(cls, prompt: str) -> str:
        words = prompt.split()
        if len(words) != 3 or any(word not in kind for word, kind in zip(words, KINDS, strict=True)):
            raise ValueError(f"a colour, a shape and a side: {', '.join(' or '.join(kind) for kind in KINDS)}")
        return prompt

    @field_validator("swap")
    @classmethod
    def _is_a_word(cls, swap: str) -> str:
        if swap and swap not in COLOURS + SHAPES + SIDES:
            raise ValueError(f"one of {', '.join(COLOURS + SHAPES + SIDES)}")
        return swap


class Reader(CrossAttention):
    """The trained cross-attention, written out: what it does is kept, and its maps can be given instead."""

    def __init__(self, trained: CrossAttention, answers: bool) -> None:
        super().__init__(trained.to_q.in_features, trained.heads)
        self.load_state_dict(trained.state_dict())
        self.answers = answers
        self.maps = torch.zeros(0)  # (B, heads, S², L), of the last pass
        self.added = torch.zeros(0)  # (B, C, S, S), what the words answered
        self.given: Tensor | None = None  # maps to use instead of those of the queries and keys

    def project(self, x: Tensor, words: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries of the places (B, heads, S², d), keys and values of the words (B, heads, L, d)."""
        places, d = self.norm(x).flatten(2).mT, x.shape[1] // self.heads  # (B, S², C)
        Q = self.to_q(places).view(len(x), -1, self.heads, d).transpose(1, 2)  # places ask,
        K = self.to_k(words).view(len(x), -1, self.heads, d).transpose(1, 2)  # words are asked
        V = self.to_v(words).view(len(x), -1, self.heads, d).transpose(1, 2)  # and answer
        return Q, K, V

    def forward(self, x: Tensor, words: Tensor) -> Tensor:
        """x (B, C, S, S), words (B, L, D) -> (B, C, S, S)."""
        Q, K, V = self.project(x, words)
        scores = Q @ K.mT / math.sqrt(Q.shape[-1])  # (B, heads, S², L)
        self.maps = scores.softmax(dim=-1) if self.given is None else self.given  # eq. (1)
        answer = (self.maps @ V).transpose(1, 2).flatten(2)  # (B, S², C), heads side by side
        self.added = self.to_out(answer).mT.view(x.shape)
        return x + self.added if self.answers else x


def kernel_gap(reader: Reader, x: Tensor, words: Tensor) -> float:
    """Largest difference of what the reader adds to what torch's own attention gives."""
    reader(x, words)
    theirs = F.scaled_dot_product_attention(*reader.project(x, words)).transpose(1, 2).flatten(2)  # (B, S², C)
    theirs = reader.to_out(theirs).mT.view(x.shape)
    return (reader.added - theirs).abs().max().item()


def swap_word(prompt: str, word: str) -> str:
    """The caption with this word in the place of its kind."""
    return " ".join(word if word in kind else old for old, kind in zip(prompt.split(), KINDS, strict=True))


@torch.no_grad()
def edit(model: WordUNet, readers: list[Reader], prompts: tuple[str, str], x: Tensor, keep: bool) -> Tensor:
    """Prompt-to-Prompt: draw both captions from noise x (B, 3, S, S); the second uses the first's maps where kept.

    Returns the pictures of the second caption.
    """
    empty, old, new = (model.read(tokenize([prompt])).expand(len(x), -1, -1) for prompt in ("", *prompts))
    y = x
    for t, s in visits(T, PASSES):
        time = torch.full((len(x),), t / T)
        for reader in readers:
            reader.given = None
        eps_old, eps_0, eps_0y = model(x, time, old), model(x, time, empty), model(y, time, empty)
        if keep:
            model(x, time, old)
            for reader in readers:
                reader.given = reader.maps
        eps_new = model(y, time, new)
        x = step_back(x, eps_0 + SCALE * (eps_old - eps_0), ALPHA_BAR[t], ALPHA_BAR[s])
        y = step_back(y, eps_0y + SCALE * (eps_new - eps_0y), ALPHA_BAR[t], ALPHA_BAR[s])
    for reader in readers:
        reader.given = None
    return y


@torch.no_grad()
def run(params: Params, tick: Tick = no_tick) -> Result:
    rng, dice = (torch.Generator().manual_seed(2 * params.seed + odd) for odd in (0, 1))  # training; evaluation

    def first(fraction: float, message: str, **live: float) -> None:
        tick(0.8 * fraction, message, **live)

    heads = 2 ** int(math.log2(params.heads))
    with torch.enable_grad():
        model, _ = train_words(params.steps, rng, first, heads)
    low, high = Reader(model.read_low, params.answers), Reader(model.read_high, params.answers)
    model.read_low, model.read_high = low, high
    shown = low if params.block == "low" else high

    prompt, words = params.prompt, params.prompt.split()
    noise = torch.randn(PICTURES, 3, SIZE, SIZE, generator=dice)
    text, empty = (model.read(tokenize([of] * PICTURES)) for of in (prompt, ""))
    x, rows, maps, moved = noise, list[float](), list[Tensor](), list[Tensor]()
    size = list[tuple[float, float]]()  # of what is added, and of the features it is added to
    for t, s in visits(T, PASSES):
        time = torch.full((PICTURES,), t / T)
        eps_0, eps_c = model(x, time, empty), model(x, time, text)
        rows += [(reader.maps.sum(dim=-1) - 1).abs().max().item() for reader in (low, high)]
        maps.append(shown.maps)
        moved.append((eps_c - eps_0).square().mean(dim=1).sqrt())  # (B, S, S)
        size.append((low.added.square().mean().sqrt().item(), high.added.square().mean().sqrt().item()))
        x = step_back(x, eps_0 + SCALE * (eps_c - eps_0), ALPHA_BAR[t], ALPHA_BAR[s])
    pictures = x
    tick(0.85, f'drew "{prompt}"')

    half = torch.full((PICTURES,), 0.5)
    x_t = ALPHA_BAR[T // 2].sqrt() * pictures + (1 - ALPHA_BAR[T // 2]).sqrt() * noise

    def shift(other: Tensor) -> float:
        """Root mean square change of the predicted noise when these words (B, L, D) are read instead."""
        return (model(x_t, half, other) - model(x_t, half, text)).square().mean().sqrt().item()

    def other_word(kind: list[str]) -> str:
        return next(word for word in kind if word not in words)

    shifts = dict[str, float]()
    for n, kind in enumerate(KINDS):
        shifts[words[n]] = shift(model.read(tokenize([swap_word(prompt, other_word(kind))] * PICTURES)))
    padded = text.clone()
    padded[:, 3] = model.token.weight[WORDS.index("sks")] + model.place.weight[3]  # a word that no caption has
    shifts["(padding)"] = shift(padded)
    ratio = min(shifts[word] for word in words) / max(shifts["(padding)"], 1e-9)
    order = torch.randperm(LENGTH, generator=dice)
    reordered = (model(x_t, half, text[:, order]) - model(x_t, half, text)).abs().max().item()
    gap = max(
        kernel_gap(reader, torch.randn(2, reader.to_q.in_features, side, side, generator=dice), text[:2])
        for reader, side in ((low, SIZE // 2), (high, SIZE))
    )
    swapped = swap_word(prompt, params.swap or next(word for word in ("ring", "cross") if word not in words))
    kept, free = (edit(model, [low, high], (prompt, swapped), noise, keep=keep) for keep in (True, False))
    again = sample(model, text, noise, SCALE, PASSES)
    stays = (kept - pictures).abs().mean().item() / max((free - pictures).abs().mean().item(), 1e-9)
    tick(1.0, f'swapped to "{swapped}"')

    every = range(0, PASSES, 3)
    side = SIZE // 2 if params.block == "low" else SIZE
    names = [*words, "(padding)"]
    of_words = torch.stack([maps[n][0].mean(dim=0).mT.view(LENGTH, side, side) for n in every], dim=1)  # (L, times, …)
    late = maps[PASSES // 2][0]  # (heads, S², L), of the first picture
    return Result(
        metrics=[
            Metric("shift", ratio, "change of the output when a word changes, over that of a padding token"),
            Metric("rows", max(rows), "largest distance of a row sum from 1"),
            Metric("size of the answer, 4x4", sum(a for a, _ in size) / PASSES, "root mean square"),
            Metric("size of the answer, 8x8", sum(b for _, b in size) / PASSES, "root mean square"),
            Metric("change of the picture with maps kept, over that without", stays),
        ],
        claims=[
            Claim("Every place shares out one unit of attention: largest distance of a sum from 1", max(rows),
                  "<=", 1e-6),
            Claim("Our attention is torch's own: largest difference", gap, "<=", 1e-5),
            Claim("A changed word moves the prediction more than a changed padding token: times", ratio, ">=", 3),
            Claim("Words may come in any order once their places are added: largest difference", reordered, "<=", 1e-5),
            Claim("Written out, the model draws as before: largest difference", (again - pictures).abs().max().item(),
                  "<=", 1e-4),
        ],
        figures=[
            Images(f"Where each word is read while the first picture forms ({side}x{side}; white: most)",
                   (of_words / of_words.amax()).numpy().tolist(), names, [f"step {n + 1}" for n in every]),
            Images("Pictures; another word with the maps kept; another word alone",
                   [to_rows(of) for of in (pictures, kept, free)], [prompt, f"{swapped}, maps kept", swapped]),
            Images("Which places the words move: |ε with words − ε without|",
                   [(moved[n] / moved[n].amax().clamp(min=1e-9)).numpy().tolist() for n in every],
                   [f"step {n + 1}" for n in every]),
            Heatmap("Attention of each head, mean over places", "word", "head", late.mean(dim=1).numpy().tolist(),
                    [f"head {n + 1}" for n in range(heads)], names),
            Lines("Size of what the words answer", "step", "root mean square", list(range(1, PASSES + 1)),
                  {"4x4": [a for a, _ in size], "8x8": [b for _, b in size]}),
        ],
        tables=[
            Table("Change of the predicted noise when one token changes", ["token", "change", "over padding"],
                  [[word, value, value / max(shifts["(padding)"], 1e-9)] for word, value in shifts.items()]),
        ],
    )  # fmt: skip
