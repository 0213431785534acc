"""DreamBooth and textual inversion

Question: How does a model learn one particular thing from five pictures?
Source: DreamBooth: Ruiz et al. 2022, arXiv:2208.12242, §3.2 and §3.3, eq. (2); textual inversion: Gal et al. 2022,
  arXiv:2208.01618, §3, eq. (2); the model: Rombach et al. 2021, arXiv:2112.10752, §3.3.
Watch: the subject is a violet disc with a white core; captions had no word for it and "sks" meant nothing. DreamBooth
  trains all weights on "sks disc" and draws it; its pictures of plain discs keep their looks only because it also
  trains on discs that the base drew. Textual inversion moves one vector, and gets as near as the frozen model can.
"""

import copy
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from demos.contract import Bars, Claim, DemoParams, Images, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.shapes import COLOURS, GROWTH, RADIUS, SHIFT_X, SHIFT_Y, SIDES, X, Y, cover, to_rows
from demos.shared.words_to_shapes import SIZE, WORDS, WordUNet, noise_loss, sample, tokenize, train_words

SKS = WORDS.index("sks")
RIM, CORE = torch.tensor([0.2, -1.0, 1.0]), torch.tensor([1.0, 1.0, 1.0])  # colours of the subject, in [-1, 1]
BATCH, RATE, RATE_WORD = 16, 1e-3, 5e-2  # pictures in a step; learning rates of all weights and of one vector
CLASS = [f"{colour} disc {side}" for colour in COLOURS for side in SIDES]
SUBJECT = [f"sks disc {side}" for side in SIDES]


class Params(DemoParams):
    method: Literal["dreambooth", "textual-inversion"] = Field("dreambooth", description="What learns the subject")
    prior: float = Field(1.0, ge=0.0, le=2.0, description="Weight λ of prior preservation in DreamBooth")
    images: int = Field(5, ge=1, le=10, description="Pictures of the subject")
    base_steps: int = Field(250, ge=100, le=2000, description="Training steps of the base")
    steps: int = Field(80, ge=20, le=600, description="Training steps on the subject")
    seed: int = Field(0, ge=0, le=9999, description="Seed of data, weights and noise")

    presets: ClassVar[Mapping[str, Preset]] = {
        "no prior": Preset("Nothing holds the class in place: all discs turn violet", {"prior": 0.0}),
        "one vector": Preset("Textual inversion: the model stays as it is", {"method": "textual-inversion"}),
        "one picture": Preset("A single picture of the subject", {"images": 1}),
    }


def draw_subject(side: Tensor, move: Tensor) -> Tensor:
    """Pictures (n, 3, 8, 8) in [-1, 1] of the subject at sides (n,), moved and grown by move (3, n) in [-1, 1]."""
    x, y = torch.tensor(X)[side] + SHIFT_X * move[0], Y + SHIFT_Y * move[1]
    radius, disc = RADIUS * (1 + GROWTH * move[2]), torch.zeros(len(side))
    rim, core = (cover(disc, x, y, share * radius, SIZE)[:, None] for share in (1.0, 0.5))  # (n, 1, 8, 8)
    picture = rim * (RIM[:, None, None] + 1) - 1
    return picture + core * (CORE[:, None, None] - RIM[:, None, None])


