"""Longer contexts: YaRN, windows and needles

Question: How is a model with a short window taught a long one, and how is recall tested?
Source: Chen et al. 2023, arXiv:2306.15595 (PI); Peng et al. 2023, arXiv:2309.00071, §3.1 (NTK), §3.2–3.4 (YaRN);
  DeepSeek-V3, arXiv:2412.19437, §4.3 (stages); Mohtashami, Jaggi 2023, arXiv:2305.16300 (passkey); Kamradt 2023 (grid).
Watch: The answer stands behind a mark somewhere in random words. In long texts slow rotations reach angles never met in
  training: recall collapses. PI divides every speed: no new angles, but neighbours blur, and the word behind the mark
  is lost even inside the window. YaRN spares the fast pairs. A few steps on long texts do the rest, if rescaled.
"""

import copy
import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from demos.contract import Claim, DemoParams, Heatmap, Lines, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.transformer import start, train

WORDS, MARK, ASK = 10, 10, 13  # words 0 to 9, three marks, the question
WIDTH, HEADS, LAYERS, BASE = 48, 2, 2, 50.0  # slowest pair: 9 windows a turn (Llama 2: 13)
TOKENS, RATE = 1536, 5e-3  # words a step whatever the length, as in V3: longer texts, fewer of them
FAST, SLOW = 4, 1  # YaRN: turns in the window from which on a pair is kept, below which it is slowed (paper: 32, 1)
DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)  # place of the needle, as a share of the text

Task = Literal["passkey", "reorder", "sort"]
Method = Literal["none", "pi", "ntk", "yarn"]
METHODS: tuple[Method, ...] = ("none", "pi", "ntk", "yarn")
Rope = tuple[Tensor, float]  # radians per place of each pair (d_head / 2,), and a factor for cosines and sines


class Params(DemoParams):
    method: Method = Field("yarn", description="How the rotations are rescaled; all four are in the tables")
    factor: int = Field(4, ge=2, le=8, description="Long window over trained window (V3: 32, scaled for 40)")
    train_len: int = Field(24, ge=16, le=48, description="Trained window, in words")
    tune_steps: int = Field(30, ge=5, le=300, description="Steps on long texts in each stage of the extension")
    task: Task = Field("passkey", description="Repeat a marked word; sort three by their marks, or by their value")
    steps: int = Field(300, ge=100, le=2000, description="Training steps inside the window")
    seed: int = Field(0, ge=0, le=9999, description="Seed of texts and weights")

    presets: ClassVar[Mapping[str, Preset]] = {
        "no rescaling": Preset("New angles: brief tuning does not repair recall far away", {"method": "none"}),
        "interpolation": Preset("Neighbours blur: untuned, recall is lost even inside the window", {"method": "pi"}),
        "reorder": Preset("Three marked words in the order of their marks: all must be found", {"task": "reorder"}),
        "sort": Preset("Three marked words in ascending order", {"task": "sort"}),
    }


