"""Knowledge distillation: a smaller student

Question: How does a student learn from a teacher's soft answers?
Source: Hinton et al. 2015, arXiv:1503.02531, §2 (temperature, T²); Sanh et al. 2019, arXiv:1910.01108, §2–3
  (half the layers, every other one copied; soft, hard and cosine loss, weighted 5 : 2 : 1 in their script). They hide
  words of texts; here a text has one of eight subjects.
Watch: a hundred texts with one right subject each are too few for a student. What the teacher says of the same texts
  (probably food, perhaps farming, not law) tells how subjects are related, and the student of half the depth comes
  close to the teacher, which has read forty times as many.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, cross_entropy
from torch.utils.flop_counter import FlopCounterMode

from demos.contract import Bars, Claim, DemoParams, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.transformer import start, train

SUBJECTS = {  # a ring: each subject often uses words of those before and after it, and now and then of others
    "food": "bread soup spice oven taste", "farming": "field cow seed plough harvest",
    "weather": "rain wind storm cloud frost", "sailing": "boat anchor harbour sail rope",
    "trade": "price market cargo coin sale", "law": "court judge claim proof contract",
    "history": "king war empire treaty ruin", "feasts": "dance song guest wine candle",
}  # fmt: skip
WORDS = [word for words in SUBJECTS.values() for word in words.split()]
ODDS = torch.tensor([0.4, 0.2, 0.06, 0.02, 0.04, 0.02, 0.06, 0.2])  # of a word from 0, 1, … subjects further on
V, LENGTH, D, HEADS, LAYERS = len(WORDS), 6, 32, 4, 4  # layers of the teacher; the student has its width
TEMPERATURES = [1.0, 2.0, 4.0, 8.0]
TEXTS, FEW, TESTED, BATCH, RATE, TEACHER_STEPS = 4000, 100, 2000, 64, 3e-3, 150


class Params(DemoParams):
    temperature: float = Field(2.0, ge=1.0, le=10.0, description="T: softens the answers of teacher and student")
    alpha: float = Field(0.7, ge=0.0, le=1.0, description="Weight of the soft loss; the hard one has the rest")
    student_layers: int = Field(2, ge=1, le=4, description="Layers of the student; the teacher has 4")
    init: Literal["random", "teacher"] = Field("teacher", description="First weights: drawn, or the teacher's layers")
    steps: int = Field(100, ge=50, le=1000, description="Steps of each student, on a hundred texts")
    seed: int = Field(0, ge=0, le=9999, description="Seed of texts and weights")

    presets: ClassVar[Mapping[str, Preset]] = {
        "hard labels": Preset("Nothing but the right subject is said: the student stays behind", {"alpha": 0.0}),
        "one layer": Preset("A quarter of the depth", {"student_layers": 1}),
        "random start": Preset("The same lesson, without the teacher's layers to start from", {"init": "random"}),
    }


def write(n: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Texts of six words (n, 6), and their subjects (n,)."""
    subject = torch.randint(len(SUBJECTS), (n,), generator=rng)
    away = torch.multinomial(ODDS, n * LENGTH, replacement=True, generator=rng).view(n, LENGTH)
    word = torch.randint(V // len(SUBJECTS), (n, LENGTH), generator=rng)
    return (subject[:, None] + away) % len(SUBJECTS) * (V // len(SUBJECTS)) + word, subject


class Encoder(nn.Module):
    """BERT without segments and pooler, as DistilBERT is."""

    def __init__(self, vocabulary: int, length: int, d: int, layers: int) -> None:
        super().__init__()
        self.words, self.places, self.norm = nn.Embedding(vocabulary, d), nn.Embedding(length, d), nn.LayerNorm(d)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(d, HEADS, 4 * d, 0.0, "gelu", batch_first=True) for _ in range(layers)
        )

    def forward(self, words: Tensor) -> Tensor:
        """Vectors (B, n, d) of words (B, n)."""
        x = self.norm(self.words(words) + self.places.weight[: words.shape[1]])
        for layer in self.layers:
            x = layer(x)
        return x


class Classifier(nn.Module):
    def __init__(self, layers: int, rng: torch.Generator) -> None:
        super().__init__()
        self.encoder, self.head = Encoder(V, LENGTH, D, layers), nn.Linear(D, len(SUBJECTS))
        start(self, rng)

    def forward(self, words: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of subjects (B, 8), and the vectors that they are read from (B, d)."""
        x = self.encoder(words).mean(dim=1)
        return self.head(x), x


def soft_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T² · KL(softmax(teacher / T) ‖ softmax(student / T)), mean over the rows of logits (B, K)."""
    log_q, log_p = ((logits / temperature).log_softmax(dim=1) for logits in (student, teacher))
    return temperature**2 * (log_p.exp() * (log_p - log_q)).sum(dim=1).mean()


def hire(teacher: Classifier, layers: int, init: str, rng: torch.Generator) -> Classifier:
    """A student; started from the teacher it has its embeddings, its head and evenly spaced ones of its layers."""
    student = Classifier(layers, rng)
    if init == "teacher":
        ours = copy.deepcopy(teacher)
        kept = [ours.encoder.layers[number * LAYERS // layers] for number in range(layers)]
        ours.encoder.layers = nn.ModuleList(kept)
        student.load_state_dict(ours.state_dict())
    return student


@dataclass(frozen=True)
class Lesson:
    """α · (soft + cosine / 5) + (1 − α) · hard, so many steps; α = 0 is plain training on the right subjects."""

    teacher: Classifier
    alpha: float
    temperature: float
    steps: int

    def loss(self, student: Classifier, texts: Tensor, subjects: Tensor) -> Tensor:
        logits, x = student(texts)
        hard = cross_entropy(logits, subjects)
        if self.alpha == 0:
            return hard
        with torch.no_grad():
            said, seen = self.teacher(texts)
        cosine = 1 - cosine_similarity(x, seen, dim=1).mean()
        return self.alpha * (soft_loss(logits, said, self.temperature) + cosine / 5) + (1 - self.alpha) * hard


def fit(model: Classifier, texts: Tensor, subjects: Tensor, lesson: Lesson, rng: torch.Generator,
        on_step: Callable[[int, float], None]) -> None:  # fmt: skip
    def loss() -> Tensor:
        some = torch.randint(len(texts), (BATCH,), generator=rng)
        return lesson.loss(model, texts[some], subjects[some])

    train(model, loss, lesson.steps, RATE, on_step)


@torch.no_grad()
def accuracy(model: Classifier, texts: Tensor, subjects: Tensor) -> float:
    return (model(texts)[0].argmax(dim=1) == subjects).float().mean().item()


def count_flops(model: Classifier, texts: Tensor) -> int:
    """Floating point operations of one reading of the texts, counted on tensors that hold no numbers."""
    with FlopCounterMode(display=False) as counter:
        copy.deepcopy(model).to("meta")(texts.to("meta"))
    return counter.get_total_flops()


def gradient_norm(student: Tensor, teacher: Tensor, temperature: float) -> float:
    """Of the soft loss, with respect to the student's logits (B, K)."""
    leaf = student.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(soft_loss(leaf, teacher, temperature), leaf)
    return gradient.square().sum().sqrt().item()


def count(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng = torch.Generator().manual_seed(params.seed)
    texts, subjects = write(TEXTS, rng)
    few, few_subjects = texts[:FEW], subjects[:FEW]
    teacher = Classifier(LAYERS, rng)
    hard = Lesson(teacher, 0.0, 1.0, TEACHER_STEPS)
    fit(teacher, texts, subjects, hard, rng, lambda step, loss: tick(step / TEACHER_STEPS / 2, "teacher", loss=loss))
    models = {"teacher": teacher}
    for name, init, alpha in (
        ("student", params.init, params.alpha),
        ("student, hard labels", params.init, 0.0),
        ("student without teacher", "random", 0.0),
    ):
        same = torch.Generator().manual_seed(params.seed + 1)  # the same start and batches for all
        models[name] = hire(teacher, params.student_layers, init, same)
        lesson = Lesson(teacher, alpha, params.temperature, params.steps)

        def report(step: int, loss: float, name: str = name, begun: int = len(models) - 2) -> None:
            tick(0.5 + (begun + step / params.steps) / 6, name, loss=loss)

        fit(models[name], few, few_subjects, lesson, same, report)
    tests, truth = write(TESTED, rng)
    share = {name: accuracy(model, tests, truth) for name, model in models.items()}
    flops = {name: count_flops(model, tests[:1]) for name, model in models.items()}
    with torch.no_grad():
        said, wanted = models["student without teacher"](tests)[0], teacher(tests)[0]
    norms = [gradient_norm(said, wanted, t) for t in TEMPERATURES]
    with torch.device("meta"):  # counted, never allocated; BERT also has vectors of two segments and a pooler
        bert = count(nn.ModuleList([Encoder(30_522, 512, 768, 12), nn.Embedding(2, 768), nn.Linear(768, 768)]))
        distilbert = count(Encoder(30_522, 512, 768, 3 * params.student_layers))  # of 12 layers as of 4 here
    work, kept = flops["student"] / flops["teacher"], share["student"] / share["teacher"]
    gain = share["student"] - share["student, hard labels"]
    return Result(
        metrics=[
            Metric("accuracy", share["student"]),
            Metric("accuracy of the teacher", share["teacher"]),
            Metric("accuracy of the student without teacher", share["student without teacher"]),
            Metric("speed-up", 1 / work),
            Metric("parameters at BERT-base's size", distilbert / 1e6, "million"),
            Metric("parameters of BERT-base", bert / 1e6, "million"),
        ],
        claims=[
            Claim("DistilBERT's size: distance from 0.606 of BERT-base", abs(distilbert / bert - 0.606), "<=", 0.005),
            Claim("Half the layers are half the work: operations for a text, over the teacher's", work, "<=", 0.55),
            Claim("The student comes close: its accuracy over the teacher's", kept, ">=", 0.95),
            Claim("Soft answers say more than right ones: accuracy gained over hard labels", gain, ">=", 0.05),
            Claim("T² keeps the pull alike: largest gradient over smallest, T from 1 to 8", max(norms) / min(norms),
                  "<=", 2.0),
        ],
        figures=[
            Bars(f"What the teacher says of “{' '.join(WORDS[int(word)] for word in tests[0])}”", "subject",
                 "probability", list(SUBJECTS),
                 {f"T = {t:g}": (wanted[0] / t).softmax(dim=0).numpy().tolist() for t in TEMPERATURES}),
            Bars("Subjects of unseen texts told", "", "share", list(share), {"right": list(share.values())}),
            Bars("Gradient of the soft loss on the student's scores", "temperature", "norm",
                 [f"T = {t:g}" for t in TEMPERATURES],
                 {"with T²": norms, "without": [norm / t**2 for norm, t in zip(norms, TEMPERATURES, strict=True)]}),
        ],
        tables=[
            Table("Trade-off", ["model", "accuracy", "parameters", "operations for a text"],
                  [[name, share[name], count(model), flops[name]] for name, model in models.items()]),
        ],
    )  # fmt: skip
