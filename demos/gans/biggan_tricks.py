"""BigGAN parts: spectral norm, conditional batch norm, truncation

Question: What keeps a large class-conditional GAN stable, and how is quality traded for variety at sampling?
Source: Brock, Donahue, Simonyan 2018, arXiv:1809.11096, §3.1 and eq. (3); spectral normalisation: Miyato et al. 2018,
  arXiv:1802.05957, algorithm 1; projection: Miyato, Koyama 2018, arXiv:1802.05637; conditional norm: de Vries et al.
  2017, arXiv:1707.00683; hinge loss: Lim, Ye 2017, arXiv:1705.02894.
Watch: the label enters the generator through scales and shifts of its norms alone, and ten digits come of it. Cut the
  tails off the noise: the digits get surer and more alike. Turn spectral normalisation off and the layers' slopes grow.
"""

from collections.abc import Mapping
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from demos.contract import Claim, DemoParams, Images, Lines, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.digits import load_digits
from demos.shared.judge import Judge, train_judge

NOISE, HIDDEN, LR_G, LR_D = 16, 128, 1e-3, 2e-3
LOOKS, MANY = 20, 100  # looks at the singular values; samples of each class for each truncation
TRUNCATIONS = (0.1, 0.3, 0.5, 1.0, 1.5, 2.0, 3.0)


class Params(DemoParams):
    truncation: float = Field(1.0, ge=0.1, le=3.0, description="Noise beyond this is redrawn, at sampling only")
    batch_size: int = Field(128, ge=8, le=256, description="Batch size")
    spectral: bool = Field(True, description="Spectral normalisation in both networks")
    orthogonal: float = Field(0.0001, ge=0.0, le=0.01, description="Weight β of orthogonal regularisation")
    steps: int = Field(900, ge=100, le=2000, description="Training steps")
    seed: int = Field(0, ge=0, le=9999, description="Random seed of data, weights and sampling")

    presets: ClassVar[Mapping[str, Preset]] = {
        "no spectral norm": Preset("Nothing holds the layers' slopes at one: they grow", {"spectral": False}),
        "hard truncation": Preset("Nearly the same digit each time", {"truncation": 0.1}),
        "strong orthogonality": Preset("Filters that hardly overlap", {"orthogonal": 0.01}),
        "small batches": Preset("Eight images a step, against BigGAN's advice", {"batch_size": 8}),
    }


class SpectralLinear(nn.Module):
    """A dense layer whose weight W (out, in) is used as W / σ(W), so that no input is stretched.

    For a convolution W would be a reshaped kernel, and σ only near the layer's largest slope; here it is that slope.
    """

    def __init__(self, c_in: int, c: int, on: bool, rng: torch.Generator) -> None:
        super().__init__()
        self.W, self.b, self.on = nn.Parameter(torch.empty(c, c_in)), nn.Parameter(torch.zeros(c)), on
        nn.init.orthogonal_(self.W, generator=rng)
        self.u = nn.Buffer(F.normalize(torch.randn(c, generator=rng), dim=0))  # (c,)

    def normalised(self) -> Tensor:
        """W / σ, with σ ≈ uᵀ W v; each use in training takes u one step of power iteration further; W itself if off."""
        if not self.on:
            return self.W
        with torch.no_grad():
            v = F.normalize(self.W.T @ self.u, dim=0)  # (c_in,)
            if self.training:
                self.u.copy_(F.normalize(self.W @ v, dim=0))
        u = self.u.clone()  # autograd needs this step's u even after the next one
        return self.W / (u @ self.W @ v)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.normalised(), self.b)


