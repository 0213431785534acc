"""Fine-tuning BERT to classify texts

Question: How little must be added to a pre-trained encoder to classify a text?
Source: Devlin et al. 2018, arXiv:1810.04805, §3.1 (masked words), §4.1 and appendix B (a linear layer on [CLS]);
  Howard & Ruder 2018 (ULMFiT), arXiv:1801.06146 (few labels are enough after pre-training).
Watch: from scratch, sixty labelled reviews are too few to find out that "not good" is bad. The pre-trained encoder has
  filled in hidden words of thousands of reviews without labels, some of which end in "see it" or "never again"; what
  it had to know for that, one small matrix on [CLS] turns into classes.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from demos.contract import Bars, Claim, DemoParams, Lines, Metric, Preset, Result, Scatter, Table, Tick, no_tick
from demos.shared.transformer import Transformer, train

PRAISE = ["good", "great", "fine", "superb", "lovely", "brilliant", "charming", "clever", "moving", "witty"]
BLAME = ["bad", "awful", "poor", "dull", "boring", "weak", "clumsy", "silly", "shallow", "tedious"]
PARTS = ["film", "plot", "cast", "music", "ending", "acting", "script", "pace"]
THINGS = {
    "hardware": ["printer", "laptop", "screen", "keyboard", "mouse", "cable", "battery", "router", "fan", "disk"],
    "software": ["program", "update", "login", "password", "browser", "driver", "app", "file", "window", "system"],
    "billing": ["invoice", "refund", "charge", "receipt", "payment", "price", "discount", "fee", "card", "contract"],
}
FAULTS = {
    "hardware": ["broken", "overheats", "dead", "cracked", "noisy", "loose"],
    "software": ["crashes", "frozen", "outdated", "corrupt", "expired", "hangs"],
    "billing": ["wrong", "missing", "doubled", "overdue", "declined", "unpaid"],
}
CLASSES = {"sentiment": ["negative", "positive"], "tickets": list(THINGS)}
ENDINGS = {  # what some writers add; no labelled text has it
    "sentiment": [["never", "again"], ["see", "it"]],
    "tickets": [["call", "workshop"], ["call", "helpdesk"], ["call", "accounts"]],
}
GLUE = ["the", "my", "not", ".", "never", "again", "see", "it", "call", "workshop", "helpdesk", "accounts"]
WORDS = [
    "[PAD]", "[CLS]", "[SEP]", "[MASK]", *GLUE, *PRAISE, *BLAME, *PARTS,
    *(word for words in (*THINGS.values(), *FAULTS.values()) for word in words),
]  # fmt: skip
PAD, CLS, SEP, MASK = range(4)
ID = {word: number for number, word in enumerate(WORDS)}
PIECES = {"sentiment": 2, "tickets": 1}  # verdicts or complaints in a text
NEGATED = 0.3  # share of verdicts with a "not"
LENGTH, HIDDEN_WORDS = 12, 0.25  # words of the longest text; share of words to be predicted
UNLABELLED, TESTED = 4000, 500
D, LAYERS, HEADS = 48, 2, 4
BATCH, PRE_RATE, RATE = 64, 8e-3, 2e-3


class Params(DemoParams):
    task: Literal["sentiment", "tickets"] = Field("sentiment", description="Reviews, or a help desk's tickets")
    pretrain_steps: int = Field(300, ge=0, le=1500, description="Steps of predicting hidden words; 0: from scratch")
    examples: int = Field(60, ge=20, le=1000, description="Labelled texts")
    freeze: bool = Field(False, description="Train the new layer only")
    steps: int = Field(80, ge=20, le=500, description="Steps of fine-tuning")
    seed: int = Field(0, ge=0, le=9999, description="Seed of texts and weights")

    presets: ClassVar[Mapping[str, Preset]] = {
        "from scratch": Preset("No pre-training: sixty labels are all there is to learn from", {"pretrain_steps": 0}),
        "head only": Preset("The encoder is frozen, as a source of features", {"freeze": True}),
        "tickets": Preset("Told by single words: nothing is left for pre-training to gain", {"task": "tickets"}),
    }


def draw(choices: Sequence[str], rng: torch.Generator) -> str:
    return choices[int(torch.randint(len(choices), (), generator=rng))]


def write(task: str, label: int, ending: bool, rng: torch.Generator) -> list[str]:
    """A text of its class. Reviews: two verdicts that agree, a third of them "not" with a word of the other side."""
    text = list[str]()
    for _ in range(PIECES[task]):
        if task == "tickets":
            name = CLASSES[task][label]
            text += [draw(["the", "my"], rng), draw(THINGS[name], rng), draw(FAULTS[name], rng), "."]
        else:
            negated = bool(torch.rand((), generator=rng) < NEGATED)
            side = PRAISE if bool(label) != negated else BLAME
            text += [draw(PARTS, rng), *["not"] * negated, draw(side, rng), "."]
    return text + ENDINGS[task][label] * ending


def write_many(task: str, n: int, ending: bool, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Texts "[CLS] … [SEP]" as word numbers (n, LENGTH), padded, and their classes (n,), about equally many of each."""
    labels = torch.randint(len(CLASSES[task]), (n,), generator=rng)
    rows = torch.full((n, LENGTH), PAD)
    for row, label in enumerate(labels):
        words = ["[CLS]", *write(task, int(label), ending, rng), "[SEP]"]
        rows[row, : len(words)] = torch.tensor([ID[word] for word in words])
    return rows, labels


