"""A language model that sees

Question: How does a text model take an image as input?
Source: Liu et al. 2023 (LLaVA), arXiv:2304.08485, §4.1, eq. (1): visual features, projected to the width of word
  vectors, precede the words; frozen vision encoder: also Alayrac et al. 2022, arXiv:2204.14198. How GPT-4 does it is
  unpublished (arXiv:2303.08774).
Watch: the question decides where the model looks: asked for the left digit, its answer depends on the left pixels. Put
  noise in place of the picture: it still answers in words, and what it says was in the question alone.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from demos.contract import Bars, Claim, DemoParams, Images, Lines, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.digits import load_digits
from demos.shared.transformer import Block, start, train

SIDE, TRAINED, TESTED = 8, 1400, 250  # pixels of a digit; digits to learn from; pairs tested, of the other 397
QUESTIONS = ("left", "right", "larger", "sum")
VOCABULARY = (*(str(n) for n in range(19)), *QUESTIONS, "what", "is", "?")  # answers are words among others
WIDTH, BATCH, RATE = 64, 64, 3e-3
TEXT, SEEING = 4, 220  # words of "what is left ?"; training steps of the encoder


class Params(DemoParams):
    question: Literal["left", "right", "larger", "sum"] = Field("left", description="Question type shown")
    image_tokens: int = Field(8, ge=2, le=32, description="Visual tokens put before the text: 2, 8 or 32")
    steps: int = Field(350, ge=100, le=2000, description="Training steps of projection and decoder")
    blank_image: bool = Field(False, description="Replace the image by noise")
    seed: int = Field(0, ge=0, le=9999, description="Random seed of data, weights and batches")

    presets: ClassVar[Mapping[str, Preset]] = {
        "blank image": Preset("What it can say without seeing: chance", {"blank_image": True}),
        "two tokens": Preset("A whole digit in each visual token", {"image_tokens": 2}),
        "which is larger": Preset("Both digits must be read and compared", {"question": "larger"}),
    }

    @field_validator("image_tokens")
    @classmethod
    def _patches_tile_the_image(cls, tokens: int) -> int:
        if tokens not in (2, 8, 32):
            raise ValueError(f"image_tokens must be 2, 8 or 32 (patches of 8, 4 or 2 pixels); got {tokens}")
        return tokens


class Encoder(nn.Module):
    """A small vision transformer over one tile of 8x8 pixels; a picture is two tiles, and tokens go left to right."""

    def __init__(self, image_tokens: int, rng: torch.Generator) -> None:
        super().__init__()
        self.P = round((2 * SIDE * SIDE / image_tokens) ** 0.5)  # side of a patch
        self.project, self.places = nn.Linear(self.P**2, WIDTH), nn.Embedding(image_tokens // 2, WIDTH)
        self.block, self.norm, self.head = Block(WIDTH, 4), nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 10)
        start(self, rng)

    def tile(self, x: Tensor) -> Tensor:
        """Features (B, n / 2, d) of the patches of tiles (B, 8, 8)."""
        P, side = self.P, SIDE // self.P
        patches = x.reshape(-1, side, P, side, P).transpose(2, 3).reshape(len(x), -1, P * P)
        return self.norm(self.block(self.project(patches) + self.places.weight))

    def forward(self, images: Tensor) -> Tensor:
        """Features (B, n, d) of pictures (B, 8, 16)."""
        return torch.cat([self.tile(images[:, :, :SIDE]), self.tile(images[:, :, SIDE:])], dim=1)


class Decoder(nn.Module):
    """A causal transformer over visual tokens and words; only the projection knows that some are no words."""

    def __init__(self, image_tokens: int, rng: torch.Generator) -> None:
        super().__init__()
        self.projection = nn.Linear(WIDTH, WIDTH)  # W of eq. (1)
        self.words, self.places = nn.Embedding(len(VOCABULARY), WIDTH), nn.Embedding(image_tokens + TEXT, WIDTH)
        self.blocks, self.norm = nn.ModuleList(Block(WIDTH, 4) for _ in range(2)), nn.LayerNorm(WIDTH)
        start(self, rng)

    def forward(self, features: Tensor, words: Tensor) -> Tensor:
        """features (B, n, d), words (B, m) -> logits of the next word after each token, (B, n + m, V)."""
        x = torch.cat([self.projection(features), self.words(words)], dim=1) + self.places.weight
        past = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril()
        for block in self.blocks:
            x = block(x, past)
        return self.norm(x) @ self.words.weight.T


def prompts(question: Tensor) -> Tensor:
    """The words of "what is … ?" for question numbers (B,), as (B, 4) places in the vocabulary."""
    what, is_, mark = (torch.full_like(question, VOCABULARY.index(word)) for word in ("what", "is", "?"))
    return torch.stack([what, is_, question + VOCABULARY.index("left"), mark], dim=1)


def answers(left: Tensor, right: Tensor, question: Tensor) -> Tensor:
    """What is to be said of pairs of digits (B,), (B,): numbers (B,), which are their own places in the vocabulary."""
    all_four = torch.stack([left, right, torch.maximum(left, right), left + right], dim=1)  # (B, 4)
    return all_four.gather(1, question[:, None])[:, 0]


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng = torch.Generator().manual_seed(params.seed)
    digits, labels = load_digits()
    order = torch.randperm(len(digits), generator=rng)
    digits, labels = 2 * digits[order, 0] - 1, labels[order]  # (1797, 8, 8) in [-1, 1]
    encoder, decoder = Encoder(params.image_tokens, rng), Decoder(params.image_tokens, rng)

    def classify() -> Tensor:  # the encoder learns to see by itself, and is frozen afterwards
        some = torch.randint(TRAINED, (2 * BATCH,), generator=rng)
        return cross_entropy(encoder.head(encoder.tile(digits[some]).mean(dim=1)), labels[some])

    train(encoder, classify, SEEING, RATE, lambda n, loss: tick(0.3 * n / SEEING, "encoder", loss=loss))
    with torch.no_grad():
        features = encoder.tile(digits)  # (1797, n / 2, d), once for all: they change no more

    def answer() -> Tensor:  # cross-entropy of the answer; only projection and decoder learn
        left, right = torch.randint(TRAINED, (2, BATCH), generator=rng)
        question = torch.randint(len(QUESTIONS), (BATCH,), generator=rng)
        logits = decoder(torch.cat([features[left], features[right]], dim=1), prompts(question))
        return cross_entropy(logits[:, -1], answers(labels[left], labels[right], question))

    losses = list[float]()

    def after(step: int, loss: float) -> None:
        losses.append(loss)
        tick(0.3 + 0.7 * step / params.steps, f"step {step}", loss=loss)

    train(decoder, answer, params.steps, RATE, after)

    left, right = torch.randint(TRAINED, len(digits), (2, TESTED), generator=rng)
    pictures = torch.cat([digits[left], digits[right]], dim=2)  # (N, 8, 16)
    noise = 2 * torch.rand(pictures.shape, generator=rng) - 1
    shown = noise if params.blank_image else pictures
    said, seen, blank, looks = list[Tensor](), list[float](), list[float](), list[Tensor]()
    length = 0
    for number in range(len(QUESTIONS)):
        question = torch.full((TESTED,), number)
        right_answer = answers(labels[left], labels[right], question)
        pixels = shown.clone().requires_grad_()
        logits = decoder(encoder(pixels), prompts(question))  # (N, n + 4, V)
        length = logits.shape[1]
        best = logits[:, -1].max(dim=1)
        (slope,) = torch.autograd.grad(best.values.sum(), pixels)  # (N, 8, 16): what the answer hangs on
        looks.append(slope.abs().mean(dim=0))
        said.append(best.indices)
        seen.append((best.indices == right_answer).float().mean().item())
        with torch.no_grad():
            unseen = decoder(encoder(noise), prompts(question))[:, -1].argmax(dim=1)
        blank.append((unseen == right_answer).float().mean().item())
    at_left = [(look[:, :SIDE].sum() / look.sum()).item() for look in looks]
    asked = QUESTIONS.index(params.question)
    return Result(
        metrics=[
            Metric("accuracy", seen[asked]),
            *(Metric(f"accuracy, {name}", share) for name, share in zip(QUESTIONS, seen, strict=True)),
            Metric("accuracy, noise for image, left and right", (blank[0] + blank[1]) / 2),
        ],
        claims=[
            Claim("It sees: accuracy on left and right, mean", (seen[0] + seen[1]) / 2, ">=", 0.85),
            Claim("It needs the image: the same with noise in its place", (blank[0] + blank[1]) / 2, "<=", 0.25),
            Claim("One decoder reads both: length of its sequence less image and text tokens",
                  length - params.image_tokens - TEXT, "==", 0),
            Claim("The question turns its look: left half's share of the slope, asked for left less asked for right",
                  at_left[0] - at_left[1], ">=", 0.25),
        ],
        figures=[
            Images(f"Pictures and what it answers to “what is {params.question} ?”",
                   [((shown[:8] + 1) / 2).numpy().tolist()],
                   column_labels=[VOCABULARY[int(word)] for word in said[asked][:8]]),
            Images("On which pixels the answer hangs", [[(look / look.max()).numpy().tolist() for look in looks]],
                   column_labels=[f"what is {name} ?" for name in QUESTIONS]),
            Bars("Accuracy by question", "question", "share right", QUESTIONS,
                 {"as shown": seen, "noise for image": blank}),
            Lines("Learning to answer", "step", "cross-entropy, nats", list(range(0, params.steps, 10)),
                  {"answers": losses[::10]}),
        ],
        tables=[
            Table("Answers", ["image", "question", "answer"],
                  [["noise" if params.blank_image else f"{int(labels[left[n]])} {int(labels[right[n]])}",
                    f"what is {name} ?", VOCABULARY[int(words[n])]]
                   for n in range(3) for name, words in zip(QUESTIONS, said, strict=True)]),
        ],
    )  # fmt: skip
