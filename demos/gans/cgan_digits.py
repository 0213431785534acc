"""Conditional GAN: draw me a seven

Question: How do generator and discriminator use a label, and how do you know that the label is obeyed?
Source: Mirza, Osindero 2014, arXiv:1411.1784, eq. (2) and fig. 1; words and mismatched pairs: Reed et al. 2016,
  arXiv:1605.05396, §4.2 and algorithm 1 (GAN-CLS).
Watch: one noise vector down each column, one label along each row. A classifier that never saw a generated digit reads
  what was drawn. Take the condition away: the digits stay as good, and the request is met by chance. Show D real images
  under wrong labels, and nearly every request is met.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from demos.contract import Claim, DemoParams, Images, Lines, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.digits import load_digits
from demos.shared.judge import Judge, train_judge

NOISE, HIDDEN, BATCH, LR = 16, 192, 64, 1e-3
LOOKS, FEW, MANY = 20, 20, 100  # looks at the generator; samples of each class at a look and at the end
WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
LETTERS = torch.tensor([[ord(letter) - 96 for letter in word] + [0] * (5 - len(word)) for word in WORDS])  # (10, 5)


class Params(DemoParams):
    condition: Literal["one-hot", "embedding", "words", "none"] = Field(
        "one-hot", description="How y enters both networks"
    )
    steps: int = Field(1500, ge=100, le=3000, description="Training steps")
    mismatched: bool = Field(False, description="Show D real images with wrong conditions as fakes")
    digit: int = Field(7, ge=0, le=9, description="Class to draw in the large figure")
    seed: int = Field(0, ge=0, le=9999, description="Random seed of data, weights and sampling")

    presets: ClassVar[Mapping[str, Preset]] = {
        "no condition": Preset("Good digits, the asked class only by chance", {"condition": "none"}),
        "words": Preset(
            "Spelled words and mismatched pairs: the text-to-image GAN",
            {"condition": "words", "mismatched": True},
        ),
        "mismatched pairs": Preset("D also learns that a real 3 is no 7: more requests are met", {"mismatched": True}),
        "embedding": Preset("A learned vector for each label instead of the one-hot", {"condition": "embedding"}),
    }


class Condition(nn.Module):
    """Digits asked for (B,) to the numbers y that enter a network, (B, size)."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.size = kind, 16 if kind == "words" else 10
        if kind == "embedding":
            self.table = nn.Embedding(10, 10)
        if kind == "words":  # the text encoder φ: letters, each with a vector, then one layer over the word
            self.letters, self.encoder = nn.Embedding(27, 8), nn.Linear(5 * 8, self.size)

    def forward(self, digit: Tensor) -> Tensor:
        match self.kind:
            case "one-hot":
                return F.one_hot(digit, 10).float()
            case "embedding":
                return self.table(digit)
            case "words":
                return F.leaky_relu(self.encoder(self.letters(LETTERS[digit]).flatten(1)), 0.2)
            case _:
                return torch.zeros(len(digit), self.size)


class Generator(nn.Module):
    """Noise (B, 16) and digits asked for (B,) to images (B, 1, 8, 8) in [0, 1]."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.condition = Condition(kind)
        self.net = nn.Sequential(
            nn.Linear(NOISE + self.condition.size, HIDDEN), nn.BatchNorm1d(HIDDEN), nn.ReLU(),
            nn.Linear(HIDDEN, HIDDEN), nn.BatchNorm1d(HIDDEN), nn.ReLU(),
            nn.Linear(HIDDEN, 64), nn.Sigmoid(), nn.Unflatten(1, (1, 8, 8)),
        )  # fmt: skip

    def forward(self, z: Tensor, digit: Tensor) -> Tensor:
        return self.net(torch.cat([z, self.condition(digit)], dim=1))  # z and y side by side, fig. 1


class Discriminator(nn.Module):
    """Images (B, 1, 8, 8) and the digits they should show (B,) to logits of "real, and as asked" (B,)."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.condition = Condition(kind)
        self.net = nn.Sequential(
            nn.Linear(64 + self.condition.size, HIDDEN), nn.LeakyReLU(0.2),
            nn.Linear(HIDDEN, HIDDEN), nn.LeakyReLU(0.2), nn.Linear(HIDDEN, 1),
        )  # fmt: skip

    def forward(self, x: Tensor, digit: Tensor) -> Tensor:
        return self.net(torch.cat([x.flatten(1), self.condition(digit)], dim=1))[:, 0]


