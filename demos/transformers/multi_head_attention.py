"""Multi-head attention: split, attend, concatenate, project

Question: What do several small heads do that one big head of the same cost cannot?
Source: Vaswani et al. 2017, arXiv:1706.03762, §3.2.2; silenced heads: Michel et al. 2019, arXiv:1905.10650.
Watch: Two facts are asked of each token: the payload of the token before it, and that of the token which it names.
    Two heads find both, each with a map of its own. One head of the same cost has one softmax for two places: it finds
    one fact and guesses the other. Silence one of the two heads and exactly one fact is lost.
"""

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from demos.contract import Bars, Claim, DemoParams, Heatmap, Metric, Preset, Result, Table, Tick, no_tick

LENGTH, PAYLOADS, BATCH, TESTED = 8, 8, 64, 1_000  # tokens of a sequence, payloads there are, sequences
FACTS = ["payload of the token before", "payload of the token named"]


class Params(DemoParams):
    d_model: int = Field(32, ge=8, le=256, description="Width of the token vectors")
    heads: int = Field(2, ge=1, le=8, description="Heads, each d_model / heads wide; they divide the width")
    steps: int = Field(300, ge=50, le=1500, description="Training steps of 64 sequences")
    ablate_head: int = Field(-1, ge=-1, le=7, description="Head silenced at test time (-1: none)")
    seed: int = Field(0, ge=0, le=9999, description="Seed of data and weights")

    presets: ClassVar[Mapping[str, Preset]] = {
        "one head": Preset("One softmax cannot look at two places: it finds one fact of the two", {"heads": 1}),
        "silence head 0": Preset("One of the two facts is lost, the other stays", {"ablate_head": 0}),
        "too narrow": Preset(
            "Width 16 serves two heads, not eight: in 2 numbers no head tells eight names apart",
            {"d_model": 16, "heads": 8},
        ),
    }

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> "Params":
        if self.d_model % 4:
            raise ValueError(f"d_model must be a multiple of 4 to compare 1, 2 and 4 heads, and {self.d_model} is none")
        if self.d_model % self.heads:
            raise ValueError(f"heads must divide d_model, and {self.heads} does not divide {self.d_model}")
        if self.ablate_head >= self.heads:
            raise ValueError(f"ablate_head must be below heads ({self.heads}), or -1 for none")
        return self


