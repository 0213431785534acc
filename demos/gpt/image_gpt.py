"""Generating images token by token

Question: Can the model that writes text paint digits?
Source: Chen et al. 2020 (Image GPT), §2.1 (next-pixel loss) and §3.2 (fewer pixels and colours); a class as the first
  token: Esser et al. 2020 (VQGAN), arXiv:2012.09841, §3.2; the model: Radford et al. 2019 (GPT-2).
Watch: an image is a text of 64 words in an alphabet of four greys, row by row, and its first word names the digit. The
  model is the one that writes text: nothing in it knows rows or columns. Leave out the first word (preset) and it
  paints some digit, seldom the one that was asked for; heat it up and strokes dissolve.
"""

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from demos.contract import Bars, Claim, DemoParams, Heatmap, Images, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.digits import load_digits
from demos.shared.judge import train_judge
from demos.shared.transformer import Transformer, extend, train

SIDE, PIXELS, GREYS, CLASSES = 8, 64, 4, 10
D, LAYERS, HEADS, BATCH, RATE = 32, 2, 4, 32, 1e-2
TRAINED, EACH, SHOWN = 1400, 20, 8  # digits to learn from, the other 397 are the test; drawn of each class; in figures


class Params(DemoParams):
    digit: int = Field(3, ge=0, le=9, description="Digit to draw")
    temperature: float = Field(0.9, ge=0.1, le=2.0, description="Divisor of the logits when a pixel is drawn")
    steps: int = Field(300, ge=50, le=2000, description="Training steps of 32 images")
    given_rows: int = Field(0, ge=0, le=7, description="Rows of a real, unseen digit that the model continues")
    prompt: bool = Field(True, description="The first word names the digit; otherwise it is always the same")
    seed: int = Field(0, ge=0, le=9999, description="Seed of the split, the weights and the drawn pixels")

    presets: ClassVar[Mapping[str, Preset]] = {
        "no prompt": Preset("Digits, but not the one that was asked for", {"prompt": False}),
        "hot": Preset("Unlikely greys are drawn too often: strokes dissolve", {"temperature": 2.0}),
        "cold": Preset("Nearly always the likeliest grey: drawings hardly differ", {"temperature": 0.1}),
        "complete": Preset("Four rows of a real digit, and the model goes on", {"given_rows": 4}),
    }


def quantise(images: Tensor) -> Tensor:
    """Images (n, 1, 8, 8) in [0, 1] as greys 0 to 3, row by row: (n, 64)."""
    return (images.flatten(1) * (GREYS - 1)).round().long()


def write(greys: Tensor, digits: Tensor, prompt: bool) -> Tensor:
    """Images as sentences (n, 65): a word for the digit, 4 to 13, then 64 words for greys."""
    return torch.cat([GREYS + digits[:, None] * prompt, greys], dim=1)


def next_pixel_loss(model: Transformer, sentences: Tensor) -> Tensor:
    """−log p of each pixel given the word for the digit and all pixels before it, nats: (n, 64)."""
    logits = model(sentences[:, :-1])  # (n, 64, 14)
    return cross_entropy(logits.mT, sentences[:, 1:], reduction="none")


def marginal_bits(greys: Tensor, test: Tensor) -> float:
    """Bits per pixel of the test if each pixel were drawn by itself, with the frequencies of its place in `greys`."""
    share = (one_hot(greys, GREYS).double().mean(dim=0) + 1e-3).log2()  # (64, 4)
    return -share.expand(len(test), PIXELS, GREYS).gather(2, test[..., None]).mean().item()


class Painter(Transformer):
    """The transformer, held to greys when it continues a sentence."""

    def forward(self, words: Tensor, mask: Tensor | None = None) -> Tensor:
        logits = super().forward(words, mask)
        logits[..., GREYS:] = -math.inf
        return logits


