"""LoRA: a few numbers teach a new style

Question: How few parameters are enough to bend a trained model?
Source: Hu et al. 2021, arXiv:2106.09685, §4.1, eq. (3) and §4.2; on the attention of a diffusion model as Ryu 2022 does
  it; the model: Rombach et al. 2021, arXiv:2112.10752, §3.3.
Watch: the base model draws on black ground. Each weight of its attention gets a product of two thin matrices beside it,
  and only these learn a new ground. Half of the product starts at 0, so training starts from the base; merged into the
  weights it costs nothing. The old style is forgotten unless the adapter is taken off again: the base is untouched.
"""

import copy
from collections.abc import Iterable, Mapping
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from demos.contract import Claim, DemoParams, Images, Lines, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.ddpm import train
from demos.shared.shapes import CAPTIONS, captions_of, draw_shapes, to_rows
from demos.shared.words_to_shapes import (
    BATCH,
    SIZE,
    CrossAttention,
    WordUNet,
    noise_loss,
    sample,
    tokenize,
    train_words,
)

GROUND = torch.tensor([-0.5, -0.2, 0.4]).view(3, 1, 1)  # of the new style: blue paper in place of black
RANKS, TESTED = [1, 4, 16], 256


class Params(DemoParams):
    rank: int = Field(4, ge=1, le=32, description="Rank r of the change of each weight")
    alpha: float = Field(4.0, ge=0.0, le=32.0, description="Scale α: the change is α/r times B A")
    base_steps: int = Field(250, ge=50, le=2000, description="Training steps of the base")
    steps: int = Field(80, ge=10, le=1000, description="Training steps on the new style")
    method: Literal["lora", "full"] = Field("lora", description="Train adapters, or every weight")
    seed: int = Field(0, ge=0, le=9999, description="Seed of data, weights and noise")

    presets: ClassVar[Mapping[str, Preset]] = {
        "full": Preset("All weights are trained: nothing is small, no change has a low rank", {"method": "full"}),
        "rank 1": Preset("One row and one column for each weight", {"rank": 1}),
        "switched off": Preset("α = 0: the adapter is there and does nothing", {"alpha": 0.0}),
    }


class LoRA(nn.Module):
    """W x + α/r B A x, eq. (3): W stays as it is, A (r, in) is drawn, B (out, r) starts at 0."""

    def __init__(self, base: nn.Linear, r: int, alpha: float, rng: torch.Generator) -> None:
        super().__init__()
        self.base, self.scale = base, alpha / r
        self.A = nn.Parameter(torch.randn(r, base.in_features, generator=rng) * base.in_features**-0.5)
        self.B = nn.Parameter(torch.zeros(base.out_features, r))

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.scale * (x @ self.A.T) @ self.B.T

    def change(self) -> Tensor:
        """ΔW (out, in), which can be added to W once training is over."""
        return self.scale * self.B @ self.A


def attentions(model: WordUNet) -> list[CrossAttention]:
    """Both places where the model reads words."""
    return [model.read_high, model.read_low]


def adapt(base: WordUNet, r: int, alpha: float, rng: torch.Generator) -> tuple[WordUNet, dict[str, LoRA]]:
    """A copy of the base with all its weights fixed and an adapter on each matrix of its attention, by name."""
    model = copy.deepcopy(base).requires_grad_(False)
    adapters = dict[str, LoRA]()
    for n, attention in enumerate(attentions(model)):
        for name in ("to_q", "to_k", "to_v", "to_out"):
            linear = attention.get_submodule(name)
            if isinstance(linear, nn.Linear):
                adapters[f"{('8x8', '4x4')[n]} {name}"] = adapter = LoRA(linear, r, alpha, rng)
                setattr(attention, name, adapter)
    return model, adapters


def merge(base: WordUNet, adapters: dict[str, LoRA]) -> WordUNet:
    """A copy of the base with every change added to its weight: no adapter is left."""
    model = copy.deepcopy(base)
    changes = iter(adapters.values())
    with torch.no_grad():
        for attention in attentions(model):
            for linear in (attention.to_q, attention.to_k, attention.to_v, attention.to_out):
                linear.weight += next(changes).change()
    return model


def restyle(x: Tensor) -> Tensor:
    """The new style: black ground becomes blue paper, ink stays."""
    ink = (x.amax(dim=1, keepdim=True) + 1) / 2  # (B, 1, S, S), how much of a pixel is covered
    return ink * x + (1 - ink) * GROUND


def learn(model: WordUNet, steps: int, rng: torch.Generator, tick: Tick) -> list[float]:
    """Train what is trainable on captioned pictures of the new style."""

    def draw_loss() -> Tensor:
        x, labels = draw_shapes(BATCH, rng, SIZE)
        return noise_loss(model, restyle(x), model.read(tokenize(captions_of(labels))), rng)

    return train(model, draw_loss, steps, tick)


