"""CLIP on shapes and captions

Question: How does matching pictures with captions give a classifier for classes never named in training?
Source: Radford et al. 2021, arXiv:2103.00020, §2.3 and the pseudocode of figure 3, §3.1 (zero-shot, prompts); §2.5 for
  the temperature, learnt as a logarithm from 0.07 on and held above 0.01.
Watch: the table of similarities gets a bright diagonal. No picture of a green ring is ever shown, yet "green ring" is
  told, because "green" and "ring" were learnt apart: captions have parts. Give each class one word of its own instead
  (labels) and this is gone.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from demos.contract import (
    Claim,
    DemoParams,
    Figure,
    Heatmap,
    Lines,
    Metric,
    Preset,
    Result,
    Scatter,
    Table,
    Tick,
    no_tick,
)
from demos.shared.digits import load_digits
from demos.shared.shapes import CAPTIONS, COLOURS, LABELS, RGB, SHAPES, SIDES, captions_of, cover, draw_shapes

WIDTH, NOISE, LENGTH, FEW, TESTED = 32, 0.4, 8, 100, 480  # of embeddings; of pictures; words; FEW pairs; pictures told
HELD_OUT = "green ring"
NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
MOVES = {"moves left": (-1, 0), "moves right": (1, 0), "moves up": (0, -1), "moves down": (0, 1)}
PLACES = {"a beach": ((-0.2, 0.4, 1.0), (0.9, 0.7, 0.0)), "a forest": ((-0.4, 0.3, -0.4), (-0.6, -0.1, -0.7)),
          "a city": ((0.2, 0.2, 0.3), (-0.3, -0.3, -0.2)), "the snow": ((0.3, 0.5, 0.8), (0.9, 0.9, 1.0))}  # fmt: skip
PALETTE = {
    **dict(zip(COLOURS, RGB.numpy().tolist(), strict=True)), "white": (1.0, 1.0, 1.0), "cyan": (-1.0, 1.0, 1.0),
    "magenta": (1.0, -1.0, 1.0), "orange": (1.0, 0.2, -1.0), "purple": (0.2, -1.0, 1.0), "grey": (0.2, 0.2, 0.2),
}  # fmt: skip
NAMES = [f"{colour} {shape}" for colour in PALETTE for shape in SHAPES]  # 30 classes of shapes
CLASSES = {
    "zero-shot": NAMES, "retrieval": CAPTIONS, "ocr": [f"the digit {of}" for of in NUMBERS],
    "action": [f"a disc {of}" for of in MOVES], "places": list(PLACES),
}  # fmt: skip
TEMPLATES = ["{}", "a {}", "a picture of a {}"]
PARTIAL = ["something {}", "a {}"]  # captions that leave the shape or the colour away
TEXTS = [*TEMPLATES, *PARTIAL, *itertools.chain(*CLASSES.values())]
WORDS = ["", *sorted({word for text in TEXTS for word in text.split()} - {"{}"})]


class Params(DemoParams):
    probe: Literal["zero-shot", "retrieval", "ocr", "action", "places"] = Field(
        "zero-shot", description="What the embeddings are tested on: the figure and table that lead"
    )
    pairs: int = Field(3000, ge=50, le=10000, description="Training pairs")
    batch_size: int = Field(64, ge=8, le=256, description="Batch; each picture has all other captions as negatives")
    captions: Literal["sentences", "labels"] = Field("sentences", description="Captions, or one word for each class")
    steps: int = Field(400, ge=50, le=2000, description="Training steps")
    seed: int = Field(0, ge=0, le=9999, description="Seed of data, weights and batches")

    presets: ClassVar[Mapping[str, Preset]] = {
        "labels": Preset("One word for each class: a class never seen cannot be told", {"captions": "labels"}),
        "few pairs": Preset("A hundred pairs are learnt by heart", {"pairs": FEW}),
        "small batches": Preset("Seven negatives instead of 63", {"batch_size": 8}),
        "reading": Preset("Drawn digits against the words for them", {"probe": "ocr"}),
    }


def draw_moves(n: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Two frames of a moving disc, the first in the red, the second in the green channel: (n, 3, 16, 16), (n,)."""
    way = torch.randint(len(MOVES), (n,), generator=rng)
    x, y = 0.35 + 0.3 * torch.rand(2, n, generator=rng)
    dx, dy = 0.12 * torch.tensor(list(MOVES.values()), dtype=torch.float32)[way].T
    frames = [cover(torch.zeros(n), x + of * dx, y + of * dy, torch.full((n,), 0.2), 16) for of in (-1, 1)]
    return 2 * torch.stack([*frames, torch.zeros_like(frames[0])], dim=1) - 1, way


