"""Cartoon faces with attributes

Question: Can a generator set glasses, hair, pose and mouth one by one, and what if the data never shows a combination?
Source: Mirza, Osindero 2014, arXiv:1411.1784, eq. (2); attributes on every face: Z. Liu et al. 2014 (CelebA),
  arXiv:1411.7766; gradient penalty R1: Mescheder et al. 2018, arXiv:1801.04406, eq. (9).
Watch: one face, one attribute switched, the rest stays. No training face has glasses and an open mouth: asked for both,
  the generator mostly gives one up, for its critic never saw them together. A generator that nobody asks copies the
  shares of its data. Hide the attributes from the critic and they are ignored.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from demos.contract import Bars, Claim, DemoParams, Images, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.faces import ATTRIBUTES, Domain, draw, to_row
from demos.shared.perceptron import perceptron

NOISE, WIDTH, BATCH, TESTED = 16, 256, 64, 1_000  # size of z, hidden units, faces a step, faces measured
RATE, GAMMA, EMA = 1e-3, 0.2, 0.98  # learning rate, weight of R1, decay of the averaged generator
Attribute = Literal["glasses", "hair", "pose", "shape", "mouth", "eyes", "skin", "age"]


class Params(DemoParams):
    attribute: Attribute = Field("glasses", description="Attribute looked at; in other domains the one in its place")
    skew: float = Field(0.0, ge=0.0, le=0.95, description="How far below half of the faces the attribute is kept")
    missing: bool = Field(True, description="No training face has the attribute and an open mouth (glasses for mouth)")
    critic_sees: bool = Field(True, description="The critic is shown the attributes that were asked for")
    resolution: int = Field(16, ge=8, le=32, description="Pixels a side")
    size: int = Field(4000, ge=200, le=10_000, description="Training faces")
    steps: int = Field(500, ge=100, le=2000, description="Training steps of each of the two generators")
    domain: Domain = Field("faces", description="What is drawn")
    seed: int = Field(0, ge=0, le=9999, description="Seed of data, weights and sampling")

    presets: ClassVar[Mapping[str, Preset]] = {
        "critic not told": Preset("Nothing rewards obedience: attributes asked for are ignored",
                                  {"critic_sees": False}),
        "nothing missing": Preset("Every combination in the data: asked for both, it draws both",
                                  {"missing": False}),
        "rare glasses": Preset("A tenth wear them, in data and samples; learned less well", {"skew": 0.8}),
        "cars": Preset("The same networks on cars; the attribute is a roof rack", {"domain": "cars"}),
    }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Faces:
    """Pictures in [-1, 1] as rows (N, 3 · S²), and their attributes (N, 8), each 0 or 1."""

    x: Tensor
    bits: Tensor


def partner(attribute: int) -> int:
    """The attribute that the missing combination joins to it: the mouth, and to the mouth the first of the list."""
    return 0 if attribute == 4 else 4


def draw_bits(n: int, attribute: int, skew: float, missing: bool, rng: torch.Generator) -> Tensor:
    """Attributes of n faces, (n, 8): fair coins, but the chosen one is kept rare, and alone where `missing`."""
    bits = (torch.rand(n, 8, generator=rng) < 0.5).float()
    bits[:, attribute] = (torch.rand(n, generator=rng) < (1 - skew) / 2).float()
    if missing:
        bits[:, partner(attribute)] *= 1 - bits[:, attribute]
    return bits


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Take one step down the gradient of the loss."""
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()


def fit_judge(faces: Faces, rng: torch.Generator) -> nn.Sequential:
    """Logits (B, 8) of the attributes of pictures (B, 3 · S²), learned from drawings with some noise on them."""
    judge = perceptron([faces.x.shape[1], 64, 8], nn.ReLU, rng)
    adam = torch.optim.Adam(judge.parameters(), lr=2e-3, fused=True)
    for _ in range(200):
        batch = torch.randint(len(faces.x), (128,), generator=rng)
        noisy = faces.x[batch] + 0.1 * torch.randn(128, faces.x.shape[1], generator=rng)
        descend(adam, binary_cross_entropy_with_logits(judge(noisy), faces.bits[batch]))
    return judge