class ConditionalNorm(nn.Module):
    """Batch norm whose scale γ and shift β are looked up by class: (B, c), (B,) -> (B, c)."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(c, affine=False)
        self.gamma, self.beta = nn.Parameter(torch.ones(10, c)), nn.Parameter(torch.zeros(10, c))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.gamma[y] * self.norm(x) + self.beta[y]


class Generator(nn.Module):
    """z (B, 16) and classes y (B,) to images (B, 1, 8, 8) in -1 … 1; y enters through the norms only."""

    def __init__(self, spectral: bool, rng: torch.Generator) -> None:
        super().__init__()
        self.inner, self.middle, self.outer = (
            SpectralLinear(n, m, spectral, rng) for n, m in ((NOISE, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, 64))
        )
        self.norm1, self.norm2 = ConditionalNorm(HIDDEN), ConditionalNorm(HIDDEN)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        h = self.norm1(self.inner(z), y).relu()
        h = self.norm2(self.middle(h), y).relu()
        return self.outer(h).tanh().view(-1, 1, 8, 8)


class Discriminator(nn.Module):
    """Images and classes to scores (B,): ψ(φ(x)) + V_y · φ(x), so that the class is compared with the features."""

    def __init__(self, spectral: bool, rng: torch.Generator) -> None:
        super().__init__()
        self.inner, self.middle, self.outer, self.classes = (
            SpectralLinear(n, m, spectral, rng) for n, m in ((64, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, 1), (HIDDEN, 10))
        )

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        phi = F.leaky_relu(self.middle(F.leaky_relu(self.inner(x.flatten(1)), 0.2)), 0.2)  # (B, c)
        return self.outer(phi)[:, 0] + self.classes(phi).gather(1, y[:, None])[:, 0]


def dense(net: nn.Module) -> dict[str, SpectralLinear]:
    return {name: part for name, part in net.named_children() if isinstance(part, SpectralLinear)}


@torch.no_grad()
def largest_singular_values(nets: Mapping[str, nn.Module]) -> dict[str, float]:
    """σ of the weight that each layer uses, exact; W's own where it is not normalised."""
    return {
        f"{name} {layer}": part.normalised().svd().S[0].item()
        for name, net in nets.items() for layer, part in dense(net).items()
    }  # fmt: skip


def overlap(W: Tensor) -> Tensor:
    """‖WᵀW ⊙ (1 - I)‖², eq. (3): what filters (columns of W) share; their lengths are left free."""
    gram = W.T @ W
    return (gram - gram.diag().diag()).square().sum()


def truncated_normal(shape: tuple[int, ...], truncation: float, rng: torch.Generator) -> Tensor:
    """N(0, 1) with every value beyond the truncation drawn again."""
    z = torch.randn(shape, generator=rng)
    while (beyond := z.abs() > truncation).any():
        z[beyond] = torch.randn(int(beyond.sum()), generator=rng)
    return z


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Take one step down the gradient of the loss."""
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()


@torch.no_grad()
def sample(G: Generator, truncation: float, seed: int) -> Tensor:
    """MANY images of each class in [0, 1], (10, MANY, 1, 8, 8), by the norms' running statistics."""
    z = truncated_normal((10 * MANY, NOISE), truncation, torch.Generator().manual_seed(seed))
    return (G.eval()(z, torch.arange(10).repeat_interleave(MANY)).view(10, MANY, 1, 8, 8) + 1) / 2


