"""In-context learning: few examples, no gradient

Question: How can a frozen model learn a new mapping from its prompt?
Source: Brown et al. 2020 (GPT-3), arXiv:2005.14165, §2; Olsson et al. 2022, arXiv:2209.11895 (heads that look up what
  followed last time); Garg et al. 2022, arXiv:2208.01066 (transformers trained to learn functions in context).
Watch: the model is trained on thousands of mappings from keys to values and asked about others. It cannot know them,
  but it can look at the examples in its prompt: accuracy follows the best that anyone could reach, and no weight moves.
  Trained on one mapping only, it learns that mapping and never how to look.
"""

import hashlib
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from demos.contract import Claim, DemoParams, Heatmap, Lines, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.transformer import Block, start, train

KEYS, VALUES, MOST = 8, 8, 16  # MOST examples in a prompt
D, HEADS, BATCH, RATE = 64, 2, 128, 4e-3
PROMPTS = 2_500  # of each length in the evaluation


class Params(DemoParams):
    shots: int = Field(8, ge=0, le=MOST, description="Examples in the prompt of the tables and of accuracy")
    layout: Literal["pair", "separate"] = Field(
        "pair", description="One token for each example, or key and value apart"
    )
    layers: int = Field(2, ge=1, le=4, description="Blocks of the transformer")
    mappings: int = Field(0, ge=0, le=1000, description="Different mappings in training; 0 draws new ones all the time")
    steps: int = Field(200, ge=100, le=5000, description="Training steps")
    seed: int = Field(0, ge=0, le=9999, description="Seed of weights, mappings and prompts")

    presets: ClassVar[Mapping[str, Preset]] = {
        "one mapping in training": Preset("It learns the mapping by heart, not how to read one", {"mappings": 1}),
        "key and value apart": Preset(
            "The value stands after its key: two heads must work together, which takes far longer to learn",
            {"layout": "separate", "steps": 400},
        ),
        "no examples": Preset("Nothing to look up: one in eight by luck", {"shots": 0}),
    }


def draw_mappings(n: int, *, new: bool, rng: torch.Generator) -> Tensor:
    """Mappings (n, KEYS) from keys to values. Those whose values add up to a multiple of 8 are kept for tests: new."""
    mapping = torch.randint(VALUES, (n, KEYS), generator=rng)
    rest = torch.zeros(n, dtype=torch.long) if new else torch.randint(1, VALUES, (n,), generator=rng)
    place = torch.randint(KEYS, (n, 1), generator=rng)  # the value that is moved to make the sum's remainder `rest`
    moved = (mapping.gather(1, place) + (rest - mapping.sum(dim=1))[:, None]) % VALUES
    return mapping.scatter(1, place, moved)


