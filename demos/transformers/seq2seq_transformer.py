"""An encoder–decoder transformer that learns to reverse, copy or sort

Question: Can a complete "Attention Is All You Need" model learn a sequence-to-sequence task on two CPU cores?
Source: Vaswani et al. 2017, arXiv:1706.03762, §3 and figure 1: post-norm layers, one matrix for both embeddings and the
  output (§3.4), sinusoids (§3.5); Adam as in §5.3, but after the warm-up the rate falls to 0 in a straight line.
Watch: The cross-attention of the last decoder layer is the alignment of the task: an anti-diagonal for reverse, a
  diagonal for copy. Take the positions out and the source is a bag of symbols that no layer can put into order.
"""

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from demos.contract import Claim, DemoParams, Heatmap, Lines, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.transformer import descend, start

PAD, START, END, SYMBOLS = 0, 1, 2, 20  # symbols have ids 3 to 22
SHORTEST, BATCH, TESTED = 4, 64, 500
WARMUP, PEAK = 100, 2e-3  # steps; the highest learning rate
Task = Literal["reverse", "copy", "sort", "increment"]


class Params(DemoParams):
    task: Task = Field("reverse", description="What to learn; increment: each symbol's successor")
    d_model: int = Field(64, ge=32, le=128, description="Width (paper: 512)")
    heads: int = Field(4, ge=1, le=8, description="Heads; they divide the width (paper: 8)")
    layers: int = Field(2, ge=1, le=4, description="Layers of the encoder, and of the decoder (paper: 6)")
    steps: int = Field(450, ge=100, le=3000, description="Training steps of 64 sequences")
    max_len: int = Field(8, ge=4, le=16, description="Longest source")
    positions: bool = Field(True, description="Add sinusoids to the embeddings")
    seed: int = Field(0, ge=0, le=9999, description="Seed of weights and sequences")

    presets: ClassVar[Mapping[str, Preset]] = {
        "no positions": Preset("A bag of symbols cannot be reversed", {"positions": False}),
        "copy": Preset("Solved, but the alignment is a diagonal: that claim fails", {"task": "copy"}),
        "sort": Preset("The place to read depends on the content: no anti-diagonal", {"task": "sort"}),
        "too short a training": Preset("Stopped at the top of the rate: hardly a target is right", {"steps": 100}),
    }

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> "Params":
        if self.d_model % (2 * self.heads):
            raise ValueError(f"d_model must be a multiple of twice the heads, and {self.d_model} is not")
        return self