def leaky() -> nn.Module:
    return nn.LeakyReLU(0.2)


class Generator(nn.Module):
    """G(z | y), eq. (2): noise z (B, 16) and attributes y (B, 8) in {-1, 1} -> pictures (B, 3 · S²)."""

    def __init__(self, pixels: int, rng: torch.Generator) -> None:
        super().__init__()
        self.layers = perceptron([NOISE + 8, WIDTH, WIDTH, pixels], leaky, rng)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        return self.layers(torch.cat([z, y], dim=1)).tanh()


def train(faces: Faces, steps: int, told: bool, critic_sees: bool, rng: torch.Generator, report: Tick) -> Generator:
    """A generator that is told the attributes, or zeros instead, and ends with its averaged weights."""
    G = Generator(faces.x.shape[1], rng)
    D = perceptron([faces.x.shape[1] + 8, WIDTH, WIDTH, 1], leaky, rng)  # D(x | y): logits (B, 1)
    average = [weight.detach().clone() for weight in G.parameters()]
    adam_g, adam_d = (torch.optim.Adam(net.parameters(), lr=RATE, betas=(0.0, 0.99), fused=True) for net in (G, D))
    for step in range(1, steps + 1):
        batch = torch.randint(len(faces.x), (BATCH,), generator=rng)
        y = told * (2 * faces.bits[batch] - 1)  # (B, 8)
        shown = critic_sees * y
        x = faces.x[batch].requires_grad_()
        fake = G(torch.randn(BATCH, NOISE, generator=rng), y)
        on_real = D(torch.cat([x, shown], dim=1))
        (slope,) = torch.autograd.grad(on_real.sum(), x, create_graph=True)  # (B, 3 · S²)
        loss = softplus(-on_real).mean() + softplus(D(torch.cat([fake.detach(), shown], dim=1))).mean()  # -eq. (2)
        descend(adam_d, loss + GAMMA / 2 * slope.square().sum(dim=1).mean())
        descend(adam_g, softplus(-D(torch.cat([fake, shown], dim=1))).mean())  # -log D: it does not saturate
        with torch.no_grad():
            for slow, weight in zip(average, G.parameters(), strict=True):
                slow.lerp_(weight, 1 - EMA)
        if step % 20 == 0:
            report(step / steps, f"{'told' if told else 'not told'}, step {step}", critic=loss.item())
    with torch.no_grad():
        for slow, weight in zip(average, G.parameters(), strict=True):
            weight.copy_(slow)
    return G


