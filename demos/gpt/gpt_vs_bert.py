"""One network, two masks: GPT against BERT

Question: What changes when only the mask and the objective change?
Source: Radford et al. 2018 (GPT), eq. (1); Devlin et al. 2018 (BERT), arXiv:1810.04805, §3.1 and figure 3.
Watch: the same shapes, starting weights and language; another mask and other words to predict. A blank that only the
  right side decides is BERT's, a sentence written from left to right GPT's. BERT is asked about 15 % of the words.
"""

import re
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, cast

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy

from demos.contract import Bars, Cell, Claim, DemoParams, Heatmap, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.transformer import Block, Transformer, train

TOOL_BY_PERSON = {
    "sailor": "boat", "baker": "bread", "painter": "brush", "farmer": "plough",
    "driver": "car", "singer": "song", "writer": "pen", "hunter": "bow",
}  # fmt: skip
VERBS, ADJECTIVES = ["takes", "likes", "sees", "wants"], ["old", "small", "big"]
WORDS = [".", "the", *TOOL_BY_PERSON, *VERBS, *TOOL_BY_PERSON.values(), *ADJECTIVES, "[MASK]"]
STOP, THE, MASK = 0, 1, len(WORDS) - 1
PERSON, VERB, TOOL, ADJECTIVE = map(WORDS.index, ("sailor", "takes", "boat", "old"))  # the first of each kind
CHOSEN = 0.15  # share of words that BERT has to predict
D, LAYERS, HEADS, BATCH, RATE, TESTED, SAMPLES = 32, 2, 4, 64, 1e-2, 1000, 300


class Params(DemoParams):
    steps: int = Field(250, ge=50, le=1000, description="Training steps of each network")
    context: int = Field(14, ge=8, le=64, description="Words in a window")
    task: Literal["fill", "generate", "classify", "all"] = Field("all", description="Comparison that the table shows")
    seed: int = Field(0, ge=0, le=9999, description="Seed of text, weights and samples")

    presets: ClassVar[Mapping[str, Preset]] = {
        "stopped early": Preset("Asked about a sixth of the words, BERT is slower to learn: its blank stays empty",
                                {"steps": 50}),
        "fill": Preset("A blank decided from the right, and one decided from the left", {"task": "fill"}),
    }  # fmt: skip


def draw_text(n: int, context: int, rng: torch.Generator) -> Tensor:
    """Windows (n, context) of sentences such as "the sailor takes the old boat .", begun by the stop before them.

    The tool is always the person's, the adjective is there or not: a sentence has six words or seven.
    """
    count = context // 6 + 1

    def pick(first: int, words: int) -> Tensor:
        return first + torch.randint(words, (n, count), generator=rng)

    person, stop, the = pick(PERSON, len(TOOL_BY_PERSON)), torch.full((n, count), STOP), torch.full((n, count), THE)
    adjective = torch.where(torch.rand(n, count, generator=rng) < 0.5, pick(ADJECTIVE, len(ADJECTIVES)), -1)
    columns = [the, person, pick(VERB, len(VERBS)), the, adjective, person - PERSON + TOOL, stop]
    text = torch.stack(columns, dim=2).flatten(1)
    order = (text < 0).long().sort(dim=1, stable=True).indices  # what is there first, in its order
    return torch.cat([stop[:, :1], text.gather(1, order)], dim=1)[:, :context]


def first_of(x: Tensor, kind: int) -> Tensor:
    """Place of the first person, or tool, in windows (n, context): (n,)."""
    return ((x >= kind) & (x < kind + len(TOOL_BY_PERSON))).int().argmax(dim=1)


def is_grammatical(words: Sequence[int]) -> bool:
    """Whether a text is sentences of the language: at least one is finished; a last one without a stop is not read."""
    finished = " ".join(WORDS[word] for word in words).split(" .")[:-1]
    found = [re.fullmatch(rf" ?the (\w+) ({'|'.join(VERBS)}) the (?:({'|'.join(ADJECTIVES)}) )?(\w+)", sentence)
             for sentence in finished]  # fmt: skip
    return bool(found) and all(match and TOOL_BY_PERSON.get(match[1]) == match[4] for match in found)