def rescale(method: Method, s: float, window: int, width: int, base: float, fast: float, slow: float) -> Rope:
    """Rotations for texts s times as long as the trained window, for heads of this width."""
    pair = torch.arange(width // 2)
    speed = base ** (-2 * pair / width)  # (width / 2,): 1 for pair 0, almost 1 / base for the last
    if method in ("none", "pi"):  # PI: as if all places were s times closer
        return speed / (s if method == "pi" else 1), 1.0
    if method == "ntk":  # a larger base: pair 0 keeps its speed, the last has PI's
        return (base * s ** (width / (width - 2))) ** (-2 * pair / width), 1.0
    # YaRN: between which pairs, as real numbers i, is the mixture? Solve window · base^(−2i/width) = 2π · turns
    low, high = (width * math.log(window / (2 * math.pi * n)) / (2 * math.log(base)) for n in (fast, slow))
    low, high = max(math.floor(low), 0), min(math.ceil(high), width - 1)  # below low: kept; above high: as in PI
    ramp = ((pair - low) / max(high - low, 0.001)).clamp(0, 1)  # over pairs as in the authors' code; paper: over turns
    return speed * (1 - ramp) + speed / s * ramp, 0.1 * math.log(s) + 1  # longer texts: sharper attention


def rotate(x: Tensor, rope: Rope) -> Tensor:
    """Turn pair (i, i + d/2) of x (…, T, d) at place t by t · speed_i."""
    angle = torch.arange(x.shape[-2])[:, None] * rope[0]  # (T, d/2)
    cos, sin = rope[1] * angle.cos(), rope[1] * angle.sin()
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


class Attention(nn.Module):
    """Causal attention whose queries and keys are rotated, added to its input: x (B, T, d) -> (B, T, d)."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.qkv, self.out = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor, rope: Rope) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).unflatten(2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)  # (B, h, T, d/h) each
        mixed = nn.functional.scaled_dot_product_attention(rotate(q, rope), rotate(k, rope), v, is_causal=True)
        return x + self.out(mixed.transpose(1, 2).flatten(2))


class Reader(nn.Module):
    """Layers of attention alone, enough to look up and copy. Places are in the rotations alone: any length will do."""

    def __init__(self, rng: torch.Generator) -> None:
        super().__init__()
        self.words, self.layers = nn.Embedding(ASK + 1, WIDTH), nn.ModuleList(Attention() for _ in range(LAYERS))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WORDS)
        start(self, rng)

    def forward(self, texts: Tensor, rope: Rope) -> Tensor:
        x = self.words(texts)  # (B, T, d)
        for layer in self.layers:
            x = layer(x, rope)
        return self.head(self.norm(x))  # (B, T, WORDS)


def draw_texts(n: int, T: int, task: str, rng: torch.Generator, depth: float | None = None) -> tuple[Tensor, Tensor]:
    """Texts (n, T): words with needles "mark word", the question, all but the last of K answers; and answers (n, K).
    The first answer's needle stands at this depth of the text, or anywhere."""
    K = 1 if task == "passkey" else 3
    texts = torch.randint(WORDS, (n, T - K), generator=rng)
    order = torch.rand(n, (T - K) // 2, generator=rng)  # of the pairs of places in which a needle can stand
    if depth is not None:
        order[:, round(depth * (order.shape[1] - 1))] = -1
    places = 2 * order.argsort(dim=1)[:, :K]  # (n, K)
    answers = torch.rand(n, WORDS, generator=rng).argsort(dim=1)[:, :K]  # K different words
    marks = MARK + torch.arange(K)
    if task == "sort":  # all marks alike: what counts is the words' own order
        answers, marks = answers.sort(dim=1).values, torch.full((K,), MARK)
    texts.scatter_(1, places, marks.expand(n, K)).scatter_(1, places + 1, answers)
    return torch.cat([texts, torch.full((n, 1), ASK), answers[:, :-1]], dim=1), answers


@torch.no_grad()
def recall(model: Reader, rope: Rope, length: int, params: Params, depth: float | None = None) -> float:
    """Share of texts whose whole answer comes out right, as greedy writing would: the first error would end it."""
    rng = torch.Generator().manual_seed(2 * params.seed + 1)  # the same texts for every model
    texts, answers = draw_texts(150 if depth is None else 60, length, params.task, rng, depth)
    written = model(texts, rope)[:, -answers.shape[1] :].argmax(dim=2)  # (n, K)
    return (written == answers).all(dim=1).float().mean().item()


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng = torch.Generator().manual_seed(2 * params.seed)
    window, factor, chosen = params.train_len, params.factor, params.method
    ropes = {method: rescale(method, factor, window, WIDTH // HEADS, BASE, FAST, SLOW) for method in METHODS}

    def teach(model: Reader, rope: Rope, longest: int, steps: int, rate: float, begin: float) -> None:
        def loss() -> Tensor:
            length = int(torch.randint(longest // 2, longest + 1, (1,), generator=rng))
            texts, answers = draw_texts(TOKENS // longest, length, params.task, rng)
            logits = model(texts, rope)[:, -answers.shape[1] :]  # (B, K, WORDS)
            return nn.functional.cross_entropy(logits.flatten(0, 1), answers.flatten())

        def report(step: int, value: float) -> None:
            if step % 10 == 0:
                tick(begin + 0.06 * step / steps, f"up to {longest} words, step {step}", loss=value)

        train(model, loss, steps, rate, report)

    def test(model: Reader, method: Method, lengths: list[int], depth: float | None = None) -> list[float]:
        return [recall(model, ropes[method], length, params, depth) for length in lengths]

    model = Reader(rng)
    teach(model, ropes["none"], window, params.steps, RATE, 0.0)
    lengths = [n * window for n in sorted({1, 2, min(4, factor), factor})]
    wide = [window // 2, *(n * window for n in range(1, factor + 1))]  # of the grids
    untuned = {method: test(model, method, lengths) for method in METHODS}
    tuned: dict[Method, list[float]] = {}
    grids = {"no rescaling, untuned": [test(model, "none", wide, depth) for depth in DEPTHS]}
    stages: list[list[str | float]] = []
    for number, method in enumerate(METHODS):
        pupil = copy.deepcopy(model)  # scaled for the longest texts from the first stage on, as V3
        for n in [factor // 2, factor] if factor >= 4 else [factor]:
            (before,) = test(pupil, method, [n * window])
            teach(pupil, ropes[method], n * window, params.tune_steps, RATE / 3, 0.5 + 0.12 * number)
            stages.append([method, n, n * window, before, *test(pupil, method, [n * window])])
        tuned[method] = test(pupil, method, lengths)
        if method == chosen:
            grids[f"{method}, tuned"] = [test(pupil, method, wide, depth) for depth in DEPTHS]

    turn = (factor * ropes[chosen][0][-1] / ropes["none"][0][-1]).item()
    inside, beyond = untuned["none"][0], untuned["none"][-1]
    return Result(
        metrics=[
            Metric("recall inside the window", inside),
            Metric("recall of long texts, left alone", beyond),
            Metric("recall of long texts, rescaled and tuned", tuned[chosen][-1]),
        ],
        claims=[
            Claim("The trained window is solved: recall", inside, ">=", 0.95),
            Claim("Left alone, it fails beyond: recall inside, less that of long texts", inside - beyond, ">=", 0.3),
            Claim("Rescaled and briefly tuned, it reads long texts: recall", tuned[chosen][-1], ">=", 0.85),
            Claim("The chosen method spares neighbours: untuned recall inside the window, less that of PI",
                  untuned[chosen][0] - untuned["pi"][0], ">=", 0.2),
            Claim("The slowest pair meets no new angle: its turn, in turns over the window", turn, "<=", 1.001),
        ],
        figures=[
            *(Heatmap(f"needle-grid ({name}): recall; window {window}", "words of the text", "depth of the needle",
                      values, [f"{depth:.0%}" for depth in DEPTHS], [str(length) for length in wide])
              for name, values in grids.items()),
            Lines("Turns of each pair over the window", "pair", "turns", list(range(WIDTH // HEADS // 2)), log="y",
                  series={m: (window * ropes[m][0] / (2 * math.pi)).numpy().tolist() for m in METHODS}),
        ],
        tables=[
            Table("methods: recall inside the window (1×) and beyond",
                  ["method", *(f"{length // window}× {state}" for state in ("untuned", "tuned") for length in lengths)],
                  [[method, *untuned[method], *tuned[method]] for method in METHODS]),
            Table("stages: recall at the stage's length", ["method", "windows", "words", "before", "after"], stages),
        ],
    )  # fmt: skip