def draw_weights(net: nn.Module, rng: torch.Generator) -> None:
    """Torch's usual start of linear layers, N(0, 1) for embeddings, from a generator of our own."""
    for part in net.modules():
        if isinstance(part, nn.Linear):
            nn.init.kaiming_uniform_(part.weight, a=5**0.5, generator=rng)
            nn.init.zeros_(part.bias)
        if isinstance(part, nn.Embedding):
            nn.init.normal_(part.weight, generator=rng)


def d_loss(real: Tensor, fake: Tensor, wrong: Tensor | None = None) -> Tensor:
    """Minus eq. (2) from logits (B,): -log D(x|y) - log(1 - D(G(z|y)|y)); half of the second term for wrong pairs."""
    loss_fake = F.softplus(fake).mean()
    if wrong is not None:  # GAN-CLS: a real image with another's condition is a fake pair
        loss_fake = (loss_fake + F.softplus(wrong).mean()) / 2
    return F.softplus(-real).mean() + loss_fake


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Take one step down the gradient of the loss."""
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()


@torch.no_grad()
def generate(G: Generator, z: Tensor) -> Tensor:
    """Each noise vector (N, 16) under each of the ten digits, (10, N, 1, 8, 8)."""
    G.eval()  # the norms' running statistics: a sample then does not depend on the others
    digits = torch.arange(10).repeat_interleave(len(z))
    images = G(z.repeat(10, 1), digits).view(10, len(z), 1, 8, 8)
    G.train()
    return images


def read(judge: Judge, images: Tensor) -> Tensor:
    """What the judge sees in images (10, N, 1, 8, 8): digits (10, N)."""
    return judge(images.flatten(0, 1)).argmax(dim=1).view(10, -1)


def obeyed(read_as: Tensor) -> Tensor:
    """Share of each row of digits (10, N) that is the row's own, (10,)."""
    return (read_as == torch.arange(10)[:, None]).float().mean(dim=1)


@dataclass(frozen=True, slots=True)
class Game:
    """A trained generator, and on the way: steps, share obeyed for each class (10,), losses of D and G."""

    G: Generator
    at: list[int]
    shares: list[Tensor]
    losses: list[tuple[float, float]]