def pretrain(causal: bool, params: Params, tick: Tick) -> Transformer:
    """GPT: every word from those before it. BERT: 15 % of the words, hidden, from all others."""
    rng = torch.Generator().manual_seed(params.seed)  # the same for both: equal weights at the start
    model = Transformer(len(WORDS), params.context, D, LAYERS, HEADS, rng, causal=causal)

    def loss() -> Tensor:
        x = draw_text(BATCH, params.context, rng)
        if causal:
            return cross_entropy(model(x[:, :-1]).flatten(0, 1), x[:, 1:].flatten())
        chosen = torch.rand(x.shape, generator=rng) < CHOSEN
        return cross_entropy(model(torch.where(chosen, MASK, x))[chosen], x[chosen])

    def on_step(step: int, value: float) -> None:
        tick((step / params.steps + (not causal)) / 2, "GPT" if causal else "BERT", loss=value)

    train(model, loss, params.steps, RATE, on_step)
    return model


@torch.no_grad()
def fill(model: Transformer, x: Tensor, at: Tensor) -> float:
    """Share of windows (n, context) whose word at a place (n,) is guessed: by GPT from the left, by BERT from all."""
    row = torch.arange(len(x))
    if model.causal:
        guess = model(x)[row, at - 1]  # what comes next, asked of the word before
    else:
        guess = model(torch.where(torch.arange(x.shape[1]) == at[:, None], MASK, x))[row, at]
    return (guess.argmax(dim=1) == x[row, at]).float().mean().item()


@torch.no_grad()
def write(model: Transformer, n: int, context: int, rng: torch.Generator) -> list[list[int]]:
    """Windows (n, context − 1) drawn word by word from the left. BERT reads [MASK] wherever nothing is written yet."""
    x = torch.full((n, context), MASK)
    x[:, 0] = STOP
    for at in range(1, context):
        logits = model(x[:, :at])[:, -1] if model.causal else model(x)[:, at]
        x[:, at] = torch.multinomial(logits[:, :MASK].softmax(dim=1), 1, generator=rng)[:, 0]
    return x[:, 1:].numpy().tolist()


@torch.no_grad()
def probe(model: Transformer, rng: torch.Generator) -> float:
    """Accuracy of a linear classifier on the mean of a sentence's vectors: is the tool the person's?"""
    x, row = draw_text(2 * TESTED, 7, rng), torch.arange(2 * TESTED)
    label, at = torch.randint(2, (2 * TESTED,), generator=rng), first_of(x, TOOL)
    shift = torch.randint(1, len(TOOL_BY_PERSON), label.shape, generator=rng) * (1 - label)
    x[row, at] = TOOL + (x[row, at] - TOOL + shift) % len(TOOL_BY_PERSON)
    features = torch.nn.functional.pad(model.hidden(x).mean(dim=1), (0, 1), value=1.0).double().numpy()  # (N, d + 1)
    sign = 2.0 * label.numpy() - 1
    weights = np.linalg.lstsq(features[:TESTED], sign[:TESTED], rcond=None)[0]
    return float(((features[TESTED:] @ weights > 0) == (sign[TESTED:] > 0)).mean())


