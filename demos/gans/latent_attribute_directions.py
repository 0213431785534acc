"""Editing with a direction

Question: Is there one straight direction in latent space for glasses, and does it leave the rest alone?
Source: separability score: Karras, Laine, Aila 2018, arXiv:1812.04948, §4.2; edits along normals, projected: Y. Shen et
  al. 2019 (InterFaceGAN), arXiv:1907.10786; Newton's method for the squared hinge: Chapelle 2007.
Watch: the normal of one hyperplane is the edit: along it every face puts on glasses, and on the way some change mouth,
  hair or pose. Project the others' normals out, and these stay. The mapping network is what makes boundaries straight:
  in Z the same faces are divided by curved ones. (The generator sets the sliders of a drawing program.)
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, normalize

from demos.contract import Bars, Claim, DemoParams, Heatmap, Images, Lines, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.faces import ATTRIBUTES, draw, to_row
from demos.shared.perceptron import perceptron
from demos.shared.transformer import train

NAMES = ("glasses", "mouth", "hair", "pose")  # set by sliders from 0 to 1; an attribute is there from a half on
CUT = 0.4  # no face has glasses and mouth both above it, nor hair and pose
LATENT, MAPPING, BEND = 8, 32, 16  # size of z and of w; hidden units of the two networks
STEPS, BATCH, EDITED, C = 600, 256, 1000, 1.0  # training; faces that are edited; weight of the hinge


class Params(DemoParams):
    attribute: Literal["glasses", "hair", "pose", "mouth"] = Field("glasses", description="Attribute edited")
    strength: float = Field(3.0, ge=-6.0, le=6.0, description="Way along the direction, in deviations of the codes")
    orthogonal: bool = Field(True, description="Project the other attributes' normals out of the direction")
    samples: int = Field(2000, ge=200, le=10_000, description="Latents used for the fit")
    kept: float = Field(1.0, ge=0.1, le=1.0, description="Share of them kept: those with the most confident labels")
    space: Literal["z", "w"] = Field("w", description="Latent space of the edit")
    mapping_layers: int = Field(4, ge=0, le=8, description="Depth of the mapping network; 0 removes it: w is z")
    seed: int = Field(0, ge=0, le=9999, description="Random seed of data, weights and sampling")

    presets: ClassVar[Mapping[str, Preset]] = {
        "plain normals": Preset("Normals do not stand at right angles: others follow", {"orthogonal": False}),
        "no mapping network": Preset("W is Z then, and no straighter", {"mapping_layers": 0}),
        "edit in Z": Preset("Boundaries are curved there: a straight way crosses others of them", {"space": "z"}),
        "confident half": Preset("As the paper's score: doubtful faces, at the boundary, do not count", {"kept": 0.5}),
    }


def draw_sliders(n: int, rng: torch.Generator) -> Tensor:
    """Sliders of n faces (n, 4): two independent pairs, each uniform on the square without its upper corner."""
    pairs = torch.rand(2, 4 * n, 2, generator=rng)
    return torch.cat([pair[(pair < CUT).any(dim=1)][:n] for pair in pairs], dim=1)


def paint(sliders: Tensor, seed: int) -> Tensor:
    """Pictures (N, 768) of sliders (N, 4) by the drawing program; the seed decides each face's place and light."""
    amounts = torch.zeros(len(sliders), 8)
    amounts[:, [ATTRIBUTES["faces"].index(name) for name in NAMES]] = sliders.clamp(0, 1)
    return draw("faces", amounts, torch.Generator().manual_seed(seed)).flatten(1)


def fit_judge(rng: torch.Generator, tick: Tick) -> nn.Sequential:
    """Logits (B, 4) of the attributes in pictures (B, 768): generated faces come without labels, and it gives them."""
    sliders = torch.rand(4000, 4, generator=rng)  # all combinations, also those that the generator's data lack
    x, there = paint(sliders, seed=0), (sliders > 0.5).float()
    judge = perceptron([x.shape[1], 64, len(NAMES)], nn.ReLU, rng)

    def loss() -> Tensor:
        batch = torch.randint(len(x), (128,), generator=rng)
        return binary_cross_entropy_with_logits(judge(x[batch]), there[batch])

    train(judge, loss, 300, 3e-3, lambda step, value: tick(0.2 * step / 300, "judge", loss=value))
    return judge