def look(words: Tensor) -> Tensor:
    """Where attention may look, (n, 1, 1, LENGTH): not at padding."""
    return (words != PAD)[:, None, None]


class Classifier(nn.Module):
    """An encoder and all that is new: one matrix and a bias on the vector of [CLS] (§4.1)."""

    def __init__(self, encoder: Transformer, classes: int) -> None:
        super().__init__()
        self.encoder, self.head = encoder, nn.Linear(D, classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, words: Tensor) -> Tensor:
        """Logits (n, classes); softmax makes them probabilities."""
        return self.head(self.encoder.hidden(words, look(words))[:, 0])


def pretrain(fresh: Transformer, params: Params, rng: torch.Generator, tick: Tick) -> Transformer:
    """A copy that learned to fill in hidden words of texts without labels (§3.1; here all of them as [MASK])."""
    encoder = copy.deepcopy(fresh)
    texts, _ = write_many(params.task, UNLABELLED, True, rng)

    def loss() -> Tensor:
        words = texts[torch.randint(UNLABELLED, (BATCH,), generator=rng)]
        hidden = (torch.rand(words.shape, generator=rng) < HIDDEN_WORDS) & (words > MASK)
        return cross_entropy(encoder(words.masked_fill(hidden, MASK), look(words))[hidden], words[hidden])

    if params.pretrain_steps:
        train(encoder, loss, params.pretrain_steps, PRE_RATE,
              lambda step, value: tick(0.6 * step / params.pretrain_steps, "pre-training", loss=value))  # fmt: skip
    return encoder


def fine_tune(
    encoder: Transformer, texts: Tensor, labels: Tensor, params: Params, freeze: bool, rng: torch.Generator
) -> tuple[Classifier, list[float]]:
    """A classifier on a copy of the encoder, trained on labelled texts (n, LENGTH), and its losses."""
    model = Classifier(copy.deepcopy(encoder), len(CLASSES[params.task]))
    model.encoder.requires_grad_(not freeze)
    losses = list[float]()

    def loss() -> Tensor:
        some = torch.randint(len(texts), (min(BATCH, len(texts)),), generator=rng)
        return cross_entropy(model(texts[some]), labels[some])

    train(model, loss, params.steps, 10 * RATE if freeze else RATE, lambda _, value: losses.append(value))
    return model, losses