@torch.no_grad()
def attention_map(model: Transformer, words: Tensor) -> tuple[Tensor, Tensor]:
    """Which words (n,) each may look at, and the first layer's weights, mean over heads: (n, n) each."""
    n, block = len(words), cast(Block, model.blocks[0])
    allowed = torch.ones(n, n).tril().bool() if model.causal else torch.ones(n, n).bool()
    x = model.words(words) + model.positions.weight[:n]
    q, k, _ = block.qkv(block.norm1(x)).view(n, 3, HEADS, D // HEADS).permute(1, 2, 0, 3)  # (heads, n, d / heads)
    scores = (q @ k.transpose(1, 2) / (D // HEADS) ** 0.5).masked_fill(~allowed, -torch.inf)
    return allowed, scores.softmax(dim=2).mean(dim=0)


def run(params: Params, tick: Tick = no_tick) -> Result:
    models = {"GPT": pretrain(True, params, tick), "BERT": pretrain(False, params, tick)}
    sizes = {name: sum(weight.numel() for weight in model.parameters()) for name, model in models.items()}
    test = draw_text(TESTED, params.context, torch.Generator().manual_seed(params.seed + 10_000))
    from_right = {name: fill(model, test, first_of(test, PERSON)) for name, model in models.items()}
    from_left = {name: fill(model, test, first_of(test, TOOL)) for name, model in models.items()}
    rng = torch.Generator().manual_seed(params.seed + 20_000)
    samples = {name: write(model, SAMPLES, params.context, rng) for name, model in models.items()}
    grammatical = {name: sum(map(is_grammatical, rows)) / SAMPLES for name, rows in samples.items()}
    probed = {name: probe(model, torch.Generator().manual_seed(params.seed + 30_000)) for name, model in models.items()}
    hidden = torch.rand(test.shape, generator=rng) < CHOSEN  # as one draw of BERT's training has it
    signal = {"GPT": (params.context - 1) / params.context, "BERT": hidden.float().mean().item()}
    table: dict[str, tuple[str, dict[str, float]]] = {
        "blank decided from the right": ("fill", from_right),
        "blank decided from the left": ("fill", from_left),
        "grammatical samples": ("generate", grammatical),
        "probe: is the tool the person's?": ("classify", probed),
        "signal per step, share of words": ("all", signal),
        "parameters": ("all", {name: float(size) for name, size in sizes.items()}),
    }
    shown: list[list[Cell]] = [
        [row, *values.values()]
        for row, (task, values) in table.items()
        if params.task in ("all", task) or task == "all"
    ]
    words = test[0, :14]
    numbers: list[int] = words.numpy().tolist()
    labels = [WORDS[number] for number in numbers]
    maps = {name: attention_map(model, words) for name, model in models.items()}
    return Result(
        metrics=[
            *(Metric(f"{what}, {name}", value) for what, (_, values) in list(table.items())[:4]
              for name, value in values.items()),
            Metric("parameters", sizes["GPT"]),
        ],
        claims=[
            Claim("Nothing but the mask differs in the networks: difference of their parameters",
                  sizes["GPT"] - sizes["BERT"], "==", 0),
            Claim("Where the right side decides, BERT fills the blank: share right", from_right["BERT"], ">=", 0.9),
            Claim("And GPT cannot: share right", from_right["GPT"], "<=", 0.4),
            Claim("From left to right GPT writes better: share of grammatical samples, less BERT's",
                  grammatical["GPT"] - grammatical["BERT"], ">=", 0.2),
            Claim("BERT learns from fewer words at each step: share of GPT's",
                  signal["BERT"] / signal["GPT"], "<=", 0.25),
        ],
        figures=[
            *(Heatmap(f"{name}: {title}", "looked at", "word", values.float().numpy().tolist(), labels, labels)
              for title, part in (("who may look at whom", 0), ("attention in layer 1", 1))
              for name, values in ((name, pair[part]) for name, pair in maps.items())),
            Bars("Who can do what", "", "share", list(table)[:4],
                 {name: [values[name] for _, values in list(table.values())[:4]] for name in models}),
        ],
        tables=[
            Table("Comparison", ["", *models], shown),
            Table("Written from left to right", ["network", "text", "grammatical"], [
                [name, " ".join(WORDS[word] for word in row), "yes" if is_grammatical(row) else "no"]
                for name, rows in samples.items() for row in rows[:4]
            ]),
        ],
    )  # fmt: skip