def similarity(pictures: Tensor) -> float:
    """Cosine of pictures (n, 3, 8, 8) and the nearest of all pictures of the subject, mean over n."""
    grid = torch.cartesian_prod(torch.arange(2.0), *[torch.linspace(-1, 1, 5)] * 3)  # (250, 4)
    known = draw_subject(grid[:, 0].long(), grid[:, 1:].T)
    light, lights = (nn.functional.normalize(of.flatten(1) + 1, dim=1) for of in (pictures, known))  # black is 0
    return (light @ lights.T).max(dim=1).values.mean().item()


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Take one step down the gradient of the loss."""
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()


def dreambooth(
    base: WordUNet,
    subject: tuple[Tensor, list[str]],
    drawn: tuple[Tensor, list[str]],
    prior: float,
    steps: int,
    rng: torch.Generator,
    tick: Tick,
) -> WordUNet:
    """Every weight learns the subject, eq. (2); λ = prior weighs pictures of the class that the base drew.

    Both are pictures (K, 3, 8, 8) with their captions.
    """
    model, (pictures, captions), (kind, kind_captions) = copy.deepcopy(base), subject, drawn
    ids, kind_ids = tokenize(captions), tokenize(kind_captions)
    adam = torch.optim.Adam(model.parameters(), RATE, fused=True)
    for step in range(1, steps + 1):
        one, other = (torch.randint(len(of), (BATCH,), generator=rng) for of in (pictures, kind))
        loss = noise_loss(model, pictures[one], model.read(ids[one]), rng)
        if prior > 0:
            loss = loss + prior * noise_loss(model, kind[other], model.read(kind_ids[other]), rng)
        descend(adam, loss)
        if step % 10 == 0:
            tick(step / steps, f"step {step}", loss=loss.item())
    return model


def only(slope: Tensor) -> Tensor:
    """The slope of the table of words (words, D) with all rows but that of "sks" at 0, so that Adam leaves them."""
    return slope * (torch.arange(len(slope)) == SKS)[:, None]


def invert(
    base: WordUNet, pictures: Tensor, captions: list[str], steps: int, rng: torch.Generator, tick: Tick
) -> WordUNet:
    """Only the vector of "sks" learns the subject; it starts from the word of its nearest class, "blue"."""
    model = copy.deepcopy(base).requires_grad_(False)
    table = model.token.weight.requires_grad_()  # (words, D)
    with torch.no_grad():
        table[SKS] = table[WORDS.index("blue")]
    untyped: Any = table
    untyped.register_hook(only)
    adam, ids = torch.optim.Adam([table], RATE_WORD), tokenize(captions)
    for step in range(1, steps + 1):
        one = torch.randint(len(pictures), (BATCH,), generator=rng)
        loss = noise_loss(model, pictures[one], model.read(ids[one]), rng)
        descend(adam, loss)
        if step % 10 == 0:
            tick(step / steps, f"step {step}", loss=loss.item())
    return model


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng, dice = (torch.Generator().manual_seed(2 * params.seed + odd) for odd in (0, 1))

    def part(start: float, share: float, name: str) -> Tick:
        return lambda fraction, message, **live: tick(start + share * fraction, f"{name}: {message}", **live)

    base, _ = train_words(params.base_steps, rng, part(0.0, 0.6, "base"))
    side = torch.arange(params.images) % 2
    pictures = draw_subject(side, 2 * torch.rand(3, params.images, generator=rng) - 1)  # (K, 3, 8, 8)
    captions = [SUBJECT[n % 2] for n in range(params.images)]
    words = base.read(tokenize(CLASS * 4)).detach()
    kind = sample(
        base, words, torch.randn(len(words), 3, SIZE, SIZE, generator=rng)
    )  # what the base makes of the class
    models = {"base": base}
    for name, prior, start in (("dreambooth", params.prior, 0.6), ("dreambooth, no prior", 0.0, 0.8)):
        own = torch.Generator().manual_seed(params.seed)  # the same draws for both
        models[name] = dreambooth(
            base, (pictures, captions), (kind, CLASS * 4), prior, params.steps, own, part(start, 0.15, name)
        )
    models["textual-inversion"] = invert(base, pictures, captions, params.steps, rng, part(0.95, 0.05, "inversion"))

    x = torch.randn(32, 3, SIZE, SIZE, generator=dice)

    def draw(model: WordUNet, captions: list[str]) -> Tensor:
        return sample(model, model.read(tokenize(captions)).detach(), x)  # (32, 3, 8, 8), from the same noise

    drawn = {name: (draw(model, SUBJECT * 16), draw(model, CLASS * 4)) for name, model in models.items()}
    like = {name: similarity(subject) for name, (subject, _) in drawn.items()}
    plain = similarity(drawn["base"][1])
    drift = {name: (kind - drawn["base"][1]).square().mean().sqrt().item() for name, (_, kind) in drawn.items()}
    changed = {
        name: sum(int((a != b).sum()) for a, b in zip(model.parameters(), base.parameters(), strict=True))
        for name, model in models.items()
    }
    inverted, table = models["textual-inversion"].token.weight, base.token.weight
    elsewhere = changed["textual-inversion"] - int((inverted[SKS] != table[SKS]).sum())
    moved = (inverted - table).detach().square().sum(dim=1).sqrt()  # (words,)
    return Result(
        metrics=[
            Metric("subject_similarity", like[params.method]),
            Metric("subject_similarity of the plain class", plain),
            Metric("class_drift", drift[params.method]),
            Metric("class_drift without the prior", drift["dreambooth, no prior"]),
            Metric("numbers changed", changed[params.method]),
        ],
        claims=[
            Claim("The new word draws the subject: similarity, above that of the plain class",
                  like[params.method] - plain, ">=", 0.2),
            Claim("Before, it did not: similarity of the base's sks, below DreamBooth's",
                  like["dreambooth"] - like["base"], ">=", 0.08),
            Claim("Prior preservation keeps the class: drift with it over drift without",
                  drift["dreambooth"] / drift["dreambooth, no prior"], "<=", 0.85),
            Claim("Textual inversion changes one word vector: numbers changed elsewhere", elsewhere, "==", 0),
            Claim("And draws the subject less well: similarity, below DreamBooth's",
                  like["dreambooth"] - like["textual-inversion"], ">=", 0.03),
        ],
        figures=[
            Images("The subject's pictures", [to_rows(pictures)]),
            Images("New images with the new word: sks disc left, right, left, …",
                   [to_rows(subject[:8]) for subject, _ in drawn.values()], list(drawn)),
            Images("Images of the plain class, the same noise", [to_rows(kind[:8]) for _, kind in drawn.values()],
                   list(drawn), CLASS),
            Bars("How far textual inversion moved each word's vector", "word", "distance",
                 [word or "(padding)" for word in WORDS], {"moved": moved.numpy().tolist()}),
        ],
        tables=[
            Table("Methods", ["model", "similarity to the subject", "drift of the class", "numbers changed"],
                  [[name, like[name], drift[name], changed[name]] for name in models]),
        ],
    )  # fmt: skip
