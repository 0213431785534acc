"""RealNVP: a density from an invertible network.

Question: How can one network both draw samples in a single pass and report the exact density of any point?
Source: Dinh, Sohl-Dickstein, Bengio 2016, arXiv:1605.08803, eq. (2) to (9).
Watch: The grid of z bends into the data, layer by layer, and never folds. Leave out the determinant and the "density"
    no longer integrates to one; never swap the halves and one coordinate stays as it was.
"""

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from demos.contract import Claim, DemoParams, Heatmap, Lines, Metric, Preset, Result, Scatter, Tick, no_tick
from demos.shared.clouds import draw_cloud
from demos.shared.plane import sliced_distance

WIDTH, BATCH, TESTED = 64, 256, 4_000
EDGE, CELLS = 5.0, 500  # the density is integrated over [-EDGE, EDGE]² in CELLS² squares


class Params(DemoParams):
    layers: int = Field(8, ge=2, le=16, description="Coupling layers")
    steps: int = Field(800, ge=100, le=3000, description="Training steps")
    data: Literal["moons", "rings", "gaussians"] = Field("moons", description="Target distribution")
    determinant: bool = Field(True, description="Count the Jacobian's log-determinant in the density, eq. (3)")
    alternate: bool = Field(True, description="Let the layers transform the two coordinates in turn")
    seed: int = Field(0, ge=0, le=9999, description="Seed of data, weights and sampling")

    presets: ClassVar[Mapping[str, Preset]] = {
        "no determinant": Preset(
            "The flow shrinks all data onto z = 0: no density, no samples", {"determinant": False}
        ),
        "never swapped": Preset("One coordinate passes unchanged and stays as Gaussian as z", {"alternate": False}),
        "two layers": Preset("Each coordinate is transformed once: too stiff for the moons", {"layers": 2}),
        "rings": Preset(
            "A plane without holes cannot be cut: thin bridges join what should be apart", {"data": "rings"}
        ),
    }


