"""Images and words in one space

Question: How does contrastive learning give zero-shot classification?
Source: Radford et al. 2021 (CLIP), arXiv:2103.00020, §2.3 and the pseudocode of figure 3, §3.1.2 (classes as text),
  §3.1.4 (prompts); van den Oord et al. 2018, arXiv:1807.03748, eq. (4) (InfoNCE); collapse without
  negatives: Wang, Isola 2020, arXiv:2005.10242 (alignment and uniformity).
Watch: one model, trained on captions alone, becomes a classifier of digits, of inks or of both when their names are
  put into a sentence that it never read. What teaches it is the other captions of the batch: compare each picture with
  fewer of them and it learns less; only pull pairs together (preset) and all pictures end in one place. Zero-shot means
  a new task in known words: whether the one pair of ink and digit that no caption had is told depends on the seed.
"""

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, get_args

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from demos.contract import Claim, DemoParams, Heatmap, Lines, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.digits import load_digits
from demos.shared.transformer import Block, start, train

DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
INKS, RGB = ["red", "green", "blue", "white"], torch.cat([torch.eye(3), torch.ones(1, 3)])  # (4, 3), on black
CAPTIONS = ["a {ink} photo of the digit {digit}", "the number {digit} in {ink}", "a drawing of a {ink} {digit}",
            "this is a {ink} {digit}", "{digit} written in {ink} ink", "someone drew the number {digit}",
            "a picture in {ink}"]  # fmt: skip
Template = Literal["a photo of a {}", "someone drew a {}", "this photo is of the number {}", "{}"]
TEMPLATES: tuple[Template, ...] = get_args(Template)  # none of them is a caption
WORDS = ["", *DIGITS, *INKS, *sorted({word for text in CAPTIONS for word in text.split() if "{" not in word})]
LENGTH, D, TRAINED, RATE = 8, 32, 1400, 5e-3  # words; width of both encodings; images, the other 397 are the test
FEWER = [2, 8]  # captions that a picture is compared with, in the arms that compare it with less than the batch


class Params(DemoParams):
    batch_size: int = Field(64, ge=8, le=256, description="Pairs in a batch, all pictures against all captions")
    steps: int = Field(300, ge=50, le=1000, description="Training steps")
    held_out: int = Field(7, ge=0, le=9, description="Digit that is never red in training")
    template: Template = Field("a photo of a {}", description="Sentence that the classes' names are put into")
    loss: Literal["contrastive", "attract"] = Field("contrastive", description="Pull and push, or pull pairs together")
    temperature: float = Field(0.07, ge=0.01, le=1.0, description="Temperature at the start")
    learned: bool = Field(True, description="Learn the temperature with the weights")
    seed: int = Field(0, ge=0, le=9999, description="Seed of the split, the weights and the pairs")

    presets: ClassVar[Mapping[str, Preset]] = {
        "only pull": Preset("No negatives: all pictures and captions collapse into one", {"loss": "attract"}),
        "temperature 1": Preset("Cosines within ±1: too flat a softmax", {"temperature": 1.0, "learned": False}),
        "small batch": Preset("Few pairs a step, few negatives", {"batch_size": 8}),
        "one word": Preset("A bare word is not how captions look", {"template": "{}"}),
    }


def tokenize(texts: Sequence[str]) -> Tensor:
    """Numbers of the words, 0 where there are no more, (N, LENGTH)."""
    rows = [[WORDS.index(word) for word in text.split()] for text in texts]
    return torch.tensor([ids + [0] * (LENGTH - len(ids)) for ids in rows])


class CLIP(nn.Module):
    """Two encoders into the unit sphere of one space, and log(1 / temperature)."""

    def __init__(self, params: Params, rng: torch.Generator) -> None:
        super().__init__()
        self.image = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 128), nn.GELU(), nn.Linear(128, D))
        self.words, self.places = nn.Embedding(len(WORDS), D), nn.Embedding(LENGTH, D)
        self.block, self.norm, self.project = Block(D, 4), nn.LayerNorm(D), nn.Linear(D, D, bias=False)
        start(self, rng)
        nn.init.normal_(self.words.weight, generator=rng)  # large, so that words keep their own say in a sentence
        self.log_scale = nn.Parameter(torch.tensor(-math.log(params.temperature)), requires_grad=params.learned)

    def encode_images(self, images: Tensor) -> Tensor:
        """(N, 3, 8, 8) -> (N, D)."""
        return normalize(self.image(images), dim=1)

    def encode_texts(self, ids: Tensor) -> Tensor:
        """(N, LENGTH) -> (N, D): the mean over the words, after one block of attention among them."""
        there = ids > 0  # (N, LENGTH)
        x = self.norm(self.block(self.words(ids) + self.places.weight, there[:, None, None]))
        return normalize(self.project((x * there[..., None]).sum(dim=1)), dim=1)

    def scale(self) -> Tensor:
        return self.log_scale.clamp(max=math.log(100)).exp()


def contrastive_loss(images: Tensor, texts: Tensor, scale: Tensor | float) -> Tensor:
    """Figure 3. N pairs (..., N, D): each picture names its caption among N, each caption its picture."""
    logits = scale * images @ texts.mT  # (..., N, N); pair n is on the diagonal
    pair = logits.diagonal(dim1=-2, dim2=-1)  # (..., N)
    of_image, of_text = pair - logits.logsumexp(dim=-1), pair - logits.logsumexp(dim=-2)
    return -(of_image.mean() + of_text.mean()) / 2


def paint(images: Tensor, inks: Tensor) -> Tensor:
    """Grey digits (N, 1, 8, 8) in inks (N,): (N, 3, 8, 8)."""
    return images * RGB[inks][:, :, None, None]


