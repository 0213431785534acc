"""Attention against recurrence on long-range recall

Question: What do we gain by dropping recurrence?
Source: Vaswani et al. 2017, arXiv:1706.03762, §4 and table 1 (sequential operations, path length); Cho et al. 2014,
  arXiv:1406.1078 (GRU); why distance fades: Hochreiter, Schmidhuber 1997 (LSTM), §3.
Watch: A fact "key is value", many on other keys, and a question on the first. Attention finds it in one step, however
  far away it is. The GRU must carry the facts of all keys through every word in one vector, which it has not learned
  after as many steps. Its matrix products wait for each other, one a word; attention's are as many for any text.
"""

import statistics
import time
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from demos.contract import Claim, DemoParams, Lines, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.transformer import Block, start, train

KEYS, VALUES = 16, 4  # words: each fact "key is value", and behind them each question "key?"
ASK = KEYS * VALUES  # the first question
WIDTH, LAYERS, HEADS, BATCH, RATE = 32, 2, 2, 64, 5e-3
DISTANCES, LENGTHS = (1, 2, 5, 10, 20, 40, 60, 80, 100), (8, 32, 128, 512)  # tested; texts whose steps are counted
TESTED, TIMED = 500, 5  # questions at each distance, passes of which the median time is taken


class Params(DemoParams):
    distance: int = Field(40, ge=5, le=120, description="Words between fact and question, at most")
    keys: int = Field(16, ge=2, le=KEYS, description="Keys that facts are about; a GRU's state must hold all")
    steps: int = Field(300, ge=100, le=1000, description="Training steps of both models, 64 texts a step")
    budget: Literal["equal-params", "equal-steps"] = Field(
        "equal-params", description="As many weights in both, or one width for both; steps are equal in either case"
    )
    seed: int = Field(0, ge=0, le=9999, description="Seed of texts and weights")

    presets: ClassVar[Mapping[str, Preset]] = {
        "few facts": Preset("Two facts to hold: the GRU's state is enough, and it does not fall behind", {"keys": 2}),
        "far": Preset("Twice as far: attention does not mind", {"distance": 80}),
    }


class Gru(nn.Module):
    """A gated recurrent unit, stepped through the text: vectors (B, n, d) -> last state (B, h)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.inward, self.onward = nn.Linear(WIDTH, 3 * width), nn.Linear(width, 3 * width)

    def forward(self, vectors: Tensor) -> Tensor:
        state = torch.zeros(len(vectors), self.width)
        for word in self.inward(vectors).unbind(dim=1):  # (B, 3h) each: these products wait for nothing
            (r, z, new), (r_h, z_h, new_h) = word.chunk(3, dim=1), self.onward(state).chunk(3, dim=1)
            keep = (z + z_h).sigmoid()  # (B, h), the update gate
            state = keep * state + (1 - keep) * (new + (r + r_h).sigmoid() * new_h).tanh()
        return state


class Attention(nn.Module):
    """Causal blocks over vectors (B, n, d) with learned positions -> what the last word then knows (B, d)."""

    def __init__(self, longest: int) -> None:
        super().__init__()
        self.width = WIDTH
        self.positions, self.norm = nn.Embedding(longest, WIDTH), nn.LayerNorm(WIDTH)
        self.blocks = nn.ModuleList(Block(WIDTH, HEADS) for _ in range(LAYERS))

    def forward(self, vectors: Tensor) -> Tensor:
        n = vectors.shape[1]
        x, past = vectors + self.positions.weight[:n], torch.ones(n, n, dtype=torch.bool).tril()
        for block in self.blocks:
            x = block(x, past)
        return self.norm(x[:, -1])


class Reader(nn.Module):
    """Word vectors, a body that makes one state of them, and scores of the values."""

    def __init__(self, body: Gru | Attention, rng: torch.Generator) -> None:
        super().__init__()
        self.words, self.body, self.head = nn.Embedding(ASK + KEYS, WIDTH), body, nn.Linear(body.width, VALUES)
        start(self, rng)
        self.size = sum(weight.numel() for weight in self.parameters())

    def forward(self, texts: Tensor) -> Tensor:
        return self.head(self.body(self.words(texts)))  # (B, n) -> (B, VALUES)


def draw_texts(n: int, distance: int, keys: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Texts (n, distance + 2): a fact, `distance` facts on other keys, the question of the first; its values (n,)."""
    key, values = torch.randint(keys, (n, 1), generator=rng), torch.randint(VALUES, (n, distance + 1), generator=rng)
    others = (key + torch.randint(1, keys, (n, distance), generator=rng)) % keys
    facts = VALUES * torch.cat([key, others], dim=1) + values
    return torch.cat([facts, ASK + key], dim=1), values[:, 0]


def judge(model: Reader, distance: int, keys: int, seed: int) -> tuple[float, list[float]]:
    """Share of right answers at this distance, and the norm of their score's gradient at each word, a mean (n,)."""
    texts, answers = draw_texts(TESTED, distance, keys, torch.Generator().manual_seed(seed))  # same for both
    vectors: Tensor = model.words(texts).detach().requires_grad_()
    scores = model.head(model.body(vectors))
    (gradient,) = torch.autograd.grad(scores.gather(1, answers[:, None]).sum(), vectors)
    norms = gradient.square().sum(dim=2).sqrt().mean(dim=0)
    return (scores.argmax(dim=1) == answers).float().mean().item(), norms.clamp(min=1e-12).numpy().tolist()