def scores(judge: Judge, images: Tensor, real: Tensor) -> tuple[float, float, float]:
    """Of images (10, N, 1, 8, 8): the judge's mean confidence, pixel deviation in a class over the real one (10,),
    and the share that it reads as the class asked for."""
    p = judge(images.flatten(0, 1)).softmax(dim=1)  # (10 N, 10)
    asked = torch.arange(10).repeat_interleave(images.shape[1])
    spread = images.var(dim=1).mean(dim=(1, 2, 3)).sqrt()  # (10,)
    hit = (p.argmax(dim=1) == asked).float().mean().item()
    return p.max(dim=1).values.mean().item(), (spread / real).mean().item(), hit


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng = torch.Generator().manual_seed(2 * params.seed)
    digits, labels = load_digits()
    judge = train_judge(params.seed)
    G, D = Generator(params.spectral, rng), Discriminator(params.spectral, rng)
    nets = {"G": G, "D": D}
    adam_g, adam_d = (
        torch.optim.Adam(net.parameters(), lr=lr, betas=(0.0, 0.999), fused=True) for net, lr in ((G, LR_G), (D, LR_D))
    )
    at, sigmas = list[int](), list[dict[str, float]]()
    for step in range(1, params.steps + 1):
        batch = torch.randint(len(digits), (params.batch_size,), generator=rng)
        x, y = 2 * digits[batch] - 1, labels[batch]
        fake = G(torch.randn(params.batch_size, NOISE, generator=rng), y)
        descend(adam_d, (1 - D(x, y)).relu().mean() + (1 + D(fake.detach(), y)).relu().mean())  # hinge
        loss = -D(fake, y).mean()
        for layer in dense(G).values():
            loss = loss + params.orthogonal * overlap(layer.W)
        descend(adam_g, loss)
        if step % (params.steps // LOOKS) == 0:
            at.append(step)
            sigmas.append(largest_singular_values(nets))
            tick(step / params.steps, f"step {step}", g=loss.item(), sigma=max(sigmas[-1].values()))

    for _ in range(200):  # more steps of power iteration, without training, so that u settles
        for layer in (*dense(G).values(), *dense(D).values()):
            layer.normalised()
    sigma = largest_singular_values(nets)
    real = torch.stack([digits[labels == digit].var(dim=0).mean().sqrt() for digit in range(10)])
    images = {tau: sample(G, tau, 2 * params.seed + 1) for tau in (*TRUNCATIONS, params.truncation)}
    by_tau = {tau: scores(judge, some, real) for tau, some in images.items()}
    confidence, diversity, obeyed = by_tau[params.truncation]
    scales = torch.cat([parts for norm in (G.norm1, G.norm2) for parts in (norm.gamma, norm.beta)], dim=1).detach()
    apart = (scales[:, None] - scales[None]).abs().mean(dim=2)  # (10, 10)
    closest = (apart + apart.max() * torch.eye(10)).min().item()
    with torch.no_grad():
        cosines = {name: F.normalize(layer.W, dim=0) for name, layer in dense(G).items()}
        shared = {name: (overlap(W) / (W.shape[1] * (W.shape[1] - 1))).sqrt().item() for name, W in cosines.items()}
    return Result(
        metrics=[
            Metric("confidence", confidence),
            Metric("diversity", diversity, "of that of real digits"),
            Metric("share read as the class asked for", obeyed),
            Metric("largest singular value of all layers", max(sigma.values())),
        ],
        claims=[
            Claim("Layers have slope one: largest singular value of any, not above", max(sigma.values()), "<=", 1.02),
            Claim("Layers have slope one: largest singular value of any, not below", min(sigma.values()), ">=", 0.98),
            Claim("Digits are those asked for, through the norms alone: share at truncation 1", by_tau[1.0][2],
                  ">=", 0.8),
            Claim("Less noise, surer samples: confidence at truncation 0.3 minus that at 2",
                  by_tau[0.3][0] - by_tau[2.0][0], ">=", 0.0),
            Claim("Less noise, more alike: diversity at truncation 0.3 over that at 2",
                  by_tau[0.3][1] / by_tau[2.0][1], "<=", 0.7),
            Claim("Scale and shift differ by class: mean difference of the two closest classes", closest, ">", 0.01),
        ],
        figures=[
            Images(f"Samples at truncation {params.truncation:g}, a row for each class",
                   images[params.truncation][:, :10, 0].numpy().tolist(), row_labels=[str(n) for n in range(10)]),
            Images("One sample of each class, from little noise to all of it",
                   torch.stack([images[tau][:, 0, 0] for tau in TRUNCATIONS]).numpy().tolist(),
                   row_labels=[f"{tau:g}" for tau in TRUNCATIONS]),
            Lines("Quality against variety", x="truncation", y="share", at=list(TRUNCATIONS),
                  series={"confidence": [by_tau[tau][0] for tau in TRUNCATIONS],
                          "diversity": [by_tau[tau][1] for tau in TRUNCATIONS],
                          "read as asked": [by_tau[tau][2] for tau in TRUNCATIONS]}),
            Lines("Largest singular value of each layer", x="training step", y="σ", at=at,
                  series={name: [look[name] for look in sigmas] for name in sigma}),
        ],
        tables=[
            Table("Filters of the generator", ["layer", "mean cosine of two filters (root mean square)"],
                  [[name, value] for name, value in shared.items()]),
        ],
    )  # fmt: skip