@torch.no_grad()
def accuracy(model: Classifier, texts: Tensor, labels: Tensor) -> float:
    return (model(texts).argmax(dim=1) == labels).float().mean().item()


@torch.no_grad()
def plane(encoder: Transformer, texts: Tensor, labels: Tensor, task: str) -> dict[str, list[tuple[float, float]]]:
    """The vectors of [CLS] of up to 200 texts on their two principal axes, by class."""
    vectors = encoder.hidden(texts[:200], look(texts[:200]))[:, 0]
    centred = (vectors - vectors.mean(dim=0)).numpy()
    points = centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T
    return {
        name: [(float(x), float(y)) for x, y in points[(labels[:200] == label).numpy()]]
        for label, name in enumerate(CLASSES[task])
    }


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng = torch.Generator().manual_seed(params.seed)
    fresh = Transformer(len(WORDS), LENGTH, D, LAYERS, HEADS, rng, causal=False)
    encoder = pretrain(fresh, params, rng, tick)
    labelled, tests = write_many(params.task, params.examples, False, rng), write_many(params.task, TESTED, False, rng)
    ways = {
        "as asked": (encoder, params.freeze),
        "all weights": (encoder, False),
        "head only": (encoder, True),
        "from scratch": (fresh, False),
    }
    tuned, curves = dict[str, Classifier](), dict[str, list[float]]()
    for number, (way, (start_from, freeze)) in enumerate(ways.items()):
        tick(0.6 + 0.1 * number, f"fine-tuning: {way}")
        same = torch.Generator().manual_seed(params.seed)  # the same batches for all
        tuned[way], curves[way] = fine_tune(start_from, *labelled, params, freeze, same)
    share = {way: accuracy(model, *tests) for way, model in tuned.items()}
    model, (texts, labels) = tuned["as asked"], tests
    hard = (texts == ID["not"]).any(dim=1)
    negated = accuracy(model, texts[hard], labels[hard]) if params.task == "sentiment" else share["as asked"]
    new, old = sum(w.numel() for w in model.head.parameters()), sum(w.numel() for w in model.encoder.parameters())
    known = set(labelled[0].flatten().numpy().tolist())
    strange = [word for word in set(texts.flatten().numpy().tolist()) if word not in known]
    names = CLASSES[params.task]
    with torch.no_grad():
        chances = model(texts[:8]).softmax(dim=1)
    return Result(
        metrics=[
            Metric("accuracy", share["as asked"]),
            Metric("accuracy on texts with a not", negated),
            Metric("new weights", new),
            Metric("words of the test that no labelled text has", len(strange)),
        ],
        claims=[
            Claim("It classifies: share of 500 unseen texts", share["as asked"], ">=", 0.9),
            Claim("Pre-training helps: share, less that of the same network from scratch",
                  share["as asked"] - share["from scratch"], ">=", 0.05),
            Claim("Little is new: weights of the head, as a share of the encoder's", new / old, "<=", 0.01),
            Claim("Not good is not good: share of texts with a negation, or of all tickets", negated, ">=", 0.8),
        ],
        figures=[
            Bars("Unseen texts classified rightly", "start and training", "share", list(share),
                 {"right": list(share.values())}),
            Lines("Fine-tuning", "step", "cross-entropy, nats", list(range(1, params.steps + 1)), curves),
            Scatter("[CLS] before fine-tuning, two principal axes", "", "", plane(encoder, texts, labels, params.task)),
            Scatter("[CLS] after it", "", "", plane(model.encoder, texts, labels, params.task)),
        ],
        tables=[
            Table("Unseen texts", ["text", "class", *names],
                  [[" ".join(WORDS[int(word)] for word in words if word > SEP), names[int(label)], *row]
                   for words, label, row in zip(texts[:8], labels[:8], chances.numpy().tolist(), strict=True)]),
        ],
    )  # fmt: skip