class Generator(nn.Module):
    """Mapping network f: z (N, 8) -> w (N, 8), and w -> sliders (N, 4): a straight map and a small network's bend."""

    def __init__(self, layers: int, rng: torch.Generator) -> None:
        super().__init__()
        sizes = [LATENT] + [MAPPING] * (layers - 1) + [LATENT] * (layers > 0)
        self.f = perceptron(sizes, lambda: nn.LeakyReLU(0.2), rng)
        self.straight, self.bend = perceptron([LATENT, 4], nn.Tanh, rng), perceptron([LATENT, BEND, 4], nn.Tanh, rng)
        for layer in self.f:
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_normal_(layer.weight, a=0.2, generator=rng)
        for weight in self.bend[2].parameters():
            nn.init.zeros_(weight)  # it starts straight and bends only if it must: that keeps W simple

    def forward(self, w: Tensor) -> Tensor:
        return 0.5 + self.straight(w) + self.bend(w)


def fit_generator(layers: int, rng: torch.Generator, tick: Tick) -> Generator:
    """A generator whose sliders are spread like the data's, by sliced Wasserstein distance: a critic without training.

    It sees no label, and may place attributes in W as it likes.
    """
    G = Generator(layers, rng)

    def loss() -> Tensor:
        fake, real = G(G.f(torch.randn(BATCH, LATENT, generator=rng))), draw_sliders(BATCH, rng)  # (B, 4)
        directions = normalize(torch.randn(4, 48, generator=rng), dim=0)  # (4, 48)
        return ((fake @ directions).sort(dim=0).values - (real @ directions).sort(dim=0).values).square().mean()

    rate = 3e-3 if layers else 1e-2  # one with little to learn can take larger steps
    train(G, loss, STEPS, rate, lambda step, value: tick(0.2 + 0.7 * step / STEPS, "generator", loss=value))
    return G