def size(weights: Iterable[Tensor]) -> int:
    """Number of values."""
    return sum(weight.numel() for weight in weights)


@torch.no_grad()
def losses_of(model: WordUNet, seed: int) -> tuple[float, float]:
    """Noise loss on pictures of the old and of the new style, the same draws for every model."""
    rng = torch.Generator().manual_seed(seed)
    x, labels = draw_shapes(TESTED, rng, SIZE)
    words = model.read(tokenize(captions_of(labels)))
    old, new = (noise_loss(model, of, words, torch.Generator().manual_seed(seed)).item() for of in (x, restyle(x)))
    return old, new


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng = torch.Generator().manual_seed(2 * params.seed)
    test_seed = 2 * params.seed + 1

    def part(start: float, share: float, name: str) -> Tick:
        return lambda fraction, message, **live: tick(start + share * fraction, f"{name}: {message}", **live)

    base, _ = train_words(params.base_steps, rng, part(0.0, 0.5, "base"))
    before = copy.deepcopy(base.state_dict())
    x = torch.randn(24, 3, SIZE, SIZE, generator=rng)
    words = base.read(tokenize(CAPTIONS)).detach()
    model, adapters = adapt(base, params.rank, params.alpha, rng)
    fresh = (sample(model, words, x) - sample(base, words, x)).abs().max().item()
    if params.method == "full":
        model, adapters = copy.deepcopy(base), {}
    trainable = [weight for weight in model.parameters() if weight.requires_grad]
    share = size(trainable) / size(list(base.parameters()))
    curve = learn(model, params.steps, rng, part(0.5, 0.2, params.method))
    old_base, new_base = losses_of(base, test_seed)
    old, new = losses_of(model, test_seed)

    if params.method == "lora":
        merged = merge(base, adapters)
        changes = {name: adapter.change().detach() for name, adapter in adapters.items()}
    else:
        merged = model
        pairs = zip(attentions(model), attentions(base), strict=True)
        changes = {
            f"{('8x8', '4x4')[n]} {name}": (mine.get_submodule(name).get_parameter("weight")
                                            - theirs.get_submodule(name).get_parameter("weight")).detach()
            for n, (mine, theirs) in enumerate(pairs) for name in ("to_q", "to_k", "to_v", "to_out")
        }  # fmt: skip
    made = sample(model, words, x)
    merged_gap = (sample(merged, words, x) - made).abs().max().item()
    ranks = {name: int(np.linalg.matrix_rank(change.numpy())) for name, change in changes.items()}
    moved = max((base.state_dict()[name] - before[name]).abs().max().item() for name in before)

    sweep = dict[int, tuple[float, float]]()
    for done, r in enumerate(RANKS):
        other, _ = adapt(base, r, float(r), torch.Generator().manual_seed(params.seed))
        dice = torch.Generator().manual_seed(params.seed)
        learn(other, params.steps, dice, part(0.7 + 0.1 * done, 0.1, f"rank {r}"))
        sweep[r] = losses_of(other, test_seed)
    return Result(
        metrics=[
            Metric("trainable_share", share),
            Metric("parameters trained", size(trainable)),
            Metric("loss on the new style, over the base's", new / new_base),
            Metric("forgetting", old / old_base, "loss on the old style, over the base's"),
        ],
        claims=[
            Claim("With B = 0 nothing changes: largest difference of pictures", fresh, "==", 0),
            Claim("Merged into the weights it draws the same: largest difference", merged_gap, "<=", 1e-4),
            Claim("The change of each weight has at most the stated rank: largest rank less r",
                  max(ranks.values()) - params.rank, "<=", 0),
            Claim("Few parameters are trained: share of all", share, "<=", 0.1),
            Claim("They lower the loss on the new style: over the base's", new / new_base, "<=", 0.6),
            Claim("The base's own weights stay: largest change", moved, "==", 0),
        ],
        figures=[
            Images("The same noise and words: base, then with what was learnt",
                   [to_rows(sample(base, words, x)[:12]), to_rows(made[:12])], ["base", params.method], CAPTIONS[:12]),
            Lines("Loss against rank", "rank", "loss over the base's", RANKS,
                  {"new style": [sweep[r][1] / new_base for r in RANKS],
                   "old style": [sweep[r][0] / old_base for r in RANKS]}, log="x"),
            Lines("Learning the new style", "step", "squared error of the noise", list(range(1, len(curve) + 1)),
                  {params.method: curve}),
        ],
        tables=[
            Table("Change of each weight of the attention", ["weight", "shape", "rank", "numbers of A and B", "of W"],
                  [[name, "x".join(map(str, change.shape)), ranks[name], params.rank * sum(change.shape),
                    change.numel()] for name, change in changes.items()]),
        ],
    )  # fmt: skip