def picture(sentences: Tensor) -> Tensor:
    """Sentences (n, 65) as images (n, 1, 8, 8) in [0, 1]."""
    return (sentences[:, 1:] / (GREYS - 1)).view(-1, 1, SIDE, SIDE)


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng = torch.Generator().manual_seed(params.seed)
    images, digits = load_digits()
    order = torch.randperm(len(images), generator=rng)
    greys, digits = quantise(images[order]), digits[order]
    sentences = write(greys, digits, params.prompt)  # (1797, 65)
    model = Painter(GREYS + CLASSES, 1 + PIXELS, D, LAYERS, HEADS, rng, causal=True)

    def loss() -> Tensor:
        return next_pixel_loss(model, sentences[torch.randint(TRAINED, (BATCH,), generator=rng)]).mean()

    def after(step: int, value: float) -> None:
        if step % 10 == 0:
            tick(0.8 * step / params.steps, f"step {step}", **{"bits per pixel": value / math.log(2)})

    train(model, loss, params.steps, RATE, after)
    with torch.no_grad():
        nats = next_pixel_loss(model, sentences[TRAINED:])  # (397, 64)
    bits, marginal = nats.mean().item() / math.log(2), marginal_bits(greys[:TRAINED], greys[TRAINED:])

    asked = torch.arange(CLASSES).repeat_interleave(EACH)  # (200,)
    starts = write(greys[: len(asked), :0], asked, params.prompt)  # (200, 1): nothing but the first word
    drawn = extend(model, starts, PIXELS, params.temperature, rng)
    tick(0.95, "drawn")
    judge = train_judge(params.seed)
    said = judge(picture(drawn)).argmax(dim=1)
    named = [(said[asked == digit] == digit).float().mean().item() for digit in range(CLASSES)]
    recognised = (said == asked).float().mean().item()
    of_class = drawn.view(CLASSES, EACH, 1 + PIXELS)[..., 1:]
    same = (of_class[:, :, None] == of_class[:, None]).float().mean(dim=3)  # (10, 20, 20): of each two drawings
    alike = same[:, ~torch.eye(EACH, dtype=torch.bool)].mean().item()

    real = sentences[TRAINED:][digits[TRAINED:] == params.digit][:SHOWN]
    continued = extend(model, real[:, : 1 + SIDE * params.given_rows], PIXELS - SIDE * params.given_rows,
                       params.temperature, rng)  # fmt: skip

    later = sentences[TRAINED : TRAINED + 20].clone()
    later[:, 1 + PIXELS // 2 :] = (later[:, 1 + PIXELS // 2 :] + 1) % GREYS  # other pixels from the 33rd on
    with torch.no_grad():
        both = [model(some[:, :-1])[..., :GREYS] for some in (sentences[TRAINED : TRAINED + 20], later)]
    change = (both[0] - both[1]).abs().amax(dim=(0, 2))  # (64,): of the logits of each pixel
    leak, heard = change[: 1 + PIXELS // 2].max().item(), change[1 + PIXELS // 2 :].max().item()
    return Result(
        metrics=[
            Metric("bits-per-pixel", bits, "bits"),
            Metric("bits per pixel by itself", marginal, "bits"),
            Metric("recognised", recognised, "of 200 drawn"),
            Metric(f"drawn {params.digit}s recognised", named[params.digit]),
            Metric("pixels that two drawings of one digit share", alike),
            Metric("real digits recognised", judge.accuracy),
        ],
        claims=[
            Claim("What came before tells much of a pixel: bits per pixel, over those of pixels by themselves",
                  bits / marginal, "<=", 0.8),
            Claim("Drawings are what was asked for: share that a classifier of real digits names so", recognised,
                  ">=", 0.77),
            Claim("It has no stencil: pixels that two drawings of one digit share", alike, "<=", 0.77),
            Claim("No pixel knows a later one: change of logits up to the 33rd when pixels from there on change", leak,
                  "<=", 1e-5),
            Claim("Each knows the earlier ones: largest change of logits after it", heard, ">=", 1.0),
        ],
        figures=[
            Images(f"Drawn at temperature {params.temperature:g}, one row for each digit",
                   drawn[:, 1:].view(CLASSES, EACH, SIDE, SIDE)[:, :SHOWN].div(GREYS - 1).numpy().tolist(),
                   [str(digit) for digit in range(CLASSES)]),
            Images(f"Unseen {params.digit}s, and what the model makes of their first {params.given_rows} rows",
                   [picture(some)[:, 0].numpy().tolist() for some in (real, continued)], ["real", "continued"]),
            Heatmap("What each pixel of unseen digits costs", "column", "row",
                    (nats.mean(dim=0) / math.log(2)).view(SIDE, SIDE).numpy().tolist()),
            Bars("Drawings that are recognised", "digit asked for", "share", [str(d) for d in range(CLASSES)],
                 {"drawn": named}),
        ],
        tables=[
            Table("Bits per pixel on unseen digits", ["model", "bits"],
                  [["two bits for four greys", math.log2(GREYS)], ["frequencies of each place", marginal],
                   ["transformer", bits]]),
        ],
    )  # fmt: skip