@torch.no_grad()
def run(params: Params, tick: Tick = no_tick) -> Result:
    rng = torch.Generator().manual_seed(params.seed)
    names = ATTRIBUTES[params.domain]
    chosen = ATTRIBUTES["faces"].index(params.attribute)
    other, size = partner(chosen), params.resolution

    def part(start: float) -> Tick:
        return lambda fraction, message, **live: tick(start + fraction / 2, message, **live)

    def faces(n: int, skew: float = 0.0, missing: bool = False) -> Faces:
        bits = draw_bits(n, chosen, skew, missing, rng)
        return Faces(draw(params.domain, bits, rng, size).flatten(1), bits)

    fair, fresh, data = faces(3_000), faces(TESTED), faces(params.size, params.skew, params.missing)
    with torch.enable_grad():
        judge = fit_judge(fair, rng)
        G = train(data, params.steps, True, params.critic_sees, rng, part(0.0))
        plain = train(data, params.steps, False, False, rng, part(0.5))

    def recognise(x: Tensor) -> Tensor:
        return (judge(x) > 0).float()  # (N, 8)

    z = torch.randn(TESTED, NOISE, generator=rng)
    asked = data.bits[torch.randint(params.size, (TESTED,), generator=rng)]  # combinations that the data shows
    right = recognise(G(z, 2 * asked - 1)) == asked  # (N, 8)
    obeyed, two = right.float().mean(dim=0), right[:, [chosen, other]].all(dim=1).float().mean().item()  # (8,), share
    off, on, both = asked.clone(), asked.clone(), asked.clone()
    off[:, [chosen, other]] = 0
    on[:, chosen], on[:, other] = 1, 0
    both[:, [chosen, other]] = 1
    without, with_it, unseen = (G(z, 2 * bits - 1) for bits in (off, on, both))  # one face each, (N, 3 · S²)
    same = params.seed + 10_000  # seeds a drawing twice: place and light alike, so that only the attribute differs
    drawn = [draw(params.domain, bits, torch.Generator().manual_seed(same), size).flatten(1) for bits in (off, on)]
    inside = (drawn[1] - drawn[0]).abs().mean(dim=0) > 0.1  # (3 · S²,): where the attribute is drawn
    change = (with_it - without).abs().mean(dim=0)  # (3 · S²,)
    local = (change[inside].mean() / change[~inside].mean()).item()
    unasked = recognise(plain(z, torch.zeros(TESTED, 8)))  # (N, 8)
    shares = {"data": data.bits, "not asked": unasked}
    share_both = {name: bits[:, [chosen, other]].all(dim=1).float().mean().item() for name, bits in shares.items()}
    drew_both = recognise(unseen)[:, [chosen, other]].all(dim=1).float().mean().item()
    frequencies = torch.stack([bits.mean(dim=0) for bits in shares.values()])  # (2, 8)
    off_by = (frequencies[1] - frequencies[0]).abs().mean().item()
    judged = (recognise(fresh.x) == fresh.bits).float().mean().item()

    start = (off[:1] + torch.cat([torch.zeros(1, 8), torch.eye(8)])) % 2  # one face, then each attribute switched
    one = torch.cat([draw(params.domain, row[None], torch.Generator().manual_seed(same), size) for row in start])
    joint = f"{names[chosen]} and {names[other]}"
    return Result(
        metrics=[
            Metric("attribute_accuracy", obeyed.mean().item()),
            Metric("accuracy of the judge on fresh drawings", judged),
            Metric(f"share in the data: {names[chosen]}", frequencies[0, chosen].item()),
            Metric(f"share where nobody asks: {names[chosen]}", frequencies[1, chosen].item()),
            Metric(f"both drawn where asked for: {joint}", drew_both),
            Metric(f"both drawn where nobody asks: {joint}", share_both["not asked"]),
            Metric(f"share in the data: {joint}", share_both["data"]),
        ],
        claims=[
            Claim("Asked attributes are recognised in the samples: mean share right", obeyed.mean().item(), ">=", 0.8),
            Claim("Switching one changes the pixels where it is drawn more than the rest: ratio", local, ">=", 3.0),
            Claim("A combination that no training face shows is obeyed less: fall of both right", two - drew_both,
                  ">=", 0.3),
            Claim("Where nobody asks, that combination is rare: share", share_both["not asked"], "<=", 0.15),
            Claim("Where nobody asks, samples inherit the data's shares: mean difference", off_by, "<=", 0.2),
            Claim("The judge can be trusted: share right on fresh drawings", judged, ">=", 0.97),
        ],
        figures=[
            Images("One face, and each attribute switched",
                   [to_row(row, size) for row in (one, G(z[:1].expand(9, -1), 2 * start - 1))],
                   row_labels=["drawn by program", "generated, one z"], column_labels=["as it was", *names]),
            Images(f"Eight faces: {names[chosen]}, and {joint}",
                   [to_row(x[:8], size) for x in (without, with_it, unseen)],
                   row_labels=["with neither", f"with {names[chosen]}", joint]),
            Images("Training pictures and samples",
                   [to_row(x[:10], size) for x in (data.x, G(z, 2 * asked - 1), plain(z, torch.zeros(TESTED, 8)))],
                   row_labels=["data", "asked for", "not asked"]),
            Bars("How often each attribute occurs", x="attribute", y="share", labels=names,
                 series=dict(zip(shares, frequencies.numpy().tolist(), strict=True))),
        ],
        tables=[
            Table("Attributes", ["attribute", "recognised as asked", "share in data", "share where nobody asks"],
                  [[name, *row] for name, row in
                   zip(names, torch.stack([obeyed, *frequencies], dim=1).numpy().tolist(), strict=True)]),
        ],
    )  # fmt: skip