class Coupling(nn.Module):
    """One affine coupling layer: the coordinate where b = 1 passes, the other is scaled and shifted by what it says."""

    def __init__(self, passes: int, rng: torch.Generator) -> None:
        super().__init__()
        self.b = nn.Buffer(torch.eye(2)[passes])  # (2,): the mask
        self.net = nn.Sequential(
            nn.Linear(2, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH), nn.SiLU(), nn.Linear(WIDTH, 4)
        )
        self.limit = nn.Parameter(torch.ones(2))  # s stays within it, as the paper's §4.1 has it
        for weight in self.net.parameters():
            nn.init.zeros_(weight) if weight.dim() == 1 else nn.init.kaiming_uniform_(weight, a=5**0.5, generator=rng)
        nn.init.zeros_(self.net[-1].get_parameter("weight"))  # s = t = 0: the flow starts as the identity

    def s_and_t(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Log-scale and shift, zero on the coordinate that passes: (N, 2) each, functions of b * x alone."""
        s, t = self.net(self.b * x).chunk(2, dim=1)
        return (1 - self.b) * self.limit * s.tanh(), (1 - self.b) * t

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """y = b * x + (1 - b) * (x * exp(s) + t), eq. (9), and log|det ∂y/∂x| = Σ s, eq. (6): (N, 2), (N,)."""
        s, t = self.s_and_t(x)
        return x * s.exp() + t, s.sum(dim=1)

    def inverse(self, y: Tensor) -> Tensor:
        """x = (y - t) * exp(-s), eq. (8): s and t are found again, for what they depend on has passed unchanged."""
        s, t = self.s_and_t(y)
        return (y - t) * (-s).exp()


class Flow(nn.Module):
    """f: x -> z, a chain of couplings; the density of x is that of z times |det ∂z/∂x|."""

    def __init__(self, params: Params, rng: torch.Generator) -> None:
        super().__init__()
        self.determinant = params.determinant
        self.couplings = [Coupling(i % 2 if params.alternate else 0, rng) for i in range(params.layers)]
        self.layers = nn.ModuleList(self.couplings)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """z = f(x) and the sum of all log-determinants: (N, 2) -> (N, 2), (N,)."""
        total = x.new_zeros(len(x))
        for layer in self.couplings:
            x, log_det = layer(x)
            total = total + log_det if self.determinant else total
        return x, total

    def log_prob(self, x: Tensor) -> Tensor:
        """log p_X(x) = log p_Z(f(x)) + log|det ∂f(x)/∂x|, eq. (3), p_Z = N(0, I): (N, 2) -> (N,) in nats."""
        z, log_det = self(x)
        return -0.5 * z.square().sum(dim=1) - math.log(2 * math.pi) + log_det

    def carry(self, z: Tensor) -> list[Tensor]:
        """z, and where it stands after each inverted layer; the last is x = f⁻¹(z). (N, 2) each."""
        path = [z]
        for layer in reversed(self.couplings):
            path.append(layer.inverse(path[-1]))
        return path


def descend(model: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Take one step down the gradient, its norm clipped to 1."""
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()


def squares(cells: int, edge: float) -> Tensor:
    """Centres of cells² squares over [-edge, edge]², the top row first: (cells², 2)."""
    at = (torch.arange(cells) + 0.5) * 2 * edge / cells - edge  # (cells,)
    return torch.cartesian_prod(at.flip(0), at).flip(1)


def lattice() -> Tensor:
    """Points along the lines of a grid over [-2, 2]², (M, 2): what the figure of the flow carries."""
    fine, coarse = torch.linspace(-2, 2, 41), torch.linspace(-2, 2, 9)
    return torch.cat([torch.cartesian_prod(coarse, fine), torch.cartesian_prod(fine, coarse)])


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng, dice = (torch.Generator().manual_seed(2 * params.seed + odd) for odd in (0, 1))  # training; evaluation
    flow = Flow(params, rng)
    adam = torch.optim.Adam(flow.parameters(), fused=True)
    rate = torch.optim.lr_scheduler.OneCycleLR(adam, max_lr=5e-3, total_steps=params.steps)
    at, nlls = list[int](), list[float]()
    for step in range(1, params.steps + 1):
        loss = -flow.log_prob(draw_cloud(params.data, BATCH, rng)).mean()  # exact: no bound, no sampling
        descend(flow, adam, loss)
        rate.step()
        if step % 20 == 0:
            at.append(step)
            nlls.append(loss.item())
            tick(step / params.steps, f"step {step}", nll=nlls[-1])

    x = draw_cloud(params.data, TESTED, dice)  # (N, 2): drawn anew, so never trained on
    with torch.no_grad():
        z, log_det = flow(x)
        undone = (x - flow.carry(z)[-1]).abs().max().item()
        nll = -flow.log_prob(x).mean().item()
        samples = flow.carry(torch.randn(TESTED, 2, generator=dice))[-1]  # (N, 2): one pass
        area = (2 * EDGE / CELLS) ** 2
        parts = torch.split(squares(CELLS, EDGE), 50_000)
        integral = sum(flow.log_prob(part).exp().sum().item() for part in parts) * area
        surface = flow.log_prob(squares(60, 2.5)).exp().view(60, 60)
        path = flow.carry(lattice())
    few = x[:100].clone().requires_grad_()
    rows = [torch.autograd.grad(column.sum(), few, retain_graph=True)[0] for column in flow(few)[0].T]
    J = torch.stack(rows, dim=1)  # (100, 2, 2): ∂z_i / ∂x_j, by autograd through the whole flow
    log_det_gap = (log_det[:100] - torch.slogdet(J).logabsdet).abs().max().item()
    fitted: Any = MultivariateNormal(x.mean(dim=0), x.T.cov())  # the best Gaussian for the very points it is tested on
    nll_gaussian: float = -fitted.log_prob(x).mean().item()
    distance = sliced_distance(samples, x)
    tril: Tensor = fitted.scale_tril  # (2, 2)
    blob = x.mean(dim=0) + torch.randn(x.shape, generator=dice) @ tril.T  # samples of that Gaussian
    nearer = distance / sliced_distance(blob, x)
    shown = sorted({0, params.layers // 4, params.layers // 2, 3 * params.layers // 4, params.layers})
    return Result(
        metrics=[
            Metric("nll", nll, "nats"),
            Metric("nll of one Gaussian", nll_gaussian, "nats"),
            Metric("integral of the density", integral),
            Metric("sliced distance of samples and data", distance),
        ],
        claims=[
            Claim("Decoding the encoded points returns them: largest |x - f⁻¹(f(x))|", undone, "<=", 1e-4),
            Claim("Summed log-scales are the log-determinant of the Jacobian: difference", log_det_gap, "<=", 1e-4),
            Claim("The density integrates to one: it is not above", integral, "<=", 1.02),
            Claim("The density integrates to one: it is not below", integral, ">=", 0.98),
            Claim("The flow beats one Gaussian: nll of the Gaussian minus nll in nats", nll_gaussian - nll, ">=", 0.6),
            Claim("So do its samples: sliced distance over the Gaussian's", nearer, "<=", 0.6),
        ],
        figures=[
            Heatmap("Learned density over [-2.5, 2.5]²", x="x", y="y", values=surface.numpy().tolist()),
            Scatter(
                "A grid of z carried layer by layer to x", x="x", y="y",
                series={f"after {n} layers" if n else "z": path[n].numpy().tolist() for n in shown},
            ),
            Scatter(
                "Data and samples", x="x", y="y",
                series={"data": x[:500].numpy().tolist(), "samples": samples[:500].numpy().tolist()},
            ),
            Scatter("The same data as z = f(x)", x="z1", y="z2", series={"z": z[:500].numpy().tolist()}),
            Lines(
                "Negative log-likelihood", x="training step", y="nats", at=at,
                series={"RealNVP": nlls, "one Gaussian": [nll_gaussian] * len(at)},
            ),
        ],
    )  # fmt: skip