def train(kind: str, params: Params, judge: Judge, tick: Tick) -> Game:
    """Train one conditional GAN on the real digits."""
    rng, dice = (torch.Generator().manual_seed(2 * params.seed + odd) for odd in (0, 1))  # training; evaluation
    x, y = load_digits()
    G, D = Generator(kind), Discriminator(kind)
    draw_weights(G, rng)
    draw_weights(D, rng)
    adam_g, adam_d = (torch.optim.Adam(net.parameters(), lr=LR, betas=(0.5, 0.999), fused=True) for net in (G, D))
    game = Game(G, [], [], [])
    for step in range(1, params.steps + 1):
        batch = torch.randint(len(x), (BATCH,), generator=rng)
        real, digit = x[batch], y[batch]
        fake = G(torch.randn(BATCH, NOISE, generator=rng), digit)
        wrong = None
        if params.mismatched:
            wrong = D(real, (digit + torch.randint(1, 10, (BATCH,), generator=rng)) % 10)
        loss_d = d_loss(D(real, digit), D(fake.detach(), digit), wrong)
        descend(adam_d, loss_d)
        loss_g = F.softplus(-D(fake, digit)).mean()  # -log D(G(z|y)|y): the form that does not saturate
        descend(adam_g, loss_g)
        if step % (params.steps // LOOKS) == 0:
            game.at.append(step)
            game.shares.append(obeyed(read(judge, generate(G, torch.randn(FEW, NOISE, generator=dice)))))
            game.losses.append((loss_d.item(), loss_g.item()))
            tick(step / params.steps, f"condition {kind}, step {step}", obeyed=game.shares[-1].mean().item())
    return game


def run(params: Params, tick: Tick = no_tick) -> Result:
    def part(start: float) -> Tick:
        def report(fraction: float, message: str, **live: float) -> None:
            tick(start + fraction / 2, message, **live)

        return report

    judge = train_judge(params.seed)
    game = train(params.condition, params, judge, part(0.0))
    control = game if params.condition == "none" else train("none", params, judge, part(0.5))
    z = torch.randn(MANY, NOISE, generator=torch.Generator().manual_seed(2 * params.seed + 1))
    images, unasked = generate(game.G, z), generate(control.G, z)  # (10, MANY, 1, 8, 8)
    read_as = read(judge, images)  # (10, MANY)
    shares = obeyed(read_as)
    followed = F.one_hot(read_as, 10).amax(dim=0).float().mean().item()  # (10, N, 10): digits seen in a column
    x, y = load_digits()
    spread = images.var(dim=1).mean(dim=(1, 2, 3)).sqrt()  # (10,): deviation of a pixel within a class
    spread_real = torch.stack([x[y == digit].var(dim=0).mean().sqrt() for digit in range(10)])
    diversity = spread / spread_real  # (10,)
    by_chance = obeyed(read(judge, unasked)).mean().item()
    with torch.no_grad():
        y_in = game.G.condition(torch.arange(10))  # (10, size)
    numbers = ["".join(f"{value:.0f}" for value in row.numpy()) for row in y_in]
    names = {
        "one-hot": [f"{digit}: {row}" for digit, row in enumerate(numbers)],
        "words": [f"{digit}: {word}" for digit, word in enumerate(WORDS)],
    }.get(params.condition, [str(digit) for digit in range(10)])
    return Result(
        metrics=[
            Metric("obeyed", shares.mean().item()),
            Metric("obeyed, worst class", shares.min().item()),
            Metric("obeyed without a condition", by_chance),
            Metric("diversity", diversity.mean().item()),
            Metric("accuracy of the judge on held-out real digits", judge.accuracy),
        ],
        claims=[
            Claim("The judge can be trusted: accuracy on real digits that it never saw", judge.accuracy, ">=", 0.93),
            Claim("Samples are recognised as the class asked for: share", shares.mean().item(), ">=", 0.9),
            Claim("So are those of the worst class: share", shares.min().item(), ">=", 0.7),
            Claim("The same noise draws another digit under another label: share of ten that differ", followed,
                  ">=", 0.85),
            Claim("Samples of one class differ: pixel deviation over that of real digits", diversity.mean().item(),
                  ">=", 0.4),
            Claim("Without the condition the asked class is hit by chance: share", by_chance, "<=", 0.25),
        ],
        figures=[
            Images("One label for each row, one noise vector for each column", images[:, :8, 0].numpy().tolist(),
                   row_labels=names),
            Images(f"Many drawings of {params.digit}", images[params.digit, :40, 0].view(4, 10, 8, 8).numpy().tolist()),
            Lines("Share recognised as asked, class by class", x="training step", y="share", at=game.at,
                  series={str(digit): [share[digit].item() for share in game.shares] for digit in range(10)}),
            Lines("Share recognised as asked, all classes", x="training step", y="share", at=game.at,
                  series={"this run": [share.mean().item() for share in game.shares],
                          "no condition": [share.mean().item() for share in control.shares]}),
            Lines("Losses", x="training step", y="nats", at=game.at,
                  series={"D": [d for d, _ in game.losses], "G": [g for _, g in game.losses]}),
        ],
        tables=[
            Table("Class by class", ["digit", "y in the generator", "obeyed", "diversity"],
                  [[digit, names[digit].split(": ")[-1], shares[digit].item(), diversity[digit].item()]
                   for digit in range(10)]),
        ],
    )  # fmt: skip