class MultiHeadAttention(nn.Module):
    """§3.2.2. The d × d matrices hold the heads' own matrices side by side: W_i^Q is block i of the columns of W^Q."""

    def __init__(self, d: int, heads: int, rng: torch.Generator) -> None:
        super().__init__()
        self.heads = heads
        self.W_Q, self.W_K, self.W_V, self.W_O = (
            nn.Parameter(torch.randn(d, d, generator=rng) / math.sqrt(d)) for _ in range(4)
        )

    def forward(self, x: Tensor, silent: int = -1) -> tuple[Tensor, Tensor]:
        """All heads in one batched product. x (B, T, d) -> output (B, T, d), weights (B, h, T, T)."""
        B, T, d = x.shape
        q, k, v = (
            (x @ W).view(B, T, self.heads, d // self.heads).transpose(1, 2)  # split: (B, h, T, d/h)
            for W in (self.W_Q, self.W_K, self.W_V)
        )
        weights = (q @ k.transpose(2, 3) / math.sqrt(d // self.heads)).softmax(dim=-1)  # attend: (B, h, T, T)
        z = weights @ v  # (B, h, T, d/h)
        if silent >= 0:
            z = torch.cat([z[:, :silent], torch.zeros_like(z[:, :1]), z[:, silent + 1 :]], dim=1)
        return z.transpose(1, 2).reshape(B, T, d) @ self.W_O, weights  # concatenate, project: (B, T, d)

    def one_by_one(self, x: Tensor) -> Tensor:
        """The paper's sum over heads, each with matrices of its own: concat(z_1 … z_h) W^O = Σ z_i W_i^O. (B, T, d)."""
        width = x.shape[-1] // self.heads
        total = torch.zeros_like(x)
        for i in range(self.heads):
            block = slice(i * width, (i + 1) * width)
            q, k, v = x @ self.W_Q[:, block], x @ self.W_K[:, block], x @ self.W_V[:, block]  # (B, T, d/h)
            total += (q @ k.transpose(1, 2) / math.sqrt(width)).softmax(dim=-1) @ v @ self.W_O[block]
        return total


class Reader(nn.Module):
    """Embeddings, one attention layer, and for each fact a linear map to its logits. Nothing else could do the work."""

    def __init__(self, d: int, heads: int, rng: torch.Generator) -> None:
        super().__init__()
        self.embed = nn.ParameterList(  # a token is the sum of its name, the name it asks for, its payload, its place
            torch.randn(n, d, generator=rng) for n in (LENGTH, LENGTH, PAYLOADS, LENGTH)
        )
        self.attention = MultiHeadAttention(d, heads, rng)
        self.read = nn.Parameter(torch.randn(2, d, PAYLOADS, generator=rng) / math.sqrt(d))

    def vectors(self, tokens: Tensor) -> Tensor:
        """tokens (3, B, T) -> x (B, T, d)."""
        names, asked, payloads, places = self.embed
        return names[tokens[0]] + asked[tokens[1]] + payloads[tokens[2]] + places

    def forward(self, tokens: Tensor, silent: int = -1) -> Tensor:
        """Logits of both facts for every token but the first, which has none before it: (2, B, T - 1, payloads)."""
        out, _ = self.attention(self.vectors(tokens), silent)  # (B, T, d)
        return out[:, 1:] @ self.read[:, None]  # (2, B, T - 1, payloads)


def draw_sequences(n: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Tokens (3, n, T): name (all differ), name asked for, payload. Facts (2, n, T - 1): the payloads to be found."""
    names = torch.rand(n, LENGTH, generator=rng).argsort(dim=1)  # a permutation
    asked = torch.randint(LENGTH, (n, LENGTH), generator=rng)
    payloads = torch.randint(PAYLOADS, (n, LENGTH), generator=rng)
    place_of = names.argsort(dim=1)  # place_of[name]: the inverse permutation
    facts = torch.stack([payloads[:, :-1], payloads.gather(1, place_of.gather(1, asked))[:, 1:]])
    return torch.stack([names, asked, payloads]), facts


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Take one step down the gradient of the loss."""
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()


def train(d: int, heads: int, steps: int, seed: int) -> Reader:
    rng = torch.Generator().manual_seed(2 * seed)
    model = Reader(d, heads, rng)
    adam = torch.optim.Adam(model.parameters(), fused=True)
    rate = torch.optim.lr_scheduler.OneCycleLR(adam, max_lr=2e-2, total_steps=steps)
    for _ in range(steps):
        tokens, facts = draw_sequences(BATCH, rng)
        descend(adam, nn.functional.cross_entropy(model(tokens).movedim(-1, 1), facts))
        rate.step()
    return model


@torch.no_grad()
def accuracy(model: Reader, tokens: Tensor, facts: Tensor, silent: int = -1) -> list[float]:
    """Share of tokens for which each of the two facts is right."""
    right = model(tokens, silent).argmax(dim=-1) == facts  # (2, B, T - 1)
    return right.float().mean(dim=(1, 2)).numpy().tolist()


def run(params: Params, tick: Tick = no_tick) -> Result:
    d, h = params.d_model, params.heads
    tokens, facts = draw_sequences(TESTED, torch.Generator().manual_seed(2 * params.seed + 1))
    counts = sorted({1, 2, 4, h})
    models: dict[int, Reader] = {}
    found: dict[int, list[float]] = {}
    for n in counts:
        models[n] = train(d, n, params.steps, params.seed)
        found[n] = accuracy(models[n], tokens, facts)
        tick(len(models) / len(counts), f"heads: {n}", accuracy=sum(found[n]) / 2)

    chosen, two = models[h], models[2]
    reached = accuracy(chosen, tokens, facts, params.ablate_head)
    silenced = {n: [accuracy(models[n], tokens, facts, i) for i in range(n)] for n in (2, h)}
    kept, lost = (min(map(max, silenced[2])), max(map(min, silenced[2])))
    with torch.no_grad():
        x = chosen.vectors(tokens)  # (B, T, d)
        output, weights = chosen.attention(x)  # (B, T, d), (B, h, T, T)
        gap = (output - chosen.attention.one_by_one(x)).abs().max().item()
        pair = two.attention(two.vectors(tokens))[1][:, :, 1:]  # (B, 2, T - 1, T)
    cosine = nn.functional.cosine_similarity(pair[:, 0], pair[:, 1], dim=-1).mean().item()
    sizes = [sum(weight.numel() for weight in model.attention.parameters()) for model in models.values()]
    names = [f"{place}: {name}" for place, name in enumerate(tokens[0, 0].numpy())]
    asking = [f"{place} asks for {name}" for place, name in enumerate(tokens[1, 0].numpy())]
    B, T = TESTED, LENGTH
    return Result(
        metrics=[
            Metric("accuracy-by-heads", sum(reached) / 2),
            *(Metric(f"accuracy with {n} head{'s' * (n > 1)}", sum(found[n]) / 2) for n in counts),
            Metric("parameters of the attention layer", sizes[0]),
        ],
        claims=[
            Claim("All heads in one product and head by head agree: largest difference", gap, "<=", 1e-5),
            Claim("Heads cost nothing: parameters of 1, 2 and 4 heads, largest less smallest",
                  max(sizes) - min(sizes), "==", 0),
            Claim("The chosen heads find both facts: accuracy", sum(reached) / 2, ">=", 0.9),
            Claim("One head of the same cost cannot: its accuracy", sum(found[1]) / 2, "<=", 0.8),
            Claim("Two heads look at different places: mean cosine of their rows", cosine, "<=", 0.5),
            Claim("Silence one of two heads and a fact is lost: its accuracy", lost, "<=", 0.5),
            Claim("The other head keeps its own: accuracy", kept, ">=", 0.9),
        ],
        figures=[
            *(
                Heatmap(f"Head {i}: where each token looks", x="place: name there", y="token",
                        values=weights[0, i].numpy().tolist(), row_labels=asking, column_labels=names)
                for i in range(h)
            ),
            Bars(
                "Accuracy by heads at equal cost", x="heads", y="accuracy", labels=[str(n) for n in counts],
                series={fact: [found[n][i] for n in counts] for i, fact in enumerate(FACTS)},
            ),
        ],
        tables=[
            Table(
                "Accuracy with a head silenced", ["heads", "silenced", *FACTS],
                [[n, i, *some] for n in sorted(silenced) for i, some in enumerate(silenced[n])],
            ),
            Table(
                "The four steps", ["step", "computes", "shape"],
                [
                    ["split", "Q, K, V = X W^Q, X W^K, X W^V", f"three times ({B}, {h}, {T}, {d // h})"],
                    ["attend", "A = softmax(Q Kᵀ / √(d/h))", f"({B}, {h}, {T}, {T})"],
                    ["concatenate", "A V, heads side by side", f"({B}, {T}, {d})"],
                    ["project", "… W^O", str(tuple(output.shape))],
                ],
            ),
        ],
    )  # fmt: skip