def draw_places(n: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """A sky over a ground in the colours of a place, with its texture: (n, 3, 16, 16), (n,)."""
    place = torch.randint(len(PLACES), (n,), generator=rng)
    colours = torch.tensor(list(PLACES.values()))[place]  # (n, 2, 3)
    rows, columns = torch.arange(16)[:, None], torch.arange(16)[None]
    horizon = torch.randint(4, 12, (n, 1, 1), generator=rng)
    ground = (rows >= horizon).long().expand(n, 16, 16)
    x = colours.gather(1, ground.flatten(1)[..., None].expand(-1, -1, 3)).mT.reshape(n, 3, 16, 16)
    stripes = (columns % 4 < 2).expand(16, 16)  # trunks of a forest
    windows = (columns % 4 < 2) & (rows % 4 < 2)  # of a city
    texture = torch.stack([torch.zeros(16, 16), -0.4 * stripes, 0.8 * windows, torch.zeros(16, 16)])[place]
    return x + texture[:, None] + 0.2 * torch.randn(n, 3, 1, 1, generator=rng), place


def draw_digits(n: int, rng: torch.Generator, held: bool) -> tuple[Tensor, Tensor]:
    """Handwritten digits in white, of the last 397 where held: (n, 3, 16, 16), (n,)."""
    images, digits = load_digits()
    chosen = torch.randint(397, (n,), generator=rng) + 1400 if held else torch.randint(1400, (n,), generator=rng)
    return F.interpolate(2 * images[chosen] - 1, size=16).expand(-1, 3, -1, -1), digits[chosen]


def draw_pairs(n: int, rng: torch.Generator) -> tuple[Tensor, list[str], list[str]]:
    """Noisy pictures (n, 3, 16, 16), captions, classes: half are shapes, none of the class that is held out."""
    parts = [n - 3 * (n // 6), *[n // 6] * 3]
    texts, classes = list[str](), list[str]()
    shown = [name for name in NAMES if name != HELD_OUT]
    names = [shown[int(n)] for n in torch.randint(len(shown), (parts[0],), generator=rng)]
    sides = torch.randint(2, (parts[0],), generator=rng)
    labels = torch.tensor([[0, SHAPES.index(name.split()[1]), int(s)] for name, s in zip(names, sides, strict=True)])
    ink = (draw_shapes(parts[0], rng, 16, labels)[0].amax(dim=1, keepdim=True) + 1) / 2  # (N, 1, 16, 16)
    shapes = ink * (torch.tensor([PALETTE[name.split()[0]] for name in names])[:, :, None, None] + 1) - 1
    for name, side, form in zip(names, sides, torch.randint(5, (parts[0],), generator=rng), strict=True):
        colour, shape = name.split()
        full = f"{name} {SIDES[int(side)]}"
        forms = [full, f"a {name}", f"a picture of a {full}", f"something {colour}", f"a {shape}"]
        classes.append(name)
        texts.append(forms[int(form)])
    others = [draw_digits(parts[1], rng, held=False), draw_moves(parts[2], rng), draw_places(parts[3], rng)]
    for (_, of), kind in zip(others, ("ocr", "action", "places"), strict=True):
        classes += [CLASSES[kind][int(c)] for c in of]
    return blur(torch.cat([shapes, *(x for x, _ in others)]), rng), [*texts, *classes[parts[0] :]], classes


def blur(x: Tensor, rng: torch.Generator) -> Tensor:
    """Pictures under noise, so that they are not all told without an error."""
    return x + NOISE * torch.randn(x.shape, generator=rng)


def tokenize(texts: Sequence[str], captions: str) -> Tensor:
    """Ids of the words, 0 where there are no more: (N, LENGTH). As labels, one word for the class that a text names."""
    names = [*NAMES, *CLASSES["ocr"], *CLASSES["action"], *CLASSES["places"]]
    rows = list[list[int]]()
    for text in texts:
        words = text.split()
        ids = [WORDS.index(word) for word in words]
        if captions == "labels":
            ids = [len(WORDS) + next(n for n, name in enumerate(names) if {*name.split()} <= {*words})]
        rows.append(ids + [0] * (LENGTH - len(ids)))
    return torch.tensor(rows)


class CLIP(nn.Module):
    """Two encoders into one space, and the logarithm of 1 / temperature."""

    def __init__(self, rng: torch.Generator) -> None:
        super().__init__()
        self.image = nn.Sequential(
            nn.Conv2d(3, 32, 4, 4), nn.SiLU(), nn.Conv2d(32, 48, 3, padding=1), nn.SiLU(), nn.Flatten(),
            nn.Linear(48 * 16, WIDTH),
        )  # fmt: skip
        self.words = nn.Embedding(len(WORDS) + 60, WIDTH)
        for weight in self.parameters():
            nn.init.normal_(weight, std=weight[0].numel() ** -0.5 if weight.dim() > 1 else 0.01, generator=rng)
        self.log_scale = nn.Parameter(torch.tensor(-math.log(0.07)))

    def encode_images(self, x: Tensor) -> Tensor:
        """(N, 3, 16, 16) -> (N, WIDTH), of length 1."""
        return F.normalize(self.image(x), dim=1)

    def encode_texts(self, ids: Tensor) -> Tensor:
        """(N, LENGTH) -> (N, WIDTH), of length 1: a sum over words, whose order is not seen."""
        return F.normalize((self.words(ids) * (ids > 0)[..., None]).sum(dim=1), dim=1)


def contrastive_loss(images: Tensor, texts: Tensor, scale: Tensor) -> Tensor:
    """Figure 3: −mean log softmax of the diagonal, over the captions of a picture and the pictures of a caption."""
    logits = scale * images @ texts.T  # (N, N), all pictures against all captions
    of_image, of_text = logits.diagonal() - logits.logsumexp(dim=1), logits.diagonal() - logits.logsumexp(dim=0)
    return -(of_image.mean() + of_text.mean()) / 2


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> float:
    """One step down the gradient of a loss, which is returned."""
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()
    return loss.item()


def train(params: Params, pairs: int, rng: torch.Generator, tick: Tick) -> tuple[CLIP, list[float]]:
    """A CLIP trained on so many pairs, and its loss at every tenth step."""
    x, texts, classes = draw_pairs(pairs, rng)
    ids = tokenize(texts if params.captions == "sentences" else classes, params.captions)
    model = CLIP(rng)
    adam = torch.optim.AdamW(model.parameters(), weight_decay=0.01, fused=True)
    rate = torch.optim.lr_scheduler.OneCycleLR(adam, max_lr=4e-3, total_steps=params.steps)
    losses = list[float]()
    for step in range(params.steps):
        batch = torch.randint(pairs, (params.batch_size,), generator=rng)
        scale = model.log_scale.clamp(max=math.log(100)).exp()
        loss = contrastive_loss(model.encode_images(x[batch]), model.encode_texts(ids[batch]), scale)
        value = descend(adam, loss)
        rate.step()
        if step % 10 == 0:
            losses.append(value)
            tick(step / params.steps, f"{pairs} pairs, step {step}", loss=losses[-1])
    return model, losses


@torch.no_grad()
def ranked_first(model: CLIP, x: Tensor, texts: Sequence[str], captions: str) -> Tensor:
    """For each picture (N, 3, 16, 16) the number of the text that is nearest, (N,)."""
    return (model.encode_images(x) @ model.encode_texts(tokenize(texts, captions)).T).argmax(dim=1)


def share(right: Tensor) -> float:
    """Mean of truths."""
    return right.double().mean().item()


def plane(*clouds: Tensor) -> list[Tensor]:
    """Clouds of vectors in the plane of their two principal axes."""
    centre = torch.cat(clouds).mean(dim=0)
    axes = torch.tensor(np.linalg.svd((torch.cat(clouds) - centre).numpy(), full_matrices=False)[2][:2].tolist())
    return [(cloud - centre) @ axes.T for cloud in clouds]


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng, dice = (torch.Generator().manual_seed(2 * params.seed + odd) for odd in (0, 1))  # training; evaluation

    def part(start: float) -> Tick:
        return lambda fraction, message, **live: tick(start + fraction / 2, message, **live)

    model, losses = train(params, params.pairs, rng, part(0.0))
    few, _ = train(params, min(FEW, params.pairs), rng, part(0.5))
    words = params.captions
    clear, labels = draw_shapes(TESTED, dice, 16, LABELS.repeat(TESTED // len(LABELS), 1))
    shapes = blur(clear, dice)
    caption = labels @ torch.tensor([6, 2, 1])  # (TESTED,), its number
    retrieval = share(ranked_first(model, shapes, CAPTIONS, words) == caption)
    retrieval_few = share(ranked_first(few, shapes, CAPTIONS, words) == caption)

    unseen = LABELS[torch.tensor([HELD_OUT in of for of in CAPTIONS])].repeat(TESTED // 2, 1)
    x = blur(draw_shapes(TESTED, dice, 16, unseen)[0], dice)
    by_template = {of: ranked_first(model, x, [of.format(name) for name in NAMES], words) for of in TEMPLATES}
    with torch.no_grad():
        ensemble = torch.stack(
            [model.encode_texts(tokenize([of.format(name) for name in NAMES], words)) for of in TEMPLATES]
        ).mean(dim=0)  # as in §3.1.4
        told = (model.encode_images(x) @ ensemble.T).argmax(dim=1)
        images, texts = model.encode_images(shapes), model.encode_texts(tokenize(CAPTIONS, words))
        scale = model.log_scale.clamp(max=math.log(100)).exp()
        of_text = (texts @ images.T).argmax(dim=1)  # (24,), the picture nearest to each caption
        first = images[:24], model.encode_texts(tokenize(captions_of(labels[:24]), words))
        ours = contrastive_loss(*first, scale)
    logits, own = scale * first[0] @ first[1].T, torch.arange(24)
    theirs = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
    zero_shot = share(told == NAMES.index(HELD_OUT))

    held = {
        "ocr": draw_digits(TESTED, dice, held=True), "action": draw_moves(TESTED, dice),
        "places": draw_places(TESTED, dice),
    }  # fmt: skip
    answers = {kind: (blur(pictures, dice), of) for kind, (pictures, of) in held.items()}
    guesses = {kind: ranked_first(model, pictures, CLASSES[kind], words) for kind, (pictures, _) in answers.items()}
    correct = {kind: share(guesses[kind] == of) for kind, (_, of) in answers.items()}

    def confusion(kind: str) -> Heatmap:
        truth = answers[kind][1]
        table = torch.zeros(len(CLASSES[kind]), len(CLASSES[kind])).index_put(
            (truth, guesses[kind]), torch.ones(len(truth)), accumulate=True
        )
        return Heatmap(f"Probe {kind}: share of pictures (rows) told as", "told", "true",
                       (table / table.sum(dim=1, keepdim=True).clamp(min=1)).numpy().tolist(),
                       CLASSES[kind], CLASSES[kind])  # fmt: skip

    near = images @ texts.T  # (TESTED, 24)
    in_plane = plane(images[:120], texts)
    figures: dict[str, Figure] = {
        "zero-shot": Heatmap(
            f'Pictures of a {HELD_OUT}, never seen in training: mean similarity to each class', "class", "picture",
            [(model.encode_images(x).detach() @ ensemble.T).mean(dim=0).numpy().tolist()], ["mean"], NAMES,
        ),
        "retrieval": Heatmap(
            "Similarity of pictures (rows, by caption) and captions", "caption", "picture",
            near.view(-1, 24, 24).mean(dim=0).numpy().tolist(), CAPTIONS, CAPTIONS,
        ),
        **{kind: confusion(kind) for kind in answers},
    }  # fmt: skip
    rest = [figure for kind, figure in figures.items() if kind != params.probe]
    return Result(
        metrics=[
            Metric("retrieval", retrieval, "share of pictures whose caption ranks first of 24"),
            Metric("retrieval of pictures by caption", share(caption[of_text] == torch.arange(24)), "share"),
            Metric("zero-shot", zero_shot, f"share of pictures of a {HELD_OUT} told of 30"),
            *(Metric(kind, value, "share told") for kind, value in correct.items()),
            Metric("temperature", 1 / scale.item()),
        ],
        claims=[
            Claim("Matching captions rank first of 24: share of pictures", retrieval, ">=", 0.8),
            Claim("A pair of colour and shape kept out of training is told of 30: share", zero_shot, ">=", 0.45),
            Claim("The loss is the mean of two cross-entropies: difference to torch's", abs((ours - theirs).item()),
                  "<=", 1e-5),
            Claim("More pairs, better retrieval: gain over a hundred pairs", retrieval - retrieval_few, ">=", 0.1),
            Claim("Digits are read by their words: share of ten", correct["ocr"], ">=", 0.6),
            Claim("Two frames tell the movement: share of four", correct["action"], ">=", 0.8),
            Claim("Colours and textures tell the place: share of four", correct["places"], ">=", 0.8),
        ],
        figures=[
            figures[params.probe], *rest,
            Scatter("Both kinds of embedding in one plane", "first axis", "second axis",
                    {"pictures": in_plane[0].numpy().tolist(), "captions": in_plane[1].numpy().tolist()}),
            Lines("Contrastive loss", "step", "nats", list(range(0, params.steps, 10)),
                  {"loss": losses, "guessing": [math.log(params.batch_size)] * len(losses)}),
        ],
        tables=[
            Table(f'"{HELD_OUT}", never seen, told of 30 classes', ["prompt", "share told"],
                  [*([of.format(HELD_OUT), share(by_template[of] == NAMES.index(HELD_OUT))] for of in TEMPLATES),
                   ["mean of the three embeddings", zero_shot]]),
            Table("Five probes of the same embeddings", ["probe", "classes", "share told", "chance"],
                  [["zero-shot", len(NAMES), zero_shot, 1 / len(NAMES)], ["retrieval", 24, retrieval, 1 / 24],
                   *([kind, len(CLASSES[kind]), value, 1 / len(CLASSES[kind])] for kind, value in correct.items())]),
        ],
    )  # fmt: skip