def fit(params: Params, group: int, images: Tensor, digits: Tensor, tick: Tick) -> CLIP:
    """A trained model. Pictures of a batch are compared with captions in groups of `group` pairs."""
    rng = torch.Generator().manual_seed(params.seed)
    model = CLIP(params, rng)
    captions = tokenize([text.format(ink=i, digit=d) for text in CAPTIONS for i in INKS for d in DIGITS])
    captions = captions.view(len(CAPTIONS), len(INKS), len(DIGITS), LENGTH)
    n = params.batch_size // group * group

    def loss() -> Tensor:
        some, inks = torch.randint(TRAINED, (n,), generator=rng), torch.randint(4, (n,), generator=rng)
        other = torch.randint(1, 4, (n,), generator=rng)
        inks = torch.where((digits[some] == params.held_out) & (inks == 0), other, inks)
        which = torch.randint(len(CAPTIONS), (n,), generator=rng)
        x = model.encode_images(paint(images[some], inks)).view(-1, group, D)
        y = model.encode_texts(captions[which, inks, digits[some]]).view(-1, group, D)
        if params.loss == "attract":
            return (1 - (x * y).sum(dim=2)).mean()
        return contrastive_loss(x, y, model.scale())

    def after(step: int, value: float) -> None:
        if step % 10 == 0:
            tick(step / params.steps, f"groups of {group}, step {step}", loss=value)

    train(model, loss, params.steps, RATE, after)
    return model


@torch.no_grad()
def classify(model: CLIP, pictures: Tensor, classes: Sequence[str]) -> Tensor:
    """A classifier made of words: for each picture (N, 3, 8, 8) the number of the nearest class, (N,)."""
    return (model.encode_images(pictures) @ model.encode_texts(tokenize(classes)).T).argmax(dim=1)


def run(params: Params, tick: Tick = no_tick) -> Result:
    images, digits = load_digits()
    dice = torch.Generator().manual_seed(params.seed)
    order = torch.randperm(len(images), generator=dice)
    images, digits = images[order], digits[order]
    groups = [*(group for group in FEWER if group < params.batch_size), params.batch_size]

    def part(number: int) -> Tick:
        return lambda fraction, message, **live: tick((number + fraction) / len(groups), message, **live)

    fitted = [fit(params, group, images, digits, part(number)) for number, group in enumerate(groups)]
    model = fitted[-1]
    right = digits[TRAINED:]
    inks = torch.randint(len(INKS), right.shape, generator=dice)
    pictures = paint(images[TRAINED:], inks)

    def share(model: CLIP, classes: Sequence[str], answers: Tensor, of: Tensor = pictures) -> float:
        return (classify(model, of, classes) == answers).float().mean().item()

    by_template = {text: share(model, [text.format(digit) for digit in DIGITS], right) for text in TEMPLATES}
    zero_shot, names = by_template[params.template], [params.template.format(digit) for digit in DIGITS]
    fewer = [share(model, names, right) for model in fitted]
    ink = share(model, [params.template.format(ink) for ink in INKS], inks)
    pairs = [params.template.format(f"{ink} {digit}") for ink in INKS for digit in DIGITS]
    both = share(model, pairs, 10 * inks + right)
    unseen = paint(images[TRAINED:], torch.zeros_like(right))[right == params.held_out]  # all of them red
    told = share(model, pairs, torch.tensor(params.held_out), unseen)

    with torch.no_grad():
        x = model.encode_images(pictures)  # (397, D)
        near = x @ model.encode_texts(tokenize(names)).T  # (397, 10)
        table = torch.stack([near[right == digit].mean(dim=0) for digit in range(10)])
        crowding = (x @ x.T)[right[:, None] != right].mean().item()
        texts = model.encode_texts(tokenize([pairs[int(n)] for n in 10 * inks + right]))
        logits, own = model.scale() * x @ texts.T, torch.arange(len(x))
        theirs = (cross_entropy(logits, own) + cross_entropy(logits.T, own)) / 2
        off = (contrastive_loss(x, texts, model.scale()) - theirs).abs().item()
    return Result(
        metrics=[
            Metric("zero-shot", zero_shot),
            Metric("zero-shot of the ink", ink),
            Metric("retrieval at 1, of 40 captions", both),
            Metric("digit in an ink never seen, of 40 captions", told),
            Metric("temperature", 1 / model.scale().item()),
        ],
        claims=[
            Claim("Names in a sentence never read tell digits: share of 397 right", zero_shot, ">=", 0.85),
            Claim("Other names make it tell inks: share right", ink, ">=", 0.9),
            Claim("Negatives teach: accuracy, less that if each picture is compared with two captions",
                  zero_shot - fewer[0], ">=", 0.05),
            Claim("They keep pictures apart: mean cosine of two of different digits", crowding, "<=", 0.6),
            Claim("The loss is the mean of two cross-entropies: difference to torch's", off, "<=", 1e-5),
        ],
        figures=[
            Heatmap("Mean cosine of pictures and sentences", "sentence", "picture", table.numpy().tolist(),
                    DIGITS, DIGITS),
            Lines("What negatives are worth: the same batches, compared in groups", "captions for each picture",
                  "share of digits right", groups, {"zero-shot": fewer}, log="x"),
        ],
        tables=[
            Table("One model, three classifiers, no head", ["classes", "number", "share right", "chance"],
                  [["digits", 10, zero_shot, 0.1], ["inks", 4, ink, 0.25], ["both", 40, both, 0.025],
                   [f"both, of a {INKS[0]} {DIGITS[params.held_out]}, never shown", 40, told, 0.025]]),
            Table("Sentences that no caption had", ["sentence", "share of digits right"],
                  [[text, value] for text, value in by_template.items()]),
        ],
    )  # fmt: skip