def fit_hyperplane(codes: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
    """Linear SVM: v (d,) and offset b that minimise ‖(v, b)‖² / 2 + C Σ max(0, 1 − y (v·c + b))², y = ±1.

    While the set of codes that pay stays the same the objective is quadratic: a Newton step solves its least squares.
    """
    x = torch.cat([codes, torch.ones(len(codes), 1)], dim=1).double()  # (N, d + 1)
    y = 2 * there.double() - 1  # (N,)
    v, ridge = torch.zeros(x.shape[1]).double(), torch.eye(x.shape[1]).double() / (2 * C)
    for _ in range(30):  # it comes to rest much earlier
        x_pay, y_pay = x[y * (x @ v) < 1], y[y * (x @ v) < 1]  # those that are wrong, or within the margin
        v = (ridge + x_pay.T @ x_pay).inverse() @ x_pay.T @ y_pay
    return v[:-1].float(), v[-1].float()


def conditional_entropy(x: Tensor, y: Tensor) -> float:
    """H(Y | X) in nats, of two sets of yes and no (N,): what is still open about y when x is known."""
    p = (2 * x + y.long()).bincount(minlength=4).view(2, 2).double() / len(x)  # P(x, y)
    return (torch.xlogy(p.sum(dim=1), p.sum(dim=1)).sum() - torch.xlogy(p, p).sum()).item()


def project_out(direction: Tensor, others: Tensor) -> Tensor:
    """The part of direction (d,) at right angles to all others (k, d), of length 1."""
    return normalize(direction - direction @ others.pinverse() @ others, dim=0)


@torch.no_grad()
def run(params: Params, tick: Tick = no_tick) -> Result:
    rng = torch.Generator().manual_seed(params.seed)
    with torch.enable_grad():
        judge = fit_judge(rng, tick)
        G = fit_generator(params.mapping_layers, rng, tick)
    fresh = torch.rand(1000, 4, generator=rng)
    trusted = ((judge(paint(fresh, seed=3)) > 0) == (fresh > 0.5)).float().mean().item()
    z = torch.randn(params.samples + EDITED, LATENT, generator=rng)
    spaces = {"z": z, "w": G.f(z)}  # codes (N, 8) of the same faces

    logits = judge(paint(G(spaces["w"][: params.samples]), seed=1))  # (samples, 4)
    normals_in, entropy = dict[str, Tensor](), {"z": 0.0, "w": 0.0}
    rows: list[list[str | float]] = [[name] for name in NAMES]
    for space, codes in spaces.items():
        normal = torch.zeros(4, LATENT)
        for k, row in enumerate(rows):
            sure = logits[:, k].abs().topk(round(params.kept * params.samples)).indices  # (kept · samples,)
            there = logits[sure, k] > 0
            v, b = fit_hyperplane(codes[sure], there)
            guessed = codes[sure] @ v + b > 0
            row += [(guessed == there).float().mean().item(), conditional_entropy(guessed, there)]
            entropy[space] += conditional_entropy(guessed, there)
            normal[k] = normalize(v, dim=0)
        normals_in[space] = normal
    score = {space: torch.tensor(total).exp().item() for space, total in entropy.items()}

    codes, normals = spaces[params.space][params.samples :], normals_in[params.space]  # codes that no hyperplane saw
    others = ~torch.eye(4, dtype=torch.bool)
    free = torch.stack([project_out(normals[k], normals[others[k]]) for k in range(4)])  # (4, 8)
    directions = {"plain normal": normals, "orthogonal": free}
    way = "orthogonal" if params.orthogonal else "plain normal"

    def move(codes: Tensor, n: Tensor, strength: float) -> Tensor:
        """Pictures (N, 768) of codes (N, 8) after a step along n (8,), in deviations of all codes along it."""
        moved = codes + strength * (spaces[params.space] @ n).std() * n
        return paint(G(G.f(moved) if params.space == "z" else moved), seed=2)

    at_start = judge(move(codes, normals[0], 0.0))  # (EDITED, 4)
    before, backwards = at_start > 0, params.strength < 0
    can = before == backwards  # an edit of k can change faces without it, or, backwards, those with it
    edits = dict[str, Tensor]()  # (4, 4) each: of the faces in which the edit of k can change k, where it changes j
    for name, each in directions.items():
        after = [judge(move(codes, n, params.strength)) > 0 for n in each]
        edits[name] = torch.stack([(after[k] != before)[can[:, k]].float().mean(dim=0) for k in range(4)])
    leaks = {name: edit[others].view(4, 3).mean(dim=1) for name, edit in edits.items()}  # (4,) each
    k = NAMES.index(params.attribute)
    strengths = [n / 2 for n in range(-12, 13)]
    share = [(judge(move(codes, directions[way][k], s)) > 0).float().mean(dim=0) for s in strengths]  # (4,) each
    clearest = at_start[:, k].argmax() if backwards else at_start[:, k].argmin()
    steps = [params.strength * n / 4 for n in range(6)]
    return Result(
        metrics=[
            Metric("flip_rate", edits[way][k, k].item()),
            Metric("leak", leaks[way][k].item()),
            Metric("leak along the plain normal", leaks["plain normal"][k].item()),
            Metric("separability score in Z", score["z"]),
            Metric("separability score in W", score["w"]),
            Metric("accuracy of the judge on fresh drawings", trusted),
        ],
        claims=[
            Claim("An edit sets its attribute: share of faces that change, worst of four edits",
                  edits[way].diagonal().min().item(), ">=", 0.85),
            Claim("And leaves the others: share that changes with it, mean of four edits",
                  leaks[way].mean().item(), "<=", 0.12),
            Claim("Plain normals leak more than orthogonal directions: mean difference",
                  (leaks["plain normal"] - leaks["orthogonal"]).mean().item(), ">=", 0.1),
            Claim("Hyperplanes leave less open in W: sum of H(Y | X), ratio to Z",
                  entropy["w"] / max(entropy["z"], 1e-9), "<=", 0.65),
        ],
        figures=[
            Images(f"One face along {params.attribute}",
                   [to_row(torch.cat([move(codes[clearest, None], n[k], s) for s in steps]), 16)
                    for n in directions.values()], [*directions], [f"{s:+.3g}" for s in steps]),
            Lines(f"All faces along {params.attribute}, {way}", "strength", "share with it", strengths,
                  dict(zip(NAMES, torch.stack(share, dim=1).numpy().tolist(), strict=True))),
            Bars(f"What an edit of {params.attribute} changes", "attribute", "share of faces", NAMES,
                 {name: edit[k].numpy().tolist() for name, edit in edits.items()}),
            Heatmap("Cosines between normals", "", "", (normals @ normals.T).numpy().tolist(), NAMES, NAMES),
        ],
        tables=[
            Table("Separability: H(Y | X) in nats; the score is exp of their sum",
                  ["attribute", "accuracy in Z", "H in Z", "accuracy in W", "H in W"],
                  [*rows, ["score", "", score["z"], "", score["w"]]]),
        ],
    )  # fmt: skip