class Attention(nn.Module):
    """§3.2.2: x (B, T, d) asks, memory (B, S, d) answers. allowed broadcasts to (B, 1, T, S), True where to look.
    It gives back the output (B, T, d) and the weights (B, h, T, S).
    """

    def __init__(self, d: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj, self.out_proj = nn.Linear(d, 3 * d), nn.Linear(d, d)  # W_Q, W_K, W_V on top of each other

    def forward(self, x: Tensor, memory: Tensor, allowed: Tensor) -> tuple[Tensor, Tensor]:
        W, b = self.in_proj.weight.chunk(3), self.in_proj.bias.chunk(3)
        q, k, v = (  # (B, h, T or S, d/h)
            nn.functional.linear(given, W[i], b[i]).view(*given.shape[:2], self.heads, -1).transpose(1, 2)
            for i, given in enumerate((x, memory, memory))
        )
        scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[-1])  # (B, h, T, S)
        weights = scores.masked_fill(~allowed, -math.inf).softmax(dim=3)
        return self.out_proj((weights @ v).transpose(1, 2).flatten(2)), weights


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward network, each within LayerNorm(x + Sublayer(x)), §3.1."""

    def __init__(self, d: int, heads: int) -> None:
        super().__init__()
        self.self_attn = Attention(d, heads)
        self.linear1, self.linear2 = nn.Linear(d, 4 * d), nn.Linear(4 * d, d)
        self.norm1, self.norm2 = nn.LayerNorm(d), nn.LayerNorm(d)

    def forward(self, x: Tensor, real: Tensor) -> Tensor:
        x = self.norm1(x + self.self_attn(x, x, real)[0])
        return self.norm2(x + self.linear2(self.linear1(x).relu()))


class DecoderLayer(nn.Module):
    """The same with a look-ahead mask, and between its two parts a third: attention to the encoder's output."""

    def __init__(self, d: int, heads: int) -> None:
        super().__init__()
        self.self_attn, self.multihead_attn = Attention(d, heads), Attention(d, heads)
        self.linear1, self.linear2 = nn.Linear(d, 4 * d), nn.Linear(4 * d, d)
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(d), nn.LayerNorm(d), nn.LayerNorm(d)

    def forward(self, x: Tensor, memory: Tensor, past: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, T, d) after one layer, and what its cross-attention looked at (B, h, T, S)."""
        x = self.norm1(x + self.self_attn(x, x, past)[0])
        read, weights = self.multihead_attn(x, memory, real)
        x = self.norm2(x + read)
        return self.norm3(x + self.linear2(self.linear1(x).relu())), weights


class Seq2Seq(nn.Module):
    """Figure 1 of the paper."""

    def __init__(self, params: Params, rng: torch.Generator) -> None:
        super().__init__()
        self.positions = params.positions
        d, heads = params.d_model, params.heads
        self.embedding = nn.Embedding(3 + SYMBOLS, d)  # source, target and output share it, §3.4
        self.encoder = nn.ModuleList(EncoderLayer(d, heads) for _ in range(params.layers))
        self.decoder = nn.ModuleList(DecoderLayer(d, heads) for _ in range(params.layers))
        start(self, rng)

    def embed(self, ids: Tensor) -> Tensor:
        """√d · embedding + sinusoids, §3.4 and §3.5. ids (B, T) -> (B, T, d)."""
        d = self.embedding.embedding_dim
        x = self.embedding(ids) * math.sqrt(d)
        angle = torch.arange(ids.shape[1])[:, None] / 10_000 ** (torch.arange(0, d, 2) / d)  # (T, d/2)
        return x + torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1) if self.positions else x

    def encode(self, source: Tensor) -> Tensor:
        """source (B, S) -> memory (B, S, d), made once for each source."""
        x = self.embed(source)
        for layer in self.encoder:
            x = layer(x, (source != PAD)[:, None, None])  # padding is never looked at
        return x

    def decode(self, written: Tensor, memory: Tensor, source: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, T, V) of the next symbol at each place of written (B, T); the last layer's (B, h, T, S)."""
        x, weights = self.embed(written), torch.empty(0)
        past = torch.ones(written.shape[1], written.shape[1], dtype=torch.bool).tril()
        for layer in self.decoder:
            x, weights = layer(x, memory, past, (source != PAD)[:, None, None])
        return x @ self.embedding.weight.T, weights

    @torch.no_grad()
    def write(self, source: Tensor) -> Tensor:
        """Greedy decoding: symbols after START, one pass of the decoder for each. (B, S) -> (B, S + 1)."""
        memory, written = self.encode(source), torch.full((len(source), 1), START)
        for _ in range(source.shape[1] + 1):
            logits, _ = self.decode(written, memory, source)
            written = torch.cat([written, logits[:, -1:].argmax(dim=2)], dim=1)
        return written[:, 1:]


def solve(task: Task, source: Tensor) -> Tensor:
    """The target of each source (B, S), then END, then padding: (B, S + 1)."""
    place, length = torch.arange(source.shape[1]), (source != PAD).sum(dim=1, keepdim=True)  # (S,), (B, 1)
    inside = place < length
    if task == "reverse":
        target = source.gather(1, (length - 1 - place).clamp(min=0))
    elif task == "sort":
        target = torch.where(inside, source, 3 + SYMBOLS).sort(dim=1).values
    else:
        target = source if task == "copy" else 3 + (source - 2) % SYMBOLS
    return nn.functional.pad(target * inside, (0, 1)).scatter(1, length, END)


def draw_sources(n: int, longest: int, held_out: bool, rng: torch.Generator) -> Tensor:
    """About n sources for training (n, S), padded; or exactly n of the tenth of all sources that is held out."""
    drawn = 20 * n if held_out else n
    length = torch.randint(SHORTEST, longest + 1, (drawn, 1), generator=rng)
    source = torch.randint(3, 3 + SYMBOLS, (drawn, longest), generator=rng) * (torch.arange(longest) < length)
    return source[(source.sum(dim=1) % 10 == 0) == held_out][:n]