def draw_prompts(mapping: Tensor, shots: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Keys (n, shots + 1), drawn with replacement, and their values; the last pair is the question and its answer."""
    keys = torch.randint(KEYS, (len(mapping), shots + 1), generator=rng)
    return keys, mapping.gather(1, keys)


class Reader(nn.Module):
    """Reads examples and a question, and scores the values.

    pair: an example is one vector, key + value, and there are no positions, so examples have no order.
    separate: k₁ v₁ k₂ v₂ … k with positions and a causal mask, as text has it.
    """

    def __init__(self, layout: str, layers: int, rng: torch.Generator) -> None:
        super().__init__()
        self.apart = layout == "separate"
        self.keys, self.values, self.ask = nn.Embedding(KEYS, D), nn.Embedding(VALUES, D), nn.Embedding(1, D)
        self.positions = nn.Embedding(2 * MOST + 1, D)
        self.blocks = [Block(D, HEADS) for _ in range(layers)]
        self.stack = nn.ModuleList(self.blocks)  # so that their weights are the model's
        self.norm, self.head = nn.LayerNorm(D), nn.Linear(D, VALUES)
        start(self, rng)

    def read(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor | None]:
        """keys (B, s + 1), values (B, s) of the examples -> vectors (B, n, D), and who may look where."""
        k, v = self.keys(keys), self.values(values)
        question = k[:, -1:] + self.ask.weight
        if not self.apart:
            return torch.cat([k[:, :-1] + v, question], dim=1), None  # n = s + 1
        x = torch.stack([k[:, :-1], v], dim=2).flatten(1, 2)  # k₁ v₁ k₂ v₂ …
        x = torch.cat([x, question], dim=1)  # n = 2 s + 1
        n = x.shape[1]
        return x + self.positions.weight[:n], torch.ones(n, n, dtype=torch.bool).tril()

    def forward(self, keys: Tensor, values: Tensor) -> Tensor:
        """Scores (B, VALUES) of the question's value."""
        x, mask = self.read(keys, values)
        for block in self.blocks:
            x = block(x, mask)
        return self.head(self.norm(x[:, -1]))

    def looks(self, keys: Tensor, values: Tensor) -> Tensor:
        """Attention of the question to each example, (layers, heads, B, s): to its value where that stands apart."""
        x, mask = self.read(keys, values)
        looks: list[Tensor] = []
        for block in self.blocks:
            q, k, _ = block.qkv(block.norm1(x)).unflatten(-1, (3, HEADS, D // HEADS)).permute(2, 0, 3, 1, 4)
            weights = (q[:, :, -1:] @ k.mT * (D // HEADS) ** -0.5).softmax(dim=-1)[:, :, 0]  # (B, heads, n)
            looks.append((weights[..., 1::2] if self.apart else weights[..., :-1]).transpose(0, 1))
            x = block(x, mask)
        return torch.stack(looks)


def train_reader(params: Params, rng: torch.Generator, tick: Tick) -> Reader:
    """Each batch has prompts of one length from 0 to 16, each with a mapping of its own if there are enough."""
    model = Reader(params.layout, params.layers, rng)
    pool = draw_mappings(params.mappings, new=False, rng=rng)

    def loss() -> Tensor:
        shots = int(torch.randint(MOST + 1, (), generator=rng))
        if params.mappings:
            mapping = pool[torch.randint(len(pool), (BATCH,), generator=rng)]
        else:
            mapping = draw_mappings(BATCH, new=False, rng=rng)
        keys, values = draw_prompts(mapping, shots, rng)
        return cross_entropy(model(keys, values[:, :-1]), values[:, -1])

    def report(step: int, value: float) -> None:
        if step % 10 == 0:
            tick(0.8 * step / params.steps, f"step {step}", loss=value)

    train(model, loss, params.steps, RATE, report)
    return model


def attainable(shots: int) -> float:
    """Share that no learner can exceed: the question's key was shown, or the value is guessed, one in VALUES."""
    not_shown = (1 - 1 / KEYS) ** shots
    return 1 - not_shown * (1 - 1 / VALUES)


def fingerprint(model: nn.Module) -> str:
    """A hash of all weights."""
    return hashlib.sha256(b"".join(weight.numpy().tobytes() for weight in model.state_dict().values())).hexdigest()


def answers(model: Reader, keys: Tensor, values: Tensor) -> Tensor:
    """The likeliest value of each question, (B,); the last of the values (B, s + 1) is the truth and not shown."""
    return model(keys, values[:, :-1]).argmax(dim=1)


def turn(keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """The same questions with the same examples in the opposite order."""
    return torch.cat([keys[:, :-1].flip(1), keys[:, -1:]], 1), torch.cat([values[:, :-1].flip(1), values[:, -1:]], 1)


@torch.no_grad()
def run(params: Params, tick: Tick = no_tick) -> Result:
    rng = torch.Generator().manual_seed(params.seed)
    with torch.enable_grad():
        model = train_reader(params, rng, tick)
    before = fingerprint(model)
    accuracy = dict[int, float]()
    for shots in sorted({0, 1, 2, 4, 8, MOST, params.shots}):
        tick(0.8 + 0.01 * shots, f"{shots} examples")
        keys, values = draw_prompts(draw_mappings(PROMPTS, new=True, rng=rng), shots, rng)
        accuracy[shots] = (answers(model, keys, values) == values[:, -1]).float().mean().item()

    keys, values = draw_prompts(draw_mappings(PROMPTS, new=True, rng=rng), 8, rng)
    right, shown = answers(model, keys, values) == values[:, -1], (keys[:, :-1] == keys[:, -1:]).any(dim=1)
    known, unknown = right[shown].float().mean().item(), right[~shown].float().mean().item()
    turned = turn(keys, values)
    moved = (model(turned[0], turned[1][:, :-1]) - model(keys, values[:, :-1])).abs().max().item()
    asked = keys[shown]
    looks = model.looks(asked, values[shown, :-1])  # (layers, heads, B, 8)
    mass = (looks * (asked[:, :-1] == asked[:, -1:])).sum(dim=-1).mean(dim=-1)  # (layers, heads)
    best = divmod(int(mass.argmax()), HEADS)
    marks = [f"{int(row[-1])}: " + " ".join(map(str, row[:-1].numpy().tolist())) for row in asked[:8]]
    after = fingerprint(model)

    keys, values = draw_prompts(draw_mappings(8, new=True, rng=rng), params.shots, rng)
    says = answers(model, keys, values)
    rows = [
        [" ".join(f"{int(k)}→{int(v)}" for k, v in zip(keys[n, :-1], values[n, :-1], strict=True)),
         f"{int(keys[n, -1])}→?", int(says[n]), int(values[n, -1]), bool((keys[n, :-1] == keys[n, -1]).any())]
        for n in range(8)
    ]  # fmt: skip
    return Result(
        metrics=[
            Metric("accuracy", accuracy[params.shots]),
            Metric("best attainable", attainable(params.shots)),
            Metric("accuracy if the key was shown", known),
            Metric("accuracy if it was not", unknown),
            Metric("attention to the own key", mass.max().item()),
        ],
        claims=[
            Claim("Frozen: different hashes of all weights before and after the evaluation",
                  len({before, after}), "==", 1),
            Claim("Examples teach a new mapping: accuracy with 16, less that with one",
                  accuracy[MOST] - accuracy[1], ">=", 0.5),
            Claim("A key that was shown is looked up: accuracy", known, ">=", 0.9),
            Claim("A key that was not is a guess among 8 values: accuracy", unknown, "<=", 0.2),
            Claim("It learns as well as anyone could: largest difference from the best attainable",
                  max(abs(share - attainable(shots)) for shots, share in accuracy.items()), "<=", 0.04),
            Claim("The question looks at examples with its own key: attention of the best head",
                  mass.max().item(), ">=", 0.7),
            Claim("Examples have no order here: largest change of a score in the opposite order", moved, "<=", 1e-4),
        ],
        figures=[
            Lines("Accuracy on mappings never seen in training", x="examples in the prompt", y="accuracy",
                  at=list(accuracy), series={"model": list(accuracy.values()),
                                             "best attainable": [attainable(shots) for shots in accuracy]}),
            Heatmap("Where a question looks (best head)", x="example", y="the key asked for, and the examples' keys",
                    values=looks[best][:8].numpy().tolist(), row_labels=marks, column_labels=list("12345678")),
        ],
        tables=[Table("Prompts and answers", ["examples", "question", "says", "right", "key was shown"], rows)],
    )  # fmt: skip