def products_in_line(output: Tensor) -> int:
    """Matrix products on the longest path back from output: none of them can start before the one before it.

    Walks the graph that autograd recorded, so what is counted is what was computed.
    """
    longest: dict[object, int] = {None: 0}
    todo = [output.grad_fn]
    while todo:
        node = todo[-1]
        before = [earlier for earlier, _ in node.next_functions] if node else []
        waiting = [earlier for earlier in before if earlier not in longest]
        if waiting:
            todo += waiting
        elif (node := todo.pop()) is not None:
            product = any(
                kind in node.name().lower() for kind in ("mm", "attention")
            )  # addmm, mm, bmm; the fused kernel
            longest[node] = product + max((longest[earlier] for earlier in before), default=0)
    return longest[output.grad_fn]


@torch.no_grad()
def milliseconds(model: Reader, texts: Tensor) -> float:
    """Processor time of one pass, the median of TIMED; that of other programs does not count."""
    taken: list[float] = []
    for _ in range(TIMED):
        begin = time.process_time()
        model(texts)
        taken.append(1000 * (time.process_time() - begin))
    return statistics.median(taken)


def run(params: Params, tick: Tick = no_tick) -> Result:
    first, rng = (torch.Generator().manual_seed(2 * params.seed + odd) for odd in (0, 1))
    attention, gru = Reader(Attention(params.distance + 2), first), Reader(Gru(WIDTH), first)
    while params.budget == "equal-params" and gru.size < attention.size:
        gru = Reader(Gru(gru.body.width + 1), first)
    models = {"attention": attention, "GRU": gru}
    spent: dict[str, float] = {}
    for number, (name, model) in enumerate(models.items()):

        def loss(model: Reader = model) -> Tensor:
            distance = int(torch.randint(1, params.distance + 1, (1,), generator=rng))
            texts, answers = draw_texts(BATCH, distance, params.keys, rng)
            return nn.functional.cross_entropy(model(texts), answers)

        def report(step: int, value: float, name: str = name, number: int = number) -> None:
            if step % 10 == 0:
                tick((number + step / params.steps) / 2.2, f"{name}, step {step}", loss=value)

        begin = time.process_time()
        train(model, loss, params.steps, RATE, report)
        spent[name] = time.process_time() - begin

    distances = [*(distance for distance in DISTANCES if distance < params.distance), params.distance]
    tests = {name: [judge(m, d, params.keys, params.seed + 2**20) for d in distances] for name, m in models.items()}
    recalls = {name: [share for share, _ in some] for name, some in tests.items()}
    reaches = {name: some[-1][1] for name, some in tests.items()}

    fresh = {"attention": Reader(Attention(max(LENGTHS)), first), "GRU": Reader(Gru(WIDTH), first)}  # of one width
    rows: list[list[float]] = []
    for n in LENGTHS:
        texts, _ = draw_texts(1, n - 2, params.keys, rng)
        counts = [products_in_line(model.body(model.words(texts))) for model in fresh.values()]
        rows.append([n, *counts, *(milliseconds(model, texts) for model in fresh.values())])
        tick(0.9 + 0.1 * n / max(LENGTHS), f"{n} words counted")
    (far, gru_far), (_, short, *_), (_, long, _, ms, gru_ms) = (r[-1] for r in recalls.values()), rows[0], rows[-1]
    return Result(
        metrics=[
            Metric("recall of attention at the distance", far),
            Metric("recall of the GRU at the distance", gru_far),
            *(Metric(f"training of {name}", spent[name], "CPU s") for name in models),
            *(Metric(f"weights of {name}", model.size) for name, model in models.items()),
        ],
        claims=[
            Claim("Attention's steps do not grow: products in line at 512 words, less at 8", long - short, "==", 0),
            Claim("The GRU's are as many as the words: largest difference",
                  max(abs(n - count) for n, _, count, *_ in rows), "==", 0),
            Claim("Attention recalls at the full distance: share of right answers", far, ">=", 0.95),
            Claim("The GRU falls behind: recall of attention, less the GRU's", far - gru_far, ">=", 0.3),
            Claim("Attention is sooner through 512 words: its time over that of a stepped GRU of its width",
                  ms / gru_ms, "<", 0.5),
        ],
        figures=[
            Lines("accuracy-by-distance", x="words from fact to question", y="recall", at=distances, series=recalls),
            Lines("gradient-reach: of the answer's score, at each word", x="place in the text (the fact is at 0)",
                  y="gradient norm", at=list(range(params.distance + 2)), log="y", series=reaches),
        ],
        tables=[
            Table("sequential-depth: matrix products that wait for each other, and time of a pass at equal width",
                  ["words", "attention: in line", "GRU: in line", "attention: ms", "GRU: ms"], rows),
        ],
    )  # fmt: skip