def exact(model: Seq2Seq, source: Tensor, target: Tensor) -> float:
    """Share of targets (B, T) that greedy decoding writes without a mistake, END included."""
    return ((model.write(source) == target) | (target == PAD)).all(dim=1).float().mean().item()


def spell(ids: Tensor) -> str:
    """Letters for ids (T,), up to END or padding."""
    text = "".join("|" if number <= END else chr(ord("a") + int(number) - 3) for number in ids)
    return text.split("|")[0]


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng = torch.Generator().manual_seed(2 * params.seed)
    source = draw_sources(TESTED, params.max_len, True, torch.Generator().manual_seed(2 * params.seed + 1))
    target = solve(params.task, source)
    model = Seq2Seq(params, rng)
    adam = torch.optim.Adam(model.parameters(), lr=PEAK, betas=(0.9, 0.98), eps=1e-9)  # §5.3
    fall = max(1, params.steps - WARMUP)
    rate = torch.optim.lr_scheduler.LambdaLR(adam, lambda s: min((s + 1) / WARMUP, max(0.0, (params.steps - s) / fall)))
    curve: list[tuple[int, float, float]] = []  # step, training loss, exact match
    for step in range(1, params.steps + 1):
        given = draw_sources(BATCH, params.max_len, False, rng)
        wanted = solve(params.task, given)
        shifted = nn.functional.pad(wanted[:, :-1], (1, 0), value=START)  # the decoder sees what comes before
        logits, _ = model.decode(shifted, model.encode(given), given)
        loss = nn.functional.cross_entropy(logits.transpose(1, 2), wanted, ignore_index=PAD)
        descend(model.parameters(), adam, loss)
        rate.step()
        if step % (params.steps // 10) == 0:
            curve.append((step, loss.item(), exact(model, source[:100], target[:100])))
        tick(step / params.steps, f"step {step}", loss=loss.item())

    match = exact(model, source, target)
    shifted = nn.functional.pad(target[:, :-1], (1, 0), value=START)
    with torch.no_grad():
        _, weights = model.decode(shifted, model.encode(source), source)  # (B, h, T, S)
    looks = weights.mean(dim=1)[:, :-1]  # (B, S, S), mean of heads, without the row that writes END at full length
    length = (source != PAD).sum(dim=1, keepdim=True)
    place = torch.arange(params.max_len)
    mirrored = looks.gather(2, (length - 1 - place).clamp(min=0)[..., None])[..., 0]  # (B, S)
    mass, uniform = mirrored[place < length].mean().item(), (1 / length).expand(-1, len(place))[place < length].mean()
    longest = looks[length[:, 0] == params.max_len].mean(dim=0)  # (S, S)
    recurrent = sum(isinstance(module, nn.RNNBase) or "Conv" in type(module).__name__ for module in model.modules())
    parts = {"embedding, shared three times": model.embedding, "encoder": model.encoder, "decoder": model.decoder}
    return Result(
        metrics=[Metric("exact match", match), Metric("attention on the anti-diagonal", mass),
                 Metric("the same if attention were uniform", uniform.item())],
        claims=[
            Claim("Unseen sources are solved by greedy decoding: share without a mistake", match, ">=", 0.95),
            Claim("Reversing reads the mirrored place: cross-attention on the anti-diagonal", mass, ">=", 0.5),
            Claim("Attention is all it has: recurrent and convolutional modules", recurrent, "==", 0),
        ],
        figures=[
            Lines("Training", x="step", y="loss in nats, share", at=[step for step, _, _ in curve], series={
                "training loss": [loss for _, loss, _ in curve], "exact match, 100 held out": [m for _, _, m in curve],
            }),
            Heatmap(f"Cross-attention of the last layer, sources of {params.max_len}", x="source place",
                    y="target place", values=longest.numpy().tolist()),
        ],
        tables=[
            Table("Examples", ["source", "target", "prediction"], [
                [spell(given), spell(wanted), spell(written)]
                for given, wanted, written in zip(source[:6], target[:6], model.write(source[:6]), strict=True)
            ]),
            Table("The architecture", ["part", "modules", "weights"], [
                [name, " + ".join(type(part).__name__ for part in module.children()) or "one matrix",
                 sum(weight.numel() for weight in module.parameters())] for name, module in parts.items()
            ]),
        ],
    )  # fmt: skip
